"""Compressed shards, decoded once and kept in files: one for each shard, named after its sha256.

Several processes may share the folder. A file is there whole or not at all; who comes second waits for the first and
uses its file. The rows' checksums are compared when they are first read, as with any other shard.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX = "rows"


@dataclass(frozen=True)
class CachedShard:
    """One decoded shard in the cache."""

    sha256: str
    """Of the shard it was decoded from."""
    bytes: int
    path: Path


def default_cache() -> Path:
    """Where decoded shards are kept unless said otherwise: a folder in the user's home."""
    return Path.home() / ".cache" / "latentstore" / "decoded"


@dataclass(frozen=True)
class DecodedCache:
    """A folder of decoded shards."""

    folder: Path

    def get(self, sha256: str, size: int, decode: Callable[[], NDArray[Any]]) -> NDArray[np.uint8]:
        """The decoded bytes of this shard, mapped; ``decode`` is called where no process has done it before.

        Raises RequestError where they cannot be written, after which nothing half-written remains.
        """
        path = self.folder / f"{sha256}.{SUFFIX}"
        if not _whole(path, size):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with _alone(self.folder / f".{sha256}.lock"):
                    if not _whole(path, size):
                        self._write(path, decode())
            except OSError as error:
                room = _room(self.folder)
                raise RequestError(
                    f"Cannot keep {size:,} decoded bytes in {self.folder}: {error.strerror or error}{room}; choose "
                    "another cache, or type `latentstore cache clear`."
                ) from error
        if size == 0:
            return np.empty(0, np.uint8)
        return np.memmap(path, np.uint8, "r")

    def shards(self) -> list[CachedShard]:
        """What is kept, by name."""
        return [CachedShard(path.stem, path.stat().st_size, path) for path in sorted(self.folder.glob(f"*.{SUFFIX}"))]

    def clear(self) -> list[CachedShard]:
        """Remove all of it, and say what was removed; who has it mapped goes on reading."""
        found = self.shards()
        for path in (*(shard.path for shard in found), *self.folder.glob(".*.lock"), *self.folder.glob(".*.partial")):
            path.unlink(missing_ok=True)
        return found

    def _write(self, path: Path, decoded: NDArray[Any]) -> None:
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                file.write(np.ascontiguousarray(decoded).data.cast("B"))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _room(folder: Path) -> str:
    try:
        return f" ({shutil.disk_usage(folder).free:,} bytes free)"
    except OSError:
        return ""


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that the system lets go of when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: two processes may decode the same shard, and one file stays
        yield
        return
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
