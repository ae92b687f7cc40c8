"""Order-0 entropy against a count by hand: Python integers, math.log2, one byte at a time."""

from __future__ import annotations

import functools
import math
import struct
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentstore import entropy
from latentstore.entropy import ByteCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPES = {"uint8": "B", "float16": "e", "float32": "f"}
"""Of each storage's numbers: the letter of `struct`."""


def bytes_at(stored: NDArray[Any], channel: int, place: int) -> list[int]:
    """The byte at one place (0 is the lowest) of every number of a channel, number by number."""
    letter = DTYPES[stored.dtype.name]
    return [struct.pack(f"<{letter}", number)[place] for number in stored[:, channel].ravel().tolist()]


def by_hand(stored: NDArray[Any]) -> float:
    """-sum n(b) log2(n(b) / n) over channels, places and bytes."""
    bits = []
    for channel in range(stored.shape[1]):
        for place in range(stored.dtype.itemsize):
            seen = bytes_at(stored, channel, place)
            bits += [-count * math.log2(count / len(seen)) for count in Counter(seen).values()]
    return math.fsum(bits)


@st.composite
def stored_numbers(draw: st.DrawFn, dtype: str | None = None, channels: int | None = None) -> NDArray[Any]:
    """(N, C, h, w) of few or many different values."""
    dtype = dtype or draw(st.sampled_from(sorted(DTYPES)))
    shape = (draw(st.integers(0, 5)), channels or draw(st.integers(1, 4)), *draw(st.tuples(*[st.integers(1, 6)] * 2)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0.0, 1.0, 40.0]))
    numbers = np.rint(random.normal(128, spread, shape).clip(0, 255))
    found: NDArray[Any] = (numbers if dtype == "uint8" else numbers / 7).astype(dtype)
    return found


@given(stored_numbers())
def test_bits_are_those_counted_by_hand(stored: NDArray[Any]) -> None:
    assert ByteCounts.of(stored).bits == pytest.approx(by_hand(stored), rel=1e-12, abs=1e-9)


@given(stored_numbers())
def test_counts_are_those_of_every_byte_at_its_place(stored: NDArray[Any]) -> None:
    counts = ByteCounts.of(stored).counts
    assert counts.shape == (stored.shape[1], stored.dtype.itemsize, 256)
    for channel in range(stored.shape[1]):
        for place in range(stored.dtype.itemsize):
            seen = Counter(bytes_at(stored, channel, place))
            assert {byte: n for byte, n in enumerate(counts[channel, place].tolist()) if n} == seen


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cells", [(40, 64), (41, 63)], ids=["even", "odd"])
def test_many_numbers_are_counted_like_few(dtype: str, cells: tuple[int, int]) -> None:
    """Large batches may be counted in another way: still each byte of each number."""
    random = np.random.default_rng(1)
    stored = random.normal(100, 20, (110, 2, *cells)).clip(0, 255).astype(dtype)
    whole = ByteCounts.of(stored)
    parts = [ByteCounts.of(row[None]) for row in stored]
    assert stored[:, 0].nbytes >= entropy.PAIRS_FROM
    np.testing.assert_array_equal(whole.counts, functools.reduce(ByteCounts.merge, parts).counts)
    low = np.bincount(stored[:, 1].ravel().view(np.uint8)[:: stored.dtype.itemsize], minlength=256)
    np.testing.assert_array_equal(whole.counts[1, 0], low)


@given(st.data(), st.lists(st.integers(0, 5), max_size=3))
def test_merging_any_parts_gives_the_whole(data: st.DataObject, cuts: list[int]) -> None:
    stored = data.draw(stored_numbers())
    empty = ByteCounts.empty(stored.shape[1], stored.dtype.itemsize)
    parts = [ByteCounts.of(part) for part in np.split(stored, sorted(min(cut, len(stored)) for cut in cuts))]
    merged = functools.reduce(ByteCounts.merge, parts, empty)
    whole = ByteCounts.of(stored)
    np.testing.assert_array_equal(merged.counts, whole.counts)
    assert merged.bits == whole.bits


@given(stored_numbers("uint8", channels=2), stored_numbers("uint8", channels=2))
def test_two_sets_apart_never_need_more_bits_than_together(left: NDArray[Any], right: NDArray[Any]) -> None:
    a, b = ByteCounts.of(left), ByteCounts.of(right)
    assert a.merge(b).bits >= a.bits + b.bits - 1e-6
    assert a.merge(b).counts.sum() == left.size + right.size


def test_no_numbers_need_no_bits() -> None:
    assert ByteCounts.empty(4, 2).bits == 0
    assert ByteCounts.of(np.empty((0, 4, 2, 2), np.float16)).bits == 0


def test_one_value_alone_needs_no_bits_and_all_bytes_alike_need_eight() -> None:
    assert ByteCounts.of(np.full((3, 2, 4, 4), 7, np.uint8)).bits == 0
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert ByteCounts.of(every).bits == 256 * 8
    assert ByteCounts.of(np.concatenate([every, every], axis=1)).bits == 2 * 256 * 8  # channel by channel


def test_what_lies_big_endian_or_apart_in_memory_is_counted_by_value() -> None:
    stored = np.random.default_rng(0).normal(0, 1, (3, 4, 6, 6)).astype("<f4")
    apart = np.asfortranarray(stored)
    for other in (stored.astype(">f4"), apart, stored[:, :, ::-1]):
        np.testing.assert_array_equal(ByteCounts.of(other).counts, ByteCounts.of(stored).counts)
