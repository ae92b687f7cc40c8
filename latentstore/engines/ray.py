"""Workers as Ray actors, on this machine or on the machines of a cluster; the one door to Ray.

Every actor holds one VAE and takes free shards from the config's folder like any other worker, so all machines must see
that folder (and the pictures) under the same path. An actor whose machine dies is not started again: its shard is free,
and the others take it.

Only a cluster that the caller is connected to, or has named, is used: Ray by itself would join any that its temporary
folder or its environment knows of, which on a shared machine may be somebody else's. The plan is pickled for the actors
and what they send back is unpickled, so whoever can reach the ports of a cluster can run code here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from latentstore.build_profile import BuildProfile
from latentstore.build_progress import ShardProgress
from latentstore.engines.failures import Failed
from latentstore.errors import RequestError
from latentstore.journal import known_plan
from latentstore.worker import BuildJob, work_on

if TYPE_CHECKING:
    from latentstore.engines.interface import Crew

FREE_SLOTS = 1
"""CPU slots of a cluster of our own that no actor takes: one that has none left can stand still."""
SECONDS_TO_START = 120.0
"""That a cluster has for starting the first actor; importing torch on a busy machine takes a while."""


def run(crew: Crew) -> list[BuildProfile]:
    """Finish all shards with ``crew.workers`` actors.

    A cluster that this process is connected to is used, else the one at ``crew.cluster`` ("auto": the one that Ray
    itself looks for), else one is started here and stopped again.
    """
    if crew.bench.observe is not None:
        raise RequestError("An observer sees the pictures of one process only: build with engine local and one worker.")
    with _connected(crew.workers, crew.cluster) as ray:
        slots = _slots(ray, crew)
        actors = _actors(ray, crew, slots)
        try:
            streams = {actor.told.remote(crew.job): actor for actor in actors}
            return _heard(ray, streams, crew)
        finally:
            for actor in actors:
                with suppress(Exception):  # it may be dead already, or its machine
                    ray.kill(actor)


@contextmanager
def _connected(workers: int, cluster: str) -> Iterator[Any]:
    """Ray, connected to a cluster; what was not connected before is left as it was found."""
    try:
        import ray
    except ImportError as error:
        raise RequestError(
            "Engine ray needs a package that is not installed: pip install 'latentstore[ray]'"
        ) from error
    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if cluster:
            ray.init(address=cluster, **quiet)
        else:
            ray.init(address="local", num_cpus=workers + FREE_SLOTS, include_dashboard=False, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise RequestError(f"Ray cannot be reached: {reason}; see whether `ray status` answers.") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _slots(ray: Any, crew: Crew) -> dict[str, float]:
    """What each actor takes of its machine; RequestError where the cluster has too little of it."""
    on_gpu = crew.job.plan.device.startswith("cuda")
    kind, word = ("GPU", "GPUs") if on_gpu else ("CPU", "CPU slots")
    there = int(ray.cluster_resources().get(kind, 0))
    if crew.workers > there:
        ask = f"choose --workers {there}" if there else "add a machine that has one"
        raise RequestError(f"The Ray cluster has {there} {word} and {crew.workers} workers were asked for: {ask}.")
    return {"num_gpus": 1, "num_cpus": 0} if on_gpu else {"num_cpus": 1}


def _actors(ray: Any, crew: Crew, slots: dict[str, float]) -> list[Any]:
    """The actors that came to life, one at least; spread over the machines."""
    made = ray.remote(max_restarts=0, scheduling_strategy="SPREAD", **slots)(_Worker)
    actors = [made.remote() for _ in range(crew.workers)]
    asked = {actor.lacks.remote(crew.job): actor for actor in actors}
    begun, _ = ray.wait(list(asked), num_returns=1, timeout=SECONDS_TO_START)
    if not begun:
        raise RequestError(
            f"The Ray cluster started none of {crew.workers} workers within {SECONDS_TO_START:.0f} seconds: its slots "
            "are taken by others (see `ray status`); type the same command again later."
        )
    for answer in begun:  # those that start later say the same in `told`
        with suppress(ray.exceptions.RayError):
            missing = ray.get(answer)
            if missing:
                raise RequestError(missing)
    return actors


def _heard(ray: Any, streams: dict[Any, Any], crew: Crew) -> list[BuildProfile]:
    """Listen until every actor has ended, by itself or with its machine."""
    profiles: list[BuildProfile] = []
    listening = list(streams)
    while listening:
        ready, _ = ray.wait(listening, num_returns=1, fetch_local=False)
        for stream in ready:
            try:
                found = ray.get(next(stream))
            except (StopIteration, ray.exceptions.RayError):  # it ended; where it died, others take its shards
                listening.remove(stream)
                continue
            crew.hear(found, profiles)
    return profiles


class _Worker:
    """An actor: one worker of a build."""

    def lacks(self, job: BuildJob) -> str:
        """Why this machine cannot work on the job, in a sentence; empty where it can."""
        if known_plan(job.folder) is not None:
            return ""
        import socket

        return f"Machine {socket.gethostname()} does not see {job.folder}: put --out where every machine sees it."

    def told(self, job: BuildJob) -> Iterator[ShardProgress | BuildProfile | Failed]:
        """What the worker tells while it works, and last how it ended."""
        missing = self.lacks(job)
        if missing:
            yield Failed(RequestError(missing))
            return
        said: SimpleQueue[ShardProgress | BuildProfile | Failed] = SimpleQueue()

        def work() -> None:
            try:
                said.put(work_on(job, said.put))
            except Exception as error:  # noqa: BLE001 (raised again by the coordinator)
                said.put(Failed.by(error))

        Thread(target=work, name="latentstore-worker", daemon=True).start()
        while isinstance(found := said.get(), ShardProgress):
            yield found
        yield found
