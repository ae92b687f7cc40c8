"""What a command asks of the system while it runs: whom it contacts, what it opens, starts and unpickles."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Seen:
    """What was seen that nobody asked for."""

    private: str
    """A folder in which nothing may be opened or listed by its own name."""
    allowed: tuple[tuple[str, int], ...]
    """Addresses that the user named."""
    found: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Once each."""
        if text not in self.found:
            self.found.append(text)


_now: list[Seen] = []
"""The one that looks, or none: a hook of the interpreter cannot be taken away again."""


def _connected(seen: Seen, _socket: Any, address: Any) -> None:
    if isinstance(address, tuple) and tuple(address[:2]) not in seen.allowed:
        seen.note(f"contacted {address[0]}:{address[1]}")


def _looked_up(seen: Seen, host: Any, port: Any, *_: Any) -> None:
    if (host, port) not in seen.allowed and host not in [name for name, _ in seen.allowed]:
        seen.note(f"asked for the address of {host!r}")


def _opened(seen: Seen, path: Any, *_: Any) -> None:
    if not isinstance(path, (str, bytes, os.PathLike)):
        return
    name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (not through links: a cache of the Hub is made of them)
    if name == seen.private or name.startswith(f"{seen.private}/"):
        seen.note(f"opened {name.removeprefix(os.path.dirname(seen.private))}")  # noqa: PTH120


def _started(seen: Seen, *what: Any) -> None:
    seen.note(f"started {str(what[:2])[:80]}")


def _unpickled(seen: Seen, module: Any, name: Any) -> None:
    seen.note(f"unpickled {module}.{name}")


EVENTS: dict[str, Callable[..., None]] = {
    "socket.connect": _connected,
    "socket.getaddrinfo": _looked_up,
    "open": _opened,
    "os.listdir": _opened,
    "os.scandir": _opened,
    "subprocess.Popen": _started,
    "os.system": _started,
    "os.exec": _started,
    "os.posix_spawn": _started,
    "pickle.find_class": _unpickled,
}


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _now and event in EVENTS:
        EVENTS[event](_now[-1], *arguments)


_hooked: list[bool] = []


@contextmanager
def watching(private: Path, allowed: tuple[tuple[str, int], ...]) -> Iterator[Seen]:
    """Whoever is at work inside is seen."""
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    seen = Seen(str(private), allowed)
    _now.append(seen)
    try:
        yield seen
    finally:
        _now.pop()
