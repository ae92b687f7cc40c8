"""Pictures of any size through VAEs of any stride: padded, decoded, cropped back; and model spaces of another shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoints import shrunk_row
from scenes import scenes, write_pictures

from latentstore import VAES, BuildPlan, Manifest, Preparation, VaeRow, build, folder_source, load_latents, verify
from latentstore.errors import RequestError


def build_pictures(tmp_path: Path, row: VaeRow, sizes: dict[str, tuple[int, int]]) -> Manifest:
    folder = write_pictures(tmp_path / "pictures", sizes)
    return build(BuildPlan(source=folder_source(str(folder)), vae=row, batch_size=2, order="source"), tmp_path / "out")


def test_aid_is_padded_to_608_for_sana() -> None:
    padded = Preparation().padded_size((600, 600), VAES["sana"].pad_to)
    assert padded == (608, 608)


def test_a_picture_of_600_goes_through_dc_and_comes_back_at_600(tmp_path: Path) -> None:
    row = shrunk_row(tmp_path / "sana", "sana")
    manifest = build_pictures(tmp_path, row, {"a/one.png": (600, 600)})
    assert manifest.latent_shape == (32, 19, 19)
    latents = load_latents(tmp_path / "out", decode=True, columns=["height", "width"], trust=True)
    sample = latents[0]
    assert sample["latent"].shape == (32, 19, 19)
    assert sample["image"].shape == (3, 600, 600)
    assert (int(sample["height"]), int(sample["width"])) == (600, 600)


@pytest.mark.parametrize(("size", "cells"), [((75, 75), (3, 3)), ((33, 64), (2, 2)), ((5, 7), (1, 1))])
def test_sizes_between_the_strides_and_below_one_cell(
    size: tuple[int, int], cells: tuple[int, int], tmp_path: Path
) -> None:
    manifest = build_pictures(tmp_path, shrunk_row(tmp_path / "sana", "sana"), {"a/1.png": size, "b/2.png": size})
    assert manifest.latent_shape == (32, *cells)
    assert (manifest.quality["psnr"].n, manifest.size.pixels) == (2, 2 * size[0] * size[1])
    latents = load_latents(tmp_path / "out", trust=True)
    assert latents.decode(latents.batch([0, 1])["latent"]).shape == (2, 3, *size)
    assert verify(tmp_path / "out", trust=True).ok


def test_flux2_pads_to_two_strides_and_is_loaded_in_its_own_shape(tmp_path: Path) -> None:
    row = shrunk_row(tmp_path / "flux2", "flux2")
    manifest = build_pictures(tmp_path, row, {"a/1.png": (40, 24), "b/2.png": (40, 24)})
    assert manifest.latent_shape == (32, 6, 4)  # 40 and 24 pixels are 5 and 3 cells: an odd number each
    assert (manifest.normalisation.kind, len(manifest.normalisation.mean)) == ("patch_batch_norm", 128)
    assert Manifest.from_json(manifest.to_json()) == manifest
    model, raw = (load_latents(tmp_path / "out", space=space, trust=True) for space in ("model", "raw"))
    assert (model.latent_shape, raw.latent_shape) == ((128, 3, 2), (32, 6, 4))
    ours, theirs = model.batch([0, 1])["latent"], raw.batch([0, 1])["latent"]
    assert ours.shape == (2, 128, 3, 2)
    torch.testing.assert_close(manifest.normalisation.to_raw(ours), theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.decode(ours), raw.decode(theirs), atol=1e-4, rtol=1e-4)
    assert model.decode(ours).shape == (2, 3, 40, 24)
    assert next(iter(model.loader(batch_size=2)))["latent"].shape == (2, 128, 3, 2)
    for dataset, latents in ((model, theirs), (raw, ours)):
        with pytest.raises(RequestError, match=r"Expected latents of shape \(N, .*\), found"):
            dataset.decode(latents)
    assert verify(tmp_path / "out", trust=True).ok


def test_taef2_pads_like_flux2_so_that_its_latents_can_cross() -> None:
    assert VAES["taef2"].pad_to == VAES["flux2"].pad_to == 16


def test_every_row_pads_to_a_multiple_of_its_stride() -> None:
    for row in VAES.values():
        assert row.pad_to % row.stride == 0
        plan = BuildPlan(source=scenes(), vae=row)
        assert all(side % row.pad_to == 0 for side in plan.preparation.padded_size((33, 50), row.pad_to))


def test_what_made_the_latents_is_recorded(tmp_path: Path) -> None:
    manifest = build_pictures(tmp_path, shrunk_row(tmp_path / "qwen", "qwen"), {"a/1.png": (16, 16)})
    assert manifest.vae.class_name == "AutoencoderKLQwenImage"
    assert (manifest.environment.dtype, manifest.environment.memory_format) == ("float32", "channels_last")
    assert manifest.build.plan["memory_format"] == "channels_last"
