"""Datasets that were tampered with: rows rewritten, and as much of the manifest mended as the forger cares for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from latentstore import METRICS, Manifest, open_store
from latentstore.containers.table import CONTAINERS
from latentstore.hashing import sha256_of
from latentstore.json_records import plain
from latentstore.manifest import ShardInfo, SplitInfo
from latentstore.records import LatentRecord
from latentstore.seal import INDEX, channel_numbers, collect_index, index_info, size_ledger, summaries
from latentstore.shards import blocks_of
from latentstore.statistics import ChannelStatistics

Records = list[LatentRecord]


def records_of(folder: Path, shard: ShardInfo) -> Records:
    """Every row of a shard."""
    store = open_store(folder)
    reader = store.shard(shard)
    columns = reader.columns(store.schema.scalar_columns)
    latents = reader.latents(np.arange(shard.rows))
    core = ("id", "height", "width", "source_path", "source_sha256", "source_bytes")
    return [
        LatentRecord(
            **{name: columns[name][row] for name in core},
            label=columns["label"][row],
            latent=latents[row],
            scores={name: columns[name][row] for name in store.schema.metrics},
        )
        for row in range(shard.rows)
    ]


def forge(folder: Path, change: Callable[[Records], Records], *, statistics: bool = True, quality: bool = True) -> None:
    """Rewrite the first shard with changed rows; mend hashes, sizes, index and (unless told not to) the numbers."""
    store = open_store(folder)
    manifest = store.manifest
    split, info = next(iter(manifest.splits.items()))
    path = folder / info.shards[0].path
    records = change(records_of(folder, info.shards[0]))
    CONTAINERS["parquet"].write(path, store.schema, manifest.storage.layout, blocks_of(records, store.schema))
    first = ShardInfo(info.shards[0].path, len(records), path.stat().st_size, sha256_of(path))
    shards = (first, *info.shards[1:])
    splits = {**manifest.splits, split: SplitInfo(sum(shard.rows for shard in shards), shards)}
    manifest = replace(manifest, splits=splits)
    index = collect_index(folder, store.container, store.schema, splits)
    store.container.write_index(folder / INDEX, store.schema, index)
    stored = sum(shard.bytes for found in splits.values() for shard in found.shards)
    manifest = replace(manifest, index=index_info(folder, len(index["id"])))
    manifest = replace(manifest, size=size_ledger(store.schema, index, stored, manifest.size.entropy_bytes))
    if quality:
        manifest = replace(
            manifest, quality=summaries([METRICS[name] for name in manifest.metrics], index, manifest.source.classes)
        )
    if statistics:
        manifest = replace(manifest, statistics={split: _statistics(folder, manifest, split)})
    manifest.write(folder)


def _statistics(folder: Path, manifest: Manifest, split: str) -> Any:
    latents = [record.latent for shard in manifest.splits[split].shards for record in records_of_any(folder, shard)]
    return channel_numbers(ChannelStatistics.of(np.stack(latents)))


def records_of_any(folder: Path, shard: ShardInfo) -> Records:
    """Rows of a shard, whatever the manifest on disk says of it."""
    store = open_store(folder)
    reader = store.container.open(folder / shard.path, store.schema)
    latents = reader.latents(np.arange(shard.rows))
    return [LatentRecord(str(row), latents[row], None, 0, 0, "", "", 0, {}) for row in range(shard.rows)]


def edit_manifest(folder: Path, path: str, value: Any) -> None:
    """Set one field of the manifest, by its dotted path, without asking whether that makes sense."""
    data = json.loads((folder / "manifest.json").read_text())
    place = data
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        place = place[part]
    place[last] = plain(value)
    (folder / "manifest.json").write_text(json.dumps(data))
