"""Make the golden repository of a format version: tiny datasets that every later reader must read, verify and decode.

It is made once, when a version of the format is final, and never again: what reads it is what must not change.

    python scripts/make_golden.py tests/data/format-1.0
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from latentstore import CONTAINERS, METRICS, STORAGES, VAES, BuildPlan, Preparation, build, folder_source, load_latents

PICTURES = "pictures"
NUMBERS = "numbers.json"
SIZES = [(16, 16), (16, 16), (13, 15), (16, 16), (16, 12), (16, 16)]
"""(height, width) of each picture: some are padded."""


@dataclass(frozen=True)
class GoldenRow:
    """One config of the golden repository."""

    config: str
    options: dict[str, Any] = field(default_factory=dict)


CONFIGS = (
    GoldenRow("float16-compact", {"layout": "compact", "thumbnail": 8}),
    GoldenRow("float16-fast", {"layout": "fast", "thumbnail": 0}),
    GoldenRow("int8-compact", {"storage": STORAGES["int8"], "step": 1 / 16, "thumbnail": 0}),
    GoldenRow("webdataset", {"container": CONTAINERS["webdataset"], "thumbnail": 8}),
    GoldenRow("webdataset-int8", {"container": CONTAINERS["webdataset"], "storage": STORAGES["int8"], "thumbnail": 0}),
    GoldenRow("views", {"preparation": Preparation(views=("identity", "hflip")), "thumbnail": 0}),
)


def main() -> None:
    """Write pictures, configs and numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="Folder to write; what it holds is replaced.")
    out: Path = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with inside(out):  # so that no path of a machine is recorded
        draw(Path(PICTURES))
        numbers = {row.config: made(row) for row in CONFIGS}
        Path(NUMBERS).write_text(json.dumps(numbers, indent=1) + "\n")
        for path in (Path("README.md"), *Path().glob("*/preview.png")):  # both are derived
            path.unlink()
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{len(CONFIGS)} configs, {total:,} bytes in {out}")


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in that folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def draw(folder: Path) -> None:
    """Small PNG files in two classes and two splits: soft waves."""
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(SIZES):
        y, x = np.mgrid[0:height, 0:width]
        waves = [np.sin(x * rng.uniform(0.1, 0.5) + y * rng.uniform(0.1, 0.5) + rng.uniform(0, 6)) for _ in range(3)]
        path = folder / ("train" if number < 4 else "test") / ("field", "harbor")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([wave * 90 + 128 for wave in waves], axis=-1).astype(np.uint8)).save(path)


def made(row: GoldenRow) -> dict[str, Any]:
    """Build a config, and what a reader must find in it."""
    plan = BuildPlan(
        source=folder_source(PICTURES),
        vae=VAES["pool8"],
        config=row.config,
        metrics=(METRICS["psnr"], METRICS["ssim"]),
        rows_per_shard=2,
        batch_size=2,
        **row.options,
    )
    manifest = build(plan, ".")
    return {split: numbers_of(row.config, split) for split in manifest.splits}


def numbers_of(config: str, split: str) -> dict[str, Any]:
    """Ids, labels, scores, raw latents to the last bit, and the mean of each decoded picture."""
    rows = load_latents(
        ".", config, split=split, space="raw", columns=["id", "label", "psnr"], views="all", decode=True
    )
    batch = rows.batch(range(len(rows)))
    return {
        "id": batch["id"],
        "label": batch["label"].tolist(),
        "psnr": batch["psnr"].tolist(),
        "raw": batch["latent"].tolist(),
        "decoded_mean": batch["image"].mean(dim=(1, 2, 3)).tolist(),
    }


if __name__ == "__main__":
    main()
