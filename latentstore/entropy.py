"""How many bits the stored numbers hold, for a coder that sees them one by one: the bound a size is held against.

Order-0 entropy: with p(b) the share of byte b among the bytes at one place (0 is the lowest) of the numbers of one
channel, it is -sum p(b) log2 p(b) bits a byte (Shannon, A mathematical theory of communication, 1948, section 6). For a
float16 both bytes are counted on their own, as byte-stream-split writes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIRS_FROM = 2**18
"""Bytes of a channel from which counting two bytes at once is less work."""


@dataclass(frozen=True, eq=False)
class ByteCounts:
    """How often each byte occurs at each place of the numbers of each channel: (C, width, 256)."""

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, channels: int, width: int) -> ByteCounts:
        """Of no numbers; ``width`` is the bytes a number takes."""
        return cls(np.zeros((channels, width, 256), np.int64))

    @classmethod
    def of(cls, stored: NDArray[Any]) -> ByteCounts:
        """Of stored numbers (N, C, h, w)."""
        channels, width = stored.shape[1], stored.dtype.itemsize
        planes = np.ascontiguousarray(stored.astype(stored.dtype.newbyteorder("<"), copy=False)).view(np.uint8)
        planes = planes.reshape(len(stored), channels, math.prod(stored.shape[2:]) * width)
        size = planes[:, :1].size
        if size >= PAIRS_FROM and planes.shape[2] % (2 * width) == 0:
            return cls(np.stack([_counted_by_pairs(planes[:, channel], width) for channel in range(channels)]))
        planes = planes.reshape(*planes.shape[:2], planes.shape[2] // width, width)
        counts = [
            [np.bincount(planes[:, channel, :, place].reshape(-1), minlength=256) for place in range(width)]
            for channel in range(channels)
        ]
        return cls(np.array(counts, np.int64).reshape(channels, width, 256))

    def merge(self, other: ByteCounts) -> ByteCounts:
        """Of both sets of numbers together."""
        return ByteCounts(self.counts + other.counts)

    @property
    def bits(self) -> float:
        """Order-0 entropy of all of them, in bits."""
        total = self.counts.sum(axis=-1, keepdims=True)
        share = self.counts / np.maximum(total, 1)
        each = -np.log2(share, out=np.zeros_like(share), where=share > 0)
        return float((self.counts * each).sum())


def _counted_by_pairs(planes: NDArray[np.uint8], width: int) -> NDArray[np.int64]:
    """Counts (width, 256) of the bytes (N, bytes) of one channel's numbers, two neighbours at a time."""
    step = max(width, 2)
    pairs = np.ascontiguousarray(planes).view("<u2").reshape(-1, step // 2)
    counts = np.zeros((step, 256), np.int64)
    for place in range(step // 2):
        both = np.bincount(pairs[:, place], minlength=1 << 16).reshape(256, 256)  # (second byte, first byte)
        counts[2 * place], counts[2 * place + 1] = both.sum(axis=0), both.sum(axis=1)
    summed: NDArray[np.int64] = counts.reshape(-1, width, 256).sum(axis=0)
    return summed
