"""What is wrong with flipping latents: a view's own latent, and the moved latent of the picture, each decoded.

python scripts/measure_views.py                                       24 drawn scenes, VAE demo
python scripts/measure_views.py --folder PICTURES --vae taef2=FOLDER --count 12

PSNR of the decode against the picture in that view, mean over pictures; and how far the moved latent is from the true
one, as a multiple of the standard deviation of the latents.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from latentstore import METRICS, SOURCES, VAES, folder_source
from latentstore.pictures import decoded_uint8
from latentstore.records import SkippedTile
from latentstore.vaes.interface import Vae
from latentstore.views import VIEWS

Picture = NDArray[np.uint8]


def main() -> None:
    """Encode every view of every picture, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="pictures of one square size, instead of drawn scenes")
    parser.add_argument("--vae", default="demo", help="a name, or name=FOLDER with its weights")
    parser.add_argument("--count", type=int, default=24)
    options = parser.parse_args()
    name, _, folder = options.vae.partition("=")
    vae = (VAES[name].at(folder) if folder else VAES[name]).load(device="cpu", dtype="float32")
    drawn = replace(SOURCES["synthetic"], options={"count": options.count, "size": 128})
    source = folder_source(options.folder) if options.folder else drawn
    split = next(iter(source.open().splits.values()))
    chosen = np.linspace(0, len(split) - 1, min(options.count, len(split))).astype(int).tolist()
    pictures = [tile.pixels for tile in split.read(chosen) if not isinstance(tile, SkippedTile)]
    print(f"{len(pictures)} pictures, VAE {name}\n")
    print("| view | its own latent | the moved latent | apart, standard deviations |")
    print("|---|---:|---:|---:|")
    for view in VIEWS.values():
        found = np.array([measured(vae, picture, view.of) for picture in pictures])
        own, moved, apart = found.mean(axis=0)
        print(f"| {view.name} | {own:.2f} dB | {moved:.2f} dB | {apart:.2f} |")


def measured(vae: Vae, picture: Picture, of: object) -> tuple[float, float, float]:
    """PSNR of the view's own latent and of the moved one, and their distance."""
    turned = np.ascontiguousarray(of(picture))  # type: ignore[operator]  # a view's function of an array
    plain, own = encoded(vae, picture), encoded(vae, turned)
    moved = np.ascontiguousarray(of(plain.transpose(1, 2, 0)).transpose(2, 0, 1))  # type: ignore[operator]
    apart = float(np.sqrt(((moved - own) ** 2).mean()) / own.std())
    return psnr(vae, own, turned), psnr(vae, moved, turned), apart


def encoded(vae: Vae, picture: Picture) -> NDArray[np.float32]:
    """Its raw latent (C, h, w)."""
    planes = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255
    return np.asarray(vae.encode(planes).mean[0].float().numpy(), np.float32)


def psnr(vae: Vae, latent: NDArray[np.float32], picture: Picture) -> float:
    """Of the decode against the picture, in dB."""
    truth = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()
    return float(METRICS["psnr"].open()(truth, decoded_uint8(vae, latent[None]))[0])


if __name__ == "__main__":
    main()
