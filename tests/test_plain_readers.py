"""Datasets as people read them who have never heard of this library: datasets, pandas, polars, duckdb."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentstore import BuildPlan, build, load_latents
from latentstore.containers.interface import CORE_COLUMNS
from latentstore.manifest import Manifest
from latentstore.sources.synthetic import CLASSES
from latentstore.sources.table import SOURCES
from latentstore.vaes.table import VAES

ROWS = 24
CONFIGS = ("fast", "compact")
CONFIG = pytest.mark.parametrize("config", CONFIGS)
SCALARS = (*CORE_COLUMNS, "psnr", "ssim", "mae")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two configs of the same pictures, three shards each, one in each layout."""
    out = tmp_path_factory.mktemp("repository")
    source = replace(SOURCES["synthetic"], options={"count": ROWS, "size": 32})
    for config in CONFIGS:
        build(BuildPlan(source, VAES["pool8"], config=config, layout=config, rows_per_shard=10), out)
    return out


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The package, without a network, its caches in a folder of the test."""
    package = pytest.importorskip("datasets")
    import huggingface_hub.constants

    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.setattr(package.config, "HF_HUB_OFFLINE", True)
        patch.setattr(package.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
        patch.setattr(package.config, "HF_DATASETS_CACHE", cache)
        patch.setattr(package.config, "HF_MODULES_CACHE", str(cache / "modules"))
        package.disable_progress_bars()
        yield package
        package.enable_progress_bars()


def expected(repository: Path, config: str) -> dict[str, Any]:
    """The rows as this library reads them."""
    dataset = load_latents(repository, config, space="raw", columns=SCALARS)
    return {name: values if isinstance(values, list) else values.numpy() for name, values in whole(dataset).items()}


def whole(dataset: Any) -> dict[str, Any]:
    """All rows as one batch."""
    found: dict[str, Any] = dataset.batch(range(len(dataset)))
    return found


def loaded(datasets: Any, repository: Path, config: str, **options: Any) -> Any:
    return datasets.load_dataset(str(repository), config, split="train", **options)


@CONFIG
def test_datasets_gives_shaped_latents_labels_with_names_and_text_ids(
    datasets: Any, repository: Path, config: str
) -> None:
    found, ours = loaded(datasets, repository, config), expected(repository, config)
    assert found.column_names == ["id", "latent", "thumbnail", *SCALARS[1:]]
    assert found.features["latent"] == datasets.Array3D(shape=(3, 4, 4), dtype="float16")
    assert found.features["label"] == datasets.ClassLabel(names=list(CLASSES))
    assert {found.features[name].dtype for name in ("psnr", "ssim", "mae")} == {"float32"}
    assert found["id"][:] == ours["id"]
    assert all(isinstance(id_, str) for id_ in ours["id"])
    for name in ("label", "height", "width", "source_bytes", "psnr", "ssim", "mae"):
        np.testing.assert_array_equal(np.array(found[name][:], ours[name].dtype), ours[name])
    np.testing.assert_array_equal(np.array(found["latent"][:], np.float32), ours["latent"])


@CONFIG
def test_datasets_gives_numpy_arrays_of_the_stored_type(datasets: Any, repository: Path, config: str) -> None:
    found, ours = loaded(datasets, repository, config).with_format("numpy"), expected(repository, config)
    assert found[3]["latent"].shape == (3, 4, 4)
    batch = found[:]
    assert batch["latent"].shape == (ROWS, 3, 4, 4)
    np.testing.assert_array_equal(batch["latent"].astype(np.float32), ours["latent"])


@CONFIG
def test_datasets_gives_torch_tensors_to_a_data_loader(datasets: Any, repository: Path, config: str) -> None:
    found, ours = loaded(datasets, repository, config).with_format("torch"), expected(repository, config)
    assert found[3]["latent"].shape == (3, 4, 4)
    loader = torch.utils.data.DataLoader(found.select_columns(["latent", "label"]), batch_size=ROWS)
    (batch,) = loader
    assert batch["latent"].dtype == torch.float32
    np.testing.assert_array_equal(batch["latent"].numpy(), ours["latent"])
    np.testing.assert_array_equal(batch["label"].numpy(), ours["label"])


@CONFIG
@pytest.mark.parametrize("kind", [None, "numpy", "torch"])
def test_datasets_streams_the_same_rows(datasets: Any, repository: Path, config: str, kind: str | None) -> None:
    found, ours = loaded(datasets, repository, config, streaming=True), expected(repository, config)
    rows = list(found if kind is None else found.with_format(kind))
    assert [row["id"] for row in rows] == ours["id"]
    latents = [np.asarray(row["latent"], np.float32) for row in rows]
    assert {latent.shape for latent in latents} == {(3, 4, 4)}
    np.testing.assert_array_equal(np.stack(latents), ours["latent"])


@CONFIG
@pytest.mark.parametrize("streaming", [False, True], ids=["loaded", "streamed"])
def test_datasets_gives_thumbnails_as_pictures(
    datasets: Any, repository: Path, config: str, *, streaming: bool
) -> None:
    found = loaded(datasets, repository, config, streaming=streaming)
    assert found.features["thumbnail"] == datasets.Image()
    for row in found:
        assert isinstance(row["thumbnail"], Image.Image)
        assert row["thumbnail"].size == (32, 32)
        assert row["thumbnail"].format == "WEBP"


def test_datasets_takes_the_first_config_where_none_is_named(datasets: Any, repository: Path) -> None:
    assert datasets.get_dataset_config_names(str(repository)) == sorted(CONFIGS)
    assert len(datasets.load_dataset(str(repository), split="train")) == ROWS


def files(repository: Path, config: str) -> list[Path]:
    """The shards in order."""
    return [repository / config / shard.path for shard in Manifest.read(repository / config).splits["train"].shards]


def same_columns(found: dict[str, list[Any]], ours: dict[str, Any]) -> None:
    """Equal values; numbers to the last bit of float32."""
    assert list(found) == list(SCALARS)
    for name, values in found.items():
        kind = str if isinstance(values[0], str) else float if isinstance(values[0], float) else int
        assert all(isinstance(value, kind) for value in values), name
        wanted = ours[name] if isinstance(ours[name], list) else ours[name].tolist()
        assert values == wanted, name


@CONFIG
def test_pandas_reads_the_scalar_columns_and_the_latents(repository: Path, config: str) -> None:
    pandas = pytest.importorskip("pandas")
    ours = expected(repository, config)
    tables = [pandas.read_parquet(path) for path in files(repository, config)]
    table = pandas.concat([table[list(SCALARS)] for table in tables])
    assert {name: str(table[name].dtype) for name in ("label", "height", "psnr")} == {
        "label": "int64",
        "height": "int32",
        "psnr": "float32",
    }
    same_columns({name: table[name].tolist() for name in SCALARS}, ours)
    latents = np.array([nested(row) for table in tables for row in table["latent"]])
    np.testing.assert_array_equal(latents.astype(np.float32), ours["latent"])


def nested(row: Any) -> np.ndarray[Any, Any]:
    """Lists in arrays in arrays as one array."""
    return np.array([[list(line) for line in channel] for channel in row])


@CONFIG
def test_polars_reads_the_scalar_columns(repository: Path, config: str) -> None:
    polars = pytest.importorskip("polars")
    table = polars.read_parquet(files(repository, config), columns=list(SCALARS))
    assert table.schema["label"] == polars.Int64
    assert table.schema["psnr"] == polars.Float32
    same_columns(table.to_dict(as_series=False), expected(repository, config))


@CONFIG
def test_duckdb_reads_and_filters_the_scalar_columns(repository: Path, config: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    ours = expected(repository, config)
    with duckdb.connect() as database:
        query = f"select {', '.join(SCALARS)} from read_parquet(?)"  # noqa: S608 (our own column names)
        answer = database.execute(query, [[str(path) for path in files(repository, config)]])
        rows = answer.fetchall()
        count = f"select count(*) from read_parquet('{repository}/{config}/train-*.parquet') where label = 3"  # noqa: S608
        ((forests,),) = database.execute(count).fetchall()
    same_columns(dict(zip(SCALARS, map(list, zip(*rows, strict=True)), strict=True)), ours)
    assert forests == int((ours["label"] == 3).sum())


@CONFIG
def test_the_index_is_read_by_all_of_them_and_says_where_each_row_lies(repository: Path, config: str) -> None:
    pandas, polars, duckdb = map(pytest.importorskip, ("pandas", "polars", "duckdb"))
    path = str(repository / config / "index.parquet")
    with duckdb.connect() as database:
        third = database.execute("select * from read_parquet(?)", [path]).fetchall()
    columns = (*SCALARS, "split", "shard", "row")
    read = [
        pandas.read_parquet(path).to_dict("list"),
        polars.read_parquet(path).to_dict(as_series=False),
        dict(zip(columns, map(list, zip(*third, strict=True)), strict=True)),
    ]
    ours = expected(repository, config)
    for index in read:
        same_columns({name: index[name] for name in SCALARS}, ours)
        assert set(index["split"]) == {"train"}
        lies = [
            (path.name, row)
            for path, rows in zip(files(repository, config), (10, 10, 4), strict=True)
            for row in range(rows)
        ]
        assert list(zip(index["shard"], index["row"], strict=True)) == lies
