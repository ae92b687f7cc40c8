"""Quality against bits per pixel: every VAE as a point, image files as curves, drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

from latentstore.comparison.figure import BACKGROUND, GREY, INK, font
from latentstore.errors import RequestError

if TYPE_CHECKING:
    from latentstore.comparison.compare import Comparison
    from latentstore.metrics.interface import MetricRow

    Point = tuple[float, float]
    Box = tuple[float, float, float, float]
    """Left, top, right, bottom."""

WIDTH, PANEL_HEIGHT = 1000, 560
"""Of the picture, and of each panel in it, in pixels."""
FOOT = 46
_SHARPNESS = 2
"""Everything is drawn this many times as large and scaled down: that smooths the lines."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 170, 46, 58
"""From a panel's edges to its axes; the legend is on the right."""
_GRID = "#e2e2e2"
_VAE_COLOUR = "#b3261e"
# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
_COLOURS = ("#e69f00", "#009e73", "#0072b2", "#cc79a7")
_MARKS = ("circle", "square", "triangle", "circle")
_DIRECTIONS = ((1, 0), (1, -1), (1, 1), (-1, 0), (-1, -1), (-1, 1), (0, -1), (0, 1))
_DISTANCES = (10.0, 16, 24, 34, 46, 60, 78, 100, 130, 170, 220)


@dataclass(frozen=True)
class Series:
    """Points of one colour; a curve joins them."""

    name: str
    points: tuple[Point, ...]
    """(bits per pixel, quality)."""
    labels: tuple[str, ...]
    """Beside each point; empty for none."""
    colour: str
    mark: str
    joined: bool
    size: float = 12
    """Of its labels."""


@dataclass
class Panel:
    """One pair of axes, in pixels of the whole picture."""

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


def rate_png(comparison: Comparison) -> bytes:
    """The plot as a PNG, one panel a metric; RequestError where there is nothing to draw."""
    from PIL import Image, ImageDraw

    metrics = [
        metric
        for metric in comparison.rate_metrics
        if any(series.points for series in _series(comparison, metric.name))
    ]
    if not metrics:
        raise RequestError("There is nothing to draw: no VAE was measured, or no image encoder was asked for.")
    height = len(metrics) * PANEL_HEIGHT + FOOT
    sheet = Image.new("RGB", (WIDTH * _SHARPNESS, height * _SHARPNESS), BACKGROUND)
    pen = _Pen(ImageDraw.Draw(sheet))
    for number, metric in enumerate(metrics):
        _panel(pen, comparison, metric, number * PANEL_HEIGHT)
    for line, text in enumerate(_foot(comparison)):
        pen.text((_LEFT, height - FOOT + 4 + 17 * line), text, size=12, fill=GREY)
    buffer = BytesIO()
    sheet.reduce(_SHARPNESS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _series(comparison: Comparison, metric: str) -> list[Series]:
    found = []
    for number, curve in enumerate(comparison.curves):
        points = [
            ((point.bits_per_pixel, point.scores[metric]), point.quality)
            for point in curve.points
            if math.isfinite(point.scores[metric])
        ]
        ends = {0, len(points) - 1}
        labels = tuple(f"q{quality}" if place in ends else "" for place, (_, quality) in enumerate(points))
        colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
        found.append(Series(curve.encoder, tuple(point for point, _ in points), labels, colour, mark, joined=True))
    measured = [
        (vae.vae, (vae.size.bits_per_pixel, vae.rate_scores[metric]))
        for vae in comparison.vaes
        if vae.size is not None and math.isfinite(vae.rate_scores.get(metric, math.nan))
    ]
    points_of_vaes = tuple(point for _, point in measured)
    names = tuple(name for name, _ in measured)
    return [*found, Series("VAE latents", points_of_vaes, names, _VAE_COLOUR, "diamond", joined=False, size=15)]


def _panel(pen: _Pen, comparison: Comparison, metric: MetricRow, top: float) -> Panel:
    series = _series(comparison, metric.name)
    points = [point for one in series for point in one.points]
    box = (_LEFT, top + _TOP, WIDTH - _RIGHT, top + PANEL_HEIGHT - _BOTTOM)
    x_range = _padded([math.log2(x) for x, _ in points], 0.06, least=1.0)
    panel = Panel(box, x_range, _padded([y for _, y in points], 0.07, least=1e-3))
    better = "higher" if metric.higher_is_better else "lower"
    unit = f", {metric.unit}" if metric.unit else ""
    pen.text((_LEFT, top + 12), f"{metric.title}{unit} (mean of pictures; {better} is better)", size=16)
    _axes(pen, panel)
    curves = [[panel.at(point) for point in one.points] for one in series if one.joined]
    for one in series:
        if one.joined:
            pen.line([panel.at(point) for point in one.points], one.colour, 2)
    marks = [_around(panel.at(point), 7 if not one.joined else 4) for one in series for point in one.points]
    for one in series:
        for point in one.points:
            pen.mark(panel.at(point), one.mark, one.colour, 7 if not one.joined else 4)
    # Names first: they matter more than the qualities, and take the places nearest to their points.
    for one in sorted(series, key=lambda one: one.joined):
        for point, label in zip(one.points, one.labels, strict=True):
            if label:
                _label(pen, panel, panel.at(point), (label, one), marks, curves)
    _legend(pen, comparison, series, box)
    return panel


def _axes(pen: _Pen, panel: Panel) -> None:
    left, top, right, bottom = panel.box
    for power in range(math.ceil(panel.x_range[0]), math.floor(panel.x_range[1]) + 1):
        x, _ = panel.at((2.0**power, panel.y_range[0]))
        pen.line([(x, top), (x, bottom)], _GRID, 1)
        pen.line([(x, bottom), (x, bottom + 5)], INK, 1)
        pen.text((x, bottom + 8), f"{2.0**power:g}", size=13, anchor="ma")
    for value, shown in _ticks(panel.y_range):
        _, y = panel.at((2.0 ** panel.x_range[0], value))
        pen.line([(left, y), (right, y)], _GRID, 1)
        pen.line([(left - 5, y), (left, y)], INK, 1)
        pen.text((left - 9, y), shown, size=13, anchor="rm")
    pen.line([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], INK, 1)
    pen.text(((left + right) / 2, bottom + 30), "bits per pixel (log scale)", size=14, anchor="ma")


def _label(
    pen: _Pen,
    panel: Panel,
    point: Point,
    what: tuple[str, Series],
    marks: Sequence[Box],
    curves: Sequence[Sequence[Point]],
) -> None:
    """Write a label beside its point, at the nearest place where it covers no other label and no mark."""
    text, one = what
    width, height = pen.size(text, one.size)
    best: tuple[float, Box, float] | None = None
    for distance, (dx, dy) in product(_DISTANCES, _DIRECTIONS):
        box = _beside(point, (dx * distance, dy * distance), (width, height))
        if not _inside(box, panel.box) or any(_overlap(box, other, 2) for other in (*panel.taken, *marks)):
            continue
        cost = distance + 25 * sum(_crosses(box, curve) for curve in curves)
        if best is None or cost < best[0]:
            best = cost, box, distance
    if best is None:  # the axes are full: beyond the frame there is room
        box = _beside(point, (0, 0), (width, height))
        while any(_overlap(box, other, 2) for other in panel.taken):
            box = (box[0], box[1] + height, box[2], box[3] + height)
        best = 0.0, box, 0.0
    _, box, distance = best
    panel.taken.append(box)
    if distance > 24:
        pen.line([point, _nearest(box, point)], GREY, 1)
    pen.text((box[0], box[1]), text, size=one.size, fill=one.colour, halo=True)


def _legend(pen: _Pen, comparison: Comparison, series: Sequence[Series], box: Box) -> None:
    left, top = box[2] + 20, box[1] + 4
    reasons = {curve.encoder: curve.missing for curve in comparison.curves}
    for one in series:
        y = top + 9
        missing = reasons.get(one.name, "")
        if not missing:
            if one.joined:
                pen.line([(left, y), (left + 26, y)], one.colour, 2)
            pen.mark((left + 13, y), one.mark, one.colour, 7 if not one.joined else 4)
        pen.text((left + 34, y), one.name, size=14, anchor="lm", fill=GREY if missing else INK)
        top += 24
        if missing:
            pen.text((left + 34, y + 10), "no encoder here", size=11, fill=GREY)
            top += 14


def _foot(comparison: Comparison) -> tuple[str, str]:
    count = f"{comparison.curve_pictures:,} of {comparison.rows:,} pictures of {comparison.source}"
    if comparison.curve_pictures == comparison.rows:
        count = f"{comparison.rows:,} pictures of {comparison.source}"
    sizes = sorted({picture.shape[:2] for picture in comparison.originals.values()})
    size = f", {sizes[0][0]}x{sizes[0][1]}" if len(sizes) == 1 else ""
    return (
        f"{count}{size}, the same for VAEs and image files; q: quality given to the encoder.",
        "Bits of a VAE: all that is stored (compact float16 shards with labels, scores). Bits of an image: its file.",
    )


# Geometry ------------------------------------------------------------------------------------------------------------


def _padded(values: Sequence[float], share: float, least: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    middle, half = (low + high) / 2, max(high - low, least) * (0.5 + share)
    return middle - half, middle + half


def _ticks(span: tuple[float, float]) -> Iterator[tuple[float, str]]:
    """Round values inside the span, five to ten of them, with as many digits as they need."""
    rough = (span[1] - span[0]) / 7
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    for number in range(math.ceil(span[0] / step), math.floor(span[1] / step) + 1):
        yield number * step, f"{number * step:.{digits}f}"


def _around(point: Point, radius: float) -> Box:
    return point[0] - radius, point[1] - radius, point[0] + radius, point[1] + radius


def _beside(point: Point, offset: Point, size: Point) -> Box:
    """The box of a text whose nearest edge is so far from the point."""
    x, y = point[0] + offset[0], point[1] + offset[1]
    left = x if offset[0] > 0 else x - size[0] if offset[0] < 0 else x - size[0] / 2
    top = y if offset[1] > 0 else y - size[1] if offset[1] < 0 else y - size[1] / 2
    return left, top, left + size[0], top + size[1]


def _inside(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] + 3 and box[1] >= frame[1] + 3 and box[2] <= frame[2] - 3 and box[3] <= frame[3] - 3


def _overlap(a: Box, b: Box, gap: float) -> bool:
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


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


class _Pen:
    """Draws in pixels of the finished picture."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def line(self, points: Sequence[Point], colour: str, width: float) -> None:
        """A line through the points."""
        if len(points) > 1:
            self._draw.line(self._large(points), fill=colour, width=round(width * _SHARPNESS), joint="curve")

    def mark(self, point: Point, kind: str, colour: str, radius: float) -> None:
        """A filled shape with a white rim."""
        (x, y), r = self._large([point])[0], radius * _SHARPNESS
        shapes: Mapping[str, Sequence[Point]] = {
            "square": [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)],
            "triangle": [(x, y - 1.3 * r), (x + 1.2 * r, y + 0.9 * r), (x - 1.2 * r, y + 0.9 * r)],
            "diamond": [(x, y - 1.2 * r), (x + 1.2 * r, y), (x, y + 1.2 * r), (x - 1.2 * r, y)],
        }
        if kind == "circle":
            self._draw.ellipse([x - r, y - r, x + r, y + r], fill=colour, outline="white", width=_SHARPNESS)
        else:
            self._draw.polygon(shapes[kind], fill=colour, outline="white", width=_SHARPNESS)

    def text(
        self, place: Point, text: str, *, size: float, fill: str = INK, anchor: str = "la", halo: bool = False
    ) -> None:
        """Text at a place, which is where the anchor says; a halo keeps it readable on a line."""
        rim = {"stroke_width": 2 * _SHARPNESS, "stroke_fill": "white"} if halo else {}
        (where,) = self._large([place])
        self._draw.text(where, text, fill=fill, font=font(size * _SHARPNESS), anchor=anchor, **rim)

    def size(self, text: str, size: float) -> Point:
        """Width and height that a text takes."""
        left, _, right, bottom = self._draw.textbbox((0, 0), text, font=font(size * _SHARPNESS), anchor="la")
        return (right - left) / _SHARPNESS, bottom / _SHARPNESS

    @staticmethod
    def _large(points: Iterable[Point]) -> list[Point]:
        return [(x * _SHARPNESS, y * _SHARPNESS) for x, y in points]
