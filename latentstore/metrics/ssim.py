"""SSIM: how alike two pictures are in local brightness, contrast and structure.

Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural similarity, IEEE
Transactions on Image Processing 13(4), 2004. With means, variances and covariance under a Gaussian window,

    SSIM = (2 mean(x) mean(y) + C1) / (mean(x)² + mean(y)² + C1)  *  (2 cov(x, y) + C2) / (var(x) + var(y) + C2)

Written in the sum u = x + y and the difference v = x - y, which needs four filtered planes instead of five, this is

    SSIM = (1 - mean(v)² / ((mean(u)² + mean(v)²) / 2 + C1))  *  (1 - var(v) / ((var(u) + var(v)) / 2 + C2))

and good pictures, where v is small, lose nothing to cancellation, so that float32 is enough.

A score is the same to the last bit whatever the batch and the number of threads. That is why every step below is one
multiplication, addition or division (a fused multiply-add rounds differently, and kernels fuse in some places only),
and why the local values are added up as integers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

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

# Pixels worked on at once: on a CPU what stays in the cache, elsewhere what keeps the device busy.
_CPU_PIXELS, _DEVICE_PIXELS = 2**16, 2**22
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
    count, channels, height, width = reference.shape
    budget = _CPU_PIXELS if reference.device.type == "cpu" else _DEVICE_PIXELS
    planes = max(1, budget // (height * width))
    x, y = reference.flatten(0, 1), reconstruction.flatten(0, 1)
    parts = [slice(start, start + planes) for start in range(0, count * channels, planes)]
    sums = np.array(
        [total for part in parts for total in _similarity(x[part], y[part], mirrored, grey).tolist()], dtype=np.int64
    )
    shrunk = _WINDOW - 1 - 2 * mirrored
    places = channels * (height - shrunk) * (width - shrunk)
    mean: NDArray[np.float64] = sums.reshape(count, channels).sum(axis=1) / (places * _FIXED_POINT)
    return mean


def _similarity(x: torch.Tensor, y: torch.Tensor, mirrored: int, grey: float) -> torch.Tensor:
    """Sum of the local SSIM of each plane in units of 1/_FIXED_POINT, (P,) int64, from two (P, H, W) uint8 tensors."""
    import torch

    # Variances do not change when a constant is taken away first, and lose far less to rounding: flat areas would
    # otherwise be off by 5e-5. Whole numbers keep what is squared exact.
    centre_x, centre_y = (plane.sum((-2, -1), keepdim=True, dtype=torch.int64) // plane[0].numel() for plane in (x, y))
    centre = torch.stack([centre_x + centre_y, centre_x - centre_y]).to(torch.float32)
    fields = torch.empty((4, *x.shape), dtype=torch.float32, device=x.device)
    wide_x, wide_y = x.to(torch.float32), y.to(torch.float32)
    torch.add(wide_x, wide_y, out=fields[0])
    torch.sub(wide_x, wide_y, out=fields[1])
    fields[:2] -= centre
    torch.mul(fields[:2], fields[:2], out=fields[2:])
    if mirrored:
        fields = torch.nn.functional.pad(fields, (mirrored,) * 4, mode="reflect")

    smooth = _blur(_blur(fields, -2), -1)
    variance = smooth[2:] - smooth[:2].square()
    centre[0] -= 2 * grey  # the sum of two pictures holds it twice, their difference not at all
    mean_squared = (smooth[:2] + centre).square_()
    luminance = 1 - mean_squared[1] / mean_squared.sum(0).mul_(0.5).add_(_C1)
    structure = 1 - variance[1] / variance.sum(0).mul_(0.5).add_(_C2)
    local = luminance.mul_(structure).mul_(_FIXED_POINT).round_()
    return local.to(torch.int32).sum((-2, -1), dtype=torch.int64)


def _blur(fields: torch.Tensor, axis: int) -> torch.Tensor:
    """Gaussian-weighted sums along one axis, which gets shorter by ``_WINDOW - 1``."""
    import torch

    size = fields.shape[axis] - _WINDOW + 1
    total = fields.narrow(axis, _HALF, size) * _WEIGHTS[_HALF]
    pair = torch.empty_like(total)
    for k in range(_HALF):
        torch.add(fields.narrow(axis, k, size), fields.narrow(axis, _WINDOW - 1 - k, size), out=pair)
        total += pair.mul_(_WEIGHTS[k])
    return total
