"""The dataset that is converted. It gives no number that was not held against its checksum first.

So damage never gets a fresh checksum: the index is known to the manifest by its sha256, the bytes of a shard likewise,
and the numbers of a row have the CRC-32 that the index records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.containers.interface import THUMBNAIL
from latentstore.errors import DamagedShardError
from latentstore.hashing import crc32_of, sha256_of
from latentstore.manifest import Manifest, ShardInfo
from latentstore.plan import PlannedShard
from latentstore.storage.interface import Storage
from latentstore.store import LatentStore

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from latentstore.containers.interface import ContainerRow, ShardReader


@dataclass(frozen=True)
class OriginShard:
    """One shard of it."""

    split: str
    info: ShardInfo
    number: int
    """In its split, of ``count``; both stay what they are."""
    count: int
    start: int
    """The first of its rows in the split."""
    first: int
    """The first of its rows in the index."""

    @property
    def rows(self) -> int:
        """How many."""
        return self.info.rows

    def planned(self, container: ContainerRow) -> PlannedShard:
        """The shard that it becomes, of the same rows."""
        name = container.shard_name(self.split, self.number, self.count)
        return PlannedShard(self.split, self.number, name, self.start, self.start + self.rows)


@dataclass(frozen=True)
class Origin:
    """A sealed dataset, with every column of every row but the latents."""

    store: LatentStore
    index: Mapping[str, Sequence[Any]]

    @classmethod
    def of(cls, store: LatentStore) -> Origin:
        """DamagedShardError unless the rows of its index are those of its shards, and whole."""
        return cls(store, store.checked_index())

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""
        return self.store.manifest

    @cached_property
    def storage(self) -> Storage:
        """How its numbers become raw latents."""
        return self.store.storage()

    @cached_property
    def shards(self) -> tuple[OriginShard, ...]:
        """All of them, in order."""
        found, first = [], 0
        for split, info in self.manifest.splits.items():
            start = 0
            for number, shard in enumerate(info.shards):
                found.append(OriginShard(split, shard, number, len(info.shards), start, first))
                start, first = start + shard.rows, first + shard.rows
        return tuple(found)

    def path(self, shard: OriginShard) -> Path:
        """Where it lies."""
        return self.store.folder / shard.info.path

    def refuse_other_bytes(self, shard: OriginShard) -> None:
        """DamagedShardError unless the shard's file has the recorded sha256."""
        path = self.path(shard)
        if sha256_of(path) != shard.info.sha256:
            raise DamagedShardError(
                f"Shard {path} is not the one that the manifest describes (another sha256): nothing was sealed; get "
                "the dataset again, or see `latentstore verify`."
            )

    def blocks(self, shard: OriginShard, row_bytes: int, limit: int) -> Iterator[tuple[slice, NDArray[Any]]]:
        """(rows, stored numbers) of a shard in order; so many rows at once that at ``row_bytes`` each they fit."""
        reader = self.store.shard(shard.info)
        for rows in runs(shard.rows, row_bytes, limit):
            yield rows, self._sound(shard, reader, np.arange(rows.start, rows.stop))

    def latents(self, shard: OriginShard, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Stored numbers (len(rows), C, h, w) of these rows of a shard."""
        return self._sound(shard, self.store.shard(shard.info), rows)

    def thumbnails(self, shard: OriginShard) -> list[bytes]:
        """The thumbnail of every row of a shard, which must have been held against its sha256."""
        return self.store.shard(shard.info).columns([THUMBNAIL])[THUMBNAIL]

    def not_finite(self, shard: OriginShard) -> DamagedShardError:
        """What to raise where a number of this shard is not finite."""
        return DamagedShardError(f"Shard {self.path(shard)} holds a number that is not finite: nothing was sealed.")

    def _sound(self, shard: OriginShard, reader: ShardReader, rows: NDArray[np.int64]) -> NDArray[Any]:
        stored = reader.latents(rows)
        recorded = self.index["latent_crc32"]
        for row, found in zip(rows.tolist(), crc32_of(stored), strict=True):
            if found != recorded[shard.first + row]:
                raise DamagedShardError(
                    f"Shard {self.path(shard)} was changed: the CRC-32 of row {row} "
                    f"({self.index['id'][shard.first + row]!r}) is not the recorded one; nothing was sealed, see "
                    "`latentstore verify`."
                )
        return stored


def runs(rows: int, row_bytes: int, limit: int) -> Iterator[slice]:
    """Neighbouring rows, as many at once as ``limit`` bytes hold, and at least one."""
    size = max(1, limit // max(1, row_bytes))
    return (slice(start, min(rows, start + size)) for start in range(0, rows, size))
