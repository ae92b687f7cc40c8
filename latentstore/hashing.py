"""Digests: sha256 of a file, read in blocks so that memory does not grow with it, and CRC-32 of each latent."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def crc32_of(latents: NDArray[Any]) -> list[int]:
    """CRC-32 (as in zlib and PNG) of the bytes of each latent (C, h, w) of (N, C, h, w): little-endian, row-major."""
    stored = np.ascontiguousarray(latents, latents.dtype.newbyteorder("<"))
    return [zlib.crc32(latent.data) for latent in stored]
