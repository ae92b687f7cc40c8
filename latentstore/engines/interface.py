"""What an engine is: it runs the workers of a build somewhere, until every shard is finished.

All engines run the same worker (`latentstore.worker`), so the bytes do not depend on which one it is. The coordinator
(`build`) plans, claims the folder and calibrates before, and seals after; it looks for itself whether every shard is
finished, so an engine need not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from latentstore.build_profile import BuildProfile
from latentstore.build_progress import ShardProgress
from latentstore.errors import RequestError

if TYPE_CHECKING:
    from latentstore.build_progress import Tell
    from latentstore.engines.failures import Failed
    from latentstore.shard_work import Bench
    from latentstore.worker import BuildJob


@dataclass(frozen=True)
class Placement:
    """Which process of how many this is, where something else than this library started them all."""

    rank: int
    world: int
    local_rank: int = 0
    """Among those of the same machine: which of its devices to compute on."""


@dataclass(frozen=True)
class Crew:
    """What an engine is given."""

    job: BuildJob
    """What workers in other processes need; see `latentstore.worker.work_on`."""
    bench: Bench
    """The coordinator's own, for a worker in this very process; see `latentstore.worker.finish_shards`."""
    workers: int
    tell: Tell
    """To be called, in the thread that called the engine, with what workers tell."""
    cluster: str = ""
    """Address of the cluster that the workers are to run on; see ``EngineRow.cluster``."""

    def hear(self, found: ShardProgress | BuildProfile | Failed, profiles: list[BuildProfile]) -> None:
        """Take in what a worker in another process said: pass progress on, keep a profile, raise a failure."""
        if isinstance(found, ShardProgress):
            self.tell(found)
        elif isinstance(found, BuildProfile):
            profiles.append(found)
        else:
            found.raise_here()


@dataclass(frozen=True)
class EngineRow:
    """One engine, readable without loading anything heavy."""

    name: str
    summary: str
    run: Callable[[Crew], list[BuildProfile]]
    """Have the shards finished; what each worker that came to its end says of its time.

    Raises what a worker raises, and LatentStoreError with one clear sentence where workers cannot be run. Workers that
    die are no error while another one lives.
    """
    placed: bool = False
    """Whether every worker is a process that runs ``build`` itself and is told its ``Placement``."""
    extra: str = ""
    """The optional dependencies of this package that it needs; empty where none."""
    clusters: bool = False
    """Whether it can be told the address of a cluster."""
    cluster: str = ""
    """That address; empty: none is joined that the caller has not connected to, and one is started here."""

    def at(self, cluster: str) -> EngineRow:
        """The same engine on the cluster at this address; RequestError where it has none.

        Whoever runs a cluster can run code in this process: what workers send back is unpickled.
        """
        if not self.clusters:
            raise RequestError(f"Engine {self.name!r} has no clusters: leave the address out, or choose engine ray.")
        return replace(self, cluster=cluster)
