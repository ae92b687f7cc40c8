"""Lock files: one holder at a time, across processes and machines that share a folder, and who it is.

The system's own lock (flock) is taken where there is one: it is let go of when its process ends, however it ends. Where
there is none, the file itself is the lock, and who made it is asked for: a process of this machine that is gone, or a
file of another machine that nobody has touched for a while, holds nothing any more.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import IO

from latentstore.errors import ManifestError
from latentstore.json_records import parse, plain
from latentstore.system.plain_files import read_file
from latentstore.system.safe_paths import NO_WAITING, open_own

LARGEST_HOLDER = 1 << 16
"""Bytes of a lock file."""
UNTOUCHED_SECONDS = 600.0
"""After this a lock file of another machine is stale, where the system has no locks of its own."""
NO_SUCH_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
HELD = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, or did something."""

    host: str
    pid: int
    began: str
    """Of the process on its machine, in the words of its system; tells two processes of one number apart."""
    since: str
    """UTC, ISO 8601."""

    @classmethod
    def this_process(cls) -> Holder:
        """The one that asks, now."""
        return cls(socket.gethostname(), os.getpid(), _beginning_of(os.getpid()), now())

    @property
    def is_this_process(self) -> bool:
        """Whether it is the one that asks."""
        return (self.host, self.pid, self.began) == (socket.gethostname(), os.getpid(), _beginning_of(os.getpid()))

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended: only ever of a process of this machine."""
        return self.host == socket.gethostname() and _beginning_of(self.pid) != self.began

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class Lock:
    """A lock that this process holds until ``release``."""

    def __init__(self, path: Path, file: IO[bytes] | None) -> None:
        self._path = path
        self._file = file
        self._released = threading.Event()
        if file is None:
            threading.Thread(target=self._keep_alive, daemon=True, name="latentstore-lock").start()

    def _keep_alive(self) -> None:
        """Show that the holder lives to machines that cannot ask its system."""
        while not self._released.wait(UNTOUCHED_SECONDS / 10):
            with suppress(OSError):
                os.utime(self._path)

    def release(self) -> None:
        """Let go of it; once more does nothing."""
        if self._released.is_set():
            return
        self._released.set()
        if self._file is None:
            self._path.unlink(missing_ok=True)
            return
        self._file.close()  # and with it the system's lock; the file stays: another may be waiting for this very one


def take(path: Path, *, system_locks: bool = True) -> Lock | Holder | None:
    """The lock of this path, or who holds it; None where somebody does who has not written his name yet.

    ``system_locks``: False does as on systems without any.
    """
    fcntl = _fcntl() if system_locks else None
    if fcntl is None:
        return _take_by_name(path)
    file = open_own(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno in NO_SUCH_LOCKS:
            return _take_by_name(path)
        if error.errno in HELD:
            return holder_of(path)
        raise
    try:
        file.truncate(0)
        file.write(json.dumps(plain(Holder.this_process())).encode())
        file.flush()
    except OSError:
        with suppress(OSError):  # it tries to write once more
            file.close()
        raise
    return Lock(path, file)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock of this path now, without taking it."""
    fcntl = _fcntl()
    if fcntl is None:
        return path.exists() and not _is_stale(path)
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | NO_WAITING), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno in HELD or (error.errno in NO_SUCH_LOCKS and not _is_stale(path))
    return False


def holder_of(path: Path) -> Holder | None:
    """Who wrote his name into a lock file; he may have ended since."""
    try:
        return parse(Holder, json.loads(read_file(path, LARGEST_HOLDER)))
    except (OSError, ValueError, RecursionError, ManifestError):
        return None


def now() -> str:
    """UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _take_by_name(path: Path) -> Lock | Holder | None:
    """The lock is whoever makes the file."""
    if path.exists() and _is_stale(path):
        path.unlink(missing_ok=True)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return holder_of(path)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(json.dumps(plain(Holder.this_process())))
    return Lock(path, None)


def _is_stale(path: Path) -> bool:
    holder = holder_of(path)
    if holder is not None and holder.host == socket.gethostname():
        return holder.is_gone
    try:
        return time.time() - path.stat().st_mtime > UNTOUCHED_SECONDS
    except OSError:
        return False


def _beginning_of(pid: int) -> str:
    """When a process of this machine began, in the words of its system; empty where there is none of that number."""
    try:
        # After the name in brackets, which may hold anything: field 22, in clock ticks since the machine started.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except (OSError, IndexError):
        return ""
    try:
        os.kill(pid, 0)  # no signal: only whether there is such a process
    except ProcessLookupError:
        return ""
    except OSError:
        return "unknown"
    return "unknown"


def _fcntl() -> ModuleType | None:
    """The module of the system's locks; None where it has none."""
    try:
        import fcntl
    except ImportError:
        return None
    return fcntl
