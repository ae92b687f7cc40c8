"""What a metric is: one number a picture, from the original and the decoded picture, both as uint8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class Scorer(Protocol):
    """A metric with whatever it needs loaded."""

    def __call__(self, reference: torch.Tensor, reconstruction: torch.Tensor) -> NDArray[np.float64]:
        """Scores of a batch, shape (N,), from two uint8 tensors (N, 3, H, W) on one device.

        NaN where the metric is undefined for the picture (too small); each score is independent of the
        rest of the batch.
        """


@dataclass(frozen=True)
class MetricRow:
    """One metric, readable without loading anything heavy."""

    name: str
    """Name of the column: ``psnr``."""
    title: str
    """As people write it: ``PSNR``."""
    unit: str
    """``dB``, or empty."""
    higher_is_better: bool
    protocol: str
    """One sentence: range, window, what is averaged; goes into every manifest."""
    open: Callable[[], Scorer]
    """Loads what the metric needs."""
    pool: Callable[[NDArray[np.float64], NDArray[np.float64]], float] | None = None
    """Dataset value from all scores (N,) and pixel counts (N,), where it is not the mean of the scores."""
