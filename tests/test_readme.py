"""The README's words are commands and code that run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from latentstore.sources.synthetic import draw_scene

ROOT = Path(__file__).parents[1]
TOOL = str(Path(sys.executable).parent / "latentstore")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_every_block_runs_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("farmland", "lake"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for seed in range(3):
            Image.fromarray(draw_scene(kind, (40, 40), seed)).save(tmp_path / "photos" / kind / f"{seed}.png")
    monkeypatch.chdir(tmp_path)
    commands = [line for line in blocks("bash")[0].splitlines() if line]
    assert [command.split()[1] for command in commands] == ["build", "verify", "show"]
    for command in commands:
        tool = [TOOL, *command.split()[1:]]
        done = subprocess.run(tool, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102 (our own text)
    assert names["latent"].shape[1:] == (16, 5, 5)
    assert names["images"].shape[1:] == (3, 40, 40)
    assert names["plain"][0]["latent"].shape == (16, 5, 5)
    assert names["plain"].features["label"].names == ["farmland", "lake"]
    assert len(names["good"]) > 0


def test_the_commands_of_the_real_thing_name_things_that_exist() -> None:
    from latentstore import SOURCES, VAES

    lines = [line.split() for block in blocks("text") for line in block.splitlines() if line]
    assert {words[1] for words in lines} == {"build", "compare", "convert"}
    for words in lines:
        if words[1] != "convert":
            source, vae = words[2], words[words.index("--vae") + 1]
            assert source in SOURCES or source.startswith("hub:") or source == "photos"
            assert vae in VAES or vae.startswith("./")
        tool = [TOOL, words[1], "--help"]
        shown = subprocess.run(tool, capture_output=True, text=True, timeout=60, check=True).stdout
        for option in {word for word in words if word.startswith("--")}:
            assert option in shown


@pytest.mark.parametrize("script", ["scripts/demo", "scripts/test", "scripts/check", ".ci/run"])
def test_the_scripts_are_there_and_may_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


def test_ci_runs_the_readmes_commands() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    for command in blocks("bash")[1].splitlines():
        assert command.split()[0] in ci


def test_links_inside_the_repository_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
