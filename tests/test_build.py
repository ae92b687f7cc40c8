"""The whole road: what a build promises about bytes, rows, quality, resuming and bad input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import build_scenes, plan, scenes, smooth_picture, write_pictures
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from latentstore import (
    METRICS,
    STORAGES,
    VAES,
    BuildProgress,
    Manifest,
    Preparation,
    build,
    folder_source,
    load_latents,
    open_store,
    shard_work,
)
from latentstore.ahead import ahead
from latentstore.errors import MixedSizesError, NotSealedError, PlanMismatchError, RequestError, SourceError
from latentstore.hashing import sha256_of
from latentstore.journal import claim
from latentstore.records import LatentBatch
from latentstore.vaes.interface import LoadOptions, VaeRow
from latentstore.vaes.pooling import PoolingVae


def shard_hashes(folder: Path) -> dict[str, str]:
    """sha256 of every data file below a config's folder."""
    return {path.name: sha256_of(path) for path in sorted(folder.glob("*.parquet"))}


def raw_latents(folder: Path) -> dict[str, Any]:
    """Raw latent of every id of a config."""
    store = open_store(folder)
    found: dict[str, Any] = {}
    for split in store.manifest.splits.values():
        for shard in split.shards:
            reader = store.shard(shard)
            latents = store.storage().decode(reader.latents(np.arange(shard.rows)))
            found.update(zip(reader.columns(["id"])["id"], latents, strict=True))
    return found


@pytest.mark.parametrize("layout", ["compact", "fast"])
def test_the_same_plan_twice_gives_byte_identical_shards(tmp_path: Path, layout: str) -> None:
    for name in ("one", "two"):
        build_scenes(tmp_path / name, layout=layout)
    first = shard_hashes(tmp_path / "one" / "synthetic-pool8")
    assert len(first) == 4  # three shards and the index
    assert first == shard_hashes(tmp_path / "two" / "synthetic-pool8")


def test_both_layouts_hold_the_same_numbers(drawn: Path, drawn_fast: Path) -> None:
    compact, fast = raw_latents(drawn), raw_latents(drawn_fast)
    assert list(compact) == list(fast)
    assert all(np.array_equal(compact[name], fast[name]) for name in compact)


def test_another_batch_size_changes_latents_by_less_than_the_stated_tolerance(tmp_path: Path) -> None:
    # FORMAT.md: |a - b| <= 2^-9 of the largest magnitude of the channel.
    for batch_size in (1, 3):
        build_scenes(
            tmp_path / str(batch_size), source=scenes(6, 32), vae=VAES["demo"], batch_size=batch_size, metrics=()
        )
    one, three = (raw_latents(tmp_path / name / "synthetic-demo") for name in ("1", "3"))
    a, b = (np.stack([found[name] for name in sorted(found)]) for found in (one, three))
    largest = np.abs(a).max(axis=(0, 2, 3), keepdims=True)
    assert (np.abs(a - b) <= largest * 2**-9).all()


class Interrupted(Exception):  # noqa: N818
    """Stands for a power cut."""


def stop_after(pictures: int) -> Any:
    """A progress callback that ends the build once so many pictures are done."""

    def callback(progress: BuildProgress) -> None:
        if progress.done >= pictures:
            raise Interrupted

    return callback


@pytest.mark.parametrize("pictures", [1, 13, 26, 30])
def test_an_interrupted_build_continues_and_ends_byte_identical(tmp_path: Path, drawn: Path, pictures: int) -> None:
    with pytest.raises(Interrupted):
        build(plan(), tmp_path, progress=stop_after(pictures))
    folder = tmp_path / "synthetic-pool8"
    assert not (folder / "manifest.json").exists()
    with pytest.raises(NotSealedError, match="not complete"):
        open_store(tmp_path)
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("train-*.parquet")}
    events: list[BuildProgress] = []
    build(plan(), tmp_path, progress=events.append)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert events[-1].resumed == sum(12 if path.name < "train-00002" else 6 for path in finished)
    assert shard_hashes(folder) == shard_hashes(drawn / "synthetic-pool8")
    assert not (folder / ".build").exists()
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_finished_shard_that_was_damaged_since_is_built_again(tmp_path: Path, drawn: Path) -> None:
    with pytest.raises(Interrupted):
        build(plan(), tmp_path, progress=stop_after(26))
    shard = tmp_path / "synthetic-pool8" / "train-00000-of-00003.parquet"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    build(plan(), tmp_path)
    assert shard_hashes(tmp_path / "synthetic-pool8") == shard_hashes(drawn / "synthetic-pool8")


def test_building_again_what_is_sealed_changes_nothing(tmp_path: Path) -> None:
    first = build_scenes(tmp_path)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    assert build_scenes(tmp_path) == first
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")} == before


def test_another_plan_in_the_same_folder_is_refused_with_the_difference(tmp_path: Path) -> None:
    build_scenes(tmp_path)
    with pytest.raises(PlanMismatchError, match=r"already holds another plan \(seed: there 0, asked for 7\)"):
        build_scenes(tmp_path, seed=7)


def test_another_plan_is_refused_before_the_first_one_is_sealed_too(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        build(plan(), tmp_path, progress=stop_after(13))
    with pytest.raises(PlanMismatchError, match="batch_size: there 4, asked for 5"):
        build_scenes(tmp_path, batch_size=5)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "synthetic-pool8"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(PlanMismatchError, match=r"already holds thesis\.tex and no build"):
        build_scenes(tmp_path)
    assert (folder / "thesis.tex").read_text() == "years of work"


def test_a_second_builder_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "synthetic-pool8"
    with claim(folder, {"someone": "else"}), pytest.raises(RequestError, match="Another process is building into"):
        build_scenes(tmp_path)


@pytest.mark.parametrize("vae", ["pool8", "demo"])
@pytest.mark.parametrize("size", [(64, 64), (1, 1), (37, 100), (9, 30)])
def test_every_size_comes_back_at_its_own_size(tmp_path: Path, vae: str, size: tuple[int, int]) -> None:
    check_size_round_trip(tmp_path, vae, size)


@pytest.mark.parametrize("size", [(600, 600), (150, 150), (37, 1000), (1000, 37), (7, 1)])
def test_large_and_odd_sizes_come_back_at_their_own_size(tmp_path: Path, size: tuple[int, int]) -> None:
    check_size_round_trip(tmp_path, "pool8", size)


def check_size_round_trip(tmp_path: Path, vae: str, size: tuple[int, int]) -> None:
    from latentstore import load_latents

    photos = write_pictures(tmp_path / "photos", {"a.png": size, "b.png": size})
    manifest = build(plan(source=folder_source(str(photos)), vae=VAES[vae]), tmp_path / "out")
    assert manifest.latent_shape[1:] == (-(-size[0] // 8), -(-size[1] // 8))
    dataset = load_latents(tmp_path / "out", columns=["height", "width"], decode=True)
    sample = dataset[1]
    assert (sample["height"], sample["width"]) == size
    assert sample["image"].shape == (3, *size)
    undefined = manifest.quality["ssim"].undefined
    assert undefined == (2 if min(size) < 11 else 0)


def test_a_padded_picture_decodes_as_well_as_its_unpadded_part(tmp_path: Path) -> None:
    # Padding by reflection must not leak into the score: the measured area is the true one.
    photos = write_pictures(tmp_path / "photos", {"a.png": (60, 60)})
    manifest = build(plan(source=folder_source(str(photos))), tmp_path / "out")
    truth = smooth_picture(60, 60, 0)
    padded = np.pad(truth, ((0, 4), (0, 4), (0, 0)), mode="reflect").astype(np.float64) / 255
    blocks = padded.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
    decoded = np.rint(np.repeat(np.repeat(blocks, 8, 0), 8, 1)[:60, :60] * 255)
    expected = peak_signal_noise_ratio(truth, decoded.astype(np.uint8), data_range=255)
    assert manifest.quality["psnr"].mean == pytest.approx(expected, abs=0.02)


def test_the_recorded_scores_are_those_of_the_stored_numbers(drawn: Path) -> None:
    """Independent of the library's own measuring: plain `datasets`, the VAE, scikit-image."""
    import datasets
    import torch

    data = datasets.load_dataset(str(drawn), "synthetic-pool8", split="train").with_format("numpy")
    opened = scenes().open().splits["train"]
    truths = {tile.id: tile.pixels for tile in opened.read(range(30)) if hasattr(tile, "pixels")}
    vae = VAES["pool8"].load()
    for row in data:
        pixels = vae.decode(torch.from_numpy(np.asarray(row["latent"], np.float32))[None])[0]
        seen = np.rint(pixels.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        truth = truths[row["id"]]
        assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(truth, seen, data_range=255), abs=1e-4)
        ssim = structural_similarity(
            truth / 255,
            seen / 255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=2,
        )
        assert row["ssim"] == pytest.approx(ssim, abs=1e-5)
        assert row["mae"] == pytest.approx(np.abs(truth.astype(float) - seen).mean() / 255, abs=1e-6)


def test_statistics_are_those_of_all_stored_latents(drawn: Path) -> None:
    latents = np.stack(list(raw_latents(drawn).values())).astype(np.float64)
    found = Manifest.read(drawn / "synthetic-pool8").statistics["train"]
    assert found.count == latents[:, 0].size
    for name, reduce in (("mean", np.mean), ("std", np.std), ("minimum", np.min), ("maximum", np.max)):
        np.testing.assert_allclose(getattr(found, name), reduce(latents, axis=(0, 2, 3)), rtol=1e-12, atol=1e-15)


def test_float32_storage_keeps_exactly_what_the_encoder_gave(tmp_path: Path) -> None:
    import torch

    manifest = build_scenes(tmp_path, storage=STORAGES["float32"], batch_size=30)
    assert manifest.storage.dtype == "float32"
    stored = raw_latents(tmp_path)
    vae = VAES["pool8"].load()
    for tile in scenes().open().splits["train"].read(range(30)):
        pixels = torch.from_numpy(tile.pixels).permute(2, 0, 1)[None].float() / 255
        assert np.array_equal(stored[tile.id], vae.encode(pixels).mean[0].numpy())


def test_rows_are_written_in_a_seeded_permutation_or_in_the_order_of_the_source(tmp_path: Path) -> None:
    orders = {}
    variants: dict[str, dict[str, Any]] = {"a": {}, "b": {"seed": 1}, "source": {"order": "source"}}
    for name, changes in variants.items():
        build_scenes(tmp_path / name, metrics=(), **changes)
        orders[name] = open_store(tmp_path / name).index(["id"])["id"]
    given = [tile.id for tile in scenes().open().splits["train"].read(range(30))]
    assert orders["source"] == given
    assert orders["a"] != given
    assert orders["a"] != orders["b"]
    assert sorted(orders["a"]) == sorted(orders["b"]) == sorted(given)


def test_bad_pictures_are_skipped_counted_and_listed_with_their_reason(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {f"sea/{name}.png": (40, 40) for name in "abcdefg"})
    (photos / "sea" / "broken.png").write_bytes(b"not a picture")
    (photos / "sea" / "empty.jpg").write_bytes(b"")
    manifest = build(plan(source=folder_source(str(photos)), max_bad=0.25), tmp_path / "out")
    assert manifest.rows == 7
    assert manifest.source.images == {"train": 9}
    assert sorted(skipped.source_path for skipped in manifest.build.skipped) == ["sea/broken.png", "sea/empty.jpg"]
    assert all(skipped.reason for skipped in manifest.build.skipped)


def test_strict_stops_at_the_first_bad_picture_and_says_which(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"sea/a.png": (40, 40)})
    (photos / "sea" / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(SourceError, match=r"'sea/broken.png' cannot be used: .*without --strict"):
        build(plan(source=folder_source(str(photos)), strict=True), tmp_path / "out")


def test_a_folder_of_nothing_but_bad_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(SourceError, match="no picture that can be used"):
        build(plan(source=folder_source(str(tmp_path / "photos"))), tmp_path / "out")


def test_what_the_caller_s_thread_is_set_to_changes_no_byte(tmp_path: Path) -> None:
    """A build within a training loop's autocast, by somebody who has numpy raise."""
    wanted = plan(vae=VAES["demo"], source=scenes(6, 32), threads=1)
    build(wanted, tmp_path / "plain")
    with torch.autocast("cpu", torch.bfloat16), np.errstate(all="raise"):
        build(wanted, tmp_path / "inside")
        assert torch.is_autocast_enabled("cpu")
        assert np.geterr()["under"] == "raise"
    inside, plain = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.parquet")} for name in ("inside", "plain")
    )
    assert inside == plain


def test_a_skipped_picture_moves_no_row_of_another_batch(tmp_path: Path) -> None:
    names = [f"{index:02d}.png" for index in range(12)]
    photos = write_pictures(tmp_path / "photos", dict.fromkeys(names, (40, 40)))
    whole = plan(source=folder_source(str(photos)), vae=VAES["demo"], order="source", metrics=())
    build(whole, tmp_path / "before")
    # The header stays whole, so the plan stays the same; the pixels are cut.
    (photos / "05.png").write_bytes((photos / "05.png").read_bytes()[:200])
    build(whole, tmp_path / "after")
    before, after = raw_latents(tmp_path / "before"), raw_latents(tmp_path / "after")
    assert set(before) - set(after) == {"05"}
    assert all(np.array_equal(before[name], after[name]) for name in after if name not in ("04", "06", "07"))


def test_mixed_sizes_are_refused_with_the_sizes_found_and_what_to_choose(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (40, 40), "b.png": (40, 40), "c.png": (60, 50)})
    with pytest.raises(MixedSizesError) as error:
        build(plan(source=folder_source(str(photos))), tmp_path / "out")
    message = str(error.value)
    for part in ("2 of 40x40", "1 of 60x50", "--resize", "--crop", "--tile"):
        assert part in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("preparation", "sizes"),
    [
        (Preparation(resize=(24, 32)), {(24, 32)}),
        (Preparation(resize=(32,), crop=(32, 32)), {(32, 32)}),
        (Preparation(crop=(40, 40)), {(40, 40)}),
        (Preparation(tile=(32, 32)), {(32, 32), (8, 32), (32, 8), (8, 8), (28, 32), (28, 18), (32, 18)}),
    ],
)
def test_mixed_sizes_build_with_each_of_the_choices(
    tmp_path: Path, preparation: Preparation, sizes: set[tuple[int, int]]
) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (40, 40), "c.png": (60, 50)})
    build(plan(source=folder_source(str(photos)), preparation=preparation), tmp_path / "out")
    index = open_store(tmp_path / "out").index()
    assert set(zip(index["height"], index["width"], strict=True)) == sizes


def test_tiles_keep_their_place_and_cover_every_pixel(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"scene.png": (50, 70)})
    build(plan(source=folder_source(str(photos)), preparation=Preparation(tile=(32, 32))), tmp_path / "out")
    index = open_store(tmp_path / "out").index()
    assert index["id"] == [f"scene@r{row}c{column}" for row in range(2) for column in range(3)]
    places = zip(index["tile_row"], index["tile_column"], index["height"], index["width"], strict=True)
    covered = np.zeros((50, 70), int)
    for row, column, height, width in places:
        covered[row * 32 : row * 32 + height, column * 32 : column * 32 + width] += 1
    assert (covered == 1).all()
    size = open_store(tmp_path / "out").manifest.size
    assert size.source_bytes == (photos / "scene.png").stat().st_size  # one file, however many tiles


def test_pictures_smaller_than_the_crop_are_skipped(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (40, 40), "small.png": (20, 60)})
    manifest = build(plan(source=folder_source(str(photos)), preparation=Preparation(crop=(32, 32))), tmp_path / "out")
    assert [(skipped.id, skipped.reason) for skipped in manifest.build.skipped] == [
        ("small", "20x60 is smaller than the crop 32x32")
    ]


def test_the_size_ledger_counts_real_bytes(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {f"{name}.png": (40, 40) for name in "abc"})
    manifest = build(plan(source=folder_source(str(photos))), tmp_path / "out")
    folder = tmp_path / "out" / manifest.config
    stored = sum(path.stat().st_size for path in folder.glob("train-*.parquet"))
    source = sum(path.stat().st_size for path in photos.iterdir())
    size = manifest.size
    assert (size.stored_bytes, size.source_bytes, size.raw_rgb_bytes) == (stored, source, 3 * 3 * 40 * 40)
    assert size.payload_bytes == 3 * 3 * 5 * 5 * 2
    assert size.bits_per_pixel == 8 * stored / (3 * 40 * 40)
    assert size.raw_rgb_over_stored == 3 * 3 * 40 * 40 / stored
    assert size.source_over_stored == source / stored


def test_progress_tells_how_far_it_is(tmp_path: Path) -> None:
    events: list[BuildProgress] = []
    manifest = build(plan(), tmp_path, progress=events.append)
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert {event.total for event in events} == {30}
    assert (events[-1].stage, events[-1].done) == ("done", 30)
    assert events[-1].psnr == pytest.approx(manifest.quality["psnr"].mean, abs=1e-3)


@dataclass(frozen=True)
class SpoiledVae(PoolingVae):
    """A user's own VAE: pooling, times a factor, with NaN for pictures that are bright."""

    factor: float = 1.0

    def encode(self, pixels: Any) -> LatentBatch:
        mean = super().encode(pixels).mean * self.factor
        mean[pixels.mean(dim=(1, 2, 3)) > 0.45] = float("nan")
        return LatentBatch(mean=mean)


def spoiled(factor: float) -> VaeRow:
    def family(row: VaeRow, options: LoadOptions) -> SpoiledVae:
        return SpoiledVae(row, options, factor=factor)

    return replace(VAES["pool8"], name="mine", family=family)


def test_a_users_own_vae_row_works_and_latents_that_are_not_finite_are_quarantined(tmp_path: Path) -> None:
    manifest = build_scenes(tmp_path, vae=spoiled(1.0), max_bad=1.0)
    assert 0 < len(manifest.build.skipped) < 30
    assert manifest.rows + len(manifest.build.skipped) == 30
    assert {skipped.reason for skipped in manifest.build.skipped} == {"the VAE gave a latent that is not finite"}


def test_latents_beyond_float16_are_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"channel \d reaches .*beyond the 65504 of float16; use --storage float32"):
        build_scenes(tmp_path, vae=spoiled(1e6))


def test_nothing_is_built_when_no_metric_is_wanted_but_latents(tmp_path: Path) -> None:
    manifest = build_scenes(tmp_path, metrics=())
    assert manifest.metrics == ()
    assert manifest.quality == {}
    assert (tmp_path / "synthetic-pool8" / "preview.png").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": "no spaces"}, "Config name 'no spaces' cannot be used"),
        ({"config": "../up"}, "cannot be used on the Hub"),
        ({"layout": "tight"}, "has no layout 'tight'; choose from compact, fast"),
        ({"order": "random"}, "There is no order 'random'"),
        ({"batch_size": 0}, "Expected batch_size of 1 or more, found 0"),
        ({"rows_per_shard": -1}, "Expected rows_per_shard of 1 or more, found -1"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        plan(**changes)


def test_a_file_in_the_way_of_the_output_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(RequestError, match="Cannot write into"):
        build_scenes(tmp_path / "out")


def test_the_metrics_that_need_no_weights_are_measured_by_default(drawn: Path) -> None:
    assert Manifest.read(drawn / "synthetic-pool8").metrics == ("psnr", "ssim", "mae")


def test_a_split_without_pictures_is_an_empty_split(tmp_path: Path) -> None:
    from dataclasses import replace as changed

    from latentstore import load_latents
    from latentstore.sources.interface import OpenSource
    from latentstore.sources.interface import SourceRow as Row

    def reader(_: Row) -> OpenSource:
        opened: OpenSource = changed(scenes(), options={"count": 3, "size": 16}).open()

        class Nothing:
            random_access = True

            def __len__(self) -> int:
                return 0

            def sizes(self) -> Any:
                return iter(())

            def read(self, rows: Any) -> Any:  # noqa: ARG002
                return iter(())

        return replace(opened, splits={**opened.splits, "test": Nothing()})

    manifest = build(plan(source=Row(name="mine", reader=reader)), tmp_path)
    assert {name: split.rows for name, split in manifest.splits.items()} == {"train": 3, "test": 0}
    assert len(load_latents(tmp_path, split="test")) == 0


def test_an_observer_sees_every_prepared_and_decoded_picture_once(tmp_path: Path) -> None:
    seen: list[float] = []

    def observe(truth: Any, decoded: Any) -> None:
        seen.extend(METRICS["psnr"].open()(truth, decoded).tolist())

    build(plan(metrics=()), tmp_path / "observed", observe=observe)
    build_scenes(tmp_path / "measured")
    recorded = open_store(tmp_path / "measured").index(["psnr"])["psnr"]
    np.testing.assert_allclose(seen, recorded, rtol=1e-6)


def test_a_readme_of_someone_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My thesis\n")
    with pytest.raises(RequestError, match=r"README\.md was not written by latentstore"):
        build_scenes(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# My thesis\n"
    assert not (tmp_path / "synthetic-pool8").exists()


def test_a_source_whose_pictures_changed_is_another_plan(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {f"{kind}/{n}.png": (16, 16) for kind in "bc" for n in range(4)})
    wanted = plan(source=folder_source(str(photos)), rows_per_shard=4)
    with pytest.raises(Interrupted):
        build(wanted, tmp_path / "out", progress=stop_after(5))
    (photos / "c").rename(photos / "a")
    with pytest.raises(PlanMismatchError, match="was built from other pictures than the source holds now"):
        build(wanted, tmp_path / "out")


def test_a_card_that_is_missing_is_written_when_the_same_command_is_typed_again(tmp_path: Path) -> None:
    build_scenes(tmp_path)
    card = (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").unlink()
    build_scenes(tmp_path)
    assert (tmp_path / "README.md").read_text() == card


def test_strict_minds_what_an_earlier_run_skipped(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"sea/a.png": (40, 40)})
    (photos / "sea" / "broken.png").write_bytes(b"not a picture")
    build(plan(source=folder_source(str(photos))), tmp_path / "out")
    with pytest.raises(SourceError, match="without --strict it was skipped"):
        build(plan(source=folder_source(str(photos)), strict=True), tmp_path / "out")


def test_a_stream_of_mixed_sizes_is_refused_with_tiles_too(tmp_path: Path) -> None:
    import datasets

    rows = {"image": [smooth_picture(32, 32), smooth_picture(48, 64)]}
    (tmp_path / "photos").mkdir()
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "photos" / "train.parquet"))
    from latentstore import hub_source

    source = hub_source(str(tmp_path / "photos"), streaming=True)
    with pytest.raises(MixedSizesError, match="would be cut into 12 tiles"):
        build(plan(source=source, order="source", preparation=Preparation(tile=(16, 16))), tmp_path / "out")


def test_encoding_ahead_of_measuring_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = build_scenes(tmp_path / "plain")
    monkeypatch.setattr(shard_work, "_while_measuring", lambda _, batches: ahead(batches, 2))
    assert build_scenes(tmp_path / "ahead").splits == plain.splits


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_builds_what_the_cpu_builds_within_the_stated_tolerance(tmp_path: Path) -> None:
    cpu, cuda = (build_scenes(tmp_path / device, device=device) for device in ("cpu", "cuda"))
    one, other = (load_latents(tmp_path / device, space="raw").batch(range(30))["latent"] for device in ("cpu", "cuda"))
    assert (one - other).abs().max() <= 2**-9 * one.abs().max()
    assert cuda.environment.device == "cuda"
    assert cuda.quality["psnr"].mean == pytest.approx(cpu.quality["psnr"].mean, abs=0.05)
