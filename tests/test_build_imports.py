"""What a builder waits for before the first batch is encoded: no package that encoding does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scenes import write_pictures

CODE = """
import sys
{needed}
before = set(sys.modules)
import latentstore
from latentstore import VAES, BuildPlan, build, folder_source
from dataclasses import replace

row = VAES[{vae!r}]

class Watched:
    def __init__(self, vae):
        self.vae = vae

    def __getattr__(self, name):
        return getattr(self.vae, name)

    def encode(self, pixels):
        latents = self.vae.encode(pixels)
        print(*sorted(set(sys.modules) - before))
        return latents

watched = replace(row, family=lambda row_, options: Watched(row.family(row_, options)))
build(BuildPlan(source=folder_source({pictures!r}), vae=watched, threads=1), {out!r})
print(*sorted(set(sys.modules) - before))
"""
BEFORE_THE_FIRST_BATCH = {"latentstore", "numpy", "PIL", "simplejpeg"}
OTHER_JOBS = {
    *("diffusers", "datasets", "torchmetrics", "webdataset", "huggingface_hub", "fsspec", "ray", "click", "rich"),
    *("scipy", "sympy", "accelerate", "transformers", "skimage", "lightning"),
}
"""Packages that no step of a build from a folder needs, where its VAE does not."""


def imported(vae: str, needed: str, folder: Path) -> list[set[str]]:
    """Modules that a small build brings beyond ``needed``: until its first batch is encoded, and until its end."""
    pictures = write_pictures(folder / "pictures", {"a/1.png": (16, 16), "b/2.png": (16, 16)})
    code = CODE.format(vae=vae, needed=needed, pictures=str(pictures), out=str(folder / "latents"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = [set(line.split()) for line in done.stdout.splitlines()]
    return [found[0], found[-1]]


def packages(names: set[str]) -> set[str]:
    """Those that do not come with Python; compiled ones leave some names behind that say nothing."""
    return {name.split(".")[0] for name in names if "cython" not in name} - sys.stdlib_module_names


@pytest.mark.parametrize(
    ("vae", "needed"), [("pool8", "import torch"), ("demo", "import torch; from diffusers import AutoencoderKL")]
)
def test_the_first_batch_is_encoded_with_the_vaes_own_packages(vae: str, needed: str, tmp_path: Path) -> None:
    first, _ = imported(vae, needed, tmp_path)
    assert "latentstore.shard_work" in first
    assert packages(first) <= BEFORE_THE_FIRST_BATCH


def test_a_whole_build_imports_nothing_of_other_jobs(tmp_path: Path) -> None:
    _, whole = imported("pool8", "import torch", tmp_path)
    assert "latentstore.seal" in whole
    assert not packages(whole) & OTHER_JOBS
    assert not {"torch._dynamo", "torch._inductor", "torch.distributed.tensor"} & whole
