"""The causal video autoencoders of diffusers, for single pictures: AutoencoderKLQwenImage and AutoencoderKLWan.

They take (N, 3, T, H, W); a picture is one frame, which is added before and taken away after. The latent is
normalised by lists of the configuration, ``(z - latents_mean) / latents_std`` per channel, as in
``QwenImageImg2ImgPipeline._encode_vae_image`` and ``WanVideoToVideoPipeline.prepare_latents`` (diffusers 0.42; the
variable there called latents_std holds its reciprocal). Their decoders clamp to [-1, 1] themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentstore.normalisation import Normalisation
from latentstore.records import LatentBatch
from latentstore.vaes.checkpoint import Family, Shape, Weights

if TYPE_CHECKING:
    import torch


def normalisation_of(config: Any, _: Weights) -> Normalisation:
    """``(z - latents_mean) / latents_std``."""
    mean, std = (tuple(float(x) for x in numbers) for numbers in (config.latents_mean, config.latents_std))
    return Normalisation("mean_std", mean=mean, std=std)


def _qwen_shape(config: Any) -> Shape:
    return Shape(config.z_dim, 2 ** len(config.temperal_downsample), config.input_channels)


def _wan_shape(config: Any) -> Shape:
    # Wan 2.2 cuts the picture into patches before its first layer, so its in_channels count a patch's pixels.
    return Shape(config.z_dim, config.scale_factor_spatial, config.in_channels // (config.patch_size or 1) ** 2)


def _encode(model: Any, pixels: torch.Tensor) -> LatentBatch:
    posterior = model.encode(pixels[:, :, None]).latent_dist
    return LatentBatch(mean=posterior.mean[:, :, 0].float(), std=posterior.std[:, :, 0].float())


def _decode(model: Any, latents: torch.Tensor) -> torch.Tensor:
    decoded: torch.Tensor = model.decode(latents[:, :, None]).sample[:, :, 0]
    return decoded


QWEN = Family(shape=_qwen_shape, normalisation=normalisation_of, encode=_encode, decode=_decode)
WAN = Family(shape=_wan_shape, normalisation=normalisation_of, encode=_encode, decode=_decode)
