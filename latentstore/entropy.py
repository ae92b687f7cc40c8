"""How many bits the stored numbers hold, for a coder that sees them one by one: the bound a size is held against.

Order-0 entropy: with p(b) the share of byte b among the bytes at one place (0 is the lowest) of the numbers of one
channel, it is -sum p(b) log2 p(b) bits a byte (Shannon, A mathematical theory of communication, 1948, section 6). For a
float16 both bytes are counted on their own, as byte-stream-split writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
        planes = planes.reshape(len(stored), channels, -1, width)
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
