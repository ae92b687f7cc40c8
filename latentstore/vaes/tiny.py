"""The tiny autoencoders of madebyollin: TAESD and its siblings, and TAEF2.

They are trained to speak the *normalised* latents of a large VAE, so their raw latents are already what a denoiser is
fed; there is no posterior. TAESD, TAESDXL, TAESD3 and TAEF1 are AutoencoderTiny of diffusers, which takes pixels in
[-1, 1] and maps them to the [0, 1] of the original networks by itself.

TAEF2 is not: three blocks at the coarsest level see the whole map through a group norm, which AutoencoderTiny lacks
(its weights leave 24 keys over). So its network is written out here, in its original terms: pixels in [0, 1], latents
(N, 32, H/8, W/8) in FLUX.2's space after the batch norm but before its 2x2 patches. To cross between the two spaces:
``latentstore.flux2_to_taef2``. Because of that group norm, a picture cut into tiles decodes to another picture than
the whole one (23.5 to 26.6 dB between the two for photos, 32 for an aerial crop).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstore.errors import VaeError
from latentstore.normalisation import Normalisation
from latentstore.records import LatentBatch
from latentstore.vaes.checkpoint import (
    Family,
    Shape,
    Weights,
    decode_sample,
    folder_of,
    identity_of,
    keys_at_fault,
    placed,
    read_once,
    refuse_partial,
    refuse_unsafe_dtype,
    tensors_in,
)
from latentstore.vaes.interface import LoadOptions, VaeIdentity, VaeRow

if TYPE_CHECKING:
    import torch

TAEF2_WHOLE = ("taef2.safetensors",)
"""As on the Hub: keys ``encoder.layers.<n>`` and ``decoder.layers.<n>``."""
TAEF2_HALVES = ("taef2_encoder.pth", "taef2_decoder.pth")
"""As on GitHub: keys ``<n>``, the decoder's counted from its clamp."""
WIDTH, POOLED_WIDTH, POOLED_GROUPS = 64, 256, 4
LEVELS = 4
CLAMP = 3.0
"""The decoder squashes latents to -3..3 by a tangent."""
MOST_BYTES = 64 << 20
"""Of a weights file: the whole network in float64 is half of that."""


def _tiny_normalisation(config: Any, _: Weights) -> Normalisation:
    """What pipelines do with the configuration's numbers; its usual 1 and 0 leave latents as they are."""
    scale, shift = float(config.scaling_factor), float(config.shift_factor)
    if shift:
        return Normalisation("scale_shift", scale=scale, shift=shift)
    return Normalisation("scale", scale=scale) if scale != 1 else Normalisation()


def _tiny_shape(config: Any) -> Shape:
    return Shape(config.latent_channels, 2 ** (len(config.encoder_block_out_channels) - 1), config.in_channels)


def _tiny_encode(model: Any, pixels: torch.Tensor) -> LatentBatch:
    return LatentBatch(mean=model.encode(pixels).latents.float())


TINY = Family(shape=_tiny_shape, normalisation=_tiny_normalisation, encode=_tiny_encode, decode=decode_sample)


@dataclass(frozen=True)
class Taef2Vae:
    """TAEF2 in evaluation mode."""

    row: VaeRow
    options: LoadOptions
    identity: VaeIdentity
    model: Any
    normalisation: Normalisation = field(default_factory=Normalisation)

    def encode(self, pixels: torch.Tensor) -> LatentBatch:
        """See ``Vae.encode``."""
        import torch

        with torch.no_grad():
            return LatentBatch(mean=self.model.encoder(self._placed(pixels)).float())

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Vae.decode``."""
        import torch

        with torch.no_grad():
            clamped = torch.tanh(self._placed(latents) / CLAMP) * CLAMP
            pixels: torch.Tensor = self.model.decoder(clamped).float().clamp(0, 1)
            return pixels

    def _placed(self, numbers: torch.Tensor) -> torch.Tensor:
        import torch

        return numbers.to(self.options.device, getattr(torch, self.options.dtype))


def load_taef2(row: VaeRow, options: LoadOptions) -> Taef2Vae:
    """TAEF2 from the Hub's file or the two of its GitHub repository; VaeError where they do not fit key by key."""
    import torch

    refuse_unsafe_dtype(row, options)
    folder = folder_of(row, [TAEF2_WHOLE, TAEF2_HALVES])
    files = [folder / name for name in (TAEF2_WHOLE if (folder / TAEF2_WHOLE[0]).is_file() else TAEF2_HALVES)]
    stored = {path: read_once(path, MOST_BYTES) for path in files}
    weights = _whole(stored) if len(files) == 1 else _halves(stored)
    model = taef2_network(row.channels)
    found = keys_at_fault(model.state_dict(), weights)
    refuse_partial(folder, f"{row.class_name} network of VAE {row.name!r}", found)
    dtype = getattr(torch, options.dtype)
    model.load_state_dict({key: numbers.to(dtype) for key, numbers in weights.items()}, assign=True)
    return Taef2Vae(row, options, identity_of(row, stored), placed(row, model, options))


def taef2_network(latent_channels: int) -> Any:
    """TAEF2's network without weights, on the meta device: a module with ``encoder`` and ``decoder``."""
    import torch
    from torch import nn

    def conv(inward: int, outward: int, **options: Any) -> nn.Conv2d:
        return nn.Conv2d(inward, outward, 3, padding=1, **options)

    class Block(nn.Module):
        """Three convolutions around a skip; a pooled one first adds what a group norm over the whole map tells it."""

        def __init__(self, *, pooled: bool) -> None:
            super().__init__()
            self.conv = nn.Sequential(conv(WIDTH, WIDTH), nn.ReLU(), conv(WIDTH, WIDTH), nn.ReLU(), conv(WIDTH, WIDTH))
            if pooled:
                self.pool = nn.Sequential(
                    nn.Conv2d(WIDTH, POOLED_WIDTH, 1, bias=False),
                    nn.GroupNorm(POOLED_GROUPS, POOLED_WIDTH),
                    nn.ReLU(),
                    nn.Conv2d(POOLED_WIDTH, WIDTH, 1, bias=False),
                )
            self.pooled = pooled

        def forward(self, cells: torch.Tensor) -> torch.Tensor:
            whole = cells + self.pool(cells) if self.pooled else cells
            return torch.relu(self.conv(whole) + whole)

    def encoder() -> nn.Sequential:
        layers: list[nn.Module] = [conv(3, WIDTH), Block(pooled=False)]
        for level in range(1, LEVELS):
            layers.append(conv(WIDTH, WIDTH, stride=2, bias=False))
            layers.extend(Block(pooled=level == LEVELS - 1) for _ in range(3))
        return nn.Sequential(*layers, conv(WIDTH, latent_channels))

    def decoder() -> nn.Sequential:
        layers: list[nn.Module] = [conv(latent_channels, WIDTH), nn.ReLU()]
        for level in range(1, LEVELS):
            layers.extend(Block(pooled=level == 1) for _ in range(3))
            layers.extend([nn.Upsample(scale_factor=2), conv(WIDTH, WIDTH, bias=False)])
        return nn.Sequential(*layers, Block(pooled=False), conv(WIDTH, 3))

    with torch.device("meta"):
        model = nn.Module()
        model.encoder, model.decoder = encoder(), decoder()
    return model


def _whole(stored: Mapping[Path, bytes]) -> dict[str, torch.Tensor]:
    """Weights by this file's keys ``encoder.<n>…`` and ``decoder.<n>…``."""
    from safetensors import SafetensorError

    ((path, content),) = stored.items()
    try:
        found = tensors_in(content)
    except SafetensorError as error:
        raise VaeError(f"{path} cannot be read as safetensors: {error}") from error
    return {key.replace(".layers.", ".", 1): numbers for key, numbers in found.items()}


def _halves(stored: Mapping[Path, bytes]) -> dict[str, torch.Tensor]:
    """Weights by this file's keys; the decoder's counting there begins with the clamp, which holds none."""
    encoder, decoder = (_tensors(path, content) for path, content in stored.items())
    weights = {f"encoder.{key}": numbers for key, numbers in encoder.items()}
    for key, numbers in decoder.items():
        place, _, rest = key.partition(".")
        weights[f"decoder.{int(place) - 1 if place.isdigit() else place}.{rest}"] = numbers
    return weights


def _tensors(path: Path, content: bytes) -> Mapping[str, torch.Tensor]:
    """The tensors in a .pth file. ``weights_only`` lets torch build tensors and nothing else from it."""
    import io
    import pickle

    import torch

    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise VaeError(f"{path} cannot be read as weights: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(found, Mapping) or not all(isinstance(numbers, torch.Tensor) for numbers in found.values()):
        raise VaeError(f"{path} holds no weights: expected tensors by name.")
    return found
