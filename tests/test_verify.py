"""Every way to damage a dataset that the checks know, each noticed by the check meant for it, naming the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forged import Records, edit_manifest, forge
from scenes import build_scenes, plan, scenes, write_pictures

from latentstore import CHECKS, VAES, VerifyReport, build, folder_source, verify
from latentstore.errors import NotSealedError, StoreError

FIRST = "train-00000-of-00003.parquet"


@pytest.fixture
def folder(tmp_path: Path, drawn: Path) -> Path:
    """A copy of a sealed config that a test may damage."""
    return Path(shutil.copytree(drawn / "synthetic-pool8", tmp_path / "synthetic-pool8"))


def failed(report: VerifyReport) -> dict[str, list[str]]:
    """Files named by each failed check."""
    return {r.check: [finding.file for finding in r.findings] for r in report.results if r.status == "failed"}


def statuses(report: VerifyReport) -> dict[str, str]:
    return {result.check: result.status for result in report.results}


def test_a_sound_dataset_passes_every_check(drawn: Path, drawn_fast: Path) -> None:
    for location in (drawn, drawn_fast, drawn / "synthetic-pool8"):
        report = verify(location)
        assert report.ok
        assert statuses(report) == dict.fromkeys(CHECKS, "passed")


def damage_version(folder: Path) -> None:
    edit_manifest(folder, "format_version", "2.0")


def damage_field(folder: Path) -> None:
    edit_manifest(folder, "vae.stride", "eight")


def damage_sum(folder: Path) -> None:
    edit_manifest(folder, "splits.train.rows", 31)


def rename_folder_inside(folder: Path) -> None:
    edit_manifest(folder, "config", "another-name")


def remove_shard(folder: Path) -> None:
    (folder / FIRST).unlink()


def add_shard(folder: Path) -> None:
    shutil.copy(folder / FIRST, folder / "train-00003-of-00003.parquet")


def flip_bit(folder: Path) -> None:
    data = bytearray((folder / FIRST).read_bytes())
    data[200] ^= 4
    (folder / FIRST).write_bytes(data)


def truncate(folder: Path) -> None:
    data = (folder / FIRST).read_bytes()
    (folder / FIRST).write_bytes(data[: len(data) // 2])


def swap_shards(folder: Path) -> None:
    first, second = folder / FIRST, folder / "train-00001-of-00003.parquet"
    spare = folder / "spare"
    first.rename(spare)
    second.rename(first)
    spare.rename(second)


def drop_a_row(folder: Path) -> None:
    """A shard with a row less, whose size and hash the manifest was made to agree with."""

    def change(records: Records) -> Records:
        return records[:-1]

    rows = 12
    forge(folder, change)
    manifest = json.loads((folder / "manifest.json").read_text())
    edit_manifest(folder, "splits.train.shards.0.rows", rows)
    edit_manifest(folder, "splits.train.rows", manifest["splits"]["train"]["rows"] + 1)
    edit_manifest(folder, "index.rows", manifest["index"]["rows"] + 1)


def drop_a_column(folder: Path) -> None:
    table = pq.read_table(folder / FIRST).drop_columns(["psnr"])
    pq.write_table(table, folder / FIRST)


def edit_index(folder: Path) -> None:
    table = pq.read_table(folder / "index.parquet")
    labels = [(label + 1) % 12 for label in table.column("label").to_pylist()]
    place = table.schema.get_field_index("label")
    pq.write_table(
        table.set_column(place, table.schema.field(place), pa.array(labels, pa.int64())), folder / "index.parquet"
    )


def repeat_an_id(folder: Path) -> None:
    forge(folder, lambda records: [replace(records[0], id=records[1].id), *records[1:]])


def invent_a_label(folder: Path) -> None:
    forge(folder, lambda records: [replace(records[0], label=12), *records[1:]], quality=False)


def put_a_nan(folder: Path) -> None:
    def change(records: Records) -> Records:
        latent = records[3].latent.copy()
        latent[0, 0, 0] = np.nan
        return [*records[:3], replace(records[3], latent=latent), *records[4:]]

    forge(folder, change, statistics=False)


def edit_statistics(folder: Path) -> None:
    data = json.loads((folder / "manifest.json").read_text())
    edit_manifest(folder, "statistics.train.std.1", data["statistics"]["train"]["std"][1] * 1.001)


def edit_quality(folder: Path) -> None:
    edit_manifest(folder, "quality.psnr.mean", 60.0)


def edit_size(folder: Path) -> None:
    edit_manifest(folder, "size.raw_rgb_over_stored", 50.0)


def embellish_scores(folder: Path) -> None:
    """Better scores than true, consistently in shard, index and manifest: only measuring again can tell."""

    def change(records: Records) -> Records:
        return [replace(record, scores={**record.scores, "psnr": record.scores["psnr"] + 3}) for record in records]

    forge(folder, change)


def exchange_latents(folder: Path) -> None:
    """Latents of two rows exchanged, everything else mended."""

    def change(records: Records) -> Records:
        a, b, *rest = records
        return [replace(a, latent=b.latent), replace(b, latent=a.latent), *rest]

    forge(folder, change)


DAMAGES: list[tuple[Callable[[Path], None], str, str]] = [
    (damage_version, "manifest", "manifest.json"),
    (damage_field, "manifest", "manifest.json"),
    (damage_sum, "manifest", "manifest.json"),
    (rename_folder_inside, "manifest", "manifest.json"),
    (remove_shard, "shards-listed", FIRST),
    (add_shard, "shards-listed", "train-00003-of-00003.parquet"),
    (flip_bit, "shard-bytes", FIRST),
    (truncate, "shard-bytes", FIRST),
    (swap_shards, "shard-bytes", FIRST),
    (drop_a_row, "shard-rows", FIRST),
    (drop_a_column, "shard-rows", FIRST),
    (edit_index, "index", "index.parquet"),
    (repeat_an_id, "ids", FIRST),
    (invent_a_label, "labels", FIRST),
    (put_a_nan, "latents", FIRST),
    (edit_statistics, "latents", "manifest.json"),
    (edit_quality, "summaries", "manifest.json"),
    (edit_size, "summaries", "manifest.json"),
    (embellish_scores, "quality", FIRST),
    (exchange_latents, "quality", FIRST),
]


@pytest.mark.parametrize(("damage", "check", "file"), DAMAGES, ids=[damage.__name__ for damage, _, _ in DAMAGES])
def test_each_damage_is_noticed_by_the_check_meant_for_it(
    folder: Path, damage: Callable[[Path], None], check: str, file: str
) -> None:
    damage(folder)
    report = verify(folder, sample=30)
    assert not report.ok
    assert file in failed(report)[check]
    assert all(finding.message for result in report.results for finding in result.findings)


def test_every_check_has_a_damage_that_proves_it() -> None:
    assert {check for _, check, _ in DAMAGES} == set(CHECKS)


def test_a_check_whose_groundwork_failed_is_not_run_and_says_so(folder: Path) -> None:
    remove_shard(folder)
    report = verify(folder)
    assert statuses(report)["latents"] == "not run"
    assert next(result.note for result in report.results if result.check == "latents") == "needs shard-rows"


def test_pictures_that_changed_since_are_noticed(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {f"sea/{name}.png": (40, 40) for name in "abc"})
    build(plan(source=folder_source(str(photos))), tmp_path / "out")
    assert verify(tmp_path / "out").ok
    write_pictures(tmp_path / "photos", {"sea/c.png": (40, 40)})  # drawn with another seed
    report = verify(tmp_path / "out")
    assert list(failed(report)) == ["quality"]
    assert "another sha256" in report.results[-1].findings[0].message


def test_without_its_source_the_quality_check_is_not_run_and_says_how_to_run_it(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {f"sea/{name}.png": (40, 40) for name in "abc"})
    build(plan(source=folder_source(str(photos))), tmp_path / "out")
    photos.rename(tmp_path / "elsewhere")
    report = verify(tmp_path / "out")
    assert report.ok
    assert report.results[-1].status == "not run"
    assert "--source-location" in report.results[-1].note
    again = verify(tmp_path / "out", source=folder_source(str(tmp_path / "elsewhere")))
    assert again.results[-1].status == "passed"


def test_tiled_and_cropped_pictures_are_measured_again_in_their_own_place(tmp_path: Path) -> None:
    from latentstore import Preparation

    photos = write_pictures(tmp_path / "photos", {"a.png": (50, 70), "b.png": (64, 64), "c.png": (33, 90)})
    (photos / "d.png").write_bytes(b"no picture")
    manifest = build(plan(source=folder_source(str(photos)), preparation=Preparation(tile=(32, 32))), tmp_path / "out")
    report = verify(tmp_path / "out", sample=manifest.rows)
    assert report.results[-1].status == "passed"
    assert report.results[-1].note == f"{manifest.rows} rows decoded and measured again"


def test_latents_of_other_weights_are_noticed(tmp_path: Path) -> None:
    build_scenes(tmp_path, source=scenes(4, 32), vae=VAES["demo"], metrics=())
    edit_manifest(tmp_path / "synthetic-demo", "vae.weights_sha256", "0" * 64)
    report = verify(tmp_path)
    assert list(failed(report)) == ["quality"]
    assert "another VAE would give wrong pictures" in report.results[-1].findings[0].message


def test_a_place_without_a_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotSealedError):
        verify(tmp_path)
    with pytest.raises(StoreError, match="There is no folder"):
        verify(tmp_path / "nowhere")


def test_the_report_is_plain_json(drawn: Path) -> None:
    data = json.loads(json.dumps(verify(drawn, sample=2).to_dict(), allow_nan=False))
    assert data["ok"] is True
    assert [result["check"] for result in data["results"]] == list(CHECKS)


def test_a_folder_that_is_called_like_a_row_of_the_table_is_read_again_as_a_folder(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "aid", {f"sea/{name}.png": (40, 40) for name in "abc"})
    build(plan(source=folder_source(str(photos))), tmp_path / "out")
    assert verify(tmp_path / "out").results[-1].status == "passed"
