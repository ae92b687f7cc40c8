"""int8: each number the nearest multiple of its channel's step, as one byte.

A raw latent z of channel c is stored as the byte q = 128 + clip(round(z / step[c]), -127, 127), ties to even, and read
as (q - 128) * step[c]. The byte 0 is never written: readers that cut trailing zero bytes (`datasets` formatted as numpy
or torch) leave such a column whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.storage.interface import Steps

REACH = 127
"""Steps to either side of zero."""
ZERO = 128
"""The byte that stands for zero."""


@dataclass(frozen=True, eq=False)
class Int8Storage:
    """Stores raw latents as bytes, one step a channel."""

    steps: NDArray[np.float32]
    """(C,) float32."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """See ``Storage.dtype``."""
        return np.dtype("u1")

    @property
    def zero(self) -> float:
        """See ``Storage.zero``."""
        return ZERO

    def encode(self, raw: NDArray[np.float32]) -> NDArray[Any]:
        """See ``Storage.encode``: rounds to the nearest step and clips at 127 steps; nothing is refused."""
        multiples = self._multiples(raw)
        np.clip(multiples, -REACH, REACH, out=multiples)
        multiples += ZERO
        return multiples.astype(np.uint8)

    def decode(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """See ``Storage.decode``: the multiple of the step, in float32."""
        decoded = stored.astype(np.float32)
        decoded -= ZERO
        decoded *= self._per_channel
        return decoded

    def clipped(self, raw: NDArray[np.float32]) -> NDArray[np.int64]:
        """See ``Storage.clipped``."""
        reached = np.maximum(raw.max(axis=(0, 2, 3), initial=0), -raw.min(axis=(0, 2, 3), initial=0))
        if (self._multiples(reached[None, :, None, None]) <= REACH).all():  # nearly always, and told without dividing
            return np.zeros(raw.shape[1], np.int64)
        beyond = np.abs(self._multiples(raw)) > REACH
        return np.asarray(beyond.sum(axis=(0, 2, 3)), np.int64)

    def _multiples(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):  # a quotient beyond float32 is beyond 127 steps
            multiples: NDArray[np.float32] = np.rint(raw / self._per_channel)
        return multiples

    @property
    def _per_channel(self) -> NDArray[np.float32]:
        return self.steps[:, None, None]


def open_int8(steps: Steps = None) -> Int8Storage:
    """With these steps, all finite and above zero; ValueError for others."""
    found = np.asarray(steps if steps is not None else (), np.float32)
    if found.ndim != 1 or found.size == 0 or not np.isfinite(found).all() or not (found > 0).all():
        message = f"int8 needs one finite step above zero for each channel, found {steps!r}"
        raise ValueError(message)
    return Int8Storage(found)
