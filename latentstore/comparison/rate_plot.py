"""Quality against bits per pixel, drawn with Pillow alone: image files and VAEs over their storages as curves.

Where no storage was measured, every VAE is one point: its whole config as it was built.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from latentstore.comparison.drawing import (
    SHARPNESS,
    Label,
    Panel,
    Pen,
    around,
    draw_axes,
    draw_label,
    padded,
)
from latentstore.comparison.figure import BACKGROUND, GREY, INK
from latentstore.comparison.storage_curves import step_in_words
from latentstore.errors import RequestError

if TYPE_CHECKING:
    from latentstore.comparison.drawing import Box, Point
    from latentstore.comparison.result import Comparison
    from latentstore.comparison.storage_curves import StoragePoint
    from latentstore.metrics.interface import MetricRow

WIDTH, PANEL_HEIGHT = 1000, 560
"""Of the picture, and of each panel in it, in pixels."""
LINE, FOOT_MARGIN = 17, 12
"""Height of a line of the caption, and what is left free around the caption."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 190, 46, 58
"""From a panel's edges to its axes; the legend is on the right."""
_FILE_COLOURS = ("#9a9a9a", "#6f6f6f", "#3f3f3f")
"""Of image files, which stay in the background."""
FILES, LATENTS = "image files", "VAE latents"
"""Headings of the legend."""
# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
_VAE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_VAE_COLOUR = "#b3261e"
_FILE_MARKS = ("circle", "square", "triangle")
_STORAGE_MARKS = {"float16": "diamond", "float32": "square"}
"""Of storages without a step; the others' is a circle."""
_DASHES = (0, 7, 3)
"""Of the first six VAEs, the next six and so on."""


@dataclass(frozen=True)
class Mark:
    """One measured point."""

    point: Point
    """(bits per pixel, quality)."""
    kind: str
    radius: float
    label: str = ""
    beyond: bool = False
    """Whether it may fall off the axis: the others decide how far that goes."""


@dataclass(frozen=True)
class Series:
    """Points of one colour; a curve joins them."""

    name: str
    marks: tuple[Mark, ...]
    colour: str
    joined: bool
    dash: float = 0
    size: float = 12
    """Of its labels."""
    heading: str = ""
    """Of the part of the legend where it stands."""

    @property
    def points(self) -> tuple[Point, ...]:
        """(bits per pixel, quality) of each."""
        return tuple(mark.point for mark in self.marks)


def rate_png(comparison: Comparison) -> bytes:
    """The plot as a PNG, one panel a metric; RequestError where there is nothing to draw."""
    from PIL import Image, ImageDraw

    metrics = [
        metric
        for metric in comparison.rate_metrics
        if any(series.marks for series in series_of(comparison, metric.name))
    ]
    if not metrics:
        raise RequestError(
            "There is nothing to draw: no VAE was measured, or no image encoder was asked for, or every picture was "
            "decoded without any loss."
        )
    foot = list(caption(comparison))
    height = len(metrics) * PANEL_HEIGHT + foot_height(comparison)
    sheet = Image.new("RGB", (WIDTH * SHARPNESS, height * SHARPNESS), BACKGROUND)
    pen = Pen(ImageDraw.Draw(sheet))
    for number, metric in enumerate(metrics):
        draw_panel(pen, comparison, metric, number * PANEL_HEIGHT)
    for line, text in enumerate(foot):
        pen.text((_LEFT, len(metrics) * PANEL_HEIGHT + LINE * line), text, size=12, fill=GREY)
    buffer = BytesIO()
    sheet.reduce(SHARPNESS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def foot_height(comparison: Comparison) -> int:
    """Pixels of the caption below the panels."""
    return LINE * len(list(caption(comparison))) + FOOT_MARGIN


# What is drawn -------------------------------------------------------------------------------------------------------


def series_of(comparison: Comparison, metric: str) -> list[Series]:
    """Image files first, VAEs after them."""
    return [*_image_files(comparison, metric), *_vaes(comparison, metric)]


def _image_files(comparison: Comparison, metric: str) -> Iterator[Series]:
    for number, curve in enumerate(comparison.curves):
        points = [point for point in curve.points if math.isfinite(point.scores[metric])]
        labels = {0: f"q{points[0].quality}", len(points) - 1: f"q{points[-1].quality}"} if points else {}
        kind = _FILE_MARKS[number % len(_FILE_MARKS)]
        marks = tuple(
            Mark((point.bits_per_pixel, point.scores[metric]), kind, 4, labels.get(place, ""))
            for place, point in enumerate(points)
        )
        colour = _FILE_COLOURS[number % len(_FILE_COLOURS)]
        yield Series(curve.encoder, marks, colour, joined=True, heading=FILES)


def _vaes(comparison: Comparison, metric: str) -> Iterator[Series]:
    if not comparison.has_storages:
        marks = tuple(
            Mark((vae.size.bits_per_pixel, vae.rate_scores[metric]), "diamond", 7, vae.vae)
            for vae in comparison.vaes
            if vae.size is not None and math.isfinite(vae.rate_scores.get(metric, math.nan))
        )
        yield Series(LATENTS, marks, _VAE_COLOUR, joined=False, size=15)
        return
    measured = [vae for vae in comparison.vaes if vae.storages]
    for number, vae in enumerate(measured):
        points = [point for point in vae.storages if math.isfinite(point.scores[metric])]
        turn, place = divmod(number, len(_VAE_COLOURS))
        yield Series(
            vae.vae,
            tuple(_storage_mark(point, metric, points) for point in points),
            _VAE_COLOURS[place],
            joined=True,
            dash=_DASHES[turn % len(_DASHES)],
            heading=LATENTS,
        )


def _storage_mark(point: StoragePoint, metric: str, points: Sequence[StoragePoint]) -> Mark:
    stepped = [other for other in points if other.step is not None]
    ends = stepped[:1] + stepped[-1:]
    label = step_in_words(point.step) if point in ends else ""
    kind = _STORAGE_MARKS.get(point.storage, "circle")
    where = point.bits_per_pixel, point.scores[metric]
    return Mark(where, kind, 4 if kind == "circle" else 6, label, beyond=point.storage == "float32")


# Where it is drawn ---------------------------------------------------------------------------------------------------


def draw_panel(pen: Pen, comparison: Comparison, metric: MetricRow, top: float) -> Panel:
    """Axes, curves, marks, labels and legend of one metric."""
    series = series_of(comparison, metric.name)
    panel = panel_of(series, top)
    better = "higher" if metric.higher_is_better else "lower"
    unit = f", {metric.unit}" if metric.unit else ""
    pen.text((_LEFT, top + 12), f"{metric.title}{unit} (mean of pictures; {better} is better)", size=16)
    draw_axes(pen, panel, "bits per pixel (log scale)")
    shown = [(one, [mark for mark in one.marks if panel.holds(mark.point[0])]) for one in series]
    curves = [[panel.at(mark.point) for mark in marks] for one, marks in shown if one.joined]
    for one, marks in shown:
        if one.joined:
            pen.line([panel.at(mark.point) for mark in marks], one.colour, 2, dash=one.dash)
    for one, marks in shown:
        for mark in marks:
            pen.mark(panel.at(mark.point), mark.kind, one.colour, mark.radius)
    boxes = [around(panel.at(mark.point), mark.radius) for _, marks in shown for mark in marks]
    for label in _labels(panel, shown):
        draw_label(pen, panel, label, boxes, curves)
    _legend(pen, comparison, series, panel.box)
    return panel


def panel_of(series: Sequence[Series], top: float) -> Panel:
    """Axes that hold every point that may not fall off them."""
    marks = [mark for one in series for mark in one.marks]
    deciding = [mark for mark in marks if not mark.beyond] or marks
    box = (_LEFT, top + _TOP, WIDTH - _RIGHT, top + PANEL_HEIGHT - _BOTTOM)
    x_range = padded([math.log2(mark.point[0]) for mark in deciding], 0.06, least=1.0)
    return Panel(box, x_range, padded([mark.point[1] for mark in marks], 0.07, least=1e-3))


def _labels(panel: Panel, shown: Sequence[tuple[Series, Sequence[Mark]]]) -> Iterator[Label]:
    """Names first: they matter more than steps and qualities, and take the places nearest to their points."""
    named_at = {one.name: max(marks, key=_bits) for one, marks in shown if one.joined and marks}
    for one, _ in shown:
        if one.name in named_at:
            last = named_at[one.name]
            text, size = f"{one.name} {last.label}".strip(), 15 if one.heading == LATENTS else 13
            yield Label(panel.at(last.point), text, one.colour, size)
    for one, marks in shown:
        for mark in marks:
            if mark.label and mark is not named_at.get(one.name):
                yield Label(panel.at(mark.point), mark.label, one.colour, one.size)


def _bits(mark: Mark) -> float:
    return mark.point[0]


def _legend(pen: Pen, comparison: Comparison, series: Sequence[Series], box: Box) -> None:
    left, top = box[2] + 20, box[1]
    reasons = {curve.encoder: curve.missing for curve in comparison.curves}
    heading = ""
    for one in series:
        if one.heading != heading:
            top += 8 if heading else 0
            heading = one.heading
            pen.text((left, top), heading, size=13, fill=GREY)
            top += 20
        missing = reasons.get(one.name, "")
        kind = one.marks[0].kind if one.marks else "circle"
        if not missing:
            _sample(pen, (left, top + 9), one, kind)
        pen.text((left + 34, top + 9), _fits(pen, one.name), size=14, anchor="lm", fill=GREY if missing else INK)
        top += 22
        if missing:
            pen.text((left + 34, top), "no encoder here", size=11, fill=GREY)
            top += 16
    if comparison.has_storages:
        pen.text((left, top + 8), "storages", size=13, fill=GREY)
        top += 28
        for name, kind in _kinds(comparison):
            pen.mark((left + 13, top + 9), kind, INK, 4 if kind == "circle" else 6)
            pen.text((left + 34, top + 9), _fits(pen, name), size=14, anchor="lm")
            top += 22


def _sample(pen: Pen, place: Point, one: Series, kind: str) -> None:
    x, y = place
    if one.joined:
        pen.line([(x, y), (x + 26, y)], one.colour, 2, dash=one.dash)
    pen.mark((x + 13, y), kind, one.colour, 4 if one.joined else 7)


def _fits(pen: Pen, name: str) -> str:
    return pen.fitted(name, 14, _RIGHT - 20 - 34 - 8)


def _kinds(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Storages and their marks."""
    points = [point for vae in comparison.vaes for point in vae.storages]
    for name in dict.fromkeys(point.storage for point in points):
        steps = [point.step for point in points if point.storage == name and point.step is not None]
        said = f"{name}, {step_in_words(max(steps))} to {step_in_words(min(steps))}" if steps else name
        yield said, _STORAGE_MARKS.get(name, "circle")


def caption(comparison: Comparison) -> Iterator[str]:
    """The lines below the panels."""
    count = f"{comparison.curve_pictures:,} of {comparison.rows:,} pictures of {comparison.source}"
    if comparison.curve_pictures == comparison.rows:
        count = f"{comparison.rows:,} pictures of {comparison.source}"
    sizes = sorted({picture.shape[:2] for picture in comparison.originals.values()})
    size = f", {sizes[0][0]}x{sizes[0][1]}" if len(sizes) == 1 else ""
    yield f"{count}{size}, the same for VAEs and image files; q: quality given to the encoder."
    if not comparison.has_storages:
        yield "Bits of a VAE: all that is stored, as float16, with labels and scores. Bits of an image: its file."
        return
    yield "Bits of latents: the column latent of a compact Parquet shard of these pictures. Bits of an image: its file."
    if any(point.step is not None for vae in comparison.vaes for point in vae.storages):
        yield "1/2 ... 1/32: step of a quantised storage, as a multiple of each channel's standard deviation."
    yield from _beyond(comparison)


def _beyond(comparison: Comparison) -> Iterator[str]:
    """What fell off the axis."""
    series = series_of(comparison, comparison.rate_metrics[0].name)
    panel = panel_of(series, 0)
    off = [
        f"{vae.vae} {point.bits_per_pixel:.2f}"
        for vae in comparison.vaes
        for point in vae.storages
        if not panel.holds(point.bits_per_pixel)
    ]
    if off:
        yield f"Beyond the axis, at these bits per pixel: float32 of {', '.join(off)}."
