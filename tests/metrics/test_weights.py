"""Weights are found, checked and fetched; a wrong or half-fetched file is never used."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from latentstore.errors import MetricError
from latentstore.metrics.weights import WeightsFile, fetch, find_weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 12_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Hoster(HTTPServer):
    """Serves the content, or something like it, and counts the requests."""

    requests = 0

    def file(self, path: str) -> WeightsFile:
        return WeightsFile(
            name="net",
            file="net.pth",
            url=f"http://127.0.0.1:{self.server_port}/{path}",
            sha256=SHA256,
            bytes=len(CONTENT),
            licence="MIT",
            also=("other.pth",),
        )


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Hoster)
        self.server.requests += 1
        bodies = {"/good": CONTENT, "/cut": CONTENT[:-1], "/changed": CONTENT[:-1] + b"x", "/long": CONTENT * 2}
        body = bodies.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(CONTENT if self.path == "/cut" else body or b"")))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the reader had enough
            self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the parent's name)
        """Nothing."""


@pytest.fixture
def hoster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hoster]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Hoster(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_weights_are_fetched_whole_and_checked(hoster: Hoster, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = fetch(hoster.file("good"), tmp_path / "new", progress=lambda *amounts: told.append(amounts))
    assert path == tmp_path / "new" / "net.pth"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [entry.name for entry in path.parent.iterdir()] == ["net.pth"]


def test_weights_that_are_there_are_not_fetched_again(hoster: Hoster, tmp_path: Path) -> None:
    first = fetch(hoster.file("good"), tmp_path)
    assert fetch(hoster.file("good"), tmp_path) == first
    assert hoster.requests == 1


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("cut", "found 3,071,999 bytes of sha256"),
        ("changed", "found 3,072,000 bytes of sha256"),
        ("long", "found more than 3,072,000 bytes of sha256"),
        ("gone", "cannot be downloaded (HTTP Error 404: Not Found); type the same again."),
    ],
)
def test_what_is_not_the_file_is_refused_and_nothing_is_kept(
    path: str, sentence: str, hoster: Hoster, tmp_path: Path
) -> None:
    with pytest.raises(MetricError) as caught:
        fetch(hoster.file(path), tmp_path)
    assert sentence in str(caught.value)
    assert hoster.file(path).url in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_file_under_the_name_is_refused_and_left_alone(hoster: Hoster, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"mine")
    with pytest.raises(MetricError, match=r"net\.pth has sha256 .* is expected"):
        fetch(hoster.file("good"), tmp_path)
    assert (tmp_path / "net.pth").read_bytes() == b"mine"
    assert hoster.requests == 0


def test_a_host_that_does_not_answer_is_one_sentence(hoster: Hoster, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        file = replace(hoster.file("good"), url=f"http://127.0.0.1:{nobody.getsockname()[1]}/good")
    with pytest.raises(MetricError, match=r"cannot be downloaded \(.*refused.*\); type the same again"):
        fetch(file, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_the_web_is_downloaded_from(tmp_path: Path) -> None:
    file = WeightsFile("net", "net.pth", "file:///etc/passwd", SHA256, 4, "MIT")
    with pytest.raises(MetricError, match="no address to download net.pth from"):
        fetch(file, tmp_path)


def test_a_folder_that_cannot_be_made_is_one_sentence(hoster: Hoster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MetricError, match="Cannot write into"):
        fetch(hoster.file("good"), tmp_path / "file" / "folder")


@pytest.mark.parametrize("name", ["net.pth", "other.pth", "renamed"])
def test_weights_are_found_in_a_folder_under_any_of_their_names_or_as_a_file(
    name: str, hoster: Hoster, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(CONTENT)
    location = path if name == "renamed" else tmp_path
    assert find_weights(hoster.file("good"), location) == path


def test_a_file_of_another_sha256_is_refused_by_a_sentence_that_says_how_to_get_the_right_one(
    hoster: Hoster, tmp_path: Path
) -> None:
    file, path = hoster.file("good"), tmp_path / "net.pth"
    path.write_bytes(b"other")
    with pytest.raises(MetricError) as caught:
        find_weights(file, tmp_path)
    assert str(caught.value) == (
        f"{path} has sha256 {hashlib.sha256(b'other').hexdigest()}, but net.pth (sha256 {SHA256}) is expected: "
        f"type latentstore fetch FOLDER {file.name} (3 MB, MIT, from {file.url}), then --metric-weights FOLDER."
    )
