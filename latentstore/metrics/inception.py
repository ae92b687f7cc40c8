"""The Inception network of the FID: TensorFlow's of 2015-12-05, not torchvision's Inception v3.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception architecture for computer vision, CVPR 2016; with
the quirks of the file that every published FID was computed with: 1008 classes, averages that leave padding out, and
a maximum instead of an average in the last block. Tensors are named as in pytorch-fid's conversion of that file.

The network is written as data, a block being parallel branches of steps, and run straight from the named tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from latentstore.metrics.interface import ExtractorRow
from latentstore.metrics.networks import read_tensors, run_alike
from latentstore.metrics.weights import WeightsFile

if TYPE_CHECKING:
    import torch

INCEPTION = WeightsFile(
    name="inception",
    file="pt_inception-2015-12-05-6726825d.pth",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    bytes=95_628_359,
    licence="Apache-2.0",
    also=("weights-inception-2015-12-05-6726825d.pth",),
)
FEATURES = 2048
_SIDE = 299
_EPSILON = 1e-3


@dataclass(frozen=True)
class _Conv:
    """A convolution without bias, batch normalisation and ReLU."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    same: bool = True
    """Padded so that stride 1 keeps the size."""


@dataclass(frozen=True)
class _Pool:
    """The average of 3x3 without padding, or the maximum; stride 1 keeps the size, 2 has no padding."""

    kind: str
    stride: int = 1


@dataclass(frozen=True)
class _Fork:
    """Convolutions side by side; their channels are joined."""

    arms: tuple[_Conv, ...]


_Step: TypeAlias = _Conv | _Pool | _Fork
_Branches: TypeAlias = Sequence[Sequence[_Step]]

_AVERAGE, _MAXIMUM, _SHRINK = _Pool("average"), _Pool("maximum"), _Pool("maximum", stride=2)
_WIDE, _TALL, _SQUARE = (1, 7), (7, 1), (3, 3)


def _fine(pooled: int) -> _Branches:
    return (
        (_Conv("branch1x1", 64),),
        (_Conv("branch5x5_1", 48), _Conv("branch5x5_2", 64, (5, 5))),
        (
            _Conv("branch3x3dbl_1", 64),
            _Conv("branch3x3dbl_2", 96, _SQUARE),
            _Conv("branch3x3dbl_3", 96, _SQUARE),
        ),
        (_AVERAGE, _Conv("branch_pool", pooled)),
    )


def _middle(channels: int) -> _Branches:
    return (
        (_Conv("branch1x1", 192),),
        (
            _Conv("branch7x7_1", channels),
            _Conv("branch7x7_2", channels, _WIDE),
            _Conv("branch7x7_3", 192, _TALL),
        ),
        (
            _Conv("branch7x7dbl_1", channels),
            _Conv("branch7x7dbl_2", channels, _TALL),
            _Conv("branch7x7dbl_3", channels, _WIDE),
            _Conv("branch7x7dbl_4", channels, _TALL),
            _Conv("branch7x7dbl_5", 192, _WIDE),
        ),
        (_AVERAGE, _Conv("branch_pool", 192)),
    )


def _coarse(pool: _Pool) -> _Branches:
    def fork(name: str) -> _Fork:
        return _Fork((_Conv(f"{name}a", 384, (1, 3)), _Conv(f"{name}b", 384, (3, 1))))

    return (
        (_Conv("branch1x1", 320),),
        (_Conv("branch3x3_1", 384), fork("branch3x3_2")),
        (_Conv("branch3x3dbl_1", 448), _Conv("branch3x3dbl_2", 384, _SQUARE), fork("branch3x3dbl_3")),
        (pool, _Conv("branch_pool", 192)),
    )


_NETWORK: tuple[tuple[str, _Branches], ...] = (
    (
        "",
        (
            (
                _Conv("Conv2d_1a_3x3", 32, _SQUARE, stride=2, same=False),
                _Conv("Conv2d_2a_3x3", 32, _SQUARE, same=False),
                _Conv("Conv2d_2b_3x3", 64, _SQUARE),
                _SHRINK,
                _Conv("Conv2d_3b_1x1", 80),
                _Conv("Conv2d_4a_3x3", 192, _SQUARE, same=False),
                _SHRINK,
            ),
        ),
    ),
    ("Mixed_5b.", _fine(32)),
    ("Mixed_5c.", _fine(64)),
    ("Mixed_5d.", _fine(64)),
    (
        "Mixed_6a.",
        (
            (_Conv("branch3x3", 384, _SQUARE, stride=2, same=False),),
            (
                _Conv("branch3x3dbl_1", 64),
                _Conv("branch3x3dbl_2", 96, _SQUARE),
                _Conv("branch3x3dbl_3", 96, _SQUARE, stride=2, same=False),
            ),
            (_SHRINK,),
        ),
    ),
    ("Mixed_6b.", _middle(128)),
    ("Mixed_6c.", _middle(160)),
    ("Mixed_6d.", _middle(160)),
    ("Mixed_6e.", _middle(192)),
    (
        "Mixed_7a.",
        (
            (_Conv("branch3x3_1", 192), _Conv("branch3x3_2", 320, _SQUARE, stride=2, same=False)),
            (
                _Conv("branch7x7x3_1", 192),
                _Conv("branch7x7x3_2", 192, _WIDE),
                _Conv("branch7x7x3_3", 192, _TALL),
                _Conv("branch7x7x3_4", 192, _SQUARE, stride=2, same=False),
            ),
            (_SHRINK,),
        ),
    ),
    ("Mixed_7b.", _coarse(_AVERAGE)),
    ("Mixed_7c.", _coarse(_MAXIMUM)),
)


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of the file; what batch normalisation counted is left out."""
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (1008, FEATURES), "fc.bias": (1008,)}
    channels = 3
    for prefix, branches in _NETWORK:
        ends = []
        for steps in branches:
            width = channels
            for step in steps:
                convolutions = _convolutions(step)
                for conv in convolutions:
                    shapes[f"{prefix}{conv.name}.conv.weight"] = (conv.channels, width, *conv.kernel)
                    for part in ("weight", "bias", "running_mean", "running_var"):
                        shapes[f"{prefix}{conv.name}.bn.{part}"] = (conv.channels,)
                width = sum(conv.channels for conv in convolutions) or width
            ends.append(width)
        channels = sum(ends)
    return shapes


def _convolutions(step: _Step) -> tuple[_Conv, ...]:
    if isinstance(step, _Pool):
        return ()
    return step.arms if isinstance(step, _Fork) else (step,)


class Inception:
    """The network with its weights in memory."""

    def __init__(self, path: Path, weights_sha256: str, *, antialias: bool) -> None:
        self.weights_sha256 = weights_sha256
        self._antialias = antialias
        self._tensors = read_tensors(
            path, published_shapes(), spare=lambda name: name.endswith(".bn.num_batches_tracked")
        )

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Features (N, 2048) float32 of uint8 pictures (N, 3, H, W), on their device."""
        if next(iter(self._tensors.values())).device != pictures.device:
            self._tensors = {name: tensor.to(pictures.device) for name, tensor in self._tensors.items()}
        return run_alike(self._features, pictures)

    def _features(self, pictures: torch.Tensor) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        x = F.interpolate(
            pictures.float(), (_SIDE, _SIDE), mode="bilinear", align_corners=False, antialias=self._antialias
        )
        x = (x - 128) / 128
        for prefix, branches in _NETWORK:
            x = torch.cat([self._branch(prefix, steps, x) for steps in branches], dim=1)
        return x.mean((2, 3))

    def _branch(self, prefix: str, steps: Sequence[_Step], x: torch.Tensor) -> torch.Tensor:
        import torch

        for step in steps:
            if isinstance(step, _Pool):
                x = _pooled(step, x)
            else:
                x = torch.cat([self._convolved(prefix, conv, x) for conv in _convolutions(step)], dim=1)
        return x

    def _convolved(self, prefix: str, conv: _Conv, x: torch.Tensor) -> torch.Tensor:
        import torch.nn.functional as F

        padding = (conv.kernel[0] // 2, conv.kernel[1] // 2) if conv.same else (0, 0)
        name = prefix + conv.name
        x = F.conv2d(x, self._tensors[f"{name}.conv.weight"], stride=conv.stride, padding=padding)
        mean, variance, weight, bias = (
            self._tensors[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.relu_(F.batch_norm(x, mean, variance, weight, bias, eps=_EPSILON))


def _pooled(pool: _Pool, x: torch.Tensor) -> torch.Tensor:
    import torch.nn.functional as F

    padding = 1 if pool.stride == 1 else 0
    if pool.kind == "average":
        return F.avg_pool2d(x, 3, stride=pool.stride, padding=padding, count_include_pad=False)
    return F.max_pool2d(x, 3, stride=pool.stride, padding=padding)


def _load(files: Mapping[str, Path], *, antialias: bool) -> Inception:
    return Inception(files[INCEPTION.name], INCEPTION.sha256, antialias=antialias)


FID_INCEPTION = ExtractorRow(
    name="inception-2015-12-05",
    features=FEATURES,
    protocol=(
        "2048 averages of the last block of TensorFlow's Inception of 2015-12-05 (pytorch-fid's conversion), given "
        "8-bit RGB rounded to nearest, resized to 299x299 (bilinear, align_corners=False, no antialias), as "
        "(x - 128) / 128, in float32"
    ),
    load=partial(_load, antialias=False),
    weights=(INCEPTION,),
)
STUDY_INCEPTION = ExtractorRow(
    name="inception-2015-12-05-antialias",
    features=FEATURES,
    protocol=(
        "2048 averages of the last block of TensorFlow's Inception of 2015-12-05 (pytorch-fid's conversion), given "
        "8-bit RGB truncated as VAEs4RS does, resized to 299x299 (bilinear, align_corners=False, antialiased, as "
        "torchmetrics 1.8 does), as (x - 128) / 128, in float32"
    ),
    load=partial(_load, antialias=True),
    weights=(INCEPTION,),
)


def truncated_uint8(pixels: torch.Tensor) -> torch.Tensor:
    """Pictures in [0, 1] as uint8 as VAEs4RS makes them for its FID: by way of [-1, 1], and truncated.

    Half a step darker than rounding on average, for originals too, some of which lose a step to float32.
    """
    import torch

    symmetric = (pixels.float() * 2 - 1).clamp(-1, 1)
    return (((symmetric + 1) / 2).clamp(0, 1) * 255).to(torch.uint8)
