"""Datasets that were tampered with: rows rewritten, and as much of the manifest mended as the forger cares for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from latentstore import METRICS, LatentStore, Manifest, open_store
from latentstore.containers.interface import THUMBNAIL, RowBlock
from latentstore.duplicates import find_duplicates
from latentstore.entropy import ByteCounts
from latentstore.hashing import crc32_of, sha256_of
from latentstore.json_records import plain
from latentstore.manifest import ShardInfo, SplitInfo, with_digest
from latentstore.manifest.names import INDEX
from latentstore.records import LatentRecord
from latentstore.seal import collect_index, index_info, size_ledger, summaries, thumbnail_bytes
from latentstore.shard_totals import channel_numbers
from latentstore.statistics import ChannelStatistics

Records = list[LatentRecord]


@dataclass(frozen=True)
class Mended:
    """What a forger makes agree with the changed rows; all of it is noticed by nothing but what lies outside."""

    checksums: bool = True
    """The CRC-32 of each changed latent; its old one stays with it where False."""
    index: bool = True
    statistics: bool = True
    """And the entropy."""
    quality: bool = True
    """Summaries, sizes and duplicates."""


ALL = Mended()


def records_of(folder: Path, shard: ShardInfo) -> Records:
    """Every row of a shard."""
    store = open_store(folder)
    reader = store.shard(shard)
    columns = reader.columns(store.schema.scalar_columns)
    latents = reader.latents(np.arange(shard.rows))
    has = store.schema.thumbnail
    pictures = reader.columns([THUMBNAIL])[THUMBNAIL] if has else [None] * shard.rows
    core = ("id", "height", "width", "source_path", "source_sha256", "source_bytes")
    return [
        LatentRecord(
            **{name: columns[name][row] for name in core},
            label=columns["label"][row] if "label" in columns else None,
            latent=latents[row],
            scores={name: columns[name][row] for name in store.schema.metrics},
            metadata={name: columns[name][row] for name in store.schema.features},
            thumbnail=pictures[row],
        )
        for row in range(shard.rows)
    ]


def forge(folder: Path, change: Callable[[Records], Records], *, shard: int = 0, mended: Mended = ALL) -> None:
    """Rewrite one shard of the first split with changed rows; its hash and sizes, and what ``mended`` says, follow."""
    store = open_store(folder)
    split, info = next(iter(store.manifest.splits.items()))
    entry = info.shards[shard]
    before = records_of(folder, entry)
    records = change(before)
    own = {id(record): crc for record, crc in zip(before, crc32_of(np.stack([r.latent for r in before])), strict=True)}
    crcs = crc32_of(np.stack([record.latent for record in records]))
    if not mended.checksums:
        by_id = {record.id: own[id(record)] for record in before}
        crcs = [by_id[record.id] for record in records]
    names = [name for name in store.schema.columns if name != "latent"]
    columns = {name: [_scalar(record, name) for record in records] for name in names}
    block = RowBlock(np.stack([record.latent for record in records]), {**columns, "latent_crc32": crcs})
    path = folder / entry.path
    store.container.write(path, store.schema, store.manifest.storage.layout, [block])
    changed = ShardInfo(entry.path, len(records), path.stat().st_size, sha256_of(path))
    shards = (*info.shards[:shard], changed, *info.shards[shard + 1 :])
    splits = {**store.manifest.splits, split: SplitInfo(sum(one.rows for one in shards), shards)}
    mend(folder, replace(store.manifest, splits=splits), mended)


def mend(folder: Path, manifest: Manifest, mended: Mended = ALL) -> None:
    """Write the manifest again, with what follows from the shards and rows as they are now."""
    store = LatentStore(folder, manifest)
    index: Mapping[str, Sequence[Any]]
    if mended.index:
        index = collect_index(folder, store.container, store.schema, manifest.splits)
        store.container.write_index(folder / INDEX, store.schema, index)
    else:
        index = store.container.read_index(folder / INDEX, None, store.manifest.rows)
    manifest = replace(manifest, index=index_info(folder, len(index["id"])))
    stored = sum(shard.bytes for found in manifest.splits.values() for shard in found.shards)
    manifest = replace(manifest, size=replace(manifest.size, stored_bytes=stored))
    if mended.statistics:
        statistics, entropy = _numbers(store)
        manifest = replace(manifest, statistics=statistics, size=replace(manifest.size, entropy_bytes=entropy))
    if mended.quality:
        pictures = thumbnail_bytes(folder, store.container, store.schema, manifest.splits)
        ledger = size_ledger(store.schema, index, stored, manifest.size.entropy_bytes, pictures)
        metrics = [METRICS[name] for name in manifest.metrics]
        quality = summaries(metrics, index, manifest.source.classes)
        build = replace(manifest.build, duplicates=find_duplicates(index))
        manifest = replace(manifest, size=ledger, quality=quality, build=build)
    (folder / "manifest.json").write_text(manifest.to_json())


def forge_index(folder: Path, change: Callable[[dict[str, list[Any]]], Mapping[str, list[Any]]]) -> None:
    """Rewrite index.parquet, and its hash in the manifest."""
    store = open_store(folder)
    columns = change(store.index())
    store.container.write_index(folder / INDEX, store.schema, columns)
    manifest = replace(store.manifest, index=index_info(folder, len(columns["id"])))
    (folder / "manifest.json").write_text(manifest.to_json())


def reseal(folder: Path, shard: int = 0) -> None:
    """Give the manifest size and sha256 of a shard of the first split as it is now."""
    data = json.loads((folder / "manifest.json").read_text())
    entry = next(iter(data["splits"].values()))["shards"][shard]
    path = folder / entry["path"]
    entry["bytes"], entry["sha256"] = path.stat().st_size, sha256_of(path)
    size = data["size"]
    size["stored_bytes"] = sum(one["bytes"] for split in data["splits"].values() for one in split["shards"])
    size["bits_per_pixel"] = 8 * size["stored_bytes"] / size["pixels"]
    size["raw_rgb_over_stored"] = size["raw_rgb_bytes"] / size["stored_bytes"]
    if size["source_bytes"] is not None:
        size["source_over_stored"] = size["source_bytes"] / size["stored_bytes"]
    (folder / "manifest.json").write_text(with_digest(data))


def edit_manifest(folder: Path, path: str, value: Any) -> None:
    """Set one field of the manifest, by its dotted path, without asking whether that makes sense."""
    data = json.loads((folder / "manifest.json").read_text())
    place = data
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        place = place[part]
    place[last] = plain(value)
    (folder / "manifest.json").write_text(with_digest(data))


def _numbers(store: LatentStore) -> tuple[dict[str, Any], int]:
    """Statistics of every split, and entropy in bytes, whatever the manifest says."""
    statistics, bits = {}, []
    storage, channels = store.storage(), store.manifest.vae.channels
    for split, info in store.manifest.splits.items():
        found = ChannelStatistics.empty(channels)
        for stored in _stored(store, info):
            raw = storage.decode(stored)
            found = found.merge(ChannelStatistics.of(np.where(np.isfinite(raw), raw, 0)))
            bits.append(ByteCounts.of(stored).bits)
        statistics[split] = channel_numbers(found)
    return statistics, math.ceil(math.fsum(bits) / 8)


def _stored(store: LatentStore, info: SplitInfo) -> Iterator[Any]:
    for shard in info.shards:
        yield store.container.open(store.folder / shard.path, store.schema).latents(np.arange(shard.rows))


def _scalar(record: LatentRecord, name: str) -> Any:
    if name in record.scores:
        return record.scores[name]
    return record.metadata[name] if name in record.metadata else getattr(record, name, None)
