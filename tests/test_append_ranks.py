"""Several ranks add to one dataset: the bytes of one worker, whoever comes late, dies or holds other pictures."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from appending import CONFIG, draw, hashes, plan

from latentstore import ENGINES, Manifest, build, open_store
from latentstore.append import Growth, growth_of
from latentstore.engines.interface import Placement
from latentstore.errors import NotSealedError, PlanMismatchError, RequestError
from latentstore.hashing import sha256_of
from latentstore.joining_append import join_append
from latentstore.journal import APPENDS_TO, PlannedShards, claim_append
from latentstore.manifest import FILE_NAME
from latentstore.manifest.names import JOURNAL
from latentstore.plan_opening import opened
from latentstore.store import open_local_store

VERSIONS = {"torch": "2.0"}
COMMAND = "import sys; from latentstore_cli.main import main; main(sys.argv[1:])"


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """Pictures of which a dataset (in ``out`` and in ``alone``) holds only the first 6 of 18."""
    photos: Path = draw(tmp_path / "photos", range(6))
    build(plan(photos), tmp_path / "out")
    draw(photos, range(6, 18))
    shutil.copytree(tmp_path / "out", tmp_path / "alone")
    return photos


def heard(ranks: Mapping[int, subprocess.Popen[str]]) -> dict[int, tuple[str, str]]:
    """(stdout, stderr) of these processes, once they have ended; none outlives this."""
    try:
        return {rank: process.communicate(timeout=280) for rank, process in ranks.items()}
    finally:
        for process in ranks.values():
            process.kill()
            process.communicate()


def in_ranks(photos: Path, out: Path, places: Mapping[int, tuple[str, str, str]]) -> dict[int, tuple[str, str]]:
    """What the command said, (stdout, stderr), in a process of each rank, started in this order."""
    options = ["--config", CONFIG, "--batch-size", "2", "--rows-per-shard", "4", "--threads", "1"]
    command = ["build", str(photos), "--vae", "pool8", "--out", str(out), *options, "--engine", "torchrun", "--append"]
    ranks = {}
    for rank, names in places.items():
        environment = {**os.environ, **dict(zip(names, (str(rank), str(len(places)), str(rank)), strict=True))}
        ranks[rank] = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    said = heard(ranks)
    assert {rank: process.returncode for rank, process in ranks.items()} == dict.fromkeys(places, 0), said
    return said


TORCHRUN, SLURM = ("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")


def test_ranks_add_what_one_worker_adds_and_only_rank_0_speaks(grown: Path, tmp_path: Path) -> None:
    build(plan(grown), tmp_path / "alone", append=True)
    places = {1: SLURM, 0: TORCHRUN, 2: SLURM}  # the one that coordinates need not be the first
    said = in_ranks(grown, tmp_path / "out", places)
    assert hashes(tmp_path / "out" / CONFIG) == hashes(tmp_path / "alone" / CONFIG)
    assert (tmp_path / "out" / "README.md").read_bytes() == (tmp_path / "alone" / "README.md").read_bytes()
    assert said[0][0].startswith(f"Added 12 pictures to {CONFIG} in ")
    assert said[1][0] == said[2][0] == ""
    said = in_ranks(grown, tmp_path / "out", {1: TORCHRUN, 0: TORCHRUN})  # typed again
    assert said[0][0].startswith(f"Nothing to append: {tmp_path / 'out' / CONFIG} holds, or lists as skipped, every")
    assert said[1][0] == ""
    assert hashes(tmp_path / "out" / CONFIG) == hashes(tmp_path / "alone" / CONFIG)


A_RANK = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from appending import plan
from latentstore import ENGINES, build
from latentstore.engines.interface import Placement

rank, gone = int(sys.argv[1]), Path(sys.argv[2])

def progress(found):
    if found.stage == "encode" and rank:
        gone.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    while found.stage == "encode" and not gone.exists():
        time.sleep(0.05)

place = Placement(rank, 2)
build(plan(Path({photos!r})), {out!r}, append=True, engine=ENGINES["torchrun"], placement=place, progress=progress)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_the_shards_of_a_rank_that_is_killed_are_finished_by_another(grown: Path, tmp_path: Path) -> None:
    draw(grown, range(18, 54))  # 12 shards, of which rank 0 can read only some ahead while it waits
    build(plan(grown), tmp_path / "alone", append=True)
    code = A_RANK.format(tests=str(Path(__file__).parent), photos=str(grown), out=str(tmp_path / "out"))
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", code]
    ranks = {rank: subprocess.Popen([*command, str(rank), str(tmp_path / "gone")], **pipes) for rank in (0, 1)}
    said = heard(ranks)
    assert {rank: process.returncode for rank, process in ranks.items()} == {0: 0, 1: -signal.SIGKILL}, said
    assert hashes(tmp_path / "out" / CONFIG) == hashes(tmp_path / "alone" / CONFIG)


def growth(photos: Path, out: Path) -> Growth:
    """What is new in the pictures."""
    found = growth_of(opened(plan(photos), None), out / CONFIG)
    assert found is not None
    return found


def joined(photos: Path, out: Path, **changes: Any) -> Manifest:
    """What rank 1 of 2 gets, which is in no mood for waiting."""
    wanted: dict[str, Any] = {"versions": VERSIONS, "progress": None, "patience": 0.2, "settling": 0.0, **changes}
    return join_append(plan(photos), out / CONFIG, Placement(1, 2), **wanted)[0]


def test_a_rank_waits_for_the_one_that_coordinates_and_says_so_in_vain(grown: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"Rank 1 of 2 waited 0\.2 s in .* and rank 0 has not begun to add to it"):
        joined(grown, tmp_path / "out")
    with pytest.raises(NotSealedError, match="type the command without --append"):
        joined(grown, tmp_path / "nowhere")
    with pytest.raises(NotSealedError, match="type the command without --append"):
        build(plan(grown), tmp_path / "none", append=True, engine=ENGINES["torchrun"], placement=Placement(1, 2))


def test_a_rank_that_would_add_something_else_is_refused_with_the_difference(grown: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mine = growth(grown, out)
    versions = r"versions: there {'torch': '1\.9'}, here {'torch': '2\.0'}"
    with claim_append(out / CONFIG, mine.identity({"torch": "1.9"})), pytest.raises(PlanMismatchError, match=versions):
        joined(grown, out)
    draw(grown, [18])
    listing = r"Rank 1 would not add .* what rank 0 adds \(listing: there .*; pictures: there"
    with claim_append(out / CONFIG, mine.identity(VERSIONS)), pytest.raises(PlanMismatchError, match=listing):
        joined(grown, out)
    assert open_store(out).manifest.rows == 6


def test_a_rank_does_not_touch_what_an_earlier_append_of_other_pictures_has_left(grown: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    earlier = growth(grown, out)
    with claim_append(out / CONFIG, earlier.identity(VERSIONS)) as work:
        work.remember("shards", PlannedShards(tuple(earlier.rows.shards())))
    draw(grown, [18])
    with pytest.raises(RequestError, match="rank 0 has not begun to add to it"):
        joined(grown, out)
    assert not list((out / CONFIG).glob("train-plus*"))


def test_a_rank_that_comes_when_all_is_sealed_has_nothing_to_do(grown: Path, tmp_path: Path) -> None:
    after = build(plan(grown), tmp_path / "out", append=True)
    assert joined(grown, tmp_path / "out") == after


def test_a_rank_whose_manifest_is_replaced_while_it_looks_looks_again(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    sealed: list[Manifest] = []

    def slow(folder: Path) -> Any:
        found = open_local_store(folder)
        if not sealed:  # rank 0 seals, and tidies, before this one has read the index of what it has opened
            monkeypatch.setattr("latentstore.append.open_local_store", open_local_store)
            sealed.append(build(plan(grown), out, append=True))
        return found

    monkeypatch.setattr("latentstore.append.open_local_store", slow)
    assert joined(grown, out) == sealed[0]


def test_a_rank_that_saw_the_old_manifest_takes_the_new_one_where_it_is_what_it_would_have_made(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, folder = tmp_path / "out", tmp_path / "out" / CONFIG
    mine = growth(grown, out)
    after = build(plan(grown), out, append=True)
    with monkeypatch.context() as patched:
        patched.setattr("latentstore.joining_append.growth_of", lambda *_: mine)
        assert joined(grown, out) == after
        draw(grown, [18])
        build(plan(grown), out, append=True)  # by others, with more pictures
        with pytest.raises(PlanMismatchError, match="was built from other pictures"):
            joined(grown, out)
    assert not (folder / JOURNAL).exists()


def test_the_identity_of_an_append_names_what_it_adds_to_and_what_computes(grown: Path, tmp_path: Path) -> None:
    found = growth(grown, tmp_path / "out").identity(VERSIONS)
    assert found[APPENDS_TO] == sha256_of(tmp_path / "out" / CONFIG / FILE_NAME)
    assert found["versions"] == VERSIONS
