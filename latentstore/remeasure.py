"""Decode rows of a dataset again and measure them against their source pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import SourceError, VaeError, WrongVaeError
from latentstore.metrics.table import METRICS
from latentstore.pictures import PictureReader, decoded_uint8, scores_of
from latentstore.plan import BuildPlan, kept_positions, plan_rows
from latentstore.records import SkippedTile, Tile
from latentstore.sources.table import source_of

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.metrics.interface import Scorer
    from latentstore.sources.interface import SourceRow
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
    originals = originals_of(store, source, model.row)
    rows = np.sort(np.random.default_rng(seed).permutation(len(index["id"]))[:sample])
    for start in range(0, len(rows), ROWS_AT_ONCE):
        chosen = rows[start : start + ROWS_AT_ONCE].tolist()
        tiles = [originals.tile(index, row) for row in chosen]
        decoded = _decode(model, store, index, chosen)
        for row, tile, picture in zip(chosen, tiles, decoded, strict=True):
            if isinstance(tile, str):
                yield Remeasured(index["id"][row], index["shard"][row], tile, {})
                continue
            found = scores_of(scorers, [tile], picture[None])
            scores = {name: (index[name][row], float(score[0])) for name, score in found.items()}
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


@dataclass(frozen=True)
class Originals:
    """The prepared source pictures of a dataset's rows."""

    reader: PictureReader
    positions: Mapping[str, NDArray[np.int64]]
    """Of each split, the planned row that each of its rows was."""

    def tile(self, index: Mapping[str, Sequence[Any]], row: int) -> Tile | str:
        """The prepared picture of a row of the index, or what is wrong with its source picture."""
        split = index["split"][row]
        place = row - index["split"].index(split)
        found = next(self.reader.tiles(split, [self.positions[split][place]]))
        if isinstance(found, SkippedTile):
            return f"its source picture cannot be read any more ({found.reason})"
        if found.source_sha256 != index["source_sha256"][row]:
            return "its source picture is not the one that was encoded (another sha256)"
        return found


def originals_of(store: LatentStore, row: SourceRow | None, vae: VaeRow) -> Originals:
    """The source pictures behind a dataset; Unavailable where they are not at hand, SourceError for others."""
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
    rows = plan_rows(plan, opened)
    if rows.digest != manifest.build.plan.get("pictures"):
        raise SourceError(
            "The source holds other pictures than those that were encoded (their number or sizes differ)."
        )
    skipped = manifest.build.skipped
    positions = {
        split: kept_positions(len(planned), [entry.position for entry in skipped if entry.split == split])
        for split, planned in rows.splits.items()
    }
    return Originals(PictureReader(plan, opened, rows), positions)


def _decode(model: Vae, store: LatentStore, index: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> torch.Tensor:
    """Decoded pictures (N, 3, H, W) uint8 of these rows, from the stored numbers."""
    entries = {shard.path: shard for split in store.manifest.splits.values() for shard in split.shards}
    stored = [
        store.shard(entries[index["shard"][row]]).latents(np.array([index["row"][row]], dtype=np.int64)) for row in rows
    ]
    return decoded_uint8(model, store.storage().decode(np.concatenate(stored))).cpu()
