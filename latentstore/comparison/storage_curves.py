"""What storing does to a VAE's latents: quality against bits per pixel over number formats and their steps.

The pictures are encoded once more, in batches of the plan's size but of other pictures than in its shards; kernels may
round differently for them (about 1e-6 in float32 on a CPU). Each storage is written as a shard of its own in layout
``compact`` and read back; what is counted are the bytes of the column ``latent`` in that file. Ids, labels and the
file's own structure cost every storage the same and weigh much in a sample, so they are left out.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.calibration import CANDIDATES, REACH, Candidate, lost, spread_of
from latentstore.comparison.rate_curves import finite_mean
from latentstore.containers.interface import ShardSchema
from latentstore.containers.parquet import COMPACT, latent_column_bytes
from latentstore.containers.table import CONTAINERS
from latentstore.entropy import ByteCounts
from latentstore.errors import RequestError, VaeError
from latentstore.metrics.table import METRICS
from latentstore.pictures import decoded_uint8, scores_of
from latentstore.pixels import batch_of
from latentstore.records import Tile, record_of
from latentstore.shards import blocks_of, write_shard
from latentstore.statistics import ChannelStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.metrics.interface import Scorer
    from latentstore.storage.interface import StorageRow
    from latentstore.vaes.interface import Vae

    Scores = Mapping[str, NDArray[np.float64]]

STEPS = tuple(candidate.step for candidate in CANDIDATES if candidate.step is not None)
"""Of a quantised storage, as multiples of each channel's standard deviation; widest first."""


@dataclass(frozen=True)
class StoragePoint:
    """All pictures in one storage."""

    storage: str
    step: float | None
    """As a multiple of each channel's standard deviation over these pictures; None for floats."""
    latent_bytes: int
    """Of the column ``latent`` of a compact Parquet shard that holds the pictures' rows, page headers included."""
    bits_per_pixel: float
    """Those, for each pixel of the prepared pictures."""
    entropy_bits_per_pixel: float
    """Order-0 entropy of the stored bytes, per channel and byte place (see ``entropy``)."""
    scores: Mapping[str, float]
    """Mean over the pictures with a finite score, by the metric's name; NaN where none has one."""
    loss_db: float
    """Mean over the pictures of the PSNR from the encoder's own float32 latents minus that from the stored numbers."""
    widened: tuple[int, ...] = ()
    """Channels whose largest latent is beyond 127 steps: theirs were made as large as that latent needs."""


def candidates_in(storages: Sequence[StorageRow]) -> tuple[Candidate, ...]:
    """Every point of these storages, fewest bits first: a quantised one at each of ``STEPS``."""
    found = [
        Candidate(row, step)
        for row in sorted(storages, key=lambda row: row.bits)
        for step in (STEPS if row.quantised else (None,))
    ]
    return tuple(found)


def step_in_words(step: float | None) -> str:
    """``1/16`` for a sixteenth, else the number; empty for none."""
    if step is None:
        return ""
    parts = round(1 / step)
    return f"1/{parts}" if parts > 1 and math.isclose(step * parts, 1) else f"{step:g}"


def named(what: Candidate | StoragePoint) -> str:
    """``float16``, or ``int8, step 1/16``."""
    name = what.storage if isinstance(what, StoragePoint) else what.storage.name
    return f"{name}, step {step_in_words(what.step)}" if what.step is not None else name


def storage_points(
    vae: Vae,
    tiles: Sequence[Tile],
    padded: tuple[int, int],
    candidates: Iterable[Candidate],
    scorers: Mapping[str, Scorer],
    *,
    batch_size: int,
    progress: Callable[[Candidate], None] | None = None,
) -> tuple[StoragePoint, ...]:
    """The points of a VAE over these prepared pictures, padded to this (height, width) before they are encoded.

    ``progress`` is told each candidate before it is measured. Raises RequestError where a storage cannot hold the
    latents, VaeError where they are not finite.
    """
    trial = _Trial(vae, tiles, _encoded(vae, tiles, padded, batch_size), scorers, batch_size)
    return tuple(_points(trial, candidates, progress))


@dataclass(frozen=True)
class _Trial:
    """The pictures, their own latents, and what measures any latents in their place."""

    vae: Vae
    tiles: Sequence[Tile]
    raw: NDArray[np.float32]
    """(N, C, h, w)."""
    scorers: Mapping[str, Scorer]
    batch_size: int

    @property
    def pixels(self) -> int:
        """Of all prepared pictures, without padding."""
        return sum(tile.pixels.shape[0] * tile.pixels.shape[1] for tile in self.tiles)

    def scores(self, raw: NDArray[np.float32]) -> Scores:
        """Every metric of each picture, (N,), decoded from these latents."""
        scorers = {"psnr": METRICS["psnr"].open(), **self.scorers}
        found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in scorers}
        for start in range(0, len(raw), self.batch_size):
            stop = start + self.batch_size
            measured = scores_of(scorers, self.tiles[start:stop], decoded_uint8(self.vae, raw[start:stop]))
            for name, scores in measured.items():
                found[name].append(scores)
        return {name: np.concatenate(scores) for name, scores in found.items()}


def _encoded(vae: Vae, tiles: Sequence[Tile], padded: tuple[int, int], batch_size: int) -> NDArray[np.float32]:
    batches = [
        vae.encode(batch_of(tiles[start : start + batch_size], padded).pixels).mean.float().cpu().numpy()
        for start in range(0, len(tiles), batch_size)
    ]
    raw = np.concatenate(batches)
    if not np.isfinite(raw).all():
        raise VaeError(f"VAE {vae.row.name!r} gave latents that are not finite where it gave finite ones before.")
    return raw


def _points(
    trial: _Trial, candidates: Iterable[Candidate], progress: Callable[[Candidate], None] | None
) -> Iterator[StoragePoint]:
    spread = spread_of(ChannelStatistics.of(trial.raw))
    reference = trial.scores(trial.raw)
    for candidate in candidates:
        if progress is not None:
            progress(candidate)
        steps, widened = _steps(candidate, spread, trial.raw)
        storage = candidate.storage.open(steps)
        try:
            stored = storage.encode(trial.raw)
        except OverflowError as error:
            name, vae = candidate.storage.name, trial.vae.row.name
            message = f"Storage {name!r} cannot hold the latents of {vae}: {error}; leave it out of --storages."
            raise RequestError(message) from error
        size, found = _written_and_read(trial.tiles, stored, candidate.storage.dtype)
        reread = storage.decode(found)
        scores = reference if np.array_equal(reread, trial.raw) else trial.scores(reread)
        yield StoragePoint(
            storage=candidate.storage.name,
            step=candidate.step,
            latent_bytes=size,
            bits_per_pixel=8 * size / trial.pixels,
            entropy_bits_per_pixel=ByteCounts.of(found).bits / trial.pixels,
            scores={name: finite_mean(scores[name].tolist()) for name in trial.scorers},
            loss_db=finite_mean(lost(reference["psnr"], scores["psnr"]).tolist()),
            widened=widened,
        )


def _steps(
    candidate: Candidate, spread: NDArray[np.float64], raw: NDArray[np.float32]
) -> tuple[tuple[float, ...] | None, tuple[int, ...]]:
    """One step a channel (None for floats), and the channels where it is not the candidate's.

    A build makes a step larger only where clipping costs its calibration sample more than a share of the budget.
    Measuring that takes as many decodes as there are channels, so here no latent is clipped at all: the difference in
    PSNR is within that budget.
    """
    if candidate.step is None:
        return None, ()
    asked = candidate.step * spread
    needed = np.abs(raw).max(axis=(0, 2, 3)).astype(np.float64) / REACH
    wide = needed * REACH > (REACH + 0.5) * asked
    # In float32, as the manifest's steps are read.
    steps = np.where(wide, needed, asked).astype(np.float32)
    return tuple(steps.tolist()), tuple(np.flatnonzero(wide).tolist())


def _written_and_read(tiles: Sequence[Tile], stored: NDArray[Any], dtype: str) -> tuple[int, NDArray[Any]]:
    """Bytes of the column ``latent`` of a compact shard of these rows, and its numbers (N, C, h, w) as read back."""
    container = CONTAINERS["parquet"]
    shape = int(stored.shape[1]), int(stored.shape[2]), int(stored.shape[3])
    schema = ShardSchema(latent_shape=shape, dtype=dtype, class_names=None, metrics=())
    records = (record_of(tile, latent, {}) for tile, latent in zip(tiles, stored, strict=True))
    with tempfile.TemporaryDirectory(prefix="latentstore-rate-") as folder:
        name = container.shard_name("rate", 0, 1)
        write_shard(Path(folder), name, container, schema, COMPACT, blocks_of(records, schema))
        path = Path(folder) / name
        return latent_column_bytes(path), container.open(path, schema).latents(np.arange(len(stored), dtype=np.int64))
