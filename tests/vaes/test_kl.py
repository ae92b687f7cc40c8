"""AutoencoderKL checkpoints: exactly what diffusers computes, from any place, and never with half of the weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from latentstore import VAES, kl_checkpoint
from latentstore.errors import VaeError
from latentstore.hashing import sha256_of
from latentstore.vaes.checkpoint import WEIGHTS

TINY: dict[str, Any] = {
    "block_out_channels": (8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "latent_channels": 5,
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "scaling_factor": 0.3,
}


def save_tiny(folder: Path, **config: Any) -> Any:
    """A random AutoencoderKL of stride 4, saved the way a Hub repository holds it; returns the model."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    model = AutoencoderKL(**{**TINY, **config}).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "vae")
    return tmp_path / "vae"


def test_latents_and_pictures_are_those_of_diffusers(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "vae")
    vae = kl_checkpoint(str(tmp_path / "vae")).load()
    pixels = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        posterior = model.encode(pixels * 2 - 1).latent_dist
        latents = vae.encode(pixels)
        torch.testing.assert_close(latents.mean, posterior.mode(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(latents.std, posterior.std, atol=1e-5, rtol=1e-5)
        expected = (model.decode(posterior.mode()).sample / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(vae.decode(latents.mean), expected, atol=1e-5, rtol=1e-5)


def test_channels_stride_and_weights_are_read_from_the_folder(checkpoint: Path) -> None:
    row = kl_checkpoint(str(checkpoint))
    assert (row.channels, row.stride, row.name) == (5, 4, "vae")
    assert row.load().identity.weights_sha256 == sha256_of(checkpoint / WEIGHTS)


def test_a_subfolder_holds_the_vae_as_in_a_pipelines_repository(tmp_path: Path) -> None:
    save_tiny(tmp_path / "pipeline" / "vae")
    row = kl_checkpoint(str(tmp_path / "pipeline"), subfolder="vae")
    assert row.load().encode(torch.rand(1, 3, 8, 8)).mean.shape == (1, 5, 2, 2)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({}, "scale"),
        ({"shift_factor": 0.1}, "scale_shift"),
        ({"latents_mean": [0.1] * 5, "latents_std": [2.0] * 5}, "mean_std"),
    ],
)
def test_the_normalisation_is_the_one_of_the_checkpoints_configuration(tmp_path: Path, config: Any, kind: str) -> None:
    save_tiny(tmp_path / "vae", **config)
    found = kl_checkpoint(str(tmp_path / "vae")).load().normalisation
    assert (found.kind, found.scale) == (kind, 0.3)
    raw = torch.randn(1, 5, 2, 2)
    shift, std = (0.1, 2.0) if kind == "mean_std" else (found.shift, 1.0)
    torch.testing.assert_close(found.to_model(raw), (raw - shift) * 0.3 / std)


def change_weights(checkpoint: Path, change: Any) -> None:
    weights = load_file(checkpoint / WEIGHTS)
    change(weights)
    save_file(weights, checkpoint / WEIGHTS, metadata={"format": "pt"})


def test_missing_weights_are_refused(checkpoint: Path) -> None:
    change_weights(checkpoint, lambda weights: weights.pop("encoder.conv_in.weight"))
    with pytest.raises(VaeError, match=r"1 missing keys \(first: encoder.conv_in.weight\)"):
        kl_checkpoint(str(checkpoint)).load()


def test_weights_that_no_layer_takes_are_refused(checkpoint: Path) -> None:
    change_weights(checkpoint, lambda weights: weights.update({"encoder.pool.weight": torch.zeros(3)}))
    with pytest.raises(VaeError, match=r"1 unexpected keys \(first: encoder.pool.weight\)"):
        kl_checkpoint(str(checkpoint)).load()


def test_weights_of_another_shape_are_refused(checkpoint: Path) -> None:
    change_weights(checkpoint, lambda weights: weights.update({"encoder.conv_in.bias": torch.zeros(9)}))
    with pytest.raises(VaeError, match="encoder.conv_in.bias|mismatch|size"):
        kl_checkpoint(str(checkpoint)).load()


def test_a_cut_weights_file_is_refused(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).write_bytes((checkpoint / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(VaeError, match="cannot be loaded as AutoencoderKL"):
        kl_checkpoint(str(checkpoint)).load()


def test_pickled_weights_are_refused(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).rename(checkpoint / "diffusion_pytorch_model.bin")
    with pytest.raises(VaeError, match="pickled weights are refused"):
        kl_checkpoint(str(checkpoint)).load()


def test_a_checkpoint_that_does_not_fit_the_row_is_refused(checkpoint: Path) -> None:
    with pytest.raises(VaeError, match="has 5 latent channels, stride 4 and 3 image channels, its row says 4, 8 and 3"):
        VAES["sd21"].at(str(checkpoint)).load()


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("/no/such/folder", "There is no folder '/no/such/folder'"),
        ("./nowhere", "There is no folder './nowhere'"),
    ],
)
def test_a_place_without_a_vae_is_one_clear_sentence(location: str, message: str) -> None:
    with pytest.raises(VaeError, match=message):
        kl_checkpoint(location)


def test_a_folder_that_is_no_vae_says_what_was_expected_and_where_one_lies(tmp_path: Path) -> None:
    save_tiny(tmp_path / "pipeline" / "vae")
    with pytest.raises(VaeError, match=r"is no VAE folder: expected config.json .* It holds subfolders with one: vae"):
        kl_checkpoint(str(tmp_path / "pipeline"))


def test_another_models_configuration_is_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path / "vae")
    (tmp_path / "vae" / "config.json").write_text('{"hidden_size": 768}')
    with pytest.raises(VaeError, match="is no AutoencoderKL configuration"):
        kl_checkpoint(str(tmp_path / "vae"))


def test_offline_and_not_cached_says_which_files_are_missing() -> None:
    with pytest.raises(
        VaeError, match=r"diffusion_pytorch_model.safetensors of stabilityai/sdxl-vae are not in the local cache"
    ):
        VAES["sdxl"].load()


def test_float16_is_refused_where_it_was_not_checked(checkpoint: Path) -> None:
    with pytest.raises(VaeError, match="is not safe in float16"):
        kl_checkpoint(str(checkpoint)).load(dtype="float16")


def test_a_copied_folder_is_the_same_vae(tmp_path: Path, checkpoint: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "copy")
    one, two = (kl_checkpoint(str(folder)).load() for folder in (checkpoint, tmp_path / "copy"))
    assert one.identity.weights_sha256 == two.identity.weights_sha256
