from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from latentstore.errors import ManifestError
from latentstore.normalisation import KINDS, Normalisation

CHANNELS = 3
MEAN, STD = (0.5, -1.25, 30.0), (2.0, 0.125, 7.0)
EXAMPLES = {
    "identity": Normalisation(),
    "scale": Normalisation("scale", scale=0.18215),
    "scale_shift": Normalisation("scale_shift", scale=0.3611, shift=0.1159),
    "mean_std": Normalisation("mean_std", scale=1.5, mean=MEAN, std=STD),
}
# The formulas once more, written another way than in the module.
FORMULAS: dict[str, Callable[[NDArray[Any], Normalisation], NDArray[Any]]] = {
    "identity": lambda raw, _: raw,
    "scale": lambda raw, numbers: raw * numbers.scale,
    "scale_shift": lambda raw, numbers: (raw - numbers.shift) * numbers.scale,
    "mean_std": lambda raw, numbers: np.stack(
        [(raw[:, c] - numbers.mean[c]) * numbers.scale / numbers.std[c] for c in range(CHANNELS)], axis=1
    ),
}
KIND = pytest.mark.parametrize("kind", KINDS)


def raw_latents(dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """(2, 3, 4, 5) around zero."""
    return torch.randn(2, CHANNELS, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@KIND
def test_every_kind_has_an_example_that_is_valid(kind: str) -> None:
    EXAMPLES[kind].validate(CHANNELS)


@KIND
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
def test_model_latents_are_those_of_the_formula(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    raw = raw_latents(dtype)
    model = EXAMPLES[kind].to_model(raw)
    assert model.dtype == dtype
    expected = FORMULAS[kind](raw.double().numpy(), EXAMPLES[kind])
    np.testing.assert_allclose(model.double().numpy(), expected, rtol=tolerance, atol=5 * tolerance)


@KIND
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-13)])
def test_the_way_back_gives_the_raw_latents(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    raw = raw_latents(dtype)
    back = EXAMPLES[kind].to_raw(EXAMPLES[kind].to_model(raw))
    assert back.dtype == dtype
    torch.testing.assert_close(back, raw, rtol=tolerance, atol=tolerance)


@KIND
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_rounded_once(kind: str, dtype: torch.dtype) -> None:
    raw = raw_latents(dtype)
    numbers = EXAMPLES[kind]
    assert torch.equal(numbers.to_model(raw), numbers.to_model(raw.float()).to(dtype))
    assert torch.equal(numbers.to_raw(raw), numbers.to_raw(raw.float()).to(dtype))


@KIND
def test_one_latent_without_a_batch_is_treated_alike(kind: str) -> None:
    raw = raw_latents(torch.float32)
    assert torch.equal(EXAMPLES[kind].to_model(raw[0]), EXAMPLES[kind].to_model(raw)[0])


def test_identity_changes_no_bit() -> None:
    raw = torch.tensor([-0.0, 1e-45, 3.4e38, 0.1]).reshape(1, 1, 2, 2)
    assert EXAMPLES["identity"].to_model(raw).numpy().tobytes() == (raw + 0.0).numpy().tobytes()
    assert torch.equal(EXAMPLES["identity"].to_raw(raw), raw)


NUMBERS = st.floats(-1e3, 1e3).filter(lambda number: abs(number) > 1e-3)


@given(NUMBERS, NUMBERS, st.lists(NUMBERS, min_size=3, max_size=3), st.lists(NUMBERS.map(abs), min_size=3, max_size=3))
def test_any_numbers_can_be_undone_in_float64(scale: float, shift: float, mean: list[float], std: list[float]) -> None:
    raw = raw_latents(torch.float64)
    for kind in KINDS:
        per_channel = {"mean": tuple(mean), "std": tuple(std)} if kind == "mean_std" else {}
        numbers = Normalisation(kind, scale=scale, shift=shift, **per_channel)
        numbers.validate(CHANNELS)
        model = numbers.to_model(raw)
        largest = max(1.0, float(model.abs().max()))
        np.testing.assert_allclose(
            model.numpy(), FORMULAS[kind](raw.numpy(), numbers), rtol=1e-12, atol=1e-12 * largest
        )
        gain = numbers.affine(CHANNELS)[0]
        torch.testing.assert_close(
            numbers.to_raw(model), raw, rtol=0, atol=1e-14 * largest / float(np.abs(gain).min()) + 1e-14
        )


WRONG = [
    (
        Normalisation("squash"),
        "manifest field 'kind': expected one of identity, scale, scale_shift, mean_std, found 'squash'",
    ),
    (Normalisation("scale", scale=0.0), "manifest field 'scale': a zero scale or std cannot be undone"),
    (Normalisation("scale", scale=-0.0), "manifest field 'scale': a zero scale or std cannot be undone"),
    (Normalisation("scale", scale=math.nan), "manifest field 'scale': expected finite numbers"),
    (Normalisation("scale_shift", shift=math.inf), "manifest field 'shift': expected finite numbers"),
    (
        replace(EXAMPLES["mean_std"], std=(1.0, 0.0, 1.0)),
        "manifest field 'std': a zero scale or std cannot be undone",
    ),
    (
        replace(EXAMPLES["mean_std"], std=(1.0, -2.0, 1.0)),
        "manifest field 'std': a zero scale or std cannot be undone",
    ),
    (replace(EXAMPLES["mean_std"], std=(1.0, math.nan, 1.0)), "manifest field 'std': expected finite numbers"),
    (replace(EXAMPLES["mean_std"], mean=(1.0, math.inf, 1.0)), "manifest field 'mean': expected finite numbers"),
    (replace(EXAMPLES["mean_std"], mean=(1.0,)), "manifest field 'mean': expected 3 numbers for 3 channels, found 1"),
    (replace(EXAMPLES["mean_std"], std=()), "manifest field 'std': expected 3 numbers for 3 channels, found 0"),
    (Normalisation("scale", mean=MEAN), "manifest field 'mean': expected 0 numbers for 3 channels, found 3"),
]


@pytest.mark.parametrize(("numbers", "sentence"), WRONG)
def test_numbers_that_cannot_be_applied_or_undone_are_named(numbers: Normalisation, sentence: str) -> None:
    with pytest.raises(ManifestError) as caught:
        numbers.validate(CHANNELS)
    assert str(caught.value) == sentence
