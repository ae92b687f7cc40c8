"""Paths that somebody else wrote: whether they are harmless, and whether they stay where they belong."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import IO

from latentstore.errors import UnsafePathError

LONGEST_NAME = 255
"""Bytes of one part of a path, which file systems take at most."""
LONGEST_PATH = 4096
DRIVE = re.compile(r"[A-Za-z]:")
REFUSED = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Backslash (a separator elsewhere), control characters, halves of characters."""
NO_FOLLOWING = getattr(os, "O_NOFOLLOW", 0)
NO_WAITING = getattr(os, "O_NONBLOCK", 0)
"""A FIFO that somebody put there would else wait for whoever reads it."""


def is_safe_name(name: str) -> bool:
    """Whether this can be the name of a file in the folder where it is expected, on every system."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return (
        0 < size <= LONGEST_NAME
        and name not in (".", "..")
        and "/" not in name
        and REFUSED.search(name) is None
        and DRIVE.match(name) is None
    )


def is_safe_path(path: str) -> bool:
    """Whether this leads from a folder to a file below it: safe names with ``/`` between them, and nothing else."""
    return len(path) <= LONGEST_PATH and all(is_safe_name(part) for part in path.split("/"))


def below(root: Path, path: str) -> Path:
    """The file at ``path`` below ``root``; UnsafePathError where its words or a link lead out of that folder."""
    if not is_safe_path(path):
        raise UnsafePathError(f"Expected the path of a file below {root}, found {path!r}: nothing is read or written.")
    found = root / path
    if not stays_below(root, found):
        raise UnsafePathError(f"{found} is a link that leads out of {root}: nothing is read or written through it.")
    return found


def stays_below(root: Path, path: Path) -> bool:
    """Whether a path is inside a folder once every link on the way was followed; it need not exist."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):  # links in a circle; a name that no system takes
        return False


def refuse_link(path: Path, advice: str) -> None:
    """UnsafePathError where the name is a link, so that what is written or removed would be elsewhere."""
    if path.is_symlink():
        raise UnsafePathError(f"{path} is a link, expected a file or folder of its own: {advice}.")


def open_own(path: Path) -> IO[bytes]:
    """A file at a name that others can foresee, to read and to add to, made if it is not there; links stay unfollowed.

    UnsafePathError for a link, for what is no plain file, and for a file that has another name too.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags | NO_FOLLOWING | NO_WAITING, 0o666)
    except OSError as error:
        if path.is_symlink() or error.errno in (errno.ENXIO, errno.EISDIR):
            raise UnsafePathError(_not_own(path)) from error
        raise
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(handle)
        raise UnsafePathError(_not_own(path))
    return os.fdopen(handle, "a+b")


def _not_own(path: Path) -> str:
    return f"{path} is a link, or no plain file of its own, so it is not written: see who put it there, and remove it."
