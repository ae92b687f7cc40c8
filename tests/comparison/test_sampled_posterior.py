"""Draws from a posterior that repeat."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from noisy import DEVIATION, NOISY

from latentstore import VAES
from latentstore.comparison.sampled_posterior import sampled
from latentstore.errors import VaeError


def pictures(count: int, size: int = 64) -> torch.Tensor:
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(0))


def test_the_same_seed_gives_the_same_draw_and_another_seed_another() -> None:
    x = pictures(2)
    first = sampled(NOISY, 1).load().encode(x).mean
    assert torch.equal(sampled(NOISY, 1).load().encode(x).mean, first)
    assert not torch.equal(sampled(NOISY, 2).load().encode(x).mean, first)


def test_the_noise_of_a_picture_does_not_depend_on_its_batch() -> None:
    x, vae = pictures(4), sampled(NOISY, 0).load()
    whole = vae.encode(x).mean
    for number in range(4):
        assert torch.equal(vae.encode(x[number : number + 1]).mean[0], whole[number])
    assert torch.equal(vae.encode(x.flip(0)).mean, whole.flip(0))


def test_draws_have_the_mean_and_the_deviation_of_the_posterior() -> None:
    x = pictures(8, 256)
    noise = (sampled(NOISY, 0).load().encode(x).mean - NOISY.load().encode(x).mean) / DEVIATION
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02
    assert abs(float((noise[0] * noise[1]).mean())) < 0.05


def test_an_encoder_without_a_posterior_stays_as_it_is() -> None:
    assert sampled(VAES["pool8"], 3) is VAES["pool8"]
    with pytest.raises(VaeError, match="VAE 'pool8' is said to be stochastic, but its encoder gives no deviation"):
        sampled(replace(VAES["pool8"], stochastic=True)).load().encode(pictures(1))


def test_everything_else_is_the_vae_s_own() -> None:
    drawn, own = sampled(NOISY).load(), NOISY.load()
    assert (drawn.row.name, drawn.normalisation) == ("noisy", own.normalisation)
    assert drawn.identity == replace(own.identity, posterior="sample")
    latents = torch.zeros(1, 3, 2, 2)
    assert torch.equal(drawn.decode(latents), own.decode(latents))
