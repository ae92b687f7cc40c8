"""The splits of an opened dataset: rows in any order, or a stream."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from latentstore.errors import RequestError, SourceError
from latentstore.sources.hub_images.loading import rows_in
from latentstore.sources.hub_images.paths import ids_of, path_inside
from latentstore.sources.hub_images.tiles import sha256_held, size_of, tile_of
from latentstore.sources.naming import numbered, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from latentstore.records import SkippedTile, Tile
    from latentstore.sources.hub_images.columns import Columns
    from latentstore.sources.hub_images.loading import Loaded
    from latentstore.sources.hub_images.own_files import OwnFiles
    from latentstore.sources.interface import HeldPicture, SourceRow, SplitReader


@dataclass(frozen=True)
class _HeldRow:
    """A picture as a row holds it, not decoded."""

    name: str
    value: Any
    files: OwnFiles

    def sha256(self) -> str:
        return sha256_held(self.value, self.files)


@dataclass(frozen=True)
class MapSplit:
    """A split whose rows can be had in any order; its methods are those of ``NamedSplit`` and ``PlacedSplit``."""

    dataset: Any
    columns: Columns
    files: OwnFiles
    ids: Sequence[str]
    paths: Sequence[str]
    by_place: bool
    random_access: bool = True

    def __len__(self) -> int:
        return len(self.ids)

    def names(self) -> Sequence[str]:
        """The path of each picture, or what stands for it."""
        return self.paths

    def held(self, rows: Sequence[int]) -> Iterator[HeldPicture]:
        """What the dataset has at these places."""
        images = self.dataset.select_columns([self.columns.image])
        return (_HeldRow(self.paths[row], images[int(row)][self.columns.image], self.files) for row in rows)

    def sizes(self) -> Iterator[tuple[int, int] | None]:
        """(height, width) of each picture, from its header."""
        images = self.dataset.select_columns([self.columns.image])
        return (size_of(images[row][self.columns.image], self.files) for row in range(len(images)))

    def read(self, rows: Sequence[int]) -> Iterator[Tile | SkippedTile]:
        """The pictures of these rows, in this order."""
        examples = ((row, self.dataset[int(row)]) for row in rows)
        return (tile_of(held, self.columns, self.files, self.ids[row], self.paths[row]) for row, held in examples)


def map_splits(row: SourceRow, loaded: Loaded, columns: Columns) -> dict[str, SplitReader]:
    """A reader of each split, with the ids of all its pictures."""
    datasets = {name: _as_files(dataset, columns) for name, dataset in loaded.splits.items()}
    paths = {name: _paths(dataset, columns.image, row.location) for name, dataset in datasets.items()}
    together = [path for members in paths.values() for path in members]
    ids = iter(ids_of(row, [path for path in together if path])) if all(together) else None
    readers: dict[str, SplitReader] = {}
    for name, dataset in datasets.items():
        places = [numbered(name, place) for place in range(len(dataset))]
        own = [next(ids) for _ in places] if ids else places
        known = [printable(path or place) for path, place in zip(paths[name], places, strict=True)]
        by_place = ids is None or len(set(known)) < len(known)
        readers[name] = MapSplit(dataset, columns, loaded.files, own, known, by_place)
    return readers


def _as_files(dataset: Any, columns: Columns) -> Any:
    """The dataset with the columns we use, pictures as the bytes of their files."""
    from datasets import Image

    used = [columns.image, *([columns.label] if columns.label else []), *columns.further]
    dataset = dataset.select_columns(used)
    if isinstance(dataset.features[columns.image], Image):
        return dataset.cast_column(columns.image, Image(decode=False))
    return dataset


def _paths(dataset: Any, image: str, location: str) -> list[str | None]:
    """The path inside the source of each picture, without touching the pictures; None where there is none."""
    from datasets import Image

    held = dataset.features[image]
    if not isinstance(held, Image) and not (isinstance(held, dict) and "path" in held):
        return [None] * len(dataset)
    paths = dataset.select_columns([image]).flatten()[f"{image}.path"][:]
    return [path_inside(path, location) if path else None for path in paths]


@dataclass
class _StreamSplit:
    """A split that is read from its beginning; a read that goes on where the last one ended costs nothing extra."""

    name: str
    dataset: Any
    columns: Columns
    files: OwnFiles
    location: str
    length: int
    by_place: bool = True
    random_access: bool = False
    _open_end: tuple[int, Iterator[Any]] | None = None
    """The next row and what is left of the stream after the last read."""

    def __len__(self) -> int:
        return self.length

    def sizes(self) -> Iterator[tuple[int, int] | None]:
        raise LookupError(f"the sizes of the images of {self.location!r} are only known after reading the stream")

    def held(self, rows: Sequence[int]) -> Iterator[HeldPicture]:
        examples = self._examples(self._ascending(rows))
        return (_HeldRow(self._path(found, row), found[self.columns.image], self.files) for row, found in examples)

    def read(self, rows: Sequence[int]) -> Iterator[Tile | SkippedTile]:
        return self._tiles(self._ascending(rows))

    def _ascending(self, rows: Sequence[int]) -> list[int]:
        rows = [int(row) for row in rows]
        if any(later <= earlier for earlier, later in pairwise(rows)):
            raise RequestError(f"{self.location!r} is streamed, so its rows can only be read in ascending order.")
        return rows

    def _tiles(self, rows: Sequence[int]) -> Iterator[Tile | SkippedTile]:
        for row, example in self._examples(rows):
            yield tile_of(example, self.columns, self.files, numbered(self.name, row), self._path(example, row))

    def _examples(self, rows: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Each of these rows, and what the stream has of it."""
        # taken, not shared: two reads at once must not pull from one stream
        (position, examples), self._open_end = self._open_end or (0, rows_in(self.dataset, self.location)), None
        if rows and rows[0] < position:
            position, examples = 0, rows_in(self.dataset, self.location)
        for row in rows:
            for _ in range(row - position):
                next(examples, None)
            example = next(examples, None)
            if example is None:
                raise self._wrong_length(f"ended before row {row:,}")
            position = row + 1
            if position == self.length and next(examples, None) is not None:
                raise self._wrong_length("holds more")
            yield row, example
        self._open_end = (position, examples)

    def _wrong_length(self, found: str) -> SourceError:
        return SourceError(
            f"The split {self.name!r} of {self.location!r} says that it holds {self.length:,} images, but it {found}; "
            f"read it without streaming."
        )

    def _path(self, example: Mapping[str, Any], row: int) -> str:
        value = example[self.columns.image]
        path = value.get("path") if isinstance(value, dict) else None
        return printable(path_inside(path, self.location)) if path else numbered(self.name, row)


def stream_splits(row: SourceRow, loaded: Loaded, columns: Columns) -> dict[str, SplitReader]:
    """A reader of each split; one that does not say how long it is is read once without its pictures."""
    readers: dict[str, SplitReader] = {}
    for name, dataset in loaded.splits.items():
        length = loaded.lengths.get(name)
        if not length:
            length = sum(1 for _ in rows_in(dataset.remove_columns([columns.image]), row.location))
        readers[name] = _StreamSplit(name, _as_files(dataset, columns), columns, loaded.files, row.location, length)
    return readers
