"""Checkpoints that somebody made to be loaded: what is hashed is what is loaded, and a config.json is only data."""

from __future__ import annotations

import hashlib
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import save_checkpoint, save_taef2, shrunk_row
from safetensors.torch import load, load_file, save, save_file

from latentstore import VAES
from latentstore.errors import VaeError
from latentstore.hashing import sha256_of
from latentstore.vaes import checkpoint, tiny
from latentstore.vaes.checkpoint import CONFIG, INDEX, WEIGHTS, DiffusersVae
from latentstore.vaes.table import kl_checkpoint

FIRST_KEY = "encoder.conv_in.weight"


def others(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of the same names and shapes, with other numbers."""
    return {key: numbers + 1 for key, numbers in load_file(folder / WEIGHTS).items()}


def loaded(folder: Path) -> tuple[str | None, torch.Tensor]:
    """The sha256 that is recorded of the weights, and the first of them as they were loaded."""
    vae = VAES["sd21"].at(str(folder)).load()
    assert isinstance(vae, DiffusersVae)
    return vae.identity.weights_sha256, vae.model.state_dict()[FIRST_KEY]


def write_index(folder: Path, file: str) -> None:
    keys = load_file(folder / WEIGHTS)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(keys, file)}))


@pytest.mark.parametrize("named", ["evil.safetensors", "evil.bin", "../outside.safetensors", "/etc/hostname"])
def test_an_index_beside_the_weights_changes_neither_hash_nor_numbers(tmp_path: Path, named: str) -> None:
    folder = tmp_path / "vae"
    save_checkpoint(folder, "sd21")
    truth = load_file(folder / WEIGHTS)[FIRST_KEY]
    save_file(others(folder), folder / "evil.safetensors", metadata={"format": "pt"})
    save_file(others(folder), tmp_path / "outside.safetensors", metadata={"format": "pt"})
    torch.save(others(folder), folder / "evil.bin")
    write_index(folder, named)
    sha256, numbers = loaded(folder)
    assert sha256 == sha256_of(folder / WEIGHTS)
    assert torch.equal(numbers, truth)


def test_no_other_file_of_the_folder_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "vae"
    save_checkpoint(folder, "sd21")
    for name in (INDEX, "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors", "modeling.py"):
        os.mkfifo(folder / name)  # whoever opens one waits for ever
    assert loaded(folder)[0] == sha256_of(folder / WEIGHTS)


@pytest.mark.parametrize("name", ["sd21", "flux2"])
def test_weights_that_are_swapped_meanwhile_are_hashed_as_they_were_loaded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = shrunk_row(tmp_path / "vae", name)
    path = tmp_path / "vae" / WEIGHTS
    before, swapped = path.read_bytes(), save(others(path.parent))
    truth = load(before)
    times: list[Path] = []

    def read_then_swapped(wanted: Path, most: int) -> bytes:
        found = checkpoint_read(wanted, most)
        if wanted == path:
            times.append(wanted)
            path.write_bytes(swapped)
        return found

    checkpoint_read = checkpoint.read_once
    monkeypatch.setattr(checkpoint, "read_once", read_then_swapped)
    vae = row.load()
    assert isinstance(vae, DiffusersVae)
    assert vae.identity.weights_sha256 == hashlib.sha256(before).hexdigest()
    found = vae.model.state_dict()
    assert {key for key in truth if not torch.equal(found[key], truth[key])} == set()
    if name == "flux2":
        assert vae.normalisation.mean == tuple(truth["bn.running_mean"].double().tolist())
    assert times == [path]


def test_taef2_is_hashed_as_it_was_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_taef2(tmp_path)
    before = [(tmp_path / f"taef2_{half}.pth").read_bytes() for half in ("encoder", "decoder")]

    def read_then_gone(path: Path, most: int) -> bytes:
        found = checkpoint_read(path, most)
        path.write_bytes(b"something else")
        return found

    checkpoint_read = checkpoint.read_once
    monkeypatch.setattr(tiny, "read_once", read_then_gone)
    assert (
        VAES["taef2"].at(str(tmp_path)).load().identity.weights_sha256 == hashlib.sha256(b"".join(before)).hexdigest()
    )


def test_weights_in_several_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "sd21")
    write_index(tmp_path, "diffusion_pytorch_model-00001-of-00001.safetensors")
    (tmp_path / WEIGHTS).rename(tmp_path / "diffusion_pytorch_model-00001-of-00001.safetensors")
    with pytest.raises(VaeError) as caught:
        loaded(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has no {WEIGHTS}, so VAE 'sd21' cannot be loaded (pickled weights are refused; weights in several "
        "files are not read: save them as one)."
    )


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[str], str]:
    """A config.json with this change made to it."""

    def edit(text: str) -> str:
        config: dict[str, Any] = json.loads(text)
        change(config)
        return json.dumps(config)

    return edit


ABSURD: dict[str, tuple[Callable[[str], str], str]] = {
    "channels": (edited(lambda c: c.update(block_out_channels=[8, 8, 8, 1 << 16])), "do not fit the AutoencoderKL"),
    "more channels": (edited(lambda c: c.update(block_out_channels=[8, 8, 8, 1 << 40])), "found 1099511627776 in"),
    "endless number": (lambda text: text.replace('"in_channels": 3', f'"in_channels": 1{"0" * 400}'), "found 100000"),
    "longer than Python reads": (
        lambda text: text.replace('"in_channels": 3', f'"in_channels": 1{"0" * 9000}'),
        "cannot be read as a configuration: Exceeds the limit",
    ),
    "layers": (edited(lambda c: c.update(layers_per_block=10**6)), "found 1000000 in 'layers_per_block'"),
    "blocks": (
        edited(lambda c: c.update(block_out_channels=[8] * 9999)),
        "found 9,999 entries in 'block_out_channels'",
    ),
    "no number": (edited(lambda c: c.update(scaling_factor=float("nan"))), "found nan in 'scaling_factor'"),
    "infinite": (lambda text: text.replace('"in_channels": 3', '"in_channels": 1e999'), "found inf in 'in_channels'"),
    "another type": (edited(lambda c: c.update(block_out_channels="abcd")), "cannot be loaded as AutoencoderKL"),
    "missing": (edited(lambda c: c.update(latent_channels=None)), "cannot be loaded as AutoencoderKL"),
    "division": (edited(lambda c: c.update(norm_num_groups=0)), "cannot be loaded as AutoencoderKL"),
    "brackets": (lambda _: "[" * 100_000, "cannot be read as a configuration: its brackets are too deep"),
    "inner brackets": (lambda _: '{"a": ' + "[" * 100_000, "its brackets are too deep"),
    "no text": (lambda _: "\x00", "cannot be read as a configuration"),
    "size": (lambda text: text + " " * (2 << 20), "expected 1,048,576 at most"),
    "quantised": (
        edited(lambda c: c.update(quantization_config={"quant_method": "gguf"})),
        "describes quantised weights (quantization_config), which are not read: save them as they were",
    ),
    "normalisation": (
        edited(lambda c: c.update(scaling_factor=0.0)),
        "has no normalisation that can be undone: scale:",
    ),
}


@pytest.mark.parametrize("attack", ABSURD)
def test_an_absurd_configuration_is_one_sentence(tmp_path: Path, attack: str) -> None:
    save_checkpoint(tmp_path, "sd21")
    edit, sentence = ABSURD[attack]
    (tmp_path / CONFIG).write_text(edit((tmp_path / CONFIG).read_text()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(VaeError) as caught:
        loaded(tmp_path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


def test_what_a_configuration_asks_to_be_imported_is_ignored(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "sd21")
    config = json.loads((tmp_path / CONFIG).read_text())
    asked = {"auto_map": {"AutoModel": "modeling.Evil"}, "custom_pipeline": "modeling", "_name_or_path": "/etc"}
    (tmp_path / "modeling.py").write_text("raise SystemExit('imported')")
    (tmp_path / CONFIG).write_text(json.dumps({**config, **asked}))
    assert loaded(tmp_path)[0] == sha256_of(tmp_path / WEIGHTS)


def test_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "sd21")
    (tmp_path / WEIGHTS).unlink()
    os.mkfifo(tmp_path / WEIGHTS)
    with pytest.raises(VaeError, match=f"has no {WEIGHTS}"):
        loaded(tmp_path)


def test_a_weights_file_larger_than_its_model_is_not_read(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "sd21")
    with (tmp_path / WEIGHTS).open("ab") as file:
        file.truncate(1 << 40)  # a hole: it takes no space
    with pytest.raises(VaeError, match=r"has 1,099,511,627,776 bytes, expected \S+ at most"):
        loaded(tmp_path)


@pytest.mark.parametrize("blocks", [0, 12])
def test_a_stride_that_no_vae_has_is_refused(tmp_path: Path, blocks: int) -> None:
    save_checkpoint(tmp_path, "sd21")
    edit = edited(lambda config: config.update(block_out_channels=[8] * blocks))
    (tmp_path / CONFIG).write_text(edit((tmp_path / CONFIG).read_text()))
    with pytest.raises(VaeError, match=f"is no AutoencoderKL configuration: expected 1 to 9 blocks, found {blocks}"):
        kl_checkpoint(str(tmp_path))


@pytest.mark.parametrize("subfolder", ["../vae", "/etc", "a/../../b"])
def test_a_subfolder_does_not_lead_out_of_its_repository(tmp_path: Path, subfolder: str) -> None:
    save_checkpoint(tmp_path / "vae", "sd21")
    with pytest.raises(VaeError, match="Expected a folder below"):
        kl_checkpoint(str(tmp_path), subfolder=subfolder)
