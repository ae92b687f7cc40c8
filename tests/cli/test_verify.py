"""`latentstore verify`: the table of checks, what it found, and its exit code."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from latentstore_cli.named_rows import source_and_vae_rows

from latentstore.checks.table import CHECKS
from latentstore.manifest import with_digest

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.cli.conftest import DrawPictures, Run, RunInstalled, RunOnTerminal


def test_a_sound_dataset_passes_every_check(run: Run, built: Path) -> None:
    result = run("verify", built, "--trust")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"tiny-pool8: {len(CHECKS)} passed"
    assert lines[1].split() == ["check", "result", "seconds", "note"]
    assert [line.split()[:2] for line in lines[2:]] == [[name, "passed"] for name in CHECKS]
    assert result.stderr == ""


def test_a_changed_shard_is_named_and_fails(copy: Path, run_installed: RunInstalled) -> None:
    shard = sorted((copy / "tiny-pool8").glob("train-*.parquet"))[1]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    result = run_installed("verify", copy, "--trust")
    assert result.returncode == 1
    assert "FAILED hashes\n" in result.stdout
    assert f"  {shard.name}  its sha256 is not the one in the manifest: its bytes were changed\n" in result.stdout
    assert result.stdout.splitlines()[0] == f"tiny-pool8: {len(CHECKS) - 1} passed, 1 FAILED"
    assert f"left out {shard.name}, see hashes" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert "\x1b" not in result.stdout + result.stderr


def test_missing_shards_leave_what_depends_on_them_not_run(run: Run, copy: Path) -> None:
    for shard in (copy / "tiny-pool8").glob("train-*.parquet"):
        shard.unlink()
    result = run("verify", copy)
    assert result.exit_code == 1
    assert "is listed in the manifest, but missing" in result.stdout
    assert [line.split()[-2:] for line in result.stdout.splitlines() if line.split()[:1] == ["hashes"]] == [
        ["needs", "files"]
    ]


def test_a_damaged_manifest_is_a_failed_check(run: Run, copy: Path) -> None:
    (copy / "tiny-pool8" / "manifest.json").write_text("{}", encoding="utf-8")
    result = run("verify", copy)
    assert result.exit_code == 1
    assert "FAILED manifest\n" in result.stdout
    assert "manifest field 'format_version': " in result.stdout


def test_json_is_the_report(built: Path, run_installed: RunInstalled) -> None:
    result = run_installed("verify", built / "tiny-pool8", "--sample", "2", "--trust", "--json")
    assert result.returncode == 0
    report = json.loads(result.stdout, parse_constant=_refuse)
    assert report["ok"] is True
    assert report["config"] == "tiny-pool8"
    assert [check["check"] for check in report["results"]] == list(CHECKS)
    notes = {check["check"]: check["note"] for check in report["results"]}
    assert notes["quality"] == "2 rows decoded and measured again"
    assert notes["likeness"] == "2 thumbnails held against what their rows decode to"
    assert all(isinstance(check["seconds"], float) for check in report["results"])


def _refuse(name: str) -> None:
    raise AssertionError(name)


def test_all_configs_are_verified_unless_one_is_named(run: Run, copy: Path) -> None:
    second = shutil.copytree(copy / "tiny-pool8", copy / "second")
    manifest = json.loads((second / "manifest.json").read_text(encoding="utf-8"))
    plan = {**manifest["build"]["plan"], "config": "second"}
    renamed = {**manifest, "config": "second", "build": {**manifest["build"], "plan": plan}}
    (second / "manifest.json").write_text(with_digest(renamed), encoding="utf-8")
    result = run("verify", copy, "--sample", "1", "--json")
    assert result.exit_code == 0
    assert [report["config"] for report in json.loads(result.stdout)] == ["second", "tiny-pool8"]
    assert json.loads(run("verify", copy, "--config", "second", "--sample", "1", "--json").stdout)["config"] == "second"
    next(iter(second.glob("train-*.parquet"))).unlink()
    assert run("verify", copy, "--sample", "1").exit_code == 1


def test_quick_says_what_it_does_not_look_at(run: Run, built: Path) -> None:
    result = run("verify", built, "--quick")
    assert result.exit_code == 0
    quick = sum(row.depth == "quick" for row in CHECKS.values())
    assert result.stdout.splitlines()[0] == f"tiny-pool8: {quick} passed, {len(CHECKS) - quick} not run"
    assert "not part of depth quick" in result.stdout
    assert json.loads(run("verify", built, "--quick", "--json").stdout)["depth"] == "quick"


def test_full_measures_every_row(run: Run, built: Path) -> None:
    result = run("verify", built, "--full", "--sample", "1", "--trust")
    assert result.exit_code == 0
    assert "6 rows decoded and measured again" in result.stdout
    assert "the pictures of 6 rows hashed\n" in result.stdout


def test_quick_and_full_exclude_each_other(run: Run, built: Path) -> None:
    result = run("verify", built, "--quick", "--full")
    assert result.exit_code == 2
    assert "--quick and --full exclude each other." in result.stderr


def test_without_a_sample_quality_is_not_run(run: Run, built: Path) -> None:
    lines = run("verify", built, "--sample", "0").stdout.splitlines()
    assert lines[0] == f"tiny-pool8: {len(CHECKS) - 3} passed, 3 not run"
    for check in ("quality", "likeness"):
        assert any(line.split()[:3] == [check, "not", "run"] for line in lines)


def test_a_source_that_has_moved_is_given_by_hand(run: Run, built: Path, copy: Path, tmp_path: Path) -> None:
    manifest = copy / "tiny-pool8" / "manifest.json"
    data = json.loads(manifest.read_text(encoding="utf-8"))
    data["source"]["location"] = data["build"]["plan"]["location"] = str(tmp_path / "gone")
    manifest.write_text(with_digest(data), encoding="utf-8")
    without = run("verify", copy, "--trust")
    assert without.exit_code == 0
    assert "not run" in without.stdout
    assert "the source pictures are not at hand" in without.stdout
    for option in ("--source", "--source-location"):
        given = run("verify", copy, option, built.parent / "tiny")
        assert given.exit_code == 0
        assert given.stdout.startswith(f"tiny-pool8: {len(CHECKS)} passed\n")
        assert "the pictures of 6 rows hashed\n" in given.stdout


def test_another_source_does_not_pass(run: Run, built: Path, tmp_path: Path, draw_pictures: DrawPictures) -> None:
    other = draw_pictures(tmp_path / "other", seed=1)
    (other / "lake" / "broken.png").write_bytes(b"no picture")
    result = run("verify", built, "--source", other)
    assert result.exit_code == 1
    assert "FAILED source\n" in result.stdout
    assert "another sha256" in result.stdout
    gone = run("verify", built, "--source", tmp_path / "gone")
    assert gone.exit_code == 1
    assert gone.stderr.startswith("Error: ")
    unknown = run("verify", built, "--source", "nothing-of-the-kind")
    assert unknown.exit_code == 2
    assert "A SOURCE is a name from `latentstore list sources`" in unknown.stderr


def test_a_named_source_keeps_the_options_of_the_recorded_one(built: Path, tmp_path: Path) -> None:
    source, vae = source_and_vae_rows(str(built), "tiny-pool8", str(tmp_path), None)
    assert vae is None
    assert source is not None
    assert (source.name, source.location) == ("tiny", str(tmp_path))
    other, _ = source_and_vae_rows(str(built), "tiny-pool8", "hub:user/repo@v2", None)
    assert other is not None
    assert (other.location, other.revision) == ("user/repo", "v2")


def test_duplicates_are_a_warning(run: Run, tmp_path: Path, draw_pictures: DrawPictures) -> None:
    photos = draw_pictures(tmp_path / "photos")
    shutil.copy(photos / "lake" / "0.png", photos / "forest" / "copy.png")
    assert run("build", photos, "--vae", "pool8", "--out", tmp_path / "out").exit_code == 0
    result = run("verify", tmp_path / "out", "--trust")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"photos-pool8: {len(CHECKS)} passed, 1 warning"
    assert "warning of duplicates\n" in result.stdout
    sentence = "2 pictures in 1 set of equal ones, byte for byte; 1 set with different labels"
    assert f"  index.parquet  {sentence}\n" in result.stdout
    (found,) = [
        r["warnings"] for r in json.loads(run("verify", tmp_path / "out", "--json").stdout)["results"] if r["warnings"]
    ]
    assert found == [{"file": "index.parquet", "message": sentence, "warning": True}]
    assert sentence in run("show", tmp_path / "out").stdout


def test_the_vae_can_be_read_from_a_folder(built: Path, tmp_path: Path) -> None:
    source, vae = source_and_vae_rows(str(built), "tiny-pool8", None, str(tmp_path))
    assert source is None
    assert vae is not None
    assert vae.repo == str(tmp_path)


def test_what_is_no_dataset_is_one_sentence(run: Run, built: Path, tmp_path: Path) -> None:
    (tmp_path / "begun" / "mine" / ".build").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for arguments, sentence in (
        (
            [tmp_path / "empty"],
            f"{tmp_path / 'empty'} holds no latent dataset: expected <config>/manifest.json below it",
        ),
        ([tmp_path / "begun"], "mine is not complete: type the same `latentstore build` command again to finish it."),
        ([tmp_path / "missing"], f"There is no folder {str(tmp_path / 'missing')!r}."),
        (["user/name"], "with a network, type: hf download user/name --repo-type dataset"),
        ([built, "--config", "tiny-pool9"], "There is no config named 'tiny-pool9'. Did you mean 'tiny-pool8'?"),
    ):
        for command in ("verify", "show"):
            result = run(command, *arguments)
            assert result.exit_code == 1
            assert result.stdout == ""
            assert len(result.stderr.splitlines()) == 1
            assert result.stderr.startswith("Error: ")
            assert sentence in result.stderr


def test_it_fits_a_terminal(built: Path, run_on_terminal: RunOnTerminal) -> None:
    shown = run_on_terminal("verify", built, "--sample", "1", "--trust", columns=80)
    assert shown.exit_code == 0
    assert any(line.split()[:2] == ["quality", "passed"] for line in shown.lines)
    assert max(map(len, shown.lines)) <= 80


def test_a_check_that_fails_on_a_terminal_is_red(
    copy: Path, run_on_terminal: RunOnTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    min((copy / "tiny-pool8").glob("train-*.parquet")).unlink()
    shown = run_on_terminal("verify", copy)
    assert shown.exit_code == 1
    assert "\x1b[1;31m" in shown.text
