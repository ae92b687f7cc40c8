"""Connections to web servers that are kept and used again, by any thread."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

KINDS: dict[str, type[HTTPConnection]] = {"http": HTTPConnection, "https": HTTPSConnection}
Idle = dict[str, list[HTTPConnection]]


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
    def get(self, url: str, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
        """The answer to one request, as it comes; redirects are not followed.

        Raises OSError or HTTPException, also where the body is read.
        """
        parts = urlsplit(url)
        connection, response = self._answered(parts, headers)
        done = False
        try:
            yield response
            done = response.isclosed() and not response.will_close
        finally:
            response.close()
            if done:
                with self._lock:
                    self._idle.setdefault(origin_of(url), []).append(connection)
            else:
                connection.close()

    def _answered(self, parts: SplitResult, headers: Mapping[str, str]) -> tuple[HTTPConnection, HTTPResponse]:
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
        if proxy is None:
            return KINDS[parts.scheme](host, parts.port, timeout=self._timeout)
        via = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = KINDS[parts.scheme](via.hostname or "", via.port, timeout=self._timeout)
        if parts.scheme == "https":
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


def origin_of(url: str) -> str:
    """Scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or KINDS[parts.scheme].default_port}"


def _asked(connection: HTTPConnection, parts: SplitResult, headers: Mapping[str, str]) -> HTTPResponse:
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    through_proxy = parts.scheme == "http" and (connection.host, connection.port) != (parts.hostname, parts.port or 80)
    target = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}" if through_proxy else path
    host = {"Host": parts.netloc.rpartition("@")[2]}
    connection.request("GET", target, headers={**host, **headers})
    return connection.getresponse()


def _close(idle: Idle) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()
    idle.clear()
