"""What a VAE is here: a row that names it, and the loaded model with two methods.

Throughout: *pixels* are (N, 3, H, W) float32 in [0, 1] with H and W multiples of the row's ``pad_to``; *raw latents*
are (N, C, H/stride, W/stride) float32, the posterior mean before any scale. Ranges and layouts that a family wants
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

AUTO = "auto"


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
    """Of the weights file (LFS object id on the Hub), of several one after another; None for a VAE without weights."""
    posterior: str = "mean"
    """What ``encode`` gives of the posterior: its mean, or a ``sample`` where a study is reproduced."""


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
    """Of the weights, as their publisher states it."""
    citation: str = ""
    """Who is to be cited; empty where that is not known."""
    repo: str = ""
    """Hub repository, or a local folder; empty for one shipped inside this package or without weights."""
    subfolder: str = ""
    revision: str | None = None
    """Branch, tag or commit to ask the Hub for.

    None: the newest commit when it is first read. Either way all files come from one commit, it is recorded in the
    manifest, and the dataset is decoded with that commit from then on.
    """
    packaged: str = ""
    """Folder under ``vaes/weights`` for a VAE shipped inside this package."""
    gated: bool = False
    """True where the Hub wants the licence accepted first."""
    float16_safe: bool = False
    """False where half precision overflows or was never checked."""
    float16_reason: str = "it was never checked and may overflow"
    """Why not, for the error."""
    parameters: int | None = None
    """Of encoder and decoder together."""
    gflops_256: float | None = None
    """Of encode and decode of one 256x256 picture, 2 a multiply-add, attention included, in 10^9."""
    summary: str = ""
    class_name: str = ""
    """The class of diffusers (or of this folder) that holds the code; a checkpoint of another class is refused."""
    architecture: str = ""
    """Row of ``architectures.py`` with the official configuration; empty where none is shipped."""
    pixel_range: str = "[-1, 1]"
    """Of the pixels that the class itself takes; the adapter converts."""
    stochastic: bool = False
    """True where the encoder gives a Gaussian posterior, False where it gives the latent itself."""
    normalisation_kind: str = ""
    """A row of ``normalisation.KINDS``; empty where the checkpoint decides."""
    normalisation: Normalisation | None = None
    """Its numbers, where they are published; a checkpoint whose configuration has others is refused.

    None: they are read from the place that ``numbers_from`` names, and checked against nothing.
    """
    numbers_from: str = ""
    """Where the numbers of the normalisation are read."""
    cells: int = 1
    """Height and width of a latent are multiples of this: FLUX.2's denoiser joins 2x2 cells."""
    tiling: str = ""
    """Why large pictures are not encoded in overlapping tiles of the VAE's own."""
    memory_format: str = "contiguous"
    """Of weights and pixels: ``channels_last`` where that was measured faster on a CPU."""
    cpu_dtype: str = "float32"
    """What ``dtype="auto"`` takes on a CPU that computes in it; float32 anywhere else."""

    @property
    def pad_to(self) -> int:
        """Pixels that both sides of a padded picture are multiples of."""
        return self.stride * self.cells

    def load(self, *, device: str = "cpu", dtype: str = "float32") -> Vae:
        """The model in evaluation mode; raises VaeError with one clear sentence.

        ``dtype`` is ``float32``, ``bfloat16``, ``float16`` (where the row allows it), or ``auto``.
        """
        if dtype == AUTO:
            dtype = self.fastest_dtype(device)
        return self.family(self, LoadOptions(device=device, dtype=dtype))

    def fastest_dtype(self, device: str) -> str:
        """What ``auto`` stands for on this device: the row's measured choice on a CPU that computes in it."""
        if device != "cpu" or self.cpu_dtype != "bfloat16":
            return "float32"
        import torch

        # Without instructions for it (AVX-512 BF16, AMX), oneDNN converts back and forth and nothing is won.
        capable = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        capable = capable and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 (torch has no public name)
        return "bfloat16" if capable else "float32"

    def at(self, location: str) -> VaeRow:
        """The same VAE, with its weights read from a local folder."""
        return replace(self, repo=location, subfolder="", revision=None, packaged="")


@dataclass(frozen=True)
class LoadOptions:
    """Where and in what precision a VAE computes."""

    device: str = "cpu"
    dtype: str = "float32"
