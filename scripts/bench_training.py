"""What an encoder in the training loop costs: a denoiser's step fed by load_latents, against encoding the pictures.

python scripts/bench_training.py                    32 drawn scenes of 256x256, encoded by the embedded VAE
python scripts/bench_training.py --scenes 256 64    256 of 64x64

Both ways feed the same rows in the same order to the same network in the same run, taking turns; the figures are
medians over rounds of one batch each, after one round that is not counted. The pictures wait in memory as uint8 and the
VAE computes in float32 without gradients, so neither decoding files nor augmentation is in it. How large the ratio is
depends on the network: the larger it is, the less an encoder weighs. The seconds are printed, so that it can be worked
out for another one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DModel

from latentstore import SOURCES, VAES, BuildPlan, build, load_latents, open_store
from latentstore.records import Tile
from latentstore.remeasure import originals_of


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, nargs=2, default=(32, 256), metavar=("COUNT", "SIDE"))
    parser.add_argument("--vae", default="demo")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--width", type=int, default=64, help="channels of the network, a multiple of 32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    options.device = options.device.replace("auto", "cuda" if torch.cuda.is_available() else "cpu")
    source = replace(SOURCES["synthetic"], options={"count": options.scenes[0], "size": options.scenes[1]})
    with tempfile.TemporaryDirectory() as folder:
        build(BuildPlan(source=source, vae=VAES[options.vae], batch_size=8), folder)
        measured(folder, options)


def measured(folder: str, options: argparse.Namespace) -> None:
    """Both ways in turn, and the table."""
    store = open_store(folder)
    data = load_latents(folder)
    vae = store.load_vae(device=options.device)
    index, originals = store.index(["split", "source_sha256"]), originals_of(store)
    tiles = [tile for tile in (originals.tile(index, row) for row in range(len(data))) if isinstance(tile, Tile)]
    pixels = torch.from_numpy(np.stack([tile.pixels for tile in tiles])).permute(0, 3, 1, 2).contiguous()

    def loaded(rows: torch.Tensor) -> torch.Tensor:
        latents: torch.Tensor = data.batch(rows.numpy())["latent"]
        return latents.to(options.device)

    def encoded(rows: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            raw = vae.encode((pixels[rows] / 255).to(options.device)).mean
        return data.manifest.normalisation.to_model(raw).clone()

    rows = torch.arange(min(options.batch_size, len(data)))
    difference = (loaded(rows) - encoded(rows)).abs().max().item()
    step = training_step(data.latent_shape, options)
    feeds: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"load_latents": loaded, "encoding": encoded}
    feeding: dict[str, list[float]] = {name: [] for name in feeds}
    whole: dict[str, list[float]] = {name: [] for name in feeds}
    random = torch.Generator().manual_seed(0)
    for round_number in range(options.rounds + 1):
        rows = torch.randperm(len(data), generator=random)[: options.batch_size]
        for name, feed in feeds.items():
            start = time.perf_counter()
            latents = feed(rows)
            latents.sum().item()  # waits for the device
            fed = time.perf_counter()
            step(latents)
            if round_number:
                feeding[name].append(fed - start)
                whole[name].append(time.perf_counter() - start)

    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else "CPU"
    print(
        f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}; {options.vae}, pictures of ", end=""
    )
    print(
        f"{options.scenes[1]}x{options.scenes[1]}, batches of {options.batch_size}, medians of {options.rounds} rounds"
    )
    print(f"largest difference between a loaded and an encoded latent, in model space: {difference:.1e}\n")
    print("| fed by | ms to feed a batch | ms a step, feeding included | of it feeding | pictures/s |")
    print("|---|---:|---:|---:|---:|")
    feed_ms = {name: statistics.median(seconds) * 1e3 for name, seconds in feeding.items()}
    step_ms = {name: statistics.median(seconds) * 1e3 for name, seconds in whole.items()}
    for name in feeds:
        speed = options.batch_size / step_ms[name] * 1e3
        share = feed_ms[name] / step_ms[name]
        print(f"| {name} | {feed_ms[name]:.2f} | {step_ms[name]:.0f} | {share:.1%} | {speed:.1f} |")
    ratio = step_ms["encoding"] / step_ms["load_latents"]
    print(f"\nA step fed by load_latents is {ratio:.2f}x as fast; feeding alone ", end="")
    print(f"{feed_ms['encoding'] / feed_ms['load_latents']:,.0f}x.")


def training_step(shape: tuple[int, ...], options: argparse.Namespace) -> Callable[[torch.Tensor], float]:
    """Forward, backward and AdamW of a small UNet that predicts the velocity of rectified flow."""
    torch.manual_seed(0)
    model = UNet2DModel(
        sample_size=shape[1:],
        in_channels=shape[0],
        out_channels=shape[0],
        layers_per_block=1,
        block_out_channels=(options.width, 2 * options.width),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
    ).to(options.device)
    optimiser = torch.optim.AdamW(model.parameters())

    def step(latents: torch.Tensor) -> float:
        noise, t = torch.randn_like(latents), torch.rand(len(latents), device=latents.device)
        answer = model(torch.lerp(latents, noise, t[:, None, None, None]), t * 1000).sample
        loss = F.mse_loss(answer, noise - latents)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.item()

    return step


if __name__ == "__main__":
    main()
