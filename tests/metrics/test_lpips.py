"""LPIPS against torchmetrics' own network with the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from latentstore.errors import MetricError
from latentstore.metrics import lpips
from latentstore.metrics.table import METRICS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.metrics.conftest import WithRandomWeights

BACKBONES = {"lpips": lpips.ALEX, "lpips_vgg": lpips.VGG}
every_net = pytest.mark.parametrize("name", BACKBONES)


def torchvision_features(name: str) -> nn.Sequential:
    """The convolutions of torchvision's alexnet and vgg16, written out."""
    if name == "lpips":
        return nn.Sequential(
            *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        )
    layers: list[nn.Module] = []
    channels = 3
    for width, times in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(times):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def torchmetrics_net(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Torchmetrics' LPIPS with its own heads, on our random weights instead of downloaded ones."""
    features = torchvision_features(name)
    published = torch.load(folder / BACKBONES[name].weights.file, weights_only=True)
    prefix = "features."
    features.load_state_dict(
        {key.removeprefix(prefix): tensor for key, tensor in published.items() if key.startswith(prefix)}
    )
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda *_, **__: features)
    return torchmetrics_lpips._LPIPS(net={"lpips": "alex", "lpips_vgg": "vgg"}[name])


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (count, 3, height, width), generator=random, dtype=torch.uint8)


@every_net
@pytest.mark.parametrize(("height", "width"), [(31, 31), (64, 48)])
def test_equals_torchmetrics_with_the_same_weights(
    name: str,
    height: int,
    width: int,
    weights_folder: Path,
    with_random_weights: WithRandomWeights,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = torchmetrics_net(name, weights_folder, monkeypatch)
    first, second = pictures(2, height, width), pictures(2, height, width).flip(0, 2)
    with torch.inference_mode():
        expected = [net(a[None] / 127.5 - 1, b[None] / 127.5 - 1).item() for a, b in zip(first, second, strict=True)]
    scores = with_random_weights(METRICS[name]).open()(first, second)
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=0)


@every_net
def test_identical_pictures_are_at_distance_zero(name: str, with_random_weights: WithRandomWeights) -> None:
    same = pictures(2, 40, 40)
    assert with_random_weights(METRICS[name]).open()(same, same.clone()).tolist() == [0.0, 0.0]


@every_net
def test_undefined_where_the_network_leaves_nothing(name: str, with_random_weights: WithRandomWeights) -> None:
    scorer, smallest = with_random_weights(METRICS[name]).open(), BACKBONES[name].smallest
    assert np.isnan(scorer(pictures(2, smallest - 1, 64), pictures(2, smallest - 1, 64))).all()
    assert np.isfinite(scorer(pictures(1, smallest, smallest), 255 - pictures(1, smallest, smallest))).all()


@every_net
def test_batches_of_a_device_are_filled_up_without_a_trace(
    name: str, with_random_weights: WithRandomWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = with_random_weights(METRICS[name]).open()
    first, second = pictures(5, 40, 40), pictures(5, 40, 40).flip(0)
    one_by_one = scorer(first, second)
    monkeypatch.setattr("latentstore.metrics.networks._CPU_BATCH", 4)
    np.testing.assert_allclose(scorer(first, second), one_by_one, rtol=1e-5)
    assert scorer(first[:2], second[:2]).tolist() == scorer(first, second)[:2].tolist()


def test_other_weights_are_refused_naming_the_tensor(weights_folder: Path, tmp_path: Path) -> None:
    tensors = torch.load(weights_folder / lpips.ALEXNET.file, weights_only=True)
    changes: list[tuple[dict[str, torch.Tensor], str]] = [
        ({key: tensor for key, tensor in tensors.items() if key != "features.3.bias"}, "features.3.bias"),
        (tensors | {"features.99.weight": torch.zeros(1)}, "features.99.weight"),
        (tensors | {"features.0.weight": torch.zeros(64, 3, 3, 3)}, "features.0.weight"),
    ]
    for changed, named in changes:
        path = tmp_path / "changed.pth"
        torch.save(changed, path)
        message = f"does not hold the weights of this network: 1 tensors are .* shape, {named} first"
        with pytest.raises(MetricError, match=message):
            lpips.load_alex({"alexnet": path})


@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_a_file_that_is_no_weights_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "nonsense.pth"
    path.write_bytes(content)
    with pytest.raises(MetricError, match=r"nonsense\.pth holds no weights that torch can read"):
        lpips.load_alex({"alexnet": path})
