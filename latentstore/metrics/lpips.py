"""LPIPS: how different two pictures look to a network trained to recognise things.

Zhang, Isola, Efros, Shechtman, Wang: The unreasonable effectiveness of deep features as a perceptual metric, CVPR 2018.
The channels of five layers are scaled to unit length at each place, their squared differences weighted by *heads*
fitted to what people see (version 0.1), averaged over the picture and summed over the layers.

The heads are those that torchmetrics ships; the network's weights are torchvision's, read from their published file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentstore.errors import MetricError
from latentstore.metrics.networks import read_tensors, run_alike
from latentstore.metrics.weights import WeightsFile, find_weights

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

ALEXNET = WeightsFile(
    name="alexnet",
    file="alexnet-owt-7be5be79.pth",
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    bytes=244_408_911,
    licence="torchvision's weights, trained on ImageNet",
)
VGG16 = WeightsFile(
    name="vgg16",
    file="vgg16-397923af.pth",
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    bytes=553_433_881,
    licence="torchvision's weights, trained on ImageNet",
)

_HEADS_URL = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"
# Mean and deviation of ImageNet's colours on [-1, 1], as LPIPS rounds them.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-8


@dataclass(frozen=True)
class Backbone:
    """The convolutions of a network, and which of its layers are looked at."""

    weights: WeightsFile
    layers: tuple[tuple[int, ...] | str, ...]
    """Convolutions as (channels, kernel, stride, padding), each followed by a ReLU; ``pool`` between them."""
    taps: tuple[int, ...]
    """Which convolutions' outputs are compared, counted from 0."""
    pool: int
    """Side of the window of the maximum; its step is 2."""
    smallest: int
    """Shortest side of a picture that leaves something after the last pooling."""
    heads: WeightsFile


ALEX = Backbone(
    weights=ALEXNET,
    layers=((64, 11, 4, 2), "pool", (192, 5, 1, 2), "pool", (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
    taps=(0, 1, 2, 3, 4),
    pool=3,
    smallest=31,
    heads=WeightsFile(
        name="lpips-alex",
        file="alex.pth",
        url=f"{_HEADS_URL}alex.pth",
        sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        bytes=6_009,
        licence="BSD-2-Clause",
    ),
)
VGG = Backbone(
    weights=VGG16,
    layers=(
        *((64, 3, 1, 1),) * 2,
        *("pool", *((128, 3, 1, 1),) * 2),
        *("pool", *((256, 3, 1, 1),) * 3),
        *("pool", *((512, 3, 1, 1),) * 3),
        *("pool", *((512, 3, 1, 1),) * 3),
    ),
    taps=(1, 3, 6, 9, 12),
    pool=2,
    smallest=16,
    heads=WeightsFile(
        name="lpips-vgg",
        file="vgg.pth",
        url=f"{_HEADS_URL}vgg.pth",
        sha256="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        bytes=7_289,
        licence="BSD-2-Clause",
    ),
)


def load_alex(files: Mapping[str, Path]) -> Lpips:
    """LPIPS on AlexNet."""
    return Lpips(ALEX, files[ALEXNET.name])


def load_vgg(files: Mapping[str, Path]) -> Lpips:
    """LPIPS on VGG-16."""
    return Lpips(VGG, files[VGG16.name])


class Lpips:
    """LPIPS with its network and heads in memory."""

    def __init__(self, backbone: Backbone, path: Path) -> None:
        self._backbone = backbone
        self._tensors = _tensors(backbone, path)

    def __call__(self, reference: torch.Tensor, reconstruction: torch.Tensor) -> NDArray[np.float64]:
        """Distance of each picture, (N,) float64, 0 where identical, from two uint8 tensors (N, 3, H, W).

        NaN where a side is shorter than the network can take: 31 pixels for AlexNet, 16 for VGG-16.
        """
        if min(reference.shape[-2:]) < self._backbone.smallest or len(reference) == 0:
            return np.full(len(reference), np.nan)
        if next(iter(self._tensors.values())).device != reference.device:
            self._tensors = {name: tensor.to(reference.device) for name, tensor in self._tensors.items()}
        distances: NDArray[np.float64] = run_alike(self._distance, reference, reconstruction).double().cpu().numpy()
        return distances

    def _distance(self, reference: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        total = torch.zeros((len(reference), 1, 1, 1), device=reference.device)
        pairs = zip(self._taps(reference), self._taps(reconstruction), strict=True)
        for number, (a, b) in enumerate(pairs):
            squares = (_unit(a) - _unit(b)).square_()
            total = total + F.conv2d(squares, self._tensors[f"lin{number}"]).mean((2, 3), keepdim=True)
        return total.flatten()

    def _taps(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        import torch
        import torch.nn.functional as F

        shift, scale = (torch.tensor(c, device=pictures.device).view(1, 3, 1, 1) for c in (_SHIFT, _SCALE))
        x = (pictures.float() / 127.5 - 1 - shift) / scale
        found = []
        for number, (_, _, stride, padding), pooled in _convolutions(self._backbone):
            if pooled:
                x = F.max_pool2d(x, self._backbone.pool, stride=2)
            weight, bias = (self._tensors[f"features.{number}.{part}"] for part in ("weight", "bias"))
            x = F.relu_(F.conv2d(x, weight, bias, stride=stride, padding=padding))
            found.append(x)
        return [found[tap] for tap in self._backbone.taps]


def _unit(features: torch.Tensor) -> torch.Tensor:
    """Each place's channels, scaled to length 1."""
    return features / (features.square().sum(1, keepdim=True) + _EPSILON).sqrt_()


def _convolutions(backbone: Backbone) -> list[tuple[int, tuple[int, ...], bool]]:
    """(torchvision's number, (channels, kernel, stride, padding), whether pooled before) of each convolution."""
    found, number, pooled = [], 0, False
    for layer in backbone.layers:
        if isinstance(layer, str):
            number, pooled = number + 1, True
        else:
            found.append((number, layer, pooled))
            number, pooled = number + 2, False  # the ReLU has a number of its own
    return found


def published_shapes(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of torchvision's file that is used."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for number, (out, kernel, _, _), _ in _convolutions(backbone):
        shapes[f"features.{number}.weight"] = (out, channels, kernel, kernel)
        shapes[f"features.{number}.bias"] = (out,)
        channels = out
    return shapes


def _tensors(backbone: Backbone, path: Path) -> dict[str, torch.Tensor]:
    # The classifier at the end of the network is in the file too.
    loaded = read_tensors(path, published_shapes(backbone), spare=lambda name: name.startswith("classifier."))
    widths = [channels for _, (channels, *_), _ in _convolutions(backbone)]
    shapes = {f"lin{n}.model.1.weight": (1, widths[tap], 1, 1) for n, tap in enumerate(backbone.taps)}
    heads = read_tensors(find_weights(backbone.heads, _shipped_heads()), shapes, spare=lambda _: False)
    return loaded | {name.split(".")[0]: tensor for name, tensor in heads.items()}


def _shipped_heads() -> Path:
    """The folder of torchmetrics that holds the heads; the package itself is not imported."""
    spec = find_spec("torchmetrics")
    if spec is None or spec.origin is None:
        raise MetricError("LPIPS takes its heads from torchmetrics, which is not installed: pip install torchmetrics")
    return Path(spec.origin).parent / "functional" / "image" / "lpips_models"
