"""What plots are drawn with: a pen, axes, and labels that find a free place. Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

from latentstore.comparison.figure import GREY, INK, font

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

SHARPNESS = 2
"""Everything is drawn this many times as large and scaled down: that smooths the lines."""
_GRID = "#e4e4e4"
_DIRECTIONS = ((1, 0), (1, -1), (1, 1), (-1, 0), (-1, -1), (-1, 1), (0, -1), (0, 1))
_DISTANCES = (10.0, 16, 24, 34, 46, 60, 78, 100, 130, 170, 220)


@dataclass(frozen=True)
class Label:
    """A text that belongs beside a point."""

    point: Point
    """In pixels."""
    text: str
    colour: str
    size: float


@dataclass
class Panel:
    """One pair of axes, in pixels of the whole picture; the first is logarithmic."""

    box: Box
    x_range: tuple[float, float]
    """log2 of bits per pixel."""
    y_range: tuple[float, float]
    taken: list[Box] = field(default_factory=list)
    """Where labels are."""

    def at(self, point: Point) -> Point:
        """Pixels of (bits per pixel, quality)."""
        left, top, right, bottom = self.box
        x = (math.log2(point[0]) - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        y = (point[1] - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return left + x * (right - left), bottom - y * (bottom - top)

    def holds(self, bits_per_pixel: float) -> bool:
        """Whether so many are on the axis."""
        return self.x_range[0] <= math.log2(bits_per_pixel) <= self.x_range[1]


class Pen:
    """Draws in pixels of the finished picture."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def line(self, points: Sequence[Point], colour: str, width: float, *, dash: float = 0) -> None:
        """A line through the points; ``dash`` is the length of its dashes and gaps, 0 for none."""
        pieces = _dashes(points, dash) if dash else [points]
        for piece in pieces:
            if len(piece) > 1:
                self._draw.line(self._large(piece), fill=colour, width=round(width * SHARPNESS), joint="curve")

    def mark(self, point: Point, kind: str, colour: str, radius: float) -> None:
        """A filled shape with a white rim."""
        (x, y), r = self._large([point])[0], radius * SHARPNESS
        shapes: Mapping[str, Sequence[Point]] = {
            "square": [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)],
            "triangle": [(x, y - 1.3 * r), (x + 1.2 * r, y + 0.9 * r), (x - 1.2 * r, y + 0.9 * r)],
            "diamond": [(x, y - 1.2 * r), (x + 1.2 * r, y), (x, y + 1.2 * r), (x - 1.2 * r, y)],
        }
        if kind == "circle":
            self._draw.ellipse([x - r, y - r, x + r, y + r], fill=colour, outline="white", width=SHARPNESS)
        else:
            self._draw.polygon(shapes[kind], fill=colour, outline="white", width=SHARPNESS)

    def text(
        self, place: Point, text: str, *, size: float, fill: str = INK, anchor: str = "la", halo: bool = False
    ) -> None:
        """Text at a place, which is where the anchor says; a halo keeps it readable on a line."""
        rim = {"stroke_width": 2 * SHARPNESS, "stroke_fill": "white"} if halo else {}
        (where,) = self._large([place])
        self._draw.text(where, text, fill=fill, font=font(size * SHARPNESS), anchor=anchor, **rim)

    def size(self, text: str, size: float) -> Point:
        """Width and height that a text takes."""
        left, _, right, bottom = self._draw.textbbox((0, 0), text, font=font(size * SHARPNESS), anchor="la")
        return (right - left) / SHARPNESS, bottom / SHARPNESS

    def fitted(self, text: str, size: float, width: float) -> str:
        """The text; where it is wider than that, without its middle."""
        shown, kept = text, len(text)
        while kept > 4 and self.size(shown, size)[0] > width:
            kept -= 1
            shown = f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}"
        return shown

    @staticmethod
    def _large(points: Iterable[Point]) -> list[Point]:
        return [(x * SHARPNESS, y * SHARPNESS) for x, y in points]


def draw_axes(pen: Pen, panel: Panel, caption: str) -> None:
    """Frame, grid and ticks; at every power of two from left to right, and at round numbers upwards."""
    left, top, right, bottom = panel.box
    for power in range(math.ceil(panel.x_range[0]), math.floor(panel.x_range[1]) + 1):
        x, _ = panel.at((2.0**power, panel.y_range[0]))
        pen.line([(x, top), (x, bottom)], _GRID, 1)
        pen.line([(x, bottom), (x, bottom + 5)], INK, 1)
        pen.text((x, bottom + 8), f"{2.0**power:g}", size=13, anchor="ma")
    for value, shown in ticks(panel.y_range):
        _, y = panel.at((2.0 ** panel.x_range[0], value))
        pen.line([(left, y), (right, y)], _GRID, 1)
        pen.line([(left - 5, y), (left, y)], INK, 1)
        pen.text((left - 9, y), shown, size=13, anchor="rm")
    pen.line([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], INK, 1)
    pen.text(((left + right) / 2, bottom + 30), caption, size=14, anchor="ma")


def draw_label(pen: Pen, panel: Panel, label: Label, marks: Sequence[Box], curves: Sequence[Sequence[Point]]) -> None:
    """Write a label beside its point, at the nearest place where it covers no other label and no mark."""
    width, height = pen.size(label.text, label.size)
    best: tuple[float, Box, float] | None = None
    for distance, (dx, dy) in product(_DISTANCES, _DIRECTIONS):
        box = _beside(label.point, (dx * distance, dy * distance), (width, height))
        if not inside(box, panel.box) or any(overlap(box, other, 2) for other in (*panel.taken, *marks)):
            continue
        cost = distance + 25 * sum(_crosses(box, curve) for curve in curves)
        if best is None or cost < best[0]:
            best = cost, box, distance
    if best is None:  # the axes are full: beyond the frame there is room
        box = _beside(label.point, (0, 0), (width, height))
        while any(overlap(box, other, 2) for other in panel.taken):
            box = (box[0], box[1] + height, box[2], box[3] + height)
        best = 0.0, box, 0.0
    _, box, distance = best
    panel.taken.append(box)
    if distance > 24:
        pen.line([label.point, _nearest(box, label.point)], GREY, 1)
    pen.text((box[0], box[1]), label.text, size=label.size, fill=label.colour, halo=True)


# Geometry ------------------------------------------------------------------------------------------------------------


def padded(values: Sequence[float], share: float, least: float) -> tuple[float, float]:
    """From the smallest to the largest, with this share of the difference (of at least ``least``) on both sides."""
    low, high = min(values), max(values)
    middle, half = (low + high) / 2, max(high - low, least) * (0.5 + share)
    return middle - half, middle + half


def ticks(span: tuple[float, float]) -> Iterator[tuple[float, str]]:
    """Round values inside the span, five to ten of them, with as many digits as they need."""
    rough = (span[1] - span[0]) / 7
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    for number in range(math.ceil(span[0] / step), math.floor(span[1] / step) + 1):
        yield number * step, f"{number * step:.{digits}f}"


def around(point: Point, radius: float) -> Box:
    """The box of a mark."""
    return point[0] - radius, point[1] - radius, point[0] + radius, point[1] + radius


def inside(box: Box, frame: Box) -> bool:
    """Whether a box is within a frame, a little off its lines."""
    return box[0] >= frame[0] + 3 and box[1] >= frame[1] + 3 and box[2] <= frame[2] - 3 and box[3] <= frame[3] - 3


def overlap(a: Box, b: Box, gap: float) -> bool:
    """Whether two boxes are nearer than the gap."""
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def _beside(point: Point, offset: Point, size: Point) -> Box:
    """The box of a text whose nearest edge is so far from the point."""
    x, y = point[0] + offset[0], point[1] + offset[1]
    left = x if offset[0] > 0 else x - size[0] if offset[0] < 0 else x - size[0] / 2
    top = y if offset[1] > 0 else y - size[1] if offset[1] < 0 else y - size[1] / 2
    return left, top, left + size[0], top + size[1]


def _crosses(box: Box, line: Sequence[Point]) -> bool:
    """Whether a line runs through the box, by looking every few pixels."""
    for (x0, y0), (x1, y1) in pairwise(line):
        steps = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) / 4))
        for step in range(steps + 1):
            x, y = x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps
            if box[0] <= x <= box[2] and box[1] <= y <= box[3]:
                return True
    return False


def _nearest(box: Box, point: Point) -> Point:
    return min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])


def _dashes(points: Sequence[Point], length: float) -> Iterator[list[Point]]:
    """Every second piece of this length along a line."""
    walked = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        distance = math.hypot(x1 - x0, y1 - y0)
        at = 0.0
        while at < distance:
            stop = min(distance, at + length - walked % length)
            if int(walked / length + 1e-9) % 2 == 0:
                yield [(x0 + (x1 - x0) * along / distance, y0 + (y1 - y0) * along / distance) for along in (at, stop)]
            walked += max(stop - at, 1e-6)
            at = max(stop, at + 1e-6)
