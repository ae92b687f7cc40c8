from __future__ import annotations

import numpy as np
import pytest

from latentstore.storage.interface import Storage, StorageRow
from latentstore.storage.table import STORAGES

ROW = pytest.mark.parametrize("row", STORAGES.values(), ids=list(STORAGES))


def raw_latents() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(5, 4, 3, 2) of the size that VAEs give."""
    return np.random.default_rng(0).normal(0, 3, (5, 4, 3, 2)).astype(np.float32)


def opened(row: StorageRow) -> Storage:
    """With a step of a sixteenth of the spread for each of the four channels, where there are steps."""
    return row.open([3 / 16] * 4 if row.quantised else None)


@ROW
def test_stored_numbers_have_the_shape_type_and_width_of_the_row(row: StorageRow) -> None:
    storage = opened(row)
    stored = storage.encode(raw_latents())
    assert stored.shape == (5, 4, 3, 2)
    assert stored.dtype == storage.dtype
    assert stored.dtype.itemsize * 8 == row.bits
    assert storage.dtype.name == row.dtype
    assert storage.dtype.newbyteorder("<") == storage.dtype


@ROW
def test_what_is_decoded_is_float32_and_stores_to_the_same_numbers(row: StorageRow) -> None:
    storage = opened(row)
    stored = storage.encode(raw_latents())
    decoded = storage.decode(stored)
    assert decoded.dtype == np.float32
    assert storage.encode(decoded).tobytes() == stored.tobytes()
    atol, rtol = (3 / 32, 1e-6) if row.quantised else (0, 2**-11)
    np.testing.assert_allclose(decoded, raw_latents(), atol=atol, rtol=rtol)


@ROW
def test_no_rows_are_stored_as_no_rows(row: StorageRow) -> None:
    storage = opened(row)
    assert storage.decode(storage.encode(raw_latents()[:0])).shape == (0, 4, 3, 2)


@ROW
def test_a_row_of_a_batch_is_stored_as_it_is_alone(row: StorageRow) -> None:
    storage = opened(row)
    assert storage.encode(raw_latents())[2].tobytes() == storage.encode(raw_latents()[2:3])[0].tobytes()


@ROW
def test_a_row_says_what_it_is_in_a_few_words(row: StorageRow) -> None:
    assert 2 < len(row.summary.split()) < 20
