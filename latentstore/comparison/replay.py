"""A sealed config once more: every row's picture decoded from the stored numbers, beside the prepared original."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latentstore.errors import SourceError
from latentstore.growth import recalled_reader
from latentstore.pictures import PictureReader, decoded_uint8, side_by_side
from latentstore.plan import BuildPlan, PlannedShard, plan_rows
from latentstore.records import SkippedTile, Tile

if TYPE_CHECKING:
    import torch

    from latentstore.store import LatentStore
    from latentstore.vaes.interface import Vae


@dataclass(frozen=True)
class Replayed:
    """Rows of one batch whose pictures have one size."""

    tiles: tuple[Tile, ...]
    """The prepared pictures."""
    original: torch.Tensor
    """(N, 3, H, W) uint8: the same, on the device of the decoded pictures."""
    decoded: torch.Tensor
    """(N, 3, H, W) uint8."""


@dataclass(frozen=True)
class Replay:
    """A config that a plan built, and the pictures it was made of."""

    store: LatentStore
    reader: PictureReader

    @classmethod
    def of(cls, store: LatentStore, plan: BuildPlan) -> Replay:
        """SourceError where the source's pictures are not those that were encoded."""
        source = plan.source.open()
        if store.manifest.build.appended:
            return cls(store, recalled_reader(plan, store, source))
        rows = plan_rows(plan, source)
        if rows.digest != store.manifest.build.plan.get("pictures"):
            raise SourceError(f"Source {plan.source.name!r} holds other pictures than those that were encoded.")
        return cls(store, PictureReader(plan, source, rows))

    @property
    def padded(self) -> tuple[int, int]:
        """(height, width) at which every picture is encoded."""
        return self.reader.rows.padded

    def batches(self, vae: Vae, *, ids: Collection[str] | None = None) -> Iterator[Replayed]:
        """The rows in the plan's order and batches; with ``ids``, only those rows."""
        for shard in self.reader.rows.all_shards():
            yield from _shard(self.store, self.reader, vae, shard, ids)


def _shard(
    store: LatentStore, pictures: PictureReader, vae: Vae, shard: PlannedShard, ids: Collection[str] | None
) -> Iterator[Replayed]:
    manifest = store.manifest
    reader = store.shard(manifest.splits[shard.split].shards[shard.index])
    columns = reader.columns(("id", "source_sha256"))
    skipped = {entry.position for entry in manifest.build.skipped if entry.split == shard.split}
    positions = [position for position in range(shard.start, shard.stop) if position not in skipped]
    batches: dict[int, list[tuple[int, int]]] = {}
    for row, position in enumerate(positions):
        if ids is None or columns["id"][row] in ids:
            batches.setdefault((position - shard.start) // pictures.plan.batch_size, []).append((row, position))
    for batch in batches.values():
        numbers = [row for row, _ in batch]
        stored = store.storage().decode(reader.latents(np.array(numbers, dtype=np.int64)))
        tiles = list(pictures.tiles(shard.split, [position for _, position in batch]))
        good = [_encoded(tile, columns["source_sha256"][row]) for tile, row in zip(tiles, numbers, strict=True)]
        for rows, truth, seen in side_by_side(good, decoded_uint8(vae, stored)):
            yield Replayed(tuple(good[row] for row in rows), truth, seen)


def _encoded(tile: Tile | SkippedTile, sha256: str) -> Tile:
    if isinstance(tile, SkippedTile) or tile.source_sha256 != sha256:
        raise SourceError(f"{tile.source_path!r} is not the picture that was encoded any more.")
    return tile
