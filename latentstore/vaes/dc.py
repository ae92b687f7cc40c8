"""The AutoencoderDC family of diffusers: DC-AE, as SANA uses it.

Its encoder gives the latent itself, without a posterior. ``SanaPipeline`` multiplies it by the configuration's
scaling_factor (diffusers 0.42); SANA-Sprint's scheduler multiplies by its own sigma_data on top, which belongs to
that scheduler and not to the latents. Its attention is global: what a cell becomes depends on the whole picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentstore.normalisation import Normalisation
from latentstore.records import LatentBatch
from latentstore.vaes.checkpoint import Family, Shape, Weights, decode_sample

if TYPE_CHECKING:
    import torch


def normalisation_of(config: Any, _: Weights) -> Normalisation:
    """``z * scaling_factor``."""
    return Normalisation("scale", scale=float(config.scaling_factor))


def _shape(config: Any) -> Shape:
    return Shape(config.latent_channels, 2 ** (len(config.encoder_block_out_channels) - 1), config.in_channels)


def _encode(model: Any, pixels: torch.Tensor) -> LatentBatch:
    return LatentBatch(mean=model.encode(pixels).latent.float())


DC = Family(shape=_shape, normalisation=normalisation_of, encode=_encode, decode=decode_sample)
