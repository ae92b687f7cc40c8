"""What the official VAEs are made of: class and constructor values of each, as their config.json has them.

With these a model can be built without its weights, on the meta device in no time and no memory: that is how the
tests hold the rows' parameters, GFLOPs and latent shapes against the code itself. Loading does not look here; a
checkpoint's own configuration decides. Values that are the class's defaults in diffusers 0.42 are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latentstore.named_table import NamedTable


@dataclass(frozen=True)
class Architecture:
    """One class of diffusers with its constructor values."""

    name: str
    class_name: str
    config: Mapping[str, Any]

    def empty(self) -> Any:
        """The model without weights, on the meta device, in evaluation mode."""
        import diffusers
        import torch

        with torch.device("meta"):
            return getattr(diffusers, self.class_name)(**self.config).eval()


KL_F8: Mapping[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
NO_QUANT: Mapping[str, Any] = {"use_quant_conv": False, "use_post_quant_conv": False}
DC_STAGES = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3

ARCHITECTURES = NamedTable(
    "architecture",
    [
        Architecture("sd", "AutoencoderKL", {**KL_F8, "latent_channels": 4, "scaling_factor": 0.18215}),
        Architecture("sdxl", "AutoencoderKL", {**KL_F8, "latent_channels": 4, "scaling_factor": 0.13025}),
        Architecture(
            "sd35",
            "AutoencoderKL",
            {**KL_F8, **NO_QUANT, "latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609},
        ),
        Architecture(
            "flux1",
            "AutoencoderKL",
            {**KL_F8, **NO_QUANT, "latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159},
        ),
        Architecture("flux2", "AutoencoderKLFlux2", {"latent_channels": 32}),
        Architecture(
            "sana",
            "AutoencoderDC",
            {
                "latent_channels": 32,
                "attention_head_dim": 32,
                "encoder_block_types": DC_STAGES,
                "decoder_block_types": DC_STAGES,
                "downsample_block_type": "conv",
                "upsample_block_type": "interpolate",
                "scaling_factor": 0.41407,
            },
        ),
        Architecture("qwen", "AutoencoderKLQwenImage", {}),
        Architecture("wan21", "AutoencoderKLWan", {}),
        Architecture(
            "hunyuan21",
            "AutoencoderKLHunyuanImage",
            {
                "in_channels": 3,
                "out_channels": 3,
                "latent_channels": 64,
                "block_out_channels": (128, 256, 512, 512, 1024, 1024),
                "layers_per_block": 2,
                "spatial_compression_ratio": 32,
                "sample_size": 384,
            },
        ),
        Architecture("taesd", "AutoencoderTiny", {"latent_channels": 4}),
        Architecture("taesd16", "AutoencoderTiny", {"latent_channels": 16}),
    ],
)
