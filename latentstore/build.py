"""build(): pictures in, a measured and sealed latent dataset out; the stages READ … SEAL, read top to bottom."""

from __future__ import annotations

import math
import platform
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.ahead import ahead
from latentstore.calibration import ChosenStorage, calibrate, candidates_of, lost, sample_of_plan
from latentstore.card import refuse_foreign_card, write_card
from latentstore.containers.interface import ShardSchema
from latentstore.entropy import ByteCounts
from latentstore.errors import RequestError, SourceError
from latentstore.journal import BuildFolder, FinishedShard, claim, sealed_manifest, tidy
from latentstore.manifest import ShardInfo, SkippedInfo
from latentstore.metrics.table import METRICS
from latentstore.pictures import PictureReader, decoded_uint8, scores_of, side_by_side
from latentstore.pixels import batch_of
from latentstore.plan import BuildPlan, PlannedShard, plan_rows
from latentstore.records import LatentRecord, PixelBatch, SkippedTile, Tile
from latentstore.seal import Sealing, refuse_loss, seal
from latentstore.shards import blocks_of, write_shard
from latentstore.statistics import ChannelStatistics
from latentstore.thumbnails import thumbnails_of
from latentstore.version import __version__

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.manifest import Manifest
    from latentstore.metrics.interface import Scorer
    from latentstore.storage.interface import Storage
    from latentstore.vaes.interface import Vae


BATCHES_AHEAD = 2
"""Batches that are read and prepared before they are needed."""


SENT_AHEAD = 1
"""Batches that an accelerator has to do after the one that is waited for."""


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is; handed to the caller's callback after every batch."""

    stage: str
    """``calibrate``, ``encode``, ``seal`` or ``done``."""
    done: int
    """Pictures dealt with so far, skipped ones and those of an earlier run included."""
    total: int
    skipped: int
    resumed: int
    """Pictures in shards that an earlier run had finished."""
    psnr: float | None
    """Mean over the pictures of this run; None while there is none."""


Progress = Callable[[BuildProgress], None]
Observer = Callable[["torch.Tensor", "torch.Tensor"], None]
"""Takes prepared and decoded pictures of one size, both uint8 (N, 3, H, W) on the VAE's device."""


def build(
    plan: BuildPlan, out: str | Path, *, progress: Progress | None = None, observe: Observer | None = None
) -> Manifest:
    """Build one config into ``<out>/<config>/`` and return its manifest.

    ``progress`` is called after every batch; ``observe`` is shown every batch's pictures as they are measured (those
    of shards that an earlier run had finished are not decoded again, so it does not see them).

    Running it again continues where it stopped, and does nothing once the config is sealed. Raises RequestError,
    SourceError or VaeError with one clear sentence; what was finished before stays.
    """
    source = plan.source.open()
    rows = plan_rows(plan, source)
    vae = plan.vae.load(device=plan.device, dtype=plan.dtype)
    fingerprint = plan.fingerprint(source, rows, vae.identity)
    folder = Path(out) / plan.config
    finished_before = sealed_manifest(folder, fingerprint)
    if finished_before is not None:
        _refuse_skipped(plan, finished_before.build.skipped)
        _refuse_loss(plan, finished_before.storage.measured_loss_db)
        tidy(folder)
        write_card(Path(out))  # a build that was stopped between manifest and card left none
        return finished_before
    refuse_foreign_card(Path(out))
    with claim(folder, fingerprint) as work:
        report = _Report(progress, rows.total)
        reader = PictureReader(plan, source, rows)
        chosen = _calibrated(work, reader, vae, report)
        bench = _Bench.of(reader, vae, chosen, observe)
        shards = [_finished(bench, work, shard, report) for shard in rows.shards()]
        report.stage("seal")
        sealing = Sealing(reader, vae, chosen, bench.schema, tuple(shards), fingerprint, _environment())
        _refuse_loss(plan, sealing.totals.measured_loss_db)
        manifest = seal(work, sealing)
        report.stage("done")
        return manifest


def _calibrated(work: BuildFolder, reader: PictureReader, vae: Vae, report: _Report) -> ChosenStorage:
    """CALIBRATE: the storage and its steps; the same again for every run of the plan."""
    plan = reader.plan
    if plan.storage is not None and not plan.calibrated:
        return ChosenStorage(plan.storage.name)
    known = work.recall("storage", ChosenStorage)
    if known is not None:
        return known
    report.stage("calibrate")
    found = calibrate(
        vae,
        sample_of_plan(reader, vae),
        candidates_of(plan),
        budget=plan.max_psnr_drop,
        batch_size=plan.batch_size,
        seed=plan.seed,
    )
    work.remember("storage", found)
    return found


@dataclass(frozen=True)
class _Bench:
    """Everything the stages work with, loaded once."""

    reader: PictureReader
    vae: Vae
    storage: Storage
    scorers: dict[str, Scorer]
    schema: ShardSchema
    observe: Observer | None

    @property
    def plan(self) -> BuildPlan:
        """What is built."""
        return self.reader.plan

    @property
    def on_cuda(self) -> bool:
        """Whether the VAE computes on an accelerator."""
        return self.plan.device.startswith("cuda")

    @classmethod
    def of(cls, reader: PictureReader, vae: Vae, chosen: ChosenStorage, observe: Observer | None) -> _Bench:
        plan, source = reader.plan, reader.source
        height, width = reader.rows.padded
        schema = ShardSchema(
            latent_shape=(plan.vae.channels, height // plan.vae.stride, width // plan.vae.stride),
            dtype=chosen.row.dtype,
            class_names=source.class_names,
            metrics=tuple(metric.name for metric in plan.metrics),
            features={**source.features, **plan.preparation.features},
            thumbnail=plan.thumbnail > 0,
        )
        taken = [name for name in plan.preparation.features if name in source.features]
        repeated = schema.repeated_name or next(iter(taken), None)
        if repeated is not None:
            ask = "have the source give its own another name"
            raise RequestError(f"Two columns would be named {repeated!r}: {ask}.")
        scorers = {metric.name: metric.open() for metric in plan.metrics}
        return cls(reader, vae, chosen.open(), scorers, schema, observe)


@dataclass
class _Tally:
    """What is counted while a shard flows by."""

    statistics: ChannelStatistics
    counts: ByteCounts
    clipped: NDArray[np.int64]
    """Of each channel."""
    lost: list[float] = field(default_factory=list)
    """PSNR that storing cost each picture."""
    skipped: list[SkippedInfo] = field(default_factory=list)
    conversions: Counter[str] = field(default_factory=Counter)

    def add(
        self, bench: _Bench, batch: _Encoded, stored: NDArray[Any], reread: NDArray[np.float32], lost_db: list[float]
    ) -> None:
        """Count one batch."""
        self.statistics = self.statistics.merge(ChannelStatistics.of(reread))
        self.counts = self.counts.merge(ByteCounts.of(stored))
        self.clipped += bench.storage.clipped(batch.raw)
        self.lost += lost_db
        for tile in batch.tiles:
            self.conversions.update(tile.conversions)


def _finished(bench: _Bench, work: BuildFolder, shard: PlannedShard, report: _Report) -> FinishedShard:
    """The shard as an earlier run left it, or built now: READ, PREPARE, ENCODE, STORE, MEASURE, SHELVE."""
    earlier = work.finished(shard)
    if earlier is not None:
        _refuse_skipped(bench.plan, earlier.skipped)
        report.resume(shard.stop - shard.start, len(earlier.skipped))
        return earlier
    channels = bench.plan.vae.channels
    counts = ByteCounts.empty(channels, bench.storage.dtype.itemsize)
    tally = _Tally(ChannelStatistics.empty(channels), counts, np.zeros(channels, np.int64))
    with ExitStack() as threads:
        prepared = threads.enter_context(closing(ahead(_prepared(bench, shard), BATCHES_AHEAD)))
        encoded = threads.enter_context(closing(_while_measuring(bench, _encoded(bench, prepared))))
        info = _shelve(bench, work, shard, _measured(bench, shard, encoded, tally, report))
    entry = FinishedShard(
        shard=info,
        statistics=tally.statistics.to_dict(),
        skipped=tuple(tally.skipped),
        entropy_bits=tally.counts.bits,
        conversions=dict(tally.conversions),
        clipped=tuple(tally.clipped.tolist()),
        lost_db=math.fsum(tally.lost),
        lost_pictures=len(tally.lost),
    )
    work.finish(shard, entry)
    return entry


@dataclass(frozen=True)
class _Prepared:
    """One batch of the plan: its usable pictures, and the places of the others."""

    positions: tuple[int, ...]
    """Planned rows of the usable ones."""
    pixels: PixelBatch | None
    """None where there is no usable one."""
    skipped: tuple[tuple[int, SkippedTile], ...]


@dataclass(frozen=True)
class _Encoded:
    """The same batch with its raw latents, all of them finite."""

    tiles: tuple[Tile, ...]
    raw: NDArray[np.float32]
    skipped: tuple[tuple[int, SkippedTile], ...]


def _prepared(bench: _Bench, shard: PlannedShard) -> Iterator[_Prepared]:
    """READ and PREPARE: batches with fixed boundaries inside the shard.

    The boundaries belong to the plan, so a skipped picture makes its own batch smaller and moves no other row:
    kernels round differently for other batches.
    """
    tiles = bench.reader.tiles(shard.split, range(shard.start, shard.stop))
    for start in range(shard.start, shard.stop, bench.plan.batch_size):
        kept: list[tuple[int, Tile]] = []
        skipped: list[tuple[int, SkippedTile]] = []
        for position in range(start, min(shard.stop, start + bench.plan.batch_size)):
            tile = next(tiles)
            if isinstance(tile, SkippedTile):
                skipped.append((position, tile))
            else:
                kept.append((position, tile))
        good = [tile for _, tile in kept]
        pixels = batch_of(good, bench.reader.rows.padded, pinned=bench.on_cuda) if good else None
        yield _Prepared(tuple(position for position, _ in kept), pixels, tuple(skipped))


def _encoded(bench: _Bench, batches: Iterator[_Prepared]) -> Iterator[_Encoded]:
    """ENCODE: raw latents; a picture whose latent is not finite is skipped.

    On an accelerator the next batch is sent off before the one before is waited for, so that it never idles.
    """
    sent: deque[tuple[_Prepared, Callable[[], NDArray[np.float32]]]] = deque()
    for batch in batches:
        sent.append((batch, _sent(bench, batch)))
        if len(sent) > (SENT_AHEAD if bench.on_cuda else 0):
            yield _arrived(*sent.popleft())
    yield from (_arrived(*entry) for entry in sent)


def _sent(bench: _Bench, batch: _Prepared) -> Callable[[], NDArray[np.float32]]:
    """Have a batch encoded; what comes back waits for its raw latents (N, C, h, w)."""
    if batch.pixels is None:
        return lambda: np.empty((0, *bench.schema.latent_shape), np.float32)
    mean = bench.vae.encode(batch.pixels.pixels).mean.float()
    if not mean.is_cuda:
        return mean.cpu().numpy
    import torch

    here = torch.empty(mean.shape, dtype=mean.dtype, pin_memory=True)
    here.copy_(mean, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()

    def wait() -> NDArray[np.float32]:
        done.synchronize()  # with this batch only: those sent after it go on
        return np.array(here.numpy())

    return wait


def _arrived(batch: _Prepared, raw_latents: Callable[[], NDArray[np.float32]]) -> _Encoded:
    raw = raw_latents()
    tiles = batch.pixels.tiles if batch.pixels is not None else ()
    finite = np.asarray(np.isfinite(raw).all(axis=(1, 2, 3)), bool)
    bad = tuple(
        (position, SkippedTile(tile.id, tile.source_path, "the VAE gave a latent that is not finite"))
        for position, tile, good in zip(batch.positions, tiles, finite, strict=True)
        if not good
    )
    kept = tuple(tile for tile, good in zip(tiles, finite, strict=True) if good)
    return _Encoded(kept, raw[finite], tuple(sorted((*batch.skipped, *bad), key=lambda entry: entry[0])))


def _while_measuring(bench: _Bench, batches: Iterator[_Encoded]) -> Generator[_Encoded, None, None]:
    """On an accelerator the next batch is encoded, on a stream of its own, while the one before is measured.

    So neither waits for the other. On a CPU both want all cores, and take turns.
    """
    if not bench.on_cuda:
        yield from batches
        return
    import torch

    def stream() -> AbstractContextManager[object]:
        return torch.cuda.stream(torch.cuda.Stream(bench.plan.device))  # type: ignore[no-untyped-call]

    yield from ahead(batches, 1, inside=stream)


def _measured(
    bench: _Bench, shard: PlannedShard, batches: Iterator[_Encoded], tally: _Tally, report: _Report
) -> Iterator[LatentRecord]:
    """STORE and MEASURE: one record for each encoded picture."""
    for batch in batches:
        for position, reason in batch.skipped:
            _skip(bench, shard, position, reason, tally, report)
        if not batch.tiles:
            continue
        stored = _store(bench, batch.raw)
        reread = bench.storage.decode(stored)
        scores, thumbnails = _seen(bench, reread, batch.tiles)
        tally.add(bench, batch, stored, reread, _lost(bench, batch, reread, scores.get("psnr")))
        report.advance(len(batch.tiles), scores.get("psnr"))
        for index, tile in enumerate(batch.tiles):
            row_scores = {name: float(column[index]) for name, column in scores.items()}
            yield _record(tile, stored[index], row_scores, thumbnails[index])


def _store(bench: _Bench, raw: NDArray[np.float32]) -> NDArray[Any]:
    try:
        return bench.storage.encode(raw)
    except OverflowError as error:
        message = f"Storage {bench.storage.dtype.name!r} cannot hold these latents: {error}; use --storage float32."
        raise RequestError(message) from error


def _seen(
    bench: _Bench, reread: NDArray[np.float32], tiles: Sequence[Tile]
) -> tuple[dict[str, NDArray[np.float64]], Sequence[bytes | None]]:
    """Scores of the decode of the stored numbers against the prepared pictures, on their true area, as uint8.

    And the thumbnail of each, where the plan wants them.
    """
    if not bench.scorers and bench.observe is None and not bench.plan.thumbnail:
        return {}, [None] * len(tiles)
    decoded = decoded_uint8(bench.vae, reread)
    if bench.observe is not None:
        for _, truth, seen in side_by_side(tiles, decoded):
            bench.observe(truth, seen)
    side = bench.plan.thumbnail
    return scores_of(bench.scorers, tiles, decoded), (
        thumbnails_of(tiles, decoded, side) if side else [None] * len(tiles)
    )


def _lost(bench: _Bench, batch: _Encoded, reread: NDArray[np.float32], psnr: NDArray[np.float64] | None) -> list[float]:
    """PSNR in dB that storing cost each picture, where the plan wants that known and it can be said."""
    if not bench.plan.measures_loss:
        return []
    if np.array_equal(batch.raw, reread):
        return [0.0] * len(batch.tiles)
    scorer = {"psnr": METRICS["psnr"].open()}
    found = psnr if psnr is not None else scores_of(scorer, batch.tiles, decoded_uint8(bench.vae, reread))["psnr"]
    reference = scores_of(scorer, batch.tiles, decoded_uint8(bench.vae, batch.raw))["psnr"]
    apart = lost(reference, found)
    return list(apart[np.isfinite(apart)].tolist())


def _refuse_loss(plan: BuildPlan, lost_db: float | None) -> None:
    """With --strict, a dataset that lost more than its budget is not sealed."""
    if plan.strict:
        refuse_loss(lost_db, plan.max_psnr_drop, "calibrate on more pictures (--calibration)")


def _record(tile: Tile, latent: NDArray[Any], scores: dict[str, float], thumbnail: bytes | None) -> LatentRecord:
    return LatentRecord(
        id=tile.id,
        latent=latent,
        label=tile.label,
        height=tile.pixels.shape[0],
        width=tile.pixels.shape[1],
        source_path=tile.source_path,
        source_sha256=tile.source_sha256,
        source_bytes=tile.source_bytes,
        scores=scores,
        metadata=tile.metadata,
        thumbnail=thumbnail,
    )


def _shelve(bench: _Bench, work: BuildFolder, shard: PlannedShard, records: Iterator[LatentRecord]) -> ShardInfo:
    """SHELVE: one shard file."""
    try:
        blocks = blocks_of(records, bench.schema)
        return write_shard(work.folder, shard.name, bench.plan.container, bench.schema, bench.plan.layout, blocks)
    except OSError as error:
        message = f"Cannot write {work.folder / shard.name}: {error.strerror or error}; make room, then type it again."
        raise RequestError(message) from error


def _skip(bench: _Bench, shard: PlannedShard, position: int, tile: SkippedTile, tally: _Tally, report: _Report) -> None:
    if bench.plan.strict:
        raise SourceError(f"{tile.source_path!r} cannot be used: {tile.reason} (without --strict it would be skipped).")
    tally.skipped.append(SkippedInfo(tile.id, tile.source_path, tile.reason, shard.split, position))
    report.skip()


def _refuse_skipped(plan: BuildPlan, skipped: tuple[SkippedInfo, ...]) -> None:
    """What an earlier run without --strict skipped is no less bad now."""
    if plan.strict and skipped:
        first = skipped[0]
        raise SourceError(f"{first.source_path!r} cannot be used: {first.reason} (without --strict it was skipped).")


class _Report:
    """Counts for the progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = self._skipped = self._resumed = self._scored = 0
        self._psnr_sum = 0.0

    def advance(self, rows: int, psnr: NDArray[np.float64] | None) -> None:
        self._done += rows
        if psnr is not None:
            finite = psnr[np.isfinite(psnr)]
            self._scored += len(finite)
            self._psnr_sum += math.fsum(finite)
        self.stage("encode")

    def skip(self) -> None:
        self._done += 1
        self._skipped += 1
        self.stage("encode")

    def resume(self, rows: int, skipped: int) -> None:
        self._done += rows
        self._resumed += rows
        self._skipped += skipped
        self.stage("encode")

    def stage(self, name: str) -> None:
        if self._progress is not None:
            psnr = self._psnr_sum / self._scored if self._scored else None
            self._progress(BuildProgress(name, self._done, self._total, self._skipped, self._resumed, psnr))


def _environment() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("torch", "diffusers", "datasets", "numpy", "pyarrow", "pillow")
    versions = {"latentstore": __version__, "python": platform.python_version()}
    return versions | {package: version(package) for package in packages} | {"machine": platform.machine()}
