"""Connections to web servers that are kept and used again, by any thread; and how much of an answer is listened to.

No answer is believed to end: its head has a largest size, and so has its body, also that of a redirect or an error; and
who sends too slowly for too long is not listened to any more.
"""

from __future__ import annotations

import io
import os
import string
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, cast
from urllib.parse import SplitResult, quote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

KINDS: dict[str, type[HTTPConnection]] = {"http": HTTPConnection, "https": HTTPSConnection}
Idle = dict[str, list[HTTPConnection]]
HEAD_BYTES = 256 << 10
"""Of everything before the body of an answer."""
ENVELOPE = 2
"""Times its own bytes that a body takes at most on its way: it may come in pieces that say how long they are."""
DRAINED_BYTES = 64 << 10
"""Of a body that nobody wants, read so that its connection can be used again."""
SLOWEST = 8 << 10
"""Bytes a second that are expected at least, once a server had twice the timeout to begin with."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
REDIRECTS_IN_A_ROW = 5


class RedirectError(Exception):
    """A redirect that is not followed; the text says where it leads, and goes on after the name of a file."""


class HttpConnections:
    """GET requests; a connection whose answer was read to its end serves the next request to that origin.

    Proxies are those of the system, as for ``urllib``.
    """

    _process: int
    """The one that the idle connections belong to."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._begin()

    @contextmanager
    def followed(
        self, url: str, headers_for: Callable[[str], Mapping[str, str]], at_most: int
    ) -> Iterator[tuple[str, HTTPResponse]]:
        """The first answer that is no redirect, and its URL; of a body ``at_most`` bytes can be read.

        Raises RedirectError, and what ``get`` does.
        """
        for _ in range(REDIRECTS_IN_A_ROW + 1):
            with self.get(url, headers_for(url), at_most) as response:
                place = response.getheader("Location")
                if response.status not in REDIRECTS or place is None:
                    yield url, response
                    return
                drain(response)
            url = redirected(url, place)
        raise RedirectError(f"is redirected {REDIRECTS_IN_A_ROW + 1} times, at last to {without_query(url)}")

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str], at_most: int) -> Iterator[HTTPResponse]:
        """The answer to one request, as it comes; redirects are not followed.

        Raises OSError, HTTPException or ValueError, also where the body is read.
        """
        parts = urlsplit(url)
        connection, response = self._answered(parts, headers)
        try:
            response.allow(ENVELOPE * max(at_most, DRAINED_BYTES))
            yield response
        finally:
            done = response.isclosed() and not response.will_close  # also where the answer was no good
            response.close()
            if done:
                with self._lock:
                    self._idle.setdefault(origin_of(url), []).append(connection)
            else:
                connection.close()

    def _answered(self, parts: SplitResult, headers: Mapping[str, str]) -> tuple[HTTPConnection, BoundedResponse]:
        while (idle := self._taken(origin_of(parts.geturl()))) is not None:
            try:
                return idle, _asked(idle, parts, headers)
            except (OSError, HTTPException):  # the server gave it up meanwhile: that is no failure
                idle.close()
        fresh = self._connection(parts)
        try:
            return fresh, _asked(fresh, parts, headers)
        except BaseException:
            fresh.close()
            raise

    def _taken(self, origin: str) -> HTTPConnection | None:
        with self._lock:
            if self._process != os.getpid():  # a fork would share them with its parent
                self._idle.clear()
                self._process = os.getpid()
            waiting = self._idle.get(origin)
            return waiting.pop() if waiting else None

    def _connection(self, parts: SplitResult) -> HTTPConnection:
        host = parts.hostname or ""
        proxy = None if proxy_bypass(host) else getproxies().get(parts.scheme)
        via = parts if proxy is None else urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = KINDS[parts.scheme](via.hostname or "", via.port, timeout=self._timeout)
        connection.response_class = cast("type[BoundedResponse]", partial(BoundedResponse, timeout=self._timeout))
        if proxy is not None and parts.scheme == "https":
            connection.set_tunnel(host, parts.port)
        return connection

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._idle: Idle = {}
        weakref.finalize(self, _close, self._idle)

    def __getstate__(self) -> dict[str, Any]:
        return {"_timeout": self._timeout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()


class BoundedResponse(HTTPResponse):
    """An answer that ends: with an OSError where it is longer than allowed, or comes too slowly."""

    def __init__(self, sock: Any, *args: Any, timeout: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._bounded = _BoundedBytes(self.fp.detach(), sock, timeout)
        self.fp = io.BufferedReader(self._bounded)

    def allow(self, count: int) -> None:
        """So many bytes more."""
        self._bounded.allowed += count


class _BoundedBytes(io.RawIOBase):
    """What comes from a socket. Only time that is spent waiting for it counts."""

    def __init__(self, raw: Any, sock: Any, timeout: float) -> None:
        self._raw = raw
        self._sock = sock
        self._timeout = timeout
        self._patience = 2 * timeout
        """Seconds that may still be waited."""
        self.allowed = HEAD_BYTES

    def readable(self) -> bool:
        """That it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As many bytes as there are."""
        if self.allowed <= 0:
            message = "it answers with more bytes than were asked for"
            raise OSError(message)
        if self._patience <= 0:
            raise _too_slow()
        self._sock.settimeout(min(self._patience, self._timeout))
        begun = time.monotonic()
        try:
            count = int(self._raw.readinto(buffer))
        except TimeoutError:
            if self._patience < self._timeout:
                raise _too_slow() from None
            raise
        self._patience += count / SLOWEST - (time.monotonic() - begun)
        self.allowed -= count
        return count

    def close(self) -> None:
        """And what it reads from."""
        self._raw.close()
        super().close()


def _too_slow() -> TimeoutError:
    return TimeoutError(f"fewer than {SLOWEST:,} bytes came a second")


def drain(response: HTTPResponse) -> None:
    """Read what is left of a short body that nobody wants; the connection of a longer one is not used again."""
    with suppress(OSError, HTTPException, ValueError):
        response.read(DRAINED_BYTES)


def redirected(url: str, place: str) -> str:
    """Where a URL is redirected to; RedirectError where that is no place to go."""
    target = quote(place.encode("latin-1", "replace"), safe=string.punctuation)
    try:
        found = urljoin(url, target)
        parts = urlsplit(found)
        sound = parts.scheme in KINDS and bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:  # also of a name that is no name
        found, sound = target, False
    if not sound:
        raise RedirectError(f"is redirected to {without_query(found)[:200]!r}, which is no address of a web server")
    if urlsplit(url).scheme == "https" and parts.scheme != "https":
        raise RedirectError(
            f"is redirected from https to {without_query(found)}, which everybody on the way can read and change"
        )
    return found


def without_query(url: str) -> str:
    """A URL as messages show it: without what may be secret."""
    return url.partition("?")[0]


def origin_of(url: str) -> str:
    """Scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or KINDS[parts.scheme].default_port}"


def _asked(connection: HTTPConnection, parts: SplitResult, headers: Mapping[str, str]) -> BoundedResponse:
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    through_proxy = parts.scheme == "http" and (connection.host, connection.port) != (parts.hostname, parts.port or 80)
    target = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}" if through_proxy else path
    host = {"Host": parts.netloc.rpartition("@")[2]}
    connection.request("GET", target, headers={**host, **headers})
    return cast("BoundedResponse", connection.getresponse())


def _close(idle: Idle) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()
    idle.clear()
