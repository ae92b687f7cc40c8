"""convert(): a sealed dataset in another container, storage or layout, without encoding a picture again.

Every shard becomes one shard, of the same rows. All columns come from the index, which the manifest knows by its
sha256; the stored numbers are held against the sha256 of their shard and the CRC-32 of their row before anything is
made of them, so that damage never gets a fresh checksum. Where a number changes, scores are measured again on the
prepared pictures, or left out.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latentstore.build import BuildProgress
from latentstore.calibration import CANDIDATES as STORAGES_TO_TRY
from latentstore.calibration import REACH, Candidate, ChosenStorage, Sample, calibrate, lost, spread_of
from latentstore.card import refuse_foreign_card, write_card
from latentstore.containers.interface import ContainerRow, RowBlock, ShardSchema
from latentstore.entropy import ByteCounts
from latentstore.errors import (
    DamagedShardError,
    LatentStoreError,
    NotSealedError,
    PlanMismatchError,
    RequestError,
    SourceError,
    VaeError,
    WrongVaeError,
)
from latentstore.hashing import sha256_of
from latentstore.journal import JOURNAL, BuildFolder, FinishedShard, claim, tidy
from latentstore.manifest import FILE_NAME, ConversionInfo, Manifest, ShardInfo, SplitInfo, StorageInfo
from latentstore.metrics.table import METRICS
from latentstore.pictures import decoded_uint8, scores_of
from latentstore.plan import CONFIG_NAME, LARGEST_STEP, MAX_PSNR_DROP, PlannedShard
from latentstore.preview import FILE_NAME as PREVIEW
from latentstore.preview import write_preview
from latentstore.records import SkippedTile, Tile
from latentstore.remeasure import Originals, Unavailable, originals_of, scorers_at_hand
from latentstore.seal import INDEX, Sealing, channel_numbers, index_info, size_ledger, summaries
from latentstore.shards import crc32_of, write_shard
from latentstore.statistics import ChannelStatistics
from latentstore.storage.interface import Storage, StorageRow
from latentstore.storage.table import STORAGES
from latentstore.store import LatentStore, open_store
from latentstore.value_counts import WIDEST, WORTH_IT, ValueCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.containers.interface import ShardReader
    from latentstore.manifest import ChannelNumbers
    from latentstore.metrics.interface import Scorer
    from latentstore.quality import MetricSummary
    from latentstore.sources.interface import SourceRow
    from latentstore.vaes.interface import Vae, VaeRow

AUTO: Literal["auto"] = "auto"
DEFAULT_STEP = 1 / 16
BLOCK_BYTES = 16 << 20
"""Numbers that are handed to the container at once: a row group, so that it need not put blocks together."""
CACHED_BYTES = 1 << 20
"""Numbers that are worked on at once: they stay in the processor's cache from one step to the next."""


@dataclass(frozen=True)
class ConvertProgress(BuildProgress):
    """How far a conversion is; ``stage`` is ``calibrate``, ``convert``, ``seal`` or ``done``."""

    note: str = ""
    """Why the quality is not measured again, and how it can be; empty where there is nothing to say."""


def convert(
    store: LatentStore | str | Path,
    out: str | Path,
    *,
    config: str | None = None,
    container: ContainerRow | None = None,
    storage: StorageRow | Literal["auto"] | None = None,
    layout: str | None = None,
    new_config: str = "",
    step: float | None = None,
    max_psnr_drop: float | None = None,
    calibration: int = 32,
    strict: bool = False,
    measure: bool | None = None,
    source: SourceRow | None = None,
    vae: VaeRow | None = None,
    metric_weights: Path | None = None,
    device: str = "cpu",
    progress: Callable[[ConvertProgress], None] | None = None,
) -> Manifest:
    """Write a sealed dataset (``config`` where its repository holds several) again and return the new manifest.

    It goes into ``<out>/<new_config>/``, by default under its own name. What is not named of ``container``, ``storage``
    and ``layout`` stays as it is. Storage ``"auto"`` is the smallest that keeps ``max_psnr_drop`` dB on ``calibration``
    pictures, which must be at hand. ``step`` is that of a quantised storage, as a multiple of each channel's standard
    deviation over all rows; 1/16 where it is not named.

    Where every raw latent stays the same to the last bit, so do scores and summaries. Else they are measured again on
    the source's own pictures, found as the manifest says or in ``source``, with the recorded VAE (or ``vae``) on
    ``device``; metrics whose networks are not in ``metric_weights`` are left out. ``measure``: True insists on that,
    False leaves all scores out, None measures where pictures and VAE are at hand. With ``strict`` a dataset that lost
    more than ``max_psnr_drop`` is not sealed.

    Running it again continues where it stopped, and does nothing once the result is sealed. Raises RequestError,
    SourceError, StoreError or VaeError with one clear sentence; nothing of a damaged dataset is sealed.
    """
    opened = store if isinstance(store, LatentStore) else open_store(store, config)
    asked = _Asked.of(opened, container, storage, layout, new_config, step, max_psnr_drop, calibration)
    folder = Path(out) / asked.config
    finished_before = _finished_before(opened, asked, folder, measure)
    if finished_before is not None:
        _refuse_loss(finished_before.storage, strict)
        tidy(folder)
        write_card(Path(out))  # a conversion that was stopped between manifest and card left none
        return finished_before
    refuse_foreign_card(Path(out))
    index = _sound_index(opened)
    with claim(folder, asked.fingerprint) as work:
        report = _Report(progress, opened.manifest.rows)
        wanted = _Wanted(opened, asked, measure, source, vae, metric_weights, device)
        try:
            job = _decided(wanted, index, work, report)
        except LatentStoreError:
            _unclaim(folder)
            raise
        finished = [_finished(job, work, shard, report) for shard in job.shards]
        report.stage("seal")
        manifest = _sealed(job, work, finished, strict=strict)
        report.stage("done")
        return manifest


def _unclaim(folder: Path) -> None:
    """Leave nothing behind of a conversion that was refused before its first shard: another may be asked for next."""
    if [entry.name for entry in folder.iterdir()] == [JOURNAL]:
        shutil.rmtree(folder)


# What is asked for ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """What the result is to be, in full."""

    config: str
    container: ContainerRow
    layout: str
    storage: StorageRow | None
    """None: to be chosen."""
    step: float | None
    """None where the storage is not quantised, is to be chosen, or keeps its steps."""
    max_psnr_drop: float | None
    calibration: int
    changes_numbers: bool
    """Whether the stored numbers become others."""
    manifest_sha256: str
    """Of the manifest it is made from."""

    @classmethod
    def of(
        cls,
        store: LatentStore,
        container: ContainerRow | None,
        storage: StorageRow | Literal["auto"] | None,
        layout: str | None,
        config: str,
        step: float | None,
        max_psnr_drop: float | None,
        calibration: int,
    ) -> _Asked:
        """RequestError where it cannot be done or changes nothing."""
        before = store.manifest.storage
        row = storage if isinstance(storage, StorageRow) else None if storage == AUTO else STORAGES[before.name]
        box = container or store.container
        quantised = row is not None and row.quantised
        _refuse_numbers(step, max_psnr_drop, calibration)
        if row is None and STORAGES[before.name].quantised:
            raise RequestError(
                f"{store.folder} is stored in {before.name} already, and the unrounded latents are gone: choose larger "
                "steps (--step) or name a storage instead of auto."
            )
        if step is not None and not quantised:
            name = AUTO if row is None else row.name
            raise RequestError(f"A step goes with a quantised storage such as int8, found {name}.")
        same = row is not None and row.name == before.name and step in (None, before.step_sigma)
        if max_psnr_drop is not None and same:
            raise RequestError("max_psnr_drop goes with a storage that rounds: name one, or leave it out.")
        found = cls(
            config=config or store.manifest.config,
            container=box,
            layout=_layout(box, layout, before.layout),
            storage=row,
            step=(step or DEFAULT_STEP) if quantised and not same else None,
            max_psnr_drop=MAX_PSNR_DROP if row is None and max_psnr_drop is None else max_psnr_drop,
            calibration=calibration,
            changes_numbers=not same,
            manifest_sha256=sha256_of(store.folder / FILE_NAME),
        )
        if not CONFIG_NAME.fullmatch(found.config) or found.config == "data":
            raise RequestError(
                f"Config name {found.config!r} cannot be used on the Hub: expected letters, digits, '-', '_' and '.', "
                "and not 'data'; choose one with --name."
            )
        if same and (found.container.name, found.layout) == (before.container, before.layout):
            raise RequestError(
                f"{store.folder} already is {before.name} in {before.container}, layout {before.layout}: name another "
                "storage, container or layout."
            )
        return found

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree for two conversions to be the same, as plain JSON."""
        return {
            "converted_from": self.manifest_sha256,
            "config": self.config,
            "container": self.container.name,
            "layout": self.layout,
            "storage": AUTO if self.storage is None else self.storage.name,
            "step": self.step,
            "max_psnr_drop": self.max_psnr_drop,
            "calibration": self.calibration if self.storage is None or self.step is not None else None,
        }


def _refuse_numbers(step: float | None, max_psnr_drop: float | None, calibration: int) -> None:
    if step is not None and not 0 < step <= LARGEST_STEP:
        raise RequestError(f"Expected a step above 0 and up to {LARGEST_STEP:g} standard deviations, found {step:g}.")
    if max_psnr_drop is not None and not 0 <= max_psnr_drop < math.inf:
        raise RequestError(f"Expected a max_psnr_drop of 0 dB or more, found {max_psnr_drop:g}.")
    if calibration < 1:
        raise RequestError(f"Expected calibration of 1 or more, found {calibration}.")


def _layout(container: ContainerRow, asked: str | None, before: str) -> str:
    """The layout that was asked for; else the present one, where the container has it, or the container's first."""
    if not asked:
        return before if before in container.layouts else container.layouts[0]
    if asked not in container.layouts:
        raise RequestError(
            f"Container {container.name!r} has no layout {asked!r}; choose from {', '.join(container.layouts)}."
        )
    return asked


def _finished_before(store: LatentStore, asked: _Asked, folder: Path, measure: bool | None) -> Manifest | None:
    """The manifest, if the folder already holds this very conversion; RequestError for anything else that is sealed."""
    if folder.resolve() == store.folder.resolve():
        raise RequestError(f"{folder} would be written over itself: choose another --out, or another name with --name.")
    try:
        found = Manifest.read(folder)
    except NotSealedError:
        return None
    last = found.storage.converted[-1] if found.storage.converted else None
    if last is None or last.manifest_sha256 != asked.manifest_sha256 or not _as_asked(found.storage, asked):
        message = f"{folder} already holds another dataset: choose another --out or --name, or remove that folder."
        raise PlanMismatchError(message)
    if measure is not None and not last.lossless and last.measured != measure:
        state = "measured again" if last.measured else "not measured again"
        raise PlanMismatchError(
            f"{folder} already holds this conversion, {state}: choose another --out or --name, or remove that folder."
        )
    return found


def _as_asked(found: StorageInfo, asked: _Asked) -> bool:
    if (found.container, found.layout) != (asked.container.name, asked.layout):
        return False
    if asked.storage is None:
        return found.budget_db == asked.max_psnr_drop and found.calibration is not None
    step = found.step_sigma if asked.step is not None else None
    return (found.name, step) == (asked.storage.name, asked.step)


def _sound_index(store: LatentStore) -> dict[str, list[Any]]:
    """Every column of every row but the latents; DamagedShardError unless its rows are those of the shards."""
    index = store.index()
    shards = [shard for split in store.manifest.splits.values() for shard in split.shards]
    if index["shard"] != [shard.path for shard in shards for _ in range(shard.rows)]:
        path = store.folder / store.manifest.index.path
        raise DamagedShardError(f"Index {path} does not list the rows of the manifest's shards.")
    return index


# What is decided before anything is written --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    """What is converted into what, and where pictures and VAE may be found."""

    store: LatentStore
    asked: _Asked
    measure: bool | None
    source: SourceRow | None
    vae: VaeRow | None
    metric_weights: Path | None
    device: str


@dataclass(frozen=True)
class _Pictures:
    """What measuring takes."""

    vae: Vae
    originals: Originals
    scorers: Mapping[str, Scorer]


@dataclass(frozen=True)
class _Decided:
    """What a later run of the same conversion must find again."""

    lossless: bool
    measured: bool
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class _Shard:
    """One shard: what it was, what it becomes, and the first of its rows in the split and in the index."""

    split: str
    before: ShardInfo
    planned: PlannedShard
    first: int


@dataclass(frozen=True)
class _Job:
    """Everything the conversion works with."""

    wanted: _Wanted
    index: Mapping[str, Sequence[Any]]
    shards: Sequence[_Shard]
    decided: _Decided
    chosen: ChosenStorage
    before: Storage
    after: Storage
    pictures: _Pictures | None
    columns: dict[str, list[Any]] = field(default_factory=dict)
    """The index of the result, as far as it is known."""

    @property
    def store(self) -> LatentStore:
        """What is converted."""
        return self.wanted.store

    @property
    def asked(self) -> _Asked:
        """Into what."""
        return self.wanted.asked

    @property
    def changes_numbers(self) -> bool:
        """Whether the stored numbers become others; `auto` may find that they need not."""
        found = self.store.manifest.storage
        return (self.chosen.name, self.chosen.steps) != (found.name, found.steps)

    @cached_property
    def schema(self) -> ShardSchema:
        """The columns of the new shards."""
        return replace(self.store.schema, dtype=self.chosen.row.dtype, metrics=self.decided.metrics)


def _decided(wanted: _Wanted, index: Mapping[str, Sequence[Any]], work: BuildFolder, report: _Report) -> _Job:
    """Storage, steps, and whether numbers change: known before the first shard, because its columns depend on it."""
    store, asked, found = wanted.store, wanted.asked, wanted.store.manifest.storage
    shards = _shards(store, asked)
    exact = not asked.changes_numbers
    if not exact and asked.storage is not None and asked.step is None:
        exact = _survives(store, shards, index, asked.storage.open(None))
    pictures, why = (None, "") if exact else _at_hand(wanted)
    chosen = _chosen(wanted, index, pictures, work, report)
    if not exact and (asked.storage is None or asked.step is not None):
        same = (chosen.name, chosen.steps) == (found.name, found.steps)
        exact = same or _survives(store, shards, index, chosen.open())
    measured = not exact and pictures is not None and wanted.measure is not False
    if not exact and not measured and asked.max_psnr_drop is not None and asked.storage is not None:
        raise RequestError(f"max_psnr_drop cannot be held against anything: {why or 'nothing is to be measured'}.")
    metrics = store.manifest.metrics if exact else tuple(pictures.scorers) if measured and pictures else ()
    decided = _Decided(exact, measured, metrics)
    known = work.recall("conversion", _Decided)
    if known not in (None, decided):
        raise PlanMismatchError(
            f"The conversion in {work.folder} was begun {_in_words(known)}, and would go on {_in_words(decided)}: "
            "remove that folder, or choose another --out or --name."
        )
    work.remember("conversion", decided)
    if not exact and not measured:
        report.note = why or "nothing was to be measured"
    pictures = pictures if measured else None
    return _Job(wanted, index, shards, decided, chosen, store.storage(), chosen.open(), pictures)


def _in_words(decided: _Decided | None) -> str:
    return f"measuring {', '.join(decided.metrics) or 'the loss'}" if decided and decided.measured else "not measuring"


def _shards(store: LatentStore, asked: _Asked) -> list[_Shard]:
    """Every shard, in order."""
    found, first = [], 0
    for split, info in store.manifest.splits.items():
        start = 0
        for number, shard in enumerate(info.shards):
            name = asked.container.shard_name(split, number, len(info.shards))
            found.append(_Shard(split, shard, PlannedShard(split, number, name, start, start + shard.rows), first))
            start, first = start + shard.rows, first + shard.rows
    return found


def _survives(store: LatentStore, shards: Sequence[_Shard], index: Mapping[str, Sequence[Any]], after: Storage) -> bool:
    """Whether every raw latent is the same, to the last bit, when it was stored and read back.

    True for float32 without looking: raw latents are float32. Else it looks until the first one that is not.
    """
    if after.dtype == np.float32:
        return True
    before = store.storage()
    for shard in shards:
        reader = store.shard(shard.before)
        for rows in _slices(shard.before.rows, _rows_in(CACHED_BYTES, store.schema.row_values * 4)):
            raw = before.decode(_sound_rows(store, shard, reader, rows, index))
            if not np.array_equal(after.decode(_encoded(after, raw, shard)).view(np.uint32), raw.view(np.uint32)):
                return False
    return True


def _at_hand(wanted: _Wanted) -> tuple[_Pictures | None, str]:
    """Source pictures, VAE and metrics, or why they are not there; RequestError where they must be."""
    store, auto = wanted.store, wanted.asked.storage is None
    if wanted.measure is False and not auto:
        return None, ""
    try:
        try:
            model = store.load_vae(wanted.vae, device=wanted.device)
        except WrongVaeError:
            raise
        except VaeError as error:
            raise Unavailable(f"the VAE is not at hand ({error}); say where with --vae-location") from error
        originals = originals_of(store, wanted.source)
    except Unavailable as reason:
        if auto or wanted.measure:
            what = "--storage auto is chosen" if auto else "quality is measured"
            raise RequestError(f"{what} on the source pictures with the VAE, and {reason}.") from reason
        return None, str(reason)
    scorers, _ = scorers_at_hand(_metrics_of(store.manifest), wanted.metric_weights)
    return _Pictures(model, originals, scorers), ""


def _metrics_of(manifest: Manifest) -> tuple[str, ...]:
    """The metrics it has, or had before an earlier conversion dropped them."""
    earlier = [tuple(step.quality_before) for step in reversed(manifest.storage.converted) if step.quality_before]
    return manifest.metrics or next(iter(earlier), ())


def _chosen(
    wanted: _Wanted,
    index: Mapping[str, Sequence[Any]],
    pictures: _Pictures | None,
    work: BuildFolder,
    report: _Report,
) -> ChosenStorage:
    """The storage and its steps: kept, a multiple of each channel's spread, or calibrated."""
    store, asked = wanted.store, wanted.asked
    found = store.manifest.storage
    if not asked.changes_numbers:
        return ChosenStorage(found.name, found.step_sigma, found.steps, found.calibration)
    if asked.storage is not None and asked.step is None:
        return ChosenStorage(asked.storage.name)
    known = work.recall("storage", ChosenStorage)
    if known is not None:
        return known
    overall = _overall(store.manifest.statistics)
    spread = spread_of(overall)
    candidates: Sequence[Candidate] = STORAGES_TO_TRY
    if asked.storage is not None and asked.step is not None:
        candidates = (Candidate(asked.storage, asked.step),)
        steps = np.asarray(asked.step * spread, np.float32)
        reached = np.maximum(np.abs(overall.minimum), np.abs(overall.maximum))
        if pictures is None or (reached <= (REACH + 0.5) * steps).all():
            return ChosenStorage(asked.storage.name, asked.step, tuple(steps.astype(np.float64).tolist()))
    if pictures is None:  # cannot be: auto insists on them
        raise RequestError("The storage cannot be chosen without the source pictures.")
    report.stage("calibrate")
    build, budget = store.manifest.build, asked.max_psnr_drop
    chosen = calibrate(
        pictures.vae,
        _sample(wanted, index, pictures),
        candidates,
        budget=None if budget is None else max(0.0, budget - (found.measured_loss_db or 0.0)),
        batch_size=build.batch_size,
        seed=build.seed,
        spread=spread,
    )
    kept = (chosen.name, asked.container.name, asked.layout) == (found.name, found.container, found.layout)
    if asked.storage is None and kept:
        raise RequestError(
            f"Nothing smaller than {found.name} keeps {asked.max_psnr_drop:g} dB: raise --max-psnr-drop, or leave "
            f"{store.folder} as it is."
        )
    work.remember("storage", chosen)
    return chosen


def _overall(statistics: Mapping[str, ChannelNumbers]) -> ChannelStatistics:
    """Of all splits together."""
    parts = [
        ChannelStatistics(
            numbers.count,
            np.array(numbers.mean),
            np.array(numbers.std) ** 2 * numbers.count,
            np.array(numbers.minimum),
            np.array(numbers.maximum),
        )
        for numbers in statistics.values()
    ]
    overall = parts[0]
    for part in parts[1:]:
        overall = overall.merge(part)
    return overall


def _sample(wanted: _Wanted, index: Mapping[str, Sequence[Any]], pictures: _Pictures) -> Sample:
    """A seeded draw from the rows of all splits, with their raw latents as they are stored now."""
    store = wanted.store
    total = len(index["id"])
    drawn = np.random.default_rng([store.manifest.build.seed, total]).permutation(total)[: wanted.asked.calibration]
    rows = np.sort(drawn)
    tiles, latents = [], []
    for shard in _shards(store, wanted.asked):
        here = rows[(rows >= shard.first) & (rows < shard.first + shard.before.rows)]
        if len(here):
            latents.append(_sound_rows(store, shard, store.shard(shard.before), here - shard.first, index))
        for row in here.tolist():
            tile = pictures.originals.tile(index, row)
            if isinstance(tile, str):
                raise SourceError(f"{index['id'][row]!r}: {tile}, so the storage cannot be calibrated on it.")
            tiles.append(tile)
    return Sample(tuple(tiles), store.storage().decode(np.concatenate(latents)))


# One shard -----------------------------------------------------------------------------------------------------------


class _Tally:
    """What is counted while a shard flows by; of its numbers only once all of them were seen."""

    def __init__(self, storage: Storage, channels: int, numbers: int) -> None:
        self._storage = storage
        width = storage.dtype.itemsize
        by_value = width == 1 or (width <= WIDEST and numbers >= WORTH_IT)
        self._values = ValueCounts.empty(channels, storage.dtype) if by_value else None
        self._bytes = ByteCounts.empty(channels, width)
        self._statistics = ChannelStatistics.empty(channels)
        self.clipped = np.zeros(channels, np.int64)
        self.lost: list[float] = []

    def add(self, stored: NDArray[Any]) -> None:
        """Stored numbers (N, C, h, w)."""
        if self._values is not None:
            self._values.add(stored)
            return
        self._bytes = self._bytes.merge(ByteCounts.of(stored))
        size = max(1, stored[:1].nbytes)
        for rows in _slices(len(stored), _rows_in(CACHED_BYTES, size)):
            raw = self._storage.decode(stored[rows.start : rows.stop])
            self._statistics = self._statistics.merge(ChannelStatistics.of(raw))

    @property
    def entropy_bits(self) -> float:
        """Of the numbers."""
        return (self._bytes if self._values is None else self._values.bytes).bits

    @property
    def statistics(self) -> ChannelStatistics:
        """Of the raw latents."""
        return self._statistics if self._values is None else self._values.statistics(self._storage)


def _finished(job: _Job, work: BuildFolder, shard: _Shard, report: _Report) -> FinishedShard:
    """The shard as an earlier run left it, or converted now."""
    earlier = work.finished(shard.planned)
    if earlier is not None:
        found = job.asked.container.open(work.folder / earlier.shard.path, job.schema)
        _remember_columns(job, shard, found.columns(job.schema.scalar_columns))
        report.resume(shard.before.rows)
        return earlier
    channels, *cells = job.schema.latent_shape
    tally = _Tally(job.after, channels, shard.before.rows * math.prod(cells))
    path = job.store.folder / shard.before.path
    reader = job.store.shard(shard.before)
    if sha256_of(path) != shard.before.sha256:
        raise DamagedShardError(
            f"Shard {path} is not the one that the manifest describes (another sha256): nothing was sealed; get the "
            "dataset again, or see `latentstore verify`."
        )
    with np.errstate(invalid="ignore"):  # numbers that are not finite are refused below, by the name of the shard
        blocks = _remembered(job, shard, _converted(job, shard, reader, tally, report))
        info = _written(job, work, shard, blocks)
        statistics = tally.statistics
    if not np.isfinite(statistics.m2).all():
        (work.folder / info.path).unlink()
        raise DamagedShardError(f"Shard {path} holds a number that is not finite: nothing was sealed.")
    entry = FinishedShard(
        shard=info,
        statistics=statistics.to_dict(),
        skipped=(),
        entropy_bits=tally.entropy_bits,
        clipped=tuple(tally.clipped.tolist()),
        lost_db=math.fsum(tally.lost),
        lost_pictures=len(tally.lost),
    )
    work.finish(shard.planned, entry)
    return entry


def _written(job: _Job, work: BuildFolder, shard: _Shard, blocks: Iterator[RowBlock]) -> ShardInfo:
    try:
        return write_shard(work.folder, shard.planned.name, job.asked.container, job.schema, job.asked.layout, blocks)
    except OSError as error:
        path = work.folder / shard.planned.name
        raise RequestError(f"Cannot write {path}: {error.strerror or error}; make room, then type it again.") from error


def _converted(job: _Job, shard: _Shard, reader: ShardReader, tally: _Tally, report: _Report) -> Iterator[RowBlock]:
    """The new rows, block by block, counted as they pass."""
    scored = _scored(job, shard)
    names = [name for name in job.schema.scalar_columns if name not in job.schema.metrics]
    names += [name for name in job.schema.metrics if job.decided.lossless]
    row_bytes = job.schema.row_values * job.after.dtype.itemsize
    for rows in _slices(shard.before.rows, _rows_in(BLOCK_BYTES, row_bytes)):
        places = slice(shard.first + rows.start, shard.first + rows.stop)
        stored = _sound_rows(job.store, shard, reader, rows, job.index)
        columns = {name: job.index[name][places] for name in names}
        new = stored
        if job.changes_numbers:
            new = _requantised(job, shard, stored, tally)
            columns["latent_crc32"] = crc32_of(new)
        tally.add(new)
        if scored is not None:
            columns |= _scores(job, scored, stored, new, places, tally)
        report.advance(len(new), columns.get("psnr") if scored is not None else None)
        yield RowBlock(new, columns)


def _sound_rows(
    store: LatentStore,
    shard: _Shard,
    reader: ShardReader,
    rows: Sequence[int] | NDArray[np.int64],
    index: Mapping[str, Sequence[Any]],
) -> NDArray[Any]:
    """Stored numbers of these rows of a shard; DamagedShardError unless they have the CRC-32 that the index records."""
    stored = reader.latents(np.asarray(rows, np.int64))
    for row, found in zip(rows, crc32_of(stored), strict=True):
        if found != index["latent_crc32"][shard.first + row]:
            raise DamagedShardError(
                f"Shard {store.folder / shard.before.path} was changed: the CRC-32 of row {row} "
                f"({index['id'][shard.first + row]!r}) is not the recorded one; nothing was sealed, see `latentstore "
                "verify`."
            )
    return stored


def _requantised(job: _Job, shard: _Shard, stored: NDArray[Any], tally: _Tally) -> NDArray[Any]:
    """The same raw latents in the new storage."""
    new = np.empty(stored.shape, job.after.dtype)
    for rows in _slices(len(stored), _rows_in(CACHED_BYTES, job.schema.row_values * 4)):
        raw = job.before.decode(stored[rows.start : rows.stop])
        if not np.isfinite(raw).all():
            path = job.store.folder / shard.before.path
            raise DamagedShardError(f"Shard {path} holds a number that is not finite: nothing was sealed.")
        new[rows.start : rows.stop] = _encoded(job.after, raw, shard)
        tally.clipped += job.after.clipped(raw)
    return new


def _encoded(after: Storage, raw: NDArray[np.float32], shard: _Shard) -> NDArray[Any]:
    try:
        return after.encode(raw)
    except OverflowError as error:
        name = shard.before.path
        message = f"Storage {after.dtype.name!r} cannot hold the latents of {name}: {error}; choose int8 or float32."
        raise RequestError(message) from error


def _scored(job: _Job, shard: _Shard) -> Iterator[Tile | SkippedTile] | None:
    """The prepared pictures of a shard's rows, in order; None where nothing is measured."""
    if job.pictures is None:
        return None
    originals = job.pictures.originals
    positions = originals.positions[shard.split][shard.planned.start : shard.planned.stop]
    return originals.reader.tiles(shard.split, positions)


def _scores(
    job: _Job,
    pictures: Iterator[Tile | SkippedTile],
    stored: NDArray[Any],
    new: NDArray[Any],
    places: slice,
    tally: _Tally,
) -> dict[str, list[float | None]]:
    """MEASURE: the decode of the new numbers against the prepared pictures, and what that lost against the old ones."""
    found: dict[str, list[float | None]] = {name: [] for name in job.decided.metrics}
    if job.pictures is None:
        return found
    vae, scorers = job.pictures.vae, dict(job.pictures.scorers)
    psnr = {"psnr": METRICS["psnr"].open()}
    for rows in _slices(len(new), job.store.manifest.build.batch_size):
        batch = slice(rows.start, rows.stop)
        at = slice(places.start + rows.start, places.start + rows.stop)
        tiles = [_same(next(pictures), job.index, row) for row in range(at.start, at.stop)]
        scores = scores_of({**psnr, **scorers}, tiles, decoded_uint8(vae, job.after.decode(new[batch])))
        if "psnr" in job.index:  # what the old numbers scored is known
            reference = np.array([np.nan if old is None else old for old in job.index["psnr"][at]], np.float64)
        else:
            reference = scores_of(psnr, tiles, decoded_uint8(vae, job.before.decode(stored[batch])))["psnr"]
        apart = lost(reference, scores["psnr"])
        tally.lost += apart[np.isfinite(apart)].tolist()
        for name, column in found.items():
            column += [None if np.isnan(score) else float(np.float32(score)) for score in scores[name]]
    return found


def _same(tile: Tile | SkippedTile, index: Mapping[str, Sequence[Any]], row: int) -> Tile:
    """The picture, if it is the one that was encoded."""
    if isinstance(tile, SkippedTile):
        raise SourceError(
            f"{index['source_path'][row]!r} cannot be read any more ({tile.reason}): bring it back, or convert without "
            "measuring (--no-measure)."
        )
    if tile.source_sha256 != index["source_sha256"][row]:
        raise SourceError(
            f"{index['source_path'][row]!r} is not the picture that was encoded (another sha256): bring it back, or "
            "convert without measuring (--no-measure)."
        )
    return tile


def _remembered(job: _Job, shard: _Shard, blocks: Iterator[RowBlock]) -> Iterator[RowBlock]:
    """The same blocks; their columns become part of the new index."""
    found: dict[str, list[Any]] = {name: [] for name in job.schema.scalar_columns}
    for block in blocks:
        for name, values in found.items():
            values.extend(block.columns[name])
        yield block
    _remember_columns(job, shard, found)


def _remember_columns(job: _Job, shard: _Shard, found: Mapping[str, Sequence[Any]]) -> None:
    rows = shard.before.rows
    whole = {**found, "split": [shard.split] * rows, "shard": [shard.planned.name] * rows, "row": list(range(rows))}
    for name, values in whole.items():
        job.columns.setdefault(name, []).extend(values)


def _slices(rows: int, size: int) -> Iterator[range]:
    return (range(start, min(rows, start + size)) for start in range(0, rows, size))


def _rows_in(size: int, row_bytes: int) -> int:
    return max(1, size // max(1, row_bytes))


# SEAL ----------------------------------------------------------------------------------------------------------------


def _sealed(job: _Job, work: BuildFolder, finished: Sequence[FinishedShard], *, strict: bool) -> Manifest:
    """Index and preview beside the shards, then the manifest, then the card of the whole repository."""
    before = job.store.manifest
    storage = _storage(job, finished)
    _refuse_loss(storage, strict)
    job.asked.container.write_index(work.folder / INDEX, job.schema, job.columns)
    splits = _splits(job, finished)
    stored = sum(entry.shard.bytes for entry in finished)
    entropy = math.ceil(math.fsum(entry.entropy_bits for entry in finished) / 8)
    manifest = replace(
        before,
        config=job.asked.config,
        storage=storage,
        statistics=_statistics(job, finished),
        splits=splits,
        index=index_info(work.folder, before.rows),
        metrics=job.decided.metrics,
        quality=_quality(job),
        size=size_ledger(job.schema, job.columns, stored, entropy),
    )
    _preview(job, work.folder, manifest)
    work.seal(manifest)
    write_card(work.folder.parent)
    return manifest


def _storage(job: _Job, finished: Sequence[FinishedShard]) -> StorageInfo:
    before = job.store.manifest.storage
    step = ConversionInfo(
        storage=before.name,
        container=before.container,
        layout=before.layout,
        lossless=job.decided.lossless,
        measured=job.decided.measured or (job.decided.lossless and bool(job.decided.metrics)),
        quality_before={name: summary.mean for name, summary in job.store.manifest.quality.items()},
        manifest_sha256=job.asked.manifest_sha256,
    )
    placed = replace(
        before, container=job.asked.container.name, layout=job.asked.layout, converted=(*before.converted, step)
    )
    if not job.changes_numbers:
        auto = job.asked.storage is None
        return (
            replace(placed, budget_db=job.asked.max_psnr_drop, calibration=job.chosen.calibration) if auto else placed
        )
    return replace(
        placed,
        name=job.chosen.name,
        dtype=job.schema.dtype,
        steps=job.chosen.steps,
        step_sigma=job.chosen.step,
        budget_db=before.budget_db if job.decided.lossless else job.asked.max_psnr_drop,
        measured_loss_db=_lost(job, finished),
        clipped=_clipped(finished) if job.chosen.row.quantised else None,
        calibration=job.chosen.calibration,
    )


def _clipped(finished: Sequence[FinishedShard]) -> tuple[int, ...]:
    return tuple(np.sum([entry.clipped for entry in finished], axis=0).tolist())


def _lost(job: _Job, finished: Sequence[FinishedShard]) -> float | None:
    """Mean PSNR lost against the numbers before, on top of what those had lost as far as that is known."""
    earlier = job.store.manifest.storage.measured_loss_db
    if job.decided.lossless:
        return earlier
    pictures = sum(entry.lost_pictures for entry in finished)
    if not pictures:
        return None
    return math.fsum(entry.lost_db for entry in finished) / pictures + (earlier or 0.0)


def _refuse_loss(storage: StorageInfo, strict: bool) -> None:
    """With strict, a dataset that lost more than its budget is not sealed."""
    lost_db, budget = storage.measured_loss_db, storage.budget_db
    if strict and lost_db is not None and budget is not None and lost_db > budget:
        raise RequestError(
            f"Storing cost {lost_db:.4f} dB of mean PSNR, over the budget of {budget:g} dB: raise --max-psnr-drop, "
            "take a smaller --step, or leave out --strict to keep it as it is."
        )


def _splits(job: _Job, finished: Sequence[FinishedShard]) -> dict[str, SplitInfo]:
    shards: dict[str, list[ShardInfo]] = {split: [] for split in job.store.manifest.splits}
    for shard, entry in zip(job.shards, finished, strict=True):
        shards[shard.split].append(entry.shard)
    return {split: SplitInfo(sum(info.rows for info in found), tuple(found)) for split, found in shards.items()}


def _statistics(job: _Job, finished: Sequence[FinishedShard]) -> dict[str, ChannelNumbers]:
    channels = job.schema.latent_shape[0]
    merged = {split: ChannelStatistics.empty(channels) for split in job.store.manifest.splits}
    for shard, entry in zip(job.shards, finished, strict=True):
        merged[shard.split] = merged[shard.split].merge(ChannelStatistics.from_dict(entry.statistics))
    return {split: channel_numbers(found) for split, found in merged.items()}


def _quality(job: _Job) -> Mapping[str, MetricSummary]:
    before = job.store.manifest
    if job.decided.lossless:
        return before.quality
    return summaries([METRICS[name] for name in job.decided.metrics], job.columns, before.source.classes)


def _preview(job: _Job, folder: Path, manifest: Manifest) -> None:
    """Drawn again where numbers changed and the pictures are at hand; else the one that was there."""
    if job.pictures is not None:
        reader = job.pictures.originals.reader
        plan = replace(reader.plan, container=job.asked.container, layout=job.asked.layout)
        done = Sealing(replace(reader, plan=plan), job.pictures.vae, job.chosen, job.schema, (), {}, {})
        write_preview(folder, manifest, done, job.columns)
        return
    known = job.store.folder / PREVIEW
    if known.is_file():
        partial = folder / f".{PREVIEW}.partial"
        shutil.copyfile(known, partial)
        partial.replace(folder / PREVIEW)


# Progress ------------------------------------------------------------------------------------------------------------


class _Report:
    """Counts for the progress callback."""

    def __init__(self, progress: Callable[[ConvertProgress], None] | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = self._resumed = self._scored = 0
        self._psnr_sum = 0.0
        self.note = ""

    def advance(self, rows: int, psnr: Sequence[float | None] | None) -> None:
        self._done += rows
        finite = [score for score in psnr or () if score is not None and math.isfinite(score)]
        self._scored += len(finite)
        self._psnr_sum += math.fsum(finite)
        self.stage("convert")

    def resume(self, rows: int) -> None:
        self._done += rows
        self._resumed += rows
        self.stage("convert")

    def stage(self, name: str) -> None:
        if self._progress is not None:
            psnr = self._psnr_sum / self._scored if self._scored else None
            self._progress(ConvertProgress(name, self._done, self._total, 0, self._resumed, psnr, self.note))
