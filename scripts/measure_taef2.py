"""Real weights through the ordinary path: TAEF2 on aerial crops, encoded, stored as float16, loaded, decoded, measured.

    python scripts/measure_taef2.py                 all 412 crops, some minutes on a CPU
    python scripts/measure_taef2.py --city chico    one city

Weights and crops are not part of the product: ``../shared`` of the project's checkout holds them (their READMEs say
where they come from), or name other folders. Exits with 1 where a number is further from the reference than 0.01 dB.
The references were measured by an independent program: plain forward passes, latents rounded to float16, pictures to
8 bits, PSNR of each picture.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from latentstore import METRICS, VAES, BuildPlan, build, folder_source, load_latents
from latentstore.manifest import Manifest
from latentstore.pixels import to_uint8

SHARED = Path(__file__).resolve().parents[2] / "shared"
TOLERANCE_DB = 0.01
ALL_CROPS = {"n": 412.0, "mean": 31.09, "median": 30.99, "p5": 28.58, "p95": 34.29}
CITIES = {"santa_monica": 29.58}


def main() -> int:
    """Build, compare with the references, and decode some rows again from what was stored."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=SHARED / "weights")
    parser.add_argument("--images", type=Path, default=SHARED / "imagery" / "naip")
    parser.add_argument("--city", help="only this one of the folders")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    images = arguments.images / arguments.city if arguments.city else arguments.images
    with tempfile.TemporaryDirectory() as out:
        plan = BuildPlan(
            source=replace(folder_source(str(images)), name="naip"),
            vae=VAES["taef2"].at(str(arguments.weights)),
            metrics=(METRICS["psnr"],),
            batch_size=arguments.batch_size,
            dtype=arguments.dtype,
        )
        manifest = build(plan, out)
        again = _loaded_and_decoded(Path(out), arguments.images / (arguments.city or ""))
    found = _numbers(manifest, arguments.city)
    expected = {f"mean of {arguments.city}": CITIES.get(arguments.city or "")} if arguments.city else _references()
    print(f"{'':24} {'found':>8} {'expected':>8}")
    wrong = 0
    for name, value in found.items():
        reference = expected.get(name)
        off = reference is not None and abs(value - reference) > TOLERANCE_DB + 0.005  # references have two decimals
        wrong += off
        print(
            f"{name:24} {value:8.3f} {'' if reference is None else format(reference, '8.2f')}{'  OFF' if off else ''}"
        )
    print(f"loaded and decoded again, largest difference to the recorded PSNR: {again:.4f} dB")
    return int(wrong > 0 or again > TOLERANCE_DB)


def _references() -> dict[str, float]:
    return ALL_CROPS | {f"mean of {city}": value for city, value in CITIES.items()}


def _numbers(manifest: Manifest, city: str | None) -> dict[str, float]:
    psnr = manifest.quality["psnr"]
    if city:
        return {f"mean of {city}": psnr.mean or 0.0}
    numbers = {name: float(getattr(psnr, name)) for name in ("n", "mean", "median", "p5", "p95")}
    return numbers | {f"mean of {name}": value for name, value in psnr.per_class.items()}


def _loaded_and_decoded(out: Path, images: Path) -> float:
    """Largest difference between recorded PSNR and that of ``LatentDataset.decode``, over the first rows."""
    from PIL import Image

    latents = load_latents(out, columns=["psnr", "source_path"])
    batch = latents.batch(range(8))
    decoded = to_uint8(latents.decode(batch["latent"])).permute(0, 2, 3, 1).numpy().astype(np.float64)
    differences = []
    for picture, path, recorded in zip(decoded, batch["source_path"], batch["psnr"], strict=True):
        truth = np.asarray(Image.open(images / path).convert("RGB"), np.float64)
        differences.append(abs(float(10 * np.log10(255**2 / np.mean((picture - truth) ** 2))) - float(recorded)))
    return max(differences)


if __name__ == "__main__":
    raise SystemExit(main())
