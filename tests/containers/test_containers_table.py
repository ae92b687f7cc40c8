"""What every container must do, in each of its layouts."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import shards

from latentstore.containers.interface import ContainerRow, ShardSchema
from latentstore.containers.table import CONTAINERS
from latentstore.hashing import crc32_of
from latentstore.records import LatentRecord
from latentstore.shards import blocks_of

LAYOUTS = [(row, layout) for row in CONTAINERS.values() for layout in row.layouts]
EACH = pytest.mark.parametrize(("row", "layout"), LAYOUTS, ids=[f"{row.name}-{layout}" for row, layout in LAYOUTS])
Shard = tuple[ShardSchema, list[LatentRecord]]


def expected(schema: ShardSchema, record: LatentRecord, name: str) -> Any:
    """The value of a column; undefined scores are None, scores are float32."""
    if name in schema.metrics:
        score = record.scores[name]
        return None if math.isnan(score) else float(np.float32(score))
    if name == "latent_crc32":
        return crc32_of(record.latent[None])[0]
    return record.metadata[name] if name in schema.features else getattr(record, name)


def stacked(schema: ShardSchema, records: list[LatentRecord]) -> np.ndarray[Any, Any]:
    """All latents, (N, C, h, w)."""
    return np.array([record.latent for record in records], schema.dtype).reshape(-1, *schema.latent_shape)


@EACH
@settings(max_examples=40, deadline=None)
@given(shard=shards())
def test_every_number_and_every_column_comes_back_bit_by_bit(row: ContainerRow, layout: str, shard: Shard) -> None:
    schema, records = shard
    with TemporaryDirectory() as folder:
        path = Path(folder, f"x.{row.suffix}")
        row.write(path, schema, layout, blocks_of(iter(records), schema))
        reader = row.open(path, schema)
        assert reader.rows == len(records)
        found = reader.latents(np.arange(len(records)))
        assert found.dtype == np.dtype(schema.dtype)
        assert found.shape == (len(records), *schema.latent_shape)
        assert found.tobytes() == stacked(schema, records).tobytes()
        names = [name for name in schema.columns if name != "latent"]
        columns = reader.columns(names)
    assert list(columns) == names
    for name, values in columns.items():
        assert values == [expected(schema, record, name) for record in records], name


@EACH
@settings(max_examples=25, deadline=None)
@given(shard=shards().filter(lambda shard: len(shard[1]) > 0), data=st.data())
def test_rows_come_in_the_order_asked_for_with_repeats(
    row: ContainerRow, layout: str, shard: Shard, data: st.DataObject
) -> None:
    schema, records = shard
    asked = np.array(data.draw(st.lists(st.integers(0, len(records) - 1), max_size=20)), np.int64)
    with TemporaryDirectory() as folder:
        path = Path(folder, f"x.{row.suffix}")
        row.write(path, schema, layout, blocks_of(records, schema))
        found = row.open(path, schema).latents(asked)
    assert found.shape == (len(asked), *schema.latent_shape)
    assert found.tobytes() == stacked(schema, records)[asked].tobytes()


@EACH
def test_what_was_read_is_the_callers_own(row: ContainerRow, layout: str, tmp_path: Path) -> None:
    schema = ShardSchema((2, 2, 2), "float16", None, ())
    path = tmp_path / f"x.{row.suffix}"
    record = LatentRecord("a", np.ones((2, 2, 2), np.float16), None, 1, 1, "a", "", 0, {})
    row.write(path, schema, layout, blocks_of([record], schema))
    reader = row.open(path, schema)
    reader.latents(np.array([0]))[:] = 7
    assert (reader.latents(np.array([0])) == 1).all()


@EACH
@settings(max_examples=15, deadline=None)
@given(shard=shards())
def test_the_same_records_give_the_same_bytes(row: ContainerRow, layout: str, shard: Shard) -> None:
    schema, records = shard
    with TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("first", "second")]
        for path in paths:
            row.write(path, schema, layout, blocks_of(iter(records), schema))
        first, second = (hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    assert first == second


@pytest.mark.parametrize("row", CONTAINERS.values(), ids=list(CONTAINERS))
@settings(max_examples=25, deadline=None)
@given(shard=shards())
def test_the_index_gives_back_every_column_or_those_asked_for(row: ContainerRow, shard: Shard) -> None:
    schema, records = shard
    columns = {name: [expected(schema, record, name) for record in records] for name in schema.scalar_columns}
    columns |= {"split": ["train"] * len(records), "shard": ["s"] * len(records), "row": list(range(len(records)))}
    with TemporaryDirectory() as folder:
        path = Path(folder, "index")
        row.write_index(path, schema, columns)
        assert row.read_index(path, None, len(columns["row"])) == columns
        assert row.read_index(path, ["row", "id"], len(columns["row"])) == {"row": columns["row"], "id": columns["id"]}


@pytest.mark.parametrize("row", CONTAINERS.values(), ids=list(CONTAINERS))
def test_a_row_names_its_layouts_and_its_files(row: ContainerRow) -> None:
    assert row.layouts
    assert row.suffix.isalnum()
    assert row.summary
