"""From raw latents to the space a family's denoiser is fed, and back.

Raw latents are what is stored; the numbers below are in the manifest and are applied when latents are loaded, so a
better normalisation never needs a new dataset. Every kind known so far is one affine map per channel:

    model = raw * gain + offset        raw = (model - offset) / gain

kind         gain              offset                     used by
identity     1                 0                          TAESD family, pooling
scale        scale             0                          SD 1/2, SDXL, DC-AE
scale_shift  scale             -shift * scale             SD 3, FLUX.1
mean_std     scale / std[c]    -mean[c] * scale / std[c]  Qwen-Image, Wan, SDXL variants with statistics, demo
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latentstore.errors import ManifestError
from latentstore.named_table import NamedTable

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Affine = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Normalisation:
    """How raw latents become model latents: a kind and all of its numbers."""

    kind: str = "identity"
    scale: float = 1.0
    shift: float = 0.0
    mean: tuple[float, ...] = ()
    """One number a channel, for ``mean_std``."""
    std: tuple[float, ...] = ()
    """One number a channel, for ``mean_std``; all above zero."""

    def validate(self, channels: int) -> None:
        """Raise ManifestError unless this can be applied to latents of so many channels."""
        if self.kind not in KINDS:
            message = f"expected one of {', '.join(KINDS)}, found {self.kind!r}"
            raise ManifestError(message, field="kind")
        wanted = channels if self.kind == "mean_std" else 0
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) != wanted:
                message = f"expected {wanted} numbers for {channels} channels, found {len(numbers)}"
                raise ManifestError(message, field=name)
        for name in ("scale", "shift", "mean", "std"):
            if not np.isfinite(getattr(self, name)).all():
                raise ManifestError("expected finite numbers", field=name)
        if self.scale == 0 or any(std <= 0 for std in self.std):
            raise ManifestError("a zero scale or std cannot be undone", field="scale" if self.scale == 0 else "std")

    def affine(self, channels: int) -> Affine:
        """Gain and offset, each (channels,) float64."""
        gain, offset = KINDS[self.kind].affine(self)
        return np.broadcast_to(gain, (channels,)).copy(), np.broadcast_to(offset, (channels,)).copy()

    def to_model(self, raw: torch.Tensor) -> torch.Tensor:
        """Model latents, (N, C, h, w) in the dtype of ``raw``, computed in float32 at least."""
        gain, offset = self._tensors(raw)
        return (raw.to(gain.dtype) * gain + offset).to(raw.dtype)

    def to_raw(self, model: torch.Tensor) -> torch.Tensor:
        """Raw latents, (N, C, h, w) in the dtype of ``model``: the inverse of :meth:`to_model`."""
        gain, offset = self._tensors(model)
        return ((model.to(gain.dtype) - offset) / gain).to(model.dtype)

    def _tensors(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        dtype = torch.promote_types(like.dtype, torch.float32)
        gain, offset = self.affine(like.shape[-3])
        shape = (-1, 1, 1)
        return (
            torch.as_tensor(gain, dtype=dtype, device=like.device).reshape(shape),
            torch.as_tensor(offset, dtype=dtype, device=like.device).reshape(shape),
        )


@dataclass(frozen=True)
class NormalisationKind:
    """One way to normalise: its name, its formula for people, and its gain and offset."""

    name: str
    formula: str
    affine: Callable[[Normalisation], Affine]


def _identity(_: Normalisation) -> Affine:
    return np.ones(1), np.zeros(1)


def _scale(numbers: Normalisation) -> Affine:
    return np.array([numbers.scale]), np.zeros(1)


def _scale_shift(numbers: Normalisation) -> Affine:
    return np.array([numbers.scale]), np.array([-numbers.shift * numbers.scale])


def _mean_std(numbers: Normalisation) -> Affine:
    gain = numbers.scale / np.asarray(numbers.std, dtype=np.float64)
    return gain, -np.asarray(numbers.mean, dtype=np.float64) * gain


KINDS = NamedTable(
    "normalisation",
    [
        NormalisationKind("identity", "model = raw", _identity),
        NormalisationKind("scale", "model = raw * scale", _scale),
        NormalisationKind("scale_shift", "model = (raw - shift) * scale", _scale_shift),
        NormalisationKind("mean_std", "model = (raw - mean[c]) * scale / std[c]", _mean_std),
    ],
)
