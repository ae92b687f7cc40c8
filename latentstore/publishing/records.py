"""What flows between the stages of publishing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from latentstore.file_records import LocalFile, RemoteFile
from latentstore.manifest import Manifest


@dataclass(frozen=True)
class LocalConfig:
    """A sealed config as it is to be published."""

    manifest: Manifest
    """As published: without the paths of this machine."""
    data: tuple[LocalFile, ...]
    """Shards, index, and what lies beside them (``Manifest.beside``)."""
    manifest_file: LocalFile
    failed: tuple[str, ...] = ()
    """What ``verify`` found wrong, of a config that is published all the same."""
    scores: Sequence[float | None] | None = None
    """PSNR of every row, for the card; None where it was not measured."""

    @property
    def name(self) -> str:
        """Its name, which is its folder's."""
        return self.manifest.config


@dataclass(frozen=True)
class TargetState:
    """A place as it is now."""

    exists: bool
    head: str = ""
    """The commit that was read, where there are commits."""
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    """Every file by its path."""
    branch_exists: bool = True
    is_public: bool | None = None
    """Whether everyone may read it; None where that is not known."""
    unfinished: frozenset[str] = frozenset()
    """Configs that somebody began to change, and may still be at."""
    texts: Mapping[str, bytes] = field(default_factory=dict)
    """Small files as they were when this state was looked at, of a place where they may change any moment."""
    keeps_history: bool = False
    """Whether what is replaced or removed can still be had."""


@dataclass(frozen=True)
class PublishPlan:
    """What there is to do."""

    location: str
    adds: tuple[LocalFile, ...]
    """Files to send, the manifests behind all data and the card behind the manifests."""
    deletions: tuple[str, ...]
    """Files to remove: those of the same configs that are not theirs any more."""
    unchanged: tuple[LocalFile, ...]
    """Files that are there already; they are not read."""
    creates: bool = False
    """Whether the repository is new."""
    new_configs: frozenset[str] = frozenset()
    """Configs that nobody can read there yet."""
    unfinished: frozenset[str] = frozenset()
    """Those of these configs that somebody began to change."""
    own: Mapping[str, str | None] = field(default_factory=dict)
    """Files there that this library put there, with the sha256 that a manifest there states; see ``own_files``."""

    @property
    def bytes(self) -> int:
        """To send; less where the place finds pieces that it has."""
        return sum(file.bytes for file in self.adds)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return not self.adds and not self.deletions and not self.unfinished

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "location": self.location,
            "creates": self.creates,
            "bytes": self.bytes,
            "adds": [{"path": file.path, "bytes": file.bytes} for file in self.adds],
            "deletions": list(self.deletions),
            "unchanged": [file.path for file in self.unchanged],
        }


@dataclass(frozen=True)
class PublishReport:
    """What was done."""

    url: str
    commit: str
    """That has it all, of a place with commits; else empty."""
    configs: tuple[str, ...]
    sent: tuple[str, ...]
    """Paths of files that were not there as they are here."""
    skipped: tuple[str, ...]
    """Paths of files that were there already."""
    deleted: tuple[str, ...]
    bytes: int
    """Of the files that were sent."""
    added: tuple[str, ...] = ()
    """Those of ``sent`` that take the place of no other file."""
    pull_request: str = ""
    """Its page, where one was opened."""
    pull_request_revision: str = ""
    """``refs/pr/1``: where it can be read before it is merged."""
    tags: tuple[str, ...] = ()
    failed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By config, what ``verify`` found wrong and was published all the same."""
    creates: bool = False
    """Whether the repository is new."""
    dry_run: bool = False
    """Whether nothing was done, and this is what would be."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        from latentstore.json_records import plain

        found: dict[str, Any] = plain(self)
        return found


@dataclass(frozen=True)
class PublishProgress:
    """How far it is."""

    stage: str
    """``check``, ``compare``, ``send``, ``commit``, ``confirm`` or ``receive``."""
    path: str = ""
    """The file that was finished last."""
    done: int = 0
    """Bytes."""
    total: int = 0


Progress = Callable[[PublishProgress], None]


def silent(_: PublishProgress) -> None:
    """Of a caller who does not want to know."""
