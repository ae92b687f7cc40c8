"""What a container is: how the rows of one shard become one file, and how they are read back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from latentstore.containers.columns import Column

INDEX_COLUMNS = {"split": "string", "shard": "string", "row": "int64"}
"""What the index has besides, and of which type."""
CORE_COLUMNS = (
    "id",
    "label",
    "height",
    "width",
    "source_path",
    "source_sha256",
    "source_bytes",
    "latent_crc32",
)
"""The scalar columns of every dataset (``label`` only where the source has classes), before metrics and metadata."""
THUMBNAIL = "thumbnail"
"""Name of the column of tiny pictures, where there is one. It is in the shards and not in the index."""


@dataclass(frozen=True)
class ShardSchema:
    """The columns of every shard of one config."""

    latent_shape: tuple[int, int, int]
    """(C, h, w) of one latent."""
    dtype: str
    """numpy name of the stored numbers: ``float16``, ``float32``, ``uint8``."""
    class_names: tuple[str, ...] | None
    metrics: tuple[str, ...]
    features: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Type of each further column, in the words of `datasets`."""
    thumbnail: bool = False
    """Whether every row has a thumbnail: the bytes of a WebP file."""

    @property
    def row_values(self) -> int:
        """Numbers in one latent."""
        channels, height, width = self.latent_shape
        return channels * height * width

    @property
    def repeated_name(self) -> str | None:
        """The first name that two columns of a shard or of the index would share; None where all differ."""
        names = [*self.columns, *INDEX_COLUMNS]
        return next((name for name in names if names.count(name) > 1), None)

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        """Every column but latent and thumbnail, in order: those of the index."""
        core = (name for name in CORE_COLUMNS if name != "label" or self.class_names is not None)
        return (*core, *self.metrics, *self.features)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of a shard, in order."""
        first, *others = self.scalar_columns
        return (first, "latent", *((THUMBNAIL,) if self.thumbnail else ()), *others)


@dataclass(frozen=True)
class RowBlock:
    """Neighbouring rows of one shard, column by column."""

    latents: NDArray[Any]
    """(N, C, h, w), exactly the numbers that are written."""
    columns: Mapping[str, Sequence[Any]]
    """Every scalar column of the schema, N values each; None where there is none. And ``thumbnail``, N times bytes,
    where the schema has it."""

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, rows: slice) -> RowBlock:
        return RowBlock(self.latents[rows], {name: values[rows] for name, values in self.columns.items()})


def regrouped(blocks: Iterable[RowBlock], size: int) -> Iterator[RowBlock]:
    """The same rows in blocks of ``size`` rows; only the last may be smaller. So bytes do not depend on the blocks."""
    waiting: list[RowBlock] = []
    count = 0
    for block in blocks:
        start = 0
        while count + len(block) - start >= size:
            stop = start + size - count
            yield _joined([*waiting, block[start:stop]])
            waiting, count, start = [], 0, stop
        if start < len(block):
            waiting.append(block[start:])
            count += len(block) - start
    if waiting:
        yield _joined(waiting)


def _joined(blocks: Sequence[RowBlock]) -> RowBlock:
    import numpy as np

    if len(blocks) == 1:
        return blocks[0]
    columns = {name: [value for block in blocks for value in block.columns[name]] for name in blocks[0].columns}
    return RowBlock(np.concatenate([block.latents for block in blocks]), columns)


class ShardReader(Protocol):
    """One shard, opened for reading rows in any order."""

    @property
    def rows(self) -> int:
        """How many rows it holds."""

    def latents(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Stored numbers (len(rows), C, h, w) of these rows, in the order asked for, as a new array."""

    def mapped(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
        """The file's bytes, mapped, and where in them each row's numbers begin; None where they must be decoded."""

    def columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Scalar columns, each as a list with one value a row; None where there is none. ``thumbnail`` is bytes."""

    def scalars(self, names: Sequence[str]) -> dict[str, Column]:
        """Scalar columns again, compact: of each value, a Python object is made when it is looked at."""

    def thumbnail_bytes(self) -> int:
        """Bytes of all thumbnails, each as the file it is; 0 where the schema has none."""


class ShardBytes(Protocol):
    """A shard that lies elsewhere: its bytes, by ranges. Several threads may read."""

    @property
    def name(self) -> str:
        """Where it lies, for messages."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` to before ``stop``, in one request."""


class RangedShard(Protocol):
    """One shard that lies elsewhere, opened for reading rows by ranges. Several threads may read."""

    @property
    def rows(self) -> int:
        """How many rows it holds."""

    def stored(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Stored bytes (len(rows), row_bytes) of these rows, which increase, as a new array; neighbours come at once.

        Whether they are the ones that were written is not checked.
        """


def none_known(_: Path, __: ShardSchema, ___: str) -> Sequence[str]:
    """Of a container that opens no shard which deviates."""
    return ()


@dataclass(frozen=True)
class ContainerRow:
    """One container, readable without loading anything heavy."""

    name: str
    suffix: str
    layouts: tuple[str, ...]
    """``fast``: rows are read by byte offset; ``compact``: compressed, decoded once. The first is the default."""
    summary: str
    write: Callable[[Path, ShardSchema, str, Iterable[RowBlock]], None]
    """Write these rows to this path in this layout; bytes depend on nothing else but the library versions."""
    open: Callable[[Path, ShardSchema], ShardReader]
    """Open a shard; raises DamagedShardError naming the file where it cannot be what the schema says."""
    write_index: Callable[[Path, ShardSchema, Mapping[str, Sequence[Any]]], None]
    """Write the scalar columns of all rows, with split, shard and row, to one small file."""
    read_index: Callable[[Path | BinaryIO, Sequence[str] | None, int], dict[str, list[Any]]]
    """Columns of that small file (all, or these), which has so many rows: DamagedShardError, before any is read, where
    it has others, or more would become of it than its size allows."""
    index_arrays: Callable[[Path | BinaryIO, Sequence[str], slice, int], dict[str, Any]]
    """Columns of that small file for a run of its rows, of which there are so many in all: numbers as numpy arrays (a
    missing one is NaN, a missing label -1), anything else as a list. Errors likewise."""
    open_ranges: Callable[[ShardBytes, ShardSchema], RangedShard]
    """Open a shard that lies elsewhere, reading what tells where its rows are; raises DamagedShardError."""
    rows_together: Callable[[ShardSchema, str], int]
    """Rows that, in this layout, can only be read together; 1 where each lies by itself."""
    builder: str
    """Which reader of `datasets` its files need; the card of a repository can only list configs of one."""
    reader_features: Callable[[ShardSchema], Mapping[str, Any]] | None = None
    """Type of each column which that reader gives, in the words of `datasets`; None where the files hold them."""
    deviations: Callable[[Path, ShardSchema, str], Sequence[str]] = none_known
    """How a shard that can be opened is yet not written as this schema and layout ask, a sentence each."""
    name_pattern: str = "{split}-{index:05d}-of-{count:05d}.{suffix}"
    """Of a shard's file."""

    def shard_name(self, split: str, index: int, count: int) -> str:
        """File name of one shard, which is number ``index`` (from 0) of the ``count`` of its split."""
        return self.name_pattern.format(split=split, index=index, count=count, suffix=self.suffix)
