"""`verify` and `show` of datasets that lie elsewhere, and how many bytes that moves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hub_reading import REPO, fetched, hub_with
from hub_server import HubServer
from latentstore_cli.main import main
from range_server import serving
from scenes import build_scenes, scenes

from latentstore import CONTAINERS, METRICS, STORAGES, VerifyReport, open_store, verify
from latentstore.containers.row_ranges import TAIL_BYTES
from latentstore.errors import FetchError, StoreError, UnreachableError
from latentstore.hashing import sha256_of
from latentstore.manifest import SplitInfo

KINDS = ("parquet", "int8", "tar")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    build_scenes(out, config="parquet")
    build_scenes(out, config="int8", storage=STORAGES["int8"], step=1 / 16)
    build_scenes(out, config="tar", container=CONTAINERS["webdataset"])
    return out


@pytest.fixture
def hub(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_with(built, tmp_path, monkeypatch) as found:
        yield found


def statuses(report: VerifyReport) -> Mapping[str, str]:
    return {result.check: result.status for result in report.results}


def failed(report: VerifyReport) -> list[str]:
    return [result.check for result in report.results if result.status == "failed"]


@pytest.mark.parametrize("depth", ["quick", "normal", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_on_the_hub_passes_what_the_folder_passes(hub: HubServer, built: Path, kind: str, depth: str) -> None:
    there, here = verify(REPO, kind, depth=depth, sample=3), verify(built, kind, depth=depth, sample=3)
    assert there.ok
    assert statuses(there) == statuses(here)
    if depth != "quick":
        assert statuses(there)["quality"] == "passed"
    shards = {f"{kind}/{shard.path}" for split in here_splits(built, kind) for shard in split.shards}
    assert fetched(hub) & shards == (set() if depth == "quick" else shards)


def here_splits(built: Path, kind: str) -> list[SplitInfo]:
    return list(open_store(built, kind).manifest.splits.values())


def test_quick_reads_manifest_and_index_and_takes_sha256_from_the_listing(hub: HubServer, built: Path) -> None:
    report = verify(REPO, "parquet", depth="quick")
    assert "3 shards, the sha256 of 3 from its listing" in [result.note for result in report.results]
    read = sum((built / "parquet" / name).stat().st_size for name in ("manifest.json", "index.parquet"))
    assert hub.log.sent("resolve") + hub.log.sent("cdn") <= read + 10  # a byte more says how large a file is


@pytest.mark.parametrize("depth", ["quick", "normal"])
def test_a_changed_shard_is_found_at_every_depth(hub: HubServer, built: Path, depth: str) -> None:
    path = "parquet/train-00001-of-00003.parquet"
    content = bytearray((built / path).read_bytes())
    content[len(content) // 3] ^= 1
    hub.change(REPO, {path: bytes(content)})
    report = verify(REPO, "parquet", depth=depth)
    assert failed(report) == ["files"]
    finding = next(found for result in report.results for found in result.findings)
    assert (finding.file, "its bytes were changed" in finding.message) == ("train-00001-of-00003.parquet", True)


def test_a_missing_a_cut_and_an_unlisted_shard_are_found(hub: HubServer, built: Path) -> None:
    paths = [f"tar/train-00000{number}.tar" for number in range(3)]
    cut = (built / paths[1]).read_bytes()[:-512]
    hub.change(REPO, {paths[0]: None, paths[1]: cut, "tar/train-000009.tar": b"x"})
    found = {finding.file for result in verify(REPO, "tar").results for finding in result.findings}
    assert found == {"train-000000.tar", "train-000001.tar", "train-000009.tar"}


def test_a_changed_index_or_manifest_fails_its_check(hub: HubServer, built: Path) -> None:
    index = bytearray((built / "int8/index.parquet").read_bytes())
    index[100] ^= 1
    manifest = (built / "tar/manifest.json").read_bytes().replace(b'"seed": 0', b'"seed": 1', 1)
    hub.change(REPO, {"int8/index.parquet": bytes(index), "tar/manifest.json": manifest})
    assert "index" in failed(verify(REPO, "int8", depth="quick"))
    assert failed(verify(REPO, "tar", depth="quick")) == ["manifest"]


def test_without_the_hub_a_copy_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch, hub: HubServer) -> None:
    from huggingface_hub import constants

    from latentstore import load_latents

    load_latents(REPO, "parquet")
    hub.log.forget()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnreachableError, match="the client was told to stay offline"):
        verify(REPO, "parquet")
    assert not hub.log.entries


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_a_web_server_and_other_file_systems_are_verified_by_sizes_and_bytes(
    built: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    fsspec.filesystem("memory").put(str(built), "/verified", recursive=True)
    with serving(built) as server:
        for location in (server.url, "memory://verified"):
            for depth in ("quick", "normal"):
                report = verify(location, kind, depth=depth, sample=2)
                assert report.ok
                assert "3 shards" in next(result.note for result in report.results if result.check == "files")
    with pytest.raises(FetchError, match="cannot be read: the connection failed"):
        verify("http://127.0.0.1:9/x", kind)


def test_nothing_is_left_of_what_was_fetched(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert verify(REPO, "int8", depth="full").ok
    assert hub.log.sent("cdn") > 0
    assert list((tmp_path / "temporary").iterdir()) == []


# A store that is read in parts ---------------------------------------------------------------------------------------


def test_two_columns_of_a_long_index_move_their_own_bytes_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentstore.remote_store.SMALL_INDEX", 1024)
    plan = {"source": scenes(1500, 8), "batch_size": 256, "rows_per_shard": 1500}
    build_scenes(tmp_path / "long", config="long", metrics=(METRICS["psnr"],), **plan)
    path = tmp_path / "long" / "long" / "index.parquet"
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = {group.column(n).path_in_schema: group.column(n).total_compressed_size for n in range(group.num_columns)}
    with hub_with(tmp_path / "long", tmp_path, monkeypatch) as hub:
        store = open_store(f"hub:{REPO}")
        found = store.index(["label", "psnr"])
        assert found == open_store(tmp_path / "long").index(["label", "psnr"])
        moved = hub.log.sent("cdn")
        assert moved <= TAIL_BYTES + chunks["label"] + chunks["psnr"] < path.stat().st_size
        everything = store.index()
        assert hub.log.sent("cdn") - moved == path.stat().st_size
        assert everything["psnr"] == found["psnr"]


def test_an_index_that_the_hub_says_is_another_is_refused(
    hub: HubServer, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentstore.remote_store.SMALL_INDEX", 1024)
    hub.change(REPO, {"parquet/index.parquet": (built / "tar/index.parquet").read_bytes()})
    with pytest.raises(StoreError, match="is not the one that the manifest describes|it was cut or replaced"):
        open_store(REPO, "parquet").index(["label"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_remote_shard_gives_the_rows_and_columns_of_the_file(hub: HubServer, built: Path, kind: str) -> None:
    import numpy as np

    there, here = open_store(REPO, kind), open_store(built, kind)
    info = here.manifest.splits["train"].shards[1]
    rows = np.array([7, 0, 7, 3])
    expected = here.shard(info)
    assert np.array_equal(there.shard(info).latents(rows), expected.latents(rows))
    assert np.array_equal(there.latents_of(info).latents(rows), expected.latents(rows))
    assert there.shard(info).columns(["id", "psnr"]) == expected.columns(["id", "psnr"])
    with there.shard_file(info) as path:
        assert sha256_of(path) == info.sha256
    assert not path.exists()
    assert hub.log.counts()["cdn"] > 0


# Command line --------------------------------------------------------------------------------------------------------


def test_show_and_verify_take_a_repository(hub: HubServer, built: Path) -> None:
    shown = CliRunner().invoke(main, ["show", REPO, "--json"])
    assert shown.exit_code == 0
    assert [manifest["config"] for manifest in json.loads(shown.stdout)] == sorted(KINDS)
    assert hub.log.counts()["cdn"] == 0
    one = CliRunner().invoke(main, ["show", f"hub:{REPO}@main", "--config", "int8", "--json"])
    assert json.loads(one.stdout) == json.loads((built / "int8/manifest.json").read_text())
    verified = CliRunner().invoke(main, ["verify", REPO, "--quick", "--json"])
    assert verified.exit_code == 0
    assert [(report["ok"], report["location"]) for report in json.loads(verified.stdout)] == [(True, REPO)] * 3


@pytest.mark.parametrize("command", ["show", "verify"])
def test_a_repository_that_is_not_there_is_one_line(hub: HubServer, command: str) -> None:
    result = CliRunner().invoke(main, [command, "user/nothing"])
    assert result.exit_code == 1
    sentence = (
        "The Hub has no dataset repository user/nothing that you may read: check the name, or type: hf auth login"
    )
    assert result.stderr.splitlines() == [f"Error: {sentence}"]
    assert hub.log.counts()["info"] > 0
