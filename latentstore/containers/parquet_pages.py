"""Where the values of a Parquet column lie in the file, so that rows can be read by byte offset.

A PLAIN, uncompressed page is: page header (Thrift compact protocol) | repetition levels | definition levels | values.
Only the few fields needed are read, and the footer is read here and not by pyarrow, whose accessors of column chunks
end the whole process where a damaged footer holds what they do not expect (an unknown codec, a histogram too long).
Whatever does not lie within the bytes there are is refused, so nobody has to look at these numbers again.
Format: parquet.thrift ``FileMetaData`` and ``PageHeader``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from latentstore.containers.thrift import BINARY, I32, I64, Struct, read_struct

MAGIC = b"PAR1"
DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3
PLAIN, UNCOMPRESSED = 0, 0
LARGEST_FOOTER = 64 << 20
"""Bytes: a file whose last bytes say more is damaged."""
PAGE_HEADER_BYTES = 1024
"""That a page header of the latent column never exceeds: it has no statistics."""
LARGEST_COUNT = 1 << 53

COLUMN: Struct = {1: I32, 3: [BINARY], 4: I32, 5: I64, 6: I64, 7: I64, 9: I64, 11: I64}
FOOTER: Struct = {2: [{1: I32, 2: I32, 5: I32}], 3: I64, 4: [{1: [{3: COLUMN}], 3: I64}]}
PAGE: Struct = {
    1: I32,
    2: I32,
    3: I32,
    5: {1: I32, 2: I32},
    7: {1: I32, 2: I32},
    8: {1: I32, 4: I32, 5: I32, 6: I32},
}
HEADER_OF = {DATA_PAGE: 5, DICTIONARY_PAGE: 7, DATA_PAGE_V2: 8}
"""Of each kind of page: the field with what is particular to it."""


@dataclass(frozen=True)
class ColumnChunk:
    """One column of one row group."""

    rows: int
    """Of the row group."""
    values: int
    compressed: bool
    offset: int
    """Byte offset of the header of its first data page."""
    bytes: int
    """Of its pages as they lie in the file, page headers included."""


@dataclass(frozen=True)
class LeafChunk:
    """What the footer says of one leaf of a column in one row group."""

    column: str
    """The top-level column that it belongs to."""
    nested: bool
    """Whether the column has more in it than this."""
    kind: int
    """Physical type, as parquet.thrift numbers them."""
    width: int
    """Bytes of a value of fixed length; 0 where the type says it."""
    codec: int
    values: int
    start: int
    """Byte offset of its first page, of whatever kind."""
    offset: int
    """Byte offset of its first data page."""
    bytes: int
    """Of its pages as they lie in the file."""


@dataclass(frozen=True)
class RowGroup:
    """One row group, leaf by leaf."""

    rows: int
    leaves: tuple[LeafChunk, ...]

    def of(self, column: str) -> list[LeafChunk]:
        """The leaves of a column."""
        return [leaf for leaf in self.leaves if leaf.column == column]


@dataclass(frozen=True)
class Footer:
    """What a file says of itself at its end."""

    rows: int
    """Of all row groups."""
    groups: tuple[RowGroup, ...]
    bytes: int
    """Of itself, in the file."""


@dataclass(frozen=True)
class PageHeader:
    """What stands before a page."""

    kind: int
    values: int
    encoding: int
    bytes: int
    """Of the header itself."""
    levels: int | None
    """Bytes of repetition and definition levels, where the header says so (version 2 of data pages)."""
    page_bytes: int
    """Of the page, as it lies in the file."""
    decoded_bytes: int
    """Of the page, decompressed."""

    @property
    def plain(self) -> bool:
        """Whether its values are one after another as they are."""
        return self.encoding == PLAIN


@dataclass(frozen=True)
class DataPage:
    """One data page: how many values it holds, how they are encoded, and where it lies."""

    values: int
    plain: bool
    start: int
    """Byte offset of the first byte after the page header."""
    first: int
    """Byte offset of the first value, which follows the levels (of a page that is not compressed)."""
    end: int
    """Byte offset one past the page's last byte."""


def footer_of(buffer: memoryview, size: int | None = None) -> Footer:
    """What the footer says that these bytes, the last of a file of ``size``, end with; ValueError where there is none.

    By default they are the whole file.
    """
    length = footer_bytes(buffer[-8:])
    size = len(buffer) if size is None else size
    if length + 8 > len(buffer):
        raise no_footer()
    try:
        fields, _ = read_struct(buffer[len(buffer) - 8 - length : len(buffer) - 8], FOOTER)
        leaves = [element for element in fields[2] if 1 in element]
        groups = tuple(_group(group, leaves, size) for group in fields.get(4, []))
        if _within(fields[3]) != sum(group.rows for group in groups):
            raise no_footer()
        return Footer(fields[3], groups, length)
    except (LookupError, ValueError) as error:
        raise no_footer() from error


def footer_bytes(end: memoryview | bytes) -> int:
    """How long the footer is, as the last eight bytes of a file say; ValueError where there is none."""
    length = int.from_bytes(end[-8:-4], "little")
    if len(end) < 8 or end[-4:] != MAGIC or length > LARGEST_FOOTER:
        raise no_footer()
    return length


def column_chunks(buffer: memoryview, column: str) -> list[ColumnChunk]:
    """The chunk of this top-level column (with one leaf) in each row group; ValueError where there is none."""
    return chunks_of(footer_of(buffer), column)


def chunks_of(footer: Footer, column: str) -> list[ColumnChunk]:
    """The same of a file whose footer was read."""
    return [_chunk(group, column) for group in footer.groups]


def _chunk(group: RowGroup, column: str) -> ColumnChunk:
    leaves = group.of(column)
    if not leaves:
        raise no_footer()
    leaf = leaves[0]
    compressed = leaf.codec != UNCOMPRESSED
    return ColumnChunk(rows=group.rows, values=leaf.values, compressed=compressed, offset=leaf.offset, bytes=leaf.bytes)


def _group(fields: dict[int, Any], leaves: list[dict[int, int]], size: int) -> RowGroup:
    chunks = [chunk[3] for chunk in fields[1]]
    if len(chunks) != len(leaves):
        raise LookupError
    described = zip(chunks, leaves, strict=True)
    return RowGroup(_within(fields[3]), tuple(_leaf(chunk, leaf, size) for chunk, leaf in described))


def _leaf(fields: dict[int, Any], element: dict[int, int], size: int) -> LeafChunk:
    path, offset, length = fields[3], fields[9], fields[7]
    before = fields.get(11, 0)
    empty = offset == 0 == fields[5]  # there is no data page, and without a dictionary no page at all
    start = before if before > 0 and (before < offset or empty) else len(MAGIC) if empty else offset
    if fields[1] != element[1] or not len(MAGIC) <= start <= start + length <= size:
        raise LookupError
    return LeafChunk(
        column=path[0].decode(),
        nested=len(path) > 1,
        kind=fields[1],
        width=_within(element.get(2, 0)),
        codec=fields[4],
        values=_within(fields[5]),
        start=start,
        offset=offset,
        bytes=length,
    )


def _within(count: int) -> int:
    if not 0 <= count <= LARGEST_COUNT:
        raise LookupError
    return count


def data_page(buffer: memoryview, offset: int, *, nested: bool = True) -> DataPage:
    """The data page whose header starts at ``offset``; ValueError where there is none.

    A page of a ``nested`` column has repetition levels before its definition levels.
    """
    at = max(offset, len(MAGIC))
    header = page_header(buffer[at : at + PAGE_HEADER_BYTES])
    start = at + header.bytes
    if header.kind == DICTIONARY_PAGE:
        raise _no_header()
    first = start + header.levels if header.levels is not None else _after_block(buffer, start)
    if header.levels is None and nested:
        first = _after_block(buffer, first)
    return DataPage(header.values, header.plain, start, first, end=start + header.page_bytes)


def page_header(buffer: memoryview) -> PageHeader:
    """The page header that these bytes begin with, whether or not the page follows; ValueError where there is none."""
    try:
        header, size = read_struct(buffer, PAGE)
        kind = header[1]
        body = header[HEADER_OF[kind]]
        encoding, levels = (body[4], body[5] + body[6]) if kind == DATA_PAGE_V2 else (body[2], None)
        for count in (body[1], header[2], header[3], levels or 0):
            _within(count)
        return PageHeader(kind, body[1], encoding, size, levels, page_bytes=header[3], decoded_bytes=header[2])
    except (LookupError, ValueError) as error:
        raise _no_header() from error


def _after_block(buffer: memoryview, at: int) -> int:
    """Offset after a block of levels, which starts with its length in four bytes."""
    return at + 4 + int.from_bytes(buffer[at : at + 4], "little")


def no_footer() -> ValueError:
    """The error of a file whose footer makes no sense."""
    return ValueError("no readable footer")


def _no_header() -> ValueError:
    return ValueError("no readable page header")
