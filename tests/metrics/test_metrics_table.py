"""What holds for every metric: every row of the table is tested alike."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from latentstore.errors import RequestError, UnknownNameError
from latentstore.metrics.table import METRICS

if TYPE_CHECKING:
    from latentstore.metrics.interface import MetricRow

every_metric = pytest.mark.parametrize("row", METRICS.values(), ids=METRICS)


def pair_with_noise(
    count: int, *, strength: float, size: tuple[int, int] = (64, 64)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft pictures and the same with noise, both uint8 (N, 3, H, W)."""
    random = torch.Generator().manual_seed(1)
    coarse = torch.rand((count, 3, 8, 8), generator=random) * 255
    clean = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    noise = torch.randn(clean.shape, generator=random)
    return clean.to(torch.uint8), (clean + strength * noise).clamp(0, 255).to(torch.uint8)


def test_the_table_has_the_metrics_of_the_design_and_names_the_nearest() -> None:
    assert list(METRICS) == ["psnr", "ssim", "mae"]
    with pytest.raises(UnknownNameError, match=r"no metric named 'pnsr'.*'psnr'"):
        METRICS["pnsr"]


@every_metric
def test_a_row_says_what_is_measured(row: MetricRow) -> None:
    assert row.title
    assert row.name == row.name.lower()
    assert row.protocol.endswith(".")
    assert row.protocol.count(". ") <= 1
    assert dataclasses.is_dataclass(row)


@every_metric
def test_one_float64_a_picture(row: MetricRow) -> None:
    scores = row.open()(*pair_with_noise(5, strength=8))
    assert scores.shape == (5,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@every_metric
def test_a_better_picture_scores_better(row: MetricRow) -> None:
    scorer = row.open()
    good, bad = (scorer(*pair_with_noise(4, strength=strength)) for strength in (3, 20))
    assert (good > bad).all() if row.higher_is_better else (good < bad).all()


@every_metric
def test_a_score_is_independent_of_batch_and_order(row: MetricRow) -> None:
    scorer = row.open()
    clean, noisy = pair_with_noise(7, strength=8, size=(45, 67))
    whole = scorer(clean, noisy)
    single = np.concatenate([scorer(clean[i : i + 1], noisy[i : i + 1]) for i in range(7)])
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    assert single.tolist() == whole.tolist()
    assert scorer(clean[order], noisy[order]).tolist() == whole[order.numpy()].tolist()


@every_metric
def test_a_score_is_independent_of_the_number_of_threads(row: MetricRow) -> None:
    scorer = row.open()
    # Odd sizes, so that the shares of the threads end within a vector of the processor.
    clean, noisy = pair_with_noise(2, strength=8, size=(101, 397))
    before = torch.get_num_threads()
    scores = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            scores.append(scorer(clean, noisy).tolist())
    finally:
        torch.set_num_threads(before)
    assert scores[0] == scores[1] == scores[2]


@every_metric
def test_inputs_are_left_as_they_were(row: MetricRow) -> None:
    clean, noisy = pair_with_noise(2, strength=8)
    copies = clean.clone(), noisy.clone()
    row.open()(clean, noisy)
    assert torch.equal(clean, copies[0])
    assert torch.equal(noisy, copies[1])


@every_metric
def test_what_would_give_a_wrong_number_is_refused(row: MetricRow) -> None:
    scorer = row.open()
    clean, noisy = pair_with_noise(2, strength=8)
    for first, second in ((clean / 255, noisy / 255), (clean, noisy[:1]), (clean[0], noisy[0]), (clean, noisy.int())):
        with pytest.raises(RequestError, match=f"metric '{row.name}' compares two uint8 batches .* found "):
            scorer(first, second)


def test_reading_the_table_does_not_import_torch() -> None:
    modules = "latentstore.metrics.table, latentstore.quality, latentstore.statistics"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
