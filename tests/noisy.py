"""A VAE with a posterior that needs no weights: block means, each with the same deviation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from latentstore import VAES, VaeRow
from latentstore.records import LatentBatch
from latentstore.vaes.pooling import PoolingVae

if TYPE_CHECKING:
    import torch

    from latentstore.vaes.interface import LoadOptions

DEVIATION = 0.25


@dataclass(frozen=True)
class NoisyVae(PoolingVae):
    """See above."""

    def encode(self, pixels: torch.Tensor) -> LatentBatch:
        import torch

        mean = super().encode(pixels).mean
        return LatentBatch(mean=mean, std=torch.full_like(mean, DEVIATION))


def load_noisy(row: VaeRow, options: LoadOptions) -> NoisyVae:
    return NoisyVae(row, options)


NOISY = replace(VAES["pool8"], name="noisy", family=load_noisy, stochastic=True)
