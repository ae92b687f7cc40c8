"""The work on shards, one after another: READ, PREPARE, ENCODE, STORE, MEASURE, SHELVE.

Three lanes run at the same time, with short queues between them, so that memory stays flat: reading (READ, PREPARE)
and writing (SHELVE) in threads of their own, computing (ENCODE, STORE, MEASURE) in the thread that asks for the shards.
They do not stop between two shards: the next one's pictures are read while the last one is written.

It is the computing that stays in the caller's thread because that is mostly the main one: its memory can be kept for
the next batch (``freed_memory``), and it has torch's threads already.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.ahead import ahead
from latentstore.behind import behind
from latentstore.build_profile import StageClock
from latentstore.build_progress import ShardProgress, Tell
from latentstore.calibration import ChosenStorage, lost
from latentstore.containers.interface import ShardSchema
from latentstore.entropy import ByteCounts
from latentstore.errors import RequestError, SourceError
from latentstore.journal import BuildFolder, FinishedShard
from latentstore.manifest import HalvedInfo, RetriedInfo, ShardInfo, SkippedInfo
from latentstore.metrics.table import METRICS
from latentstore.pictures import PictureReader, scores_of, side_by_side
from latentstore.pixels import batch_of, to_uint8
from latentstore.plan import BuildPlan, PlannedShard
from latentstore.quarantine import Quarantine
from latentstore.records import LatentRecord, PixelBatch, SkippedTile, Tile, record_of
from latentstore.safe_compute import in_parts, not_finite
from latentstore.shards import blocks_of, write_shard
from latentstore.statistics import ChannelStatistics
from latentstore.system.durable_files import writing
from latentstore.system.locks import Holder
from latentstore.thumbnails import thumbnails_of

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.metrics.interface import Scorer
    from latentstore.storage.interface import Storage
    from latentstore.vaes.interface import Vae

BATCHES_AHEAD = 2
"""Batches that are read and prepared before they are needed."""
SENT_AHEAD = 1
"""Batches that an accelerator has to do after the one that is waited for."""
MEASURED_AHEAD = 2
"""Batches that are measured before there is time to write them."""

Observer = Callable[["torch.Tensor", "torch.Tensor"], None]
"""Takes prepared and decoded pictures of one size, both uint8 (N, 3, H, W) on the VAE's device."""


@dataclass(frozen=True)
class Bench:
    """Everything the stages work with, loaded once."""

    reader: PictureReader
    vae: Vae
    storage: Storage
    scorers: dict[str, Scorer]
    schema: ShardSchema
    observe: Observer | None
    quarantine: Quarantine
    clock: StageClock = field(default_factory=StageClock)

    @property
    def plan(self) -> BuildPlan:
        """What is built."""
        return self.reader.plan

    @property
    def looks(self) -> bool:
        """Whether anything wants the decoded pictures."""
        plan = self.plan
        return bool(self.scorers or self.observe or plan.measures_loss or plan.thumbnail)

    @property
    def on_cuda(self) -> bool:
        """Whether the VAE computes on an accelerator."""
        return self.plan.device.startswith("cuda")

    @cached_property
    def precise(self) -> Vae | None:
        """The VAE in float32, loaded when it is first needed; None where it computes in float32 anyway."""
        plan = self.plan
        return plan.vae.load(device=plan.device, dtype="float32") if plan.dtype != "float32" else None

    @classmethod
    def of(cls, reader: PictureReader, vae: Vae, chosen: ChosenStorage, observe: Observer | None = None) -> Bench:
        """The bench for a plan whose storage is known; RequestError where two columns would share a name."""
        scorers = {metric.name: metric.open() for metric in reader.plan.metrics}
        quarantine = Quarantine(reader.rows, reader.plan.max_bad)
        return cls(reader, vae, chosen.open(), scorers, schema_of(reader, chosen), observe, quarantine)


def schema_of(reader: PictureReader, chosen: ChosenStorage) -> ShardSchema:
    """The columns of every shard; RequestError where two would share a name."""
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
    return schema


def finished_shards(
    bench: Bench, work: BuildFolder, shards: Iterable[PlannedShard], tell: Tell
) -> Iterator[tuple[PlannedShard, FinishedShard]]:
    """Build these shards, and give each once it is on disk and in the journal.

    The next shard is asked for (in another thread) as soon as the pictures of the last were read. ``tell`` is called
    in the thread that takes the shards, after every batch that was measured.
    """
    with ExitStack() as threads:
        prepared = threads.enter_context(closing(ahead(_prepared(bench, shards), BATCHES_AHEAD)))
        encoded = threads.enter_context(closing(_while_measuring(bench, _encoded(bench, prepared))))
        measured = _told(bench, _measured(bench, encoded), tell)
        shelve = partial(_shelved, bench, work)
        yield from threads.enter_context(closing(behind(measured, MEASURED_AHEAD, shelve)))


# READ and PREPARE ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Prepared:
    """One batch of the plan: its usable pictures, and the places of the others."""

    shard: PlannedShard
    positions: tuple[int, ...]
    """Planned rows of the usable ones."""
    pixels: PixelBatch | None
    """None where there is no usable one."""
    skipped: tuple[tuple[int, SkippedTile], ...]


def _prepared(bench: Bench, shards: Iterable[PlannedShard]) -> Iterator[_Prepared]:
    """READ and PREPARE: batches with fixed boundaries inside each shard.

    The boundaries belong to the plan, so a skipped picture makes its own batch smaller and moves no other row:
    kernels round differently for other batches. A shard without rows is one empty batch.
    """
    for shard in shards:
        tiles = bench.reader.tiles(shard.split, range(shard.start, shard.stop))
        if shard.start == shard.stop:
            yield _Prepared(shard, (), None, ())
        for start in range(shard.start, shard.stop, bench.plan.batch_size):
            kept: list[tuple[int, Tile]] = []
            skipped: list[tuple[int, SkippedTile]] = []
            with bench.clock.of("read"):
                for position in range(start, min(shard.stop, start + bench.plan.batch_size)):
                    tile = next(tiles)
                    if isinstance(tile, SkippedTile):
                        skipped.append((position, tile))
                    else:
                        kept.append((position, tile))
            good = [tile for _, tile in kept]
            with bench.clock.of("prepare"):
                pixels = batch_of(good, bench.reader.rows.padded, pinned=bench.on_cuda) if good else None
            yield _Prepared(shard, tuple(position for position, _ in kept), pixels, tuple(skipped))


# ENCODE --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Encoded:
    """The same batch with its raw latents, all of them finite."""

    shard: PlannedShard
    positions: tuple[int, ...]
    tiles: tuple[Tile, ...]
    raw: NDArray[np.float32]
    skipped: tuple[tuple[int, SkippedTile], ...]
    retried: tuple[RetriedInfo, ...] = ()
    halved: tuple[HalvedInfo, ...] = ()


def _encoded(bench: Bench, batches: Iterator[_Prepared]) -> Iterator[_Encoded]:
    """ENCODE: raw latents; a picture whose latent is not finite, in float32 either, is skipped.

    On an accelerator the next batch is sent off before the one before is waited for, so that it never idles.
    """
    sent: deque[tuple[_Prepared, _Sent]] = deque()
    for batch in batches:
        sent.append((batch, _sent(bench, batch)))
        if len(sent) > (SENT_AHEAD if bench.on_cuda else 0):
            yield _arrived(bench, *sent.popleft())
    yield from (_arrived(bench, *entry) for entry in sent)


@dataclass(frozen=True)
class _Sent:
    """A batch that is being encoded."""

    wait: Callable[[], NDArray[np.float32]]
    """Waits for its raw latents (N, C, h, w)."""
    at_once: int
    """Pictures that were encoded at once: the whole batch, unless memory was short."""


def _sent(bench: Bench, batch: _Prepared) -> _Sent:
    """Have a batch encoded."""
    if batch.pixels is None:
        return _Sent(lambda: np.empty((0, *bench.schema.latent_shape), np.float32), 0)

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        return bench.vae.encode(pixels).mean.float()

    if not bench.on_cuda:
        with bench.clock.of("encode"):
            mean, at_once = in_parts(encode, batch.pixels.pixels)
            return _Sent(mean.cpu().numpy, at_once)
    import torch

    with bench.clock.on_device("encode") as span:
        mean, at_once = in_parts(encode, batch.pixels.pixels)
    here = torch.empty(mean.shape, dtype=mean.dtype, pin_memory=True)
    here.copy_(mean, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()

    def wait() -> NDArray[np.float32]:
        done.synchronize()  # with this batch only: those sent after it go on
        span.done()
        return np.array(here.numpy())

    return _Sent(wait, at_once)


def _arrived(bench: Bench, batch: _Prepared, sent: _Sent) -> _Encoded:
    raw = sent.wait()
    tiles = batch.pixels.tiles if batch.pixels is not None else ()
    finite = np.asarray(np.isfinite(raw).all(axis=(1, 2, 3)), bool)
    retried: tuple[RetriedInfo, ...] = ()
    if not finite.all() and bench.precise is not None:
        raw, before = _again_in_float32(bench, batch, raw, finite), finite
        finite = np.asarray(np.isfinite(raw).all(axis=(1, 2, 3)), bool)
        saved = finite & ~before
        retried = tuple(
            RetriedInfo(tiles[row].id, batch.shard.split, batch.positions[row])
            for row in np.flatnonzero(saved).tolist()
        )
    halved = _halved(batch.shard, batch.positions, "encode", sent.at_once)
    found = _Encoded(batch.shard, batch.positions, tiles, raw, batch.skipped, retried, halved)
    return _without(found, finite, "the VAE gave a latent that is not finite")


def _again_in_float32(
    bench: Bench, batch: _Prepared, raw: NDArray[np.float32], finite: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The same latents; rows that were not finite come from the whole batch encoded in float32."""
    precise = bench.precise
    if precise is None or batch.pixels is None:
        return raw
    with bench.clock.of("encode"):
        mean, _ = in_parts(lambda pixels: precise.encode(pixels).mean.float(), batch.pixels.pixels)
    return np.where(finite[:, None, None, None], raw, mean.cpu().numpy())


def _halved(shard: PlannedShard, positions: tuple[int, ...], stage: str, at_once: int) -> tuple[HalvedInfo, ...]:
    """That a batch was computed in parts, where it was."""
    if at_once >= len(positions):
        return ()
    return (HalvedInfo(shard.split, positions[0], positions[-1] + 1, at_once, stage),)


def _without(batch: _Encoded, good: NDArray[np.bool_], reason: str) -> _Encoded:
    """The batch without the rows that are not good: they are skipped."""
    if good.all():
        return batch
    rows = np.flatnonzero(good).tolist()
    bad = tuple(
        (batch.positions[row], SkippedTile(batch.tiles[row].id, batch.tiles[row].source_path, reason))
        for row in np.flatnonzero(~good).tolist()
    )
    return replace(
        batch,
        positions=tuple(batch.positions[row] for row in rows),
        tiles=tuple(batch.tiles[row] for row in rows),
        raw=batch.raw[good],
        skipped=tuple(sorted((*batch.skipped, *bad), key=lambda entry: entry[0])),
    )


def _while_measuring(bench: Bench, batches: Iterator[_Encoded]) -> Generator[_Encoded, None, None]:
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


# STORE and MEASURE ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """The same batch as it will be written, with the scores of what will be read."""

    batch: _Encoded
    stored: NDArray[Any]
    reread: NDArray[np.float32]
    scores: dict[str, NDArray[np.float64]]
    lost_db: list[float]
    """PSNR that storing cost each picture."""
    decoded: torch.Tensor | None = None
    """Pictures (N, 3, H, W) uint8 of what was stored, in the host's memory; None where the plan wants no thumbnails."""

    @property
    def shard(self) -> PlannedShard:
        """Where it goes."""
        return self.batch.shard

    @property
    def planned(self) -> int:
        """Planned rows that it stands for, those of skipped pictures included."""
        return len(self.batch.tiles) + len(self.batch.skipped)

    @property
    def skipped(self) -> list[SkippedInfo]:
        """Its pictures that cannot be used, as the journal and the manifest say it."""
        return [
            SkippedInfo(tile.id, tile.source_path, tile.reason, self.shard.split, position)
            for position, tile in self.batch.skipped
        ]


def _measured(bench: Bench, batches: Iterator[_Encoded]) -> Iterator[_Measured]:
    """STORE and MEASURE."""
    for batch in batches:
        with bench.clock.of("store"):
            stored = _store(bench, batch.raw)
            reread = bench.storage.decode(stored)
        if not batch.tiles or not bench.looks:
            yield _Measured(batch, stored, reread, {}, [])
            continue
        with bench.clock.of("measure"):
            measured = _compared(bench, batch, stored, reread)
        yield measured


def _store(bench: Bench, raw: NDArray[np.float32]) -> NDArray[Any]:
    try:
        return bench.storage.encode(raw)
    except OverflowError as error:
        message = f"Storage {bench.storage.dtype.name!r} cannot hold these latents: {error}; use --storage float32."
        raise RequestError(message) from error


def _compared(bench: Bench, batch: _Encoded, stored: NDArray[Any], reread: NDArray[np.float32]) -> _Measured:
    """The decode of the stored numbers against the prepared pictures, on their true area, as uint8."""
    with _decoded(bench, reread) as (decoded, at_once, spoilt):
        halved = _halved(batch.shard, batch.positions, "decode", at_once)
        good = ~spoilt.cpu().numpy()
        batch = _without(replace(batch, halved=batch.halved + halved), good, "the VAE's decode of it is not finite")
        stored, reread = stored[good], reread[good]
        pictures = decoded if good.all() else decoded[~spoilt]
        if bench.observe is not None:
            for _, truth, seen in side_by_side(batch.tiles, pictures):
                bench.observe(truth, seen)
        scores = scores_of(bench.scorers, batch.tiles, pictures)
        psnr = scores.get("psnr")
        if psnr is None and bench.plan.measures_loss:
            psnr = scores_of(_PSNR, batch.tiles, pictures)["psnr"]
        kept = pictures.cpu() if bench.plan.thumbnail else None
    return _Measured(batch, stored, reread, scores, _lost(bench, batch, reread, psnr), kept)


def _lost(bench: Bench, batch: _Encoded, reread: NDArray[np.float32], psnr: NDArray[np.float64] | None) -> list[float]:
    """PSNR in dB that storing cost each picture, where the plan wants that known and it can be said."""
    if psnr is None or not bench.plan.measures_loss:
        return []
    if np.array_equal(batch.raw, reread):
        return [0.0] * len(batch.tiles)
    with _decoded(bench, batch.raw) as (decoded, _, spoilt):
        reference = scores_of(_PSNR, batch.tiles, decoded)["psnr"]
        reference[spoilt.cpu().numpy()] = np.nan
    apart = lost(reference, psnr)
    return list(apart[np.isfinite(apart)].tolist())


_PSNR = {"psnr": METRICS["psnr"].open()}


@contextmanager
def _decoded(bench: Bench, raw: NDArray[np.float32]) -> Iterator[tuple[torch.Tensor, int, torch.Tensor]]:
    """Pictures (N, 3, H, W) uint8 of raw latents; how many were decoded at once; which (N,) have no finite decode.

    All on the VAE's device, whose time is known once the pictures were looked at.
    """
    import torch

    latents = torch.from_numpy(raw)
    if not bench.on_cuda:
        with bench.clock.of("decode"):
            pixels, at_once = in_parts(bench.vae.decode, latents)
            pixels, spoilt = _finite_decode(bench, latents, pixels)
        yield to_uint8(pixels), at_once, spoilt
        return
    with bench.clock.on_device("decode") as span:
        pixels, at_once = in_parts(bench.vae.decode, latents)
    pixels, spoilt = _finite_decode(bench, latents, pixels)
    yield to_uint8(pixels), at_once, spoilt
    span.stop.synchronize()
    span.done()


def _finite_decode(bench: Bench, latents: torch.Tensor, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The decode, its rows that are not finite taken from a decode in float32; and which are not finite then either."""
    spoilt = not_finite(pixels)
    if bench.plan.dtype != "float32" and bool(spoilt.any()) and bench.precise is not None:
        again, _ = in_parts(bench.precise.decode, latents)
        pixels = pixels.float()
        pixels[spoilt] = again[spoilt].float()
        spoilt = not_finite(pixels)
    return pixels, spoilt


def _told(bench: Bench, batches: Iterable[_Measured], tell: Tell) -> Iterator[_Measured]:
    """The same batches; what cannot be used in them is counted, and ends the build where the plan says so."""
    told = ShardProgress("")
    for measured in batches:
        batch, shard = measured.batch, measured.shard.name
        told = told if told.shard == shard else ShardProgress(shard)
        for skipped in measured.skipped:
            _refuse_in_strict(bench.plan, skipped)
            bench.quarantine.add([skipped])
            told = told.skip()
        if batch.tiles:
            told = told.advance(len(batch.tiles), measured.scores.get("psnr", np.empty(0)).tolist())
        tell(told)
        yield measured


def _refuse_in_strict(plan: BuildPlan, skipped: SkippedInfo) -> None:
    if plan.strict:
        reason = f"{skipped.source_path!r} cannot be used: {skipped.reason}"
        raise SourceError(f"{reason} (without --strict it would be skipped).")


# SHELVE --------------------------------------------------------------------------------------------------------------


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
    retried: list[RetriedInfo] = field(default_factory=list)
    halved: list[HalvedInfo] = field(default_factory=list)
    conversions: Counter[str] = field(default_factory=Counter)

    @classmethod
    def empty(cls, bench: Bench) -> _Tally:
        channels = bench.plan.vae.channels
        counts = ByteCounts.empty(channels, bench.storage.dtype.itemsize)
        return cls(ChannelStatistics.empty(channels), counts, np.zeros(channels, np.int64))

    def add(self, bench: Bench, batch: _Measured) -> None:
        """Count one batch."""
        self.skipped += batch.skipped
        if not batch.batch.tiles:
            return
        self.statistics = self.statistics.merge(ChannelStatistics.of(batch.reread))
        self.counts = self.counts.merge(ByteCounts.of(batch.stored))
        self.clipped += bench.storage.clipped(batch.batch.raw)
        self.lost += batch.lost_db
        self.retried += batch.batch.retried
        self.halved += batch.batch.halved
        pieces = bench.reader.rows.splits[batch.shard.split][list(batch.batch.positions), 1]
        for piece, tile in zip(pieces.tolist(), batch.batch.tiles, strict=True):
            if piece == 0:  # all tiles and views of a picture say the same
                self.conversions.update(tile.conversions)


def _shelved(
    bench: Bench, work: BuildFolder, measured: Iterator[_Measured]
) -> Iterator[tuple[PlannedShard, FinishedShard]]:
    """SHELVE: each shard once it is on disk and in the journal."""
    for first in measured:
        yield first.shard, _shelved_shard(bench, work, first.shard, _of_one_shard(bench, first, measured))


def _shelved_shard(bench: Bench, work: BuildFolder, shard: PlannedShard, batches: Iterator[_Measured]) -> FinishedShard:
    """One shard file, and its entry in the journal."""
    tally = _Tally.empty(bench)
    info = _written(bench, work, shard, _records(bench, batches, tally))
    entry = FinishedShard(
        shard=info,
        statistics=tally.statistics.to_dict(),
        skipped=tuple(tally.skipped),
        entropy_bits=tally.counts.bits,
        conversions=dict(tally.conversions),
        clipped=tuple(tally.clipped.tolist()),
        lost_db=math.fsum(tally.lost),
        lost_pictures=len(tally.lost),
        retried=tuple(tally.retried),
        halved=tuple(tally.halved),
        by=Holder.this_process(),
    )
    with bench.clock.of("sync"):
        work.finish(shard, entry)
    return entry


def _written(bench: Bench, work: BuildFolder, shard: PlannedShard, records: Iterator[LatentRecord]) -> ShardInfo:
    plan = bench.plan
    blocks = blocks_of(records, bench.schema)
    with writing(work.folder / shard.name):
        return write_shard(
            work.folder, shard.name, plan.container, bench.schema, plan.layout, blocks, timed=bench.clock.of
        )


def _records(bench: Bench, batches: Iterator[_Measured], tally: _Tally) -> Iterator[LatentRecord]:
    """One record for each encoded picture; what is to be said of the shard is counted."""
    for measured in batches:
        with bench.clock.of("count"):
            tally.add(bench, measured)
        thumbnails = _thumbnails(bench, measured)
        for index, tile in enumerate(measured.batch.tiles):
            row_scores = {name: float(found[index]) for name, found in measured.scores.items()}
            yield record_of(tile, measured.stored[index], row_scores, thumbnails[index])


def _thumbnails(bench: Bench, measured: _Measured) -> Sequence[bytes | None]:
    """Of each picture of a batch; None where the plan wants none."""
    tiles = measured.batch.tiles
    if measured.decoded is None:
        return [None] * len(tiles)
    with bench.clock.of("thumbnail"):
        return thumbnails_of(tiles, measured.decoded, bench.plan.thumbnail)


def _of_one_shard(bench: Bench, first: _Measured, following: Iterator[_Measured]) -> Iterator[_Measured]:
    """The batches of the shard that the first belongs to; the time spent waiting for them is no time of writing."""
    batch = first
    left = first.shard.stop - first.shard.start
    while True:
        left -= batch.planned
        yield batch
        if left == 0:
            return
        with bench.clock.of(""):
            batch = next(following)
