"""Small Parquet files that would become large: refused before anything is decoded, in time and memory."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentstore.containers import parquet_limits
from latentstore.containers.interface import RowBlock, ShardSchema
from latentstore.containers.parquet import index_arrays, open_parquet, read_index, write_parquet
from latentstore.containers.parquet_limits import CheckedParquet, Room, check_pages
from latentstore.containers.parquet_pages import footer_of
from latentstore.errors import DamagedShardError

ROWS = 1_000_000
TOO_MUCH = "it would become far more than a file of its size honestly holds"


def repeated(value: Any, kind: pa.DataType, rows: int = ROWS) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), rows)


def in_lists(items: int, kind: pa.DataType) -> pa.Array:
    """Four rows of equal items."""
    offsets = pa.array(np.arange(5, dtype=np.int32) * (items // 4))
    return pa.ListArray.from_arrays(offsets, repeated(1, kind, items))


BOMBS = {
    "numbers": {f"c{number}": repeated(7, pa.int64()) for number in range(12)},
    "floats": {f"c{number}": repeated(7.5, pa.float64()) for number in range(12)},
    "texts": {"c": repeated("x" * 2000, pa.string(), 100_000)},
    "a long text": {"c": repeated("x" * 1_000_000, pa.string(), 2000)},
    "bytes": {"c": repeated(b"x" * 5000, pa.binary(), 20_000)},
    "bytes of fixed length": {"c": repeated(b"x" * 5000, pa.binary(5000), 20_000)},
    "nothing, of fixed length": {"c": pa.nulls(20_000, pa.binary(5000))},
    "numbers in lists": {"c": in_lists(4_000_000, pa.int64())},
    "texts in structs": {"c": pa.StructArray.from_arrays([repeated("x" * 2000, pa.string(), 100_000)], names=["text"])},
}


@pytest.fixture(params=BOMBS)
def bomb(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, pa.Table]:
    table = pa.table(BOMBS[request.param])
    path = tmp_path / "index.parquet"
    pq.write_table(table, path, compression="zstd", row_group_size=ROWS, write_batch_size=1024)
    return path, table


def test_what_would_become_large_is_refused(bomb: tuple[Path, pa.Table]) -> None:
    path, table = bomb
    assert path.stat().st_size < 70_000
    assert table.nbytes > parquet_limits.FREE_BYTES + parquet_limits.GROWTH * path.stat().st_size
    before = pa.total_allocated_bytes()
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(DamagedShardError) as caught:
            read_index(source, None, len(table))
        assert str(caught.value) == f"Index {source} cannot be read: {TOO_MUCH}"
        with pytest.raises(DamagedShardError, match=TOO_MUCH):
            index_arrays(source, table.column_names, slice(0, 1), len(table))
    assert pa.total_allocated_bytes() - before < 32 << 20


def test_texts_in_several_dictionaries_are_counted_as_long_as_they_are(tmp_path: Path) -> None:
    texts = [f"{number} " + "x" * (number % 50) for number in range(300)]
    table = pa.table({"c": texts * 1000, "n": list(range(300_000))})
    path = tmp_path / "index.parquet"
    pq.write_table(table, path, compression="zstd", row_group_size=100_000)
    assert read_index(path, None, 300_000) == table.to_pydict()
    file = CheckedParquet(path)
    longest = max(map(len, texts))
    room = Room(2 * 100_000 * (longest + 8) + (1 << 20))
    file.of_group(0, ["c"], room)
    assert room.bytes >= 0
    with pytest.raises(ValueError, match=TOO_MUCH):
        file.of_group(1, ["c"], Room(100_000 * longest))


def test_counts_are_compared_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "index.parquet"
    pq.write_table(pa.table({"c": [1, 2, 3]}), path)
    monkeypatch.setattr(CheckedParquet, "of_group", None)
    for read in (lambda: read_index(path, None, 2), lambda: index_arrays(path, ["c"], slice(0, 2), 2)):
        with pytest.raises(DamagedShardError) as caught:
            read()
        assert str(caught.value) == f"Index {path} has 3 rows, the manifest says 2."


def test_rows_of_a_split_are_read_from_their_row_groups_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "index.parquet"
    pq.write_table(pa.table({"c": np.arange(100)}), path, row_group_size=10)
    seen: list[int] = []
    real = CheckedParquet.of_group

    def noted(self: CheckedParquet, number: int, *rest: Any, **options: Any) -> Any:
        seen.append(number)
        return real(self, number, *rest, **options)

    monkeypatch.setattr(CheckedParquet, "of_group", noted)
    for start, stop in ((0, 100), (5, 5), (10, 20), (15, 42), (99, 100)):
        seen.clear()
        found = index_arrays(path, ["c"], slice(start, stop), 100)["c"]
        assert found.tolist() == list(range(start, stop))
        assert seen == ([] if start == stop else list(range(start // 10, -(-stop // 10))))


def test_pages_that_are_not_those_of_the_footer_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    pq.write_table(pa.table({"c": np.arange(1000)}), path, compression="none", use_dictionary=False)
    content = path.read_bytes()
    (leaf,) = footer_of(memoryview(content)).groups[0].leaves
    pages = content[leaf.start : leaf.start + leaf.bytes]
    check_pages(memoryview(pages), leaf, Room(1 << 20), 8)
    for wrong in (pages + pages, pages[:-1], b""):
        with pytest.raises(ValueError, match="^its pages are not those of its footer$"):
            check_pages(memoryview(wrong), leaf, Room(1 << 20), 8)
    with pytest.raises(ValueError, match=TOO_MUCH):
        check_pages(memoryview(pages), leaf, Room(1 << 20, pages=0), 8)
    pq.write_table(
        pa.table({"c": ["a" * 9, "a" * 10]}), path, use_dictionary=False, column_encoding={"c": "DELTA_BYTE_ARRAY"}
    )
    with pytest.raises(DamagedShardError, match="its texts are written as beginnings of others"):
        read_index(path, ["c"], 2)


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_latents_that_would_become_more_than_their_rows_are_refused(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentstore.containers.parquet.FREE_BYTES", 0)
    schema = ShardSchema((4, 16, 16), dtype, None, ())
    names = {name: ["x"] * 64 for name in ("id", "source_path", "source_sha256")}
    latents = np.random.default_rng(0).integers(1, 99, (64, 4, 16, 16)).astype(dtype)
    path = tmp_path / "shard"
    write_parquet(
        path, schema, "compact", [RowBlock(latents, {**{name: [0] * 64 for name in schema.scalar_columns}, **names})]
    )
    assert np.array_equal(open_parquet(path, schema).latents(np.arange(64)), latents)
    monkeypatch.setattr("latentstore.containers.parquet.LATENT_GROWTH", 1)
    with pytest.raises(DamagedShardError, match=TOO_MUCH):
        open_parquet(path, schema).latents(np.arange(64))


def test_the_columns_of_a_shard_are_held_to_the_same(tmp_path: Path) -> None:
    schema = ShardSchema((1, 1, 1), "uint8", None, (), {"note": {"dtype": "string", "_type": "Value"}})
    rows = 20_000
    texts = {name: ["x"] * rows for name in ("id", "source_path", "source_sha256")} | {"note": ["y" * 5000] * rows}
    columns: dict[str, list[Any]] = {**{name: [0] * rows for name in schema.scalar_columns}, **texts}
    path = tmp_path / "shard"
    write_parquet(path, schema, "compact", [RowBlock(np.ones((rows, 1, 1, 1), np.uint8), columns)])
    shard = open_parquet(path, schema)
    assert shard.rows == rows
    assert shard.columns(["id"])["id"] == ["x"] * rows
    for read in (shard.columns, shard.scalars):
        with pytest.raises(DamagedShardError, match=TOO_MUCH):
            read(["note"])
