"""Channel statistics: merging any parts gives the whole, precisely."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentstore.statistics import ChannelStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray


@st.composite
def batches(draw: st.DrawFn) -> NDArray[Any]:
    """Latents (N, C, h, w) of any float dtype, off centre by up to a thousand standard deviations."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([1e-3, 1.0, 10.0]))
    values = spread * (random.standard_normal(shape) + draw(st.sampled_from([0.0, -3.0, 1000.0])))
    return values.astype(draw(st.sampled_from([np.float16, np.float32, np.float64])))


def assert_close(found: ChannelStatistics, expected: ChannelStatistics, tolerance: float = 1e-10) -> None:
    """Equal counts and ranges; mean and squares to a tolerance relative to the size of the values."""
    size = np.maximum(np.abs(expected.minimum), np.abs(expected.maximum))
    assert found.count == expected.count
    assert found.minimum.tolist() == expected.minimum.tolist()
    assert found.maximum.tolist() == expected.maximum.tolist()
    assert (np.abs(found.mean - expected.mean) <= tolerance * size).all()
    # A spread below the rounding of the values themselves is noise.
    noise = expected.count * (1e-14 * size) ** 2
    assert (np.abs(found.m2 - expected.m2) <= tolerance * expected.m2 + noise).all()


@given(batches())
def test_one_batch_matches_numpy(latents: NDArray[Any]) -> None:
    statistics = ChannelStatistics.of(latents)
    wide = latents.astype(np.float64)
    size = np.abs(wide).max()
    assert statistics.count == latents[:, 0].size
    np.testing.assert_allclose(statistics.mean, wide.mean(axis=(0, 2, 3)), rtol=1e-12, atol=1e-12 * size)
    np.testing.assert_allclose(statistics.std, wide.std(axis=(0, 2, 3)), rtol=1e-9, atol=1e-12 * size)
    assert statistics.minimum.tolist() == wide.min(axis=(0, 2, 3)).tolist()
    assert statistics.maximum.tolist() == wide.max(axis=(0, 2, 3)).tolist()


@given(batches(), st.lists(st.integers(0, 12), max_size=5))
def test_merging_any_parts_gives_the_whole(latents: NDArray[Any], cuts: list[int]) -> None:
    parts = [ChannelStatistics.of(part) for part in np.split(latents, sorted(min(cut, len(latents)) for cut in cuts))]
    merged = functools.reduce(ChannelStatistics.merge, parts, ChannelStatistics.empty(latents.shape[1]))
    assert_close(merged, ChannelStatistics.of(latents))


@given(batches(), st.integers(0, 12), st.integers(0, 12))
def test_merging_is_associative_and_commutative(latents: NDArray[Any], first: int, second: int) -> None:
    cuts = sorted((min(first, len(latents)), min(second, len(latents))))
    a, b, c = (ChannelStatistics.of(part) for part in np.split(latents, cuts))
    assert_close(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert a.merge(b) == b.merge(a)


def test_a_small_spread_far_from_zero_survives_many_merges() -> None:
    random = np.random.default_rng(0)
    exact = random.standard_normal((500, 3, 4, 4)) * 1e-2
    shifted = 1e4 + exact
    merged = functools.reduce(ChannelStatistics.merge, (ChannelStatistics.of(shifted[i : i + 1]) for i in range(500)))
    # The shift itself rounds each value by up to 1e-12, a ten-billionth of the spread.
    np.testing.assert_allclose(merged.std, exact.std(axis=(0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(merged.mean - 1e4, exact.mean(axis=(0, 2, 3)), atol=1e-10)


def test_float16_is_summed_in_float64() -> None:
    latents = np.full((40, 1, 64, 64), 60_000, dtype=np.float16)
    latents[::2] = 59_968
    statistics = ChannelStatistics.of(latents)
    assert statistics.mean.tolist() == [59_984.0]
    assert statistics.std.tolist() == [16.0]
    assert statistics.mean.dtype == statistics.m2.dtype == statistics.minimum.dtype == np.float64


def test_channels_are_kept_apart() -> None:
    latents = np.stack([np.full((2, 2), 1.0), np.array([[0.0, 4.0], [0.0, 4.0]])])[None]
    statistics = ChannelStatistics.of(latents)
    assert statistics.mean.tolist() == [1.0, 2.0]
    assert statistics.std.tolist() == [0.0, 2.0]
    assert statistics.minimum.tolist() == [1.0, 0.0]
    assert statistics.maximum.tolist() == [1.0, 4.0]


def test_a_view_gives_the_same_as_its_copy_and_is_left_alone() -> None:
    latents = np.random.default_rng(0).standard_normal((3, 2, 5, 4))
    view = latents.transpose(0, 1, 3, 2)
    before = view.copy()
    assert ChannelStatistics.of(view) == ChannelStatistics.of(before)
    assert (view == before).all()


def test_nothing_merged_with_something_changes_nothing() -> None:
    some = ChannelStatistics.of(np.arange(24.0).reshape(2, 3, 2, 2))
    nothing = ChannelStatistics.empty(3)
    assert nothing.merge(some) == some == some.merge(nothing)
    assert nothing.merge(nothing) == nothing
    assert nothing.std.tolist() == [0.0, 0.0, 0.0]
    assert ChannelStatistics.of(np.zeros((0, 3, 2, 2))) == nothing


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="3 channels cannot be merged with those of 1"):
        ChannelStatistics.empty(3).merge(ChannelStatistics.empty(1))


@given(batches())
def test_statistics_survive_json_to_the_last_bit(latents: NDArray[Any]) -> None:
    statistics = ChannelStatistics.of(latents)
    assert ChannelStatistics.from_dict(json.loads(json.dumps(statistics.to_dict(), allow_nan=False))) == statistics


def test_statistics_of_nothing_survive_json() -> None:
    nothing = ChannelStatistics.empty(2)
    text = json.dumps(nothing.to_dict(), allow_nan=False)
    assert (
        text == '{"count": 0, "mean": [0.0, 0.0], "m2": [0.0, 0.0], "minimum": [null, null], "maximum": [null, null]}'
    )
    assert ChannelStatistics.from_dict(json.loads(text)) == nothing


def test_equality_looks_at_the_numbers() -> None:
    ones = ChannelStatistics.of(np.ones((1, 2, 2, 2)))
    assert ones == ChannelStatistics.of(np.ones((1, 2, 2, 2)))
    assert ones != ChannelStatistics.of(np.ones((2, 2, 2, 2)))
    assert ones != ChannelStatistics.of(np.zeros((1, 2, 2, 2)))
    assert ones != "ones"
