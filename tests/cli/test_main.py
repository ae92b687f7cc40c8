"""The group: light help, the version, and how errors end a command."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner
from latentstore_cli.main import COMMANDS, main

import latentstore
from latentstore.manifest import with_digest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run, RunInstalled

HEAVY = (
    "torch",
    "diffusers",
    "datasets",
    "torchmetrics",
    "webdataset",
    "pyarrow",
    "PIL",
    "rich",
    "numpy",
    "latentstore",
)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from latentstore_cli.main import main
try:
    main({arguments!r})
except SystemExit as end:
    assert end.code == 0
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"
    assert result.stdout.startswith("Usage:")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_an_example_that_can_be_typed(
    name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resisc45").mkdir()
    text = run(name, "--help").stdout
    examples = [line.strip() for line in text.splitlines() if line.startswith(f"    latentstore {name} ")]
    assert "Examples:" in text
    assert examples
    for example in examples:
        arguments = shlex.split(example.partition("|")[0])[2:]
        command = main.get_command(click.Context(main), name)
        assert command is not None
        # --status answers while it is parsed, and there is nothing yet to tell of.
        command.make_context(name, arguments, resilient_parsing="--status" in arguments)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_option_has_help(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, option.name


def test_version_is_the_library_s(run_installed: RunInstalled) -> None:
    result = run_installed("--version")
    assert result.stdout == f"latentstore {latentstore.__version__}\n"
    assert result.stderr == ""


def test_an_unknown_command_is_answered_with_the_nearest(run: Run) -> None:
    result = run("biuld")
    assert result.exit_code == 2
    assert "There is no command 'biuld'. Did you mean 'build'?" in result.stderr


def test_a_full_disk_ends_in_one_sentence(run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/file")

    monkeypatch.setattr(latentstore, "build", full)
    result = run("build", pictures, "--vae", "pool8", "--out", "anywhere")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == (
        "Error: /out/file: No space left on device; make room, then type the same command again: it continues."
    )


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            ["build", "synthetic", "--vae", "pool8", "--out", "x"],
            "Stopped: finished shards are kept, and typing the same command again continues.",
        ),
        (["verify", "x"], "Stopped: nothing was changed; typing the same command again starts over."),
    ],
)
def test_ctrl_c_says_what_is_kept(command: list[str], sentence: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(latentstore, command[0], stopped)
    result = run(*command)
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == sentence


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(latentstore, "verify", broken)
    assert isinstance(CliRunner().invoke(main, ["verify", "x"]).exception, ZeroDivisionError)


def test_only_the_library_s_own_warnings_are_shown(run: Run, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = copy / "tiny-pool8" / "manifest.json"
    data = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(with_digest({**data, "format_version": "1.99"}), encoding="utf-8")
    opened = latentstore.open_store

    def noisy(*arguments: str | None) -> latentstore.LatentStore:
        warnings.warn("a library's own business", DeprecationWarning, stacklevel=1)
        return opened(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(latentstore, "open_store", noisy)
    result = run("show", copy)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "Warning: The dataset is written in format 1.99, newer than 1.0: fields unknown here are ignored."
    ]
