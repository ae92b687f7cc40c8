"""A folder somewhere: its files whole or by ranges, whatever serves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from latentstore.errors import RequestError
from latentstore.fsspec_files import FsspecFolder
from latentstore.http_files import HttpFolder
from latentstore.hub.datasets import DatasetCommit, dataset_commit
from latentstore.locations import HubRepository, ListedFile, Location, RemoteUrl, location_of
from latentstore.retries import Patience


class RemoteFolder(Protocol):
    """A folder whose files are read with patience; FetchError, in one sentence, where that does not help."""

    @property
    def name(self) -> str:
        """Where it is, for messages."""

    def at(self, name: str) -> str:
        """Where a file of it is, for messages."""

    def inside(self, name: str) -> RemoteFolder:
        """A folder in it, whether or not there is one."""

    def folders(self) -> list[str] | None:
        """Names of the folders in it; None where there is no listing."""

    def files(self) -> Mapping[str, ListedFile] | None:
        """What lies in it, by name; None where there is no listing."""

    def read_bytes(self, name: str, at_most: int) -> bytes:
        """The whole of a file, which MissingFileError says is not there; FetchError where it has more bytes."""

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """The bytes of a file from ``start`` to before ``stop``, in one request."""

    def size(self, name: str) -> int:
        """Bytes of a file."""


@dataclass(frozen=True)
class HubFolder:
    """A folder of a Hub dataset repository at one commit: read like any web server's, but with a listing."""

    repository: DatasetCommit
    path: str
    """Inside the repository; empty for all of it."""
    web: HttpFolder
    """The same folder, for whoever reads."""

    @property
    def name(self) -> str:
        """See ``RemoteFolder.name``."""
        return self.web.name

    def at(self, name: str) -> str:
        """See ``RemoteFolder.at``."""
        return self.web.at(name)

    def inside(self, name: str) -> HubFolder:
        """See ``RemoteFolder.inside``."""
        return HubFolder(self.repository, f"{self.path}/{name}".lstrip("/"), self.web.inside(name))

    def folders(self) -> list[str]:
        """See ``RemoteFolder.folders``."""
        return sorted({name.partition("/")[0] for name in self._below() if "/" in name})

    def files(self) -> dict[str, ListedFile]:
        """See ``RemoteFolder.files``."""
        return {name: found for name, found in self._below().items() if "/" not in name}

    def read_bytes(self, name: str, at_most: int) -> bytes:
        """See ``RemoteFolder.read_bytes``."""
        return self.web.read_bytes(name, at_most)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """See ``RemoteFolder.read_range``."""
        return self.web.read_range(name, start, stop)

    def size(self, name: str) -> int:
        """See ``RemoteFolder.size``."""
        return self.web.size(name)

    def _below(self) -> dict[str, ListedFile]:
        start = f"{self.path}/" if self.path else ""
        found = self.repository.files.items()
        return {name.removeprefix(start): listed for name, listed in found if name.startswith(start)}


def open_folder(location: str | Path | Location, patience: Patience | None = None) -> RemoteFolder:
    """The folder at a URL, a path, or a Hub dataset repository; see ``locations``.

    Nothing is read, except that a Hub repository's revision becomes a commit. A scheme other than http(s) is left to
    fsspec. RequestError where there cannot be such a folder.
    """
    where, patience = location_of(location) if isinstance(location, (str, Path)) else location, patience or Patience()
    if isinstance(where, HubRepository):
        return hub_folder(dataset_commit(where.repo, where.revision), where.folder, patience)
    if isinstance(where, RemoteUrl):
        web = where.url.startswith(("http://", "https://"))
        return HttpFolder(where.url, patience=patience) if web else FsspecFolder(where.url, patience=patience)
    if not where.path.is_dir():
        raise RequestError(
            f"There is no folder {str(where)!r}: give a folder, a URL such as https://example.org/repository, or a Hub "
            "dataset repository as user/repo."
        )
    return FsspecFolder(f"file://{where.path.absolute().as_posix()}", patience=patience)


def hub_folder(repository: DatasetCommit, folder: str = "", patience: Patience | None = None) -> HubFolder:
    """A folder of a Hub dataset repository."""
    web = HttpFolder(repository.url, headers=repository.headers, patience=patience, forbidden=repository.gated)
    whole = HubFolder(repository, "", web)
    return whole.inside(folder) if folder else whole
