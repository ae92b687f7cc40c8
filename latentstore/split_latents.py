"""The stored latents of one split: shards mapped or decoded, and each row checked when it is first read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.decoded_cache import DecodedCache, default_cache
from latentstore.errors import DamagedShardError
from latentstore.hashing import crc32_of, sha256_of
from latentstore.host_memory import available_memory
from latentstore.row_memory import RowMemory, RowPart

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.containers.interface import ShardReader
    from latentstore.store import LatentStore

MEMORY_SHARE = 2
"""Decoded shards may take one part in so many of the memory that is free."""


class SplitLatents:
    """Rows of one split by number. Shards are opened, and their sizes and columns checked, when it is made."""

    def __init__(
        self, store: LatentStore, split: str, checksums: NDArray[np.int64], cache: str | Path | None = None
    ) -> None:
        """``checksums`` (rows,) int64 are the CRC-32 of the rows, from the index."""
        import torch

        self.byte = torch.uint8
        self._store = store
        self._shards = store.manifest.splits[split].shards
        self._starts = np.cumsum([0, *(shard.rows for shard in self._shards)])
        self.row_bytes = store.schema.row_values * np.dtype(store.manifest.storage.dtype).itemsize
        self._checksums = checksums
        self._checked = np.zeros(len(checksums), bool)
        self._unchecked = len(checksums)
        self._readers = [store.shard(info) for info in self._shards]
        mapped = [_part(reader) for reader in self._readers]
        self._waiting = [place for place, part in enumerate(mapped) if part is None and self._shards[place].rows]
        """Shards that are compressed and not decoded yet."""
        self._cache = _cache_for(sum(self._decoded_bytes(place) for place in self._waiting), cache)
        self.in_memory = bool(self._waiting) and self._cache is None
        self._decoded: dict[int, NDArray[np.uint8]] = {}
        self._memory = RowMemory(
            [part if part is not None else self._room(place) for place, part in enumerate(mapped)], self.row_bytes
        )

    def addresses_of(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """(len(rows),) int64: where they lie, for ``read``."""
        import torch

        return self._memory.addresses[torch.from_numpy(rows)]

    def read(self, rows: NDArray[np.int64], addresses: torch.Tensor, out: torch.Tensor) -> None:
        """Stored bytes of these rows, which lie at these addresses, in ``out`` (N, row_bytes) uint8.

        Raises DamagedShardError, naming shard and row, where they are not the ones that were written.
        """
        if self._waiting:
            self._decode(rows)
        self._memory.gather(addresses, out)
        if self._unchecked:
            self._check(rows, out)

    def _room(self, place: int) -> RowPart:
        """Where a compressed shard's rows are going to lie. Memory that is not written to takes none."""
        info = self._shards[place]
        if self._cache is None:
            memory = np.empty(self._decoded_bytes(place), np.uint8)
            self._decoded[place] = memory
        else:
            size = self._decoded_bytes(place)
            memory = self._cache.get(info.sha256, size, lambda: self._decoded_now(place))
        return RowPart(memory, np.arange(info.rows, dtype=np.int64) * self.row_bytes)

    def _decode(self, rows: NDArray[np.int64]) -> None:
        """Decode the shards of these rows, unless that was done."""
        touched = np.unique(np.searchsorted(self._starts, rows, side="right") - 1).tolist()
        for place in touched:
            if place in self._waiting:
                if self._cache is None:
                    self._decoded[place][:] = self._decoded_now(place).reshape(-1).view(np.uint8)
                self._waiting.remove(place)

    def _decoded_now(self, place: int) -> NDArray[Any]:
        info, reader = self._shards[place], self._readers[place]
        path = self._store.folder / info.path
        if sha256_of(path) != info.sha256:
            raise DamagedShardError(
                f"Shard {path} is not the one that the manifest describes: its sha256 differs, its bytes were changed; "
                "copy it there again."
            )
        return np.ascontiguousarray(reader.latents(np.arange(info.rows, dtype=np.int64)))

    def _decoded_bytes(self, place: int) -> int:
        return self._shards[place].rows * self.row_bytes

    def _check(self, rows: NDArray[np.int64], stored: torch.Tensor) -> None:
        """Compare each latent with the checksum in the index, the first time it is read.

        So no number is passed on that is not the one that was written, whatever happened to the shard: a bit that
        flipped, a shard that stands in another's place.
        """
        new = np.flatnonzero(~self._checked[rows])
        if len(new) == 0:
            return
        found = np.array(crc32_of(stored.numpy()[new]), np.int64)
        wrong = rows[new][found != self._checksums[rows[new]]]
        if len(wrong):
            shard = int(np.searchsorted(self._starts, wrong[0], side="right")) - 1
            raise DamagedShardError(
                f"Shard {self._store.folder / self._shards[shard].path}, row {wrong[0] - self._starts[shard]}: its "
                "latent is not the one that was written (the CRC-32 in the index differs): the shard was changed or "
                f"replaced{self._where_else()}; `latentstore verify` says more."
            )
        self._checked[rows] = True
        self._unchecked = int(len(self._checked) - np.count_nonzero(self._checked))

    def _where_else(self) -> str:
        if self._cache is None:
            return ""
        return f", or its decoded copy in {self._cache.folder} was (type `latentstore cache clear`)"


def _part(reader: ShardReader) -> RowPart | None:
    found = reader.mapped()
    return None if found is None else RowPart(*found)


def _cache_for(decoded_bytes: int, cache: str | Path | None) -> DecodedCache | None:
    """Where shards are decoded to; None for memory."""
    if cache is not None:
        return DecodedCache(Path(cache).expanduser())
    if decoded_bytes <= available_memory() // MEMORY_SHARE:
        return None
    return DecodedCache(default_cache())
