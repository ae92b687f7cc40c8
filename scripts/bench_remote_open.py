"""Bytes that opening a dataset on the Hub and reading two of its scalar columns moves, beside what it holds.

A config of one shard of about 100 MB (random latents, the real writer and index) is served by the tests' Hub on this
machine. What is counted are the bodies of its answers; a row names what was read since the last one.

    python scripts/bench_remote_open.py [--rows 12800]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore import SOURCES, VAES, BuildPlan, Manifest, build
from latentstore.containers.interface import RowBlock
from latentstore.hashing import crc32_of, sha256_of
from latentstore.manifest import ShardInfo, SplitInfo
from latentstore.manifest.names import INDEX
from latentstore.opening import open_store
from latentstore.seal import index_info
from latentstore.store import open_local_store

if TYPE_CHECKING:
    from hub_server import HubServer

TESTS = Path(__file__).parents[1] / "tests"
REPO = "user/latents"
SHAPE = (4, 32, 32)
COLUMNS = ["label", "psnr"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12_800, help="Rows of 8 KiB; 12,800 are 100 MiB.")
    rows = parser.parse_args().rows
    sys.path.insert(0, str(TESTS))  # where the Hub of this machine is
    from hub_server import HubServer

    with tempfile.TemporaryDirectory() as folder, HubServer(Path(folder) / "hub") as hub:
        repository = Path(folder) / "repository"
        manifest = enlarged(repository, rows)
        ask(hub, Path(folder) / "cache")
        files = {path.relative_to(repository).as_posix(): path for path in repository.rglob("*") if path.is_file()}
        hub.create(REPO, {name: path.read_bytes() for name, path in files.items()})
        shard, index = manifest.splits["train"].shards[0].bytes, manifest.index.bytes
        text = files["large/manifest.json"].stat().st_size
        print(f"{rows:,} rows: shard {shard:,} bytes, index {index:,}, manifest {text:,}")
        hub.log.forget()
        store = open_store(f"hub:{REPO}")
        tell(hub, "opened")
        store.index(COLUMNS)
        tell(hub, " and ".join(COLUMNS))
        store.index()
        tell(hub, "every column")


def tell(hub: HubServer, what: str) -> None:
    """Print what was moved since the last time."""
    print(f"{what:<24}{hub.log.sent():>12,} bytes in {len(hub.log.entries)} requests")
    hub.log.forget()


def ask(hub: HubServer, cache: Path) -> None:
    """Let this process's client ask that Hub."""
    from huggingface_hub import constants

    constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE = hub.endpoint, False, str(cache)
    os.environ.update(HF_TOKEN=hub.token, NO_PROXY="127.0.0.1,localhost")


def enlarged(out: Path, rows: int) -> Manifest:
    """A config of so many rows: a small build, whose shard and index are written again with random rows."""
    source = replace(SOURCES["synthetic"], options={"count": 4, "size": 32})
    build(BuildPlan(source=source, vae=VAES["pool8"], config="large", thumbnail=0), out)
    folder = out / "large"
    small = open_local_store(folder).manifest
    storage = replace(small.storage, name="float16", dtype="float16")
    manifest = replace(small, latent_shape=SHAPE, vae=replace(small.vae, channels=SHAPE[0]), storage=storage)
    schema, rng = manifest.schema, np.random.default_rng(0)
    latents = rng.standard_normal((rows, *SHAPE), np.float32).astype(np.float16)
    columns = column_values(rows, schema.scalar_columns, rng) | {"latent_crc32": crc32_of(latents)}
    store = open_local_store(folder)
    path = folder / small.splits["train"].shards[0].path
    store.container.write(path, schema, manifest.storage.layout, [RowBlock(latents, columns)])
    placed: dict[str, Any] = {"split": ["train"] * rows, "shard": [path.name] * rows, "row": list(range(rows))}
    store.container.write_index(folder / INDEX, schema, columns | placed)
    shard = ShardInfo(path.name, rows, path.stat().st_size, sha256_of(path))
    zeros: dict[str, Any] = dict.fromkeys(("mean", "std", "minimum", "maximum"), (0.0,) * SHAPE[0])
    return replace(
        manifest,
        splits={"train": SplitInfo(rows, (shard,))},
        statistics={"train": replace(small.statistics["train"], **zeros)},
        normalisation=replace(small.normalisation, mean=(), std=()),
        index=index_info(folder, rows),
        size=replace(small.size, stored_bytes=shard.bytes),
    ).write(folder)


def column_values(rows: int, names: tuple[str, ...], rng: np.random.Generator) -> dict[str, list[Any]]:
    """Values like those of a real dataset: long paths, a sha256 that does not compress, a score."""
    values: dict[str, list[Any]] = {
        "id": [f"Airport/airport_{row:06d}" for row in range(rows)],
        "label": rng.integers(0, 2, rows).tolist(),
        "height": [256] * rows,
        "width": [256] * rows,
        "source_path": [f"Airport/airport_{row:06d}.jpg" for row in range(rows)],
        "source_sha256": [rng.bytes(32).hex() for _ in range(rows)],
        "source_bytes": rng.integers(9_000, 90_000, rows).tolist(),
    }
    return {
        name: values[name] if name in values else rng.normal(30, 3, rows).astype(np.float32).tolist() for name in names
    }


if __name__ == "__main__":
    main()
