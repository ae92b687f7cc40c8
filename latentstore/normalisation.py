"""From raw latents to the space a family's denoiser is fed, and back.

Raw latents are what is stored; the numbers below are in the manifest and are applied when latents are loaded, so a
better normalisation never needs a new dataset. Every kind is one affine map per channel of the model's space:

    model = raw * gain + offset        raw = (model - offset) / gain

kind              gain              offset                     used by
identity          1                 0                          TAESD family, pooling
scale             scale             0                          SD 1/2, SDXL, DC-AE, HunyuanImage
scale_shift       scale             -shift * scale             SD 3, FLUX.1
mean_std          scale / std[c]    -mean[c] * scale / std[c]  Qwen-Image, Wan, SDXL variants with statistics, demo
patch_batch_norm  1 / std[c]        -mean[c] / std[c]          FLUX.2, whose space joins 2x2 cells into channels

All but the last keep the shape. ``patch_batch_norm`` takes (C, h, w) to (C * patch**2, h / patch, w / patch) first:
channel ``c * patch**2 + y * patch + x`` of the model's space holds channel c of every cell at row y and column x of
its patch (``torch.nn.functional.pixel_unshuffle``), and it is those channels that are normalised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latentstore.errors import ManifestError, RequestError
from latentstore.json_records import Number, Patch, Positive
from latentstore.named_table import NamedTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    Affine = tuple[NDArray[np.float64], NDArray[np.float64]]

SMALLEST_SCALE = 1e-30
"""Below it, float32 knows nothing of what it is multiplied with."""


@dataclass(frozen=True)
class Normalisation:
    """How raw latents become model latents: a kind and all of its numbers."""

    kind: str = "identity"
    scale: Number = 1.0
    shift: Number = 0.0
    mean: tuple[Number, ...] = ()
    """One number a channel of the model's space, for ``mean_std`` and ``patch_batch_norm``."""
    std: tuple[Positive, ...] = ()
    """Likewise; all above zero. Of a batch norm: sqrt(running variance + eps)."""
    patch: Patch = 1
    """Cells along each side that become channels; above 1 for ``patch_batch_norm`` only."""

    def validate(self, channels: int) -> None:
        """Raise ManifestError unless this can be applied to raw latents of so many channels."""
        if self.kind not in KINDS:
            message = f"expected one of {', '.join(KINDS)}, found {self.kind!r}"
            raise ManifestError(message, field="kind")
        kind = KINDS[self.kind]
        if (self.patch > 1) != kind.patched or self.patch < 1:
            expected = "above 1" if kind.patched else "1"
            raise ManifestError(f"expected {expected} for kind {self.kind}, found {self.patch}", field="patch")
        wanted = channels * self.patch**2 if kind.per_channel else 0
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) != wanted:
                message = f"expected {wanted} numbers for {channels} channels, found {len(numbers)}"
                raise ManifestError(message, field=name)
        for name in ("scale", "shift", "mean", "std"):
            if not np.isfinite(getattr(self, name)).all():
                raise ManifestError("expected finite numbers", field=name)
        no_scale = abs(self.scale) < SMALLEST_SCALE
        if no_scale or any(std <= 0 for std in self.std):
            raise ManifestError("a zero scale or std cannot be undone", field="scale" if no_scale else "std")

    def affine(self, channels: int) -> Affine:
        """Gain and offset, each (channels * patch**2,) float64, for raw latents of so many channels."""
        gain, offset = KINDS[self.kind].affine(self)
        shape = (channels * self.patch**2,)
        return np.broadcast_to(gain, shape).copy(), np.broadcast_to(offset, shape).copy()

    def model_shape(self, raw: Sequence[int]) -> tuple[int, ...]:
        """Shape (..., C', h', w') of the model latents of raw ones (..., C, h, w); RequestError where none exist."""
        *batch, channels, height, width = raw
        if height % self.patch or width % self.patch:
            raise RequestError(
                f"Raw latents of {height}x{width} cells have no model space: {self.kind} joins {self.patch}x"
                f"{self.patch} cells, so both sides must be multiples of {self.patch}; pad the pictures to "
                f"multiples of {self.patch} strides."
            )
        self._check_channels("raw", channels, len(self.mean) // self.patch**2)
        return (*batch, channels * self.patch**2, height // self.patch, width // self.patch)

    def raw_shape(self, model: Sequence[int]) -> tuple[int, ...]:
        """Shape (..., C, h, w) of the raw latents behind model ones: the inverse of :meth:`model_shape`."""
        *batch, channels, height, width = model
        self._check_channels("model", channels, len(self.mean))
        return (*batch, channels // self.patch**2, height * self.patch, width * self.patch)

    def to_model(self, raw: torch.Tensor) -> torch.Tensor:
        """Model latents of raw ones (..., C, h, w), in their dtype, computed in float32 at least.

        The shape is that of :meth:`model_shape`; RequestError where the raw latents do not fit.
        """
        import torch.nn.functional as F

        self.model_shape(raw.shape)
        cells = F.pixel_unshuffle(raw, self.patch) if self.patch > 1 else raw
        gain, offset = self._tensors(cells)
        return (cells.to(gain.dtype) * gain + offset).to(raw.dtype)

    def to_raw(self, model: torch.Tensor) -> torch.Tensor:
        """Raw latents of model ones, in their dtype: the inverse of :meth:`to_model`."""
        import torch.nn.functional as F

        self.raw_shape(model.shape)
        gain, offset = self._tensors(model)
        cells = ((model.to(gain.dtype) - offset) / gain).to(model.dtype)
        return F.pixel_shuffle(cells, self.patch) if self.patch > 1 else cells

    def _check_channels(self, space: str, found: int, expected: int) -> None:
        if self.mean and found != expected:
            raise RequestError(f"Expected {space} latents of {expected} channels for {self.kind}, found {found}.")

    def _tensors(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gain and offset for latents in the model's layout (..., C', h', w')."""
        import torch

        dtype = torch.promote_types(like.dtype, torch.float32)
        gain, offset = self.affine(like.shape[-3] // self.patch**2)
        shape = (-1, 1, 1)
        return (
            torch.as_tensor(gain, dtype=dtype, device=like.device).reshape(shape),
            torch.as_tensor(offset, dtype=dtype, device=like.device).reshape(shape),
        )


def flux2_to_taef2(raw: torch.Tensor, flux2: Normalisation) -> torch.Tensor:
    """TAEF2 latents (..., C, h, w) of raw FLUX.2 latents (..., C, h, w).

    TAEF2 was trained on FLUX.2 latents after their batch norm, put back into the layout before it:
    ``pixel_shuffle(bn(pixel_unshuffle(raw, 2)), 2)``. ``flux2`` is the normalisation of a FLUX.2 dataset or VAE; the
    two VAEs' latents are approximations of each other, the change of space is exact.
    """
    import torch.nn.functional as F

    _check_patched(flux2)
    return F.pixel_shuffle(flux2.to_model(raw), flux2.patch)


def taef2_to_flux2(latents: torch.Tensor, flux2: Normalisation) -> torch.Tensor:
    """Raw FLUX.2 latents (..., C, h, w) of TAEF2 latents (..., C, h, w): the inverse of :func:`flux2_to_taef2`."""
    import torch.nn.functional as F

    _check_patched(flux2)
    return flux2.to_raw(F.pixel_unshuffle(latents, flux2.patch))


def _check_patched(flux2: Normalisation) -> None:
    if flux2.patch < 2:
        raise RequestError(
            f"Expected the normalisation of FLUX.2 (patch_batch_norm), found {flux2.kind}: take it from a FLUX.2 "
            "dataset's manifest or a loaded FLUX.2 VAE."
        )


@dataclass(frozen=True)
class NormalisationKind:
    """One way to normalise: its name, its formula for people, and its gain and offset."""

    name: str
    formula: str
    affine: Callable[[Normalisation], Affine]
    per_channel: bool = False
    """Whether it has a mean and a std for each channel."""
    patched: bool = False
    """Whether it joins neighbouring cells, which changes the shape."""


def _identity(_: Normalisation) -> Affine:
    return np.ones(1), np.zeros(1)


def _scale(numbers: Normalisation) -> Affine:
    return np.array([numbers.scale]), np.zeros(1)


def _scale_shift(numbers: Normalisation) -> Affine:
    return np.array([numbers.scale]), np.array([-numbers.shift * numbers.scale])


def _mean_std(numbers: Normalisation) -> Affine:
    gain = numbers.scale / np.asarray(numbers.std, dtype=np.float64)
    return gain, -np.asarray(numbers.mean, dtype=np.float64) * gain


def _batch_norm(numbers: Normalisation) -> Affine:
    gain = 1 / np.asarray(numbers.std, dtype=np.float64)
    return gain, -np.asarray(numbers.mean, dtype=np.float64) * gain


KINDS = NamedTable(
    "normalisation",
    [
        NormalisationKind("identity", "model = raw", _identity),
        NormalisationKind("scale", "model = raw * scale", _scale),
        NormalisationKind("scale_shift", "model = (raw - shift) * scale", _scale_shift),
        NormalisationKind("mean_std", "model = (raw - mean[c]) * scale / std[c]", _mean_std, per_channel=True),
        NormalisationKind(
            "patch_batch_norm",
            "model = (patches(raw) - mean[c]) / std[c]",
            _batch_norm,
            per_channel=True,
            patched=True,
        ),
    ],
)
