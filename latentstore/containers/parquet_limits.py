"""Columns of a Parquet file that nobody vouches for: what reading them takes is found out before anything is decoded.

A page says how large it becomes, but a few bytes can also say a number, or a text of a dictionary, a million times
over. So the headers of all pages are gone through first: what they hold must be what the footer says, and what becomes
of it must be in proportion to the file.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from latentstore.containers.parquet_pages import (
    DICTIONARY_PAGE,
    UNCOMPRESSED,
    Footer,
    LeafChunk,
    PageHeader,
    RowGroup,
    footer_bytes,
    footer_of,
    no_footer,
    page_header,
)

if TYPE_CHECKING:
    import pyarrow as pa

FREE_BYTES = 16 << 20
"""That may become of any file."""
GROWTH = 1000
"""Times its bytes that may become of a file besides: of honest ones, a tenth of that does at most."""
LATENT_GROWTH = 16
"""Times its numbers that decoding the latents of a row group may take: levels, offsets of lists, pages."""
MOST_PAGES = 1 << 18
"""That are gone through: at 20,000 rows each, five billion values."""
HEADER_BYTES = 64 << 10
"""Of a page header, at most: it may have the smallest and the largest text of the page."""
SMALL_DICTIONARY = 1 << 20
"""Bytes that may become of a dictionary in whose texts nobody looks for the longest."""

BOOLEAN, INT32, INT64, INT96, FLOAT, DOUBLE, BYTE_ARRAY, FIXED = range(8)
TEXT_WIDTH = 8
"""Bytes that a text takes besides its own."""
WIDTHS = {BOOLEAN: 1, INT32: 4, INT64: 8, INT96: 12, FLOAT: 4, DOUBLE: 8, BYTE_ARRAY: TEXT_WIDTH}
"""Bytes of a value of each physical type that has one length."""
NESTED_WIDTH = 16
"""Of a value in lists or structs, besides: levels, and where lists begin."""
DICTIONARY_ENCODINGS, PREFIX_ENCODING = frozenset({2, 8}), 7
CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}

Read = Callable[[int, int], Any]
"""The bytes of a file from one offset to before another."""


@dataclass
class Room:
    """How much may still become of a file."""

    bytes: int
    pages: int = MOST_PAGES

    def take(self, count: int, pages: int = 0) -> None:
        """ValueError where there is not so much left."""
        self.bytes -= count
        self.pages -= pages
        if min(self.bytes, self.pages) < 0:
            message = "it would become far more than a file of its size honestly holds"
            raise ValueError(message)


class CheckedParquet:
    """A Parquet file whose columns are read a row group at a time, each once it is known what it takes."""

    def __init__(
        self, source: Path | BinaryIO, *, checksums: bool = False, known: tuple[Footer, Any] | None = None
    ) -> None:
        """ValueError where it has no footer that makes sense.

        ``checksums`` are those of pages; ``known`` is the footer, as it is read here and by pyarrow.
        """
        import pyarrow.parquet as pq

        self._read, size, source = _access(source)
        self.footer = known[0] if known else footer_read(self._read, size)
        self.file = pq.ParquetFile(source, metadata=known and known[1], page_checksum_verification=checksums)
        if known is None and not _agree(self.footer, self.file.metadata):
            raise no_footer()
        self._room = Room(FREE_BYTES + GROWTH * size)

    @property
    def rows(self) -> int:
        """Of all row groups."""
        return self.footer.rows

    def lacking(self, names: Sequence[str]) -> list[str]:
        """Those of these columns that it does not have, sorted."""
        return sorted(set(names) - set(self.file.schema_arrow.names))

    def _no_rows(self, names: Sequence[str]) -> pa.Table:
        """These columns without a row; ``Schema.empty_table`` would import pandas."""
        import pyarrow as pa

        return pa.Table.from_batches([], schema=self.file.schema_arrow).select(list(names))

    def columns(
        self, names: Sequence[str], rows: slice | None = None, *, threads: bool = True
    ) -> dict[str, pa.ChunkedArray]:
        """Columns, of these rows or all of them."""
        import pyarrow as pa

        start, stop = (0, self.rows) if rows is None else (rows.start, rows.stop)
        parts, end = [self._no_rows(names)], 0
        for number, group in enumerate(self.footer.groups):
            first, end = end, end + group.rows
            low, high = max(first, start), min(end, stop)
            if low < high:
                parts.append(self.of_group(number, names, threads=threads).slice(low - first, high - low))
        table = pa.concat_tables(parts[1:] or parts)
        return {name: table.column(name) for name in names}

    def of_group(
        self, number: int, names: Sequence[str], room: Room | None = None, *, threads: bool = True
    ) -> pa.Table:
        """Columns of one row group; ``room`` is for what is needed of it, where it is not the file's."""
        for name in names:
            self._check(self.footer.groups[number], name, self._room if room is None else room)
        return self.file.read_row_group(number, columns=list(names), use_threads=threads)

    def _check(self, group: RowGroup, name: str, room: Room) -> None:
        """ValueError unless the column of a row group is what the footer says, and ``room`` is enough for it."""
        leaves = group.of(name)
        if not leaves:
            message = f"a row group lacks its column {name!r}"
            raise ValueError(message)
        kind = self.file.schema_arrow.field(name).type
        width = width_of(kind)
        room.take(group.rows * slots_of(kind) * width)
        start, stop = min(leaf.start for leaf in leaves), max(leaf.start + leaf.bytes for leaf in leaves)
        content = memoryview(self._read(start, stop))
        for leaf in leaves:
            check_pages(content[leaf.start - start :][: leaf.bytes], leaf, room, width)


def _agree(footer: Footer, metadata: Any) -> bool:
    """Whether pyarrow understands the same bytes as we do."""
    theirs = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return (metadata.num_rows, theirs) == (footer.rows, [group.rows for group in footer.groups])


def footer_read(read: Read, size: int) -> Footer:
    """The footer of a file of so many bytes; ValueError where there is none."""
    length = footer_bytes(read(max(0, size - 8), size))
    return footer_of(memoryview(read(max(0, size - 8 - length), size)), size)


def slots_of(kind: pa.DataType) -> int:
    """Places for values that a row of this type has at least, be it null or empty."""
    import pyarrow as pa

    inner = sum(slots_of(kind.field(place).type) for place in range(kind.num_fields))
    return max(1, inner) * (kind.list_size if pa.types.is_fixed_size_list(kind) else 1)


def width_of(kind: pa.DataType) -> int:
    """Bytes in memory of a value of this type, or of the widest in it; of a text, what it takes besides its bytes."""
    inner = [width_of(kind.field(place).type) for place in range(kind.num_fields)]
    if inner:
        return max(inner)
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:  # not fixed
        return TEXT_WIDTH


def check_pages(content: memoryview, leaf: LeafChunk, room: Room, width: int) -> None:
    """ValueError unless these are the pages that the footer says, and ``room`` is enough for what becomes of them.

    ``width`` is that of a value in memory, if it is more than in the file.
    """
    width = max(width, leaf.width, WIDTHS.get(leaf.kind, 0))
    room.take(leaf.values * (width + (NESTED_WIDTH if leaf.nested else 0)))
    values = longest = at = 0
    while at < len(content):
        header = page_header(content[at : at + HEADER_BYTES])
        start, at = at + header.bytes, at + header.bytes + header.page_bytes
        room.take(header.decoded_bytes, pages=1)
        if header.kind == DICTIONARY_PAGE:
            longest = _longest(content[start:at], header, leaf) if leaf.kind == BYTE_ARRAY else 0
            continue
        values += header.values
        room.take(header.values * longest if header.encoding in DICTIONARY_ENCODINGS else 0)
        if header.encoding == PREFIX_ENCODING:
            message = "its texts are written as beginnings of others, which nobody knows the size of"
            raise ValueError(message)
    if values != leaf.values or at != len(content):
        message = "its pages are not those of its footer"
        raise ValueError(message)


def _longest(page: memoryview, header: PageHeader, leaf: LeafChunk) -> int:
    """Bytes of the longest text in the page with the dictionary of a leaf, or more."""
    if header.decoded_bytes * leaf.values <= SMALL_DICTIONARY:
        return header.decoded_bytes
    content = _decompressed(page, header, leaf.codec)
    at = longest = 0
    for _ in range(header.values):
        if at + 4 > len(content):
            message = "its dictionary ends too early"
            raise ValueError(message)
        length = int.from_bytes(content[at : at + 4], "little")
        longest, at = max(longest, length), at + 4 + length
    return longest


def _decompressed(page: memoryview, header: PageHeader, codec: int) -> memoryview:
    import pyarrow as pa

    if codec == UNCOMPRESSED:
        return page
    return memoryview(pa.decompress(page, decompressed_size=header.decoded_bytes, codec=CODECS[codec]))


def _access(source: Path | BinaryIO) -> tuple[Read, int, Any]:
    """How to read a file, how many bytes it has, and what pyarrow reads it by; a file is mapped once for both."""
    import pyarrow as pa

    if isinstance(source, Path):
        content = mapped_bytes(source)
        return (lambda start, stop: content[start:stop]), len(content), pa.BufferReader(pa.py_buffer(content))

    def read(start: int, stop: int) -> bytes:
        source.seek(start)
        return source.read(stop - start)

    return read, source.seek(0, io.SEEK_END), source


def mapped_bytes(path: Path) -> memoryview:
    """The bytes of a file, mapped for as long as anything refers to them: the traceback of an error may."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
