"""Structs in Thrift's compact protocol, which Parquet's footer and page headers are, of bytes that nobody vouches for.

Only the fields that a ``Struct`` names are kept, and each must be of the kind it names; everything else is stepped
over. No count is believed beyond the bytes that are left, and neither depth nor number of values beyond what Parquet
needs, so that time and memory follow from how many bytes there are.
Format: "Thrift Compact protocol encoding".
"""

from __future__ import annotations

from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
"""Kinds of values: the low half of the byte before a field."""
DEEPEST = 16
"""Values in values: Parquet has eight."""
MOST_VALUES = 1 << 20
"""Of one struct with all that is in it. A row group of 15 columns has about 450, so these are two thousand of them."""
LONGEST_INTEGER = 10
"""Bytes: of 64 bits, seven in each."""

Struct = dict[int, Any]
"""What is wanted of a struct, by number of field: a kind, a ``Struct``, or a list with one of the two."""
NOTHING: Struct = {}


def read_struct(buffer: memoryview, wanted: Struct) -> tuple[dict[int, Any], int]:
    """The wanted fields, as far as they are there, of the struct that these bytes begin with, and how many it takes.

    ValueError where there is none. What lies beyond ``buffer`` is not looked at.
    """
    reader = _Reader(buffer)
    try:
        return reader.struct(wanted, 0), reader.at
    except IndexError:
        message = "it ends too early"
        raise ValueError(message) from None


class _Reader:
    """Bytes, and how many of them were read."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._values = 0
        self.at = 0

    def struct(self, wanted: Struct, depth: int) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            kind, step = head & 0x0F, head >> 4
            number = number + step if step else self._integer()
            inner = wanted.get(number)
            if inner is not None and (number in fields or kind != _kind(inner)):
                message = f"its field {number} is there twice, or of another kind"
                raise ValueError(message)
            value = self._value(kind, inner, depth)
            if inner is not None:
                fields[number] = value
        return fields

    def _value(self, kind: int, wanted: Any, depth: int) -> Any:
        self._values += 1
        if self._values > MOST_VALUES or depth > DEEPEST:
            message = "it has more in it than Parquet needs"
            raise ValueError(message)
        if kind in (I16, I32, I64):
            return self._integer()
        if kind == BINARY:
            return self._bytes(self._varint(), keep=wanted is not None)
        if kind == STRUCT:
            return self.struct(wanted or NOTHING, depth + 1)
        if kind == LIST:
            return self._list(wanted, depth + 1)
        if kind in (BYTE, DOUBLE):
            return self._bytes(1 if kind == BYTE else 8, keep=False)
        if kind not in (TRUE, FALSE):
            message = "it has a kind of value that Parquet does not"
            raise ValueError(message)
        return kind == TRUE

    def _list(self, wanted: Any, depth: int) -> list[Any]:
        head = self._byte()
        kind, count = head & 0x0F, head >> 4
        if count == 15:
            count = self._varint()
        if count > len(self._buffer) - self.at:  # there is no value without a byte of its own
            raise IndexError
        inner = wanted[0] if wanted else None
        if wanted and count and kind != _kind(inner):
            message = "a list has values of another kind"
            raise ValueError(message)
        kind = BYTE if kind in (TRUE, FALSE) else kind
        items = []
        for _ in range(count):
            item = self._value(kind, inner, depth)
            if wanted:
                items.append(item)
        return items

    def _byte(self) -> int:
        found = self._buffer[self.at]
        self.at += 1
        return found

    def _bytes(self, count: int, *, keep: bool) -> bytes:
        start = self.at
        self.at += count
        if self.at > len(self._buffer):
            raise IndexError
        return bytes(self._buffer[start : self.at]) if keep else b""

    def _varint(self) -> int:
        value = 0
        for place in range(LONGEST_INTEGER):
            byte = self._byte()
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value
        raise IndexError

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def _kind(wanted: Any) -> int:
    """Of a value that is wanted so."""
    if isinstance(wanted, int):
        return wanted
    return LIST if isinstance(wanted, list) else STRUCT
