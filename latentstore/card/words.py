"""Figures and names of a manifest in the words of a card; other pages use some of them too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from latentstore.sources.table import SOURCES
from latentstore.vaes.table import VAES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from latentstore.manifest import Manifest, SourceInfo, VaeInfo

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
NONE = "-"


def ratio_in_words(ratio: float) -> str:
    """``3.1x smaller`` or ``4.2x larger``: a size ratio (baseline over stored) without a sign to misread."""
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


def hub_link(repo: str, *, kind: str = "") -> str:
    """A link to a page of the Hub; ``kind`` is ``datasets/`` for a dataset."""
    return f"[{repo}](https://huggingface.co/{kind}{repo})"


def plain_text(text: object) -> str:
    """Text that stays text in Markdown, on one line: no tag, no table, no mark of ours."""
    line = re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(str(text).split()))
    return line.replace("<", "&lt;")


def in_code(text: object) -> str:
    """Text for a block of code, on one line: nothing that ends the block, no mark of ours."""
    return " ".join(str(text).split()).replace("`", "'").replace("<!", "< !")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown; a column whose name ends in ``>`` is of numbers."""
    names = [name.removesuffix(">") for name in columns]
    sides = ["---:" if name.endswith(">") else "---" for name in columns]
    lines = [names, sides, *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
