"""Datasets on the Hub read back: opened where they are, downloaded, found offline, refused in one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_reading import REPO, ask, fetched, files_of, go_offline, hub_with
from hub_server import Commit, Fault, HubServer
from huggingface_hub import HfApi
from scenes import build_scenes

from latentstore import CONTAINERS, convert, load_latents, open_store
from latentstore.errors import DamagedShardError, FetchError, RequestError, UnknownNameError, UnsupportedVersionError
from latentstore.manifest import with_digest
from latentstore.opening import sealed_configs

CONFIGS = ("floats", "tar")
pytestmark = pytest.mark.usefixtures("hub")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of two configs of the same pictures, each with 3 shards of its one split."""
    out = tmp_path_factory.mktemp("built")
    build_scenes(out, config="floats", metrics=())
    build_scenes(out, config="tar", metrics=(), container=CONTAINERS["webdataset"])
    return out


@pytest.fixture
def hub(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_with(built, tmp_path, monkeypatch) as found:
        yield found


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("location", [REPO, f"hub:{REPO}", f"hf://datasets/{REPO}"])
def test_a_config_is_downloaded_and_loads_like_its_folder(
    hub: HubServer, built: Path, config: str, location: str
) -> None:
    there, here = load_latents(location, config, columns=["id"]), load_latents(built, config, columns=["id"])
    found, expected = there.batch(range(len(there))), here.batch(range(len(here)))
    assert torch.equal(found["latent"], expected["latent"])
    assert found["id"] == expected["id"]
    assert there.manifest == here.manifest
    assert {path for path in fetched(hub) if not path.startswith(f"{config}/")} == {"README.md"}
    assert f"{config}/preview.png" not in fetched(hub)


def test_what_was_downloaded_is_not_downloaded_again(hub: HubServer) -> None:
    load_latents(REPO, "floats")
    shards = [path for path in fetched(hub) if path.endswith("-of-00003.parquet")]
    assert len(shards) == 3
    hub.log.forget()
    load_latents(REPO, "floats")
    assert fetched(hub) == {"floats/manifest.json"}  # the one that says what is needed


def test_only_the_shards_of_the_split_are_downloaded(hub: HubServer, tmp_path: Path) -> None:
    out = tmp_path / "split"
    build_scenes(out, config="halves", metrics=(), source=two_splits(tmp_path / "pictures"))
    hub.create("user/halves", files_of(out))
    assert len(load_latents("user/halves", split="test")) == 2
    assert {"halves/test-00000-of-00001.parquet"} == {path for path in fetched(hub) if "-of-" in path}
    with pytest.raises(UnknownNameError, match="There is no split named 'tset'. Did you mean 'test'"):
        load_latents("user/halves", split="tset")


def two_splits(folder: Path) -> object:
    from scenes import write_pictures

    from latentstore import folder_source

    write_pictures(folder, {f"{split}/a/{n}.png": (16, 16) for split in ("train", "test") for n in range(2)})
    return folder_source(folder)


def test_several_configs_are_listed_before_anything_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds several configs, name one of them: floats, tar"):
        load_latents(REPO)
    with pytest.raises(UnknownNameError, match="There is no config named 'flots'. Did you mean 'floats'"):
        load_latents(REPO, "flots")
    assert not (tmp_path / "cache").exists()
    assert sealed_configs(REPO) == ["floats", "tar"]
    assert sealed_configs(f"hf://datasets/{REPO}/floats") == []
    assert len(load_latents(f"hf://datasets/{REPO}/floats")) == 30


def test_a_tag_is_that_commit_whatever_main_has_become(hub: HubServer, built: Path) -> None:
    api(hub).create_tag(REPO, tag="v1", repo_type="dataset")
    gone = {path: None for path in files_of(built) if path.startswith("floats/")}
    hub.change(REPO, gone)
    with pytest.raises(UnknownNameError, match="There is no config named 'floats'. Known: tar"):
        load_latents(REPO, "floats")
    assert len(load_latents(f"{REPO}@v1", "floats")) == 30
    assert open_store(f"hub:{REPO}@v1", "floats").manifest.config == "floats"


def test_a_store_is_one_line_on_the_screen(hub: HubServer, built: Path) -> None:
    assert repr(open_store(built, "tar")) == f"LatentStore('{built}/tar', config 'tar', 30 rows)"
    there = f"{hub.endpoint}/datasets/{REPO}/resolve/{hub.repository(REPO).head.oid}/floats"
    assert repr(open_store(REPO, "floats")) == f"RemoteStore('{there}', config 'floats', 30 rows)"


def api(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=hub.token)


def test_a_branch_that_moves_while_it_is_downloaded_gives_one_commit(hub: HubServer, built: Path) -> None:
    other = {path: b"of another commit" for path in files_of(built) if "-of-" in path}
    moved: list[Commit] = []

    def move(_: object) -> None:
        if not moved:
            moved.append(hub.change(REPO, other))

    hub.order(Fault("^resolve GET .*manifest.json", before=move))
    assert len(load_latents(REPO, "floats").batch([0, 29])["latent"]) == 2
    assert moved


# Offline -------------------------------------------------------------------------------------------------------------


def test_what_was_downloaded_once_loads_offline_and_without_any_request(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = load_latents(REPO, "floats").batch([3])["latent"]
    hub.log.forget()
    go_offline(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(load_latents(REPO, "floats").batch([3])["latent"], online)
        assert open_store(REPO, "floats").manifest.config == "floats"
    assert not hub.log.entries
    with pytest.raises(RequestError, match="holds several configs, name one of them: "):
        load_latents(REPO)


def test_without_a_network_the_copy_is_read_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    load_latents(REPO, "floats")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.warns(
        UserWarning, match="does not answer .* The copy of commit [0-9a-f]{12} in the local cache is read"
    ):
        assert len(load_latents(REPO, "floats")) == 30


def test_what_is_not_in_the_cache_is_said_with_the_command_that_fetches_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load_latents(REPO, "floats")
    go_offline(monkeypatch)
    command = "with a network, type: hf download user/latents --repo-type dataset"
    with pytest.raises(FetchError, match=f"The local cache has nothing of config 'tar' of user/latents: {command}"):
        load_latents(REPO, "tar")
    with pytest.raises(FetchError, match=f"nothing of config 'floats' of user/latents@v2: {command} --revision v2"):
        load_latents(f"{REPO}@v2", "floats")
    next((tmp_path / "cache").glob("*/snapshots/*/floats/train-00001-*")).unlink()
    with pytest.raises(FetchError, match=f"1 of 5 files are not in the local cache .*{command} --include 'floats/"):
        load_latents(REPO, "floats")


# Damage --------------------------------------------------------------------------------------------------------------


def test_a_shard_that_arrives_with_other_bytes_is_refused_and_forgotten(hub: HubServer) -> None:
    hub.order(Fault("^cdn GET", flip=2000))
    with pytest.raises(DamagedShardError, match="was downloaded with other bytes than the manifest says"):
        load_latents(REPO, "floats")
    assert len(load_latents(REPO, "floats").batch(range(30))["latent"]) == 30


def test_a_newer_major_version_is_refused_and_says_what_to_install(hub: HubServer, built: Path) -> None:
    import json

    data = json.loads((built / "floats" / "manifest.json").read_text())
    hub.change(REPO, {"floats/manifest.json": with_digest({**data, "format_version": "2.0"}).encode()})
    for read in (lambda: load_latents(REPO, "floats"), lambda: open_store(REPO, "floats")):
        with pytest.raises(UnsupportedVersionError, match="reads format 1.x, .* pip install --upgrade latentstore"):
            read()


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("user/nothing", "The Hub has no dataset repository user/nothing that you may read: check the name"),
        (f"{REPO}@v9", "user/latents has no revision 'v9': choose one of its branches and tags"),
        ("hub:user/a--b", "'user/a--b' is no name of a Hub repository"),
        ("user/private", "The Hub has no dataset repository user/private that you may read: .*hf auth login"),
        ("user/gated", "user/gated is gated: accept its terms on http.*/datasets/user/gated, then type: hf auth login"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    hub: HubServer, location: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.create("user/private", {"a/manifest.json": b"{}"}).private = True
    hub.create("user/gated", {"a/manifest.json": b"{}"}).gated = "auto"
    ask(hub, tmp_path / "cache", monkeypatch, token="")
    for read in (load_latents, open_store):
        with pytest.raises(FetchError, match=sentence) as found:
            read(location, "floats")
        assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize("location", ["hub:latents", "hub:user/a/b", "hub:/tmp/x", "hf://models/a/b"])
def test_a_location_that_begins_like_the_hubs_must_go_on_so(location: str) -> None:
    with pytest.raises(RequestError, match="Expected h"):
        open_store(location)


def test_a_folder_goes_before_a_repository_of_its_name(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "latents").symlink_to(built)
    monkeypatch.chdir(tmp_path)
    assert not open_store(REPO, "floats").is_remote
    assert open_store(f"hub:{REPO}", "floats").is_remote


def test_a_dataset_on_the_hub_is_converted_as_one_on_disk_is(built: Path, tmp_path: Path) -> None:
    options = {"layout": "fast", "config": "floats"}
    found = convert(REPO, tmp_path / "there", **options)  # type: ignore[arg-type]
    expected = convert(built, tmp_path / "here", **options)  # type: ignore[arg-type]
    assert found.splits == expected.splits
    with pytest.raises(RequestError, match="is converted on this machine: give convert its location"):
        convert(open_store(REPO, "floats"), tmp_path / "store", layout="fast")
