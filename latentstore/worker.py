"""The worker: finishes every shard of a build that nobody else finishes, wherever it runs.

Workers share nothing but the config's folder. Each takes a free shard by its lock file, builds it, and takes the next;
a shard whose worker died is free again. So any number of them may come and go, and the bytes are the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstore.build_profile import BuildProfile
from latentstore.build_progress import ShardProgress
from latentstore.calibration import ChosenStorage
from latentstore.errors import RequestError
from latentstore.journal import BuildFolder
from latentstore.pictures import PictureReader
from latentstore.plan import BuildPlan, PlannedRows
from latentstore.safe_compute import as_planned
from latentstore.shard_work import Bench, finished_shards

if TYPE_CHECKING:
    from latentstore.build_progress import Tell
    from latentstore.plan import PlannedShard
    from latentstore.quarantine import Quarantine
    from latentstore.system.locks import Lock

SECONDS_BETWEEN_LOOKS = 0.2
"""At the shards that other workers have."""


@dataclass(frozen=True)
class BuildJob:
    """What a worker needs to know. It can be sent to another process where the rows of its plan can."""

    plan: BuildPlan
    rows: PlannedRows
    folder: Path
    """Of the config; every worker sees it under this path."""
    chosen: ChosenStorage
    fingerprint: Mapping[str, Any]

    def on(self, device: str) -> BuildJob:
        """The same work, computed on this device."""
        return replace(self, plan=replace(self.plan, device=device))


def open_bench(job: BuildJob) -> Bench:
    """Source and VAE of a job, opened by a worker in a process of its own.

    Raises RequestError where it would not build the same: other pictures or other weights than the coordinator has.
    """
    source = job.plan.source.open()
    vae = job.plan.vae.load(device=job.plan.device, dtype=job.plan.dtype)
    found = job.plan.fingerprint(source, job.rows, vae.identity)
    differing = sorted(key for key in {*found, *job.fingerprint} if found.get(key) != job.fingerprint.get(key))
    if differing:
        raise RequestError(
            f"A worker finds another {', '.join(differing)} than the builder of {job.folder}: give every machine the "
            "same pictures and weights, then type the command again."
        )
    return Bench.of(PictureReader(job.plan, source, job.rows), vae, job.chosen)


def work_on(job: BuildJob, tell: Tell) -> BuildProfile:
    """A whole worker in a process of its own: open what the job needs, then finish shards until all are finished."""
    with as_planned(job.plan):
        return finish_shards(open_bench(job), BuildFolder(job.folder), tell)


def finish_shards(bench: Bench, work: BuildFolder, tell: Tell) -> BuildProfile:
    """Finish every shard that nobody else finishes; returns once all are finished, by whomever.

    ``tell`` is called after every batch of its own, and for every shard that it finds finished by another.
    """
    mine = _Mine(work, bench.reader.rows.shards(), bench.quarantine)
    seconds = 0.0
    pictures = 0
    try:
        while True:
            began = time.perf_counter()
            built = 0
            for shard, entry in finished_shards(bench, work, mine.free(), tell):
                mine.let_go(shard)
                built += entry.shard.rows
            pictures += built
            seconds += time.perf_counter() - began if built else 0.0
            if mine.all_finished(tell):
                return bench.clock.profile(seconds, pictures)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        mine.let_all_go()


class _Mine:
    """The shards that this worker has taken, and what is left."""

    def __init__(self, work: BuildFolder, shards: list[PlannedShard], quarantine: Quarantine) -> None:
        self._work = work
        self._quarantine = quarantine
        self._left = {shard.name: shard for shard in shards}
        self._taken: dict[str, Lock] = {}

    def free(self) -> Iterator[PlannedShard]:
        """Every shard that is neither finished nor another's, taken when it is asked for."""
        for shard in list(self._left.values()):
            if shard.name in self._taken or self._work.noted(shard) is not None:
                continue
            lock = self._work.take(shard)
            if lock is None:
                continue
            self._taken[shard.name] = lock
            if self._work.noted(shard) is None:  # another may have finished it between the two looks
                yield shard
            else:
                self.let_go(shard)

    def let_go(self, shard: PlannedShard) -> None:
        """Nobody needs the shard any more."""
        lock = self._taken.pop(shard.name, None)
        if lock is not None:
            lock.release()

    def let_all_go(self) -> None:
        """Others may have them."""
        while self._taken:
            self._taken.popitem()[1].release()

    def all_finished(self, tell: Tell) -> bool:
        """Whether nothing is left; tells of what was finished since the last look."""
        if self._work.is_sealed:
            return True
        for shard in list(self._left.values()):
            entry = self._work.noted(shard)
            if entry is not None:
                del self._left[shard.name]
                self._quarantine.add(entry.skipped)
                if not entry.by_this_process:
                    tell(ShardProgress(shard.name, shard.stop - shard.start, len(entry.skipped)))
        return not self._left
