"""SSIM against scikit-image and torchmetrics, at the edges, and whatever the batch and threads."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from latentstore.metrics import ssim as ssim_module
from latentstore.metrics.pixel_error import psnr
from latentstore.metrics.ssim import ssim, ssim_vaes4rs

Variant = Callable[[torch.Tensor, torch.Tensor], np.ndarray]


def scikit_image_ssim(reference: torch.Tensor, reconstruction: torch.Tensor) -> list[float]:
    """The stated convention in float64, one number a picture."""
    return [
        structural_similarity(
            a.numpy() / 255,
            b.numpy() / 255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=0,
        )
        for a, b in zip(reference, reconstruction, strict=True)
    ]


def smooth_pair(count: int, height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft pictures and the same with noise of another strength in each, all uint8 (N, 3, H, W)."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand((count, 3, -(-height // 6), -(-width // 6)), generator=random) * 255
    clean = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    noise = torch.randn(clean.shape, generator=random) * torch.linspace(2, 40, count).view(-1, 1, 1, 1)
    return clean.to(torch.uint8), (clean + noise).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize(
    ("height", "width"), [(11, 11), (11, 40), (40, 11), (12, 13), (64, 48), (37, 1000), (150, 130)]
)
def test_equals_scikit_image(height: int, width: int) -> None:
    clean, noisy = smooth_pair(3, height, width)
    np.testing.assert_allclose(ssim(clean, noisy), scikit_image_ssim(clean, noisy), rtol=0, atol=1e-6)


def test_equals_torchmetrics_where_both_look() -> None:
    """Torchmetrics averages over a mirrored border of 5 pixels too; without the border it is the same map."""
    clean, noisy = smooth_pair(3, 64, 48)
    whole_area, whole_map = structural_similarity_index_measure(
        noisy / 255, clean / 255, data_range=1.0, reduction="none", return_full_image=True
    )
    inside = whole_map[..., 5:-5, 5:-5].double().mean(dim=(1, 2, 3))
    np.testing.assert_allclose(ssim(clean, noisy), inside.numpy(), rtol=0, atol=1e-5)
    assert np.abs(ssim(clean, noisy) - whole_area.numpy()).max() > 1e-4


@pytest.mark.parametrize("values", [(0, 0), (255, 255), (0, 255), (255, 0), (255, 254), (1, 0), (128, 255), (3, 77)])
def test_plain_pictures_equal_scikit_image(values: tuple[int, int]) -> None:
    pair = [torch.full((1, 3, 20, 30), value, dtype=torch.uint8) for value in values]
    np.testing.assert_allclose(ssim(*pair), scikit_image_ssim(*pair), rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(11, 40), st.integers(11, 40)),
    st.integers(1, 40),
    st.lists(st.sampled_from([0, 1, 127, 128, 254, 255]), min_size=1, max_size=4),
    st.lists(st.integers(0, 255), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_blocks_of_extreme_values_equal_scikit_image(
    size: tuple[int, int], block: int, first: list[int], second: list[int], seed: int
) -> None:
    """Flat areas far from each other are the hardest case for float32: what is lost grows with the squared error."""
    height, width = size
    random = np.random.default_rng(seed)
    cells = (3, -(-height // block), -(-width // block))
    pair = [
        torch.from_numpy(
            np.kron(random.choice(values, cells), np.ones((1, block, block)))[:, :height, :width].astype(np.uint8)
        )[None]
        for values in (first, second)
    ]
    score = ssim(*pair)
    tolerance = 1e-6 if psnr(*pair)[0] > 20 else 5e-5
    np.testing.assert_allclose(score, scikit_image_ssim(*pair), rtol=0, atol=tolerance)
    assert -1 <= score[0] <= 1


def test_identical_pictures_score_exactly_one() -> None:
    clean, _ = smooth_pair(2, 32, 32)
    assert ssim(clean, clean.clone()).tolist() == [1.0, 1.0]


def test_order_of_the_two_pictures_does_not_matter() -> None:
    clean, noisy = smooth_pair(3, 40, 50)
    assert ssim(clean, noisy).tolist() == ssim(noisy, clean).tolist()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (10, 11), (11, 10), (10, 1000)])
def test_undefined_where_the_window_does_not_fit(height: int, width: int) -> None:
    clean, noisy = smooth_pair(2, height, width)
    scores = ssim(clean, noisy)
    assert scores.shape == (2,)
    assert np.isnan(scores).all()


def test_an_empty_batch_has_no_scores() -> None:
    none = torch.zeros((0, 3, 32, 32), dtype=torch.uint8)
    assert ssim(none, none).shape == (0,)


def test_a_negative_is_less_alike_than_nothing() -> None:
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (1, 3, 48, 48), generator=random, dtype=torch.uint8)
    score = ssim(noise, 255 - noise)[0]
    assert -1 <= score < -0.9
    assert not math.isnan(score)


@pytest.mark.parametrize("pixels", [1, 5000, 2**24])
def test_how_many_planes_go_together_does_not_matter(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, noisy = smooth_pair(5, 45, 67)
    expected = ssim(clean, noisy).tolist()
    for constant in ("_ALONE_PIXELS", "_TOGETHER_PIXELS"):
        monkeypatch.setattr(ssim_module, constant, pixels)
    assert ssim(clean, noisy).tolist() == expected


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("variant", [ssim, ssim_vaes4rs])
def test_the_number_of_threads_does_not_matter(variant: Variant, threads: int) -> None:
    clean, noisy = smooth_pair(2, 45, 67)
    expected = [variant(clean[i : i + 1], noisy[i : i + 1])[0] for i in range(2)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert variant(clean, noisy).tolist() == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("mirrored", "grey"), [(0, 0.0), (5, 127.5)])
@pytest.mark.parametrize(("height", "width"), [(11, 11), (45, 67), (150, 40)])
def test_torch_computes_the_same_bits_as_numpy(height: int, width: int, mirrored: int, grey: float) -> None:
    """On an accelerator torch takes the steps that numpy takes on a CPU."""
    x, y = (picture.flatten(0, 1) for picture in smooth_pair(2, height, width))
    with_torch = ssim_module._Strips(torch, x, y, mirrored, grey, 2**12).sums()
    with_numpy = ssim_module._Strips(np, x.numpy(), y.numpy(), mirrored, grey, 2**14).sums()
    assert with_torch == with_numpy


@pytest.mark.parametrize(
    ("height", "width", "usual", "of_the_study"),
    [
        (11, 11, "0x1.b89a940000000p-1", "0x1.a71dce794cdeep-1"),
        (40, 61, "0x1.e67f7bd84a113p-1", "0x1.e1bf0b6524178p-1"),
        (200, 150, "0x1.f908e3df0c168p-1", "0x1.f820d31a76f75p-1"),
    ],
)
def test_scores_that_were_published_stay_what_they_are(height: int, width: int, usual: str, of_the_study: str) -> None:
    """The values are those of version 0.1.0, to the last bit: pictures measured again have the score they had."""
    row, column, channel = torch.arange(height).view(-1, 1), torch.arange(width), torch.arange(3).view(-1, 1, 1)
    clean = (row * 5 + column * 3 + channel * 40 + row * column // 7) % 256
    other = (clean + (row * 31 + column * 17 + channel * 5) % 23 - 11).clamp(0, 255)
    pair = clean[None].to(torch.uint8), other[None].to(torch.uint8)
    assert (ssim(*pair)[0].hex(), ssim_vaes4rs(*pair)[0].hex()) == (usual, of_the_study)


def test_memory_order_does_not_matter() -> None:
    clean, noisy = smooth_pair(2, 40, 50)
    assert ssim(clean, noisy.to(memory_format=torch.channels_last)).tolist() == ssim(clean, noisy).tolist()


def torchmetrics_ssim_of_the_study(reference: torch.Tensor, reconstruction: torch.Tensor) -> list[float]:
    """VAEs4RS' convention in float64: values in [-1, 1], torchmetrics' defaults."""
    x, y = (picture.double() / 127.5 - 1 for picture in (reference, reconstruction))
    scores: list[float] = structural_similarity_index_measure(y, x, data_range=2.0, reduction="none").tolist()
    return scores


@pytest.mark.parametrize(("height", "width"), [(6, 6), (6, 40), (11, 11), (12, 13), (64, 48), (37, 500), (150, 130)])
def test_the_studys_variant_equals_torchmetrics(height: int, width: int) -> None:
    pair = smooth_pair(3, height, width)
    np.testing.assert_allclose(ssim_vaes4rs(*pair), torchmetrics_ssim_of_the_study(*pair), rtol=0, atol=1e-6)


@pytest.mark.parametrize("values", [(0, 0), (0, 255), (127, 128), (128, 255), (3, 77), (120, 135)])
def test_the_studys_variant_equals_torchmetrics_on_plain_pictures(values: tuple[int, int]) -> None:
    pair = [torch.full((1, 3, 20, 30), value, dtype=torch.uint8) for value in values]
    np.testing.assert_allclose(ssim_vaes4rs(*pair), torchmetrics_ssim_of_the_study(*pair), rtol=0, atol=1e-6)


def test_the_studys_variant_is_another_number_and_undefined_elsewhere() -> None:
    clean, noisy = smooth_pair(2, 64, 64)
    assert np.abs(ssim_vaes4rs(clean, noisy) - ssim(clean, noisy)).max() > 1e-2
    assert ssim_vaes4rs(clean, clean).tolist() == [1.0, 1.0]
    assert np.isnan(ssim_vaes4rs(clean[..., :5, :], noisy[..., :5, :])).all()
