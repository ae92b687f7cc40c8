"""A small class-conditional diffusion transformer on latents: flow matching or noise prediction, EMA, a PNG grid.

python scripts/train_diffusion.py                            960 drawn scenes of 64x64, built in ./demo-training
python scripts/train_diffusion.py LOCATION --width 512 --steps 100000 --batch-size 256 --checkpoint run.pt

The network sees latents in model space, each channel at mean 0 and deviation 1. The same seed, kind of device and
number of threads give the same grid: a row for each class, a decoded training picture and samples of it.
"""

from __future__ import annotations

import argparse
import time
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, DiTTransformer2DModel, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import EMAModel
from PIL import Image

from latentstore import SOURCES, VAES, BuildPlan, LatentDataset, build, load_latents

DDPM = DDPMScheduler()  # 1000 steps, linear schedule
SAMPLES, EVERY = 7, 50  # of each class in the grid; steps between two lines of the log, and between two checkpoints


def noised(objective: str, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the network sees, when (0 to 1000), and what it is to answer."""
    noise = torch.randn_like(latent)
    if objective == "ddpm":  # the noise in sqrt(a_t) x + sqrt(1 - a_t) noise (Ho et al. 2020, equation 14)
        steps = torch.randint(1000, (len(latent),), device=latent.device)
        return DDPM.add_noise(latent, noise, steps), steps, noise
    # The velocity on the line (1 - t) x + t noise (Liu et al. 2023), t logit-normal (Esser et al. 2024).
    t = torch.randn(len(latent), device=latent.device).sigmoid()
    return torch.lerp(latent, noise, t[:, None, None, None]), t * 1000, noise - latent


def main() -> None:
    """Train, sample, write the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("location", nargs="?", default="demo-training", help="with classes; default: drawn scenes")
    parser.add_argument("--scenes", type=int, nargs=2, default=(960, 64), metavar=("COUNT", "SIDE"))
    parser.add_argument("--objective", choices=("flow", "ddpm"), default="flow")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--width", type=int, default=128, help="of the network, a multiple of 32")
    parser.add_argument("--guidance", type=float, default=2.0, help="classifier-free (Ho & Salimans 2022); 1: none")
    parser.add_argument("--sampling-steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--checkpoint", type=Path, help="a file for the state, to go on from where it is there")
    parser.add_argument("--out", default="grid.png")
    options = parser.parse_args()
    if options.location == "demo-training":  # a finished build is found again, so only the first run waits for it
        scenes = SOURCES["synthetic"].at("", count=options.scenes[0], size=options.scenes[1])
        build(BuildPlan(source=scenes, vae=VAES["demo"], batch_size=32), "demo-training")
    torch.manual_seed(options.seed)
    data = load_latents(options.location, device=options.device)
    some, names = data.batch(range(min(len(data), 1024)))["latent"], data.class_names or ()
    mean, std = some.mean((0, 2, 3), keepdim=True), some.std((0, 2, 3), keepdim=True)
    model = denoiser(data.latent_shape, len(names), options.width).to(options.device)
    trained(model, data, lambda latent: (latent - mean) / std, options)
    ddim = DDIMScheduler(timestep_spacing="trailing", clip_sample_range=4.0)  # where all is noise it divides by 0.006
    scheduler = ddim if options.objective == "ddpm" else FlowMatchEulerDiscreteScheduler()
    labels, first = np.unique(data.labels, return_index=True)
    rows = []
    for label, row in zip(labels.tolist(), first, strict=True):
        latents = torch.cat([data.batch([row])["latent"], sampled(model, scheduler, label, options) * std + mean])
        rows.append(torch.cat(list(data.decode(latents).cpu()), -1))
    Image.fromarray((torch.cat(rows, -2) * 255).round().byte().permute(1, 2, 0).numpy()).save(options.out)
    print(f"{options.out} has a row for each of {', '.join(names[label] for label in labels)}")


def denoiser(shape: tuple[int, ...], classes: int, width: int) -> DiTTransformer2DModel:
    """A diffusion transformer (Peebles & Xie 2023) on the cells of a latent; class ``classes`` stands for none."""
    channels, side, across = shape
    if side != across:
        raise SystemExit(f"This network wants square latents, found {side}x{across}: build from square pictures.")
    sizes = {"in_channels": channels, "sample_size": side, "patch_size": 2 if side > 8 and side % 2 == 0 else 1}
    sizes |= {"num_attention_heads": width // 32, "attention_head_dim": 32, "num_layers": 4}
    model = DiTTransformer2DModel(**sizes, num_embeds_ada_norm=classes)
    for layer in (model.proj_out_2, *(block.norm1.linear for block in model.transformer_blocks)):
        torch.nn.init.zeros_(layer.weight)  # so that it begins as the identity, and answers 0
        torch.nn.init.zeros_(layer.bias)
    return model.eval()  # in training mode each block would forget classes on its own, and no sample be without one


def trained(model: DiTTransformer2DModel, data: LatentDataset, seen_as: Any, options: Any) -> None:
    """Train it, and leave it with the moving average of its weights."""
    optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99))
    average = EMAModel(model.parameters(), decay=min(0.9999, 1 - 20 / options.steps))
    loader = data.loader(options.batch_size, shuffle=True, seed=options.seed)  # each pass over it is another epoch
    parts: dict[str, Any] = {"model": model, "optimiser": optimiser, "average": average, "loader": loader}
    begun, loading, computing, mean = 0, 0.0, 0.0, 0.0
    if options.checkpoint and options.checkpoint.exists():
        state = torch.load(options.checkpoint, map_location=options.device, weights_only=True)
        begun = state["step"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
        print(f"{options.checkpoint} goes on after step {begun}")
    clock, batches = time.perf_counter(), islice(chain.from_iterable(repeat(loader)), options.steps - begun)
    for step, batch in enumerate(batches, begun + 1):
        torch.manual_seed((options.seed << 32) + step)  # so that going on needs no state of random numbers
        latent, label = seen_as(batch["latent"]).to(options.device), batch["label"].to(options.device)
        loaded = time.perf_counter()
        label[torch.rand(len(label)) < 0.1] = len(data.class_names or ())  # no class, for guidance
        seen, times, answer = noised(options.objective, latent)
        loss = F.mse_loss(model(seen, times, label).sample, answer)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1, step / 50, 2 - 2 * step / options.steps)
        optimiser.step()
        average.step(model.parameters())
        mean += (loss.item() - mean) / min(step - begun, EVERY)  # waits for the device, so that its seconds count here
        done = time.perf_counter()
        loading, computing, clock = loading + loaded - clock, computing + done - loaded, done
        if step % EVERY == 0:
            share, speed = loading / (loading + computing), (step - begun) * len(label) / (loading + computing)
            shares = f"loading {share:.2%}, computing {1 - share:.2%}"
            print(f"step {step}: loss {mean:.3f}, {speed:.0f} rows/s, {shares}", flush=True)
            if options.checkpoint:  # under its name once it is whole
                partial = options.checkpoint.with_suffix(".partial")
                torch.save({name: part.state_dict() for name, part in parts.items()} | {"step": step}, partial)
                partial.replace(options.checkpoint)
    average.copy_to(model.parameters())


@torch.inference_mode()
def sampled(model: DiTTransformer2DModel, scheduler: Any, label: int, options: argparse.Namespace) -> torch.Tensor:
    """Latents (SAMPLES, C, h, w) of one class on the CPU, as the network sees them; the same noise for every class."""
    side, random = model.config.sample_size, torch.Generator().manual_seed(options.seed)
    scheduler.set_timesteps(options.sampling_steps)
    latents = torch.randn(SAMPLES, model.config.in_channels, side, side, generator=random).to(options.device)
    labels = torch.tensor([label, model.config.num_embeds_ada_norm]).repeat_interleave(SAMPLES).to(options.device)
    for now in scheduler.timesteps:
        twice, times = latents.repeat(2, 1, 1, 1), now.to(labels.device).expand(len(labels))
        wanted, free = model(twice, times, labels).sample.chunk(2)
        latents = scheduler.step(free + options.guidance * (wanted - free), now, latents).prev_sample
    return latents.cpu()


if __name__ == "__main__":
    main()
