"""`latentstore fetch`: says what it wants, and never leaves or takes a wrong file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latentstore.metrics.table import WEIGHTS

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def test_a_wrong_file_of_that_name_is_refused_and_left_as_it_is(tmp_path: Path, run: Run) -> None:
    file = tmp_path / WEIGHTS["alexnet"].file
    file.write_bytes(b"something else")
    result = run("fetch", str(tmp_path), "alexnet")
    assert result.exit_code == 1
    assert f"{WEIGHTS['alexnet'].file} (sha256 {WEIGHTS['alexnet'].sha256}) is expected" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == b"something else"


def test_an_unknown_name_suggests_the_nearest(tmp_path: Path, run: Run) -> None:
    result = run("fetch", str(tmp_path), "alexnett")
    assert result.exit_code == 2
    assert "Did you mean 'alexnet'" in result.stderr
