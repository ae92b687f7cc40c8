"""From the scores of single pictures to what a manifest and a card say about a whole dataset.

Every number is the same to the last bit whatever the order of the pictures.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from latentstore.metrics.interface import MetricRow

_WORST = 10


@dataclass(frozen=True)
class MetricSummary:
    """One metric over all pictures; ``n + undefined + identical`` is how many there are."""

    metric: str
    """Name of the column: ``psnr``."""
    title: str
    unit: str
    higher_is_better: bool
    protocol: str
    n: int
    """Pictures with a finite score: those that everything below but ``pooled`` is about."""
    undefined: int
    """Pictures without a score, because they are too small."""
    identical: int
    """Pictures with an infinite score: decoded without any loss, as PSNR counts it."""
    mean: float | None
    """None, as the three below, where no picture has a finite score."""
    median: float | None
    p5: float | None
    """The 5th percentile, interpolated linearly: the bad end of PSNR and SSIM, the good end of an error."""
    p95: float | None
    pooled: float | None
    """Value of the dataset taken as one picture; None where the metric has no such value, or it is infinite."""
    per_class: dict[str, float] = field(default_factory=dict)
    """Mean score of each class that has one, in the order of the labels."""
    worst: tuple[str, ...] = ()
    """Up to ten ids, worst first; equal scores in the order of their ids."""


def summarise(
    row: MetricRow,
    scores: NDArray[np.float64],
    pixel_counts: NDArray[np.float64],
    ids: Sequence[str],
    labels: Sequence[int | None],
    class_names: Sequence[str],
) -> MetricSummary:
    """The summary of the scores (N,) of N pictures, whose sizes in pixels, ids and labels stand in the same order.

    A score is NaN where the metric is undefined, +infinity where PSNR found no difference; neither is averaged.
    """
    scores = np.asarray(scores, dtype=np.float64)
    pixel_counts = np.asarray(pixel_counts, dtype=np.float64)
    scored = [
        (score, id_, label)
        for score, id_, label in zip(scores.tolist(), ids, labels, strict=True)
        if math.isfinite(score)
    ]
    finite = [score for score, _, _ in scored]
    identical = int(np.count_nonzero(np.isposinf(scores)))
    p5, median, p95 = (float(p) for p in np.percentile(finite, [5, 50, 95])) if finite else (None, None, None)
    pooled = row.pool(scores, pixel_counts) if row.pool else math.nan

    by_class: dict[int, list[float]] = {}
    for score, _, label in scored:
        if label is not None:
            by_class.setdefault(label, []).append(score)

    sign = 1 if row.higher_is_better else -1
    worst = heapq.nsmallest(_WORST, ((sign * score, id_) for score, id_, _ in scored))
    return MetricSummary(
        metric=row.name,
        title=row.title,
        unit=row.unit,
        higher_is_better=row.higher_is_better,
        protocol=row.protocol,
        n=len(finite),
        undefined=len(scores) - len(finite) - identical,
        identical=identical,
        mean=_mean(finite) if finite else None,
        median=median,
        p5=p5,
        p95=p95,
        pooled=pooled if math.isfinite(pooled) else None,
        per_class={class_names[label]: _mean(by_class[label]) for label in sorted(by_class)},
        worst=tuple(id_ for _, id_ in worst),
    )


def _mean(values: Sequence[float]) -> float:
    # fsum rounds once, at the end, so the order of the values cannot matter.
    return math.fsum(values) / len(values)
