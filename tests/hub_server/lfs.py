"""Objects of git LFS on disk, by their sha256; uploads in one piece or in parts."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock

from .wire import FilePart, Refusal


class LfsObjects:
    """A folder of objects, each named by the sha256 of its bytes and written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._parts: dict[tuple[str, int], Path] = {}
        self._lock = Lock()

    def __contains__(self, sha256: str) -> bool:
        return self._path(sha256).is_file()

    def part(self, sha256: str) -> FilePart:
        """All bytes of an object."""
        path = self._path(sha256)
        return FilePart(path, 0, path.stat().st_size)

    def store(self, sha256: str, pieces: Iterable[bytes]) -> None:
        """Keep these bytes; refused (400) where they are not what the name says."""
        path, found = self._written(pieces)
        if found != sha256:
            path.unlink()
            raise Refusal(400, f"The content has the sha256 {found}, expected {sha256}")
        path.replace(self._path(sha256))

    def store_bytes(self, content: bytes) -> str:
        """Keep an object of which nobody told the sha256; gives it."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.store(sha256, [content])
        return sha256

    def store_part(self, sha256: str, number: int, pieces: Iterable[bytes]) -> str:
        """Keep one part of an object (from 1) until all are there; gives its ETag."""
        path, found = self._written(pieces)
        with self._lock:
            self._parts[sha256, number] = path
        return found[:32]

    def join(self, sha256: str, numbers: Sequence[int]) -> None:
        """Make the object of its parts."""
        with self._lock:
            missing = [number for number in numbers if (sha256, number) not in self._parts]
            if missing or list(numbers) != list(range(1, len(numbers) + 1)):
                raise Refusal(400, f"Parts {missing or list(numbers)} of {sha256} are missing or out of order")
            paths = [self._parts.pop((sha256, number)) for number in numbers]
        self.store(sha256, (path.read_bytes() for path in paths))
        for path in paths:
            path.unlink()

    def sizes(self) -> dict[str, int]:
        """Bytes of every object, by sha256."""
        return {path.name: path.stat().st_size for path in self.folder.iterdir() if len(path.name) == 64}

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256

    def _written(self, pieces: Iterable[bytes]) -> tuple[Path, str]:
        digest = hashlib.sha256()
        handle, name = tempfile.mkstemp(dir=self.folder, prefix="incoming-")
        try:
            with os.fdopen(handle, "wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
        except BaseException:
            Path(name).unlink()
            raise
        return Path(name), digest.hexdigest()
