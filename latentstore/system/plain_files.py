"""Files that somebody else put there, read whole: only what is a file, and no more of it than is expected."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_file(path: Path, at_most: int) -> bytes:
    """All bytes of a file; OSError where it has more than that, or is none.

    A pipe or a device is not waited for.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, expected a file")
        if found.st_size > at_most:
            raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes, expected {at_most:,} at most")
        return file.read(found.st_size)  # and no more, where it grows meanwhile
