"""build(): pictures in, a measured and sealed latent dataset out; the stages, read top to bottom.

This is the coordinator: it plans, claims the folder, calibrates, has an engine's workers finish the shards
(`shard_work.py`), and seals.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from latentstore.append import (
    growth_of,
    nothing_to_append,
    refuse_underway,
    refuse_unsealed,
    tidy_append,
)
from latentstore.append_sealing import Grown, seal_append
from latentstore.build_profile import BuildProfile
from latentstore.build_progress import Progress, Report
from latentstore.calibration import ChosenStorage, calibrate, candidates_of, sample_of_plan
from latentstore.card import refuse_foreign_card, write_card
from latentstore.engines.interface import Crew, EngineRow, Placement
from latentstore.engines.table import ENGINES
from latentstore.errors import RequestError, SourceError
from latentstore.joining import join
from latentstore.joining_append import join_append
from latentstore.journal import (
    BuildFolder,
    FinishedShard,
    PlannedShards,
    claim,
    claim_append,
    known_plan,
    sealed_manifest,
)
from latentstore.manifest import SkippedInfo
from latentstore.pictures import PictureReader
from latentstore.plan import BuildPlan, PlannedRows
from latentstore.plan_opening import OpenedPlan, opened, refuse_metrics
from latentstore.quarantine import Quarantine
from latentstore.safe_compute import as_planned
from latentstore.seal import Sealing, refuse_loss, seal
from latentstore.shard_work import Bench, Observer
from latentstore.version import __version__
from latentstore.worker import BuildJob

if TYPE_CHECKING:
    from latentstore.manifest import Manifest
    from latentstore.vaes.interface import Vae

Profiled = Callable[[BuildProfile], None]
"""Takes where the time of a build went, once its shards are finished."""


def build(
    plan: BuildPlan,
    out: str | Path,
    *,
    progress: Progress | None = None,
    observe: Observer | None = None,
    engine: EngineRow = ENGINES["local"],
    workers: int = 1,
    placement: Placement | None = None,
    profiled: Profiled | None = None,
    append: bool = False,
) -> Manifest:
    """Build one config into ``<out>/<config>/`` and return its manifest.

    ``progress`` is called after every batch; ``observe`` is shown every batch's pictures as they are measured (those of
    shards that an earlier run had finished are not decoded again, so it does not see them; it needs one worker of
    engine ``local``). Both are called in the caller's thread. ``profiled`` is told where the time of the workers went.

    ``workers`` of an ``engine`` finish the shards; the bytes are the same for any of both. Several workers of engine
    ``local`` are processes of their own, so a script that asks for them keeps its calls below
    ``if __name__ == "__main__":``. For an engine whose processes were started by something else, each of them calls
    this with its ``placement``: that of rank 0 coordinates, the others work, and all return the manifest.

    With ``append``, the pictures of the source that the finished config does not hold yet are added to it, as shards of
    their own; nothing is done where there are none. Pictures are told apart by their paths, and those that it holds are
    not looked at again: ``verify`` tells whether one was changed. Where paths do not tell them apart (a stream, or a
    source without paths) new ones must lie behind the old ones, which are held against their hashes.

    Running it again continues where it stopped, and does nothing once the config is sealed. Raises RequestError,
    SourceError or VaeError with one clear sentence; what was finished before stays.
    """
    plan = _placed(plan, engine, workers, placement)
    folder = Path(out) / plan.config
    if placement is not None and placement.rank > 0:
        if append:
            manifest, profile = join_append(plan, folder, placement, versions=_environment(), progress=progress)
        else:
            manifest, profile = join(plan, folder, placement, progress=progress)
        if profiled is not None and profile is not None:
            profiled(profile)
        return manifest
    (refuse_unsealed if append else refuse_underway)(folder)
    ready = opened(plan, known_plan(folder))
    with as_planned(ready.plan):
        wanted = _Wanted(engine, workers, progress, observe, profiled)
        if append:
            return _appended(ready, Path(out), wanted)
        return _finished_before(ready, Path(out)) or _built(ready, Path(out), wanted)


@dataclass(frozen=True)
class _Wanted:
    """What the caller asked for besides the plan."""

    engine: EngineRow
    workers: int
    progress: Progress | None
    observe: Observer | None
    profiled: Profiled | None


def _placed(plan: BuildPlan, engine: EngineRow, workers: int, placement: Placement | None) -> BuildPlan:
    """The plan on this process's device; RequestError where engine, workers and placement do not go together."""
    if workers < 1:
        raise RequestError(f"Expected 1 worker or more, found {workers}.")
    if engine.placed and placement is None:
        raise RequestError(
            f"Engine {engine.name!r} runs in processes that know their rank: start them with torchrun or srun, such as "
            "torchrun --nproc-per-node 8 --no-python latentstore build … --engine torchrun."
        )
    if plan.device == "cpu" and workers > 1 and plan.threads is None:
        _refuse_too_many_threads(workers)
    if placement is not None and not engine.placed:
        raise RequestError(f"Engine {engine.name!r} starts its workers itself, so there are no ranks: leave them out.")
    if placement is not None and plan.device == "cuda":
        return replace(plan, device=f"cuda:{placement.local_rank}")
    return plan


def _refuse_too_many_threads(workers: int) -> None:
    """RequestError where workers that compute with as many threads as one would wait for each other."""
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    if threads > 1 and workers * threads > cores:
        raise RequestError(
            f"Each of {workers} workers would compute with {threads} threads on {cores} cores: choose how many "
            f"(--threads {max(1, cores // workers)}); they are part of the plan, because rounding depends on them."
        )


def _finished_before(ready: OpenedPlan, out: Path) -> Manifest | None:
    """The manifest, where the folder already holds the whole result of this very plan."""
    plan = ready.plan
    found = sealed_manifest(out / plan.config, ready.fingerprint)
    if found is None:
        return None
    if not found.build.appended:  # places in its planned order are not those of this plan, else
        _refuse_skipped(plan, ready.rows, found.build.skipped)
    _refuse_loss(plan, found.storage.measured_loss_db)
    write_card(out)  # a build that was stopped between manifest and card left none
    tidy_append(out / plan.config, found)
    return found


def _built(ready: OpenedPlan, out: Path, wanted: _Wanted) -> Manifest:
    """CALIBRATE, every shard by the engine's workers, SEAL."""
    plan, rows, reader, vae = ready.plan, ready.rows, ready.reader, ready.vae
    refuse_foreign_card(out)
    refuse_metrics(plan)
    _refuse_short_space(BuildFolder(out / plan.config), plan, rows)
    with claim(out / plan.config, ready.fingerprint) as work:
        report = Report(wanted.progress, rows.total)
        work.remember("shards", PlannedShards(tuple(rows.shards())))
        chosen = _calibrated(work, reader, vae, report)
        bench = Bench.of(reader, vae, chosen, wanted.observe)
        shards = _worked(work, ready, bench, chosen, wanted, report)
        report.stage("seal")
        sealing = Sealing(reader, vae, chosen, bench.schema, shards, ready.fingerprint, _environment())
        _refuse_loss(plan, sealing.totals.measured_loss_db)
        manifest = seal(work, sealing)
        report.stage("done")
        return manifest


def _appended(ready: OpenedPlan, out: Path, wanted: _Wanted) -> Manifest:
    """The same for the new pictures of the source; the manifest as it is where there are none."""
    folder = out / ready.plan.config
    growth = growth_of(ready, folder)
    if growth is None:
        return nothing_to_append(folder)
    refuse_foreign_card(out)
    refuse_metrics(ready.plan)
    _refuse_short_space(BuildFolder(folder), growth.ready.plan, growth.rows)
    versions = _environment()
    with claim_append(folder, growth.identity(versions)) as work:
        report = Report(wanted.progress, growth.rows.due)
        work.remember("shards", PlannedShards(tuple(growth.rows.shards())))
        bench = Bench.of(growth.ready.reader, ready.vae, growth.chosen, wanted.observe)
        shards = _worked(work, growth.ready, bench, growth.chosen, wanted, report)
        report.stage("seal")
        grown = Grown.of(growth, shards, versions)
        _refuse_loss(ready.plan, grown.measured_loss_db)
        manifest = seal_append(work, grown)
        report.stage("done")
        return manifest


def _refuse_short_space(work: BuildFolder, plan: BuildPlan, rows: PlannedRows) -> None:
    """RequestError where the numbers that are still to be written surely do not fit.

    Only where they are written as they are: how much others are compressed to is not known before.
    """
    if plan.layout != "fast" or plan.storage is None:
        return
    left = sum(shard.stop - shard.start for shard in rows.shards() if work.noted(shard) is None)
    cells = math.prod(side // plan.vae.stride for side in rows.padded)
    needed = left * plan.vae.channels * cells * plan.storage.bits // 8
    place = work.folder.absolute()
    free = shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free
    if needed > free:
        raise RequestError(
            f"The latents of {left:,} rows take {needed:,} bytes, and {work.folder} has {free:,} bytes free: make "
            "room, choose another --out, or a smaller --storage."
        )


def _worked(
    work: BuildFolder, ready: OpenedPlan, bench: Bench, chosen: ChosenStorage, wanted: _Wanted, report: Report
) -> tuple[FinishedShard, ...]:
    """Every shard that the plan's rows ask for, finished by the engine's workers."""
    plan, rows = ready.plan, ready.rows
    _resumed(work, ready.reader, report)
    job = BuildJob(plan, rows, work.folder, chosen, ready.fingerprint)
    profiles = wanted.engine.run(Crew(job, bench, wanted.workers, report.tell, wanted.engine.cluster))
    if wanted.profiled is not None:
        wanted.profiled(BuildProfile.sum_of(profiles))
    shards = _all_finished(work, rows)
    _refuse_skipped(plan, rows, tuple(skipped for shard in shards for skipped in shard.skipped))
    return shards


def _resumed(work: BuildFolder, reader: PictureReader, report: Report) -> None:
    """Believe what an earlier run finished where its files still are what was written; forget the rest."""
    skipped: list[SkippedInfo] = []
    for shard in reader.rows.shards():
        entry = work.finished(shard)
        if entry is None:
            if work.noted(shard) is not None:
                work.forget(shard)
            continue
        skipped += entry.skipped
        report.resume(shard.name, shard.stop - shard.start, len(entry.skipped))
    _refuse_skipped(reader.plan, reader.rows, skipped)


def _all_finished(work: BuildFolder, rows: PlannedRows) -> tuple[FinishedShard, ...]:
    """What is known of every shard; RequestError where workers died and left some."""
    found = [work.noted(shard) for shard in rows.shards()]
    finished = tuple(entry for entry in found if entry is not None)
    if len(finished) < len(found):
        raise RequestError(
            f"Every worker ended before its time with {len(finished)} of {len(found)} shards finished in "
            f"{work.folder} (killed, or out of memory?): type the same command again, it continues."
        )
    return finished


def _calibrated(work: BuildFolder, reader: PictureReader, vae: Vae, report: Report) -> ChosenStorage:
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


def _refuse_loss(plan: BuildPlan, lost_db: float | None) -> None:
    """With --strict, a dataset that lost more than its budget is not sealed."""
    if plan.strict:
        refuse_loss(lost_db, plan.max_psnr_drop, "calibrate on more pictures (--calibration)")


def _refuse_skipped(plan: BuildPlan, rows: PlannedRows, skipped: Sequence[SkippedInfo]) -> None:
    """What an earlier run without --strict, or with a larger --max-bad, skipped is no less bad now."""
    if plan.strict and skipped:
        first = skipped[0]
        raise SourceError(f"{first.source_path!r} cannot be used: {first.reason} (without --strict it was skipped).")
    Quarantine(rows, plan.max_bad).add(skipped)


def _environment() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("torch", "diffusers", "datasets", "numpy", "pyarrow", "pillow")
    versions = {"latentstore": __version__, "python": platform.python_version()}
    return versions | {package: version(package) for package in packages} | {"machine": platform.machine()}
