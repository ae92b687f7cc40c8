"""Small folders of pictures, and datasets that were added to, that the tests share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scenes import smooth_picture

from latentstore import VAES, BuildPlan, Manifest, build, folder_source, open_store, verify
from latentstore.hashing import sha256_of

CONFIG = "photos-pool8"


def draw(folder: Path, names: Sequence[int | str], classes: tuple[str, ...] = ("field", "town")) -> Path:
    """Pictures of these numbers (or paths) below a folder, the classes in turn."""
    for place, name in enumerate(names):
        number = name if isinstance(name, int) else 1000 + place
        path = folder / (f"{classes[number % len(classes)]}/{number:03d}.png" if isinstance(name, int) else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(smooth_picture(24, 16, number)).save(path)
    return folder


def plan(photos: Path, **changes: Any) -> BuildPlan:
    """A quick plan: pool8, batches of 2, shards of 4 rows."""
    usual: dict[str, Any] = {"source": folder_source(photos), "vae": VAES["pool8"], "batch_size": 2, "threads": 1}
    return BuildPlan(**{**usual, "config": CONFIG, "rows_per_shard": 4, **changes})


def appended(out: Path, photos: Path, first: int = 6, last: int = 13, **changes: Any) -> tuple[Manifest, Manifest]:
    """A dataset of so many pictures, before and after it grew to the others."""
    draw(photos, range(first))
    before = build(plan(photos, **changes), out)
    draw(photos, range(first, last))
    return before, build(plan(photos, **changes), out, append=True)


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file of a config."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.is_file()}


def raw(folder: Path, split: str = "train") -> Any:
    """All raw latents of a split, in order."""
    store = open_store(folder)
    shards = [store.shard(info).latents(np.arange(info.rows)) for info in store.manifest.splits[split].shards]
    return store.storage().decode(np.concatenate(shards))


def assert_sound(out: Path) -> None:
    """Every check passes at full depth, the source pictures are compared too."""
    report = verify(out, depth="full", trust=True)
    assert [(found.check, found.findings, found.note) for found in report.results if found.status != "passed"] == []
