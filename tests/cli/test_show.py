"""`latentstore show`: every part of the manifest, for people and for programs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from latentstore_cli.show import quality_pairs, size_sentence, skipped_pairs

from latentstore import Manifest
from latentstore.manifest import SkippedInfo, with_digest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run, RunInstalled, RunOnTerminal


@pytest.fixture
def manifest(built: Path) -> Manifest:
    return Manifest.read(built / "tiny-pool8")


def test_every_section_is_there_with_its_numbers(run: Run, built: Path, manifest: Manifest) -> None:
    result = run("show", built)
    assert result.exit_code == 0
    assert result.stderr == ""
    text = result.stdout
    psnr = manifest.quality["psnr"]
    for part in (
        "tiny-pool8\n",
        "  format       1.0\n",
        "2 classes: forest, lake; licence: not stated\n",
        "pool8 (PoolingVae), no weights, licence: apache-2.0\n",
        "3x2x3, posterior mean, stored raw (unscaled)\n",
        "identity: model = raw\n",
        f"worst PSNR  classes: {min(psnr.per_class, key=psnr.per_class.__getitem__)} ",
        f"pictures: {', '.join(psnr.worst[:3])}\n",
        f"{manifest.size.raw_rgb_bytes:,}",
        f"{manifest.size.bits_per_pixel:.2f} bits per pixel\n",
        "train-00000-of-00002.parquet",
        "1 picture\n",
        "(lake/broken.png)\n",
        "shuffled, seed 0; batches of 16, shards of up to 4 rows\n",
        "on cpu in float32\n",
    ):
        assert part in text, part
    row = next(line for line in text.splitlines() if line.startswith("  PSNR, dB"))
    assert row.split()[2:4] == ["6", f"{psnr.mean:.2f}"]


def test_a_model_space_of_another_shape_is_shown(run: Run, tmp_path: Path) -> None:
    from checkpoints import shrunk_row
    from scenes import build_scenes, scenes

    build_scenes(tmp_path, source=scenes(2, 40), vae=shrunk_row(tmp_path / "vae", "flux2"), metrics=())
    text = run("show", tmp_path / "synthetic-flux2").stdout
    assert "32x6x6, posterior mean, stored raw (unscaled)\n" in text
    assert "  model space  patch_batch_norm: model = (patches(raw) - mean[c]) / std[c]\n" in text
    assert "128x3x3: 2x2 cells joined into channels, 128 means and stds\n" in text
    assert "on cpu in float32, channels_last\n" in text
    (row,) = (line for line in text.splitlines() if line.startswith("  train") and " .. " in line)
    assert row.split()[1] == "32"


def test_json_is_the_manifest_file(built: Path, run_installed: RunInstalled) -> None:
    result = run_installed("show", built, "--json")
    assert json.loads(result.stdout) == json.loads((built / "tiny-pool8" / "manifest.json").read_text(encoding="utf-8"))
    assert result.stderr == ""


def test_all_configs_are_shown_unless_one_is_named(run: Run, copy: Path) -> None:
    second = shutil.copytree(copy / "tiny-pool8", copy / "second")
    data = json.loads((second / "manifest.json").read_text(encoding="utf-8"))
    (second / "manifest.json").write_text(with_digest({**data, "config": "second"}), encoding="utf-8")
    (copy / "third" / ".build").mkdir(parents=True)
    both = run("show", copy, "--json")
    assert [entry["config"] for entry in json.loads(both.stdout)] == ["second", "tiny-pool8"]
    assert both.stderr == ("Left out, because it is not complete: third. The command that began it also finishes it.\n")
    assert run("show", copy, "--config", "second").stdout.startswith("second\n")


def test_a_wrong_manifest_names_the_field(run: Run, copy: Path) -> None:
    path = copy / "tiny-pool8" / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["size"]["pixels"] = "many"
    path.write_text(with_digest(data), encoding="utf-8")
    result = run("show", copy)
    assert result.exit_code == 1
    assert result.stderr == "Error: manifest field 'size.pixels': expected int, found 'many'\n"


@pytest.mark.parametrize("columns", [80, 120])
def test_it_fits_a_terminal(built: Path, columns: int, run_on_terminal: RunOnTerminal) -> None:
    shown = run_on_terminal("show", built, columns=columns)
    assert shown.exit_code == 0
    assert max(map(len, shown.lines)) <= columns
    assert "\x1b[1m" in shown.text
    assert any(line.startswith("  PSNR, dB") and len(line.split()) == 10 for line in shown.lines)


def test_a_terminal_too_narrow_for_the_numbers_gets_them_all_the_same(
    built: Path, manifest: Manifest, run_on_terminal: RunOnTerminal
) -> None:
    text = "\n".join(run_on_terminal("show", built, columns=40).lines)
    for metric in manifest.quality.values():
        assert f"{metric.mean:.2f} " in text if metric.unit else f"{metric.mean:.4f}" in text
    assert f"{manifest.size.stored_bytes:,}" in text


def test_a_pipe_gets_whole_rows_without_escapes(built: Path, run_installed: RunInstalled) -> None:
    result = run_installed("show", built, env={"COLUMNS": "40", "FORCE_COLOR": "1"})
    assert "\x1b" not in result.stdout
    assert any(line.startswith("  versions") and "pyarrow" in line for line in result.stdout.splitlines())
    assert not any(line.endswith(" ") for line in result.stdout.splitlines())


def test_the_size_names_every_baseline(manifest: Manifest) -> None:
    size = replace(
        manifest.size,
        raw_rgb_over_stored=3.0,
        source_over_stored=0.25,
        stored_bytes=1234,
        bits_per_pixel=8.0,
        thumbnail_bytes=0,
    )
    assert size_sentence(replace(manifest, size=size)) == (
        "1,234 bytes stored, 8.00 bits per pixel; 3.00x smaller than raw RGB, 4.00x larger than the source files"
    )
    with_pictures = replace(manifest, size=replace(size, thumbnail_bytes=617))
    assert size_sentence(with_pictures).startswith("1,234 bytes stored, 50.0% of them thumbnails, 8.00 bits per pixel;")
    size = replace(size, source_bytes=None, source_over_stored=None)
    assert size_sentence(replace(manifest, size=size)).endswith("than raw RGB; the source has no files to compare with")


def test_what_has_no_score_is_counted_apart(manifest: Manifest) -> None:
    psnr = replace(manifest.quality["psnr"], mean=30.0, median=31.0, p5=28.0, identical=2, undefined=0)
    none = replace(psnr, n=0, mean=None, median=None, p5=None, p95=None, identical=6)
    mae = replace(manifest.quality["mae"], mean=0.1, median=0.1, p5=0.05, p95=0.2)
    assert list(quality_pairs(replace(manifest, quality={"psnr": psnr, "mae": mae}))) == [
        ("PSNR", "30.00 dB mean, 31.00 dB median, 28.00 dB 5th percentile; counted apart: 2 without any loss"),
        ("MAE", "0.1000 mean, 0.1000 median, 0.2000 95th percentile"),
    ]
    assert list(quality_pairs(replace(manifest, quality={"psnr": none}))) == [
        ("PSNR", "no picture has a finite score; counted apart: 6 without any loss")
    ]


def test_skipped_pictures_are_grouped_by_reason(manifest: Manifest) -> None:
    reasons = ["cut", "empty", "cut", "cut", "huge", "odd"]
    skipped = tuple(SkippedInfo(str(i), f"{i}.png", reason, "train", i) for i, reason in enumerate(reasons))
    many = replace(manifest, build=replace(manifest.build, skipped=skipped))
    assert skipped_pairs(many, paths=2, reasons=2) == [
        ("skipped", "6 pictures"),
        ("", "3: cut (0.png, 2.png and 1 more)"),
        ("", "1: empty (1.png)"),
        ("", "and 2 more kinds of reasons: latentstore show"),
    ]
    none = replace(manifest, build=replace(manifest.build, skipped=()))
    assert skipped_pairs(none, paths=1) == [("skipped", "no picture")]


def test_reasons_that_differ_in_numbers_alone_are_one_kind_and_odd_names_stay_on_their_line(manifest: Manifest) -> None:
    reasons = ["cut: 12 bytes", "1x1 is too small", "cut: 7 bytes", "2x2 is too small", "cut: 9 bytes"]
    skipped = tuple(SkippedInfo(str(i), f"new\nline\x1b{i}.png", why, "train", i) for i, why in enumerate(reasons))
    many = replace(manifest, build=replace(manifest.build, skipped=skipped))
    assert skipped_pairs(many, paths=1) == [
        ("skipped", "5 pictures"),
        ("", r"3: such as: cut: 12 bytes (new\nline\x1b0.png and 2 more)"),
        ("", r"2: such as: 1x1 is too small (new\nline\x1b1.png and 1 more)"),
    ]
