"""Any shard of any container, read by ranges, gives what it gives from disk; damaged bytes give one kind of error."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import shards

from latentstore import CONTAINERS
from latentstore.containers import parquet, row_ranges
from latentstore.containers.interface import RowBlock, ShardSchema
from latentstore.errors import DamagedShardError
from latentstore.shards import blocks_of

LAYOUTS = [(container.name, layout) for container in CONTAINERS.values() for layout in container.layouts]
LAYOUT = pytest.mark.parametrize(("container", "layout"), LAYOUTS)


@dataclass
class InMemory:
    """See ``ShardBytes``."""

    content: bytes
    name: str = "memory://shard"
    asked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.content)

    def read(self, start: int, stop: int) -> bytes:
        assert 0 <= start <= stop <= len(self.content)
        self.asked.append((start, stop))
        return self.content[start:stop]


def written(container: str, layout: str, schema: ShardSchema, records: Any) -> tuple[bytes, np.ndarray[Any, Any]]:
    """The bytes of a shard, and the stored bytes of its rows as they are read from disk, (N, row_bytes)."""
    row = CONTAINERS[container]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "shard"
        row.write(path, schema, layout, blocks_of(records, schema))
        latents = row.open(path, schema).latents(np.arange(len(records)))
        row_bytes = schema.row_values * np.dtype(schema.dtype).itemsize
        stored = np.ascontiguousarray(latents).view(np.uint8).reshape(len(records), row_bytes)
        return path.read_bytes(), stored


@LAYOUT
@given(shard=shards(), data=st.data())
@settings(max_examples=25)
def test_ranges_give_the_bytes_of_any_rows(
    container: str, layout: str, shard: tuple[ShardSchema, Any], data: st.DataObject
) -> None:
    schema, records = shard
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_BYTES", data.draw(st.sampled_from([1, 64, 1 << 20])))
        patch.setattr(row_ranges, "TAIL_BYTES", data.draw(st.sampled_from([8, 700, 1 << 16])))
        patch.setattr(row_ranges, "GAP_BYTES", data.draw(st.sampled_from([0, 100])))
        content, expected = written(container, layout, schema, records)
        opened = CONTAINERS[container].open_ranges(InMemory(content), schema)
        assert opened.rows == len(records)
        if records:
            wanted = np.array(sorted(data.draw(st.sets(st.integers(0, len(records) - 1), min_size=1))), np.int64)
            found = opened.stored(wanted)
            assert found.dtype == np.uint8
            assert np.array_equal(found, expected[wanted])


@LAYOUT
@given(shard=shards(), data=st.data())
@settings(max_examples=25)
def test_damage_is_one_kind_of_error_or_seen_by_the_checksum(
    container: str, layout: str, shard: tuple[ShardSchema, Any], data: st.DataObject
) -> None:
    schema, records = shard
    content, _ = written(container, layout, schema, records)
    damaged = bytearray(content)
    if data.draw(st.booleans()):
        damaged[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del damaged[data.draw(st.integers(0, len(content) - 1)) :]
    try:
        opened = CONTAINERS[container].open_ranges(InMemory(bytes(damaged)), schema)
        rows = np.arange(min(len(records), opened.rows))
        assert opened.stored(rows).shape == (len(rows), schema.row_values * np.dtype(schema.dtype).itemsize)
    except DamagedShardError as error:
        assert "memory://shard" in str(error)  # noqa: PT017 (no error is fine, too)


def test_rows_that_are_neighbours_are_one_request_and_distant_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_ranges, "GAP_BYTES", 5)
    source = InMemory(bytes(range(200)))
    offsets = np.array([0, 10, 25, 41, 100], np.int64)
    found = row_ranges.read_rows(source.read, offsets, 10)
    assert source.asked == [(0, 35), (41, 51), (100, 110)]
    assert found[:, 0].tolist() == offsets.tolist()


def test_a_fast_row_group_is_decoded_where_its_page_is_not_what_the_layout_says(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    schema = ShardSchema((2, 4, 4), "float32", None, (), {})
    latents = np.arange(6 * 32, dtype=np.float32).reshape(6, 2, 4, 4)
    columns = {name: [0] * 6 for name in schema.scalar_columns} | {
        name: ["x"] * 6 for name in ("id", "source_path", "source_sha256")
    }
    path = tmp_path / "shard"
    parquet.write_parquet(path, schema, "fast", [RowBlock(latents, columns)])
    table = pq.read_table(path)
    pq.write_table(table, path, compression="none", use_dictionary=False, data_page_size=64, write_batch_size=16)
    opened = CONTAINERS["parquet"].open_ranges(InMemory(path.read_bytes()), schema)
    rows = np.array([0, 3, 5])
    assert np.array_equal(opened.stored(rows).view(np.float32).reshape(3, 2, 4, 4), latents[rows])


def test_the_headers_before_a_rows_numbers_in_a_tar_are_checked(tmp_path: Path) -> None:
    schema = ShardSchema((2, 4, 4), "float32", None, (), {})
    names = {name: ["x"] * 3 for name in ("id", "source_path", "source_sha256")}
    block = RowBlock(np.zeros((3, 2, 4, 4), np.float32), {**{name: [0] * 3 for name in schema.scalar_columns}, **names})
    path = tmp_path / "shard"
    CONTAINERS["webdataset"].write(path, schema, "fast", [block])
    content = bytearray(path.read_bytes())
    content[content.index(b"0000000001-")] ^= 1  # the name of the second row's numbers
    opened = CONTAINERS["webdataset"].open_ranges(InMemory(bytes(content)), schema)
    opened.stored(np.array([0, 2]))
    with pytest.raises(
        DamagedShardError, match=r"^Shard memory://shard, row 1: its .npy file does not begin as written"
    ):
        opened.stored(np.arange(3))
