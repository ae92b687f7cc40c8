"""Average pooling: no weights, no learning, the floor that every VAE has to beat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from latentstore.normalisation import Normalisation
from latentstore.records import LatentBatch
from latentstore.vaes.interface import LoadOptions, VaeIdentity, VaeRow

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PoolingVae:
    """Latents are block means in [-1, 1]; decoding repeats each over its block."""

    row: VaeRow
    options: LoadOptions
    normalisation: Normalisation = field(default_factory=Normalisation)

    @property
    def identity(self) -> VaeIdentity:
        """No weights, so only the class."""
        return VaeIdentity(class_name="PoolingVae", repo=None, revision=None, weights_sha256=None)

    def encode(self, pixels: torch.Tensor) -> LatentBatch:
        """See ``Vae.encode``."""
        import torch.nn.functional as F

        centred = pixels.to(self.options.device) * 2 - 1
        return LatentBatch(mean=F.avg_pool2d(centred, self.row.stride))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Vae.decode``."""
        import torch.nn.functional as F

        pixels = (latents.to(self.options.device) + 1) / 2
        return F.interpolate(pixels, scale_factor=float(self.row.stride), mode="nearest").clamp(0, 1)


def load_pooling(row: VaeRow, options: LoadOptions) -> PoolingVae:
    """The family of VAEs that only average."""
    return PoolingVae(row, options)
