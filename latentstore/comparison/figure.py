"""The picture of a comparison: originals and every VAE's reconstruction side by side, pixel for pixel."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.comparison.rate_curves import planes
from latentstore.errors import RequestError
from latentstore.metrics.table import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.comparison.result import ComparedVae, Comparison

    Picture = NDArray[np.uint8]

SIDE = 256
"""Pixels of a picture on the sheet, along its longer side at most: larger ones are cut, smaller ones enlarged."""
MARGIN, GAP = 20, 10
TITLE, HEADING, CAPTION = 34, 42, 24
"""Heights of the lines of text: above everything, above each column, below each picture."""
INK, GREY, BACKGROUND = "#1a1a1a", "#6b6b6b", "white"


@dataclass(frozen=True)
class SheetLayout:
    """Where everything is on the sheet."""

    rows: int
    columns: int
    cell: tuple[int, int]
    """(height, width) of a picture."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the sheet."""
        width = 2 * MARGIN + self.columns * self.cell[1] + (self.columns - 1) * GAP
        return width, MARGIN + TITLE + HEADING + self.rows * (self.cell[0] + CAPTION) + MARGIN

    def place(self, row: int, column: int) -> tuple[int, int]:
        """(left, top) of a picture; column 0 holds the originals."""
        left = MARGIN + column * (self.cell[1] + GAP)
        return left, MARGIN + TITLE + HEADING + row * (self.cell[0] + CAPTION)


def pictures_png(comparison: Comparison) -> bytes:
    """The sheet as a PNG; RequestError where the comparison kept no picture.

    Pictures up to 256 pixels are enlarged by a whole factor; of larger ones the centre is shown, one pixel a pixel.
    """
    from PIL import Image, ImageDraw

    if not comparison.originals:
        raise RequestError("There is no picture to show: no VAE was measured, or none was asked for.")
    layout = layout_of(comparison)
    sheet = Image.new("RGB", layout.size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (MARGIN, MARGIN), _title(comparison), layout.size[0] - 2 * MARGIN, size=17)
    shown = [vae for vae in comparison.vaes if vae.measured]
    for column, (name, below) in enumerate([("original", ""), *((vae.vae, _below(vae)) for vae in shown)]):
        left, top = layout.place(0, column)
        _text(draw, (left, top - HEADING + 2), name, layout.cell[1], size=15)
        _text(draw, (left, top - HEADING + 21), below, layout.cell[1], size=12, fill=GREY)
    scorer = METRICS["psnr"].open()
    for row, (id_, original) in enumerate(comparison.originals.items()):
        _paste(sheet, original, layout.place(row, 0))
        _caption(draw, layout, (row, 0), id_)
        for column, vae in enumerate(shown, start=1):
            decoded = vae.pictures.get(id_)
            if decoded is None:
                _caption(draw, layout, (row, column), "not measured")
                continue
            _paste(sheet, decoded, layout.place(row, column))
            psnr = float(scorer(planes(original), planes(decoded))[0])
            _caption(draw, layout, (row, column), f"{vae.vae}   {psnr:.2f} dB" if np.isfinite(psnr) else "identical")
    buffer = BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def layout_of(comparison: Comparison) -> SheetLayout:
    """Where everything is."""
    sizes = [fitted(picture).shape[:2] for picture in comparison.originals.values()]
    cell = max(height for height, _ in sizes), max(width for _, width in sizes)
    return SheetLayout(len(sizes), 1 + sum(vae.measured for vae in comparison.vaes), cell)


def fitted(picture: Picture) -> Picture:
    """The picture as it is shown: enlarged by a whole factor, or its centre, so that no pixel is made up."""
    height, width = picture.shape[:2]
    factor = max(1, SIDE // max(height, width))
    if factor > 1:
        return picture.repeat(factor, axis=0).repeat(factor, axis=1)
    top, left = max(0, height - SIDE) // 2, max(0, width - SIDE) // 2
    return picture[top : top + SIDE, left : left + SIDE]


def font(size: float) -> Any:
    """Pillow's own font: the same on every machine."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _title(comparison: Comparison) -> str:
    first = next(iter(comparison.originals.values()))
    height, width = first.shape[:2]
    cut = max(height, width) > SIDE
    part = f"; the centre {min(height, SIDE)}x{min(width, SIDE)} of {height}x{width}, PSNR of the whole" if cut else ""
    return f"{comparison.source}, {len(comparison.originals)} of {comparison.rows:,} pictures{part}"


def _below(vae: ComparedVae) -> str:
    shape = "x".join(map(str, vae.latent_shape or ()))
    return f"{shape}, {vae.size.bits_per_pixel:.2f} bits/pixel" if vae.size is not None else shape


def _paste(sheet: Any, picture: Picture, place: tuple[int, int]) -> None:
    from PIL import Image

    sheet.paste(Image.fromarray(fitted(picture)), place)


def _caption(draw: Any, layout: SheetLayout, cell: tuple[int, int], text: str) -> None:
    left, top = layout.place(*cell)
    _text(draw, (left, top + layout.cell[0] + 4), text, layout.cell[1], size=12, fill=GREY)


def _text(draw: Any, place: tuple[int, int], text: str, width: int, *, size: float, fill: str = INK) -> None:
    """Text from a place on; what is too long loses its middle."""
    chosen = font(size)
    shown, kept = text, len(text)
    while kept > 4 and draw.textlength(shown, font=chosen) > width:
        kept -= 1
        shown = f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}"
    draw.text(place, shown, fill=fill, font=chosen)
