"""Summaries of scores: what is counted, what is left out, and the same bits in any order."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentstore import json_records
from latentstore.metrics.table import METRICS
from latentstore.quality import MetricSummary, summarise

if TYPE_CHECKING:
    from random import Random

CLASSES = ["Airport", "BareLand", "Beach", "Bridge"]

Scored = tuple[float, float, str, int | None]


def summary_of(metric: str, rows: list[Scored]) -> MetricSummary:
    """Summary of (score, pixels, id, label) rows."""
    scores, pixels, ids, labels = zip(*rows, strict=True) if rows else ((), (), (), ())
    return summarise(
        METRICS[metric],
        scores=np.array(scores, dtype=np.float64),
        pixel_counts=np.array(pixels, dtype=np.float64),
        ids=ids,
        labels=labels,
        class_names=CLASSES,
    )


def scored_rows() -> st.SearchStrategy[list[Scored]]:
    """Rows with unique ids, many equal scores, some undefined and some infinite."""
    score = st.one_of(st.floats(0, 90), st.sampled_from([20.0, 30.0, math.inf, math.nan]))
    row = st.tuples(score, st.integers(1, 10**6).map(float), st.text("abc", max_size=3), st.none() | st.integers(0, 3))
    return st.lists(row, max_size=40, unique_by=lambda row: row[2])


def test_a_summary_says_what_was_measured_and_how() -> None:
    summary = summary_of("psnr", [(30.0, 100, "a", 0), (20.0, 100, "b", 2), (40.0, 100, "c", 2)])
    row = METRICS["psnr"]
    assert (summary.metric, summary.title, summary.unit) == ("psnr", "PSNR", "dB")
    assert summary.higher_is_better
    assert summary.protocol == row.protocol
    assert (summary.n, summary.undefined, summary.identical) == (3, 0, 0)
    assert (summary.mean, summary.median) == (30.0, 30.0)
    assert summary.p5 == pytest.approx(21.0)
    assert summary.p95 == pytest.approx(39.0)
    assert summary.pooled == pytest.approx(-10 * math.log10((1e-3 + 1e-2 + 1e-4) / 3))
    assert summary.per_class == {"Airport": 30.0, "Beach": 30.0}
    assert summary.worst == ("b", "a", "c")


def test_identical_and_undefined_pictures_are_counted_not_averaged() -> None:
    rows: list[Scored] = [(math.inf, 100, "same", 0), (math.nan, 9, "tiny", 1), (30.0, 100, "lossy", 2)]
    summary = summary_of("psnr", rows)
    assert (summary.n, summary.undefined, summary.identical) == (1, 1, 1)
    assert summary.mean == summary.median == summary.p5 == summary.p95 == 30.0
    assert summary.pooled == pytest.approx(30 + 10 * math.log10(2))
    assert summary.per_class == {"Beach": 30.0}
    assert summary.worst == ("lossy",)


@pytest.mark.parametrize("score", [math.inf, math.nan])
def test_without_a_finite_score_there_is_no_average(score: float) -> None:
    summary = summary_of("psnr", [(score, 100, "a", 0)])
    assert summary.n == 0
    assert summary.mean is summary.median is summary.p5 is summary.p95 is summary.pooled is None
    assert summary.per_class == {}
    assert summary.worst == ()


def test_no_pictures_at_all_is_a_summary_too() -> None:
    summary = summary_of("ssim", [])
    assert (summary.n, summary.undefined, summary.identical, summary.mean) == (0, 0, 0, None)


def test_worst_are_the_largest_errors_where_lower_is_better() -> None:
    summary = summary_of("mae", [(0.1, 1, "a", None), (0.3, 1, "b", None), (0.2, 1, "c", None)])
    assert summary.worst == ("b", "c", "a")
    assert summary.pooled is None
    assert summary.per_class == {}


def test_worst_are_ten_at_most_and_equal_scores_go_by_id() -> None:
    rows: list[Scored] = [(0.5, 1, f"{i:02d}", None) for i in reversed(range(15))]
    assert summary_of("ssim", rows).worst == tuple(f"{i:02d}" for i in range(10))
    assert summary_of("mae", rows).worst == tuple(f"{i:02d}" for i in range(10))


def test_classes_come_in_the_order_of_their_labels() -> None:
    rows: list[Scored] = [(0.5, 1, "a", 3), (0.6, 1, "b", 0), (0.7, 1, "c", 2), (0.9, 1, "d", None), (0.8, 1, "e", 0)]
    assert list(summary_of("ssim", rows).per_class.items()) == [("Airport", 0.7), ("Beach", 0.7), ("Bridge", 0.5)]


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        summarise(METRICS["ssim"], np.ones(2), np.ones(2), ids=["a"], labels=[0, 0], class_names=CLASSES)


@given(scored_rows(), st.sampled_from(list(METRICS)), st.randoms(use_true_random=False))
def test_a_summary_is_the_same_to_the_last_bit_in_any_order(rows: list[Scored], metric: str, random: Random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    first, second = summary_of(metric, rows), summary_of(metric, shuffled)
    # repr shows every bit, and the order of the classes.
    assert repr(first) == repr(second)


@given(scored_rows(), st.sampled_from(list(METRICS)))
def test_every_picture_is_counted_once_and_averages_lie_within(rows: list[Scored], metric: str) -> None:
    summary = summary_of(metric, rows)
    finite = [score for score, *_ in rows if math.isfinite(score)]
    assert summary.n + summary.undefined + summary.identical == len(rows)
    assert summary.n == len(finite)
    if finite:
        numbers = [summary.mean, summary.median, summary.p5, summary.p95, *summary.per_class.values()]
        for number in numbers:
            assert number is not None
            assert min(finite) - 1e-9 <= number <= max(finite) + 1e-9


@given(scored_rows(), st.sampled_from(list(METRICS)))
def test_a_summary_survives_the_manifest(rows: list[Scored], metric: str) -> None:
    summary = summary_of(metric, rows)
    text = json.dumps(json_records.plain(summary), allow_nan=False)
    assert json_records.parse(MetricSummary, json.loads(text)) == summary
