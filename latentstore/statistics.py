"""Mean, spread and range of every latent channel, gathered batch by batch and merged across shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_ARRAYS = ("mean", "m2", "minimum", "maximum")


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """What is known of the values of each channel; an array has one float64 a channel, shape (C,)."""

    count: int
    """Values a channel: N x h x w."""
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    """Sum of the squared deviations from the mean."""
    minimum: NDArray[np.float64]
    """+infinity while nothing is counted."""
    maximum: NDArray[np.float64]
    """-infinity while nothing is counted."""

    @classmethod
    def empty(cls, channels: int) -> ChannelStatistics:
        """Of no values at all: merging it changes nothing."""
        zeros = np.zeros(channels)
        return cls(0, zeros, zeros, np.full(channels, np.inf), np.full(channels, -np.inf))

    @classmethod
    def of(cls, latents: NDArray[Any]) -> ChannelStatistics:
        """Of one batch (N, C, h, w) of finite numbers of any dtype, in float64 and two passes."""
        channels = latents.shape[1]
        values = np.moveaxis(latents, 1, 0).astype(np.float64, order="C").reshape(channels, latents[:, 0].size)
        count = values.shape[1]
        if count == 0:
            return cls.empty(channels)
        minimum, maximum = values.min(axis=1), values.max(axis=1)
        mean = values.mean(axis=1)
        values -= mean[:, None]
        # What the first pass missed of the mean. Chan, Golub, LeVeque: Algorithms for computing the sample
        # variance, The American Statistician 37(3), 1983, equation 1.7.
        missed = values.mean(axis=1)
        np.square(values, out=values)
        m2 = np.maximum(values.sum(axis=1) - count * missed**2, 0)
        return cls(count, mean + missed, m2, minimum, maximum)

    def merge(self, other: ChannelStatistics) -> ChannelStatistics:
        """Of both sets of values together.

        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances,
        Stanford STAN-CS-79-773, 1979, equation 2.1.
        """
        if self.mean.shape != other.mean.shape:
            message = f"statistics of {self.mean.size} channels cannot be merged with those of {other.mean.size}"
            raise ValueError(message)
        if 0 in (self.count, other.count):
            return self if other.count == 0 else other
        count = self.count + other.count
        apart = other.mean - self.mean
        return ChannelStatistics(
            count,
            (self.mean * self.count + other.mean * other.count) / count,
            self.m2 + other.m2 + apart**2 * (self.count * other.count / count),
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )

    @property
    def std(self) -> NDArray[np.float64]:
        """Population standard deviation, (C,); 0 while nothing is counted."""
        return np.sqrt(self.m2 / max(self.count, 1))

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers and lists for JSON, which give back the same statistics to the last bit.

        JSON has no infinity, so the range of no values is written as null.
        """
        lists = {name: getattr(self, name).tolist() for name in _ARRAYS}
        if self.count == 0:
            lists["minimum"] = lists["maximum"] = [None] * self.mean.size
        return {"count": self.count, **lists}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ChannelStatistics:
        """What `to_dict` wrote."""
        count = int(document["count"])
        if count == 0:
            return cls.empty(len(document["mean"]))
        return cls(count, *(np.array(document[name], dtype=np.float64) for name in _ARRAYS))

    # The equality that dataclasses write fails on arrays.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChannelStatistics):
            return NotImplemented
        return self.count == other.count and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in _ARRAYS
        )

    __hash__ = None  # type: ignore[assignment]
