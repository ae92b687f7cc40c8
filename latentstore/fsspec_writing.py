"""Writing into a folder on any file system that fsspec knows, so that no file is seen before it is whole."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from latentstore.errors import FetchError, LatentStoreError, PublishError, UnsafePathError
from latentstore.file_records import LocalFile
from latentstore.fsspec_files import FsspecFolder, first_line
from latentstore.retries import PassingError
from latentstore.system.safe_paths import below, is_safe_path, open_own

Result = TypeVar("Result")
WHOLE_AT_ONCE = frozenset({"abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oss", "r2", "s3", "s3a"})
"""Schemes of object stores: a file appears under its name when all of it has arrived, and there are no folders."""
HERE = frozenset({"file", "local"})
"""Schemes of this machine's disk, where there are links."""
BLOCK = 8 << 20


class WritableFolder(FsspecFolder):
    """A folder at an fsspec URL that is written to. PublishError, in one sentence, where that is not possible."""

    def tree(self) -> dict[str, int]:
        """Bytes of every file in it, at any depth, by its path from here."""

        def look() -> dict[str, int]:
            self._files.invalidate_cache()
            try:
                found = self._files.find(self._root, detail=True)
            except FileNotFoundError:
                return {}
            # Some file systems give paths with a slash in front, whatever they were asked for.
            start = self._root.strip("/") + "/"
            sizes = {
                path.lstrip("/").removeprefix(start): int(entry["size"])
                for path, entry in found.items()
                if entry["type"] == "file"
            }
            # The keys of a bucket are any text: one that leads elsewhere is no file of this folder.
            return {path: size for path, size in sizes.items() if is_safe_path(path)}

        return self._written("", look)

    def stamps(self, path: str) -> dict[str, str]:
        """What the file system tells of a file, or of each file in a folder (``folder/``), by path.

        Size, time and what else it knows: another text where the file was changed. Nothing of what is not there.
        """

        def look() -> dict[str, str]:
            self._files.invalidate_cache()
            place = f"{self._root}/{path}".rstrip("/")
            try:
                if not path.endswith("/"):
                    return {path: str(self._files.info(place))}
                found = self._files.find(place, detail=True)
            except FileNotFoundError:
                return {}
            return {f"{path}{name.rpartition('/')[2]}": str(entry) for name, entry in found.items()}

        return self._written(path, look)

    def put(self, file: LocalFile) -> None:
        """Send one file to its path; it is under its name only when it is whole."""
        path = f"{self._root}/{file.path}"
        folder, _, name = path.rpartition("/")
        direct = self._url.partition("://")[0] in WHOLE_AT_ONCE
        partial = path if direct else f"{folder}/.{name}.{secrets.token_hex(4)}.partial"

        def write() -> None:
            self._refuse_leaving(file.path)
            if not direct:
                self._files.makedirs(folder, exist_ok=True)
            if isinstance(file.source, bytes):
                self._files.pipe_file(partial, file.source)
            else:
                self._files.put_file(str(file.source), partial)
            if not direct:
                self._files.mv(partial, path)

        self._written(file.path, write)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

        def remove() -> None:
            self._refuse_leaving(name)
            try:
                self._files.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return

        self._written(name, remove)

    def fetch(self, name: str, size: int, to: Path) -> None:
        """Bring a file here, going on behind what came before an interruption; ``to`` appears when it is whole."""
        to.parent.mkdir(parents=True, exist_ok=True)
        partial = to.with_name(f".{to.name}.partial")
        with open_own(partial) as out:
            out.seek(0, io.SEEK_END)
            if out.tell() > size:
                out.truncate(0)
            while out.tell() < size:
                out.write(self.read_range(name, out.tell(), min(size, out.tell() + BLOCK)))
        partial.replace(to)

    def sha256_of(self, name: str, size: int, tell: Callable[[int], None] = lambda _: None) -> str:
        """Hexadecimal sha256 of a file, which is read for it; ``tell`` is called with the bytes of each block."""
        digest = hashlib.sha256()
        for start in range(0, size, BLOCK):
            block = self.read_range(name, start, min(size, start + BLOCK))
            digest.update(block)
            tell(len(block))
        return digest.hexdigest()

    def _refuse_leaving(self, name: str) -> None:
        """UnsafePathError where a file would be written or removed somewhere else than below this folder."""
        if not is_safe_path(name):
            raise UnsafePathError(f"Expected the path of a file below {self.name}, found {name!r}.")
        if self._url.partition("://")[0] in HERE:
            below(Path(self._root), name.rpartition("/")[0] or ".partial")

    def _written(self, name: str, act: Callable[[], Result]) -> Result:
        """What ``act`` gives, tried again while that may help."""
        where = self.at(name) if name else self.name

        def attempt() -> Result:
            try:
                return act()
            except LatentStoreError:
                raise
            except PermissionError as error:
                message = f"{where} may not be written: {first_line(error)}; check the credentials for it."
                raise PublishError(message) from error
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                message = f"{where} cannot be written: {first_line(error)}; see whether the bucket or folder exists."
                raise PublishError(message) from error
            except (OSError, TimeoutError) as error:
                raise PassingError(first_line(error)) from error
            except Exception as error:  # each file system has errors of its own: no credentials, no such bucket
                raise PublishError(f"{where} cannot be written: {first_line(error)}.") from error

        try:
            return self._patience.until_done(attempt, where)
        except FetchError as error:
            raise PublishError(
                f"{where} cannot be written: {error.__cause__}, tried {self._patience.tries} times; type the same "
                "command again when it is well: it continues."
            ) from error


def local_url(path: Path) -> str:
    """The URL of a folder of this machine."""
    return f"file://{path.expanduser().absolute().as_posix()}"
