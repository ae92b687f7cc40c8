"""Pictures of a store's latents, by the very VAE that made them."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

from latentstore.decoded_pictures import DecodedPictures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from latentstore.store import LatentStore
    from latentstore.vaes.interface import Vae, VaeRow

PIXELS_TOGETHER = 1 << 20
"""Of pictures that one run of the VAE decodes, 16 of 256x256: its layers take hundreds of times a picture's memory."""


class LatentDecoder:
    """Loads the VAE on first use, decodes a few pictures at a time, and keeps the last ones for another look."""

    def __init__(self, store: LatentStore, row: VaeRow | None, device: str, kept_bytes: int, *, trust: bool) -> None:
        """``row`` and ``trust`` as in ``LatentStore.load_vae``; up to ``kept_bytes`` of pictures are kept."""
        self.kept = DecodedPictures(kept_bytes)
        self._store = store
        self._row = row
        self._device = device
        self._trust = trust
        self._vae: Vae | None = None

    @property
    def vae(self) -> Vae:
        """The recorded one; VaeError where the weights found are others, UntrustedError where nobody asked for them."""
        if self._vae is None:
            self._vae = self._store.load_vae(self._row, device=self._device, trust=self._trust)
        return self._vae

    def of_rows(self, rows: Sequence[int], raw: Callable[[Sequence[int]], torch.Tensor]) -> torch.Tensor:
        """Pictures (N, 3, H, W) in [0, 1] of these rows; ``raw`` gives the latents of some places in ``rows``."""
        return self.kept.get(rows, lambda places: self._decoded(raw(places)))

    def of_latents(self, latents: torch.Tensor, to_raw: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Pictures of latents that ``to_raw`` makes raw; those that a gradient is to reach are decoded each time."""
        import torch

        def decoded(places: Sequence[int]) -> torch.Tensor:
            return self._decoded(to_raw(latents[list(places)].float()))

        if latents.requires_grad and torch.is_grad_enabled():
            return decoded(range(len(latents)))
        return self.kept.get(_digests(latents), decoded)

    def _decoded(self, raw: torch.Tensor) -> torch.Tensor:
        import torch

        vae = self.vae
        pixels = raw.shape[-2] * raw.shape[-1] * self._store.manifest.vae.stride**2
        parts = raw.split(max(1, PIXELS_TOGETHER // pixels))  # type: ignore[no-untyped-call]
        runs = [vae.decode(part) for part in parts]
        pictures = runs[0] if len(runs) == 1 else torch.cat(runs)
        height, width = self._true_size
        return pictures[..., : height or pictures.shape[-2], : width or pictures.shape[-1]]

    @cached_property
    def _true_size(self) -> tuple[int, int]:
        """(height, width) of every picture, 0 where they differ."""
        index = self._store.checked_index(["height", "width"])
        sizes = set(zip(index["height"], index["width"], strict=True))
        return sizes.pop() if len(sizes) == 1 else (0, 0)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process loads its own VAE.
        return {**self.__dict__, "_vae": None}


def _digests(latents: torch.Tensor) -> list[tuple[str, bytes]]:
    """What tells each of these latents from any other: dtype and a digest of its numbers."""
    import torch

    stored = latents.detach().cpu().contiguous().view(torch.uint8).numpy()
    return [(str(latents.dtype), hashlib.blake2b(one.tobytes(), digest_size=16).digest()) for one in stored]
