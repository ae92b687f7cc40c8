"""PREPARE: a source's picture to what a VAE takes, and the VAE's picture back to true size.

Order: resize, then centre crop, then cut into tiles, then each tile in every view that is stored, then pad by
reflection on the right and bottom to a multiple of the VAE's stride (of two strides for FLUX.2). Everything up to the
padding is the *prepared picture* (uint8): quality is measured against it. The true size is recorded, and decoding crops
back to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import BadImageError
from latentstore.json_records import ONLY_WHERE_SET, Side
from latentstore.records import PixelBatch, Tile
from latentstore.views import VIEWS, id_of_view, id_without_view, named_like_a_view

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    Size = tuple[int, int]


@dataclass(frozen=True)
class Preparation:
    """What is done to a picture before it is encoded; sizes are (height, width) in pixels."""

    resize: tuple[Side, ...] | None = None
    """(side,): scale so that the shorter side has this length; (height, width): exactly so. Bicubic."""
    crop: tuple[Side, Side] | None = None
    """Centre crop."""
    tile: tuple[Side, Side] | None = None
    """Cut into tiles, row by row; tiles at the right and bottom edge may be smaller and are padded to this size."""
    range: str = "[0, 1]"
    """Of the pixels handed to the VAE's adapter."""
    pad: str = "reflect"
    """How the right and bottom are filled up to a multiple of what the VAE pads to (``VaeRow.pad_to``)."""
    views: tuple[str, ...] = field(default=(), metadata=ONLY_WHERE_SET)
    """Names of the views of each picture or tile that are stored, one row each; none: the picture as it is, alone."""

    @property
    def features(self) -> Mapping[str, Any]:
        """Columns that tiling and views add, in the words of `datasets`."""
        return {**(TILE_FEATURES if self.tile else {}), **(VIEW_FEATURES if self.views else {})}

    def size_after_crop(self, size: Size) -> Size:
        """Size of the whole prepared picture, before it is cut; BadImageError where it is smaller than the crop."""
        height, width = self._resized(size)
        if self.crop is None:
            return height, width
        if height < self.crop[0] or width < self.crop[1]:
            raise BadImageError(f"{height}x{width} is smaller than the crop {self.crop[0]}x{self.crop[1]}")
        return self.crop

    def pieces(self, size: Size) -> int:
        """How many rows a picture of this size becomes: its tiles, each in every view (1 without both)."""
        return self.tiles(size) * max(1, len(self.views))

    def tiles(self, size: Size) -> int:
        """How many tiles a picture of this size is cut into (1 without tiling)."""
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
    """The prepared picture (or one piece of it), still uint8 and without padding."""
    return piece_of(prepare_whole(tile, preparation), preparation, piece)


def prepare_whole(tile: Tile, preparation: Preparation) -> Tile:
    """The prepared picture before it is cut and turned: what all its pieces have in common.

    Raises BadImageError where it is smaller than the crop, or where its id could be mistaken for that of a view.
    """
    if preparation.views and preparation.tile is None and named_like_a_view(tile.id):
        raise BadImageError(
            f"its name ends with @{tile.id.rpartition('@')[2]}, as that of a view of another picture does: rename it"
        )
    size = tile.pixels.shape[0], tile.pixels.shape[1]
    height, width = preparation.size_after_crop(size)
    pixels = _resize(tile.pixels, preparation._resized(size))  # noqa: SLF001 (one module)
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return replace(tile, pixels=pixels[top : top + height, left : left + width])


def piece_of(whole: Tile, preparation: Preparation, piece: int) -> Tile:
    """One piece of a prepared picture: tile by tile, each in all its views before the next.

    A tile gets the id ``<id>@r<row>c<column>`` and the metadata ``tile_row`` and ``tile_column``; a view gets the
    metadata ``view`` and, unless it is the picture as it is, the id ``<id>@<view>``.
    """
    number, view = divmod(piece, max(1, len(preparation.views)))
    tile = whole if preparation.tile is None else _cut(whole, preparation.tile, number)
    if not preparation.views:
        return tile
    row = VIEWS[preparation.views[view]]
    return replace(
        tile,
        id=id_of_view(tile.id, row.name),
        pixels=row.of(tile.pixels),
        metadata={**tile.metadata, "view": row.name},
    )


def _cut(whole: Tile, size: Size, number: int) -> Tile:
    high, wide = size
    row, column = divmod(number, -(-whole.pixels.shape[1] // wide))
    return replace(
        whole,
        id=f"{whole.id}@r{row}c{column}",
        pixels=whole.pixels[row * high : (row + 1) * high, column * wide : (column + 1) * wide],
        metadata={**whole.metadata, "tile_row": row, "tile_column": column},
    )


TILE_FEATURES = {
    "tile_row": {"dtype": "int32", "_type": "Value"},
    "tile_column": {"dtype": "int32", "_type": "Value"},
}
"""Columns that tiling adds."""
VIEW_FEATURES = {"view": {"dtype": "string", "_type": "Value"}}
"""The column that views add."""


def tiles_behind(index: Mapping[str, Sequence[Any]]) -> Sequence[str]:
    """Of each row of an index, the id of the picture, or of the tile of one, that it is a view of."""
    return index["id"] if "view" not in index else list(each_tile_behind(index))


def each_tile_behind(index: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """The same, row by row: a large index is gone through without holding all names."""
    if "view" not in index:
        return iter(index["id"])
    return (id_without_view(name, view) for name, view in zip(index["id"], index["view"], strict=True))


def each_picture_behind(index: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Of each row of an index, the id of the whole picture behind it, row by row."""
    tiles = each_tile_behind(index)
    return (name.rpartition("@")[0] for name in tiles) if "tile_row" in index else tiles


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
