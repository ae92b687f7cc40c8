"""LatentLoader: batches of a LatentDataset, read in this process, in an order that can be continued anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.ahead import ahead
from latentstore.epochs import SHUFFLES, balanced_weights, weighted
from latentstore.errors import RequestError
from latentstore.host_memory import available_memory
from latentstore.row_memory import Recycled
from latentstore.row_numbers import one_a_row

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.load import LatentDataset
    from latentstore.stream import StreamedLatents, StreamedLoader

BLOCK_BYTES = 16 << 20
"""Of the rows in one block of a block shuffle: a row group's worth."""
BALANCED = "balanced"
Batch = dict[str, Any]
DECISIVE = {
    "data": "other data, another split or another filter",
    "rows": "another number of rows",
    "seed": "another seed",
    "shuffle": "another way to shuffle",
    "weights": "other weights",
    "block_rows": "blocks of another size",
}
"""What decides about the order of rows, in the state of a loader that has it."""


class LatentLoader:
    """Batches of a LatentDataset. Each ``iter()`` is one epoch, a pure function of (seed, epoch, rank, world size).

    Every row is in exactly one batch of one rank; the last batches may be smaller (``drop_last`` leaves them out, for
    all ranks alike). A batch is a dict: ``latent`` (N, C, h, w), ``label`` (N,) int64 and the columns asked for. It is
    yours: its memory is used again only when nothing refers to it, or to a view of it, any more.

    Of a dataset that draws views (see ``load_latents``) a row is a picture: each epoch draws one of its views, a pure
    function of (seed, epoch, picture), the same for every rank and wherever the epoch is continued.

    ``state_dict`` and ``load_state_dict`` continue an epoch with its next row.
    """

    def __init__(
        self,
        dataset: LatentDataset,
        *,
        batch_size: int = 64,
        shuffle: bool | str = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        pad: bool = False,
        prefetch: int = 0,
        pin_memory: bool | None = None,
        weights: str | Sequence[float] | NDArray[Any] | None = None,
    ) -> None:
        """See ``LatentDataset.loader``."""
        check_loader(len(dataset), batch_size, rank, world_size, prefetch, drop_last=drop_last)
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = _shuffle_name(dataset, shuffle)
        """``none``, ``full`` or ``block``: what was asked for, or what the size of the data allows."""
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        """Of the next ``iter()``."""
        self._drop_last = drop_last
        self._pad = pad
        self._prefetch = prefetch
        self._pin = pinned(pin_memory, prefetch)
        self.weights = weights_of(dataset, weights)
        """One a row, where rows are drawn with replacement."""
        self._start = 0
        """Rows of the next epoch that all ranks have had before."""
        self._state = (0, 0)
        """Epoch and rows of it that all ranks have had, after the last batch that was taken."""
        self._pools: dict[str, Recycled] = {}

    def __len__(self) -> int:
        """Batches of a whole epoch for this rank; one that is continued gives the rest of them."""
        return self._batches(len(self.dataset))

    def __iter__(self) -> Iterator[Batch]:
        """The next epoch, or the rest of the one that ``load_state_dict`` went back to."""
        epoch, start = self.epoch, self._start
        self.epoch, self._start = epoch + 1, 0
        self._state = (epoch, start)
        batches = self._of_epoch(epoch, start)
        with closing(ahead(batches, self._prefetch) if self._prefetch else batches) as found:
            for done, batch in found:
                self._state = (epoch, done)
                yield batch
        self._state = (epoch + 1, 0)

    def order(self, epoch: int, done: int = 0) -> NDArray[np.int64]:
        """The rows of this rank in the order of an epoch, without the first ``done`` of all ranks."""
        total = len(self.dataset)
        random = np.random.default_rng([self.seed, epoch])
        if self.weights is not None:
            rows = weighted(random, self.weights)
        else:
            rows = SHUFFLES[self.shuffle].order(random, total, self._block_rows)
        rows = rows[done:]
        if self._pad and len(rows) % self.world_size:
            rows = np.resize(rows, -(-len(rows) // self.world_size) * self.world_size)
        return rows[self.rank :: self.world_size]

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, as plain JSON: after a batch was taken, the next one of the same epoch follows.

        With several ranks each must have taken as many rows; the state of any of them then stands for all.
        """
        return state_of(self, *self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was called, with the same rows in the same order.

        With another batch size or number of ranks, too: what was taken is not given again, and everything else is given
        once. RequestError where the state is that of other data, another seed, other weights or another way to
        shuffle.
        """
        check_state(self.state_dict(), state)
        self.epoch, self._start = self._state = (int(state["epoch"]), int(state["done"]))

    @property
    def _block_rows(self) -> int:
        return max(1, BLOCK_BYTES // self.dataset.row_bytes)

    def _batches(self, left: int) -> int:
        """Of this rank, for so many rows of all ranks."""
        if self._drop_last:  # as many for every rank, so that none waits for the others
            return left // self.world_size // self.batch_size
        mine = -(-left // self.world_size) if self._pad else len(range(self.rank, left, self.world_size))
        return -(-mine // self.batch_size)

    def _of_epoch(self, epoch: int, done: int) -> Generator[tuple[int, Batch], None, None]:
        """(rows of all ranks that are done after it, batch) for each batch that is left."""
        total, size = len(self.dataset), self.batch_size
        rows = self.order(epoch, done)
        reading = self.dataset.reading(rows, (self.seed, epoch))
        for number in range(self._batches(total - done)):
            start, stop = number * size, min(len(rows), (number + 1) * size)
            batch = reading.batch(start, stop, self._output)
            yield min(total, done + stop * self.world_size), batch

    def _output(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory for one batch, its first dimension the batch's."""
        import torch

        if self._pin and name == "latent":  # torch keeps pinned memory until the copy to the device is over
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = Recycled((self.batch_size, *shape[1:]), dtype)
        found = pool.take()
        return found if shape[0] == self.batch_size else found[: shape[0]]


def state_of(loader: LatentLoader | StreamedLoader, epoch: int, done: int) -> dict[str, Any]:
    """What every loader says of where it is: after ``done`` rows of an epoch, and of which order that is true."""
    return {
        "epoch": epoch,
        "done": done,
        "seed": loader.seed,
        "shuffle": loader.shuffle,
        "rows": len(loader.dataset),
        "data": loader.dataset.fingerprint,
        "weights": None if loader.weights is None else hashlib.sha256(loader.weights.tobytes()).hexdigest()[:16],
    }


def check_state(own: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """RequestError where a state is none, or that of a loader which gives other rows, or in another order."""
    missing = sorted(set(own) - set(state))
    if missing:
        raise RequestError(f"This is no state of such a loader: it lacks {', '.join(missing)}.")
    for name, why in DECISIVE.items():
        here, there = own.get(name), state.get(name)
        if here != there:
            raise RequestError(
                f"This state was made with {why} ({name} {there!r}, here {here!r}): the order of the rows is not the "
                "same, so there is no next row."
            )


def check_loader(
    rows: int, batch_size: int, rank: int, world_size: int, prefetch: int, *, drop_last: bool = False
) -> None:
    """RequestError where there can be no loader of so many rows with these numbers."""
    for name, number in {
        "batch_size": batch_size,
        "rank": rank,
        "world_size": world_size,
        "prefetch": prefetch,
    }.items():
        if not hasattr(number, "__index__"):
            raise RequestError(f"Expected a whole number as {name}, found {number!r}.")
    if batch_size < 1:
        raise RequestError(f"Expected a batch_size of 1 or more, found {batch_size}.")
    if world_size < 1:
        raise RequestError(f"Expected a world_size of 1 or more, found {world_size}.")
    if not 0 <= rank < world_size:
        raise RequestError(f"Expected a rank from 0 to world_size - 1 = {world_size - 1}, found {rank}.")
    if rows == 0:
        raise RequestError("There are no rows to load: the split is empty, or the filter takes none; choose another.")
    if rows < world_size:
        raise RequestError(
            f"{world_size} ranks cannot share {rows} rows, at least one row a rank is needed: use {rows} ranks or "
            "fewer."
        )
    if prefetch < 0:
        raise RequestError(f"Expected 0 or more batches to prefetch, found {prefetch}.")
    if drop_last and rows // world_size < batch_size:
        raise RequestError(
            f"drop_last leaves no batch of {batch_size}, a rank has {rows // world_size} rows: use a smaller "
            "batch_size, or leave out drop_last."
        )


def _shuffle_name(dataset: LatentDataset, shuffle: bool | str) -> str:
    if isinstance(shuffle, str):
        return SHUFFLES[shuffle].name
    if not shuffle:
        return "none"
    return "full" if dataset.in_memory or dataset.bytes_mapped <= available_memory() else "block"


def pinned(asked: bool | None, prefetch: int) -> bool:
    """Whether batches are to lie in pinned memory; RequestError where that is asked for and cannot be."""
    import torch

    available = torch.cuda.is_available()
    if asked and not available:
        raise RequestError("There is no CUDA device here, so memory cannot be pinned: leave out pin_memory.")
    return available and prefetch > 0 if asked is None else asked


def weights_of(
    dataset: LatentDataset | StreamedLatents, weights: str | Sequence[float] | NDArray[Any] | None
) -> NDArray[np.float64] | None:
    """One finite number a row, not below zero, as they were asked for; RequestError where they are not."""
    if weights is None:
        return None
    if isinstance(weights, str):
        if weights != BALANCED:
            raise RequestError(f"Expected weights to be one number a row, or {BALANCED!r}, found {weights!r}.")
        return balanced_weights(dataset.labels)
    found = one_a_row(weights, len(dataset), "weight")
    if not np.isfinite(found).all() or (found < 0).any() or found.sum() <= 0:
        raise RequestError("Expected weights that are finite, not below zero and not all zero.")
    return found
