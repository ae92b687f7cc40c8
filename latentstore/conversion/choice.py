"""What is settled before the first shard is written: storage, steps, and whether any number changes by that.

The columns of the result depend on it: where every raw latent stays the same to the last bit, its scores stay true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.calibration import CANDIDATES, REACH, Candidate, ChosenStorage, calibrate, spread_of
from latentstore.containers.interface import ShardSchema
from latentstore.conversion.measuring import MeasureOptions, Measuring, at_hand
from latentstore.conversion.origin import Origin, OriginShard
from latentstore.conversion.target import Target
from latentstore.errors import PlanMismatchError, RequestError
from latentstore.statistics import ChannelStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.conversion.progress import Report
    from latentstore.journal import BuildFolder
    from latentstore.manifest import ChannelNumbers
    from latentstore.storage.interface import Storage

CACHED_BYTES = 1 << 20
"""Numbers that are worked on at once: they stay in the processor's cache from one step to the next."""


@dataclass(frozen=True)
class Conversion:
    """What is converted into what."""

    origin: Origin
    target: Target
    chosen: ChosenStorage
    lossless: bool
    """Whether every raw latent stays the same to the last bit."""
    metrics: tuple[str, ...]
    """Of the result: kept where it is lossless, else those that are measured again."""
    measuring: Measuring | None
    """None where nothing is measured."""

    @cached_property
    def after(self) -> Storage:
        """How the new numbers are written."""
        return self.chosen.open()

    @cached_property
    def schema(self) -> ShardSchema:
        """The columns of the new shards."""
        return replace(self.origin.store.schema, dtype=self.chosen.row.dtype, metrics=self.metrics)

    @property
    def same_numbers(self) -> bool:
        """Whether the stored numbers stay what they are; ``auto`` may find that they can."""
        return _same(self.chosen, self.origin)

    @property
    def new_columns(self) -> tuple[str, ...]:
        """Columns whose values are not those of the origin's index."""
        checksums = () if self.same_numbers else ("latent_crc32",)
        return (*checksums, *(() if self.lossless else self.metrics))

    @property
    def kept_columns(self) -> tuple[str, ...]:
        """The others."""
        return tuple(name for name in self.schema.scalar_columns if name not in self.new_columns)

    def encoded(self, raw: NDArray[np.float32], shard: OriginShard) -> NDArray[Any]:
        """Raw latents (N, C, h, w) of a shard in the new storage; RequestError where it cannot hold them."""
        return _encoded(self.after, raw, shard)


@dataclass(frozen=True)
class _Settled:
    """What a later run of the same conversion must find again."""

    lossless: bool
    measured: bool
    metrics: tuple[str, ...]


def settled(origin: Origin, target: Target, options: MeasureOptions, work: BuildFolder, report: Report) -> Conversion:
    """Storage and steps, whether that is lossless, and what is measured.

    Raises RequestError where the storage cannot be chosen or a budget cannot be held against anything,
    PlanMismatchError where an earlier run of the same conversion settled it otherwise.
    """
    lossless = target.same_storage
    if not lossless and target.storage is not None and target.settled:
        lossless = _survives(origin, target.storage.open(None))
    measuring, why = (None, "") if lossless else at_hand(origin, options, auto=target.storage is None)
    chosen = _chosen(origin, target, measuring, work, report)
    if not lossless and not target.settled:
        lossless = _same(chosen, origin) or _survives(origin, chosen.open())
    if lossless or options.measure is False:
        measuring = None
    if not lossless and measuring is None:
        if target.max_psnr_drop is not None and target.storage is not None:
            raise RequestError(f"max_psnr_drop cannot be held against anything: {why or 'nothing is to be measured'}.")
        report.note = why or "nothing was to be measured"
    metrics = origin.manifest.metrics if lossless else tuple(measuring.scorers) if measuring else ()
    _remember(work, _Settled(lossless, measuring is not None, metrics))
    return Conversion(origin, target, chosen, lossless, metrics, measuring)


def _same(chosen: ChosenStorage, origin: Origin) -> bool:
    before = origin.manifest.storage
    return (chosen.name, chosen.steps) == (before.name, before.steps)


def _remember(work: BuildFolder, found: _Settled) -> None:
    known = work.recall("conversion", _Settled)
    if known not in (None, found):
        raise PlanMismatchError(
            f"The conversion in {work.folder} was begun {_in_words(known)}, and would go on {_in_words(found)}: "
            "remove that folder, or choose another --out or --name."
        )
    work.remember("conversion", found)


def _in_words(found: _Settled | None) -> str:
    return f"measuring {', '.join(found.metrics) or 'the loss'}" if found and found.measured else "not measuring"


def _survives(origin: Origin, after: Storage) -> bool:
    """Whether every raw latent is the same, to the last bit, when it was stored and read back.

    True for float32 without looking: raw latents are float32. Else it looks until the first one that is not.
    """
    if after.dtype == np.float32:
        return True
    for shard in origin.shards:
        for _, stored in origin.blocks(shard, origin.store.schema.row_values * 4, CACHED_BYTES):
            raw = origin.storage.decode(stored)
            if not np.array_equal(after.decode(_encoded(after, raw, shard)).view(np.uint32), raw.view(np.uint32)):
                return False
    return True


def _encoded(after: Storage, raw: NDArray[np.float32], shard: OriginShard) -> NDArray[Any]:
    try:
        return after.encode(raw)
    except OverflowError as error:
        name = shard.info.path
        message = f"Storage {after.dtype.name!r} cannot hold the latents of {name}: {error}; choose int8 or float32."
        raise RequestError(message) from error


def _chosen(
    origin: Origin, target: Target, measuring: Measuring | None, work: BuildFolder, report: Report
) -> ChosenStorage:
    """The storage and its steps: kept, a multiple of each channel's spread, or calibrated."""
    if target.same_storage:
        before = origin.manifest.storage
        return ChosenStorage(before.name, before.step_sigma, before.steps, before.calibration)
    if target.storage is not None and target.settled:
        return ChosenStorage(target.storage.name)
    known = work.recall("storage", ChosenStorage)
    if known is not None:
        return known
    overall = _overall(origin.manifest.statistics)
    by_spread = _by_spread(target, overall)
    if by_spread is not None and (measuring is None or _reaches(by_spread, overall)):
        return by_spread
    if measuring is None:  # cannot be: auto insists on it
        raise RequestError("The storage cannot be chosen without the source pictures.")
    report.stage("calibrate")
    chosen = _calibrated(origin, target, measuring, spread_of(overall))
    work.remember("storage", chosen)
    return chosen


def _by_spread(target: Target, overall: ChannelStatistics) -> ChosenStorage | None:
    """Steps that are the same multiple of each channel's spread; None where the storage is to be chosen.

    Where most numbers of a channel would be clipped, as of one that is nearly constant but not near zero, its step is
    what its largest number needs.
    """
    if target.storage is None or target.step is None:
        return None
    asked = target.step * spread_of(overall)
    largest = np.maximum(np.abs(overall.minimum), np.abs(overall.maximum))
    beyond = np.abs(overall.mean) + overall.std > (REACH + 0.5) * asked
    steps = np.asarray(np.where(beyond, np.maximum(asked, largest / REACH), asked), np.float32)
    return ChosenStorage(target.storage.name, target.step, tuple(steps.astype(np.float64).tolist()))


def _reaches(chosen: ChosenStorage, overall: ChannelStatistics) -> bool:
    """Whether no number is clipped, so that no channel needs a larger step."""
    reached = np.maximum(np.abs(overall.minimum), np.abs(overall.maximum))
    return bool((reached <= (REACH + 0.5) * np.asarray(chosen.steps, np.float32)).all())


def _calibrated(origin: Origin, target: Target, measuring: Measuring, spread: NDArray[np.float64]) -> ChosenStorage:
    """The smallest storage that keeps the budget on a sample, or the named one with steps widened where that pays."""
    before, build, budget = origin.manifest.storage, origin.manifest.build, target.max_psnr_drop
    named: Sequence[Candidate] = () if target.storage is None else (Candidate(target.storage, target.step),)
    chosen = calibrate(
        measuring.vae,
        measuring.sample(target.calibration),
        named or CANDIDATES,
        budget=None if budget is None else max(0.0, budget - (before.measured_loss_db or 0.0)),
        batch_size=build.batch_size,
        seed=build.seed,
        spread=spread,
    )
    kept = (chosen.name, target.container.name, target.layout) == (before.name, before.container, before.layout)
    if target.storage is None and kept:
        raise RequestError(
            f"Nothing smaller than {before.name} keeps {budget:g} dB: raise --max-psnr-drop, or leave "
            f"{origin.store.folder} as it is."
        )
    return chosen


def _overall(statistics: Mapping[str, ChannelNumbers]) -> ChannelStatistics:
    """Of all splits together."""
    overall = ChannelStatistics.empty(len(next(iter(statistics.values())).mean))
    for numbers in statistics.values():
        mean, std = np.array(numbers.mean), np.array(numbers.std)
        extremes = np.array(numbers.minimum), np.array(numbers.maximum)
        overall = overall.merge(ChannelStatistics(numbers.count, mean, std**2 * numbers.count, *extremes))
    return overall
