"""How often each stored value occurs in each channel: one pass from which byte counts and statistics both follow.

Of numbers of one or two bytes there are few enough values to count every one of them. What else is wanted of a shard
(order-0 entropy, mean, spread, range) is then a sum over the values and no longer over the numbers, and exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.entropy import ByteCounts
from latentstore.statistics import ChannelStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.storage.interface import Storage

WIDEST = 2
"""Bytes of a number up to which every value is counted."""
WORTH_IT = 2**16
"""Numbers of a channel from which counting values is less work than passing over the numbers again."""
CACHED_BYTES = 1 << 20
"""Numbers that are passed over at once: they stay in the processor's cache from one step to the next."""


@dataclass(frozen=True, eq=False)
class ValueCounts:
    """Counts of each stored value of each channel: (C, 2^bits), by the value's bits read as a number."""

    counts: NDArray[np.int64]
    dtype: np.dtype[Any]
    """Of the stored numbers."""

    @classmethod
    def empty(cls, channels: int, dtype: np.dtype[Any]) -> ValueCounts:
        """Of no numbers; ValueError where numbers of this type have too many values."""
        if dtype.itemsize > WIDEST:
            message = f"{dtype} has too many values to count each of them"
            raise ValueError(message)
        return cls(np.zeros((channels, 256**dtype.itemsize), np.int64), dtype)

    def add(self, stored: NDArray[Any]) -> None:
        """Count stored numbers (N, C, h, w) as well."""
        if self.dtype.itemsize == 1:
            self.counts[:] += ByteCounts.of(stored).counts[:, 0]
            return
        values = np.ascontiguousarray(stored, self.dtype.newbyteorder("<")).view("<u2")
        for channel in range(len(self.counts)):
            self.counts[channel] += np.bincount(values[:, channel].reshape(-1), minlength=1 << 16)

    @property
    def bytes(self) -> ByteCounts:
        """How often each byte occurs at each place, the lowest first."""
        if self.dtype.itemsize == 1:
            return ByteCounts(self.counts[:, None])
        planes = self.counts.reshape(-1, 256, 256)  # (C, high byte, low byte)
        return ByteCounts(np.stack([planes.sum(axis=1), planes.sum(axis=2)], axis=1))

    def statistics(self, storage: Storage) -> ChannelStatistics:
        """Of the raw latents that this storage reads from them, channel by channel, in float64."""
        channels, size = self.counts.shape
        count = int(self.counts[0].sum())
        if count == 0:
            return ChannelStatistics.empty(channels)
        every = np.arange(size, dtype=f"<u{self.dtype.itemsize}").view(self.dtype)
        seen = self.counts > 0
        with np.errstate(invalid="ignore"):  # among the values that do not occur are NaN
            raw = storage.decode(np.repeat(every[:, None], channels, axis=1)[:, :, None, None])[:, :, 0, 0]
            values = np.where(seen, raw.T.astype(np.float64), 0.0)
        mean = (values * self.counts).sum(axis=1) / count
        apart = np.where(seen, values - mean[:, None], 0.0)
        missed = (apart * self.counts).sum(axis=1) / count  # as in ChannelStatistics.of
        m2 = np.maximum((apart**2 * self.counts).sum(axis=1) - count * missed**2, 0)
        minimum = np.where(seen, values, np.inf).min(axis=1)
        maximum = np.where(seen, values, -np.inf).max(axis=1)
        return ChannelStatistics(count, mean + missed, m2, minimum, maximum)


class NumbersTally:
    """What the stored numbers of a shard add up to: value by value where that is less work than number by number."""

    def __init__(self, storage: Storage, channels: int, numbers: int) -> None:
        """``numbers`` is how many of each channel there will be."""
        self._storage = storage
        width = storage.dtype.itemsize
        by_value = width == 1 or (width <= WIDEST and numbers >= WORTH_IT)
        self._values = ValueCounts.empty(channels, storage.dtype) if by_value else None
        self._bytes = ByteCounts.empty(channels, width)
        self._statistics = ChannelStatistics.empty(channels)

    def add(self, stored: NDArray[Any]) -> None:
        """Stored numbers (N, C, h, w)."""
        if self._values is not None:
            self._values.add(stored)
            return
        self._bytes = self._bytes.merge(ByteCounts.of(stored))
        size = max(1, CACHED_BYTES // max(1, stored[:1].nbytes))
        with np.errstate(invalid="ignore"):  # what is not finite is said by `spoilt`
            for start in range(0, len(stored), size):
                raw = self._storage.decode(stored[start : start + size])
                self._statistics = self._statistics.merge(ChannelStatistics.of(raw))

    @property
    def spoilt(self) -> str:
        """Which number occurs that must not be stored, in words; empty where none does."""
        if self._storage.dtype.kind == "u":
            found = self._values is not None and self._values.counts[:, 0].any()
            return "the byte 0, which is never written" if found else ""
        return "" if np.isfinite(self.statistics.m2).all() else "a number that is not finite"

    @property
    def bytes(self) -> ByteCounts:
        """How often each byte occurs at each place, the lowest first."""
        return self._bytes if self._values is None else self._values.bytes

    @cached_property
    def statistics(self) -> ChannelStatistics:
        """Of the raw latents; once all numbers were added."""
        if self._values is None:
            return self._statistics
        with np.errstate(invalid="ignore"):
            return self._values.statistics(self._storage)
