"""What holds for every metric: every row of the tables is tested alike."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from latentstore.errors import MetricError, RequestError, UnknownNameError
from latentstore.metrics.interface import MetricRow, SetMetricRow, SetScorer
from latentstore.metrics.networks import module_extractor
from latentstore.metrics.table import METRICS, SET_METRICS, WEIGHTS, psnr_batch_vaes4rs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.metrics.conftest import WithRandomWeights

every_metric = pytest.mark.parametrize("row", METRICS.values(), ids=METRICS)
every_set_metric = pytest.mark.parametrize("row", SET_METRICS.values(), ids=SET_METRICS)
without_weights = pytest.mark.parametrize(
    "row", [row for row in METRICS.values() if not row.weights], ids=lambda row: row.name
)
with_weights = pytest.mark.parametrize(
    "row", [row for row in METRICS.values() if row.weights], ids=lambda row: row.name
)


def pair_with_noise(
    count: int, *, strength: float, size: tuple[int, int] = (64, 64)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft pictures and the same with noise, both uint8 (N, 3, H, W)."""
    random = torch.Generator().manual_seed(1)
    coarse = torch.rand((count, 3, 8, 8), generator=random) * 255
    clean = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    noise = torch.randn(clean.shape, generator=random)
    return clean.to(torch.uint8), (clean + strength * noise).clamp(0, 255).to(torch.uint8)


def on_moments(row: SetMetricRow) -> SetMetricRow:
    """The row on a network of 12 features that sees colours and edges, instead of a large one."""

    class Moments(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            edges = pictures[..., 1:] - pictures[..., :-1]
            return torch.cat([m for x in (pictures, edges) for m in (x.mean((2, 3)), x.std((2, 3)))], dim=1)

    return row.using(module_extractor("moments", Moments(), 12))


def test_the_tables_have_the_metrics_of_the_design_and_name_the_nearest() -> None:
    assert list(METRICS) == ["psnr", "ssim", "mae", "lpips", "lpips_vgg", "ssim_vaes4rs"]
    assert list(SET_METRICS) == ["rfid", "kid", "cmmd", "rfid_vaes4rs"]
    with pytest.raises(UnknownNameError, match=r"no metric named 'pnsr'.*'psnr'"):
        METRICS["pnsr"]
    with pytest.raises(UnknownNameError, match=r"no set metric named 'fid'.*'rfid'"):
        SET_METRICS["fid"]


def test_a_build_measures_what_needs_no_weights_unless_told_otherwise() -> None:
    assert [row.name for row in METRICS.values() if row.default] == ["psnr", "ssim", "mae"]
    assert not any(row.weights for row in METRICS.values() if row.default)


@pytest.mark.parametrize("row", [*METRICS.values(), *SET_METRICS.values()], ids=[*METRICS, *SET_METRICS])
def test_a_row_says_what_is_measured(row: MetricRow | SetMetricRow) -> None:
    assert row.title
    assert row.name == row.name.lower()
    assert row.protocol.endswith(".")
    assert row.protocol.replace("et al. ", "").count(". ") <= 1
    assert dataclasses.is_dataclass(row)


def test_every_weights_file_is_named_after_its_sha256_and_wanted_by_a_metric() -> None:
    for file in WEIGHTS.values():
        assert len(file.sha256) == 64
        for name in (file.file, *file.also):
            assert Path(name).stem.endswith(f"-{file.sha256[:8]}")
        assert file.url.startswith("https://")
        assert file.url.endswith(f"/{file.file}")
        assert file.licence
    of_one = {file.name for row in METRICS.values() for file in row.weights}
    of_sets = {file.name for row in SET_METRICS.values() for file in row.weights}
    assert of_one | of_sets == set(WEIGHTS)


@with_weights
def test_a_metric_without_its_weights_says_which_file_it_wants_and_how_to_get_it(
    row: MetricRow, tmp_path: Path
) -> None:
    (file,) = row.weights
    for lacking, where in ((row, "at hand"), (row.at(tmp_path), f"in {tmp_path}")):
        expected = (
            f"{file.file} (sha256 {file.sha256}) is not {where}: type latentstore fetch FOLDER {file.name} "
            f"({file.bytes / 1e6:,.0f} MB, {file.licence}, from {file.url}), then --metric-weights FOLDER."
        )
        assert lacking.unavailable() == expected
        with pytest.raises(MetricError) as caught:
            lacking.open()
        assert str(caught.value) == expected


@every_set_metric
def test_a_set_metric_without_its_network_says_what_it_wants(row: SetMetricRow, tmp_path: Path) -> None:
    sentence = row.at(tmp_path).unavailable()
    with pytest.raises(MetricError) as caught:
        row.at(tmp_path).open()
    assert str(caught.value) == sentence
    if row.weights:
        assert row.weights[0].file in sentence
        assert row.weights[0].sha256 in sentence
    else:
        assert sentence == f"The metric {row.name!r} has no network of its own: name one with using(...)."


@every_metric
def test_an_available_metric_lacks_nothing(row: MetricRow, with_random_weights: WithRandomWeights) -> None:
    assert with_random_weights(row).unavailable() == ""


@every_metric
def test_one_float64_a_picture(row: MetricRow, with_random_weights: WithRandomWeights) -> None:
    scores = with_random_weights(row).open()(*pair_with_noise(5, strength=8))
    assert scores.shape == (5,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@every_metric
def test_a_better_picture_scores_better(row: MetricRow, with_random_weights: WithRandomWeights) -> None:
    scorer = with_random_weights(row).open()
    good, bad = (scorer(*pair_with_noise(4, strength=strength)) for strength in (3, 20))
    assert (good > bad).all() if row.higher_is_better else (good < bad).all()


@every_metric
def test_a_score_is_independent_of_batch_and_order(row: MetricRow, with_random_weights: WithRandomWeights) -> None:
    scorer = with_random_weights(row).open()
    clean, noisy = pair_with_noise(5, strength=8, size=(45, 67))
    whole = scorer(clean, noisy)
    single = np.concatenate([scorer(clean[i : i + 1], noisy[i : i + 1]) for i in range(5)])
    order = torch.randperm(5, generator=torch.Generator().manual_seed(3))
    assert single.tolist() == whole.tolist()
    assert scorer(clean[order], noisy[order]).tolist() == whole[order.numpy()].tolist()


def scores_by_threads(score: Callable[[], list[float]]) -> list[list[float]]:
    """The same measured with one, two and three threads."""
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(score())
    finally:
        torch.set_num_threads(before)
    return found


@without_weights
def test_a_score_is_independent_of_the_number_of_threads(row: MetricRow) -> None:
    scorer = row.open()
    # Odd sizes, so that the shares of the threads end within a vector of the processor.
    clean, noisy = pair_with_noise(2, strength=8, size=(101, 397))
    scores = scores_by_threads(lambda: scorer(clean, noisy).tolist())
    assert scores[0] == scores[1] == scores[2]


@with_weights
def test_threads_move_a_network_by_no_more_than_rounding(
    row: MetricRow, with_random_weights: WithRandomWeights
) -> None:
    scorer = with_random_weights(row).open()
    clean, noisy = pair_with_noise(1, strength=8, size=(45, 67))
    scores = scores_by_threads(lambda: scorer(clean, noisy).tolist())
    np.testing.assert_allclose(scores, [scores[0]] * 3, rtol=1e-5)


@every_metric
def test_inputs_are_left_as_they_were(row: MetricRow, with_random_weights: WithRandomWeights) -> None:
    clean, noisy = pair_with_noise(2, strength=8)
    copies = clean.clone(), noisy.clone()
    with_random_weights(row).open()(clean, noisy)
    assert torch.equal(clean, copies[0])
    assert torch.equal(noisy, copies[1])


@every_metric
def test_no_pictures_have_no_scores(row: MetricRow, with_random_weights: WithRandomWeights) -> None:
    none = torch.zeros((0, 3, 64, 64), dtype=torch.uint8)
    assert with_random_weights(row).open()(none, none).shape == (0,)


@every_metric
def test_what_would_give_a_wrong_number_is_refused(row: MetricRow, with_random_weights: WithRandomWeights) -> None:
    scorer = with_random_weights(row).open()
    clean, noisy = pair_with_noise(2, strength=8)
    for first, second in ((clean / 255, noisy / 255), (clean, noisy[:1]), (clean[0], noisy[0]), (clean, noisy.int())):
        with pytest.raises(RequestError, match=f"metric '{row.name}' compares two uint8 batches .* found "):
            scorer(first, second)


def measured(row: SetMetricRow, *batches: tuple[torch.Tensor, torch.Tensor]) -> SetScorer:
    """The metric of these batches of originals and decoded pictures."""
    scorer = on_moments(row).open()
    for reference, reconstruction in batches:
        scorer.update(reference, reconstruction)
    return scorer


@every_set_metric
def test_worse_pictures_are_farther_away_and_equal_ones_not_at_all(row: SetMetricRow) -> None:
    clean, slightly = pair_with_noise(40, strength=3)
    _, badly = pair_with_noise(40, strength=30)
    same, near, far = (measured(row, (clean, other)).compute().value for other in (clean, slightly, badly))
    assert near < far
    # KID is unbiased, so that equal sets are a little below 0.
    assert same == pytest.approx(0, abs=1e-9) if row.name != "kid" else same < 0


@every_set_metric
def test_a_set_is_the_same_in_any_order_and_batches(row: SetMetricRow) -> None:
    clean, noisy = pair_with_noise(30, strength=8, size=(45, 67))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    pieces = [(clean[part], noisy[part]) for part in torch.chunk(order, 4)]
    whole, split = measured(row, (clean, noisy)).compute(), measured(row, *pieces).compute()
    assert split.value == pytest.approx(whole.value, rel=1e-9)
    assert dataclasses.replace(split, value=whole.value) == whole


@every_set_metric
def test_shards_merge_to_the_whole(row: SetMetricRow) -> None:
    clean, noisy = pair_with_noise(30, strength=8)
    whole = measured(row, (clean, noisy))
    parts = [measured(row, (clean[part], noisy[part])) for part in torch.chunk(torch.arange(30), 4)]
    merged = on_moments(row).open()
    for part in parts[::-1]:
        merged.merge({name: np.asarray(array) for name, array in part.state().items()})
    assert merged.compute().n == 30
    assert merged.compute().value == pytest.approx(whole.compute().value, rel=1e-9)


@every_set_metric
def test_a_score_says_what_it_is_of(row: SetMetricRow) -> None:
    score = measured(row, pair_with_noise(13, strength=8)).compute()
    assert (score.metric, score.title, score.n) == (row.name, row.title, 13)
    assert (score.extractor, score.features) == ("moments", 12)
    assert len(score.weights_sha256) == 64
    assert score.protocol.startswith("Features of moments, given pictures in [0, 1]")
    few = "13 pictures are fewer than 10,000: not comparable with values of other numbers."
    assert score.warnings == (few,)


@every_set_metric
def test_a_set_of_one_picture_has_no_value(row: SetMetricRow) -> None:
    clean, noisy = pair_with_noise(1, strength=8)
    for batches in ((), ((clean[:0], noisy[:0]),), ((clean, noisy),)):
        with pytest.raises(RequestError, match=f"metric '{row.name}' compares sets of 2 pictures or more; found [01]"):
            measured(row, *batches).compute()


@every_set_metric
def test_a_set_refuses_what_would_give_a_wrong_number(row: SetMetricRow) -> None:
    clean, noisy = pair_with_noise(2, strength=8)
    for first, second in ((clean / 255, noisy / 255), (clean, noisy[:1]), (clean[0], noisy[0]), (clean, noisy.int())):
        with pytest.raises(RequestError, match=f"metric '{row.name}' compares two uint8 batches .* found "):
            measured(row, (first, second))


def test_psnr_by_batches_is_a_row_that_names_their_size() -> None:
    row = psnr_batch_vaes4rs(64)
    assert row.name == "psnr_batch_vaes4rs"
    assert "batches of 64 pictures" in row.protocol
    assert not row.default
    assert row.pool is not None
    assert row.pool(np.array([20.0] * 64 + [40.0]), np.ones(65)) == pytest.approx(30.0)


def test_reading_the_table_does_not_import_torch() -> None:
    modules = "latentstore.metrics.table, latentstore.quality, latentstore.statistics"
    code = f"import sys, {modules}; print({{'torch', 'torchmetrics', 'urllib.request'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
