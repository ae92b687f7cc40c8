"""Tar shards as people read them who know webdataset, datasets or tar, and as this library reads them."""

from __future__ import annotations

import math
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forged import edit_manifest
from scenes import build_scenes, plan
from strategies import FURTHER

from latentstore import CONTAINERS, STORAGES, Manifest, load_latents, open_store, verify
from latentstore.card import render_card, sealed_configs
from latentstore.containers.interface import ShardSchema
from latentstore.containers.webdataset import reader_features, write_webdataset
from latentstore.errors import RequestError
from latentstore.hashing import sha256_of
from latentstore.records import LatentRecord
from latentstore.shards import blocks_of
from latentstore.sources.synthetic import CLASSES

TAR = CONTAINERS["webdataset"]
ROWS, SHAPE = 30, (3, 5, 5)
CONFIGS = ("float16", "int8")
CONFIG = pytest.mark.parametrize("config", CONFIGS)
# webdataset leaves it to the garbage collector to close the files that it opens.
pytestmark = pytest.mark.filterwarnings("ignore:.*_io.FileIO.*:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two configs of the same pictures in three tar shards each, the second one with thumbnails."""
    out = tmp_path_factory.mktemp("tars")
    for config, side in zip(CONFIGS, (0, 24), strict=True):
        build_scenes(out, container=TAR, config=config, storage=STORAGES[config], thumbnail=side)
    return out


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a config of either container; the one in tar files comes first by name."""
    out = tmp_path_factory.mktemp("mixed")
    build_scenes(out, container=TAR, config="a-tar")
    build_scenes(out, config="b-parquet")
    return out


@pytest.fixture(scope="module")
def datasets() -> Any:
    """The package; conftest.py keeps it off the network and out of the user's caches."""
    return pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def webdataset() -> Any:
    return pytest.importorskip("webdataset")


def stored(folder: Path, config: str) -> np.ndarray[Any, Any]:
    """The numbers as they stand in the shards, (N, C, h, w), read by this library."""
    store = open_store(folder, config)
    shards = [store.shard(shard) for shard in store.manifest.splits["train"].shards]
    return np.concatenate([shard.latents(np.arange(shard.rows)) for shard in shards])


def index(folder: Path, config: str) -> dict[str, list[Any]]:
    return open_store(folder, config).index()


# webdataset ---------------------------------------------------------------------------------------------------------


@CONFIG
def test_webdataset_decodes_latents_labels_and_columns_in_order(webdataset: Any, repository: Path, config: str) -> None:
    files = str(repository / config / "train-{000000..000002}.tar")
    rows = list(webdataset.WebDataset(files, shardshuffle=False).decode())
    numbers, scalars = stored(repository, config), index(repository, config)
    pictures = ["thumbnail.webp"] if config == "int8" else []
    assert {tuple(sorted(row)) for row in rows} == {
        ("__key__", "__local_path__", "__url__", "cls", "json", "latent.npy", *pictures)
    }
    assert rows[0]["latent.npy"].dtype == numbers.dtype
    np.testing.assert_array_equal(np.stack([row["latent.npy"] for row in rows]), numbers)
    assert [row["cls"] for row in rows] == scalars["label"]
    for name in open_store(repository, config).schema.scalar_columns:
        assert [row["json"][name] for row in rows] == scalars[name], name
    assert len({row["__key__"] for row in rows}) == ROWS


def test_webdataset_batches_and_shuffles_them(webdataset: Any, repository: Path) -> None:
    files = str(repository / "float16" / "train-{000000..000002}.tar")
    pipeline = webdataset.WebDataset(files, shardshuffle=3, seed=0).shuffle(100).decode("torch")
    latents, labels = next(iter(pipeline.to_tuple("latent.npy", "cls").batched(ROWS)))
    assert latents.shape == (ROWS, *SHAPE)
    assert sorted(labels.tolist()) == sorted(index(repository, "float16")["label"])


# datasets -----------------------------------------------------------------------------------------------------------


@CONFIG
@pytest.mark.parametrize("streaming", [False, True], ids=["loaded", "streamed"])
def test_datasets_reads_the_files_by_name(datasets: Any, repository: Path, config: str, *, streaming: bool) -> None:
    files = {"train": str(repository / config / "train-*.tar")}
    found = datasets.load_dataset("webdataset", data_files=files, split="train", streaming=streaming)
    rows = list(found)
    numbers, scalars = stored(repository, config), index(repository, config)
    np.testing.assert_array_equal(np.array([row["latent.npy"] for row in rows], numbers.dtype), numbers)
    assert [row["cls"] for row in rows] == [row["json"]["label"] for row in rows] == scalars["label"]
    assert [row["json"]["id"] for row in rows] == scalars["id"]
    pictures = {"thumbnail.webp"} if config == "int8" else set()
    assert set(rows[0]) == {"latent.npy", "json", "cls", "__key__", "__url__"} | pictures


@CONFIG
@pytest.mark.parametrize("streaming", [False, True], ids=["loaded", "streamed"])
def test_datasets_takes_files_and_types_from_the_card(
    datasets: Any, repository: Path, config: str, *, streaming: bool
) -> None:
    found = datasets.load_dataset(str(repository), config, split="train", streaming=streaming)
    numbers, scalars = stored(repository, config), index(repository, config)
    assert found.features["latent.npy"] == datasets.Array3D(shape=SHAPE, dtype=str(numbers.dtype))
    assert found.features["cls"] == datasets.ClassLabel(names=list(CLASSES))
    assert found.features["json"]["psnr"] == datasets.Value("float32")
    assert found.features["json"]["latent_crc32"] == datasets.Value("uint32")
    rows = list(found)
    np.testing.assert_array_equal(np.stack([np.asarray(row["latent.npy"], numbers.dtype) for row in rows]), numbers)
    assert [row["cls"] for row in rows] == scalars["label"]
    for name in open_store(repository, config).schema.scalar_columns:
        assert [row["json"][name] for row in rows] == scalars[name], name


@pytest.mark.parametrize("streaming", [False, True], ids=["loaded", "streamed"])
def test_datasets_gives_thumbnails_as_pictures(datasets: Any, repository: Path, *, streaming: bool) -> None:
    found = datasets.load_dataset(str(repository), "int8", split="train", streaming=streaming)
    assert found.features["thumbnail.webp"] == datasets.Image()
    assert {row["thumbnail.webp"].size for row in found} == {(24, 24)}


def test_webdataset_gives_the_file_of_each_thumbnail(webdataset: Any, repository: Path) -> None:
    store = open_store(repository, "int8")
    shards = [store.shard(shard) for shard in store.manifest.splits["train"].shards]
    ours = [picture for shard in shards for picture in shard.columns(["thumbnail"])["thumbnail"]]
    files = str(repository / "int8" / "train-{000000..000002}.tar")
    theirs = [row["thumbnail.webp"] for row in webdataset.WebDataset(files, shardshuffle=False)]
    assert theirs == ours
    assert store.manifest.size.thumbnail_bytes == sum(map(len, ours))


def test_datasets_gives_shaped_tensors(datasets: Any, repository: Path) -> None:
    found = datasets.load_dataset(str(repository), "float16", split="train").with_format("torch")
    assert found[:4]["latent.npy"].shape == (4, *SHAPE)


def gaps() -> tuple[ShardSchema, list[LatentRecord]]:
    """Rows of which the first five lack a label, a score and all further columns; the last two have them."""
    features = {name: feature for name, (feature, _) in FURTHER.items()}
    schema = ShardSchema((1, 2, 2), "float16", ("a", "b"), ("psnr",), features)
    full = {"caption": "🛰️", "gsd": 0.5, "cloudy": True, "split_of_paper": 1, "raw": b"\0", "boxes": [[1], []]}
    place = {"place": {"name": "x", "at": [1.5]}}
    return schema, [
        LatentRecord(
            *(f"id.{row}", np.full((1, 2, 2), row, np.float16), 1 if row > 4 else None, 8, 8, "a", "", 0),
            scores={"psnr": math.inf if row > 4 else math.nan},
            metadata={**full, **place} if row > 4 else {},
        )
        for row in range(7)
    ]


@pytest.mark.parametrize("streaming", [False, True], ids=["loaded", "streamed"])
def test_datasets_reads_rows_without_values_where_it_knows_the_types(
    datasets: Any, tmp_path: Path, *, streaming: bool
) -> None:
    schema, rows = gaps()
    path = tmp_path / "train-000000.tar"
    write_webdataset(path, schema, "fast", blocks_of(rows, schema))
    features = datasets.Features.from_dict(reader_features(schema))
    found = datasets.load_dataset(
        "webdataset", data_files=str(path), split="train", streaming=streaming, features=features
    )
    read = list(found)
    assert [row["cls"] for row in read] == [-1] * 5 + [1, 1]
    assert [row["json"]["psnr"] for row in read] == [None] * 5 + [math.inf] * 2
    assert [row["json"]["caption"] for row in read] == [None] * 5 + ["🛰️"] * 2
    assert read[6]["json"]["boxes"] == [[1], []]
    assert read[6]["json"]["raw"] == "AA=="
    assert read[6]["json"]["place"] == {"name": "x", "at": [1.5]}


def test_datasets_guesses_types_where_the_first_rows_have_no_label(datasets: Any, tmp_path: Path) -> None:
    """It wants the same files in each of the first five samples, so a row without a label has one that says -1."""
    schema = ShardSchema((1, 2, 2), "float16", ("a", "b"), ())
    rows = [
        LatentRecord(str(row), np.zeros((1, 2, 2), np.float16), 1 if row == 3 else None, 8, 8, "a", "", 0, {})
        for row in range(6)
    ]
    write_webdataset(tmp_path / "x.tar", schema, "fast", blocks_of(rows, schema))
    found = datasets.load_dataset("webdataset", data_files=str(tmp_path / "x.tar"), split="train")
    assert found["cls"][:] == [-1, -1, -1, 1, -1, -1]


# A repository with both ---------------------------------------------------------------------------------------------


def test_beside_parquet_the_card_lists_what_datasets_can_load(datasets: Any, mixed: Path) -> None:
    assert datasets.get_dataset_config_names(str(mixed)) == ["b-parquet"]
    found = datasets.load_dataset(str(mixed), split="train")
    np.testing.assert_array_equal(np.array(found["latent"][:], np.float16), stored(mixed, "b-parquet"))
    assert [info["config_name"] for info in front_matter(mixed)["dataset_info"]] == ["b-parquet"]


def test_datasets_cannot_load_both_from_one_card_which_is_why(datasets: Any, mixed: Path, tmp_path: Path) -> None:
    for config in ("a-tar", "b-parquet"):
        (tmp_path / config).symlink_to(mixed / config)
    for first, second in (("a-tar", "b-parquet"), ("b-parquet", "a-tar")):
        lines = ["---", "configs:"]
        for config in (first, second):
            suffix = "tar" if config == "a-tar" else "parquet"
            lines += [f"- config_name: {config}", f'  data_files: "{config}/train-*.{suffix}"']
        (tmp_path / "README.md").write_text("\n".join([*lines, "---", ""]))
        datasets.load_dataset(str(tmp_path), first, split="train", streaming=True)
        with pytest.raises((OSError, ValueError, tarfile.TarError)):
            list(datasets.load_dataset(str(tmp_path), second, split="train", streaming=True))


def front_matter(folder: Path) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    return found


def code_in(folder: Path) -> list[str]:
    """The code blocks of a card, with the folder in the place of PATH."""
    text = (folder / "README.md").read_text()
    return [block.replace("PATH", str(folder)) for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


@pytest.mark.usefixtures("webdataset", "datasets")
@pytest.mark.parametrize(("place", "config"), [("repository", "float16"), ("mixed", "a-tar")])
def test_the_code_on_the_card_runs(request: pytest.FixtureRequest, place: str, config: str) -> None:
    folder = request.getfixturevalue(place)
    ours, with_datasets, theirs, *_ = code_in(folder)
    names: dict[str, Any] = {}
    for code in (ours, with_datasets, theirs):
        exec(compile(code, "card", "exec"), names)  # noqa: S102 (our own card)
    assert names["batch"]["latent"].shape[1:] == SHAPE
    assert len(names["rows"]) == ROWS
    np.testing.assert_array_equal(names["stored"], stored(folder, config)[-1])
    assert names["columns"]["id"] == index(folder, config)["id"][-1]
    if place == "mixed":
        assert names["tar_rows"]["cls"][:] == index(folder, config)["label"]


def test_any_class_name_is_valid_in_the_card(repository: Path) -> None:
    import yaml

    names = ("été", "🛰️ \x7f\x00", "a: {b", 'quo"te\\ud83d', "日本\u2028", "no", "#")
    manifest = Manifest.read(repository / "float16")
    card = render_card([replace(manifest, source=replace(manifest.source, classes=names))])
    (info,) = yaml.safe_load(card.split("---\n")[1])["dataset_info"]
    found = {feature["name"]: feature for feature in info["features"]}
    assert tuple(found["cls"]["dtype"]["class_label"]["names"].values()) == names


def test_types_of_further_columns_on_the_card_are_those_of_the_files(datasets: Any, repository: Path) -> None:
    import yaml

    leaf = {"dtype": "int8", "_type": "Value"}
    more: dict[str, Any] = {
        "three": {"feature": leaf, "length": 3, "_type": "List"},
        "large": {"feature": [leaf], "_type": "LargeList"},
        "taken_from": {"when": {"dtype": "date32", "_type": "Value"}},
        "kinds": {"feature": {"names": ["x", "y"], "_type": "ClassLabel"}, "_type": "List"},
    }
    features = {name: feature for name, (feature, _) in FURTHER.items()} | more
    manifest = replace(Manifest.read(repository / "float16"), columns=features)
    (info,) = yaml.safe_load(render_card([manifest]).split("---\n")[1])["dataset_info"]
    found = datasets.Features._from_yaml_list(info["features"])
    assert found == datasets.Features.from_dict(reader_features(manifest.schema))


def test_a_container_of_a_later_version_is_left_out_of_the_card(repository: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(repository / "float16")
    (tmp_path / "float16").mkdir()
    replace(manifest, storage=replace(manifest.storage, container="later")).write(tmp_path / "float16")
    assert sealed_configs(tmp_path) == []


# This library -------------------------------------------------------------------------------------------------------


def test_both_containers_hold_the_same_numbers_and_columns(mixed: Path) -> None:
    tar, parquet = (load_latents(mixed, config, columns=["id", "label", "psnr"]) for config in ("a-tar", "b-parquet"))
    one, other = (dataset.batch(range(ROWS)) for dataset in (tar, parquet))
    assert one["latent"].equal(other["latent"])
    assert one["id"] == other["id"]
    assert one["label"].equal(other["label"])
    assert one["psnr"].equal(other["psnr"])
    assert tar.manifest.quality == parquet.manifest.quality


@CONFIG
def test_a_build_in_tar_shards_is_verified(repository: Path, config: str) -> None:
    report = verify(repository, config, trust=True)
    assert [(result.check, result.findings) for result in report.results if result.findings] == []
    assert {result.status for result in report.results} == {"passed"}


def test_the_same_plan_gives_the_same_shards_whoever_builds_it(repository: Path, tmp_path: Path) -> None:
    again = build_scenes(tmp_path, container=TAR, config="float16")
    assert again.splits == Manifest.read(repository / "float16").splits
    assert [shard.path for shard in again.splits["train"].shards] == [f"train-{n:06d}.tar" for n in range(3)]


def test_a_label_that_only_webdataset_would_see_is_found_by_verify(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "float16"
    folder.mkdir()
    for path in (repository / "float16").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    shard = folder / "train-000001.tar"
    with tarfile.open(shard, "r:") as archive:
        place = next(member.offset_data for member in archive if member.name.endswith(".cls"))
    content = bytearray(shard.read_bytes())
    content[place] ^= 1
    shard.write_bytes(content)
    edit_manifest(folder, "splits.train.shards.1.sha256", sha256_of(shard))
    report = verify(folder, trust=True)
    found = [finding.message for result in report.results for finding in result.findings]
    assert any(f"Shard {shard}, row 0: its files are not as they were written for this id" in text for text in found)


def test_a_layout_that_tar_shards_do_not_have_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        plan(container=TAR, layout="compact")
    assert str(caught.value) == "Container 'webdataset' has no layout 'compact'; choose from fast."
