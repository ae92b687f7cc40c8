"""PSNR and MAE: how far the 8-bit values of two pictures are apart.

Both are sums of integers, taken exactly, so a score depends neither on the batch nor on the number of threads nor on
the device, and each picture is summed on its own, so no wide copy of a whole batch is ever made.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_PEAK = 255


def psnr(reference: torch.Tensor, reconstruction: torch.Tensor) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio of each picture in dB, (N,) float64, from two (N, C, H, W) uint8 tensors.

    10 log10(255² / MSE), where MSE is the mean over channels and pixels; identical pictures score +infinity.
    """
    pairs = zip(reference, reconstruction, strict=True)
    return np.array([_decibel(_squared_error(a, b) / a.numel()) for a, b in pairs], dtype=np.float64)


def mae(reference: torch.Tensor, reconstruction: torch.Tensor) -> NDArray[np.float64]:
    """Mean absolute error of each picture, (N,) float64 in [0, 1] (1 is black against white), from uint8 as above."""
    pairs = zip(reference, reconstruction, strict=True)
    return np.array([_absolute_error(a, b) / a.numel() / _PEAK for a, b in pairs], dtype=np.float64)


def pooled_psnr(scores: NDArray[np.float64], pixel_counts: NDArray[np.float64]) -> float:
    """PSNR in dB of all pictures taken as one, from their PSNRs (N,) and their sizes in pixels (N,).

    The squared errors are averaged, not the decibels: 10 log10(255² Σ nᵢ / Σ nᵢ MSEᵢ) with MSEᵢ = 255² 10^(-PSNRᵢ/10).
    Scores that are NaN are left out; +infinity if all pictures are identical, NaN if none has a score.
    The result does not depend on the order of the pictures.
    """
    defined = [
        (float(score), float(count)) for score, count in zip(scores, pixel_counts, strict=True) if not math.isnan(score)
    ]
    pixels = math.fsum(count for _, count in defined)
    if pixels == 0:
        return math.nan
    return _decibel(math.fsum(count * _PEAK**2 * 10 ** (-score / 10) for score, count in defined) / pixels)


def batch_mean_psnr(scores: NDArray[np.float64], pixel_counts: NDArray[np.float64], batch_size: int) -> float:
    """The plain mean of the pooled PSNRs of batches of so many pictures, in dB, as VAEs4RS aggregates.

    Scores (N,) and sizes in pixels (N,) stand in the order of the batches; the last batch may be short and counts as
    much as any. Unlike everything else here it depends on order and batch size: only for comparison with that study.
    """
    starts = range(0, len(scores), batch_size)
    batches = [pooled_psnr(scores[s : s + batch_size], pixel_counts[s : s + batch_size]) for s in starts]
    defined = [batch for batch in batches if not math.isnan(batch)]
    return sum(defined) / len(defined) if defined else math.nan


def _decibel(mean_squared_error: float) -> float:
    return 10 * math.log10(_PEAK**2 / mean_squared_error) if mean_squared_error else math.inf


def _squared_error(a: torch.Tensor, b: torch.Tensor) -> int:
    import torch

    difference = a.to(torch.int32) - b
    # A row is summed in 32 bits, twice as fast as in 64: 2^31 / 255^2 leaves room for 33,025 pixels.
    narrow = a.shape[-1] < 2**15
    rows = difference.mul_(difference).sum(dim=-1, dtype=torch.int32 if narrow else torch.int64)
    return int(rows.sum(dtype=torch.int64))


def _absolute_error(a: torch.Tensor, b: torch.Tensor) -> int:
    import torch

    # The larger less the smaller never leaves uint8.
    return int((torch.maximum(a, b) - torch.minimum(a, b)).sum(dtype=torch.int64))
