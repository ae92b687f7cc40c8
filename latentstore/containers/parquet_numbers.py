"""The numbers of a latent column that pyarrow decoded, flat and without a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


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
        if level.null_count or (pc.list_value_length(level).to_numpy() != length).any():
            message = f"a row has not the shape {shape}"
            raise ValueError(message)
        level = level.flatten()
    return np.asarray(level.to_numpy(zero_copy_only=True))
