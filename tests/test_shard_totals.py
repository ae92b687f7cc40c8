"""What finished shards add up to, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from latentstore.journal import FinishedShard
from latentstore.manifest import ShardInfo, SplitInfo
from latentstore.shard_totals import ShardTotals, channel_numbers
from latentstore.statistics import ChannelStatistics

LATENTS = np.random.default_rng(0).normal(3, 2, (6, 2, 3, 3))


def finished(number: int, rows: slice, *, bits: float, lost: tuple[float, ...]) -> FinishedShard:
    part = LATENTS[rows]
    return FinishedShard(
        shard=ShardInfo(f"train-{number}.parquet", len(part), 100 + number, "0" * 64),
        statistics=ChannelStatistics.of(part).to_dict(),
        skipped=(),
        entropy_bits=bits,
        clipped=(number, 2),
        lost_db=sum(lost),
        lost_pictures=len(lost),
    )


FIRST = finished(0, slice(0, 2), bits=8.5, lost=(1.0, 2.0))
SECOND = finished(1, slice(2, 6), bits=8.0, lost=(6.0,))
TOTALS = ShardTotals(("train", "empty"), [("train", FIRST), ("train", SECOND)])


def test_a_split_has_its_shards_in_order_and_one_without_shards_is_there_too() -> None:
    assert TOTALS.split_infos == {"train": SplitInfo(6, (FIRST.shard, SECOND.shard)), "empty": SplitInfo(0, ())}


def test_statistics_are_those_of_all_rows_together() -> None:
    found, wanted = TOTALS.statistics(2), channel_numbers(ChannelStatistics.of(LATENTS))
    assert found["train"].count == wanted.count == 54
    assert found["train"].std == pytest.approx(wanted.std)
    assert (found["empty"].count, found["empty"].minimum, found["empty"].maximum) == (0, (0.0, 0.0), (0.0, 0.0))


def test_sizes_and_clipped_numbers_add_up_and_entropy_is_rounded_up_once() -> None:
    assert TOTALS.stored_bytes == 201
    assert TOTALS.entropy_bytes == 3  # 16.5 bits
    assert TOTALS.clipped == (1, 4)


def test_the_loss_is_a_mean_over_pictures_and_unknown_where_none_was_measured() -> None:
    assert TOTALS.measured_loss_db == pytest.approx(3.0)
    silent = finished(0, slice(0, 2), bits=1.0, lost=())
    assert ShardTotals(("train",), [("train", silent)]).measured_loss_db is None
