"""What a process of rank 1 and up does in an append that rank 0 coordinates: that of a build, beside a manifest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from latentstore.append import Growth, growth_of, refuse_unsealed
from latentstore.build_progress import Report
from latentstore.errors import PlanMismatchError, StoreError
from latentstore.hashing import sha256_of
from latentstore.joining import PATIENCE, Waiting
from latentstore.journal import BuildFolder, begun_append, known_plan, sealed_manifest
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.plan_opening import opened
from latentstore.safe_compute import as_planned
from latentstore.shard_work import Bench
from latentstore.worker import finish_shards

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from latentstore.build_profile import BuildProfile
    from latentstore.build_progress import Progress
    from latentstore.engines.interface import Placement
    from latentstore.plan import BuildPlan
    from latentstore.plan_opening import OpenedPlan

SETTLING = 10.0
"""Seconds that rank 0 may take, once it has the folder, to throw away what another append had begun there."""


def join_append(
    plan: BuildPlan,
    folder: Path,
    placement: Placement,
    *,
    versions: Mapping[str, str],
    progress: Progress | None,
    patience: float = PATIENCE,
    settling: float = SETTLING,
) -> tuple[Manifest, BuildProfile | None]:
    """Finish shards of the append that rank 0 began in ``folder``; the manifest it sealed, and where the time went.

    Where nothing is new, or rank 0 has sealed all of it already, the manifest as it is. Raises PlanMismatchError where
    rank 0 adds something else or computes with other ``versions``, RequestError where it is not there or dies.
    """
    refuse_unsealed(folder)
    mine = opened(plan, known_plan(folder))
    growth = _growth(mine, folder)
    if growth is None:
        return Manifest.read(folder), None
    work = BuildFolder(folder)
    wait = Waiting(work, placement, patience)
    begun = _Begun(work, growth, versions, placement.rank, settling)
    profile = None
    if wait.until(lambda: begun.sealed() or begun.goes_on(), "begun to add to it") is True:
        bench = Bench.of(growth.ready.reader, mine.vae, growth.chosen)
        with as_planned(mine.plan):
            profile = finish_shards(bench, work, Report(progress, growth.rows.due).tell)
    return wait.until(begun.sealed, "sealed what was added"), profile


def _growth(mine: OpenedPlan, folder: Path) -> Growth | None:
    """What is new against the manifest there; looked at again where rank 0 replaces it in this very moment."""
    while True:
        before = sha256_of(folder / FILE_NAME)
        try:
            return growth_of(mine, folder)
        except StoreError:
            if sha256_of(folder / FILE_NAME) == before:
                raise


class _Begun:
    """What rank 0 has begun in the folder, against what this process would add."""

    def __init__(
        self, work: BuildFolder, growth: Growth, versions: Mapping[str, str], rank: int, settling: float
    ) -> None:
        self._work = work
        self._growth = growth
        self._wanted = growth.identity(versions)
        self._rank = rank
        self._settling = settling
        self._other_since: float | None = None

    def sealed(self) -> Manifest | None:
        """The new manifest, once it stands in the place of the one that is added to."""
        folder = self._work.folder
        if sha256_of(folder / FILE_NAME) == self._growth.manifest_sha256:
            return None
        return sealed_manifest(folder, self._growth.ready.fingerprint)

    def goes_on(self) -> bool | None:
        """True once this very append is begun; None before. PlanMismatchError where rank 0 is at another one."""
        known = begun_append(self._work.folder)
        if known == self._wanted:
            return True
        if known is None or self._work.builder is None:  # what lies there, if anything, is of an earlier run
            self._other_since = None
            return None
        now = time.monotonic()
        self._other_since = self._other_since or now
        if now - self._other_since > self._settling:
            raise PlanMismatchError(self._difference(known))
        return None

    def _difference(self, known: Mapping[str, Any]) -> str:
        keys = sorted(key for key in {*known, *self._wanted} if known.get(key) != self._wanted.get(key))
        listed = "; ".join(f"{key}: there {known.get(key)!r}, here {self._wanted.get(key)!r}" for key in keys)
        return (
            f"Rank {self._rank} would not add to {self._work.folder} what rank 0 adds ({listed}): give every machine "
            "the same pictures and packages, then start all ranks again."
        )
