"""KID against torchmetrics, KID and CMMD against their formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.image.kid import KernelInceptionDistance

from latentstore.metrics import kernel_distance
from latentstore.metrics.kernel_distance import GaussianDistance, KernelDistance, PolynomialDistance

Features = NDArray[np.float32]


def pair(count: int, length: int = 16) -> tuple[Features, Features]:
    """Two sets of features that differ."""
    random = np.random.default_rng(count)
    first = random.standard_normal((count, length)).astype(np.float32)
    return first, (first + 0.3 + 0.2 * random.standard_normal(first.shape)).astype(np.float32)


def value(distance: PolynomialDistance | GaussianDistance, first: Features, second: Features) -> float:
    distance.add(first, second)
    return distance.value()


def kid_by_definition(first: Features, second: Features) -> float:
    """One pair after the other."""
    x, y, count, length = first.astype(np.float64), second.astype(np.float64), *first.shape

    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float((np.dot(a, b) / length + 1) ** 3)

    others = [(i, j) for i in range(count) for j in range(count) if i != j]
    own = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in others) / len(others)
    return float(own - 2 * sum(kernel(a, b) for a in x for b in y) / count**2)


def cmmd_by_definition(first: Features, second: Features) -> float:
    """One pair after the other."""
    x, y = (
        part / np.linalg.norm(part, axis=1, keepdims=True)
        for part in (first.astype(np.float64), second.astype(np.float64))
    )

    def mean(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float(np.mean([np.exp(-np.sum((p - q) ** 2) / (2 * 10**2)) for p in a for q in b]))

    return 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


@pytest.mark.parametrize("count", [2, 3, 40])
def test_kid_equals_its_definition(count: int) -> None:
    first, second = pair(count)
    assert value(PolynomialDistance(16), first, second) == pytest.approx(kid_by_definition(first, second), rel=1e-9)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save:UserWarning")
def test_kid_equals_torchmetrics_with_one_subset_of_all() -> None:
    class Given(torch.nn.Module):
        num_features = 16

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features[..., 0, 0] if features.ndim == 4 else features

    first, second = pair(50)
    theirs = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=50)
    theirs.update(torch.from_numpy(first), real=True)
    theirs.update(torch.from_numpy(second), real=False)
    assert value(PolynomialDistance(16), first, second) == pytest.approx(theirs.compute()[0].item(), rel=1e-5)


@pytest.mark.parametrize("count", [2, 3, 40])
def test_cmmd_equals_its_definition(count: int) -> None:
    first, second = pair(count)
    expected = cmmd_by_definition(first, second)
    assert value(GaussianDistance(16), first, second) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_cmmd_of_nearly_equal_sets_is_not_lost_in_rounding() -> None:
    # In float32 the kernel means agree to all digits: 1e-7 of 1, times 1000.
    first, _ = pair(40)
    second = first + np.float32(1e-4)
    exact, halved = (value(GaussianDistance(16), first, part) for part in (second, first + np.float32(5e-5)))
    assert 0 < halved < exact < 1e-6
    assert exact / halved == pytest.approx(4, rel=1e-2)


def test_cmmd_knows_directions_only_and_takes_a_zero_vector_for_what_it_is() -> None:
    first, second = pair(10)
    assert value(GaussianDistance(16), 3 * first, second) == pytest.approx(value(GaussianDistance(16), first, second))
    first[0] = 0
    assert np.isfinite(value(GaussianDistance(16), first, second))


@pytest.mark.parametrize("kind", [PolynomialDistance, GaussianDistance])
def test_blocks_do_not_matter(
    kind: type[PolynomialDistance | GaussianDistance], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = value(kind(16), *pair(50))
    monkeypatch.setattr(kernel_distance, "_BLOCK", 7)
    assert value(kind(16), *pair(50)) == pytest.approx(whole, rel=1e-12)


def test_features_are_kept_and_not_looked_at_later() -> None:
    first, second = pair(5)
    kept: KernelDistance = PolynomialDistance(16)
    kept.add(first, second)
    before = kept.state()["reference"].copy()
    first[:] = 0
    assert np.array_equal(kept.state()["reference"], before)
    assert kept.state()["reference"].dtype == np.float32
    assert kept.doubts() == ()
