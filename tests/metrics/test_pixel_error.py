"""PSNR and MAE against scikit-image and torchmetrics, at the edges, and whatever the batch, order and threads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio
from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr

from latentstore.metrics.pixel_error import batch_mean_psnr, mae, pooled_psnr, psnr

if TYPE_CHECKING:
    from random import Random

SHAPES = [(1, 1), (1, 7), (10, 11), (11, 11), (64, 48), (37, 1000)]


def noisy_pair(count: int, height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pictures and the same with noise of another strength in each, all uint8 (N, 3, H, W)."""
    random = torch.Generator().manual_seed(seed)
    clean = torch.randint(0, 256, (count, 3, height, width), generator=random, dtype=torch.uint8)
    strength = torch.linspace(2, 40, count).view(-1, 1, 1, 1)
    noise = torch.randn(clean.shape, generator=random) * strength
    noise[:, 0, 0, 0] = 300 * (1 - 2 * (clean[:, 0, 0, 0] > 127).float())
    return clean, (clean + noise).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_psnr_equals_scikit_image(height: int, width: int) -> None:
    clean, noisy = noisy_pair(3, height, width)
    expected = [
        peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=255) for a, b in zip(clean, noisy, strict=True)
    ]
    np.testing.assert_allclose(psnr(clean, noisy), expected, rtol=1e-12)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_psnr_equals_torchmetrics(height: int, width: int) -> None:
    clean, noisy = noisy_pair(3, height, width)
    expected = torchmetrics_psnr(noisy / 255, clean / 255, data_range=1.0, reduction="none", dim=(1, 2, 3))
    np.testing.assert_allclose(psnr(clean, noisy), expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_mae_is_the_mean_absolute_difference_in_zero_to_one(height: int, width: int) -> None:
    clean, noisy = noisy_pair(3, height, width)
    expected = np.abs(clean.numpy() / 255 - noisy.numpy() / 255).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(mae(clean, noisy), expected, rtol=1e-12)


def test_identical_pictures_score_infinite_psnr_and_no_error() -> None:
    clean, _ = noisy_pair(2, 16, 16)
    assert psnr(clean, clean.clone()).tolist() == [math.inf, math.inf]
    assert mae(clean, clean.clone()).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 3, 200, 300), (1, 1, 1, 40_000), (1, 3, 1500, 1500)])
def test_black_against_white_is_exactly_the_worst_score_without_overflow(shape: tuple[int, ...]) -> None:
    black, white = torch.zeros(shape, dtype=torch.uint8), torch.full(shape, 255, dtype=torch.uint8)
    for reference, other in ((black, white), (white, black)):
        assert psnr(reference, other).tolist() == [0.0]
        assert mae(reference, other).tolist() == [1.0]


def test_one_step_of_difference_is_48_decibel() -> None:
    grey = torch.full((1, 3, 5, 5), 100, dtype=torch.uint8)
    assert psnr(grey, grey + 1)[0] == pytest.approx(48.1308, abs=1e-4)
    assert mae(grey, grey - 1)[0] == 1 / 255


def test_psnr_counts_memory_order_for_nothing() -> None:
    clean, noisy = noisy_pair(2, 16, 24)
    strided = noisy.to(memory_format=torch.channels_last)
    assert psnr(clean, strided).tolist() == psnr(clean, noisy).tolist()
    assert mae(clean, strided).tolist() == mae(clean, noisy).tolist()


def test_an_empty_batch_has_no_scores() -> None:
    none = torch.zeros((0, 3, 8, 8), dtype=torch.uint8)
    assert psnr(none, none).shape == mae(none, none).shape == (0,)


def test_pooled_psnr_is_that_of_all_pixels_taken_together() -> None:
    parts = [noisy_pair(3, height, width, seed=height) for height, width in SHAPES]
    scores = np.concatenate([psnr(*part) for part in parts])
    pixels = np.concatenate([np.full(3, height * width) for height, width in SHAPES]).astype(np.float64)
    clean, noisy = (np.concatenate([part[side].numpy().ravel() for part in parts]) for side in (0, 1))
    assert pooled_psnr(scores, pixels) == pytest.approx(
        peak_signal_noise_ratio(clean, noisy, data_range=255), rel=1e-12
    )


def test_pooled_psnr_counts_identical_pictures_as_errorless_and_leaves_out_undefined_ones() -> None:
    size = np.full(2, 100.0)
    assert pooled_psnr(np.array([30.0, math.inf]), size) == pytest.approx(30 + 10 * math.log10(2))
    assert pooled_psnr(np.array([30.0, math.nan]), size) == pytest.approx(30.0)
    assert pooled_psnr(np.array([math.inf, math.inf]), size) == math.inf
    assert math.isnan(pooled_psnr(np.array([math.nan, math.nan]), size))
    assert math.isnan(pooled_psnr(np.array([]), np.array([])))


@given(
    st.lists(st.tuples(st.floats(0, 90), st.integers(1, 10**7)), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_pooled_psnr_is_the_same_in_any_order(scored: list[tuple[float, int]], random: Random) -> None:
    shuffled = list(scored)
    random.shuffle(shuffled)
    first, second = (np.array(rows, dtype=np.float64).T for rows in (scored, shuffled))
    assert pooled_psnr(first[0], first[1]) == pooled_psnr(second[0], second[1])


@given(st.lists(st.floats(0, 90), min_size=1, max_size=30))
def test_pooled_psnr_lies_between_the_worst_and_the_best(scores: list[float]) -> None:
    pooled = pooled_psnr(np.array(scores), np.ones(len(scores)))
    assert min(scores) - 1e-9 <= pooled <= max(scores) + 1e-9


def test_psnr_by_batches_is_the_mean_of_what_torchmetrics_gives_for_each_batch() -> None:
    clean, noisy = noisy_pair(7, 16, 24)
    symmetric = [picture / 127.5 - 1 for picture in (clean, noisy)]
    batches = [
        torchmetrics_psnr(b, a, data_range=2.0).item()
        for a, b in zip(*(torch.chunk(x, 3) for x in symmetric), strict=True)
    ]
    scores, pixels = psnr(clean, noisy), np.full(7, 16.0 * 24)
    assert batch_mean_psnr(scores, pixels, 3) == pytest.approx(np.mean(batches), rel=1e-6)
    assert batch_mean_psnr(scores, pixels, 1) == pytest.approx(scores.mean())
    assert batch_mean_psnr(scores, pixels, 100) == pytest.approx(pooled_psnr(scores, pixels))
    assert math.isnan(batch_mean_psnr(np.array([math.nan]), np.ones(1), 3))
