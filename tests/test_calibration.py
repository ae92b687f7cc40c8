"""The storage that is chosen: what the candidates are said to cost, against a computation of our own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scenes import build_scenes, plan, scenes, smooth_picture, write_pictures

from latentstore import STORAGES, VAES, Manifest, folder_source, load_latents
from latentstore.calibration import CANDIDATES, Candidate, Sample, calibrate, candidates_of, lost, sample_of_plan
from latentstore.errors import RequestError, SourceError
from latentstore.pictures import PictureReader
from latentstore.plan import plan_rows
from latentstore.records import Tile

INT8 = STORAGES["int8"]


def tile(pixels: NDArray[np.uint8], name: str = "a") -> Tile:
    return Tile(name, pixels, None, name, "", 0)


def pool8_sample(count: int = 6) -> Sample:
    """Smooth pictures and their latents, by pool8."""
    vae = VAES["pool8"].load(device="cpu", dtype="float32")
    pictures = [smooth_picture(32, 32, seed) for seed in range(count)]
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return Sample(tuple(tile(picture) for picture in pictures), vae.encode(stacked).mean.numpy())


def found_for(sample: Sample, candidates: Any = CANDIDATES, **options: Any) -> Any:
    vae = VAES["pool8"].load(device="cpu", dtype="float32")
    return calibrate(vae, sample, candidates, **{"budget": 0.02, "batch_size": 4, "seed": 7, **options})


def psnr_of(sample: Sample, raw: NDArray[np.float32]) -> NDArray[np.float64]:
    """Formula of PSNR, written anew."""
    vae = VAES["pool8"].load(device="cpu", dtype="float32")
    decoded = (vae.decode(torch.from_numpy(raw)) * 255).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    truth = np.stack([entry.pixels for entry in sample.tiles]).astype(np.float64)
    error = ((truth - decoded) ** 2).mean(axis=(1, 2, 3))
    return np.asarray(10 * np.log10(255**2 / error), np.float64)


def test_each_candidate_costs_what_an_independent_computation_says() -> None:
    sample = pool8_sample()
    std = sample.raw.astype(np.float64).transpose(1, 0, 2, 3).reshape(3, -1).std(axis=1)
    reference = psnr_of(sample, sample.raw)
    info = found_for(sample).calibration
    assert info.pictures == 6
    assert info.seed == 7
    np.testing.assert_allclose(info.std, std, rtol=1e-6)
    assert [(entry.storage, entry.step_sigma) for entry in info.candidates] == [
        *(("int8", 1 / parts) for parts in (2, 3, 4, 6, 8, 12, 16, 18, 20, 24, 32)),
        ("float16", None),
        ("float32", None),
    ]
    for entry in info.candidates[:-2]:
        step = (entry.step_sigma * std).astype(np.float32)[:, None, None]
        rounded = (np.rint(sample.raw / step) * step).astype(np.float32)
        losses = reference - psnr_of(sample, rounded)
        assert entry.loss_db == pytest.approx(losses.mean(), abs=1e-9)
        assert entry.loss_error_db == pytest.approx(losses.std(ddof=1) / math.sqrt(6), abs=1e-9)
        assert entry.clipped == 0
    assert info.candidates[-1].loss_db == 0
    bits = [entry.bits_per_pixel for entry in info.candidates]
    assert bits == sorted(bits)


@pytest.mark.parametrize("budget", [0.0, 0.005, 0.02, 0.1, 1.0])
def test_the_smallest_that_keeps_the_budget_with_two_standard_errors_is_taken(budget: float) -> None:
    found = found_for(pool8_sample(), budget=budget)
    entries = found.calibration.candidates
    taken = next(entry for entry in entries if entry.loss_db + 2 * entry.loss_error_db <= budget)
    assert (found.name, found.step) == (taken.storage, taken.step_sigma)
    if found.name == "int8":
        np.testing.assert_allclose(found.steps, np.float32(np.array(found.calibration.std) * found.step), rtol=1e-6)
    else:
        assert found.steps is None


def test_a_channel_whose_clipping_costs_too_much_gets_a_larger_step() -> None:
    raw = pool8_sample(4).raw.copy()
    raw[:, 1] *= 0.01
    raw[0, 1, 0, 0] = 0.9  # of 64 numbers: 8 standard deviations, where 127 steps of a thirty-second reach 4
    decoded = VAES["pool8"].load(device="cpu", dtype="float32").decode(torch.from_numpy(raw))
    pictures = (decoded * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    spiked = Sample(tuple(tile(picture ^ 1) for picture in pictures), raw)  # not quite: no PSNR is infinite
    found = found_for(spiked, [Candidate(INT8, 1 / 32)])
    assert found.calibration.widened == (1,)
    assert found.steps[1] == pytest.approx(np.abs(raw[:, 1]).max() / 127, rel=1e-6)
    assert found.steps[0] == pytest.approx(found.calibration.std[0] / 32, rel=1e-6)
    assert found.calibration.candidates[0].clipped == 0
    roomy = found_for(spiked, [Candidate(INT8, 1 / 32)], budget=1e9)
    assert roomy.calibration.widened == ()
    assert roomy.calibration.candidates[0].clipped == 1


def test_a_constant_channel_has_a_step_too() -> None:
    sample = pool8_sample(3)
    raw = sample.raw.copy()
    raw[:, 0], raw[:, 2] = 0.25, 0
    found = found_for(Sample(sample.tiles, raw), [Candidate(INT8, 1 / 16)])
    assert found.steps[0] == pytest.approx(0.25 / 16)
    assert found.steps[2] == pytest.approx(1 / 16)
    np.testing.assert_array_equal(found.open().decode(found.open().encode(raw))[:, 0], np.float32(0.25))


def test_a_storage_that_cannot_hold_the_latents_is_no_candidate() -> None:
    sample = pool8_sample(2)
    raw = sample.raw.copy()
    raw[0, 0, 0, 0] = 1e6
    found = found_for(Sample(sample.tiles, raw), budget=0.0)
    assert "float16" not in {entry.storage for entry in found.calibration.candidates}
    assert found.name == "float32"


def test_pictures_without_a_finite_score_count_where_that_can_be_said() -> None:
    infinite, number = np.array([np.inf, np.inf, 40.0]), np.array([np.inf, 40.0, 39.5])
    np.testing.assert_array_equal(lost(infinite, number), [0.0, np.nan, 0.5])


def test_the_sample_is_drawn_from_all_rows_and_is_the_same_for_the_same_seed() -> None:
    def ids(seed: int, count: int = 8) -> list[str]:
        planned = plan(source=scenes(30, 16), seed=seed, calibration=count)
        source = planned.source.open()
        reader = PictureReader(planned, source, plan_rows(planned, source))
        sample = sample_of_plan(reader, planned.vae.load(device="cpu", dtype="float32"))
        assert len(sample.raw) == len(sample.tiles)
        return [entry.id for entry in sample.tiles]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)
    assert len(set(ids(1))) == 8
    assert len(ids(1, 100)) == 30


def test_pictures_that_cannot_be_used_are_not_drawn(tmp_path: Path) -> None:
    write_pictures(tmp_path, {f"a/{number}.png": (16, 16) for number in range(6)})
    for number in range(3):
        (tmp_path / "a" / f"{number}.png").write_bytes(b"no picture")
    planned = plan(source=folder_source(tmp_path), calibration=5)
    source = planned.source.open()
    reader = PictureReader(planned, source, plan_rows(planned, source))
    vae = planned.vae.load(device="cpu", dtype="float32")
    assert sorted(entry.id for entry in sample_of_plan(reader, vae).tiles) == ["a/3", "a/4", "a/5"]
    for number in range(3, 6):
        (tmp_path / "a" / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match="no picture to calibrate"):
        sample_of_plan(reader, vae)


# In a build ----------------------------------------------------------------------------------------------------------


def test_auto_builds_what_the_calibration_says_and_measures_what_was_lost(tmp_path: Path) -> None:
    manifest = build_scenes(tmp_path / "auto", storage=None, max_psnr_drop=0.05)
    storage = manifest.storage
    assert storage.name == "int8"
    assert storage.budget_db == 0.05
    assert storage.calibration is not None
    assert storage.step_sigma in {candidate.step for candidate in CANDIDATES}
    assert storage.clipped == (0, 0, 0)
    exact = build_scenes(tmp_path / "exact", storage=STORAGES["float32"])
    apart = exact.quality["psnr"].mean - manifest.quality["psnr"].mean
    assert storage.measured_loss_db == pytest.approx(apart, abs=1e-5)
    assert manifest.size.stored_bytes < build_scenes(tmp_path / "half").size.stored_bytes


def test_stored_bytes_are_the_nearest_multiples_of_the_steps(tmp_path: Path) -> None:
    manifest = build_scenes(tmp_path / "int8", storage=INT8, step=1 / 8)
    build_scenes(tmp_path / "exact", storage=STORAGES["float32"])
    step = torch.tensor(manifest.storage.steps)[:, None, None]
    exact, found = (load_latents(tmp_path / name, space="raw").batch(range(30)) for name in ("exact", "int8"))
    np.testing.assert_allclose(found["latent"], (exact["latent"] / step).round() * step, rtol=1e-6)
    assert manifest.storage.step_sigma == 1 / 8
    assert manifest.storage.budget_db is None
    assert manifest.storage.measured_loss_db is not None


def test_a_resumed_build_uses_the_calibration_of_the_first_run(tmp_path: Path) -> None:
    whole = build_scenes(tmp_path / "whole", storage=None)

    class StoppedError(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.done >= 13:
            raise StoppedError

    from latentstore import build

    with pytest.raises(StoppedError):
        build(plan(storage=None), tmp_path / "again", progress=stop)
    stages: list[str] = []
    again = build(plan(storage=None), tmp_path / "again", progress=lambda progress: stages.append(progress.stage))
    assert "calibrate" not in stages
    assert again.to_json() == whole.to_json()


def test_strict_refuses_to_seal_what_lost_more_than_its_budget_and_says_so_otherwise(tmp_path: Path) -> None:
    options: dict[str, Any] = {"storage": INT8, "step": 1.0, "max_psnr_drop": 0.01}
    with pytest.raises(RequestError, match=r"Storing cost \d\.\d{4} dB of mean PSNR, over the budget of 0\.01 dB"):
        build_scenes(tmp_path, strict=True, **options)
    assert not (tmp_path / "synthetic-pool8" / "manifest.json").exists()
    manifest = build_scenes(tmp_path, **options)
    assert manifest.storage.measured_loss_db > manifest.storage.budget_db
    with pytest.raises(RequestError, match="over the budget"):
        build_scenes(tmp_path, strict=True, **options)


def test_another_budget_is_another_plan(tmp_path: Path) -> None:
    build_scenes(tmp_path, storage=None, max_psnr_drop=0.05)
    with pytest.raises(RequestError, match=r"max_psnr_drop: there 0\.05, asked for 0\.1"):
        build_scenes(tmp_path, storage=None, max_psnr_drop=0.1)


def test_float16_says_nothing_of_a_loss_that_was_not_measured(drawn: Path) -> None:
    storage = Manifest.read(drawn / "synthetic-pool8").storage
    assert (storage.measured_loss_db, storage.calibration, storage.steps, storage.clipped) == (None, None, None, None)


def test_a_budget_for_a_float_is_held_against_too(tmp_path: Path) -> None:
    storage = build_scenes(tmp_path, max_psnr_drop=0.02).storage
    assert storage.measured_loss_db == pytest.approx(0, abs=1e-3)
    assert storage.calibration is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"step": 0.0}, "Expected a step above 0 and up to 4 standard deviations, found 0."),
        ({"step": math.nan}, "Expected a step above 0 and up to 4 standard deviations, found nan."),
        ({"max_psnr_drop": -1.0}, "Expected a max_psnr_drop of 0 dB or more, found -1."),
        ({"calibration": 0}, "Expected calibration of 1 or more, found 0."),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError) as caught:
        plan(**changes)
    assert str(caught.value) == sentence


def test_the_candidates_are_the_one_that_was_asked_for_or_all() -> None:
    assert candidates_of(plan(storage=None)) == CANDIDATES
    assert candidates_of(plan(storage=INT8, step=0.1)) == (Candidate(INT8, 0.1),)
    assert plan(storage=None).max_psnr_drop == 0.02
