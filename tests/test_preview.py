"""preview.png: originals, reconstructions and differences of the best, the median and the worst."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scenes import build_scenes, scenes, smooth_picture, write_pictures

from latentstore import Preparation, build, folder_source, open_store
from latentstore.preview import CAPTION, GAP, SIDE


def picture(sheet: Image.Image, row: int, column: int, side: int = SIDE) -> np.ndarray:
    top = GAP + CAPTION + row * (side + CAPTION + GAP) + CAPTION
    left = GAP + column * (side + GAP)
    return np.asarray(sheet)[top : top + side, left : left + side]


def test_the_sheet_shows_originals_reconstructions_and_their_difference(tmp_path: Path) -> None:
    build_scenes(tmp_path, source=scenes(12, 64))
    sheet = Image.open(tmp_path / "synthetic-pool8" / "preview.png")
    index = open_store(tmp_path).index()
    order = np.argsort(-np.asarray(index["psnr"]), kind="stable")
    truths = {tile.id: tile for tile in scenes(12, 64).open().splits["train"].read(range(12))}
    for row, place in enumerate((0, 6, 11)):
        original = truths[index["id"][order[place]]].pixels.repeat(4, 0).repeat(4, 1)
        seen = [picture(sheet, row, column) for column in range(3)]
        assert np.array_equal(seen[0], original)
        expected = np.clip(np.abs(seen[0].astype(int) - seen[1]) * 4, 0, 255)
        assert np.array_equal(seen[2], expected)


def test_tiles_are_shown_in_their_own_place(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"scene.png": (256, 512)})
    plan_of_tiles = Preparation(tile=(256, 256))
    from scenes import plan

    build(plan(source=folder_source(str(photos)), preparation=plan_of_tiles), tmp_path / "out")
    index = open_store(tmp_path / "out").index()
    best = int(np.argmax(index["psnr"]))
    left = 256 * index["tile_column"][best]
    sheet = Image.open(tmp_path / "out" / "photos-pool8" / "preview.png")
    assert np.array_equal(picture(sheet, 0, 0), smooth_picture(256, 512)[:, left : left + 256])


def test_one_picture_and_odd_sizes_make_a_sheet_too(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (37, 1000)})
    from scenes import plan

    build(plan(source=folder_source(str(photos))), tmp_path / "out")
    with Image.open(tmp_path / "out" / "photos-pool8" / "preview.png") as sheet:
        assert sheet.width == 3 * 256 + 4 * GAP
