"""Files of a folder on a web server, whole or by range requests."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from latentstore.errors import FetchError, MissingFileError
from latentstore.http_connections import HttpConnections, RedirectError, drain, origin_of
from latentstore.retries import PassingError, Patience
from latentstore.version import __version__

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
MISSING = frozenset({404, 410})
FORBIDDEN = frozenset({401, 403})
WHOLE, PART, NOT_THERE = 200, 206, 416
PIECE_BYTES = 256 << 10
LONGEST_COUNT = 16
"""Digits of a number of bytes."""


class HttpFolder:
    """A folder at an http(s) URL. A body that was cut is continued; a whole file is never taken for a range.

    ``headers`` (a token, say) go to the folder's own origin only, not to where it redirects. Several threads may read.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        patience: Patience | None = None,
        forbidden: str = "",
    ) -> None:
        """``forbidden`` is the sentence for files that may not be read, where more is known than the status says."""
        parts = urlsplit(url)
        self._parts = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path.rstrip("/"), fragment="")
        self.name = urlunsplit(self._parts._replace(query=""))
        """The URL as messages show it: without what may be secret."""
        self._headers = {**_credentials(parts.username, parts.password), **(headers or {})}
        self._forbidden = forbidden
        self._patience = patience or Patience()
        self._connections = HttpConnections(self._patience.timeout)
        self._sizes: dict[str, int] = {}
        self._moved: dict[str, str] = {}
        """Where requests for a file were last redirected to."""

    def at(self, name: str) -> str:
        """The URL of a file, for messages."""
        return f"{self.name}/{quote(name)}"

    def inside(self, name: str) -> HttpFolder:
        """A folder in it."""
        url = urlunsplit(self._parts._replace(path=f"{self._parts.path}/{quote(name)}"))
        return HttpFolder(url, headers=self._headers, patience=self._patience, forbidden=self._forbidden)

    def folders(self) -> None:
        """None: web servers give no listing."""

    def files(self) -> None:
        """None, likewise."""

    def read_bytes(self, name: str, at_most: int) -> bytes:
        """The whole of a file; FetchError where it has more bytes than that."""
        return self._read(name, 0, None, at_most)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """The bytes of a file from ``start`` to before ``stop``; FetchError where it does not have all of them."""
        return self._read(name, start, stop, stop - start) if stop > start else b""

    def size(self, name: str) -> int:
        """Bytes of a file; one byte is read, unless something was before."""
        if name not in self._sizes:
            self.read_range(name, 0, 1)
        return self._sizes[name]

    def _read(self, name: str, start: int, stop: int | None, at_most: int) -> bytes:
        found = bytearray()

        def attempt() -> bytes:
            try:
                with self._answer(name, start + len(found), stop, at_most) as response:
                    _fill(found, response, self._accepted(name, response, start, stop, found), at_most, self.at(name))
            except RedirectError as error:
                raise FetchError(f"{self.at(name)} {error}: it is not read.") from error
            except (OSError, HTTPException, ValueError) as error:  # the last of http.client, of a body in odd pieces
                reason = str(error) or type(error).__name__
                raise PassingError(f"the connection failed ({reason})") from error
            return bytes(found)

        return self._patience.until_done(attempt, self.at(name))

    def _accepted(
        self, name: str, response: HTTPResponse, start: int, stop: int | None, found: bytearray
    ) -> int | None:
        """How many bytes the whole answer has, with those found before, where it is one to go on with.

        None where only the end of the body tells.
        """
        if response.status == PART:
            first, total = _content_range(response, self.at(name))
            if first != start + len(found):
                raise FetchError(
                    f"{self.at(name)}: the server sent another range than was asked for (from byte {first})."
                )
            self._sizes[name] = total
            end = total if stop is None else stop
            if end > total:
                raise _too_short(self.at(name), total, end)
            return end - start
        length = _content_length(response, self.at(name))
        if stop is not None and (start > 0 or length != stop):
            raise FetchError(
                f"{self.at(name)}: the server sent the whole file where bytes {start} to {stop - 1} were asked for, so "
                "rows cannot be streamed from it: use a server that answers range requests, or download the dataset."
            )
        found.clear()  # whoever goes on with no ranges begins again
        if length is not None:
            self._sizes[name] = length
        return length

    @contextmanager
    def _answer(self, name: str, start: int, stop: int | None, at_most: int) -> Iterator[HTTPResponse]:
        """An answer with a body to read; PassingError or FetchError for any other."""
        parts = self._parts
        own = urlunsplit(parts._replace(path=f"{parts.path}/{quote(name)}"))
        asked = self._connections.followed(
            self._moved.get(name, own), lambda url: self._asking(url, own, start, stop), at_most
        )
        with asked as (url, response):
            if response.status in (WHOLE, PART):
                if url != own:
                    self._moved[name] = url
                yield response
                return
            drain(response)
            if self._moved.pop(name, None) is not None:  # such addresses expire
                raise PassingError(f"its address moved (HTTP {response.status})")
            raise self._refusal(name, response, stop)

    def _asking(self, url: str, own: str, start: int, stop: int | None) -> dict[str, str]:
        asked = {"User-Agent": f"latentstore/{__version__}", "Accept-Encoding": "identity"}
        if start or stop is not None:
            asked["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        return {**asked, **self._headers} if origin_of(url) == origin_of(own) else asked

    def _refusal(self, name: str, response: HTTPResponse, stop: int | None) -> Exception:
        status, url = response.status, self.at(name)
        if status in PASSING:
            return PassingError(f"the server answers HTTP {status}", wait=_seconds(response.getheader("Retry-After")))
        if status in MISSING:
            return MissingFileError(f"There is no {url} (HTTP {status}).")
        if status in FORBIDDEN:
            message = f"{url} may not be read (HTTP {status}): log in, or check the token that is sent."
            return FetchError(self._forbidden or message)
        if status == NOT_THERE:
            total = _count((response.getheader("Content-Range") or "").rpartition("/")[2])
            return _too_short(url, total, stop)
        reason = "".join(letter for letter in response.reason[:100] if letter.isprintable())
        return FetchError(f"{url} cannot be read: the server answers HTTP {status} {reason}.")


def _fill(found: bytearray, response: HTTPResponse, wanted: int | None, at_most: int, url: str) -> None:
    """Add the body to what was found, up to ``wanted`` bytes in all; PassingError where it ends before."""
    if wanted is not None and wanted > at_most:
        raise FetchError(f"{url} has {wanted} bytes, expected {at_most} at most.")
    while wanted is None or len(found) < wanted:
        piece = response.read(PIECE_BYTES if wanted is None else min(PIECE_BYTES, wanted - len(found)))
        if not piece:
            break
        found += piece
        if len(found) > at_most:
            raise FetchError(f"{url} has more than {at_most} bytes.")
    if wanted is not None and len(found) < wanted:
        raise PassingError(f"the connection ended after {len(found)} of {wanted} bytes")


def _content_range(response: HTTPResponse, url: str) -> tuple[int, int]:
    """First byte and size of the whole file, as the header says."""
    text = (response.getheader("Content-Range") or "")[:100]
    unit, _, rest = text.partition(" ")
    span, _, total = rest.partition("/")
    first, size = _count(span.partition("-")[0]), _count(total)
    if unit != "bytes" or first is None or size is None:
        raise FetchError(f"{url}: the server sent a part of the file and did not say which (Content-Range: {text!r}).")
    return first, size


def _content_length(response: HTTPResponse, url: str) -> int | None:
    """Bytes of the body, as the header says; None where there is none."""
    text = response.getheader("Content-Length")
    if text is None or (length := _count(text)) is not None:
        return None if text is None else length
    raise FetchError(f"{url}: the server says no number of bytes (Content-Length: {text[:40]!r}).")


def _count(digits: str) -> int | None:
    """A number of bytes as a header has it; None where it is none."""
    found = digits.strip()
    return int(found) if found.isascii() and found.isdecimal() and len(found) <= LONGEST_COUNT else None


def _too_short(url: str, total: object, stop: object) -> FetchError:
    return FetchError(f"{url} has only {total or 'fewer'} bytes, {stop} were expected: it was cut or replaced.")


def _seconds(retry_after: str | None) -> float:
    """What a server asks to wait; a date counts as nothing."""
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0


def _credentials(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    text = f"{unquote(user)}:{unquote(password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
