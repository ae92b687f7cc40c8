"""`latentstore convert`: what was done and lost, on a page and as JSON; mistakes are one sentence."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from latentstore import Manifest
from latentstore.manifest import with_digest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run, RunInstalled, RunOnTerminal


def test_another_layout_keeps_every_score(run: Run, built: Path, tmp_path: Path) -> None:
    result = run("convert", built, "--out", tmp_path / "out", "--layout", "fast")
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == f"Converted tiny-pool8 into {tmp_path / 'out' / 'tiny-pool8'}"
    assert "from float16 in parquet, layout compact" in lines
    assert "to float16 in parquet, layout fast" in lines
    assert "numbers every raw latent is the same to the last bit; scores are kept" in lines
    before, after = Manifest.read(built / "tiny-pool8").size, Manifest.read(tmp_path / "out" / "tiny-pool8").size
    share = after.stored_bytes / before.stored_bytes
    assert f"bytes {before.stored_bytes:,} before, {after.stored_bytes:,} now ({share:.2f}x)" in lines
    assert f"entropy {after.entropy_bytes:,} bytes, of the stored numbers one by one" in lines
    assert lines[-1] == f"latentstore verify {tmp_path / 'out'} --config tiny-pool8 --trust"


def test_rounding_is_measured_again(run: Run, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(
        "convert", built, "--out", out, "--storage", "int8", "--step", "1/4", "--max-psnr-drop", "9", "--trust"
    )
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    manifest, before = Manifest.read(out / "tiny-pool8"), Manifest.read(built / "tiny-pool8")
    psnr = f"psnr {before.quality['psnr'].mean:.4g} before, {manifest.quality['psnr'].mean:.4g} now"
    assert any(line.startswith(f"numbers rounded, and measured again; {psnr}; ssim ") for line in lines)
    assert "steps 1/4 of each channel's standard deviation" in lines
    assert any(line.endswith("numbers beyond 127 steps") for line in lines)
    assert any(line.startswith("storing cost ") and line.endswith("within the budget of 9 dB") for line in lines)
    assert result.stderr.splitlines()[0] == "Opening the dataset."
    assert "converting: " in result.stderr


def test_scores_that_are_left_out_are_announced_with_the_way_to_get_them(run: Run, built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "copy")
    path = tmp_path / "copy" / "tiny-pool8" / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["source"]["location"] = str(tmp_path / "gone")
    path.write_text(with_digest(data), encoding="utf-8")
    result = run("convert", tmp_path / "copy", "--out", tmp_path / "a", "--storage", "int8", "--trust")
    text = " ".join(result.stdout.split())
    assert "numbers rounded, and NOT measured again (the source pictures are not at hand" in text
    assert "to measure, convert into another --out with --measure" in text
    assert "PSNR" not in text
    given = run(
        "convert", tmp_path / "copy", "--out", tmp_path / "b", "--storage", "int8", "--source", built.parent / "tiny"
    )
    assert "rounded, and measured again" in given.stdout
    auto = run("convert", tmp_path / "copy", "--out", tmp_path / "c", "--storage", "auto", "--trust")
    assert auto.exit_code == 1
    assert "--storage auto is chosen on the source pictures with the VAE, and the source pictures" in auto.stderr


def test_json_is_one_value(built: Path, tmp_path: Path, run_installed: RunInstalled) -> None:
    arguments = ["convert", built, "--out", tmp_path, "--name", "small", "--storage", "int8", "--no-measure", "--json"]
    first, second = (json.loads(run_installed(*arguments).stdout) for _ in range(2))
    assert first["config"] == "small"
    assert (first["already_complete"], second["already_complete"]) == (False, True)
    assert first["manifest"] == second["manifest"] == json.loads((tmp_path / "small" / "manifest.json").read_text())
    assert first["stored_bytes_before"] == Manifest.read(built / "tiny-pool8").size.stored_bytes
    assert first["stored_bytes"] == first["manifest"]["size"]["stored_bytes"]
    assert first["not_measured_because"] == "nothing was to be measured"


def test_typed_twice_it_is_complete(run: Run, built: Path, tmp_path: Path) -> None:
    arguments = ["convert", built, "--out", tmp_path, "--container", "webdataset"]
    assert run(*arguments).exit_code == 0
    again = run(*arguments)
    assert again.exit_code == 0
    assert again.stdout.startswith("Already complete, nothing to do: ")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--storage", "int9"], 2, "There is no storage named 'int9'. Did you mean 'int8'?"),
        (["--container", "webdatset"], 2, "There is no container named 'webdatset'. Did you mean 'webdataset'?"),
        (["--storage", "int8", "--step", "none"], 2, "expected a share of a standard deviation such as 1/16"),
        (["--layout", "fats"], 1, "Container 'parquet' has no layout 'fats'; choose from compact, fast."),
        (["--config", "tiny-pool9", "--layout", "fast"], 1, "There is no config named 'tiny-pool9'."),
        ([], 1, "already is float16 in parquet, layout compact: name another storage, container or layout."),
        (["--storage", "float32", "--step", "1/8"], 1, "A step goes with a quantised storage such as int8"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], code: int, sentence: str, run: Run, built: Path, tmp_path: Path
) -> None:
    result = run("convert", built, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert sentence in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_damaged_shard_is_named_and_nothing_is_sealed(
    copy: Path, tmp_path: Path, run_installed: RunInstalled
) -> None:
    shard = max((copy / "tiny-pool8").glob("train-*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    result = run_installed("convert", copy, "--out", tmp_path / "out", "--layout", "fast")
    assert result.returncode == 1
    assert shard.name in result.stderr
    assert "Traceback" not in result.stderr
    assert list((tmp_path / "out").glob("*/manifest.json")) == []


def test_it_fits_a_terminal(built: Path, tmp_path: Path, run_on_terminal: RunOnTerminal) -> None:
    shown = run_on_terminal("convert", built, "--out", tmp_path, "--storage", "int8", "--trust", columns=80)
    assert shown.exit_code == 0
    assert any(line.split()[:2] == ["numbers", "rounded,"] for line in shown.lines)
    assert max(len(line) for line in shown.lines if "tiny-pool8" not in line) <= 80  # paths are not cut
