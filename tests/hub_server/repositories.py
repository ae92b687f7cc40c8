"""Repositories with a history: commits, branches, tags and pull requests, all in memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from .wire import Refusal

FIRST_DATE = datetime(2026, 1, 1, tzinfo=timezone.utc)
BIG_BYTES = 5_000_000
"""The Hub keeps larger files in LFS, whatever they are called."""
POINTER_BYTES = 134
"""What the Hub says about every pointer."""
LFS_ENDINGS = re.findall(
    r"\w+",
    """7z arrow avro bin bz2 ckpt ftz gz h5 joblib lz4 mds model msgpack npy npz onnx ot parquet pb pickle pkl pt pth
    rar safetensors tar tflite tgz wasm xz zip zst flac ogg mp3 wav bmp gif png tiff jpg jpeg webp mp4 webm""",
)
ATTRIBUTES = "".join(f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LFS_ENDINGS).encode()


@dataclass(frozen=True)
class Blob:
    """One file of a commit."""

    size: int
    oid: str
    """Git's own hash: of the content, or of the pointer to it."""
    content: bytes | None = None
    """None where LFS or Xet has it."""
    sha256: str | None = None

    @property
    def upload_oid(self) -> str:
        """What a client compares with its own file to see that nothing changed."""
        return self.sha256 or self.oid


def blob_oid(content: bytes) -> str:
    """The hash that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def regular(content: bytes) -> Blob:
    """A file that git itself keeps."""
    return Blob(len(content), blob_oid(content), content)


def large(sha256: str, size: int) -> Blob:
    """A file of which git keeps a pointer."""
    return Blob(size, blob_oid(pointer(sha256, size)), sha256=sha256)


def pointer(sha256: str, size: int) -> bytes:
    """What stands in git for a file in LFS."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def upload_mode(path: str, sample: bytes, size: int) -> str:
    """``lfs`` or ``regular``: by ending, size, and whether it looks like text; empty files are always regular."""
    if not size:
        return "regular"
    ending = path.rpartition("/")[2].rpartition(".")[2].lower()
    return "lfs" if ending in LFS_ENDINGS or size > BIG_BYTES or b"\0" in sample else "regular"


@dataclass(frozen=True)
class Commit:
    """One state of all files."""

    oid: str
    parent: str | None
    title: str
    description: str
    author: str
    date: datetime
    files: Mapping[str, Blob]

    @property
    def when(self) -> str:
        """The date as the Hub writes it."""
        return self.date.strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass
class Repository:
    """All commits, and the names that stand for some of them."""

    kind: str
    """``models``, ``datasets`` or ``spaces``."""
    name: str
    """``namespace/name``."""
    private: bool = False
    gated: str = ""
    """``auto`` or ``manual`` where terms must be accepted first."""
    accepted: set[str] = field(default_factory=set)
    """Accounts that did."""
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: dict[str, str] = field(default_factory=dict)
    """By number, as ``refs/pr/N`` names them."""

    @property
    def namespace(self) -> str:
        """Whose it is."""
        return self.name.partition("/")[0]

    @property
    def page(self) -> str:
        """Its path on the site."""
        return self.name if self.kind == "models" else f"{self.kind}/{self.name}"

    @property
    def head(self) -> Commit:
        """The newest commit of the main branch."""
        return self.commits[self.branches["main"]]

    def at(self, revision: str) -> Commit:
        """The commit that a branch, tag, pull request or full hash stands for."""
        oid = self._oid(revision)
        if oid is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def _oid(self, revision: str) -> str | None:
        if revision in self.commits:
            return revision
        for prefix, refs in (
            ("refs/heads/", self.branches),
            ("refs/tags/", self.tags),
            ("refs/pr/", self.pull_requests),
            ("", self.branches),
            ("", self.tags),
        ):
            if revision.startswith(prefix) and revision.removeprefix(prefix) in refs:
                return refs[revision.removeprefix(prefix)]
        return None

    def refs_of(self, revision: str) -> tuple[dict[str, str], str]:
        """The branches or pull requests, and the name among them; only these can be committed to."""
        for refs, name in (
            (self.pull_requests, revision.removeprefix("refs/pr/")),
            (self.branches, revision.removeprefix("refs/heads/")),
        ):
            if name in refs and (refs is self.branches or revision.startswith("refs/pr/")):
                return refs, name
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def add(
        self, parent: Commit | None, files: Mapping[str, Blob], title: str, *, description: str = "", author: str = ""
    ) -> Commit:
        """A new commit that no name stands for yet."""
        number = len(self.commits)
        text = repr((self.page, number, parent and parent.oid, title, sorted((p, b.oid) for p, b in files.items())))
        oid = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        date = FIRST_DATE + timedelta(seconds=number)
        commit = Commit(oid, parent.oid if parent else None, title, description, author, date, dict(files))
        self.commits[oid] = commit
        return commit

    def history(self, commit: Commit) -> Iterator[Commit]:
        """A commit and all before it, newest first."""
        while True:
            yield commit
            if commit.parent is None:
                return
            commit = self.commits[commit.parent]

    def last_change(self, commit: Commit, path: str) -> Commit:
        """The commit that gave a file, or a folder, its present content."""
        now = _within(commit, path)
        changed = commit
        for earlier in self.history(commit):
            if _within(earlier, path) != now:
                break
            changed = earlier
        return changed


def _within(commit: Commit, path: str) -> dict[str, str]:
    return {name: blob.oid for name, blob in commit.files.items() if name == path or name.startswith(f"{path}/")}


def new_repository(kind: str, name: str, *, private: bool = False) -> Repository:
    """A repository as the Hub makes it: one commit, which says what belongs into LFS."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or len(name) > 192:
        raise Refusal(400, f"Invalid repository name {name!r}")
    repository = Repository(kind, name, private=private)
    first = repository.add(None, {".gitattributes": regular(ATTRIBUTES)}, "initial commit", author="system")
    repository.branches["main"] = first.oid
    return repository
