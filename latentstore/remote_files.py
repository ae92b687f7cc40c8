"""A folder somewhere: its files whole or by ranges, whatever serves them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from latentstore.errors import RequestError
from latentstore.fsspec_files import FsspecFolder
from latentstore.http_files import HttpFolder
from latentstore.hub.datasets import dataset_files
from latentstore.named_table import NamedTable
from latentstore.retries import Patience

HUB_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[^@]+))?")
HUB_PATH = re.compile(r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[^@/]+))?(?:/(?P<folder>.+))?")


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

    def read_bytes(self, name: str, at_most: int) -> bytes:
        """The whole of a file, which MissingFileError says is not there; FetchError where it has more bytes."""

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """The bytes of a file from ``start`` to before ``stop``, in one request."""

    def size(self, name: str) -> int:
        """Bytes of a file."""


@dataclass(frozen=True)
class SchemeRow:
    """One kind of URL, by what stands before ``://``."""

    name: str
    summary: str
    open: Callable[[str, Patience], RemoteFolder]


def open_folder(location: str | Path, patience: Patience | None = None) -> RemoteFolder:
    """The folder at a URL, a path, or the Hub dataset repository ``user/repo[@revision]``.

    Nothing is read, except that a Hub repository's revision becomes a commit. A scheme that is not in ``SCHEMES`` is
    left to fsspec. RequestError where there cannot be such a folder.
    """
    text, patience = str(location), patience or Patience()
    if "://" in text:
        scheme = text.partition("://")[0]
        return SCHEMES[scheme].open(text, patience) if scheme in SCHEMES else FsspecFolder(text, patience=patience)
    path = Path(location).expanduser()
    if path.is_dir():
        return FsspecFolder(f"file://{path.absolute().as_posix()}", patience=patience)
    found = HUB_REPOSITORY.fullmatch(text)
    if found is None:
        raise RequestError(
            f"There is no folder {text!r}: give a folder, a URL such as https://example.org/repository, or a Hub "
            "dataset repository as user/repo."
        )
    return _hub_folder(found["repo"], found["revision"], "", patience)


def _http(location: str, patience: Patience) -> RemoteFolder:
    return HttpFolder(location, patience=patience)


def _hub(location: str, patience: Patience) -> RemoteFolder:
    found = HUB_PATH.fullmatch(location.rstrip("/"))
    if found is None:
        raise RequestError(f"Expected hf://datasets/user/repo[@revision][/folder], found {location!r}.")
    return _hub_folder(found["repo"], found["revision"], found["folder"] or "", patience)


def _hub_folder(repo: str, revision: str | None, folder: str, patience: Patience) -> RemoteFolder:
    files = dataset_files(repo, revision=revision)
    opened = HttpFolder(files.url, headers=files.headers, patience=patience)
    return opened.inside(folder) if folder else opened


SCHEMES = NamedTable(
    "scheme",
    [
        SchemeRow("http", "a folder on a web server that answers range requests", _http),
        SchemeRow("https", "a folder on a web server that answers range requests", _http),
        SchemeRow("hf", "a dataset repository on the Hugging Face Hub", _hub),
    ],
)
