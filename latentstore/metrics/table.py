"""The metrics there are. To add one: a scorer in a file of its own, a row here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentstore.errors import RequestError
from latentstore.metrics.interface import MetricRow, Scorer
from latentstore.metrics.pixel_error import mae, pooled_psnr, psnr
from latentstore.metrics.ssim import ssim
from latentstore.named_table import NamedTable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


def _guarded(name: str, scorer: Scorer) -> Scorer:
    """The scorer, refusing what would give a wrong number instead of an error: other dtypes, shapes that broadcast."""

    def score(reference: torch.Tensor, reconstruction: torch.Tensor) -> NDArray[np.float64]:
        found = [f"{picture.dtype} {tuple(picture.shape)}" for picture in (reference, reconstruction)]
        if reference.ndim != 4 or found[0] != found[1] or not found[0].startswith("torch.uint8 "):
            message = (
                f"The metric {name!r} compares two uint8 batches of one shape (N, 3, H, W); "
                f"found {found[0]} against {found[1]}."
            )
            raise RequestError(message)
        return scorer(reference, reconstruction)

    return score


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
            open=lambda: _guarded("psnr", psnr),
            pool=pooled_psnr,
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
            open=lambda: _guarded("ssim", ssim),
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
            open=lambda: _guarded("mae", mae),
        ),
    ],
)
