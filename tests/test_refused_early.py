"""What can be refused is refused before the first picture is encoded, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from arrow_sources import png
from click.testing import CliRunner
from latentstore_cli.main import main
from scenes import scenes, write_pictures

from latentstore import METRICS, VAES, BuildPlan, Manifest, SourceRow, build, folder_source
from latentstore.errors import LatentStoreError, MetricError, RequestError, SourceError
from latentstore.sources.table import hub_source
from latentstore.vaes.pooling import PoolingVae

POOL8 = VAES["pool8"]


@dataclass(frozen=True)
class Watched(PoolingVae):
    """Says whether it was ever asked to encode."""

    def encode(self, pixels: Any) -> Any:
        raise AssertionError(f"{len(pixels)} pictures were encoded")


NEVER = replace(POOL8, name="never", family=Watched)


def refused(error: type[LatentStoreError], out: Path, source: SourceRow, **wanted: Any) -> str:
    """The sentence; nothing was encoded, and nothing was written."""
    with pytest.raises(error) as caught:
        build(BuildPlan(source=source, vae=NEVER, **{"config": "c", **wanted}), out)
    assert not out.exists()
    return str(caught.value)


def parquet_source(folder: Path, name: str, feature: Any, values: pa.Array) -> SourceRow:
    """Pictures and one more column, as Parquet holds them; `datasets` itself loads any."""
    folder.mkdir()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    held = pa.array([{"bytes": png(row), "path": None} for row in range(len(values))], kind)
    types = {"image": {"_type": "Image"}, name: feature}
    table = pa.table({"image": held, name: values})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": types}})})
    pq.write_table(table, folder / "train-00000-of-00001.parquet")
    return hub_source(str(folder))


def labelled(folder: Path, labels: Sequence[int | None]) -> SourceRow:
    """Pictures with class numbers, of which two have names."""
    return parquet_source(folder, "label", {"names": ["a", "b"], "_type": "ClassLabel"}, pa.array(labels, pa.int64()))


def with_array(folder: Path, feature: Any = None, value: Any = None, name: str = "x") -> SourceRow:
    """Pictures, a caption, and a column of arrays."""
    value = np.zeros((2, 3), "f4") if value is None else value
    types = {"image": datasets.Image(), "caption": datasets.Value("string")}
    types |= {name: feature or datasets.Array2D((2, 3), "float32")}
    rows = {"image": [{"bytes": png(0), "path": None}] * 2, "caption": ["p", "q"], name: [value] * 2}
    datasets.Dataset.from_dict(rows, features=datasets.Features(types)).save_to_disk(str(folder))
    return hub_source(str(folder))


def test_a_label_beyond_the_class_names(tmp_path: Path) -> None:
    source = labelled(tmp_path / "src", [0, 1, 2, -1, None])
    assert refused(SourceError, tmp_path / "out", source) == (
        f"Column 'label' of split 'train' of '{tmp_path}/src' holds the class number 2, but its 2 classes are numbered "
        "0 to 1: mend the labels or the names in the source, or leave the column out with --drop-columns label."
    )
    kept = build(BuildPlan(source.at(source.location, drop_columns="label"), POOL8, "c"), tmp_path / "out")
    assert kept.source.classes is None
    fine = labelled(tmp_path / "fine", [0, 1, -1, None])
    assert build(BuildPlan(fine, POOL8, "fine"), tmp_path / "out").rows == 4


def test_of_a_stream_a_label_without_a_name_stops_the_build_in_one_sentence(tmp_path: Path) -> None:
    source = labelled(tmp_path / "src", [0, 2])
    plan = BuildPlan(source.at(source.location, streaming=True), POOL8, "c", order="source", batch_size=1)
    with pytest.raises(SourceError, match="holds the class number 2, but its 2 classes are numbered 0 to 1: mend"):
        build(plan, tmp_path / "out")


def test_a_reader_of_the_users_own_that_gives_a_label_without_a_name(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", {"a/1.png": (16, 16), "b/2.png": (16, 16)})
    source = folder_source(tmp_path / "photos")
    short = replace(source, reader=lambda _: replace(source.open(), class_names=("a",)))
    with pytest.raises(SourceError) as caught:
        build(BuildPlan(short, POOL8, "c"), tmp_path / "out")
    assert str(caught.value) == (
        f"Picture 'b/2.png' of source 'photos' at '{tmp_path}/photos' has the class number 1, but its 1 classes are "
        "numbered 0 to 0: mend the labels or the names in the source."
    )


ARRAYS = {
    "Array2D": (datasets.Array2D((2, 3), "float32"), np.zeros((2, 3), "f4")),
    "Array3D": (datasets.Array3D((1, 2, 3), "float32"), np.zeros((1, 2, 3), "f4")),
    "list of Array2D": (datasets.List(datasets.Array2D((2, 3), "float32")), [np.zeros((2, 3), "f4")]),
    "Json": (datasets.Json(), '{"a": 1}'),
}


@pytest.mark.parametrize(("feature", "value"), ARRAYS.values(), ids=ARRAYS)
def test_a_column_that_cannot_pass_through(feature: Any, value: Any, tmp_path: Path) -> None:
    said = refused(RequestError, tmp_path / "out", with_array(tmp_path / "src", feature, value))
    assert said.startswith("Column 'x' of the source has type ")
    assert said.endswith(", which latentstore cannot pass through: leave it out with --drop-columns x.")


def test_a_column_of_translations(tmp_path: Path) -> None:
    feature = {"languages": ["en", "fr"], "_type": "Translation"}
    source = parquet_source(tmp_path / "src", "x", feature, pa.array([{"en": "a", "fr": "b"}] * 2))
    assert "has type 'Translation', which" in refused(RequestError, tmp_path / "out", source)


def test_columns_are_left_out_as_asked_for(tmp_path: Path) -> None:
    folder = str(with_array(tmp_path / "src").location)
    asked = [("--drop-columns", "x"), ("--columns", "caption"), ("--source-option", 'drop_columns=["x"]')]
    for number, words in enumerate(asked):
        arguments = ["build", f"hub:{folder}", "--vae", "pool8", "--out", str(tmp_path / "out"), *words]
        result = CliRunner().invoke(main, [*arguments, "--config", f"c{number}"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        manifest = Manifest.read(tmp_path / "out" / f"c{number}")
        assert list(manifest.columns) == ["caption"]
        assert "columns left out, as asked for: x" in manifest.source.notes


def test_a_renamed_column_is_left_out_by_either_name(tmp_path: Path) -> None:
    source = with_array(tmp_path / "src", name="latent")
    assert "--drop-columns source_latent." in refused(RequestError, tmp_path / "out", source)
    for name in ("source_latent", "latent"):
        assert list(source.at(source.location, drop_columns=[name]).open().features) == ["caption"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"drop_columns": "y"}, "There is no column in "),
        ({"columns": "captoin"}, "Did you mean 'caption'?"),
        ({"drop_columns": "image"}, "holds the pictures, and cannot be left out."),
        ({"columns": "caption", "drop_columns": "x"}, "give one of them."),
    ],
)
def test_columns_that_cannot_be_chosen(options: dict[str, str], sentence: str, tmp_path: Path) -> None:
    source = with_array(tmp_path / "src")
    assert sentence in refused(LatentStoreError, tmp_path / "out", source.at(source.location, **options))


def test_a_metric_without_its_weights(tmp_path: Path) -> None:
    metrics = (METRICS["psnr"], METRICS["lpips"])
    for more in ({}, {"storage": None}, {"find_batch_size": True}):
        said = refused(MetricError, tmp_path / "out", scenes(4, 16), metrics=metrics, **more)
        assert "is not at hand: type latentstore fetch FOLDER" in said


def test_a_disk_without_room_for_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=95))
    said = refused(RequestError, tmp_path / "out", scenes(4, 16), layout="fast")
    assert said == (
        f"The latents of 4 rows take 96 bytes, and {tmp_path}/out/c has 95 bytes free: make room, choose another "
        "--out, or a smaller --storage."
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=96))
    assert build(BuildPlan(scenes(4, 16), POOL8, "c", layout="fast"), tmp_path / "out").rows == 4


def test_a_file_where_the_dataset_would_be(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(RequestError, match="Cannot write into .*: Not a directory; choose another --out"):
        build(BuildPlan(scenes(4, 16), NEVER, "c"), tmp_path / "out")


def test_names_that_cannot_be_used(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", {"a/1.png": (16, 16)})
    source = folder_source(tmp_path / "photos")
    opened = source.open()

    def renamed(_: SourceRow) -> Any:
        return replace(opened, splits={"not-a-word": opened.splits["train"]})

    said = refused(RequestError, tmp_path / "out", replace(source, reader=renamed))
    assert said == "Split name 'not-a-word' cannot be used: expected letters, digits and underscores."
    with pytest.raises(RequestError, match="Config name 'a/b' cannot be used on the Hub"):
        BuildPlan(source, NEVER, "a/b")
