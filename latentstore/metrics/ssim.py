"""SSIM: how alike two pictures are in local brightness, contrast and structure.

Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural similarity, IEEE
Transactions on Image Processing 13(4), 2004. With means, variances and covariance under a Gaussian window,

    SSIM = (2 mean(x) mean(y) + C1) / (mean(x)² + mean(y)² + C1)  *  (2 cov(x, y) + C2) / (var(x) + var(y) + C2)

Written in the sum u = x + y and the difference v = x - y, which needs four filtered planes instead of five, this is

    SSIM = (1 - mean(v)² / ((mean(u)² + mean(v)²) / 2 + C1))  *  (1 - var(v) / ((var(u) + var(v)) / 2 + C2))

and good pictures, where v is small, lose nothing to cancellation, so that float32 is enough.

A score is the same to the last bit whatever the batch, the number of threads and the device. That is why every step
below is one multiplication, addition or division (a fused multiply-add rounds differently, and kernels fuse in some
places only), and why the local values are added up as whole numbers.

The steps are written once for numpy, which is faster in one thread, and for torch, which shares each step among several
threads of a CPU and computes on accelerators. (Threads that each call numpy wait for the interpreter between the steps,
and together were no faster than one.) They work on strips that stay in the cache, in memory that is used again, and a
window is moved over a strip as if it were one long row: places where it then reaches over the edge are worked out too,
and left out of the sum. That is faster than row by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_WINDOW = 11
_SIGMA = 1.5
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2

_HALF = _WINDOW // 2
_BELL = [math.exp(-((k - _HALF) ** 2) / (2 * _SIGMA**2)) for k in range(_WINDOW)]
_WEIGHTS = [weight / math.fsum(_BELL) for weight in _BELL]

# Pixels worked on at once: what stays in the cache of a thread alone, what is worth to be shared by several, and what
# keeps a device busy.
_ALONE_PIXELS, _TOGETHER_PIXELS, _DEVICE_PIXELS = 2**14, 2**18, 2**22
# A strip reads as many rows more as the window is high, less one, so a low strip reads most rows many times.
_LEAST_ROWS = 32
# Local values are rounded to this part of one, about float32's own precision just below 1.
_FIXED_POINT = 2**24


def ssim(reference: torch.Tensor, reconstruction: torch.Tensor) -> NDArray[np.float64]:
    """Structural similarity of each picture, (N,) float64 in [-1, 1], from two (N, C, H, W) uint8 tensors.

    Mean over the channels and over every place where the 11x11 window lies inside the picture; NaN where there is
    none. Equals scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1.0)`` on the pictures in [0, 1]: to 1e-6 where PSNR is above 20 dB,
    to 5e-5 for the worst there is, flat areas of far apart colours decoded as others.
    """
    if min(reference.shape[-2:]) < _WINDOW:
        return np.full(len(reference), np.nan)
    return _mean_similarity(reference, reconstruction, mirrored=0, grey=0.0)


def ssim_vaes4rs(reference: torch.Tensor, reconstruction: torch.Tensor) -> NDArray[np.float64]:
    """Structural similarity of each picture, (N,) float64, as VAEs4RS measures it: on values in [-1, 1].

    Equals torchmetrics' ``structural_similarity_index_measure(data_range=2.0)`` on uint8 / 127.5 - 1: the mean over
    the channels and the whole picture, mirrored at its edges. Mid-grey is 0 there, and brightness is compared as a
    ratio to it, so that the number is not the usual one. NaN where a side is shorter than 6 pixels, too few to mirror.
    """
    if min(reference.shape[-2:]) <= _HALF:
        return np.full(len(reference), np.nan)
    return _mean_similarity(reference, reconstruction, mirrored=_HALF, grey=127.5)


def _mean_similarity(
    reference: torch.Tensor, reconstruction: torch.Tensor, *, mirrored: int, grey: float
) -> NDArray[np.float64]:
    """Mean local SSIM of each picture with so many mirrored pixels around it, and ``grey`` of 255 taken for 0."""
    import torch

    count, channels, height, width = reference.shape
    x, y = reference.reshape(-1, height, width), reconstruction.reshape(-1, height, width)
    if reference.device.type != "cpu":
        sums = _Strips(torch, x, y, mirrored, grey, _DEVICE_PIXELS).sums()
    elif torch.get_num_threads() > 1:
        sums = _Strips(torch, x, y, mirrored, grey, _TOGETHER_PIXELS).sums()
    else:
        sums = _Strips(np, x.numpy(), y.numpy(), mirrored, grey, _ALONE_PIXELS).sums()
    shrunk = _WINDOW - 1 - 2 * mirrored
    places = channels * (height - shrunk) * (width - shrunk)
    mean: NDArray[np.float64] = np.array(sums).reshape(count, channels).sum(axis=1) / (places * _FIXED_POINT)
    return mean


@dataclass(frozen=True)
class _Strips:
    """Two stacks of planes (P, H, W) uint8, arrays of numpy or tensors of torch, to be compared strip by strip."""

    xp: Any
    """The module that computes: numpy or torch."""
    x: Any
    y: Any
    mirrored: int
    grey: float
    pixels: int
    """To work on at once."""

    def sums(self) -> list[float]:
        """Sum of the local SSIM of each plane, in units of 1/_FIXED_POINT: whole numbers, exactly."""
        xp, x, y, around = self.xp, self.x, self.y, self.mirrored
        height, width = (side + 2 * around for side in x.shape[1:])
        high = height - _WINDOW + 1
        rows = min(high, max(_LEAST_ROWS, self.pixels // width))
        together = max(1, self.pixels // (rows * width))
        room = 4 * min(together, len(x)) * width
        where = _beside(x)
        fields, down, across, spare = (
            xp.empty(room * lines, dtype=xp.float32, **where) for lines in (rows + _WINDOW - 1, rows, rows, rows)
        )
        found: list[float] = []
        for first in range(0, len(x), together):
            part = slice(first, first + together)
            one, other = x[part], y[part]
            # Variances do not change when a constant is taken away first, and lose far less to rounding: flat areas
            # would otherwise be off by 5e-5. Whole numbers keep what is squared exact.
            mean_one, mean_other = (
                xp.sum(plane, axis=(1, 2), dtype=xp.int64) // (plane.shape[1] * plane.shape[2])
                for plane in (one, other)
            )
            taken = xp.empty((2, len(one)), dtype=xp.float32, **where)
            taken[0], taken[1] = mean_one + mean_other, mean_one - mean_other
            one, other = (_with_border(xp, plane, around) for plane in (one, other))
            total = xp.zeros(len(one), dtype=xp.float64, **where)
            for top in range(0, high, rows):
                lines = slice(top, min(top + rows, high) + _WINDOW - 1)
                total += self._sum_of_strip(one[:, lines], other[:, lines], taken, (fields, down, across, spare))
            found += total.tolist()
        return found

    def _sum_of_strip(self, x: Any, y: Any, taken: Any, memory: Sequence[Any]) -> Any:
        """(P,) float64: the sum for one strip (P, h, w) of these planes.

        ``taken`` (2, P) is what is taken away from their sum and difference; ``memory`` is what to work in: the four
        fields, the same filtered down and then across, and as much again.
        """
        xp = self.xp
        planes, lines, width = x.shape
        rows = lines - _WINDOW + 1
        size = planes * rows * width
        fields = memory[0][: 4 * planes * lines * width].reshape(4, planes, lines * width)
        down, across, spare = (numbers[: 4 * size].reshape(4, planes, rows * width) for numbers in memory[1:])

        pictures = fields.reshape(4, planes, lines, width)
        pictures[2], pictures[3] = x, y
        xp.add(fields[2], fields[3], out=fields[0])
        xp.subtract(fields[2], fields[3], out=fields[1])
        fields[:2] -= taken[:, :, None]
        xp.multiply(fields[:2], fields[:2], out=fields[2:])

        _blur(xp, fields, width, down, spare)
        down, across, spare = (numbers.reshape(4, size) for numbers in (down, across, spare))
        ends = size - _WINDOW + 1  # further on, the window would leave the strip
        _blur(xp, down, 1, across[:, :ends], spare[:, :ends])
        across[:, ends:] = 0

        mean, variance = across[:2], across[2:]
        xp.multiply(mean, mean, out=spare[:2])
        variance -= spare[:2]
        brightness = mean.reshape(2, planes, rows * width)
        brightness[0] += (taken[0] - 2 * self.grey)[:, None]  # a sum of two pictures holds it twice
        brightness[1] += taken[1][:, None]
        mean *= mean
        local = _less_alike(xp, mean, _C1, spare[0])
        local *= _less_alike(xp, variance, _C2, spare[1])
        local *= _FIXED_POINT
        xp.round(local, out=local)
        inside = local.reshape(planes, rows, width)[:, :, : width - _WINDOW + 1]
        return xp.sum(inside, axis=(1, 2), dtype=xp.float64)


def _with_border(xp: Any, planes: Any, around: int) -> Any:
    """Planes (P, H, W) with so many mirrored pixels around them; the edge itself is not repeated."""
    if not around:
        return planes
    count, height, width = planes.shape
    wide = xp.empty((count, height + 2 * around, width + 2 * around), dtype=planes.dtype, **_beside(planes))
    wide[:, around:-around, around:-around] = planes
    for axis in (2, 1):  # columns first, so that the rows are whole when they are copied
        lines = wide.swapaxes(0, axis)
        for k in range(1, around + 1):
            lines[around - k], lines[-1 - around + k] = lines[around + k], lines[-1 - around - k]
    return wide


def _beside(planes: Any) -> dict[str, Any]:
    """What to tell torch so that it makes a tensor where this one is; nothing for numpy's arrays."""
    return {} if isinstance(planes, np.ndarray) else {"device": planes.device}


def _blur(xp: Any, numbers: Any, step: int, total: Any, spare: Any) -> None:
    """Gaussian-weighted sums of every ``step``-th number along the last axis, into ``total``, which is shorter."""
    size = total.shape[-1]
    taps = [numbers[..., k * step : k * step + size] for k in range(_WINDOW)]
    xp.multiply(taps[_HALF], _WEIGHTS[_HALF], out=total)
    for k in range(_HALF):
        xp.add(taps[k], taps[-1 - k], out=spare)
        spare *= _WEIGHTS[k]
        total += spare


def _less_alike(xp: Any, pair: Any, constant: float, out: Any) -> Any:
    """One factor of SSIM, less than 1, with its sign turned: b / ((a + b) / 2 + constant) - 1."""
    xp.add(pair[0], pair[1], out=out)
    out *= 0.5
    out += constant
    xp.divide(pair[1], out, out=out)
    out -= 1
    return out
