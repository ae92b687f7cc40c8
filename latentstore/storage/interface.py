"""What a storage is: the number format of the payload, from raw latents and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Steps = Sequence[float] | None


class Storage(Protocol):
    """Turns raw latents into the numbers that are written, and those back."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored numbers."""

    @property
    def zero(self) -> float:
        """The stored number that stands for zero."""

    @property
    def steps(self) -> NDArray[np.float32] | None:
        """(C,): what stored numbers, less ``zero``, are multiplied with; None where with nothing."""

    def encode(self, raw: NDArray[np.float32]) -> NDArray[Any]:
        """Stored numbers (N, C, h, w) of raw latents (N, C, h, w).

        Raises ``OverflowError`` naming the channel where a finite latent has no stored number near it and the storage
        does not clip.
        """

    def decode(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Raw latents (N, C, h, w) float32 as anyone will read them from the stored numbers."""

    def clipped(self, raw: NDArray[np.float32]) -> NDArray[np.int64]:
        """How many numbers of each channel, (C,), lie beyond what can be stored and are moved to its edge."""


@dataclass(frozen=True)
class StorageRow:
    """One storage, readable without loading anything heavy."""

    name: str
    bits: int
    """Bits a number takes before any compression."""
    dtype: str
    """numpy's name of the stored numbers."""
    summary: str
    open: Callable[[Steps], Storage]
    """With one quantisation step a channel where the storage is quantised, else with None."""
    quantised: bool = False
    """Whether numbers are multiples of a step, one a channel, that the manifest keeps."""
