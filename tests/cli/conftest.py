"""Tiny pictures, one sealed dataset made of them, and the three ways to run the command line."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest
from click.testing import CliRunner, Result
from latentstore_cli.main import main
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PATIENCE = 120.0
"""Seconds after which a process on a pseudo terminal is given up."""


class Run(Protocol):
    """Runs the command line in this process."""

    def __call__(self, *arguments: object) -> Result: ...


class RunInstalled(Protocol):
    """Runs the installed command with both streams piped."""

    def __call__(
        self, *arguments: object, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]: ...


class RunOnTerminal(Protocol):
    """Runs the installed command on a pseudo terminal of so many columns."""

    def __call__(self, *arguments: object, columns: int = 80, env: Mapping[str, str] | None = None) -> Shown: ...


class DrawPictures(Protocol):
    """Draws two class folders of smooth noise, ``count`` PNG files each, and gives the folder."""

    def __call__(self, folder: Path, count: int = 3, size: tuple[int, int] = (16, 24), seed: int = 0) -> Path: ...


@dataclass(frozen=True)
class Shown:
    """What a command wrote on a terminal, both streams together."""

    exit_code: int
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines without escape codes, each as it looks at its end."""
        return [ESCAPE.sub("", line).rstrip("\r").rpartition("\r")[2] for line in self.text.split("\n")]


def draw_pictures(folder: Path, count: int = 3, size: tuple[int, int] = (16, 24), seed: int = 0) -> Path:
    """Two class folders of smooth noise, ``count`` PNG files each."""
    random = np.random.default_rng(seed)
    for name in ("forest", "lake"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((size[1], size[0])).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures of two classes, and a file that only says it is one."""
    folder = draw_pictures(tmp_path / "tiny")
    (folder / "lake" / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def run() -> Run:
    """Run the command line in this process; exceptions that are no exit are raised."""

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)

    return invoke


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one sealed config, ``tiny-pool8``; tests that change it copy it first."""
    root = tmp_path_factory.mktemp("built")
    folder = draw_pictures(root / "tiny")
    (folder / "lake" / "broken.png").write_bytes(b"no picture")
    arguments = ["build", str(folder), "--vae", "pool8", "--out", str(root / "out"), "--rows-per-shard", "4"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return root / "out"


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A copy of the sealed repository that may be damaged."""
    return shutil.copytree(built, tmp_path / "copy")


def installed() -> str:
    """The command as users have it."""
    found = shutil.which("latentstore", path=str(Path(sys.executable).parent)) or shutil.which("latentstore")
    assert found is not None, "the command line is not installed: pip install -e ."
    return found


def run_installed(*arguments: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The installed command with both streams piped."""
    return subprocess.run(
        [installed(), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env={**os.environ, **(env or {})},
    )


def run_on_terminal(*arguments: object, columns: int = 80, env: Mapping[str, str] | None = None) -> Shown:
    """What the installed command writes on a pseudo terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [installed(), *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**kept, "TERM": "xterm-256color", **(env or {})},
    )
    os.close(theirs)
    written = b""
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.5)[0]:
                continue
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # Linux's end of file: the other side is closed
                break
            if not chunk:
                break
            written += chunk
        return Shown(process.wait(timeout=10), written.decode("utf-8", "replace"))
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture(name="run_installed")
def _run_installed() -> RunInstalled:
    return run_installed


@pytest.fixture(name="run_on_terminal")
def _run_on_terminal() -> RunOnTerminal:
    return run_on_terminal


@pytest.fixture(name="draw_pictures")
def _draw_pictures() -> DrawPictures:
    return draw_pictures


@pytest.fixture(name="installed")
def _installed() -> str:
    return installed()
