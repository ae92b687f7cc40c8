"""convert(): the same rows in another form; what changed is measured or left out, and never hidden."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forged import Mended, Records, edit_manifest, forge, mend
from numpy.typing import NDArray
from scenes import build_scenes, write_pictures

from latentstore import (
    CONTAINERS,
    STORAGES,
    ConvertProgress,
    LatentStore,
    Manifest,
    convert,
    folder_source,
    load_latents,
    open_store,
    verify,
)
from latentstore.entropy import ByteCounts
from latentstore.errors import (
    DamagedShardError,
    NotSealedError,
    PlanMismatchError,
    RequestError,
    SourceError,
    StoreError,
    WrongVaeError,
)
from latentstore.hashing import crc32_of, sha256_of
from latentstore.manifest.names import INDEX
from latentstore.statistics import ChannelStatistics

Form = tuple[str, str, str]
FORMS: list[Form] = [
    (storage, container.name, layout)
    for storage in STORAGES
    for container in CONTAINERS.values()
    for layout in container.layouts
]
PAIRS = [(before, after) for before in FORMS for after in FORMS if before != after]
NAME = "synthetic-pool8"


def rows(form: Form) -> dict[str, Any]:
    storage, container, layout = form
    return {"storage": STORAGES[storage], "container": CONTAINERS[container], "layout": layout}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Form], Path]:
    """The same 30 scenes, built in any form; each form once."""
    root = tmp_path_factory.mktemp("forms")

    def of(form: Form) -> Path:
        out = root / "-".join(form)
        if not out.is_dir():
            build_scenes(out, calibration=4, **rows(form))
        return out

    return of


@pytest.fixture(scope="module")
def float16(built: Callable[[Form], Path]) -> Path:
    return built(("float16", "parquet", "compact"))


@pytest.fixture
def copy(float16: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(float16, tmp_path / "copy")


def raw_latents(store: LatentStore) -> NDArray[np.float32]:
    stored = [
        store.shard(shard).latents(np.arange(shard.rows))
        for split in store.manifest.splits.values()
        for shard in split.shards
    ]
    return store.storage().decode(np.concatenate(stored))


def files(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


def shards_of(manifest: Manifest) -> list[tuple[str, int, str]]:
    return [(shard.path, shard.rows, shard.sha256) for split in manifest.splits.values() for shard in split.shards]


def failed(out: Path) -> dict[str, Any]:
    found = verify(out, sample=30, trust=True).results
    return {result.check: result.findings or result.note for result in found if result.status != "passed"}


# Every form into every other -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=["-".join((*a, "to", *b)) for a, b in PAIRS])
def test_the_manifest_says_what_became_of_the_numbers(
    before: Form, after: Form, built: Callable[[Form], Path], tmp_path: Path
) -> None:
    source = open_store(built(before))
    manifest = convert(source, tmp_path, measure=False, **rows(after))
    result = open_store(tmp_path)
    assert result.manifest == manifest
    assert (manifest.storage.name, manifest.storage.container, manifest.storage.layout) == after
    old, new = raw_latents(source), raw_latents(result)
    (step,) = manifest.storage.converted
    assert (step.storage, step.container, step.layout) == before
    assert step.lossless == (old.tobytes() == new.tobytes())
    assert step.manifest_sha256 == sha256_of(source.folder / "manifest.json")
    assert manifest.metrics == (source.manifest.metrics if step.lossless else ())
    index, known = result.index(), source.index()
    kept = [name for name in known if name not in ("shard", "latent_crc32") and name in index]
    assert {name: index[name] for name in kept} == {name: known[name] for name in kept}
    (split,) = manifest.splits.values()
    assert [shard.rows for shard in split.shards] == [shard.rows for shard in source.manifest.splits["train"].shards]
    stored = STORAGES[after[0]].open(manifest.storage.steps).encode(new)
    assert index["latent_crc32"] == crc32_of(stored)
    wanted = ChannelStatistics.of(new)
    np.testing.assert_allclose(manifest.statistics["train"].mean, wanted.mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(manifest.statistics["train"].std, wanted.std, rtol=1e-9)
    starts = np.cumsum([0, *(shard.rows for shard in split.shards)])
    bits = sum(ByteCounts.of(stored[a:b]).bits for a, b in pairwise(starts))
    assert manifest.size.entropy_bytes == pytest.approx(bits / 8, abs=1)
    assert manifest.size.stored_bytes == sum((result.folder / shard.path).stat().st_size for shard in split.shards)
    assert {path.name for path in result.folder.iterdir()} == {
        "manifest.json", "preview.png", INDEX, *(shard.path for shard in split.shards)
    }  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("storage", STORAGES)
def test_a_converted_dataset_passes_every_check(storage: str, container: str, float16: Path, tmp_path: Path) -> None:
    layout = CONTAINERS[container].layouts[-1]
    convert(float16, tmp_path, **rows((storage, container, layout)))
    assert failed(tmp_path) == {}
    assert len(load_latents(tmp_path)) == 30


# Lossless steps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [form for form in FORMS if form[0] == "float16"], ids="-".join)
def test_another_container_or_layout_is_as_if_built_that_way(
    form: Form, built: Callable[[Form], Path], tmp_path: Path
) -> None:
    other = next(found for found in FORMS if found[0] == "float16" and found != form)
    manifest = convert(built(other), tmp_path, **rows(form))
    direct = Manifest.read(built(form) / NAME)
    assert shards_of(manifest) == shards_of(direct)
    assert manifest.index == direct.index
    assert manifest.quality == direct.quality
    assert manifest.size == direct.size
    assert manifest.build == Manifest.read(built(other) / NAME).build


def test_float32_rounded_and_measured_again_is_as_if_built_in_float16(
    built: Callable[[Form], Path], tmp_path: Path
) -> None:
    before = built(("float32", "parquet", "fast"))
    direct = Manifest.read(built(("float16", "parquet", "compact")) / NAME)
    manifest = convert(before, tmp_path, **rows(("float16", "parquet", "compact")), measure=True)
    assert shards_of(manifest) == shards_of(direct)
    assert manifest.quality == direct.quality
    assert manifest.statistics["train"].std == pytest.approx(direct.statistics["train"].std, rel=1e-12)
    (step,) = manifest.storage.converted
    assert (step.lossless, step.measured) == (False, True)
    drop = step.quality_before["psnr"] - direct.quality["psnr"].mean  # type: ignore[operator]
    assert manifest.storage.measured_loss_db == pytest.approx(drop, abs=1e-6)


def test_what_is_not_named_stays_and_the_layout_follows_the_container(float16: Path, tmp_path: Path) -> None:
    manifest = convert(float16, tmp_path / "a", container=CONTAINERS["webdataset"])
    assert (manifest.storage.name, manifest.storage.layout) == ("float16", "fast")
    manifest = convert(tmp_path / "a", tmp_path / "b", container=CONTAINERS["parquet"])
    assert (manifest.storage.name, manifest.storage.layout) == ("float16", "fast")


def test_the_chain_is_recorded_oldest_first(float16: Path, tmp_path: Path) -> None:
    convert(float16, tmp_path / "a", layout="fast")
    first = convert(tmp_path / "a", tmp_path / "b", storage=STORAGES["int8"])
    second = convert(tmp_path / "b", tmp_path / "c", storage=STORAGES["float32"])
    assert [(step.storage, step.layout, step.lossless) for step in second.storage.converted] == [
        ("float16", "compact", True),
        ("float16", "fast", False),
        ("int8", "fast", True),
    ]
    assert second.quality == first.quality
    assert second.storage.measured_loss_db == first.storage.measured_loss_db
    assert (second.storage.steps, second.storage.clipped, second.storage.step_sigma) == (None, None, None)
    assert failed(tmp_path / "c") == {}


def test_int8_to_float16_is_lossless_only_where_every_number_survives(copy: Path, tmp_path: Path) -> None:
    convert(copy, tmp_path / "a", storage=STORAGES["int8"])
    odd = convert(tmp_path / "a", tmp_path / "b", storage=STORAGES["float16"])
    assert odd.storage.converted[-1].lossless is False
    rounded = Manifest.read(tmp_path / "a" / NAME)
    storage = replace(rounded.storage, steps=(2.0**-6,) * odd.vae.channels)
    mend(tmp_path / "a" / NAME, replace(rounded, storage=storage))
    even = convert(tmp_path / "a", tmp_path / "c", storage=STORAGES["float16"], measure=False)
    assert even.storage.converted[-1].lossless is True
    assert even.metrics == ("psnr", "ssim", "mae")


# Lossy steps ---------------------------------------------------------------------------------------------------------


def test_steps_are_a_share_of_the_spread_over_all_rows(float16: Path, tmp_path: Path) -> None:
    manifest = convert(float16, tmp_path, storage=STORAGES["int8"], step=1 / 8, measure=False)
    spread = raw_latents(open_store(float16)).astype(np.float64).std(axis=(0, 2, 3))
    np.testing.assert_allclose(manifest.storage.steps, spread / 8, rtol=1e-6)  # type: ignore[arg-type]
    assert manifest.storage.step_sigma == 1 / 8
    assert manifest.storage.calibration is None


def test_int8_takes_larger_steps_when_asked(float16: Path, tmp_path: Path) -> None:
    convert(float16, tmp_path / "a", storage=STORAGES["int8"])
    manifest = convert(tmp_path / "a", tmp_path / "b", storage=STORAGES["int8"], step=1 / 4)
    assert manifest.storage.step_sigma == 1 / 4
    assert manifest.storage.converted[-1].lossless is False
    assert failed(tmp_path / "b") == {}


def test_the_loss_of_several_steps_adds_up(float16: Path, tmp_path: Path) -> None:
    first = convert(float16, tmp_path / "a", storage=STORAGES["int8"])
    second = convert(tmp_path / "a", tmp_path / "b", storage=STORAGES["int8"], step=1 / 2)
    before = Manifest.read(float16 / NAME).quality["psnr"].mean
    whole = before - second.quality["psnr"].mean  # type: ignore[operator]
    assert second.storage.measured_loss_db == pytest.approx(whole, abs=1e-5)
    assert first.storage.measured_loss_db != second.storage.measured_loss_db


def test_the_loss_is_measured_where_there_are_no_scores(float16: Path, tmp_path: Path) -> None:
    build_scenes(tmp_path / "a", metrics=())
    bare = convert(tmp_path / "a", tmp_path / "b", storage=STORAGES["int8"], max_psnr_drop=1.0)
    scored = convert(float16, tmp_path / "c", storage=STORAGES["int8"])
    assert (bare.metrics, bare.storage.converted[-1].measured) == ((), True)
    assert bare.storage.measured_loss_db == pytest.approx(scored.storage.measured_loss_db, abs=1e-6)


def test_what_was_not_measured_is_left_out_and_said(float16: Path, tmp_path: Path) -> None:
    seen: list[ConvertProgress] = []
    manifest = convert(float16, tmp_path, storage=STORAGES["int8"], measure=False, progress=seen.append)
    (step,) = manifest.storage.converted
    assert (step.lossless, step.measured) == (False, False)
    assert step.quality_before["psnr"] == Manifest.read(float16 / NAME).quality["psnr"].mean
    assert (manifest.metrics, manifest.quality, manifest.storage.measured_loss_db) == ((), {}, None)
    assert "psnr" not in open_store(tmp_path).index()
    assert seen[-1].note == "nothing was to be measured"
    assert {result.check for result in verify(tmp_path).results if result.status == "failed"} == set()


def test_metrics_that_were_dropped_come_back_when_they_can_be_measured(float16: Path, tmp_path: Path) -> None:
    convert(float16, tmp_path / "a", storage=STORAGES["int8"], measure=False)
    convert(tmp_path / "a", tmp_path / "b", layout="fast")
    manifest = convert(tmp_path / "b", tmp_path / "c", storage=STORAGES["int8"], step=1 / 2)
    assert manifest.metrics == ("psnr", "ssim", "mae")
    assert manifest.storage.measured_loss_db is not None
    assert failed(tmp_path / "c") == {}


def test_clipped_numbers_are_counted_and_steps_widened_only_where_that_was_measured(
    float16: Path, tmp_path: Path
) -> None:
    step = 1 / 64  # 127 steps are two standard deviations
    blind = convert(float16, tmp_path / "a", storage=STORAGES["int8"], step=step, measure=False)
    raw, steps = raw_latents(open_store(float16)), np.array(blind.storage.steps, np.float32)[:, None, None]
    beyond = (np.abs(np.rint(raw / steps)) > 127).sum(axis=(0, 2, 3))
    assert blind.storage.clipped == tuple(beyond)
    assert sum(beyond) > 0
    seeing = convert(float16, tmp_path / "b", storage=STORAGES["int8"], step=step)
    assert seeing.storage.calibration is not None
    assert seeing.storage.calibration.widened
    assert sum(seeing.storage.clipped or ()) < sum(beyond)


def test_auto_takes_what_keeps_the_budget(float16: Path, tmp_path: Path) -> None:
    manifest = convert(float16, tmp_path, storage="auto", max_psnr_drop=0.5)
    storage = manifest.storage
    assert storage.name == "int8"
    assert storage.calibration is not None
    assert storage.budget_db == 0.5
    assert storage.measured_loss_db is not None
    assert storage.measured_loss_db <= 0.5
    with pytest.raises(RequestError, match=r"Nothing smaller than float16 keeps 0 dB: raise --max-psnr-drop, or leave"):
        convert(float16, tmp_path / "b", storage="auto", max_psnr_drop=0)


def test_strict_seals_nothing_over_its_budget(float16: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"storage": STORAGES["int8"], "step": 1 / 2, "max_psnr_drop": 1e-6}
    with pytest.raises(RequestError, match=r"over the budget of 1e-06 dB: raise --max-psnr-drop"):
        convert(float16, tmp_path, **asked, strict=True)
    assert not (tmp_path / NAME / "manifest.json").exists()
    manifest = convert(float16, tmp_path, **asked)
    assert manifest.storage.budget_db == 1e-6
    with pytest.raises(RequestError, match="over the budget"):
        convert(float16, tmp_path, **asked, strict=True)


def test_the_preview_is_drawn_again_where_numbers_changed(float16: Path, tmp_path: Path) -> None:
    convert(float16, tmp_path / "a", layout="fast")
    convert(float16, tmp_path / "b", storage=STORAGES["int8"], step=1 / 2)
    before = (float16 / NAME / "preview.png").read_bytes()
    assert (tmp_path / "a" / NAME / "preview.png").read_bytes() == before
    assert (tmp_path / "b" / NAME / "preview.png").read_bytes() != before


# Pictures and VAE that are not at hand -------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A dataset built from files, in ``photos-out``."""
    pictures = write_pictures(tmp_path / "photos", {f"{name}/{n}.png": (16, 24) for name in "ab" for n in range(4)})
    build_scenes(tmp_path / "photos-out", source=folder_source(str(pictures)), rows_per_shard=3)
    return tmp_path / "photos-out"


def test_without_the_pictures_scores_are_left_out_unless_they_are_insisted_on(photos: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "photos", tmp_path / "moved")
    seen: list[ConvertProgress] = []
    int8 = STORAGES["int8"]
    manifest = convert(photos, tmp_path / "a", storage=int8, progress=seen.append, trust=True)
    assert manifest.storage.converted[-1].measured is False
    assert seen[-1].note.startswith("the source pictures are not at hand")
    insisting: list[tuple[dict[str, Any], str]] = [
        ({"measure": True}, "quality is measured"),
        ({"storage": "auto"}, "--storage auto is chosen"),
    ]
    for asked, what in insisting:
        with pytest.raises(RequestError, match=f"{what} on the source pictures with the VAE, and the source pictures"):
            convert(photos, tmp_path / "b", **{"storage": int8, **asked}, trust=True)
    with pytest.raises(RequestError, match="max_psnr_drop cannot be held against anything: the source pictures"):
        convert(photos, tmp_path / "c", storage=int8, max_psnr_drop=0.1, trust=True)
    moved = convert(photos, tmp_path / "d", storage=int8, source=folder_source(str(tmp_path / "moved")), trust=True)
    assert moved.metrics == ("psnr", "ssim", "mae")


def test_a_picture_that_was_changed_is_named(photos: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", {"b/1.png": (16, 24)})
    with pytest.raises(SourceError, match=r"'b/1\.png' is not the picture that was encoded \(another sha256\)"):
        convert(photos, tmp_path / "a", storage=STORAGES["int8"], trust=True)
    (tmp_path / "photos" / "b" / "1.png").write_bytes(b"no picture")
    with pytest.raises((SourceError, RequestError)):
        convert(photos, tmp_path / "b", storage=STORAGES["int8"], trust=True)
    assert convert(photos, tmp_path / "c", storage=STORAGES["int8"], measure=False, trust=True).metrics == ()


def test_another_vae_measures_nothing(copy: Path, tmp_path: Path) -> None:
    edit_manifest(copy / NAME, "vae.weights_sha256", "0" * 64)
    with pytest.raises(WrongVaeError, match="another VAE would give wrong pictures"):
        convert(copy, tmp_path / "a", storage=STORAGES["int8"])
    assert convert(copy, tmp_path / "b", layout="fast").metrics == ("psnr", "ssim", "mae")


# Damage --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("layout", ["fast", "compact"])
def test_a_flipped_byte_is_refused_by_the_name_of_its_shard(
    layout: str, place: float, built: Callable[[Form], Path], tmp_path: Path
) -> None:
    source = shutil.copytree(built(("float16", "parquet", layout)), tmp_path / "source")
    shard = sorted((source / NAME).glob("train-*.parquet"))[1]
    data = bytearray(shard.read_bytes())
    data[int(place * len(data))] ^= 4
    shard.write_bytes(data)
    with pytest.raises(DamagedShardError, match=shard.name):
        convert(source, tmp_path / "out", storage=STORAGES["float32"])
    assert not (tmp_path / "out" / NAME / "manifest.json").exists()


def test_numbers_that_were_changed_together_with_their_sha256_get_no_fresh_checksum(copy: Path, tmp_path: Path) -> None:
    def change(records: Records) -> Records:
        return [*records[:3], replace(records[3], latent=records[3].latent + np.float16(1)), *records[4:]]

    forge(copy / NAME, change, mended=Mended(checksums=False))
    asks: dict[str, dict[str, Any]] = {
        "fast": {"layout": "fast"},
        "int8": {"storage": STORAGES["int8"]},
        "float32": {"storage": STORAGES["float32"]},
    }
    for name, asked in asks.items():
        found = r"train-00000-of-00003\.parquet was changed: the CRC-32 of row 3 \('"
        with pytest.raises(DamagedShardError, match=found):
            convert(copy, tmp_path / "out", new_config=name, **asked)
    assert list(tmp_path.glob("out/*/manifest.json")) == []


def test_a_changed_index_is_refused(copy: Path, tmp_path: Path) -> None:
    path = copy / NAME / INDEX
    path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    with pytest.raises(DamagedShardError, match="is not the one that the manifest describes"):
        convert(copy, tmp_path / "out", layout="fast")


@pytest.mark.parametrize("storage", ["float32", "int8", "float16"])
def test_a_number_that_is_not_finite_is_refused(storage: str, copy: Path, tmp_path: Path) -> None:
    def change(records: Records) -> Records:
        latent = records[0].latent.copy()
        latent[0, 0, 0] = np.inf
        return [replace(records[0], latent=latent), *records[1:]]

    forge(copy / NAME, change, mended=Mended(statistics=False))
    with pytest.raises(DamagedShardError, match=r"train-00000-of-00003\.parquet holds a number that is not finite"):
        convert(copy, tmp_path / "out", storage=STORAGES[storage], layout="fast", measure=False)
    assert not (tmp_path / "out" / NAME / "manifest.json").exists()


def test_a_byte_that_is_never_written_is_refused(built: Callable[[Form], Path], tmp_path: Path) -> None:
    source = shutil.copytree(built(("int8", "parquet", "compact")), tmp_path / "source")

    def change(records: Records) -> Records:
        latent = records[0].latent.copy()
        latent[0, 0, 0] = 0
        return [replace(records[0], latent=latent), *records[1:]]

    forge(source / NAME, change, mended=Mended(statistics=False))
    with pytest.raises(DamagedShardError, match=r"train-00000-of-00003\.parquet holds the byte 0, which is never"):
        convert(source, tmp_path / "out", layout="fast")
    assert not (tmp_path / "out" / NAME / "manifest.json").exists()


def test_a_latent_beyond_the_range_of_float16_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    build_scenes(tmp_path / "a", storage=STORAGES["float32"])

    def change(records: Records) -> Records:
        return [replace(record, latent=record.latent + np.float32(1e5)) for record in records]

    forge(tmp_path / "a" / NAME, change)
    with pytest.raises(
        RequestError, match=r"'float16' cannot hold the latents of train-00000-.*; choose int8 or float"
    ):
        convert(tmp_path / "a", tmp_path / "b", storage=STORAGES["float16"])
    assert not (tmp_path / "b" / NAME).exists()


# Runs that stop, and second runs -------------------------------------------------------------------------------------


class Stopped(Exception):  # noqa: N818 (no error)
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("asked", [{"layout": "fast"}, {"storage": STORAGES["int8"]}], ids=["lossless", "lossy"])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    after: int, asked: dict[str, Any], float16: Path, tmp_path: Path
) -> None:
    whole = convert(float16, tmp_path / "whole", **asked)
    reports = []

    def stop(progress: ConvertProgress) -> None:
        reports.append(progress)
        if len(reports) == after:
            raise Stopped

    with pytest.raises(Stopped):
        convert(float16, tmp_path / "out", **asked, progress=stop)
    assert not (tmp_path / "out" / NAME / "manifest.json").exists()
    seen: list[ConvertProgress] = []
    assert convert(float16, tmp_path / "out", **asked, progress=seen.append) == whole
    assert files(tmp_path / "out" / NAME) == files(tmp_path / "whole" / NAME)
    assert seen[-1].resumed == 12 * (after - 1)


def test_the_same_conversion_twice_does_nothing(float16: Path, tmp_path: Path) -> None:
    for number, asked in enumerate(
        [{"layout": "fast"}, {"storage": STORAGES["int8"]}, {"storage": "auto", "max_psnr_drop": 0.5}]
    ):
        out = tmp_path / str(number)
        first = convert(float16, out, **asked)  # type: ignore[arg-type]
        before = files(out / NAME)
        (out / "README.md").unlink()
        seen: list[ConvertProgress] = []
        assert convert(float16, out, **asked, progress=seen.append) == first  # type: ignore[arg-type]
        assert seen == []
        assert files(out / NAME) == before
        assert (out / "README.md").is_file()


# What is refused -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_done_is_one_sentence(float16: Path, tmp_path: Path) -> None:
    int8, float32 = STORAGES["int8"], STORAGES["float32"]
    convert(float16, tmp_path / "int8", storage=int8)
    for location, asked, sentence in (
        (float16, {}, r"already is float16 in parquet, layout compact: name another storage, container or layout\."),
        (float16, {"storage": STORAGES["float16"], "layout": "compact"}, "already is float16 in parquet"),
        (float16, {"layout": "fats"}, r"Container 'parquet' has no layout 'fats'; choose from compact, fast\."),
        (float16, {"container": CONTAINERS["webdataset"], "layout": "compact"}, "'webdataset' has no layout 'compact'"),
        (
            float16,
            {"storage": float32, "step": 0.1},
            "A step goes with a quantised storage such as int8, found float3",
        ),
        (float16, {"storage": "auto", "step": 0.1}, "A step goes with a quantised storage such as int8, found auto"),
        (float16, {"storage": int8, "step": 5.0}, "Expected a step above 0 and up to 4 standard deviations, found 5"),
        (float16, {"storage": int8, "max_psnr_drop": -1.0}, "Expected a max_psnr_drop of 0 dB or more, found -1"),
        (float16, {"storage": int8, "calibration": 0}, "Expected calibration of 1 or more, found 0"),
        (float16, {"layout": "fast", "max_psnr_drop": 0.1}, "max_psnr_drop goes with a storage that rounds"),
        (float16, {"layout": "fast", "new_config": "a b"}, "Config name 'a b' cannot be used on the Hub"),
        (tmp_path / "int8", {"storage": "auto"}, "is stored in int8 already, and the unrounded latents are gone"),
        (tmp_path / "int8", {"storage": int8, "step": 1 / 16}, "already is int8 in parquet, layout compact"),
    ):
        with pytest.raises(RequestError, match=sentence):
            convert(location, tmp_path / "out", **asked)
        assert not (tmp_path / "out").exists()
    with pytest.raises(StoreError, match="There is no folder"):
        convert(tmp_path / "nowhere", tmp_path / "out", layout="fast")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotSealedError, match="holds no latent dataset"):
        convert(tmp_path / "empty", tmp_path / "out", layout="fast")


def test_no_folder_is_written_over(copy: Path, tmp_path: Path) -> None:
    before = files(copy / NAME)
    with pytest.raises(RequestError, match="would be written over itself: choose another --out, or another name"):
        convert(copy, copy, layout="fast")
    beside = convert(copy, copy, layout="fast", new_config="beside")
    assert beside.config == "beside"
    assert failed(copy / "beside") == {}
    with pytest.raises(PlanMismatchError, match="already holds another dataset"):
        convert(copy / NAME, copy, storage=STORAGES["float32"], new_config="beside")
    convert(copy / NAME, copy, storage=STORAGES["int8"], measure=False, new_config="blind")
    with pytest.raises(PlanMismatchError, match="already holds this conversion, not measured again"):
        convert(copy / NAME, copy, storage=STORAGES["int8"], measure=True, new_config="blind")
    (tmp_path / "full" / NAME).mkdir(parents=True)
    (tmp_path / "full" / NAME / "thesis.txt").write_text("mine")
    with pytest.raises(PlanMismatchError, match=r"already holds thesis\.txt"):
        convert(copy / NAME, tmp_path / "full", layout="fast")
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "README.md").write_text("mine")
    with pytest.raises(RequestError, match="was not written by latentstore"):
        convert(copy / NAME, tmp_path / "card", layout="fast")
    assert files(copy / NAME) == before


def test_a_conversion_that_was_begun_differently_is_not_continued(float16: Path, tmp_path: Path) -> None:
    def stop(_: ConvertProgress) -> None:
        raise Stopped

    int8 = STORAGES["int8"]
    with pytest.raises(Stopped):
        convert(float16, tmp_path, storage=int8, progress=stop)
    with pytest.raises(PlanMismatchError, match=r"step: there 0\.0625, asked for 0\.125"):
        convert(float16, tmp_path, storage=int8, step=1 / 8)
    with pytest.raises(PlanMismatchError, match="was begun measuring psnr, ssim, mae, and would go on not measuring"):
        convert(float16, tmp_path, storage=int8, measure=False)


def test_one_of_several_configs_is_named(float16: Path, tmp_path: Path) -> None:
    convert(float16, tmp_path, layout="fast", new_config="one")
    convert(float16, tmp_path, storage=STORAGES["int8"], new_config="two")
    with pytest.raises(RequestError, match="holds several configs, name one of them: one, two"):
        convert(tmp_path, tmp_path / "out", layout="compact")
    assert convert(tmp_path, tmp_path / "out", config="two", layout="fast").config == "two"
    card = (tmp_path / "README.md").read_text()
    assert "## one" in card
    assert "## two" in card


def test_skipped_pictures_do_not_move_the_measured_ones(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "photos", {f"a/{number}.png": (16, 24) for number in range(9)})
    (pictures / "a" / "4.png").write_bytes(b"no picture")
    manifest = build_scenes(tmp_path / "a", source=folder_source(str(pictures)), rows_per_shard=4)
    assert len(manifest.build.skipped) == 1
    convert(tmp_path / "a", tmp_path / "b", storage=STORAGES["int8"], trust=True)
    assert failed(tmp_path / "b") == {}
    data = json.loads((tmp_path / "b" / manifest.config / "manifest.json").read_text())
    assert data["build"]["plan"] == json.loads(json.dumps(manifest.build.plan))
