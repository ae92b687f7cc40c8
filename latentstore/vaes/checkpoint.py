"""What all families share: where weights lie, and that they are loaded whole or not at all.

A diffusers checkpoint is a folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``: a row's own
folder inside this package, a local one, or one of a Hub repository. A *family* says what its class's configuration
means and how the class is called; ``Family`` does the rest, the same for all.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import VaeError
from latentstore.garbage import collection_paused
from latentstore.hub.models import commit_of, fetch_files
from latentstore.records import LatentBatch
from latentstore.vaes.interface import LoadOptions, VaeIdentity, VaeRow

if TYPE_CHECKING:
    import torch

    from latentstore.normalisation import Normalisation

PACKAGED = Path(__file__).parent / "weights"
CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
KEYS_AT_FAULT = ("missing", "unexpected", "mismatched")


@dataclass(frozen=True)
class Shape:
    """What a configuration says of the latents it makes, to be held against the row."""

    channels: int
    stride: int
    image_channels: int


@dataclass(frozen=True)
class Family:
    """One family of diffusers autoencoders, callable as a row's ``family``.

    ``encode`` and ``decode`` take the model and speak its language: pixels (N, 3, H, W) in [-1, 1], raw latents
    (N, C, h, w), both in the model's dtype.
    """

    shape: Callable[[Any], Shape]
    """Of the model's configuration."""
    normalisation: Callable[[Any, Path], Normalisation]
    """Of the model's configuration, and its weights file where the numbers are in there."""
    encode: Callable[[Any, torch.Tensor], LatentBatch]
    decode: Callable[[Any, torch.Tensor], torch.Tensor]

    def __call__(self, row: VaeRow, options: LoadOptions) -> DiffusersVae:
        """The row's checkpoint; VaeError where a file is missing or does not fit the row."""
        refuse_unsafe_dtype(row, options)
        folder = folder_of(row)
        refuse_other_class(row, folder / CONFIG)
        with ThreadPoolExecutor(1) as beside:  # hashing needs no interpreter, importing needs it all the time
            identity = beside.submit(identity_of, row, [folder / WEIGHTS])
            model = _pretrained(row, folder, options)
            refuse_other_shape(row, self.shape(model.config))
            normalisation = self.normalisation(model.config, folder / WEIGHTS)
            refuse_other_normalisation(row, normalisation, folder)
            return DiffusersVae(
                row=row,
                options=options,
                identity=identity.result(),
                normalisation=normalisation,
                model=placed(row, model, options),
                family=self,
            )


@dataclass(frozen=True)
class DiffusersVae:
    """A model of diffusers in evaluation mode, behind the two methods of ``Vae``."""

    row: VaeRow
    options: LoadOptions
    identity: VaeIdentity
    normalisation: Normalisation
    model: Any
    family: Family

    def encode(self, pixels: torch.Tensor) -> LatentBatch:
        """See ``Vae.encode``."""
        import torch

        with torch.no_grad():
            there = pixels.to(self.options.device, non_blocking=pixels.is_pinned())
            return self.family.encode(self.model, there.to(self.model.dtype) * 2 - 1)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Vae.decode``."""
        import torch

        with torch.no_grad():
            decoded = self.family.decode(self.model, latents.to(self.options.device, self.model.dtype))
            return (decoded.float() / 2 + 0.5).clamp(0, 1)


def encode_gaussian(model: Any, pixels: torch.Tensor) -> LatentBatch:
    """``Family.encode`` of every class whose encoder gives a diagonal Gaussian: its mean and std."""
    posterior = model.encode(pixels).latent_dist
    return LatentBatch(mean=posterior.mean.float(), std=posterior.std.float())


def decode_sample(model: Any, latents: torch.Tensor) -> torch.Tensor:
    """``Family.decode`` of every class that takes the latents as they are."""
    decoded: torch.Tensor = model.decode(latents).sample
    return decoded


def refuse_unsafe_dtype(row: VaeRow, options: LoadOptions) -> None:
    """VaeError for float16 where the row does not allow it."""
    if options.dtype == "float16" and not row.float16_safe:
        raise VaeError(f"VAE {row.name!r} is not safe in float16 ({row.float16_reason}); use float32 or bfloat16.")


def folder_of(row: VaeRow, choices: Iterable[Sequence[str]] = ((CONFIG, WEIGHTS),)) -> Path:
    """The local folder with the files of one of the choices: packaged, given, or fetched from the Hub into its cache.

    A local folder may hold any of the choices, the Hub is asked for the first. VaeError says what is not there.
    """
    wanted = [tuple(files) for files in choices]
    if row.packaged:
        return PACKAGED / row.packaged
    local = Path(row.repo).expanduser()
    if local.is_dir():
        return _checked(row, local / row.subfolder if row.subfolder else local, wanted)
    if local.is_absolute() or row.repo.startswith((".", "~")) or row.repo.count("/") != 1:
        raise VaeError(f"There is no folder {row.repo!r} to read VAE {row.name!r} from.")
    return _checked(row, _downloaded(row, wanted[0]), wanted)


def _checked(row: VaeRow, folder: Path, choices: list[tuple[str, ...]]) -> Path:
    if any(all((folder / name).is_file() for name in files) for files in choices):
        return folder
    found = [name for files in choices for name in files if (folder / name).is_file()]
    if CONFIG in found:
        raise VaeError(
            f"{folder} has no {WEIGHTS}, so VAE {row.name!r} cannot be loaded (pickled weights are refused)."
        )
    expected = ", or ".join(" and ".join(files) for files in choices)
    missing = next(name for name in choices[0] if not (folder / name).is_file())
    nested = sorted(str(place.parent.relative_to(folder)) for place in folder.glob(f"*/{choices[0][0]}"))
    hint = f" It holds subfolders with one: {', '.join(nested)}; name that folder." if nested else ""
    raise VaeError(f"{folder} is no VAE folder: expected {expected}, found no {missing}.{hint}")


def _downloaded(row: VaeRow, files: Sequence[str]) -> Path:
    prefix = f"{row.subfolder}/" if row.subfolder else ""
    return fetch_files(row.repo, [prefix + name for name in files], revision=row.revision, gated=row.gated)[0].parent


def configuration(path: Path) -> dict[str, Any]:
    """The JSON object in a config.json; VaeError where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VaeError(f"{path} cannot be read as a configuration: {error}") from error
    if not isinstance(found, dict):
        raise VaeError(f"{path} is no configuration: expected a JSON object.")
    return found


def refuse_other_class(row: VaeRow, config: Path) -> None:
    """VaeError where a configuration names another class than the row's."""
    found = configuration(config).get("_class_name", row.class_name)
    if row.class_name and found != row.class_name:
        raise VaeError(
            f"{config.parent} holds {found}, but VAE {row.name!r} is {row.class_name}: another family's weights "
            "would give wrong pictures; choose a VAE of that class (latentstore list vaes --json names the classes)."
        )


def refuse_other_shape(row: VaeRow, found: Shape) -> None:
    """VaeError where a model's latents are not those of the row."""
    expected = Shape(row.channels, row.stride, 3)
    if found != expected:
        message = "VAE {!r} has {} latent channels, stride {} and {} image channels, its row says {}, {} and {}."
        numbers = [
            number for shape in (found, expected) for number in (shape.channels, shape.stride, shape.image_channels)
        ]
        raise VaeError(message.format(row.name, *numbers))


def refuse_other_normalisation(row: VaeRow, found: Normalisation, folder: Path) -> None:
    """VaeError where the row knows the numbers of its model space and a checkpoint has others.

    Two families can share class and shape (SD 3.5 and FLUX.1 do); their scales tell them apart.
    """
    known = row.normalisation
    if known is None:
        return
    ours, theirs = ((one.scale, one.shift, *one.mean, *one.std) for one in (known, found))
    same = found.kind == known.kind and len(ours) == len(theirs) and np.allclose(ours, theirs, rtol=1e-6, atol=0)
    if not same:
        raise VaeError(
            f"{folder} is not VAE {row.name!r}: its configuration has the normalisation {_in_words(found)}, the row "
            f"{_in_words(known)}."
        )


def _in_words(numbers: Normalisation) -> str:
    parts = [f"scale {numbers.scale:g}"]
    parts += [f"shift {numbers.shift:g}"] if numbers.shift else []
    parts += [f"mean {numbers.mean[0]:g}, …, std {numbers.std[0]:g}, …"] if numbers.mean else []
    return f"{numbers.kind} ({', '.join(parts)})"


def refuse_partial(folder: Path, what: str, keys: Mapping[str, Sequence[Any]]) -> None:
    """VaeError where weights and model do not match key by key; ``keys`` are by the words in ``KEYS_AT_FAULT``."""
    wrong = {kind: keys[kind] for kind in KEYS_AT_FAULT if keys.get(kind)}
    if wrong:
        counts = ", ".join(f"{len(found)} {kind} keys (first: {found[0]})" for kind, found in wrong.items())
        raise VaeError(f"The weights in {folder} do not fit the {what}: {counts}.")


def identity_of(row: VaeRow, weights: Sequence[Path]) -> VaeIdentity:
    """Which weights these are: sha256 over the bytes of the files, one after another."""
    digest = hashlib.sha256()
    for path in weights:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return VaeIdentity(
        class_name=row.class_name,
        repo=row.repo or None,
        revision=commit_of(weights[0]) or row.revision,
        weights_sha256=digest.hexdigest(),
    )


def placed(row: VaeRow, model: Any, options: LoadOptions) -> Any:
    """The model in evaluation mode, without gradients, on its device and in the row's memory format."""
    import torch

    last = {4: torch.channels_last, 5: torch.channels_last_3d} if row.memory_format == "channels_last" else {}
    model.requires_grad_(requires_grad=False)
    model.eval().to(options.device)
    for numbers in model.parameters():
        numbers.data = numbers.data.contiguous(memory_format=last.get(numbers.ndim, torch.contiguous_format))
    return model


@contextmanager
def _silent_diffusers() -> Iterator[None]:
    """Without its warnings of configuration keys that a class does not use; TAESD's own config.json has such."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def _pretrained(row: VaeRow, folder: Path, options: LoadOptions) -> Any:
    with collection_paused():
        import diffusers
        import torch

        kind = getattr(diffusers, row.class_name, None)  # imports it, and three thousand modules
    if kind is None:
        raise VaeError(
            f"diffusers {diffusers.__version__} has no class {row.class_name} for VAE {row.name!r}: "
            "pip install --upgrade diffusers"
        )
    with _silent_diffusers():
        try:
            model, report = kind.from_pretrained(
                folder,
                torch_dtype=getattr(torch, options.dtype),
                output_loading_info=True,
                low_cpu_mem_usage=False,
                local_files_only=True,
            )
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise VaeError(f"{folder} cannot be loaded as {row.class_name} for VAE {row.name!r}: {reason}") from error
    keys = {kind: report.get(f"{kind}_keys") or () for kind in KEYS_AT_FAULT}
    refuse_partial(folder, f"{row.class_name} of their {CONFIG}", keys)
    return model
