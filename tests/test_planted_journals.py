"""A journal, a link or a file that a stranger planted in a folder does no harm in a build, an append or a convert."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from appending import CONFIG, draw, plan

from latentstore import STORAGES, Manifest, build, build_status, convert, verify
from latentstore.errors import LatentStoreError, RequestError, UnsafePathError
from latentstore.journal import APPENDS_TO, BuildFolder
from latentstore.manifest import FILE_NAME
from latentstore.manifest.names import JOURNAL
from latentstore.plan import PlannedShard

NAMES = ["../../victim", "../victim", "/etc/victim", "..", "victim\x00", "victim\x1b.parquet", "a/b-00000.parquet"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight pictures, of which six are in ``sealed``."""
    draw(tmp_path / "photos", range(6))
    return tmp_path / "photos"


@pytest.fixture
def sealed(photos: Path, tmp_path: Path) -> Path:
    """The folder of a sealed config, in a repository beside a file of its owner."""
    build(plan(photos), tmp_path / "out")
    draw(photos, range(8))
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "out" / "victim").write_text("mine")
    return Path(tmp_path / "out" / CONFIG)


def plant(folder: Path, name: str, split: str = "train", identity: dict[str, Any] | None = None) -> None:
    """A journal that names a shard, as if an append had been begun."""
    journal = folder / JOURNAL
    journal.mkdir()
    shard = {"split": split, "index": 0, "name": name, "start": 0, "stop": 2}
    (journal / "shards.json").write_text(json.dumps({"shards": [shard]}))
    (journal / "plan.json").write_text(json.dumps(identity or {APPENDS_TO: "0" * 64}))


def victims(folder: Path) -> list[str]:
    """What the owner's files hold."""
    return [(folder.parents[1] / "victim").read_text(), (folder.parent / "victim").read_text()]


@pytest.mark.parametrize("name", NAMES)
def test_a_journal_that_names_what_no_shard_is_called_is_refused(photos: Path, sealed: Path, name: str) -> None:
    plant(sealed, name)
    for act in (
        lambda: build(plan(photos), sealed.parent, append=True),
        lambda: build_status(_unsealed(sealed)),
    ):
        with pytest.raises(UnsafePathError, match=r"names the shard .* it was not written by latentstore"):
            act()
    assert victims(sealed) == ["mine", "mine"]


def _unsealed(folder: Path) -> Path:
    (folder / FILE_NAME).rename(folder / "put away")
    return folder


@pytest.mark.parametrize("split", ["../x", "", "a/b", "tra\x1bin"])
def test_a_journal_that_names_what_no_split_is_called_is_refused(photos: Path, sealed: Path, split: str) -> None:
    plant(sealed, "train-00000-of-00001.parquet", split)
    with pytest.raises(UnsafePathError, match="expected names as shards have them"):
        build(plan(photos), sealed.parent, append=True)


@pytest.mark.parametrize("what", ["config", "journal", "old journal"])
@pytest.mark.parametrize("act", ["build", "append"])
def test_links_in_the_place_of_folders_are_refused(photos: Path, sealed: Path, what: str, act: str) -> None:
    elsewhere = sealed.parents[1] / "elsewhere"
    link = {"config": sealed, "journal": sealed / JOURNAL, "old journal": sealed / f"{JOURNAL}.old"}[what]
    if what == "config":
        shutil.move(sealed, elsewhere)
    else:
        elsewhere.mkdir()
        (elsewhere / "mine.json").write_text("mine")
    if act == "build":
        (sealed if sealed.is_dir() else elsewhere).joinpath(FILE_NAME).unlink()
    link.symlink_to(elsewhere)
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir() if path.is_file()}
    with pytest.raises(UnsafePathError, match="is a link, expected a file or folder of its own: remove the link, or"):
        build(plan(photos), sealed.parent, append=act == "append")
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("name", ["lock", "train-00000.lock"])
def test_a_lock_that_is_a_link_is_not_written_through(photos: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    journal = tmp_path / "out" / CONFIG / JOURNAL
    journal.mkdir(parents=True)
    (journal / name).symlink_to(victim)
    with pytest.raises(UnsafePathError, match="lock is a link, or no plain file of its own"):
        build(plan(photos), tmp_path / "out")
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("journal", [JOURNAL, f"{JOURNAL}.old"])
def test_files_that_are_none_of_a_journal_are_not_removed_with_it(photos: Path, tmp_path: Path, journal: str) -> None:
    mine = tmp_path / "out" / CONFIG / journal / "mine.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    (tmp_path / "out" / CONFIG / JOURNAL).mkdir(exist_ok=True)
    with pytest.raises(RequestError, match=r"holds 'mine\.json', which is no file of a journal: .* so move it away"):
        build(plan(photos), tmp_path / "out")
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["plan.json", "shards.json", "storage.json", "train-00000.json"])
def test_a_journal_of_pipes_does_not_wait(photos: Path, tmp_path: Path, name: str) -> None:
    journal = tmp_path / "out" / CONFIG / JOURNAL
    journal.mkdir(parents=True)
    os.mkfifo(journal / name)
    if name == "plan.json":
        with pytest.raises(RequestError, match=r"plan\.json cannot be read \(.*it is a pipe or a device"):
            build(plan(photos), tmp_path / "out")
    else:
        assert build(plan(photos), tmp_path / "out").rows == 6


def test_a_lock_that_is_a_fifo_does_not_wait(photos: Path, tmp_path: Path) -> None:
    journal = tmp_path / "out" / CONFIG / JOURNAL
    journal.mkdir(parents=True)
    os.mkfifo(journal / "lock")
    with pytest.raises(UnsafePathError, match="no plain file of its own"):
        build(plan(photos), tmp_path / "out")


def test_an_entry_that_names_another_file_than_its_shard_is_not_believed(tmp_path: Path) -> None:
    planned = PlannedShard("train", 0, "train-00000-of-00001.parquet", 0, 2)
    (tmp_path / JOURNAL).mkdir()
    (tmp_path / "victim").write_text("mine")
    info = {"path": "../victim", "rows": 2, "bytes": 4, "sha256": "0" * 64}
    entry = {"shard": info, "statistics": {}, "skipped": [], "entropy_bits": 0.0}
    (tmp_path / JOURNAL / "train-00000.json").write_text(json.dumps(entry))
    assert BuildFolder(tmp_path).noted(planned) is None


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{", "[]", '{"shards": 3}', "9" * 5000, '{"shards": [{"index": 1e999}]}']
)
def test_a_journal_of_nonsense_is_one_sentence_or_nothing(photos: Path, sealed: Path, text: str) -> None:
    plant(sealed, "train-00000-of-00001.parquet")
    for name in ("plan.json", "shards.json", "storage.json"):
        (sealed / JOURNAL / name).write_text(text)
    try:
        build(plan(photos), sealed.parent, append=True)
    except LatentStoreError:
        return
    assert verify(sealed.parent, depth="quick").ok


@pytest.mark.parametrize("name", ["train-plus001-00000-of-00001.parquet", "index-1.parquet", "preview-1.png"])
def test_an_append_refuses_files_that_it_would_write_over(photos: Path, sealed: Path, name: str) -> None:
    before = (sealed / FILE_NAME).read_bytes()
    (sealed / name).write_text("mine")
    with pytest.raises(
        RequestError, match=r"which its manifest does not list and an append may write over: move it to"
    ):
        build(plan(photos), sealed.parent, append=True)
    assert (sealed / name).read_text() == "mine"
    assert (sealed / FILE_NAME).read_bytes() == before
    (sealed / name).unlink()
    assert build(plan(photos), sealed.parent, append=True).rows == 8


def test_what_lies_beside_stays_when_a_build_an_append_and_a_convert_tidy_up(photos: Path, sealed: Path) -> None:
    mine = ["notes.txt", ".notes.txt.partial", "preview-9.png.bak", "index-notes.parquet"]
    for name in mine:
        (sealed / name).write_text("mine")
    assert build(plan(photos), sealed.parent, append=True).rows == 8
    convert(sealed, sealed.parent, new_config="other", storage=STORAGES["float32"])
    assert [(sealed / name).read_text() for name in mine] == ["mine"] * len(mine)


def test_a_convert_refuses_a_folder_with_files_of_others_and_a_linked_one(sealed: Path, tmp_path: Path) -> None:
    out = tmp_path / "converted"
    (out / "other").mkdir(parents=True)
    (out / "other" / "notes.txt").write_text("mine")
    ask: Callable[[], Manifest] = lambda: convert(sealed, out, new_config="other", storage=STORAGES["float32"])  # noqa: E731
    with pytest.raises(RequestError, match=r"already holds notes\.txt"):
        ask()
    shutil.move(out / "other", tmp_path / "elsewhere")
    (out / "other").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePathError, match="is a link"):
        ask()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("config", ["..", "a/b", "data", "/x", "a\\b", "a\x00"])
def test_a_config_of_no_possible_name_is_refused(photos: Path, tmp_path: Path, config: str) -> None:
    with pytest.raises(LatentStoreError, match="Config name"):
        build(replace(plan(photos), config=config), tmp_path / "out")
    assert not (tmp_path / "out").exists()
