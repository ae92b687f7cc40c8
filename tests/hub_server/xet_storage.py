"""What hf_xet stored in a local folder, read without hf_xet: sha256 to Xet hash, and the bytes of a file.

hf_xet takes ``local:///folder`` for the address of a storage service and writes there what it would upload: *shards*
(``.mdb``), which say of which chunks each file is made, and *xorbs*, which hold the chunks. Both are walked here as far
as a server needs them. All numbers are little-endian; a hash is printed as four 64-bit numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

RECORD_BYTES = 48
"""Every record of a shard begins with a hash of 32 bytes."""
END = b"\xff" * 32
HAS_VERIFICATION, HAS_METADATA = 1 << 31, 1 << 30
CHUNK_HEADER_BYTES = 8
CHUNK_VERSION = UNCOMPRESSED = 0


@dataclass(frozen=True)
class Segment:
    """Some neighbouring chunks of one xorb."""

    xorb: str
    first: int
    stop: int


@dataclass(frozen=True)
class XetFile:
    """How a file is put together."""

    hash: str
    sha256: str
    segments: tuple[Segment, ...]


class XetStorage:
    """The folder behind ``local:///folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._files: dict[str, XetFile] = {}
        self._shards: set[tuple[Path, int]] = set()
        self._lock = Lock()

    @property
    def url(self) -> str:
        """What a client is told as the address of the storage."""
        return f"local://{self.folder.resolve()}"

    def find(self, sha256: str) -> XetFile | None:
        """How the file with this content is put together, or None."""
        with self._lock:
            if sha256 not in self._files:
                self._read_new_shards()
            return self._files.get(sha256)

    def content(self, file: XetFile) -> bytes:
        """All bytes of a file."""
        xorbs = {name: self._chunks(name) for name in {segment.xorb for segment in file.segments}}
        return b"".join(b"".join(xorbs[part.xorb][part.first : part.stop]) for part in file.segments)

    def stored_bytes(self) -> int:
        """Bytes of all xorbs: what was uploaded so far."""
        return sum(path.stat().st_size for path in self.folder.glob("**/xorbs/default.*") if path.suffix != ".tagset")

    def _read_new_shards(self) -> None:
        for path in sorted(self.folder.glob("**/*.mdb")):
            known = (path, path.stat().st_mtime_ns)
            if known not in self._shards:
                self._shards.add(known)
                self._files.update((file.sha256, file) for file in files_of_shard(path.read_bytes()))

    def _chunks(self, xorb: str) -> list[bytes]:
        (path,) = self.folder.glob(f"**/xorbs/default.{xorb}")
        return list(chunks_of_xorb(path.read_bytes()))


def chunks_of_xorb(content: bytes) -> Iterator[bytes]:
    """The chunks, in order: each behind a header of its version, its length, how it is compressed, and its length then.

    What follows the last chunk begins with a letter where a chunk has its version, 0.
    """
    at = 0
    while at + CHUNK_HEADER_BYTES <= len(content) and content[at] == CHUNK_VERSION:
        length, scheme = int.from_bytes(content[at + 1 : at + 4], "little"), content[at + 4]
        if scheme != UNCOMPRESSED:
            message = f"a chunk is compressed ({scheme}): the client has not the environment of HubServer"
            raise ValueError(message)
        at += CHUNK_HEADER_BYTES
        yield content[at : at + length]
        at += length


def files_of_shard(content: bytes) -> Iterator[XetFile]:
    """The files that a shard tells of; those without a sha256 are passed over."""
    at = RECORD_BYTES  # behind the header
    while content[at : at + 32] != END:
        flags, count = struct.unpack_from("<II", content, at + 32)
        name = printed(content[at : at + 32])
        at += RECORD_BYTES
        segments = []
        for _ in range(count):
            _, _, first, stop = struct.unpack_from("<IIII", content, at + 32)
            segments.append(Segment(printed(content[at : at + 32]), first, stop))
            at += RECORD_BYTES
        if flags & HAS_VERIFICATION:
            at += RECORD_BYTES * count
        if flags & HAS_METADATA:
            yield XetFile(name, printed(content[at : at + 32]), tuple(segments))
            at += RECORD_BYTES


def printed(hashed: bytes) -> str:
    """A hash as Xet prints it."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", hashed))
