"""The batch size a VAE is fastest with here: measured once, then a part of the plan like one that was typed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from latentstore.errors import SourceError
from latentstore.pixels import batch_of
from latentstore.records import Tile
from latentstore.safe_compute import is_out_of_memory

if TYPE_CHECKING:
    import torch

    from latentstore.pictures import PictureReader
    from latentstore.vaes.interface import Vae

LARGEST = 256
WORTH = 1.05
"""A larger batch is taken where it is at least so much faster, a picture: it takes more memory in any case."""


def fastest_batch_size(reader: PictureReader, vae: Vae) -> int:
    """The size, of 1, 2, 4 … 256, after which two doublings gain less than 5 % or memory is short.

    Measured with encode and decode of the plan's first usable picture, repeated. Memory is to spare: where a size
    fits, twice as much was tried, or is the limit of its own.
    """
    import torch

    one = batch_of([_first(reader)], reader.rows.padded).pixels
    best, fastest, size, misses = 1, 0.0, 1, 0
    while size <= LARGEST and misses < 2:
        batch = one.expand(size, -1, -1, -1).contiguous()
        try:
            _seconds(vae, batch)  # kernels are chosen, and memory is asked for, in the first run
            pace = size / min(_seconds(vae, batch), _seconds(vae, batch))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            best = max(1, min(best, size // 4))  # the lanes of a build hold more than one batch at a time
            break
        misses = 0 if pace > WORTH * fastest else misses + 1
        if misses == 0:
            best, fastest = size, pace
        size *= 2
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return best


def _seconds(vae: Vae, batch: torch.Tensor) -> float:
    began = time.perf_counter()
    vae.decode(vae.encode(batch).mean).cpu()  # waits for an accelerator
    return time.perf_counter() - began


def _first(reader: PictureReader) -> Tile:
    for split, rows in reader.rows.splits.items():
        for tile in reader.tiles(split, range(len(rows))):
            if isinstance(tile, Tile):
                return tile
    raise SourceError(f"Source {reader.plan.source.name!r} has no picture that can be used.")
