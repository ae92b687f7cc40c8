"""Thumbnails: tiny WebP pictures of decoded latents, so that whoever browses a dataset sees pictures.

The same pixels and side give the same bytes under the same version of Pillow, which brings its own WebP encoder; that
version is among ``environment.versions`` of a manifest.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray
    from PIL import Image

    from latentstore.records import Tile

SIDE = 64
"""Longest side in pixels, where nobody says otherwise."""
LARGEST_SIDE = 1024
QUALITY = 50
"""Of WebP, 0 to 100: about 0.9 kB for 64x64 pixels of an aerial photograph."""
METHOD = 4
"""Effort of WebP, 0 to 6; 6 takes twice as long and saves 7 % of the bytes."""
FORMAT = "WEBP"
WORSE, SLACK = 4.0, 16.0
"""A thumbnail may have so many times the mean squared error of a fresh one (6 dB), and so much besides: other versions
of the encoder, other settings and other devices give other bytes of the same picture."""


def thumbnails_of(tiles: Sequence[Tile], decoded: torch.Tensor, side: int) -> list[bytes]:
    """A WebP file of each decoded picture: of (N, 3, H, W) uint8 the top left, as large as its tile's true size.

    The longest side is ``side`` pixels, or that of the picture where it is smaller.
    """
    pictures = decoded.permute(0, 2, 3, 1).cpu().numpy()
    return [
        thumbnail_of(picture[: tile.pixels.shape[0], : tile.pixels.shape[1]], side)
        for tile, picture in zip(tiles, pictures, strict=True)
    ]


def thumbnail_of(pixels: NDArray[np.uint8], side: int) -> bytes:
    """A WebP file of one picture (H, W, 3) uint8, scaled down by area averages and bicubic interpolation."""
    return _file_of(_scaled(pixels, side))


def _scaled(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels))
    height, width = size_of_thumbnail(pixels.shape[0], pixels.shape[1], side)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return picture


def _file_of(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, FORMAT, quality=QUALITY, method=METHOD)
    return buffer.getvalue()


def size_of_thumbnail(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) of the thumbnail of a picture of this size; a picture is never enlarged."""
    scale = min(1.0, side / max(height, width, 1))
    return max(1, round(height * scale)), max(1, round(width * scale))


def fault_of_thumbnail(file: bytes, size: tuple[int, int]) -> str | None:
    """What is wrong with the bytes of a thumbnail that should have this (height, width); None where nothing is."""
    from PIL import Image

    if not file:
        return "is empty"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(file), formats=[FORMAT]) as picture:
                width, height = picture.size
                if (height, width) != size:  # before a pixel is decoded: 468 kB can say that there are 177 million
                    return f"is {height}x{width} pixels, expected {size[0]}x{size[1]}"
                picture.load()
    except Exception:  # noqa: BLE001 (Pillow raises a dozen kinds for damaged files)
        return "is no WebP picture that can be decoded"
    return None


def fault_of_likeness(file: bytes, pixels: NDArray[np.uint8], side: int) -> str | None:
    """What is wrong with a sound thumbnail of a picture (H, W, 3) uint8 that is not of it; None where it is.

    Its error is held against that of a fresh one, so that it does not matter how hard a picture is to compress. A
    picture that looks the same at this size is not told from it.
    """
    from PIL import Image

    picture = _scaled(pixels, side)
    fresh = _file_of(picture)
    if file == fresh:
        return None
    exact = np.asarray(picture, np.float64)
    errors = []
    for content in (file, fresh):
        with Image.open(BytesIO(content), formats=[FORMAT]) as shown:
            errors.append(float(np.mean((np.asarray(shown.convert("RGB"), np.float64) - exact) ** 2)))
    found, own = errors
    if found <= WORSE * own + SLACK:
        return None
    return (
        f"shows another picture than its latent decodes to: mean squared error {found:.0f}, a fresh one has {own:.0f}"
    )
