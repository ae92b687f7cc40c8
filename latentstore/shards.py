"""SHELVE: a stream of LatentRecords to a named, hashed, atomically renamed shard file."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.containers.interface import THUMBNAIL, RowBlock
from latentstore.hashing import crc32_of, sha256_of
from latentstore.manifest import ShardInfo
from latentstore.system.durable_files import written_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from latentstore.containers.interface import ContainerRow, ShardSchema
    from latentstore.records import LatentRecord

ROWS_AT_ONCE = 256


def write_shard(
    folder: Path,
    name: str,
    container: ContainerRow,
    schema: ShardSchema,
    layout: str,
    blocks: Iterable[RowBlock],
    *,
    timed: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> ShardInfo:
    """Write one shard and say what it is; under its final name it is whole or not there at all.

    ``timed`` gives a context for each of ``write``, ``hash`` and ``sync``, by which their time can be taken.
    """
    counted = _Counted(blocks)
    with ExitStack() as syncing, written_whole(folder / name) as partial:
        with timed("write"):
            container.write(partial, schema, layout, counted)
        with timed("hash"):
            digest = sha256_of(partial)
        info = ShardInfo(path=name, rows=counted.rows, bytes=partial.stat().st_size, sha256=digest)
        syncing.enter_context(timed("sync"))
    return info


def blocks_of(records: Iterable[LatentRecord], schema: ShardSchema) -> Iterator[RowBlock]:
    """The records as blocks of columns, each row with the CRC-32 of its stored bytes."""
    rest = iter(records)
    while group := list(islice(rest, ROWS_AT_ONCE)):
        latents = np.stack([record.latent for record in group])
        columns = {name: [_scalar(record, schema, name) for record in group] for name in schema.scalar_columns}
        if schema.thumbnail:
            columns[THUMBNAIL] = [record.thumbnail for record in group]
        yield RowBlock(latents, {**columns, "latent_crc32": crc32_of(latents)})


def _scalar(record: LatentRecord, schema: ShardSchema, name: str) -> Any:
    if name in schema.metrics:
        return record.scores[name]
    if name in schema.features:
        return record.metadata.get(name)
    return getattr(record, name, None)


class _Counted:
    """Passes blocks on and counts their rows."""

    def __init__(self, blocks: Iterable[RowBlock]) -> None:
        self._blocks = blocks
        self.rows = 0

    def __iter__(self) -> Iterator[RowBlock]:
        for block in self._blocks:
            self.rows += len(block)
            yield block
