"""How fast JPEG files become pixels: decode_image by Pillow alone against with simplejpeg, on one thread, in one run.

    python scripts/bench_decoding.py                        drawn scenes, as four kinds of JPEG
    python scripts/bench_decoding.py --folder ./photos      the JPEGs of a folder besides

Both open the file with Pillow first, because orientation, frames, colours and size must be known before anything is
decoded. Images a second of this thread's own time, the best of several rounds taken in turns. Without simplejpeg (the
extra `fast`) only the first is printed.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentstore import image_decoding
from latentstore.fast_jpeg import trusted_decoder
from latentstore.image_decoding import decode_image
from latentstore.sources.synthetic import CLASSES, draw_scene

Pixels = NDArray[np.uint8]
Decoder = Callable[[bytes], Pixels]

KINDS: Mapping[str, tuple[int, Mapping[str, Any]]] = {
    "256 x 256, quality 75": (256, {"quality": 75}),
    "256 x 256, quality 95, full colour": (256, {"quality": 95, "subsampling": 0}),
    "256 x 256, quality 85, progressive": (256, {"quality": 85, "progressive": True}),
    "600 x 600, quality 90": (600, {"quality": 90}),
}


def drawn(size: int, options: Mapping[str, Any], count: int = 24) -> Iterator[bytes]:
    """Scenes as JPEG files."""
    for number in range(count):
        file = io.BytesIO()
        scene = draw_scene(CLASSES[number % len(CLASSES)], (size, size), number)
        Image.fromarray(scene).save(file, "JPEG", **options)
        yield file.getvalue()


def as_it_is(data: bytes) -> Pixels:
    """As a build does it."""
    return decode_image(data).pixels


def by_pillow(data: bytes) -> Pixels:
    """As a build does it where simplejpeg is not installed."""
    known = image_decoding.decoded_jpeg
    image_decoding.decoded_jpeg = _nothing
    try:
        return decode_image(data).pixels
    finally:
        image_decoding.decoded_jpeg = known


def _nothing(_: bytes, __: tuple[int, int]) -> None:
    """In the place of simplejpeg."""


def rates(files: list[bytes], decoders: list[Decoder], rounds: int) -> list[float]:
    """Images a second of each, the best of so many rounds."""
    best = [float("inf")] * len(decoders)
    for _ in range(rounds):
        for place, decode in enumerate(decoders):
            started = time.thread_time()
            for data in files:
                decode(data)
            best[place] = min(best[place], time.thread_time() - started)
    return [len(files) / seconds for seconds in best]


def main() -> None:
    """Draw, decode, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    files = {name: list(drawn(size, saved)) for name, (size, saved) in KINDS.items()}
    if options.folder is not None:
        found = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})[:64]
        files[str(options.folder)] = [path.read_bytes() for path in found]
    known = trusted_decoder() is not None
    decoders: list[Decoder] = [by_pillow, as_it_is] if known else [by_pillow]
    print("| JPEG | Pillow, images/s | simplejpeg, images/s | ratio | same pixels |")
    print("|---|---:|---:|---:|---|")
    for name, datas in files.items():
        found_rates = rates(datas, decoders, options.rounds)
        told = f"{found_rates[1]:,.0f} | {found_rates[1] / found_rates[0]:.2f}x" if known else "- | -"
        same = all(np.array_equal(by_pillow(data), as_it_is(data)) for data in datas)
        print(f"| {name} | {found_rates[0]:,.0f} | {told} | {'yes' if same else 'NO'} |")


if __name__ == "__main__":
    main()
