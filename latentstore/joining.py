"""What a process of rank 1 and up does in a build that rank 0 coordinates: it waits for the plan, works, and waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from latentstore.build_profile import BuildProfile
from latentstore.build_progress import Report
from latentstore.calibration import ChosenStorage
from latentstore.errors import RequestError
from latentstore.journal import BuildFolder, known_plan, sealed_manifest
from latentstore.plan_opening import opened
from latentstore.safe_compute import as_planned
from latentstore.shard_work import Bench
from latentstore.worker import finish_shards

if TYPE_CHECKING:
    from pathlib import Path

    from latentstore.build_progress import Progress
    from latentstore.engines.interface import Placement
    from latentstore.manifest import Manifest
    from latentstore.plan import BuildPlan

PATIENCE = 300.0
"""Seconds to wait for something while nobody holds the folder: rank 0 may still be loading its packages."""
SECONDS_BETWEEN_LOOKS = 0.2
Found = TypeVar("Found")


def join(
    plan: BuildPlan, folder: Path, placement: Placement, *, progress: Progress | None, patience: float = PATIENCE
) -> tuple[Manifest, BuildProfile | None]:
    """Finish shards of the build that rank 0 began in ``folder``; the manifest it sealed, and where the time went.

    Raises PlanMismatchError where rank 0 builds something else, RequestError where it is not there or dies.
    """
    work = BuildFolder(folder)
    wait = Waiting(work, placement, patience)
    known = wait.until(lambda: known_plan(folder), "begun")
    mine = opened(plan, known)
    profile = None
    chosen = wait.until(
        lambda: sealed_manifest(folder, mine.fingerprint) or _storage(work, mine.plan), "said how it stores"
    )
    if isinstance(chosen, ChosenStorage):
        work.refuse_other_plan(mine.fingerprint)
        bench = Bench.of(mine.reader, mine.vae, chosen)
        with as_planned(mine.plan):
            profile = finish_shards(bench, work, Report(progress, mine.rows.total).tell)
    return wait.until(lambda: sealed_manifest(folder, mine.fingerprint), "sealed what is finished"), profile


def _storage(work: BuildFolder, plan: BuildPlan) -> ChosenStorage | None:
    """What rank 0 stores in, once it knows."""
    if plan.storage is not None and not plan.calibrated:
        return ChosenStorage(plan.storage.name)
    return work.recall("storage", ChosenStorage)


class Waiting:
    """Waits for what rank 0 does: as long as it lives, and for a while where it cannot be seen."""

    def __init__(self, work: BuildFolder, placement: Placement, patience: float) -> None:
        self._work = work
        self._placement = placement
        self._patience = patience

    def until(self, look: Callable[[], Found | None], what: str) -> Found:
        """What ``look`` finds once it finds something."""
        alone_since = time.monotonic()
        while True:
            found = look()
            if found is not None:
                return found
            if self._work.builder is not None:
                alone_since = time.monotonic()
            if time.monotonic() - alone_since > self._patience:
                raise RequestError(
                    f"Rank {self._placement.rank} of {self._placement.world} waited {self._patience:g} s in "
                    f"{self._work.folder} and rank 0 has not {what}: see what rank 0 says, let every rank see the same "
                    "folder, then start them all again; finished shards are kept."
                )
            time.sleep(SECONDS_BETWEEN_LOOKS)
