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

from latentstore.errors import ManifestError, RequestError
from latentstore.normalisation import KINDS, Normalisation

CHANNELS = 3
MEAN, STD = (0.5, -1.25, 30.0), (2.0, 0.125, 7.0)
EXAMPLES = {
    "identity": Normalisation(),
    "scale": Normalisation("scale", scale=0.18215),
    "scale_shift": Normalisation("scale_shift", scale=0.3611, shift=0.1159),
    "mean_std": Normalisation("mean_std", scale=1.5, mean=MEAN, std=STD),
    "patch_batch_norm": Normalisation(
        "patch_batch_norm", mean=tuple(m + k for m in MEAN for k in range(4)), std=STD * 4, patch=2
    ),
}
# The formulas once more, written another way than in the module.
FORMULAS: dict[str, Callable[[NDArray[Any], Normalisation], NDArray[Any]]] = {
    "identity": lambda raw, _: raw,
    "scale": lambda raw, numbers: raw * numbers.scale,
    "scale_shift": lambda raw, numbers: (raw - numbers.shift) * numbers.scale,
    "mean_std": lambda raw, numbers: np.stack(
        [(raw[:, c] - numbers.mean[c]) * numbers.scale / numbers.std[c] for c in range(CHANNELS)], axis=1
    ),
    "patch_batch_norm": lambda raw, numbers: np.stack(
        [
            (raw[:, c, y::2, x::2] - numbers.mean[4 * c + 2 * y + x]) / numbers.std[4 * c + 2 * y + x]
            for c in range(CHANNELS)
            for y in range(2)
            for x in range(2)
        ],
        axis=1,
    ),
}
KIND = pytest.mark.parametrize("kind", KINDS)


def raw_latents(dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """(2, 3, 4, 6) around zero."""
    return torch.randn(2, CHANNELS, 4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


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
    model = numbers.to_model(raw)
    assert torch.equal(numbers.to_raw(model), numbers.to_raw(model.float()).to(dtype))


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
        patch = 2 if KINDS[kind].patched else 1
        per_channel = {"mean": tuple(mean) * patch**2, "std": tuple(std) * patch**2} if KINDS[kind].per_channel else {}
        numbers = Normalisation(kind, scale=scale, shift=shift, patch=patch, **per_channel)
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
        f"manifest field 'kind': expected one of {', '.join(KINDS)}, found 'squash'",
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
    (Normalisation("scale", patch=2), "manifest field 'patch': expected 1 for kind scale, found 2"),
    (
        replace(EXAMPLES["patch_batch_norm"], patch=1),
        "manifest field 'patch': expected above 1 for kind patch_batch_norm, found 1",
    ),
    (replace(EXAMPLES["identity"], patch=0), "manifest field 'patch': expected 1 for kind identity, found 0"),
    (replace(EXAMPLES["identity"], patch=-2), "manifest field 'patch': expected 1 for kind identity, found -2"),
    (
        replace(EXAMPLES["patch_batch_norm"], mean=MEAN),
        "manifest field 'mean': expected 12 numbers for 3 channels, found 3",
    ),
    (
        replace(EXAMPLES["patch_batch_norm"], std=(0.0,) * 12),
        "manifest field 'std': a zero scale or std cannot be undone",
    ),
]


@pytest.mark.parametrize(("numbers", "sentence"), WRONG)
def test_numbers_that_cannot_be_applied_or_undone_are_named(numbers: Normalisation, sentence: str) -> None:
    with pytest.raises(ManifestError) as caught:
        numbers.validate(CHANNELS)
    assert str(caught.value) == sentence


# Shapes ---------------------------------------------------------------------------------------------------------------


@KIND
def test_shapes_are_foretold(kind: str) -> None:
    numbers, raw = EXAMPLES[kind], raw_latents(torch.float32)
    model = numbers.to_model(raw)
    assert tuple(model.shape) == numbers.model_shape(raw.shape)
    assert tuple(raw.shape) == numbers.raw_shape(model.shape)
    assert tuple(model.shape[1:]) == ((12, 2, 3) if kind == "patch_batch_norm" else (3, 4, 6))


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 5, 4), (1, 3, 1, 1)])
def test_an_odd_number_of_cells_cannot_be_joined_in_twos(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError) as caught:
        EXAMPLES["patch_batch_norm"].to_model(torch.zeros(shape))
    assert str(caught.value) == (
        f"Raw latents of {shape[-2]}x{shape[-1]} cells have no model space: patch_batch_norm joins 2x2 cells, so both "
        "sides must be multiples of 2; pad the pictures to multiples of 2 strides."
    )


@pytest.mark.parametrize(("kind", "raw", "model"), [("mean_std", 3, 3), ("patch_batch_norm", 3, 12)])
def test_latents_of_other_channels_are_refused(kind: str, raw: int, model: int) -> None:
    for space, expected, apply in (("raw", raw, EXAMPLES[kind].to_model), ("model", model, EXAMPLES[kind].to_raw)):
        sentence = f"Expected {space} latents of {expected} channels for {kind}, found 8."
        with pytest.raises(RequestError, match=sentence):
            apply(torch.zeros(1, 8, 4, 4))
