"""Columns of an index that stay compact: the same values, numbers and written bytes as lists have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import shards

from latentstore.containers import columns as columns_module
from latentstore.containers.columns import ROWS_AT_ONCE, Column, numbers_of
from latentstore.containers.interface import THUMBNAIL, ContainerRow, ShardSchema
from latentstore.containers.table import CONTAINERS
from latentstore.records import LatentRecord
from latentstore.shards import blocks_of

EACH = pytest.mark.parametrize("row", CONTAINERS.values(), ids=list(CONTAINERS))


def column(*chunks: list[object]) -> Column:
    return Column(pa.chunked_array([pa.array(chunk) for chunk in chunks]))


def test_a_column_is_a_sequence_of_its_values() -> None:
    found = column(["a", None], ["b", "c"])
    assert list(found) == ["a", None, "b", "c"]
    assert (len(found), found[0], found[1], found[-1]) == (4, "a", None, "c")
    assert list(found[1:3]) == [None, "b"]
    assert list(found[3:1]) == []
    assert "b" in found
    with pytest.raises(IndexError):
        found[4]
    with pytest.raises(ValueError, match="neighbouring rows, not with a step of 2"):
        found[::2]


def test_a_column_longer_than_what_is_looked_at_at_once_is_gone_through_whole() -> None:
    count = 2 * ROWS_AT_ONCE + 1
    assert list(Column.counted(count)) == list(range(count))
    assert list(Column.repeated("train", 3)) == ["train"] * 3
    assert list(Column.joined([Column.counted(2), Column.counted(0), Column.counted(1)])) == [0, 1, 0]


@pytest.mark.parametrize("kind", [pa.int64(), pa.int32(), pa.uint32(), pa.float32(), pa.float64(), pa.float16()])
def test_the_numbers_of_a_column_are_those_of_the_list(kind: pa.DataType) -> None:
    values = [1, None, 3, 7, None, None, 2, 5, 9, 11]
    found = Column(
        pa.chunked_array([pa.array(values[:4], kind), pa.array(values[4:], kind).slice(0), pa.array([], kind)])
    )
    for rows in (slice(0, 10), slice(3, 9), slice(6, 6), slice(0, 1)):
        np.testing.assert_array_equal(numbers_of(found[rows]), numbers_of(values[rows]))
    assert numbers_of(found).dtype == np.float64
    assert numbers_of(column([1, 2])).tolist() == [1.0, 2.0]


def test_what_is_joined_is_one_piece_unless_that_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [Column.repeated(name * 10, 4) for name in "abc"]
    assert Column.joined(parts).arrow(pa.string()).num_chunks == 1
    monkeypatch.setattr(columns_module, "CHUNK_BYTES", 150)  # two of them
    found = Column.joined(parts)
    assert found.arrow(pa.string()).num_chunks == 2
    assert list(found) == [name * 10 for name in "abc" for _ in range(4)]


@EACH
@settings(max_examples=30, deadline=None)
@given(shard=shards(), data=st.data())
def test_an_index_of_columns_is_byte_for_byte_that_of_lists(
    row: ContainerRow, shard: tuple[ShardSchema, list[LatentRecord]], data: st.DataObject
) -> None:
    schema, records = shard
    cut = data.draw(st.integers(0, len(records)))
    with TemporaryDirectory() as folder:
        readers = []
        for number, part in enumerate((records[:cut], records[cut:])):
            path = Path(folder, f"{number}.{row.suffix}")
            row.write(path, schema, row.layouts[0], blocks_of(iter(part), schema))
            readers.append(row.open(path, schema))
        scalars = [reader.scalars(schema.scalar_columns) for reader in readers]
        compact = {name: Column.joined([found[name] for found in scalars]) for name in schema.scalar_columns}
        lists = [reader.columns(schema.scalar_columns) for reader in readers]
        listed = {name: [value for found in lists for value in found[name]] for name in schema.scalar_columns}
        assert {name: list(values) for name, values in compact.items()} == listed
        assert list(compact) == list(listed)
        placed: dict[str, list[Any]] = {
            "split": ["train"] * len(records),
            "shard": ["x"] * len(records),
            "row": list(range(len(records))),
        }
        compactly: dict[str, Sequence[Any]] = {
            "split": Column.repeated("train", len(records)),
            "shard": Column.repeated("x", len(records)),
            "row": Column.counted(len(records)),
        }
        row.write_index(Path(folder, "lists"), schema, {**listed, **placed})
        row.write_index(Path(folder, "columns"), schema, {**compact, **compactly})
        assert Path(folder, "columns").read_bytes() == Path(folder, "lists").read_bytes()
        if schema.thumbnail:
            pictures = [picture for reader in readers for picture in reader.columns([THUMBNAIL])[THUMBNAIL]]
            assert sum(reader.thumbnail_bytes() for reader in readers) == sum(map(len, pictures))
        else:
            assert [reader.thumbnail_bytes() for reader in readers] == [0, 0]
