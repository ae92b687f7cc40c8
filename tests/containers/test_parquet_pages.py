"""Our own reading of footers and page headers, against pyarrow's."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from latentstore.containers.parquet_pages import ColumnChunk, column_chunks, data_page

TYPES = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64(), "int32": pa.int32()}


def written(path: Path, values: np.ndarray[Any, Any], **options: Any) -> None:
    """Rows of lists of three, beside columns that should not disturb."""
    flat = pa.array(values.reshape(-1))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1, dtype=np.int32) * 3), flat)
    others = pa.array([{"latent": "x" * row, "b": [row]} for row in range(len(values))])
    table = pa.table({"a": others, "latent.b": pa.array(["é"] * len(values)), "latent": lists})
    settings_ = {"compression": "none", "use_dictionary": False, **options}
    pq.write_table(table, path, **settings_)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40),
    dtype=st.sampled_from(sorted(TYPES)),
    group=st.integers(1, 50),
    options=st.sampled_from(
        [{}, {"data_page_version": "2.0"}, {"write_statistics": False}, {"version": "1.0"}, {"write_page_index": True}]
    ),
)
def test_plain_values_lie_where_it_says(rows: int, dtype: str, group: int, options: dict[str, Any]) -> None:
    values = np.random.default_rng(rows).integers(-99, 99, (rows, 3)).astype(dtype)
    if dtype == "float16" and options == {"version": "1.0"}:
        return
    with TemporaryDirectory() as folder:
        path = Path(folder, "x")
        written(path, values, row_group_size=group, **options)
        content = path.read_bytes()
        metadata = pq.ParquetFile(path).metadata
    chunks = column_chunks(memoryview(content), "latent")
    assert [chunk.rows for chunk in chunks] == [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
    found = []
    for number, chunk in enumerate(chunks):
        theirs = metadata.row_group(number).column(3)
        assert theirs.path_in_schema.startswith("latent.")
        size, offset = theirs.total_compressed_size, theirs.data_page_offset
        assert chunk == ColumnChunk(chunk.rows, theirs.num_values, compressed=False, offset=offset, bytes=size)
        page = data_page(memoryview(content), chunk.offset)
        assert page.plain
        assert page.values == chunk.values == 3 * chunk.rows
        assert page.end - page.first == chunk.values * values.itemsize
        assert page.end <= theirs.data_page_offset + theirs.total_compressed_size
        found.append(np.frombuffer(content[page.first : page.end], dtype))
    assert np.array_equal(np.concatenate(found), values.reshape(-1))


def test_compressed_and_otherwise_encoded_chunks_are_told_apart(tmp_path: Path) -> None:
    values = np.zeros((5, 3), np.float32)
    written(tmp_path / "x", values, compression="snappy")
    assert [chunk.compressed for chunk in column_chunks(memoryview((tmp_path / "x").read_bytes()), "latent")] == [True]
    for options in ({"use_dictionary": True}, {"column_encoding": {"latent.list.element": "BYTE_STREAM_SPLIT"}}):
        written(tmp_path / "x", values, **options)
        content = memoryview((tmp_path / "x").read_bytes())
        (chunk,) = column_chunks(content, "latent")
        assert not chunk.compressed
        assert not data_page(content, chunk.offset).plain


def test_a_page_with_missing_values_is_shorter_than_its_count(tmp_path: Path) -> None:
    table = pa.table({"latent": pa.array([[1.0, None, 3.0]], pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "x", compression="none", use_dictionary=False)
    content = memoryview((tmp_path / "x").read_bytes())
    page = data_page(content, column_chunks(content, "latent")[0].offset)
    assert page.values == 3
    assert page.end - page.first == 2 * 4


@example(b"")
@example(b"PAR1PAR1")
@example(b"\x1c" * 5000)  # structs in structs in structs
@example(b"\x19\xfc" + b"\xff" * 20)  # a list of very many
@example(b"\x15" + b"\xff" * 40)  # a number without end
@given(st.binary(max_size=200))
def test_bytes_without_sense_are_a_value_error(content: bytes) -> None:
    for offset in (0, 4, -3, len(content), 10**9):
        try:
            page = data_page(memoryview(content), offset)
        except ValueError as error:
            assert str(error) == "no readable page header"  # noqa: PT017 (either way is right)
        else:
            assert page.end >= page.start or page.values != 0
    footer = content + len(content).to_bytes(4, "little") + b"PAR1"
    try:
        assert isinstance(column_chunks(memoryview(footer), "latent"), list)
    except ValueError as error:
        assert str(error) == "no readable footer"  # noqa: PT017 (either way is right)


@pytest.mark.parametrize("end", [b"PARE", b"PAR2"])
def test_a_file_that_does_not_end_as_parquet_does_is_a_value_error(tmp_path: Path, end: bytes) -> None:
    written(tmp_path / "x", np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="^no readable footer$"):
        column_chunks(memoryview((tmp_path / "x").read_bytes()[:-4] + end), "latent")


def test_a_column_that_is_not_there_is_a_value_error(tmp_path: Path) -> None:
    written(tmp_path / "x", np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="^no readable footer$"):
        column_chunks(memoryview((tmp_path / "x").read_bytes()), "laten")


def test_columns_without_a_row_have_no_page_or_only_a_dictionary() -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"flag": pa.bool_(), "boxes": pa.list_(pa.list_(pa.int64())), "text": pa.string(), "number": pa.float32()}
    file = io.BytesIO()
    pq.write_table(pa.table({name: pa.array([], kind) for name, kind in types.items()}), file, compression="zstd")
    for name in types:
        assert sum(chunk.rows for chunk in column_chunks(memoryview(file.getvalue()), name)) == 0
