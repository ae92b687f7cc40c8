"""Small sources and builds that the tests share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentstore import SOURCES, VAES, BuildPlan, Manifest, SourceRow, build


def scenes(count: int = 30, size: int = 40) -> SourceRow:
    """Drawn scenes: a source that needs no file."""
    return replace(SOURCES["synthetic"], options={"count": count, "size": size})


def plan(**changes: Any) -> BuildPlan:
    """A quick plan: 30 scenes of 40x40, pool8, batches of 4, shards of 12 rows, no thumbnails."""
    usual: dict[str, Any] = {"source": scenes(), "vae": VAES["pool8"], "batch_size": 4, "rows_per_shard": 12}
    usual["thumbnail"] = 0
    return BuildPlan(**{**usual, **changes})


def build_scenes(out: Path, **changes: Any) -> Manifest:
    """Build such a plan."""
    return build(plan(**changes), out)


def smooth_picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 that a VAE can make sense of: a few soft waves."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x * rng.uniform(0.02, 0.2) + y * rng.uniform(0.02, 0.2) + rng.uniform(0, 6)) for _ in range(3)]
    return np.stack([(wave * 90 + 128) for wave in waves], axis=-1).astype(np.uint8)


def write_pictures(folder: Path, sizes: dict[str, tuple[int, int]]) -> Path:
    """PNG files of these names and (height, width) below a folder."""
    for seed, (name, (height, width)) in enumerate(sizes.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(smooth_picture(height, width, seed)).save(path)
    return folder
