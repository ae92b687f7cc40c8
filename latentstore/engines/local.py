"""Workers on this machine: one in this process, or several in processes of their own, each with its own device."""

from __future__ import annotations

import pickle
import signal
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from latentstore.build_profile import BuildProfile
from latentstore.build_progress import ShardProgress
from latentstore.engines.failures import Failed
from latentstore.errors import RequestError
from latentstore.journal import BuildFolder
from latentstore.worker import BuildJob, finish_shards, work_on

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from latentstore.engines.interface import Crew

SECONDS_TO_END = 10.0
"""That a process has to end after it was asked to."""


def run(crew: Crew) -> list[BuildProfile]:
    """Finish all shards on this machine."""
    if crew.workers == 1:
        return [finish_shards(crew.bench, BuildFolder(crew.job.folder), crew.tell)]
    jobs = [crew.job.on(device) for device in _devices(crew)]
    _refuse_what_cannot_be_sent(crew)
    context = get_context("spawn")  # forking would copy torch's threads and the accelerator's state half
    running: dict[Connection, Any] = {}
    try:
        for job in jobs:
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(job, there), daemon=True, name="latentstore-worker")
            process.start()
            there.close()
            running[here] = process
        return _heard(running, crew)
    finally:
        _end(running)


def _heard(running: dict[Connection, Any], crew: Crew) -> list[BuildProfile]:
    """Listen until every worker has ended."""
    profiles: list[BuildProfile] = []
    listening = list(running)
    while listening:
        ready = wait(listening)
        for connection in [one for one in listening if one in ready]:
            try:
                found: ShardProgress | BuildProfile | Failed = connection.recv()
            except EOFError:  # it ended, and not by itself where nothing was said before: others take its shards
                listening.remove(connection)
                continue
            crew.hear(found, profiles)
    return profiles


def _end(running: dict[Connection, Any]) -> None:
    """No worker outlives the build, however it ends."""
    for process in running.values():
        process.terminate()
    for connection, process in running.items():
        process.join(SECONDS_TO_END)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
        connection.close()


def _work(job: BuildJob, coordinator: Connection) -> None:
    """What runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to answer
    with suppress(BrokenPipeError):  # the coordinator died, and with it this build
        try:
            coordinator.send(work_on(job, coordinator.send))
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 (raised again in the coordinator)
            coordinator.send(Failed.by(error))


def _devices(crew: Crew) -> list[str]:
    """Each worker's device; RequestError where they would not have one each, or not the cores they compute with."""
    plan = crew.job.plan
    if plan.device.startswith("cuda"):
        import torch

        found = torch.cuda.device_count()
        if crew.workers > found:
            raise RequestError(
                f"Expected a CUDA device for each of {crew.workers} workers, found {found}: choose --workers {found}."
            )
        return [f"cuda:{index}" for index in range(crew.workers)]
    return [plan.device] * crew.workers


def _refuse_what_cannot_be_sent(crew: Crew) -> None:
    """RequestError where the plan holds what another process cannot be given."""
    if crew.bench.observe is not None:
        raise RequestError("An observer sees the pictures of one process only: build with one worker.")
    try:
        pickle.dumps(crew.job)
    except Exception as error:
        raise RequestError(
            f"The plan cannot be given to other processes ({error}): define the functions of its rows at the top level "
            "of a module, or use one worker."
        ) from error
