"""The tiny family: TAEF2 exactly as its weights mean it, and no network of another layout ever loaded."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from checkpoints import save_checkpoint, save_taef2
from PIL import Image
from safetensors.torch import save_file

from latentstore import METRICS, VAES, BuildPlan, build, folder_source, load_latents
from latentstore.errors import VaeError
from latentstore.vaes.checkpoint import WEIGHTS

SHARED = Path(os.path.realpath(__file__)).parents[3] / "shared"
REAL = SHARED / "weights"
CROPS = SHARED / "imagery" / "naip" / "santa_monica"
NEEDS_REAL = pytest.mark.skipif(
    not (REAL / "taef2_encoder.pth").is_file() or not CROPS.is_dir(),
    reason="needs TAEF2's weights and the aerial crops in ../shared, which are not part of the product",
)

Weights = dict[str, torch.Tensor]


# An independent TAEF2: layer by layer, straight from the key names of the published files -----------------------------


def block(weights: Weights, place: int, x: torch.Tensor) -> torch.Tensor:
    if f"{place}.pool.0.weight" in weights:
        pooled = F.conv2d(x, weights[f"{place}.pool.0.weight"])
        pooled = F.group_norm(pooled, 4, weights[f"{place}.pool.1.weight"], weights[f"{place}.pool.1.bias"])
        x = x + F.conv2d(F.relu(pooled), weights[f"{place}.pool.3.weight"])
    y = x
    for layer in (0, 2, 4):
        y = F.conv2d(y, weights[f"{place}.conv.{layer}.weight"], weights[f"{place}.conv.{layer}.bias"], padding=1)
        y = F.relu(y) if layer < 4 else y
    return F.relu(y + x)


def plain_encode(weights: Weights, pixels: torch.Tensor) -> torch.Tensor:
    x = F.conv2d(pixels, weights["0.weight"], weights["0.bias"], padding=1)
    for place in range(1, 14):
        x = (
            F.conv2d(x, weights[f"{place}.weight"], stride=2, padding=1)
            if place in (2, 6, 10)
            else block(weights, place, x)
        )
    return F.conv2d(x, weights["14.weight"], weights["14.bias"], padding=1)


def plain_decode(weights: Weights, latents: torch.Tensor) -> torch.Tensor:
    x = F.relu(F.conv2d(torch.tanh(latents / 3) * 3, weights["1.weight"], weights["1.bias"], padding=1))
    for place in range(3, 19):
        if place in (6, 11, 16):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        elif place in (7, 12, 17):
            x = F.conv2d(x, weights[f"{place}.weight"], padding=1)
        else:
            x = block(weights, place, x)
    return F.conv2d(x, weights["19.weight"], weights["19.bias"], padding=1)


def halves(folder: Path) -> tuple[Weights, Weights]:
    encoder, decoder = (torch.load(folder / f"taef2_{half}.pth", weights_only=True) for half in ("encoder", "decoder"))
    return {key: value.float() for key, value in encoder.items()}, {
        key: value.float() for key, value in decoder.items()
    }


@pytest.fixture
def random_taef2(tmp_path: Path) -> Path:
    save_taef2(tmp_path / "taef2")
    return tmp_path / "taef2"


def test_taef2_is_the_network_that_the_key_names_describe(random_taef2: Path) -> None:
    encoder, decoder = halves(random_taef2)
    vae = VAES["taef2"].at(str(random_taef2)).load()
    pixels = torch.rand(2, 3, 32, 48)
    latents = plain_encode(encoder, pixels)
    torch.testing.assert_close(vae.encode(pixels).mean, latents, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(vae.decode(latents), plain_decode(decoder, latents).clamp(0, 1), atol=1e-4, rtol=1e-4)
    assert vae.encode(pixels).mean.shape == (2, 32, 4, 6)
    assert vae.normalisation.kind == "identity"


def as_one_file(folder: Path) -> None:
    """The same weights as the Hub has them: one safetensors file, the decoder counted without its clamp."""
    encoder, decoder = halves(folder)
    whole = {f"encoder.layers.{key}": value for key, value in encoder.items()}
    for key, value in decoder.items():
        place, _, rest = key.partition(".")
        whole[f"decoder.layers.{int(place) - 1}.{rest}"] = value
    for path in folder.glob("*.pth"):
        path.unlink()
    save_file(whole, folder / "taef2.safetensors")


def test_the_file_on_the_hub_holds_the_same_network(random_taef2: Path) -> None:
    pixels = torch.rand(1, 3, 16, 16)
    before = VAES["taef2"].at(str(random_taef2)).load()
    latents = before.encode(pixels).mean
    as_one_file(random_taef2)
    after = VAES["taef2"].at(str(random_taef2)).load()
    assert torch.equal(after.encode(pixels).mean, latents)
    assert torch.equal(after.decode(latents), before.decode(latents))


def test_taef2_computes_in_bfloat16_and_refuses_float16(random_taef2: Path) -> None:
    row = VAES["taef2"].at(str(random_taef2))
    assert row.load(dtype="bfloat16").decode(torch.zeros(1, 32, 2, 2)).dtype == torch.float32
    with pytest.raises(VaeError, match="is not safe in float16"):
        row.load(dtype="float16")


def test_loading_taef2_leaves_the_callers_random_numbers_alone(random_taef2: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    VAES["taef2"].at(str(random_taef2)).load()
    assert torch.equal(torch.rand(4), expected)


# Layouts that do not fit ----------------------------------------------------------------------------------------------


def change(path: Path, edit: Any) -> None:
    weights = torch.load(path, weights_only=True)
    edit(weights)
    torch.save(weights, path)


def test_weights_without_the_pooled_blocks_are_refused(random_taef2: Path) -> None:
    def remove_pools(weights: Weights) -> None:
        for key in [key for key in weights if ".pool." in key]:
            del weights[key]

    for half in ("encoder", "decoder"):
        change(random_taef2 / f"taef2_{half}.pth", remove_pools)
    with pytest.raises(
        VaeError, match=r"do not fit the Taef2 network .*: 24 missing keys \(first: encoder.11.pool.0.weight"
    ):
        VAES["taef2"].at(str(random_taef2)).load()


def test_an_encoder_of_stride_32_is_refused(random_taef2: Path) -> None:
    # The first layers of the encoder for SANA's latents: half the width, two strides before the first block.
    def as_for_sana(weights: Weights) -> None:
        weights["0.weight"], weights["0.bias"] = torch.zeros(32, 3, 3, 3), torch.zeros(32)
        weights["2.weight"], weights["2.bias"] = torch.zeros(64, 32, 3, 3), torch.zeros(64)

    change(random_taef2 / "taef2_encoder.pth", as_for_sana)
    with pytest.raises(VaeError, match=r"1 unexpected keys \(first: encoder.2.bias\), 3 mismatched keys"):
        VAES["taef2"].at(str(random_taef2)).load()


def test_the_stock_tiny_autoencoder_refuses_taef2(random_taef2: Path, tmp_path: Path) -> None:
    official = {"encoder_block_out_channels": (64,) * 4, "decoder_block_out_channels": (64,) * 4}
    blocks = {"num_encoder_blocks": (1, 3, 3, 3), "num_decoder_blocks": (3, 3, 3, 1)}
    save_checkpoint(tmp_path / "stock", "taef1", latent_channels=32, **official, **blocks)
    as_one_file(random_taef2)
    shutil.copy(random_taef2 / "taef2.safetensors", tmp_path / "stock" / WEIGHTS)
    row = replace(VAES["taef1"], channels=32).at(str(tmp_path / "stock"))
    with pytest.raises(VaeError, match=r"do not fit the AutoencoderTiny of their config.json: 24 unexpected keys"):
        row.load()


def test_a_folder_without_taef2_says_what_was_expected(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "taef1", "taef1")
    with pytest.raises(VaeError) as caught:
        VAES["taef2"].at(str(tmp_path / "taef1")).load()
    assert str(caught.value) == (
        f"{tmp_path / 'taef1'} is no VAE folder: expected taef2.safetensors, or taef2_encoder.pth and "
        "taef2_decoder.pth, found no taef2.safetensors."
    )


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive at all"])
def test_a_damaged_file_is_refused(random_taef2: Path, content: bytes) -> None:
    (random_taef2 / "taef2_decoder.pth").write_bytes(content)
    with pytest.raises(VaeError, match="taef2_decoder.pth cannot be read as weights"):
        VAES["taef2"].at(str(random_taef2)).load()


def test_a_pickle_that_builds_anything_but_tensors_is_refused(random_taef2: Path) -> None:
    torch.save({"0.weight": Path("anything")}, random_taef2 / "taef2_encoder.pth")
    with pytest.raises(VaeError, match="taef2_encoder.pth cannot be read as weights"):
        VAES["taef2"].at(str(random_taef2)).load()
    torch.save([1, 2], random_taef2 / "taef2_encoder.pth")
    with pytest.raises(VaeError, match="taef2_encoder.pth holds no weights: expected tensors by name"):
        VAES["taef2"].at(str(random_taef2)).load()


# Real weights ---------------------------------------------------------------------------------------------------------


@NEEDS_REAL
def test_real_crops_stored_and_loaded_score_what_a_plain_forward_pass_scores(tmp_path: Path) -> None:
    crops = sorted(CROPS.glob("*.png"))[:3]
    for path in crops:
        (tmp_path / "crops" / "santa_monica").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "crops" / "santa_monica")
    vae = VAES["taef2"].at(str(REAL))
    plan = BuildPlan(
        source=folder_source(str(tmp_path / "crops")), vae=vae, metrics=(METRICS["psnr"],), batch_size=2, order="source"
    )
    manifest = build(plan, tmp_path / "out")
    assert manifest.latent_shape == (32, 32, 32)
    assert manifest.environment.memory_format == "channels_last"
    encoder, decoder = halves(REAL)
    latents = load_latents(tmp_path / "out", columns=["psnr"], vae=vae)
    decoded = latents.decode(latents.batch([0, 1, 2])["latent"])
    for row, path in enumerate(crops):
        truth = np.asarray(Image.open(path).convert("RGB"), np.float64)
        pixels = torch.from_numpy(truth).permute(2, 0, 1)[None].float() / 255
        stored = plain_encode(encoder, pixels).half().float()
        plain = plain_decode(decoder, stored)
        expected = psnr(plain, truth)
        assert float(latents[row]["psnr"]) == pytest.approx(expected, abs=0.01)
        assert psnr(decoded[row : row + 1], truth) == pytest.approx(expected, abs=0.01)
        assert 26 < expected < 34


def psnr(picture: torch.Tensor, truth: Any) -> float:
    """Of one decoded picture (1, 3, H, W), rounded to 8 bits."""
    seen = picture.mul(255).round().clamp(0, 255)[0].permute(1, 2, 0).double().numpy()
    return float(10 * np.log10(255**2 / np.mean((seen - truth) ** 2)))


@NEEDS_REAL
def test_tiles_of_taef2_show_seams_as_its_row_says() -> None:
    vae = VAES["taef2"].at(str(REAL)).load()
    truth = np.asarray(Image.open(min(CROPS.glob("*.png"))).convert("RGB"))
    pixels = torch.from_numpy(truth.copy()).permute(2, 0, 1)[None].float() / 255
    latents = vae.encode(pixels).mean
    whole = vae.decode(latents)
    rows = [torch.cat([vae.decode(cells) for cells in half.chunk(2, -1)], -1) for half in latents.chunk(2, -2)]
    error = (torch.cat(rows, -2) - whole).square().mean()
    assert -10 * torch.log10(error) < 35
    assert VAES["taef2"].tiling.startswith("none:")
