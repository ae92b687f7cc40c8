"""Names that must be right whatever a source holds: the ids of tiles, text that can be stored, options that exist."""

from __future__ import annotations

import posixpath
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

from latentstore.named_table import unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from latentstore.sources.interface import SourceRow


def printable(name: str) -> str:
    r"""The name as valid unicode: bytes of a file name that are none are written as ``\udcff``."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def numbered(split: str, row: int) -> str:
    """The name of a picture that has none: its place in its split."""
    return f"{split}/{row:08d}"


def unique_ids(paths: Sequence[str]) -> list[str]:
    """An id for each path, all different: without suffix, with it where two collide, then with ``#<position>``."""
    stems = [posixpath.splitext(path)[0] for path in paths]
    of_stem = Counter(stems)
    ids = [stem if of_stem[stem] == 1 else path for stem, path in zip(stems, paths, strict=True)]
    of_id = Counter(ids)
    for position, name in enumerate(ids):
        candidate = name
        while of_id[candidate] > 1:
            candidate = f"{candidate}#{position}"
            of_id[candidate] += 1
        ids[position] = candidate
    return ids


def spelled_twice(class_names: Iterable[str]) -> list[str]:
    """A sentence for each class that is written in several Unicode normalisations, so that it is several classes."""
    spellings: dict[str, list[str]] = {}
    for name in class_names:
        spellings.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    return [
        f"the class {name!r} is spelled in {len(found)} ways that look alike, so it is {len(found)} classes: "
        f"{', '.join(map(ascii, found))}"
        for name, found in spellings.items()
        if len(found) > 1
    ]


def check_options(row: SourceRow, known: Iterable[str]) -> None:
    """Raises UnknownNameError for an option that the row's reader does not know."""
    known = tuple(known)
    for name in row.options:
        if name not in known:
            raise unknown_name(f"option of source {row.name!r}", name, known)
