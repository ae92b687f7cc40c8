"""What was lost, in figures: every metric, the classes from worst to best, and how the scores are spread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from latentstore.card.words import code_span, in_code, plain_text, score_in_words, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from latentstore.manifest import Manifest
    from latentstore.quality import MetricSummary

BAR = 40
"""Signs in the longest bar."""
BINS = 12
CLASSES = 24
"""Classes that are shown; of more, the worst."""


def quality(manifest: Manifest, scores: Sequence[float | None] | None) -> Iterator[str]:
    """The section on quality; ``scores`` is the PSNR of every row, where it is at hand."""
    yield from ("### Quality", "")
    measured = [metric for metric in manifest.quality.values() if metric.n or metric.identical]
    if not measured:
        yield "Not measured for the numbers as they are stored now."
        return
    columns = ("", "pictures>", "mean>", "median>", "p5>", "p95>", "pooled>", "identical>", "undefined>")
    yield from table(columns, map(_row, measured))
    psnr = manifest.quality.get("psnr")
    if psnr is not None and scores is not None:
        yield from _histogram(psnr, scores)
    first = measured[0]
    yield from _classes(first)
    if first.worst:
        listed = ", ".join(map(code_span, first.worst[:5]))
        yield from (
            "",
            f"Worst pictures by {plain_text(first.title)}: {listed}. Every row carries its own scores: filter on them.",
        )


def protocols(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The section on how the figures came about, once for all configs."""
    found = {metric.title: metric for manifest in manifests for metric in manifest.quality.values()}
    yield from ("## How quality was measured", "")
    yield "From the numbers as stored and read back, against the prepared pictures, on the area without padding, the"
    yield "decoded picture rounded to 8 bits. Pictures with an infinite score (identical) or none (undefined) are"
    yield "counted apart."
    yield ""
    for metric in found.values():
        better = "higher" if metric.higher_is_better else "lower"
        yield f"- **{plain_text(metric.title)}** ({better} is better): {plain_text(metric.protocol)}"


def _row(metric: MetricSummary) -> tuple[str, ...]:
    numbers = (metric.mean, metric.median, metric.p5, metric.p95, metric.pooled)
    cells = (score_in_words(number, metric.unit).removesuffix(metric.unit).strip() for number in numbers)
    name = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
    return (plain_text(name), f"{metric.n:,}", *cells, f"{metric.identical:,}", f"{metric.undefined:,}")


def _histogram(metric: MetricSummary, scores: Sequence[float | None]) -> Iterator[str]:
    """Bars of the finite scores, in bins of a round width."""
    finite = [score for score in scores if score is not None and math.isfinite(score)]
    if len(finite) < 2 or min(finite) == max(finite):
        return
    width = _round_width((max(finite) - min(finite)) / BINS)
    first = math.floor(min(finite) / width)
    counts = [0] * (math.floor(max(finite) / width) - first + 1)
    for score in finite:
        counts[math.floor(score / width) - first] += 1
    digits = max(0, -math.floor(math.log10(width)))
    edges = [f"{(first + place) * width:.{digits}f}" for place in range(len(counts))]
    title, unit = plain_text(metric.title), plain_text(metric.unit)
    yield from (
        "",
        f"{title} of all {len(finite):,} pictures, {unit}, by the lower edge of each bin of {width:g}:",
        "",
    )
    yield from _bars(edges, counts, [f"{count:,}" for count in counts])


def _classes(metric: MetricSummary) -> Iterator[str]:
    found = sorted(metric.per_class.items(), key=lambda pair: pair[1], reverse=not metric.higher_is_better)
    if not found:
        return
    some = f", the worst {CLASSES} of {len(found)}" if len(found) > CLASSES else ""
    yield from ("", f"Mean {plain_text(metric.title)} of each class, worst first{some}:", "")
    shown = found[:CLASSES]
    names = [in_code(name) for name, _ in shown]
    yield from _bars(
        names, [value for _, value in shown], [in_code(score_in_words(value, metric.unit)) for _, value in shown]
    )


def _bars(names: Sequence[str], values: Sequence[float], words: Sequence[str]) -> Iterator[str]:
    """One line a value, its bar as long as the value is large."""
    most = max(values)
    wide, numbers = max(map(len, names)), max(map(len, words))
    yield "```text"
    for name, value, word in zip(names, values, words, strict=True):
        bar = "█" * (round(BAR * value / most) if most > 0 else 0)
        yield f"{name:>{wide}}  {word:>{numbers}}  {bar}".rstrip()
    yield "```"


def _round_width(width: float) -> float:
    """The next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= width * (1 - 1e-9))
