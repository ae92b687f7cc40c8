"""Two who publish into one folder at the same time: nothing is lost unnoticed, and no reader sees a mixture."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from publishing_words import CONFIG, LICENSED, SOON, change_one_shard, files_at, missing_data, paths_of, same_files

from latentstore import PublishReport, drop, publish, pull
from latentstore.errors import PublishError
from latentstore.publishing.records import PublishProgress

MOMENTS = (2, 3, 4, 6, 8, 10)
"""Reports of a push: before anything is sent, among its shards, while they are read back, at the manifest and card."""


class At:
    """Does something at one report of a push."""

    def __init__(self, moment: int, act: Callable[[], Any]) -> None:
        self.moment, self.act = moment, act
        self.acted = False

    def __call__(self, _: PublishProgress) -> None:
        self.moment -= 1
        if self.moment == 0:
            self.acted = True
            self.act()


@pytest.fixture
def again(tmp_path: Path) -> Path:
    """Another version of the config, in as many shards of the same names."""
    from scenes import build_scenes, scenes

    build_scenes(tmp_path / "again", source=scenes(20, 32))
    return tmp_path / "again"


@pytest.fixture
def changed(local: Path, tmp_path: Path) -> Path:
    """The config with one shard that is another, of the same name."""
    copy = Path(shutil.copytree(local, tmp_path / "changed"))
    change_one_shard(copy)
    return copy


@pytest.mark.parametrize("there", [True, False])
def test_two_configs_at_the_same_time_are_both_there_and_on_the_card(
    local: Path, other: Path, tmp_path: Path, *, there: bool
) -> None:
    for moment in MOMENTS:
        place = f"memory://{tmp_path.name}/{moment}"
        if there:
            publish(other, place, choices=LICENSED)
        theirs = At(moment, partial(publish, other, place, choices=LICENSED, patience=SOON))
        publish(local, place, choices=LICENSED, progress=theirs, patience=SOON)
        assert theirs.acted
        files = files_at(place)
        assert missing_data(files) == []
        card = files["README.md"].decode()
        assert "config_name: other" in card
        assert f"config_name: {CONFIG}" in card


def pushed(version: Path, place: Path, progress: At | None = None) -> str:
    """What a push that was refused said; empty where it was not."""
    try:
        publish(version, place, choices=LICENSED, progress=progress, patience=SOON)
    except PublishError as error:
        return str(error)
    return ""


def test_one_config_at_the_same_time_is_one_of_them_whole_and_the_earlier_is_told(
    local: Path, changed: Path, again: Path, tmp_path: Path
) -> None:
    told = []
    for moment in MOMENTS:
        mine, theirs = (changed, again) if moment % 2 else (again, changed)
        place = tmp_path / f"mounted-{moment}"
        publish(local, place, choices=LICENSED)
        said = pushed(mine, place, At(moment, partial(publish, theirs, place)))
        told += [said] if said else []
        assert missing_data(files_at(str(place))) == []
        assert same_files(place / CONFIG, (theirs if said else mine) / CONFIG)
        publish(mine, place)
        assert same_files(place / CONFIG, mine / CONFIG)
    assert len(told) > 2
    assert all(said.startswith(f"Someone else began to publish {CONFIG} to file://") for said in told)
    assert all("then type the same command again to have yours in its place." in said for said in told)


def test_what_another_took_over_goes_on_from_what_had_arrived(local: Path, tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    card = place / "README.md"
    card.parent.mkdir()
    card.write_text("---\nlicense: mit\n---\n")
    reports: list[PublishReport] = []
    with pytest.raises(PublishError, match=rf"Someone else began to publish {CONFIG}"):
        publish(local, place, choices=LICENSED, progress=At(4, lambda: reports.append(publish(local, place))))
    assert f"{CONFIG}/train-00000-of-00003.parquet" in reports[0].skipped
    assert missing_data(files_at(str(place))) == []
    assert publish(local, place).sent == ()


def test_of_two_threads_one_is_whole_or_both_are_told(local: Path, changed: Path, again: Path, tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    publish(local, place, choices=LICENSED)
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda version: said.append(pushed(version, place)), args=(version,))
        for version in (changed, again)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing_data(files_at(str(place))) == []
    assert len(said) == 2
    whole = [version for version in (changed, again) if same_files(place / CONFIG, version / CONFIG)]
    assert whole or all(said)
    assert pushed(again, place) == ""
    assert same_files(place / CONFIG, again / CONFIG)


def test_words_that_a_person_writes_meanwhile_are_kept(local: Path, changed: Path, tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    publish(local, place, choices=LICENSED)

    def write() -> None:
        card = place / "README.md"
        card.write_text(card.read_text() + "\nWritten meanwhile.\n")

    act = At(4, write)
    publish(changed, place, progress=act, patience=SOON)
    assert act.acted
    assert (place / "README.md").read_text().endswith("\nWritten meanwhile.\n")


def test_a_drop_takes_the_config_off_the_card_before_its_data_goes(local: Path, other: Path, tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}/repo"
    publish(local, place, choices=LICENSED)
    publish(other, place)
    seen = []

    def look(progress: PublishProgress) -> None:
        files = files_at(place)
        seen.append((progress.stage, "other/manifest.json" in files, b"config_name: other" in files["README.md"]))
        assert missing_data(files) == []

    drop(place, "other", progress=look)
    assert ("commit", True, False) in seen
    assert set(files_at(place)) == paths_of(local)


class Halves(LocalFileSystem):  # type: ignore[misc] # it has no types
    """A disk that stops in the middle of a file."""

    protocol = "halves"
    stops_at = "train-00001"

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        content = Path(lpath).read_bytes()
        stops = self.stops_at in rpath
        Path(self._strip_protocol(rpath)).write_bytes(content[: len(content) // 2] if stops else content)
        if stops:
            raise KeyboardInterrupt

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        Path(self._strip_protocol(path)).write_bytes(value)


@pytest.fixture
def halves() -> Any:
    from fsspec.registry import _registry

    fsspec.register_implementation("halves", Halves, clobber=True)
    yield Halves
    _registry.pop("halves", None)


@pytest.mark.usefixtures("halves")
def test_half_a_file_is_never_there_under_its_name(local: Path, tmp_path: Path) -> None:
    place = tmp_path / "disk"
    with pytest.raises(KeyboardInterrupt):
        publish(local, f"halves://{place}", choices=LICENSED)
    names = sorted(path.name for path in (place / CONFIG).iterdir())
    shard = "train-00001-of-00003.parquet"
    assert any(re.fullmatch(rf"\.{re.escape(shard)}\.[0-9a-f]+\.partial", name) for name in names)
    assert shard not in names
    assert shard not in json.loads((place / CONFIG / ".publishing.json").read_text())["sha256"]
    publish(local, place, choices=LICENSED)
    pull(place, tmp_path / "back")
    assert same_files(tmp_path / "back" / CONFIG, local / CONFIG)
