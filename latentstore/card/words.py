"""Figures and names of a manifest in the words of a card; other pages use some of them too.

Every text of a manifest reaches a card through one of `plain_text`, `code_span`, `in_code`, `python_text`,
`command_word`, `label`, `hub_link` and `file_link`: whoever wrote the manifest shall not write the card.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote

from latentstore.printable import printable
from latentstore.sources.table import SOURCES
from latentstore.vaes.table import VAES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from latentstore.manifest import Manifest, SourceInfo, VaeInfo

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
NONE = "-"
LONGEST_TEXT, LONGEST_NAME, LONGEST_LABEL = 4000, 500, 100
"""Letters of a text, of a name in code and of a suggested title or tag; what is longer is cut."""
MARKDOWN = re.compile(r"[\\`*\[\]|]")
ENTITY = re.compile(r"&(?=#?\w{1,40};)")
TAG = re.compile(r"<(?=[A-Za-z!/?])")
CELL_END = re.compile(r"\\.|\|", re.DOTALL)


def ratio_in_words(ratio: float) -> str:
    """``3.1x smaller`` or ``4.2x larger``: a size ratio (baseline over stored) without a sign to misread.

    ``-`` where the baseline takes nothing, such as the entropy of pictures of one colour: nothing is so much larger.
    """
    if not ratio:
        return NONE
    return f"{ratio:.2f}x smaller" if ratio >= 1 else f"{1 / ratio:.2f}x larger"


def bits_in_words(manifest: Manifest) -> str:
    """Stored bits per pixel; of a dataset with views, per pixel of the rows and of the pictures behind them."""
    size = manifest.size
    text = f"{size.bits_per_pixel:.2f} bits per pixel"
    if not manifest.preparation.views:
        return text
    return f"{text} of each view, {24 * size.stored_bytes / size.raw_rgb_bytes:.2f} of each picture"


def bytes_in_words(count: float) -> str:
    """``3.65 MB``, in powers of ten."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:,.2f} TB"


def rows_in_words(manifest: Manifest) -> str:
    """``1,680 train, 420 test``."""
    return ", ".join(f"{split.rows:,} {name}" for name, split in manifest.splits.items())


def score_in_words(value: float | None, unit: str) -> str:
    """Two digits of decibels, four of anything between 0 and 1."""
    if value is None:
        return NONE
    return f"{value:.2f} {unit}" if unit else f"{value:.4f}"


def shape_in_words(sides: Sequence[int]) -> str:
    """``16x32x32``."""
    return "x".join(map(str, sides))


def source_repo(source: SourceInfo) -> str | None:
    """The Hub repository of the source; None where it lies elsewhere, such as in a folder of the builder's machine."""
    known = source.name in SOURCES and SOURCES[source.name].location == source.location
    is_hub = source.reader == "open_hub_images" and HUB_ID.fullmatch(source.location)
    # A folder has no commit; so one that is called like a repository is none.
    return source.location if is_hub and (known or source.revision) else None


def vae_repo(vae: VaeInfo) -> str | None:
    """The Hub repository of the VAE; None for one that lies in a folder of the builder's machine, or has none."""
    if not vae.repo or not HUB_ID.fullmatch(vae.repo):
        return None
    known = vae.name in VAES and VAES[vae.name].repo == vae.repo
    return vae.repo if known or vae.revision else None


def is_packaged(vae: VaeInfo) -> bool:
    """Whether its weights come with this library, and it is no checkpoint from elsewhere that is called so."""
    row = VAES.get(vae.name)
    return row is not None and bool(row.packaged) and not vae.repo and vae.channels == row.channels


# Words of strangers -------------------------------------------------------------------------------------------------


def plain_text(text: object) -> str:
    """Text that stays text in Markdown, on one line: no tag, no link, no table, no mark of ours."""
    line = MARKDOWN.sub(r"\\\g<0>", _on_one_line(text, LONGEST_TEXT))
    return ENTITY.sub("&amp;", line).replace("<", "&lt;")


def read_from_markdown(text: str) -> str:
    """The text of which `plain_text` made this."""
    return re.sub(r"\\([\\`*\[\]|])", r"\1", text.replace("&lt;", "<").replace("&amp;", "&"))


def in_code(text: object) -> str:
    """Text for a block of code, on one line: nothing that ends the block, no tag, no mark of ours."""
    return TAG.sub("< ", _on_one_line(text, LONGEST_NAME).replace("`", "'"))


def code_span(text: object) -> str:
    """Text as code inside of a line; a dash where there is none."""
    code = in_code(text)
    return f"`{code}`" if code else NONE


def command_word(text: object) -> str:
    """Text as one word of a command that people copy into a shell."""
    return shlex.quote(in_code(text))


def python_text(text: str) -> str:
    """Text as a string in Python's code, to the last letter; nothing in it ends the block of code."""
    return f'"{"".join(map(_python_letter, text))}"'


def _python_letter(letter: str) -> str:
    if letter in "`<":
        return f"\\x{ord(letter):02x}"
    return f"\\U{ord(letter):08x}" if ord(letter) > 0xFFFF else json.dumps(letter)[1:-1]


def label(text: object) -> str:
    """Text for the front matter where it is only read by people: short, on one line, without a tag."""
    return TAG.sub("< ", _on_one_line(text, LONGEST_LABEL))


def hub_link(repo: str, *, kind: str = "") -> str:
    """A link to a page of the Hub; ``kind`` is ``datasets/`` for a dataset."""
    return f"[{plain_text(repo)}](https://huggingface.co/{kind}{file_link(repo)})"


def file_link(path: str) -> str:
    """A file of the repository as the target of a link."""
    return quote(path, errors="replace")


def _on_one_line(text: object, most: int) -> str:
    line = printable(" ".join(str(text)[: 2 * most].split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown; a column whose name ends in ``>`` is of numbers. No cell ends early, even by code in it."""
    names = [name.removesuffix(">") for name in columns]
    sides = ["---:" if name.endswith(">") else "---" for name in columns]
    lines = [names, sides, *rows]
    return [f"| {' | '.join(map(_cell, line))} |" for line in lines]


def _cell(text: str) -> str:
    return CELL_END.sub(lambda found: "\\|" if found[0] == "|" else found[0], text)
