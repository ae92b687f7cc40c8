"""Where a dataset lies: what a location means, wherever one is given.

- a folder of this machine, if there is one of that name;
- else ``user/repo`` or ``user/repo@revision``, a dataset repository on the Hub; ``hub:user/repo@revision`` means the
  Hub whatever lies here;
- ``hf://datasets/user/repo[@revision][/folder]``, the same with a folder in it;
- any other URL: ``https://``, or what fsspec knows (``s3://``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from latentstore.errors import RequestError

REPO = r"(?P<repo>[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*?)"
REVISION = r"(?:@(?P<revision>[^@\s]+))?"
HUB_NAME = re.compile(REPO + REVISION, re.ASCII)
HUB_URL = re.compile(
    r"hf://datasets/" + REPO + r"(?:@(?P<revision>refs/(?:pr|convert)/[^/@]+|[^/@]+))?(?:/(?P<folder>.+?))?/*", re.ASCII
)
HUB = "hub:"


@dataclass(frozen=True)
class LocalFolder:
    """A folder of this machine, whether or not it exists."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class HubRepository:
    """A dataset repository on the Hub, or a folder in it."""

    repo: str
    """``user/repo``."""
    revision: str | None = None
    """A branch, a tag or a commit; None for the repository's main branch."""
    folder: str = ""

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"hf://datasets/{self.repo}{at}/{self.folder}" if self.folder else f"{self.repo}{at}"


@dataclass(frozen=True)
class RemoteUrl:
    """A folder at a URL of another kind."""

    url: str

    def __str__(self) -> str:
        return self.url


Location = LocalFolder | HubRepository | RemoteUrl


@dataclass(frozen=True)
class ListedFile:
    """What a listing of a folder says of one file."""

    size: int
    """Bytes."""
    sha256: str | None = None
    """Where the listing has it: that of the Hub does for what git does not hold itself."""


def location_of(location: str | Path) -> Location:
    """What is meant; see above. A Path always is a folder of this machine. Nothing is opened.

    RequestError where it begins like the Hub's and goes on otherwise.
    """
    if isinstance(location, Path):
        return LocalFolder(location.expanduser())
    if location.startswith(HUB):
        return _hub(HUB_NAME.fullmatch(location.removeprefix(HUB)), location, "hub:user/repo or hub:user/repo@revision")
    if location.startswith("hf://"):
        return _hub(HUB_URL.fullmatch(location), location, "hf://datasets/user/repo[@revision][/folder]")
    if "://" in location:
        return RemoteUrl(location)
    path = Path(location).expanduser()
    found = HUB_NAME.fullmatch(location)
    return LocalFolder(path) if path.exists() or found is None else _hub(found, location, "")


def _hub(found: re.Match[str] | None, location: str, forms: str) -> HubRepository:
    if found is None:
        raise RequestError(f"Expected {forms}, found {location!r}.")
    parts = found.groupdict()
    revision = parts["revision"]
    return HubRepository(parts["repo"], unquote(revision) if revision else None, parts.get("folder") or "")
