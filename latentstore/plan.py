"""BuildPlan: everything that decides the bytes of a build, and which picture becomes which row."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.containers.interface import ContainerRow
from latentstore.containers.table import CONTAINERS
from latentstore.errors import BadImageError, MixedSizesError, RequestError, SourceError
from latentstore.json_records import plain
from latentstore.manifest.names import SPLIT_NAME, is_config_name
from latentstore.metrics.interface import MetricRow
from latentstore.metrics.table import METRICS
from latentstore.pixels import Preparation
from latentstore.records import SkippedTile
from latentstore.sources.interface import OpenSource, SourceRow, SplitReader
from latentstore.storage.interface import StorageRow
from latentstore.storage.table import STORAGES
from latentstore.thumbnails import LARGEST_SIDE, SIDE
from latentstore.vaes.interface import VaeIdentity, VaeRow
from latentstore.views import VIEWS, view_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Size = tuple[int, int]

SHUFFLED, SOURCE_ORDER = "shuffled", "source"
SHARD_PAYLOAD_BYTES = 128 << 20
MAX_PSNR_DROP = 0.02
"""dB: what a storage that is to be chosen may cost where nobody says."""
LARGEST_STEP = 4.0
MAX_BAD = 0.05
"""Share of the pictures that may be unusable where nobody says."""


@dataclass(frozen=True)
class BuildPlan:
    """What to build; the same plan over the same source gives the same bytes on one kind of device."""

    source: SourceRow
    vae: VaeRow
    config: str = ""
    """Name of the folder and of the config on the Hub; ``<source>-<vae>`` where empty."""
    storage: StorageRow | None = STORAGES["float16"]
    """None: the smallest that keeps ``max_psnr_drop`` on a sample of the pictures."""
    step: float = 1 / 16
    """Of a quantised storage, as a multiple of each channel's standard deviation."""
    max_psnr_drop: float | None = None
    """dB of mean PSNR that storing may cost; None: 0.02 where the storage is to be chosen, else not looked at."""
    calibration: int = 32
    """Pictures that the steps, and the choice of a storage, are measured on."""
    container: ContainerRow = CONTAINERS["parquet"]
    layout: str = ""
    """Where empty, the container's first."""
    metrics: tuple[MetricRow, ...] = tuple(metric for metric in METRICS.values() if metric.default)
    preparation: Preparation = field(default_factory=Preparation)
    order: str = SHUFFLED
    """``shuffled``: a seeded permutation of the pictures; ``source``: as the source gives them."""
    seed: int = 0
    batch_size: int = 16
    find_batch_size: bool = False
    """Take the size that the VAE is fastest with on this machine in place of ``batch_size``: what the folder was begun
    with, else what is measured once."""
    rows_per_shard: int | None = None
    """None: so many that a shard holds 128 MiB of payload."""
    device: str = "cpu"
    dtype: str = "float32"
    """Of the VAE's arithmetic; ``auto`` stands for what its row found fastest. Metrics and storage see float32."""
    thumbnail: int = SIDE
    """Longest side in pixels of the thumbnails of decoded latents that every row gets; 0: none."""
    threads: int | None = None
    """That torch computes with on a CPU, whose kernels round differently for another number; None: what the folder was
    begun with, else what torch has."""
    strict: bool = False
    """Stop at the first picture that cannot be used, instead of skipping and listing it."""
    max_bad: float = MAX_BAD
    """Share of the pictures, 0 to 1, that may be skipped; with more the build stops, as that hints at a wrong source.

    One picture may always be skipped, unless the share is 0. It decides whether there is a dataset, not what is in it,
    so it may be another one when a build is continued.
    """

    def __post_init__(self) -> None:
        if not self.config:
            object.__setattr__(self, "config", f"{self.source.name}-{self.vae.name}")
        if not is_config_name(self.config):
            raise RequestError(
                f"Config name {self.config!r} cannot be used on the Hub: expected letters, digits, '-', '_' and '.', "
                "and not 'data'; choose one with --config."
            )
        if not self.layout:
            object.__setattr__(self, "layout", self.container.layouts[0])
        if self.storage is None and self.max_psnr_drop is None:
            object.__setattr__(self, "max_psnr_drop", MAX_PSNR_DROP)
        if self.dtype == "auto":
            object.__setattr__(self, "dtype", self.vae.fastest_dtype(self.device))
        if self.layout not in self.container.layouts:
            raise RequestError(
                f"Container {self.container.name!r} has no layout {self.layout!r}; choose from "
                f"{', '.join(self.container.layouts)}."
            )
        if self.order not in (SHUFFLED, SOURCE_ORDER):
            raise RequestError(f"There is no order {self.order!r}; choose from {SHUFFLED}, {SOURCE_ORDER}.")
        self._check_numbers()
        view_rows(self.preparation.views)

    def _check_numbers(self) -> None:
        if not 0 < self.step <= LARGEST_STEP:
            raise RequestError(
                f"Expected a step above 0 and up to {LARGEST_STEP:g} standard deviations, found {self.step:g}."
            )
        if self.max_psnr_drop is not None and not 0 <= self.max_psnr_drop < math.inf:
            raise RequestError(f"Expected a max_psnr_drop of 0 dB or more, found {self.max_psnr_drop:g}.")
        if not 0 <= self.thumbnail <= LARGEST_SIDE:
            raise RequestError(
                f"Expected thumbnails with a longest side of up to {LARGEST_SIDE} pixels, or 0 for none, "
                f"found {self.thumbnail}."
            )
        if not 0 <= self.max_bad <= 1:
            raise RequestError(f"Expected a max_bad from 0 to 1, the share of the pictures, found {self.max_bad:g}.")
        for name in ("batch_size", "rows_per_shard", "calibration", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RequestError(f"Expected {name} of 1 or more, found {value}.")

    def fingerprint(self, source: OpenSource, rows: PlannedRows, vae: VaeIdentity) -> dict[str, Any]:
        """What must agree for two builds to be the same, as plain JSON."""
        return {
            "config": self.config,
            "source": self.source.name,
            "location": self.source.location,
            "revision": self.source.revision,
            "options": plain(self.source.options),
            "pictures": rows.digest,
            "listing": source.listing,
            "classes": plain(source.class_names),
            "columns": plain(source.features),
            "vae": self.vae.name,
            "weights_sha256": vae.weights_sha256,
            "posterior": vae.posterior,
            "device": self.device.split(":")[0],
            "dtype": self.dtype,
            **({"threads": self.threads} if self.threads is not None else {}),
            "memory_format": self.vae.memory_format,
            **self._storage_plan(),
            "container": self.container.name,
            "layout": self.layout,
            "metrics": [metric.name for metric in self.metrics],
            "preparation": plain(self.preparation),
            "order": self.order,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "rows_per_shard": rows.rows_per_shard,
            **({"thumbnail": self.thumbnail} if self.thumbnail else {}),
        }

    @property
    def calibrated(self) -> bool:
        """Whether storing needs a look at the pictures first."""
        return self.storage is None or self.storage.quantised

    @property
    def measures_loss(self) -> bool:
        """Whether every picture is decoded twice, to know what storing costs it."""
        return self.calibrated or self.max_psnr_drop is not None

    def _storage_plan(self) -> dict[str, Any]:
        """What decides the stored numbers; a plan that needs no calibration does not speak of it."""
        budget = {"max_psnr_drop": self.max_psnr_drop} if self.max_psnr_drop is not None else {}
        name = {"storage": self.storage.name if self.storage is not None else "auto"}
        if not self.calibrated:
            return {**name, **budget}
        step = {"step": self.step} if self.storage is not None else {}
        return {**name, **step, **budget, "calibration": self.calibration}


@dataclass(frozen=True)
class PlannedShard:
    """One shard before it is written: its name and which rows of its split it holds."""

    split: str
    index: int
    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class PlannedRows:
    """Which picture becomes which row, known before anything is encoded."""

    splits: Mapping[str, NDArray[np.int64]]
    """Each (rows, 2): index of the picture in its source split, and number of the piece (tile, then view) of it."""
    padded: Size
    """(height, width) that is encoded for every row."""
    rows_per_shard: int
    digest: str
    """sha256 over the size of every source picture in order."""
    container: ContainerRow
    generations: tuple[Mapping[str, int], ...] = ()
    """Rows of each split in the first build and in each append since, one after another; empty: all in one build."""

    @property
    def total(self) -> int:
        """Rows of all splits."""
        return sum(len(rows) for rows in self.splits.values())

    @property
    def due(self) -> int:
        """Rows of the shards that are to be built."""
        return sum(self._generations[-1].values())

    def first_due(self, split: str) -> int:
        """The first row of a split that is to be built; those before it were built in earlier generations."""
        return len(self.splits[split]) - self._generations[-1].get(split, 0)

    @property
    def _generations(self) -> tuple[Mapping[str, int], ...]:
        return self.generations or ({name: len(rows) for name, rows in self.splits.items()},)

    def pieces(self, split: str, image: int) -> int:
        """How many rows a picture of a split was planned to become."""
        return int(self._pieces[split][image])

    @cached_property
    def _pieces(self) -> Mapping[str, NDArray[np.int64]]:
        return {name: np.bincount(planned[:, 0]) for name, planned in self.splits.items()}

    def shards(self) -> list[PlannedShard]:
        """Every shard that is to be built, in order: those of the last generation."""
        last = len(self._generations) - 1
        return [shard for generation, shard in self._shards() if generation == last]

    def all_shards(self) -> list[PlannedShard]:
        """Every shard of every generation, split by split."""
        return [shard for _, shard in self._shards()]

    def _shards(self) -> Iterator[tuple[int, PlannedShard]]:
        """(generation, shard) of all of them."""
        for split in self.splits:
            index = start = 0
            for generation, rows in enumerate(self._generations):
                names = shard_names(self.container, split, generation, rows.get(split), self.rows_per_shard)
                end = start + rows.get(split, 0)
                for name in names:
                    stop = min(end, start + self.rows_per_shard)
                    yield generation, PlannedShard(split, index, name, start, stop)
                    index, start = index + 1, stop


def shard_names(
    container: ContainerRow, split: str, generation: int, rows: int | None, rows_per_shard: int
) -> list[str]:
    """File names of the shards that so many rows of a split become; None where the generation knows no such split.

    The first build makes a shard of a split without rows too.
    """
    if rows is None:
        return []
    count = max(0 if generation else 1, -(-rows // rows_per_shard))
    series = f"{split}-plus{generation:03d}" if generation else split
    return [container.shard_name(series, index, count) for index in range(count)]


def plan_rows(plan: BuildPlan, source: OpenSource, *, padded: Size | None = None) -> PlannedRows:
    """Lay out every row; MixedSizesError where the pictures do not share one latent shape.

    ``padded`` is what is encoded where none of them can be used; SourceError where that is not known.
    """
    for name in source.splits:
        if not SPLIT_NAME.fullmatch(name):
            raise RequestError(f"Split name {name!r} cannot be used: expected letters, digits and underscores.")
    sizes = {name: _sizes(name, split, plan) for name, split in source.splits.items()}
    padded = _one_padded_size(plan, [size for split in sizes.values() for size in split], padded)
    _refuse_swaps(plan, padded)
    splits = {name: _ordered(plan, source.splits[name], split_sizes) for name, split_sizes in sizes.items()}
    latent_bytes = plan.vae.channels * (padded[0] // plan.vae.stride) * (padded[1] // plan.vae.stride)
    latent_bytes = latent_bytes * (plan.storage.bits if plan.storage is not None else 16) // 8
    return PlannedRows(
        splits=splits,
        padded=padded,
        rows_per_shard=plan.rows_per_shard or max(1, SHARD_PAYLOAD_BYTES // max(1, latent_bytes)),
        digest=_digest(sizes),
        container=plan.container,
    )


def _sizes(name: str, split: SplitReader, plan: BuildPlan) -> Sequence[Size | None]:
    """Size of every picture; a stream's pictures are taken to have the size of the first, and checked when read."""
    try:
        return list(split.sizes())
    except LookupError:
        if plan.source.size is not None:
            return [plan.source.size] * len(split)
    if not len(split):
        return []
    for first in split.read(range(len(split))):
        if not isinstance(first, SkippedTile):
            return [(first.pixels.shape[0], first.pixels.shape[1])] * len(split)
    raise SourceError(f"Split {name!r} of source {plan.source.name!r} has no picture that can be read.")


def _one_padded_size(plan: BuildPlan, sizes: Iterable[Size | None], known: Size | None) -> Size:
    found: Counter[Size] = Counter()
    padded: set[Size] = set()
    for size, count in Counter(sizes).items():
        if size is None:
            continue
        try:
            padded.add(plan.preparation.padded_size(size, plan.vae.pad_to))
            found[size] += count
        except BadImageError:
            continue  # smaller than the crop: it will be skipped and listed when it is read
    if not padded and known is not None:
        return known
    if not padded:
        raise SourceError(f"Source {plan.source.name!r} at {plan.source.location!r} holds no picture that can be used.")
    if len(padded) > 1:
        listed = ", ".join(f"{count} of {h}x{w}" for (h, w), count in found.most_common(5))
        more = f" and {len(found) - 5} more sizes" if len(found) > 5 else ""
        raise MixedSizesError(
            f"The pictures of {plan.source.name!r} have different sizes ({listed}{more}), but a config holds one "
            "latent shape: choose --resize SIDE --crop SIDE (scale, then centre crop), --resize HxW (stretch), "
            "--crop SIDE (leave out what is smaller), or --tile SIDE (cut into tiles)."
        )
    return padded.pop()


def _refuse_swaps(plan: BuildPlan, padded: Size) -> None:
    """RequestError where views would give a second latent shape."""
    height, width = padded
    swapping = [row.name for row in view_rows(plan.preparation.views) if row.swaps]
    if swapping and height != width:
        possible = ", ".join(row.name for row in VIEWS.values() if not row.swaps)
        raise RequestError(
            f"The pictures are encoded at {height}x{width} pixels and would be {width}x{height} in the views "
            f"{', '.join(swapping)}, but a config holds one latent shape: choose --views among {possible}, or make "
            "the pictures square with --resize HxW, --crop SIDE or --tile SIDE."
        )


def ordered(order: str, seed: int, count: int) -> NDArray[np.int64]:
    """(count,) places of so many pictures of a split in the order in which they become rows."""
    places = np.arange(count, dtype=np.int64)
    return np.random.default_rng([seed, count]).permutation(places) if order == SHUFFLED else places


def _ordered(plan: BuildPlan, split: SplitReader, sizes: Sequence[Size | None]) -> NDArray[np.int64]:
    """Rows of one split. Pieces of one picture stay together: it is decoded once, however many there are."""
    if plan.order == SHUFFLED and not split.random_access:
        message = f"Source {plan.source.name!r} is a stream and can only be read in its own order: add --order source."
        raise RequestError(message)
    order = ordered(plan.order, plan.seed, len(sizes))
    pieces = np.array([_pieces(plan.preparation, size) for size in sizes], dtype=np.int64)[order]
    images = np.repeat(order, pieces)
    starts = np.repeat(np.cumsum(pieces) - pieces, pieces)
    return np.stack([images, np.arange(len(images), dtype=np.int64) - starts], axis=1)


def _pieces(preparation: Preparation, size: Size | None) -> int:
    if size is None:
        return 1
    try:
        return preparation.pieces(size)
    except BadImageError:
        return 1


def _digest(sizes: Mapping[str, Sequence[Size | None]]) -> str:
    digest = hashlib.sha256()
    for name, split in sizes.items():
        digest.update(f"{name}:{len(split)}\n".encode())
        digest.update("\n".join(f"{size}" for size in split).encode())
    return digest.hexdigest()


def kept_positions(planned: int, skipped_positions: Iterable[int]) -> NDArray[np.int64]:
    """Of so many planned rows of a split, those that became rows of its shards, in shard order."""
    return np.delete(np.arange(planned, dtype=np.int64), sorted(set(skipped_positions)))
