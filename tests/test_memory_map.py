"""Files that others may write to are read without mapping them, if the user says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from scenes import build_scenes

from latentstore import CONTAINERS, load_latents
from latentstore.errors import DamagedShardError

SHORTEN = """
import os, sys
from pathlib import Path
from latentstore import load_latents
ds = load_latents(sys.argv[1], memory_map=False)
for info in ds.manifest.splits["train"].shards:
    os.truncate(Path(sys.argv[1]) / ds.manifest.config / info.path, 0)
print(float(ds.batch(range(len(ds)))["latent"].abs().sum()) > 0)
"""
LOOK = """
import sys
from pathlib import Path
from latentstore import load_latents
ds = load_latents(sys.argv[1], memory_map=sys.argv[2] == "map")
ds.batch(range(30))
print(sys.argv[1] in Path("/proc/self/maps").read_text())
"""


@pytest.mark.parametrize("kind", ["compact", "fast", "tar"])
def test_copies_give_the_same_numbers_and_are_gone_afterwards(
    kind: str, drawn: Path, drawn_fast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = {"compact": drawn, "fast": drawn_fast, "tar": tmp_path / "tar"}[kind]
    if kind == "tar":
        build_scenes(folder, container=CONTAINERS["webdataset"], layout="fast")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    dataset = load_latents(folder, memory_map=False, columns=["id"])
    mapped = load_latents(folder, columns=["id"])
    found, expected = dataset.batch(range(30)), mapped.batch(range(30))
    assert torch.equal(found["latent"], expected["latent"])
    assert found["id"] == expected["id"]
    del dataset
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs a system that says what is mapped")
@pytest.mark.parametrize(("how", "mapped"), [("map", "True"), ("copy", "False")])
def test_nothing_of_the_dataset_itself_is_mapped(drawn_fast: Path, how: str, mapped: str) -> None:
    command = [sys.executable, "-c", LOOK, str(drawn_fast), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == mapped


@pytest.mark.skipif(os.name != "posix", reason="there is a signal for it on such systems alone")
def test_a_shard_that_is_shortened_meanwhile_does_not_end_the_process(drawn_fast: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(drawn_fast, tmp_path / "shared")
    command = [sys.executable, "-c", SHORTEN, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_what_cannot_be_copied_is_named(drawn_fast: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(drawn_fast, tmp_path / "shared")
    shard = next(folder.rglob("train-*"))
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(DamagedShardError, match=r"cannot be copied to be read \(.*named pipe"):
        load_latents(folder, memory_map=False)
