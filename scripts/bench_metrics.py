"""Images a second of our pixel metrics against scikit-image and torchmetrics, one thread, side by side; what they cost.

    PYTHONPATH=. python scripts/bench_metrics.py [--size 256] [--images 8] [--rounds 5]
    PYTHONPATH=. python scripts/bench_metrics.py --vaes demo,sdxl      also beside those VAEs (minutes for large ones)

Needs the `test` extra. The pictures are made by arithmetic: soft fields with noise of about 30 dB. Every round runs
every contestant once over all pictures, the best round of each counts. Two kinds of torchmetrics are timed, all
pictures in one call and one a call, and the faster is the one compared with.

What they cost is in milliseconds of the processor a megapixel, which neighbours on the machine change little, and in
percent of that and one encode and decode together. VAEs without weights at hand get random ones.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import TYPE_CHECKING

import torch
from bench_vaes import loaded
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from latentstore import VAES
from latentstore.metrics.table import METRICS
from latentstore.vaes.interface import LoadOptions, Vae

if TYPE_CHECKING:
    from collections.abc import Callable

    Contest = dict[str, Callable[[], object]]


def make_pictures(count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft pictures and the same with noise, both (N, 3, size, size) uint8."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand((count, 3, size // 8, size // 8), generator=random) * 255
    clean = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    noisy = clean + 8 * torch.randn(clean.shape, generator=random)
    return clean.to(torch.uint8), noisy.clamp(0, 255).to(torch.uint8)


def ssim_contest(clean: torch.Tensor, noisy: torch.Tensor) -> Contest:
    """Ours, scikit-image's with the same convention, torchmetrics' with its own border."""
    scorer = METRICS["ssim"].open()

    def torchmetrics_ssim(a: torch.Tensor, b: torch.Tensor) -> object:
        return structural_similarity_index_measure(b / 255, a / 255, data_range=1.0, reduction="none")

    def scikit_image_ssim(a: torch.Tensor, b: torch.Tensor) -> object:
        return structural_similarity(
            a.numpy() / 255,
            b.numpy() / 255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=0,
        )

    return {
        "latentstore": lambda: scorer(clean, noisy),
        "scikit-image": lambda: [scikit_image_ssim(a, b) for a, b in zip(clean, noisy, strict=True)],
        "torchmetrics, batch": lambda: torchmetrics_ssim(clean, noisy),
        "torchmetrics, single": lambda: [
            torchmetrics_ssim(clean[i : i + 1], noisy[i : i + 1]) for i in range(len(clean))
        ],
    }


def psnr_contest(clean: torch.Tensor, noisy: torch.Tensor) -> Contest:
    """Ours, and torchmetrics' a picture."""
    scorer = METRICS["psnr"].open()

    def torchmetrics_psnr(a: torch.Tensor, b: torch.Tensor) -> object:
        return peak_signal_noise_ratio(b / 255, a / 255, data_range=1.0, reduction="none", dim=(1, 2, 3))

    return {
        "latentstore": lambda: scorer(clean, noisy),
        "torchmetrics, batch": lambda: torchmetrics_psnr(clean, noisy),
        "torchmetrics, single": lambda: [
            torchmetrics_psnr(clean[i : i + 1], noisy[i : i + 1]) for i in range(len(clean))
        ],
    }


def rates(contest: Contest, images: int, rounds: int) -> dict[str, float]:
    """Images a second of each contestant's best round."""
    best = dict.fromkeys(contest, float("inf"))
    for _ in range(rounds):
        for name, run in contest.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: images / seconds for name, seconds in best.items()}


def cost(run: Callable[[], object], megapixels: float, rounds: int) -> float:
    """Milliseconds of the processor a megapixel, of the best round; everything runs in this thread."""
    best = float("inf")
    for _ in range(rounds):
        start = time.thread_time()
        run()
        best = min(best, time.thread_time() - start)
    return best * 1e3 / megapixels


def there_and_back(vae: Vae, pixels: torch.Tensor) -> torch.Tensor:
    """Encode and decode."""
    return vae.decode(vae.encode(pixels).mean)


def show_costs(clean: torch.Tensor, noisy: torch.Tensor, vaes: list[str], rounds: int) -> None:
    """What a build measures by default, alone and beside VAEs."""
    megapixels = clean[:, 0].numel() / 1e6
    scorers = {name: row.open() for name, row in METRICS.items() if row.default}
    costs = {name: cost(partial(scorer, clean, noisy), megapixels, rounds) for name, scorer in scorers.items()}
    for name, found in costs.items():
        print(f"{name:6} {found:8.1f} ms of the processor a megapixel")
    metrics = sum(costs.values())
    for name in vaes:
        vae = loaded(VAES[name], LoadOptions())
        pixels = clean[:1].to(torch.float32) / 255
        alone = cost(partial(there_and_back, vae, pixels), pixels[0, 0].numel() / 1e6, 2)
        print(f"beside {name:6} {alone:10.0f} ms a megapixel: metrics are {metrics / (alone + metrics):.2%}")


def main() -> None:
    """Time both contests and print a table of rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vaes", default="demo", help="names, with commas between them; empty for none")
    options = parser.parse_args()

    torch.set_num_threads(1)
    clean, noisy = make_pictures(options.images, options.size)
    print(f"{options.images} pictures of {options.size}x{options.size}, one thread, best of {options.rounds} rounds")
    for title, contest in (("SSIM", ssim_contest(clean, noisy)), ("PSNR", psnr_contest(clean, noisy))):
        rate = rates(contest, options.images, options.rounds)
        for name, value in rate.items():
            print(f"{title}  {name:<20} {value:9.1f} images/s   latentstore is {rate['latentstore'] / value:5.1f}x")
    show_costs(clean, noisy, list(filter(None, options.vaes.split(","))), options.rounds)


if __name__ == "__main__":
    main()
