"""Servers that never end, drip, lie about lengths or lead elsewhere: each is one sentence, soon, and little is read."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from latentstore import http_connections
from latentstore.errors import FetchError, MetricError, MissingFileError
from latentstore.http_connections import HEAD_BYTES, HttpConnections, RedirectError, redirected
from latentstore.http_files import HttpFolder
from latentstore.metrics.weights import WeightsFile, fetch
from latentstore.retries import Patience

MOST = 64 << 20
"""Bytes that any of these servers sends before it gives up, so that no test can go on for ever."""
LONGEST = 20.0
"""Seconds, likewise."""
BLOCK = b"x" * 4096
IMPATIENT = Patience(tries=1, timeout=0.3)

Script = Sequence[bytes | float]
"""What is sent, and seconds that are waited; the last is done again and again."""


@dataclass
class Scripted:
    """A server that answers every request by a script, whatever is asked for."""

    port: int
    scripts: dict[str, Script] = field(default_factory=dict)
    """By path; the empty one for all others."""
    sent: int = 0
    asked: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def folder(self, patience: Patience = IMPATIENT) -> HttpFolder:
        return HttpFolder(f"{self.url}/folder", patience=patience)

    def answer(self, connection: socket.socket) -> None:
        begun = time.monotonic()
        with suppress(OSError), connection:
            while (head := connection.recv(65536)) and not self.over.is_set():
                path = head.split()[1].decode()
                self.asked.append(path)
                script = self.scripts.get(path, self.scripts[""])
                for step in [*script[:-1], *[script[-1]] * 100_000]:
                    if self.sent > MOST or time.monotonic() - begun > LONGEST or self.over.is_set():
                        return
                    if isinstance(step, float):
                        time.sleep(step)
                    elif step:
                        connection.sendall(step)
                        self.sent += len(step)
                    else:
                        break


@contextmanager
def scripted() -> Iterator[Scripted]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Scripted(listening.getsockname()[1])

        def listen() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=server.answer, args=(connection,), daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()
        yield server
        server.over.set()
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with scripted() as found:
        yield found


def head(status: int, *lines: str, length: int | None = None) -> bytes:
    given = [*lines, *([f"Content-Length: {length}"] if length is not None else [])]
    return "\r\n".join([f"HTTP/1.1 {status} Status", *given, "", ""]).encode("latin-1")


def refused(read: Callable[[], Any], error: type[Exception], sentence: str, within: float = 10) -> None:
    begun = time.monotonic()
    with pytest.raises(error, match=sentence) as caught:
        read()
    assert time.monotonic() - begun < within
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


CHUNK = b"1000\r\n" + BLOCK + b"\r\n"


@pytest.mark.parametrize(
    "script",
    [
        [head(404), BLOCK],
        [head(404, length=10**15), BLOCK],
        [head(404, "Transfer-Encoding: chunked"), CHUNK],
        [head(404, "Transfer-Encoding: chunked") + b"0\r\n", b"X-More: 1\r\n" * 400],
        [head(404, length=10), 1.0],
        [head(404, length=-10), BLOCK],
    ],
    ids=["until it closes", "long", "in pieces", "trailers", "none", "negative"],
)
def test_the_body_of_an_error_is_not_read_to_its_end(server: Scripted, script: Script) -> None:
    server.scripts[""] = script
    refused(lambda: server.folder().read_bytes("a", 100), MissingFileError, r"^There is no http.*/a \(HTTP 404\)\.$")
    assert server.sent < MOST // 4  # what the system takes in before anybody reads it


def test_the_body_of_a_redirect_is_not_read_to_its_end_either(server: Scripted) -> None:
    server.scripts[""] = [head(302, "Location: /there"), BLOCK]
    server.scripts["/there"] = [head(200, length=4) + b"good", b""]
    assert server.folder().read_bytes("a", 100) == b"good"
    assert server.sent < MOST // 4


def test_the_connection_of_a_short_error_is_used_again(server: Scripted) -> None:
    server.scripts[""] = [head(404, length=4) + b"none", b""]
    folder = server.folder()
    for name in ("a", "b"):
        with pytest.raises(MissingFileError):
            folder.read_bytes(name, 100)
    assert [len(idle) for idle in folder._connections._idle.values()] == [1]


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ([b"HTTP/1.1 100 Continue\r\n\r\n" * 100], "it answers with more bytes than were asked for"),
        ([b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 60_000 + b"\r\n"], "it answers with more bytes|got more than 100"),
        ([b"x" * 100_000], "line"),
        ([head(200, "Transfer-Encoding: chunked") + b"0\r\n", b"X: 1\r\n" * 400], "more bytes than were asked for"),
        ([head(200, "Transfer-Encoding: chunked") + b"-5\r\n", BLOCK], "the connection failed"),
        ([head(200, "Transfer-Encoding: chunked") + b"-1\r\n", BLOCK], "more bytes than were asked for"),
        ([head(200, "Transfer-Encoding: chunked") + b"zz\r\n", BLOCK], "the connection failed"),
        ([head(200, "Transfer-Encoding: chunked"), CHUNK], "has more than 100 bytes"),
        ([head(200), BLOCK], "has more than 100 bytes"),
        ([head(200, length=10**12), BLOCK], "has 1000000000000 bytes, expected 100 at most"),
    ],
    ids=[
        *("continue", "headers", "no line", "trailers", "negative", "to the end", "no size", "pieces", "body", "long")
    ],
)
def test_no_answer_is_without_end(server: Scripted, script: Script, sentence: str) -> None:
    server.scripts[""] = script
    refused(lambda: server.folder().read_bytes("a", 100), FetchError, sentence)
    assert server.sent < MOST // 2


@pytest.mark.parametrize("length", ["abc", "-5", "", "9" * 5000, "5, 5", "0x10", "\xb2", "1e3"])
def test_a_length_that_is_no_number_is_one_sentence(server: Scripted, length: str) -> None:
    server.scripts[""] = [head(200, f"Content-Length: {length}") + b"abcde", b""]
    sentence = rf"/folder/a: the server says no number of bytes \(Content-Length: '{re.escape(length[:40])}'\)\.$"
    refused(lambda: server.folder().read_bytes("a", 100), FetchError, sentence)
    refused(lambda: server.folder().read_range("a", 0, 5), FetchError, sentence)


@pytest.mark.parametrize(
    "part", ["", "bytes", "bytes 0-4/*", "bytes a-b/c", f"bytes 0-4/{'9' * 5000}", "lines 0-4/5", "bytes -4/5"]
)
def test_a_range_that_says_nothing_is_one_sentence(server: Scripted, part: str) -> None:
    server.scripts[""] = [head(206, f"Content-Range: {part}", length=5) + b"abcde", b""]
    sentence = "sent a part of the file and did not say which"
    refused(lambda: server.folder().read_range("a", 0, 5), FetchError, sentence)
    server.scripts[""] = [head(416, f"Content-Range: {part}", length=0), b""]
    refused(lambda: server.folder().read_range("a", 0, 5), FetchError, r"has only (fewer|5) bytes, 5 were expected")


def test_a_wait_without_end_is_not_waited_for(server: Scripted) -> None:
    server.scripts[""] = [head(503, f"Retry-After: {'9' * 5000}", length=0), b""]
    waits: list[float] = []
    patience = Patience(tries=2, timeout=0.3, longest_wait=7, sleep=waits.append)
    refused(lambda: server.folder(patience).read_bytes("a", 100), FetchError, "HTTP 503, tried 2 times")
    assert waits == [7]


def test_what_a_server_calls_its_status_is_shown_short_and_harmless(server: Scripted) -> None:
    server.scripts[""] = [f"HTTP/1.1 418 \x1b[31m{'tea' * 5000}\r\nContent-Length: 0\r\n\r\n".encode(), b""]
    refused(lambda: server.folder().read_bytes("a", 100), FetchError, r"answers HTTP 418 \[31m(tea){20,40}t?e?\.$")


# Deadlines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        [head(200, length=1000), b"x", 0.05, b"x", *[0.05, b"x"] * 400, 0.05],
        [*[part for letter in b"HTTP/1.1 200 OK and so on" * 20 for part in (bytes([letter]), 0.05)]],
        [head(404, length=1000), *[0.05, b"x"] * 400, 0.05],
    ],
    ids=["body", "head", "body of an error"],
)
def test_who_drips_is_not_listened_to_for_ever(server: Scripted, script: Script) -> None:
    server.scripts[""] = script
    sentence = r"fewer than 8,192 bytes came a second|There is no .* \(HTTP 404\)"
    refused(lambda: server.folder().read_bytes("a", 1000), FetchError, sentence, within=4)


def test_a_large_file_may_take_longer_than_any_timeout(server: Scripted) -> None:
    pieces: list[bytes | float] = [part for _ in range(24) for part in (BLOCK, 0.05)]
    server.scripts[""] = [head(200, length=24 * len(BLOCK)), *pieces, b""]
    begun = time.monotonic()
    assert server.folder().read_bytes("a", 1 << 20) == BLOCK * 24
    assert time.monotonic() - begun > 3 * IMPATIENT.timeout


def test_a_server_that_says_nothing_is_given_up_as_before(server: Scripted) -> None:
    server.scripts[""] = [head(200, length=10), 3.0]
    refused(lambda: server.folder().read_bytes("a", 100), FetchError, "timed out", within=3)


# Redirects -----------------------------------------------------------------------------------------------------------

NOWHERE = [
    *("ftp://example.org/a", "file:///etc/passwd", "javascript:alert(1)", "http://[::1"),
    *("http://a:b", "http://a:99999999", "http://a:0/", "http://" + "a" * 300, "http://[x]/"),
    *("data:,x", "https://user@:80/", "http://a..b/c"),
]


@pytest.mark.parametrize("place", NOWHERE)
def test_a_redirect_to_nowhere_is_one_sentence(server: Scripted, place: str) -> None:
    with pytest.raises(RedirectError, match="^is redirected to '.*', which is no address of a web server$"):
        redirected("http://example.org/folder/a", place)
    server.scripts[""] = [head(302, f"Location: {place}", length=0), b""]
    refused(lambda: server.folder().read_bytes("a", 100), FetchError, "is redirected to .*: it is not read.$")


def test_a_redirect_with_odd_letters_is_followed_as_it_was_meant(server: Scripted) -> None:
    server.scripts[""] = [head(302, "Location: /sc\xc3\xa8nes \x01?a=%20", length=0), b""]
    server.scripts["/sc%C3%A8nes%20%01?a=%20"] = [head(200, length=2) + b"ok", b""]
    assert server.folder().read_bytes("a", 100) == b"ok"


def test_nobody_is_led_from_https_to_http() -> None:
    with pytest.raises(RedirectError) as caught:
        redirected("https://example.org/a?token=1", "http://example.org/a?token=1")
    assert str(caught.value) == (
        "is redirected from https to http://example.org/a, which everybody on the way can read and change"
    )
    assert redirected("https://example.org/a", "https://other.org/b") == "https://other.org/b"
    assert redirected("http://example.org/a", "https://other.org/b") == "https://other.org/b"
    assert redirected("https://example.org/a/b", "c?d") == "https://example.org/a/c?d"


class Led:
    """See ``HTTPResponse``: a redirect."""

    status = 302

    def getheader(self, name: str) -> str | None:
        return "http://example.org/elsewhere?secret" if name == "Location" else None

    def read(self, _: int) -> bytes:
        return b""


def test_who_is_led_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    @contextmanager
    def get(_: HttpConnections, url: str, *__: object) -> Iterator[Led]:
        asked.append(url)
        yield Led()

    monkeypatch.setattr(HttpConnections, "get", get)
    said = "is redirected from https to http://example.org/elsewhere, which everybody on the way can read and change"
    with pytest.raises(FetchError) as caught:
        HttpFolder("https://example.org/folder").read_bytes("a", 100)
    assert str(caught.value) == f"https://example.org/folder/a {said}: it is not read."
    weights = WeightsFile("net", "net.pth", "https://example.org/net.pth", "0" * 64, 4, "MIT")
    with pytest.raises(MetricError) as other:
        fetch(weights, tmp_path)
    assert str(other.value) == f"https://example.org/net.pth {said}: nothing is downloaded from there."
    assert asked == ["https://example.org/folder/a", "https://example.org/net.pth"]


def test_weights_that_are_led_in_circles_or_dripped_are_one_sentence(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentstore.metrics.weights._PATIENCE_SECONDS", 0.3)
    weights = WeightsFile("net", "net.pth", f"{server.url}/net.pth", "0" * 64, 4, "MIT")
    drops: list[bytes | float] = [part for _ in range(200) for part in (b"x", 0.05)]
    server.scripts[""] = [head(302, "Location: /net.pth"), BLOCK]
    refused(
        lambda: fetch(weights, tmp_path), MetricError, "is redirected 6 times, at last to http.*net.pth: nothing is"
    )
    server.scripts[""] = [head(200, length=4000), *drops, 0.05]
    refused(lambda: fetch(weights, tmp_path), MetricError, "fewer than 8,192 bytes came a second", within=5)
    assert list(tmp_path.iterdir()) == []


def test_the_head_of_an_answer_is_far_below_its_limit() -> None:
    assert HEAD_BYTES > 100 * 2000
    assert issubclass(http_connections.BoundedResponse, HTTPResponse)
