"""Datasets written when format 1.0 was final: every later version reads, verifies and decodes them to the same numbers.

They were made by ``scripts/make_golden.py``. Where one of these tests fails, the code is wrong, not the files.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentstore import LatentDataset, folder_source, load_latents, open_store, verify
from latentstore.errors import UnsupportedVersionError
from latentstore.manifest import with_digest

GOLDEN = Path(__file__).parent / "data" / "format-1.0"
NUMBERS: dict[str, dict[str, dict[str, Any]]] = json.loads((GOLDEN / "numbers.json").read_text())
PARTS = [(config, split) for config, splits in NUMBERS.items() for split in splits]
LARGEST = 300_000


def loaded(config: str, split: str, **options: Any) -> LatentDataset:
    columns = ["id", "label", "psnr"]
    return LatentDataset(open_store(GOLDEN, config), split=split, columns=columns, views="all", **options)


@pytest.mark.parametrize(("config", "split"), PARTS)
def test_rows_and_raw_latents_are_the_recorded_ones_to_the_last_bit(config: str, split: str) -> None:
    expected = NUMBERS[config][split]
    dataset = loaded(config, split, space="raw")
    batch = dataset.batch(range(len(dataset)))
    assert batch["id"] == expected["id"]
    assert batch["label"].tolist() == expected["label"]
    assert batch["psnr"].tolist() == expected["psnr"]
    assert np.array_equal(batch["latent"].numpy(), np.array(expected["raw"], np.float32))


@pytest.mark.parametrize(("config", "split"), PARTS)
def test_streaming_gives_the_same_rows(config: str, split: str) -> None:
    expected = NUMBERS[config][split]
    rows = load_latents(GOLDEN, config, split=split, space="raw", columns=["id"], views="all", streaming=True)
    batches = list(rows.loader(batch_size=2))
    assert [name for batch in batches for name in batch["id"]] == expected["id"]
    found = torch.cat([batch["latent"] for batch in batches])
    assert np.array_equal(found.numpy(), np.array(expected["raw"], np.float32))


@pytest.mark.parametrize(("config", "split"), PARTS)
def test_decoded_pictures_have_the_recorded_means(config: str, split: str) -> None:
    expected = NUMBERS[config][split]
    dataset = loaded(config, split)
    pictures = dataset.decode(dataset.batch(range(len(dataset)))["latent"])
    assert pictures.mean(dim=(1, 2, 3)).tolist() == pytest.approx(expected["decoded_mean"], abs=1e-5)


@pytest.mark.parametrize("config", NUMBERS)
def test_every_check_passes_with_every_row_measured_again(config: str) -> None:
    report = verify(GOLDEN, config, depth="full", source=folder_source(GOLDEN / "pictures"))
    assert {result.check: result.status for result in report.results if result.status != "passed"} == {}


def test_storages_containers_and_thumbnails_are_all_among_them() -> None:
    found = {
        (manifest.storage.name, manifest.storage.container, manifest.storage.layout, manifest.thumbnail > 0)
        for manifest in (open_store(GOLDEN, config).manifest for config in NUMBERS)
    }
    assert found >= {
        ("float16", "parquet", "compact", True),
        ("float16", "parquet", "fast", False),
        ("int8", "parquet", "compact", False),
        ("float16", "webdataset", "fast", True),
        ("int8", "webdataset", "fast", False),
    }
    assert {open_store(GOLDEN, config).manifest.format_version for config in NUMBERS} == {"1.0"}
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < LARGEST


@pytest.mark.parametrize(("version", "reads"), [("1.7", True), ("2.0", False), ("0.9", False)])
def test_a_newer_minor_version_is_read_with_a_warning_and_another_major_one_refused(
    tmp_path: Path, version: str, *, reads: bool
) -> None:
    folder = Path(shutil.copytree(GOLDEN / "float16-fast", tmp_path / "float16-fast"))
    data = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(with_digest({**data, "format_version": version, "of_the_future": 1}))
    if reads:
        with pytest.warns(UserWarning, match=r"written in format 1.7, newer than 1.0"):
            assert len(load_latents(folder)) == 4
    else:
        sentence = rf"reads format 1\.x, the dataset is written in {version}; .*pip install --upgrade latentstore"
        with pytest.raises(UnsupportedVersionError, match=sentence):
            load_latents(folder)
