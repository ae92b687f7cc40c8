"""Thumbnails: small pictures of the decoded latents, in every container, and in nobody's way."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forged import Mended, Records, forge
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, WebPImagePlugin
from scenes import build_scenes, plan, scenes, smooth_picture, write_pictures

from latentstore import (
    CONTAINERS,
    STORAGES,
    VAES,
    BuildPlan,
    Manifest,
    Preparation,
    build,
    convert,
    folder_source,
    load_latents,
    open_store,
    verify,
)
from latentstore.checks.interface import CheckResult
from latentstore.containers.interface import ShardSchema
from latentstore.containers.parquet import ROWS_WITH_THUMBNAILS, rows_together, write_parquet
from latentstore.containers.parquet_pages import column_chunks
from latentstore.containers.parquet_ranges import open_parquet_ranges
from latentstore.errors import DamagedShardError, PlanMismatchError, RequestError
from latentstore.pictures import decoded_uint8
from latentstore.records import LatentRecord
from latentstore.shards import blocks_of
from latentstore.thumbnails import fault_of_likeness, fault_of_thumbnail, size_of_thumbnail, thumbnail_of

SIDE = 24
LAYOUTS = [(row.name, layout) for row in CONTAINERS.values() for layout in row.layouts]
EACH = pytest.mark.parametrize(("container", "layout"), LAYOUTS, ids=["-".join(names) for names in LAYOUTS])


@dataclass
class Recorded:
    """A shard that lies elsewhere, and what was asked of it."""

    content: bytes
    asked: list[tuple[int, int]] = field(default_factory=list)
    name: str = "memory://shard"

    @property
    def size(self) -> int:
        return len(self.content)

    def read(self, start: int, stop: int) -> bytes:
        self.asked.append((start, stop))
        return self.content[start:stop]


def files_of(folder: Path) -> list[bytes]:
    """The thumbnail of every row, in order."""
    store = open_store(folder)
    shards = [store.shard(shard) for split in store.manifest.splits.values() for shard in split.shards]
    return [picture for shard in shards for picture in shard.columns(["thumbnail"])["thumbnail"]]


def pixels_of(file: bytes) -> np.ndarray[Any, Any]:
    """(h, w, 3) uint8."""
    with Image.open(BytesIO(file)) as picture:
        return np.asarray(picture.convert("RGB"))


def decoded(folder: Path) -> np.ndarray[Any, Any]:
    """What the stored numbers of every row decode to, (N, H, W, 3) uint8."""
    store = open_store(folder)
    shards = [store.shard(shard) for split in store.manifest.splits.values() for shard in split.shards]
    stored = np.concatenate([shard.latents(np.arange(shard.rows)) for shard in shards])
    pixels = decoded_uint8(store.load_vae(), store.storage().decode(stored))
    return np.asarray(pixels.permute(0, 2, 3, 1).numpy())


# One picture --------------------------------------------------------------------------------------------------------


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), side=st.integers(1, 1024))
def test_a_thumbnail_keeps_the_shape_and_never_enlarges(height: int, width: int, side: int) -> None:
    high, wide = size_of_thumbnail(height, width, side)
    if max(height, width) <= side:
        assert (high, wide) == (height, width)
        return
    assert max(high, wide) == side
    assert min(high, wide) >= 1
    scale = side / max(height, width)
    assert abs(high - height * scale) <= 0.5 or high == 1
    assert abs(wide - width * scale) <= 0.5 or wide == 1


def test_a_thumbnail_is_a_webp_file_that_shows_the_picture() -> None:
    picture = smooth_picture(100, 200, seed=3)
    file = thumbnail_of(picture, 50)
    assert fault_of_thumbnail(file, (25, 50)) is None
    wanted = picture.reshape(25, 4, 50, 4, 3).mean(axis=(1, 3))
    assert np.abs(pixels_of(file) - wanted).mean() < 8
    assert file == thumbnail_of(picture, 50)


def test_a_fault_says_what_was_found() -> None:
    file = thumbnail_of(smooth_picture(20, 30), 64)
    assert fault_of_thumbnail(b"", (20, 30)) == "is empty"
    assert fault_of_thumbnail(file, (30, 20)) == "is 20x30 pixels, expected 30x20"
    assert fault_of_thumbnail(file[:-20], (20, 30)) == "is no WebP picture that can be decoded"
    buffer = BytesIO()
    Image.fromarray(smooth_picture(20, 30)).save(buffer, "PNG")
    assert fault_of_thumbnail(buffer.getvalue(), (20, 30)) == "is no WebP picture that can be decoded"


def test_a_thumbnail_of_another_picture_is_told_from_one_of_another_encoder() -> None:
    pictures = [smooth_picture(100, 130, seed=seed) for seed in range(4)]
    for picture in pictures:
        for quality in (20, 50, 80):
            buffer = BytesIO()
            Image.fromarray(picture).resize((40, 31), Image.Resampling.BOX).save(buffer, "WEBP", quality=quality)
            assert fault_of_likeness(buffer.getvalue(), picture, 40) is None
        for other in pictures:
            fault = fault_of_likeness(thumbnail_of(other, 40), picture, 40)
            assert (fault is None) == (other is picture)
    assert fault is None
    fault = fault_of_likeness(thumbnail_of(pictures[0], 40), pictures[1], 40)
    assert re.fullmatch(
        r"shows another picture than its latent decodes to: mean squared error \d+, a fresh one has \d+", fault or ""
    )


# In a dataset -------------------------------------------------------------------------------------------------------


@EACH
def test_every_row_has_a_thumbnail_of_what_its_stored_numbers_decode_to(
    container: str, layout: str, tmp_path: Path
) -> None:
    changes = {"container": CONTAINERS[container], "layout": layout, "storage": STORAGES["int8"], "calibration": 4}
    manifest = build_scenes(tmp_path, thumbnail=SIDE, **changes)
    found = files_of(tmp_path)
    assert found == [thumbnail_of(picture, SIDE) for picture in decoded(tmp_path)]
    assert manifest.thumbnail == manifest.build.plan["thumbnail"] == SIDE
    assert manifest.size.thumbnail_bytes == sum(map(len, found))
    assert "thumbnail" not in open_store(tmp_path).index()
    assert verify(tmp_path).ok


def test_thumbnails_of_equal_pictures_may_be_more_bytes_than_are_stored(tmp_path: Path) -> None:
    first = write_pictures(tmp_path / "photos", {"a.png": (64, 64)}) / "a.png"
    for number in range(300):
        (tmp_path / "photos" / f"{number}.png").write_bytes(first.read_bytes())
    source = folder_source(tmp_path / "photos")
    manifest = build(BuildPlan(source=source, vae=VAES["pool8"], rows_per_shard=301), tmp_path / "out")
    assert manifest.size.thumbnail_bytes > manifest.size.stored_bytes
    assert verify(tmp_path / "out", sample=2).ok


def test_the_padding_is_not_in_it_and_tiles_at_an_edge_are_smaller(tmp_path: Path) -> None:
    source = folder_source(str(write_pictures(tmp_path / "pictures", {"a.png": (45, 61)})))
    changes = {"source": source, "preparation": Preparation(tile=(32, 32)), "order": "source"}
    build_scenes(tmp_path / "out", thumbnail=16, **changes)
    assert [pixels_of(file).shape[:2] for file in files_of(tmp_path / "out")] == [(16, 16), (16, 14), (6, 16), (7, 16)]
    assert verify(tmp_path / "out").ok


def test_without_metrics_pictures_are_decoded_for_their_thumbnails_alone(tmp_path: Path) -> None:
    manifest = build_scenes(tmp_path, metrics=(), thumbnail=SIDE)
    assert manifest.metrics == ()
    assert all(fault_of_thumbnail(file, (SIDE, SIDE)) is None for file in files_of(tmp_path))


def test_plans_have_thumbnails_of_64_pixels_unless_told_otherwise() -> None:
    assert BuildPlan(source=scenes(), vae=VAES["pool8"]).thumbnail == 64
    for side in (-1, 1025):
        with pytest.raises(RequestError) as caught:
            plan(thumbnail=side)
        assert str(caught.value) == (
            f"Expected thumbnails with a longest side of up to 1024 pixels, or 0 for none, found {side}."
        )


def test_without_them_nothing_speaks_of_thumbnails(tmp_path: Path) -> None:
    manifest = build_scenes(tmp_path)
    assert "thumbnail" not in (tmp_path / manifest.config / "manifest.json").read_text()
    store = open_store(tmp_path)
    assert "thumbnail" not in store.schema.columns
    path = store.folder / manifest.splits["train"].shards[0].path
    with pytest.raises(DamagedShardError, match="lacks columns that its manifest describes: thumbnail"):
        store.container.open(path, replace(store.schema, thumbnail=True))


def test_another_side_is_another_build(tmp_path: Path) -> None:
    build_scenes(tmp_path, thumbnail=SIDE)
    with pytest.raises(PlanMismatchError, match="thumbnail"):
        build_scenes(tmp_path, thumbnail=SIDE + 1)


def test_latents_checksums_and_index_are_the_same_with_and_without(tmp_path: Path) -> None:
    with_, without = (build_scenes(tmp_path / str(side), thumbnail=side) for side in (SIDE, 0))
    assert with_.statistics == without.statistics
    assert with_.quality == without.quality
    assert with_.size.entropy_bytes == without.size.entropy_bytes
    assert with_.index == without.index
    for one, other in zip(with_.splits["train"].shards, without.splits["train"].shards, strict=True):
        stores = open_store(tmp_path / str(SIDE)), open_store(tmp_path / "0")
        rows = np.arange(one.rows)
        assert np.array_equal(stores[0].shard(one).latents(rows), stores[1].shard(other).latents(rows))


# Readers of latents -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", list(CONTAINERS))
@pytest.mark.parametrize("storage", list(STORAGES))
def test_fast_shards_with_thumbnails_are_still_mapped(container: str, storage: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"container": CONTAINERS[container], "storage": STORAGES[storage], "calibration": 4}
    manifest = build_scenes(tmp_path, thumbnail=SIDE, layout="fast", **changes)
    store = open_store(tmp_path)
    reader = store.shard(manifest.splits["train"].shards[0])
    mapped = reader.mapped()
    assert mapped is not None
    content, offsets = mapped
    latents = reader.latents(np.arange(reader.rows))
    for row, offset in enumerate(offsets.tolist()):
        assert bytes(content[offset : offset + latents[row].nbytes]) == latents[row].tobytes()


@pytest.mark.parametrize("layout", ["fast", "compact"])
def test_rows_of_parquet_are_fetched_without_their_thumbnails(layout: str, tmp_path: Path) -> None:
    """Of a shard so large that its end, which is always read, holds neither."""
    schema = ShardSchema((1, 8, 8), "float32", None, (), thumbnail=True)
    random = np.random.default_rng(0)
    latents = random.normal(size=(300, 1, 8, 8)).astype(np.float32)
    records = [
        LatentRecord(f"{row}", latent, None, 64, 64, "a", "0" * 64, 0, {}, thumbnail=random.bytes(1000))
        for row, latent in enumerate(latents)
    ]
    path = tmp_path / "shard"
    write_parquet(path, schema, layout, blocks_of(records, schema))
    content = path.read_bytes()
    source = Recorded(content)
    stored = open_parquet_ranges(source, schema).stored(np.arange(300))
    assert np.array_equal(stored.view(np.float32).reshape(latents.shape), latents)
    (chunk,) = column_chunks(memoryview(content), "thumbnail")
    inside = [range_ for range_ in source.asked if range_[1] != len(content)]
    assert inside
    for start, stop in inside:
        assert max(start, chunk.offset) >= min(stop, chunk.offset + chunk.bytes), "bytes of thumbnails were fetched"


def test_a_row_group_is_not_too_large_for_its_thumbnails() -> None:
    schema = ShardSchema((1, 2, 2), "float16", None, (), thumbnail=True)
    assert rows_together(schema, "compact") == ROWS_WITH_THUMBNAILS
    large = ShardSchema((16, 32, 32), "float16", None, (), thumbnail=True)
    assert rows_together(large, "compact") == 512


def test_batches_are_the_same_with_thumbnails(tmp_path: Path) -> None:
    build_scenes(tmp_path / "with", thumbnail=SIDE)
    build_scenes(tmp_path / "without")
    one, other = (load_latents(tmp_path / name).batch(range(30)) for name in ("with", "without"))
    assert one["latent"].equal(other["latent"])
    assert set(one) == set(other)
    with pytest.raises(RequestError) as caught:
        load_latents(tmp_path / "with", columns=["id", "thumbnail"])
    assert str(caught.value) == (
        "Column 'thumbnail' is for browsing and not loaded with the latents: read it with datasets.load_dataset, or "
        "decode pictures with decode=True."
    )


# Damage -------------------------------------------------------------------------------------------------------------


def test_no_byte_of_a_thumbnail_in_a_tar_changes_unnoticed(tmp_path: Path) -> None:
    manifest = build_scenes(tmp_path, thumbnail=8, container=CONTAINERS["webdataset"])
    store = open_store(tmp_path)
    path = store.folder / manifest.splits["train"].shards[0].path
    content = path.read_bytes()
    pictures = files_of(tmp_path)
    start = content.index(pictures[0]) - 512
    end = content.index(b".latent.npy", start) // 512 * 512
    assert end - start == 512 + -(-len(pictures[0]) // 512) * 512
    for place in range(start, end, 7):
        changed = bytearray(content)
        changed[place] ^= 16
        path.write_bytes(changed)
        with pytest.raises(DamagedShardError, match="row 0: the file of its thumbnail is not as it was written"):
            store.container.open(path, store.schema).columns(["thumbnail"])


def test_the_size_of_a_thumbnail_is_compared_before_a_pixel_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    file = BytesIO()
    Image.new("RGB", (10_000, 10_000)).save(file, "WEBP", quality=1, method=0)
    monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "load", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns of a size that is refused anyway
        assert len(file.getvalue()) < 300_000
        assert fault_of_thumbnail(file.getvalue(), (64, 64)) == "is 10000x10000 pixels, expected 64x64"


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (-1, -7), (2**31 - 1, 1)])
def test_rows_without_a_size_have_some_thumbnail(size: tuple[int, int]) -> None:
    assert min(size_of_thumbnail(*size, SIDE)) >= 1


def test_a_row_that_has_no_height_is_a_finding_of_verify(tmp_path: Path) -> None:
    build_scenes(tmp_path, thumbnail=SIDE)
    folder = tmp_path / "synthetic-pool8"
    forge(folder, lambda rows: [replace(rows[0], height=None), *rows[1:]], mended=Mended(quality=False))
    failed = {result.check: [finding.message for finding in result.findings] for result in verify(tmp_path).results}
    assert failed["columns"] == ["column 'height' is null, row 0"]
    assert [message.split(",")[0] for message in failed["thumbnails"]] == [
        f"column 'thumbnail' is {SIDE}x{SIDE} pixels"
    ]


# Conversion ---------------------------------------------------------------------------------------------------------


@EACH
def test_thumbnails_are_carried_over_where_no_number_changes(container: str, layout: str, tmp_path: Path) -> None:
    first = build_scenes(tmp_path / "first", thumbnail=SIDE, container=CONTAINERS[container], layout=layout)
    before = files_of(tmp_path / "first")
    for name, other in CONTAINERS.items():
        out = tmp_path / name
        found = convert(tmp_path / "first", out, container=other, storage=STORAGES["float32"], measure=False)
        assert found.storage.converted[-1].lossless
        assert files_of(out) == before
        assert (found.thumbnail, found.size.thumbnail_bytes) == (SIDE, first.size.thumbnail_bytes)
        assert verify(out).ok


def test_thumbnails_are_made_again_where_numbers_change_and_are_measured(tmp_path: Path) -> None:
    build_scenes(tmp_path / "a", thumbnail=SIDE)
    found = convert(tmp_path / "a", tmp_path / "b", storage=STORAGES["int8"], step=1.0)
    after = files_of(tmp_path / "b")
    assert after == [thumbnail_of(picture, SIDE) for picture in decoded(tmp_path / "b")]
    assert after != files_of(tmp_path / "a")
    assert found.size.thumbnail_bytes == sum(map(len, after))
    assert verify(tmp_path / "b").ok


def test_thumbnails_stay_where_numbers_change_and_nothing_is_decoded(tmp_path: Path) -> None:
    build_scenes(tmp_path / "a", thumbnail=SIDE)
    convert(tmp_path / "a", tmp_path / "b", storage=STORAGES["int8"], step=1.0, measure=False)
    assert files_of(tmp_path / "b") == files_of(tmp_path / "a")
    assert verify(tmp_path / "b").ok


# The manifest -------------------------------------------------------------------------------------------------------


def test_a_build_that_was_stopped_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole = build_scenes(tmp_path / "whole", thumbnail=SIDE)

    def stop(progress: Any) -> None:
        if progress.done > 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(plan(thumbnail=SIDE), tmp_path / "again", progress=stop)
    again = build(plan(thumbnail=SIDE), tmp_path / "again")
    assert again.splits == whole.splits
    assert again.size == whole.size


def test_a_source_with_a_column_of_that_name_is_refused_only_where_there_are_thumbnails(tmp_path: Path) -> None:
    manifest = build_scenes(tmp_path)
    text = {"dtype": "string", "_type": "Value"}
    with_column = Manifest.from_json(
        json.dumps({**json.loads(manifest.to_json()), "columns": {"thumbnail": text}, "digest": ""})
    )
    assert with_column.schema.repeated_name is None
    assert replace(with_column.schema, thumbnail=True).repeated_name == "thumbnail"


def likeness_of(folder: Path, **request: Any) -> CheckResult:
    """What `verify` says of the likeness of the thumbnails."""
    return next(result for result in verify(folder, **request).results if result.check == "likeness")


def exchange_two(records: Records) -> Records:
    """The thumbnails of the first and the last row of a shard."""
    first, *between, last = records
    return [replace(first, thumbnail=last.thumbnail), *between, replace(last, thumbnail=first.thumbnail)]


@pytest.mark.parametrize("container", ["parquet", "webdataset"])
def test_exchanged_thumbnails_are_found_without_the_source_and_both_rows_named(container: str, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", {f"{n}.png": (40, 56) for n in range(12)})
    source = folder_source(str(pictures))
    build_scenes(tmp_path / "out", source=source, container=CONTAINERS[container], config="own", thumbnail=SIDE)
    folder = tmp_path / "out" / "own"
    shutil.rmtree(pictures)
    assert likeness_of(folder, depth="full").note == "12 thumbnails held against what their rows decode to"
    assert likeness_of(folder, sample=5).note == "5 thumbnails held against what their rows decode to"
    forge(folder, exchange_two, shard=0)
    result = likeness_of(folder, depth="full")
    assert result.status == "failed"
    rows = Manifest.read(folder).splits["train"].shards[0].rows
    assert [re.findall(r"row (\d+) \(", finding.message) for finding in result.findings] == [["0"], [str(rows - 1)]]
    assert likeness_of(folder, depth="quick").note == "not part of depth quick"


def test_thumbnails_of_numbers_that_were_rounded_unmeasured_are_not_called_wrong(tmp_path: Path) -> None:
    build_scenes(tmp_path / "from", thumbnail=SIDE)
    convert(tmp_path / "from", tmp_path / "to", storage=STORAGES["int8"], measure=False)
    assert likeness_of(tmp_path / "to").note.endswith("the thumbnails are those of before")
