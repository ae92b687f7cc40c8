"""Maximum mean discrepancies between two sets of features: KID and CMMD.

    KID   Bińkowski, Sutherland, Arbel, Gretton: Demystifying MMD GANs, ICLR 2018:  k(x, y) = (x·y / D + 1)³
    CMMD  Jayasumana, Ramalingam, Veit, Glasner, Chakrabarti, Kumar: Rethinking FID, CVPR 2024:
          k(x, y) = exp(-|x - y|² / (2 * 10²)), of vectors of length 1; times 1000

Both are means of a kernel over pairs, taken over *all* pairs in float64 and not over random subsets, so that the value
does not depend on chance or on the order of the pictures. The cost grows with the square of their number.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from latentstore.metrics.interface import Features, State

    Wide = NDArray[np.float64]

_SIDES = ("reference", "reconstruction")
_BLOCK = 1024
_SIGMA = 10.0
_CMMD_SCALE = 1000.0


class KernelDistance:
    """What both share: the features of either side, kept as float32."""

    def __init__(self, features: int) -> None:
        self._features = features
        self._kept: dict[str, list[Features]] = {side: [] for side in _SIDES}

    @property
    def count(self) -> int:
        """Pictures taken in."""
        return sum(len(part) for part in self._kept["reference"])

    def add(self, reference: Features, reconstruction: Features) -> None:
        """Takes features in, two arrays (N, D) float32."""
        for side, features in zip(_SIDES, (reference, reconstruction), strict=True):
            self._kept[side].append(np.array(features, dtype=np.float32))

    def state(self) -> State:
        """The features of either side, (N, D) float32."""
        return {side: self._all(side) for side in _SIDES}

    def merge(self, state: State) -> None:
        """Takes in the features of another one."""
        self.add(*(np.asarray(state[side], dtype=np.float32) for side in _SIDES))

    def doubts(self) -> tuple[str, ...]:
        """None: kernel means need no more pictures than features."""
        return ()

    def _all(self, side: str) -> Features:
        empty = np.zeros((0, self._features), dtype=np.float32)
        return np.concatenate([empty, *self._kept[side]])


class PolynomialDistance(KernelDistance):
    """KID."""

    def value(self) -> float:
        """The unbiased estimate, which may be a little below 0."""
        x, y = (self._all(side) for side in _SIDES)
        own = sum(_kernel_sum(side, side, self._kernel) - self._diagonal(side) for side in (x, y))
        return own / (len(x) * (len(x) - 1)) - 2 * _kernel_sum(x, y, self._kernel) / len(x) ** 2

    def _kernel(self, a: Wide, b: Wide) -> Wide:
        kernel: Wide = (a @ b.T / self._features + 1) ** 3
        return kernel

    def _diagonal(self, x: Features) -> float:
        squares = np.square(x.astype(np.float64)).sum(axis=1)
        return math.fsum(((squares / self._features + 1) ** 3).tolist())


class GaussianDistance(KernelDistance):
    """CMMD."""

    def value(self) -> float:
        """A thousand times the squared distance between the means in the kernel's space; 0 for equal sets."""
        x, y = (_of_length_one(self._all(side)) for side in _SIDES)
        sums = [_kernel_sum(a, b, _bell_less_one) for a, b in ((x, x), (y, y), (x, y))]
        return _CMMD_SCALE * (sums[0] + sums[1] - 2 * sums[2]) / len(x) ** 2


def _bell_less_one(a: Wide, b: Wide) -> Wide:
    # The kernel is within 0.02 of 1 for vectors of length 1, and the ones cancel: without them nothing is lost.
    distances = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None] - 2 * (a @ b.T)
    bell: Wide = np.expm1(-distances / (2 * _SIGMA**2))
    return bell


def _of_length_one(features: Features) -> Wide:
    wide = features.astype(np.float64)
    lengths = np.sqrt(np.square(wide).sum(axis=1, keepdims=True))
    scaled: Wide = wide / np.where(lengths > 0, lengths, 1.0)
    return scaled


def _kernel_sum(x: NDArray[np.floating], y: NDArray[np.floating], kernel: Callable[[Wide, Wide], Wide]) -> float:
    """Sum of the symmetric kernel over all pairs, block by block in float64."""
    sums = []
    for i in range(0, len(x), _BLOCK):
        rows = x[i : i + _BLOCK].astype(np.float64)
        for j in range(i if x is y else 0, len(y), _BLOCK):
            block = float(kernel(rows, y[j : j + _BLOCK].astype(np.float64)).sum())
            sums.append(2 * block if x is y and j > i else block)
    return math.fsum(sums)
