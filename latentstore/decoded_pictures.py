"""Decoded pictures that are kept for another look: the least recently used go first, and bytes are what is counted."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from latentstore.errors import RequestError

if TYPE_CHECKING:
    import torch

KEPT_BYTES = 64 << 20
"""Of pictures, unless said otherwise: 85 of 256x256."""


class DecodedPictures:
    """Pictures by what they were decoded from, in at most so many bytes of the device's memory.

    Threads may share it. A process that was forked begins with none: its parent may have held the lock.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        if limit < 0:
            raise RequestError(f"Expected 0 or more picture_bytes, found {limit}.")
        self.limit = limit
        self._begin()

    @property
    def bytes(self) -> int:
        """Of all pictures that are kept."""
        return self._bytes

    def get(self, keys: Sequence[Hashable], decode: Callable[[Sequence[int]], torch.Tensor]) -> torch.Tensor:
        """Pictures (N, 3, H, W) of these keys; ``decode`` makes those that are not kept, by their places in ``keys``.

        The result is the caller's own: what is written to it changes nothing that is kept.
        """
        import torch

        found = self._kept(keys)
        places = {key: place for place, key in enumerate(keys) if found[place] is None}  # a key that comes twice: once
        if len(places) == len(keys):
            made = decode(list(places.values()))
            self._keep(places, made)
            return made
        if places:
            made = decode(list(places.values()))
            self._keep(places, made)
            fresh = dict(zip(places, made, strict=True))
            found = [fresh[key] if picture is None else picture for key, picture in zip(keys, found, strict=True)]
        return torch.stack([picture for picture in found if picture is not None])

    def __getstate__(self) -> dict[str, int]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.limit = state["limit"]
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = Lock()
        self._pictures: OrderedDict[Hashable, torch.Tensor] = OrderedDict()
        self._bytes = 0

    def _kept(self, keys: Sequence[Hashable]) -> list[torch.Tensor | None]:
        """The picture of each key, where it is kept; they count as used now."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            for key in keys:
                if key in self._pictures:
                    self._pictures.move_to_end(key)
            return [self._pictures.get(key) for key in keys]

    def _keep(self, keys: Sequence[Hashable] | dict[Hashable, int], made: torch.Tensor) -> None:
        """Keep the last of these pictures, as many as there is room for."""
        if len(made) == 0:
            return
        each = made[0].numel() * made.element_size()
        last = list(zip(keys, made, strict=True))[-(self.limit // each) :] if each <= self.limit else []
        with self._lock:
            for key, picture in last:
                if key not in self._pictures:
                    self._pictures[key] = picture.clone()  # a view would keep its whole batch
                    self._bytes += each
            while self._bytes > self.limit:
                _, gone = self._pictures.popitem(last=False)
                self._bytes -= gone.numel() * gone.element_size()
