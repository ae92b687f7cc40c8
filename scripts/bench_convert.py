"""How fast `convert` is: megabytes of payload a second of one core, against copying and hashing the same files.

python scripts/bench_convert.py                          smooth random latents, 8 KiB and 64 KiB a row, 300 MB each
python scripts/bench_convert.py --pictures PHOTOS        latents of these pictures (the demo VAE), repeated

Payload is the stored numbers before compression: of the source, and of the result. Seconds are processor seconds of the
whole process with one thread, so that neighbours on the machine do not count; every way takes turns, the fastest of
--repeats runs is shown. "container alone" is the time that reading the source's latents and writing the result's take
with nothing in between: what no conversion can undercut. The plain copy is of the source's shards, with a sha256 of the
copy.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", ARROW_DEFAULT_MEMORY_POOL="system")

import argparse
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentstore import (
    CONTAINERS,
    SOURCES,
    STORAGES,
    VAES,
    BuildPlan,
    Manifest,
    build,
    convert,
    folder_source,
    open_store,
)
from latentstore.containers.interface import RowBlock
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
SHAPES = {"8 KiB": (16, 16, 16), "64 KiB": (32, 32, 32)}


@dataclass(frozen=True)
class Way:
    """From one form to another."""

    name: str
    before: tuple[str, str, str]
    """Storage, container, layout."""
    after: tuple[str, str, str]


WAYS = [
    Way("parquet fast to compact", ("float16", "parquet", "fast"), ("float16", "parquet", "compact")),
    Way("parquet compact to fast", ("float16", "parquet", "compact"), ("float16", "parquet", "fast")),
    Way("parquet fast to webdataset", ("float16", "parquet", "fast"), ("float16", "webdataset", "fast")),
    Way("float16 to int8 compact", ("float16", "parquet", "fast"), ("int8", "parquet", "compact")),
    Way("int8 compact to float32 fast", ("int8", "parquet", "compact"), ("float32", "parquet", "fast")),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", help="folder of pictures of one size whose latents are used instead")
    parser.add_argument("--megabytes", type=int, default=300, help="payload in float16")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        template = build(
            BuildPlan(SOURCES["synthetic"].at("", count=4, size=64), VAES["pool8"], thumbnail=0), root / "template"
        )
        if options.pictures:
            latents = {"of pictures": latents_of(options.pictures, root / "pictures")}
        else:
            latents = {size: smooth(shape) for size, shape in SHAPES.items()}
        print(f"{'':44} {'MB/s of payload':>23}  {'against':>9} {'of copy':>9}")
        print(f"{'':44} {'source':>11} {'result':>11}  {'container':>9} {'+ sha256':>9}")
        for size, some in latents.items():
            print(f"rows of {size}: {'x'.join(map(str, some.shape[1:]))} float16")
            for way in WAYS:
                measured(way, some, template, root, options.megabytes << 20, options.repeats)


def measured(way: Way, some: NDArray[np.float16], template: Manifest, root: Path, payload: int, repeats: int) -> None:
    """One line."""
    source = store_in(way.before, some, template, root / "source", payload)
    storage, container, layout = way.after
    shards = [shard.path for split in source.splits.values() for shard in split.shards]
    seconds = {"convert": float("inf"), "alone": float("inf"), "copy": float("inf")}
    result = source
    for _ in range(repeats):
        out = root / "out"

        def run(out: Path = out) -> None:
            nonlocal result
            row = STORAGES[storage]
            result = convert(
                root / "source", out, container=CONTAINERS[container], storage=row, layout=layout, measure=False
            )

        works: dict[str, Callable[[], object]] = {
            "convert": run,
            "alone": lambda: container_alone(root / "source", result, root / "alone"),
            "copy": lambda: [copied(root / "source" / source.config / path, root / "copy") for path in shards],
        }
        for name, work in works.items():
            start = time.process_time()
            work()
            seconds[name] = min(seconds[name], time.process_time() - start)
        shutil.rmtree(out)
    before, after = source.size.payload_bytes / 1e6, result.size.payload_bytes / 1e6
    took = seconds["convert"]
    print(
        f"  {way.name:42} {before / took:11,.0f} {after / took:11,.0f}  "
        f"{seconds['alone'] / took:9.2f} {seconds['copy'] / took:9.2f}",
        flush=True,
    )
    shutil.rmtree(root / "source")


def container_alone(source: Path, result: Manifest, path: Path) -> None:
    """Reading all latents of a dataset, and writing as many numbers of the result's kind, and no more than that."""
    store = open_store(source)
    container = CONTAINERS[result.storage.container]
    for split in store.manifest.splits.values():
        for info in split.shards:
            latents = store.shard(info).latents(np.arange(info.rows))
            if result.storage.name != store.manifest.storage.name:
                latents = np.resize(latents.view(np.uint8), latents.size * np.dtype(result.storage.dtype).itemsize)
                latents = latents.view(result.storage.dtype).reshape(info.rows, *result.latent_shape)
            blank: dict[str, Any] = dict.fromkeys(result.schema.scalar_columns, [0] * info.rows)
            text = {name: [""] * info.rows for name in ("id", "source_path", "source_sha256")}
            container.write(path, result.schema, result.storage.layout, [RowBlock(latents, {**blank, **text})])


def copied(path: Path, to: Path) -> str:
    """A plain copy, and the sha256 of what was copied."""
    shutil.copyfile(path, to)
    with to.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else ""


def smooth(shape: tuple[int, int, int], rows: int = 256) -> NDArray[np.float16]:
    """(rows, C, h, w): noise that neighbours share in part, each channel with its own spread, as latents have."""
    random = np.random.default_rng(0)
    noise = random.standard_normal((rows, *shape), np.float32)
    noise = noise + np.roll(noise, 1, axis=2) + np.roll(noise, 1, axis=3)
    spread = random.uniform(0.5, 3, shape[0]).astype(np.float32)[:, None, None]
    found: NDArray[np.float16] = (noise / np.sqrt(3) * spread).astype(np.float16)
    return found


def latents_of(pictures: str, out: Path) -> NDArray[np.float16]:
    """Latents of all pictures of a folder, as the demo VAE gives them."""
    manifest = build(BuildPlan(folder_source(pictures), VAES["demo"], metrics=(), thumbnail=0), out)
    store = open_store(out)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    return np.concatenate([store.shard(shard).latents(np.arange(shard.rows)) for shard in shards])


def store_in(
    form: tuple[str, str, str], some: NDArray[np.float16], template: Manifest, out: Path, payload: int
) -> Manifest:
    """A sealed dataset of these latents, repeated to so many bytes of float16."""
    name, box, layout = form
    folder = out / template.config
    folder.mkdir(parents=True)
    container, row = CONTAINERS[box], STORAGES[name]
    raw = some.astype(np.float32)
    found = ChannelStatistics.of(raw)
    steps = tuple((found.std / 16).astype(np.float32).astype(float).tolist()) if row.quantised else None
    stored = row.open(steps).encode(raw)
    manifest = replace(
        template,
        latent_shape=some.shape[1:],
        vae=replace(template.vae, channels=some.shape[1]),
        normalisation=Normalisation(),
        metrics=(),
        quality={},
        storage=replace(
            template.storage,
            name=name,
            dtype=row.dtype,
            container=box,
            layout=layout,
            steps=steps,
            step_sigma=1 / 16 if steps else None,
            clipped=(0,) * some.shape[1] if steps else None,
        ),
    )
    shards = []
    columns: dict[str, list[Any]] = {}
    each = max(1, SHARD_BYTES // some[:1].nbytes)
    count = max(1, payload // SHARD_BYTES)
    for number in range(count):
        latents = np.concatenate([stored] * -(-each // len(stored)))[:each]
        block = RowBlock(latents, scalars(manifest, number * each, latents))
        shard = container.shard_name("train", number, count)
        shards.append(write_shard(folder, shard, container, manifest.schema, layout, [block]))
        whole = {**block.columns, "split": ["train"] * each, "shard": [shard] * each, "row": list(range(each))}
        for column, values in whole.items():
            columns.setdefault(column, []).extend(values)
    container.write_index(folder / INDEX, manifest.schema, columns)
    merged = ChannelStatistics.empty(some.shape[1])
    for _ in range(count):
        merged = merged.merge(ChannelStatistics.of(row.open(steps).decode(latents)))
    total = sum(shard.bytes for shard in shards)
    manifest = replace(
        manifest,
        splits={"train": SplitInfo(each * count, tuple(shards))},
        statistics={"train": channel_numbers(merged)},
        index=index_info(folder, each * count),
        size=size_ledger(manifest.schema, columns, total, round(ByteCounts.of(latents).bits * count / 8)),
    )
    manifest.write(folder)
    return manifest


def scalars(manifest: Manifest, first: int, latents: NDArray[Any]) -> dict[str, list[Any]]:
    """Scalar columns as a folder of pictures has them."""
    numbers = range(first, first + len(latents))
    _, height, width = manifest.latent_shape
    found: dict[str, list[Any]] = {
        "id": [f"forest/forest_{number:06d}" for number in numbers],
        "label": [number % len(manifest.source.classes or (1,)) for number in numbers],
        "height": [8 * height] * len(latents),
        "width": [8 * width] * len(latents),
        "source_path": [f"forest/forest_{number:06d}.jpg" for number in numbers],
        "source_sha256": [hashlib.sha256(str(number).encode()).hexdigest() for number in numbers],
        "source_bytes": [20_000 + number % 999 for number in numbers],
        "latent_crc32": crc32_of(latents),
    }
    found |= {name: [number % 7 for number in numbers] for name in manifest.columns}
    return {name: found[name] for name in manifest.schema.scalar_columns}


if __name__ == "__main__":
    main()
