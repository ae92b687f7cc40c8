"""A dataset that was added to: which picture each of its planned rows was.

Its source has grown since, so a place in it means nothing any more. But all rows and all skipped pictures have a name
(`source_path`), in the planned order of their split; by it they are found again, wherever they lie now. Where pictures
have no names that tell them apart, as in most streams, they are known by their places, which must then stay: that they
did is looked at before anything is added.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.containers.table import CONTAINERS
from latentstore.pictures import PictureReader
from latentstore.plan import PlannedRows, ordered, shard_names
from latentstore.records import SkippedTile, Tile
from latentstore.sources.interface import names_of, placed
from latentstore.sources.naming import numbered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.manifest import Manifest
    from latentstore.plan import BuildPlan
    from latentstore.sources.interface import OpenSource, PlacedSplit, SplitReader
    from latentstore.store import LatentStore

LEFT = "is not in the source any more"
KNOWN_BY = ("split", "id", "source_path", "source_sha256")
"""Columns of an index that tell which pictures a dataset has."""


def generations_of(manifest: Manifest) -> tuple[Mapping[str, int], ...]:
    """Planned rows of each split in the first build and in each append; of splits that got shards in it."""
    size, added = manifest.build.rows_per_shard, [entry.rows for entry in manifest.build.appended]
    first = {}
    for split, info in manifest.splits.items():
        later = [rows[split] for rows in added if split in rows]
        if len(info.shards) > sum(-(-rows // size) for rows in later):
            first[split] = manifest.planned_rows(split) - sum(later)
    return (first, *added)


def names_of_shards(manifest: Manifest, split: str) -> list[str]:
    """File names of a split's shards, as its plan gives them; a conversion numbers all of them in one series."""
    container = CONTAINERS[manifest.storage.container]
    if manifest.storage.converted or not manifest.build.appended:
        count = len(manifest.splits[split].shards)
        return [container.shard_name(split, index, count) for index in range(count)]
    size = manifest.build.rows_per_shard
    return [
        name
        for generation, rows in enumerate(generations_of(manifest))
        for name in shard_names(container, split, generation, rows.get(split), size)
    ]


@dataclass(frozen=True, slots=True)
class KnownPicture:
    """A picture that a dataset holds, or lists as skipped."""

    name: str
    """Its ``source_path``."""
    sha256: str | None
    """Of its file; None where no row of it is in the dataset."""
    rows: int
    """Planned rows that it is."""


def known_pictures(manifest: Manifest, index: Mapping[str, Sequence[Any]]) -> dict[str, list[KnownPicture]]:
    """The pictures of each split in their planned order; ``index`` has the columns ``KNOWN_BY``."""
    kept: dict[str, list[tuple[str, str, str]]] = {split: [] for split in manifest.splits}
    for split, *row in zip(*(index[name] for name in KNOWN_BY), strict=True):
        kept[split].append((row[0], row[1], row[2]))
    skipped = {(entry.split, entry.position): (entry.id, entry.source_path, None) for entry in manifest.build.skipped}
    whole = _id_of_whole(manifest)
    found: dict[str, list[KnownPicture]] = {}
    for split, rows in kept.items():
        rest = iter(rows)
        planned = (skipped.get((split, place)) or next(rest) for place in range(manifest.planned_rows(split)))
        pictures = []
        for _, group in groupby(planned, lambda row: (whole(row[0]), row[1])):
            pieces = list(group)
            sha256 = next((row[2] for row in pieces if row[2] is not None), None)
            pictures.append(KnownPicture(pieces[0][1], sha256, len(pieces)))
        found[split] = pictures
    return found


def _id_of_whole(manifest: Manifest) -> Callable[[str], str]:
    """Gives the id of the picture that a tile or view of this id is of."""
    preparation = manifest.preparation
    tile = r"(@r\d+c\d+)?" if preparation.tile is not None else ""
    view = f"(@({'|'.join(preparation.views)}))?" if preparation.views else ""
    ending = re.compile(f"{tile}{view}\\Z")
    return lambda name: ending.sub("", name, count=1)


@dataclass(frozen=True)
class WithLeft:
    """A split of a source, followed by the pictures that it does not hold any more."""

    split: SplitReader | None
    """None where the source has no such split any more."""
    left: tuple[str, ...]
    """Their names."""

    @property
    def random_access(self) -> bool:
        """See ``SplitReader.random_access``."""
        return self.split is None or self.split.random_access

    def __len__(self) -> int:
        return self._here + len(self.left)

    @property
    def _here(self) -> int:
        return len(self.split) if self.split is not None else 0

    def sizes(self) -> Iterator[tuple[int, int] | None]:
        """See ``SplitReader.sizes``."""
        if self.split is not None:
            yield from self.split.sizes()
        yield from [None] * len(self.left)

    def read(self, rows: Sequence[int]) -> Iterator[Tile | SkippedTile]:
        """See ``SplitReader.read``."""
        for here, group in groupby(rows, lambda row: row < self._here):
            if here and self.split is not None:
                yield from self.split.read(list(group))
            else:
                names = (self.left[row - self._here] for row in group)
                yield from (SkippedTile(name, name, LEFT) for name in names)


@dataclass(frozen=True)
class Recalled:
    """The planned rows of a sealed dataset, over the source as it is now."""

    source: OpenSource
    """With the pictures that have left it behind those of each split."""
    splits: Mapping[str, NDArray[np.int64]]
    """As in ``PlannedRows``."""
    left: tuple[str, ...]
    """Names of the pictures that have left the source."""


def recall(manifest: Manifest, known: Mapping[str, Sequence[KnownPicture]], opened: OpenSource) -> Recalled:
    """Find the pictures that a dataset holds in its source.

    Raises LookupError, with a sentence's end, where the source does not say what its pictures are called.
    """
    readers: dict[str, SplitReader] = dict(opened.splits)
    splits: dict[str, NDArray[np.int64]] = {}
    gone: list[str] = []
    for split, pictures in known.items():
        reader = opened.splits.get(split)
        if reader is not None and placed(reader) is not None:
            images, left = _by_place(manifest, split, pictures, len(reader))
        else:
            images, left = _by_name(pictures, names_of(reader) if reader is not None else ())
        rows = np.array([picture.rows for picture in pictures], np.int64)
        pieces = np.arange(rows.sum(), dtype=np.int64) - np.repeat(np.cumsum(rows) - rows, rows)
        splits[split] = np.stack([np.repeat(images, rows), pieces], axis=1)
        readers[split] = WithLeft(reader, tuple(left))
        gone += left
    return Recalled(replace(opened, splits=readers), splits, tuple(gone))


def _by_name(pictures: Sequence[KnownPicture], names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Where each picture lies among those of these names; behind them those that have left, whose names are given."""
    places = {name: place for place, name in enumerate(names)}
    left = [name for name in dict.fromkeys(picture.name for picture in pictures) if name not in places]
    places |= {name: len(names) + number for number, name in enumerate(left)}
    return np.array([places[picture.name] for picture in pictures], np.int64), left


def _by_place(
    manifest: Manifest, split: str, pictures: Sequence[KnownPicture], here: int
) -> tuple[NDArray[np.int64], list[str]]:
    """The same for pictures that are where they were, of which so many are here."""
    images = places_of(manifest, split)
    if len(images) != len(pictures):
        raise LookupError(f"split {split!r} lists {len(pictures):,} of its {len(images):,} pictures")
    names = {place: picture.name for place, picture in zip(images.tolist(), pictures, strict=True)}
    return images, [names[place] for place in range(here, len(images))]


def places_of(manifest: Manifest, split: str) -> NDArray[np.int64]:
    """(pictures,) in planned order, where each lies in a split whose pictures stay in their places.

    Each append has then put its own behind those that were there.
    """
    build, total = manifest.build, manifest.source.images.get(split, 0)
    added = [entry.pictures.get(split, 0) for entry in build.appended]
    places, start = [], 0
    for count in (total - sum(added), *added):
        places.append(start + ordered(build.order, build.seed, count))
        start += count
    return np.concatenate(places)


def refuse_moved(manifest: Manifest, split: str, pictures: Sequence[KnownPicture], reader: PlacedSplit) -> None:
    """LookupError, with a sentence's end, where a place of a split holds another picture than the dataset has of it.

    Another name tells; where a name is only the place, or several have it, the sha256 of the file does.
    """
    images, left = _by_place(manifest, split, pictures, len(reader))
    if left:
        raise LookupError(
            f"they are known by their places only, and split {split!r} has {len(reader):,} left of {len(images):,}"
        )
    times = Counter(picture.name for picture in pictures)
    known = [pictures[number] for number in np.argsort(images)]
    for place, (picture, held) in enumerate(zip(known, reader.held(range(len(known))), strict=True)):
        tells = times[picture.name] == 1 and picture.name != numbered(split, place)
        same = held.name == picture.name and (tells or picture.sha256 is None or held.sha256() == picture.sha256)
        if not same:
            raise LookupError(
                f"they are known by their places only, and place {place:,} of split {split!r} holds another one "
                f"({held.name!r}) than the dataset has of it ({picture.name!r})"
            )


def recalled_reader(plan: BuildPlan, store: LatentStore, opened: OpenSource) -> PictureReader:
    """The pictures of all planned rows of a dataset that was added to; LookupError as in ``recall``."""
    manifest = store.manifest
    found = recall(manifest, known_pictures(manifest, store.checked_index(KNOWN_BY)), opened)
    _, height, width = manifest.latent_shape
    rows = PlannedRows(
        splits=found.splits,
        padded=(height * manifest.vae.stride, width * manifest.vae.stride),
        rows_per_shard=manifest.build.rows_per_shard,
        digest=str(manifest.build.plan.get("pictures")),
        container=CONTAINERS[manifest.storage.container],
        generations=generations_of(manifest),
    )
    return PictureReader(plan, found.source, rows)
