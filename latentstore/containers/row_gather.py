"""Rows of numbers out of a mapped file, by their byte offsets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def gathered(
    mapped: NDArray[np.uint8], offsets: NDArray[np.int64], dtype: np.dtype[Any], shape: tuple[int, int, int]
) -> NDArray[Any]:
    """(N, C, h, w) as a new array: the ``shape`` numbers of ``dtype`` that lie at each of N byte offsets of a file."""
    if len(offsets) == 0:
        return np.empty((0, *shape), dtype)
    windows = np.lib.stride_tricks.sliding_window_view(mapped, math.prod(shape) * dtype.itemsize)
    return windows[offsets].view(dtype).reshape(len(offsets), *shape)
