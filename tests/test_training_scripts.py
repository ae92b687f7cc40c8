"""The training scripts, run as a person would, with settings small enough for seconds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scenes
from PIL import Image

from latentstore import folder_source

SCRIPTS = Path(__file__).parents[1] / "scripts"
SHARES = re.compile(r"loading (\d+\.\d+)%, computing (\d+\.\d+)%")


def run(folder: Path, script: str, *arguments: str) -> str:
    """What a script prints, run in this folder with one thread; its seconds are nobody's business here."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_shares(printed: str, lines: int) -> None:
    found = SHARES.findall(printed)
    assert len(found) == lines
    for loading, computing in found:
        assert float(loading) + float(computing) == pytest.approx(100, abs=0.11)
        assert 0 < float(computing) < 100


def table(printed: str) -> list[list[str]]:
    """Cells of each row below the header."""
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert set(lines[1]) <= set("|-:")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]
    assert {len(row) for row in cells} == {len(cells[0])}
    return cells[1:]


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latent dataset of 48 drawn scenes of 32x32, 4 of each class, by average pooling."""
    folder = tmp_path_factory.mktemp("training") / "pooled"
    scenes.build_scenes(folder, source=scenes.scenes(count=48, size=32), metrics=())
    return folder


def test_the_scripts_are_short_enough_to_be_read() -> None:
    for name in ("train_classifier.py", "train_diffusion.py", "bench_training.py"):
        lines = (SCRIPTS / name).read_text(encoding="utf-8").splitlines()
        assert len(lines) < 150, name


def test_the_classifier_measures_latents_against_source_pixels_and_repeats_itself(pooled: Path) -> None:
    arguments = [str(pooled), "--epochs", "1", "--batch-size", "16", "--mix", "mixup"]
    printed = run(pooled.parent, "train_classifier.py", *arguments)
    assert "36 rows to train on, 12 held out" in printed
    check_shares(printed, lines=2)
    latents, pixels = table(printed)
    assert (latents[0], pixels[0]) == ("latents", "pixels (source)")
    for row in (latents, pixels):
        assert int(row[1].replace(",", "")) == pytest.approx(150_000, rel=0.05)
        accuracy, macro, weighted = map(float, row[2:5])
        assert 0 <= macro <= 1
        assert weighted == pytest.approx(macro, abs=0.0011)  # as many of each class are held out
        assert accuracy * 12 == pytest.approx(round(accuracy * 12), abs=0.01)
    again = table(run(pooled.parent, "train_classifier.py", *arguments))
    assert [row[:5] for row in again] == [latents[:5], pixels[:5]]


def test_several_seeds_give_the_mean_of_their_runs_and_its_spread(pooled: Path) -> None:
    arguments = [str(pooled), "--epochs", "1", "--batch-size", "16"]
    both = table(run(pooled.parent, "train_classifier.py", *arguments, "--seeds", "2"))
    # The pixels' first network is the one of a single seed: same rows held out, same weights, same order.
    (_, single) = table(run(pooled.parent, "train_classifier.py", *arguments))
    for row in both:
        for cell in row[2:5]:
            assert re.fullmatch(r"[01]\.\d{3} ± [01]\.\d{3}", cell)
    mean, spread = map(float, both[1][2].split(" ± "))
    first = float(single[2])
    assert spread == pytest.approx(
        abs(mean - first) * 2**0.5, abs=2e-3
    )  # of two numbers, the one this far from the mean


def test_the_classifier_decodes_where_the_source_is_gone_and_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("dark", "light"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            values = rng.integers(0, 100, (32, 32, 3)) + 150 * (name == "light")
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / "photos" / name / f"{number}.png")
    scenes.build_scenes(tmp_path / "latents", source=folder_source(tmp_path / "photos"))
    (tmp_path / "photos").rename(tmp_path / "moved")
    printed = run(tmp_path, "train_classifier.py", "latents", "--epochs", "6", "--batch-size", "4", "--trust")
    assert "pixels are decoded from the latents: the source pictures are not at hand" in printed
    latents, pixels = table(printed)
    assert pixels[0] == "pixels (decoded)"
    assert float(latents[2]) == float(pixels[2]) == 1.0  # 150 grey levels apart: whoever misses that does not learn


def test_without_a_location_the_drawn_scenes_are_encoded_once(tmp_path: Path) -> None:
    arguments = ["--scenes", "24", "16", "--epochs", "1", "--mix", "cutmix"]
    run(tmp_path, "train_classifier.py", *arguments)
    manifest = tmp_path / "demo-training" / "synthetic-demo" / "manifest.json"
    written = manifest.stat().st_mtime_ns
    small = ["--steps", "50", "--sampling-steps", "2", "--width", "32", "--batch-size", "8"]
    printed = run(tmp_path, "train_diffusion.py", *arguments[:3], *small)
    assert manifest.stat().st_mtime_ns == written
    check_shares(printed, lines=1)


@pytest.mark.parametrize("objective", ["ddpm", "flow"])
def test_the_diffusion_script_writes_the_same_grid_for_the_same_seed(
    pooled: Path, tmp_path: Path, objective: str
) -> None:
    arguments = [str(pooled), "--objective", objective, "--width", "32", "--batch-size", "8", "--sampling-steps", "3"]
    grids = []
    for name, seed in (("a.png", "0"), ("b.png", "0"), ("c.png", "1")):
        printed = run(tmp_path, "train_diffusion.py", *arguments, "--steps", "50", "--seed", seed, "--out", name)
        check_shares(printed, lines=1)
        assert f"{name} has a row for each of beach, dense_residential" in printed
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (8 * 32, 12 * 32)  # a real picture and 7 samples; 12 classes
            grids.append(np.asarray(picture))
    assert np.array_equal(grids[0], grids[1])
    assert not np.array_equal(grids[0][:, 32:], grids[2][:, 32:])
    assert np.array_equal(grids[0][:, :32], grids[2][:, :32])  # the real pictures do not depend on the seed
    # An error where all is noise must not be blown up to black and white by the sampler.
    assert np.isin(grids[0][:, 32:], (0, 255)).mean() < 0.1  # 0.98 without the clip


def test_a_diffusion_run_that_is_killed_and_typed_again_gives_the_grid_of_one_that_was_not(
    pooled: Path, tmp_path: Path
) -> None:
    arguments = [str(pooled), "--width", "32", "--batch-size", "8", "--sampling-steps", "2", "--steps", "150"]
    run(tmp_path, "train_diffusion.py", *arguments, "--out", "whole.png")
    kept = tmp_path / "state.pt"
    again = [*arguments, "--checkpoint", kept.name, "--out", "again.png"]
    command = [sys.executable, str(SCRIPTS / "train_diffusion.py"), *again]
    begun = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    try:
        while not kept.exists() and begun.poll() is None:
            time.sleep(0.01)
    finally:
        begun.kill()
        begun.wait()
    assert not (tmp_path / "again.png").exists()
    printed = run(tmp_path, "train_diffusion.py", *again)
    assert re.search(r"state\.pt goes on after step (50|100|150)\n", printed)
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "whole.png")), np.asarray(Image.open(tmp_path / "again.png"))
    )


def test_latents_that_are_not_square_are_refused_by_the_diffusion_script(tmp_path: Path) -> None:
    scenes.write_pictures(tmp_path / "photos", {f"{name}/{n}.png": (16, 32) for name in ("a", "b") for n in range(2)})
    scenes.build_scenes(tmp_path / "latents", source=folder_source(tmp_path / "photos"), metrics=())
    command = [sys.executable, str(SCRIPTS / "train_diffusion.py"), "latents"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("This network wants square latents, found 2x4: build from square pictures.")


def test_the_bench_gives_both_ways_the_same_latents_and_prints_where_it_ran(tmp_path: Path) -> None:
    printed = run(tmp_path, "bench_training.py", "--scenes", "8", "32", "--rounds", "1", "--width", "32")
    assert "CPU, 1 threads, torch" in printed
    difference = re.search(r"in model space: (\S+)", printed)
    assert difference is not None
    assert 0 < float(difference[1]) < 0.01  # float16 was stored
    loaded, encoded = table(printed)
    assert (loaded[0], encoded[0]) == ("load_latents", "encoding")
