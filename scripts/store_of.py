"""A sealed dataset of latents that no VAE made: what benchmarks read, as a build would have left it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentstore import SOURCES, STORAGES, VAES, BuildPlan, Manifest, build
from latentstore.containers.interface import RowBlock
from latentstore.containers.table import CONTAINERS
from latentstore.entropy import ByteCounts
from latentstore.hashing import crc32_of
from latentstore.manifest import SplitInfo
from latentstore.manifest.names import INDEX
from latentstore.normalisation import Normalisation
from latentstore.seal import index_info, size_ledger
from latentstore.shard_totals import channel_numbers
from latentstore.shards import write_shard
from latentstore.statistics import ChannelStatistics

SHARD_BYTES = 64 << 20


def store_of(
    folder: Path,
    latents: NDArray[np.float16],
    labels: NDArray[np.int64],
    *,
    storage: str = "float16",
    container: str = "parquet",
    layout: str = "fast",
    gain: float = 1.0,
    offset: float = 0.0,
) -> Manifest:
    """Write ``<folder>/bench/`` with these latents (N, C, h, w) and labels; model = raw * gain + offset."""
    row, box = STORAGES[storage], CONTAINERS[container]
    out = folder / "bench"
    out.mkdir(parents=True)
    std = ChannelStatistics.of(latents[:4096]).std
    steps = tuple((std / 16).astype(np.float32).astype(float).tolist()) if row.quantised else None
    form: dict[str, Any] = {
        "name": storage,
        "dtype": row.dtype,
        "container": container,
        "layout": layout,
        "steps": steps,
    }
    quantised: dict[str, Any] = {"step_sigma": 1 / 16, "clipped": (0,) * latents.shape[1]} if row.quantised else {}
    template = _template()
    manifest = replace(
        template,
        config="bench",
        latent_shape=latents.shape[1:],
        source=replace(template.source, classes=tuple(f"class {number}" for number in range(int(labels.max()) + 1))),
        vae=replace(template.vae, channels=latents.shape[1]),
        normalisation=Normalisation("scale_shift", scale=gain, shift=-offset / gain),
        metrics=(),
        quality={},
        storage=replace(template.storage, **form, **quantised),
    )
    each = max(1, SHARD_BYTES // latents[0].nbytes)
    count = -(-len(latents) // each)
    columns: dict[str, list[Any]] = {}
    shards, bits, found = [], 0.0, ChannelStatistics.empty(latents.shape[1])
    for number in range(count):
        rows = range(number * each, min(len(latents), (number + 1) * each))
        stored = row.open(steps).encode(latents[rows.start : rows.stop].astype(np.float32))
        block = RowBlock(stored, _scalars(manifest, rows, labels, crc32_of(stored)))
        name = box.shard_name("train", number, count)
        shards.append(write_shard(out, name, box, manifest.schema, layout, [block]))
        whole: dict[str, Any] = {
            "split": ["train"] * len(rows),
            "shard": [name] * len(rows),
            "row": list(range(len(rows))),
        }
        for column, values in {**block.columns, **whole}.items():
            columns.setdefault(column, []).extend(values)
        bits += ByteCounts.of(stored).bits
        found = found.merge(ChannelStatistics.of(row.open(steps).decode(stored)))
    box.write_index(out / INDEX, manifest.schema, columns)
    total = sum(shard.bytes for shard in shards)
    manifest = replace(
        manifest,
        splits={"train": SplitInfo(len(latents), tuple(shards))},
        statistics={"train": channel_numbers(found)},
        index=index_info(out, len(latents)),
        size=size_ledger(manifest.schema, columns, total, -int(-bits // 8)),
    )
    manifest.write(out)
    return manifest


def _template() -> Manifest:
    with tempfile.TemporaryDirectory() as out:
        return build(BuildPlan(SOURCES["synthetic"].at("", count=2, size=32), VAES["pool8"], thumbnail=0), out)


def _scalars(manifest: Manifest, rows: range, labels: NDArray[np.int64], checksums: list[int]) -> dict[str, list[Any]]:
    _, height, width = manifest.latent_shape
    plain = {
        "id": [f"{row:08d}" for row in rows],
        "label": labels[rows.start : rows.stop].tolist(),
        "height": [height * manifest.vae.stride] * len(rows),
        "width": [width * manifest.vae.stride] * len(rows),
        "source_path": [f"{row:08d}.png" for row in rows],
        "source_sha256": [f"{row:064x}" for row in rows],
        "source_bytes": [0] * len(rows),
        "latent_crc32": checksums,
    }
    return {name: plain[name] for name in manifest.schema.scalar_columns}
