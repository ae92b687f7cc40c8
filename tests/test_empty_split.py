"""A split without rows: plain `load_dataset` reads the rest, sources may have one, and loaders say what it is."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from arrow_sources import png
from scenes import write_pictures

from latentstore import CONTAINERS, VAES, BuildPlan, Manifest, SourceRow, build, folder_source, load_latents, verify
from latentstore.errors import RequestError
from latentstore.sources.table import hub_source

POOL8 = VAES["pool8"]


def built(source: SourceRow, out: Path, container: str = "parquet", order: str = "source") -> Manifest:
    return build(BuildPlan(source, POOL8, "c", container=CONTAINERS[container], order=order, threads=1), out)


def half_empty(folder: Path) -> str:
    """A Hub repository whose split ``test`` has no rows."""
    folder.mkdir()
    types = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    for split, count in (("train", 4), ("test", 0)):
        rows = {
            "image": [{"bytes": png(n), "path": None} for n in range(count)],
            "label": [n % 2 for n in range(count)],
        }
        datasets.Dataset.from_dict(rows, features=types).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)


@pytest.mark.parametrize("container", ["parquet", "webdataset"])
def test_plain_datasets_reads_a_repository_with_an_empty_split(container: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", {f"train/{name}/{n}.png": (16, 16) for name in "ab" for n in range(2)})
    (tmp_path / "photos" / "val" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "val" / "a" / "x.png").write_text("no picture")
    manifest = built(folder_source(tmp_path / "photos"), tmp_path / "out", container)
    assert {name: split.rows for name, split in manifest.splits.items()} == {"train": 4, "val": 0}
    assert verify(tmp_path / "out").ok
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: split.num_rows for name, split in found.items()} == {"train": 4}
    sentence = "There are no rows to load: the split is empty, or the filter takes none; choose another."
    with pytest.raises(RequestError) as caught:
        load_latents(tmp_path / "out", split="val").loader(4)
    assert str(caught.value) == sentence
    with pytest.raises(RequestError) as caught:
        load_latents(tmp_path / "out", split="val", filter="height > 10").loader(4)
    assert "No row of split 'val'" in str(caught.value)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_source_may_have_an_empty_split(streaming: bool, tmp_path: Path) -> None:
    folder = half_empty(tmp_path / "hub")
    source = hub_source(folder).at(folder, streaming=streaming)
    whole = built(source, tmp_path / "whole")
    assert {name: split.rows for name, split in whole.splits.items()} == {"train": 4, "test": 0}
    assert whole.source.classes == ("a", "b")
    assert verify(tmp_path / "whole").ok
    assert built(source.at(folder, splits="train"), tmp_path / "one").rows == 4


def test_a_source_of_empty_splits_alone_is_refused(tmp_path: Path) -> None:
    folder = half_empty(tmp_path / "hub")
    with pytest.raises(Exception, match="holds no picture that can be used"):
        built(hub_source(folder).at(folder, splits="test"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
