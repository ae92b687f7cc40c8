"""Train the demo VAE that ships inside the package (`latentstore/vaes/weights/demo-v1`).

The run is read top to bottom in `main`: gather pixels, train, export as float16, reload what was exported, measure
it, write the record. Everything random comes from `--seed`; a killed run goes on with `--resume`.

    python scripts/train_demo_vae.py --minutes 90
    python scripts/train_demo_vae.py --steps 12000 --decay-from 8400
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from PIL import Image
from torch import Tensor, nn

REPOSITORY = Path(__file__).resolve().parents[1]
SIZE = 256
LATENT_CHANNELS = 16
PROTOCOL = (
    "float16 weights loaded in float32; posterior mean stored as float16; decoded, clamped, rounded to uint8; "
    "PSNR per image; SSIM as scikit-image with gaussian_weights, sigma 1.5, use_sample_covariance False, data_range "
    "1.0; the other cities were trained on, but for the validation images; the drawn scenes measured were not"
)


@dataclass(frozen=True)
class Architecture:
    """Few channels where pixels are many: a convolution at full resolution costs 64 times one at latent resolution."""

    block_out_channels: tuple[int, ...] = (16, 32, 96, 144)
    layers_per_block: int = 1
    norm_num_groups: int = 8

    def build(self) -> AutoencoderKL:
        """The untrained network, its configuration as it will be shipped."""
        blocks = len(self.block_out_channels)
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            block_out_channels=self.block_out_channels,
            layers_per_block=self.layers_per_block,
            norm_num_groups=self.norm_num_groups,
            latent_channels=LATENT_CHANNELS,
            sample_size=SIZE,
            scaling_factor=1.0,
            force_upcast=False,
            use_quant_conv=False,
            use_post_quant_conv=False,
            mid_block_add_attention=False,
        )


@dataclass(frozen=True)
class Recipe:
    """Every number that shapes the result besides the schedule."""

    crop: int = 128
    batch: int = 8
    drawn_fraction: float = 0.2
    drawn_scenes: int = 480
    validation_images: int = 24
    matrix_rate: float = 3e-3
    other_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 150
    average_decay: float = 0.998
    clip_norm: float = 1.0
    gradient_weight: float = 0.1
    kl_weight: float = 0.02
    log_floor: float = 1e-4


@dataclass
class Schedule:
    """Warm up, stay, decay to zero; full-size images in the second half of the decay.

    Under a time budget `steps` and `decay_from` are open until the budget's share for the constant part has passed;
    then both are fixed as whole numbers, so that the run can be repeated by step count alone.
    """

    steps: int | None
    decay_from: int | None
    warmup_steps: int
    budget_seconds: float | None = None
    decay_share: float = 0.4

    def settle(self, step: int, elapsed: float) -> None:
        """Fix the end of the run once the constant part has used its share of the time budget."""
        if self.steps is not None or self.budget_seconds is None:
            return
        if elapsed >= self.budget_seconds * (1 - self.decay_share):
            remaining_seconds = max(self.budget_seconds - elapsed, 1.0)
            self.decay_from = step
            self.steps = step + max(1, int(step * remaining_seconds / elapsed))

    def finished(self, step: int) -> bool:
        """Whether this step lies beyond the end."""
        return self.steps is not None and step >= self.steps

    def rate(self, step: int) -> float:
        """Factor on the learning rates at this step."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        if self.steps is None or self.decay_from is None or step < self.decay_from:
            return warm
        return warm * (self.steps - step) / max(1, self.steps - self.decay_from)

    def full_size(self, step: int) -> bool:
        """Group norms see the whole picture in use, so the last part of training must see whole pictures too."""
        if self.steps is None or self.decay_from is None:
            return False
        return step >= (self.steps + self.decay_from) // 2


# --- pixels ----------------------------------------------------------------------------------------------------------


@dataclass
class Pixels:
    """All images as uint8 (N, 3, 256, 256), split by the part they play."""

    train_real: Tensor
    train_drawn: Tensor
    validation: Tensor
    validation_drawn: Tensor
    held_out: Tensor
    held_out_city: str
    other_cities: dict[str, Tensor]
    drawn_by_class: dict[str, Tensor] = field(default_factory=dict)


def read_folder(folder: Path) -> Tensor:
    """Every PNG of a folder, sorted by name."""
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]
    return as_batch(images)


def as_batch(images: list[np.ndarray]) -> Tensor:
    """Pictures of (H, W, 3) as one batch; of none, an empty batch that concatenates with the others."""
    if not images:
        return torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def draw(count: int, first_seed: int) -> dict[str, Tensor]:
    """About `count` drawn scenes, the same number for each class."""
    from latentstore.sources.synthetic import CLASSES, draw_scene

    each = math.ceil(count / len(CLASSES))
    return {
        label: as_batch([draw_scene(label, (SIZE, SIZE), first_seed + i) for i in range(each)]) for label in CLASSES
    }


def gather_pixels(imagery: Path, held_out_city: str, recipe: Recipe, seed: int) -> Pixels:
    """Read the aerial crops when they are there, draw scenes, and split both."""
    cities = {folder.name: read_folder(folder) for folder in sorted(imagery.glob("*")) if folder.is_dir()}
    held_out = cities.pop(held_out_city, as_batch([]))
    real = torch.cat([*cities.values(), as_batch([])])
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
    validation, train = order[: recipe.validation_images], order[recipe.validation_images :]

    drawn, unseen = {}, {}
    if recipe.drawn_fraction > 0 or not len(real):
        # Seeds far apart: no scene that is measured was ever trained on, and shipped demos start at seed 0.
        drawn = draw(recipe.drawn_scenes, first_seed=1_000_000)
        unseen = draw(48, first_seed=0)
    return Pixels(
        train_real=real[train],
        train_drawn=torch.cat([*drawn.values(), as_batch([])]),
        validation=real[validation],
        validation_drawn=torch.cat([scenes[:2] for scenes in unseen.values()] or [as_batch([])]),
        held_out=held_out,
        held_out_city=held_out_city,
        other_cities=cities,
        drawn_by_class=unseen,
    )


def sample_batch(pixels: Pixels, recipe: Recipe, full_size: bool, random: np.random.Generator) -> Tensor:
    """Augmented crops in [0, 1]; full-size batches hold fewer images, so that a step costs the same."""
    side = SIZE if full_size else recipe.crop
    count = max(1, recipe.batch * recipe.crop**2 // side**2)
    crops = []
    for _ in range(count):
        drawn = not len(pixels.train_real) or (len(pixels.train_drawn) and random.random() < recipe.drawn_fraction)
        pool = pixels.train_drawn if drawn else pixels.train_real
        crops.append(augment(pool[random.integers(len(pool))], side, random))
    return torch.stack(crops)


def augment(image: Tensor, side: int, random: np.random.Generator) -> Tensor:
    """A random crop, sometimes rescaled, turned, mirrored and mildly relit."""
    window = side
    if side < SIZE and random.random() < 0.3:
        window = min(SIZE, int(side * random.uniform(0.8, 1.5)))
    top, left = random.integers(SIZE - window + 1, size=2)
    crop = image[:, top : top + window, left : left + window].float() / 255
    if window != side:
        crop = F.interpolate(crop[None], (side, side), mode="bicubic", antialias=True, align_corners=False)[0]
    crop = torch.rot90(crop, int(random.integers(4)), (1, 2))
    if random.random() < 0.5:
        crop = crop.flip(2)
    if random.random() < 0.5:
        crop = relight(crop, random)
    return crop.clamp(0, 1)


def relight(crop: Tensor, random: np.random.Generator) -> Tensor:
    """Change contrast, brightness and the balance of the channels a little."""
    mean = crop.mean()
    gain = torch.from_numpy(random.uniform(0.95, 1.05, size=(3, 1, 1))).float()
    return ((crop - mean) * random.uniform(0.8, 1.25) + mean + random.uniform(-0.06, 0.06)) * gain


# --- model and optimiser ---------------------------------------------------------------------------------------------


def prepare(vae: AutoencoderKL) -> None:
    """Start every residual block as its skip path and the posterior as nearly deterministic.

    The skip paths alone are a linear autoencoder, which learns in a few hundred steps what the random blocks would
    first have to be taught not to disturb.
    """
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
    moments = vae.encoder.conv_out
    with torch.no_grad():
        moments.weight[LATENT_CHANNELS:] = 0
        moments.bias[LATENT_CHANNELS:] = -6.0


class Muon(torch.optim.Optimizer):
    """Momentum whose step is orthogonalised, for convolution kernels read as (out, in * height * width) matrices.

    The step is scaled to the size an Adam step would have, so both optimisers share one range of rates.
    """

    def __init__(self, kernels: list[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(kernels, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # noqa: ARG002 (the base class's signature)
        """See `torch.optim.Optimizer.step`."""
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                state = self.state[kernel]
                velocity = state.setdefault("velocity", torch.zeros_like(kernel))
                velocity.lerp_(kernel.grad, 1 - group["momentum"])
                direction = kernel.grad.lerp(velocity, group["momentum"]).flatten(1)
                step = orthogonalise(direction) * (0.2 * math.sqrt(max(direction.shape)))
                kernel.mul_(1 - group["lr"] * group["weight_decay"])
                kernel.add_(step.view_as(kernel), alpha=-group["lr"])


def orthogonalise(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Bring all singular values near one by a quintic Newton-Schulz iteration."""
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


def make_optimisers(vae: AutoencoderKL, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the inner kernels; AdamW for the rest, whose rows are pixels, latents, biases or norms."""
    edges = {id(part.weight) for half in (vae.encoder, vae.decoder) for part in (half.conv_in, half.conv_out)}
    kernels = [p for p in vae.parameters() if p.ndim == 4 and id(p) not in edges]
    chosen = {id(p) for p in kernels}
    others = [p for p in vae.parameters() if id(p) not in chosen]
    return [
        Muon(kernels, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def reconstruction_loss(target: Tensor, decoded: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Mean over images of log MSE, the reported score itself, plus the same for differences of neighbours."""
    error = decoded - target
    mse = error.square().mean((1, 2, 3))
    across = error.diff(dim=3).square().mean((1, 2, 3)) + error.diff(dim=2).square().mean((1, 2, 3))
    # The floor keeps nearly flat crops, perfect anyway, from owning the gradient.
    loss = (mse + recipe.log_floor).log().mean() + recipe.gradient_weight * (across + recipe.log_floor).log().mean()
    return loss, mse.detach()


def total_loss(vae: AutoencoderKL, images: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """The loss of one batch in [0, 1], and its per-image MSE."""
    with torch.autocast(images.device.type, torch.bfloat16):
        moments = vae.encoder(images * 2 - 1)
        mean, log_variance = moments.float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-14, 6)
        latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        decoded = vae.decoder(latent)
    loss, mse = reconstruction_loss(images, decoded.float() / 2 + 0.5, recipe)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return loss + recipe.kl_weight * kl, mse


# --- training --------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """What changes while training, and what a checkpoint holds."""

    vae: AutoencoderKL
    average: AutoencoderKL
    optimisers: list[torch.optim.Optimizer]
    schedule: Schedule
    random: np.random.Generator
    step: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write beside, then rename: a kill while writing leaves the previous checkpoint whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".partial")
        torch.save(
            {
                "vae": self.vae.state_dict(),
                "average": self.average.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                "schedule": asdict(self.schedule),
                "random": json.dumps(self.random.bit_generator.state),
                "torch_random": torch.get_rng_state(),
                "step": self.step,
                "seconds": self.seconds,
                "curve": self.curve,
            },
            beside,
        )
        beside.replace(path)

    def load(self, path: Path) -> None:
        """Continue where `save` was called; the command line's schedule wins, where it says anything."""
        saved = torch.load(path, map_location="cpu", weights_only=True)
        self.vae.load_state_dict(saved["vae"])
        self.average.load_state_dict(saved["average"])
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        if self.schedule.steps is None:
            self.schedule.steps, self.schedule.decay_from = saved["schedule"]["steps"], saved["schedule"]["decay_from"]
        self.random.bit_generator.state = json.loads(saved["random"])
        torch.set_rng_state(saved["torch_random"])
        self.step, self.seconds, self.curve = saved["step"], saved["seconds"], saved["curve"]


def train(run: Run, pixels: Pixels, recipe: Recipe, checkpoint: Path, device: torch.device) -> None:
    """Step until the schedule ends, logging every 30 s, validating and saving every few minutes."""
    clock = last_log = last_save = time.monotonic()
    before, losses, errors, images_seen = run.seconds, [], [], 0.0
    while True:
        run.seconds = before + time.monotonic() - clock
        run.schedule.settle(run.step, run.seconds)
        if run.schedule.finished(run.step):
            break
        batch = sample_batch(pixels, recipe, run.schedule.full_size(run.step), run.random).to(device)
        loss, mse = take_step(run, batch, recipe)
        losses.append(loss)
        errors.extend(mse.tolist())
        images_seen += batch.shape[0] * batch.shape[-1] ** 2 / SIZE**2

        now = time.monotonic()
        if now - last_log >= 30:
            psnr = statistics.fmean(-10 * math.log10(e + 1e-10) for e in errors)
            log(run, statistics.fmean(losses), psnr, images_seen / (now - last_log))
            last_log, losses, errors, images_seen = now, [], [], 0.0
        if now - last_save >= 200:
            validate(run, pixels, device)
            run.save(checkpoint)
            last_save = time.monotonic()
    validate(run, pixels, device)
    run.save(checkpoint)


def take_step(run: Run, batch: Tensor, recipe: Recipe) -> tuple[float, Tensor]:
    """One gradient step and one step of the weight average."""
    loss, mse = total_loss(run.vae, batch, recipe)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.vae.parameters(), recipe.clip_norm)
    factor = run.schedule.rate(run.step)
    for optimiser, rate in zip(run.optimisers, (recipe.matrix_rate, recipe.other_rate), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = rate * factor
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    run.step += 1
    # Young averages forget fast, or the random start would linger in them.
    keep = min(recipe.average_decay, run.step / (run.step + 10))
    with torch.no_grad():
        for slow, fast in zip(run.average.parameters(), run.vae.parameters(), strict=True):
            slow.lerp_(fast, 1 - keep)
    return loss.item(), mse


def log(run: Run, loss: float, psnr: float, rate: float) -> None:
    """One line on how training goes; `rate` counts pixels as full-size images."""
    end = run.schedule.steps or "?"
    minutes = run.seconds / 60
    print(
        f"{minutes:6.1f} min  step {run.step}/{end}  loss {loss:.4f}  psnr {psnr:.2f} dB  {rate:.2f} images/s",
        flush=True,
    )


def validate(run: Run, pixels: Pixels, device: torch.device) -> None:
    """Append one point of the curve: averaged weights, images kept apart for choices, never the held-out city."""
    point: dict[str, float] = {"step": run.step, "minutes": round(run.seconds / 60, 1)}
    for name, images in (("real", pixels.validation), ("drawn", pixels.validation_drawn)):
        if len(images):
            scores = psnr_of(reconstruct(run.average, images, device), images)
            point[f"{name}_psnr"] = round(statistics.fmean(scores), 3)
    run.curve.append(point)
    print(f"           validation {point}", flush=True)


# --- measuring and exporting -----------------------------------------------------------------------------------------


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor, device: torch.device) -> Tensor:
    """Posterior means of uint8 images."""
    batches = [
        vae.encode(part.to(device).float() / 127.5 - 1).latent_dist.mean.cpu() for part in torch.split(images, 8)
    ]
    return torch.cat(batches)


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor, device: torch.device) -> Tensor:
    """Latents to uint8 images, clamped and rounded as a file would hold them."""
    batches = [vae.decode(part.to(device)).sample.cpu() for part in torch.split(latents, 8)]
    return (torch.cat(batches).clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)


def reconstruct(vae: AutoencoderKL, images: Tensor, device: torch.device) -> Tensor:
    """What comes back from latents stored in 16 bits."""
    return decode(vae, encode(vae, images, device).half().float(), device)


def psnr_of(decoded: Tensor, images: Tensor) -> list[float]:
    """PSNR of each uint8 image."""
    mse = (decoded.float() - images.float()).square().mean((1, 2, 3)) / 255**2
    return (-10 * mse.clamp_min(1e-10).log10()).tolist()


def ssim_of(decoded: Tensor, images: Tensor) -> list[float]:
    """SSIM of each uint8 image, over the valid area."""
    from skimage.metrics import structural_similarity

    return [
        float(
            structural_similarity(
                image.permute(1, 2, 0).numpy() / 255.0,
                back.permute(1, 2, 0).numpy() / 255.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1.0,
                channel_axis=2,
            )
        )
        for back, image in zip(decoded, images, strict=True)
    ]


def summary(values: list[float]) -> dict[str, float]:
    """Mean, median and both tails of a list of scores."""
    return {
        "n": len(values),
        "mean": round(float(np.mean(values)), 3),
        "median": round(float(np.median(values)), 3),
        "p5": round(float(np.percentile(values, 5)), 3),
        "p95": round(float(np.percentile(values, 95)), 3),
    }


def channel_statistics(latents: Tensor) -> tuple[list[float], list[float]]:
    """Per-channel mean and standard deviation over all images and places."""
    flat = latents.double().transpose(0, 1).flatten(1)
    return [round(v, 6) for v in flat.mean(1).tolist()], [round(v, 6) for v in flat.std(1).tolist()]


def export(run: Run, pixels: Pixels, recipe: Recipe, out: Path, device: torch.device) -> None:
    """Save the averaged weights as float16, with the numbers that bring each latent channel to unit scale."""
    vae = copy.deepcopy(run.average).half().float()
    mean, std = channel_statistics(encode(vae, training_mixture(pixels, recipe), device))
    vae.register_to_config(latents_mean=mean, latents_std=std)
    vae.half().save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes for its owner alone, and a wheel keeps that


def training_mixture(pixels: Pixels, recipe: Recipe) -> Tensor:
    """Whole training images, drawn ones in the share they had in training."""
    real, drawn = pixels.train_real, pixels.train_drawn
    if not len(real) or not len(drawn):
        return torch.cat([real, drawn])
    share = recipe.drawn_fraction
    wanted = min(len(drawn), round(len(real) * share / (1 - share)))
    chosen = torch.linspace(0, len(drawn) - 1, wanted).long()
    return torch.cat([real, drawn[chosen]])


def measure(out: Path, pixels: Pixels, device: torch.device) -> dict[str, Any]:
    """Every final figure, from the weights as they lie on disk."""
    vae = AutoencoderKL.from_pretrained(out, torch_dtype=torch.float32, low_cpu_mem_usage=False).to(device).eval()
    report: dict[str, Any] = {"protocol": PROTOCOL}
    if len(pixels.held_out):
        report["held_out"] = measure_held_out(vae, pixels, device)
    report["other_cities_psnr"] = {
        city: summary(psnr_of(reconstruct(vae, images, device), images)) for city, images in pixels.other_cities.items()
    }
    report["drawn_psnr"] = {
        label: summary(psnr_of(reconstruct(vae, images, device), images))
        for label, images in pixels.drawn_by_class.items()
    }
    return report


def measure_held_out(vae: AutoencoderKL, pixels: Pixels, device: torch.device) -> dict[str, Any]:
    """Scores on the city nothing was chosen on, and whether its latents come out at unit scale."""
    latents = encode(vae, pixels.held_out, device)
    decoded = decode(vae, latents.half().float(), device)
    mean, std = torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)
    normalised = (latents - mean[:, None, None]) / std[:, None, None]
    normalised_mean, normalised_std = channel_statistics(normalised)
    return {
        "city": pixels.held_out_city,
        "psnr": summary(psnr_of(decoded, pixels.held_out)),
        "ssim": summary(ssim_of(decoded, pixels.held_out)),
        "latent_std_raw": channel_statistics(latents)[1],
        "latent_mean_normalised": normalised_mean,
        "latent_std_normalised": normalised_std,
        "latent_largest_normalised": round(float(normalised.abs().max()), 3),
    }


# --- the record ------------------------------------------------------------------------------------------------------


def write_record(
    run: Run,
    pixels: Pixels,
    architecture: Architecture,
    recipe: Recipe,
    results: dict[str, Any],
    arguments: argparse.Namespace,
    hardware: str,
) -> None:
    """Write `training.json`: what a reader needs to judge the weights or train them again."""
    vae = run.average
    schedule = run.schedule
    record = {
        "data": {
            "aerial": "NAIP 2020 crops, 256x256 RGB, 60 cm, by way of urban-tree-detection-data@78e81bd (CC-BY-4.0)",
            "aerial_train": len(pixels.train_real),
            "aerial_validation": len(pixels.validation),
            "aerial_by_city": {city: len(images) for city, images in pixels.other_cities.items()},
            "held_out": {"city": pixels.held_out_city, "n": len(pixels.held_out)},
            "drawn": "latentstore.sources.synthetic.draw_scene; seeds from 1000000 in training, from 0 in measuring",
            "drawn_train": len(pixels.train_drawn),
            "drawn_fraction": recipe.drawn_fraction,
        },
        "architecture": {
            "class": "diffusers.AutoencoderKL",
            **asdict(architecture),
            "latent_channels": LATENT_CHANNELS,
            "parameters": sum(p.numel() for p in vae.parameters()),
        },
        "normalisation": "(latent - latents_mean) / latents_std per channel; both are in config.json, scaling_factor 1",
        "recipe": asdict(recipe),
        "loss": "mean per image of log(MSE + log_floor) on [0, 1] + gradient_weight * the same of the differences of "
        "neighbouring pixels + kl_weight * mean KL per latent number; the latent is sampled in training",
        "optimiser": "Muon (momentum 0.95, Nesterov, 5 Newton-Schulz steps) for inner convolution kernels, AdamW "
        "(0.9, 0.98) for the rest; gradient norm clipped; exponential average of the weights is what is saved",
        "schedule": {
            "steps": schedule.steps,
            "decay_from": schedule.decay_from,
            "full_size_from": ((schedule.steps or 0) + (schedule.decay_from or 0)) // 2,
            "shape": "linear warm-up, constant, linear decay to zero",
        },
        "precision": "float32 weights, bfloat16 autocast",
        "augmentation": "crops, 8 turns and mirrors, 30 % rescaled by 0.67 to 1.25, 50 % relit",
        "seed": arguments.seed,
        "hardware": hardware,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "numpy": np.__version__,
        },
        "minutes": round(run.seconds / 60, 1),
        "validation_curve": run.curve,
        "results": results,
        "repeat": repeat_command(schedule, recipe, arguments),
    }
    (arguments.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def repeat_command(schedule: Schedule, recipe: Recipe, arguments: argparse.Namespace) -> str:
    """What to type to train these weights again, whatever decided the length this time."""
    usual = asdict(Recipe())
    changed = [f"--{name.replace('_', '-')} {value}" for name, value in asdict(recipe).items() if value != usual[name]]
    return " ".join(
        [
            "python scripts/train_demo_vae.py",
            f"--steps {schedule.steps} --decay-from {schedule.decay_from}",
            f"--hold-out {arguments.hold_out} --seed {arguments.seed} --threads {torch.get_num_threads()}",
            *changed,
        ]
    )


def describe_hardware(device: torch.device) -> str:
    """Plain words, without the name of any machine."""
    cores = f"{torch.get_num_threads()} CPU cores"
    return f"{torch.cuda.get_device_name(device)}, {cores}" if device.type == "cuda" else f"{cores}, no GPU"


# --- command line ----------------------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    """The command line; every number of `Recipe` is an option too."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, default=REPOSITORY / "latentstore/vaes/weights/demo-v1", help="folder for the weights")
    add("--imagery", type=Path, default=REPOSITORY / "../shared/imagery/naip", help="folder of one folder per city")
    add("--hold-out", default="santa_monica", help="city that is only measured on, at the very end")
    add("--steps", type=int, help="length of the run; needs --decay-from")
    add("--decay-from", type=int, help="step at which the rate begins to fall")
    add("--minutes", type=float, help="time budget that decides both instead")
    add("--seed", type=int, default=0)
    add("--device", choices=("auto", "cuda", "cpu"), default="auto")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--checkpoints", type=Path, default=Path(tempfile.gettempdir()) / "latentstore-demo-vae", help="work folder")
    add("--resume", type=Path, help="checkpoint to continue from")
    for name, value in asdict(Recipe()).items():
        add(f"--{name.replace('_', '-')}", type=type(value), default=value, help="(recipe)")
    arguments = parser.parse_args()
    if (arguments.steps is None) != (arguments.decay_from is None):
        parser.error("--steps and --decay-from go together")
    if arguments.steps is None and arguments.minutes is None and arguments.resume is None:
        parser.error("say how long: --steps and --decay-from, or --minutes")
    return arguments


def start_run(architecture: Architecture, recipe: Recipe, arguments: argparse.Namespace, device: torch.device) -> Run:
    """A fresh run, or the resumed one."""
    torch.manual_seed(arguments.seed)
    vae = architecture.build()
    prepare(vae)
    vae.to(device)
    budget = None if arguments.minutes is None else arguments.minutes * 60
    run = Run(
        vae=vae,
        average=copy.deepcopy(vae).requires_grad_(requires_grad=False).eval(),
        optimisers=make_optimisers(vae, recipe),
        schedule=Schedule(arguments.steps, arguments.decay_from, recipe.warmup_steps, budget),
        random=np.random.default_rng(arguments.seed),
    )
    if arguments.resume is not None:
        run.load(arguments.resume)
    return run


def main() -> None:
    """Train, export, reload, measure, record."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    device = torch.device(
        arguments.device if arguments.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    )
    recipe = Recipe(**{name: getattr(arguments, name) for name in asdict(Recipe())})
    architecture = Architecture()
    pixels = gather_pixels(arguments.imagery, arguments.hold_out, recipe, arguments.seed)
    run = start_run(architecture, recipe, arguments, device)
    train(run, pixels, recipe, arguments.checkpoints / "checkpoint.pt", device)
    export(run, pixels, recipe, arguments.out, device)
    results = measure(arguments.out, pixels, device)
    write_record(run, pixels, architecture, recipe, results, arguments, describe_hardware(device))
    print(json.dumps(results["held_out"]["psnr"] if "held_out" in results else results["drawn_psnr"]))


if __name__ == "__main__":
    main()
