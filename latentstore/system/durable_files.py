"""Files that are under their name whole or not at all: written aside, on disk for good, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from latentstore.errors import RequestError
from latentstore.system.locks import Holder
from latentstore.system.safe_paths import NO_FOLLOWING

CANNOT_SYNC_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What network and user-space file systems answer that do not know this."""
LONGEST_PART = 64
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """RequestError with one sentence where the system cannot do what is done inside, all of which belongs to a path."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        advice = "make room, then type" if error.errno in NO_ROOM else "once that is mended, type"
        raise RequestError(f"Cannot write {path}: {reason}; {advice} it again: it continues.") from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file to write to, which gets its final name in one step, once it is on disk.

    Only for the holder of the folder's lock, or of the file's: what earlier writers of this path left is removed.
    RequestError if it cannot be written.
    """
    with writing(path):
        for left in _partials_of(path):
            left.unlink(missing_ok=True)
        with _partial_of(path) as partial:
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
            sync_folder(path.parent)


def write_atomically(path: Path, text: str) -> None:
    """Text under its final name in one step: nobody ever sees half of it. RequestError where it cannot be written."""
    with writing(path), _partial_of(path) as partial:
        with partial.open("r+", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)


def write_private(path: Path, content: memoryview) -> None:
    """Bytes under their final name in one step, which only this user may read; OSError if they cannot be written."""
    with _partial_of(path, mode=0o600) as partial:
        with partial.open("r+b") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


def remove_abandoned(path: Path) -> None:
    """Remove what processes of this machine that were killed while they wrote this text have left beside it."""
    for partial in _partials_of(path):
        host, _, process = partial.name[len(_beginning(path)) :].rpartition("@")
        pid, _, began = process.split(".")[0].partition("-")
        if pid.isdigit() and Holder(host, int(pid), began, "").is_gone:
            partial.unlink(missing_ok=True)


@contextmanager
def _partial_of(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """A new file beside ``path`` that nobody could foresee the name of; gone at the end unless it was renamed.

    The name tells which process writes it.
    """
    me = Holder.this_process()
    process = f"{me.host[:LONGEST_PART]}@{me.pid}-{me.began}"
    partial = path.with_name(f"{_beginning(path)}{process}.{secrets.token_hex(4)}.partial")
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | NO_FOLLOWING, mode))
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _partials_of(path: Path) -> list[Path]:
    """What was begun to be written for this path, by anyone."""
    begun = _beginning(path)
    found = [*path.parent.glob(f"{escape(begun)}*.partial"), path.with_name(f"{begun}partial")]
    return [partial for partial in found if partial.is_symlink() or partial.is_file()]


def _beginning(path: Path) -> str:
    """What the names of its partial files begin with; of a long name a part, so that they are names as well."""
    return f".{path.name.encode()[: 2 * LONGEST_PART].decode(errors='ignore')}."


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk for good; a system that cannot do that for folders does it by itself."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(handle)
