"""The AutoencoderKL family of diffusers: from a Hub repository, a subfolder of one, a local folder, or this package.

diffusers encodes pixels in [-1, 1] to a diagonal Gaussian; its mean is the raw latent. Which normalisation the
family's pipelines apply is read from the model's own configuration (diffusers 0.42):

    latents_mean and latents_std given   (z - mean) * scaling_factor / std   StableDiffusionXLPipeline
    shift_factor given                   (z - shift_factor) * scaling_factor StableDiffusion3Pipeline, FluxPipeline
    otherwise                            z * scaling_factor                  StableDiffusionPipeline
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstore.errors import VaeError
from latentstore.hashing import sha256_of
from latentstore.normalisation import Normalisation
from latentstore.records import LatentBatch
from latentstore.vaes.interface import LoadOptions, VaeIdentity, VaeRow

if TYPE_CHECKING:
    import torch

PACKAGED = Path(__file__).parent / "weights"
CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class KlVae:
    """An AutoencoderKL in evaluation mode."""

    row: VaeRow
    options: LoadOptions
    identity: VaeIdentity
    normalisation: Normalisation
    model: Any

    def encode(self, pixels: torch.Tensor) -> LatentBatch:
        """See ``Vae.encode``; ``std`` is the posterior's."""
        import torch

        with torch.no_grad():
            centred = pixels.to(self.options.device, self.model.dtype) * 2 - 1
            posterior = self.model.encode(centred).latent_dist
            return LatentBatch(mean=posterior.mean.float(), std=posterior.std.float())

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Vae.decode``."""
        import torch

        with torch.no_grad():
            decoded = self.model.decode(latents.to(self.options.device, self.model.dtype)).sample
            pixels: torch.Tensor = (decoded.float() / 2 + 0.5).clamp(0, 1)
            return pixels


def load_kl(row: VaeRow, options: LoadOptions) -> KlVae:
    """The family of AutoencoderKL checkpoints; raises VaeError where a file is missing or does not fit the row."""
    if options.dtype == "float16" and not row.float16_safe:
        raise VaeError(f"VAE {row.name!r} is not safe in float16 (it may overflow); use float32 or bfloat16.")
    folder = _folder(row)
    model = _model(row, folder, options)
    _check_fits(row, model)
    return KlVae(
        row=row,
        options=options,
        identity=VaeIdentity(
            class_name="AutoencoderKL",
            repo=row.repo or None,
            revision=_resolved_revision(folder) or row.revision,
            weights_sha256=sha256_of(folder / WEIGHTS),
        ),
        normalisation=normalisation_of(model.config),
        model=model,
    )


def normalisation_of(config: Any) -> Normalisation:
    """The normalisation that a diffusers configuration asks for (see the top of this file)."""
    scale = float(config.scaling_factor)
    if config.latents_mean is not None and config.latents_std is not None:
        mean, std = (tuple(float(x) for x in numbers) for numbers in (config.latents_mean, config.latents_std))
        return Normalisation("mean_std", scale=scale, mean=mean, std=std)
    if config.shift_factor is not None:
        return Normalisation("scale_shift", scale=scale, shift=float(config.shift_factor))
    return Normalisation("scale", scale=scale)


def config_path(row: VaeRow) -> Path:
    """Where the checkpoint's config.json is (fetched from the Hub where needed); raises VaeError."""
    return _folder(row) / CONFIG


def _folder(row: VaeRow) -> Path:
    """The local folder with config and weights: packaged, given, or fetched from the Hub into its cache."""
    if row.packaged:
        return PACKAGED / row.packaged
    local = Path(row.repo).expanduser()
    if local.is_dir():
        return _checked(row, local / row.subfolder if row.subfolder else local)
    if local.is_absolute() or row.repo.startswith((".", "~")) or row.repo.count("/") != 1:
        raise VaeError(f"There is no folder {row.repo!r} to read VAE {row.name!r} from.")
    return _checked(row, _downloaded(row))


def _checked(row: VaeRow, folder: Path) -> Path:
    if not (folder / CONFIG).is_file():
        nested = sorted(str(found.parent.relative_to(folder)) for found in folder.glob(f"*/{CONFIG}"))
        hint = f" It holds subfolders with one: {', '.join(nested)}; name that folder." if nested else ""
        raise VaeError(f"{folder} is no VAE folder: expected {CONFIG} and {WEIGHTS}, found no {CONFIG}.{hint}")
    if not (folder / WEIGHTS).is_file():
        raise VaeError(
            f"{folder} has no {WEIGHTS}, so VAE {row.name!r} cannot be loaded (pickled weights are refused)."
        )
    return folder


def _downloaded(row: VaeRow) -> Path:
    from latentstore.hub import fetch_files

    prefix = f"{row.subfolder}/" if row.subfolder else ""
    config, _ = fetch_files(row.repo, [prefix + CONFIG, prefix + WEIGHTS], revision=row.revision)
    return config.parent


def _model(row: VaeRow, folder: Path, options: LoadOptions) -> Any:
    import torch
    from diffusers import AutoencoderKL

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers warns of configuration keys that other classes know
        try:
            model, report = AutoencoderKL.from_pretrained(
                folder,
                torch_dtype=getattr(torch, options.dtype),
                output_loading_info=True,
                low_cpu_mem_usage=False,
                local_files_only=True,
            )
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise VaeError(f"{folder} cannot be loaded as AutoencoderKL for VAE {row.name!r}: {reason}") from error
    wrong = {kind: report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if report.get(kind)}
    if wrong:
        counts = ", ".join(f"{len(keys)} {kind.replace('_', ' ')} (first: {keys[0]})" for kind, keys in wrong.items())
        raise VaeError(f"The weights in {folder} do not fit the AutoencoderKL of their {CONFIG}: {counts}.")
    model.requires_grad_(requires_grad=False)
    return model.eval().to(options.device, memory_format=torch.channels_last)


def _check_fits(row: VaeRow, model: Any) -> None:
    config = model.config
    found = (config.latent_channels, 2 ** (len(config.block_out_channels) - 1), config.in_channels)
    expected = (row.channels, row.stride, 3)
    if found != expected:
        message = "VAE {!r} has {} latent channels, stride {} and {} image channels, its row says {}, {} and {}."
        raise VaeError(message.format(row.name, *found, *expected))


def _resolved_revision(folder: Path) -> str | None:
    """The commit a cached Hub folder holds: ``…/snapshots/<commit>/…``."""
    parts = folder.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-1] else None
