"""Rows out of a shard that lies elsewhere: neighbours come in one request, and the file's end only once."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from latentstore.containers.interface import ShardBytes

GAP_BYTES = 64 << 10
"""Bytes between two rows that are rather read and dropped than left to a request of their own."""
TAIL_BYTES = 64 << 10
"""Of the end of a file, where footer or table of offsets lie: enough for most, in one request."""


class KeptTail:
    """The same bytes by ranges; what lies in the last ``TAIL_BYTES`` of the file is asked for once."""

    def __init__(self, source: ShardBytes) -> None:
        self._source = source
        self.size = source.size
        self._first = max(0, source.size - TAIL_BYTES)
        self._tail = source.read(self._first, source.size)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from ``start`` to before ``stop``; ValueError where the file has none there."""
        if not 0 <= start <= stop <= self.size:
            message = f"bytes {start} to {stop} lie outside of its {self.size} bytes"
            raise ValueError(message)
        if start >= self._first:
            return self._tail[start - self._first : stop - self._first]
        rest = self._tail[: max(0, stop - self._first)]
        return self._source.read(start, min(stop, self._first)) + rest


def read_rows(read: Callable[[int, int], bytes], offsets: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """(N, size) as a new array: the ``size`` bytes at each of N increasing offsets of what ``read`` gives ranges of."""
    found = np.empty((len(offsets), size), np.uint8)
    apart = np.flatnonzero(np.diff(offsets) > size + GAP_BYTES) + 1
    bounds = [0, *apart.tolist(), len(offsets)] if len(offsets) else []
    for first, last in pairwise(bounds):
        start, stop = int(offsets[first]), int(offsets[last - 1]) + size
        window = np.lib.stride_tricks.sliding_window_view(np.frombuffer(read(start, stop), np.uint8), size)
        found[first:last] = window[offsets[first:last] - start]
    return found
