"""A small web server on 127.0.0.1 that answers range requests, writes down what it sent, and fails when told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

PIECE = 1 << 16
LONGEST_WAIT = 5.0
"""Seconds that the server ever waits, whatever it is told."""


@dataclass
class Asked:
    """One request; written down before its answer leaves."""

    path: str
    start: int
    stop: int
    """Of the range, or of the whole file."""
    ranged: bool
    status: int
    headers: Mapping[str, str]
    sent: int = 0


@dataclass(frozen=True)
class Fault:
    """What happens to a request instead of, or to, its answer."""

    status: int = 0
    """Answer with this status and no file."""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Close the connection after so many bytes of the body."""
    lost: bool = False
    """Close the connection without an answer."""
    wait: float = 0
    """Seconds before the body."""
    flip: int | None = None
    """Flip a bit of this byte of the body."""


@dataclass
class RangeServer:
    """What is served, what goes wrong, and what was asked for."""

    root: Path
    url: str = ""
    ranges: bool = True
    """Whether ranges are answered as such; otherwise always the whole file is sent."""
    asked: list[Asked] = field(default_factory=list)
    faults: Callable[[str, int], Fault | None] = lambda path, number: None  # noqa: ARG005
    """Of a path, and how often it was asked for before."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: dict[str, int] = field(default_factory=dict)
    connections: int = 0
    flipped: int = 0
    """Bodies of which a bit was."""

    @property
    def sent(self) -> int:
        """Bytes of all bodies."""
        return sum(one.sent for one in self.asked)

    def sent_of(self, part: str) -> int:
        """Bytes of the bodies of files with this in their path."""
        return sum(one.sent for one in self.asked if part in one.path)

    def forget(self) -> None:
        """Begin to count again."""
        self.asked.clear()
        self.counts.clear()

    def first(self, times: int, fault: Fault, part: str = "") -> None:
        """The first ``times`` requests for each path with this in it fail."""
        self.faults = lambda path, number: fault if part in path and number < times else None


@contextmanager
def serving(root: Path, make: Callable[[RangeServer], type[Answers]] | None = None) -> Iterator[RangeServer]:
    """A server of the files below a folder, on a port of its own; ``make`` gives another way to answer."""
    server = RangeServer(root)
    answers = make(server) if make else type("Bound", (Answers,), {"server_of": server})
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as http:
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        server.url = f"http://127.0.0.1:{http.server_address[1]}"
        try:
            yield server
        finally:
            http.shutdown()


class Answers(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 20
    disable_nagle_algorithm = True
    server_of: RangeServer

    def setup(self) -> None:
        super().setup()
        with self.server_of.lock:
            self.server_of.connections += 1

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is not the place."""

    def do_GET(self) -> None:
        server, path = self.server_of, unquote(self.path.split("?")[0])
        with server.lock:
            number = server.counts.get(path, 0)
            server.counts[path] = number + 1
        fault = server.faults(path, number) or Fault()
        if fault.lost:
            self._note(path, 0, 0, 0)
            self.close_connection = True
            return
        if fault.status:
            self._refuse(path, fault.status, fault.headers)
            return
        self.answer(path, fault)

    def answer(self, path: str, fault: Fault) -> None:
        """Send the file, or the range of it that was asked for."""
        file = self.server_of.root / path.lstrip("/")
        if not file.is_file():
            self._refuse(path, 404, {})
            return
        content = file.read_bytes()
        asked = self.headers.get("Range") if self.server_of.ranges else None
        start, stop = 0, len(content)
        if asked is not None:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(len(content), int(last) + 1 if last else len(content))
            if start >= len(content):
                self._refuse(path, 416, {"Content-Range": f"bytes */{len(content)}"})
                return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(stop - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        body = bytearray(content[start:stop])
        if fault.flip is not None and fault.flip < len(body):
            body[fault.flip] ^= 1
            self.server_of.flipped += 1
        self._send(path, start, stop, bytes(body), fault)

    def _send(self, path: str, start: int, stop: int, body: bytes, fault: Fault) -> None:
        noted = self._note(path, start, stop, 206 if self.headers.get("Range") else 200)
        time.sleep(min(fault.wait, LONGEST_WAIT))
        end = len(body) if fault.cut_after is None else min(fault.cut_after, len(body))
        sent = 0
        try:
            while sent < end:
                piece = body[sent : min(end, sent + PIECE)]
                sent += len(piece)
                noted.sent = sent
                self.wfile.write(piece)
        except OSError:  # the client hung up
            self.close_connection = True
        if end < len(body):
            self.close_connection = True

    def _refuse(self, path: str, status: int, headers: Mapping[str, str]) -> None:
        self._note(path, 0, 0, status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _note(self, path: str, start: int, stop: int, status: int) -> Asked:
        headers: dict[str, Any] = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(path, start, stop, "range" in headers, status, headers)
        with self.server_of.lock:
            self.server_of.asked.append(asked)
        return asked
