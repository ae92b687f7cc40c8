"""The FID network against torch-fidelity's, by numbers taken from it once, and what pictures go in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from latentstore.metrics.inception import FID_INCEPTION, STUDY_INCEPTION, published_shapes, truncated_uint8
from latentstore.metrics.interface import open_together, update_together
from latentstore.metrics.table import SET_METRICS

if TYPE_CHECKING:
    from latentstore.metrics.interface import Extractor
    from tests.metrics.conftest import WithRandomWeights


def gradient(side: int) -> torch.Tensor:
    """Two pictures (2, 3, side, side) of ramps and stripes, without any chance."""
    ramp = torch.arange(side * side * 3).reshape(1, 3, side, side)
    return torch.cat([ramp * 7 % 256, ramp * 31 // 5 % 256]).to(torch.uint8)


def test_the_tensors_are_those_of_the_published_file() -> None:
    shapes = published_shapes()
    assert len(shapes) == 94 * 5 + 2
    assert shapes["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3)
    assert shapes["Mixed_6c.branch7x7dbl_2.conv.weight"] == (160, 160, 7, 1)
    assert shapes["Mixed_7b.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)
    assert shapes["Mixed_7c.branch_pool.conv.weight"] == (192, 2048, 1, 1)
    assert shapes["fc.weight"] == (1008, 2048)


def test_features_are_those_of_torch_fidelity(with_random_weights: WithRandomWeights) -> None:
    # torch-fidelity 0.3.0's FeatureExtractorInceptionV3, weights of conftest.py, at a size that needs no resize.
    features = with_random_weights.extractor(FID_INCEPTION).open()(gradient(299))
    assert features.shape == (2, 2048)
    torch.testing.assert_close(features[:, [0, 700, 1400, 2047]], torch.tensor(EXPECTED), rtol=1e-4, atol=1e-5)
    assert features.double().mean().item() == pytest.approx(EXPECTED_MEAN, rel=1e-5)


EXPECTED = [[0.0352303, 0.1558155, 1.0616224, 0.3629576], [0.0266794, 0.1546918, 0.8238477, 0.3669998]]
EXPECTED_MEAN = 0.4797031


def test_antialiasing_matters_only_where_pictures_shrink(with_random_weights: WithRandomWeights) -> None:
    ours, study = (with_random_weights.extractor(row).open() for row in (FID_INCEPTION, STUDY_INCEPTION))
    torch.testing.assert_close(ours(gradient(64)[:1]), study(gradient(64)[:1]), rtol=1e-4, atol=1e-4)
    assert (ours(gradient(400)[:1]) - study(gradient(400)[:1])).abs().max() > 1e-2


def test_metrics_of_one_network_share_it_and_it_sees_each_picture_once(
    with_random_weights: WithRandomWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = with_random_weights.extractor(FID_INCEPTION)
    scorers = open_together([SET_METRICS[name].using(network) for name in ("rfid", "kid")])
    assert scorers["rfid"].extractor is scorers["kid"].extractor
    seen: list[int] = []
    original = type(scorers["rfid"].extractor).__call__

    def counted(self: Extractor, pictures: torch.Tensor) -> torch.Tensor:
        seen.append(len(pictures))
        return original(self, pictures)

    monkeypatch.setattr(type(scorers["rfid"].extractor), "__call__", counted)
    update_together(scorers.values(), gradient(64), gradient(64).flip(3))
    assert seen == [2, 2]
    score = scorers["rfid"].compute()
    assert score.value > 0
    assert score.extractor == "inception-2015-12-05"
    assert score.warnings == (
        "2 pictures are fewer than 10,000: not comparable with values of other numbers.",
        "2 pictures cannot fill 2,048 directions: both covariances are singular and the distance is biased.",
    )
    assert "bilinear, align_corners=False, no antialias" in score.protocol
    assert scorers["kid"].compute().n == 2


def test_pixels_of_the_study_are_truncated_by_way_of_minus_one_to_one() -> None:
    pixels = torch.tensor([-0.1, 0.0, 0.5, 0.999, 1.0, 1.2]).reshape(1, 1, 1, 6)
    assert truncated_uint8(pixels).flatten().tolist() == [0, 0, 127, 254, 255, 255]
    steps = torch.arange(256).reshape(1, 1, 16, 16)
    lost = steps - truncated_uint8(steps / 255).long()
    assert set(lost.flatten().tolist()) <= {0, 1}
