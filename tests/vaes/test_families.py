"""Every family: exactly what diffusers computes, and never another family's weights or half of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import SHRUNK, save_checkpoint, shrunk_row
from safetensors.torch import load_file, save_file
from scenes import scenes

from latentstore import VAES, BuildPlan, kl_checkpoint
from latentstore.errors import VaeError
from latentstore.hashing import sha256_of
from latentstore.vaes.architectures import ARCHITECTURES
from latentstore.vaes.checkpoint import WEIGHTS, DiffusersVae

ONE_EACH = {row.class_name: name for name, row in VAES.items() if row.architecture}
"""A row of each class: the last of the table."""
FAMILY = pytest.mark.parametrize("name", ONE_EACH.values())
ONE_FRAME = ("AutoencoderKLQwenImage", "AutoencoderKLWan")


def test_every_class_of_diffusers_has_a_small_checkpoint_here() -> None:
    assert set(ONE_EACH) == set(SHRUNK) == {row.class_name for row in ARCHITECTURES.values()}


@FAMILY
def test_latents_and_pictures_are_those_of_diffusers(name: str, tmp_path: Path) -> None:
    model = save_checkpoint(tmp_path / "vae", name)
    vae = VAES[name].at(str(tmp_path / "vae")).load()
    side = vae.row.pad_to * 2
    pixels = torch.rand(2, 3, side, side + vae.row.pad_to)
    centred = pixels * 2 - 1
    frame = VAES[name].class_name in ONE_FRAME
    with torch.no_grad():
        encoded = model.encode(centred[:, :, None] if frame else centred)
        latent = getattr(encoded, "latent", None)
        if latent is None:
            latent = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        decoded = model.decode(latent).sample
    if frame:
        latent, decoded = latent[:, :, 0], decoded[:, :, 0]
    found = vae.encode(pixels)
    torch.testing.assert_close(found.mean, latent, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vae.decode(latent), (decoded / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=1e-5)
    if vae.row.stochastic:
        std = encoded.latent_dist.std
        torch.testing.assert_close(found.std, std[:, :, 0] if frame else std, atol=1e-5, rtol=1e-5)
    else:
        assert found.std is None


@FAMILY
def test_shapes_ranges_and_repeatability(name: str, tmp_path: Path) -> None:
    vae = shrunk_row(tmp_path / "vae", name).load()
    row = vae.row
    pixels = torch.rand(2, 3, row.pad_to, 2 * row.pad_to)
    first, second = vae.encode(pixels), vae.encode(pixels)
    assert first.mean.shape == (2, row.channels, row.cells, 2 * row.cells)
    assert first.mean.dtype == torch.float32
    assert torch.equal(first.mean, second.mean)
    decoded = vae.decode(first.mean * 10)
    assert decoded.shape == pixels.shape
    assert decoded.dtype == torch.float32
    assert 0 <= decoded.min() <= decoded.max() <= 1
    there = vae.normalisation.to_model(first.mean)
    torch.testing.assert_close(vae.normalisation.to_raw(there), first.mean, atol=1e-4, rtol=1e-4)


@FAMILY
def test_bfloat16_computes_and_float16_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    row = shrunk_row(tmp_path / "vae", name)
    pixels = torch.rand(1, 3, row.pad_to, row.pad_to)
    exact, rounded = (row.load(dtype=dtype).encode(pixels).mean for dtype in ("float32", "bfloat16"))
    assert rounded.dtype == torch.float32
    assert torch.isfinite(rounded).all()
    assert not torch.equal(exact, rounded)
    with pytest.raises(VaeError) as caught:
        row.load(dtype="float16")
    assert str(caught.value) == (
        f"VAE {name!r} is not safe in float16 ({row.float16_reason}); use float32 or bfloat16."
    )


def test_sdxl_names_the_checkpoint_made_for_float16_and_that_one_is_allowed(tmp_path: Path) -> None:
    assert "sdxl-fp16-fix" in VAES["sdxl"].float16_reason
    row = shrunk_row(tmp_path / "vae", "sdxl-fp16-fix")
    assert row.load(dtype="float16").encode(torch.rand(1, 3, 8, 8)).mean.shape == (1, 4, 1, 1)


@FAMILY
def test_the_weights_sha256_is_that_of_the_file(name: str, tmp_path: Path) -> None:
    identity = shrunk_row(tmp_path / "vae", name).load().identity
    assert identity.weights_sha256 == sha256_of(tmp_path / "vae" / WEIGHTS)
    assert identity.class_name == VAES[name].class_name


def test_one_more_of_a_known_family_is_a_row_and_nothing_else(tmp_path: Path) -> None:
    # FLUX.2 with a smaller decoder, as black-forest-labs publish one beside the first
    save_checkpoint(tmp_path / "small", "flux2", decoder_block_out_channels=(4, 4, 4, 4))
    row = replace(VAES["flux2"], name="flux2-small-decoder", repo=str(tmp_path / "small"), subfolder="")
    vae = row.load()
    assert vae.decode(vae.encode(torch.rand(1, 3, 32, 16)).mean).shape == (1, 3, 32, 16)
    assert vae.normalisation.kind == "patch_batch_norm"


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ONE_EACH.values())
@pytest.mark.parametrize("found", [name for name in ONE_EACH.values() if name in {"sana", "flux2", "hunyuan21"}])
def test_a_checkpoint_of_another_family_is_refused(wanted: str, found: str, tmp_path: Path) -> None:
    if wanted == found:
        return
    save_checkpoint(tmp_path / "vae", found)
    with pytest.raises(VaeError) as caught:
        VAES[wanted].at(str(tmp_path / "vae")).load()
    assert str(caught.value) == (
        f"{tmp_path / 'vae'} holds {VAES[found].class_name}, but VAE {wanted!r} is {VAES[wanted].class_name}: another "
        "family's weights would give wrong pictures; choose a VAE of that class (latentstore list vaes --json names "
        "the classes)."
    )


@pytest.mark.parametrize("found", ["sana", "hunyuan21", "flux2"])
def test_a_path_to_another_familys_checkpoint_is_refused_too(found: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "vae", found)
    with pytest.raises(VaeError, match=f"holds {VAES[found].class_name}, but VAE 'vae' is AutoencoderKL"):
        kl_checkpoint(str(tmp_path / "vae"))


def test_a_checkpoint_of_the_same_class_and_shape_is_told_apart_by_its_numbers(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "vae", "flux1")
    with pytest.raises(VaeError) as caught:
        VAES["sd35"].at(str(tmp_path / "vae")).load()
    assert str(caught.value) == (
        f"{tmp_path / 'vae'} is not VAE 'sd35': its configuration has the normalisation scale_shift (scale 0.3611, "
        "shift 0.1159), the row scale_shift (scale 1.5305, shift 0.0609)."
    )


@pytest.mark.parametrize(
    ("name", "config", "found"),
    [
        (
            "flux2",
            {"latent_channels": 16},
            "16 latent channels, stride 8 and 3 image channels, its row says 32, 8 and 3",
        ),
        ("qwen", {"input_channels": 4}, "16 latent channels, stride 8 and 4 image channels, its row says 16, 8 and 3"),
        (
            "taesd",
            {"latent_channels": 16},
            "16 latent channels, stride 8 and 3 image channels, its row says 4, 8 and 3",
        ),
        (
            "sana",
            {"encoder_block_out_channels": (8, 8, 8, 8, 32), "decoder_block_out_channels": (8, 8, 8, 8, 32)}
            | {
                f"{half}_{what}": value
                for half in ("encoder", "decoder")
                for what, value in (
                    ("block_types", ("ResBlock",) * 5),
                    ("layers_per_block", (1,) * 5),
                    ("qkv_multiscales", ((),) * 5),
                )
            },
            "32 latent channels, stride 16 and 3 image channels, its row says 32, 32 and 3",
        ),
    ],
)
def test_other_channels_or_another_stride_than_the_rows_are_refused(
    name: str, config: dict[str, Any], found: str, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "vae", name, **config)
    with pytest.raises(VaeError, match=f"VAE {name!r} has {found}."):
        VAES[name].at(str(tmp_path / "vae")).load()


@FAMILY
def test_no_family_loads_weights_with_a_key_missing_or_left_over(name: str, tmp_path: Path) -> None:
    row = shrunk_row(tmp_path / "vae", name)
    path = tmp_path / "vae" / WEIGHTS
    weights = load_file(path)
    first = min(weights)
    save_file({key: value for key, value in weights.items() if key != first}, path, metadata={"format": "pt"})
    with pytest.raises(VaeError, match=rf"1 missing keys \(first: {first}\)"):
        row.load()
    save_file({**weights, "encoder.extra.weight": torch.zeros(3)}, path, metadata={"format": "pt"})
    with pytest.raises(VaeError, match=r"1 unexpected keys \(first: encoder.extra.weight\)"):
        row.load()


def test_a_hunyuan_checkpoint_without_its_scale_is_refused(tmp_path: Path) -> None:
    row = shrunk_row(tmp_path / "vae", "hunyuan21", scaling_factor=None)
    with pytest.raises(VaeError, match="has no scaling_factor: its model space is not known"):
        row.load()


def test_a_class_that_the_installed_diffusers_lacks_is_one_sentence(tmp_path: Path) -> None:
    row = replace(shrunk_row(tmp_path / "vae", "sd21"), class_name="AutoencoderOfTomorrow")
    config = tmp_path / "vae" / "config.json"
    config.write_text(config.read_text().replace("AutoencoderKL", "AutoencoderOfTomorrow"))
    with pytest.raises(
        VaeError, match="has no class AutoencoderOfTomorrow for VAE 'sd21': pip install --upgrade diffusers"
    ):
        row.load()


# How it computes ------------------------------------------------------------------------------------------------------


def test_weights_lie_in_memory_as_the_row_says(tmp_path: Path) -> None:
    expected = {"channels_last": {4: torch.channels_last, 5: torch.channels_last_3d}, "contiguous": {}}
    for name in ("sd21", "qwen"):
        row = shrunk_row(tmp_path / name, name)
        for order, formats in expected.items():
            vae = replace(row, memory_format=order).load()
            assert isinstance(vae, DiffusersVae)
            for numbers in vae.model.parameters():
                assert numbers.is_contiguous(memory_format=formats.get(numbers.ndim, torch.contiguous_format))
            assert vae.encode(torch.rand(1, 3, 16, 16)).mean.shape == (1, row.channels, 2, 2)


def test_auto_is_the_rows_choice_on_a_cpu_that_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for capable, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda capable=capable: capable)
        assert VAES["flux2"].fastest_dtype("cpu") == dtype
        assert VAES["demo"].fastest_dtype("cpu") == "float32"
        assert VAES["flux2"].fastest_dtype("cuda:0") == "float32"
        plan = BuildPlan(source=scenes(), vae=VAES["flux2"], dtype="auto")
        assert plan.dtype == dtype  # what is recorded, and used when the latents are decoded


def test_auto_loads_that_dtype(tmp_path: Path) -> None:
    row = shrunk_row(tmp_path / "vae", "sd21")
    vae = row.load(dtype="auto")
    assert isinstance(vae, DiffusersVae)
    assert vae.options.dtype == row.fastest_dtype("cpu")
