"""Datasets as the Hub has them, written by the real `datasets` into folders: no test leaves the machine."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import huggingface_hub.constants
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Array3D, ClassLabel, Dataset, DatasetDict, Features, List, Value
from PIL import Image

from latentstore.errors import RequestError, SourceError, UnknownNameError
from latentstore.records import SkippedTile, Tile
from latentstore.sources.hub_images import columns as hub_columns
from latentstore.sources.hub_images import open_hub_images
from latentstore.sources.hub_images import tiles as hub_tiles
from latentstore.sources.hub_images.columns import OUR_COLUMNS
from latentstore.sources.hub_images.own_files import OwnFiles
from latentstore.sources.hub_images.paths import path_inside
from latentstore.sources.interface import OpenSource, SourceRow
from latentstore.sources.table import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMIT = "0123456789abcdef0123456789abcdef01234567"
AID_CLASSES = (
    "Airport", "BareLand", "BaseballField", "Beach", "Bridge", "Center",
    "Church", "Commercial", "DenseResidential", "Desert", "Farmland", "Forest",
    "Industrial", "Meadow", "MediumResidential", "Mountain", "Park", "Parking",
    "Playground", "Pond", "Port", "RailwayStation", "Resort", "River",
    "School", "SparseResidential", "Square", "Stadium", "StorageTanks", "Viaduct",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _inside_the_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    for module in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)


def png(value: int, size: tuple[int, int] = (4, 6)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def images(count: int, names: Sequence[str | None] | None = None) -> list[dict[str, Any]]:
    paths = names or [f"{number}.png" for number in range(count)]
    return [{"bytes": png(number, (4, 6 + number)), "path": paths[number]} for number in range(count)]


def dataset(columns: dict[str, tuple[Any, list[Any]]], names: Sequence[str | None] | None = None) -> Dataset:
    """A dataset of small pictures with these further columns, each a type and its values."""
    count = len(next(iter(columns.values()))[1]) if columns else 3
    values = {"image": images(count, names), **{name: held for name, (_, held) in columns.items()}}
    types = {"image": datasets.Image(), **{name: type_ for name, (type_, _) in columns.items()}}
    return Dataset.from_dict(values, features=Features(types))


def parquet(root: Path, **splits: Dataset) -> Path:
    for name, split in splits.items():
        path = root / "data" / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        split.to_parquet(path)
    return root


def opened(location: Path | str, revision: str | None = None, **options: Any) -> OpenSource:
    return SourceRow("here", open_hub_images, str(location), revision, options).open()


def read(source: OpenSource, split: str = "train") -> list[Tile | SkippedTile]:
    reader = source.splits[split]
    return list(reader.read(range(len(reader))))


def tiles(source: OpenSource, split: str = "train") -> list[Tile]:
    return [tile for tile in read(source, split) if isinstance(tile, Tile)]


LABELLED: dict[str, tuple[Any, list[Any]]] = {"label": (ClassLabel(names=["sea ice", "Airport", "b"]), [1, 0, 2])}
both = pytest.mark.parametrize("streaming", [False, True])


def aid(root: Path) -> Path:
    """The tree of blanchon/AID, with two tiny pictures a class."""
    for value, name in enumerate(AID_CLASSES):
        (root / "data" / name).mkdir(parents=True)
        for number in (1, 2):
            file = root / "data" / name / f"{name.lower()}_{number}.jpg"
            Image.fromarray(np.full((6, 6, 3), value, np.uint8)).save(file, "JPEG")
    (root / "thumbnail.png").write_bytes(png(0))
    (root / ".gitattributes").write_text("*.jpg filter=lfs diff=lfs merge=lfs -text\n")
    (root / "README.md").write_text(
        "---\nlicense:\n- unknown\ntask_categories:\n- image-classification\nlanguage:\n- en\ntags:\n- remote-sensing\n"
        "pretty_name: Aerial Image Dataset (AID)\nsize_categories:\n- 1K<n<10K\n---\n# Aerial Image Dataset (AID)\n"
    )
    return root


def test_the_labels_of_aid_are_kept_where_plain_load_dataset_drops_them(tmp_path: Path) -> None:
    folder = aid(tmp_path / "AID")
    plain = datasets.load_dataset(str(folder), split="train")
    assert list(plain.features) == ["image"]
    assert len(plain) == 61
    source = SOURCES["aid"].at(str(folder)).open()
    assert source.class_names == AID_CLASSES
    assert list(source.splits) == ["train"]
    found = tiles(source)
    assert len(found) == 60
    assert [source.class_names[tile.label or 0] for tile in found] == [tile.id.split("/")[0] for tile in found]
    assert found[2].id == "BareLand/bareland_1"
    assert found[2].source_path == "data/BareLand/bareland_1.jpg"
    assert {tile.source_sha256 for tile in found} == {
        hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.jpg")
    }
    assert list(source.splits["train"].sizes()) == [(6, 6)] * 60


def test_a_folder_behind_a_link_gives_the_same_ids(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(aid(tmp_path / "AID"))
    first = tiles(SOURCES["aid"].at(str(tmp_path / "link")).open())[0]
    assert (first.id, first.source_path) == ("Airport/airport_1", "data/Airport/airport_1.jpg")


def test_aid_streams_with_its_labels_too(tmp_path: Path) -> None:
    source = SOURCES["aid"].at(str(aid(tmp_path)), streaming=True).open()
    found = tiles(source)
    assert len(source.splits["train"]) == len(found) == 60
    assert source.class_names == AID_CLASSES
    assert found[59].label == 29
    assert found[59].id == "train/00000059"
    assert found[59].source_path == "data/Viaduct/viaduct_2.jpg"


@both
@pytest.mark.parametrize("layout", ["parquet", "saved", "saved alone"])
def test_each_layout_gives_the_bytes_of_the_files_and_untouched_labels(
    tmp_path: Path, layout: str, streaming: bool
) -> None:
    made = dataset(LABELLED)
    if layout == "parquet":
        parquet(tmp_path, train=made)
    else:
        (DatasetDict(train=made) if layout == "saved" else made).save_to_disk(tmp_path)
    source = opened(tmp_path, streaming=streaming)
    reader = source.splits["train"]
    assert (len(reader), reader.random_access) == (3, not streaming)
    assert source.class_names == ("sea ice", "Airport", "b")
    found = tiles(source)
    assert [tile.label for tile in found] == [1, 0, 2]
    for number, tile in enumerate(found):
        data = png(number, (4, 6 + number))
        np.testing.assert_array_equal(tile.pixels, np.full((4, 6 + number, 3), number, np.uint8))
        assert (tile.source_sha256, tile.source_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
        assert tile.source_path == f"{number}.png"
        assert tile.id == (f"train/{number:08d}" if streaming else str(number))
    assert source.notes == ()
    assert source.features == {}


def test_rows_come_in_any_order_and_sizes_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(parquet(tmp_path, train=dataset(LABELLED)))
    reader = source.splits["train"]
    assert [tile.id for tile in reader.read([2, 0, 2])] == ["2", "0", "2"]
    monkeypatch.setattr(hub_tiles, "decode_image", lambda _: pytest.fail("decoded"))
    assert list(reader.sizes()) == [(4, 6), (4, 7), (4, 8)]


def test_a_stream_has_no_sizes_and_only_goes_forward(tmp_path: Path) -> None:
    reader = opened(parquet(tmp_path, train=dataset(LABELLED)), streaming=True).splits["train"]
    with pytest.raises(LookupError, match="only known after reading the stream"):
        reader.sizes()
    with pytest.raises(RequestError, match="ascending order"):
        reader.read([1, 0])
    assert [tile.id for tile in reader.read([1, 2])] == ["train/00000001", "train/00000002"]
    assert [tile.id for tile in reader.read([0])] == ["train/00000000"]


def test_reading_on_goes_on_in_the_same_stream_and_two_reads_do_not_disturb_each_other(tmp_path: Path) -> None:
    parquet(tmp_path, train=dataset({"number": (Value("int64"), list(range(12)))}))
    reader: Any = opened(tmp_path, streaming=True).splits["train"]
    starts = 0
    stream = reader.dataset

    class Counting:
        def __iter__(self) -> Iterator[Any]:
            nonlocal starts
            starts += 1
            return iter(stream)

    reader.dataset = Counting()
    for first in range(0, 12, 3):
        assert [tile.metadata["number"] for tile in reader.read([first, first + 2])] == [first, first + 2]
    assert starts == 1
    list(reader.read([0, 1]))
    one, two = reader.read([2, 3, 4]), reader.read([2, 3, 4])
    assert [(a.metadata["number"], b.metadata["number"]) for a, b in zip(one, two, strict=True)] == [
        (number, number) for number in (2, 3, 4)
    ]


@pytest.mark.parametrize("said", [2, 5])
def test_a_stream_that_is_shorter_or_longer_than_its_card_says_is_an_error(tmp_path: Path, said: int) -> None:
    parquet(tmp_path, train=dataset(LABELLED))
    (tmp_path / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': sea ice\n          '1': Airport\n          '2': b\n"
        f"  splits:\n  - name: train\n    num_bytes: 1\n    num_examples: {said}\n"
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n"
    )
    source = opened(tmp_path, streaming=True)
    assert len(source.splits["train"]) == said
    found = "ended before row 3" if said == 5 else "holds more"
    with pytest.raises(SourceError, match=f"says that it holds {said} images, but it {found}"):
        read(source)
    with pytest.raises(SourceError, match="holds no dataset that can be read"):
        opened(tmp_path)


FURTHER: dict[str, tuple[Any, list[Any]]] = {
    "caption": (Value("string"), ["a, b", "", None]),
    "gsd": (Value("float32"), [0.5, 1.25, 30.0]),
    "tags": (List(Value("string")), [["x"], [], ["y", "z"]]),
    "seen": (Value("timestamp[us]"), [dt.datetime(2020, 1, day, 3) for day in (1, 2, 3)]),  # noqa: DTZ001
    "centre": ({"lon": Value("float64"), "lat": Value("float64")}, [{"lon": 1.0, "lat": 2.0}] * 3),
    "kind": (ClassLabel(names=["p", "q"]), [0, 1, 0]),
}


@both
def test_further_columns_pass_through_with_their_types_and_values(tmp_path: Path, streaming: bool) -> None:
    source = opened(parquet(tmp_path, train=dataset({**LABELLED, **FURTHER})), streaming=streaming)
    assert set(source.features) == set(FURTHER)
    assert source.features["gsd"] == {"dtype": "float32", "_type": "Value"}
    assert source.features["kind"] == {"names": ["p", "q"], "_type": "ClassLabel"}
    assert Features.from_dict(dict(source.features)) == Features({name: type_ for name, (type_, _) in FURTHER.items()})
    for row, tile in enumerate(tiles(source)):
        assert tile.metadata == {name: values[row] for name, (_, values) in FURTHER.items()}


@both
def test_a_further_column_named_like_ours_is_renamed_with_a_note(tmp_path: Path, streaming: bool) -> None:
    columns = {
        **LABELLED,
        "id": (Value("string"), ["x", "y", "z"]),
        "path": (Value("string"), ["p", "q", "r"]),
        "source_id": (Value("int64"), [7, 8, 9]),
    }
    source = opened(parquet(tmp_path, train=dataset(columns)), streaming=streaming)
    assert set(source.features) == {"source_source_id", "path", "source_id"}
    assert [tile.metadata["source_source_id"] for tile in tiles(source)] == ["x", "y", "z"]
    assert [tile.metadata["source_id"] for tile in tiles(source)] == [7, 8, 9]
    assert source.notes == ("column 'id' is called 'source_source_id' here, because 'id' is one of our own columns",)


@pytest.mark.parametrize("name", sorted(OUR_COLUMNS - {"label"}))
def test_no_column_of_ours_can_be_taken(name: str) -> None:
    assert hub_columns._renamed([name, "other"], []) == {name: f"source_{name}", "other": "other"}


def test_further_media_are_left_out_with_a_note(tmp_path: Path) -> None:
    media: dict[str, tuple[Any, list[Any]]] = {"mask": (datasets.Image(), images(3))}
    media["many"] = List(datasets.Image()), [images(1)] * 3
    made = dataset({**LABELLED, **media})
    source = opened(parquet(tmp_path, train=made), image="image")
    assert source.features == {}
    assert source.notes == ("columns left out, because they hold media: mask, many",)
    assert all(tile.metadata == {} for tile in tiles(source))


@both
def test_texts_become_classes_in_sorted_order_over_all_splits(tmp_path: Path, streaming: bool) -> None:
    first = dataset({"label": (Value("string"), ["sea ice", None, "b"])})
    second = dataset({"label": (Value("string"), ["Airport", "b", "b"])})
    source = opened(parquet(tmp_path, train=first, test=second), streaming=streaming)
    assert source.class_names == ("Airport", "b", "sea ice")
    assert [tile.label for tile in tiles(source)] == [2, None, 1]
    assert [tile.label for tile in tiles(source, "test")] == [0, 1, 1]


@both
def test_bare_numbers_are_classes_named_by_their_values_and_noted(tmp_path: Path, streaming: bool) -> None:
    made = dataset({"label": (Value("int32"), [10, -1, 7, None, 10])})
    source = opened(parquet(tmp_path, train=made), streaming=streaming)
    assert source.class_names == ("7", "10")
    assert [tile.label for tile in tiles(source)] == [1, None, 0, None, 1]
    assert any("holds numbers without names" in note for note in source.notes)


def test_missing_class_labels_are_none(tmp_path: Path) -> None:
    made = dataset({"label": (ClassLabel(names=["a", "b"]), [-1, 1, None])})
    assert [tile.label for tile in tiles(opened(parquet(tmp_path, train=made)))] == [None, 1, None]


def test_a_list_of_labels_is_a_further_column(tmp_path: Path) -> None:
    made = dataset({"label": (List(ClassLabel(names=["a", "b"])), [[0, 1], [], [1]])})
    source = opened(parquet(tmp_path, train=made))
    assert source.class_names is None
    assert [tile.label for tile in tiles(source)] == [None] * 3
    assert [tile.metadata["source_label"] for tile in tiles(source)] == [[0, 1], [], [1]]
    assert any("no single label" in note for note in source.notes)


def test_the_only_class_column_is_the_label_and_of_several_none(tmp_path: Path) -> None:
    scene = (ClassLabel(names=["a", "b"]), [0, 1, 1])
    one = opened(parquet(tmp_path / "one", train=dataset({"scene": scene})))
    assert (one.class_names, dict(one.features)) == (("a", "b"), {})
    two = parquet(tmp_path / "two", train=dataset({"coarse": scene, "fine": scene}))
    assert opened(two).class_names is None
    chosen = opened(two, label="fine")
    assert (chosen.class_names, list(chosen.features)) == (("a", "b"), ["coarse"])
    with pytest.raises(UnknownNameError, match="Did you mean 'fine'"):
        opened(two, label="Fine_")


def test_a_dataset_without_labels_has_no_classes(tmp_path: Path) -> None:
    source = opened(parquet(tmp_path, train=dataset({})))
    assert source.class_names is None
    assert {tile.label for tile in tiles(source)} == {None}


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a/1.png", "a/2.jpg", "b/1.png"], ["a/1", "a/2", "b/1"]),
        (["a/1.png", "a/1.jpg", "b/1.png"], ["a/1.png", "a/1.jpg", "b/1"]),
        (["/home/x/1.png", "/home/y/1.png", "/home/x/2.png"], ["1.png#0", "1.png#1", "2"]),
        (["1.png", None, "3.png"], ["train/00000000", "train/00000001", "train/00000002"]),
        (["1.png", "", "3.png"], ["train/00000000", "train/00000001", "train/00000002"]),
    ],
)
def test_ids_come_from_the_paths_where_all_have_one(tmp_path: Path, names: list[str | None], ids: list[str]) -> None:
    source = opened(parquet(tmp_path, train=dataset(LABELLED, names)))
    assert [tile.id for tile in tiles(source)] == ids


def test_ids_are_unique_over_all_splits_and_one_split_without_paths_numbers_all(tmp_path: Path) -> None:
    both_named = parquet(tmp_path / "1", train=dataset(LABELLED), test=dataset(LABELLED))
    source = opened(both_named)
    everything = [tile.id for split in source.splits for tile in tiles(source, split)]
    assert len(set(everything)) == 6
    half_named = parquet(tmp_path / "2", train=dataset(LABELLED), test=dataset(LABELLED, [None] * 3))
    source = opened(half_named)
    assert [tile.id for tile in tiles(source)] == [f"train/{row:08d}" for row in range(3)]
    assert [tile.source_path for tile in tiles(source)] == ["0.png", "1.png", "2.png"]
    assert [tile.source_path for tile in tiles(source, "test")] == [f"test/{row:08d}" for row in range(3)]


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        (f"/root/.cache/huggingface/hub/datasets--u--r/snapshots/{COMMIT}/data/A/1.jpg", "data/A/1.jpg"),
        ("hf://datasets/u/r@main/data/A/1.jpg", "data/A/1.jpg"),
        ("hf://datasets/u/r@refs%2Fpr%2F1/data/A/1.jpg", "data/A/1.jpg"),
        ("hf://datasets/u/r/data/A/1.jpg", "data/A/1.jpg"),
        (f"/root/.cache/huggingface/datasets/downloads/extracted/{COMMIT}{COMMIT[:24]}/A/1.jpg", "A/1.jpg"),
        ("zip://A/1.jpg::/somewhere/A.zip", "A/1.jpg"),
        ("zip://A/1.jpg::hf://datasets/u/r@main/A.zip", "A/1.jpg"),
        ("/here/is/it/A/1.jpg", "A/1.jpg"),
        ("/somewhere/else/1.jpg", "1.jpg"),
        ("https://example.org/a/1.jpg", "1.jpg"),
        ("../../1.jpg", "1.jpg"),
        ("./A/1.jpg", "A/1.jpg"),
    ],
)
def test_a_path_is_told_from_the_root_of_the_source(path: str, inside: str) -> None:
    assert path_inside(path, "/here/is/it") == inside


def test_a_downloaded_snapshot_tells_its_commit(tmp_path: Path) -> None:
    folder = tmp_path / "datasets--u--r" / "snapshots" / COMMIT
    parquet(folder, train=dataset(LABELLED))
    assert opened(folder, revision="main").revision == COMMIT
    (tmp_path / "link").symlink_to(folder)
    assert opened(tmp_path / "link").revision == COMMIT


def test_the_commit_that_the_hub_resolved_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "datasets--user--name" / "snapshots" / COMMIT
    parquet(snapshot, train=dataset(LABELLED))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    asked: dict[str, Any] = {}
    load = datasets.load_dataset_builder

    def hub(location: str, **arguments: Any) -> Any:
        asked.update(arguments, location=location)
        builder = load(str(snapshot))
        builder.hash = COMMIT
        return builder

    monkeypatch.setattr(datasets, "load_dataset_builder", hub)
    source = opened("user/name", revision="v1", config="small", data_dir="data")
    assert source.revision == COMMIT
    assert {"location": "user/name", "revision": "v1", "name": "small", "data_dir": "data"}.items() <= asked.items()


def test_without_a_commit_the_revision_asked_for_stays(tmp_path: Path) -> None:
    assert opened(parquet(tmp_path, train=dataset({})), revision="v2").revision == "v2"
    assert opened(tmp_path).revision is None


def test_the_rows_for_parquet_repositories_read_what_they_hold(tmp_path: Path) -> None:
    named = ClassLabel(names=["Annual Crop", "Sea Lake"])
    files = Value("string"), ["AnnualCrop_1.jpg", "SeaLake_2.jpg"]
    eurosat = dataset({"label": (named, [0, 1]), "filename": files})
    source = SOURCES["eurosat"].at(str(parquet(tmp_path / "eurosat", train=eurosat, validation=eurosat))).open()
    assert source.class_names == ("Annual Crop", "Sea Lake")
    assert [tile.metadata for tile in tiles(source, "validation")] == [{"filename": name} for name in files[1]]
    grouped = dataset({"label_1": (ClassLabel(names=["transportation"]), [0, 0]), "label_2": (named, [1, 0])})
    source = SOURCES["rsi_cb256"].at(str(parquet(tmp_path / "rsi", train=grouped))).open()
    assert source.class_names == ("Annual Crop", "Sea Lake")
    assert [(tile.label, tile.metadata) for tile in tiles(source)] == [(1, {"label_1": 0}), (0, {"label_1": 0})]


def test_only_the_splits_asked_for_are_read(tmp_path: Path) -> None:
    parquet(tmp_path, train=dataset(LABELLED), test=dataset(LABELLED))
    assert list(opened(tmp_path).splits) == ["train", "test"]
    assert list(opened(tmp_path, splits=["test"]).splits) == ["test"]
    assert list(opened(tmp_path, splits="test").splits) == ["test"]
    with pytest.raises(UnknownNameError, match="Did you mean 'test'"):
        opened(tmp_path, splits=["tests"])


def test_a_config_can_be_chosen_and_an_unknown_one_names_the_nearest(tmp_path: Path) -> None:
    for name, count in (("small", 1), ("large", 2)):
        dataset({"label": (Value("string"), ["x"] * count)}).to_parquet(tmp_path / f"{name}.parquet")
    configs = "".join(f"- config_name: {name}\n  data_files: {name}.parquet\n" for name in ("small", "large"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert len(opened(tmp_path, config="large").splits["train"]) == 2
    with pytest.raises(UnknownNameError, match="Did you mean 'large'"):
        opened(tmp_path, config="larg")
    with pytest.raises(
        SourceError, match=r"has several configs; choose one with the source option config=NAME, of: small, large"
    ):
        opened(tmp_path)


def test_no_image_column_lists_the_columns_and_their_types(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["a"], "n": [[1]]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(SourceError, match=r"no column of type Image; its columns are: text \(string\), n \(List\)"):
        opened(tmp_path)


def test_several_image_columns_are_named_and_one_can_be_chosen(tmp_path: Path) -> None:
    parquet(tmp_path, train=dataset({"mask": (datasets.Image(), images(3)[::-1])}))
    with pytest.raises(SourceError, match=r"several columns of images, image, mask; choose with image="):
        opened(tmp_path)
    assert [tile.id for tile in tiles(opened(tmp_path, image="mask"))] == ["2", "1", "0"]
    with pytest.raises(UnknownNameError, match="Did you mean 'mask'"):
        opened(tmp_path, image="Mask")


def written_by(library: str, table: dict[str, list[Any]], path: Path) -> None:
    """As people write rows of pictures without `datasets`."""
    if library == "pandas":  # dask writes by the same means
        pd.DataFrame(table).to_parquet(path)
    elif library == "polars":
        pl.DataFrame(table).write_parquet(path)
    else:
        large = pa.struct([("path", pa.large_string()), ("bytes", pa.large_binary())])
        columns = {name: pa.array(held, large) if isinstance(held[0], dict) else held for name, held in table.items()}
        pq.write_table(pa.table(columns), path)


@both
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_struct_of_bytes_and_path_is_a_picture(tmp_path: Path, library: str, streaming: bool) -> None:
    held = images(3, ["a/x.png", "a/y.png", "b/z.png"])
    written_by(library, {"photo": held, "label": ["sea", "ice", "sea"]}, tmp_path / "train.parquet")
    for options in ({}, {"image": "photo"}):
        source = opened(tmp_path, streaming=streaming, **options)
        found = tiles(source)
        assert [tile.source_sha256 for tile in found] == [hashlib.sha256(row["bytes"]).hexdigest() for row in held]
        assert [tile.source_path for tile in found] == ["a/x.png", "a/y.png", "b/z.png"]
        assert [tile.label for tile in found] == [1, 0, 1]
        assert (source.class_names, dict(source.features), source.notes) == (("ice", "sea"), {}, ())
        if not streaming:
            assert [tile.id for tile in found] == ["a/x", "a/y", "b/z"]
            assert list(source.splits["train"].sizes()) == [(4, 6), (4, 7), (4, 8)]


@pytest.mark.parametrize("fields", [("bytes",), ("bytes", "path")])
def test_a_struct_whose_pictures_have_no_path_is_read_by_place(tmp_path: Path, fields: tuple[str, ...]) -> None:
    rows = [{"bytes": png(number), "path": None} for number in range(2)]
    pd.DataFrame({"image": [{name: row[name] for name in fields} for row in rows]}).to_parquet(tmp_path / "x.parquet")
    assert [tile.id for tile in tiles(opened(tmp_path))] == ["train/00000000", "train/00000001"]


def test_a_struct_that_only_names_files_is_read_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(3))
    paths = [str(tmp_path / "x.png"), "/etc/hostname"]
    pd.DataFrame({"image": [{"bytes": None, "path": path} for path in paths]}).to_parquet(tmp_path / "x.parquet")
    source = opened(tmp_path, data_dir=None)
    assert [type(tile) for tile in read(source)] == [Tile, SkippedTile]


def test_of_several_structs_one_is_chosen_and_the_others_are_left_out(tmp_path: Path) -> None:
    pd.DataFrame({"image": images(2), "mask": images(2)}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(SourceError, match=r"several columns of images, image, mask; choose with image="):
        opened(tmp_path)
    source = opened(tmp_path, image="mask")
    assert dict(source.features) == {}
    assert source.notes == ("columns left out, because they hold media: image",)


def test_a_struct_that_holds_more_is_named_and_then_read(tmp_path: Path) -> None:
    pd.DataFrame({"image": [row | {"width": 6} for row in images(2)], "n": [1, 2]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(SourceError, match=r"name it with the source option image=NAME, of: image\."):
        opened(tmp_path)
    assert [tile.id for tile in tiles(opened(tmp_path, image="image"))] == ["0", "1"]


def test_what_can_hold_no_picture_is_not_offered_to_be_named(tmp_path: Path) -> None:
    pd.DataFrame({"image": [{"bytes": "text", "path": "x"}], "n": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(
        SourceError, match=r"image \(struct\), n \(int64\); none can hold images, for which an Image, a "
    ):
        opened(tmp_path)
    with pytest.raises(
        SourceError, match=r"'image' of .* holds no images but struct of bytes, path; expected an Image, a"
    ):
        opened(tmp_path, image="image")


def test_two_columns_of_classes_give_no_label_and_the_option_that_chooses_is_named(tmp_path: Path) -> None:
    fine, coarse = ClassLabel(names=["a", "b"]), ClassLabel(names=["A", "B"])
    parquet(tmp_path, train=dataset({"fine": (fine, [0, 1, 0]), "coarse": (coarse, [1, 0, 1])}))
    source = opened(tmp_path)
    assert source.class_names is None
    (note,) = source.notes
    assert note.startswith("no labels were taken, because several columns have classes (fine, coarse): ")
    assert note.endswith("choose with the source option label=NAME, such as label=fine")
    assert opened(tmp_path, label="coarse").class_names == ("A", "B")
    assert opened(tmp_path, label="coarse").notes == ()


def test_labels_in_two_unicode_normalisations_are_two_classes_and_that_is_said(tmp_path: Path) -> None:
    parquet(tmp_path, train=dataset({"label": (Value("string"), ["caf\u00e9", "cafe\u0301", "b"])}))
    (note,) = opened(tmp_path).notes
    assert "is spelled in 2 ways that look alike, so it is 2 classes: 'cafe\\u0301', 'caf\\xe9'" in note


def test_a_column_that_holds_no_images_cannot_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"The column 'label' of .* holds no images but ClassLabel"):
        opened(parquet(tmp_path, train=dataset(LABELLED)), image="label")


@both
def test_pictures_held_as_numbers_are_hashed_as_pixels(tmp_path: Path, streaming: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    types = Features(pixels=Array3D((4, 5, 3), "uint8"), label=Value("string"))
    made = Dataset.from_dict({"pixels": list(pixels), "label": ["b", "a"]}, features=types)
    source = opened(parquet(tmp_path, train=made), image="pixels", streaming=streaming)
    for held, tile in zip(pixels, tiles(source), strict=True):
        np.testing.assert_array_equal(tile.pixels, held)
        assert tile.source_sha256 == hashlib.sha256(held.tobytes()).hexdigest()
        assert tile.source_bytes == 0
        assert tile.conversions == ()
    if not streaming:
        assert list(source.splits["train"].sizes()) == [(4, 5)] * 2


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (np.zeros((4, 5, 3), np.float32), "not whole"),
        (np.full((4, 5, 3), 256), "not whole"),
        (np.zeros((4, 5, 7), np.uint8), "no picture"),
        (np.zeros((0, 5, 3), np.uint8), "no picture"),
    ],
)
def test_numbers_that_are_no_picture_are_a_fault(values: Any, fault: str) -> None:
    with pytest.raises(SourceError, match=fault):
        hub_tiles._from_array(values)


def test_grey_and_channels_first_numbers_are_turned_into_rgb() -> None:
    grey = np.arange(20, dtype=np.int64).reshape(4, 5)
    for values in (grey, grey[:, :, None]):
        decoded = hub_tiles._from_array(values)
        np.testing.assert_array_equal(decoded.pixels[:, :, 2], grey)
        assert decoded.conversions == ("grey to RGB",)
    first = hub_tiles._from_array(np.stack([grey, grey + 1, grey + 2]))
    np.testing.assert_array_equal(first.pixels[0, 0], [0, 1, 2])
    assert first.conversions == ("channels first to last",)


def test_a_column_of_bytes_can_be_the_pictures(tmp_path: Path) -> None:
    types = Features(jpg=Value("binary"))
    made = Dataset.from_dict({"jpg": [png(1), png(2), None]}, features=types)
    source = opened(parquet(tmp_path, train=made), image="jpg")
    assert [tile.source_bytes for tile in tiles(source)] == [len(png(1)), len(png(2))]
    assert read(source)[2] == SkippedTile("train/00000002", "train/00000002", "there is no image in this row")
    assert list(source.splits["train"].sizes()) == [(4, 6), (4, 6), None]


@both
def test_faulty_pictures_are_skipped_with_their_reason(tmp_path: Path, streaming: bool) -> None:
    held: list[Any] = [{"bytes": png(1), "path": "a.png"}, {"bytes": b"nothing", "path": "b.png"}]
    held += [{"bytes": b"", "path": "c.png"}, None]
    parquet(tmp_path, train=Dataset.from_dict({"image": held}, features=Features(image=datasets.Image())))
    source = opened(tmp_path, streaming=streaming)
    reasons = [tile.reason if isinstance(tile, SkippedTile) else "" for tile in read(source)]
    assert reasons == [
        "",
        "not a picture in a known format (JPEG, PNG, TIFF, WEBP, BMP, GIF)",
        "empty file",
        "there is no image in this row",
    ]
    if not streaming:
        assert list(source.splits["train"].sizes()) == [(4, 6), None, None, None]


def test_a_picture_that_vanishes_after_opening_is_skipped(tmp_path: Path) -> None:
    source = SOURCES["aid"].at(str(aid(tmp_path))).open()
    shutil.rmtree(tmp_path / "data" / "Airport")
    first = next(source.splits["train"].read([0]))
    assert first == SkippedTile(
        "Airport/airport_1", "data/Airport/airport_1.jpg", "cannot be read: No such file or directory"
    )


def zipped(path: Path, names: Sequence[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for value, name in enumerate(names):
            archive.writestr(name, png(value))
    return path.parent


@both
def test_pictures_in_an_archive_are_read_from_it(tmp_path: Path, streaming: bool) -> None:
    found = tiles(opened(zipped(tmp_path / "all.zip", ["1.png", "2.png"]), streaming=streaming))
    assert [tile.source_path for tile in found] == ["1.png", "2.png"]
    assert [tile.source_sha256 for tile in found] == [hashlib.sha256(png(value)).hexdigest() for value in (0, 1)]


@both
def test_what_goes_wrong_within_datasets_is_said_in_one_sentence(tmp_path: Path, streaming: bool) -> None:
    parquet(tmp_path, train=dataset(LABELLED))
    (tmp_path / "data" / "train-00001-of-00002.parquet").write_bytes(b"PAR1, but no more")
    said = "The stream of .* broke off: .+; run the same" if streaming else "The folder .* holds no .* read: .*magic"
    with pytest.raises(SourceError, match=said):
        read(opened(tmp_path, streaming=streaming))


def test_a_lost_connection_is_an_error_and_no_skipped_picture() -> None:
    with pytest.raises(
        SourceError, match=r"hf://datasets/u/r@\w+/1\.png cannot be fetched: .*run the same command again"
    ):
        OwnFiles("", "u/r", COMMIT).read(f"hf://datasets/u/r@{COMMIT}/1.png")


def test_splits_with_different_columns_are_refused(tmp_path: Path) -> None:
    DatasetDict(train=dataset(LABELLED), test=dataset({})).save_to_disk(tmp_path)
    with pytest.raises(SourceError, match=r"The splits 'train' and 'test' of .* have different columns"):
        opened(tmp_path)
    assert len(opened(tmp_path, splits="train").splits) == 1


def test_a_saved_dataset_in_another_format_is_read_alike(tmp_path: Path) -> None:
    dataset({**LABELLED, "gsd": (Value("float32"), [0.5, 1.0, 2.0])}).with_format("numpy").save_to_disk(tmp_path)
    found = [tile.metadata["gsd"] for tile in tiles(opened(tmp_path))]
    assert found == [0.5, 1.0, 2.0]
    assert {type(value) for value in found} == {float}


def test_a_saved_selection_streams_with_its_own_length(tmp_path: Path) -> None:
    whole = datasets.load_dataset(str(parquet(tmp_path / "a", train=dataset(LABELLED))), split="train")
    DatasetDict(train=whole.select([2, 0])).save_to_disk(tmp_path / "b")
    source = opened(tmp_path / "b", streaming=True)
    assert [tile.label for tile in tiles(source)] == [2, 1]


def test_a_missing_folder_and_an_unreachable_hub_are_each_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^There is no folder '.*nope', and it is no name of a Hub repository"):
        opened(tmp_path / "nope")
    with pytest.raises(SourceError, match="no name of a Hub repository"):
        opened("")
    with pytest.raises(SourceError, match=r"^The Hub cannot be reached for 'user/nope', .* give the folder it was"):
        opened("user/nope")
    with pytest.raises(SourceError, match=r"^The folder '.*' holds no dataset that can be read"):
        opened(tmp_path)


def test_a_repository_that_is_not_there_says_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'user/nope' doesn't exist on the Hub.")

    monkeypatch.setattr(datasets, "load_dataset_builder", missing)
    with pytest.raises(SourceError, match=r"doesn't exist on the Hub; check the name, and log in with `hf auth login`"):
        opened("user/nope")


def test_an_unknown_option_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'streaming'"):
        opened(tmp_path, stream=True)


@pytest.mark.parametrize("disabled", [False, True])
def test_no_progress_bar_is_drawn_and_the_users_setting_survives(
    tmp_path: Path, disabled: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    parquet(tmp_path, train=dataset(LABELLED))
    capfd.readouterr()
    (datasets.disable_progress_bars if disabled else datasets.enable_progress_bars)()
    try:
        opened(tmp_path)
        assert datasets.are_progress_bars_disabled() is disabled
        assert capfd.readouterr() == ("", "")
    finally:
        datasets.enable_progress_bars()
