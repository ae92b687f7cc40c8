"""The honest size ledger: the same pictures as raw RGB, as image files, and as latents, each with what it lost.

python scripts/size_ledger.py                      64 drawn scenes of 256x256
python scripts/size_ledger.py --folder PICTURES    a folder of lossless pictures

Prints a Markdown table. JPEG and WebP at the qualities named; latents float16 and int8, layout compact, with every VAE
that needs no download. PSNR is the mean over pictures, from the bytes as stored. The latents are without thumbnails;
the last line says what those add to the bytes and, in processor time, to a build.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentstore import METRICS, SOURCES, STORAGES, VAES, BuildPlan, SourceRow, build, folder_source
from latentstore.records import SkippedTile, Tile
from latentstore.sources.interface import SplitReader
from latentstore.thumbnails import SIDE, thumbnail_of

FILES = [("PNG", {}), ("JPEG", {"quality": 75}), ("JPEG", {"quality": 90}), ("WebP", {"quality": 75})]
LATENTS = [("demo", "float16"), ("demo", "int8"), ("pool8", "float16"), ("pool8", "int8")]


@dataclass(frozen=True)
class Line:
    """One way to keep the pictures."""

    name: str
    bytes: int
    psnr: float | None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="pictures to use instead of drawn scenes")
    parser.add_argument("--count", type=int, default=64, help="number of drawn scenes")
    options = parser.parse_args()
    source = folder_source(options.folder) if options.folder else drawn(options.count)
    pictures = [tile.pixels for split in source.open().splits.values() for tile in read(split)]
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
    raw = Line("raw RGB", 3 * pixels, None)
    lines = [raw, *(as_files(name, options_, pictures) for name, options_ in FILES), *as_latents(source)]
    print(f"{len(pictures)} pictures, {pixels:,} pixels\n")
    print("| kept as | bytes a picture | bits per pixel | against raw RGB | PSNR |")
    print("|---|---:|---:|---:|---:|")
    for line in lines:
        shown = "lossless" if line.psnr is None else f"{line.psnr:.2f} dB"
        each, bpp = line.bytes / len(pictures), 8 * line.bytes / pixels
        smaller = "" if line is raw else f"{raw.bytes / line.bytes:.1f}x smaller"
        print(f"| {line.name} | {each:,.0f} | {bpp:.2f} | {smaller} | {shown} |")
    print(f"\n{thumbnails(source, pictures)}")


def drawn(count: int) -> SourceRow:
    """So many drawn scenes of 256x256."""
    return SOURCES["synthetic"].at("", count=count)


def read(split: SplitReader) -> Iterator[Tile]:
    """Every usable picture of a split."""
    return (tile for tile in split.read(range(len(split))) if not isinstance(tile, SkippedTile))


def as_files(name: str, options: dict[str, int], pictures: list[NDArray[np.uint8]]) -> Line:
    """The pictures written by Pillow in this format."""
    sizes, scores = [], []
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, name, **options)
        sizes.append(buffer.tell())
        with Image.open(buffer) as seen:
            scores.append(psnr(picture, np.asarray(seen.convert("RGB"))))
    quality = f", quality {options['quality']}" if options else ""
    return Line(name + quality, sum(sizes), None if np.isinf(scores).all() else float(np.mean(scores)))


def as_latents(source: SourceRow) -> Iterator[Line]:
    """The pictures built into a latent dataset with each VAE at hand."""
    for name, storage in LATENTS:
        plan = BuildPlan(
            source=source, vae=VAES[name], metrics=(METRICS["psnr"],), storage=STORAGES[storage], thumbnail=0
        )
        with tempfile.TemporaryDirectory() as out:
            manifest = build(plan, out)
        channels, _, _ = manifest.latent_shape
        step = f" with steps of 1/{1 / plan.step:g} sigma" if plan.calibrated else ""
        yield Line(
            f"latents, `{name}` ({channels} channels, stride {manifest.vae.stride}), {storage}{step}, compact",
            manifest.size.stored_bytes,
            manifest.quality["psnr"].mean,
        )


def thumbnails(source: SourceRow, pictures: list[NDArray[np.uint8]]) -> str:
    """What thumbnails take in a build of `demo` in float16 with the default metrics."""
    start = time.process_time()
    with tempfile.TemporaryDirectory() as out:
        size = build(BuildPlan(source=source, vae=VAES["demo"]), out).size
    built = time.process_time() - start
    start = time.process_time()
    for picture in pictures:
        thumbnail_of(picture, SIDE)
    seconds = time.process_time() - start
    count = len(pictures)
    return (
        f"Thumbnails of {SIDE} pixels: {size.thumbnail_bytes / count:,.0f} bytes each, "
        f"{size.thumbnail_bytes / size.stored_bytes:.1%} of what `demo` stores in float16; "
        f"{1000 * seconds / count:.1f} ms of processor time each, "
        f"{seconds / built:.1%} of the build's {built / count:.2f} s."
    )


def psnr(truth: NDArray[np.uint8], seen: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 pictures; infinite where they are equal."""
    error = float(((truth.astype(np.float64) - seen) ** 2).mean())
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


if __name__ == "__main__":
    main()
