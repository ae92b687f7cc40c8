"""The Fréchet distance between two sets of features, each taken as a normal distribution.

Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter: GANs trained by a two time-scale update rule converge to a local
Nash equilibrium, NeurIPS 2017. With means m and covariances S (divided by N - 1),

    FID = |m1 - m2|² + trace(S1) + trace(S2) - 2 trace((S1 S2)^½)

The last trace is the sum of the square roots of the eigenvalues of S1 S2, which are the squared singular values of
S1^½ S2^½: so it is taken from the eigenvectors of two symmetric matrices, without a matrix square root, and the
directions that N pictures cannot have (there are at most N - 1) are left out instead of adding rounding noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.metrics.interface import Features, State

_SIDES = ("reference", "reconstruction")


class FrechetDistance:
    """Sums of features and of their products in float64: merging shards is adding, in any order."""

    def __init__(self, features: int) -> None:
        self._features = features
        self._count = 0
        self._sums = {side: np.zeros(features) for side in _SIDES}
        self._products = {side: np.zeros((features, features)) for side in _SIDES}

    @property
    def count(self) -> int:
        """Pictures taken in."""
        return self._count

    def add(self, reference: Features, reconstruction: Features) -> None:
        """Takes features in, two arrays (N, D) float32."""
        for side, features in zip(_SIDES, (reference, reconstruction), strict=True):
            wide = features.astype(np.float64)
            self._sums[side] += wide.sum(axis=0)
            self._products[side] += wide.T @ wide
        self._count += len(reference)

    def state(self) -> State:
        """Count, and for each side the sums (D,) and products (D, D), float64."""
        arrays: dict[str, NDArray[np.generic]] = {"count": np.array(self._count)}
        for side in _SIDES:
            arrays[f"{side}_sum"] = self._sums[side].copy()
            arrays[f"{side}_products"] = self._products[side].copy()
        return arrays

    def merge(self, state: State) -> None:
        """Adds what another one counted."""
        self._count += int(state["count"])
        for side in _SIDES:
            self._sums[side] += np.asarray(state[f"{side}_sum"], dtype=np.float64)
            self._products[side] += np.asarray(state[f"{side}_products"], dtype=np.float64)

    def value(self) -> float:
        """The Fréchet distance; 0 for equal sets, but for rounding."""
        means, traces, roots = [], [], []
        for side in _SIDES:
            mean = self._sums[side] / self._count
            covariance = (self._products[side] - self._count * np.outer(mean, mean)) / (self._count - 1)
            means.append(mean)
            traces.append(float(np.trace(covariance)))
            roots.append(_root(covariance))
        shared = float(np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum())
        return float(np.square(means[0] - means[1]).sum()) + traces[0] + traces[1] - 2 * shared

    def doubts(self) -> tuple[str, ...]:
        """Whether there are fewer pictures than the covariances have directions."""
        if self._count > self._features:
            return ()
        singular = f"{self._count:,} pictures cannot fill {self._features:,} directions"
        return (f"{singular}: both covariances are singular and the distance is biased.",)


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """R (rank, D) with RᵀR the covariance: its eigenvectors, each times the root of its eigenvalue."""
    values, vectors = np.linalg.eigh(covariance)
    noise = len(values) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    kept = values > noise
    root: NDArray[np.float64] = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    return root
