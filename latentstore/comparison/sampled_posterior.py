"""A VAE whose latents are drawn from the encoder's posterior instead of being its mean, repeatably.

The noise of a picture depends on the seed and on the picture's own pixels, on nothing else: batches, order, resumed
builds and devices do not change which noise it gets.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from latentstore.errors import VaeError
from latentstore.records import LatentBatch
from latentstore.vaes.interface import LoadOptions, Vae, VaeIdentity, VaeRow

SAMPLE = "sample"

if TYPE_CHECKING:
    import torch

    from latentstore.normalisation import Normalisation


@dataclass(frozen=True)
class SampledVae:
    """A loaded VAE that gives mean + std * noise."""

    vae: Vae
    seed: int

    @property
    def row(self) -> VaeRow:
        """The row it was loaded from."""
        return self.vae.row

    @property
    def identity(self) -> VaeIdentity:
        """Exactly which weights these are, and that samples are drawn."""
        return replace(self.vae.identity, posterior=SAMPLE)

    @property
    def normalisation(self) -> Normalisation:
        """From its raw latents to what its family's denoiser is fed."""
        return self.vae.normalisation

    def encode(self, pixels: torch.Tensor) -> LatentBatch:
        """See ``Vae.encode``; ``mean`` holds the draw, and there is no std left."""
        posterior = self.vae.encode(pixels)
        if posterior.std is None:
            raise VaeError(f"VAE {self.row.name!r} is said to be stochastic, but its encoder gives no deviation.")
        noise = _noise(pixels, tuple(posterior.mean.shape[1:]), self.seed).to(posterior.mean.device)
        return LatentBatch(mean=posterior.mean + posterior.std * noise)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Vae.decode``."""
        return self.vae.decode(latents)


def sampled(row: VaeRow, seed: int = 0) -> VaeRow:
    """The row, whose VAE draws from its posterior with this seed; the same row where its encoder has no posterior."""
    if not row.stochastic:
        return row

    def load_sampled(asked: VaeRow, options: LoadOptions) -> SampledVae:
        return SampledVae(row.family(asked, options), seed)

    return replace(row, family=load_sampled)


def _noise(pixels: torch.Tensor, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """(N, C, h, w) float32, standard normal, on the CPU; each picture's from the seed and its own pixels."""
    import torch

    drawn = []
    for picture in pixels.cpu().contiguous():
        digest = hashlib.sha256(f"{seed}:".encode() + picture.numpy().tobytes()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
        drawn.append(torch.randn(shape, generator=generator))
    return torch.stack(drawn)
