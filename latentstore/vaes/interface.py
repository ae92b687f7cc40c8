"""What a VAE is here: a row that names it, and the loaded model with two methods.

Throughout: *pixels* are (N, 3, H, W) float32 in [0, 1] with H and W multiples of the stride; *raw latents* are
(N, C, H/stride, W/stride) float32, the posterior mean before any scale. Ranges and layouts that a family wants
differently are its adapter's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from latentstore.normalisation import Normalisation
    from latentstore.records import LatentBatch


class Vae(Protocol):
    """A VAE with its weights in memory."""

    @property
    def row(self) -> VaeRow:
        """The row it was loaded from."""

    @property
    def identity(self) -> VaeIdentity:
        """Exactly which weights these are."""

    @property
    def normalisation(self) -> Normalisation:
        """From its raw latents to what its family's denoiser is fed."""

    def encode(self, pixels: torch.Tensor) -> LatentBatch:
        """Raw latents of pixels; the posterior mean, so the same pixels always give the same latents."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels of raw latents, clamped to [0, 1]."""


@dataclass(frozen=True)
class VaeIdentity:
    """Which weights were used: goes into the manifest, and is compared before anything is decoded."""

    class_name: str
    """The class that holds them: ``AutoencoderKL``."""
    repo: str | None
    """The Hub repository they come from; None for weights shipped here, or for none."""
    revision: str | None
    """The commit that was read, where it is known."""
    weights_sha256: str | None
    """Of the weights file (LFS object id on the Hub); None for a VAE without weights."""


@dataclass(frozen=True)
class VaeRow:
    """One VAE, readable without loading anything heavy."""

    name: str
    family: Callable[[VaeRow, LoadOptions], Vae]
    """Loads it; one of this folder's families, or a user's own."""
    channels: int
    stride: int
    """Pixels per latent cell, along each side."""
    licence: str
    repo: str = ""
    """Hub repository, or a local folder; empty for one shipped inside this package or without weights."""
    subfolder: str = ""
    revision: str | None = None
    """Branch, tag or commit to ask the Hub for; the commit it resolved to is recorded in the manifest."""
    packaged: str = ""
    """Folder under ``vaes/weights`` for a VAE shipped inside this package."""
    gated: bool = False
    """True where the Hub wants the licence accepted first."""
    float16_safe: bool = False
    """False where half precision overflows or was never checked."""
    parameters: int | None = None
    summary: str = ""

    def load(self, *, device: str = "cpu", dtype: str = "float32") -> Vae:
        """The model in evaluation mode; raises VaeError with one clear sentence."""
        return self.family(self, LoadOptions(device=device, dtype=dtype))

    def at(self, location: str) -> VaeRow:
        """The same VAE, with its weights read from a local folder."""
        return replace(self, repo=location, subfolder="", revision=None, packaged="")


@dataclass(frozen=True)
class LoadOptions:
    """Where and in what precision a VAE computes."""

    device: str = "cpu"
    dtype: str = "float32"
