"""build(): pictures in, a measured and sealed latent dataset out; the stages READ … SEAL, read top to bottom."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.card import refuse_foreign_card, write_card
from latentstore.containers.interface import ShardSchema
from latentstore.errors import BadImageError, MixedSizesError, RequestError, SourceError
from latentstore.journal import BuildFolder, FinishedShard, claim, sealed_manifest, tidy
from latentstore.manifest import ShardInfo, SkippedInfo
from latentstore.pixels import TILE_FEATURES, batch_of, prepare, to_uint8
from latentstore.plan import BuildPlan, PlannedRows, PlannedShard, plan_rows
from latentstore.records import LatentRecord, PixelBatch, SkippedTile, Tile
from latentstore.seal import Sealing, seal
from latentstore.shards import write_shard
from latentstore.statistics import ChannelStatistics
from latentstore.version import __version__

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.manifest import Manifest
    from latentstore.metrics.interface import Scorer
    from latentstore.sources.interface import OpenSource
    from latentstore.storage.interface import Storage
    from latentstore.vaes.interface import Vae


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is; handed to the caller's callback after every batch."""

    stage: str
    """``encode``, ``seal`` or ``done``."""
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
        tidy(folder)
        write_card(Path(out))  # a build that was stopped between manifest and card left none
        return finished_before
    refuse_foreign_card(Path(out))
    with claim(folder, fingerprint) as work:
        bench = _Bench.of(plan, source, rows, vae, observe)
        report = _Report(progress, rows.total)
        shards = [_finished(bench, work, shard, report) for shard in rows.shards()]
        report.stage("seal")
        sealing = Sealing(plan, source, rows, vae, bench.schema, tuple(shards), fingerprint, _environment())
        manifest = seal(work, sealing)
        report.stage("done")
        return manifest


@dataclass(frozen=True)
class _Bench:
    """Everything the stages work with, loaded once."""

    plan: BuildPlan
    source: OpenSource
    rows: PlannedRows
    vae: Vae
    storage: Storage
    scorers: dict[str, Scorer]
    schema: ShardSchema
    observe: Observer | None
    pieces: dict[str, NDArray[np.int64]]
    """How many pieces each picture of a split was planned to become."""

    @classmethod
    def of(cls, plan: BuildPlan, source: OpenSource, rows: PlannedRows, vae: Vae, observe: Observer | None) -> _Bench:
        storage = plan.storage.open()
        height, width = rows.padded
        schema = ShardSchema(
            latent_shape=(plan.vae.channels, height // plan.vae.stride, width // plan.vae.stride),
            dtype=storage.dtype.name,
            class_names=source.class_names,
            metrics=tuple(metric.name for metric in plan.metrics),
            features={**source.features, **(TILE_FEATURES if plan.preparation.tile else {})},
        )
        scorers = {metric.name: metric.open() for metric in plan.metrics}
        if schema.repeated_name is not None:
            ask = "have the source give its own another name"
            raise RequestError(f"Two columns would be named {schema.repeated_name!r}: {ask}.")
        pieces = {name: np.bincount(split[:, 0]) for name, split in rows.splits.items()}
        return cls(plan, source, rows, vae, storage, scorers, schema, observe, pieces)


@dataclass
class _Tally:
    """What is counted while a shard flows by."""

    statistics: ChannelStatistics
    skipped: list[SkippedInfo] = field(default_factory=list)
    conversions: Counter[str] = field(default_factory=Counter)


def _finished(bench: _Bench, work: BuildFolder, shard: PlannedShard, report: _Report) -> FinishedShard:
    """The shard as an earlier run left it, or built now: READ, PREPARE, ENCODE, STORE, MEASURE, SHELVE."""
    earlier = work.finished(shard)
    if earlier is not None:
        _refuse_skipped(bench.plan, earlier.skipped)
        report.resume(shard.stop - shard.start, len(earlier.skipped))
        return earlier
    tally = _Tally(ChannelStatistics.empty(bench.plan.vae.channels))
    tiles = _read(bench, shard)
    batches = _prepare(bench, shard, tiles, tally, report)
    records = _encode(bench, shard, batches, tally, report)
    info = _shelve(bench, work, shard, records)
    entry = FinishedShard(info, tally.statistics.to_dict(), tuple(tally.skipped), dict(tally.conversions))
    work.finish(shard, entry)
    return entry


def _read(bench: _Bench, shard: PlannedShard) -> Iterator[Tile | SkippedTile]:
    """READ: one prepared picture (or the reason why not) for each planned row of the shard."""
    planned = bench.rows.splits[shard.split][shard.start : shard.stop]
    if len(planned) == 0:
        return
    starts = np.flatnonzero(np.diff(planned[:, 0], prepend=-1))
    wanted = planned[starts, 0].tolist()
    images = _pictures(bench, shard, wanted)
    for number, image, pieces in zip(wanted, images, np.split(planned[:, 1], starts[1:]), strict=True):
        for piece in pieces.tolist():
            yield _piece(bench, image, piece, int(bench.pieces[shard.split][number]))


def _pictures(bench: _Bench, shard: PlannedShard, wanted: list[int]) -> Iterator[Tile | SkippedTile]:
    """What the source gives; its own failures to read are not mistaken for failures to write."""
    try:
        yield from bench.source.splits[shard.split].read(wanted)
    except OSError as error:
        where = f"{bench.plan.source.name!r} at {bench.plan.source.location!r}"
        raise SourceError(f"Source {where} stopped giving pictures: {error.strerror or error}.") from error


def _piece(bench: _Bench, image: Tile | SkippedTile, piece: int, pieces: int) -> Tile | SkippedTile:
    if isinstance(image, SkippedTile):
        return image
    size = image.pixels.shape[0], image.pixels.shape[1]
    try:
        found = bench.plan.preparation.pieces(size)
        if found != pieces:  # only a stream's pictures have other sizes than were planned for
            raise MixedSizesError(
                f"Picture {image.source_path!r} is {size[0]}x{size[1]} and would be cut into {found} tiles, but a "
                f"stream is planned for pictures of one size, here of {pieces} tiles: read it without --streaming."
            )
        tile = prepare(image, bench.plan.preparation, piece)
    except BadImageError as error:
        return SkippedTile(image.id, image.source_path, str(error))
    padded = bench.plan.preparation.padded_size(size, bench.plan.vae.pad_to)
    if padded != bench.rows.padded:
        raise MixedSizesError(
            f"Picture {image.source_path!r} is {size[0]}x{size[1]} and would be encoded at {padded[0]}x{padded[1]}, "
            f"the ones before it at {bench.rows.padded[0]}x{bench.rows.padded[1]}: choose --resize, --crop or --tile."
        )
    return tile


def _prepare(
    bench: _Bench, shard: PlannedShard, tiles: Iterator[Tile | SkippedTile], tally: _Tally, report: _Report
) -> Iterator[tuple[list[int], PixelBatch]]:
    """PREPARE: batches with fixed boundaries inside the shard, each with its rows' positions in the split.

    The boundaries belong to the plan, so a skipped picture makes its own batch smaller and moves no other row:
    kernels round differently for other batches.
    """
    for start in range(shard.start, shard.stop, bench.plan.batch_size):
        positions, kept = [], []
        for position in range(start, min(shard.stop, start + bench.plan.batch_size)):
            tile = next(tiles)
            if isinstance(tile, SkippedTile):
                _skip(bench, shard, position, tile, tally, report)
                continue
            positions.append(position)
            kept.append(tile)
            tally.conversions.update(tile.conversions)
        if kept:
            yield positions, batch_of(kept, bench.rows.padded)


def _encode(
    bench: _Bench,
    shard: PlannedShard,
    batches: Iterator[tuple[list[int], PixelBatch]],
    tally: _Tally,
    report: _Report,
) -> Iterator[LatentRecord]:
    """ENCODE, STORE and MEASURE: one record for each picture whose latent is finite."""
    for positions, batch in batches:
        raw = bench.vae.encode(batch.pixels).mean.float().cpu().numpy()
        finite = np.isfinite(raw).reshape(len(raw), -1).all(axis=1)
        for index in np.flatnonzero(~finite).tolist():
            tile = batch.tiles[index]
            bad = SkippedTile(tile.id, tile.source_path, "the VAE gave a latent that is not finite")
            _skip(bench, shard, positions[index], bad, tally, report)
        kept = np.flatnonzero(finite).tolist()
        if not kept:
            continue
        stored = _store(bench, raw[kept])
        tiles = [batch.tiles[index] for index in kept]
        scores = _measure(bench, stored, tiles)
        tally.statistics = tally.statistics.merge(ChannelStatistics.of(bench.storage.decode(stored)))
        report.advance(len(tiles), scores.get("psnr"))
        for index, tile in enumerate(tiles):
            yield _record(tile, stored[index], {name: float(column[index]) for name, column in scores.items()})


def _store(bench: _Bench, raw: NDArray[np.float32]) -> NDArray[Any]:
    try:
        return bench.storage.encode(raw)
    except OverflowError as error:
        message = f"Storage {bench.plan.storage.name!r} cannot hold these latents: {error}; use --storage float32."
        raise RequestError(message) from error


def _measure(bench: _Bench, stored: NDArray[Any], tiles: list[Tile]) -> dict[str, NDArray[np.float64]]:
    """Scores of the decode of the stored numbers against the prepared pictures, on their true area, as uint8."""
    import torch

    if not bench.scorers and bench.observe is None:
        return {}
    decoded = to_uint8(bench.vae.decode(torch.from_numpy(bench.storage.decode(stored))))
    scores = {name: np.empty(len(tiles)) for name in bench.scorers}
    sizes = [tile.pixels.shape[:2] for tile in tiles]
    for size in dict.fromkeys(sizes):  # one true size, unless tiles were cut at an edge
        rows = [index for index, found in enumerate(sizes) if found == size]
        seen = decoded[rows, :, : size[0], : size[1]].contiguous()
        stacked = torch.from_numpy(np.stack([tiles[index].pixels for index in rows]))
        truth = stacked.permute(0, 3, 1, 2).contiguous().to(seen.device)
        for name, scorer in bench.scorers.items():
            scores[name][rows] = scorer(truth, seen)
        if bench.observe is not None:
            bench.observe(truth, seen)
    return scores


def _record(tile: Tile, latent: NDArray[Any], scores: dict[str, float]) -> LatentRecord:
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
    )


def _shelve(bench: _Bench, work: BuildFolder, shard: PlannedShard, records: Iterator[LatentRecord]) -> ShardInfo:
    """SHELVE: one shard file."""
    try:
        return write_shard(work.folder, shard.name, bench.plan.container, bench.schema, bench.plan.layout, records)
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
