"""The reader of Thrift structs: what was written is read, and bytes of strangers cost no more than they weigh."""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from latentstore.containers import thrift
from latentstore.containers.parquet_pages import FOOTER, PAGE, footer_of, page_header
from latentstore.containers.thrift import BINARY, BYTE, DOUBLE, I32, I64, LIST, STRUCT, TRUE, Struct, read_struct

SECONDS, BYTES = 5.0, 300
"""That reading anything takes at most, of the processor's time; and of memory, for each value."""


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    found = b""
    while number >= 0x80:
        found, number = found + bytes([number & 0x7F | 0x80]), number >> 7
    return found + bytes([number])


def zigzag(number: int) -> bytes:
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def list_of(kind: int, count: int, content: bytes = b"") -> bytes:
    """A list that says so many values, whatever it has."""
    return bytes([0xF0 | kind]) + varint(count) + content


def field(number: int, kind: int, content: bytes) -> bytes:
    return bytes([kind]) + zigzag(number) + content


BILLIONS = list_of(STRUCT, 2**62)
HOSTILE = {
    "nothing": b"",
    "a list of many": b"\x19\xfc" + varint(20_000_000) + b"\0",
    "a list of very many": field(4, LIST, BILLIONS),
    "very many doubles": field(9, LIST, list_of(DOUBLE, 2**62)),
    "very many true ones": field(9, LIST, list_of(TRUE, 2**31)),
    "a long text": field(9, BINARY, varint(2**62)),
    "structs in structs": b"\x1c" * 100_000,
    "lists in lists": b"\x19" + b"\x19" * 100_000,
    "lists of lists of many": field(9, LIST, b"\x29" + list_of(LIST, 100_000, b"\x03" * 100_000) * 2),
    "an integer without end": b"\x15" + b"\xff" * 1000,
    "many small structs": field(4, LIST, list_of(STRUCT, 1_500_000, bytes(1_500_000))) + b"\0",
    "many fields": field(5000, I32, b"\0") * 1_500_000 + b"\0",
    "the same field twice": field(3, I64, zigzag(1)) + field(3, I64, zigzag(2)) + b"\0",
    "a field of another kind": field(3, BINARY, b"\0") + b"\0",
    "a list of another kind": field(4, LIST, list_of(I32, 1, b"\0")) + b"\0",
    "a map": b"\x1b\0\0",
    "a set": b"\x1a\0\0",
    "a kind that there is not": b"\x1e\0",
    "too short": field(3, I64, zigzag(7)),
}


@contextmanager
def untraced() -> Iterator[None]:
    """Without what looks at each line that runs (coverage does), which takes longer than the lines themselves."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


@pytest.mark.parametrize("wanted", [FOOTER, PAGE, {}], ids=["footer", "page", "nothing"])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_count_is_believed_beyond_the_bytes_there_are(name: str, wanted: Struct) -> None:
    begun = time.process_time()
    try:
        with untraced():
            fields, size = read_struct(memoryview(HOSTILE[name]), wanted)
    except ValueError as error:
        assert str(error)  # noqa: PT017 (either way is right, but for the wanted fields)
    else:
        assert size <= len(HOSTILE[name])
        assert set(fields) <= set(wanted)
        assert wanted is not FOOTER or name not in ("the same field twice", "a field of another kind")
    assert time.process_time() - begun < SECONDS


@pytest.mark.parametrize("name", HOSTILE)
def test_memory_follows_from_how_many_values_there_may_be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thrift, "MOST_VALUES", 20_000)
    content = memoryview(HOSTILE[name])
    tracemalloc.start()
    with untraced(), suppress(ValueError):
        read_struct(content, FOOTER)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000 * BYTES


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a list of very many", "it ends too early"),
        ("very many doubles", "it ends too early"),
        ("a long text", "it ends too early"),
        ("an integer without end", "it ends too early"),
        ("structs in structs", "it has more in it than Parquet needs"),
        ("lists in lists", "it has more in it than Parquet needs"),
        ("many small structs", "it has more in it than Parquet needs"),
        ("many fields", "it has more in it than Parquet needs"),
        ("the same field twice", "its field 3 is there twice, or of another kind"),
        ("a field of another kind", "its field 3 is there twice, or of another kind"),
        ("a list of another kind", "a list has values of another kind"),
        ("a map", "it has a kind of value that Parquet does not"),
    ],
)
def test_it_says_why(name: str, sentence: str) -> None:
    with untraced(), pytest.raises(ValueError, match=f"^{sentence}$"):
        read_struct(memoryview(HOSTILE[name]), FOOTER)


@example(b"\x15\x80")
@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_any_bytes_are_a_struct_or_a_value_error(content: bytes) -> None:
    for wanted in (FOOTER, PAGE, {}):
        try:
            fields, size = read_struct(memoryview(content), wanted)
        except ValueError:
            continue
        assert size <= len(content)
        assert set(fields) <= set(wanted)
    for read in (page_header, footer_of):
        try:
            read(memoryview(content))
        except ValueError as error:
            assert str(error).startswith("no readable ")  # noqa: PT017 (either way is right)


VALUES = st.recursive(
    st.tuples(st.just(I64), st.integers(-(2**63), 2**63 - 1)) | st.tuples(st.just(BINARY), st.binary(max_size=20)),
    lambda inner: st.tuples(st.just(STRUCT), st.dictionaries(st.integers(1, 300), inner, max_size=4)),
    max_leaves=12,
)


def written(kind: int, value: Any) -> tuple[bytes, Any, Any]:
    """A value as Thrift writes it, what is wanted of it, and what is read."""
    if kind == I64:
        return zigzag(value), I64, value
    if kind == BINARY:
        return varint(len(value)) + value, BINARY, value
    parts = {number: (of, *written(of, inner)) for number, (of, inner) in value.items()}
    text = b"".join(field(number, of, content) for number, (of, content, _, _) in parts.items())
    ignored = field(999, LIST, list_of(BYTE, 3, b"abc")) + field(998, DOUBLE, bytes(8)) + field(997, TRUE, b"")
    wanted = {number: hint for number, (_, _, hint, _) in parts.items()}
    return text + ignored + b"\0", wanted, {number: found for number, (_, _, _, found) in parts.items()}


@given(st.dictionaries(st.integers(1, 300), VALUES, max_size=6))
def test_what_was_written_is_read_and_what_is_not_wanted_is_stepped_over(value: dict[int, Any]) -> None:
    content, wanted, expected = written(STRUCT, value)
    assert read_struct(memoryview(content + b"beyond"), wanted) == (expected, len(content))
    assert read_struct(memoryview(content), {}) == ({}, len(content))


def test_lists_of_structs_and_numbers_are_read() -> None:
    structs = list_of(STRUCT, 2, field(1, I64, zigzag(5)) + b"\0" + field(2, I64, zigzag(6)) + b"\0")
    content = field(1, LIST, structs) + field(2, LIST, b"\x26" + zigzag(-1) + zigzag(300)) + b"\0"
    assert read_struct(memoryview(content), {1: [{1: I64}], 2: [I64]})[0] == {1: [{1: 5}, {}], 2: [-1, 300]}


def test_an_honest_footer_of_many_row_groups_is_far_from_the_limit() -> None:
    each = 15 * 30  # columns, and values of each
    assert thrift.MOST_VALUES / each > 2000
