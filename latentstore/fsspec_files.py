"""The one door to fsspec: files of a folder on any file system that it knows, and on this machine's disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from latentstore.errors import FetchError, MissingFileError, RequestError
from latentstore.locations import ListedFile
from latentstore.named_table import unknown_name
from latentstore.retries import PassingError, Patience

Result = TypeVar("Result")


class FsspecFolder:
    """A folder at an fsspec URL. Several threads may read."""

    def __init__(self, url: str, *, patience: Patience | None = None) -> None:
        self._url = url
        self._patience = patience or Patience()
        self._files, root = _opened(url)
        self._root = root.rstrip("/")
        protocols = self._files.protocol
        self._is_local = "file" in ([protocols] if isinstance(protocols, str) else protocols)
        self.name = url.rstrip("/")
        """The URL, for messages."""

    def at(self, name: str) -> str:
        """The URL of a file, for messages."""
        return f"{self.name}/{name}"

    def inside(self, name: str) -> FsspecFolder:
        """A folder in it."""
        return FsspecFolder(self.at(name), patience=self._patience)

    def folders(self) -> list[str]:
        """Names of the folders in it, sorted."""
        return sorted(_last_name(entry) for entry in self._entries() if entry["type"] == "directory")

    def files(self) -> dict[str, ListedFile]:
        """What lies in it, by name."""
        found = [entry for entry in self._entries() if entry["type"] == "file"]
        return {_last_name(entry): ListedFile(int(entry["size"])) for entry in found if entry.get("size") is not None}

    def _entries(self) -> list[dict[str, Any]]:
        try:
            return list(self._files.ls(self._root, detail=True))
        except FileNotFoundError:
            return []

    def read_bytes(self, name: str, at_most: int) -> bytes:
        """The whole of a file; FetchError where it has more bytes than that."""
        size = self.size(name)
        if size > at_most:
            raise FetchError(f"{self.at(name)} has {size} bytes, expected {at_most} at most.")
        return self.read_range(name, 0, size)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """The bytes of a file from ``start`` to before ``stop``; FetchError where it does not have all of them."""
        path = f"{self._root}/{name}"
        self._refuse_no_file(name)
        found = self._tried(name, lambda: bytes(self._files.cat_file(path, start=start, end=stop)))
        if len(found) != stop - start:
            message = (
                f"{self.at(name)} has only {start + len(found)} bytes, {stop} were expected: it was cut or replaced."
            )
            raise FetchError(message)
        return found

    def size(self, name: str) -> int:
        """Bytes of a file."""
        self._refuse_no_file(name)
        return self._tried(name, lambda: int(self._files.size(f"{self._root}/{name}")))

    def _refuse_no_file(self, name: str) -> None:
        """FetchError for a pipe or a device of this machine, which would be waited for."""
        path = Path(self._root) / name
        if self._is_local and path.exists() and not (path.is_file() or path.is_dir()):
            raise FetchError(f"{self.at(name)} is a pipe or a device, expected a file.")

    def _tried(self, name: str, read: Callable[[], Result]) -> Result:
        def attempt() -> Result:
            try:
                return read()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise MissingFileError(f"There is no {self.at(name)}.") from None
            except PermissionError as error:
                raise FetchError(f"{self.at(name)} may not be read: {first_line(error)}.") from error
            except (OSError, TimeoutError) as error:
                raise PassingError(first_line(error)) from error
            except Exception as error:  # each file system has errors of its own: no credentials, no such bucket
                raise FetchError(f"{self.at(name)} cannot be read: {first_line(error)}.") from error

        return self._patience.until_done(attempt, self.at(name))


def _opened(url: str) -> tuple[Any, str]:
    """File system and the path in it."""
    import fsspec

    scheme = url.partition("://")[0]
    known = {*fsspec.available_protocols(), *fsspec.registry}  # the latter has those that a user registered
    if scheme not in known:
        raise unknown_name("scheme", scheme, sorted(known))
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise RequestError(f"{url} needs a package that is not installed: {first_line(error)}.") from error
    except (ValueError, OSError, TypeError) as error:
        raise RequestError(f"{url} cannot be opened: {first_line(error)}.") from error
    return found


def _last_name(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]


def first_line(error: BaseException) -> str:
    """What an error says, on one line without a full stop."""
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
