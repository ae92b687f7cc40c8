"""How a comparison is measured: this project's way, and the way of the study VAEs4RS, each with its own column names.

VAEs4RS is the published comparison of VAEs on RESISC45 and AID whose numbers are in ``published.py``; its settings were
read from its code at commit 3cedc3a.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.comparison.sampled_posterior import SAMPLE
from latentstore.metrics.interface import MetricRow, SetMetricRow
from latentstore.metrics.table import METRICS, SET_METRICS, psnr_batch_vaes4rs
from latentstore.named_table import NamedTable
from latentstore.plan import SHUFFLED, SOURCE_ORDER

if TYPE_CHECKING:
    from latentstore.manifest import Manifest

MEAN = "mean"
STUDY_BATCH = 16
"""Pictures a batch when the study's tables were made, as its history suggests; its later default is another."""


@dataclass(frozen=True)
class Score:
    """One number of the table; where there is none, ``missing`` says why and what is wanted."""

    value: float | None
    missing: str = ""
    n: int = 0
    """Pictures it is about."""
    median: float | None = None
    """Of the pictures, as the two below; None where the number is one of the whole set."""
    p5: float | None = None
    p95: float | None = None
    warnings: tuple[str, ...] = ()


Index = Mapping[str, Sequence[Any]]
Read = Callable[["Manifest", Index, int], Score]
"""From what a config holds (its manifest, its index, its batch size) to a score."""


@dataclass(frozen=True)
class ColumnRow:
    """One column of quality. Exactly one of ``read``, ``picture`` and ``set`` says where its number comes from."""

    name: str
    """In JSON."""
    title: str
    """In full, as it stands in Markdown: no other convention has the same."""
    short: str
    """Where space is scarce."""
    unit: str
    higher_is_better: bool
    how: str
    """One sentence or more."""
    published: str
    """Which number of the study it stands beside: ``psnr``, ``ssim``, ``lpips``, ``fid``, or none."""
    marks: str = ""
    """Marks (keys of ``published.CAVEATS``) of how the study's column differs from this one."""
    digits: int = 2
    """After the point, where people read it."""
    read: Read | None = None
    """From the config, whose rows carry the scores."""
    picture: MetricRow | None = None
    """Measured as the pictures go by: the mean of a metric that needs weights."""
    set: SetMetricRow | None = None
    """Measured as the pictures go by: one number for all."""


@dataclass(frozen=True)
class ProtocolRow:
    """One way to measure."""

    name: str
    title: str
    summary: str
    stored: tuple[MetricRow, ...]
    """Metrics that become columns of the built config; all of them need no weights."""
    columns: tuple[ColumnRow, ...]
    posterior: str = MEAN
    """``mean``, or ``sample``: a seeded draw, where the encoder has a posterior."""
    dtype: str = "float32"
    """Of the VAE's arithmetic, when not told otherwise."""
    batch_size: int = 16
    order: str = SHUFFLED
    departs: tuple[str, ...] = ()
    """Where it is not what it follows, in sentences."""


def _summary(name: str, pooled: bool = False) -> Read:
    def read(manifest: Manifest, _: Index, __: int) -> Score:
        found = manifest.quality[name]
        apart = [
            (found.identical, "pictures are decoded without any loss and are not averaged."),
            (found.undefined, "pictures are too small to be measured."),
        ]
        warnings = tuple(f"{count:,} {what}" for count, what in apart if count)
        if pooled:
            missing = "" if found.pooled is not None else "no picture has a finite score"
            return Score(found.pooled, missing, found.n + found.identical)
        missing = "" if found.mean is not None else "no picture has a finite score"
        return Score(found.mean, missing, found.n, found.median, found.p5, found.p95, warnings)

    return read


def _batch_psnr(manifest: Manifest, index: Index, batch_size: int) -> Score:
    """The study's aggregation, from the PSNR of every picture, in the order of the rows."""
    pool = psnr_batch_vaes4rs(batch_size).pool
    scores = np.array([np.nan if score is None else score for score in index["psnr"]], np.float64)
    pixels = np.asarray(index["height"], np.float64) * np.asarray(index["width"], np.float64)
    value = pool(scores, pixels) if pool else float("nan")
    if not np.isfinite(value):
        return Score(None, "a batch was decoded without any loss, so its PSNR is infinite", len(scores))
    return Score(value, n=manifest.rows)


OURS = ProtocolRow(
    name="ours",
    title="latentstore",
    summary="posterior mean, measured from the stored numbers, decoded and rounded to 8 bits",
    stored=tuple(metric for metric in METRICS.values() if metric.default),
    columns=(
        ColumnRow(
            name="psnr",
            title="PSNR (mean of pictures)",
            short="PSNR",
            unit="dB",
            higher_is_better=True,
            how=f"The mean over the pictures. {METRICS['psnr'].protocol}",
            published="psnr",
            marks="a",
            read=_summary("psnr"),
        ),
        ColumnRow(
            name="psnr_pooled",
            title="PSNR (all pictures as one)",
            short="PSNR pooled",
            unit="dB",
            higher_is_better=True,
            how="PSNR of the mean squared error of all pictures together, each weighted by its number of pixels.",
            published="",
            read=_summary("psnr", pooled=True),
        ),
        ColumnRow(
            name="ssim",
            title="SSIM",
            short="SSIM",
            unit="",
            higher_is_better=True,
            how=f"The mean over the pictures. {METRICS['ssim'].protocol}",
            published="ssim",
            marks="d",
            digits=4,
            read=_summary("ssim"),
        ),
        ColumnRow(
            name="lpips",
            title="LPIPS (AlexNet)",
            short="LPIPS",
            unit="",
            higher_is_better=False,
            how=f"The mean over the pictures. {METRICS['lpips'].protocol}",
            published="lpips",
            marks="e",
            digits=4,
            picture=METRICS["lpips"],
        ),
        ColumnRow(
            name="rfid",
            title="rFID",
            short="rFID",
            unit="",
            higher_is_better=False,
            how=SET_METRICS["rfid"].protocol,
            published="fid",
            marks="f",
            set=SET_METRICS["rfid"],
        ),
    ),
)

VAES4RS = ProtocolRow(
    name="vaes4rs",
    title="VAEs4RS",
    summary="the settings of the study VAEs4RS (commit 3cedc3a): posterior sample, bfloat16, its metrics' conventions",
    stored=(METRICS["psnr"], METRICS["ssim_vaes4rs"]),
    columns=(
        ColumnRow(
            name="psnr_batches_vaes4rs",
            title="PSNR (batches of {batch_size}, vaes4rs)",
            short="PSNR vaes4rs",
            unit="dB",
            higher_is_better=True,
            how=(
                "PSNR as in VAEs4RS: 10 log10(255² / MSE) of each batch of {batch_size} pictures taken as one, in the "
                "order of the source, and then the mean over the batches; it depends on both."
            ),
            published="psnr",
            marks="b",
            read=_batch_psnr,
        ),
        ColumnRow(
            name="ssim_vaes4rs",
            title="SSIM (on [-1, 1], vaes4rs)",
            short="SSIM vaes4rs",
            unit="",
            higher_is_better=True,
            how=f"The mean over the pictures. {METRICS['ssim_vaes4rs'].protocol}",
            published="ssim",
            digits=4,
            read=_summary("ssim_vaes4rs"),
        ),
        ColumnRow(
            name="lpips_vaes4rs",
            title="LPIPS (AlexNet, vaes4rs)",
            short="LPIPS vaes4rs",
            unit="",
            higher_is_better=False,
            how=f"The mean over the pictures, which equals the study's mean over batches but for a short last batch. "
            f"{METRICS['lpips'].protocol}",
            published="lpips",
            digits=4,
            picture=METRICS["lpips"],
        ),
        ColumnRow(
            name="rfid_vaes4rs",
            title="rFID (truncated to 8 bits, vaes4rs)",
            short="rFID vaes4rs",
            unit="",
            higher_is_better=False,
            how=SET_METRICS["rfid_vaes4rs"].protocol,
            published="fid",
            set=SET_METRICS["rfid_vaes4rs"],
        ),
    ),
    posterior=SAMPLE,
    dtype="bfloat16",
    batch_size=STUDY_BATCH,
    order=SOURCE_ORDER,
    departs=(
        "PSNR, SSIM and LPIPS are of 8-bit pictures; the study takes them from unrounded bfloat16 values.",
        "The study rounds the originals to bfloat16 before it measures; here they stay what they are.",
        "The sample is seeded and drawn in float32 from the bfloat16 posterior; the study's has no seed.",
        "Latents are stored in float16 and read back before they are decoded; the study decodes what it has in memory.",
    ),
)

PROTOCOLS = NamedTable("protocol", [OURS, VAES4RS])
