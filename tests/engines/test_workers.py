"""Any engine, any number of workers: the same bytes, whoever dies on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from scenes import plan, scenes

from latentstore import ENGINES, VAES, BuildProfile, BuildProgress, build, build_status
from latentstore.build_profile import STAGES
from latentstore.engines.interface import Placement
from latentstore.errors import PlanMismatchError, RequestError
from latentstore.hashing import sha256_of
from latentstore.joining import join
from latentstore.journal import BuildFolder, claim
from latentstore.records import LatentBatch
from latentstore.system.locks import Lock, take
from latentstore.vaes.interface import LoadOptions, VaeRow
from latentstore.vaes.pooling import PoolingVae


def every_file(folder: Path) -> dict[str, str]:
    """sha256 of all files below a repository's folder: shards, index, preview, manifest, card."""
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one worker makes of the plan."""
    out = tmp_path_factory.mktemp("alone")
    build(plan(threads=1), out)
    return every_file(out)


@dataclass(frozen=True)
class SlowVae(PoolingVae):
    """Takes its time, so that there is some to be killed in."""

    def encode(self, pixels: Any) -> LatentBatch:
        time.sleep(0.15)
        return super().encode(pixels)


def slow_family(row: VaeRow, options: LoadOptions) -> SlowVae:
    """At the top level, so that workers in other processes find it."""
    return SlowVae(row, options)


SLOW = replace(VAES["pool8"], family=slow_family)


def test_several_local_workers_make_the_bytes_of_one(tmp_path: Path, alone: dict[str, str]) -> None:
    events: list[BuildProgress] = []
    profiles: list[BuildProfile] = []
    build(plan(threads=1), tmp_path, workers=3, progress=events.append, profiled=profiles.append)
    assert every_file(tmp_path) == alone
    assert (events[-1].stage, events[-1].done, events[-1].total) == ("done", 30, 30)
    assert events[-1].psnr is not None
    assert (profiles[0].workers, profiles[0].pictures) == (3, 30)


def test_a_killed_worker_s_shards_are_done_by_the_others(tmp_path: Path, alone: dict[str, str]) -> None:
    folder = tmp_path / "synthetic-pool8"
    killed: list[int] = []

    def kill_the_first_to_work(progress: BuildProgress) -> None:
        if progress.stage != "encode" or killed:
            return
        work = BuildFolder(folder)
        holders = [work.worked_on_by(shard) for shard in _shards(folder)]
        at_work = [holder.pid for holder in holders if holder is not None and holder.pid != os.getpid()]
        if at_work:
            killed.append(at_work[0])
            os.kill(at_work[0], signal.SIGKILL)

    build(plan(threads=1, vae=SLOW), tmp_path, workers=2, progress=kill_the_first_to_work)
    assert len(killed) == 1
    assert every_file(tmp_path) == alone


def _shards(folder: Path) -> Any:
    from latentstore.journal import PlannedShards

    found = BuildFolder(folder).recall("shards", PlannedShards)
    return found.shards if found is not None else ()


def test_where_every_worker_is_killed_a_sentence_says_what_to_type(tmp_path: Path, alone: dict[str, str]) -> None:
    folder = tmp_path / "synthetic-pool8"

    def kill_all(progress: BuildProgress) -> None:
        if progress.stage == "encode":
            for child in _children():
                os.kill(child, signal.SIGKILL)

    with pytest.raises(RequestError, match=r"ended before its time with \d of 3 shards .*type the same command again"):
        build(plan(threads=1, vae=SLOW), tmp_path, workers=2, progress=kill_all)
    assert not (folder / "manifest.json").exists()
    build(plan(threads=1, vae=SLOW), tmp_path)
    assert every_file(tmp_path) == alone


def _children() -> list[int]:
    import multiprocessing

    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


@dataclass(frozen=True)
class HugeVae(PoolingVae):
    """Its latents are too large for float16."""

    def encode(self, pixels: Any) -> LatentBatch:
        return LatentBatch(mean=super().encode(pixels).mean * 1e6)


def huge_family(row: VaeRow, options: LoadOptions) -> HugeVae:
    return HugeVae(row, options)


def test_what_a_worker_cannot_do_comes_back_as_its_sentence(tmp_path: Path) -> None:
    vae = replace(VAES["pool8"], family=huge_family)
    with pytest.raises(RequestError, match=r"beyond the 65504 of float16; use --storage float32"):
        build(plan(threads=1, vae=vae), tmp_path, workers=2)


def test_a_plan_that_cannot_be_sent_is_refused_with_what_to_change(tmp_path: Path) -> None:
    def family(row: VaeRow, options: LoadOptions) -> PoolingVae:
        return PoolingVae(row, options)

    vae = replace(VAES["pool8"], family=family)
    with pytest.raises(RequestError, match="cannot be given to other processes .*top level of a module"):
        build(plan(threads=1, vae=vae), tmp_path, workers=2)


def test_what_does_not_go_together_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="Expected 1 worker or more, found 0"):
        build(plan(), tmp_path, workers=0)
    with pytest.raises(RequestError, match="start them with torchrun or srun"):
        build(plan(), tmp_path, engine=ENGINES["torchrun"])
    with pytest.raises(RequestError, match="starts its workers itself"):
        build(plan(), tmp_path, placement=Placement(0, 2))
    with pytest.raises(RequestError, match="An observer sees the pictures of one process only"):
        build(plan(threads=1), tmp_path, workers=2, observe=lambda _truth, _decoded: None)


def test_more_threads_than_cores_are_refused_with_a_number_that_fits(tmp_path: Path) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RequestError, match=r"choose how many \(--threads 1\)"):
            build(plan(), tmp_path, workers=1 + (os.cpu_count() or 1))
    finally:
        torch.set_num_threads(before)


def test_threads_are_a_part_of_the_plan_and_are_put_back(tmp_path: Path) -> None:
    import torch

    before = torch.get_num_threads()
    wanted = 1 if before > 1 else 2
    manifest = build(plan(threads=wanted), tmp_path)
    assert manifest.build.plan["threads"] == wanted
    assert torch.get_num_threads() == before
    assert build(plan(), tmp_path) == manifest  # not named again, it is what the folder was built with
    with pytest.raises(PlanMismatchError, match=f"threads: there {wanted}, asked for 3"):
        build(plan(threads=3), tmp_path)


def test_several_ranks_make_the_bytes_of_one_worker(tmp_path: Path) -> None:
    command = ["build", "synthetic", "--source-option", "count=30", "--source-option", "size=40", "--vae", "pool8"]
    seeded = replace(scenes(), options={**scenes().options, "seed": 0})
    build(plan(threads=1, source=seeded), tmp_path / "alone")
    command += ["--thumbnail", "0", "--batch-size", "4", "--rows-per-shard", "12", "--threads", "1"]
    command += ["--engine", "torchrun", "--json"]
    code = "import sys; from latentstore_cli.main import main; main(sys.argv[1:])"
    ranks = []
    for rank in (1, 0, 2):  # the one that coordinates need not be the first
        names = {0: ("RANK", "WORLD_SIZE", "LOCAL_RANK"), 1: ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
        keys = names.get(rank, ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"))
        environment = {**os.environ, **dict(zip(keys, (str(rank), "3", str(rank)), strict=True))}
        ranks.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *command, "--out", str(tmp_path / "ranks")],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [rank.communicate(timeout=240) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0, 0], said
    assert every_file(tmp_path / "ranks") == every_file(tmp_path / "alone")
    assert json.loads(said[1][0])["manifest"]["config"] == "synthetic-pool8"
    assert said[0][0] == said[2][0] == ""


def test_a_rank_that_waits_in_vain_says_for_what(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"Rank 1 of 2 waited 0\.1 s in .* and rank 0 has not begun"):
        join(plan(), tmp_path / "synthetic-pool8", Placement(1, 2), progress=None, patience=0.1)


def test_a_rank_with_another_plan_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "synthetic-pool8"
    with claim(folder, {"seed": 7}), pytest.raises(PlanMismatchError, match="already holds another plan"):
        join(plan(), folder, Placement(1, 2), progress=None, patience=0.1)


def test_the_status_says_who_finished_what_who_is_at_work_and_what_remains(tmp_path: Path) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    folder = tmp_path / "synthetic-pool8"
    during: list[Any] = []

    def look(progress: BuildProgress) -> None:
        while progress.done >= 16:  # the first shard was measured, and is being written
            during[:] = [build_status(folder)]
            if during[0].shards[0].state == "finished":
                raise Stopped
            time.sleep(0.01)

    with pytest.raises(RequestError, match="holds no build of latentstore"):
        build_status(tmp_path)
    with pytest.raises(Stopped):
        build(plan(), tmp_path, progress=look)
    at_work = during[0]
    assert at_work.builder.pid == os.getpid()
    assert [shard.state for shard in at_work.shards][:2] == ["finished", "worked on"]
    assert [shard.by.pid for shard in at_work.shards[:2]] == [os.getpid()] * 2
    after = build_status(folder)
    assert after.builder is None
    assert [shard.state for shard in after.shards] == ["finished", "waiting", "waiting"]
    assert (after.rows("finished"), after.rows("waiting"), after.rows_per_second) == (12, 18, None)
    build(plan(), tmp_path)
    assert build_status(folder).sealed
    assert build_status(folder).rows("finished") == 30


def test_a_shard_that_another_process_holds_is_waited_for_and_then_taken_over(
    tmp_path: Path, alone: dict[str, str]
) -> None:
    journal = tmp_path / "synthetic-pool8" / ".build"
    journal.mkdir(parents=True)
    lock = take(journal / "train-00001.lock")
    assert isinstance(lock, Lock)
    order: list[int] = []

    def let_go_late(progress: BuildProgress) -> None:
        order.append(progress.done)
        if progress.done == 18:  # the two others are done
            threading.Timer(0.3, lock.release).start()

    build(plan(threads=1), tmp_path, progress=let_go_late)
    assert 18 in order
    assert every_file(tmp_path) == alone


def test_a_profile_counts_every_stage_and_no_lane_is_busier_than_there_was_time(tmp_path: Path) -> None:
    profiles: list[BuildProfile] = []
    build(plan(source=scenes(24, 64), vae=VAES["demo"], thumbnail=32), tmp_path, profiled=profiles.append)
    profile = profiles[0]
    assert set(profile.stages) == set(STAGES)
    assert all(seconds > 0 for seconds in profile.stages.values())
    assert all(seconds <= profile.seconds for seconds in profile.lanes.values())
    assert profile.vae_seconds == profile.stages["encode"] + profile.stages["decode"]
    assert 0 < profile.vae_share < 1
    assert profile.bottleneck in STAGES
    build(plan(source=scenes(24, 64), vae=VAES["demo"], thumbnail=32), tmp_path, profiled=profiles.append)
    assert len(profiles) == 1  # nothing was done
