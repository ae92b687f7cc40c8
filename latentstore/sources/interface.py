"""What a source of images is: a row that names it, and the opened source that gives its tiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

from latentstore.records import SkippedTile, Tile

Feature = Mapping[str, Any]
"""The type of a column in the words of `datasets`: ``{"dtype": "string", "_type": "Value"}``."""


class SplitReader(Protocol):
    """One split of an opened source."""

    @property
    def random_access(self) -> bool:
        """False where rows can only be had in their own order (a stream)."""

    def __len__(self) -> int:
        """How many pictures the split holds, usable or not."""

    def sizes(self) -> Iterator[tuple[int, int] | None]:
        """(height, width) of each picture in order, as cheaply as the source allows; None for an unreadable one.

        Raises ``LookupError`` where sizes cannot be known without reading everything (a stream).
        """

    def read(self, rows: Sequence[int]) -> Iterator[Tile | SkippedTile]:
        """The pictures of these rows, in the order asked for (ascending only, without random access)."""


class NamedSplit(SplitReader, Protocol):
    """A split that can also say what its pictures are called.

    A dataset of splits that are neither this nor a ``PlacedSplit`` cannot be added to.
    """

    def names(self) -> Sequence[str]:
        """The ``source_path`` that each picture has in its Tile or SkippedTile, in order, without reading any.

        Raises ``LookupError`` where that is not known before they are read.
        """


class HeldPicture(Protocol):
    """A picture of a split that is not decoded."""

    @property
    def name(self) -> str:
        """Its ``source_path``."""

    def sha256(self) -> str:
        """Its ``source_sha256``; empty where it cannot be read."""


class PlacedSplit(SplitReader, Protocol):
    """A split whose pictures have no names that tell all of them apart: the places of those that it has must stay."""

    @property
    def by_place(self) -> bool:
        """True where ids are places, or where several pictures have one name; else it is as a ``NamedSplit``."""

    def held(self, rows: Sequence[int]) -> Iterator[HeldPicture]:
        """What the split holds at these places (ascending); files are only read for their sha256."""


def placed(split: SplitReader) -> PlacedSplit | None:
    """The split, where its pictures are known by their places; else None."""
    return cast("PlacedSplit", split) if getattr(split, "by_place", False) else None


def names_of(split: SplitReader) -> Sequence[str]:
    """See ``NamedSplit.names``; LookupError where the split has no names, or two pictures of the same."""
    named = getattr(split, "names", None)
    if named is None:
        raise LookupError("its reader does not say what the pictures are called (it has no `names`)")
    names: Sequence[str] = named()
    if len(set(names)) < len(names):
        repeated = next(name for name, count in Counter(names).items() if count > 1)
        raise LookupError(f"several of its pictures are called {repeated!r}")
    return names


@dataclass(frozen=True)
class OpenSource:
    """A source whose location was found and whose columns are known."""

    splits: Mapping[str, SplitReader]
    class_names: tuple[str, ...] | None
    """Names of the labels in label order; None where the source has no classes."""
    features: Mapping[str, Feature]
    """Every further column, by name, that each tile's metadata holds."""
    revision: str | None
    """The exact version read (a commit hash), where the source has one."""
    listing: str = ""
    """sha256 over what is known of the pictures without reading them (paths, sizes of files); empty where nothing is.

    A build is only continued with the very listing it was begun with.
    """
    notes: tuple[str, ...] = ()
    """What the user should know about how it was read (files ignored, columns renamed)."""


@dataclass(frozen=True)
class SourceRow:
    """One source of images, readable without loading anything heavy."""

    name: str
    reader: Callable[[SourceRow], OpenSource]
    """Opens it; one of this folder's readers, or a user's own."""
    location: str = ""
    """A folder, a Hub repository (user/name), or empty where nothing is read."""
    revision: str | None = None
    """Branch, tag or commit to ask the Hub for; what it resolved to is recorded in the manifest."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the reader wants besides (data_dir, image column, number of drawn scenes); the reader documents it."""
    expected_images: Mapping[str, int] | None = None
    """Published number of pictures of each split."""
    expected_classes: int | None = None
    licence: str | None = None
    """As the publisher states it; None where unknown."""
    citation: str = ""
    homepage: str = ""
    size: tuple[int, int] | None = None
    """(height, width) when all pictures have one size."""

    def open(self) -> OpenSource:
        """Find the source and its columns; raises SourceError with one clear sentence."""
        return self.reader(self)

    def at(self, location: str | Path, **options: Any) -> SourceRow:
        """The same source read from another place (a folder it was downloaded to)."""
        return replace(self, location=str(location), options={**self.options, **options})
