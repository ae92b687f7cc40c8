"""Every row of the VAE table keeps the contract of the interface."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from latentstore import VAES
from latentstore.errors import UnknownNameError
from latentstore.normalisation import KINDS
from latentstore.vaes.checkpoint import PACKAGED, WEIGHTS

AT_HAND = [name for name, row in VAES.items() if row.packaged or not row.repo]


@pytest.mark.parametrize("name", VAES)
def test_a_row_says_what_a_publisher_must_know(name: str) -> None:
    row = VAES[name]
    assert row.channels > 0
    assert row.stride > 1
    assert row.licence
    assert row.summary
    assert bool(row.repo) + bool(row.packaged) <= 1
    assert row.class_name
    assert row.parameters is not None
    assert row.gflops_256 is not None
    assert row.tiling.startswith("none: ")  # no family can be tiled without seams, so none is
    assert row.pixel_range in {"[-1, 1]", "[0, 1]"}
    assert row.memory_format in {"contiguous", "channels_last"}
    assert row.cpu_dtype in {"float32", "bfloat16"}


@pytest.mark.parametrize("name", VAES)
def test_a_row_says_what_its_model_space_is_and_where_the_numbers_are(name: str) -> None:
    row = VAES[name]
    assert row.normalisation_kind in KINDS
    assert row.normalisation is not None or row.numbers_from
    assert (row.cells == 2) == (row.class_name in {"AutoencoderKLFlux2", "Taef2"})
    if row.normalisation is not None:
        assert row.normalisation.kind == row.normalisation_kind
        row.normalisation.validate(row.channels)


def test_the_rows_of_the_study_and_those_beside_them_are_there() -> None:
    study = {"sd21", "sdxl", "sd35", "flux1", "flux2", "sana", "qwen"}
    beside = {"sd-vae-ft-mse", "sdxl-fp16-fix", "wan21", "hunyuan21", "taesd", "taesdxl", "taesd3", "taef1", "taef2"}
    assert set(VAES) == study | beside | set(AT_HAND)


def test_only_rows_that_were_made_for_float16_allow_it() -> None:
    assert [name for name, row in VAES.items() if row.float16_safe] == ["pool8", "sdxl-fp16-fix"]


def test_reading_the_rows_loads_nothing_heavy() -> None:
    code = "import sys; from latentstore.vaes.table import VAES; list(VAES.values()); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_the_offline_rows_are_the_embedded_default_and_the_floor() -> None:
    assert AT_HAND == ["demo", "pool8"]


@pytest.mark.parametrize("name", AT_HAND)
def test_shapes_ranges_and_repeatability(name: str) -> None:
    row = VAES[name]
    vae = row.load()
    pixels = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    first, second = vae.encode(pixels), vae.encode(pixels)
    assert first.mean.shape == (2, row.channels, 32 // row.stride, 48 // row.stride)
    assert first.mean.dtype == torch.float32
    assert torch.equal(first.mean, second.mean)
    decoded = vae.decode(first.mean)
    assert decoded.shape == pixels.shape
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    vae.normalisation.validate(row.channels)
    torch.testing.assert_close(
        vae.normalisation.to_raw(vae.normalisation.to_model(first.mean)), first.mean, atol=1e-5, rtol=1e-5
    )


def test_the_embedded_vae_is_small_and_its_training_record_is_with_it() -> None:
    folder = PACKAGED / VAES["demo"].packaged
    assert (folder / WEIGHTS).stat().st_size <= 8_000_000
    record = json.loads((folder / "training.json").read_text())
    assert record["results"]["held_out"]["psnr"]["mean"] >= 28


def test_the_embedded_vae_beats_pooling_on_every_drawn_scene(tmp_path: Path) -> None:
    from scenes import build_scenes, scenes

    scores = {
        name: build_scenes(tmp_path, source=scenes(12, 64), vae=VAES[name]).quality["psnr"].mean for name in AT_HAND
    }
    assert (scores["demo"] or 0) > (scores["pool8"] or 0) + 3


def test_the_embedded_latents_are_of_unit_size_after_normalisation(tmp_path: Path) -> None:
    from scenes import build_scenes, scenes

    manifest = build_scenes(tmp_path, source=scenes(24, 64), vae=VAES["demo"], metrics=())
    gain, _ = manifest.normalisation.affine(16)
    spread = gain * manifest.statistics["train"].std
    assert (spread > 0.4).all()
    assert (spread < 2).all()


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="There is no VAE named 'sxdl'. Did you mean 'sdxl'"):
        VAES["sxdl"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", AT_HAND)
def test_a_cuda_device_agrees_with_the_cpu(name: str) -> None:
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    cpu, cuda = (VAES[name].load(device=device).encode(pixels).mean.cpu() for device in ("cpu", "cuda"))
    torch.testing.assert_close(cpu, cuda, atol=2e-2, rtol=2e-2)
