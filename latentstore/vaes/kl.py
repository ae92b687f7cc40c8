"""The AutoencoderKL family of diffusers: SD 1/2, SDXL, SD 3.5, FLUX.1, and every checkpoint of that class.

It encodes pixels in [-1, 1] to a diagonal Gaussian; its mean is the raw latent. Which normalisation the family's
pipelines apply is read from the model's own configuration (diffusers 0.42):

    latents_mean and latents_std given   (z - mean) * scaling_factor / std   StableDiffusionXLPipeline
    shift_factor given                   (z - shift_factor) * scaling_factor StableDiffusion3Pipeline, FluxPipeline
    otherwise                            z * scaling_factor                  StableDiffusionPipeline
"""

from __future__ import annotations

from typing import Any

from latentstore.normalisation import Normalisation
from latentstore.vaes.checkpoint import Family, Shape, Weights, decode_sample, encode_gaussian


def normalisation_of(config: Any, _: Weights) -> Normalisation:
    """The normalisation that a diffusers configuration asks for (see the top of this file)."""
    scale = float(config.scaling_factor)
    if config.latents_mean is not None and config.latents_std is not None:
        mean, std = (tuple(float(x) for x in numbers) for numbers in (config.latents_mean, config.latents_std))
        return Normalisation("mean_std", scale=scale, mean=mean, std=std)
    if config.shift_factor is not None:
        return Normalisation("scale_shift", scale=scale, shift=float(config.shift_factor))
    return Normalisation("scale", scale=scale)


def _shape(config: Any) -> Shape:
    return Shape(config.latent_channels, 2 ** (len(config.block_out_channels) - 1), config.in_channels)


KL = Family(shape=_shape, normalisation=normalisation_of, encode=encode_gaussian, decode=decode_sample)
