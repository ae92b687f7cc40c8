"""load_latents(): a sealed dataset as batches of tensors for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.containers.arrow_features import feature_of_column
from latentstore.errors import DamagedShardError, RequestError
from latentstore.named_table import unknown_name
from latentstore.row_filter import columns_in, rows_where
from latentstore.seal import INDEX
from latentstore.shards import crc32_of
from latentstore.store import LatentStore, open_store

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.containers.interface import ShardReader
    from latentstore.manifest import Manifest
    from latentstore.vaes.interface import Vae, VaeRow

SPACES = ("model", "raw")
Filter = str | Callable[[Mapping[str, Sequence[Any]]], Sequence[bool]]


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
    device: str = "cpu",
) -> LatentDataset:
    """The rows of one split of a sealed dataset.

    ``location`` is a repository's folder (name the ``config`` where it holds several) or a config's own folder.
    ``space`` is ``model`` (what the family's denoiser is fed) or ``raw`` (as the encoder gave it); ``dtype`` a torch
    dtype's name. ``columns`` are the scalar columns each sample carries (default: the label, where there is one);
    ``filter`` keeps the rows for which a condition holds: text such as ``"psnr > 30 and label == 'Airport'"``, or a
    function from the index's columns to booleans. ``decode`` adds ``image``, (3, H, W) float32 in [0, 1], computed on
    ``device`` by the recorded VAE (or by ``vae``, where its row is your own).

    Raises StoreError or RequestError with one clear sentence; nothing of a damaged dataset is returned.
    """
    store = open_store(location, config)
    return LatentDataset(
        store,
        split=split,
        space=space,
        dtype=dtype,
        columns=columns,
        filter=filter,
        decode=decode,
        vae=vae,
        device=device,
    )


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
        device: str = "cpu",
    ) -> None:
        manifest = store.manifest
        if split not in manifest.splits:
            raise unknown_name("split", split, list(manifest.splits))
        if space not in SPACES:
            raise RequestError(f"There is no space {space!r}; choose from {', '.join(SPACES)}.")
        self._store = store
        self._split = split
        self._space = space
        self._dtype = _float_dtype(dtype)
        self._columns = _columns(store, columns)
        self._decode = decode
        self._vae_row = vae
        self._device = device
        self._starts = np.cumsum([0, *(shard.rows for shard in manifest.splits[split].shards)])
        index = self._index(filter)
        self._rows = self._selected(filter, index)
        self._scalars = {
            name: _tensor_or_list(index[name], feature_of_column(store.schema, name)) for name in self._columns
        }
        self._checksums = np.array(index["latent_crc32"], np.int64)
        self._checked = np.zeros(len(self._checksums), bool)
        self._readers = self._opened()
        self._vae: Vae | None = None

    @property
    def manifest(self) -> Manifest:
        """The contract of the dataset."""
        return self._store.manifest

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, h, w) of each latent in this dataset's space: FLUX.2's model space has another than the stored one."""
        stored = self.manifest.latent_shape
        return self.manifest.normalisation.model_shape(stored) if self._space == "model" else stored

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the labels; None where there are none."""
        return self.manifest.source.classes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of a dataset of {len(self)} rows")
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """These samples, read together."""
        batch = self.batch(indices)
        return [{name: values[i] for name, values in batch.items()} for i in range(len(indices))]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for index in range(len(self)):
            yield self[index]

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> dict[str, Any]:
        """These samples as one batch: ``latent`` (N, C, h, w), numbers as tensors (N,), anything else as lists."""
        rows = self._rows[np.asarray(indices, dtype=np.int64)]
        raw = self._raw(rows)
        batch: dict[str, Any] = {"latent": self._in_space(raw)}
        for name, values in self._scalars.items():
            batch[name] = values[rows] if not isinstance(values, list) else [values[row] for row in rows]
        if self._decode:
            batch["image"] = self._decode_raw(raw)
        return batch

    def loader(
        self,
        batch_size: int = 64,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> LatentLoader:
        """Batches, read in this process: the fastest way through the data.

        Make it once: every ``iter()`` of one loader is the next epoch, in another order; a new one begins at the first.
        """
        return LatentLoader(
            self,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures (N, 3, H, W) float32 in [0, 1] of latents (N, *latent_shape) in this dataset's space.

        The recorded VAE is loaded on first use; other weights than the recorded ones are refused (VaeError). H and W
        are the true size where all pictures of the dataset have one, else the padded size.
        """
        shape = tuple(latents.shape[1:])
        if shape != self.latent_shape:
            wanted = ", ".join(map(str, self.latent_shape))
            raise RequestError(f"Expected latents of shape (N, {wanted}), found {tuple(latents.shape)}.")
        raw = self.manifest.normalisation.to_raw(latents.float()) if self._space == "model" else latents.float()
        return self._decode_raw(raw)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens its own readers and loads its own VAE.
        return {**self.__dict__, "_readers": None, "_vae": None}

    def _index(self, condition: Filter | None) -> dict[str, list[Any]]:
        """Every column that is asked for, filtered by or checked, for all rows of the split; the index is read once."""
        known = self._store.schema.scalar_columns
        filtered = known if callable(condition) else columns_in(condition, known) if condition is not None else ()
        index = self._store.index(list(dict.fromkeys(["split", "latent_crc32", *self._columns, *filtered])))
        kept = [row for row, split in enumerate(index["split"]) if split == self._split]
        if len(kept) != int(self._starts[-1]):
            message = f"Index {self._store.folder / INDEX} has {len(kept)} rows of split {self._split!r}"
            raise DamagedShardError(f"{message}, the manifest says {int(self._starts[-1])}.")
        return {name: [values[row] for row in kept] for name, values in index.items()}

    def _selected(self, condition: Filter | None, index: Mapping[str, list[Any]]) -> NDArray[np.int64]:
        total = int(self._starts[-1])
        if condition is None:
            return np.arange(total, dtype=np.int64)
        if callable(condition):
            kept = np.asarray(condition({name: index[name] for name in self._store.schema.scalar_columns}), bool)
        else:
            kept = rows_where(condition, index, self.class_names)
        if kept.shape != (total,):
            raise RequestError(f"The filter gave {kept.shape} booleans for {total} rows.")
        if not kept.any():
            raise RequestError(f"No row of split {self._split!r} satisfies the filter {condition!r}.")
        return np.flatnonzero(kept)

    def _check(self, rows: NDArray[np.int64], stored: NDArray[Any]) -> None:
        """Compare each latent with the checksum in the index, the first time it is read.

        So no number is passed on that is not the one that was written, whatever happened to the shard: a bit that
        flipped, a shard that stands in another's place.
        """
        new = np.flatnonzero(~self._checked[rows])
        if len(new) == 0:
            return
        wrong = rows[new][np.array(crc32_of(stored[new]), np.int64) != self._checksums[rows[new]]]
        if len(wrong):
            shard = int(np.searchsorted(self._starts, wrong[0], side="right")) - 1
            path = self._store.folder / self.manifest.splits[self._split].shards[shard].path
            raise DamagedShardError(
                f"Shard {path}, row {wrong[0] - self._starts[shard]}: its latent is not the one that was written (the "
                "CRC-32 in the index differs): the shard was changed or replaced; `latentstore verify` says more."
            )
        self._checked[rows] = True

    def _opened(self) -> list[ShardReader]:
        return [self._store.shard(info) for info in self.manifest.splits[self._split].shards]

    def _raw(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Raw latents (N, C, h, w) float32 of rows of the split."""
        import torch

        if self._readers is None:
            self._readers = self._opened()
        stored = np.empty((len(rows), *self.manifest.latent_shape), np.dtype(self.manifest.storage.dtype))
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        for shard in np.unique(shards).tolist():
            here = np.flatnonzero(shards == shard)
            stored[here] = self._readers[shard].latents(rows[here] - self._starts[shard])
        self._check(rows, stored)
        return torch.from_numpy(self._store.storage().decode(stored))

    def _in_space(self, raw: torch.Tensor) -> torch.Tensor:
        latents = self.manifest.normalisation.to_model(raw) if self._space == "model" else raw
        return latents.to(self._dtype)

    def _decode_raw(self, raw: torch.Tensor) -> torch.Tensor:
        if self._vae is None:
            self._vae = self._store.load_vae(self._vae_row, device=self._device)
        height, width = self._true_size
        pictures = self._vae.decode(raw)
        return pictures[..., : height or pictures.shape[-2], : width or pictures.shape[-1]]

    @property
    def _true_size(self) -> tuple[int, int]:
        """(height, width) of every picture, 0 where they differ."""
        if not hasattr(self, "_size"):
            index = self._store.index(["height", "width"])
            sizes = set(zip(index["height"], index["width"], strict=True))
            self._size = sizes.pop() if len(sizes) == 1 else (0, 0)
        return self._size


class LatentLoader:
    """Batches of a LatentDataset. Each ``iter()`` is one epoch, a pure function of (seed, epoch, rank, world size).

    Every row is in exactly one batch of one rank; the last batches may be smaller (``drop_last`` leaves them out).
    """

    def __init__(
        self,
        dataset: LatentDataset,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        rank: int,
        world_size: int,
    ) -> None:
        if batch_size < 1:
            raise RequestError(f"Expected a batch_size of 1 or more, found {batch_size}.")
        if not 0 <= rank < world_size:
            raise RequestError(f"Expected a rank from 0 to world_size - 1 = {world_size - 1}, found {rank}.")
        if len(dataset) < world_size:
            raise RequestError(
                f"{world_size} ranks cannot share {len(dataset)} rows: at least one row a rank is needed."
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.epoch = 0
        self._shuffle = shuffle
        self._seed = seed
        self._drop_last = drop_last
        self._rank = rank
        self._world_size = world_size

    def __len__(self) -> int:
        rows = len(range(self._rank, len(self.dataset), self._world_size))
        return rows // self.batch_size if self._drop_last else -(-rows // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        order = self.order(self.epoch)
        self.epoch += 1
        for number in range(len(self)):
            yield self.dataset.batch(order[number * self.batch_size : (number + 1) * self.batch_size])

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The rows of this rank in the order of an epoch."""
        total = len(self.dataset)
        rows = np.arange(total, dtype=np.int64)
        if self._shuffle:
            rows = np.random.default_rng([self._seed, epoch]).permutation(rows)
        return rows[self._rank :: self._world_size]


def _columns(store: LatentStore, names: Sequence[str] | None) -> tuple[str, ...]:
    known = store.schema.scalar_columns
    if names is None:
        return tuple(name for name in ("label",) if name in known)
    if isinstance(names, str):
        raise RequestError(f"Expected a list of columns, found the text {names!r}: write [{names!r}].")
    for name in names:
        if name not in known:
            raise unknown_name("column", name, known)
    return tuple(names)


def _float_dtype(name: str) -> torch.dtype:
    import torch

    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise RequestError(f"Expected a floating point dtype such as 'float32' or 'bfloat16', found {name!r}.")
    return dtype


def _tensor_or_list(values: list[Any], feature: Mapping[str, Any]) -> Any:
    """A tensor of a column of numbers, or the list itself.

    Labels are int64, a missing one -1. float64 stays float64, other floats are float32; integers are int64, or float64
    where some are missing. Any other missing number is NaN.
    """
    import torch

    if feature.get("_type") == "ClassLabel":
        return torch.tensor([-1 if value is None else value for value in values], dtype=torch.int64)
    dtype = str(feature.get("dtype", "")) if feature.get("_type") == "Value" else ""
    missing = any(value is None for value in values)
    if dtype.startswith("float"):
        numbers = [np.nan if value is None else value for value in values]
        return torch.tensor(numbers, dtype=torch.float64 if dtype == "float64" else torch.float32)
    if dtype.startswith(("int", "uint")) and dtype != "uint64":
        numbers = [np.nan if value is None else value for value in values]
        return torch.tensor(numbers, dtype=torch.float64 if missing else torch.int64)
    if dtype == "bool" and not missing:
        return torch.tensor(values, dtype=torch.bool)
    return values
