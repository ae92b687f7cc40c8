"""PREPARE: a source's picture to what a VAE takes, and the VAE's picture back to true size.

Order: resize, then centre crop, then cut into tiles, then pad by reflection on the right and bottom to a multiple of
the VAE's stride (of two strides for FLUX.2). Everything up to the padding is the *prepared picture* (uint8): quality is
measured against it. The true size is recorded, and decoding crops back to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from latentstore.errors import BadImageError
from latentstore.records import PixelBatch, Tile

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    Size = tuple[int, int]


@dataclass(frozen=True)
class Preparation:
    """What is done to a picture before it is encoded; sizes are (height, width) in pixels."""

    resize: tuple[int, ...] | None = None
    """(side,): scale so that the shorter side has this length; (height, width): exactly so. Bicubic."""
    crop: tuple[int, int] | None = None
    """Centre crop."""
    tile: tuple[int, int] | None = None
    """Cut into tiles, row by row; tiles at the right and bottom edge may be smaller and are padded to this size."""
    range: str = "[0, 1]"
    """Of the pixels handed to the VAE's adapter."""
    pad: str = "reflect"
    """How the right and bottom are filled up to a multiple of what the VAE pads to (``VaeRow.pad_to``)."""

    def size_after_crop(self, size: Size) -> Size:
        """Size of the whole prepared picture, before it is cut; BadImageError where it is smaller than the crop."""
        height, width = self._resized(size)
        if self.crop is None:
            return height, width
        if height < self.crop[0] or width < self.crop[1]:
            raise BadImageError(f"{height}x{width} is smaller than the crop {self.crop[0]}x{self.crop[1]}")
        return self.crop

    def pieces(self, size: Size) -> int:
        """How many tiles a picture of this size becomes (1 without tiling)."""
        if self.tile is None:
            return 1
        height, width = self.size_after_crop(size)
        return -(-height // self.tile[0]) * -(-width // self.tile[1])

    def padded_size(self, size: Size, multiple: int) -> Size:
        """Size that is encoded for a picture of this size: multiples of what its VAE pads to."""
        height, width = self.tile or self.size_after_crop(size)
        return -(-height // multiple) * multiple, -(-width // multiple) * multiple

    def _resized(self, size: Size) -> Size:
        if self.resize is None:
            return size
        if len(self.resize) == 2:
            return self.resize[0], self.resize[1]
        scale = self.resize[0] / min(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def prepare(tile: Tile, preparation: Preparation, piece: int) -> Tile:
    """The prepared picture (or one piece of it), still uint8 and without padding.

    A piece gets the id ``<id>@r<row>c<column>`` and the metadata ``tile_row`` and ``tile_column``.
    """
    size = tile.pixels.shape[0], tile.pixels.shape[1]
    height, width = preparation.size_after_crop(size)
    pixels = _resize(tile.pixels, preparation._resized(size))  # noqa: SLF001 (one module)
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    pixels = pixels[top : top + height, left : left + width]
    if preparation.tile is None:
        return replace(tile, pixels=pixels)
    high, wide = preparation.tile
    row, column = divmod(piece, -(-width // wide))
    return replace(
        tile,
        id=f"{tile.id}@r{row}c{column}",
        pixels=pixels[row * high : (row + 1) * high, column * wide : (column + 1) * wide],
        metadata={**tile.metadata, "tile_row": row, "tile_column": column},
    )


TILE_FEATURES = {
    "tile_row": {"dtype": "int32", "_type": "Value"},
    "tile_column": {"dtype": "int32", "_type": "Value"},
}
"""Columns that tiling adds."""


def batch_of(tiles: Sequence[Tile], padded: Size, *, pinned: bool = False) -> PixelBatch:
    """Prepared pictures as one batch (N, 3, H, W) float32 in [0, 1], padded by reflection to (H, W).

    ``pinned`` puts it into memory from which an accelerator copies while the program goes on.
    """
    import torch

    stacked = np.stack([_pad(tile.pixels, padded) for tile in tiles])
    pixels = torch.from_numpy(stacked).permute(0, 3, 1, 2).to(torch.float32).div_(255)
    return PixelBatch(pixels=pixels.pin_memory() if pinned else pixels, tiles=tuple(tiles))


def to_uint8(pixels: torch.Tensor) -> torch.Tensor:
    """Pictures in [0, 1] as uint8, rounded to nearest (not truncated)."""
    import torch

    return pixels.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def _pad(pixels: NDArray[np.uint8], padded: Size) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if (height, width) == padded:
        return pixels
    # numpy reflects again where the padding is longer than the picture, and repeats a single row or column.
    return np.pad(pixels, ((0, padded[0] - height), (0, padded[1] - width), (0, 0)), mode="reflect")


def _resize(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    if pixels.shape[:2] == size:
        return pixels
    from PIL import Image

    resized = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(resized)
