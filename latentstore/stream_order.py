"""Which rows of a dataset that lies elsewhere come when: blocks in random order, mixed in pools, shared between ranks.

A block is what is fetched at once: a run of neighbouring rows of one shard. An epoch is a pure function of (seed,
epoch, rank, world size): all blocks are permuted; each goes, in that order, to the rank that has the fewest rows so
far, so no block is fetched by two ranks, every row is given once, and the ranks have almost as many rows; and each
rank permutes the rows inside pools of ``POOL_BLOCKS`` of its blocks.

An epoch that so many ranks began can be ended by any other number of them: what the first ones had is known from how
many rows each has given, and what is left is cut into blocks and shared anew. An epoch is then a pure function of
(seed, epoch, the ranks and their rows before, rank, world size).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from latentstore.epochs import POOL_BLOCKS

if TYPE_CHECKING:
    from numpy.typing import NDArray


POOLED = 3
"""What tells the random numbers that mix pools from those that order blocks, draw views and draw rows."""


@dataclass(frozen=True)
class Blocks:
    """Rows that are to be given, by their number among the wanted rows of a split, cut into blocks."""

    rows: NDArray[np.int64]
    """They do not decrease: one that is drawn twice stands there twice."""
    bounds: NDArray[np.int64]
    """(blocks + 1,): block b holds rows[bounds[b]:bounds[b + 1]]."""
    shards: NDArray[np.int64]
    """(blocks,): in which shard of the split it lies."""

    def __len__(self) -> int:
        return len(self.shards)

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """(blocks,): the first row of each."""
        return self.rows[self.bounds[:-1]]

    def rows_of(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of these blocks, one block after another."""
        found = [self.rows[self.bounds[block] : self.bounds[block + 1]] for block in blocks.tolist()]
        return np.concatenate([np.empty(0, np.int64), *found])

    def counts(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows in each of these blocks."""
        return self.bounds[blocks + 1] - self.bounds[blocks]

    def only(self, rows: NDArray[np.int64]) -> Blocks:
        """The same blocks with these of their rows alone, which do not decrease; those without any are left out."""
        of_block = np.searchsorted(self.first, rows, side="right") - 1
        starts = np.flatnonzero(np.diff(of_block, prepend=-1))
        return Blocks(rows, np.append(starts, len(rows)).astype(np.int64), self.shards[of_block[starts]])


def cut(wanted: NDArray[np.int64], shard_rows: Sequence[int], block_rows: int) -> Blocks:
    """Blocks of the wanted rows (which increase) of shards of so many rows; none where no row of it is wanted."""
    starts = np.cumsum([0, *shard_rows])
    shards = np.searchsorted(starts, wanted, side="right") - 1
    within = (wanted - starts[shards]) // block_rows
    first = np.flatnonzero((np.diff(shards, prepend=-1) != 0) | (np.diff(within, prepend=-1) != 0))
    bounds = np.append(first, len(wanted)).astype(np.int64)
    return Blocks(np.arange(len(wanted), dtype=np.int64), bounds, shards[first].astype(np.int64))


def shares(blocks: Blocks, seed: int, epoch: int, world_size: int, *, shuffled: bool) -> list[NDArray[np.int64]]:
    """The blocks of each rank, in the order of an epoch."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(blocks)) if shuffled else np.arange(len(blocks))
    if world_size == 1:
        return [order.astype(np.int64, copy=False)]
    found: list[list[int]] = [[] for _ in range(world_size)]
    waiting = [(0, rank) for rank in range(world_size)]
    for block, count in zip(order.tolist(), blocks.counts(order).tolist(), strict=True):
        rows, rank = waiting[0]
        found[rank].append(block)
        heapq.heapreplace(waiting, (rows + count, rank))
    return [np.array(mine, np.int64) for mine in found]


def pools(
    blocks: Blocks, mine: NDArray[np.int64], random_key: Sequence[int], done: int, *, shuffled: bool
) -> Iterator[NDArray[np.int64]]:
    """The rows of a rank in the order of an epoch, pool by pool, without the first ``done``.

    ``mine`` are the blocks of the rank; ``random_key`` is what the permutations depend on. Without shuffling each block
    is a pool of its own.
    """
    size = POOL_BLOCKS if shuffled else 1
    for number, first in enumerate(range(0, len(mine), size)):
        group = mine[first : first + size]
        count = int(blocks.counts(group).sum())
        if done >= count:
            done -= count
            continue
        rows = blocks.rows_of(group)
        if shuffled:
            rows = np.random.default_rng([*random_key, number]).permutation(rows)
        yield rows[done:]
        done = 0


def padded(
    blocks: Blocks, mine: NDArray[np.int64], random_key: Sequence[int], done: int, total: int, *, shuffled: bool
) -> Iterator[NDArray[np.int64]]:
    """As ``pools``, but ``total`` rows with those that are done: who has fewer begins again with its first ones."""
    own = int(blocks.counts(mine).sum())
    left, skipped = total - done, done % own
    while left > 0:
        for rows in pools(blocks, mine, random_key, skipped, shuffled=shuffled):
            yield rows[:left]
            left -= len(rows)
            if left <= 0:
                return
        skipped = 0


def left_over(blocks: Blocks, seed: int, epoch: int, stages: Sequence[tuple[int, int]], *, shuffled: bool) -> Blocks:
    """The blocks with the rows that are left of an epoch after all of these stages.

    A stage is (world size, rows): so many ranks have each given so many rows of what the stages before had left.
    """
    for world_size, done in stages:
        found = [np.empty(0, np.int64)]
        for rank, mine in enumerate(shares(blocks, seed, epoch, world_size, shuffled=shuffled)):
            found += pools(blocks, mine, pool_key(seed, epoch, rank), done, shuffled=shuffled)
        blocks = blocks.only(np.sort(np.concatenate(found)))
    return blocks


def pool_key(seed: int, epoch: int, rank: int) -> tuple[int, ...]:
    """What the permutations inside a rank's pools depend on."""
    return seed, epoch, POOLED, rank


def pieces(blocks: Blocks, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """These rows, each once and increasing, cut where one block ends and another begins."""
    ordered = np.unique(rows)
    of_block = np.searchsorted(blocks.first, ordered, side="right")
    return np.split(ordered, np.flatnonzero(np.diff(of_block)) + 1)
