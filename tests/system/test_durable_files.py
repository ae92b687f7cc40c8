"""Files that are whole or not there, whatever somebody planted at the names that are written to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from latentstore.system.durable_files import write_atomically, write_private, written_whole


@pytest.mark.parametrize("name", ["a.parquet", "a" * 250 + ".json", "é" * 120])
def test_names_of_any_length_are_written_and_nothing_stays_beside(name: str, tmp_path: Path) -> None:
    write_atomically(tmp_path / name, "text")
    with written_whole(tmp_path / name) as partial:
        assert partial.parent == tmp_path
        partial.write_text("whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def test_links_at_names_that_can_be_foreseen_are_not_written_through(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for name in ("a.json", ".a.json.partial", "b.json"):
        (tmp_path / name).symlink_to(mine)
    with written_whole(tmp_path / "a.json") as partial:
        partial.write_text("ours")
    write_atomically(tmp_path / "b.json", "ours")
    assert mine.read_text() == "mine"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "mine": "mine",
        "a.json": "ours",
        "b.json": "ours",
    }


def test_two_writers_never_have_one_partial_file(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a") as first:
        first.write_text("1")
        with written_whole(tmp_path / "b") as second:
            assert second != first
            second.write_text("2")


def test_files_have_the_rights_that_the_user_asks_for_and_private_ones_none_for_others(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "text", "text")
        write_private(tmp_path / "private", memoryview(b"bytes"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "text").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
