"""Model latents are what each family's own diffusers pipeline makes, and raw latents what it decodes.

No formula is written here: the methods run are those in the installed pipeline files. They are taken out of the files
by their syntax tree, because importing the files needs text encoders' packages that have no part in this.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import save_checkpoint, shrunk_row

from latentstore import VAES, flux2_to_taef2, taef2_to_flux2
from latentstore.errors import RequestError
from latentstore.normalisation import Normalisation
from latentstore.vaes.interface import Vae

SD, SDXL = "stable_diffusion/pipeline_stable_diffusion", "stable_diffusion_xl/pipeline_stable_diffusion_xl"
SD3, FLUX = "stable_diffusion_3/pipeline_stable_diffusion_3", "flux/pipeline_flux"
KEPT_DECORATORS = {"staticmethod", "property"}


@dataclass(frozen=True)
class Formula:
    """Where a family's pipeline goes from raw to model latents, and where it comes back to decode them."""

    encoder: str
    """``file:class:method``; empty where the family has no pipeline that starts from a picture."""
    decoder: str
    """``file:class``: the branch of its ``__call__`` that decodes."""
    frames: bool = False
    """Whether latents are (N, C, T, h, w) in there."""


PIPELINES = {
    "sd21": Formula(f"{SD}_img2img:StableDiffusionImg2ImgPipeline:prepare_latents", f"{SD}:StableDiffusionPipeline"),
    "sdxl": Formula(
        f"{SDXL}_img2img:StableDiffusionXLImg2ImgPipeline:prepare_latents", f"{SDXL}:StableDiffusionXLPipeline"
    ),
    "sd35": Formula(
        f"{SD3}_img2img:StableDiffusion3Img2ImgPipeline:prepare_latents", f"{SD3}:StableDiffusion3Pipeline"
    ),
    "flux1": Formula(f"{FLUX}_img2img:FluxImg2ImgPipeline:_encode_vae_image", f"{FLUX}:FluxPipeline"),
    "flux2": Formula(
        "flux2/pipeline_flux2:Flux2Pipeline:_encode_vae_image",
        "flux2/pipeline_flux2:Flux2Pipeline",
    ),
    "sana": Formula(
        "sana/pipeline_sana_sprint_img2img:SanaSprintImg2ImgPipeline:prepare_latents",
        "sana/pipeline_sana:SanaPipeline",
    ),
    "qwen": Formula(
        "qwenimage/pipeline_qwenimage_img2img:QwenImageImg2ImgPipeline:_encode_vae_image",
        "qwenimage/pipeline_qwenimage:QwenImagePipeline",
        frames=True,
    ),
    "wan21": Formula(
        "wan/pipeline_wan_video2video:WanVideoToVideoPipeline:prepare_latents",
        "wan/pipeline_wan:WanPipeline",
        frames=True,
    ),
    "hunyuan21": Formula("", "hunyuan_image/pipeline_hunyuanimage:HunyuanImagePipeline"),
}
# The same code with another checkpoint. A tiny VAE stands in for a large one in that one's own pipeline.
PIPELINES |= dict.fromkeys(("sd-vae-ft-mse", "taesd"), PIPELINES["sd21"])
PIPELINES |= dict.fromkeys(("sdxl-fp16-fix", "taesdxl"), PIPELINES["sdxl"])
PIPELINES |= {"taesd3": PIPELINES["sd35"], "taef1": PIPELINES["flux1"]}

NAMES = pytest.mark.parametrize("name", PIPELINES)


@functools.cache
def parsed(file: str) -> ast.Module:
    spec = importlib.util.find_spec("diffusers")
    assert spec is not None
    assert spec.origin is not None
    return ast.parse((Path(spec.origin).parent / "pipelines" / f"{file}.py").read_text(encoding="utf-8"))


def decorator_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def run_definitions(statements: list[ast.stmt]) -> dict[str, Any]:
    """What these definitions define, run with the names that the pipelines import and use in them."""
    from diffusers.utils.torch_utils import randn_tensor

    names: dict[str, Any] = {
        "torch": torch,
        "np": np,
        "inspect": inspect,
        "warnings": warnings,
        "PIL": SimpleNamespace(Image=SimpleNamespace(Image=())),
        "randn_tensor": randn_tensor,
        "get_module_execution_device": lambda _: torch.device("cpu"),
    }
    unread = ast.parse("from __future__ import annotations").body  # so that the names in annotations are not looked up
    module = ast.fix_missing_locations(ast.Module(body=[*unread, *statements], type_ignores=[]))
    exec(compile(module, "diffusers pipeline", "exec"), names)  # noqa: S102 (installed code, on purpose)
    return names


def methods_of(file: str, name: str, *wanted: str) -> Any:
    """An instance of the pipeline's class without its bases: these methods, and whatever of the file they use."""
    tree = parsed(file)
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    methods = {node.name: node for node in found.body if isinstance(node, ast.FunctionDef)}
    used, pending = set[str](), set(wanted)
    while pending:
        used |= pending
        nodes = [part for word in pending for part in ast.walk(methods[word] if word in methods else functions[word])]
        mentioned = {part.attr for part in nodes if isinstance(part, ast.Attribute)} & set(methods)
        mentioned |= {part.id for part in nodes if isinstance(part, ast.Name)} & set(functions)
        pending = mentioned - used
    for node in (*functions.values(), *methods.values()):
        node.decorator_list = [item for item in node.decorator_list if decorator_name(item) in KEPT_DECORATORS]
    kept: list[ast.stmt] = [node for word, node in methods.items() if word in used]
    body = ast.ClassDef(name=name, bases=[], keywords=[], body=kept, decorator_list=[])
    kind = run_definitions([*(node for word, node in functions.items() if word in used), body])[name]
    return kind.__new__(kind)


def decodes(node: ast.AST) -> bool:
    return any(
        ast.unparse(part).startswith("self.vae.decode(") for part in ast.walk(node) if isinstance(part, ast.Call)
    )


def decoding_of(file: str, name: str) -> Callable[..., None]:
    """The branch of ``__call__`` that ends in ``self.vae.decode``, as a function of (self, latents)."""
    (found,) = (node for node in parsed(file).body if isinstance(node, ast.ClassDef) and node.name == name)
    (call,) = (node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__call__")
    (choice,) = (
        node
        for node in ast.walk(call)
        if isinstance(node, ast.If) and "output_type" in ast.unparse(node.test) and decodes(node)
    )
    branch = choice.body if any(decodes(part) for part in choice.body) else choice.orelse
    last = next(place for place, part in enumerate(branch) if decodes(part))
    arguments = ast.parse("def decode(self, latents, height=0, width=0, latent_ids=None, generator=None): pass").body[0]
    assert isinstance(arguments, ast.FunctionDef)
    arguments.body = branch[: last + 1]
    decode: Callable[..., None] = run_definitions([arguments])["decode"]
    return decode


def by_pipeline(formula: Formula, model: Any, raw: torch.Tensor) -> torch.Tensor:
    """Model latents as the pipeline makes them of a picture whose raw latents are these."""
    file, name, method = formula.encoder.split(":")
    pipeline = methods_of(file, name, method)
    latents = raw[:, :, None] if formula.frames else raw
    encoded = SimpleNamespace(latents=latents, latent=latents)  # the two names encoders use for the latent itself
    pipeline.vae = SimpleNamespace(
        config=model.config,
        dtype=raw.dtype,
        bn=getattr(model, "bn", None),
        encode=lambda _: encoded,
        to=lambda *_, **__: None,
    )
    pipeline.vae_scale_factor = pipeline.vae_scale_factor_temporal = pipeline.vae_scale_factor_spatial = 8
    pipeline.scheduler = SimpleNamespace(
        add_noise=lambda latents, *_: latents,
        scale_noise=lambda latents, *_: latents,
        config=SimpleNamespace(sigma_data=1.0),  # of the scheduler, not of the latents
    )
    pixels = torch.zeros(1, 3, 16, 16)
    known = {
        "image": pixels,
        "video": pixels[:, :, None],
        "timestep": torch.zeros(1),
        "batch_size": 1,
        "num_images_per_prompt": 1,
        "num_channels_latents": raw.shape[1],
        "height": 16,
        "width": 16,
        "dtype": raw.dtype,
        "device": raw.device,
        "generator": None,
    }
    function = getattr(pipeline, method)
    wanted = {argument for argument in inspect.signature(function).parameters if argument in known}
    found: torch.Tensor = function(**{argument: known[argument] for argument in wanted})
    return found[:, :, 0] if formula.frames else found


def decoded_by_pipeline(formula: Formula, model: Any, latents: torch.Tensor) -> torch.Tensor:
    """Raw latents that the pipeline hands to its VAE's decoder for these model latents."""
    seen: list[torch.Tensor] = []

    def decode(raw: torch.Tensor, **_: Any) -> list[torch.Tensor]:
        seen.append(raw)
        return [torch.zeros(1, 3, 1, 16, 16)]

    file, name = formula.decoder.split(":")
    vae = SimpleNamespace(config=model.config, dtype=latents.dtype, bn=getattr(model, "bn", None), decode=decode)
    pipeline = SimpleNamespace(
        vae=vae,
        vae_scale_factor=8,
        image_processor=SimpleNamespace(postprocess=lambda image, **_: image),
        _unpack_latents=lambda latents, *_: latents,  # from the transformer's list of tokens back to a map
        _unpack_latents_with_ids=lambda latents, _: latents,
        run_safety_checker=lambda image, *_: (image, None),
    )
    if formula.decoder.endswith("Flux2Pipeline"):
        pipeline._unpatchify_latents = methods_of(file, name, "_unpatchify_latents")._unpatchify_latents
    decoding_of(file, name)(pipeline, latents[:, :, None] if formula.frames else latents)
    (raw,) = seen
    return raw[:, :, 0] if formula.frames else raw


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., tuple[Vae, Any, torch.Tensor]]:
    """(VAE through its row, the diffusers model, raw latents of random pixels) of a shrunk random checkpoint."""

    def load(name: str, **config: Any) -> tuple[Vae, Any, torch.Tensor]:
        model = save_checkpoint(tmp_path / name, name, **config)
        vae = VAES[name].at(str(tmp_path / name)).load()
        side = 2 * vae.row.pad_to
        return vae, model, vae.encode(torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))).mean

    return load


def assert_equal_to_rounding(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    size = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=4e-6 * max(1.0, size))


def test_every_row_with_weights_has_a_pipeline_here() -> None:
    assert set(PIPELINES) == {name for name, row in VAES.items() if row.repo} - {"taef2"}


# No HunyuanImage pipeline starts from a picture; its way back is tested below.
@pytest.mark.parametrize("name", [name for name, formula in PIPELINES.items() if formula.encoder])
def test_model_latents_are_those_of_the_pipeline(name: str, loaded: Any) -> None:
    vae, model, raw = loaded(name)
    assert_equal_to_rounding(vae.normalisation.to_model(raw), by_pipeline(PIPELINES[name], model, raw))


@NAMES
def test_raw_latents_are_what_the_pipeline_decodes(name: str, loaded: Any) -> None:
    vae, model, raw = loaded(name)
    latents = vae.normalisation.to_model(raw)
    assert_equal_to_rounding(vae.normalisation.to_raw(latents), decoded_by_pipeline(PIPELINES[name], model, latents))
    assert_equal_to_rounding(decoded_by_pipeline(PIPELINES[name], model, latents), raw)


@NAMES
def test_the_kind_of_normalisation_is_the_one_the_row_states(name: str, loaded: Any) -> None:
    vae, _, _ = loaded(name)
    assert vae.normalisation.kind == vae.row.normalisation_kind
    vae.normalisation.validate(vae.row.channels)


def test_an_sdxl_checkpoint_with_statistics_follows_its_pipeline_too(tmp_path: Path) -> None:
    from latentstore import kl_checkpoint

    statistics = {"latents_mean": [0.1, -0.2, 0.3, 4.0], "latents_std": [0.5, 1.5, 2.5, 0.25]}
    model = save_checkpoint(tmp_path / "vae", "sdxl", **statistics)
    vae = kl_checkpoint(str(tmp_path / "vae")).load()
    raw = vae.encode(torch.rand(1, 3, 16, 16)).mean
    latents = vae.normalisation.to_model(raw)
    assert vae.normalisation.kind == "mean_std"
    assert_equal_to_rounding(latents, by_pipeline(PIPELINES["sdxl"], model, raw))
    assert_equal_to_rounding(decoded_by_pipeline(PIPELINES["sdxl"], model, latents), raw)


@pytest.mark.parametrize("name", ["sd21", "sd35", "flux1"])
def test_other_numbers_in_the_configuration_change_the_pipeline_and_us_alike(name: str, tmp_path: Path) -> None:
    from latentstore import kl_checkpoint

    model = save_checkpoint(tmp_path / "vae", name, scaling_factor=2.5)
    vae = kl_checkpoint(str(tmp_path / "vae")).load()
    raw = vae.encode(torch.rand(1, 3, 16, 16)).mean
    assert_equal_to_rounding(vae.normalisation.to_model(raw), by_pipeline(PIPELINES[name], model, raw))


# FLUX.2 and TAEF2 -----------------------------------------------------------------------------------------------------


def test_flux2_model_latents_are_128_channels_at_half_the_size(loaded: Any) -> None:
    vae, model, raw = loaded("flux2")
    latents = vae.normalisation.to_model(raw)
    assert raw.shape == (1, 32, 4, 4)
    assert latents.shape == (1, 128, 2, 2)
    with torch.no_grad():
        assert_equal_to_rounding(latents, model.bn(torch.nn.functional.pixel_unshuffle(raw, 2)))


def test_taef2_latents_are_the_pipelines_flux2_latents_before_its_patches(loaded: Any) -> None:
    vae, model, raw = loaded("flux2")
    pipeline = methods_of("flux2/pipeline_flux2", "Flux2Pipeline", "_unpatchify_latents")
    by_its_code = pipeline._unpatchify_latents(by_pipeline(PIPELINES["flux2"], model, raw))
    tiny = flux2_to_taef2(raw, vae.normalisation)
    assert tiny.shape == raw.shape
    assert_equal_to_rounding(tiny, by_its_code)
    assert_equal_to_rounding(taef2_to_flux2(tiny, vae.normalisation), raw)


def test_crossing_needs_the_numbers_of_flux2() -> None:
    for cross in (flux2_to_taef2, taef2_to_flux2):
        with pytest.raises(
            RequestError, match=r"Expected the normalisation of FLUX.2 \(patch_batch_norm\), found scale"
        ):
            cross(torch.zeros(1, 32, 4, 4), Normalisation("scale", scale=2.0))


def test_the_statistics_of_flux2_are_the_128_numbers_of_its_weights(loaded: Any) -> None:
    vae, model, _ = loaded("flux2")
    numbers = vae.normalisation
    assert (numbers.kind, numbers.patch, len(numbers.mean), len(numbers.std)) == ("patch_batch_norm", 2, 128, 128)
    assert numbers.mean == tuple(model.bn.running_mean.double().tolist())
    np.testing.assert_allclose(np.square(numbers.std), model.bn.running_var.double().numpy() + 1e-4, rtol=1e-12)


def test_the_statistics_of_flux2_are_not_rounded_when_it_computes_in_bfloat16(tmp_path: Path) -> None:
    row = shrunk_row(tmp_path / "flux2", "flux2")
    assert row.load(dtype="bfloat16").normalisation == row.load().normalisation
