"""Processes that torchrun, Slurm or anything else started: each is a worker, the one of rank 0 also coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentstore.journal import BuildFolder
from latentstore.worker import finish_shards

if TYPE_CHECKING:
    from latentstore.build_profile import BuildProfile
    from latentstore.engines.interface import Crew


def run(crew: Crew) -> list[BuildProfile]:
    """Finish what the other ranks do not finish, in this process."""
    return [finish_shards(crew.bench, BuildFolder(crew.job.folder), crew.tell)]
