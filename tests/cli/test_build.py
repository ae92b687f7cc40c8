"""`latentstore build`: forms of SOURCE and --vae, what is printed, and how it refuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from latentstore_cli.named_rows import source_row, vae_row
from latentstore_cli.value_kinds import Assignment, Size, device_name

from latentstore import ENGINES
from latentstore.engines.interface import Placement
from latentstore.errors import RequestError
from latentstore.vaes.checkpoint import PACKAGED

if TYPE_CHECKING:
    from pathlib import Path

    from latentstore import BuildProgress
    from tests.cli.conftest import DrawPictures, Run, RunInstalled, RunOnTerminal


def test_a_folder_becomes_a_dataset_and_the_summary_says_what_to_type_next(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run("build", pictures, "--vae", "pool8", "--out", out)
    assert result.exit_code == 0
    assert (out / "tiny-pool8" / "manifest.json").is_file()
    text = result.stdout
    assert text.startswith(f"Built tiny-pool8 in {out / 'tiny-pool8'}\n")
    for part in (
        "  rows     6 train\n",
        "  source   train: 7 images.\n",
        "  skipped  1 picture\n",
        "(lake/broken.png)",
        "  latent   3x2x3 float16, raw, of VAE pool8\n",
        " dB mean, ",
        "than raw RGB, ",
        "than the source files\n",
        f"  latentstore verify {out} --config tiny-pool8 --trust\n",
        f"  batches = load_latents({str(out)!r}, 'tiny-pool8', split='train').loader(64, shuffle=True)\n",
    ):
        assert part in text, text


def test_the_python_that_is_printed_runs(run: Run, pictures: Path, tmp_path: Path) -> None:
    text = run("build", pictures, "--vae", "pool8", "--out", tmp_path / "out").stdout
    code = "\n".join(line.strip() for line in text.splitlines()[-2:])
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102 (that it can be copied is the point)
    assert len(names["batches"]) == 1  # type: ignore[arg-type]


def test_the_python_that_is_printed_trains_on_the_training_split(run: Run, pictures: Path, tmp_path: Path) -> None:
    source = tmp_path / "split"
    for split in ("test", "train"):
        shutil.copytree(pictures, source / split, ignore=shutil.ignore_patterns("broken.png"))
    assert "split='train')" in run("build", source, "--vae", "pool8", "--out", tmp_path / "out").stdout


def test_building_it_again_does_nothing_and_says_so(run: Run, built: Path) -> None:
    arguments = ["build", built.parent / "tiny", "--vae", "pool8", "--out", built, "--rows-per-shard", "4"]
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    result = run(*arguments)
    assert result.exit_code == 0
    expected = f"Already complete, nothing to do: {built / 'tiny-pool8'} holds the result of this very plan.\n"
    assert result.stdout.startswith(expected)
    assert json.loads(run(*arguments, "--json").stdout)["already_complete"] is True
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before


def test_json_is_one_value_and_nothing_else(pictures: Path, tmp_path: Path, run_installed: RunInstalled) -> None:
    out = tmp_path / "out"
    result = run_installed("build", pictures, "--vae", "pool8", "--out", out, "--json")
    assert result.returncode == 0
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert {name: found[name] for name in ("location", "config", "already_complete")} == {
        "location": str(out),
        "config": "tiny-pool8",
        "already_complete": False,
    }
    assert found["manifest"] == json.loads((out / "tiny-pool8" / "manifest.json").read_text(encoding="utf-8"))
    assert "sealing: 7/7 pictures" in result.stderr
    assert "images/s" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr


def test_options_reach_the_plan(run: Run, tmp_path: Path) -> None:
    result = run(
        *("build", "synthetic", "--vae", "pool8", "--out", tmp_path, "--config", "mine", "--json"),
        *("--source-option", "count=5", "--source-option", "size=[40, 24]", "--resize", "32", "--crop", "32x16"),
        *("--tile", "16", "--storage", "float32", "--layout", "fast", "--metrics", "ssim,psnr", "--order", "source"),
        *("--seed", "3", "--batch-size", "2", "--rows-per-shard", "6", "--device", "cpu"),
    )
    assert result.exit_code == 0, result.stderr
    manifest = json.loads(result.stdout)["manifest"]
    preparation = manifest["preparation"]
    assert (preparation["resize"], preparation["crop"], preparation["tile"]) == ([32], [32, 16], [16, 16])
    assert manifest["source"]["options"] == {"count": 5, "size": [40, 24], "seed": 0}
    assert manifest["storage"]["name"] == "float32"
    assert manifest["storage"]["layout"] == "fast"
    assert manifest["metrics"] == ["ssim", "psnr"]
    build = manifest["build"]
    assert (build["order"], build["seed"], build["batch_size"], build["rows_per_shard"]) == ("source", 3, 2, 6)
    assert manifest["splits"]["train"]["rows"] == 10


def test_thumbnails_are_made_unless_refused_and_their_bytes_are_said(run: Run, pictures: Path, tmp_path: Path) -> None:
    sizes = {}
    for side, wanted in ((None, 64), (12, 12), (0, None)):
        out = tmp_path / str(side)
        asked = () if side is None else ("--thumbnail", side)
        result = run("build", pictures, "--vae", "pool8", "--out", out, *asked)
        assert result.exit_code == 0
        manifest = json.loads((out / "tiny-pool8" / "manifest.json").read_text())
        assert manifest.get("thumbnail") == wanted
        shown = run("show", out).stdout
        assert (f"thumbnails of {wanted} pixels" in shown) == (" of them thumbnails, " in result.stdout) == bool(wanted)
        sizes[side] = manifest["size"]
    assert sizes[0]["stored_bytes"] < sizes[12]["stored_bytes"] < sizes[None]["stored_bytes"]
    assert run("build", pictures, "--vae", "pool8", "--out", tmp_path / "x", "--thumbnail", 1025).exit_code == 2


def test_views_are_stored_and_named_wherever_their_rows_are_counted(run: Run, tmp_path: Path) -> None:
    scenes = ("build", "synthetic", "--vae", "pool8", "--source-option", "count=3", "--source-option", "size=16")
    result = run(*scenes, "--out", tmp_path, "--views", "identity, hflip")
    assert result.exit_code == 0, result.stderr
    assert "  rows     6 train\n" in result.stdout
    assert " bits per pixel of each view, " in result.stdout
    text = run("show", tmp_path).stdout
    assert "views        identity, hflip: so many rows a picture, each encoded from the transformed pixels\n" in text
    assert "raw RGB, 3 bytes a pixel, each picture once  2,304" in text
    found = json.loads(run(*scenes, "--out", tmp_path, "--config", "all", "--views", "d4", "--json").stdout)
    assert len(found["manifest"]["preparation"]["views"]) == 8
    assert found["manifest"]["splits"]["train"]["rows"] == 24


def test_views_that_cannot_be_are_refused(run: Run, tmp_path: Path) -> None:
    result = run("build", "synthetic", "--vae", "pool8", "--out", tmp_path, "--views", "identity,hflop")
    assert result.exit_code == 2
    assert "There is no view named 'hflop'. Did you mean 'hflip'?" in result.stderr
    result = run("build", "synthetic", "--vae", "pool8", "--out", tmp_path, "--views", "hflip")
    assert result.exit_code == 1
    assert "is needed too: type identity,hflip." in result.stderr


def test_metrics_none_measures_nothing(run: Run, pictures: Path, tmp_path: Path) -> None:
    result = run("build", pictures, "--vae", "pool8", "--out", tmp_path / "out", "--metrics", "none", "--json")
    assert json.loads(result.stdout)["manifest"]["metrics"] == []


def test_the_shipped_vae_works_from_a_folder_too(run: Run, pictures: Path, tmp_path: Path) -> None:
    folder = next(PACKAGED.iterdir())
    result = run("build", pictures, "--vae", folder, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["manifest"]["vae"]["class_name"] == "AutoencoderKL"


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "code", "sentence"),
    [
        ("resisc54", 2, "There is no source named 'resisc54'. Did you mean 'resisc45'? Known: synthetic, aid, "),
        ("resisc54", 2, "a folder of images (./folder), or a Hub dataset (hub:user/repo)."),
        ("./missing", 1, "There is no folder './missing' (looked for "),
        ("./empty", 1, "The folder './empty' holds no image: looked for files that end in jpg "),
        ("./file.txt", 1, "./file.txt is a file (not an image); latentstore build wants a folder of images"),
        ("hub:name", 2, "Expected hub:user/repo, hub:user/repo@revision or hub:./folder, found 'hub:name'."),
        ("hub:./missing", 1, "There is no folder './missing'"),
        ("./broken", 1, "Source 'broken' at './broken' holds no picture that can be used."),
    ],
)
def test_a_source_that_is_none_is_one_sentence(
    source: str, code: int, sentence: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    (tmp_path / "file.txt").write_text("text", encoding="utf-8")
    result = run("build", source, "--vae", "pool8", "--out", "out")
    assert result.exit_code == code
    assert result.stdout == ""
    assert sentence in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert not list(tmp_path.glob("out/*/manifest.json"))


@pytest.mark.parametrize(
    ("vae", "code", "sentence"),
    [
        ("dmo", 2, "There is no VAE named 'dmo'. Did you mean 'demo'? Known: demo, pool8, "),
        (
            "dmo",
            2,
            "A VAE is a name from `latentstore list vaes` (NAME=FOLDER for weights in a local folder), a folder of an",
        ),
        ("hub:name", 2, "Expected hub:user/repo or hub:user/repo:subfolder, found 'hub:name'."),
        ("user/repo", 1, "--vae user/repo does not exist: expected the folder of an AutoencoderKL checkpoint."),
        ("user/repo", 1, "For the Hub's user/repo, type hub:user/repo."),
        ("./tiny", 1, "tiny is no VAE folder: expected config.json and diffusion_pytorch_model.safetensors"),
    ],
)
def test_a_vae_that_is_none_is_one_sentence(
    vae: str, code: int, sentence: str, run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures.parent)
    result = run("build", pictures, "--vae", vae, "--out", "out")
    assert result.exit_code == code
    assert sentence in result.stderr.splitlines()[-1]
    assert result.stdout == ""


def test_mixed_sizes_name_the_options(run: Run, tmp_path: Path, draw_pictures: DrawPictures) -> None:
    draw_pictures(tmp_path / "mixed", count=1)
    draw_pictures(tmp_path / "mixed" / "other", count=1, size=(32, 32))
    result = run("build", tmp_path / "mixed", "--vae", "pool8", "--out", tmp_path / "out")
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    assert "have different sizes (2 of 16x24, 2 of 32x32)" in line
    for option in ("--resize", "--crop", "--tile"):
        assert option in line


def test_append_says_how_many_were_added_and_that_nothing_is_new(run: Run, pictures: Path, tmp_path: Path) -> None:
    command = ("build", pictures, "--vae", "pool8", "--out", tmp_path / "out")
    assert run(*command).exit_code == 0
    nothing = run(*command, "--append")
    assert nothing.exit_code == 0
    assert nothing.stdout.startswith(f"Nothing to append: {tmp_path / 'out' / 'tiny-pool8'} holds, or lists as skipped")
    (pictures / "lake" / "new.png").write_bytes(next(pictures.glob("forest/*.png")).read_bytes())
    refused = run(*command)
    assert refused.exit_code == 1
    assert "add the new ones with --append" in refused.stderr
    added = run(*command, "--append")
    assert added.exit_code == 0, added.stderr
    assert added.stdout.startswith(f"Added 1 picture to tiny-pool8 in {tmp_path / 'out' / 'tiny-pool8'}\n")


def test_another_plan_in_the_folder_is_refused_with_the_difference(run: Run, built: Path) -> None:
    arguments = ["build", built.parent / "tiny", "--vae", "pool8", "--out", built, "--rows-per-shard", "4"]
    result = run(*arguments, "--seed", "7")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"Error: {built / 'tiny-pool8'} already holds another plan (seed: there 0, asked for 7): "
        "choose another --out or --config, or remove that folder."
    )


def test_strict_stops_at_the_first_bad_picture(run: Run, pictures: Path, tmp_path: Path) -> None:
    result = run("build", pictures, "--vae", "pool8", "--out", tmp_path / "out", "--strict")
    assert result.exit_code == 1
    assert "'lake/broken.png' cannot be used: " in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--crop", "12by4", "expected a side such as 256, or height x width such as 256x300, found '12by4'."),
        ("--resize", "0", "found '0'."),
        ("--tile", "16x", "found '16x'."),
        ("--storage", "float61", "There is no storage named 'float61'. Did you mean 'float16'?"),
        ("--container", "zip", "There is no container named 'zip'. Known: parquet"),
        ("--metrics", "psnr,sim", "There is no metric named 'sim'. Did you mean 'ssim'?"),
        ("--device", "tpu", "expected cpu, cuda, cuda:1 or auto, found 'tpu'."),
        ("--source-option", "count", "expected KEY=VALUE such as count=64, found 'count'."),
        ("--batch-size", "0", "0 is not in the range x>=1."),
    ],
)
def test_a_value_that_cannot_be_understood_is_a_usage_error(option: str, value: str, sentence: str, run: Run) -> None:
    result = run("build", "synthetic", "--vae", "pool8", "--out", "out", option, value)
    assert result.exit_code == 2
    assert f"Error: Invalid value for '{option}': " in result.stderr
    assert sentence in result.stderr


@pytest.mark.parametrize("arguments", [["--vae", "demo", "--out", "x"], ["synthetic"], ["synthetic", "--vae", "demo"]])
def test_what_is_missing_is_a_usage_error(arguments: list[str], run: Run) -> None:
    result = run("build", *arguments)
    assert result.exit_code == 2
    assert "Error: Missing " in result.stderr


# How words become rows ------------------------------------------------------------------------------------------------


def test_sizes_are_height_times_width() -> None:
    assert Size().convert("256", None, None) == (256, 256)
    assert Size().convert("256x300", None, None) == (256, 300)
    assert Size(shorter_side=True).convert("256", None, None) == (256,)
    assert Size(shorter_side=True).convert("256X300", None, None) == (256, 300)


@pytest.mark.parametrize(
    ("text", "value"),
    [("64", 64), ("[1, 2]", [1, 2]), ("true", True), ("label_2", "label_2"), ("a=b", "a=b"), ("", "")],
)
def test_source_options_are_json_where_they_can_be(text: str, value: object) -> None:
    assert Assignment().convert(f"key={text}", None, None) == ("key", value)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000])
def test_a_source_option_that_is_no_sensible_json_is_text(text: str) -> None:
    assert Assignment().convert(f"key={text}", None, None) == ("key", text)


def test_a_table_name_wins_over_a_folder_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aid").mkdir()
    (tmp_path / "photos").mkdir()
    assert source_row("aid").location == "blanchon/AID"
    assert capsys.readouterr().err == (
        "Taking the source 'aid' of the table; for what lies here under that name, type ./aid\n"
    )
    assert source_row("./aid").location == "./aid"
    assert source_row("photos").location == "photos"
    assert capsys.readouterr().err == ""


def test_the_hub_is_asked_for_with_hub(tmp_path: Path) -> None:
    row = source_row("hub:user/repo@v1", options={"streaming": True})
    assert (row.location, row.revision, row.options) == ("user/repo", "v1", {"streaming": True})
    assert source_row(f"hub:{tmp_path}").location == str(tmp_path)


def test_locations_belong_to_table_names(run: Run, tmp_path: Path) -> None:
    assert source_row("aid", location=str(tmp_path)).location == str(tmp_path)
    assert vae_row("sdxl", location=str(tmp_path)).repo == str(tmp_path)
    for arguments in (
        ("./here", "--vae", "pool8", "--source-location", tmp_path),
        ("synthetic", "--vae", "pool8", "--source-location", tmp_path),
        ("synthetic", "--vae", "pool8", "--vae-location", tmp_path),
        ("synthetic", "--vae", "hub:user/repo", "--vae-location", tmp_path),
        ("aid", "--vae", "pool8", "--source-location", tmp_path / "missing"),
    ):
        assert run("build", *arguments, "--out", "out").exit_code == 2


def test_a_device_that_is_not_there_is_refused() -> None:
    assert device_name("cpu") == "cpu"
    assert device_name("auto") in ("cpu", "cuda")
    with pytest.raises(
        RequestError, match=r"^There is no device 'cuda:99' here: \d+ CUDA devices found; type --device"
    ):
        device_name("cuda:99")


# While it runs --------------------------------------------------------------------------------------------------------


def test_a_terminal_shows_a_bar_with_images_a_second(tmp_path: Path, run_on_terminal: RunOnTerminal) -> None:
    shown = run_on_terminal(
        *("build", "synthetic", "--vae", "pool8", "--out", tmp_path, "--batch-size", "4"),
        *("--source-option", "count=40", "--source-option", "size=32"),
    )
    assert shown.exit_code == 0, shown.text
    assert "\x1b[?25l" in shown.text  # the cursor is hidden while the bar is there
    assert "encoding" in shown.text
    assert "images/s" in shown.text
    assert "PSNR" in shown.text
    assert any(line.startswith("40 pictures in 0:00:") and line.endswith(" images/s") for line in shown.lines)
    assert max(map(len, shown.lines)) <= 100 + len(str(tmp_path))  # only the lines to copy may be longer than 80


def test_no_color_gives_plain_lines_on_a_terminal_too(tmp_path: Path, run_on_terminal: RunOnTerminal) -> None:
    shown = run_on_terminal(
        *("build", "synthetic", "--vae", "pool8", "--out", tmp_path, "--source-option", "count=4"),
        *("--source-option", "size=32"),
        env={"NO_COLOR": "1"},
    )
    assert shown.exit_code == 0
    assert "\x1b" not in shown.text
    assert "sealing: 4/4 pictures" in shown.text


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent by os.kill")
def test_ctrl_c_stops_with_a_sentence_and_the_same_command_continues(tmp_path: Path, installed: str) -> None:
    command = [
        *(installed, "build", "synthetic", "--vae", "pool8", "--out", str(tmp_path), "--rows-per-shard", "2"),
        *("--source-option", "count=160", "--source-option", "size=32"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("*/*-00001-of-*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "Stopped: finished shards are kept, and typing the same command again continues."
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert again.returncode == 0, again.stderr
    assert "from before" in again.stderr


def test_a_vae_of_the_table_may_have_its_weights_in_a_folder_named_beside_it(run: Run, tmp_path: Path) -> None:
    row = vae_row(f"demo={PACKAGED / 'demo-v1'}")
    assert (row.name, row.repo, row.channels) == ("demo", str(PACKAGED / "demo-v1"), 16)
    result = run("build", "synthetic", "--vae", f"demo={tmp_path / 'nowhere'}", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"there is no folder '{tmp_path / 'nowhere'}' with the weights of demo" in result.stderr


# How numbers are stored -----------------------------------------------------------------------------------------------


def test_auto_storage_keeps_the_budget_and_the_summary_says_what_it_cost(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("build", pictures, "--vae", "pool8", "--out", out, "--storage", "auto", "--max-psnr-drop", "0.5")
    result = run(*arguments, "--calibration", "4")
    assert result.exit_code == 0, result.stderr
    for part in (
        "  latent   3x2x3 int8, raw, of VAE pool8\n",
        "  steps    1/",
        " of each channel's standard deviation\n",
        "numbers beyond 127 steps\n",
        "dB of mean PSNR against unrounded latents, within the budget of 0.5 dB\n",
    ):
        assert part in result.stdout, result.stdout
    shown = run("show", out).stdout
    assert "Storages that were tried, on 4 pictures\n" in shown
    assert shown.count(" taken\n") == 1
    assert "entropy of the stored numbers, order 0" in shown


def test_options_of_the_storage_reach_the_plan(run: Run, pictures: Path, tmp_path: Path) -> None:
    result = run(
        *("build", pictures, "--vae", "pool8", "--out", tmp_path / "out", "--json", "--storage", "int8"),
        *("--step", "1/20", "--calibration", "3"),
    )
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)["manifest"]["build"]["plan"]
    assert (plan["storage"], plan["step"], plan["calibration"]) == ("int8", 0.05, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--storage", "int8", "--step", "0"), "expected a share of a standard deviation such as 1/16 or 0.05, found"),
        (("--storage", "int8", "--step", "1/0"), "expected a share of a standard deviation"),
        (("--step", "1/8"), "--step goes with --storage int8, found --storage float16."),
        (("--storage", "auto", "--step", "1/8"), "--step goes with --storage int8, found --storage auto."),
        (("--storage", "int9"), "There is no storage named 'int9'"),
    ],
)
def test_options_of_the_storage_that_make_no_sense_are_mistakes(
    run: Run, pictures: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    result = run("build", pictures, "--vae", "pool8", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr.replace("\n", " ")


def test_byte_identical_pictures_are_reported(run: Run, pictures: Path, tmp_path: Path) -> None:
    first = min(path for path in pictures.rglob("*.png") if "broken" not in path.name)
    (pictures / "copies").mkdir()
    (pictures / "copies" / "again.png").write_bytes(first.read_bytes())
    result = run("build", pictures, "--vae", "pool8", "--out", tmp_path / "out")
    assert "2 pictures in 1 set" in result.stdout, result.stdout


def test_more_bad_pictures_than_allowed_stop_it_and_the_option_is_named(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "lake" / "empty.png").touch()
    build_them = ("build", pictures, "--vae", "pool8", "--out", tmp_path / "out")
    result = run(*build_them)
    assert result.exit_code == 1
    assert "2 or more of 8 pictures cannot be used, but no more than 5 % may be bad" in result.stderr
    assert "lake/empty.png': empty file" in result.stderr
    assert not (tmp_path / "out" / "tiny-pool8" / "manifest.json").exists()
    result = run(*build_them, "--max-bad", "0.25")
    assert result.exit_code == 0
    assert "skipped  2 pictures" in result.stdout
    assert len((tmp_path / "out" / "tiny-pool8" / "skipped.jsonl").read_text(encoding="ascii").splitlines()) == 2
    assert run(*build_them, "--max-bad", "5").exit_code == 2


def test_the_profile_goes_to_stderr_or_into_the_json(run: Run, pictures: Path, tmp_path: Path) -> None:
    shown = run("build", pictures, "--vae", "pool8", "--out", tmp_path / "shown", "--profile")
    assert shown.exit_code == 0
    for part in (
        "  reading    read ",
        "  computing  decode ",
        "  writing    hash ",
        "The VAE was busy ",
        "bottleneck is ",
    ):
        assert part in shown.stderr
    assert "bottleneck" not in shown.stdout
    result = run("build", pictures, "--vae", "pool8", "--out", tmp_path / "json", "--profile", "--json")
    profile = json.loads(result.stdout)["profile"]
    assert (profile["workers"], profile["pictures"]) == (1, 6)
    assert set(profile["stages"]) >= {"read", "encode", "decode", "write", "sync"}
    assert 0 < profile["vae_share"] < 1


def test_the_status_needs_no_source_and_says_what_remains(run: Run, pictures: Path, tmp_path: Path) -> None:
    from latentstore import VAES, BuildPlan, build, folder_source

    class Stopped(Exception):  # noqa: N818
        pass

    def stop(progress: BuildProgress) -> None:
        if progress.done >= 5:
            raise Stopped

    wanted = BuildPlan(source=folder_source(str(pictures)), vae=VAES["pool8"], batch_size=1, rows_per_shard=3)
    with pytest.raises(Stopped):
        build(wanted, tmp_path / "out", progress=stop)
    result = run("build", "--status", tmp_path / "out")
    assert result.exit_code == 0
    assert "not complete, and nobody builds it now: type the `latentstore build` command again" in result.stdout
    assert "  finished   1 of 3 shards, 3 of 7 rows\n" in result.stdout
    assert "  waiting    2 of 3 shards, 4 of 7 rows\n" in result.stdout
    assert "train-00000-of-00003.parquet" in result.stdout
    (status,) = json.loads(run("build", "--json", "--status", tmp_path / "out").stdout)
    assert [shard["state"] for shard in status["shards"]] == ["finished", "waiting", "waiting"]
    build(wanted, tmp_path / "out")
    assert ": complete.\n" in run("build", "--status", tmp_path / "out" / wanted.config).stdout
    assert "holds no build of latentstore" in run("build", "--status", pictures).stderr


def test_an_engine_of_ranks_without_a_rank_says_how_to_start_it(run: Run, pictures: Path, tmp_path: Path) -> None:
    result = run("build", pictures, "--vae", "pool8", "--out", tmp_path / "out", "--engine", "torchrun")
    assert result.exit_code == 1
    assert "start them with torchrun or srun" in result.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Placement(3, 8, 1)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "6", "SLURM_LOCALID": "2"}, Placement(5, 6, 2)),
        ({"RANK": "3"}, None),
    ],
)
def test_a_rank_is_what_torchrun_or_slurm_say(environment: dict[str, str], expected: Placement | None) -> None:
    from latentstore_cli.build import _placement

    assert _placement(ENGINES["torchrun"], environment) == expected
    assert _placement(ENGINES["local"], environment) is None


def test_a_batch_size_is_a_number_or_auto(run: Run, pictures: Path, tmp_path: Path) -> None:
    result = run("build", pictures, "--vae", "pool8", "--out", tmp_path, "--batch-size", "auto", "--json")
    assert json.loads(result.stdout)["manifest"]["build"]["batch_size"] in (1, 2, 4, 8, 16, 32, 64, 128, 256)
    refused = run("build", pictures, "--vae", "pool8", "--out", tmp_path, "--batch-size", "many")
    assert refused.exit_code == 2
    assert "'many' is not a valid integer" in refused.stderr
