"""Training from a dataset that lies elsewhere: latents by range requests, each row checked, in bounded memory."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from latentstore.epochs import POOL_BLOCKS, SHUFFLES, WEIGHTED, weighted
from latentstore.errors import DamagedShardError, RequestError
from latentstore.hashing import crc32_of
from latentstore.loader import Batch, check_loader, check_state, pinned, state_of, weights_of
from latentstore.row_memory import Recycled, RowMemory, RowPart
from latentstore.stream_order import Blocks, cut, left_over, padded, pieces, pool_key, pools, shares

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.containers.interface import RangedShard
    from latentstore.load import LatentDataset, Output
    from latentstore.manifest import Manifest
    from latentstore.remote_store import RemoteStore

BLOCK_BYTES = 4 << 20
"""Of the numbers in one block, where rows lie by themselves. Compressed rows come in whole row groups (16 MiB)."""
PREFETCH = POOL_BLOCKS
"""Blocks that are fetched ahead unless the caller says otherwise: the next pool, while this one is given."""
THREADS = 4
"""That fetch blocks, at most."""
READS = 2
"""Of a row that is not the one that was written, before it is given up: a bit may have flipped on the way."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class StreamedLatents:
    """Rows of one split of a dataset that lies elsewhere. ``loader`` gives them; nothing is kept on disk.

    Opening reads manifest and index; rows that ``filter`` leaves out are not fetched. Samples, spaces, dtypes, columns
    and decoding are those of ``LatentDataset``.
    """

    def __init__(self, rows: LatentDataset, store: RemoteStore) -> None:
        """``rows`` says which rows are wanted, and what is known of them without their latents."""
        self._rows = rows
        self._store = store
        manifest = store.manifest
        self._shards = manifest.splits[rows.split].shards
        self._starts = np.cumsum([0, *(shard.rows for shard in self._shards)])
        together = store.container.rows_together(store.schema, manifest.storage.layout)
        self.block_rows = max(1, BLOCK_BYTES // rows.row_bytes) if together == 1 else together
        """Neighbouring rows that are fetched at once, at most."""
        self._wanted = rows.readable
        self.blocks: Blocks = cut(self._wanted, [shard.rows for shard in self._shards], self.block_rows)
        """The rows as they are fetched: of a dataset that draws views, those in all views."""
        self._opened: dict[int, RangedShard] = {}
        self._locks = [Lock() for _ in self._shards]

    @property
    def manifest(self) -> Manifest:
        """The contract of the dataset."""
        return self._rows.manifest

    @property
    def split(self) -> str:
        """Name of the split."""
        return self._rows.split

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, h, w) of each latent in this dataset's space."""
        return self._rows.latent_shape

    @property
    def dtype(self) -> torch.dtype:
        """Of the latents in a batch."""
        return self._rows.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored latent."""
        return self._rows.row_bytes

    @property
    def labels(self) -> NDArray[np.int64]:
        """Label of each row, (N,) int64, -1 where it has none; RequestError where the source has no classes."""
        return self._rows.labels

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the labels; None where there are none."""
        return self._rows.class_names

    @property
    def fingerprint(self) -> str:
        """The same for the same rows of the same dataset: what an order of rows is about."""
        return self._rows.fingerprint

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, _: object) -> NoReturn:
        raise RequestError(
            "A streamed dataset gives its rows through loader() only, which fetches neighbours together: for single "
            "rows, or for torch's DataLoader, download the dataset and load it without streaming."
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.loader():
            for place in range(len(batch["latent"])):
                yield {name: values[place] for name, values in batch.items()}

    def loader(
        self,
        batch_size: int = 64,
        *,
        shuffle: bool | str = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        pad: bool = False,
        prefetch: int = PREFETCH,
        pin_memory: bool | None = None,
        weights: str | Sequence[float] | NDArray[Any] | None = None,
    ) -> StreamedLoader:
        """Batches of all rows, fetched while the ones before are used; see ``StreamedLoader``.

        Make it once: every ``iter()`` of one loader is the next epoch, in another order; a new one begins at the first.
        ``shuffle=True`` takes blocks in random order and mixes the rows of 8 at a time. Each of ``world_size`` ranks
        fetches other blocks; ``drop_last`` gives all ranks as many batches, and so does ``pad``, which repeats the
        first rows of a rank that has fewer than another. ``prefetch`` is how many blocks are fetched ahead.
        ``weights``, one a row, draws rows with replacement, mixed as ``shuffle=True`` does; ``"balanced"`` draws every
        class as often.
        """
        return StreamedLoader(
            self,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
            pad=pad,
            prefetch=prefetch,
            pin_memory=pin_memory,
            weights=weights,
        )

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures of latents in this dataset's space; see ``LatentDataset.decode``."""
        return self._rows.decode(latents)

    def fetch(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Stored bytes (N, row_bytes) of these rows of ``blocks``, which increase and lie in one shard.

        Each has the CRC-32 that the index says. Where one has not, they are read once more; then DamagedShardError
        names shard and row.
        """
        of_split = self._wanted[rows]
        place = int(np.searchsorted(self._starts, of_split[0], side="right")) - 1
        within = of_split - self._starts[place]
        for read in range(READS):
            try:
                return self._checked(place, within, self._rows.checksums[of_split])
            except DamagedShardError:
                self._opened.pop(place, None)
                if read == READS - 1:
                    raise
        raise AssertionError  # a loop that always ends before

    def of_epoch(self, seed: int, epoch: int, weights: NDArray[np.float64] | None = None) -> Blocks:
        """The rows that all ranks together give in an epoch: of each sample one, or as many as ``weights`` draw."""
        given = self._rows.selected(seed, epoch)  # where views are drawn, one of each picture's rows
        if weights is not None:
            given = given[np.sort(weighted(np.random.default_rng([seed, epoch, WEIGHTED]), weights))]
        elif len(given) == len(self._wanted):
            return self.blocks
        return self.blocks.only(np.searchsorted(self._wanted, given))

    def batch_of(self, stored: torch.Tensor, rows: NDArray[np.int64], output: Output) -> Batch:
        """These rows of ``blocks``, of their stored bytes (N, row_bytes), as one batch."""
        of_split = self._wanted[rows]
        scalars = self._rows.scalars_of(of_split)
        return self._rows.batch_of(lambda start, stop: stored[start:stop], of_split, scalars, output)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}, "_locks": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._locks = [Lock() for _ in self._shards]

    def _checked(self, place: int, within: NDArray[np.int64], checksums: NDArray[np.int64]) -> NDArray[np.uint8]:
        with self._locks[place]:  # threads that want rows of one shard open it once
            shard = self._opened.get(place)
            if shard is None:
                shard = self._opened[place] = self._store.ranged(self._shards[place])
        stored = shard.stored(within)
        wrong = within[np.array(crc32_of(stored), np.int64) != checksums]
        if len(wrong):
            url = self._store.files.at(self._shards[place].path)
            raise DamagedShardError(
                f"Shard {url}, row {wrong[0]}: its latent is not the one that was written (the CRC-32 in the index "
                f"differs, {READS} times): the shard was changed or replaced."
            )
        return stored


_Stages = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Place:
    """How far an epoch has come."""

    before: _Stages = ()
    """World size, and rows that each rank gave, for each number of ranks that it had before this one."""
    done: int = 0
    """Rows that each rank has given since."""


class StreamedLoader:
    """Batches of StreamedLatents. Each ``iter()`` is one epoch, a pure function of (seed, epoch, rank, world size).

    Every row is in exactly one batch of one rank, and every block is fetched by one rank, once. With ``drop_last`` all
    ranks give as many batches, and rows that are left over wait for another epoch; with ``pad`` they do because a rank
    with fewer rows gives its first ones again; with neither, one rank may give more than another.

    Of a dataset that draws views a row is a picture, in the view that the same epoch of a ``LatentLoader`` draws.

    Memory: the blocks of one pool (8 where shuffled, else 1), ``prefetch`` blocks ahead (8), one batch, and for each of
    the fetching threads (4 at most) about three times a block while it is received and decoded. A block is 4 MiB of
    numbers, or one row group (16 MiB) where they are compressed: 8 + 8 + 4 x 3 blocks are 112 MiB, or 448 MiB. The
    index, and the footers of the shards that were opened, stay in memory besides.

    ``state_dict`` and ``load_state_dict`` continue an epoch: with as many ranks at the next row of each; with another
    number of them all rows that are left are shared anew, each given once. Rows that were given are not fetched again.
    """

    def __init__(
        self,
        dataset: StreamedLatents,
        *,
        batch_size: int = 64,
        shuffle: bool | str = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        pad: bool = False,
        prefetch: int = PREFETCH,
        pin_memory: bool | None = None,
        weights: str | Sequence[float] | NDArray[Any] | None = None,
    ) -> None:
        """See ``StreamedLatents.loader``."""
        check_loader(len(dataset), batch_size, rank, world_size, prefetch, drop_last=drop_last)
        if len(dataset.blocks) < world_size:
            raise RequestError(
                f"{world_size} ranks cannot share {len(dataset.blocks)} blocks of {dataset.block_rows} rows, which are "
                "fetched as a whole: use fewer ranks, or download the dataset and load it without streaming."
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.weights = weights_of(dataset, weights)
        """One a row, where rows are drawn with replacement."""
        self.shuffle = "block" if self.weights is not None else _shuffle_name(shuffle)
        """``none`` or ``block``."""
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        """Of the next ``iter()``."""
        self._drop_last = drop_last
        self._pad = pad
        self._prefetch = prefetch
        self._start = _Place()
        """Where the next ``iter()`` begins its epoch."""
        self._state = (0, _Place())
        """Epoch and place in it after the last batch that was taken."""
        self._pin = pinned(pin_memory, prefetch)
        self._recycled: dict[str, Recycled] = {}

    def __len__(self) -> int:
        """Batches of the next epoch as a whole for this rank; one that is continued gives the rest of them."""
        return self._batches(*self._shared(self.epoch, ()), 0)

    def __iter__(self) -> Iterator[Batch]:
        """The next epoch, or the rest of the one that ``load_state_dict`` went back to."""
        epoch, place = self.epoch, self._start
        self.epoch, self._start = epoch + 1, _Place()
        self._state = (epoch, place)
        with closing(self._of_epoch(epoch, place)) as batches:
            for batch in batches:
                place = _Place(place.before, place.done + len(batch["latent"]))
                self._state = (epoch, place)
                yield batch
        self._state = (epoch + 1, _Place())

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, as plain JSON: after a batch was taken, the next one of the same epoch follows.

        With several ranks each must have taken as many rows, or all it has; the state of the one that has taken the
        most then stands for all.
        """
        epoch, place = self._state
        ranks = {"world_size": self.world_size, "before": [list(stage) for stage in place.before]}
        return {**state_of(self, epoch, place.done), **ranks, "block_rows": self.dataset.block_rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was called: no row is given again, every other row of the epoch is given once.

        In batches of any size. With as many ranks the rows come in the same order as without the break; with another
        number, what is left is shared and mixed anew, the same each time. RequestError where the state is that of other
        data, another seed, other weights or another way to shuffle.
        """
        check_state(self.state_dict(), state)
        before = tuple((int(ranks), int(done)) for ranks, done in state["before"])
        done = int(state["done"])
        if int(state["world_size"]) != self.world_size and done:
            before, done = (*before, (int(state["world_size"]), done)), 0
        self._start = _Place(before, done)
        self._state = (int(state["epoch"]), self._start)
        self.epoch = self._state[0]

    def _shared(self, epoch: int, before: _Stages) -> tuple[Blocks, list[NDArray[np.int64]]]:
        """What the ranks give of an epoch after these stages, and which of its blocks are whose."""
        shuffled = self.shuffle == "block"
        blocks = self.dataset.of_epoch(self.seed, epoch, self.weights)
        blocks = left_over(blocks, self.seed, epoch, before, shuffled=shuffled)
        return blocks, shares(blocks, self.seed, epoch, self.world_size, shuffled=shuffled)

    def _order(
        self, blocks: Blocks, shared: Sequence[NDArray[np.int64]], epoch: int, done: int
    ) -> Iterator[NDArray[np.int64]]:
        """The rows of this rank, pool by pool, without the first ``done``."""
        mine, shuffled = shared[self.rank], self.shuffle == "block"
        if not self._pad:
            return pools(blocks, mine, pool_key(self.seed, epoch, self.rank), done, shuffled=shuffled)
        most = max(int(blocks.counts(found).sum()) for found in shared)
        mine = mine if len(mine) else shared[0]  # the first rank has a row where there is any
        return padded(blocks, mine, pool_key(self.seed, epoch, self.rank), done, most, shuffled=shuffled)

    def _batches(self, blocks: Blocks, shared: Sequence[NDArray[np.int64]], done: int) -> int:
        """Of this rank, which has had so many rows."""
        rows = [int(blocks.counts(found).sum()) for found in shared]
        if self._drop_last:  # as many for every rank, so that none waits for the others
            return max(0, min(rows) - done) // self.batch_size
        mine = max(rows) if self._pad else rows[self.rank]
        return -(-max(0, mine - done) // self.batch_size)

    def _of_epoch(self, epoch: int, place: _Place) -> Generator[Batch, None, None]:
        import torch

        blocks, shared = self._shared(epoch, place.before)
        left = self._batches(blocks, shared, place.done)
        if not left:
            return
        wanted = (piece for rows in self._order(blocks, shared, epoch, place.done) for piece in pieces(blocks, rows))
        batch = _Filling(self.dataset, self._output, self.batch_size)
        with closing(in_threads(self.dataset.fetch, wanted, self._prefetch)) as fetched:
            for rows in self._order(blocks, shared, epoch, place.done):
                parts = pieces(blocks, rows)
                memory = RowMemory([_part(next(fetched)) for _ in parts], self.dataset.row_bytes)
                places = np.searchsorted(np.concatenate(parts), rows)
                addresses = memory.addresses[torch.from_numpy(places)]
                at = 0
                while at < len(rows):
                    at += batch.add(memory, addresses[at:], rows[at:])
                    if batch.full:
                        yield batch.taken()
                        left -= 1
                        if not left:
                            return
                del memory  # before the blocks of the next pool come
        if left:
            yield batch.taken()

    def _output(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory for one batch, its first dimension the batch's."""
        import torch

        if self._pin and name == "latent":  # torch keeps pinned memory until the copy to the device is over
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        if name not in self._recycled:
            self._recycled[name] = Recycled((self.batch_size, *shape[1:]), dtype)
        return self._recycled[name].take()[: shape[0]]


class _Filling:
    """A batch that is being filled, from one pool or from two."""

    def __init__(self, dataset: StreamedLatents, output: Output, size: int) -> None:
        self._dataset = dataset
        self._output = output
        self._size = size
        self._rows: list[NDArray[np.int64]] = []
        self._count = 0
        self._stored: torch.Tensor | None = None

    @property
    def full(self) -> bool:
        return self._count == self._size

    def add(self, memory: RowMemory, addresses: torch.Tensor, rows: NDArray[np.int64]) -> int:
        """Take as many of these rows as there is room for, and say how many."""
        import torch

        if self._stored is None:
            self._stored = self._output("stored", (self._size, memory.row_bytes), torch.uint8)
        taken = min(len(rows), self._size - self._count)
        memory.gather(addresses[:taken], self._stored[self._count : self._count + taken])
        self._rows.append(rows[:taken])
        self._count += taken
        return taken

    def taken(self) -> Batch:
        """The batch; another is begun."""
        rows, stored = np.concatenate(self._rows), self._stored
        assert stored is not None  # noqa: S101 (a batch has rows)
        batch = self._dataset.batch_of(stored[: self._count], rows, self._output)
        self._rows, self._count, self._stored = [], 0, None
        return batch


def in_threads(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: int,
    *,
    ending: Callable[[], bool] = sys.is_finalizing,
) -> Generator[Result, None, None]:
    """What ``work`` makes of each item, in their order; up to ``ahead`` are made before they are asked for.

    What it raises is raised at its place. Where nobody takes more, those that were begun are waited for. While the
    interpreter is ``ending`` there are no new threads, and nothing is left of them to wait for.
    """
    if not ahead:
        yield from (work(item) for item in items)
        return
    executor = ThreadPoolExecutor(min(THREADS, ahead), thread_name_prefix="latentstore-stream")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(_begun(executor, work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        if not ending():
            executor.shutdown(wait=True, cancel_futures=True)


def _begun(executor: ThreadPoolExecutor, work: Callable[[Item], Result], item: Item) -> Future[Result]:
    """Work that a thread does; this one, where the interpreter begins to end while some thread of the user goes on."""
    try:
        return executor.submit(work, item)
    except RuntimeError:
        done: Future[Result] = Future()
        done.set_result(work(item))
        return done


def _part(stored: NDArray[np.uint8]) -> RowPart:
    rows, size = stored.shape
    return RowPart(stored.reshape(-1), np.arange(rows, dtype=np.int64) * size)


def _shuffle_name(shuffle: bool | str) -> str:
    if isinstance(shuffle, bool):
        return "block" if shuffle else "none"
    if SHUFFLES[shuffle].name == "full":
        raise RequestError("A streamed dataset is shuffled in blocks, not row by row: write shuffle=True.")
    return shuffle
