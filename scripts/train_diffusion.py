"""A small class-conditional diffusion model on latents: noise prediction or flow matching, EMA, a decoded PNG grid.

python scripts/train_diffusion.py                            960 drawn scenes of 64x64, built in ./demo-training
python scripts/train_diffusion.py LOCATION --objective ddpm --width 128 --steps 100000 --batch-size 256

The network sees latents in model space, whatever VAE made them, so nothing here knows a scale factor. The same seed,
kind of device and number of threads give the same grid. Each row of it is one class: a training picture, decoded from
its latent, and then samples of the averaged weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from PIL import Image

from latentstore import SOURCES, VAES, BuildPlan, LatentDataset, build, load_latents

DDPM = DDPMScheduler()  # 1000 steps, linear schedule
SAMPLES = 7  # of each class in the grid
EVERY = 50  # steps between two lines of the log
Noised = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # what the network sees, when (0 to 1000), what it answers


def ddpm(latent: torch.Tensor, noise: torch.Tensor) -> Noised:
    """The noise in sqrt(a_t) x + sqrt(1 - a_t) noise, a_t from the linear schedule (Ho et al. 2020, equation 14)."""
    steps = torch.randint(1000, (len(latent),), device=latent.device)
    return DDPM.add_noise(latent, noise, steps), steps, noise


def flow(latent: torch.Tensor, noise: torch.Tensor) -> Noised:
    """The velocity noise - x on the line (1 - t) x + t noise (rectified flow, Liu et al. 2023)."""
    t = torch.rand(len(latent), device=latent.device)
    return torch.lerp(latent, noise, t[:, None, None, None]), t * 1000, noise - latent


# Where all is noise, DDIM divides the error by sqrt(a_t) = 0.006: what it foresees is clipped to what latents reach.
OBJECTIVES: dict[str, tuple[Callable[..., Noised], Callable[[float], Any]]] = {
    "ddpm": (ddpm, lambda reach: DDIMScheduler(timestep_spacing="trailing", clip_sample_range=reach)),
    "flow": (flow, lambda _: FlowMatchEulerDiscreteScheduler()),
}


def main() -> None:
    """Train, sample, write the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("location", nargs="?", help="a latent dataset with classes; default: drawn scenes are encoded")
    parser.add_argument("--scenes", type=int, nargs=2, default=(960, 64), metavar=("COUNT", "SIDE"))
    parser.add_argument("--objective", choices=OBJECTIVES, default="flow")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--width", type=int, default=64, help="channels of the network, a multiple of 32")
    parser.add_argument("--guidance", type=float, default=2.0, help="classifier-free (Ho & Salimans 2022); 1: none")
    parser.add_argument("--sampling-steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", default="grid.png")
    options = parser.parse_args()
    options.device = options.device.replace("auto", "cuda" if torch.cuda.is_available() else "cpu")
    if options.location is None:  # a finished build is found again, so only the first run waits for it
        scenes = replace(SOURCES["synthetic"], options={"count": options.scenes[0], "size": options.scenes[1]})
        build(BuildPlan(source=scenes, vae=VAES["demo"], batch_size=32), "demo-training")
        options.location = "demo-training"

    torch.manual_seed(options.seed)
    data = load_latents(options.location, device=options.device)
    names = data.class_names or ()
    model = denoiser(data.latent_shape, len(names), options.width).to(options.device)
    trained(model, data, options)
    reach = float(np.quantile(data.batch(range(min(len(data), 256)))["latent"].abs(), 0.999))
    scheduler = OBJECTIVES[options.objective][1](reach)
    labels, first = np.unique(data.labels, return_index=True)
    rows = []
    for label, row in zip(labels.tolist(), first, strict=True):
        latents = torch.cat([data.batch([row])["latent"], sampled(model, scheduler, label, options)])
        rows.append(torch.cat(list(data.decode(latents).cpu()), -1))
    pixels = (torch.cat(rows, -2) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(options.out)
    print(f"{options.out} has a row for each of {', '.join(names[label] for label in labels)}")


def denoiser(shape: tuple[int, ...], classes: int, width: int) -> UNet2DModel:
    """A UNet that halves the latent up to twice, where its sides allow; class number ``classes`` stands for none."""
    halvings = sum(all(side % 2**n == 0 and side >= 4 * 2**n for side in shape[1:]) for n in (1, 2))
    return UNet2DModel(
        sample_size=shape[1:],
        in_channels=shape[0],
        out_channels=shape[0],
        layers_per_block=1,
        block_out_channels=[width, 2 * width, 2 * width][: halvings + 1],
        down_block_types=["DownBlock2D", *["AttnDownBlock2D"] * halvings],
        up_block_types=[*["AttnUpBlock2D"] * halvings, "UpBlock2D"],
        attention_head_dim=32,
        num_class_embeds=classes + 1,
    )


def trained(model: UNet2DModel, data: LatentDataset, options: argparse.Namespace) -> None:
    """Train it, and leave it with the moving average of its weights."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    average = EMAModel(model.parameters(), decay=0.999)  # of the last n steps at first: (1 + n) / (10 + n) up to this
    epochs = repeat(data.loader(options.batch_size, shuffle=True, seed=options.seed))  # each pass is another epoch
    loading = computing = losses = 0.0
    clock = time.perf_counter()
    for step, batch in enumerate(islice(chain.from_iterable(epochs), options.steps), 1):
        latent, label = batch["latent"].to(options.device), batch["label"].to(options.device)
        loaded = time.perf_counter()
        label[torch.rand(len(label)) < 0.1] = len(data.class_names or ())  # no class, for guidance
        seen, times, answer = OBJECTIVES[options.objective][0](latent, torch.randn_like(latent))
        loss = F.mse_loss(model(seen, times, class_labels=label).sample, answer)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        average.step(model.parameters())
        losses += loss.item()  # waits for the device, so that its seconds are counted here
        done = time.perf_counter()
        loading, computing, clock = loading + loaded - clock, computing + done - loaded, done
        if step % EVERY == 0:
            shares = f"loading {loading / (loading + computing):.2%}, computing {computing / (loading + computing):.2%}"
            speed, mean, losses = step * options.batch_size / (loading + computing), losses / EVERY, 0.0
            print(f"step {step}: loss {mean:.3f}, {speed:.0f} rows/s, {shares}", flush=True)
    average.copy_to(model.parameters())


@torch.inference_mode()
def sampled(model: UNet2DModel, scheduler: Any, label: int, options: argparse.Namespace) -> torch.Tensor:
    """Latents (SAMPLES, C, h, w) of one class, in model space, on the CPU; the same noise for every class."""
    shape, none = (model.config.in_channels, *model.config.sample_size), model.config.num_class_embeds - 1
    scheduler.set_timesteps(options.sampling_steps)
    latents = torch.randn(SAMPLES, *shape, generator=torch.Generator().manual_seed(options.seed)).to(options.device)
    labels = torch.tensor([label] * SAMPLES + [none] * SAMPLES, device=options.device)
    for time_left in scheduler.timesteps:
        wanted, free = model(latents.repeat(2, 1, 1, 1), time_left, class_labels=labels).sample.chunk(2)
        latents = scheduler.step(free + options.guidance * (wanted - free), time_left, latents).prev_sample
    return latents.cpu()


if __name__ == "__main__":
    main()
