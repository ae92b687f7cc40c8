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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentstore.fast_jpeg import trusted_decoder
from latentstore.image_decoding import decode_image
from latentstore.sources.synthetic import CLASSES, draw_scene

Pixels = NDArray[np.uint8]

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


@contextmanager
def pillow_alone() -> Iterator[None]:
    """As where simplejpeg is not installed."""
    with patch("latentstore.image_decoding.decoded_jpeg", lambda data, size: None):  # noqa: ARG005
        yield


def decoded(files: list[bytes]) -> tuple[list[Pixels], float]:
    """The pixels of each, and the seconds that it took this thread."""
    started = time.thread_time()
    pixels = [decode_image(data).pixels for data in files]
    return pixels, time.thread_time() - started


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
    print("| JPEG | Pillow, images/s | simplejpeg, images/s | ratio | same pixels |")
    print("|---|---:|---:|---:|---|")
    for name, datas in files.items():
        slow = fast = float("inf")
        same = True
        for _ in range(options.rounds):
            with pillow_alone():
                expected, seconds = decoded(datas)
            slow = min(slow, seconds)
            found, seconds = decoded(datas)
            fast = min(fast, seconds)
            same &= all(map(np.array_equal, expected, found))
        told = f"{len(datas) / fast:,.0f} | {slow / fast:.2f}x" if known else "- | -"
        print(f"| {name} | {len(datas) / slow:,.0f} | {told} | {'yes' if same else 'NO'} |")


if __name__ == "__main__":
    main()
