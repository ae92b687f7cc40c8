"""A sealed config once more: every row's picture decoded from the stored numbers, beside the prepared original."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import SourceError
from latentstore.pixels import prepare, to_uint8
from latentstore.plan import BuildPlan, PlannedRows, PlannedShard, plan_rows
from latentstore.records import SkippedTile, Tile

if TYPE_CHECKING:
    import torch

    from latentstore.sources.interface import OpenSource
    from latentstore.store import LatentStore
    from latentstore.vaes.interface import Vae


@dataclass(frozen=True)
class Replayed:
    """Rows of one batch whose pictures have one size."""

    ids: tuple[str, ...]
    original: torch.Tensor
    """(N, 3, H, W) uint8, on the device of the decoded pictures."""
    decoded: torch.Tensor
    """(N, 3, H, W) uint8."""


def replay(store: LatentStore, plan: BuildPlan, vae: Vae, *, ids: Collection[str] | None = None) -> Iterator[Replayed]:
    """The rows of a config that this plan built, in its order and its batches; with ``ids``, only those rows.

    Raises SourceError where the source's pictures are not those that were encoded.
    """
    source = plan.source.open()
    rows = plan_rows(plan, source)
    if rows.digest != store.manifest.build.plan.get("pictures"):
        raise SourceError(f"Source {plan.source.name!r} holds other pictures than those that were encoded.")
    for shard in rows.shards():
        yield from _shard(store, plan, vae, source, rows, shard, ids)


def _shard(
    store: LatentStore,
    plan: BuildPlan,
    vae: Vae,
    source: OpenSource,
    rows: PlannedRows,
    shard: PlannedShard,
    ids: Collection[str] | None,
) -> Iterator[Replayed]:
    import torch

    manifest = store.manifest
    reader = store.shard(manifest.splits[shard.split].shards[shard.index])
    columns = reader.columns(("id", "source_sha256"))
    skipped = {entry.position for entry in manifest.build.skipped if entry.split == shard.split}
    positions = [position for position in range(shard.start, shard.stop) if position not in skipped]
    batches: dict[int, list[tuple[int, int]]] = {}
    for row, position in enumerate(positions):
        if ids is None or columns["id"][row] in ids:
            batches.setdefault((position - shard.start) // plan.batch_size, []).append((row, position))
    for batch in batches.values():
        numbers = [row for row, _ in batch]
        stored = store.storage().decode(reader.latents(np.array(numbers, dtype=np.int64)))
        decoded = to_uint8(vae.decode(torch.from_numpy(stored)))
        planned = rows.splits[shard.split][[position for _, position in batch]]
        tiles = _tiles(plan, source, shard.split, planned, [columns["source_sha256"][row] for row in numbers])
        yield from _by_size([columns["id"][row] for row in numbers], tiles, decoded)


def _by_size(ids: Sequence[str], tiles: Sequence[Tile], decoded: torch.Tensor) -> Iterator[Replayed]:
    import torch

    sizes = [tile.pixels.shape[:2] for tile in tiles]
    for size in dict.fromkeys(sizes):
        rows = [row for row, found in enumerate(sizes) if found == size]
        seen = decoded[rows, :, : size[0], : size[1]].contiguous()
        stacked = torch.from_numpy(np.stack([tiles[row].pixels for row in rows]))
        truth = stacked.permute(0, 3, 1, 2).contiguous().to(seen.device)
        yield Replayed(tuple(ids[row] for row in rows), truth, seen)


def _tiles(plan: BuildPlan, source: OpenSource, split: str, planned: Any, recorded: Sequence[str]) -> list[Tile]:
    found = []
    images, pieces = planned[:, 0].tolist(), planned[:, 1].tolist()
    for image, piece, sha256 in zip(source.splits[split].read(images), pieces, recorded, strict=True):
        if isinstance(image, SkippedTile) or image.source_sha256 != sha256:
            raise SourceError(f"{image.source_path!r} is not the picture that was encoded any more.")
        found.append(prepare(image, plan.preparation, piece))
    return found
