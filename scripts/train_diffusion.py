"""A small class-conditional diffusion model on latents: noise prediction or flow matching, EMA, a decoded PNG grid.

python scripts/train_diffusion.py                            960 drawn scenes of 64x64, built in ./demo-training
python scripts/train_diffusion.py LOCATION --objective flow --width 128 --steps 100000 --batch-size 256

The network sees latents in model space, whatever VAE made them, so nothing here knows a scale factor. The same seed on
the same kind of device with the same number of threads gives the same grid. Each row of it is one class: a training
picture, decoded from its latent, then samples of the averaged weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from PIL import Image

from latentstore import SOURCES, VAES, BuildPlan, LatentDataset, build, load_latents
from latentstore.loader import LatentLoader

DDPM = DDPMScheduler(num_train_timesteps=1000, clip_sample=False)  # latents are not bound to [-1, 1]
Noised = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""What the network sees, at which time (0 to 1000), and what it should answer."""


@dataclass(frozen=True)
class Objective:
    """What the network learns, and the scheduler that samples from such a network."""

    noised: Callable[[torch.Tensor, torch.Tensor], Noised]
    """Of latents and as much noise."""
    scheduler: Any


def ddpm(latent: torch.Tensor, noise: torch.Tensor) -> Noised:
    """The noise in sqrt(a_t) x + sqrt(1 - a_t) noise (Ho et al. 2020, equation 14, linear schedule)."""
    steps = torch.randint(1000, (len(latent),), device=latent.device)
    return DDPM.add_noise(latent, noise, steps), steps, noise


def flow(latent: torch.Tensor, noise: torch.Tensor) -> Noised:
    """The velocity noise - x along the line (1 - t) x + t noise (Liu et al. 2023, rectified flow)."""
    t = torch.rand(len(latent), device=latent.device)
    return torch.lerp(latent, noise, t[:, None, None, None]), t * 1000, noise - latent


OBJECTIVES = {
    "ddpm": Objective(ddpm, DDIMScheduler.from_config(DDPM.config, timestep_spacing="trailing")),
    "flow": Objective(flow, FlowMatchEulerDiscreteScheduler()),
}


def main() -> None:
    """Train, sample, write the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("location", nargs="?", help="a latent dataset with classes; default: drawn scenes are encoded")
    parser.add_argument("--scenes", type=int, nargs=2, default=(960, 64), metavar=("COUNT", "SIDE"))
    parser.add_argument("--objective", choices=OBJECTIVES, default="flow")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=64, help="channels of the network, a multiple of 32")
    parser.add_argument("--guidance", type=float, default=2.0, help="classifier-free (Ho & Salimans 2022); 1 for none")
    parser.add_argument("--sampling-steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("demo-training/grid.png"))
    options = parser.parse_args()
    options.device = options.device.replace("auto", "cuda" if torch.cuda.is_available() else "cpu")
    if options.location is None:  # a finished build is found again, so only the first run waits for it
        scenes = replace(SOURCES["synthetic"], options={"count": options.scenes[0], "size": options.scenes[1]})
        build(BuildPlan(source=scenes, vae=VAES["demo"], batch_size=32), "demo-training")
        options.location = "demo-training"

    torch.manual_seed(options.seed)
    data = load_latents(options.location, device=options.device)
    model = denoiser(data.latent_shape, len(data.class_names or ()), options.width).to(options.device)
    average = trained(model, data, options)
    average.copy_to(model.parameters())
    latents = sampled(model.eval(), data, options)
    write_grid(data, latents, options.out)
    ...


def denoiser(shape: tuple[int, ...], classes: int, width: int) -> UNet2DModel:
    """A UNet with attention; it halves the latent once or twice where its sides allow. Class ``classes`` is no class."""
    halvings = next(n for n in (2, 1, 0) if all(side % 2**n == 0 and side // 2**n >= 4 for side in shape[1:]) or n == 0)
    return UNet2DModel(
        sample_size=shape[1:],
        in_channels=shape[0],
        out_channels=shape[0],
        layers_per_block=1,
        block_out_channels=[width * 2**min(n, 1) for n in range(halvings + 1)],
        down_block_types=["DownBlock2D"] + ["AttnDownBlock2D"] * halvings,
        up_block_types=["AttnUpBlock2D"] * halvings + ["UpBlock2D"],
        attention_head_dim=32,
        num_class_embeds=classes + 1,
    )
