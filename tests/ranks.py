"""Ranks of a data-parallel run as processes of their own, which know of each other nothing but their number."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SECONDS = 240


def served(folder: Path, jobs: Sequence[dict[str, Any]], world_size: int, out: Path) -> list[list[list[str]]]:
    """Ids that each rank of each job gives in one epoch: [job][rank]. A job has ``load`` and ``loader`` options."""
    spawning = multiprocessing.get_context("spawn")
    ranks = [
        spawning.Process(target=_serve, args=(folder, list(jobs), rank, world_size, out)) for rank in range(world_size)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(SECONDS)
        rank.kill()
    assert [rank.exitcode for rank in ranks] == [0] * world_size
    found = [json.loads((out / f"{rank}.json").read_text()) for rank in range(world_size)]
    assert len({one["process"] for one in found} | {os.getpid()}) == world_size + 1
    return [[one["ids"][number] for one in found] for number in range(len(jobs))]


def _serve(folder: Path, jobs: list[dict[str, Any]], rank: int, world_size: int, out: Path) -> None:
    from latentstore import load_latents

    ids = []
    for job in jobs:
        dataset = load_latents(folder, columns=["id"], **job["load"])
        loader = dataset.loader(4, rank=rank, world_size=world_size, **job["loader"])
        ids.append([name for batch in loader for name in batch["id"]])
    (out / f"{rank}.json").write_text(json.dumps({"process": os.getpid(), "ids": ids}))
