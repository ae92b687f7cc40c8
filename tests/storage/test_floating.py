from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import latents

from latentstore.storage.floating import open_float16, open_float32


@given(st.data())
def test_every_finite_float16_is_stored_and_read_bit_by_bit(data: st.DataObject) -> None:
    values = data.draw(latents((3, 2, 4, 4), "float16"))
    storage = open_float16()
    assert storage.encode(storage.decode(values)).tobytes() == values.tobytes()


@given(st.data())
def test_every_finite_float32_is_stored_and_read_bit_by_bit(data: st.DataObject) -> None:
    values = data.draw(latents((3, 2, 4, 4), "float32"))
    storage = open_float32()
    assert storage.decode(storage.encode(values)).tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        (1 + 2**-11, 1.0),  # halfway between two float16: to the even one
        (1 + 3 * 2**-11, 1 + 2**-9),
        (1 + 2**-11 + 2**-20, 1 + 2**-10),
        (2**-24, 2**-24),  # the smallest subnormal
        (2**-25, 0.0),
        (2**-25 + 2**-40, 2**-24),
        (65504.0, 65504.0),
        (65519.0, 65504.0),  # just below the half step to infinity
    ],
)
def test_float16_rounds_to_nearest_and_ties_to_even(raw: float, stored: float) -> None:
    for sign in (1, -1):
        found = open_float16().encode(np.full((1, 1, 1, 1), sign * raw, np.float32))
        assert float(found[0, 0, 0, 0]) == sign * stored


def test_the_sign_of_zero_is_kept() -> None:
    for storage in (open_float16(), open_float32()):
        assert np.signbit(storage.encode(np.full((1, 1, 1, 1), -0.0, np.float32))).all()


def test_a_latent_beyond_the_range_is_refused_naming_its_channel() -> None:
    raw = np.zeros((4, 3, 2, 2), np.float32)
    raw[2, 1, 0, 1] = -70_000
    with pytest.raises(OverflowError) as caught:
        open_float16().encode(raw)
    assert str(caught.value) == "channel 1 reaches 70000, beyond the 65504 of float16"
    assert open_float32().encode(raw)[2, 1, 0, 1] == -70_000


def test_what_is_not_finite_passes_for_the_build_to_deal_with() -> None:
    raw = np.array([np.nan, np.inf, -np.inf, 1], np.float32).reshape(1, 1, 2, 2)
    for storage in (open_float16(), open_float32()):
        np.testing.assert_array_equal(storage.decode(storage.encode(raw)), raw)
