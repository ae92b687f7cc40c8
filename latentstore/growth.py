"""A dataset that was added to: which picture each of its planned rows was.

Its source has grown since, so a place in it means nothing any more. But all rows and all skipped pictures have a name
(`source_path`), in the planned order of their split; by it they are found again, wherever they lie now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.containers.table import CONTAINERS
from latentstore.pictures import PictureReader
from latentstore.plan import PlannedRows, shard_names
from latentstore.records import SkippedTile, Tile
from latentstore.sources.interface import names_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.manifest import Manifest
    from latentstore.plan import BuildPlan
    from latentstore.sources.interface import OpenSource, SplitReader

LEFT = "is not in the source any more"


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


def planned_names(manifest: Manifest, index: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """The name of the picture of every planned row of each split; ``index`` has ``split`` and ``source_path``."""
    kept: dict[str, list[str]] = {split: [] for split in manifest.splits}
    for split, name in zip(index["split"], index["source_path"], strict=True):
        kept[split].append(name)
    skipped = {(entry.split, entry.position): entry.source_path for entry in manifest.build.skipped}
    found: dict[str, list[str]] = {}
    for split, names in kept.items():
        rest = iter(names)
        total = manifest.planned_rows(split)
        found[split] = [skipped.get((split, place)) or next(rest) for place in range(total)]
    return found


@dataclass(frozen=True)
class WithLeft:
    """A split of a source, followed by the pictures that it does not hold any more."""

    split: SplitReader | None
    """None where the source has no such split any more."""
    left: tuple[str, ...]
    """Their names."""
    random_access: bool = True

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


def recall(names: Mapping[str, Sequence[str]], opened: OpenSource) -> Recalled:
    """Find the pictures of these names (of every planned row of each split) in a source.

    Raises LookupError, with a sentence's end, where the source does not say what its pictures are called.
    """
    readers: dict[str, SplitReader] = dict(opened.splits)
    splits: dict[str, NDArray[np.int64]] = {}
    gone: list[str] = []
    for split, planned in names.items():
        reader = opened.splits.get(split)
        places = {name: place for place, name in enumerate(names_of(reader))} if reader is not None else {}
        here = len(places)
        left = [name for name in dict.fromkeys(planned) if name not in places]
        places |= {name: here + number for number, name in enumerate(left)}
        images = np.array([places[name] for name in planned], np.int64)
        starts = np.flatnonzero(np.diff(images, prepend=-1))  # rows of one picture follow each other
        lengths = np.diff(starts, append=len(images))
        pieces = np.arange(len(images), dtype=np.int64) - np.repeat(starts, lengths)
        splits[split] = np.stack([images, pieces], axis=1)
        readers[split] = WithLeft(reader, tuple(left))
        gone += left
    return Recalled(replace(opened, splits=readers), splits, tuple(gone))


def recalled_reader(
    plan: BuildPlan, manifest: Manifest, index: Mapping[str, Sequence[Any]], opened: OpenSource
) -> PictureReader:
    """The pictures of all planned rows of a dataset that was added to; LookupError as in ``recall``."""
    found = recall(planned_names(manifest, index), opened)
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
