"""Small random checkpoints of every family, saved the way the Hub holds them: official settings, few channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from latentstore import VAES, VaeRow
from latentstore.vaes.architectures import ARCHITECTURES

SHRUNK: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4},
    "AutoencoderKLFlux2": {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4},
    "AutoencoderDC": {
        "encoder_block_out_channels": (8, 8, 8, 8, 16, 32),
        "decoder_block_out_channels": (8, 8, 8, 8, 16, 32),
        "encoder_layers_per_block": (1,) * 6,
        "decoder_layers_per_block": (1,) * 6,
        "attention_head_dim": 8,
    },
    "AutoencoderKLQwenImage": {"base_dim": 8, "num_res_blocks": 1},
    "AutoencoderKLWan": {"base_dim": 8, "num_res_blocks": 1},
    "AutoencoderKLHunyuanImage": {
        "block_out_channels": (32, 32, 32, 32, 64, 128),
        "layers_per_block": 1,
        "scaling_factor": 0.75,
    },
    "AutoencoderTiny": {
        "encoder_block_out_channels": (8,) * 4,
        "decoder_block_out_channels": (8,) * 4,
        "num_encoder_blocks": (1,) * 4,
        "num_decoder_blocks": (1,) * 4,
    },
}
"""Constructor values in place of the official ones; latent channels and stride stay."""


def save_checkpoint(folder: Path, name: str, **config: Any) -> Any:
    """A shrunk random model for a row of the table, with its official numbers; returns the model."""
    import diffusers

    architecture = ARCHITECTURES[VAES[name].architecture]
    settings = {**architecture.config, **SHRUNK[architecture.class_name], **config}
    torch.manual_seed(0)
    model = getattr(diffusers, architecture.class_name)(**settings).eval()
    for key, buffer in model.named_buffers():
        if key.endswith(("running_mean", "running_var")):  # as after training, where a fresh one has zeros and ones
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    model.save_pretrained(folder)
    return model


def shrunk_row(folder: Path, name: str, **config: Any) -> VaeRow:
    """A row of the table, its weights a shrunk random checkpoint in this folder."""
    save_checkpoint(folder, name, **config)
    return VAES[name].at(str(folder))


def save_taef2(folder: Path) -> None:
    """Random weights of TAEF2's own layout, as its GitHub repository holds them."""
    from latentstore.vaes.tiny import taef2_network

    generator = torch.Generator().manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    model = taef2_network(32)
    for half, module, clamp in (("encoder", model.encoder, 0), ("decoder", model.decoder, 1)):
        weights = {}
        for key, empty in module.state_dict().items():
            place, _, rest = key.partition(".")
            numbers = torch.randn(empty.shape, generator=generator) / max(1, empty[0].numel()) ** 0.5
            weights[f"{int(place) + clamp}.{rest}"] = numbers.half()
        torch.save(weights, folder / f"taef2_{half}.pth")
