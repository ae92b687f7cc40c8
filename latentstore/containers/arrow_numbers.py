"""The numbers of Arrow arrays as arrays of numpy, flat and without a copy.

Not with Arrow's own ``to_numpy``: that imports pandas where it is installed, which takes longer than all the rest of a
first batch. So do ``pyarrow.array``, ``pyarrow.scalar``, ``fill_null`` and ``pyarrow.parquet.read_table``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


def number_values(array: pa.Array) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """A flat array of numbers, and which of them are there; None where all are. What is not there is any number."""
    kind = np.dtype(array.type.to_pandas_dtype())
    known, data = array.buffers()
    rows = slice(array.offset, array.offset + len(array))
    values = np.frombuffer(data, kind)[rows] if data is not None and len(array) else np.zeros(len(array), kind)
    if not array.null_count or known is None:
        return values, None
    return values, np.unpackbits(np.frombuffer(known, np.uint8), bitorder="little")[rows].astype(bool)


def float_values(array: pa.Array) -> NDArray[np.float64]:
    """Numbers as (N,) float64; NaN where there is none."""
    values, known = number_values(array)
    found = values.astype(np.float64)
    if known is not None:
        found[~known] = np.nan
    return found


def byte_values(array: pa.Array) -> NDArray[np.uint8]:
    """The bytes of a fixed-size binary column, flat; ValueError where a row is missing."""
    if array.null_count:
        message = "a row has no latent"
        raise ValueError(message)
    width = array.type.byte_width
    values = np.frombuffer(array.buffers()[1], np.uint8)
    return values[array.offset * width : (array.offset + len(array)) * width]


def leaf_values(array: Any, shape: tuple[int, int, int]) -> NDArray[Any]:
    """The numbers of a nested list column, flat; ValueError where a row has another shape or a number is missing."""
    import pyarrow.compute as pc

    level = getattr(array, "storage", array)  # an extension array where `datasets` is imported
    for length in shape:
        if level.null_count or (number_values(pc.list_value_length(level))[0] != length).any():
            message = f"a row has not the shape {shape}"
            raise ValueError(message)
        level = level.flatten()
    values, known = number_values(level)
    if known is not None:
        message = "a number is missing"
        raise ValueError(message)
    return values
