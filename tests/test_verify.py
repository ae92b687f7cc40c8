"""Every way to damage a dataset that the checks know, each noticed by the check meant for it, naming the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forged import ALL, Mended, Records, edit_manifest, forge, forge_index, reseal
from scenes import build_scenes, plan, scenes, smooth_picture, write_pictures

from latentstore import CHECKS, CONTAINERS, STORAGES, VAES, Preparation, VerifyReport, build, folder_source, verify
from latentstore.checks.interface import CheckResult, CheckRow, Finding, Inspection
from latentstore.errors import NotSealedError, RequestError, SourceError, StoreError
from latentstore.manifest import Manifest, SkippedInfo
from latentstore.manifest.names import SKIPPED
from latentstore.quarantine import write_skipped
from latentstore.thumbnails import thumbnail_of

SHARDS = FIRST, SECOND, THIRD = tuple(f"train-0000{number}-of-00003.parquet" for number in range(3))
MANIFEST, INDEX = "manifest.json", "index.parquet"


@pytest.fixture
def folder(tmp_path: Path, drawn: Path) -> Path:
    """A copy of a sealed config that a test may damage."""
    return Path(shutil.copytree(drawn / "synthetic-pool8", tmp_path / "synthetic-pool8"))


@pytest.fixture(scope="session")
def bytes_drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes of ``drawn`` in int8, with thumbnails."""
    out = tmp_path_factory.mktemp("bytes")
    build_scenes(out, storage=STORAGES["int8"], calibration=4, thumbnail=24)
    return out


def failed(report: VerifyReport) -> dict[str, list[str]]:
    """Files named by each failed check."""
    return {r.check: [finding.file for finding in r.findings] for r in report.results if r.status == "failed"}


def statuses(report: VerifyReport) -> dict[str, str]:
    return {result.check: result.status for result in report.results}


def result_of(report: VerifyReport, check: str) -> CheckResult:
    return next(result for result in report.results if result.check == check)


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return found


# Every damage, and the one check that notices it ---------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """What is done to a dataset, and who notices it where."""

    check: str
    file: str
    do: Callable[[Path], object]
    name: str
    stored: str = "float16"


def edited(path: str, value: Any) -> Callable[[Path], None]:
    return lambda folder: edit_manifest(folder, path, value)


def forged(change: Callable[[Records], Records], mended: Mended = ALL) -> Callable[[Path], None]:
    return lambda folder: forge(folder, change, mended=mended)


def first_row(**changes: Any) -> Callable[[Records], Records]:
    return lambda records: [replace(records[0], **changes), *records[1:]]


def with_number(value: Any) -> Callable[[Records], Records]:
    def change(records: Records) -> Records:
        latent = records[3].latent.copy()
        latent[0, 0, 0] = value
        return [*records[:3], replace(records[3], latent=latent), *records[4:]]

    return change


def exchanged_latents(records: Records) -> Records:
    first, second, *rest = records
    return [replace(first, latent=second.latent), replace(second, latent=first.latent), *rest]


def exchanged_thumbnails(records: Records) -> Records:
    first, second, *rest = records
    return [replace(first, thumbnail=second.thumbnail), replace(second, thumbnail=first.thumbnail), *rest]


def better_scores(records: Records) -> Records:
    return [replace(record, scores={**record.scores, "psnr": record.scores["psnr"] + 3}) for record in records]


def remove_shard(folder: Path) -> None:
    (folder / FIRST).unlink()


def add_shard(folder: Path) -> None:
    shutil.copy(folder / FIRST, folder / "train-00003-of-00003.parquet")


def truncate(folder: Path) -> None:
    data = (folder / FIRST).read_bytes()
    (folder / FIRST).write_bytes(data[: len(data) // 2])


def flip_bit(folder: Path, shard: str = FIRST) -> None:
    data = bytearray((folder / shard).read_bytes())
    data[200] ^= 4
    (folder / shard).write_bytes(data)


def exchange_shards(folder: Path) -> None:
    """Two files exchanged, and their sizes in the manifest with them."""
    first, second = (folder / FIRST).read_bytes(), (folder / SECOND).read_bytes()
    (folder / FIRST).write_bytes(second)
    (folder / SECOND).write_bytes(first)
    edit_manifest(folder, "splits.train.shards.0.bytes", len(second))
    edit_manifest(folder, "splits.train.shards.1.bytes", len(first))


def drop_a_column(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / FIRST).drop_columns(["psnr"]), folder / FIRST)
    reseal(folder)


def drop_a_row(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / FIRST).slice(1), folder / FIRST)
    reseal(folder)


def retype_a_column(folder: Path) -> None:
    table = pq.read_table(folder / FIRST)
    place = table.schema.get_field_index("height")
    field = table.schema.field(place).with_type(pa.int64())
    table = table.set_column(place, field, table.column(place).cast(pa.int64()))
    pq.write_table(table, folder / FIRST, compression="zstd")
    reseal(folder)


def list_a_skipped_picture(folder: Path) -> None:
    """In the list, not in the manifest."""
    write_skipped(folder, [SkippedInfo("x", "x.png", "none", "train", 5)])


def reorder_columns(folder: Path) -> None:
    table = pq.read_table(folder / FIRST)
    pq.write_table(
        table.select(["id", "latent", *reversed(table.column_names[2:])]), folder / FIRST, compression="zstd"
    )
    reseal(folder)


def rename_a_class_for_datasets(folder: Path) -> None:
    table = pq.read_table(folder / FIRST)
    described = json.loads(table.schema.metadata[b"huggingface"])
    described["info"]["features"]["label"]["names"][0] = "another"
    metadata = {**table.schema.metadata, b"huggingface": json.dumps(described).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), folder / FIRST, compression="zstd")
    reseal(folder)


def claim_another_layout(folder: Path) -> None:
    edit_manifest(folder, "storage.layout", "fast")
    edit_manifest(folder, "build.plan.layout", "fast")


def reverse_rows(folder: Path) -> None:
    forge(folder, lambda records: records[::-1], mended=Mended(index=False))


def exchange_sizes_in_the_index(folder: Path) -> None:
    def change(index: dict[str, list[Any]]) -> dict[str, list[Any]]:
        sizes = index["source_bytes"]
        return {**index, "source_bytes": [sizes[0] + 1, sizes[1] - 1 if sizes[1] else 0, *sizes[2:]]}

    forge_index(folder, change)
    data = manifest_of(folder)
    total = sum(pq.read_table(folder / INDEX).column("source_bytes").to_pylist())
    edit_manifest(folder, "size.source_bytes", total)
    edit_manifest(folder, "size.source_over_stored", total / data["size"]["stored_bytes"])


def reorder_index(folder: Path) -> None:
    forge_index(folder, lambda index: {name: values[::-1] for name, values in index.items()})


def rename_index(folder: Path) -> None:
    (folder / INDEX).rename(folder / "other.parquet")
    edit_manifest(folder, "index.path", "other.parquet")


def rename_shard(folder: Path) -> None:
    """One shard renamed on disk, in the manifest and in the index."""
    name = "train-00009-of-00003.parquet"
    (folder / FIRST).rename(folder / name)
    edit_manifest(folder, "splits.train.shards.0.path", name)

    def change(index: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {**index, "shard": [name if shard == FIRST else shard for shard in index["shard"]]}

    forge_index(folder, change)


def change_index_without_mending(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / INDEX).slice(1), folder / INDEX)


def claim_other_weights(folder: Path) -> None:
    edit_manifest(folder, "vae.weights_sha256", "0" * 64)
    edit_manifest(folder, "build.plan.weights_sha256", "0" * 64)


def scaled(path: str, factor: float) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        value: Any = manifest_of(folder)
        for part in path.split("."):
            value = value[int(part)] if part.isdigit() else value[part]
        edit_manifest(folder, path, type(value)(value * factor))

    return edit


def picture(height: int, width: int) -> bytes:
    """A WebP file."""
    return thumbnail_of(smooth_picture(height, width), 64)


def claim_duplicates(folder: Path) -> None:
    edit_manifest(folder, "build.duplicates.groups", 3)


def pretend_a_budget(folder: Path) -> None:
    edit_manifest(folder, "storage.budget_db", 0.001)


OTHER_PICTURE = "0" * 64

DAMAGES = [
    Damage("manifest", MANIFEST, edited("format_version", "2.0"), "another major version"),
    Damage("manifest", MANIFEST, edited("vae.stride", "eight"), "a field of another type"),
    Damage("manifest", MANIFEST, edited("splits.train.rows", 31), "a sum that is wrong"),
    Damage("manifest", MANIFEST, rename_shard, "a renamed shard"),
    Damage("manifest", MANIFEST, rename_index, "an index of another name"),
    Damage("manifest", MANIFEST, edited("statistics.train.count", 1), "another count"),
    Damage("manifest", MANIFEST, edited("source.images.train", 31), "more pictures than rows"),
    Damage("manifest", MANIFEST, edited("source.images", {"train": 30, "test": 5}), "pictures of a split without rows"),
    Damage("manifest", MANIFEST, scaled("storage.calibration.std.0", 2.0), "a step that is no multiple", "int8"),
    Damage("provenance", MANIFEST, edited("vae.licence", "mit"), "another licence of the VAE"),
    Damage("provenance", MANIFEST, edited("source.licence", "mit"), "another licence of the source"),
    Damage("provenance", MANIFEST, edited("source.citation", "me"), "another citation"),
    Damage("provenance", MANIFEST, edited("posterior", "sample"), "another posterior"),
    Damage("provenance", MANIFEST, edited("environment.device", "cuda"), "another device"),
    Damage("provenance", MANIFEST, edited("build.batch_size", 5), "another batch size"),
    Damage("provenance", MANIFEST, pretend_a_budget, "a budget that nobody set"),
    Damage("files", FIRST, remove_shard, "a missing shard"),
    Damage("files", "train-00003-of-00003.parquet", add_shard, "a shard too many"),
    Damage("files", FIRST, truncate, "a truncated shard"),
    Damage("files", SKIPPED, list_a_skipped_picture, "a skipped picture that was invented"),
    Damage("index", INDEX, lambda folder: (folder / INDEX).unlink(), "no index"),
    Damage("index", INDEX, change_index_without_mending, "an index of other bytes"),
    Damage("index", INDEX, reorder_index, "an index in another order"),
    Damage("columns", FIRST, forged(first_row(source_path=None)), "a null where none may be"),
    Damage("columns", FIRST, forged(first_row(source_sha256="none")), "a sha256 that is none"),
    Damage("columns", FIRST, forged(first_row(label=-1), Mended(quality=False)), "a negative label"),
    Damage("columns", FIRST, forged(first_row(height=32)), "a picture too small for its latent"),
    Damage("columns", FIRST, forged(first_row(width=41)), "a picture too large for its latent"),
    Damage("ids", FIRST, forged(lambda records: [replace(records[0], id=records[1].id), *records[1:]]), "an id twice"),
    Damage("labels", FIRST, forged(first_row(label=12), Mended(quality=False)), "a label without class"),
    Damage("duplicates", MANIFEST, claim_duplicates, "duplicates that are none"),
    Damage("summaries", MANIFEST, edited("quality.psnr.mean", 60.0), "a better mean"),
    Damage("summaries", MANIFEST, edited("size.raw_rgb_over_stored", 50.0), "a better ratio"),
    Damage("hashes", FIRST, flip_bit, "a flipped bit"),
    Damage("hashes", SECOND, exchange_shards, "shards exchanged"),
    Damage("structure", FIRST, drop_a_column, "a column less"),
    Damage("structure", FIRST, drop_a_row, "a row less"),
    Damage("structure", FIRST, retype_a_column, "a column of another type"),
    Damage("structure", FIRST, reorder_columns, "columns in another order"),
    Damage("structure", FIRST, rename_a_class_for_datasets, "other class names for other readers"),
    Damage("structure", THIRD, claim_another_layout, "another layout"),
    Damage("rows", FIRST, reverse_rows, "rows in another order"),
    Damage("rows", FIRST, exchange_sizes_in_the_index, "an index that says otherwise"),
    Damage("checksums", FIRST, forged(exchanged_latents, Mended(checksums=False)), "latents exchanged"),
    Damage("latents", FIRST, forged(with_number(np.nan), Mended(statistics=False)), "a NaN"),
    Damage("latents", FIRST, forged(with_number(0), Mended(statistics=False)), "the byte 0", "int8"),
    Damage("latents", MANIFEST, scaled("statistics.train.std.1", 1.001), "another spread"),
    Damage("latents", MANIFEST, scaled("size.entropy_bytes", 0.9), "another entropy"),
    Damage("latents", MANIFEST, edited("storage.clipped", [0, 9999, 0]), "clipped numbers that are none", "int8"),
    Damage("thumbnails", FIRST, forged(first_row(thumbnail=b"no picture")), "a thumbnail that is none", "int8"),
    Damage("thumbnails", FIRST, forged(first_row(thumbnail=b"")), "an empty thumbnail", "int8"),
    Damage("thumbnails", FIRST, forged(first_row(thumbnail=None)), "a thumbnail that is null", "int8"),
    Damage("thumbnails", FIRST, forged(first_row(thumbnail=picture(24, 23))), "one of another size", "int8"),
    Damage("thumbnails", FIRST, forged(first_row(thumbnail=picture(24, 24)[:-9])), "one that was cut short", "int8"),
    Damage("thumbnails", MANIFEST, edited("size.thumbnail_bytes", 1), "bytes that are not those", "int8"),
    Damage("likeness", FIRST, forged(exchanged_thumbnails), "two thumbnails exchanged", "int8"),
    Damage("provenance", MANIFEST, edited("build.plan.thumbnail", 25), "another side than planned", "int8"),
    Damage("manifest", MANIFEST, edited("size.thumbnail_bytes", 0), "thumbnails that take no bytes", "int8"),
    Damage("manifest", MANIFEST, edited("size.thumbnail_bytes", 9), "bytes of thumbnails that there are none of"),
    Damage("identity", MANIFEST, claim_other_weights, "other weights"),
    Damage("quality", FIRST, forged(better_scores), "better scores"),
    Damage("quality", FIRST, forged(exchanged_latents), "latents exchanged with their checksums"),
    Damage("source", FIRST, forged(first_row(source_sha256=OTHER_PICTURE)), "another source picture"),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=[f"{damage.check}: {damage.name}" for damage in DAMAGES])
def test_each_damage_is_noticed_by_the_one_check_meant_for_it(
    damage: Damage, drawn: Path, bytes_drawn: Path, tmp_path: Path
) -> None:
    original = {"float16": drawn, "int8": bytes_drawn}[damage.stored] / "synthetic-pool8"
    folder = Path(shutil.copytree(original, tmp_path / "synthetic-pool8"))
    damage.do(folder)
    report = verify(folder, sample=30)
    assert not report.ok
    assert list(failed(report)) == [damage.check]
    assert damage.file in failed(report)[damage.check]
    for result in report.results:
        assert all(finding.message and finding.file for finding in result.findings)
        if result.status == "not run":  # because of it, which the note says
            unmet = [name for name in CHECKS[result.check].needs if statuses(report)[name] != "passed"]
            assert result.note in {f"needs {', '.join(unmet)}", "needs manifest"}


def test_every_check_has_a_damage_that_proves_it() -> None:
    assert {damage.check for damage in DAMAGES} == set(CHECKS)


def test_a_folder_that_is_called_otherwise_than_its_config_is_noticed(folder: Path) -> None:
    report = verify(folder.rename(folder.with_name("another-name")))
    assert failed(report) == {"manifest": [MANIFEST]}


def test_a_layout_that_the_container_has_not_is_noticed(folder: Path) -> None:
    edit_manifest(folder, "storage.layout", "slow")
    assert MANIFEST in failed(verify(folder, depth="quick"))["manifest"]


@pytest.mark.parametrize("worth_it", [0, 10**9])
def test_numbers_are_counted_one_by_one_or_value_by_value(
    worth_it: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentstore.value_counts.WORTH_IT", worth_it)
    assert result_of(verify(folder), "latents").status == "passed"
    forge(folder, with_number(np.inf), mended=Mended(statistics=False))
    (finding,) = result_of(verify(folder), "latents").findings
    assert (finding.file, finding.message) == (FIRST, "row 3 holds a number that is not finite")


# What damage does not stop -------------------------------------------------------------------------------------------


def test_one_damaged_shard_does_not_stop_the_checks_of_the_others(folder: Path) -> None:
    forge(folder, with_number(np.nan), shard=2, mended=Mended(statistics=False))
    flip_bit(folder, SECOND)
    remove_shard(folder)
    add_shard_of(folder, THIRD)
    report = verify(folder, sample=30)
    assert failed(report) == {
        "files": [FIRST, "train-00003-of-00003.parquet"],
        "hashes": [SECOND],
        "latents": [THIRD],
    }
    assert result_of(report, "hashes").left_out == (FIRST,)
    assert result_of(report, "checksums").left_out == (FIRST, SECOND)
    assert result_of(report, "checksums").status == "passed"
    assert result_of(report, "checksums").note == f"6 checksums; left out {FIRST}, {SECOND}, see structure"
    assert result_of(report, "quality").note == "needs rows, latents"
    assert result_of(report, "source").status == "passed"


def add_shard_of(folder: Path, shard: str) -> None:
    shutil.copy(folder / shard, folder / "train-00003-of-00003.parquet")


def test_rows_of_sound_shards_are_still_measured(folder: Path) -> None:
    remove_shard(folder)
    report = verify(folder, depth="full")
    assert list(failed(report)) == ["files"]
    assert result_of(report, "quality").note.startswith("18 rows decoded and measured again; left out ")
    assert result_of(report, "latents").note.startswith("18 latents read; statistics of train and the entropy need")


def test_without_an_index_the_shards_are_still_checked(folder: Path) -> None:
    (folder / INDEX).unlink()
    flip_bit(folder)
    report = verify(folder)
    assert set(failed(report)) == {"index", "hashes"}
    assert result_of(report, "checksums").status == "passed"
    assert result_of(report, "rows").note == "needs index"


def test_exchanged_shards_are_named_with_each_other(folder: Path) -> None:
    exchange_shards(folder)
    findings = result_of(verify(folder), "hashes").findings
    assert [(finding.file, finding.message) for finding in findings] == [
        (FIRST, f"has the sha256 of {SECOND}: one file stands in the place of the other"),
        (SECOND, f"has the sha256 of {FIRST}: one file stands in the place of the other"),
    ]


def test_a_row_that_was_changed_is_named(folder: Path) -> None:
    forge(folder, with_number(1.0), mended=Mended(checksums=False))
    (finding,) = result_of(verify(folder), "checksums").findings
    assert finding.file == FIRST
    assert finding.message.startswith("row 3 has CRC-32 ")


# Depths --------------------------------------------------------------------------------------------------------------


def test_a_sound_dataset_passes_every_check(drawn: Path, drawn_fast: Path, bytes_drawn: Path) -> None:
    for location in (drawn, drawn_fast, bytes_drawn, drawn / "synthetic-pool8"):
        for depth in ("normal", "full"):
            report = verify(location, depth=depth)
            assert statuses(report) == dict.fromkeys(CHECKS, "passed")
            assert report.ok


@pytest.mark.parametrize("container", list(CONTAINERS))
def test_every_container_can_be_verified(container: str, tmp_path: Path) -> None:
    build_scenes(tmp_path, source=scenes(6), container=CONTAINERS[container], metrics=())
    report = verify(tmp_path)
    assert report.ok
    unmeasured = [check for check, status in statuses(report).items() if status != "passed"]
    assert unmeasured == ["quality"]


def test_quick_opens_no_shard(folder: Path) -> None:
    for shard in SHARDS:
        (folder / shard).write_bytes(bytes((folder / shard).stat().st_size))
    report = verify(folder, depth="quick")
    assert report.ok
    assert [check for check, status in statuses(report).items() if status == "passed"] == [
        name for name, row in CHECKS.items() if row.depth == "quick"
    ]
    assert result_of(report, "hashes").note == "not part of depth quick"
    assert set(failed(verify(folder))) == {"hashes"}


def test_full_measures_every_row_again(folder: Path) -> None:
    def change(records: Records) -> Records:
        return [*better_scores(records[:1]), *records[1:]]

    forge(folder, change)
    assert verify(folder, sample=1).ok  # another row was drawn
    report = verify(folder, sample=1, depth="full")
    assert failed(report) == {"quality": [FIRST]}


def test_without_a_sample_nothing_is_said_of_quality(drawn: Path) -> None:
    report = verify(drawn, sample=0)
    assert report.ok
    for check in ("quality", "source"):
        assert result_of(report, check).status == "not run"
        assert result_of(report, check).note == "no row was drawn: the sample is 0"


def test_some_checks_are_run_with_what_they_need_and_no_others(drawn: Path) -> None:
    report = verify(drawn, checks=[CHECKS["ids"], CHECKS["checksums"]])
    assert [result.check for result in report.results] == [
        "files",
        "index",
        "columns",
        "ids",
        "hashes",
        "structure",
        "checksums",
    ]
    assert set(statuses(report).values()) == {"passed"}


def test_a_check_of_ones_own_runs_after_what_it_needs(drawn: Path) -> None:
    def bright(inspection: Inspection) -> Iterator[Finding]:
        yield Finding(INDEX, f"{len(inspection.index['id'])} rows are too bright")

    report = verify(drawn, checks=[CheckRow("bright", "no row is too bright", bright, needs=("columns",))])
    assert [result.check for result in report.results] == ["index", "columns", "bright"]
    assert failed(report) == {"bright": [INDEX]}


def test_progress_moves_with_bytes_and_rows(drawn: Path) -> None:
    told: list[tuple[str, int, int]] = []
    verify(drawn, sample=5, progress=lambda *report: told.append(report))
    manifest = Manifest.read(drawn / "synthetic-pool8")
    sizes = [shard.bytes for shard in manifest.splits["train"].shards]
    shards = [(done, total) for check, done, total in told if check == "shards"]
    assert shards == [(sum(sizes[:number]), sum(sizes)) for number in range(3)]
    assert [(done, total) for check, done, total in told if check == "quality"] == [
        (0, 0),
        *((n, 5) for n in range(1, 6)),
    ]
    assert next(check for check, *_ in told) == "manifest"


def test_what_cannot_be_asked_for_is_an_error(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="There is no depth named 'ful'. Did you mean 'full'"):
        verify(drawn, depth="ful")
    with pytest.raises(RequestError, match="Expected a sample of 0 rows or more, found -1"):
        verify(drawn, sample=-1)
    with pytest.raises(SourceError):
        verify(drawn, source=folder_source(str(tmp_path / "nowhere")))


# The source's pictures -----------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures of one class, built into ``out`` beside them."""
    found: Path = write_pictures(tmp_path / "photos", {f"sea/{name}.png": (40, 40) for name in "abc"})
    build(plan(source=folder_source(str(found))), tmp_path / "out")
    return found


def test_pictures_that_changed_since_are_noticed(photos: Path) -> None:
    out = photos.with_name("out")
    assert verify(out, trust=True).ok
    write_pictures(photos, {"sea/c.png": (40, 40)})  # drawn with another seed
    report = verify(out, trust=True)
    assert list(failed(report)) == ["source"]
    (finding,) = result_of(report, "source").findings
    assert finding.message == (
        "'sea/c' (sea/c.png): its source picture is not the one that was encoded (another sha256)"
    )
    assert (
        result_of(report, "quality").note == "2 rows decoded and measured again; 1 without their picture, see `source`"
    )


def test_other_pictures_are_noticed_without_reading_them(photos: Path) -> None:
    (photos / "sea" / "b.png").unlink()
    report = verify(photos.with_name("out"), trust=True)
    assert failed(report) == {"source": [MANIFEST]}
    assert result_of(report, "quality").status == "not run"
    assert "other pictures than those that were encoded" in result_of(report, "source").findings[0].message


def test_all_pictures_are_hashed_only_where_a_source_is_named_or_everything_is(photos: Path) -> None:
    out = photos.with_name("out")
    rows = pq.read_table(out / "photos-pool8" / INDEX).column("id").to_pylist()
    write_pictures(photos, {f"{rows[1]}.png": (40, 40)})
    (photos / f"{rows[1]}.png").write_bytes((photos / f"{rows[1]}.png").read_bytes() + b"\0")
    kept = next(seed for seed in range(9) if np.random.default_rng(seed).permutation(3)[0] != 1)
    report = verify(out, sample=1, seed=kept, trust=True)
    assert report.ok
    assert result_of(report, "source").note == "the pictures of 1 row hashed, a sample"
    for asked in ({"source": folder_source(str(photos))}, {"depth": "full"}):
        report = verify(out, sample=1, seed=kept, **asked, trust=True)
        assert list(failed(report)) == ["source"]
        assert result_of(report, "source").note == "the pictures of 3 rows hashed"


def test_a_skipped_picture_that_was_invented_is_noticed(folder: Path) -> None:
    entry = {"id": "x", "source_path": "x.png", "reason": "none", "split": "train", "position": 5}
    edit_manifest(folder, "build.skipped", [entry])
    edit_manifest(folder, "source.images.train", 31)
    report = verify(folder)
    assert failed(report) == {"files": [SKIPPED], "source": [MANIFEST]}
    (finding,) = result_of(report, "files").findings
    assert finding.message == "is missing, but the manifest lists 1 skipped picture"
    write_skipped(folder, [SkippedInfo(**entry)])  # type: ignore[arg-type]
    assert failed(verify(folder)) == {"source": [MANIFEST]}


def test_where_every_drawn_picture_has_changed_quality_is_not_run(photos: Path) -> None:
    for picture in photos.rglob("*.png"):
        picture.write_bytes(picture.read_bytes() + b"\0")
    report = verify(photos.with_name("out"), trust=True)
    assert list(failed(report)) == ["source"]
    assert result_of(report, "quality").status == "not run"
    assert result_of(report, "quality").note.startswith("none of the drawn rows still has its source picture")


def test_a_picture_that_is_gone_bad_is_named(photos: Path) -> None:
    path = photos / "sea" / "a.png"
    path.write_bytes(path.read_bytes()[:60])
    report = verify(photos.with_name("out"), depth="full", trust=True)
    assert list(failed(report)) == ["source"]
    assert "cannot be read any more" in result_of(report, "source").findings[0].message


def test_without_its_source_two_checks_are_not_run_and_say_how_to_run_them(photos: Path) -> None:
    out, moved = photos.with_name("out"), photos.with_name("elsewhere")
    photos.rename(moved)
    report = verify(out, trust=True)
    assert report.ok
    for check in ("quality", "source"):
        assert result_of(report, check).status == "not run"
        assert result_of(report, check).note.endswith("; say where with --source")
    again = verify(out, source=folder_source(str(moved)), trust=True)
    assert statuses(again) == dict.fromkeys(CHECKS, "passed")


@pytest.mark.parametrize("depth", ["normal", "full"])
def test_tiled_and_cropped_pictures_are_measured_again_in_their_own_place(depth: str, tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (50, 70), "b.png": (64, 64), "c.png": (33, 90)})
    (photos / "d.png").write_bytes(b"no picture")
    manifest = build(plan(source=folder_source(str(photos)), preparation=Preparation(tile=(32, 32))), tmp_path / "out")
    report = verify(tmp_path / "out", sample=manifest.rows, depth=depth, trust=True)
    assert statuses(report) == dict.fromkeys(CHECKS, "passed")
    assert result_of(report, "quality").note == f"{manifest.rows} rows decoded and measured again"


@pytest.mark.parametrize(
    "preparation", [Preparation(resize=(24, 40)), Preparation(crop=(20, 28)), Preparation((33,), (30, 30))]
)
def test_prepared_sizes_are_those_that_the_latents_cover(preparation: Preparation, tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (50, 70), "b.png": (64, 64)})
    build(plan(source=folder_source(str(photos)), preparation=preparation), tmp_path)
    assert verify(tmp_path, trust=True).ok
    forge(tmp_path / "photos-pool8", first_row(height=23))
    assert list(failed(verify(tmp_path, trust=True))) == ["columns"]


def test_a_folder_that_is_called_like_a_row_of_the_table_is_read_again_as_a_folder(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "aid", {f"sea/{name}.png": (40, 40) for name in "abc"})
    build(plan(source=folder_source(str(photos))), tmp_path / "out")
    assert statuses(verify(tmp_path / "out", trust=True)) == dict.fromkeys(CHECKS, "passed")


# The VAE -------------------------------------------------------------------------------------------------------------


def test_latents_of_other_weights_are_noticed(tmp_path: Path) -> None:
    build_scenes(tmp_path, source=scenes(4, 32), vae=VAES["demo"], metrics=())
    assert verify(tmp_path).ok
    claim_other_weights(tmp_path / "synthetic-demo")
    report = verify(tmp_path)
    assert list(failed(report)) == ["identity"]
    assert "another VAE would give wrong pictures" in result_of(report, "identity").findings[0].message


def test_a_vae_that_is_not_at_hand_is_no_failure(tmp_path: Path) -> None:
    own = replace(VAES["pool8"], name="mine", class_name="Mine")
    build_scenes(tmp_path, source=scenes(4), vae=own, metrics=())
    report = verify(tmp_path)
    assert report.ok
    assert result_of(report, "identity").status == "not run"
    assert result_of(report, "identity").note.startswith("the VAE is not at hand: There is no row for VAE 'mine'")
    assert result_of(report, "provenance").note == "build.plan, and the table's source"
    assert result_of(report, "source").status == "passed"


# Provenance ----------------------------------------------------------------------------------------------------------


def test_tables_of_another_version_are_worth_a_warning_only(folder: Path) -> None:
    edit_manifest(folder, "vae.licence", "mit")
    edit_manifest(folder, "environment.versions.latentstore", "0.0.1")
    report = verify(folder)
    assert report.ok
    assert result_of(report, "provenance").status == "passed"
    (warning,) = result_of(report, "provenance").warnings
    assert (warning.file, warning.warning) == (MANIFEST, True)
    assert "vae.licence: 'mit' is not what the table" in warning.message


def test_a_metric_in_other_words_is_worth_a_warning_only(folder: Path) -> None:
    edit_manifest(folder, "quality.psnr.protocol", "as always")
    report = verify(folder)
    assert report.ok
    assert [finding.message for finding in result_of(report, "summaries").warnings] == [
        "quality.psnr.protocol is not that of the metric in this version"
    ]


def converted(measured: bool) -> dict[str, Any]:
    return {"storage": "float16", "container": "parquet", "layout": "fast", "lossless": False, "measured": measured}


def test_a_converted_dataset_is_held_against_the_plan_of_what_it_was(tmp_path: Path) -> None:
    build_scenes(tmp_path, storage=STORAGES["float32"], source=scenes(6), metrics=())
    folder = tmp_path / "synthetic-pool8"
    edit_manifest(folder, "build.plan.storage", "float16")
    edit_manifest(folder, "build.plan.layout", "fast")
    assert list(failed(verify(folder))) == ["provenance"]
    edit_manifest(folder, "storage.converted", [converted(measured=False)])
    report = verify(folder)
    assert report.ok
    assert result_of(report, "source").status == "passed"
    assert result_of(report, "quality").note == (
        "the numbers were rounded when the dataset was converted, and its quality was not measured again"
    )
    edit_manifest(folder, "storage.converted.0.storage", "float32")
    assert list(failed(verify(folder))) == ["provenance"]


# The report ----------------------------------------------------------------------------------------------------------


def test_a_place_without_a_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotSealedError):
        verify(tmp_path)
    with pytest.raises(StoreError, match="There is no folder"):
        verify(tmp_path / "nowhere")


def test_the_report_is_plain_json(drawn: Path) -> None:
    data = json.loads(json.dumps(verify(drawn, sample=2).to_dict(), allow_nan=False))
    assert data["ok"] is True
    assert (data["config"], data["depth"]) == ("synthetic-pool8", "normal")
    assert [result["check"] for result in data["results"]] == list(CHECKS)
