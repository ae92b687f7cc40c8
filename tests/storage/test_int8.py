"""int8 against its formula in exact arithmetic: which byte stands for which number, and what comes back."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentstore.storage.int8 import open_int8

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
STEPS = st.floats(min_value=2.0**-126, max_value=2.0**127, width=32)
USUAL = st.floats(min_value=2.0**-20, max_value=2.0**10, width=32)
"""Steps of the size that channels of VAEs have."""


def exact(number: float, step: float) -> int:
    """The byte of FORMAT.md 5.6 in exact arithmetic: the nearest multiple of the step, halves to the even one."""
    multiple = round(Fraction(number) / Fraction(step))  # of a Fraction: exact, ties to even
    return 128 + max(-127, min(127, multiple))


def of_one(number: float, step: float) -> int:
    """The byte that is stored."""
    return int(open_int8([step]).encode(np.full((1, 1, 1, 1), number, np.float32))[0, 0, 0, 0])


def rounding(number: float, step: float) -> Fraction:
    """How far a float32 quotient may be from the exact one."""
    return abs(Fraction(number) / Fraction(step)) * Fraction(1, 2**24)


@given(NUMBERS, STEPS)
def test_any_finite_number_is_stored_as_its_nearest_multiple(number: float, step: float) -> None:
    found, quotient = of_one(number, step), Fraction(number) / Fraction(step)
    wanted = exact(number, step)
    tie = abs(abs(quotient - round(quotient)) - Fraction(1, 2)) <= rounding(number, step)
    assert found == wanted or (tie and abs(found - wanted) == 1)


@given(st.integers(-127, 127), USUAL, st.floats(-0.499, 0.499))
def test_a_number_less_than_half_a_step_from_a_multiple_is_stored_as_that_one(
    multiple: int, step: float, off: float
) -> None:
    number = float(np.float32((multiple + off) * step))
    assert of_one(number, step) == exact(number, step) == 128 + multiple


@given(st.integers(-126, 125), st.sampled_from([2.0**power for power in range(-20, 11)]))
def test_a_number_exactly_between_two_multiples_goes_to_the_even_one(multiple: int, step: float) -> None:
    between = (multiple + 0.5) * step  # exact: the step is a power of two
    assert of_one(between, step) == exact(between, step)
    assert of_one(between, step) % 2 == 0


@given(st.integers(1, 255), STEPS.filter(lambda step: step < 2.0**120))
def test_each_byte_is_read_as_its_multiple_of_the_step_rounded_once_to_float32(byte: int, step: float) -> None:
    storage = open_int8([step])
    stored = np.full((1, 1, 1, 1), byte, np.uint8)
    decoded = storage.decode(stored)
    product = Fraction(byte - 128) * Fraction(step)
    neighbours = [np.nextafter(decoded[0, 0, 0, 0], np.float32(edge)) for edge in (-np.inf, np.inf)]
    error = abs(Fraction(float(decoded[0, 0, 0, 0])) - product)
    assert decoded.dtype == np.float32
    assert all(error <= abs(Fraction(float(other)) - product) for other in neighbours)
    assert storage.encode(decoded).tobytes() == stored.tobytes()


@given(st.lists(NUMBERS, min_size=1, max_size=40), STEPS)
def test_the_byte_zero_is_never_written_and_numbers_beyond_127_steps_end_at_the_edge(
    numbers: list[float], step: float
) -> None:
    raw = np.array(numbers, np.float32).reshape(1, 1, 1, -1)
    stored = open_int8([step]).encode(raw)
    beyond = [abs(Fraction(number) / Fraction(step)) >= 128 for number in numbers]
    assert stored.min() >= 1
    assert all(byte in (1, 255) for byte, far in zip(stored.ravel().tolist(), beyond, strict=True) if far)


@pytest.mark.parametrize(
    ("steps_away", "byte", "clipped"),
    [
        (127.0, 255, 0),
        (127.49, 255, 0),
        (127.5, 255, 1),  # the even one of 127 and 128 is beyond the edge
        (128.0, 255, 1),
        (1e30, 255, 1),
        (126.5, 254, 0),
        (-127.0, 1, 0),
        (-127.49, 1, 0),
        (-127.5, 1, 1),
        (-1e30, 1, 1),
        (0.5, 128, 0),
        (-0.5, 128, 0),
        (-0.0, 128, 0),
        (1.5, 130, 0),
        (-1.5, 126, 0),
    ],
)
def test_at_the_edges(steps_away: float, byte: int, clipped: int) -> None:
    for step in (0.25, 1.0, 8.0):
        raw = np.full((1, 1, 1, 1), steps_away * step, np.float32)
        storage = open_int8([step])
        assert storage.encode(raw).item() == byte
        assert storage.clipped(raw).tolist() == [clipped]


def test_clipped_numbers_are_counted_channel_by_channel_over_all_rows() -> None:
    raw = np.zeros((3, 4, 2, 2), np.float32)
    raw[:, 1, 0, 0] = 200
    raw[2, 3] = [[-200, 200], [127, -127]]
    raw[1, 2, 1, 1] = 200
    counts = open_int8([1, 1, 2, 1]).clipped(raw)  # 200 is 100 steps of channel 2
    assert counts.tolist() == [0, 3, 0, 2]
    assert counts.dtype == np.int64


@given(st.lists(NUMBERS, min_size=1, max_size=8), USUAL)
def test_clipped_numbers_are_those_beyond_127_steps(numbers: list[float], step: float) -> None:
    raw = np.array(numbers, np.float32).reshape(1, 1, 1, -1)
    with np.errstate(over="ignore"):
        wanted = int((np.abs(np.rint(raw / np.float32(step))) > 127).sum())
    assert open_int8([step]).clipped(raw).tolist() == [wanted]


def test_each_channel_has_its_own_step() -> None:
    raw = np.ones((2, 3, 2, 2), np.float32)
    storage = open_int8([1, 0.5, 0.125])
    stored = storage.encode(raw)
    assert stored[:, :, 0, 0].tolist() == [[129, 130, 136]] * 2
    np.testing.assert_array_equal(storage.decode(stored), raw)


@given(st.integers(0, 2**32 - 1))
def test_a_number_within_reach_is_off_by_half_a_step_at_most(seed: int) -> None:
    random = np.random.default_rng(seed)
    steps = random.uniform(1e-3, 2, 5).astype(np.float32)
    raw = (random.uniform(-127, 127, (4, 5, 3, 3)) * steps[:, None, None]).astype(np.float32)
    storage = open_int8(steps.tolist())
    off = np.abs(storage.decode(storage.encode(raw)).astype(np.float64) - raw) / steps[:, None, None]
    assert off.max() <= 0.5 + 127 * 2.0**-23
    assert storage.clipped(raw).tolist() == [0] * 5


BAD_STEPS: list[Any] = [
    None,
    [],
    [0.0],
    [-0.5],
    [0.5, 0.0],
    [float("nan")],
    [float("inf")],
    [[0.5]],
    0.5,
    [1e-60],  # zero in float32
]


@pytest.mark.parametrize("steps", BAD_STEPS, ids=repr)
def test_steps_that_no_channel_can_have_are_refused(steps: Any) -> None:
    with pytest.raises(ValueError, match="int8 needs one finite step above zero for each channel, found"):
        open_int8(steps)


def test_the_arrays_given_are_left_as_they_are() -> None:
    raw: NDArray[np.float32] = np.array([300, -1, 0.3], np.float32).reshape(1, 1, 1, 3)
    kept = raw.copy()
    storage = open_int8([1.0])
    stored = storage.encode(raw)
    bytes_ = stored.copy()
    storage.decode(stored)
    storage.clipped(raw)
    np.testing.assert_array_equal(raw, kept)
    np.testing.assert_array_equal(stored, bytes_)
