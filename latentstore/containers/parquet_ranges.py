"""Rows of a Parquet shard that lies elsewhere, by range requests.

Opening reads the footer. In layout ``fast`` the rows of a row group that are neighbours are one range, after its page
header was read; in layout ``compact`` the column chunk is the unit: pyarrow asks for exactly its bytes, and decodes it.
"""

from __future__ import annotations

import io
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from latentstore.containers.arrow_features import BYTES
from latentstore.containers.arrow_numbers import byte_values, leaf_values
from latentstore.containers.damage import damage_to
from latentstore.containers.parquet_limits import FREE_BYTES, LATENT_GROWTH, CheckedParquet, Room, footer_read
from latentstore.containers.parquet_pages import PAGE_HEADER_BYTES, ColumnChunk, chunks_of, page_header
from latentstore.containers.row_ranges import KeptTail, read_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.containers.interface import ShardBytes, ShardSchema


def open_parquet_ranges(source: ShardBytes, schema: ShardSchema) -> RangedParquet:
    """Open one shard that lies elsewhere; see ``ContainerRow.open_ranges``."""
    return RangedParquet(source, schema)


class RangedParquet:
    """One Parquet shard that lies elsewhere. Several threads may read from it."""

    def __init__(self, source: ShardBytes, schema: ShardSchema) -> None:
        self._source = source
        self._schema = schema
        self._dtype = np.dtype(schema.dtype).newbyteorder("<")
        self._row_bytes = schema.row_values * self._dtype.itemsize
        self._nested = schema.dtype != BYTES
        with damage_to(f"Shard {source.name} cannot be read as Parquet"):
            self._tail = KeptTail(source)
            self._footer = footer_read(self._tail.read, self._tail.size)
            self._chunks = chunks_of(self._footer, "latent")
            each = schema.row_values if self._nested else 1
            if any(chunk.values != chunk.rows * each for chunk in self._chunks):
                message = "its row groups do not hold whole latents"
                raise ValueError(message)
        self._starts = np.cumsum([0, *(chunk.rows for chunk in self._chunks)])
        self.rows = int(self._starts[-1])
        self._first: dict[int, int | None] = {}

    def stored(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See ``RangedShard.stored``."""
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        parts = [np.empty((0, self._row_bytes), np.uint8)]
        with damage_to(f"Shard {self._source.name} cannot be decoded"):
            for group in np.unique(groups).tolist():
                within = rows[groups == group] - self._starts[group]
                first = self._first_value(group)
                if first is None:
                    parts.append(self._decoded(group)[within])
                else:
                    parts.append(read_rows(self._tail.read, first + self._row_bytes * within, self._row_bytes))
        return np.concatenate(parts[1:] if len(parts) > 1 else parts)

    def _first_value(self, group: int) -> int | None:
        """Offset of the first number of a row group; None where it is not one plain page."""
        if group not in self._first:
            chunk = self._chunks[group]
            self._first[group] = None if chunk.compressed else self._after_levels(chunk)
        return self._first[group]

    def _after_levels(self, chunk: ColumnChunk) -> int | None:
        payload = chunk.rows * self._row_bytes
        text = self._tail.read(chunk.offset, min(chunk.offset + PAGE_HEADER_BYTES, self._tail.size))
        header = page_header(memoryview(text))
        whole = header.values == chunk.values and header.bytes + header.page_bytes == chunk.bytes
        if not header.plain or not whole or header.page_bytes < payload:
            return None
        # The values end with the page; how long the levels before them are need not be read. (Were one of the values
        # missing, there would be fewer, and the row's checksum another.)
        return chunk.offset + chunk.bytes - payload

    def _decoded(self, group: int) -> NDArray[np.uint8]:
        """Every row of a row group, (N, row_bytes)."""
        known = (self._footer, self._metadata)
        file = CheckedParquet(cast("BinaryIO", RangedFile(self._tail)), checksums=True, known=known)
        room = Room(FREE_BYTES + LATENT_GROWTH * self._chunks[group].rows * self._row_bytes)
        parts = [
            leaf_values(chunk, self._schema.latent_shape) if self._nested else byte_values(chunk)
            for chunk in file.of_group(group, ["latent"], room).column("latent").chunks
        ]
        numbers = np.ascontiguousarray(np.concatenate(parts), self._dtype if self._nested else np.uint8)
        return numbers.view(np.uint8).reshape(self._chunks[group].rows, self._row_bytes)

    @cached_property
    def _metadata(self) -> Any:
        import pyarrow.parquet as pq

        footer = self._tail.read(self._tail.size - 8 - self._footer.bytes, self._tail.size)
        return pq.read_metadata(io.BytesIO(footer))  # of the file itself it would read 64 KiB


class RangedFile(io.RawIOBase):
    """A file to read from, of which only the bytes that are asked for are fetched: each ``read`` is one range.

    What lies in one of them is not asked for again.
    """

    def __init__(self, tail: KeptTail) -> None:
        self._tail = tail
        self._at = 0
        self._kept: list[tuple[int, bytes]] = []

    def readable(self) -> bool:
        """That it can be read."""
        return True

    def seekable(self) -> bool:
        """That it can be read anywhere."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._tail.size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer only at the end of the file."""
        stop = self._tail.size if size is None or size < 0 else min(self._tail.size, self._at + size)
        inside = (kept for kept in self._kept if kept[0] <= self._at <= stop <= kept[0] + len(kept[1]))
        kept = next(inside, None)
        if kept is None:
            kept = (self._at, self._tail.read(self._at, max(self._at, stop)))
            self._kept.append(kept)
        found = kept[1][self._at - kept[0] : stop - kept[0]]
        self._at += len(found)
        return found
