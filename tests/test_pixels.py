"""PREPARE: sizes, pieces, padding by reflection and rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scenes import smooth_picture

from latentstore import Preparation
from latentstore.errors import BadImageError
from latentstore.pixels import batch_of, prepare, to_uint8
from latentstore.records import Tile

SIDES = st.integers(1, 70)


def tile_of(height: int, width: int) -> Tile:
    return Tile("a", smooth_picture(height, width), 0, "a.png", "0" * 64, 1)


@given(SIDES, SIDES, st.sampled_from([2, 8, 32]))
def test_padding_reflects_and_keeps_every_true_pixel(height: int, width: int, stride: int) -> None:
    tile = tile_of(height, width)
    padded = Preparation().padded_size((height, width), stride)
    assert all(side % stride == 0 for side in padded)
    assert padded[0] - height < stride
    assert padded[1] - width < stride
    batch = batch_of([tile], padded)
    pixels = batch.pixels[0].permute(1, 2, 0)
    assert batch.pixels.shape == (1, 3, *padded)
    assert torch.equal(to_uint8(pixels[:height, :width]), torch.from_numpy(tile.pixels))
    if padded[0] > height > 1:
        assert torch.equal(pixels[height, :width], pixels[height - 2, :width])


@given(SIDES, SIDES, st.integers(1, 40), st.integers(1, 40))
def test_tiles_cover_a_picture_exactly_once(height: int, width: int, high: int, wide: int) -> None:
    preparation = Preparation(tile=(high, wide))
    tile = tile_of(height, width)
    rebuilt = np.zeros_like(tile.pixels)
    count = np.zeros((height, width), int)
    for piece in range(preparation.pieces((height, width))):
        cut = prepare(tile, preparation, piece)
        top, left = cut.metadata["tile_row"] * high, cut.metadata["tile_column"] * wide
        area = slice(top, top + cut.pixels.shape[0]), slice(left, left + cut.pixels.shape[1])
        rebuilt[area] = cut.pixels
        count[area] += 1
    assert np.array_equal(rebuilt, tile.pixels)
    assert (count == 1).all()


def test_a_crop_is_taken_from_the_centre() -> None:
    tile = tile_of(10, 20)
    assert np.array_equal(prepare(tile, Preparation(crop=(4, 6)), 0).pixels, tile.pixels[3:7, 7:13])


def test_one_side_scales_the_shorter_side_and_two_stretch() -> None:
    tile = tile_of(30, 60)
    assert prepare(tile, Preparation(resize=(15,)), 0).pixels.shape == (15, 30, 3)
    stretched = prepare(tile, Preparation(resize=(20, 25)), 0).pixels
    expected = np.asarray(Image.fromarray(tile.pixels).resize((25, 20), Image.Resampling.BICUBIC))
    assert np.array_equal(stretched, expected)


def test_a_picture_smaller_than_the_crop_is_a_bad_image() -> None:
    with pytest.raises(BadImageError, match="10x20 is smaller than the crop 16x16"):
        prepare(tile_of(10, 20), Preparation(crop=(16, 16)), 0)


def test_pixels_are_rounded_not_truncated() -> None:
    values = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0])
    assert to_uint8(values).tolist() == [0, 0, 1, 255, 255]
