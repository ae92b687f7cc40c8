"""Files that are sent somewhere, and files as they lie there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class LocalFile:
    """One file of a repository as it should be."""

    path: str
    """Inside the repository, with ``/``."""
    source: Path | bytes
    """Where its bytes are, or the bytes themselves where they were made for this."""
    bytes: int
    sha256: str

    @classmethod
    def of_text(cls, path: str, text: str) -> LocalFile:
        """A file with this text in UTF-8."""
        content = text.encode()
        return cls(path, content, len(content), hashlib.sha256(content).hexdigest())

    @cached_property
    def git_oid(self) -> str:
        """The name that git gives this content; the file is read for it."""
        content = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return git_oid_of(content)


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository as it lies somewhere else."""

    path: str
    bytes: int
    sha256: str | None = None
    """Of the content, where that is known without reading it."""
    git_oid: str | None = None
    """Git's name of the content, where git itself holds it."""

    def holds(self, file: LocalFile) -> bool:
        """Whether this is that content; False where nothing tells."""
        if self.bytes != file.bytes:
            return False
        if self.sha256 is not None:
            return self.sha256 == file.sha256
        return self.git_oid is not None and self.git_oid == file.git_oid


def git_oid_of(content: bytes) -> str:
    """Git's name of a file with this content: sha1 of ``blob``, its length, a zero byte and the content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
