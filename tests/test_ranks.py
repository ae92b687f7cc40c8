"""Four processes train on one dataset: together they get every row, none of them twice."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from ranks import served
from scenes import build_scenes, scenes

from latentstore import load_latents, open_store

RANKS = 4
JOBS: dict[str, dict[str, Any]] = {
    f"{way}, {shuffle}, {condition}": {
        "load": {"streaming": way == "streamed", "filter": condition},
        "loader": {"shuffle": shuffle, "seed": 5},
    }
    for way, shuffle, condition in product(
        ("mapped", "streamed"), (False, True, "full", "block"), (None, "label != 'lake'")
    )
    if (way, shuffle) != ("streamed", "full")
}


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 rows in 11 shards of 3 rows, the last of 2."""
    out = tmp_path_factory.mktemp("ranks")
    build_scenes(out, source=scenes(32, 16), rows_per_shard=3, batch_size=3, metrics=())
    return out


def test_four_processes_together_serve_every_row_exactly_once(sharded: Path, tmp_path: Path) -> None:
    everything = open_store(sharded).index(["id"])["id"]
    without = load_latents(sharded, columns=["id"], filter="label != 'lake'")[:]["id"]
    assert len(everything) % RANKS == 0
    assert len(without) % RANKS != 0
    found = served(sharded, list(JOBS.values()), RANKS, tmp_path)
    for (name, job), ranks in zip(JOBS.items(), found, strict=True):
        expected = without if job["load"]["filter"] else everything
        together = [row for rank in ranks for row in rank]
        assert sorted(together) == sorted(expected), name
        assert all(ranks), name
        if not job["load"]["streaming"]:
            assert max(map(len, ranks)) - min(map(len, ranks)) <= 1, name
