"""`build(append=True)`: new pictures of a source join a sealed dataset, whose shards stay what they are."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from appending import CONFIG, appended, assert_sound, draw, hashes, plan, raw
from checkpoints import save_checkpoint
from PIL import Image
from scenes import smooth_picture

from latentstore import (
    CHECKS,
    CONTAINERS,
    METRICS,
    STORAGES,
    VAES,
    BuildProgress,
    Manifest,
    Preparation,
    SourceRow,
    append_sealing,
    build,
    build_status,
    convert,
    folder_source,
    load_latents,
    open_store,
    verify,
)
from latentstore.errors import (
    DamagedShardError,
    LatentStoreError,
    NotSealedError,
    PlanMismatchError,
    RequestError,
    SourceError,
)
from latentstore.manifest import with_digest
from latentstore.manifest.names import JOURNAL
from latentstore.records import SkippedTile, Tile
from latentstore.sources.image_folder import open_image_folder
from latentstore.sources.interface import OpenSource, SplitReader
from latentstore.statistics import ChannelStatistics

build_module = import_module("latentstore.build")  # `latentstore.build` is the function of that name


def test_new_pictures_become_new_shards_and_old_ones_stay(tmp_path: Path) -> None:
    draw(tmp_path / "photos", range(6))
    before = build(plan(tmp_path / "photos"), tmp_path / "out")
    old = hashes(tmp_path / "out" / CONFIG)
    draw(tmp_path / "photos", range(6, 13))
    after = build(plan(tmp_path / "photos"), tmp_path / "out", append=True)
    new = hashes(tmp_path / "out" / CONFIG)
    shards = [shard.path for shard in after.splits["train"].shards]
    assert shards[:2] == [shard.path for shard in before.splits["train"].shards]
    assert shards[2:] == ["train-plus001-00000-of-00002.parquet", "train-plus001-00001-of-00002.parquet"]
    assert all(new[name] == old[name] for name in shards[:2])
    assert sorted(new) == sorted([*shards, "index-1.parquet", "manifest.json", "preview-1.png"])
    assert after.splits["train"].rows == 13
    assert after.source.images == {"train": 13}
    assert after.build.appended[0].pictures == {"train": 7}
    assert sorted(open_store(tmp_path / "out").index(["source_path"])["source_path"]) == sorted(
        str(path.relative_to(tmp_path / "photos")) for path in (tmp_path / "photos").rglob("*.png")
    )
    assert_sound(tmp_path / "out")


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_the_manifest_states_what_one_pass_over_all_rows_gives(tmp_path: Path, storage: str) -> None:
    appended(tmp_path / "out", tmp_path / "photos", storage=STORAGES[storage], calibration=4)
    larger = draw(tmp_path / "photos", range(13, 16))
    after = build(plan(larger, storage=STORAGES[storage], calibration=4), tmp_path / "out", append=True)
    values = raw(tmp_path / "out" / CONFIG)
    assert len(values) == 16
    whole, stated = ChannelStatistics.of(values), after.statistics["train"]
    assert stated.count == whole.count
    np.testing.assert_allclose(stated.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(stated.std, whole.std, rtol=1e-13)
    assert stated.minimum == tuple(whole.minimum.tolist())
    assert stated.maximum == tuple(whole.maximum.tolist())
    scores = open_store(tmp_path / "out").index(["psnr"])["psnr"]
    assert after.quality["psnr"].n == 16
    assert after.quality["psnr"].mean == pytest.approx(np.mean(np.asarray(scores, np.float64)), rel=1e-12)
    assert len(after.build.appended) == 2
    assert_sound(tmp_path / "out")


def test_what_the_manifest_adds_up_is_that_of_the_shards_and_of_the_index(tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos", range(6))
    shutil.copyfile(photos / "field" / "000.png", photos / "field" / "a.png")
    Image.fromarray(smooth_picture(24, 16, 3)[..., 0]).save(photos / "field" / "grey.png")
    (photos / "town" / "bad.png").write_bytes(b"no picture")
    kept = {"metrics": (METRICS["psnr"],), "max_psnr_drop": 1.0, "max_bad": 1.0, "storage": STORAGES["int8"]}
    before = build(plan(photos, **kept), tmp_path / "out")
    shutil.copyfile(photos / "field" / "000.png", photos / "town" / "b.png")
    Image.fromarray(smooth_picture(24, 16, 5)[..., 0]).save(photos / "field" / "grey2.png")
    (photos / "town" / "worse.png").write_bytes(b"no picture")
    after = build(plan(photos, **kept), tmp_path / "out", append=True)
    assert [entry.source_path for entry in after.build.skipped] == ["town/bad.png", "town/worse.png"]
    assert after.build.skipped[0] == before.build.skipped[0]
    assert 9 <= after.build.skipped[1].position < 12
    assert after.build.appended[0].rows == {"train": 3}
    assert (after.splits["train"].rows, after.source.images["train"]) == (10, 12)
    assert after.build.duplicates.pictures == 3
    assert after.build.duplicates.across_classes == 1
    assert after.build.conversions["grey to RGB"] == 2
    assert after.storage.steps == before.storage.steps
    assert after.storage.measured_loss_db is not None
    assert after.size.stored_bytes == sum(shard.bytes for shard in after.splits["train"].shards)
    assert after.size.pixels == 10 * 24 * 16
    assert len((tmp_path / "out" / CONFIG / "skipped.jsonl").read_text().splitlines()) == 2
    assert all(result.status != "failed" for result in verify(tmp_path / "out", depth="full", trust=True).results)


def test_what_storing_cost_is_what_it_costs_all_pictures_at_once(tmp_path: Path) -> None:
    _, after = appended(tmp_path / "out", tmp_path / "photos", max_psnr_drop=90.0)
    whole = build(plan(tmp_path / "photos", max_psnr_drop=90.0), tmp_path / "whole")  # pool8 knows no other pictures
    assert whole.storage.measured_loss_db != 0
    assert after.storage.measured_loss_db == pytest.approx(whole.storage.measured_loss_db, rel=1e-9)
    assert after.quality["psnr"].mean == whole.quality["psnr"].mean


def test_clipped_numbers_are_those_of_both_parts(tmp_path: Path) -> None:
    kept: dict[str, Any] = {"storage": STORAGES["int8"], "step": 1 / 256, "max_psnr_drop": 90.0, "calibration": 2}
    before, after = appended(tmp_path / "out", tmp_path / "photos", **kept)
    build(plan(draw(tmp_path / "new", range(6, 13)), storage=STORAGES["float32"]), tmp_path / "alone")
    steps = after.storage.steps
    assert steps == before.storage.steps
    clipped = STORAGES["int8"].open(steps).clipped(raw(tmp_path / "alone" / CONFIG))
    assert clipped.sum() > 0
    assert before.storage.clipped is not None
    assert after.storage.clipped == tuple((np.array(before.storage.clipped) + clipped).tolist())


def test_appending_again_and_again_gives_each_its_own_shards(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    appended(tmp_path / "out", photos)
    for last in (14, 19):
        after = build(plan(draw(photos, range(last))), tmp_path / "out", append=True)
    assert [entry.pictures["train"] for entry in after.build.appended] == [7, 1, 5]
    assert after.splits["train"].rows == 19
    assert after.splits["train"].shards[-1].path == "train-plus003-00001-of-00002.parquet"
    assert after.index.path == "index-3.parquet"
    assert not list((tmp_path / "out" / CONFIG).glob("index-[12].parquet"))
    assert_sound(tmp_path / "out")
    assert build(plan(photos), tmp_path / "out") == after  # the same plan: already complete


def test_a_new_picture_that_cannot_be_used_is_listed_and_not_asked_for_again(tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos", range(6))
    before = build(plan(photos), tmp_path / "out")
    (photos / "town" / "bad.png").write_bytes(b"no picture")
    after = build(plan(photos), tmp_path / "out", append=True)
    assert [entry.source_path for entry in after.build.skipped] == ["town/bad.png"]
    assert (after.rows, after.source.images) == (6, {"train": 7})
    assert after.quality == before.quality
    assert_sound(tmp_path / "out")
    assert build(plan(photos), tmp_path / "out", append=True) == after


def test_new_pictures_of_another_size_are_refused_even_where_all_old_ones_have_left(tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos", range(6))
    build(plan(photos), tmp_path / "out")
    for path in photos.rglob("*.png"):
        Image.fromarray(smooth_picture(40, 40)).save(path.with_name(f"new-{path.name}"))
        path.unlink()
    with pytest.raises(SourceError, match="encoded at 40x40 pixels, those of the dataset at 24x16"):
        build(plan(photos), tmp_path / "out", append=True)


def test_nothing_new_changes_nothing(tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos", range(6))
    before = build(plan(photos), tmp_path / "out")
    old = hashes(tmp_path / "out" / CONFIG)
    calls: list[object] = []
    assert build(plan(photos), tmp_path / "out", append=True, progress=calls.append) == before
    (photos / "field" / "000.png").unlink()
    assert build(plan(photos), tmp_path / "out", append=True, progress=calls.append) == before
    assert calls == []
    assert hashes(tmp_path / "out" / CONFIG) == old


def test_pictures_that_left_the_source_keep_their_rows_and_are_named(tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos", range(6))
    before = build(plan(photos), tmp_path / "out")
    (photos / "field" / "002.png").unlink()
    after = build(plan(draw(photos, range(6, 9))), tmp_path / "out", append=True)
    assert after.splits["train"].rows == 9
    assert "1 picture of the dataset had left the source when it was last added to: field/002.png" in after.source.notes
    report = verify(tmp_path / "out", depth="full", trust=True)
    found = [finding for result in report.results for finding in result.findings]
    assert [finding.message for finding in found] == [
        "'field/002' (field/002.png): its source picture cannot be read any more (is not in the source any more)"
    ]
    assert before.splits["train"].rows == 6


def test_a_picture_that_was_changed_is_found_by_verify(tmp_path: Path) -> None:
    appended(tmp_path / "out", tmp_path / "photos")
    for name, size in (("field/000.png", (24, 16)), ("town/007.png", (40, 8))):
        Image.fromarray(smooth_picture(*size, 99)).save(tmp_path / "photos" / name)
    report = verify(tmp_path / "out", depth="full", trust=True)
    found = {finding.message.partition(" ")[0] for result in report.results for finding in result.findings}
    assert found == {"'field/000'", "'town/007'"}


@pytest.mark.parametrize(
    "changes",
    [
        {"preparation": Preparation(tile=(8, 8))},
        {"preparation": Preparation(views=("identity", "hflip"))},
        {"container": "webdataset"},
        {"order": "source"},
    ],
    ids=["tiles", "views", "tar", "source order"],
)
def test_it_works_for_every_way_to_lay_rows_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    if "container" in changes:
        changes = {"container": CONTAINERS[changes["container"]]}
    before, after = appended(tmp_path / "out", tmp_path / "photos", **changes)
    assert after.rows == before.rows // 6 * 13
    assert_sound(tmp_path / "out")


def test_rows_of_the_new_pictures_are_what_a_dataset_of_them_alone_holds(tmp_path: Path) -> None:
    appended(tmp_path / "out", tmp_path / "photos")
    build(plan(draw(tmp_path / "new", range(6, 13))), tmp_path / "alone")
    assert np.array_equal(raw(tmp_path / "out" / CONFIG)[6:], raw(tmp_path / "alone" / CONFIG))


def test_a_split_that_is_new_is_added(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos, [f"train/{name}/{place}.png" for name in ("field", "town") for place in range(3)])
    build(plan(photos), tmp_path / "out")
    draw(photos, [f"test/{name}/{place}.png" for name in ("field", "town") for place in range(2)])
    after = build(plan(photos), tmp_path / "out", append=True)
    assert {split: info.rows for split, info in after.splits.items()} == {"train": 6, "test": 4}
    assert [shard.path for shard in after.splits["test"].shards] == ["test-plus001-00000-of-00001.parquet"]
    assert_sound(tmp_path / "out")
    draw(photos, ["test/field/9.png"])
    build(plan(photos), tmp_path / "out", append=True)
    assert_sound(tmp_path / "out")


def test_it_is_loaded_streamed_and_converted_as_one(tmp_path: Path) -> None:
    _, after = appended(tmp_path / "out", tmp_path / "photos")
    rows = load_latents(tmp_path / "out", space="raw")
    assert len(rows) == 13
    seen = np.concatenate([batch["latent"] for batch in rows.loader(5, shuffle=True, seed=3)])
    assert sorted(map(bytes, np.asarray(seen))) == sorted(map(bytes, raw(tmp_path / "out" / CONFIG).astype(np.float32)))
    converted = convert(tmp_path / "out", tmp_path / "tars", container=CONTAINERS["webdataset"])
    assert converted.splits["train"].rows == 13
    assert converted.statistics == after.statistics
    assert all(result.status != "failed" for result in verify(tmp_path / "tars", depth="full", trust=True).results)
    with pytest.raises(RequestError, match="was converted from another dataset: add to that one"):
        build(plan(draw(tmp_path / "photos", range(15)), config=converted.config), tmp_path / "tars", append=True)


KILLED = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from appending import CONFIG, plan
from latentstore import build
from latentstore.manifest.names import JOURNAL
def progress(found):
    while found.done >= 5:  # the first shard was measured, and is being written
        if list((Path({out!r}) / CONFIG / JOURNAL).glob("train-*.json")):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
build(plan(Path({photos!r})), {out!r}, append=True, progress=progress)
"""


def killed_in_the_middle(out: Path, photos: Path) -> None:
    """An append whose process is killed after its first shard."""
    script = KILLED.format(tests=str(Path(__file__).parent), photos=str(photos), out=str(out))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=240, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (out / CONFIG / JOURNAL).is_dir()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_killed_in_the_middle_the_old_dataset_stays_and_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    before = build(plan(photos), out)
    shutil.copytree(out, tmp_path / "whole")
    draw(photos, range(6, 13))
    killed_in_the_middle(out, photos)
    assert open_store(out).manifest == before
    report = verify(out, checks=[row for row in CHECKS.values() if row.name not in ("source", "quality")], trust=True)
    assert [result for result in report.results if result.status == "failed"] == []
    assert len(load_latents(out)) == 6
    assert not build_status(out / CONFIG).sealed
    with pytest.raises(RequestError, match="type the command with --append to finish it"):
        build(plan(photos), out)
    build(plan(photos), out, append=True)
    build(plan(photos), tmp_path / "whole", append=True)
    assert hashes(out / CONFIG) == hashes(tmp_path / "whole" / CONFIG)
    assert not (out / CONFIG / JOURNAL).exists()


MOMENTS = {"the manifest": (Manifest, "write"), "the card": (append_sealing, "write_card")}
MOMENTS |= {"the tidying": (append_sealing, "tidy_append")}


@pytest.mark.parametrize("moment", MOMENTS)
def test_stopped_around_the_new_manifest_it_is_old_or_new_and_the_same_command_tidies(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    before = build(plan(photos), out)
    shutil.copytree(out, tmp_path / "whole")
    draw(photos, [*range(6, 9)])
    (photos / "town" / "bad.png").write_bytes(b"no picture")
    build(plan(photos), tmp_path / "whole", append=True)
    states = {name: hashes(tmp_path / name / CONFIG) for name in ("out", "whole")}

    def stop(*_: object) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*MOMENTS[moment], stop)
        with pytest.raises(KeyboardInterrupt):
            build(plan(photos), out, append=True)
    found = open_store(out).manifest
    assert (found == before) == (moment == "the manifest")
    state = states["out" if found == before else "whole"]
    now = hashes(out / CONFIG)
    for name in (found.preview, found.index.path, "manifest.json"):  # those of one state, whichever it is
        assert now[name] == state[name]
    shown = re.search(rf"{CONFIG}/(preview.*\.png)", (out / "README.md").read_text())
    assert shown is not None
    assert shown[1] in now
    checks = [row for row in CHECKS.values() if row.name not in ("source", "quality")]
    assert all(result.status != "failed" for result in verify(out, checks=checks, trust=True).results)
    after = build(plan(photos), out, append=True)
    assert after.splits["train"].rows == 9
    assert len(after.build.appended) == 1
    assert hashes(out / CONFIG) == states["whole"]
    assert (out / "README.md").read_bytes() == (tmp_path / "whole" / "README.md").read_bytes()
    assert all(result.status != "failed" for result in verify(out, depth="full", trust=True).results)


AT_THE_MANIFEST = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from appending import plan
from latentstore import Manifest, build
Manifest.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
build(plan(Path({photos!r})), {out!r}, append=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_killed_before_the_new_manifest_the_old_one_has_its_own_preview_and_a_build_without_the_new_ones_tidies(
    tmp_path: Path,
) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    build(plan(photos), out)
    old, card = hashes(out / CONFIG), (out / "README.md").read_bytes()
    draw(photos, range(6, 9))
    script = AT_THE_MANIFEST.format(tests=str(Path(__file__).parent), photos=str(photos), out=str(out))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=240, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    now = hashes(out / CONFIG)
    assert {"preview-1.png", "index-1.parquet"} < set(now)
    assert {name: now[name] for name in old} == old
    assert (out / "README.md").read_bytes() == card
    for number in range(6, 9):
        (photos / ("field", "town")[number % 2] / f"{number:03d}.png").unlink()
    build(plan(photos), out, append=True)  # nothing is new any more
    assert hashes(out / CONFIG) == old
    assert not (out / CONFIG / JOURNAL).exists()


def test_what_was_begun_with_other_pictures_is_thrown_away(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    build(plan(photos), out)
    draw(photos, range(6, 30))

    def stop(found: BuildProgress) -> None:
        if found.done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(plan(photos), out, append=True, progress=stop)
    assert (out / CONFIG / "train-plus001-00000-of-00006.parquet").is_file()
    for number in range(10, 30):
        (photos / ("field", "town")[number % 2] / f"{number:03d}.png").unlink()
    after = build(plan(photos), out, append=True)
    assert after.splits["train"].rows == 10
    assert [path.name for path in (out / CONFIG).glob("train-plus*")] == ["train-plus001-00000-of-00001.parquet"]
    assert_sound(out)


def test_workers_in_processes_of_their_own_give_the_same_bytes(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    build(plan(photos), out)
    shutil.copytree(out, tmp_path / "other")
    draw(photos, range(6, 16))
    build(plan(photos), out, append=True)
    build(plan(photos), tmp_path / "other", append=True, workers=2)
    assert hashes(out / CONFIG) == hashes(tmp_path / "other" / CONFIG)


def test_a_plain_build_over_a_grown_source_names_append(tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos", range(6))
    build(plan(photos), tmp_path / "out")
    with pytest.raises(PlanMismatchError, match="add the new ones with --append"):
        build(plan(draw(photos, range(8))), tmp_path / "out")


def test_what_cannot_be_added_is_refused_in_a_sentence_and_changes_nothing(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    with pytest.raises(NotSealedError, match="type the command without --append"):
        build(plan(photos), out, append=True)
    build(plan(photos), out)
    old = hashes(out / CONFIG)
    draw(photos, range(6, 8))

    def refused(kind: type[LatentStoreError], words: str, **changes: Any) -> None:
        with pytest.raises(kind, match=words):
            build(plan(photos, **changes), out, append=True)

    refused(PlanMismatchError, "seed: there 0, asked for 1", seed=1)
    refused(PlanMismatchError, "storage: there 'float16', asked for 'float32'", storage=STORAGES["float32"])
    refused(RequestError, "has no `names`", source=replace(folder_source(photos), reader=nameless))
    draw(photos, ["lake/1.png"])
    refused(PlanMismatchError, "other classes .* \\(\\+lake\\)")
    shutil.rmtree(photos / "lake")
    Image.fromarray(smooth_picture(64, 64)).save(photos / "town" / "large.png")
    refused(LatentStoreError, "different sizes")
    (photos / "town" / "large.png").unlink()
    assert hashes(out / CONFIG) == old
    assert not (out / CONFIG / JOURNAL).exists()


def test_a_new_picture_with_the_id_of_one_that_left_is_refused(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    build(plan(photos), out)
    (photos / "field" / "000.png").rename(photos / "field" / "000.tiff")
    with pytest.raises(SourceError, match="would have the id 'field/000'"):
        build(plan(photos), out, append=True)
    (photos / "field" / "000.tiff").rename(photos / "field" / "100.png")
    assert build(plan(photos), out, append=True).splits["train"].rows == 7


def test_a_damaged_old_shard_is_not_sealed_again(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    before = build(plan(photos), out)
    shard = out / CONFIG / before.splits["train"].shards[0].path
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DamagedShardError, match="so nothing is added"):
        build(plan(draw(photos, range(6, 8))), out, append=True)
    assert open_store(out).manifest == before


@dataclass(frozen=True)
class Nameless:
    """A user's own split, of which nothing is known but what every split must know."""

    split: SplitReader
    random_access: bool = True

    def __len__(self) -> int:
        return len(self.split)

    def sizes(self) -> Iterator[tuple[int, int] | None]:
        return self.split.sizes()

    def read(self, rows: Sequence[int]) -> Iterator[Tile | SkippedTile]:
        return self.split.read(rows)


def nameless(row: SourceRow) -> OpenSource:
    """The pictures of a folder, whose names are only known once they are read."""
    found = open_image_folder(row)
    return replace(found, splits={name: Nameless(split) for name, split in found.splits.items()})


BUSY = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from appending import plan
from latentstore import build
def progress(found):
    if found.stage == "encode":
        print("at work", flush=True)
        sys.stdin.read()
build(plan(Path({photos!r})), {out!r}, append=True, progress=progress)
"""


def test_a_second_append_beside_the_first_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    build(plan(photos), out)
    draw(photos, range(6, 13))
    script = BUSY.format(tests=str(Path(__file__).parent), photos=str(photos), out=str(out))
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "at work\n"
        with pytest.raises(RequestError, match=rf"Another process is building into .* \(process {first.pid} on "):
            build(plan(photos), out, append=True)
        with pytest.raises(RequestError, match="An append to .* was begun and is not finished"):
            build(plan(photos), out)
        status = build_status(out / CONFIG)
        assert status.builder is not None
        assert (status.sealed, status.builder.pid) == (False, first.pid)
        assert [shard.state for shard in status.shards][:3] == ["finished", "finished", "worked on"]
        first.communicate("", timeout=240)
    assert first.returncode == 0
    assert build_status(out / CONFIG).sealed
    assert open_store(out).manifest.rows == 13
    assert_sound(out)


def test_an_append_that_another_one_has_overtaken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    build(plan(photos), out)
    draw(photos, range(6, 9))
    claim = build_module.claim_append
    overtaken: list[Manifest] = []

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(build_module, "claim_append", claim)
        overtaken.append(build(plan(photos), out, append=True))
        return claim(*arguments)

    monkeypatch.setattr(build_module, "claim_append", late)
    with pytest.raises(RequestError, match="Another process has just added to .*: type the command again"):
        build(plan(photos), out, append=True)
    assert open_store(out).manifest == overtaken[0]
    assert build(plan(photos), out, append=True) == overtaken[0]
    assert not (out / CONFIG / JOURNAL).exists()


def test_an_append_with_too_many_bad_pictures_stops_and_goes_on_where_they_are_allowed(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    build(plan(photos), out)
    shutil.copytree(out, tmp_path / "whole")
    old = hashes(out / CONFIG)
    draw(photos, range(6, 16))
    for number in (20, 21, 22):
        (photos / "town" / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"of 13 pictures cannot be used, .* 5 % may be bad .*--max-bad"):
        build(plan(photos), out, append=True)
    now = hashes(out / CONFIG)
    assert {name: now[name] for name in old} == old
    after = build(plan(photos, max_bad=0.5), out, append=True)
    assert (after.rows, len(after.build.skipped)) == (16, 3)
    build(plan(photos, max_bad=0.5), tmp_path / "whole", append=True)
    assert hashes(out / CONFIG) == hashes(tmp_path / "whole" / CONFIG)
    assert build(plan(photos), out, append=True) == after  # those that were allowed are no less so now


def test_other_weights_of_the_same_vae_are_refused_with_both_hashes(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "photos", range(3)), tmp_path / "out"
    model = save_checkpoint(tmp_path / "first", "taesd")
    with torch.no_grad():
        next(iter(model.parameters())).mul_(2)
    model.save_pretrained(tmp_path / "second")
    rows = [VAES["taesd"].at(str(tmp_path / name)) for name in ("first", "second")]
    before = build(plan(photos, vae=rows[0]), out)
    draw(photos, range(3, 5))
    with pytest.raises(PlanMismatchError, match=f"weights_sha256: there '{before.vae.weights_sha256}', asked for '"):
        build(plan(photos, vae=rows[1]), out, append=True)
    assert open_store(out).manifest == before
    assert build(plan(photos, vae=rows[0]), out, append=True).rows == 5


def test_versions_that_compute_may_change_between_two_appends_and_not_within_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    first = build(plan(photos), out)
    draw(photos, range(6, 13))
    killed_in_the_middle(out, photos)
    journal = out / CONFIG / JOURNAL
    finished = {path.name: path.stat().st_mtime_ns for path in journal.glob("train-*.json")}
    assert finished
    newer = {**first.environment.versions, "torch": "9.0"}
    monkeypatch.setattr(build_module, "_environment", lambda: newer)
    kept: list[int] = []

    def look(found: BuildProgress) -> None:
        kept.append(found.resumed)

    after = build(plan(photos), out, append=True, progress=look)
    assert set(kept) == {0}  # all of it is by the new ones
    assert after.environment.versions == first.environment.versions
    assert after.build.appended[0].versions == newer


def test_a_dataset_in_a_newer_format_is_not_rewritten_without_what_is_unknown_here(tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "photos", range(6)), tmp_path / "out"
    build(plan(photos), out)
    path = out / CONFIG / "manifest.json"
    path.write_text(with_digest({**json.loads(path.read_text()), "format_version": "1.7", "of_the_future": 1}))
    old = hashes(out / CONFIG)
    draw(photos, range(6, 9))
    with pytest.warns(UserWarning, match="newer than"), pytest.raises(RequestError) as caught:
        build(plan(photos), out, append=True)
    assert str(caught.value) == (
        f"{out / CONFIG} is in format 1.7, and this latentstore writes 1.0: install the newer one with pip install "
        "--upgrade latentstore, then type the command again."
    )
    assert hashes(out / CONFIG) == old


def test_conversions_count_pictures_in_however_many_tiles_views_and_shards(tmp_path: Path) -> None:
    def grey(*names: str) -> None:
        for place, name in enumerate(names):
            Image.fromarray(smooth_picture(24, 16, place)[..., 0]).save(photos / name)

    photos, out = draw(tmp_path / "photos", range(3)), tmp_path / "out"
    preparation = Preparation(tile=(8, 8), views=("identity", "hflip"))  # 12 rows a picture, 3 shards
    grey("field/a.png", "town/b.png")
    before = build(plan(photos, preparation=preparation), out)
    assert before.build.conversions == {"grey to RGB": 2}
    grey("town/c.png")
    after = build(plan(photos, preparation=preparation), out, append=True)
    assert after.build.conversions == {"grey to RGB": 3}
