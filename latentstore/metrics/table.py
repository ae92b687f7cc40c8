"""The metrics there are. To add one: a scorer in a file of its own, a row here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from latentstore.metrics.frechet import FrechetDistance
from latentstore.metrics.inception import FID_INCEPTION, INCEPTION, STUDY_INCEPTION
from latentstore.metrics.interface import MetricRow, Scorer, SetMetricRow
from latentstore.metrics.kernel_distance import GaussianDistance, PolynomialDistance
from latentstore.metrics.lpips import ALEXNET, VGG16, load_alex, load_vgg
from latentstore.metrics.pixel_error import batch_mean_psnr, mae, pooled_psnr, psnr
from latentstore.metrics.ssim import ssim, ssim_vaes4rs
from latentstore.metrics.weights import WeightsFile
from latentstore.named_table import NamedTable


def _without_weights(scorer: Scorer, _: Mapping[str, Path]) -> Scorer:
    """What loads a metric that is a function already; rows are sent to other processes, and a lambda cannot be."""
    return scorer


METRICS: NamedTable[MetricRow] = NamedTable(
    "metric",
    [
        MetricRow(
            name="psnr",
            title="PSNR",
            unit="dB",
            higher_is_better=True,
            protocol=(
                "10 log10(255² / MSE) of each picture, MSE being the mean squared difference of its 8-bit RGB values "
                "over all pixels and channels; identical pictures score infinity and are counted apart; pooled is the "
                "same formula on the MSE of all pictures together, each weighted by its number of pixels."
            ),
            load=partial(_without_weights, psnr),
            pool=pooled_psnr,
            default=True,
        ),
        MetricRow(
            name="ssim",
            title="SSIM",
            unit="",
            higher_is_better=True,
            protocol=(
                "Structural similarity (Wang et al. 2004) of each picture on RGB in [0, 1]: Gaussian window 11x11 with "
                "sigma 1.5, K1 0.01, K2 0.03, population covariance, averaged over the three channels and the places "
                "where the window lies inside the picture; undefined where a side is shorter than 11 pixels."
            ),
            load=partial(_without_weights, ssim),
            default=True,
        ),
        MetricRow(
            name="mae",
            title="MAE",
            unit="",
            higher_is_better=False,
            protocol=(
                "Mean absolute difference of the 8-bit RGB values of each picture over all pixels and channels, "
                "divided by 255, so that 0 is identical and 1 is black against white."
            ),
            load=partial(_without_weights, mae),
            default=True,
        ),
        MetricRow(
            name="lpips",
            title="LPIPS (AlexNet)",
            unit="",
            higher_is_better=False,
            protocol=(
                "LPIPS 0.1 (Zhang et al. 2018) of each picture on 8-bit RGB scaled to [-1, 1], at its own size: "
                f"AlexNet (sha256 {ALEXNET.sha256[:8]}) with the published heads; undefined where a side is shorter "
                "than 31 pixels."
            ),
            load=load_alex,
            weights=(ALEXNET,),
        ),
        MetricRow(
            name="lpips_vgg",
            title="LPIPS (VGG-16)",
            unit="",
            higher_is_better=False,
            protocol=(
                "LPIPS 0.1 (Zhang et al. 2018) of each picture on 8-bit RGB scaled to [-1, 1], at its own size: "
                f"VGG-16 (sha256 {VGG16.sha256[:8]}) with the published heads; undefined where a side is shorter "
                "than 16 pixels."
            ),
            load=load_vgg,
            weights=(VGG16,),
        ),
        MetricRow(
            name="ssim_vaes4rs",
            title="SSIM (VAEs4RS)",
            unit="",
            higher_is_better=True,
            protocol=(
                "Structural similarity as in VAEs4RS, on RGB in [-1, 1] with data range 2 and so not comparable with "
                "the usual: Gaussian window 11x11 with sigma 1.5, K1 0.01, K2 0.03, averaged over the three channels "
                "and the whole picture mirrored at its edges (torchmetrics); undefined where a side is shorter than 6 "
                "pixels."
            ),
            load=partial(_without_weights, ssim_vaes4rs),
        ),
    ],
)

SET_METRICS: NamedTable[SetMetricRow] = NamedTable(
    "set metric",
    [
        SetMetricRow(
            name="rfid",
            title="rFID",
            unit="",
            higher_is_better=False,
            measure=(
                "Fréchet distance (Heusel et al. 2017) between all originals and all reconstructions, from means and "
                "covariances (divisor N - 1) in float64."
            ),
            distance=FrechetDistance,
            extractor=FID_INCEPTION,
        ),
        SetMetricRow(
            name="kid",
            title="KID",
            unit="",
            higher_is_better=False,
            measure=(
                "Kernel distance (Bińkowski et al. 2018) between all originals and all reconstructions, unbiased, with "
                "the kernel (x·y / D + 1)³, over all pairs instead of random subsets, in float64, not multiplied."
            ),
            distance=PolynomialDistance,
            extractor=FID_INCEPTION,
        ),
        SetMetricRow(
            name="cmmd",
            title="CMMD",
            unit="",
            higher_is_better=False,
            measure=(
                "1000 times the squared maximum mean discrepancy (Jayasumana et al. 2024) between all originals and "
                "all reconstructions, features scaled to length 1, Gaussian kernel with sigma 10, over all pairs, in "
                "float64."
            ),
            distance=GaussianDistance,
            extractor=None,
        ),
        SetMetricRow(
            name="rfid_vaes4rs",
            title="rFID (VAEs4RS)",
            unit="",
            higher_is_better=False,
            measure=(
                "Fréchet distance (Heusel et al. 2017) between all originals and all reconstructions, from means and "
                "covariances (divisor N - 1) in float64."
            ),
            distance=FrechetDistance,
            extractor=STUDY_INCEPTION,
            truncated=True,
        ),
    ],
)

WEIGHTS: NamedTable[WeightsFile] = NamedTable("weights file", [ALEXNET, VGG16, INCEPTION])
"""Every file that a metric may want: what ``fetch`` can get."""


def psnr_batch_vaes4rs(batch_size: int) -> MetricRow:
    """PSNR as VAEs4RS aggregates it: ``pool`` is the mean over batches of so many pictures, in the order given."""
    return replace(
        METRICS["psnr"],
        name="psnr_batch_vaes4rs",
        title="PSNR (VAEs4RS)",
        protocol=(
            "PSNR as in VAEs4RS: 10 log10(255² / MSE) of each batch taken as one picture, averaged over the batches of "
            f"{batch_size} pictures in the order of the source, of which the last may be short; it depends on both."
        ),
        pool=partial(batch_mean_psnr, batch_size=batch_size),
        default=False,
    )
