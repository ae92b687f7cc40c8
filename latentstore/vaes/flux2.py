"""The AutoencoderKLFlux2 family of diffusers.

Encoder and decoder are those of AutoencoderKL, with 32 channels. What the denoiser is fed is the latent with 2x2 cells
joined into 128 channels, less their running mean, over sqrt(running variance + batch_norm_eps), as
``Flux2Pipeline._encode_vae_image`` does it (diffusers 0.42). The two statistics are buffers of the weights, ``bn.*``;
encode and decode never touch them.
"""

from __future__ import annotations

from typing import Any

from latentstore.errors import VaeError
from latentstore.normalisation import Normalisation
from latentstore.vaes.checkpoint import Family, Shape, Weights, decode_sample, encode_gaussian


def normalisation_of(config: Any, weights: Weights) -> Normalisation:
    """The batch norm among the weights as they are stored: the loaded model may have been rounded to bfloat16."""
    patch, *others = config.patch_size
    if any(side != patch for side in others):
        raise VaeError(f"{weights.path.parent} joins {config.patch_size} cells: only square patches are known.")
    mean, variance = (weights.tensors[f"bn.running_{name}"].double() for name in ("mean", "var"))
    std = (variance + config.batch_norm_eps).sqrt()
    return Normalisation("patch_batch_norm", mean=tuple(mean.tolist()), std=tuple(std.tolist()), patch=patch)


def _shape(config: Any) -> Shape:
    return Shape(config.latent_channels, 2 ** (len(config.block_out_channels) - 1), config.in_channels)


FLUX2 = Family(shape=_shape, normalisation=normalisation_of, encode=encode_gaussian, decode=decode_sample)
