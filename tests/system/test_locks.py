"""Locks: one holder at a time, said by name, and let go of by whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentstore.json_records import plain
from latentstore.system.locks import UNTOUCHED_SECONDS, Holder, Lock, holder_of, is_held, take

HOLD = """
import sys, time
from pathlib import Path
from latentstore.system.locks import Lock, take
lock = take(Path(sys.argv[1]), system_locks=sys.argv[2] == "system")
assert isinstance(lock, Lock)
print("held", flush=True)
time.sleep(60)
"""


def another_holder(path: Path, kind: str) -> subprocess.Popen[str]:
    """A process that holds the lock until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), kind], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.stdout.close()
    return process


@pytest.mark.parametrize("kind", ["system", "by name"])
def test_a_lock_has_one_holder_who_says_who_he_is_and_a_killed_one_holds_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lock"
    process = another_holder(path, kind)
    try:
        found = take(path, system_locks=kind == "system")
        assert isinstance(found, Holder)
        assert found.pid == process.pid
        assert f"process {process.pid} on {found.host}, since 2" in str(found)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    taken = take(path, system_locks=kind == "system")
    assert isinstance(taken, Lock)
    taken.release()


@pytest.mark.parametrize("system_locks", [True, False])
def test_a_released_lock_is_free_and_releasing_again_does_nothing(tmp_path: Path, system_locks: bool) -> None:
    path = tmp_path / "lock"
    first = take(path, system_locks=system_locks)
    assert isinstance(first, Lock)
    assert isinstance(take(path, system_locks=system_locks), Holder)
    first.release()
    second = take(path, system_locks=system_locks)
    assert isinstance(second, Lock)
    first.release()
    assert isinstance(take(path, system_locks=system_locks), Holder)
    second.release()


def test_asking_whether_a_lock_is_held_does_not_take_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    lock = take(path)
    assert isinstance(lock, Lock)
    assert is_held(path)
    lock.release()
    assert not is_held(path)


def test_without_system_locks_a_file_of_another_machine_is_stale_once_nobody_touches_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps(plain(Holder("another-machine", 1, "0", "2026-01-01T00:00:00+00:00"))))
    assert isinstance(take(path, system_locks=False), Holder)
    long_ago = time.time() - UNTOUCHED_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    lock = take(path, system_locks=False)
    assert isinstance(lock, Lock)
    lock.release()


def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    me = Holder.this_process()
    path.write_text(json.dumps(plain(Holder(me.host, me.pid, "an earlier time", me.since))))
    lock = take(path, system_locks=False)
    assert isinstance(lock, Lock)
    lock.release()


def test_a_lock_file_that_holds_no_name_is_nobody_s_yet(tmp_path: Path) -> None:
    for text in ("[" * 100_000, "9" * 5000, "{"):
        (tmp_path / "lock").write_text(text)
        assert holder_of(tmp_path / "lock") is None
    assert take(tmp_path / "lock", system_locks=False) is None
