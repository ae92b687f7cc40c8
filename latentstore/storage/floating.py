"""float16 and float32: the latent itself, rounded to nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.storage.interface import Steps


@dataclass(frozen=True)
class FloatStorage:
    """Stores raw latents as little-endian floats."""

    dtype: np.dtype[Any]

    @property
    def zero(self) -> float:
        """See ``Storage.zero``."""
        return 0.0

    @property
    def steps(self) -> None:
        """See ``Storage.steps``."""
        return

    def encode(self, raw: NDArray[np.float32]) -> NDArray[Any]:
        """See ``Storage.encode``: rounds to nearest; a latent beyond the format's range is an OverflowError."""
        with np.errstate(over="ignore"):
            stored = raw.astype(self.dtype)
        lost = np.isfinite(raw) & ~np.isfinite(stored)
        if lost.any():
            channel = int(np.argwhere(lost)[0][1])
            largest = float(np.abs(raw[:, channel]).max())
            message = f"channel {channel} reaches {largest:g}, beyond the {np.finfo(self.dtype).max:g} of {self.dtype}"
            raise OverflowError(message)
        return stored

    def decode(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """See ``Storage.decode``: exact."""
        return stored.astype(np.float32)

    def clipped(self, raw: NDArray[np.float32]) -> NDArray[np.int64]:
        """See ``Storage.clipped``: none, ``encode`` refuses them."""
        return np.zeros(raw.shape[1], np.int64)


def open_float16(_: Steps = None) -> FloatStorage:
    """Half precision: range and 11 bits of precision suffice for every VAE family measured so far."""
    return FloatStorage(np.dtype("<f2"))


def open_float32(_: Steps = None) -> FloatStorage:
    """Single precision: exactly what the encoder gave."""
    return FloatStorage(np.dtype("<f4"))
