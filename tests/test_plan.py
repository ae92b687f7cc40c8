"""Which picture becomes which row, before anything is encoded."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from scenes import plan, scenes

from latentstore import VAES, BuildPlan, Preparation
from latentstore.plan import kept_positions, plan_rows


def rows_of(planned: BuildPlan) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    found = plan_rows(planned, planned.source.open())
    return [(image, piece) for image, piece in found.splits["train"].tolist()], [
        (shard.start, shard.stop) for shard in found.shards()
    ]


@given(count=st.integers(1, 40), per_shard=st.integers(1, 15), seed=st.integers(0, 5))
def test_shards_cut_the_rows_into_equal_parts_without_gaps(count: int, per_shard: int, seed: int) -> None:
    rows, shards = rows_of(plan(source=scenes(count, 8), rows_per_shard=per_shard, seed=seed))
    assert sorted(rows) == [(image, 0) for image in range(count)]
    assert shards[0][0] == 0
    assert shards[-1][1] == count
    assert all(left[1] == right[0] for left, right in pairwise(shards))
    assert all(stop - start == per_shard for start, stop in shards[:-1])


def test_the_permutation_depends_on_the_seed_and_on_nothing_else() -> None:
    first, _ = rows_of(plan())
    assert first == rows_of(plan(batch_size=1, rows_per_shard=5, vae=VAES["demo"]))[0]
    assert first != rows_of(plan(seed=1))[0]


def test_pieces_of_one_picture_stay_together_and_in_order() -> None:
    rows, _ = rows_of(plan(preparation=Preparation(tile=(16, 16))))
    assert len(rows) == 30 * 9
    assert [piece for _, piece in rows] == list(range(9)) * 30


def test_a_shard_holds_128_mib_of_payload_unless_told_otherwise() -> None:
    planned = plan(source=scenes(10, 256), vae=VAES["demo"], rows_per_shard=None)
    assert plan_rows(planned, planned.source.open()).rows_per_shard == (128 << 20) // (16 * 32 * 32 * 2)


def test_shard_names_are_those_of_the_hub() -> None:
    found = plan_rows(plan(), plan().source.open())
    assert [shard.name for shard in found.shards()] == [f"train-{index:05d}-of-00003.parquet" for index in range(3)]


def test_kept_positions_are_the_planned_ones_without_the_skipped() -> None:
    assert kept_positions(5, [1, 3, 3]).tolist() == [0, 2, 4]


def test_the_config_is_named_after_source_and_vae() -> None:
    assert plan().config == "synthetic-pool8"
