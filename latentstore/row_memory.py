"""The rows of a split in memory: gathered from all of its shards in one call, into memory that is used again.

Every shard is mapped (or, where it is compressed, decoded once), so each row's numbers lie at an address. One window
over all of these addresses makes a batch from any shards a single gather, in C and without a copy in between. A fresh
output of several megabytes for each batch would cost more than the gather itself, in page faults; so outputs are used
again, once nothing refers to them any more.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import DamagedShardError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.normalisation import Normalisation
    from latentstore.storage.interface import Storage

KEPT = 8
"""Outputs of one kind that are kept to be used again, at most."""


@dataclass(frozen=True)
class RowPart:
    """Some rows that lie in one piece of memory."""

    memory: NDArray[np.uint8]
    """Mapped or allocated bytes."""
    offsets: NDArray[np.int64]
    """(rows,): where in it each row's numbers begin."""


class RowMemory:
    """Rows of several parts, by number: those of the first part first."""

    def __init__(self, parts: Sequence[RowPart], row_bytes: int) -> None:
        import torch

        self._parts = tuple(part for part in parts if len(part.offsets))  # keeps the memory alive
        self.row_bytes = row_bytes
        starts = [part.memory.ctypes.data for part in self._parts]
        for part in self._parts:
            if part.offsets.min() < 0 or part.offsets.max() + row_bytes > len(part.memory):
                raise DamagedShardError("A shard says of a row that it lies outside of the file: it was changed.")
        base = min(starts, default=0)
        ends = [start + len(part.memory) for start, part in zip(starts, self._parts, strict=True)]
        span = max(ends, default=0) - base
        offsets = [part.offsets + (start - base) for start, part in zip(starts, self._parts, strict=True)]
        self.addresses = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *offsets]))
        """(rows,) int64: offset of each row in the window, for ``gather``."""
        # The window also spans what lies between the parts; no address leads there.
        whole = (ctypes.c_uint8 * span).from_address(base) if span else (ctypes.c_uint8 * 0)()
        flat = torch.from_numpy(np.ctypeslib.as_array(whole))
        self._window = flat.as_strided((max(0, span - row_bytes + 1), row_bytes), (1, 1))

    def gather(self, addresses: torch.Tensor, out: torch.Tensor) -> None:
        """Copy the bytes at these addresses to ``out`` (N, row_bytes) uint8."""
        import torch

        torch.index_select(self._window, 0, addresses, out=out)


class Recycled:
    """Tensors of one shape and dtype in memory that is used again.

    Whoever got one owns it: its memory is only used again when neither the tensor nor any view of it exists any more.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        import torch

        self._shape = shape
        self._dtype = dtype
        known = dtype != torch.bfloat16  # numpy has none, but integers as wide
        self._numpy = np.dtype(str(dtype).removeprefix("torch.") if known else "int16")
        self._view = None if known else dtype
        self._arrays: list[NDArray[Any]] = [self._allocated()]
        self._free = self._holders(0)  # as many as hold an array that nobody was given

    def take(self) -> torch.Tensor:
        """One of them; what it holds is left over from whoever had it before."""
        for place in range(len(self._arrays)):
            if self._holders(place) == self._free:
                return self._tensor(self._arrays[place])
        if len(self._arrays) == KEPT:  # someone collects them: those are theirs
            self._arrays.pop(0)
        self._arrays.append(self._allocated())
        return self._tensor(self._arrays[-1])

    def _allocated(self) -> NDArray[Any]:
        return np.empty(self._shape, self._numpy)

    def _holders(self, place: int) -> int:
        # A tensor made from an array, and all of its views, hold the array until the last of them is gone.
        return sys.getrefcount(self._arrays[place])

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        import torch

        tensor = torch.from_numpy(array)
        return tensor if self._view is None else tensor.view(self._view)


class Conversion:
    """Stored numbers to latents in the wanted space and dtype, in one pass over a batch that stays in the cache."""

    def __init__(
        self,
        storage: Storage,
        normalisation: Normalisation | None,
        latent_shape: tuple[int, int, int],
        dtype: torch.dtype,
    ) -> None:
        """``normalisation`` is None for raw latents; ``latent_shape`` is (C, h, w) of the stored ones."""
        import torch

        self._shape = latent_shape
        self._dtype = dtype
        self._stored = _torch_dtype(storage.dtype)
        self._patch = normalisation.patch if normalisation is not None else 1
        self._zero, steps = storage.zero, storage.steps
        self._steps = None if steps is None else torch.tensor(steps)[:, None, None]
        channels, height, width = latent_shape
        gain, offset = normalisation.affine(channels) if normalisation is not None else (np.ones(1), np.zeros(1))
        self._gain = torch.from_numpy(gain).float()[:, None, None] if (gain != 1).any() else None
        self._offset = torch.from_numpy(offset).float()[:, None, None] if (offset != 0).any() else None
        patch = self._patch
        self.shape = (channels * patch**2, height // patch, width // patch)
        """(C', h', w') of the latents it makes."""
        self._scratch: dict[int, Recycled] = {}

    def __call__(self, stored: torch.Tensor, out: torch.Tensor) -> None:
        """Latents (N, C', h', w') in ``out`` of stored bytes (N, row_bytes) uint8."""
        import torch

        count, patch = len(stored), self._patch
        channels, height, width = self._shape
        found = out if self._dtype == torch.float32 else self._scratch_like(out)
        numbers = stored.view(self._stored)
        if patch == 1:
            found.copy_(numbers.view(found.shape))
        else:
            cells = numbers.view(count, channels, height // patch, patch, width // patch, patch)
            inner = found.view(count, channels, patch, patch, height // patch, width // patch)
            inner.copy_(cells.permute(0, 1, 3, 5, 2, 4))
        if self._zero:
            found.sub_(self._zero)
        if self._steps is not None:
            found.view(count, channels, patch * patch, -1).mul_(self._steps)
        if self._gain is not None:
            found.mul_(self._gain)
        if self._offset is not None:
            found.add_(self._offset)
        if found is not out:
            out.copy_(found)

    def _scratch_like(self, out: torch.Tensor) -> torch.Tensor:
        import torch

        pool = self._scratch.setdefault(len(out), Recycled(tuple(out.shape), torch.float32))
        return pool.take()


def _torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    import torch

    found: torch.dtype = getattr(torch, dtype.name)
    return found
