"""The first batch of a dataset imports no package that reading latents has no use for."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from scenes import build_scenes

from latentstore import STORAGES

FIRST_BATCHES = """
import sys
from latentstore import load_latents
for folder in sys.argv[1:]:
    loader = load_latents(folder).loader(batch_size=4, shuffle=True, seed=0)
    assert len(next(iter(loader))["latent"]) == 4
    print(sorted({"pandas", "datasets", "diffusers"} & set(sys.modules)))
"""


def test_a_first_batch_imports_neither_pandas_nor_datasets(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="Arrow imports pandas only where it is installed")
    kinds = list(product(("fast", "compact"), ("float16", "int8")))
    folders = [tmp_path / "-".join(kind) for kind in kinds]
    for folder, (layout, storage) in zip(folders, kinds, strict=True):
        build_scenes(folder, layout=layout, storage=STORAGES[storage])
    command = [sys.executable, "-c", FIRST_BATCHES, *map(str, folders)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert dict(zip(kinds, found.stdout.splitlines(), strict=True)) == dict.fromkeys(kinds, "[]")
