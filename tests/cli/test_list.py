"""`latentstore list`: every row of every table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from latentstore_cli.list import LISTINGS

from latentstore.checks.table import CHECKS
from latentstore.containers.table import CONTAINERS
from latentstore.engines.table import ENGINES
from latentstore.metrics.table import METRICS, SET_METRICS
from latentstore.sources.table import SOURCES
from latentstore.storage.table import STORAGES
from latentstore.vaes.table import VAES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.cli.conftest import Run, RunInstalled, RunOnTerminal

TABLES: dict[str, Iterable[str]] = {
    "vaes": VAES,
    "sources": SOURCES,
    "storages": STORAGES,
    "containers": CONTAINERS,
    "metrics": [*METRICS, *SET_METRICS],
    "engines": ENGINES,
    "checks": CHECKS,
}


def test_every_table_can_be_listed() -> None:
    assert list(LISTINGS) == list(TABLES)


@pytest.mark.parametrize("what", list(TABLES))
def test_every_row_is_listed(what: str, run: Run) -> None:
    result = run("list", what)
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.stdout.splitlines()[1:] if line.startswith("  ")]
    assert names[: len(list(TABLES[what]))] == list(TABLES[what])
    rows = json.loads(run("list", what, "--json").stdout)
    assert [row["name"] for row in rows] == list(TABLES[what])


def test_vaes_say_how_much_is_kept(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("list", "vaes", "--json").stdout)}
    assert rows["sdxl"]["pixel_values_per_latent_value"] == 48
    assert rows["sdxl"]["bits_per_pixel_float16"] == 1
    assert rows["pool8"]["bits_per_pixel_float16"] == 0.75
    assert rows["sd35"]["gated"] is True
    assert (rows["flux2"]["gflops_256"], rows["flux2"]["pad_to"]) == (895.71, 16)
    assert rows["flux2"]["normalisation"] == "patch_batch_norm"
    assert rows["sana"]["stochastic"] is False
    assert rows["taef2"]["tiling"].startswith("none: ")
    line = next(line for line in run("list", "vaes").stdout.splitlines() if line.startswith("  sd35 "))
    assert line.split()[1:8] == ["16", "8", "1:12", "4", "83.8", "M", "895.25"]
    assert "stabilityai-ai-community, gated" in line
    assert "stabilityai/stable-diffusion-3.5-large/vae" in line


@pytest.mark.parametrize("what", list(TABLES))
@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_is_cut_on_a_terminal(what: str, columns: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # rich takes the width from COLUMNS; a real terminal, with its escape codes, has its own test below
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("latentstore_cli.output.is_terminal", lambda _: True)
    lines = run("list", what).stdout.splitlines()
    assert max(map(len, lines)) <= columns
    shown = [line.split()[0] for line in lines if line.startswith("  ") and line.strip()]
    assert set(TABLES[what]) <= set(shown)
    assert "…" not in "".join(lines)


def test_a_real_terminal_puts_details_below_each_row(run_on_terminal: RunOnTerminal) -> None:
    shown = run_on_terminal("list", "vaes", columns=80)
    assert shown.exit_code == 0
    assert "\x1b[2m" in shown.text
    assert any(line.startswith("      mit; stabilityai/sdxl-vae; ") for line in shown.lines)


def test_a_pipe_gets_no_escapes(run_installed: RunInstalled) -> None:
    result = run_installed("list", "metrics", env={"FORCE_COLOR": "1"})
    assert "\x1b" not in result.stdout + result.stderr
    assert len(result.stdout.splitlines()) == len(METRICS) + len(SET_METRICS) + 1


def test_an_unknown_table_is_a_usage_error(run: Run) -> None:
    result = run("list", "vae")
    assert result.exit_code == 2
    assert (
        "'vae' is not one of 'vaes', 'sources', 'storages', 'containers', 'metrics', 'engines', 'checks'."
        in result.stderr
    )
