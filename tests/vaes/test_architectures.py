"""Every row against the real architecture, built without weights: latent shape, parameters and GFLOPs.

GFLOPs are counted as the study does: encode and decode of one 256x256 picture, two operations a multiply-add,
attention included. PyTorch's counter does not know the fused attention of CPUs, so attention runs as plain matrix
products while it counts; nothing is computed, all tensors are on the meta device.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from latentstore import VAES, VaeRow
from latentstore.normalisation import Normalisation
from latentstore.vaes.architectures import ARCHITECTURES
from latentstore.vaes.checkpoint import CONFIG, PACKAGED, DiffusersVae, Family, configuration
from latentstore.vaes.interface import LoadOptions, Vae, VaeIdentity
from latentstore.vaes.tiny import Taef2Vae, taef2_network

META = LoadOptions(device="meta")
NOBODY = VaeIdentity(class_name="", repo=None, revision=None, weights_sha256=None)

STUDY = {
    "sd21": ("894.91", (4, 32, 32)),
    "sdxl": ("894.91", (4, 32, 32)),
    "sd35": ("895.25", (16, 32, 32)),
    "flux1": ("895.25", (16, 32, 32)),
    "flux2": ("895.71", (32, 32, 32)),
    "sana": ("846.76", (32, 8, 8)),
    "qwen": ("1143.88", (16, 32, 32)),
}
"""The GFLOPs column and the latent shapes of the study's table, for 3x256x256."""

WITH_WEIGHTS = [name for name, row in VAES.items() if row.repo or row.packaged]


def empty_model(row: VaeRow) -> Any:
    """The row's model without weights."""
    if row.packaged:
        import diffusers

        settings = configuration(PACKAGED / row.packaged / CONFIG)
        with torch.device("meta"):
            return getattr(diffusers, row.class_name).from_config(settings).eval()
    return ARCHITECTURES[row.architecture].empty() if row.architecture else taef2_network(row.channels)


def empty_vae(row: VaeRow) -> tuple[Vae, Any]:
    """(the VAE as its row's family calls it, its model), without weights."""
    model = empty_model(row)
    if isinstance(row.family, Family):
        return DiffusersVae(row, META, NOBODY, Normalisation(), model, row.family), model
    return Taef2Vae(row, META, NOBODY, model), model


@functools.cache
def measured(name: str) -> tuple[int, float, tuple[int, ...], tuple[int, ...]]:
    """(parameters, GFLOPs, latent shape, picture shape) of encode and decode of a 256x256 picture."""
    vae, model = empty_vae(VAES[name])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        latents = vae.encode(torch.zeros(1, 3, 256, 256, device="meta")).mean
        picture = vae.decode(latents)
    parameters = sum(numbers.numel() for numbers in model.parameters())
    return parameters, counter.get_total_flops() / 1e9, tuple(latents.shape[1:]), tuple(picture.shape[1:])


@pytest.mark.parametrize("name", STUDY)
def test_gflops_and_latent_shape_are_those_of_the_study_to_the_last_digit(name: str) -> None:
    gflops, shape = STUDY[name]
    _, found, latent, _ = measured(name)
    assert f"{found:.2f}" == gflops
    assert latent == shape


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_the_numbers_of_a_row_are_those_of_its_architecture(name: str) -> None:
    row = VAES[name]
    parameters, gflops, latent, picture = measured(name)
    assert row.parameters == parameters
    assert row.gflops_256 == round(gflops, 2)
    assert latent == (row.channels, 256 // row.stride, 256 // row.stride)
    assert picture == (3, 256, 256)


@pytest.mark.parametrize("name", [name for name in WITH_WEIGHTS if VAES[name].architecture])
def test_what_a_row_says_of_its_latents_is_what_its_family_reads_in_the_configuration(name: str) -> None:
    row = VAES[name]
    assert isinstance(row.family, Family)
    config = ARCHITECTURES[row.architecture].empty().config
    assert ARCHITECTURES[row.architecture].class_name == row.class_name
    found = row.family.shape(config)
    assert (found.channels, found.stride, found.image_channels) == (row.channels, row.stride, 3)
    vae, _ = empty_vae(row)
    encoded = vae.encode(torch.zeros(1, 3, row.pad_to, row.pad_to, device="meta"))
    assert (encoded.std is not None) is row.stochastic


def test_every_architecture_is_some_rows() -> None:
    assert {row.architecture for row in VAES.values() if row.architecture} == set(ARCHITECTURES)
