"""What of a path that a stranger wrote is believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from latentstore.errors import UnsafePathError
from latentstore.system.safe_paths import below, is_safe_name, is_safe_path, open_own, refuse_link, stays_below

UNSAFE = (
    *(
        "",
        ".",
        "..",
        "../a",
        "a/..",
        "a/../b",
        "/a",
        "a//b",
        "a/",
        "./a",
        "a/./b",
        "a\\b",
        "..\\a",
        "C:a",
        "C:/a",
        "c:",
    ),
    *("a/C:b", "a\x00b", "a\nb", "a\x1b[31mb", "a\x7fb", "a\x85b", "a\ud800b", "a" * 256, "é" * 128, "a/" * 2048 + "b"),
)
SAFE = (
    "a",
    "a/b",
    ".a",
    "a.b",
    "a b",
    "é" * 127,
    "a" * 255,
    "...",
    "a..b",
    "ünïcode/日本.png",
    "ab:c",
    "label=1/x.png",
)


@pytest.mark.parametrize("path", UNSAFE)
def test_a_path_that_may_lead_elsewhere_is_not_safe(path: str, tmp_path: Path) -> None:
    assert not is_safe_path(path)
    with pytest.raises(UnsafePathError, match="nothing is read or written"):
        below(tmp_path, path)


@pytest.mark.parametrize("path", SAFE)
def test_a_path_of_plain_names_is_safe_and_stays_below(path: str, tmp_path: Path) -> None:
    assert is_safe_path(path)
    assert below(tmp_path, path) == tmp_path / path


def test_a_name_has_no_separator() -> None:
    assert is_safe_name("a.parquet")
    assert not is_safe_name("a/b.parquet")


@pytest.mark.parametrize("target", ["outside", "../outside", "circle"])
def test_a_link_that_leads_out_is_not_followed(target: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    where = {"outside": tmp_path / "outside", "../outside": Path("../outside"), "circle": root / "link"}[target]
    (root / "link").symlink_to(where)
    assert not stays_below(root, root / "link")
    with pytest.raises(UnsafePathError, match="leads out of"):
        below(root, "link/file")


def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert below(tmp_path, "link/file") == tmp_path / "link" / "file"


def test_refuse_link_names_the_link_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    refuse_link(tmp_path / "no link", "remove it")
    with pytest.raises(UnsafePathError, match=r"link is a link, expected a file or folder of its own: remove it\."):
        refuse_link(tmp_path / "link", "remove it")


def test_a_file_of_its_own_is_kept_and_added_to(tmp_path: Path) -> None:
    for text in (b"a", b"b"):
        with open_own(tmp_path / "lock") as file:
            file.write(text)
    assert (tmp_path / "lock").read_bytes() == b"ab"
    with pytest.raises(FileNotFoundError):
        open_own(tmp_path / "no folder" / "lock")


@pytest.mark.parametrize("kind", ["link", "dead link", "second name", "fifo", "folder"])
def test_what_somebody_planted_is_not_opened(kind: str, tmp_path: Path) -> None:
    mine, place = tmp_path / "mine", tmp_path / "lock"
    mine.write_bytes(b"mine")
    plant: dict[str, Callable[[], object]] = {
        "link": lambda: place.symlink_to(mine),
        "dead link": lambda: place.symlink_to(tmp_path / "new"),
        "second name": lambda: place.hardlink_to(mine),
        "fifo": lambda: os.mkfifo(place),
        "folder": place.mkdir,
    }
    plant[kind]()
    with pytest.raises(UnsafePathError, match="is a link, or no plain file of its own"):
        open_own(place)
    assert mine.read_bytes() == b"mine"
    assert not (tmp_path / "new").exists()
