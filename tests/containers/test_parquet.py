"""Parquet shards: where their bytes lie, files of other writers, and damage."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentstore.containers.interface import ShardSchema
from latentstore.containers.parquet import COMPACT, FAST, LEAF, open_parquet, read_index, write_index, write_parquet
from latentstore.errors import DamagedShardError
from latentstore.records import LatentRecord
from latentstore.shards import blocks_of

SCHEMA = ShardSchema((3, 4, 5), "float16", ("a", "b"), ("psnr",))
LAYOUT = pytest.mark.parametrize("layout", [FAST, COMPACT])


def written_to(path: Path, schema: ShardSchema, layout: str, rows: Iterable[LatentRecord]) -> None:
    write_parquet(path, schema, layout, blocks_of(rows, schema))


def records(schema: ShardSchema = SCHEMA, rows: int = 7) -> list[LatentRecord]:
    """Rows with latents of any value, the same at each call."""
    random = np.random.default_rng(0)
    return [
        LatentRecord(
            id=f"id {row}",
            latent=random.normal(0, 3, schema.latent_shape).astype(schema.dtype),
            label=row % 2,
            height=32,
            width=40,
            source_path=f"{row}.png",
            source_sha256="0" * 64,
            source_bytes=row,
            scores=dict.fromkeys(schema.metrics, 30.0 + row),
        )
        for row in range(rows)
    ]


def latents(schema: ShardSchema = SCHEMA, rows: int = 7) -> np.ndarray[Any, Any]:
    """The same latents, (N, C, h, w)."""
    return np.stack([record.latent for record in records(schema, rows)])


@pytest.fixture(params=[FAST, COMPACT])
def shard(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A shard of seven rows, in each layout."""
    path = tmp_path / "x.parquet"
    written_to(path, SCHEMA, request.param, records())
    return path


def read_all(path: Path, schema: ShardSchema = SCHEMA) -> np.ndarray[Any, Any]:
    """Everything a reader can ask for; gives the latents."""
    reader = open_parquet(path, schema)
    reader.columns(schema.scalar_columns)
    return reader.latents(np.arange(reader.rows))


# Where the bytes lie ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_of_layout_fast_lie_in_the_file_at_their_offsets(tmp_path: Path, dtype: str) -> None:
    schema = replace(SCHEMA, dtype=dtype)
    written_to(tmp_path / "x", schema, FAST, records(schema))
    reader = open_parquet(tmp_path / "x", schema)
    content = (tmp_path / "x").read_bytes()
    assert reader._offsets is not None
    for record, offset in zip(records(schema), reader._offsets.tolist(), strict=True):
        assert content[offset : offset + record.latent.nbytes] == record.latent.tobytes()
    reader.latents(np.array([3]))
    assert reader._decoded is None


@pytest.mark.parametrize(("layout", "groups"), [(FAST, 2), (COMPACT, 2)])
def test_large_latents_fill_several_row_groups_of_one_page_each(tmp_path: Path, layout: str, groups: int) -> None:
    schema = ShardSchema((16, 256, 256), "float32", None, ())  # 4 MiB each, so four a row group
    written = [
        replace(record, latent=np.full(schema.latent_shape, n, np.float32)) for n, record in enumerate(records())
    ]
    written_to(tmp_path / "x", schema, layout, iter(written[:6]))
    metadata = pq.ParquetFile(tmp_path / "x").metadata
    assert metadata.num_row_groups == groups
    assert [metadata.row_group(group).num_rows for group in range(groups)] == [4, 2]
    reader = open_parquet(tmp_path / "x", schema)
    assert (reader._offsets is None) == (layout == COMPACT)
    assert reader.latents(np.array([5, 0, 4, 3, 3]))[:, 0, 0, 0].tolist() == [5, 0, 4, 3, 3]
    assert reader.columns(["id"]) == {"id": [f"id {row}" for row in range(6)]}


def test_layout_compact_is_byte_stream_split_and_zstd_and_fast_is_plain(tmp_path: Path) -> None:
    found = {}
    for layout in (FAST, COMPACT):
        written_to(tmp_path / layout, SCHEMA, layout, records())
        group = pq.ParquetFile(tmp_path / layout).metadata.row_group(0)
        (chunk,) = [c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == LEAF]
        found[layout] = (chunk.compression, set(chunk.encodings) - {"RLE"}, chunk.has_dictionary_page)
    assert found == {
        FAST: ("UNCOMPRESSED", {"PLAIN"}, False),
        COMPACT: ("ZSTD", {"BYTE_STREAM_SPLIT"}, False),
    }


@LAYOUT
def test_pyarrow_alone_reads_the_same_numbers(tmp_path: Path, layout: str) -> None:
    written_to(tmp_path / "x", SCHEMA, layout, records())
    column = pq.read_table(tmp_path / "x").column("latent").combine_chunks()
    assert np.array_equal(np.array(getattr(column, "storage", column).to_pylist(), np.float16), latents())


@LAYOUT
def test_a_shard_without_rows_is_whole(tmp_path: Path, layout: str) -> None:
    written_to(tmp_path / "x", SCHEMA, layout, [])
    assert read_all(tmp_path / "x").shape == (0, 3, 4, 5)


def test_a_row_that_is_not_there_is_an_index_error(shard: Path) -> None:
    with pytest.raises(IndexError):
        open_parquet(shard, SCHEMA).latents(np.array([7]))


# Files of other writers ---------------------------------------------------------------------------------------------

OTHER_WRITERS: dict[str, dict[str, Any]] = {
    "dictionary": {"use_dictionary": True, "compression": "none"},
    "snappy": {"use_dictionary": False, "compression": "snappy"},
    "several pages": {"use_dictionary": False, "compression": "none", "data_page_size": 64, "write_batch_size": 1},
    "several pages, gzip": {"compression": "gzip", "max_rows_per_page": 2, "use_dictionary": False},
    "small row groups": {"use_dictionary": False, "compression": "none", "row_group_size": 2},
    "data pages of version 2": {"use_dictionary": False, "compression": "none", "data_page_version": "2.0"},
    "compressed pages of version 2": {"use_dictionary": False, "compression": "zstd", "data_page_version": "2.0"},
    "byte stream split, uncompressed": {
        "use_dictionary": False,
        "compression": "none",
        "column_encoding": {LEAF: "BYTE_STREAM_SPLIT"},
    },
}


@pytest.mark.parametrize("options", OTHER_WRITERS.values(), ids=OTHER_WRITERS)
def test_files_of_other_writers_are_read_right(shard: Path, options: dict[str, Any]) -> None:
    pq.write_table(pq.read_table(shard), shard, **options)
    assert read_all(shard).tobytes() == latents().tobytes()


def test_single_plain_pages_of_other_writers_are_read_by_offset_too(shard: Path) -> None:
    for number, version in itertools.product((2, 100), ("1.0", "2.0")):
        options = {"row_group_size": number, "data_page_version": version, "use_dictionary": False}
        pq.write_table(pq.read_table(shard), shard, compression="none", **options)
        reader = open_parquet(shard, SCHEMA)
        assert reader._offsets is not None
        assert reader.latents(np.arange(7)).tobytes() == latents().tobytes()


# Damage -------------------------------------------------------------------------------------------------------------


def rewritten(path: Path, latent: pa.Array, **writer: Any) -> None:
    """The shard with another latent column."""
    described = {
        "ARROW:extension:name": "datasets.features.features.Array3DExtensionType",
        "ARROW:extension:metadata": '[[3, 4, 5], "float16"]',
    }
    table = pq.read_table(path)
    table = table.set_column(1, pa.field("latent", latent.type, metadata=described), latent)
    pq.write_table(table, path, **{"compression": "none", "use_dictionary": False, **writer})


def nested() -> list[Any]:
    """The latents as Python lists."""
    found: list[Any] = latents().tolist()
    return found


HALVES = pa.list_(pa.list_(pa.list_(pa.float16())))


def plain_column(values: list[Any]) -> pa.Array:
    return pa.array(values, pa.list_(pa.list_(pa.list_(pa.float32())))).cast(HALVES)


def test_a_missing_number_or_row_is_damage(shard: Path) -> None:
    for place in ((2, 1, 1, 1), (2, 1, 1), (2, 1), (2,)):
        values = nested()
        inner = values
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = None
        rewritten(shard, plain_column(values))
        with pytest.raises(DamagedShardError, match=r"x\.parquet"):
            read_all(shard)


def test_a_row_of_another_shape_is_damage_even_where_the_numbers_add_up(shard: Path) -> None:
    values = nested()
    values[2] = np.array(values[2]).reshape(4, 3, 5).tolist()
    rewritten(shard, plain_column(values), compression="zstd")
    with pytest.raises(DamagedShardError, match=r"x\.parquet cannot be decoded: a row has not the shape \(3, 4, 5\)$"):
        read_all(shard)


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        (replace(SCHEMA, dtype="float32"), "3 nested lists of float and shape [3, 4, 5]"),
        (replace(SCHEMA, latent_shape=(4, 3, 5)), "3 nested lists of halffloat and shape [4, 3, 5]"),
        (replace(SCHEMA, latent_shape=(1, 1, 1)), "3 nested lists of halffloat and shape [1, 1, 1]"),
    ],
)
def test_a_shard_of_another_type_or_shape_is_refused(shard: Path, schema: ShardSchema, found: str) -> None:
    with pytest.raises(DamagedShardError) as caught:
        open_parquet(shard, schema)
    assert str(caught.value) == (
        f"Shard {shard} holds latents of 3 nested lists of halffloat and shape [3, 4, 5], "
        f"its manifest describes {found}."
    )


def test_latents_without_a_shape_are_refused(shard: Path) -> None:
    pq.write_table(pa.table({**{n: [1] for n in SCHEMA.scalar_columns}, "latent": plain_column(nested()[:1])}), shard)
    with pytest.raises(DamagedShardError, match="holds latents of 3 nested lists of halffloat and shape None"):
        open_parquet(shard, SCHEMA)


def test_missing_columns_are_listed(shard: Path) -> None:
    with pytest.raises(DamagedShardError) as caught:
        open_parquet(shard, replace(SCHEMA, metrics=("psnr", "ssim", "mae")))
    assert str(caught.value) == f"Shard {shard} lacks columns that its manifest describes: mae, ssim."
    pq.write_table(pq.read_table(shard).drop_columns(["latent"]), shard)
    with pytest.raises(DamagedShardError, match=r"lacks columns that its manifest describes: latent\.$"):
        open_parquet(shard, SCHEMA)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + bytes(400) + b"PAR1", b"GIF89a" * 99])
def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(DamagedShardError) as caught:
        open_parquet(path, SCHEMA)
    assert str(caught.value).startswith(f"Shard {path} cannot be read as Parquet: ")


def test_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedShardError, match=r"gone\.parquet cannot be read as Parquet"):
        open_parquet(tmp_path / "gone.parquet", SCHEMA)


def test_a_shard_that_was_cut_anywhere_is_refused(shard: Path) -> None:
    content = shard.read_bytes()
    for length in range(0, len(content), 97):
        shard.write_bytes(content[:length])
        with pytest.raises(DamagedShardError, match=r"x\.parquet"):
            open_parquet(shard, SCHEMA)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A shard of each layout that nobody changes."""
    folder = tmp_path_factory.mktemp("intact")
    for layout in (FAST, COMPACT):
        written_to(folder / layout, SCHEMA, layout, records())
    return {layout: folder / layout for layout in (FAST, COMPACT)}


def flipped(path: Path, place: int, bits: int) -> Path:
    """A copy with some bits of one byte changed; places count from the end."""
    content = bytearray(path.read_bytes())
    content[-1 - place % len(content)] ^= bits
    copy = path.with_name("flipped")
    copy.write_bytes(content)
    return copy


@LAYOUT
@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 10_000), bits=st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_leaves_the_shape_but_never_ends_otherwise(
    intact: dict[str, Path], layout: str, place: int, bits: int
) -> None:
    """What is noticed only by the sha256 in the manifest: a changed number."""
    try:
        found = read_all(flipped(intact[layout], place, bits))
    except DamagedShardError as error:
        assert "flipped" in str(error)  # noqa: PT017 (either way is right)
    else:
        assert found.shape == (7, 3, 4, 5)


def test_outside_the_page_of_numbers_a_changed_byte_never_gives_other_numbers(intact: dict[str, Path]) -> None:
    reader = open_parquet(intact[FAST], SCHEMA)
    assert reader._offsets is not None
    first, last = int(reader._offsets[0]), int(reader._offsets[-1]) + latents()[0].nbytes
    size = intact[FAST].stat().st_size
    for place in range(0, size, 5):
        if first <= size - 1 - place < last:
            continue
        try:
            found = read_all(flipped(intact[FAST], place, 1 << place % 8))
        except DamagedShardError:
            continue
        assert found.tobytes() == latents().tobytes(), f"byte {size - 1 - place}"


# Index --------------------------------------------------------------------------------------------------------------


def test_an_undefined_score_is_null_and_an_infinite_one_is_kept(tmp_path: Path) -> None:
    scores = [float("nan"), float("inf"), 31.5]
    written = [replace(record, scores={"psnr": score}) for record, score in zip(records(), scores, strict=False)]
    written_to(tmp_path / "x", SCHEMA, FAST, written)
    assert pq.read_table(tmp_path / "x").column("psnr").to_pylist() == [None, float("inf"), 31.5]
    assert open_parquet(tmp_path / "x", SCHEMA).columns(["psnr"]) == {"psnr": [None, float("inf"), 31.5]}


@pytest.mark.parametrize("content", [b"", b"PAR1PAR1", bytes(99)])
def test_a_damaged_index_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "index.parquet").write_bytes(content)
    with pytest.raises(DamagedShardError) as caught:
        read_index(tmp_path / "index.parquet", None, 3)
    assert str(caught.value).startswith(f"Index {tmp_path / 'index.parquet'} cannot be read: ")


def test_an_index_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "index.parquet"
    columns: dict[str, list[Any]] = {name: [] for name in (*SCHEMA.scalar_columns, "split", "shard", "row")}
    write_index(path, SCHEMA, columns)
    with pytest.raises(DamagedShardError) as caught:
        read_index(path, ["id", "ssim"], 0)
    assert str(caught.value) == f"Index {path} lacks the columns ssim."


def test_a_flipped_bit_among_compressed_numbers_is_noticed_when_they_are_decoded(tmp_path: Path) -> None:
    schema = ShardSchema((4, 16, 16), "float16", None, ())
    rng = np.random.default_rng(0)
    records = [
        LatentRecord(str(row), rng.normal(size=(4, 16, 16)).astype("float16"), None, 1, 1, "", "", 0, {})
        for row in range(8)
    ]
    path = tmp_path / "train-00000-of-00001.parquet"
    written_to(path, schema, "compact", records)
    sound = path.read_bytes()
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(1)
    page = range(chunk.data_page_offset + 60, chunk.data_page_offset + chunk.total_compressed_size)
    for place in page[:: len(page) // 40]:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(DamagedShardError, match=r"train-00000-of-00001\.parquet"):
            open_parquet(path, schema).latents(np.arange(8))
