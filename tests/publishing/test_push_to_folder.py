"""The same layout in a bucket, in memory and on a disk: the manifest of a config is there only with its data."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
from publishing_words import CONFIG, LICENSED, SOON, change_one_shard, files_at, missing_data, paths_of, same_files

from latentstore import Manifest, drop, load_latents, open_store, publish, pull, verify
from latentstore.errors import PublishError, RequestError
from latentstore.hashing import sha256_of
from latentstore.publishing.records import PublishProgress

BUCKET = "latents-bucket"


class Stopped(BaseException):
    """Like Ctrl-C."""


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    server = pytest.importorskip("moto.server", reason="needs moto, flask and flask-cors")
    logging.getLogger("werkzeug").disabled = True
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def bucket(s3_server: str, tmp_path: Path) -> Iterator[str]:
    """An empty folder of a bucket; the S3 client is that of pyarrow."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from fsspec.registry import _registry
    from pyarrow.fs import S3FileSystem

    access = {"access_key": "user", "secret_key": "secret", "region": "us-east-1", "scheme": "http"}
    client = S3FileSystem(endpoint_override=s3_server, allow_bucket_creation=True, background_writes=False, **access)
    client.create_dir(BUCKET)

    class S3(ArrowFSWrapper):  # type: ignore[misc] # it has no types
        protocol = "s3"

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(client, **kwargs)

        def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
            # The wrapper opens a stream that cannot seek, and then seeks, for a range that starts at 0.
            found: bytes = super().cat_file(path, start, end, **{**kwargs, "seekable": True})
            return found

    before = _registry.pop("s3", None)
    fsspec.register_implementation("s3", S3, clobber=True)
    S3.clear_instance_cache()
    yield f"s3://{BUCKET}/{tmp_path.name}"
    del _registry["s3"]
    if before is not None:
        _registry["s3"] = before


@pytest.fixture(params=["memory", "file", "folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Somewhere to publish to, of every kind."""
    if request.param == "s3":
        return str(request.getfixturevalue("bucket"))
    return {
        "memory": f"memory://{tmp_path.name}/repo",
        "file": (tmp_path / "mounted" / "repo").as_uri(),
        "folder": str(tmp_path / "mounted" / "repo"),
    }[request.param]


def test_the_same_files_lie_there_and_come_back(place: str, local: Path, other: Path, tmp_path: Path) -> None:
    report = publish(local, place, choices=LICENSED, patience=SOON)
    files = files_at(place)
    assert set(files) == paths_of(local) == set(report.sent)
    assert missing_data(files) == []
    publish(other, place, patience=SOON)
    card = files_at(place)["README.md"].decode()
    assert "config_name: other" in card
    assert f"config_name: {CONFIG}" in card
    pull(place, tmp_path / "back", patience=SOON)
    assert same_files(tmp_path / "back" / CONFIG, local / CONFIG)
    assert (tmp_path / "back" / "README.md").read_text() == card


def test_only_what_changed_is_sent(place: str, local: Path) -> None:
    publish(local, place, choices=LICENSED, patience=SOON)
    assert publish(local, place, patience=SOON).sent == ()
    changed = change_one_shard(local)
    report = publish(local, place, patience=SOON)
    assert set(report.sent) == {changed, f"{CONFIG}/index.parquet", f"{CONFIG}/manifest.json", "README.md"}
    assert missing_data(files_at(place)) == []


class Watched:
    """Looks at the place with every report, and stops at one of them."""

    def __init__(self, place: str, stop_after: int) -> None:
        self.place, self.left, self.seen = place, stop_after, 0

    def __call__(self, progress: PublishProgress) -> None:
        files: Mapping[str, bytes] = files_at(self.place)
        assert missing_data(files) == []
        self.seen += 1
        self.left -= progress.stage in {"send", "commit"}
        if self.left == 0:
            raise Stopped


@pytest.mark.parametrize("after", [1, 2, 3])
def test_no_reader_ever_sees_a_manifest_without_its_data_and_what_was_stopped_goes_on(
    local: Path, tmp_path: Path, after: int
) -> None:
    from scenes import build_scenes

    place = f"memory://{tmp_path.name}/repo"
    publish(local, place, choices=LICENSED)
    build_scenes(tmp_path / "again", rows_per_shard=8)
    with pytest.raises(Stopped):
        publish(tmp_path / "again", place, progress=Watched(place, after))
    assert f"{CONFIG}/manifest.json" not in files_at(place)
    watched = Watched(place, -1)
    report = publish(tmp_path / "again", place, progress=watched)
    assert watched.seen > 3
    assert set(files_at(place)) == paths_of(tmp_path / "again")
    assert missing_data(files_at(place)) == []
    data = [path for path in paths_of(tmp_path / "again") if path.endswith(".parquet")]
    assert len([path for path in report.sent if path in data]) == len(data) - after
    assert publish(tmp_path / "again", place).sent == ()


def test_a_first_push_that_was_stopped_goes_on(local: Path, tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}/repo"
    with pytest.raises(Stopped):
        publish(local, place, choices=LICENSED, progress=Watched(place, 2))
    report = publish(local, place, choices=LICENSED)
    assert f"{CONFIG}/train-00002-of-00003.parquet" in report.sent
    assert f"{CONFIG}/train-00001-of-00003.parquet" in report.skipped
    assert set(files_at(place)) == paths_of(local)


def test_a_journal_that_was_cut_means_that_all_is_sent_again(local: Path, tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}/repo"
    with pytest.raises(Stopped):
        publish(local, place, choices=LICENSED, progress=Watched(place, 2))
    files, root = fsspec.core.url_to_fs(place)
    files.pipe_file(f"{root}/{CONFIG}/.publishing.json", b'{"sha256": {')
    assert len(publish(local, place, choices=LICENSED).sent) == len(paths_of(local))


def test_what_was_stopped_at_its_very_end_is_tidied_up(local: Path, tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    publish(local, place, choices=LICENSED)
    journal = place / CONFIG / ".publishing.json"
    shas = {path: sha256_of(local / path) for path in paths_of(local) if path.endswith((".parquet", ".png"))}
    journal.write_text(json.dumps({"writer": "gone", "sha256": shas}))
    assert publish(local, place).sent == ()
    assert not journal.exists()
    assert missing_data(files_at(str(place))) == []


def test_what_came_damaged_before_an_interruption_is_found_after_it(local: Path, tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    with pytest.raises(Stopped):
        publish(local, place, choices=LICENSED, progress=Watched(str(place), 2))
    shard = place / CONFIG / "train-00000-of-00003.parquet"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(PublishError, match=rf"has other contents than were sent: {CONFIG}/{shard.name}; .*sent again"):
        publish(local, place, choices=LICENSED)
    assert not (place / CONFIG / "manifest.json").exists()
    assert f"{CONFIG}/{shard.name}" in publish(local, place, choices=LICENSED).sent
    assert missing_data(files_at(str(place))) == []


def test_what_came_damaged_is_found(local: Path, tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    shard = place / CONFIG / "train-00001-of-00003.parquet"

    def damage(progress: PublishProgress) -> None:
        if progress.stage == "send" and progress.path.endswith(shard.name):
            shard.write_bytes(bytes(shard.stat().st_size))

    with pytest.raises(PublishError, match=rf"has other contents than were sent: {CONFIG}/{shard.name}"):
        publish(local, place, choices=LICENSED, progress=damage)


def test_a_dropped_config_is_gone(place: str, local: Path, other: Path) -> None:
    publish(local, place, choices=LICENSED, patience=SOON)
    publish(other, place, patience=SOON)
    drop(place, "other", patience=SOON)
    files = files_at(place)
    assert set(files) == paths_of(local)
    assert "config_name: other" not in files["README.md"].decode()


def test_a_folder_here_that_is_only_read_says_so(local: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(PublishError, match=r"cannot be written: .* see whether the bucket or folder exists"):
        publish(local, tmp_path / "file" / "repo", choices=LICENSED, patience=SOON)


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_is_not_there_says_so(local: Path) -> None:
    with pytest.raises(PublishError, match=r"s3://nobody-has-this/repo.* see whether the bucket or folder exists"):
        publish(local, "s3://nobody-has-this/repo", choices=LICENSED, patience=SOON)


@pytest.mark.parametrize(
    ("wishes", "option"),
    [({"tag": "v1"}, "--tag"), ({"create_pr": True}, "--create-pr"), ({"private": True}, "--private")],
)
def test_what_only_the_hub_has_is_refused(local: Path, tmp_path: Path, wishes: dict[str, Any], option: str) -> None:
    with pytest.raises(RequestError, match=rf"is no Hub repository, so {option} has no meaning for it"):
        publish(local, tmp_path / "there", choices=LICENSED, **wishes)
    with pytest.raises(RequestError, match=r"so --revision has no meaning"):
        publish(local, tmp_path / "there", choices=LICENSED, revision="draft")
    assert not (tmp_path / "there").exists()


def test_a_copy_that_was_pulled_can_be_pushed_from(local: Path, tmp_path: Path) -> None:
    shutil.copytree(local, tmp_path / "copy")
    publish(tmp_path / "copy", tmp_path / "there", choices=LICENSED)
    pull(tmp_path / "there", tmp_path / "back")
    assert publish(tmp_path / "back", tmp_path / "there").sent == ()


def test_a_bucket_is_read_where_it_is(bucket: str, local: Path) -> None:
    from scenes import build_scenes, scenes

    build_scenes(local, source=scenes(12), config="more", rows_per_shard=5)
    publish(local, bucket, choices=LICENSED, patience=SOON)
    streamed = load_latents(bucket, "more", split="train", streaming=True, columns=["id"])
    expected = {row["id"]: row["latent"] for row in load_latents(local, "more", split="train", columns=["id"])}
    seen = [
        (name, latent)
        for batch in streamed.loader(batch_size=4, shuffle=True, seed=1)
        for name, latent in zip(batch["id"], batch["latent"], strict=True)
    ]
    assert sorted(name for name, _ in seen) == sorted(expected)
    assert all(latent.equal(expected[name]) for name, latent in seen)
    assert open_store(bucket, "more").manifest == Manifest.read(local / "more")
    assert verify(bucket, "more", depth="quick").ok
