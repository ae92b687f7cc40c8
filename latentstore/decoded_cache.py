"""Compressed shards, decoded once and kept in files: one for each shard, named after its sha256.

Several processes may share the folder. A file is there whole or not at all; who comes second waits for the first and
uses its file. The rows' checksums are compared when they are first read, as with any other shard.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import RequestError
from latentstore.system.durable_files import write_private
from latentstore.system.safe_paths import open_own, refuse_link

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX = "rows"
OWN = re.compile(rf"[0-9a-f]{{64}}\.{SUFFIX}")
OWN_BESIDE = re.compile(rf"\.[0-9a-f]{{64}}(\.lock|\.{SUFFIX}\..*partial)")
"""Locks, and files that were being written."""


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
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                with _alone(self.folder / f".{sha256}.lock"):
                    if not _whole(path, size):
                        write_private(path, np.ascontiguousarray(decode()).data.cast("B"))
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
        found = (path for path in sorted(self.folder.glob(f"*.{SUFFIX}")) if OWN.fullmatch(path.name))
        return [CachedShard(path.stem, path.lstat().st_size, path) for path in found]

    def clear(self) -> list[CachedShard]:
        """Remove all of it but what others put there, and say what went; who has it mapped goes on reading."""
        refuse_link(self.folder, "give the folder that it leads to (--cache)")
        found = self.shards()
        begun = [path for path in self.folder.glob(".*") if OWN_BESIDE.fullmatch(path.name)]
        for path in (*(shard.path for shard in found), *begun):
            path.unlink(missing_ok=True)
        return found


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
    with open_own(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
