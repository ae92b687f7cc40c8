"""The sheet of pictures: pixel for pixel."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from noisy import NOISY
from PIL import Image
from scenes import scenes, smooth_picture, write_pictures

from latentstore import VAES, Comparison, compare, folder_source
from latentstore.comparison.figure import CAPTION, GAP, HEADING, MARGIN, SIDE, TITLE, fitted, layout_of, pictures_png
from latentstore.errors import RequestError

ROWS = [VAES["pool8"], NOISY]


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare(scenes(6, 64), ROWS, pictures=3)


def read(png: bytes) -> np.ndarray:
    with Image.open(BytesIO(png)) as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"
        return np.asarray(image)


def test_originals_and_reconstructions_are_in_their_places(found: Comparison) -> None:
    sheet = read(pictures_png(found))
    layout = layout_of(found)
    width = 2 * MARGIN + 3 * SIDE + 2 * GAP
    assert sheet.shape[:2] == (2 * MARGIN + TITLE + HEADING + 3 * (SIDE + CAPTION), width)
    assert layout.size == (sheet.shape[1], sheet.shape[0])
    for row, name in enumerate(found.originals):
        shown = [found.originals[name], *(vae.pictures[name] for vae in found.vaes)]
        for column, picture in enumerate(shown):
            left, top = layout.place(row, column)
            enlarged = picture.repeat(4, axis=0).repeat(4, axis=1)
            assert np.array_equal(sheet[top : top + SIDE, left : left + SIDE], enlarged)
            assert (sheet[top + SIDE : top + SIDE + CAPTION, left : left + SIDE] < 128).any()  # a caption


def test_of_large_pictures_the_centre_is_shown_unscaled(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (300, 512)})
    found = compare(folder_source(str(photos)), [VAES["pool8"]], pictures=1)
    left, top = layout_of(found).place(0, 0)
    centre = smooth_picture(300, 512)[22:278, 128:384]
    assert np.array_equal(read(pictures_png(found))[top : top + SIDE, left : left + SIDE], centre)


@pytest.mark.parametrize(("size", "shown"), [((64, 64), (256, 256)), ((100, 90), (200, 180)), ((600, 100), (256, 100))])
def test_no_pixel_is_made_up(size: tuple[int, int], shown: tuple[int, int]) -> None:
    picture = smooth_picture(*size)
    assert fitted(picture).shape[:2] == shown
    assert set(map(tuple, fitted(picture).reshape(-1, 3))) <= set(map(tuple, picture.reshape(-1, 3)))


def test_long_names_are_cut_to_their_column(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {f"{'long' * 30}.png": (16, 64)})
    found = compare(folder_source(str(photos)), ROWS, pictures=1)
    sheet, layout = read(pictures_png(found)), layout_of(found)
    left, top = layout.place(0, 0)
    gap = sheet[top + layout.cell[0] : top + layout.cell[0] + CAPTION, left + layout.cell[1] + 1 : left + SIDE + GAP]
    assert (gap == 255).all()


def test_no_picture_is_refused() -> None:
    with pytest.raises(RequestError, match="There is no picture to show: no VAE was measured, or none was asked for"):
        pictures_png(compare(scenes(2), [VAES["pool8"]]))
