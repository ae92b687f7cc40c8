"""Files of a model repository, from a small Hub on 127.0.0.1 that speaks the real one's protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from checkpoints import save_checkpoint

from latentstore import VAES
from latentstore.errors import VaeError
from latentstore.hub.models import commit_of, fetch_files
from latentstore.manifest import VaeInfo
from latentstore.vaes import checkpoint
from latentstore.vaes.table import row_of

FIRST, SECOND = "1" * 40, "2" * 40


@dataclass
class SmallHub:
    """Repositories by name: files by (commit, path), the commits that `main` stands for one after another."""

    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    main: list[str] = field(default_factory=lambda: [FIRST])
    gated: bool = False
    asked: list[str] = field(default_factory=list)
    endpoint: str = ""

    def commit(self, revision: str) -> str:
        if revision != "main":
            return revision
        return self.main.pop(0) if len(self.main) > 1 else self.main[0]


class Answers(BaseHTTPRequestHandler):
    hub: SmallHub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is not the place."""

    def _answer(self, *, body: bool) -> None:
        _, user, name, _, revision, *path = self.path.split("?")[0].split("/")
        if name == "missing":
            self._refuse(404, "RepoNotFound")
        elif self.hub.gated:
            self._refuse(403, "GatedRepo")
        elif revision == "no-such-branch":
            self._refuse(404, "RevisionNotFound")
        else:
            commit = self.hub.commit(revision)
            self.hub.asked.append(f"{user}/{name}@{commit[0]}:{'/'.join(path)}")
            content = self.hub.files.get((commit, "/".join(path)))
            if content is None:
                self._refuse(404, "EntryNotFound")
                return
            self.send_response(200)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SmallHub]:
    """An empty Hub on 127.0.0.1, and a cache of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    small = SmallHub()
    handler = type("Bound", (Answers,), {"hub": small})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        small.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        yield small
        server.shutdown()


def test_files_come_into_the_cache_and_their_commit_is_known(hub: SmallHub) -> None:
    hub.files = {(FIRST, "vae/config.json"): b"{}", (FIRST, "vae/weights"): b"numbers"}
    config, weights = fetch_files("a/b", ["vae/config.json", "vae/weights"], endpoint=hub.endpoint)
    assert (config.read_bytes(), weights.read_bytes()) == (b"{}", b"numbers")
    assert commit_of(config) == commit_of(weights) == FIRST
    assert commit_of(Path("somewhere/else/config.json")) is None


def test_a_repository_that_moves_meanwhile_gives_all_files_of_one_commit(hub: SmallHub) -> None:
    hub.files = {(commit, name): commit.encode() for commit in (FIRST, SECOND) for name in ("config.json", "weights")}
    hub.main = [FIRST, FIRST, SECOND]  # asked twice for the first file: its head, then its bytes
    found = fetch_files("a/b", ["config.json", "weights"], endpoint=hub.endpoint)
    assert [path.read_bytes() for path in found] == [FIRST.encode()] * 2
    assert not any("@2" in asked for asked in hub.asked)


def test_a_pinned_commit_is_the_one_that_is_asked_for(hub: SmallHub) -> None:
    hub.files = {(SECOND, "config.json"): b"pinned"}
    (path,) = fetch_files("a/b", ["config.json"], revision=SECOND, endpoint=hub.endpoint)
    assert path.read_bytes() == b"pinned"


def test_a_gated_repository_says_where_to_accept_and_how_to_log_in(hub: SmallHub) -> None:
    hub.gated = True
    with pytest.raises(VaeError) as caught:
        fetch_files("a/gated", ["config.json"], endpoint=hub.endpoint)
    page = f"{hub.endpoint}/a/gated"
    assert str(caught.value) == f"a/gated is gated: accept its terms on {page}, then type: hf auth login"


@pytest.mark.parametrize(
    ("repo", "files", "revision", "sentence"),
    [
        (
            "a/missing",
            ["config.json"],
            None,
            "The Hub has no model repository a/missing that you may read: check the name, or type: hf auth login",
        ),
        (
            "a/b",
            ["config.json"],
            "no-such-branch",
            "a/b has no revision 'no-such-branch': choose one of its branches and tags, see HUB/a/b/tree/main",
        ),
        ("a/b", ["config.json", "weights"], None, "a/b has no file config.json at main."),
    ],
)
def test_what_the_hub_does_not_have_is_one_sentence(
    hub: SmallHub, repo: str, files: list[str], revision: str | None, sentence: str
) -> None:
    with pytest.raises(VaeError) as caught:
        fetch_files(repo, files, revision=revision, endpoint=hub.endpoint)
    assert str(caught.value) == sentence.replace("HUB", hub.endpoint)


def test_a_server_that_is_not_there_is_one_sentence(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # huggingface_hub tries again, and waits longer each time
    with pytest.raises(VaeError, match=r"^[^\n]+$"):
        fetch_files("a/b", ["config.json"], endpoint="http://127.0.0.1:9")
    assert not hub.asked


def test_without_a_network_the_missing_files_are_named() -> None:
    with pytest.raises(VaeError) as caught:
        VAES["flux2"].load()
    assert str(caught.value) == (
        "vae/config.json, vae/diffusion_pytorch_model.safetensors of black-forest-labs/FLUX.2-klein-4B are not in the "
        "local cache and the Hub cannot be reached; with a network, type: hf download "
        "black-forest-labs/FLUX.2-klein-4B vae/config.json vae/diffusion_pytorch_model.safetensors"
    )
    with pytest.raises(VaeError, match="taef2.safetensors of madebyollin/taef2 are not in the local cache"):
        VAES["taef2"].load()


def test_without_a_network_a_gated_repository_says_that_it_is() -> None:
    with pytest.raises(VaeError) as caught:
        VAES["sd35"].load()
    assert (
        "accept its licence on https://huggingface.co/stabilityai/stable-diffusion-3.5-large, type: hf auth login, "
        "then type: hf download stabilityai/stable-diffusion-3.5-large vae/config.json"
    ) in str(caught.value)


def test_a_row_of_the_table_is_loaded_from_its_repository_and_its_commit_recorded(
    hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "vae", "sd35")
    for path in (tmp_path / "vae").iterdir():
        hub.files[FIRST, f"vae/{path.name}"] = path.read_bytes()
    monkeypatch.setattr(checkpoint, "fetch_files", lambda *a, **k: fetch_files(*a, **k, endpoint=hub.endpoint))
    vae = VAES["sd35"].load()
    assert (vae.identity.repo, vae.identity.revision) == ("stabilityai/stable-diffusion-3.5-large", FIRST)
    hub.asked.clear()
    hub.main = [SECOND]
    again = row_of(recorded("sd35", repo=vae.identity.repo, revision=vae.identity.revision))
    assert again.revision == FIRST
    assert again.load().identity == vae.identity
    assert not any("@2" in asked for asked in hub.asked)


def recorded(name: str, *, repo: str | None, revision: str | None) -> VaeInfo:
    """A manifest's record of a VAE."""
    row = VAES[name]
    return VaeInfo(name, row.class_name, repo, row.subfolder, revision, None, row.stride, row.channels, row.licence)


def test_a_vae_that_was_read_from_a_folder_is_found_there_again(tmp_path: Path) -> None:
    assert row_of(recorded("taef2", repo=str(tmp_path), revision=None), trust=True) == VAES["taef2"].at(str(tmp_path))
    assert row_of(recorded("taef2", repo=str(tmp_path / "gone"), revision=None), trust=True) == VAES["taef2"]


def test_json_that_is_no_object_is_no_configuration(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "vae", "sd21")
    for text, sentence in (("[1]", "expected a JSON object"), ("{", "cannot be read as a configuration")):
        (tmp_path / "vae" / "config.json").write_text(text)
        with pytest.raises(VaeError, match=sentence):
            VAES["sd21"].at(str(tmp_path / "vae")).load()
