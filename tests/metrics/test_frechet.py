"""The Fréchet distance against the formula with scipy's matrix square root."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm  # type: ignore[import-untyped]

from latentstore.metrics.frechet import FrechetDistance

Features = NDArray[np.float32]


def features(count: int, length: int, *, shift: float = 0.0, seed: int = 0) -> Features:
    """Correlated features of one sign, as those of a network after a ReLU."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((count, length)) @ random.standard_normal((length, length)) / length**0.5
    found: Features = np.abs(mixed + shift).astype(np.float32)
    return found


def distance(first: Features, second: Features) -> float:
    found = FrechetDistance(first.shape[1])
    found.add(first, second)
    return found.value()


def by_definition(first: Features, second: Features) -> float:
    """|m1 - m2|² + tr(S1 + S2 - 2 sqrtm(S1 S2))."""
    x, y = first.astype(np.float64), second.astype(np.float64)
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.real(sqrtm(s1 @ s2))
    return float(np.square(x.mean(0) - y.mean(0)).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(root))


@pytest.mark.parametrize("length", [1, 2, 16, 64])
def test_equals_the_definition(length: int) -> None:
    first, second = features(300, length), features(300, length, shift=0.3, seed=1)
    if length == 1:
        x, y = first.astype(np.float64), second.astype(np.float64)
        expected = float((x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2)
    else:
        expected = by_definition(first, second)
    assert distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_fewer_pictures_than_features_still_have_the_exact_distance() -> None:
    # Both sets span few directions; there the definition can be taken without a singular matrix.
    small, other = features(200, 6), features(200, 6, shift=0.5, seed=1)
    basis = np.linalg.qr(np.random.default_rng(2).standard_normal((500, 6)))[0].T
    wide = [(part.astype(np.float64) @ basis).astype(np.float32) for part in (small, other)]
    assert distance(*wide) == pytest.approx(by_definition(small, other), rel=1e-5)


def test_a_singular_distance_is_that_of_the_nuclear_norm_of_the_features() -> None:
    # With X, Y centred and divided by the root of N - 1, trace((S1 S2)^½) is the sum of singular values of X Yᵀ.
    first, second = features(20, 300), features(20, 300, shift=0.2, seed=1)
    x, y = (part - part.mean(0) for part in (first.astype(np.float64), second.astype(np.float64)))
    shared = np.linalg.svd(x @ y.T, compute_uv=False).sum() / 19
    means = np.square(first.mean(0, dtype=np.float64) - second.mean(0, dtype=np.float64)).sum()
    expected = means + (np.square(x).sum() + np.square(y).sum()) / 19 - 2 * shared
    assert distance(first, second) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [10, 100, 400])
def test_equal_sets_are_at_distance_zero_whatever_their_rank(count: int) -> None:
    same = features(count, 128)
    assert distance(same, same) == pytest.approx(0, abs=1e-9)


def test_a_constant_shift_is_its_square() -> None:
    first = features(500, 8)
    assert distance(first, first + np.float32(0.5)) == pytest.approx(8 * 0.25, rel=1e-5)


def test_features_that_never_vary_have_no_covariance_to_take_a_root_of() -> None:
    flat = np.ones((5, 4), dtype=np.float32)
    assert distance(flat, flat) == 0
    assert distance(flat, 3 * flat) == 16


def test_too_few_pictures_for_the_covariance_are_doubted() -> None:
    found = FrechetDistance(8)
    found.add(features(8, 8), features(8, 8))
    assert found.doubts() == (
        "8 pictures cannot fill 8 directions: both covariances are singular and the distance is biased.",
    )
    found.add(features(1, 8), features(1, 8))
    assert found.doubts() == ()
