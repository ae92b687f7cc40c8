"""What a trainer waits for before the first batch: no package and no module that the batch does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scenes import build_scenes

from latentstore import CONTAINERS

CODE = """
import sys
import torch
before = set(sys.modules)
from latentstore import load_latents
batch = next(iter(load_latents({folder!r}, columns=["label", "psnr"], filter="psnr > 0").loader(8, shuffle=True)))
assert batch["latent"].shape[0] == 8
print(*sorted(set(sys.modules) - before))
"""
PACKAGES = {"latentstore", "numpy", "pyarrow"}
OTHER_JOBS = {
    *("vaes", "metrics", "sources", "engines", "checks", "card", "hub", "publishing", "comparison", "conversion"),
    *("plan", "journal", "shards", "build", "verify", "remote_store", "stream"),
}
"""Of the library: what encodes, measures, builds, checks, publishes and reads over a network."""
FORMS = [("parquet", "fast"), ("parquet", "compact"), ("webdataset", "fast")]


@pytest.mark.parametrize(("container", "layout"), FORMS)
def test_the_first_batch_imports_only_what_reads_it(tmp_path: Path, container: str, layout: str) -> None:
    build_scenes(tmp_path, container=CONTAINERS[container], layout=layout)
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(folder=str(tmp_path))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    assert "latentstore.load" in names
    packages = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    # What compiled packages leave behind, and Python's own description of this system, are no packages.
    assert {name for name in packages if not name.startswith(("_", "cython"))} <= PACKAGES
    parts = {name.split(".")[1] for name in names if name.startswith("latentstore.")}
    assert not parts & OTHER_JOBS
