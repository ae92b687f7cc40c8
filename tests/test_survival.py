"""What a build survives: SIGKILL at any moment, full disks, failing writes; scripts/kill_build.py in short."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scenes import build_scenes

from latentstore import verify
from latentstore.errors import RequestError
from latentstore.journal import claim, is_tidy, tidy
from latentstore.json_records import plain
from latentstore.manifest.names import JOURNAL
from latentstore.system.durable_files import remove_abandoned, write_atomically, written_whole
from latentstore.system.locks import Holder

SCRIPTS = Path(__file__).parents[1] / "scripts"
CONFIG = "synthetic-pool8"

needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked, and watched through /proc")
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler: steps are not counted"
)


@pytest.fixture
def killer() -> Iterator[Any]:
    """The script as a module."""
    sys.path.insert(0, str(SCRIPTS))
    import kill_build

    yield kill_build
    sys.path.remove(str(SCRIPTS))


def survived(*options: str) -> dict[str, dict[str, int]]:
    """What the script says happened, by the first column of its tables; nothing may be wrong."""
    command = [sys.executable, str(SCRIPTS / "kill_build.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert (done.returncode, done.stdout.count("\n0 wrong\n")) == (0, 1), done.stdout + done.stderr
    found: dict[str, dict[str, int]] = {}
    heads: list[str] = []
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith(("| engine", "| disk")):
            heads = cells
        elif line.startswith("| "):
            found[cells[0]] = dict(zip(heads[1:], map(int, cells[1:]), strict=True))
    return found


@needs_fork
@needs_compiler
def test_builds_and_appends_of_one_and_two_processes_survive_kills_and_failing_disks() -> None:
    engines = ("local-1", "torchrun-2", "append-local-1", "append-torchrun-2")
    found = survived("--only", ",".join((*engines, "failing")), "--count", "2", "--seed", "3")
    assert [found[engine]["kills"] for engine in engines] == [2, 2, 2, 2]
    assert found["torchrun-2"]["one process only"] > 0
    assert found["failing"]["builds"] == 2


WITH_TWO_WORKERS = """
import sys
from pathlib import Path
from scenes import plan
from latentstore import build

if __name__ == "__main__":
    build(plan(threads=1), Path(sys.argv[1]), workers=2, progress=lambda found: print(found.stage, flush=True))
"""


@needs_fork
def test_a_build_of_two_workers_whose_coordinator_is_killed_goes_on_in_another_process(
    killer: Any, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(WITH_TWO_WORKERS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, str(program), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as first:
        assert first.stdout is not None
        assert next(line for line in first.stdout if line == "encode\n")  # a worker has told of its first batch
        first.send_signal(signal.SIGKILL)
    build_scenes(tmp_path / "out", threads=1)  # beside workers that may still be at it
    build_scenes(tmp_path / "alone", threads=1)
    assert killer.files_of(tmp_path / "out") == killer.files_of(tmp_path / "alone")


@needs_fork
def test_the_kill_run_would_find_what_it_looks_for(killer: Any, tmp_path: Path) -> None:
    whole = {f"{killer.CONFIG}/{name}": b"whole" for name in ("train-00000.parquet", "index.parquet", "manifest.json")}
    expected, out = killer.Expected(whole), tmp_path / "out"
    folder = out / killer.CONFIG
    (folder / JOURNAL).mkdir(parents=True)
    (folder / ".train-00000.parquet.partial").write_bytes(b"wh")
    assert list(expected.faults(out)) == []
    (folder / "train-00000.parquet").write_bytes(b"wh")
    (folder / "train-00001.parquet").write_bytes(b"")
    (folder / JOURNAL / "train-00000.json").write_text("{")
    (folder / JOURNAL / "train-00000.lock").write_text("{")
    assert sorted(expected.faults(out)) == [
        f"{killer.CONFIG}/.build/train-00000.json of the journal cannot be read",
        f"{killer.CONFIG}/train-00000.parquet has 2 bytes under its final name, not the 5 it must have",
        f"{killer.CONFIG}/train-00001.parquet was never to be there",
    ]
    assert f"{killer.CONFIG}/.train-00000.parquet.partial was left behind" in list(expected.differences(out))
    assert f"{killer.CONFIG}/index.parquet is missing at the end" in list(expected.differences(out))


@needs_fork
def test_a_sealed_dataset_that_lacks_a_file_would_be_found(killer: Any, drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(drawn / CONFIG, out / killer.CONFIG)
    expected = killer.Expected(killer.files_of(out))
    assert list(expected.faults(out)) == []
    (out / killer.CONFIG / "index.parquet").unlink()
    assert list(expected.faults(out)) == [f"{killer.CONFIG}/index.parquet is missing from a sealed dataset"]


@needs_fork
def test_what_an_append_may_never_show_would_be_found(killer: Any, tmp_path: Path) -> None:
    site = killer.Site(tmp_path, killer.pictures(tmp_path / "pictures", 4, bad=1))
    site.build("local", 1)
    before = killer.files_of(site.out)
    shutil.copytree(site.out, tmp_path / "sealed")
    adding = killer.Site(tmp_path, killer.pictures(site.source, 6, bad=2), tmp_path / "sealed")
    adding.build("local", 1)
    expected = killer.Expected(killer.files_of(site.out), before)
    config, index = killer.CONFIG, "index.parquet"
    assert (list(expected.faults(site.out)), list(killer.unsound(site.out))) == ([], [])
    assert expected.state(site.out) == "sealed"
    (site.out / config / index).write_bytes(before[f"{config}/{index}"])
    (site.out / "README.md").write_bytes(before["README.md"])
    assert list(expected.faults(site.out)) == []
    assert expected.state(site.out) == "before the card"
    (site.out / config / "skipped.jsonl").write_bytes(before[f"{config}/skipped.jsonl"])
    assert list(expected.faults(site.out)) == [f"{config}/skipped.jsonl is the old one beside the new manifest"]
    (site.out / config / JOURNAL).mkdir()
    assert list(expected.faults(site.out)) == []
    adding.fresh()
    assert (list(expected.faults(site.out)), list(killer.unsound(site.out))) == ([], [])
    (site.out / config / "skipped.jsonl").write_bytes(expected.whole[f"{config}/skipped.jsonl"])
    (site.out / config / index).unlink()
    assert sorted(expected.faults(site.out)) == [
        f"{config}/index.parquet is missing from a sealed dataset",
        f"{config}/skipped.jsonl is the new one beside the old manifest",
    ]
    assert any("check index fails" in found for found in killer.unsound(site.out))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_killed_process_was_writing_goes_when_the_command_is_typed_again(tmp_path: Path) -> None:
    build_scenes(tmp_path)
    expected = names_in(tmp_path), names_in(tmp_path / CONFIG)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = os.uname().nodename
    (tmp_path / CONFIG / ".skipped.jsonl.abc.partial").write_text("{")
    (tmp_path / CONFIG / ".index.parquet.partial").write_bytes(b"PAR1")
    (tmp_path / f".README.md.{host}@{gone.pid}-17.xyz.partial").write_text("half a card")
    (tmp_path / f".README.md.elsewhere@{gone.pid}-17.xyz.partial").write_text("another machine is writing it")
    build_scenes(tmp_path)
    assert names_in(tmp_path) - expected[0] == {f".README.md.elsewhere@{gone.pid}-17.xyz.partial"}
    assert names_in(tmp_path / CONFIG) == expected[1]


@needs_fork
@pytest.mark.parametrize("stopped", ["before the journal is renamed", "while it is removed"])
def test_what_a_sealed_append_left_goes_when_the_command_is_typed_again(
    killer: Any, tmp_path: Path, stopped: str
) -> None:
    site = killer.Site(tmp_path, killer.pictures(tmp_path / "pictures", 3, bad=0))
    site.build("local", 1)
    adding = killer.Site(tmp_path, killer.pictures(site.source, 5, bad=1), sealed=site.out)
    adding.build("local", 1)
    expected = killer.files_of(site.out)
    left = site.out / killer.CONFIG / (JOURNAL if stopped.startswith("before") else f"{JOURNAL}.old")
    left.mkdir()
    (left / "train-00001.lock").write_text("")
    adding.build("local", 1)
    assert killer.files_of(site.out) == expected
    assert is_tidy(left.parent)


@pytest.mark.parametrize("call", ["rename", "rmdir"])
def test_the_journal_is_the_last_that_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    (tmp_path / JOURNAL).mkdir()
    (tmp_path / ".train-00001-of-00002.parquet.partial").write_text("half")

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, call, dies)
        with pytest.raises(KeyboardInterrupt):
            tidy(tmp_path)
    assert not is_tidy(tmp_path)
    assert [path.name for path in tmp_path.glob("*.partial")] == []
    tidy(tmp_path)
    assert is_tidy(tmp_path)
    assert names_in(tmp_path) == set()


@pytest.mark.skipif(os.name != "posix", reason="systems without flock have no lock that is only asked for")
def test_who_only_asks_for_the_lock_of_a_dead_builder_keeps_nobody_from_it(tmp_path: Path) -> None:
    import fcntl

    journal = tmp_path / JOURNAL
    journal.mkdir()
    gone = replace(Holder.this_process(), began="never")
    (journal / "lock").write_text(json.dumps(plain(gone)))
    with (journal / "lock").open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        release = threading.Timer(1.0, fcntl.flock, (asking, fcntl.LOCK_UN))  # as long as a busy machine may take
        release.start()
        with claim(tmp_path, {"name": "plan"}) as work:
            assert work.builder is not None
            assert work.builder.is_this_process
        release.join()


def test_a_text_that_a_living_process_writes_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    replace = Path.replace

    def look(partial: Path, target: Path) -> Path:
        remove_abandoned(target)
        seen.append([path.name for path in tmp_path.iterdir()])
        return replace(partial, target)

    monkeypatch.setattr(Path, "replace", look)
    write_atomically(tmp_path / "README.md", "text")
    assert re.fullmatch(r"\.README\.md\..+@\d+-\d+\..+\.partial", seen[0][0])
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_file_that_cannot_be_finished_never_has_its_final_name(tmp_path: Path) -> None:
    path = tmp_path / "index.parquet"

    def write_some() -> None:
        with written_whole(path) as partial:
            partial.write_bytes(b"half")
            raise OSError(28, "Error writing bytes to file. Detail: [errno 28] No space left on device")

    with pytest.raises(RequestError, match=r"Cannot write .*index\.parquet: No space left on device; make room, then"):
        write_some()
    assert not path.exists()
    with written_whole(path) as partial:
        partial.write_bytes(b"whole")
        assert not path.exists()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"index.parquet": b"whole"}


@needs_fork
def test_whatever_file_meets_its_limit_says_so_and_a_run_without_one_gives_the_same_bytes(
    killer: Any, drawn: Path, tmp_path: Path
) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (1, 900, 4_000, 20_000):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            with pytest.raises(RequestError, match=r"^Cannot write .*: File too large; make room, then type it again"):
                build_scenes(tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    build_scenes(tmp_path)
    assert killer.files_of(tmp_path) == killer.files_of(drawn)
    assert verify(tmp_path).ok
