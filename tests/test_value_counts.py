"""Counting values gives what passing over the numbers gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import latents

from latentstore import STORAGES, entropy
from latentstore.entropy import ByteCounts
from latentstore.statistics import ChannelStatistics
from latentstore.storage.interface import StorageRow
from latentstore.value_counts import WORTH_IT, NumbersTally, ValueCounts

SMALL = [row for row in STORAGES.values() if row.bits <= 16]


def steps(row: StorageRow) -> list[float] | None:
    return [0.25, 0.5, 3.0] if row.quantised else None


@pytest.mark.parametrize("row", SMALL, ids=lambda row: row.name)
def test_bytes_and_statistics_follow_from_the_values(row: StorageRow) -> None:
    storage = row.open(steps(row))
    raw = np.random.default_rng(0).normal(1, 4, (9, 3, 4, 6)).astype(np.float32)
    stored = storage.encode(raw)
    found = ValueCounts.empty(3, storage.dtype)
    found.add(stored[:4])
    found.add(stored[4:])
    assert np.array_equal(found.bytes.counts, ByteCounts.of(stored).counts)
    wanted, statistics = ChannelStatistics.of(storage.decode(stored)), found.statistics(storage)
    assert statistics.count == wanted.count
    np.testing.assert_allclose(statistics.mean, wanted.mean, rtol=1e-12)
    np.testing.assert_allclose(statistics.m2, wanted.m2, rtol=1e-12)
    assert np.array_equal(statistics.minimum, wanted.minimum)
    assert np.array_equal(statistics.maximum, wanted.maximum)


@given(st.data())
def test_every_value_of_float16_is_counted(data: st.DataObject) -> None:
    stored = data.draw(latents((2, 3, 2, 4), "float16"))
    found = ValueCounts.empty(3, np.dtype("<f2"))
    found.add(stored)
    assert np.array_equal(found.bytes.counts, ByteCounts.of(stored).counts)
    wanted = ChannelStatistics.of(stored)
    statistics = found.statistics(STORAGES["float16"].open(None))
    assert np.array_equal(statistics.minimum, wanted.minimum)
    assert np.array_equal(statistics.maximum, wanted.maximum)
    np.testing.assert_allclose(statistics.mean, wanted.mean, rtol=1e-12, atol=1e-12)


def test_a_number_that_is_not_finite_shows_in_the_statistics() -> None:
    stored = np.zeros((1, 1, 2, 2), np.float16)
    stored[0, 0, 1, 1] = np.nan
    found = ValueCounts.empty(1, stored.dtype)
    found.add(stored)
    assert np.isnan(found.statistics(STORAGES["float16"].open(None)).m2).all()


def test_of_nothing_there_are_no_statistics() -> None:
    found = ValueCounts.empty(2, np.dtype("u1"))
    assert found.statistics(STORAGES["int8"].open([1.0, 1.0])).count == 0
    assert found.bytes.bits == 0


def test_wide_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="float32 has too many values to count each of them"):
        ValueCounts.empty(1, np.dtype("<f4"))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_bytes_counted_in_pairs_are_the_same(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(1).normal(100, 20, (5, 2, 3, 4)).astype(dtype)
    one_by_one = ByteCounts.of(numbers).counts
    monkeypatch.setattr(entropy, "PAIRS_FROM", 1)
    assert np.array_equal(ByteCounts.of(numbers).counts, one_by_one)
    assert one_by_one.sum() == numbers.nbytes


@pytest.mark.parametrize("row", STORAGES.values(), ids=lambda row: row.name)
@pytest.mark.parametrize("numbers", [1, WORTH_IT])
def test_a_tally_adds_up_whatever_it_counts_by(row: StorageRow, numbers: int) -> None:
    storage = row.open(steps(row))
    stored = storage.encode(np.random.default_rng(2).normal(1, 4, (9, 3, 4, 6)).astype(np.float32))
    tally = NumbersTally(storage, 3, numbers)
    for block in (stored[:2], stored[2:8], stored[8:]):
        tally.add(block)
    wanted = ChannelStatistics.of(storage.decode(stored))
    assert tally.spoilt == ""
    assert np.array_equal(tally.bytes.counts, ByteCounts.of(stored).counts)
    assert tally.statistics.count == wanted.count
    np.testing.assert_allclose(tally.statistics.mean, wanted.mean, rtol=1e-12)
    np.testing.assert_allclose(tally.statistics.m2, wanted.m2, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("float16", np.nan, "a number that is not finite"),
        ("float16", -np.inf, "a number that is not finite"),
        ("float32", np.inf, "a number that is not finite"),
        ("int8", 0, "the byte 0, which is never written"),
    ],
)
@pytest.mark.parametrize("numbers", [1, WORTH_IT])
def test_a_tally_says_which_number_must_not_be_stored(name: str, bad: Any, words: str, numbers: int) -> None:
    row = STORAGES[name]
    storage = row.open(steps(row))
    stored = storage.encode(np.ones((4, 3, 2, 2), np.float32))
    stored[3, 2, 1, 1] = bad
    for rows, said in ((stored[:2], ""), (stored, words)):
        tally = NumbersTally(storage, 3, numbers)
        tally.add(rows)
        assert tally.spoilt == said
