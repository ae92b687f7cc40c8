"""What a person, or a stranger, has put into a folder is neither removed nor written over, and no link is followed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from publishing_words import CONFIG, LICENSED, SOON, change_one_shard, files_at, same_files

from latentstore import drop, publish, pull
from latentstore.errors import LatentStoreError, ManifestError, PublishError, RequestError, UnsafePathError
from latentstore.manifest import with_digest
from latentstore.manifest.names import PULLED, PULLING
from latentstore.publishing.records import PublishProgress

SHARD = "train-00001-of-00003.parquet"


class Stopped(BaseException):
    """Like Ctrl-C."""


def stop_after(count: int, stage: str) -> Callable[[PublishProgress], None]:
    """Stop once so many files were sent or received."""
    seen = []

    def look(progress: PublishProgress) -> None:
        seen.extend([progress] * (progress.stage == stage))
        if len(seen) == count:
            raise Stopped

    return look


def edit(config: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest as an attacker does, who makes its digest right again."""
    path = config / "manifest.json"
    data = json.loads(path.read_text())
    data.pop("digest")
    change(data)
    path.write_text(with_digest(data))


def tree(root: Path) -> Mapping[str, str]:
    """Everything below a folder: names, links and contents."""
    return {
        path.relative_to(root).as_posix(): f"-> {path.readlink()}"
        if path.is_symlink()
        else ("" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def there(local: Path, tmp_path: Path) -> str:
    """A published dataset."""
    place = str(tmp_path / "there")
    publish(local, place, choices=LICENSED)
    return place


# pull


@pytest.mark.parametrize(
    "path", ["../../../.bashrc", "/etc/x", "..\\x", "notes.txt", f"../{CONFIG}/index.parquet", ".x"]
)
@pytest.mark.parametrize("field", ["index", "shard"])
def test_a_manifest_that_names_files_elsewhere_is_refused(there: str, tmp_path: Path, path: str, field: str) -> None:
    def change(data: dict[str, Any]) -> None:
        info = data["index"] if field == "index" else data["splits"]["train"]["shards"][0]
        info["path"] = path

    edit(Path(there) / CONFIG, change)
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    (home / ".bashrc").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(ManifestError, match=r"expected (a file name inside the config's folder|index\.parquet)"):
        pull(there, home / "work" / "target")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["data", "..", "con\x1bfig", "-x"])
def test_a_config_of_no_possible_name_is_not_there(local: Path, tmp_path: Path, name: str) -> None:
    edit(local / CONFIG, lambda data: data.update(config=name))
    with pytest.raises(LatentStoreError):
        pull(local, tmp_path / "target")
    with pytest.raises(LatentStoreError):
        drop(local, name)
    assert not (tmp_path / "target" / name).exists() or name == ".."


def test_a_config_that_has_the_name_of_another_is_refused(there: str, tmp_path: Path) -> None:
    edit(Path(there) / CONFIG, lambda data: data.update(config="other"))
    with pytest.raises(
        ManifestError, match=rf"field 'config': expected '{CONFIG}', the name of its folder, found 'oth"
    ):
        pull(there, tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("name", [SHARD, "index.parquet", "train-00000-of-00007.parquet", "train-mine.parquet"])
def test_a_pull_refuses_files_that_are_in_its_way_before_it_fetches(there: str, tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    (target / CONFIG).mkdir(parents=True)
    (target / CONFIG / name).write_bytes(b"mine")
    before = tree(target)
    with pytest.raises(RequestError, match=r"would be written over, or be read as a part of .*move it away, or choose"):
        pull(there, target)
    assert tree(target) == before


def test_a_pull_leaves_what_is_not_in_its_way(there: str, local: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    mine = {"notes.txt", f"{CONFIG}/notes.txt", f"{CONFIG}/val-00000-of-00002.parquet", "data/index.parquet"}
    for path in mine:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text("mine")
    pull(there, target)
    change_one_shard(local)
    publish(local, there)
    pull(there, target)
    assert {path for path in mine if (target / path).read_text() == "mine"} == mine
    assert {path.name for path in (target / CONFIG).iterdir()} == {
        *(path.name for path in (local / CONFIG).iterdir()),
        "notes.txt",
        "val-00000-of-00002.parquet",
    }


def test_a_pull_over_an_older_version_takes_away_what_that_one_listed_and_nothing_else(
    there: str, local: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    pull(there, target)
    changed = change_one_shard(local)
    publish(local, there)
    assert pull(there, target).received == (changed, f"{CONFIG}/index.parquet")
    (target / changed).write_bytes(b"edited by its owner")
    change_one_shard(local)
    publish(local, there)
    before = tree(target)
    with pytest.raises(RequestError, match="no manifest here lists it"):
        pull(there, target)
    assert tree(target) == before


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_pull_of_a_newer_version_goes_on(there: str, local: Path, tmp_path: Path, after: int) -> None:
    target = tmp_path / "target"
    pull(there, target)
    for shard in (0, 1, 2):
        change_one_shard(local, shard)
    publish(local, there)
    with pytest.raises(Stopped):
        pull(there, target, progress=stop_after(after, "receive"))
    assert (target / CONFIG / PULLING).is_file()
    pull(there, target)
    assert same_files(target / CONFIG, local / CONFIG)
    assert not (target / CONFIG / PULLING).exists()


def test_a_program_s_readme_is_not_written_over(there: str, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "README.md").write_text("# My program\n")
    with pytest.raises(RequestError, match=r"README\.md was not written by latentstore .* or choose another folder\."):
        pull(there, tmp_path / "target")
    assert tree(tmp_path / "target").keys() == {"README.md"}


def test_words_on_a_card_that_was_here_stay_and_a_card_as_it_was_pulled_is_renewed(
    there: str, local: Path, tmp_path: Path
) -> None:
    target, card = tmp_path / "target", Path(there) / "README.md"
    pull(there, target)
    card.write_text(card.read_text() + "\nWritten by the publisher.\n")
    pull(there, target)
    assert (target / "README.md").read_bytes() == card.read_bytes()
    (target / "README.md").write_text((target / "README.md").read_text() + "\nWritten here.\n")
    change_one_shard(local)
    publish(local, there)
    pull(there, target)
    found = (target / "README.md").read_text()
    assert found.endswith("\nWritten by the publisher.\n\nWritten here.\n")
    assert found.removesuffix("\nWritten here.\n") == card.read_text()
    pull(there, target)
    assert (target / "README.md").read_text() == found


@pytest.mark.parametrize("planted", [CONFIG, f"{CONFIG}/{SHARD}", f"{CONFIG}/.{SHARD}.partial", f"{CONFIG}/{PULLING}"])
def test_a_pull_goes_through_no_link(there: str, tmp_path: Path, planted: str) -> None:
    target, victim = tmp_path / "target", tmp_path / "victim"
    link = target / planted
    link.parent.mkdir(parents=True)
    if planted == CONFIG:
        victim.mkdir()
    else:
        victim.write_text("mine")
    link.symlink_to(victim)
    before = tree(tmp_path)
    with pytest.raises(UnsafePathError, match="is a link"):
        pull(there, target)
    left = {path: found for path, found in tree(tmp_path).items() if path in before}
    assert left == before


def test_a_planted_journal_of_a_pull_names_nothing_but_data_of_its_config(there: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / CONFIG).mkdir(parents=True)
    (target / "victim.parquet").write_text("mine")
    (target / CONFIG / "notes.txt").write_text("mine")
    files = ["../victim.parquet", "notes.txt", 7, None, "x" * 5000, "train-00009-of-00010.parquet"]
    for text in (json.dumps({"files": files}), "[" * 100_000, '{"files": 3}', "{"):
        (target / CONFIG / PULLING).write_text(text)
        (target / CONFIG / "manifest.json").unlink(missing_ok=True)
        pull(there, target)
        assert (target / "victim.parquet").read_text() == (target / CONFIG / "notes.txt").read_text() == "mine"


def test_what_was_pulled_says_so_by_a_digest_that_nobody_else_can_be_hurt_by(there: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    pull(there, target)
    (target / PULLED).unlink()
    (target / PULLED).symlink_to(tmp_path / "victim")
    pull(there, target)
    assert not (tmp_path / "victim").exists()


# push and drop


@pytest.mark.parametrize("name", [SHARD, "index.parquet", "train-00000-of-00007.parquet", "train-mine.parquet"])
@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_push_refuses_files_that_are_in_its_way(local: Path, tmp_path: Path, name: str, kind: str) -> None:
    import fsspec

    place = str(tmp_path / "there") if kind == "folder" else f"memory://{tmp_path.name}/{name}"
    files, root = fsspec.core.url_to_fs(place)
    files.makedirs(f"{root}/{CONFIG}", exist_ok=True)
    files.pipe_file(f"{root}/{CONFIG}/{name}", b"mine")
    before = files_at(place)
    with pytest.raises(PublishError, match=rf"holds {CONFIG}/{name}, which no manifest there lists as its own: it wou"):
        publish(local, place, choices=LICENSED)
    assert files_at(place) == before


@pytest.mark.parametrize("act", [pull, publish, drop])
def test_a_file_called_manifest_that_is_none_stays(there: str, local: Path, tmp_path: Path, act: Any) -> None:
    mine = tmp_path / "mine" / CONFIG / "manifest.json"
    mine.parent.mkdir(parents=True)
    mine.write_text('{"name": "my program"}')
    acts: dict[Any, Callable[[], object]] = {
        pull: lambda: pull(there, tmp_path / "mine"),
        publish: lambda: publish(local, tmp_path / "mine", choices=LICENSED),
        drop: lambda: drop(tmp_path / "mine", CONFIG),
    }
    said = {
        pull: "no manifest here lists it",
        publish: "no manifest there lists",
        drop: "is no manifest of latentstore",
    }
    with pytest.raises(LatentStoreError, match=said[act]):
        acts[act]()
    assert mine.read_text() == '{"name": "my program"}'


def test_a_push_leaves_what_is_not_in_its_way_and_so_does_a_drop(there: str, local: Path) -> None:
    mine = {"notes.txt", f"{CONFIG}/notes.txt", f"{CONFIG}/val-00000-of-00002.parquet", f"{CONFIG}/preview-3.png"}
    for path in mine:
        (Path(there) / path).write_text("mine")
    change_one_shard(local)
    publish(local, there)
    report = drop(there, CONFIG)
    assert set(report.deleted) == {f"{CONFIG}/{path.name}" for path in (local / CONFIG).iterdir()}
    assert set(files_at(there)) == {*mine, "README.md"}


@pytest.mark.parametrize("act", ["push", "drop"])
def test_a_file_that_is_not_what_the_manifest_there_lists_stays(there: str, local: Path, act: str) -> None:
    shard = Path(there) / CONFIG / SHARD
    mine = bytes(reversed(shard.read_bytes()))
    shard.write_bytes(mine)
    change_one_shard(local)
    said = rf"holds {CONFIG}/{SHARD} with other contents than the manifest there states, so it may be somebody's own"
    with pytest.raises(PublishError, match=said):
        publish(local, there) if act == "push" else drop(there, CONFIG)
    assert shard.read_bytes() == mine
    assert (Path(there) / CONFIG / "manifest.json").is_file()


def test_a_manifest_that_cannot_be_understood_is_dropped_with_the_files_that_it_names_rightly(there: str) -> None:
    shard = Path(there) / CONFIG / SHARD

    def change(data: dict[str, Any]) -> None:
        data["vae"] = "nonsense"
        data["splits"]["train"]["shards"][1]["path"] = "../../victim"

    (Path(there).parent / "victim").write_text("mine")
    edit(Path(there) / CONFIG, change)
    report = drop(there, CONFIG)
    assert f"{CONFIG}/manifest.json" in report.deleted
    assert f"{CONFIG}/index.parquet" in report.deleted
    assert shard.is_file()
    assert (Path(there).parent / "victim").read_text() == "mine"


def test_a_push_that_was_stopped_may_write_over_what_it_began_and_over_nothing_else(there: str, local: Path) -> None:
    place = Path(there)
    for shard in (0, 1, 2):
        change_one_shard(local, shard)
    with pytest.raises(Stopped):
        publish(local, there, progress=stop_after(1, "send"), patience=SOON)
    assert not (place / CONFIG / "manifest.json").exists()
    (place / CONFIG / "train-mine.parquet").write_text("mine")
    with pytest.raises(PublishError, match=r"train-mine\.parquet, which no manifest there lists"):
        publish(local, there)
    (place / CONFIG / "train-mine.parquet").unlink()
    publish(local, there)
    assert same_files(place / CONFIG, local / CONFIG)


def test_a_push_goes_through_no_link(local: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / CONFIG).symlink_to(victim)
    with pytest.raises(UnsafePathError, match="is a link that leads out of"):
        publish(local, tmp_path / "there", choices=LICENSED)
    assert list(victim.iterdir()) == []


def test_a_push_leaves_no_partial_file_of_one_that_was_stopped(local: Path, tmp_path: Path) -> None:
    config = tmp_path / "there" / CONFIG
    config.mkdir(parents=True)
    for name in (f".{SHARD}.0123abcd.partial", ".mine.partial"):
        (config / name).write_text("half")
    publish(local, tmp_path / "there", choices=LICENSED)
    assert [path.name for path in config.glob(".*")] == [".mine.partial"]


@pytest.mark.parametrize(
    "key", ["../manifest.json", f"../{CONFIG}/manifest.json", "a\\b/manifest.json", "x\x1b/manifest.json"]
)
def test_keys_that_lead_elsewhere_are_no_configs(local: Path, key: str) -> None:
    from latentstore.file_records import RemoteFile
    from latentstore.publishing.planning import own_files, published_configs
    from latentstore.publishing.records import TargetState

    text = (local / CONFIG / "manifest.json").read_bytes()
    state = TargetState(exists=True, files={key: RemoteFile(key, len(text))})
    assert published_configs(state) == []
    assert own_files(state, key.rpartition("/")[0], lambda _: text) == {}
