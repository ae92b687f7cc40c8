"""Which rows come when: the order of an epoch, a pure function of (seed, epoch), shared between ranks.

``full``: a permutation of all rows. ``block``: blocks of neighbouring rows in random order, permuted inside pools of a
few blocks, for data that does not fit the memory: neighbours are read together. ``none``: as they are stored. Rank r of
n takes every n-th row, from the r-th: so after k rows of each rank exactly the first k * n rows of the order are done,
whatever n is, and an epoch can be continued by another number of ranks.

Of a dataset that has its pictures in several views, an order is one of pictures, and each epoch draws the view in which
it gives each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from latentstore.errors import RequestError
from latentstore.named_table import NamedTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

POOL_BLOCKS = 8
"""Blocks that are mixed with each other."""
DRAWN, WEIGHTED = 1, 2
"""What tells the random numbers that draw views, or rows of a stream, from those that order rows."""


@dataclass(frozen=True)
class ShuffleRow:
    """One way to order the rows of an epoch."""

    name: str
    summary: str
    order: Callable[[np.random.Generator, int, int], NDArray[np.int64]]
    """Of so many rows, with so many in a block: (rows,) int64, each row once."""


def _none(_: np.random.Generator, total: int, __: int) -> NDArray[np.int64]:
    return np.arange(total, dtype=np.int64)


def _full(random: np.random.Generator, total: int, _: int) -> NDArray[np.int64]:
    return random.permutation(total).astype(np.int64, copy=False)


def _block(random: np.random.Generator, total: int, size: int) -> NDArray[np.int64]:
    starts = random.permutation(-(-total // size)) * size
    pools = []
    for first in range(0, len(starts), POOL_BLOCKS):
        blocks = [np.arange(start, min(total, start + size)) for start in starts[first : first + POOL_BLOCKS].tolist()]
        pools.append(random.permutation(np.concatenate(blocks)))
    return np.concatenate([np.empty(0, np.int64), *pools]).astype(np.int64, copy=False)


SHUFFLES = NamedTable(
    "shuffle",
    [
        ShuffleRow("none", "as the rows are stored", _none),
        ShuffleRow("full", "a permutation of all rows", _full),
        ShuffleRow("block", "blocks of neighbours in random order, mixed in pools", _block),
    ],
)


@dataclass(frozen=True)
class DrawnViews:
    """Pictures of which each epoch gives one row: one of the views in which they are stored."""

    rows: NDArray[np.int64]
    """Every row that may be given; those of one picture are neighbours."""
    starts: NDArray[np.int64]
    """(pictures,): where in ``rows`` those of each picture begin."""
    numbers: NDArray[np.int64]
    """(pictures,): which picture of the split it is."""
    total: int
    """Pictures of the split."""

    @classmethod
    def of(cls, pictures: Sequence[str], rows: NDArray[np.int64]) -> DrawnViews:
        """Of the picture behind every row of a split, and the rows (ascending) that may be given."""
        changes = [True, *(one != other for one, other in pairwise(pictures))]
        numbers = np.cumsum(changes, dtype=np.int64) - 1
        starts = np.flatnonzero(np.diff(numbers[rows], prepend=-1))
        return cls(rows, starts, numbers[rows[starts]], int(numbers[-1]) + 1)

    def __len__(self) -> int:
        return len(self.starts)

    def drawn(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """(pictures,) int64: the row of each picture in an epoch, all of its views with the same chance.

        Which one depends on seed, epoch and the picture's place in the split; not on which others may be given.
        """
        chances = np.random.default_rng([seed, epoch, DRAWN]).random(self.total)[self.numbers]
        counts = np.diff(self.starts, append=len(self.rows))
        return self.rows[self.starts + (chances * counts).astype(np.int64)]


def weighted(random: np.random.Generator, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """As many rows as there are weights, drawn with replacement, each with a chance in proportion to its weight."""
    return random.choice(len(weights), size=len(weights), p=weights / weights.sum()).astype(np.int64, copy=False)


def balanced_weights(labels: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights with which every class is drawn as often as any other; rows without a class (-1) are never drawn."""
    found = np.asarray(labels, np.int64)
    if not (found >= 0).any():
        raise RequestError("No row has a label, so classes cannot be balanced: give weights of your own.")
    counts = np.bincount(found[found >= 0])
    return np.where(found >= 0, 1 / np.maximum(counts, 1)[np.maximum(found, 0)], 0.0)
