"""Quality against bits per pixel as a table, as sentences and as plain JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from latentstore.comparison.equal_quality import EqualQuality, equal_qualities
from latentstore.comparison.storage_curves import named, step_in_words
from latentstore.comparison.text_table import NONE, TextTable, number
from latentstore.json_records import plain

if TYPE_CHECKING:
    from latentstore.comparison.result import ComparedVae, Comparison
    from latentstore.comparison.storage_curves import StoragePoint
    from latentstore.metrics.interface import MetricRow

RATE_BITS = "bits per pixel of a VAE are those of everything that was stored, of an image those of its file."
LATENT_BITS = (
    "bits per pixel of a storage are those of the column `latent` alone in a compact Parquet shard of these pictures, "
    "of an image those of its whole file."
)
STEPS = (
    "A step is a multiple of each channel's standard deviation over these pictures. dB lost: against the encoder's own "
    "float32 latents. Entropy: order 0 of the stored bytes, per channel."
)


def storage_table(comparison: Comparison) -> TextTable | None:
    """One line for each storage of each VAE; None where no storage was asked for."""
    if not comparison.has_storages:
        return None
    psnr, *others = comparison.rate_metrics
    bits = ("latent bits/pixel>", "entropy bits/pixel>")
    columns = ("VAE", "storage", "step>", *bits, _heading(psnr), "dB lost>", *map(_heading, others))
    rows = tuple(
        (
            vae.vae,
            point.storage,
            step_in_words(point.step) or NONE,
            number(point.bits_per_pixel, 3),
            number(point.entropy_bits_per_pixel, 3),
            _cell(psnr, point),
            number(point.loss_db, 3),
            *(_cell(metric, point) for metric in others),
        )
        for vae in comparison.vaes
        for point in vae.storages
    )
    count = comparison.curve_pictures
    return TextTable(f"Storages, on {count:,} picture{'' if count == 1 else 's'}", columns, rows)


def equal_quality_remarks(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """(which VAE, a sentence) for every image encoder and metric."""
    for found in equal_qualities(comparison):
        yield found.vae, found.sentence()


def rate_remarks(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """What the numbers are, and what is odd about them."""
    if not comparison.curve_pictures:
        return
    count = f"{comparison.curve_pictures:,} of the pictures"
    if not comparison.has_storages:
        yield "rate figure", f"Points and curves are means over {count}; {RATE_BITS}"
        return
    yield "storages", f"Means over {count}; {LATENT_BITS} {STEPS}"
    for vae in comparison.vaes:
        widened = [f"{len(point.widened)} ({named(point)})" for point in vae.storages if point.widened]
        if widened:
            sentence = f"Channels of {vae.vae} that reach beyond 127 steps and got wider ones: {', '.join(widened)}."
            yield "wider steps", sentence


def rate_json(comparison: Comparison) -> dict[str, Any] | None:
    """Everything behind the rate figure; None where there is none."""
    if not comparison.curve_pictures:
        return None
    return {
        "pictures": comparison.curve_pictures,
        "encoders": [
            {
                "name": curve.encoder,
                "how": curve.how,
                "missing": curve.missing or None,
                "points": [{**plain(point), "scores": _finite(point.scores)} for point in curve.points],
            }
            for curve in comparison.curves
        ],
        "vaes": {vae.vae: _vae_json(vae) for vae in comparison.vaes if vae.size is not None},
        "equal_quality": [_equal_json(found) for found in equal_qualities(comparison)],
    }


def _vae_json(vae: ComparedVae) -> dict[str, Any]:
    return {
        "bits_per_pixel": vae.size.bits_per_pixel if vae.size is not None else None,
        "scores": _finite(vae.rate_scores),
        "storages": [
            {**plain(point), "scores": _finite(point.scores), "loss_db": _or_none(point.loss_db)}
            for point in vae.storages
        ],
    }


def _equal_json(found: EqualQuality) -> dict[str, Any]:
    return {
        "vae": found.vae,
        "encoder": found.encoder,
        "metric": found.metric.name,
        "times_the_bytes": [
            {"storage": ratio.point.storage, "step": ratio.point.step, "times": ratio.times} for ratio in found.ratios
        ],
        "even": [{"bits_per_pixel": bits, "score": quality} for bits, quality in found.even],
        "sentence": found.sentence(),
    }


def _heading(metric: MetricRow) -> str:
    return f"{metric.title}, {metric.unit}>" if metric.unit else f"{metric.title}>"


def _cell(metric: MetricRow, point: StoragePoint) -> str:
    return number(point.scores[metric.name], 2 if metric.unit else 4)


def _finite(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _or_none(score) for name, score in scores.items()}


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
