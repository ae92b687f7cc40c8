"""What was asked of the server, and what was ordered to go wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from threading import Lock

from .wire import Sending


@dataclass
class Entry:
    """One request; written down when its head is read, and finished before its answer leaves."""

    number: int
    """From 1, over all requests since the log was begun or forgotten."""
    kind: str
    """The name of its route: ``commit``, ``lfs-put``, ... (see ``endpoints.ROUTES``), or ``unknown``."""
    method: str
    target: str
    """Path and query, still quoted."""
    headers: Mapping[str, str]
    """By lower-case name."""
    status: int = 0
    """0 where no answer was sent."""
    received: int = 0
    """Bytes of the request's body."""
    sent: int = 0
    """Bytes of the answer's body."""

    @property
    def line(self) -> str:
        """What a fault's pattern is searched in: ``commit POST /api/datasets/user/name/commit/main``."""
        return f"{self.kind} {self.method} {self.target}"


Hook = Callable[[Entry], object]


@dataclass(frozen=True)
class Fault:
    """What happens to some requests, beside or instead of what they ask for."""

    pattern: str = ""
    """A regular expression, searched in ``Entry.line``: kind, method, path and query."""
    nth: int = 1
    """The first matching request that it happens to, counted from 1 ..."""
    times: int | None = 1
    """... and how many from there on; None for all."""
    status: int = 0
    """Answer with this status; nothing is done."""
    message: str = "ordered by a test"
    code: str = ""
    """The ``X-Error-Code`` beside the status."""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False
    """Close the connection; nothing is done."""
    lose_answer: bool = False
    """Do what is asked, then close the connection instead of answering."""
    cut_after: int | None = None
    """Close the connection after so many bytes of the answer's body."""
    bytes_per_second: int | None = None
    """Send the answer's body no faster; never waits longer than a second for a piece of 64 kiB."""
    flip: int | None = None
    """Invert the lowest bit of this byte of the answer's body."""
    before: Hook | None = None
    """Called before anything is done, with ``hang_up`` too; what it raises is in ``HubServer.problems``."""
    after: Hook | None = None
    """Called when the work is done and the answer has not left yet."""

    @property
    def sending(self) -> Sending:
        """How the answer leaves."""
        return Sending(self.cut_after, self.bytes_per_second, self.flip)


class Journal:
    """The log of requests, and the faults that still wait for theirs."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._faults: list[tuple[Fault, list[int]]] = []
        self._lock = Lock()

    def begin(self, kind: str, method: str, target: str, headers: Message) -> tuple[Entry, list[Fault]]:
        """A new entry, and what is ordered to happen to it."""
        with self._lock:
            entry = Entry(
                len(self.entries) + 1, kind, method, target, {key.lower(): value for key, value in headers.items()}
            )
            self.entries.append(entry)
            hit = []
            for fault, seen in self._faults:
                if re.search(fault.pattern, entry.line):
                    seen[0] += 1
                    if fault.nth <= seen[0] and (fault.times is None or seen[0] < fault.nth + fault.times):
                        hit.append(fault)
            return entry, hit

    def order(self, *faults: Fault) -> None:
        """Let these happen, counting from now."""
        with self._lock:
            self._faults += [(fault, [0]) for fault in faults]

    def forget(self) -> None:
        """Begin the log anew, and order nothing any more."""
        with self._lock:
            self.entries = []
            self._faults = []

    def of(self, kind: str) -> list[Entry]:
        """The requests of one kind, in order."""
        return [entry for entry in self.entries if entry.kind == kind]

    def counts(self) -> Counter[str]:
        """Requests of each kind."""
        return Counter(entry.kind for entry in self.entries)

    def received(self, kind: str = "") -> int:
        """Bytes of the bodies of requests of this kind, or of all."""
        return sum(entry.received for entry in self.entries if kind in {"", entry.kind})

    def sent(self, kind: str = "") -> int:
        """Bytes of the bodies of answers of this kind, or of all."""
        return sum(entry.sent for entry in self.entries if kind in {"", entry.kind})
