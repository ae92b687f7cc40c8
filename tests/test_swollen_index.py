"""An index of other rows than the manifest's, resealed: whoever reads it says so before anything of it is decoded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forged import forge_index
from scenes import plan

from latentstore import CHECKS, Manifest, build, convert, load_latents, open_store, verify
from latentstore.card.files import scores_of
from latentstore.containers.parquet_limits import CheckedParquet
from latentstore.errors import DamagedShardError
from latentstore.hashing import sha256_of
from latentstore.manifest import with_digest
from latentstore.manifest.names import INDEX

CONFIG = "synthetic-pool8"
ROWS = 500_000


@pytest.fixture
def swollen(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose index repeats its first row half a million times, in 20 kB; nothing of it may be decoded."""
    root = Path(shutil.copytree(drawn, tmp_path / "repository"))
    path = root / CONFIG / INDEX
    row = pq.read_table(path).slice(0, 1)
    table = row.take(pa.array(np.zeros(ROWS, np.int64)))
    pq.write_table(table, path, compression="zstd")
    data = json.loads((root / CONFIG / "manifest.json").read_text())
    data["index"].update(bytes=path.stat().st_size, sha256=sha256_of(path))
    (root / CONFIG / "manifest.json").write_text(with_digest(data))
    monkeypatch.setattr(CheckedParquet, "of_group", None)
    return root


COMMANDS: dict[str, Callable[[Path], Any]] = {
    "load": load_latents,
    "load and filter": lambda root: load_latents(root, filter="height > 3"),
    "stream": lambda root: load_latents(f"file://{root}", streaming=True),
    "the whole index": lambda root: open_store(root).index(),
    "the whole index elsewhere": lambda root: open_store(f"file://{root}").index(),
    "convert": lambda root: convert(root, root.parent / "other", layout="fast"),
    "append": lambda root: build(plan(), root, append=True),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_whoever_reads_it_says_what_is_wrong(swollen: Path, command: str) -> None:
    with pytest.raises(DamagedShardError) as caught:
        COMMANDS[command](swollen)
    assert str(caught.value).endswith(f"{CONFIG}/{INDEX} has {ROWS} rows, the manifest says 30.")
    assert str(caught.value).startswith("Index ")


def test_verify_finds_it_and_goes_on(swollen: Path) -> None:
    report = verify(swollen, checks=[CHECKS["index"]])
    assert [finding.message for result in report.results for finding in result.findings] == [
        f"Index {swollen / CONFIG / INDEX} has {ROWS} rows, the manifest says 30."
    ]


def test_a_card_is_written_without_its_scores(swollen: Path) -> None:
    manifest = Manifest.read(swollen / CONFIG)
    assert "psnr" in manifest.metrics
    assert scores_of(swollen, manifest) is None


LIES: dict[str, tuple[str, Any, str]] = {
    "another split": ("split", "test", "does not list the rows of the manifest's shards."),
    "another shard": ("shard", "train-00001-of-00003.parquet", "does not list the rows of the manifest's shards."),
    "no height": ("height", None, "has no height in row 2, which every row must have."),
    "no id": ("id", None, "has no id in row 2, which every row must have."),
    "no path": ("source_path", None, "has no source_path in row 2, which every row must have."),
    "no size": ("source_bytes", None, "has no source_bytes in row 2, which every row must have."),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_index_that_lies_of_a_row_is_not_converted_or_added_to(drawn: Path, tmp_path: Path, lie: str) -> None:
    root = Path(shutil.copytree(drawn, tmp_path / "repository"))
    column, value, sentence = LIES[lie]
    forge_index(root / CONFIG, lambda index: {**index, column: [*index[column][:2], value, *index[column][3:]]})
    for command in ("convert", "append"):
        if command == "append" and column in ("shard", "height", "source_bytes"):
            continue  # it needs none of these
        with pytest.raises(DamagedShardError) as caught:
            COMMANDS[command](root)
        assert str(caught.value) == f"Index {root / CONFIG / INDEX} {sentence}"
    assert not (tmp_path / "other" / CONFIG / "manifest.json").exists()
