"""What a storage is: the number format of the payload, from raw latents and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray


class Storage(Protocol):
    """Turns raw latents into the numbers that are written, and those back."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored numbers."""

    def encode(self, raw: NDArray[np.float32]) -> NDArray[Any]:
        """Stored numbers (N, C, h, w) of raw latents (N, C, h, w).

        Raises ``OverflowError`` naming the channel where a finite latent has no finite stored number.
        """

    def decode(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Raw latents (N, C, h, w) float32 as anyone will read them from the stored numbers."""


@dataclass(frozen=True)
class StorageRow:
    """One storage, readable without loading anything heavy."""

    name: str
    bits: int
    """Bits a number takes before any compression."""
    summary: str
    open: Callable[[], Storage]
