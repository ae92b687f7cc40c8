"""load_latents(): a sealed dataset as batches of tensors for training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, Union, overload

import numpy as np

from latentstore.containers.arrow_features import feature_of_column
from latentstore.decoded_pictures import KEPT_BYTES
from latentstore.epochs import DrawnViews
from latentstore.errors import RequestError
from latentstore.latent_decoding import LatentDecoder
from latentstore.loader import LatentLoader
from latentstore.named_table import unknown_name
from latentstore.opening import download_store
from latentstore.pixels import tiles_behind
from latentstore.row_filter import columns_in, rows_where, shown
from latentstore.row_memory import Conversion
from latentstore.row_numbers import array_of, row_number, row_numbers
from latentstore.scalar_columns import IMAGE, columns_wanted, picked, tensor_or_list
from latentstore.split_latents import SplitLatents
from latentstore.views import IDENTITY

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch.utils.data import ConcatDataset

    from latentstore.manifest import Manifest
    from latentstore.remote_store import RemoteStore
    from latentstore.store import LatentStore
    from latentstore.stream import StreamedLatents
    from latentstore.vaes.interface import VaeRow

SPACES = ("model", "raw")
Output = Callable[[str, tuple[int, ...], "torch.dtype"], "torch.Tensor"]
"""Memory for a batch: of this name, shape and dtype."""
StoredBytes = Callable[[int, int], "torch.Tensor"]
"""Bytes (N, row_bytes) uint8 of some rows of a batch, from a first to before a last; they last until the next call."""
PIECE_BYTES = 1 << 20
"""Of stored latents that each thread reads and converts together: with what becomes of them they fit a core's cache."""
DRAW, ALL = "draw", "all"
Filter = str | Callable[[Mapping[str, Sequence[Any]]], Sequence[bool]]
Rows = Union[Sequence[int], "NDArray[Any]", "torch.Tensor", slice]
"""Rows by their numbers, or by a boolean for each."""


@overload
def load_latents(
    location: str | Path,
    config: str | None = ...,
    *,
    split: str = ...,
    space: str = ...,
    dtype: str = ...,
    columns: Sequence[str] | None = ...,
    filter: Filter | None = ...,
    decode: bool = ...,
    vae: VaeRow | None = ...,
    trust: bool = ...,
    memory_map: bool = ...,
    device: str = ...,
    picture_bytes: int = ...,
    cache: str | Path | None = ...,
    views: str | Sequence[str] = ...,
    streaming: Literal[False] = ...,
) -> LatentDataset: ...


@overload
def load_latents(
    location: str | Path,
    config: str | None = ...,
    *,
    split: str = ...,
    space: str = ...,
    dtype: str = ...,
    columns: Sequence[str] | None = ...,
    filter: Filter | None = ...,
    decode: bool = ...,
    vae: VaeRow | None = ...,
    trust: bool = ...,
    memory_map: bool = ...,
    device: str = ...,
    picture_bytes: int = ...,
    cache: str | Path | None = ...,
    views: str | Sequence[str] = ...,
    streaming: Literal[True],
) -> StreamedLatents: ...


def load_latents(
    location: str | Path,
    config: str | None = None,
    *,
    split: str = "train",
    space: str = "model",
    dtype: str = "float32",
    columns: Sequence[str] | None = None,
    filter: Filter | None = None,  # noqa: A002 (the word every user of `datasets` knows)
    decode: bool = False,
    vae: VaeRow | None = None,
    trust: bool = False,
    memory_map: bool = True,
    device: str = "cpu",
    picture_bytes: int = KEPT_BYTES,
    cache: str | Path | None = None,
    views: str | Sequence[str] = DRAW,
    streaming: bool = False,
) -> LatentDataset | StreamedLatents:
    """The rows of one split of a sealed dataset.

    ``location`` is a repository (name the ``config`` where it holds several) or a config's own folder: a folder of this
    machine, or ``user/repo[@revision]`` on the Hub (``hub:user/repo`` where a folder is called so). Of a Hub repository
    the files of that config and split are downloaded, once, from one commit, into the cache of the Hub's client;
    without a network, what is there is read. Each is compared with the manifest when it has been downloaded.
    ``space`` is ``model`` (what the family's denoiser is fed) or ``raw`` (as the encoder gave it); ``dtype`` a torch
    dtype's name. ``columns`` are the scalar columns each sample carries (default: the label, where there is one);
    ``filter`` keeps the rows for which a condition holds: text such as ``"psnr > 30 and label == 'Airport'"``, or a
    function from the index's columns to booleans. ``decode`` adds ``image``, (3, H, W) float32 in [0, 1], computed on
    ``device`` by the recorded VAE (or by ``vae``, where its row is your own). A VAE that the dataset names and that is
    no row of the table is only read with ``trust``: whoever made the dataset chose that folder or repository. The
    pictures decoded last, up to ``picture_bytes`` of that device's memory (64 MiB; 0: none), are kept for another look
    at the same rows.

    Compressed shards are decoded once, when one of their rows is first read: into memory, or, where that is too small
    for them, into files in ``cache`` (by default ``~/.cache/latentstore/decoded``; a folder that is named is always
    used). Several processes may share it.

    Where pictures are stored in several ``views`` (flips and turns, each encoded from the transformed pixels), a sample
    is a picture, and ``"draw"`` gives it in one of them: each epoch of a loader draws anew. With ``"all"`` every row is
    a sample; a name or a list of names gives the rows in those views: ``"identity"``, the pictures as they are, is what
    to evaluate on. A ``filter`` such as ``"view in ('identity', 'hflip')"`` leaves fewer to draw from.

    With ``streaming`` the rows are read from where they are, by range requests, and nothing is downloaded first:
    ``location`` may then also be an http(s) URL or any URL that fsspec knows (``s3://``), and the rows come from
    ``loader`` only; see ``StreamedLatents``. ``cache`` has no meaning then. Of compressed shards whole row groups are
    fetched: where views are drawn, that is every view.

    Shards are mapped where they lie. A process that has a file mapped is ended by the system when another one shortens
    that file: on storage that others may write to, give ``memory_map=False``, and each shard is copied into a temporary
    file first (of ``tempfile.gettempdir()``), which is gone with the dataset.

    Raises StoreError or RequestError with one clear sentence; nothing of a damaged dataset is returned.
    """
    remote = _remote(location, config) if streaming else None
    dataset = LatentDataset(
        remote or replace(download_store(location, config, split), memory_map=memory_map),
        split=split,
        space=space,
        dtype=dtype,
        columns=columns,
        filter=filter,
        decode=decode,
        vae=vae,
        trust=trust,
        device=device,
        picture_bytes=picture_bytes,
        cache=cache,
        views=views,
    )
    return dataset if remote is None else _streamed(dataset, remote)


def _remote(location: str | Path, config: str | None) -> RemoteStore:
    from latentstore.remote_store import open_remote_store  # what it needs takes a while to import

    return open_remote_store(location, config)


def _streamed(dataset: LatentDataset, store: RemoteStore) -> StreamedLatents:
    from latentstore.stream import StreamedLatents

    return StreamedLatents(dataset, store)


class LatentDataset:
    """Rows of one split: a map-style dataset whose ``__getitems__`` reads a whole batch at once.

    A sample is a dict: ``latent`` (of shape ``latent_shape``), ``label`` (int) where there are classes, the columns
    asked for, and ``image`` with ``decode=True``. It can be given to ``torch.utils.data.DataLoader`` as it is;
    ``loader`` is faster.
    """

    def __init__(
        self,
        store: LatentStore,
        *,
        split: str = "train",
        space: str = "model",
        dtype: str = "float32",
        columns: Sequence[str] | None = None,
        filter: Filter | None = None,  # noqa: A002
        decode: bool = False,
        vae: VaeRow | None = None,
        trust: bool = False,
        device: str = "cpu",
        picture_bytes: int = KEPT_BYTES,
        cache: str | Path | None = None,
        views: str | Sequence[str] = DRAW,
    ) -> None:
        manifest = store.manifest
        if split not in manifest.splits:
            raise unknown_name("split", split, list(manifest.splits))
        if space not in SPACES:
            raise RequestError(f"There is no space {space!r}; choose from {', '.join(SPACES)}.")
        self._store = store
        self._split = split
        self._space = space
        self.dtype = _float_dtype(dtype)
        self._columns = columns_wanted(store.schema, columns, decode=decode)
        self.decodes = decode
        """Whether samples carry the decoded picture."""
        self._decoder = LatentDecoder(store, vae, _device(device), picture_bytes, trust=trust)
        self._cache = cache
        wanted = _views_wanted(manifest, views)
        draws = bool(manifest.preparation.views) and views == DRAW
        index = self._index(filter, ["id", "view"] if draws else ["view"] if manifest.preparation.views else ())
        self._rows = self._in_views(wanted, self._selected(filter, index), index)
        self._drawn = DrawnViews.of(tiles_behind(index), self._rows) if draws else None
        self.set_epoch(0)
        self._scalars = {
            name: tensor_or_list(index[name], feature_of_column(store.schema, name)) for name in self._columns
        }
        self._checksums = np.asarray(index["latent_crc32"], np.int64)
        self._split_latents: SplitLatents | None = None if store.is_remote else self._opened()
        self._conversion = self._to(self._space, self.dtype)

    @property
    def manifest(self) -> Manifest:
        """The contract of the dataset."""
        return self._store.manifest

    @cached_property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, h, w) of each latent in this dataset's space: FLUX.2's model space has another than the stored one."""
        stored = self.manifest.latent_shape
        return self.manifest.normalisation.model_shape(stored) if self._space == "model" else stored

    @property
    def split(self) -> str:
        """Name of the split."""
        return self._split

    @property
    def labels(self) -> NDArray[np.int64]:
        """Label of each row, (N,) int64, -1 where it has none; RequestError where the source has no classes."""
        if self.class_names is None:
            raise RequestError(f"Config {self.manifest.config!r} has no classes.")
        found = self._scalars.get("label")
        if found is None:
            index = self._index(None, ["label"])
            found = tensor_or_list(index["label"], feature_of_column(self._store.schema, "label"))
        return np.asarray(found.numpy()[self._rows])

    @property
    def readable(self) -> NDArray[np.int64]:
        """int64, increasing: the rows of the split that may be given; where views are drawn, those in all of them."""
        return self._rows if self._drawn is None else self._drawn.rows

    def selected(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """(N,) int64, increasing: the rows of the split that an epoch gives, one for each sample, in their order."""
        return self._rows if self._drawn is None else self._drawn.drawn(seed, epoch)

    @property
    def checksums(self) -> NDArray[np.int64]:
        """CRC-32 of every row of the split, (rows of the split,) int64."""
        return self._checksums

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored latent."""
        return self._store.schema.row_values * np.dtype(self.manifest.storage.dtype).itemsize

    @property
    def bytes_mapped(self) -> int:
        """Bytes of all stored latents of the split."""
        return self.row_bytes * self.manifest.splits[self._split].rows

    @property
    def in_memory(self) -> bool:
        """Whether compressed shards are decoded into memory, and not read from files."""
        return self._latents().in_memory

    @property
    def fingerprint(self) -> str:
        """The same for the same rows of the same dataset: what an order of rows is about."""
        digest = hashlib.sha256(self.manifest.to_json().encode())
        digest.update(f"{self._split}:{len(self)}:".encode() + self.readable.tobytes())
        return digest.hexdigest()[:16]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the labels; None where there are none."""
        return self.manifest.source.classes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: SupportsIndex | Rows) -> dict[str, Any]:
        """The sample of this number, from the end where it is negative; of several rows (see ``batch``), a batch.

        So a ``BatchSampler`` can be the ``sampler`` of a DataLoader with ``batch_size=None``.
        """
        try:
            number = row_number(index, len(self))
        except TypeError:
            return self.batch(index)  # type: ignore[arg-type]  # which says what it takes
        return self.__getitems__([number])[0]

    def __getitems__(self, indices: Rows) -> list[dict[str, Any]]:
        """These samples, read together; ``indices`` are those of ``batch``."""
        batch = self.batch(indices)
        return [{name: values[i] for name, values in batch.items()} for i in range(len(batch["latent"]))]

    def __add__(self, other: Any) -> ConcatDataset[Any]:
        """Both, one behind the other, as torch does it."""
        from torch.utils.data import ConcatDataset

        return ConcatDataset([self, other])  # type: ignore[list-item]  # all that torch asks of a Dataset

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for index in range(len(self)):
            yield self[index]

    def batch(self, indices: Rows) -> dict[str, Any]:
        """These samples as one batch: ``latent`` (N, C, h, w), numbers as tensors (N,), anything else as lists.

        ``indices`` are row numbers (a list, an array or tensor of any integer dtype, a range or a slice; negative ones
        count from the end), or a boolean for each row. Anything else is refused (RequestError; IndexError beyond the
        rows).
        """
        rows = row_numbers(indices, len(self))
        return self.reading(rows).batch(0, len(rows), _new)

    def reading(self, rows: NDArray[np.int64], drawn: tuple[int, int] | None = None) -> Reading:
        """These samples in this order, to be read batch by batch.

        ``drawn`` is the (seed, epoch) whose views are given, where the dataset draws them, else as ``set_epoch`` said.
        """
        views = self._rows if drawn is None else self.selected(*drawn)
        return Reading(self, views[rows])

    def set_epoch(self, epoch: int, seed: int = 0) -> None:
        """Which epoch's views ``dataset[i]`` and ``batch`` give, where the dataset draws views; the first until told.

        For a ``torch.utils.data.DataLoader``, call it before each epoch (workers must not be persistent). ``loader``
        needs no telling.
        """
        if self._drawn is not None:
            self._rows = self._drawn.drawn(seed, epoch)

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
        prefetch: int = 0,
        pin_memory: bool | None = None,
        weights: str | Sequence[float] | NDArray[Any] | None = None,
    ) -> LatentLoader:
        """Batches, read in this process: the fastest way through the data.

        Make it once: every ``iter()`` of one loader is the next epoch, in another order; a new one begins at the first.

        ``shuffle=True`` is a permutation of all rows where they fit the memory, else blocks of neighbours in random
        order, mixed in pools; ``"full"`` and ``"block"`` choose, and the loader's ``shuffle`` says which it is. Each of
        ``world_size`` ranks gets other rows; ``pad`` repeats the first rows so that all ranks have as many. With
        ``prefetch`` a thread reads so many batches ahead, into pinned memory where there is a CUDA device (or as
        ``pin_memory`` says). ``weights``, one a row, draws rows with replacement; ``"balanced"`` draws every class as
        often.
        """
        return LatentLoader(
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
        """Pictures (N, 3, H, W) float32 in [0, 1] of latents (N, *latent_shape) in this dataset's space.

        The recorded VAE is loaded on first use; other weights than the recorded ones are refused (VaeError). H and W
        are the true size where all pictures of the dataset have one, else the padded size. The very same latents again
        are not decoded again while their pictures are kept (``picture_bytes`` of ``load_latents``); those that a
        gradient is to reach are decoded each time.
        """
        import torch

        wanted = f"latents of shape (N, {', '.join(map(str, self.latent_shape))})"
        if not isinstance(latents, torch.Tensor):
            found = type(latents).__name__
            raise RequestError(f"Expected {wanted} in a tensor, found a {found}; batch(rows)['latent'] gives such.")
        if tuple(latents.shape[1:]) != self.latent_shape:
            raise RequestError(f"Expected {wanted}, found {tuple(latents.shape)}.")

        to_raw = self.manifest.normalisation.to_raw if self._space == "model" else lambda raw: raw
        return self._decoder.of_latents(latents, to_raw)

    def scalars_of(self, rows: NDArray[np.int64]) -> dict[str, Any]:
        """The columns asked for, of these rows of the split."""
        return {name: picked(values, rows) for name, values in self._scalars.items()}

    def batch_of(
        self, stored: StoredBytes, rows: NDArray[np.int64], scalars: Mapping[str, Any], output: Output
    ) -> dict[str, Any]:
        """Rows of the split as one batch in memory from ``output``: of their bytes, and columns.

        Read and converted a few at a time, so that what one step wrote is in the processor's cache for the next.
        """
        count = len(rows)
        latent = output("latent", (count, *self.latent_shape), self.dtype)
        if self.decodes:
            of_all = stored(0, count)
            self._conversion(of_all, latent)
            image = self._decoder.of_rows(rows.tolist(), lambda places: self._raw_of(of_all[list(places)]))
            return {"latent": latent, **scalars, IMAGE: image}
        import torch

        together = max(1, PIECE_BYTES * torch.get_num_threads() // self.row_bytes)
        for start in range(0, count, together):
            stop = min(count, start + together)
            self._conversion(stored(start, stop), latent[start:stop])
        return {"latent": latent, **scalars}

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the shards itself.
        return {**self.__dict__, "_split_latents": None}

    def _index(self, condition: Filter | None, names: Sequence[str] = ()) -> dict[str, Any]:
        """Every column that is asked for, filtered by or checked, for all rows of the split; the index is read once."""
        known = self._store.schema.scalar_columns
        filtered = known if callable(condition) else columns_in(condition, known) if condition is not None else ()
        wanted = dict.fromkeys(["latent_crc32", *self._columns, *filtered, *names])
        return self._store.index_of_split(self._split, list(wanted))

    def _selected(self, condition: Filter | None, index: Mapping[str, list[Any]]) -> NDArray[np.int64]:
        total = self.manifest.splits[self._split].rows
        if condition is None:
            return np.arange(total, dtype=np.int64)
        if callable(condition):
            kept = _booleans(condition({name: index[name] for name in self._store.schema.scalar_columns}), total)
        else:
            kept = rows_where(condition, index, self.class_names)
        if kept.shape != (total,):
            raise RequestError(f"The filter gave {kept.shape} booleans for {total} rows.")
        if not kept.any():
            raise RequestError(f"No row of split {self._split!r} satisfies {_in_words(condition, index)}.")
        return np.flatnonzero(kept)

    def _in_views(
        self, views: Sequence[str], rows: NDArray[np.int64], index: Mapping[str, Sequence[Any]]
    ) -> NDArray[np.int64]:
        """Those of the rows that show one of these views."""
        if set(views) >= set(self.manifest.preparation.views):
            return rows
        shown = np.array([view in views for view in index["view"]], bool)
        kept: NDArray[np.int64] = rows[shown[rows]]
        if len(kept) == 0:
            raise RequestError(
                f"No row of split {self._split!r} that the filter keeps is in the view {' or '.join(views)}: loosen "
                "one of the two."
            )
        return kept

    def _latents(self) -> SplitLatents:
        if self._split_latents is None:
            self._split_latents = self._opened()
        return self._split_latents

    def _opened(self) -> SplitLatents:
        return SplitLatents(self._store, self._split, self._checksums, self._cache)

    def _to(self, space: str, dtype: torch.dtype) -> Conversion:
        normalisation = self.manifest.normalisation if space == "model" else None
        return Conversion(self._store.storage(), normalisation, self.manifest.latent_shape, dtype)

    def _raw_of(self, stored: torch.Tensor) -> torch.Tensor:
        """Raw latents (N, C, h, w) float32 of stored bytes (N, row_bytes)."""
        import torch

        raw = torch.empty((len(stored), *self.manifest.latent_shape))
        self._to("raw", torch.float32)(stored, raw)
        return raw


class Reading:
    """Rows of a dataset's split in one order, ready to be read batch by batch: what can be looked up before, is."""

    def __init__(self, dataset: LatentDataset, rows: NDArray[np.int64]) -> None:
        self._dataset = dataset
        self._rows = rows
        self._addresses = dataset._latents().addresses_of(self._rows)  # noqa: SLF001
        self._scalars = dataset.scalars_of(rows)
        self._room: torch.Tensor | None = None

    def _bytes_for(self, count: int) -> torch.Tensor:
        """Room for the stored bytes of a batch, which nobody else sees: the same for each."""
        if self._room is None or len(self._room) < count:
            self._room = _new("stored", (count, self._dataset.row_bytes), self._dataset._latents().byte)  # noqa: SLF001
        return self._room if len(self._room) == count else self._room[:count]

    def batch(self, start: int, stop: int, output: Output) -> dict[str, Any]:
        """The rows from ``start`` to ``stop`` of the order, in memory from ``output(name, shape, dtype)``."""
        latents, rows = self._dataset._latents(), self._rows[start:stop]  # noqa: SLF001
        addresses = self._addresses[start:stop]

        def stored(first: int, last: int) -> torch.Tensor:
            room = self._bytes_for(last - first)
            latents.read(rows[first:last], addresses[first:last], room)
            return room

        scalars = {name: values[start:stop] for name, values in self._scalars.items()}
        return self._dataset.batch_of(stored, rows, scalars, output)


def _new(_: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    import torch

    return torch.empty(shape, dtype=dtype)


def _booleans(found: object, rows: int) -> NDArray[np.bool_]:
    """What a filter that is a function gave, which must be booleans: row numbers would be taken for them."""
    kept = array_of(found)
    if kept is None or kept.dtype != bool:
        kind = type(found).__name__ if kept is None else kept.dtype
        raise RequestError(f"Expected the filter to give a boolean for each of the {rows} rows, found {kind}.")
    return kept


def _in_words(condition: Filter, index: Mapping[str, Any]) -> str:
    """A filter that nothing satisfies, and what there is of the columns that it names."""
    if callable(condition):
        return "the filter, which is a function: it gave False for every row"
    named = columns_in(condition, list(index))
    numbers = {name: index[name] for name in named if isinstance(index[name], np.ndarray) and name != "label"}
    finite = {name: found[np.isfinite(found)] for name, found in numbers.items()}
    ranges = [f"; {name} goes from {found.min():g} to {found.max():g}" for name, found in finite.items() if len(found)]
    return f"the filter {shown(condition)}: loosen it{''.join(ranges)}"


def _views_wanted(manifest: Manifest, views: str | Sequence[str]) -> tuple[str, ...]:
    """Names of the stored views that are given or drawn from; a dataset without views has the identity alone."""
    stored = manifest.preparation.views or (IDENTITY,)
    if views in (DRAW, ALL):
        return stored
    names = (views,) if isinstance(views, str) else tuple(views)
    if not names:
        raise RequestError(
            f"Expected at least one view, found none; config {manifest.config!r} has {', '.join(stored)}."
        )
    for name in names:
        if name not in stored:
            raise unknown_name("stored view", name, [*stored, DRAW, ALL] if isinstance(views, str) else stored)
    return names


def _device(name: str) -> str:
    """The same name, where there is such a device."""
    import torch

    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise RequestError(f"Expected a device such as 'cpu' or 'cuda', found {name!r}.") from error
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= found:
        raise RequestError(
            f"Device {name!r} is not here, CUDA devices found: {found}; leave out device to decode on the CPU."
        )
    return name


def _float_dtype(name: str) -> torch.dtype:
    import torch

    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise RequestError(f"Expected a floating point dtype such as 'float32' or 'bfloat16', found {name!r}.")
    return dtype
