"""Which rows of a dataset that lies elsewhere come when: blocks in random order, mixed in pools, shared between ranks.

A block is what is fetched at once: a run of neighbouring rows of one shard. An epoch is a pure function of (seed,
epoch, rank, world size): all blocks are permuted; each goes, in that order, to the rank that has the fewest rows so
far, so no block is fetched by two ranks, every row is given once, and the ranks have almost as many rows; and each
rank permutes the rows inside pools of ``POOL_BLOCKS`` of its blocks.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latentstore.epochs import POOL_BLOCKS

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Blocks:
    """The wanted rows of a split, cut into blocks."""

    bounds: NDArray[np.int64]
    """(blocks + 1,): block b holds the wanted rows from number bounds[b] to before bounds[b + 1]."""
    shards: NDArray[np.int64]
    """(blocks,): in which shard of the split it lies."""

    def __len__(self) -> int:
        return len(self.shards)

    def rows_of(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the wanted rows of these blocks, one block after another."""
        return np.concatenate([np.arange(self.bounds[block], self.bounds[block + 1]) for block in blocks.tolist()])

    def counts(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Wanted rows in each of these blocks."""
        return self.bounds[blocks + 1] - self.bounds[blocks]


def cut(wanted: NDArray[np.int64], shard_rows: Sequence[int], block_rows: int) -> Blocks:
    """Blocks of the wanted rows (which increase) of shards of so many rows; none where no row of it is wanted."""
    starts = np.cumsum([0, *shard_rows])
    shards = np.searchsorted(starts, wanted, side="right") - 1
    within = (wanted - starts[shards]) // block_rows
    first = np.flatnonzero((np.diff(shards, prepend=-1) != 0) | (np.diff(within, prepend=-1) != 0))
    return Blocks(np.append(first, len(wanted)).astype(np.int64), shards[first].astype(np.int64))


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
    """Numbers of the wanted rows of a rank in the order of an epoch, pool by pool, without the first ``done``.

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


def pieces(blocks: Blocks, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """These rows, increasing, cut where one block ends and another begins."""
    ordered = np.sort(rows)
    of_block = np.searchsorted(blocks.bounds, ordered, side="right")
    return np.split(ordered, np.flatnonzero(np.diff(of_block)) + 1)
