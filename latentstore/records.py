"""What flows between the stages of a build: frozen records, each named for what it is.

READ     source row        -> Tile | SkippedTile
PREPARE  tiles             -> PixelBatch
ENCODE   PixelBatch        -> LatentBatch
STORE    LatentBatch       -> stored numbers, re-read
MEASURE  stored numbers    -> scores, one a tile
SHELVE   LatentRecord      -> rows of a shard
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Tile:
    """One picture as its source gives it: uint8, RGB, true size."""

    id: str
    """Unique within the source: the source path without its suffix (with it where two would collide)."""
    pixels: NDArray[np.uint8]
    """(H, W, 3) uint8, 0..255."""
    label: int | None
    """Index into the source's class names; None where the source has no classes."""
    source_path: str
    """Path inside the source, with '/' between its parts."""
    source_sha256: str
    """Of the source file's bytes; of the raw pixels where there is no file."""
    source_bytes: int
    """Size of the source file in bytes; 0 where there is no file."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Every further column of the source, passed through."""
    conversions: tuple[str, ...] = ()
    """What had to be done to get RGB uint8 pixels ("palette to RGB", "16 bit to 8"); empty if nothing."""


@dataclass(frozen=True)
class SkippedTile:
    """A picture that could not be used, and why. It flows on like any other and ends in the manifest."""

    id: str
    source_path: str
    reason: str


@dataclass(frozen=True)
class PixelBatch:
    """Pictures of one size, ready for a VAE."""

    pixels: torch.Tensor
    """(N, 3, H, W) float32 in [0, 1]; H and W are multiples of the VAE's stride."""
    tiles: tuple[Tile, ...]
    """Where each came from; ``tiles[i].pixels`` is the prepared picture at its true size, before padding."""


@dataclass(frozen=True)
class LatentBatch:
    """What a VAE's encoder gives, before any scale."""

    mean: torch.Tensor
    """(N, C, h, w) float32: the posterior mean, or the latent itself where the encoder has no posterior."""
    std: torch.Tensor | None = None
    """(N, C, h, w) float32: the posterior's standard deviation; None where there is none."""


@dataclass(frozen=True)
class LatentRecord:
    """One row of a shard."""

    id: str
    latent: NDArray[Any]
    """(C, h, w) in the storage's dtype: exactly the numbers that are written."""
    label: int | None
    height: int
    """Of the true picture, in pixels."""
    width: int
    source_path: str
    source_sha256: str
    source_bytes: int
    scores: Mapping[str, float]
    """One number a metric; NaN where the metric is undefined for this picture."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    thumbnail: bytes | None = None
    """A WebP file of the decoded latent; None where the schema has no such column."""


def record_of(
    tile: Tile, latent: NDArray[Any], scores: Mapping[str, float], thumbnail: bytes | None = None
) -> LatentRecord:
    """The row of a prepared picture; ``latent`` (C, h, w) in the storage's dtype."""
    return LatentRecord(
        id=tile.id,
        latent=latent,
        label=tile.label,
        height=tile.pixels.shape[0],
        width=tile.pixels.shape[1],
        source_path=tile.source_path,
        source_sha256=tile.source_sha256,
        source_bytes=tile.source_bytes,
        scores=scores,
        metadata=tile.metadata,
        thumbnail=thumbnail,
    )
