"""What the rows' memory format and CPU dtype rest on: seconds of one encode and decode in each, as ratios.

    python scripts/bench_vaes.py                   every architecture, 256x256, one thread: minutes each
    python scripts/bench_vaes.py taesd --size 128  one, smaller

Official architectures with random weights, because speed does not depend on them. Each cell is the fastest of
``--repeats`` runs, the four settings taking turns; a ratio above 1 is faster than float32 contiguous.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import torch
from diffusers.utils import logging

from latentstore import VAES, VaeRow
from latentstore.normalisation import Normalisation
from latentstore.vaes.architectures import ARCHITECTURES
from latentstore.vaes.checkpoint import DiffusersVae, Family, placed
from latentstore.vaes.interface import LoadOptions, Vae, VaeIdentity
from latentstore.vaes.tiny import Taef2Vae, taef2_network

SETTINGS = [(dtype, order) for dtype in ("float32", "bfloat16") for order in ("contiguous", "channels_last")]
NOBODY = VaeIdentity(class_name="", repo=None, revision=None, weights_sha256=None)


def main() -> None:
    """Measure and print."""
    one_each = {row.architecture or row.name: row.name for row in VAES.values() if row.repo}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vaes", nargs="*", metavar="VAE", help=f"default: {' '.join(one_each.values())}")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()  # diffusers warns whenever a model is cast
    print(f"{'':10} {'seconds':>9} " + " ".join(f"{f'{dtype} {order}':>24}" for dtype, order in SETTINGS))
    for name in options.vaes or one_each.values():
        seconds = fastest(VAES[name], options.size, options.repeats)
        ratios = " ".join(f"{seconds[0] / one:>23.2f}x" for one in seconds)
        print(f"{name:10} {seconds[0]:9.2f} {ratios}", flush=True)


def fastest(row: VaeRow, size: int, repeats: int) -> list[float]:
    """Seconds of encode and decode of one picture in each setting."""
    network = random_network(row)
    pixels = torch.rand(1, 3, size, size)
    seconds = [float("inf")] * len(SETTINGS)
    for _ in range(repeats):
        for place, (dtype, order) in enumerate(SETTINGS):
            vae = vae_of(replace(row, memory_format=order), network, LoadOptions(dtype=dtype))
            start = time.perf_counter()
            vae.decode(vae.encode(pixels).mean)
            seconds[place] = min(seconds[place], time.perf_counter() - start)
    return seconds


def loaded(row: VaeRow, options: LoadOptions) -> Vae:
    """A VAE with its weights where they are at hand, else with random ones."""
    if row.packaged or not row.repo:
        return row.load(device=options.device, dtype=options.dtype)
    return vae_of(row, random_network(row), options)


def random_network(row: VaeRow) -> Any:
    """The row's network with random weights in float32."""
    empty = ARCHITECTURES[row.architecture].empty() if row.architecture else taef2_network(row.channels)
    network = empty.to_empty(device="cpu")
    with torch.no_grad():
        for numbers in network.parameters():
            numbers.normal_(std=0.02)
    return network


def vae_of(row: VaeRow, network: Any, options: LoadOptions) -> Vae:
    """The network behind its adapter, in these options' dtype and the row's memory format."""
    model = placed(row, network.to(getattr(torch, options.dtype)), options)
    if isinstance(row.family, Family):
        return DiffusersVae(row, options, NOBODY, Normalisation(), model, row.family)
    return Taef2Vae(row, options, NOBODY, model)


if __name__ == "__main__":
    main()
