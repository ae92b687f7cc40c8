"""One HTTP connection: requests read to their last byte, answers with ranges, and faults on the way out."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

PIECE = 1 << 16
CONNECTIONS = 128
"""Threads that answer at the same time; further clients wait in the queue."""
IDLE_SECONDS = 20


class Request:
    """One request; its body is read once, as a whole or in pieces."""

    def __init__(self, connection: Connection) -> None:
        parts = urlsplit(connection.path)
        self.method = connection.command
        self.target = connection.path
        self.path = parts.path
        """Still quoted: a revision or a folder may have a slash inside."""
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.headers = connection.headers
        """Found by name in any case."""
        self.received = 0
        """Bytes of the body so far."""
        self._pieces = connection.pieces_of_body()
        self._body: bytes | None = None

    @property
    def host(self) -> str:
        """The name the client knows this server by, without the port."""
        return self.headers.get("Host", "").partition(":")[0]

    @property
    def token(self) -> str | None:
        """The bearer token, or None."""
        given = self.headers.get("Authorization") or ""
        return given.removeprefix("Bearer ").strip() or None

    def pieces(self) -> Iterator[bytes]:
        """What is left of the body."""
        for piece in self._pieces:
            self.received += len(piece)
            yield piece

    def body(self) -> bytes:
        """All of the body; may be asked for again."""
        if self._body is None:
            self._body = b"".join(self.pieces())
        return self._body

    def json(self) -> Any:
        """The body, parsed; an empty one is an empty object."""
        return json.loads(self.body() or b"{}")

    def lines(self) -> list[Any]:
        """The body as one JSON value a line."""
        return [json.loads(line) for line in self.body().splitlines() if line.strip()]

    def fields(self) -> list[tuple[str, str]]:
        """The body as an HTML form."""
        return parse_qsl(self.body().decode(), keep_blank_values=True)


@dataclass(frozen=True)
class FilePart:
    """Bytes ``start`` to ``stop`` of a file, sent without being held in memory."""

    path: Path
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self) -> bytes:
        """The bytes."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(len(self))

    def __getitem__(self, part: slice) -> FilePart:
        start, stop, _ = part.indices(len(self))
        return FilePart(self.path, self.start + start, self.start + stop)


Body = bytes | FilePart


@dataclass
class Answer:
    """What goes back."""

    status: int = 200
    body: Body = b""
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818
    """An answer that ends the work on a request."""

    def __init__(self, status: int, message: str, code: str = "", **more: Any) -> None:
        super().__init__(message)
        self.answer = as_json({"error": message, **more}, status=status)
        self.answer.headers["X-Error-Message"] = message
        if code:
            self.answer.headers["X-Error-Code"] = code


def as_json(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer that carries this value."""
    body = json.dumps(value).encode()
    return Answer(status, body, {"Content-Type": "application/json; charset=utf-8", **(headers or {})})


def whole_or_range(request: Request, body: Body, headers: Mapping[str, str]) -> Answer:
    """The body, the one range of it that was asked for (206), or that there is no such range (416)."""
    length = len(body)
    sent = {"Accept-Ranges": "bytes", **headers}
    asked = request.headers.get("Range")
    if asked is None or not asked.startswith("bytes="):
        return Answer(200, body, sent)
    first, _, last = asked.removeprefix("bytes=").partition("-")
    if first:
        start, stop = int(first), min(length, int(last) + 1 if last else length)
    else:
        start, stop = max(0, length - int(last)), length
    if start >= length or start >= stop:
        return Answer(416, b"", {**sent, "Content-Range": f"bytes */{length}"})
    return Answer(206, body[start:stop], {**sent, "Content-Range": f"bytes {start}-{stop - 1}/{length}"})


@dataclass(frozen=True)
class Sending:
    """How an answer leaves."""

    cut_after: int | None = None
    """Close the connection after so many bytes of the body."""
    bytes_per_second: int | None = None
    flip: int | None = None
    """Invert the lowest bit of this byte of the body."""


class Connection(BaseHTTPRequestHandler):
    """One connection; ``serve`` answers a request with an Answer and how to send it, or None to hang up."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    serve: Callable[[Request], tuple[Answer, Sending, Callable[[int], None]] | None]

    def log_message(self, *_: object) -> None:
        """Nothing: a test's output is not the place."""

    def _answer(self) -> None:
        request = Request(self)
        served = type(self).serve(request)
        if served is None:
            self._hang_up()
            return
        answer, sending, sent = served
        try:
            self._send(answer, sending, sent)
        except OSError:  # the client hung up: readers of a stream do so whenever they have enough
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

    def pieces_of_body(self) -> Iterator[bytes]:
        """The body of the request, however it was framed."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            yield from self._chunks()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left and (piece := self.rfile.read(min(left, PIECE))):
            left -= len(piece)
            yield piece
        if left:
            self._ended_early()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line().split(b";")[0], 16):
            yield self.rfile.read(size)
            self._line()
        while self._line().strip():
            pass

    def _line(self) -> bytes:
        line = self.rfile.readline()
        if not line:
            self._ended_early()
        return line

    def _ended_early(self) -> NoReturn:
        self.close_connection = True
        message = "the client hung up within its request"
        raise ConnectionError(message)

    def _send(self, answer: Answer, sending: Sending, sent: Callable[[int], None]) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        body = answer.body if sending.cut_after is None else answer.body[: sending.cut_after]
        for piece in _changed(_pieces(body), sending.flip):
            # Both before it leaves, so that who has read it finds it written down and has waited for it.
            sent(len(piece))
            if sending.bytes_per_second:
                time.sleep(min(1.0, len(piece) / sending.bytes_per_second))
            self.wfile.write(piece)
        if len(body) < len(answer.body):
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        hang_up(self.connection)


def hang_up(connection: socket.socket) -> None:
    """End a connection, whatever was going on; the client may have been faster."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _pieces(body: Body) -> Iterator[bytes]:
    if isinstance(body, bytes):
        for start in range(0, len(body), PIECE):
            yield body[start : start + PIECE]
        return
    with body.path.open("rb") as file:
        file.seek(body.start)
        left = len(body)
        while left:
            piece = file.read(min(left, PIECE))
            left -= len(piece)
            yield piece


def _changed(pieces: Iterator[bytes], flip: int | None) -> Iterator[bytes]:
    start = 0
    for piece in pieces:
        if flip is not None and start <= flip < start + len(piece):
            changed = bytearray(piece)
            changed[flip - start] ^= 1
            yield bytes(changed)
        else:
            yield piece
        start += len(piece)


class BoundedServer(ThreadingHTTPServer):
    """A thread for each connection, and no more than CONNECTIONS of them."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], connection: type[Connection]) -> None:
        self._room = BoundedSemaphore(CONNECTIONS)
        self._open: set[socket.socket] = set()
        super().__init__(address, connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._room.acquire()
        self._open.add(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)
            self._room.release()

    def stop(self) -> None:
        """Take no more clients, and hang up on those that wait: the next server may get the same port."""
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients that hang up are part of what is tested; other failures are in ``HubServer.problems``."""


def segments(path: str) -> str:
    """A quoted path without its quotes, segment by segment."""
    return "/".join(unquote(part) for part in path.split("/"))
