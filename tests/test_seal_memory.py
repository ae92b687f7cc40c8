"""What sealing holds of each row: a stated number of bytes, however many rows there are."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentstore.containers.interface import RowBlock, ShardSchema
from latentstore.containers.table import CONTAINERS
from latentstore.duplicates import find_duplicates
from latentstore.manifest import ShardInfo, SplitInfo
from latentstore.metrics.table import METRICS
from latentstore.seal import collect_index, size_ledger, summaries, thumbnail_bytes

SCORES = ("psnr", "ssim", "mae")
SCHEMA = ShardSchema((1, 1, 1), "float16", ("lake", "wood"), SCORES, thumbnail=True)
PARQUET = CONTAINERS["parquet"]
ROWS, TIMES, ROWS_PER_SHARD = 1024, 8, 512
PICTURE = 700
"""Bytes of a thumbnail."""
INDEX_BYTES = 260
"""Of a row of the index: its text as UTF-8, its numbers as they are. Python objects of it take over 600."""
WORKING_BYTES = 160
"""Of a row, while numbers are worked out from the index: some eight bytes for each of a few columns at a time."""


def forged(folder: Path, rows: int) -> dict[str, SplitInfo]:
    """Shards of rows of pictures that all differ."""
    folder.mkdir()
    infos = []
    for number in range(rows // ROWS_PER_SHARD):
        own = range(number * ROWS_PER_SHARD, (number + 1) * ROWS_PER_SHARD)
        columns: dict[str, Sequence[Any]] = {
            "id": [f"lake/{row:08d}" for row in own],
            "label": [row % 2 for row in own],
            "source_path": [f"lake/{row:08d}.jpg" for row in own],
            "source_sha256": [hashlib.sha256(b"%d" % row).hexdigest() for row in own],
            **{name: [1000 + row for row in own] for name in ("height", "width", "source_bytes", "latent_crc32")},
            **{name: [float(row) for row in own] for name in SCORES},
            "thumbnail": [b"%08d" % row * (PICTURE // 8) for row in own],
        }
        name = PARQUET.shard_name("train", number, rows // ROWS_PER_SHARD)
        latents = np.zeros((len(own), *SCHEMA.latent_shape), SCHEMA.dtype)
        PARQUET.write(folder / name, SCHEMA, "compact", [RowBlock(latents, columns)])
        infos.append(ShardInfo(name, len(own), (folder / name).stat().st_size, ""))
    return {"train": SplitInfo(rows, tuple(infos))}


def peak(work: Callable[[], object]) -> int:
    """Bytes that Python and numpy allocate at most while it runs, over those before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def worked_out(index: Mapping[str, Sequence[Any]]) -> None:
    """Everything that the manifest says of the rows."""
    summaries([METRICS[name] for name in SCORES], index, SCHEMA.class_names)
    size_ledger(SCHEMA, index, 1, 1)
    find_duplicates(index)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, dict[str, SplitInfo]]]:
    folder = tmp_path_factory.mktemp("shards")
    found = {rows: (folder / str(rows), forged(folder / str(rows), rows)) for rows in (ROWS, ROWS * TIMES)}
    worked_out(collect_index(found[ROWS][0], PARQUET, SCHEMA, found[ROWS][1]))  # what is imported once
    return found


def per_row(datasets: dict[int, tuple[Path, dict[str, SplitInfo]]], measure: Callable[..., int]) -> float:
    """By how many bytes each further row raises what is measured of a dataset."""
    less, more = (measure(folder, splits) for folder, splits in datasets.values())
    return (more - less) / (ROWS * (TIMES - 1))


def test_the_index_of_a_row_takes_little_more_than_its_values(datasets: Any) -> None:
    def held(folder: Path, splits: dict[str, SplitInfo]) -> int:
        index = collect_index(folder, PARQUET, SCHEMA, splits)
        assert len(index["id"]) == splits["train"].rows
        return sum(column.nbytes for column in index.values())

    assert 100 < per_row(datasets, held) < INDEX_BYTES


def test_collecting_it_makes_no_python_objects_of_the_rows(datasets: Any) -> None:
    grown = per_row(datasets, lambda folder, splits: peak(lambda: collect_index(folder, PARQUET, SCHEMA, splits)))
    assert grown < 30


def test_what_is_worked_out_from_it_takes_some_numbers_a_row(datasets: Any) -> None:
    def working(folder: Path, splits: dict[str, SplitInfo]) -> int:
        index = collect_index(folder, PARQUET, SCHEMA, splits)
        return peak(lambda: worked_out(index))

    assert per_row(datasets, working) < WORKING_BYTES


def test_writing_it_makes_no_python_objects_of_the_rows(datasets: Any, tmp_path: Path) -> None:
    def writing(folder: Path, splits: dict[str, SplitInfo]) -> int:
        index = collect_index(folder, PARQUET, SCHEMA, splits)
        return peak(lambda: PARQUET.write_index(tmp_path / "index.parquet", SCHEMA, index))

    assert per_row(datasets, writing) < 10


def test_thumbnails_are_counted_without_making_python_objects_of_them(datasets: Any) -> None:
    folder, splits = datasets[ROWS * TIMES]
    assert thumbnail_bytes(folder, PARQUET, SCHEMA, splits) == ROWS * TIMES * (PICTURE // 8 * 8)
    counting = peak(lambda: thumbnail_bytes(folder, PARQUET, SCHEMA, splits))
    assert counting < ROWS_PER_SHARD * PICTURE / 3  # the pictures of one shard would take all of it
