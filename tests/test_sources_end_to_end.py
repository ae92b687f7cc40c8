"""Every kind of source through the whole road, with its labels, columns and numbers intact."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import datasets
import pytest
from scenes import plan, smooth_picture

from latentstore import METRICS, SOURCES, build, hub_source, load_latents, open_store, verify
from latentstore.errors import RequestError
from latentstore.sources.hub_images.columns import OUR_COLUMNS


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """A `datasets` folder of 6 pictures with a label and four further columns."""
    rows = {
        "image": [smooth_picture(24, 24, seed) for seed in range(6)],
        "label": [0, 1, 2, 0, 1, 2],
        "caption": [f"a scène, {seed} 🛰" for seed in range(6)],
        "gsd": [0.5, None, 0.3, 1.0, 2.0, 10.0],
        "tags": [[], ["a"], ["a", "b"], ["c"], [], ["d"]],
        "taken": [datetime(2020, 1, day + 1, tzinfo=timezone.utc) for day in range(6)],
    }
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["sea", "dry land", "Stadt"]),
            "caption": datasets.Value("string"),
            "gsd": datasets.Value("float32"),
            "tags": datasets.List(datasets.Value("string")),
            "taken": datasets.Value("timestamp[us, tz=UTC]"),
        }
    )
    folder = tmp_path / "captioned"
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(folder))
    return folder


def test_every_further_column_passes_through_to_index_batches_and_plain_datasets(
    tmp_path: Path, captioned: Path
) -> None:
    build(plan(source=hub_source(str(captioned)), order="source"), tmp_path / "out")
    index = open_store(tmp_path / "out").index()
    assert index["caption"] == [f"a scène, {seed} 🛰" for seed in range(6)]
    assert index["gsd"][:2] == [0.5, None]
    assert index["tags"] == [[], ["a"], ["a", "b"], ["c"], [], ["d"]]
    assert index["taken"][2] == datetime(2020, 1, 3, tzinfo=timezone.utc)
    dataset = load_latents(
        tmp_path / "out", columns=["caption", "gsd", "label"], filter="gsd >= 1.0 and label != 'sea'"
    )
    assert [sample["caption"] for sample in dataset] == ["a scène, 4 🛰", "a scène, 5 🛰"]
    assert dataset.class_names == ("sea", "dry land", "Stadt")
    plain = datasets.load_dataset(str(tmp_path / "out"), split="train")
    assert plain.features["label"].names == ["sea", "dry land", "Stadt"]
    assert plain["tags"][2] == ["a", "b"]
    assert verify(tmp_path / "out", trust=True).ok


def test_a_stream_is_built_in_its_own_order_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    rows = {"image": [smooth_picture(24, 24, seed) for seed in range(5)], "caption": list("abcde")}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    folder.mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(folder / "train.parquet"))
    source = hub_source(str(folder), streaming=True)
    with pytest.raises(RequestError, match="add --order source"):
        build(plan(source=source), tmp_path / "out")
    build(plan(source=source, order="source", rows_per_shard=2), tmp_path / "out")
    assert open_store(tmp_path / "out").index()["caption"] == list("abcde")
    assert verify(tmp_path / "out", sample=5, trust=True).ok


def test_a_table_source_that_was_downloaded_by_hand_reports_what_is_missing(tmp_path: Path) -> None:
    from scenes import write_pictures

    write_pictures(tmp_path / "aid", {f"data/{name}/{name.lower()}_1.jpg": (60, 60) for name in ("Airport", "Beach")})
    write_pictures(tmp_path / "aid", {"thumbnail.png": (20, 20)})
    (tmp_path / "aid" / "README.md").write_text("---\nlicense: unknown\n---\n")
    manifest = build(plan(source=SOURCES["aid"].at(str(tmp_path / "aid"))), tmp_path / "out")
    assert manifest.rows == 2
    assert manifest.source.classes == ("Airport", "Beach")
    assert any("MISMATCH" in line and "10,000" in line for line in manifest.source.ingest)
    assert manifest.config == "aid-pool8"
    assert verify(tmp_path / "out", trust=True).ok


def test_columns_of_ours_are_never_shadowed_by_a_sources() -> None:
    # A new metric is a new column of ours, so it belongs into that list too.
    assert set(METRICS) <= OUR_COLUMNS
