"""Load a latent dataset, decode its first batch with the VAE that made it, and write the pictures as one PNG.

python scripts/decode_batch.py LOCATION OUT.png [--rows 16]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from latentstore import load_latents


def main() -> None:
    """Print what a training loop would see, and write the decoded pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("location")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=16)
    options = parser.parse_args()

    started = time.perf_counter()
    dataset = load_latents(options.location)
    batch = next(iter(dataset.loader(batch_size=options.rows, shuffle=True)))
    seconds = time.perf_counter() - started
    latent = batch["latent"]
    print(f"{len(dataset)} rows; the first batch came after {seconds:.2f} s:")
    print(
        f"  latent {tuple(latent.shape)} {latent.dtype}, mean {latent.mean():.3f}, std {latent.std():.3f} (model space)"
    )
    if "label" in batch:
        names = dataset.class_names or ()
        print(f"  label  {', '.join(names[label] for label in batch['label'][:4].tolist())}, ...")
    pictures = (dataset.decode(latent) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid(pictures)).save(options.out)
    print(f"decoded {len(pictures)} pictures into {options.out}")


def grid(pictures: np.ndarray, columns: int = 4) -> np.ndarray:
    """Pictures (N, H, W, 3) uint8 side by side in rows of so many, white where the last row is not full."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    filled = np.full((rows * columns, height, width, 3), 255, np.uint8)
    filled[:count] = pictures
    return filled.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)


if __name__ == "__main__":
    main()
