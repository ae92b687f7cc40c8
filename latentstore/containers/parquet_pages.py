"""Where the values of a Parquet column lie in the file, so that rows can be read by byte offset.

A PLAIN, uncompressed page is: page header (Thrift compact protocol) | repetition levels | definition levels | values.
Only the few fields needed are read, and the footer is read here and not by pyarrow, whose accessors of column chunks
end the whole process where a damaged footer holds what they do not expect (an unknown codec, a histogram too long).
Format: parquet.thrift ``FileMetaData`` and ``PageHeader``; Thrift "compact protocol" encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAGIC = b"PAR1"
DATA_PAGE, DATA_PAGE_V2, PLAIN, UNCOMPRESSED = 0, 3, 0, 0
# Thrift compact type numbers (a field's low nibble).
TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12


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
class PageHeader:
    """What stands before a data page."""

    values: int
    plain: bool
    bytes: int
    """Of the header itself."""
    levels: int | None
    """Bytes of repetition and definition levels, where the header says so (version 2 of data pages)."""
    page_bytes: int
    """Of the page, as it lies in the file."""


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


def column_chunks(buffer: memoryview, column: str) -> list[ColumnChunk]:
    """The chunk of this top-level column (with one leaf) in each row group; ValueError where there is none."""
    try:
        footer = len(buffer) - 8 - int.from_bytes(buffer[-8:-4], "little")
        if footer < 0 or buffer[-4:] != MAGIC:
            raise IndexError
        groups = _struct(buffer, footer)[0].get(4, [])
        return [_chunk(group, column.encode()) for group in groups]
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        message = "no readable footer"
        raise ValueError(message) from error


def _chunk(group: dict[int, Any], column: bytes) -> ColumnChunk:
    found = next((chunk[3] for chunk in group[1] if chunk[3][3][0] == column), None)
    if found is None:
        raise LookupError
    return ColumnChunk(
        rows=group[3], values=found[5], compressed=found[4] != UNCOMPRESSED, offset=found[9], bytes=found[7]
    )


def data_page(buffer: memoryview, offset: int, *, nested: bool = True) -> DataPage:
    """The data page whose header starts at ``offset``; ValueError where there is none.

    A page of a ``nested`` column has repetition levels before its definition levels.
    """
    at = max(offset, len(MAGIC))
    header = page_header(buffer[at:])
    start = at + header.bytes
    first = start + header.levels if header.levels is not None else _after_block(buffer, start)
    if header.levels is None and nested:
        first = _after_block(buffer, first)
    return DataPage(header.values, header.plain, start, first, end=start + header.page_bytes)


def page_header(buffer: memoryview) -> PageHeader:
    """The page header that these bytes begin with, whether or not the page follows; ValueError where there is none."""
    try:
        header, size = _struct(buffer, 0)
        body = header[{DATA_PAGE: 5, DATA_PAGE_V2: 8}[header[1]]]
        encoding, levels = (body[2], None) if header[1] == DATA_PAGE else (body[4], body[5] + body[6])
        return PageHeader(body[1], encoding == PLAIN, size, levels, page_bytes=header[3])
    except (IndexError, KeyError, TypeError, RecursionError) as error:
        message = "no readable page header"
        raise ValueError(message) from error


def _after_block(buffer: memoryview, at: int) -> int:
    """Offset after a block of levels, which starts with its length in four bytes."""
    return at + 4 + int.from_bytes(buffer[at : at + 4], "little")


def _varint(buffer: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError


def _zigzag(buffer: memoryview, at: int) -> tuple[int, int]:
    value, at = _varint(buffer, at)
    return (value >> 1) ^ -(value & 1), at


def _struct(buffer: memoryview, at: int) -> tuple[dict[int, Any], int]:
    fields: dict[int, Any] = {}
    number = 0
    while (head := buffer[at]) != 0:
        at += 1
        kind, delta = head & 0x0F, head >> 4
        if delta:
            number += delta
        else:
            number, at = _zigzag(buffer, at)
        fields[number], at = _value(buffer, at, kind)
    return fields, at + 1


def _value(buffer: memoryview, at: int, kind: int) -> tuple[Any, int]:  # noqa: PLR0911 (one exit a kind of value)
    if kind in (TRUE, FALSE):
        return kind == TRUE, at
    if kind == BYTE:
        return buffer[at], at + 1
    if kind == DOUBLE:
        return None, at + 8
    if kind == BINARY:
        length, at = _varint(buffer, at)
        return bytes(buffer[at : at + length]), at + length
    if kind == STRUCT:
        return _struct(buffer, at)
    if kind == LIST:
        return _list(buffer, at)
    if kind in (SET, MAP):
        raise IndexError  # the format has none
    return _zigzag(buffer, at)


def _list(buffer: memoryview, at: int) -> tuple[list[Any], int]:
    kind, count = buffer[at] & 0x0F, buffer[at] >> 4
    at += 1
    if count == 15:
        count, at = _varint(buffer, at)
    items = []
    for _ in range(count):
        item, at = _value(buffer, at, BYTE if kind in (TRUE, FALSE) else kind)
        items.append(item)
    return items, at
