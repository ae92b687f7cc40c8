"""The AutoencoderKLHunyuanImage family of diffusers: HunyuanImage 2.1.

A Gaussian posterior, whose mean ``HunyuanImagePipeline`` divides the denoiser's latents by scaling_factor to get back
to (diffusers 0.42); there is no shift.
"""

from __future__ import annotations

from typing import Any

from latentstore.errors import VaeError
from latentstore.normalisation import Normalisation
from latentstore.vaes.checkpoint import Family, Shape, Weights, decode_sample, encode_gaussian


def normalisation_of(config: Any, weights: Weights) -> Normalisation:
    """``z * scaling_factor``."""
    if config.scaling_factor is None:
        raise VaeError(
            f"The configuration in {weights.path.parent} has no scaling_factor: its model space is not known."
        )
    return Normalisation("scale", scale=float(config.scaling_factor))


def _shape(config: Any) -> Shape:
    return Shape(config.latent_channels, config.spatial_compression_ratio, config.in_channels)


HUNYUAN = Family(shape=_shape, normalisation=normalisation_of, encode=encode_gaussian, decode=decode_sample)
