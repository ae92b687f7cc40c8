"""From the scores of single pictures to what a manifest and a card say about a whole dataset.

Every number is the same to the last bit whatever the order of the pictures.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from latentstore.containers.columns import numbers_of
from latentstore.json_records import Count, Number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    n: Count
    """Pictures with a finite score: those that everything below but ``pooled`` is about."""
    undefined: Count
    """Pictures without a score, because they are too small."""
    identical: Count
    """Pictures with an infinite score: decoded without any loss, as PSNR counts it."""
    mean: Number | None
    """None, as the three below, where no picture has a finite score."""
    median: Number | None
    p5: Number | None
    """The 5th percentile, interpolated linearly: the bad end of PSNR and SSIM, the good end of an error."""
    p95: Number | None
    pooled: Number | None
    """Value of the dataset taken as one picture; None where the metric has no such value, or it is infinite."""
    per_class: dict[str, Number] = field(default_factory=dict)
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

    A score is NaN where the metric is undefined, +infinity where PSNR found no difference; neither is averaged. Raises
    ValueError where one of them is shorter than the others.
    """
    scores = np.asarray(scores, dtype=np.float64)
    pixel_counts = np.asarray(pixel_counts, dtype=np.float64)
    lengths = len(scores), len(pixel_counts), len(ids), len(labels)
    if len(set(lengths)) > 1:
        message = f"of scores, sizes, ids and labels one is shorter than another: {lengths}"
        raise ValueError(message)
    rows = np.flatnonzero(np.isfinite(scores))
    finite = scores[rows]
    identical = int(np.count_nonzero(np.isposinf(scores)))
    p5, median, p95 = (float(p) for p in np.percentile(finite, [5, 50, 95])) if len(finite) else (None, None, None)
    pooled = row.pool(scores, pixel_counts) if row.pool else math.nan
    return MetricSummary(
        metric=row.name,
        title=row.title,
        unit=row.unit,
        higher_is_better=row.higher_is_better,
        protocol=row.protocol,
        n=len(finite),
        undefined=len(scores) - len(finite) - identical,
        identical=identical,
        mean=_mean(finite) if len(finite) else None,
        median=median,
        p5=p5,
        p95=p95,
        pooled=pooled if math.isfinite(pooled) else None,
        per_class={class_names[label]: _mean(found) for label, found in _by_label(finite, numbers_of(labels)[rows])},
        worst=_worst(rows, finite if row.higher_is_better else -finite, ids),
    )


def _by_label(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """(label, its scores) in the order of the labels; NaN is none."""
    order = np.argsort(labels, kind="stable")
    known = labels[order][: np.count_nonzero(~np.isnan(labels))]  # NaN sorts last
    found, starts = np.unique(known, return_index=True)
    stops = [*starts[1:].tolist(), len(known)][: len(found)]  # without labels there is no group at all
    for label, start, stop in zip(found.tolist(), starts.tolist(), stops, strict=True):
        yield int(label), scores[order[start:stop]]


def _worst(rows: NDArray[np.int64], goodness: NDArray[np.float64], ids: Sequence[str]) -> tuple[str, ...]:
    """Ids of the worst of these rows; the name of a row that surely is none of them is not looked at."""
    if len(rows) > _WORST:
        near = goodness <= np.partition(goodness, _WORST - 1)[_WORST - 1]
        rows, goodness = rows[near], goodness[near]
    scored = zip(goodness.tolist(), (ids[row] for row in rows.tolist()), strict=True)
    return tuple(id_ for _, id_ in heapq.nsmallest(_WORST, scored))


def _mean(values: NDArray[np.float64]) -> float:
    # fsum rounds once, at the end, so the order of the values cannot matter.
    return math.fsum(values) / len(values)
