"""How many bytes latents take beside image files of the same quality.

Between measured points, the logarithm of the bits per pixel is taken to be linear in the quality (as in Bjøntegaard's
measure, VCEG-M33, there with a cubic in place of the line). Nothing is said beyond the measured points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from latentstore.comparison.storage_curves import StoragePoint, named

if TYPE_CHECKING:
    from latentstore.comparison.rate_curves import RateCurve
    from latentstore.comparison.result import Comparison
    from latentstore.metrics.interface import MetricRow

    Point = tuple[float, float]
    """(bits per pixel, quality)."""


@dataclass(frozen=True)
class Ratio:
    """Latents in one storage, and image files of the same quality."""

    point: StoragePoint
    times: float
    """Bytes of the latents for one byte of the image files."""


@dataclass(frozen=True)
class EqualQuality:
    """A VAE's storages against one image encoder, by one metric."""

    vae: str
    encoder: str
    metric: MetricRow
    ratios: tuple[Ratio, ...]
    """Of every storage whose quality the encoder's points enclose, fewest bits first."""
    even: tuple[Point, ...]
    """Where both curves meet: (bits per pixel, quality)."""
    here: tuple[float, float]
    """Worst and best quality of the VAE's storages."""
    there: tuple[float, float]
    """Worst and best quality of the encoder's points."""

    def sentence(self) -> str:
        """What that means, in words."""
        title, metric = self.metric.title, self.metric
        if not self.ratios:
            both = (self.here, self.there)
            spans = [" to ".join(_score(metric, score) for score in dict.fromkeys(span)) for span in both]
            return f"No storage has a {title} that was measured for {self.encoder}: {spans[0]} here, {spans[1]} there."
        low, high = min(self.ratios, key=_times), max(self.ratios, key=_times)
        words = [f"{ratio.times:.2f} ({named(ratio.point)}, {self._of(ratio.point)})" for ratio in (low, high)]
        text = f"The same {title} as {self.encoder} takes {' to '.join(dict.fromkeys(words))} times its bytes"
        meet = [f"{bits:.2f} bits per pixel ({_score(metric, quality)})" for bits, quality in self.even]
        return f"{text}; both take the same at {' and at '.join(meet)}." if meet else f"{text}."

    def _of(self, point: StoragePoint) -> str:
        return _score(self.metric, point.scores[self.metric.name])


def equal_qualities(comparison: Comparison) -> list[EqualQuality]:
    """Every VAE against every image encoder by every metric, as far as both were measured."""
    return [
        found
        for metric in comparison.rate_metrics
        for vae in comparison.vaes
        for curve in comparison.curves
        if (found := _compared(vae.vae, vae.storages, curve, metric)) is not None
    ]


def _compared(vae: str, storages: Sequence[StoragePoint], curve: RateCurve, metric: MetricRow) -> EqualQuality | None:
    sign = 1 if metric.higher_is_better else -1
    measured = [point for point in storages if math.isfinite(point.scores[metric.name])]
    ours = _front([(point.bits_per_pixel, sign * point.scores[metric.name]) for point in measured])
    theirs = _front([(point.bits_per_pixel, sign * point.scores[metric.name]) for point in curve.points])
    if not ours or not theirs:
        return None
    worst, best = theirs[0][1], theirs[-1][1]
    ratios = []
    for point in measured:
        quality = sign * point.scores[metric.name]
        if worst <= quality <= best:
            ratios.append(Ratio(point, point.bits_per_pixel / 2 ** _log_bits(theirs, quality)))
    return EqualQuality(
        vae=vae,
        encoder=curve.encoder,
        metric=metric,
        ratios=tuple(ratios),
        even=tuple((bits, sign * quality) for bits, quality in _meeting(ours, theirs)),
        here=(sign * ours[0][1], sign * ours[-1][1]),
        there=(sign * worst, sign * best),
    )


def _front(points: Sequence[Point]) -> list[Point]:
    """The points than which none of fewer bits is as good, fewest bits first; without those that are not finite."""
    front: list[Point] = []
    for bits, quality in sorted(point for point in points if math.isfinite(point[1])):
        if not front or quality > front[-1][1]:
            front.append((bits, quality))
    return front


def _log_bits(front: Sequence[Point], quality: float) -> float:
    """log2 of the bits per pixel that this quality takes."""
    return float(np.interp(quality, [point[1] for point in front], [math.log2(point[0]) for point in front]))


def _meeting(ours: Sequence[Point], theirs: Sequence[Point]) -> list[Point]:
    """Where two fronts meet, worst quality first."""
    low, high = max(ours[0][1], theirs[0][1]), min(ours[-1][1], theirs[-1][1])
    knots = sorted({quality for _, quality in (*ours, *theirs) if low <= quality <= high})
    apart = [_log_bits(ours, quality) - _log_bits(theirs, quality) for quality in knots]
    found = []
    for (q0, d0), (q1, d1) in pairwise(zip(knots, apart, strict=True)):
        if d0 < 0 <= d1 or d1 <= 0 < d0:
            quality = q0 + (q1 - q0) * d0 / (d0 - d1)
            found.append((2 ** _log_bits(ours, quality), quality))
    return found


def _times(ratio: Ratio) -> float:
    return ratio.times


def _score(metric: MetricRow, score: float) -> str:
    return f"{score:.2f} {metric.unit}" if metric.unit else f"{score:.4f}"
