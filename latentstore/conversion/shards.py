"""One shard of the origin becomes one shard of the result, of the same rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.containers.interface import THUMBNAIL, RowBlock
from latentstore.conversion.choice import CACHED_BYTES, Conversion
from latentstore.conversion.origin import OriginShard, runs
from latentstore.errors import DamagedShardError
from latentstore.hashing import crc32_of
from latentstore.journal import FinishedShard
from latentstore.shards import write_shard
from latentstore.system.durable_files import writing
from latentstore.value_counts import NumbersTally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.conversion.progress import Report
    from latentstore.journal import BuildFolder
    from latentstore.manifest import ShardInfo

BLOCK_BYTES = 16 << 20
"""Numbers that are handed to the container at once: a row group, so that it need not put blocks together."""


@dataclass(frozen=True)
class ConvertedShard:
    """What became of one shard."""

    shard: OriginShard
    name: str
    finished: FinishedShard
    columns: Mapping[str, Sequence[Any]]
    """Values of its rows in ``Conversion.new_columns``."""


@dataclass
class _Gathered:
    """What is gathered while a shard flows by."""

    numbers: NumbersTally
    clipped: NDArray[np.int64]
    """Of each channel."""
    columns: dict[str, list[Any]]
    lost_db: list[float] = field(default_factory=list)
    """PSNR that each picture lost."""


def converted_shard(conversion: Conversion, work: BuildFolder, shard: OriginShard, report: Report) -> ConvertedShard:
    """The shard as an earlier run left it, or converted now; DamagedShardError where it is not sound."""
    planned = shard.planned(conversion.target.container)
    earlier = work.finished(planned)
    if earlier is not None:
        written = conversion.target.container.open(work.folder / earlier.shard.path, conversion.schema)
        report.resume(shard.rows)
        return ConvertedShard(shard, planned.name, earlier, written.columns(conversion.new_columns))
    gathered = _gathered(conversion, shard)
    conversion.origin.refuse_other_bytes(shard)
    with np.errstate(invalid="ignore"):  # numbers that are not finite are refused, by the name of the shard
        info = _written(conversion, work, planned.name, _blocks(conversion, shard, gathered, report))
    if gathered.numbers.spoilt:
        (work.folder / info.path).unlink()
        raise DamagedShardError(
            f"Shard {conversion.origin.path(shard)} holds {gathered.numbers.spoilt}: nothing was sealed."
        )
    entry = FinishedShard(
        shard=info,
        statistics=gathered.numbers.statistics.to_dict(),
        skipped=(),
        entropy_bits=gathered.numbers.bytes.bits,
        clipped=tuple(gathered.clipped.tolist()),
        lost_db=math.fsum(gathered.lost_db),
        lost_pictures=len(gathered.lost_db),
    )
    work.finish(planned, entry)
    return ConvertedShard(shard, planned.name, entry, gathered.columns)


def _gathered(conversion: Conversion, shard: OriginShard) -> _Gathered:
    channels, height, width = conversion.schema.latent_shape
    numbers = NumbersTally(conversion.after, channels, shard.rows * height * width)
    return _Gathered(numbers, np.zeros(channels, np.int64), {name: [] for name in conversion.new_columns})


def _written(conversion: Conversion, work: BuildFolder, name: str, blocks: Iterator[RowBlock]) -> ShardInfo:
    target = conversion.target
    with writing(work.folder / name):
        return write_shard(work.folder, name, target.container, conversion.schema, target.layout, blocks)


def _blocks(conversion: Conversion, shard: OriginShard, gathered: _Gathered, report: Report) -> Iterator[RowBlock]:
    """The new rows, block by block, counted as they pass."""
    origin, measuring = conversion.origin, conversion.measuring
    tiles = measuring.tiles(shard) if measuring is not None else None
    row_bytes = conversion.schema.row_values * conversion.after.dtype.itemsize
    pictures = origin.thumbnails(shard) if conversion.schema.thumbnail and measuring is None else []
    for rows, old in origin.blocks(shard, row_bytes, BLOCK_BYTES):
        first, last = shard.first + rows.start, shard.first + rows.stop
        new = old if conversion.same_numbers else _restored(conversion, shard, old, gathered)
        gathered.numbers.add(new)
        found: dict[str, Sequence[Any]] = {} if conversion.same_numbers else {"latent_crc32": crc32_of(new)}
        if measuring is not None and tiles is not None:
            measurement = measuring.measured(tiles, first, old, new, conversion.after)
            found |= measurement.scores
            gathered.lost_db += measurement.lost_db
        for name, values in found.items():
            gathered.columns[name] += values
        report.advance(len(new), found.get("psnr", ()))
        if conversion.schema.thumbnail:
            found[THUMBNAIL] = measurement.thumbnails if measuring is not None else pictures[rows]
        yield RowBlock(new, {name: origin.index[name][first:last] for name in conversion.kept_columns} | found)


def _restored(conversion: Conversion, shard: OriginShard, old: NDArray[Any], gathered: _Gathered) -> NDArray[Any]:
    """The same raw latents in the new storage."""
    new = np.empty(old.shape, conversion.after.dtype)
    for rows in runs(len(old), conversion.schema.row_values * 4, CACHED_BYTES):
        raw = conversion.origin.storage.decode(old[rows])
        if not np.isfinite(raw).all():
            raise conversion.origin.not_finite(shard)
        new[rows] = conversion.encoded(raw, shard)
        gathered.clipped += conversion.after.clipped(raw)
    return new
