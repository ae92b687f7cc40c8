"""SHELVE: a stream of LatentRecords to a named, hashed, atomically renamed shard file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from latentstore.hashing import sha256_of
from latentstore.manifest import ShardInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from latentstore.containers.interface import ContainerRow, ShardSchema
    from latentstore.records import LatentRecord


def write_shard(
    folder: Path,
    name: str,
    container: ContainerRow,
    schema: ShardSchema,
    layout: str,
    records: Iterable[LatentRecord],
) -> ShardInfo:
    """Write one shard and say what it is; under its final name it is whole or not there at all."""
    counted = _Counted(records)
    partial = folder / f".{name}.partial"
    container.write(partial, schema, layout, counted)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    info = ShardInfo(path=name, rows=counted.rows, bytes=partial.stat().st_size, sha256=sha256_of(partial))
    partial.replace(folder / name)
    return info


class _Counted:
    """Passes records on and counts them."""

    def __init__(self, records: Iterable[LatentRecord]) -> None:
        self._records = records
        self.rows = 0

    def __iter__(self) -> Iterator[LatentRecord]:
        for record in self._records:
            self.rows += 1
            yield record
