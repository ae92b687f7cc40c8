"""`latentstore compare`: the table in three forms, the figures, and how it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from latentstore import Manifest
from latentstore.comparison.figure import CAPTION, GAP, HEADING, MARGIN, SIDE, TITLE
from latentstore.comparison.rate_plot import FOOT_MARGIN, LINE, PANEL_HEIGHT, WIDTH

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run, RunInstalled, RunOnTerminal

SCENES = ("synthetic", "--source-option", "count=6", "--source-option", "size=40", "--device", "cpu")
UNREACHABLE = "hub:nobody/nothing"


def test_the_tables_hold_the_manifest_s_numbers(run: Run, tmp_path: Path) -> None:
    result = run("compare", *SCENES, "--vae", "pool8", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    manifest = Manifest.read(tmp_path / "synthetic-pool8")
    lines = result.stdout.splitlines()
    assert lines[0] == "1 VAE on 6 pictures of synthetic"
    quality, cost = (line.split() for line in lines if line.startswith("  pool8 "))
    psnr, ssim = manifest.quality["psnr"], manifest.quality["ssim"]
    assert quality[1:] == [
        f"{psnr.mean:.2f}",
        f"{psnr.pooled:.2f}",
        f"{ssim.mean:.4f}",
        "unavailable",
        "unavailable",
    ]
    assert cost[2:5] == ["3x5x5", f"{manifest.size.stored_bytes:,}", f"{manifest.size.bits_per_pixel:.2f}"]
    assert any(line.startswith("  LPIPS unavailable  alexnet-owt-7be5be79.pth ") for line in lines)
    assert lines[-1] == f"Kept: synthetic-pool8 in {tmp_path}"


def test_a_vae_that_cannot_be_reached_costs_the_exit_code_and_nothing_else(run_installed: RunInstalled) -> None:
    env = {"HF_HUB_OFFLINE": "1"}
    result = run_installed("compare", *SCENES, "--vae", "sdxl", "--vae", UNREACHABLE, "--vae", "pool8", env=env)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    for name in ("sdxl", UNREACHABLE):
        assert any(line.split()[:3] == [name, "not", "measured"] for line in lines)
        assert any(line.startswith(f"  {name} not measured") and "Hub cannot be reached" in line for line in lines)
    assert any(line.startswith("  pool8 ") and "unavailable" in line for line in lines)
    assert "pool8, 3 of 3:\n" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_json_is_one_value(run_installed: RunInstalled, tmp_path: Path) -> None:
    figure = tmp_path / "vaes.png"
    result = run_installed("compare", *SCENES, "--vae", "pool8", "--limit", "4", "--json", "--figure", figure)
    assert result.returncode == 0, result.stderr
    data = json.loads(result.stdout, parse_constant=pytest.fail)
    assert data["ok"] is True
    assert data["source"]["limit"] == data["vaes"][0]["pictures"] == 4
    assert data["figures"] == [str(figure), str(tmp_path / "vaes-rate.png")]
    assert [encoder["name"] for encoder in data["rate"]["encoders"]] == ["JPEG", "WebP", "AVIF"]
    with Image.open(figure) as sheet, Image.open(tmp_path / "vaes-rate.png") as rate:
        sides = 240  # 40 pixels, enlarged six times
        height = 2 * MARGIN + TITLE + HEADING + 4 * (sides + CAPTION)
        assert sheet.size == (2 * MARGIN + 2 * sides + GAP, height)
        assert sides <= SIDE
        assert rate.size == (WIDTH, PANEL_HEIGHT + 2 * LINE + FOOT_MARGIN)


def test_markdown_is_markdown(run: Run) -> None:
    result = run("compare", *SCENES, "--vae", "pool8", "--protocol", "vaes4rs", "--markdown")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "## 1 VAE on 6 pictures of synthetic"
    assert "| PSNR (batches of 16, vaes4rs), dB | SSIM (on [-1, 1], vaes4rs) |" in lines[2]
    assert lines[3].count("---") == lines[2].count("|") - 1
    assert lines[4].startswith("| pool8 | 0.00 | 3x5x5 | ")


def test_options_reach_the_comparison(run: Run, tmp_path: Path) -> None:
    result = run(
        *("compare", *SCENES, "--vae", "pool8", "--vae", "pool8", "--out", tmp_path, "--json"),
        *("--resize", "32", "--crop", "32x16", "--tile", "16", "--seed", "3", "--batch-size", "2"),
        *("--dtype", "bfloat16", "--weights", tmp_path),
    )
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert [vae["name"] for vae in data["vaes"]] == ["pool8"]  # named twice is meant once
    assert data["preparation"]["tile"] == [16, 16]
    assert data["protocol"] | {"seed": 3, "batch_size": 2} == data["protocol"]
    assert data["vaes"][0]["dtype"] == "bfloat16"
    assert data["vaes"][0]["pictures"] == 12
    assert f"is not in {tmp_path}" in data["columns"][3]["unavailable"]


def test_published_numbers_are_shown_for_the_study_s_sources(run: Run, pictures: Path) -> None:
    (pictures / "lake" / "broken.png").unlink()
    pictures = pictures.rename(pictures.parent / "aid")
    text = run("compare", pictures, "--vae", "pool8").stdout
    assert "Published by VAEs4RS, beside what was measured here\n" in text
    assert any(line.split()[:2] == ["FLUX2", "34.46"] for line in text.splitlines())
    assert "What differs in the published numbers\n" in text
    assert "  [a]      PSNR here is the mean over single pictures;" in text


@pytest.mark.parametrize("protocol", ["ours", "vaes4rs"])
def test_it_fits_a_terminal(protocol: str, run_on_terminal: RunOnTerminal) -> None:
    shown = run_on_terminal("compare", *SCENES, "--vae", "pool8", "--protocol", protocol, columns=80)
    assert shown.exit_code == 0
    assert max(map(len, shown.lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--vae", "pool9"], 2, "There is no VAE named 'pool9'. Did you mean 'pool8'?"),
        (["--vae", "pool8", "--protocol", "vae4rs"], 2, "There is no protocol named 'vae4rs'. Did you mean 'vaes4rs'?"),
        (["--vae", "pool8", "--json", "--markdown"], 2, "--json and --markdown are two forms of one result"),
        (["--vae", "pool8", "--figure", "vaes.jpg"], 2, "expected a file name that ends in .png, found 'vaes.jpg'."),
        (["--vae", "pool8", "--figure", "no/vaes.png"], 2, "there is no folder 'no' to write it into."),
        (["--vae", "pool8", "--rate", "rate.pdf"], 2, "expected a file name that ends in .png, found 'rate.pdf'."),
        (["--vae", "pool8", "--rate", "no/rate.png"], 2, "there is no folder 'no' to write it into."),
        (["--vae", "pool8", "--storages", "int8"], 2, "--storages chooses what --rate measures: add --rate FILE.png."),
        (
            ["--vae", "pool8", "--rate", "r.png", "--storages", "float61"],
            2,
            "There is no storage named 'float61'. Did you mean 'float16'?",
        ),
        (["--vae", "pool8", "--rate", "r.png", "--storages", "none"], 2, "leaves --rate nothing to measure"),
        (["--vae", "pool8", "--rate", "a.png", "--figure", "./a.png"], 2, "would write the same file"),
        (["--vae", "pool8", "--limit", "0"], 2, "0 is not in the range x>=1"),
        ([], 2, "Missing option '--vae'"),
    ],
)
def test_it_refuses_in_one_sentence(arguments: list[str], code: int, sentence: str, run: Run) -> None:
    result = run("compare", *SCENES, *arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert sentence in " ".join(result.stderr.split())


def test_a_source_that_is_not_there_is_one_sentence(run: Run) -> None:
    result = run("compare", "./missing", "--vae", "pool8")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: There is no folder './missing'")


def test_rate_draws_curves_and_prints_the_storages(run: Run, tmp_path: Path) -> None:
    rate, figure = tmp_path / "rate.png", tmp_path / "vaes.png"
    wanted = ("--vae", "pool8", "--storages", "float16,int8")
    result = run("compare", *SCENES, *wanted, "--rate", rate, "--figure", figure)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    start = lines.index("Storages, on 6 pictures")
    table = [line.split() for line in lines[start + 1 : lines.index("", start)]]
    assert " ".join(table[0]) == "VAE storage step latent bits/pixel entropy bits/pixel PSNR, dB dB lost"
    assert [line[1:3] for line in table[1:]][:1] + [line[1:3] for line in table[1:]][-2:] == [
        ["int8", "1/2"],
        ["int8", "1/32"],
        ["float16", "-"],
    ]
    assert "Bytes for the same quality" in lines
    assert lines[-2:] == [f"Figure: {figure}", f"Figure: {rate}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rate.png", "vaes.png"]
    with Image.open(rate) as image:
        assert image.size == (WIDTH, PANEL_HEIGHT + 3 * LINE + FOOT_MARGIN)


def test_rate_in_json_and_markdown(run: Run, tmp_path: Path) -> None:
    rate = tmp_path / "rate.png"
    wanted = ("compare", *SCENES, "--vae", "pool8", "--rate", rate, "--storages", "float16")
    data = json.loads(run(*wanted, "--json").stdout, parse_constant=pytest.fail)
    assert data["figures"] == [str(rate)]
    (point,) = data["rate"]["vaes"]["pool8"]["storages"]
    assert (point["storage"], point["step"], point["loss_db"]) == ("float16", None, pytest.approx(0, abs=0.05))
    text = run(*wanted, "--markdown").stdout
    assert f"| pool8 | float16 | - | {point['bits_per_pixel']:.3f} | " in text


def test_rate_draws_nothing_where_nothing_was_measured(run: Run, tmp_path: Path) -> None:
    result = run("compare", *SCENES, "--vae", tmp_path, "--rate", tmp_path / "rate.png")
    assert result.exit_code == 1
    assert "No figure was drawn: no VAE was measured.\n" in result.stderr
    assert "Storages" not in result.stdout
    assert not (tmp_path / "rate.png").exists()


def test_no_figure_is_drawn_of_nothing(run: Run, tmp_path: Path) -> None:
    result = run("compare", *SCENES, "--vae", tmp_path, "--figure", tmp_path / "vaes.png")
    assert result.exit_code == 1
    assert "No figure was drawn: no VAE was measured.\n" in result.stderr
    assert "is no VAE folder" in result.stdout
    assert not (tmp_path / "vaes.png").exists()
