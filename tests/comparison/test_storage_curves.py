"""Points over storages, against pyarrow, numpy and a plain build."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from noisy import NOISY
from scenes import scenes, write_pictures
from skimage.metrics import peak_signal_noise_ratio

from latentstore import METRICS, PROTOCOLS, STORAGES, VAES, BuildPlan, build, compare, folder_source, open_store
from latentstore.calibration import CANDIDATES, Candidate
from latentstore.comparison import storage_curves
from latentstore.comparison.storage_curves import (
    STEPS,
    StoragePoint,
    candidates_in,
    named,
    step_in_words,
    storage_points,
)
from latentstore.containers.parquet import latent_column_bytes
from latentstore.errors import RequestError, VaeError
from latentstore.records import LatentBatch
from latentstore.storage.interface import StorageRow
from latentstore.vaes.pooling import PoolingVae

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.records import Tile
    from latentstore.vaes.interface import VaeRow

POOL, ALL = VAES["pool8"], list(STORAGES.values())
SIZE = 64
COUNT = 12
TILES = [tile for tile in scenes(COUNT, SIZE).open().splits["train"].read(range(COUNT)) if hasattr(tile, "pixels")]
SCORERS = {"psnr": METRICS["psnr"].open()}


def points_of(
    row: VaeRow = POOL, storages: list[StorageRow] = ALL, *, tiles: list[Tile] = TILES, batch_size: int = 5
) -> tuple[StoragePoint, ...]:
    return storage_points(row.load(), tiles, (SIZE, SIZE), candidates_in(storages), SCORERS, batch_size=batch_size)


def own_latents() -> NDArray[np.float32]:
    """(N, 3, 8, 8): means of 8x8 blocks on [-1, 1], as pool8 makes them."""
    pixels = np.stack([tile.pixels for tile in TILES]).astype(np.float64).transpose(0, 3, 1, 2)
    blocks = pixels.reshape(COUNT, 3, 8, 8, 8, 8).mean((3, 5)) / 255
    found = POOL.load().encode(torch.from_numpy(pixels.astype(np.float32) / 255)).mean.numpy()
    assert np.corrcoef(found.ravel(), blocks.ravel())[0, 1] > 0.999
    return found


def test_the_points_are_every_storage_at_every_step_fewest_bits_first() -> None:
    points = points_of()
    assert [(point.storage, point.step) for point in points] == [
        *(("int8", step) for step in STEPS),
        ("float16", None),
        ("float32", None),
    ]
    assert tuple(candidate.step for candidate in CANDIDATES if candidate.step) == STEPS
    rates = [point.bits_per_pixel for point in points]
    assert rates == sorted(rates)
    quality = [point.scores["psnr"] for point in points[: len(STEPS)]]
    assert all(later > earlier - 0.002 for earlier, later in pairwise(quality))
    assert quality[-1] > quality[0] + 0.1
    assert points[-1].loss_db == 0
    losses = [point.loss_db for point in points]
    assert losses[0] == max(losses) > 0.1


def test_only_the_storages_asked_for_are_measured() -> None:
    points = points_of(storages=[STORAGES["float32"], STORAGES["float16"]])
    assert [point.storage for point in points] == ["float16", "float32"]
    with_all = {named(point): point for point in points_of()}
    assert all(with_all[named(point)] == point for point in points)


def test_a_point_is_what_numpy_pyarrow_and_skimage_make_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, int]] = []
    real = latent_column_bytes

    def measure(path: Path) -> int:
        footer = pq.ParquetFile(path).metadata
        (group,) = (footer.row_group(place) for place in range(footer.num_row_groups))
        chunks = [group.column(place) for place in range(footer.num_columns)]
        (latents,) = (chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] == "latent")
        assert latents.compression == "ZSTD"
        written.append((latents.total_compressed_size, path.stat().st_size))
        return real(path)

    monkeypatch.setattr(storage_curves, "latent_column_bytes", measure)
    points = points_of()
    assert [point.latent_bytes for point in points] == [size for size, _ in written]
    assert all(0 < size < whole for size, whole in written)
    raw = own_latents()
    for point in (points[0], points[4]):
        assert point.step is not None
        assert point.bits_per_pixel == pytest.approx(8 * point.latent_bytes / (COUNT * SIZE * SIZE))
        steps = (point.step * raw.astype(np.float64).std(axis=(0, 2, 3)))[:, None, None]
        symbols = np.rint(raw / steps)
        decoded = POOL.load().decode(torch.from_numpy((symbols * steps).astype(np.float32)))
        seen = np.rint(np.clip(decoded.numpy(), 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        psnr = [peak_signal_noise_ratio(tile.pixels, one) for tile, one in zip(TILES, seen, strict=True)]
        assert point.scores["psnr"] == pytest.approx(float(np.mean(psnr)), abs=2e-3)
        bits = 0.0
        for channel in range(3):
            counts = np.unique(symbols[:, channel], return_counts=True)[1]
            bits -= float((counts * np.log2(counts / counts.sum())).sum())
        assert point.entropy_bits_per_pixel == pytest.approx(bits / (COUNT * SIZE * SIZE), rel=1e-3)
        best = points[-1].scores["psnr"]
        assert point.loss_db == pytest.approx(best - point.scores["psnr"], abs=1e-9)


@pytest.mark.parametrize("step", [1 / 2, 1 / 8, 1 / 16])
def test_a_point_equals_a_plain_build_of_that_step(step: float, tmp_path: Path) -> None:
    found = compare(scenes(COUNT, SIZE), [POOL], storages=[STORAGES["int8"]])
    point = next(point for point in found.vaes[0].storages if point.step == step)
    plan = BuildPlan(
        source=scenes(COUNT, SIZE),
        vae=POOL,
        storage=STORAGES["int8"],
        step=step,
        calibration=COUNT,  # all of them, so that the standard deviations are those of the curve
        layout="compact",
    )
    manifest = build(plan, tmp_path)
    assert not point.widened
    assert manifest.quality["psnr"].mean == pytest.approx(point.scores["psnr"], abs=1e-3)
    assert manifest.storage.measured_loss_db == pytest.approx(point.loss_db, abs=1e-3)
    (shard,) = manifest.splits["train"].shards
    columns = pq.ParquetFile(tmp_path / plan.config / shard.path).metadata.row_group(0)
    names = [columns.column(place).path_in_schema for place in range(columns.num_columns)]
    size = columns.column(names.index("latent")).total_compressed_size
    assert point.latent_bytes == pytest.approx(size, rel=0.02)  # the same rows in another order
    assert open_store(tmp_path).manifest.storage.step_sigma == step


def test_float16_equals_the_config_that_was_built() -> None:
    found = compare(scenes(COUNT, SIZE), [POOL], storages=[STORAGES["float16"]]).vaes[0]
    assert found.storages[0].scores["psnr"] == pytest.approx(found.rate_scores["psnr"], abs=1e-9)


def test_a_channel_with_far_outliers_gets_a_step_that_holds_them() -> None:
    @dataclass(frozen=True)
    class Peaked(PoolingVae):
        def encode(self, pixels: torch.Tensor) -> LatentBatch:
            mean = super().encode(pixels).mean.clone()
            mean[0, 1, 0, 0] += 50 * mean[:, 1].std()
            return LatentBatch(mean=mean)

    points = points_of(replace(POOL, family=Peaked), [STORAGES["int8"]], batch_size=COUNT)
    by_step = {point.step: point for point in points}
    assert by_step[1 / 2].widened == ()
    assert by_step[1 / 32].widened == (1,)
    quality = [point.scores["psnr"] for point in points]
    assert quality[-1] > quality[0]


def test_padding_is_not_counted_as_pixels(tmp_path: Path) -> None:
    source = folder_source(
        str(write_pictures(tmp_path / "p", {"a.png": (24, 23), "b.png": (22, 24), "c.png": (24, 23)}))
    )
    point = compare(source, [POOL], storages=[STORAGES["float32"]]).vaes[0].storages[0]
    assert point.bits_per_pixel == pytest.approx(8 * point.latent_bytes / (2 * 24 * 23 + 22 * 24))


def test_other_metrics_are_measured_too() -> None:
    points = storage_points(
        POOL.load(),
        TILES,
        (SIZE, SIZE),
        candidates_in([STORAGES["int8"]]),
        {"psnr": SCORERS["psnr"], "mae": METRICS["mae"].open()},
        batch_size=4,
    )
    assert {tuple(point.scores) for point in points} == {("psnr", "mae")}
    assert points[0].scores["mae"] > points[-1].scores["mae"] > 0


def test_each_candidate_is_announced_before_it_is_measured() -> None:
    told: list[Candidate] = []
    candidates = candidates_in(ALL)
    storage_points(POOL.load(), TILES, (SIZE, SIZE), candidates, SCORERS, batch_size=4, progress=told.append)
    assert told == list(candidates)


def test_samples_are_drawn_once_more_with_the_same_noise() -> None:
    found = compare(scenes(6), [NOISY], protocol=PROTOCOLS["vaes4rs"], storages=[STORAGES["float16"]]).vaes[0]
    assert found.posterior == "sample"
    assert found.storages[0].scores["psnr"] == pytest.approx(found.rate_scores["psnr"], abs=0.02)  # bfloat16


def test_latents_that_do_not_fit_are_one_sentence() -> None:
    class Huge(PoolingVae):
        def encode(self, pixels: torch.Tensor) -> LatentBatch:
            return LatentBatch(mean=super().encode(pixels).mean * 1e6)

    class Broken(PoolingVae):
        def encode(self, pixels: torch.Tensor) -> LatentBatch:
            return LatentBatch(mean=super().encode(pixels).mean * math.nan)

    with pytest.raises(RequestError, match=r"Storage 'float16' cannot hold the latents of pool8: channel \d reaches"):
        points_of(replace(POOL, family=Huge))
    with pytest.raises(VaeError, match="VAE 'pool8' gave latents that are not finite"):
        points_of(replace(POOL, family=Broken))


def test_steps_as_people_write_them() -> None:
    assert [step_in_words(step) for step in (1 / 2, 1 / 12, 1 / 32, 0.3, 1.5, None)] == [
        "1/2",
        "1/12",
        "1/32",
        "0.3",
        "1.5",
        "",
    ]
    assert named(Candidate(STORAGES["int8"], 1 / 6)) == "int8, step 1/6"
    assert named(Candidate(STORAGES["float16"])) == "float16"
