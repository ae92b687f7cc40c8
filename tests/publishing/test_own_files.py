"""The list of skipped pictures, and shards and indexes of builds that were appended to, travel as the rest does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_server import Fault, HubServer
from publishing_words import (
    CONFIG,
    LICENSED,
    REPO,
    SOON,
    append_like,
    missing_data,
    paths_of,
    same_files,
    skip_some,
)

from latentstore import PublishReport, drop, publish, pull, verify
from latentstore.errors import DamagedShardError
from latentstore.manifest.names import is_data_name

Push = Callable[..., PublishReport]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("train-00000-of-00002.parquet", True),
        ("train-plus1-00000-of-00002.parquet", True),
        ("train-plus001-000000.tar", True),
        ("index.parquet", True),
        ("index-12.parquet", True),
        ("skipped.jsonl", True),
        ("preview.png", True),
        ("preview-12.png", True),
        ("preview-of-mine.png", False),
        ("index-notes.parquet", False),
        ("my-table.parquet", False),
        ("notes.txt", False),
    ],
)
def test_the_files_of_this_library_are_known_by_their_names(name: str, own: bool) -> None:
    assert is_data_name(name) is own


def test_the_list_of_skipped_pictures_is_published_compared_and_comes_back(
    hub: HubServer, push: Push, fetch: Any, local: Path, tmp_path: Path
) -> None:
    path = skip_some(local)
    push(local, REPO, choices=LICENSED)
    assert hub.files(REPO)[path] == (local / path).read_bytes()
    assert push(local, REPO).sent == ()
    fetch(REPO, tmp_path / "back")
    assert same_files(tmp_path / "back" / CONFIG, local / CONFIG)
    assert fetch(REPO, tmp_path / "back").received == ()
    assert verify(tmp_path / "back", CONFIG, depth="quick").ok
    skip_some(local, 3)
    assert path in push(local, REPO).sent
    assert path in fetch(REPO, tmp_path / "back").received


def test_where_no_picture_is_skipped_any_more_the_list_goes_everywhere(
    hub: HubServer, push: Push, fetch: Any, local: Path, tmp_path: Path
) -> None:
    before = shutil.copytree(local, tmp_path / "before")
    path = skip_some(local)
    push(local, REPO, choices=LICENSED)
    fetch(REPO, tmp_path / "back")
    assert push(before, REPO).deleted == (path,)
    assert path not in hub.files(REPO)
    fetch(REPO, tmp_path / "back")
    assert same_files(tmp_path / "back" / CONFIG, before / CONFIG)


def test_the_list_goes_with_its_config(hub: HubServer, push: Push, remove: Any, local: Path) -> None:
    path = skip_some(local)
    push(local, REPO, choices=LICENSED)
    assert path in remove(REPO, CONFIG).deleted
    assert not any(found.startswith(CONFIG) for found in hub.files(REPO))


def test_a_list_that_came_changed_is_refused(
    hub: HubServer, push: Push, fetch: Any, local: Path, tmp_path: Path
) -> None:
    path = skip_some(local)
    push(local, REPO, choices=LICENSED)
    hub.order(Fault(rf"GET \S*/{path}", flip=5, times=None))
    with pytest.raises(DamagedShardError, match=rf"{path} came with another sha256 than the listing there says"):
        fetch(REPO, tmp_path / "back")
    assert not (tmp_path / "back" / CONFIG / "manifest.json").exists()


def test_after_an_appending_build_the_index_that_was_goes_in_the_same_commit(
    hub: HubServer, push: Push, fetch: Any, local: Path, tmp_path: Path
) -> None:
    push(local, REPO, choices=LICENSED)
    fetch(REPO, tmp_path / "back")
    names = append_like(local)
    hub.log.forget()
    report = push(local, REPO, force=True)  # only the names are those of an appending build
    assert report.deleted == (f"{CONFIG}/index.parquet", f"{CONFIG}/train-00002-of-00003.parquet")
    assert set(names) <= set(report.sent)
    assert hub.log.counts()["commit"] == 1
    assert missing_data(hub.files(REPO)) == []
    fetch(REPO, tmp_path / "back")
    assert same_files(tmp_path / "back" / CONFIG, local / CONFIG)


def test_in_a_folder_they_travel_alike(local: Path, tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    publish(local, place, choices=LICENSED)
    path = skip_some(local)
    append_like(local)
    assert path in publish(local, place, force=True).sent
    assert paths_of(place) == paths_of(local)
    assert publish(local, place, force=True).sent == ()
    pull(place, tmp_path / "back", patience=SOON)
    assert same_files(tmp_path / "back" / CONFIG, local / CONFIG)
    drop(place, CONFIG)
    assert paths_of(place) == {"README.md"}
