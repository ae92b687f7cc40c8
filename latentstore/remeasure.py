"""Decode rows of a dataset again and measure them against their source pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import SourceError, VaeError, WrongVaeError
from latentstore.metrics.table import METRICS
from latentstore.pixels import prepare, to_uint8
from latentstore.plan import BuildPlan, kept_rows, plan_rows
from latentstore.records import SkippedTile, Tile
from latentstore.sources.table import source_of

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.metrics.interface import Scorer
    from latentstore.sources.interface import OpenSource, SourceRow
    from latentstore.store import LatentStore
    from latentstore.vaes.interface import Vae, VaeRow

ROWS_AT_ONCE = 8


class Unavailable(Exception):  # noqa: N818 (a reason not to look, no error)
    """What is needed to measure again is not at hand; the text says what, and how to give it."""


@dataclass(frozen=True)
class Remeasured:
    """One row, decoded and measured again."""

    id: str
    shard: str
    changed: str
    """What is wrong with its source picture; empty where it is the one that was encoded."""
    scores: Mapping[str, tuple[float | None, float]]
    """(recorded, measured again) of each metric."""


def remeasured(
    store: LatentStore,
    index: Mapping[str, Sequence[Any]],
    *,
    scorers: Mapping[str, Scorer],
    sample: int,
    seed: int,
    source: SourceRow | None = None,
    vae: VaeRow | None = None,
) -> Iterator[Remeasured]:
    """A seeded sample of rows, decoded by the recorded VAE and scored against the source's own pixels.

    Raises Unavailable where the source or the VAE's weights are not at hand, VaeError where the weights are others.
    """
    model = _vae(store, vae)
    opened, planned = _source(store, source, model.row)
    rows = np.sort(np.random.default_rng(seed).permutation(len(index["id"]))[:sample])
    for start in range(0, len(rows), ROWS_AT_ONCE):
        chosen = rows[start : start + ROWS_AT_ONCE].tolist()
        tiles = [_tile(store, opened, planned, index, row) for row in chosen]
        decoded = _decode(model, store, index, chosen)
        for row, tile, picture in zip(chosen, tiles, decoded, strict=True):
            if isinstance(tile, str):
                yield Remeasured(index["id"][row], index["shard"][row], tile, {})
                continue
            truth = _planes(tile.pixels)
            seen = picture[None, :, : truth.shape[2], : truth.shape[3]].contiguous()
            scores = {name: (index[name][row], float(scorer(truth, seen)[0])) for name, scorer in scorers.items()}
            yield Remeasured(index["id"][row], index["shard"][row], "", scores)


def scorers_at_hand(names: Sequence[str], weights: Path | None) -> tuple[dict[str, Scorer], list[str]]:
    """The metrics of these names, opened, and the names of those whose weights are not in that folder."""
    rows = [METRICS[name].at(weights) for name in names if name in METRICS]
    lacking = [row.name for row in rows if row.unavailable()]
    return {row.name: row.open() for row in rows if row.name not in lacking}, lacking


def _vae(store: LatentStore, row: VaeRow | None) -> Vae:
    try:
        return store.load_vae(row)
    except WrongVaeError:
        raise
    except VaeError as error:
        raise Unavailable(f"the VAE is not at hand: {error}") from error


def _source(store: LatentStore, row: SourceRow | None, vae: VaeRow) -> tuple[OpenSource, dict[str, Any]]:
    """The opened source, and for each split the (picture, piece) of every row of the dataset."""
    manifest = store.manifest
    try:
        source = row or source_of(manifest.source)
        opened = source.open()
    except SourceError as error:
        raise Unavailable(f"the source pictures are not at hand ({error}); say where with --source-location") from error
    plan = BuildPlan(
        source=source,
        vae=vae,
        config=manifest.config,
        preparation=manifest.preparation,
        order=manifest.build.order,
        seed=manifest.build.seed,
    )
    planned = plan_rows(plan, opened)
    if planned.digest != manifest.build.plan.get("pictures"):
        raise SourceError(
            "The source holds other pictures than those that were encoded (their number or sizes differ)."
        )
    skipped = manifest.build.skipped
    return opened, {
        split: kept_rows(rows, [entry.position for entry in skipped if entry.split == split])
        for split, rows in planned.splits.items()
    }


def _tile(
    store: LatentStore, opened: OpenSource, planned: Mapping[str, Any], index: Mapping[str, Sequence[Any]], row: int
) -> Tile | str:
    """The prepared picture of a row, or what is wrong with its source picture."""
    split = index["split"][row]
    place = sum(1 for other in index["split"][:row] if other == split)
    image, piece = planned[split][place].tolist()
    picture = next(iter(opened.splits[split].read([image])))
    if isinstance(picture, SkippedTile):
        return f"its source picture cannot be read any more ({picture.reason})"
    if picture.source_sha256 != index["source_sha256"][row]:
        return "its source picture is not the one that was encoded (another sha256)"
    return prepare(picture, store.manifest.preparation, piece)


def _decode(model: Vae, store: LatentStore, index: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> torch.Tensor:
    """Decoded pictures (N, 3, H, W) uint8 of these rows, from the stored numbers."""
    import torch

    entries = {shard.path: shard for split in store.manifest.splits.values() for shard in split.shards}
    stored = [
        store.shard(entries[index["shard"][row]]).latents(np.array([index["row"][row]], dtype=np.int64)) for row in rows
    ]
    raw = store.storage().decode(np.concatenate(stored))
    return to_uint8(model.decode(torch.from_numpy(raw))).cpu()


def _planes(pixels: NDArray[np.uint8]) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].contiguous()
