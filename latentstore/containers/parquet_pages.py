"""Where the values of a Parquet column chunk lie in the file, so that rows can be read by byte offset.

A PLAIN, uncompressed page is: page header (Thrift compact protocol) | repetition levels | definition levels | values.
Levels precede the values, so the values are the last ``values * width`` bytes of the page. Only the few header
fields needed here are read. Format: parquet.thrift ``PageHeader``; Thrift "compact protocol" encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DATA_PAGE, DATA_PAGE_V2, PLAIN = 0, 3, 0
# Thrift compact type numbers (a field's low nibble).
TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12


@dataclass(frozen=True)
class DataPage:
    """One data page: how many values it holds, how they are encoded, and where it lies."""

    values: int
    plain: bool
    start: int
    """Byte offset of the first byte after the page header."""
    end: int
    """Byte offset one past the page's last byte."""


def data_page(buffer: memoryview, offset: int) -> DataPage:
    """The data page whose header starts at ``offset``; ValueError where there is none."""
    try:
        header, start = _struct(buffer, offset)
        body = header[{DATA_PAGE: 5, DATA_PAGE_V2: 8}[header[1]]]
        encoding = body[2] if header[1] == DATA_PAGE else body[4]
        return DataPage(values=body[1], plain=encoding == PLAIN, start=start, end=start + header[3])
    except (IndexError, KeyError, TypeError) as error:
        message = "no readable page header"
        raise ValueError(message) from error


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


def _value(buffer: memoryview, at: int, kind: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):
        return kind == TRUE, at
    if kind == BYTE:
        return buffer[at], at + 1
    if kind == DOUBLE:
        return None, at + 8
    if kind == BINARY:
        length, at = _varint(buffer, at)
        return None, at + length
    if kind == STRUCT:
        return _struct(buffer, at)
    if kind in (LIST, SET, MAP):
        raise IndexError  # page headers hold none
    return _zigzag(buffer, at)
