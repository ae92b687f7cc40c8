"""CALIBRATE: which storage is small enough and good enough, measured on a seeded sample of the pictures themselves.

A candidate is a number format, with a step of so many standard deviations of each channel where it is quantised. Its
loss is the PSNR of the decode of the unrounded latents minus that of the decode of the stored ones, picture by picture.
The smallest candidate is taken whose mean loss keeps the budget even if the sample's mean is two standard errors too
low; a picture that was decoded without any loss and no longer is counts as one of 58.9 dB before. A quantised channel
clips at 127 steps; where that alone costs more than the channel's equal share of the budget, its step is made as large
as its largest number needs. (With the share, and not the whole budget, channels whose clipping costs little each do not
cost much together.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latentstore.entropy import ByteCounts
from latentstore.errors import SourceError
from latentstore.manifest import CalibrationInfo, CandidateInfo
from latentstore.metrics.table import METRICS
from latentstore.pictures import decoded_uint8, scores_of
from latentstore.pixels import batch_of
from latentstore.plan import MAX_PSNR_DROP, BuildPlan
from latentstore.records import SkippedTile, Tile
from latentstore.statistics import ChannelStatistics
from latentstore.storage.interface import StorageRow
from latentstore.storage.table import STORAGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.pictures import PictureReader
    from latentstore.storage.interface import Storage
    from latentstore.vaes.interface import Vae

REACH = 127
"""Steps to either side of zero (see storage/int8)."""
STANDARD_ERRORS = 2
ROUNDING_DB = 10 * math.log10(255**2 * 12)
"""PSNR that rounding to 8 bits costs a picture on its own, 58.9 dB (its mean squared error is 1/12): as good as that is
a picture, at least, of which no difference is left once it is rounded."""


@dataclass(frozen=True)
class Candidate:
    """A storage that might be taken."""

    storage: StorageRow
    step: float | None = None
    """As a multiple of each channel's standard deviation; None for floats."""


CANDIDATES = (
    *(Candidate(STORAGES["int8"], 1 / parts) for parts in (2, 3, 4, 6, 8, 12, 16, 18, 20, 24, 32)),
    Candidate(STORAGES["float16"]),
    Candidate(STORAGES["float32"]),
)
"""Smallest first."""


@dataclass(frozen=True)
class ChosenStorage:
    """The storage that a dataset is written in, and what that choice rests on."""

    name: str
    step: float | None = None
    """As a multiple of each channel's standard deviation; None for floats."""
    steps: tuple[float, ...] | None = None
    """One a channel; None for floats."""
    calibration: CalibrationInfo | None = None
    """None where there was nothing to measure."""

    @property
    def row(self) -> StorageRow:
        """Its row."""
        return STORAGES[self.name]

    def open(self) -> Storage:
        """Ready to encode."""
        return self.row.open(self.steps)


@dataclass(frozen=True)
class Sample:
    """Pictures and their raw latents."""

    tiles: tuple[Tile, ...]
    raw: NDArray[np.float32]
    """(N, C, h, w), finite."""


def candidates_of(plan: BuildPlan) -> tuple[Candidate, ...]:
    """All of them where the storage is to be chosen, else the one that was asked for."""
    if plan.storage is None:
        return CANDIDATES
    return (Candidate(plan.storage, plan.step if plan.storage.quantised else None),)


def calibrate(
    vae: Vae,
    sample: Sample,
    candidates: Sequence[Candidate],
    *,
    budget: float | None,
    batch_size: int,
    seed: int,
    spread: NDArray[np.float64] | None = None,
) -> ChosenStorage:
    """Measure candidates (smallest first) on a sample, and take the first that keeps the budget (dB), else the last.

    ``seed`` is only recorded: the sample was drawn with it. ``spread``, (C,), is what steps are multiples of, where
    more is known of the dataset than its sample.
    """
    spread = spread_of(ChannelStatistics.of(sample.raw)) if spread is None else spread
    trial = _Trial(vae, sample, batch_size)
    limit = MAX_PSNR_DROP if budget is None else budget
    tried = [_measured(trial, candidate, spread, limit) for candidate in candidates]
    measured = [entry for entry in tried if entry is not None]
    kept = (entry for entry in measured if entry.keeps)
    taken = next(kept, measured[-1])
    info = CalibrationInfo(
        pictures=len(sample.tiles),
        seed=seed,
        std=tuple(spread.tolist()),
        widened=taken.widened,
        candidates=tuple(entry.info for entry in measured),
    )
    return ChosenStorage(taken.candidate.storage.name, taken.candidate.step, taken.steps, info)


def sample_of_plan(reader: PictureReader, vae: Vae) -> Sample:
    """The plan's calibration sample: a seeded draw from the rows of all splits (the first rows of a stream)."""
    plan, kept = reader.plan, []
    for tile in _drawn(reader):
        kept.append(tile)
        if len(kept) == plan.calibration:
            break
    tiles, latents = [], []
    for start in range(0, len(kept), plan.batch_size):
        batch = batch_of(kept[start : start + plan.batch_size], reader.rows.padded)
        raw = vae.encode(batch.pixels).mean.float().cpu().numpy()
        finite = np.isfinite(raw).reshape(len(raw), -1).all(axis=1)
        tiles += [tile for tile, good in zip(batch.tiles, finite, strict=True) if good]
        latents.append(raw[finite])
    if not tiles:
        raise SourceError(f"Source {plan.source.name!r} gave no picture to calibrate the storage on.")
    return Sample(tuple(tiles), np.concatenate(latents))


def lost(reference: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """DB of PSNR lost by each picture; 0 where both decodes equal the picture, NaN where only one does."""
    both = np.isinf(reference) & np.isinf(found)
    finite = np.isfinite(reference) & np.isfinite(found)
    apart = np.subtract(reference, found, out=np.full(len(found), np.nan), where=finite)
    return np.where(both, 0.0, apart)


def _drawn(reader: PictureReader) -> Iterator[Tile]:
    """Every usable picture, in the order in which they are drawn."""
    for split, positions in _positions(reader):
        for tile in reader.tiles(split, positions):
            if not isinstance(tile, SkippedTile):
                yield tile


def _positions(reader: PictureReader) -> Iterator[tuple[str, NDArray[np.int64]]]:
    names = list(reader.rows.splits)
    lengths = [len(planned) for planned in reader.rows.splits.values()]
    if not all(reader.source.splits[name].random_access for name in names):
        yield from ((name, np.arange(length)) for name, length in zip(names, lengths, strict=True))
        return
    starts = np.cumsum([0, *lengths])
    for row in np.random.default_rng([reader.plan.seed, int(starts[-1])]).permutation(starts[-1]).tolist():
        split = int(np.searchsorted(starts, row, side="right")) - 1
        yield names[split], np.array([row - starts[split]])


def spread_of(found: ChannelStatistics) -> NDArray[np.float64]:
    """What steps are multiples of: the standard deviation; of a channel that is constant its largest number, or 1.

    Constant is what varies by less than float32 can tell of its largest number: what is left is rounding, and so small
    a step may be none in float32.
    """
    float32 = np.finfo(np.float32)
    largest = np.maximum(np.abs(found.minimum), np.abs(found.maximum))
    constant = np.where(largest > float32.tiny / float32.eps, largest, 1.0)
    return np.where(found.std > float32.eps * constant, found.std, constant)


@dataclass(frozen=True)
class _Measured:
    candidate: Candidate
    steps: tuple[float, ...] | None
    widened: tuple[int, ...]
    info: CandidateInfo
    keeps: bool
    """Whether it keeps the budget."""


@dataclass(frozen=True)
class _Losses:
    """DB of PSNR that storing costs pictures."""

    said: NDArray[np.float64]
    """Of those of which that can be said (FORMAT 5.8)."""
    weighed: NDArray[np.float64]
    """What a choice rests on: those and the pictures that were decoded without any loss and no longer are."""


class _Trial:
    """The sample's PSNR for any latents in place of its own."""

    def __init__(self, vae: Vae, sample: Sample, batch_size: int) -> None:
        self.sample = sample
        self.pixels = sum(tile.pixels.shape[0] * tile.pixels.shape[1] for tile in sample.tiles)
        self._vae = vae
        self._batch_size = batch_size
        self._scorers = {"psnr": METRICS["psnr"].open()}
        self._reference = self._psnr(sample.raw)

    def lost(self, raw: NDArray[np.float32]) -> _Losses:
        """What these latents cost the pictures."""
        found = self._psnr(raw)
        apart = lost(self._reference, found)
        spoilt = np.isinf(self._reference) & np.isfinite(found)
        each = np.where(spoilt, np.maximum(ROUNDING_DB - found, 0), apart)
        return _Losses(apart[np.isfinite(apart)], each[np.isfinite(each)])

    def _psnr(self, raw: NDArray[np.float32]) -> NDArray[np.float64]:
        scores = []
        for start in range(0, len(raw), self._batch_size):
            stop = start + self._batch_size
            decoded = decoded_uint8(self._vae, raw[start:stop])
            scores.append(scores_of(self._scorers, self.sample.tiles[start:stop], decoded)["psnr"])
        return np.concatenate(scores)


def _measured(trial: _Trial, candidate: Candidate, spread: NDArray[np.float64], limit: float) -> _Measured | None:
    """How a candidate does; None where it cannot hold the latents."""
    steps: tuple[float, ...] | None = None
    widened: tuple[int, ...] = ()
    if candidate.step is not None:
        steps, widened = _steps(trial, candidate.step * spread, limit)
    storage = candidate.storage.open(steps)
    raw = trial.sample.raw
    try:
        stored = storage.encode(raw)
    except OverflowError:
        return None
    losses = trial.lost(storage.decode(stored))
    info = CandidateInfo(
        storage=candidate.storage.name,
        step_sigma=candidate.step,
        bits_per_pixel=ByteCounts.of(stored).bits / trial.pixels,
        loss_db=_mean(losses.said),
        loss_error_db=_error(losses.said),
        clipped=int(storage.clipped(raw).sum()),
    )
    at_most = _mean(losses.weighed) + STANDARD_ERRORS * _error(losses.weighed)
    return _Measured(candidate, steps, widened, info, keeps=at_most <= limit)


def _steps(trial: _Trial, steps: NDArray[np.float64], limit: float) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """The steps, made larger where clipping one channel alone costs more than its share; and those channels."""
    raw = trial.sample.raw
    share = limit / len(steps)
    largest = np.abs(raw).max(axis=(0, 2, 3)).astype(np.float64)
    widened = []
    for channel in np.flatnonzero(largest > (REACH + 0.5) * steps).tolist():
        reach = REACH * steps[channel]
        clipped = raw.copy()
        np.clip(clipped[:, channel], -reach, reach, out=clipped[:, channel])
        if _mean(trial.lost(clipped).weighed) > share:
            steps[channel] = largest[channel] / REACH
            widened.append(channel)
    return tuple(np.asarray(steps, np.float32).astype(np.float64).tolist()), tuple(widened)


def _mean(losses: NDArray[np.float64]) -> float:
    return float(losses.mean()) if len(losses) else 0.0


def _error(losses: NDArray[np.float64]) -> float:
    """Standard error of the mean."""
    return float(losses.std(ddof=1)) / math.sqrt(len(losses)) if len(losses) > 1 else 0.0
