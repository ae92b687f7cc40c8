"""What all families share: where weights lie, and that they are loaded whole or not at all.

A diffusers checkpoint is a folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``: a row's own
folder inside this package, a local one, or one of a Hub repository. A *family* says what its class's configuration
means and how the class is called; ``Family`` does the rest, the same for all.

Somebody else may have written these files. Two of them are read, each once, and no other file of the folder: the
sha256 is that of the very bytes that the numbers are taken from. A configuration is data for the constructor of the
row's class: nothing that it names is imported, quantised weights are refused, and the model is laid out without memory
and held against the weights before any number is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import ManifestError, VaeError
from latentstore.garbage import collection_paused
from latentstore.hub.models import commit_of, fetch_files
from latentstore.records import LatentBatch
from latentstore.system.safe_paths import is_safe_path
from latentstore.vaes.interface import LoadOptions, VaeIdentity, VaeRow

if TYPE_CHECKING:
    import torch

    from latentstore.normalisation import Normalisation

PACKAGED = Path(__file__).parent / "weights"
CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
"""Says which of several files holds which weights; never read."""
KEYS_AT_FAULT = ("missing", "unexpected", "mismatched")

# What a configuration may ask for: far above every VAE there is, far below what fills a machine.
CONFIG_BYTES = 1 << 20
LARGEST_NUMBER = 1 << 20
MOST_BLOCKS = 32
"""Entries of a list of blocks, and layers of a block."""
COUNTED = ("layers", "blocks", "depth")
"""Words in the names of settings that say how often something is built."""
ONE_A_CHANNEL = ("latents_mean", "latents_std")
"""Lists with an entry for each channel."""
HEADER_BYTES = 100 << 20
"""Of a weights file beside its numbers; safetensors itself reads no larger header."""
LARGEST_NUMBER_BYTES = 8
"""Of one number in a weights file."""


@dataclass(frozen=True)
class Shape:
    """What a configuration says of the latents it makes, to be held against the row."""

    channels: int
    stride: int
    image_channels: int


@dataclass(frozen=True)
class Weights:
    """Weights as their file holds them, read once."""

    path: Path
    tensors: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Family:
    """One family of diffusers autoencoders, callable as a row's ``family``.

    ``encode`` and ``decode`` take the model and speak its language: pixels (N, 3, H, W) in [-1, 1], raw latents
    (N, C, h, w), both in the model's dtype.
    """

    shape: Callable[[Any], Shape]
    """Of the model's configuration."""
    normalisation: Callable[[Any, Weights], Normalisation]
    """Of the model's configuration, and its weights where the numbers are among them."""
    encode: Callable[[Any, torch.Tensor], LatentBatch]
    decode: Callable[[Any, torch.Tensor], torch.Tensor]

    def __call__(self, row: VaeRow, options: LoadOptions) -> DiffusersVae:
        """The row's checkpoint; VaeError where a file is missing or does not fit the row."""
        refuse_unsafe_dtype(row, options)
        folder = folder_of(row)
        config = configuration(folder / CONFIG)
        refuse_other_class(row, folder, config)
        with ThreadPoolExecutor(1) as beside, _said_plainly(row, folder):
            model = _laid_out(row, config)
            refuse_other_shape(row, self.shape(model.config))
            stored = read_once(folder / WEIGHTS, _most_bytes(model))
            identity = beside.submit(identity_of, row, {folder / WEIGHTS: stored})  # hashing needs no interpreter
            weights = Weights(folder / WEIGHTS, tensors_in(stored))
            _refuse_unfitting(model, weights, row)
            normalisation = self.normalisation(model.config, weights)
            refuse_other_normalisation(row, normalisation, folder)
            return DiffusersVae(
                row=row,
                options=options,
                identity=identity.result(),
                normalisation=normalisation,
                model=placed(row, _filled(model, weights, options), options),
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
    if row.subfolder and not is_safe_path(row.subfolder):
        raise VaeError(f"Expected a folder below {row.repo!r} for VAE {row.name!r}, found {row.subfolder!r}.")
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
        several = "; weights in several files are not read: save them as one" if (folder / INDEX).is_file() else ""
        raise VaeError(
            f"{folder} has no {WEIGHTS}, so VAE {row.name!r} cannot be loaded (pickled weights are refused{several})."
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
    """The JSON object in a config.json; VaeError where there is none, or it asks for what no VAE is."""
    try:
        found = json.loads(read_once(path, CONFIG_BYTES).decode())
        if not isinstance(found, dict):
            raise VaeError(f"{path} is no configuration: expected a JSON object.")
        _refuse_absurd(path, found)
    except (ValueError, RecursionError) as error:
        reason = "its brackets are too deep" if isinstance(error, RecursionError) else error
        raise VaeError(f"{path} cannot be read as a configuration: {reason}") from error
    return found


def _refuse_absurd(path: Path, found: Mapping[str, Any]) -> None:
    """VaeError where building what a configuration describes would cost more than any VAE does."""
    if found.get("quantization_config") is not None:
        raise VaeError(
            f"{path} describes quantised weights (quantization_config), which are not read: save them as they were."
        )
    for name, value in found.items():
        largest = MOST_BLOCKS if any(word in name for word in COUNTED) else LARGEST_NUMBER
        longest = LARGEST_NUMBER if name in ONE_A_CHANNEL else MOST_BLOCKS
        pending = [value]
        while pending:
            one = pending.pop()
            inner = [*one.values()] if isinstance(one, dict) else one if isinstance(one, list) else []
            pending += inner
            number = one if isinstance(one, (int, float)) else 0
            if len(inner) > longest or not abs(number) <= largest:  # NaN is not less than anything
                what = f"{len(inner):,} entries" if inner else str(number)[:20]
                raise VaeError(f"{path} is no configuration of a VAE: found {what} in {name!r}.")


def read_once(path: Path, most: int) -> bytes:
    """The bytes of a file that somebody else may have written; VaeError where it is none, or has more than ``most``."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise VaeError(f"{path} is no file.")
            if found.st_size > most:
                raise VaeError(f"{path} has {found.st_size:,} bytes, expected {most:,} at most.")
            return file.read(found.st_size)  # and no more, where it grows meanwhile
    except OSError as error:
        raise VaeError(f"{path} cannot be read: {error.strerror or error}") from error


def refuse_other_class(row: VaeRow, folder: Path, config: Mapping[str, Any]) -> None:
    """VaeError where a configuration names another class than the row's."""
    found = config.get("_class_name", row.class_name)
    if row.class_name and found != row.class_name:
        raise VaeError(
            f"{folder} holds {found}, but VAE {row.name!r} is {row.class_name}: another family's weights "
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
    """VaeError where the row knows the numbers of its model space and a checkpoint has others, or senseless ones.

    Two families can share class and shape (SD 3.5 and FLUX.1 do); their scales tell them apart.
    """
    try:
        found.validate(row.channels)
    except ManifestError as error:
        raise VaeError(f"{folder} has no normalisation that can be undone: {error.field}: {error.message}.") from error
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


def identity_of(row: VaeRow, weights: Mapping[Path, bytes]) -> VaeIdentity:
    """Which weights these are: sha256 over the bytes that were read of the files, one after another."""
    digest = hashlib.sha256()
    for stored in weights.values():
        digest.update(stored)
    return VaeIdentity(
        class_name=row.class_name,
        repo=row.repo or None,
        revision=commit_of(next(iter(weights))) or row.revision,
        weights_sha256=digest.hexdigest(),
    )


def tensors_in(stored: bytes) -> dict[str, torch.Tensor]:
    """The tensors in the bytes of a safetensors file, by name; SafetensorError where it is none."""
    from safetensors.torch import load

    found: dict[str, torch.Tensor] = load(stored)
    return found


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


@contextmanager
def _said_plainly(row: VaeRow, folder: Path) -> Iterator[None]:
    """What a configuration or weights make diffusers, torch and safetensors raise is a VaeError, in one sentence."""
    try:
        yield
    except VaeError:
        raise
    except Exception as error:  # constructors raise anything at all on values that they do not expect
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise VaeError(f"{folder} cannot be loaded as {row.class_name} for VAE {row.name!r}: {reason}") from error


def _laid_out(row: VaeRow, config: Mapping[str, Any]) -> Any:
    """The model of a configuration, without memory for its numbers."""
    with collection_paused():
        import diffusers
        import torch

        kind = getattr(diffusers, row.class_name, None)  # imports it, and three thousand modules
    if kind is None:
        raise VaeError(
            f"diffusers {diffusers.__version__} has no class {row.class_name} for VAE {row.name!r}: "
            "pip install --upgrade diffusers"
        )
    with _silent_diffusers(), torch.device("meta"):
        return kind.from_config(dict(config))


def _most_bytes(model: Any) -> int:
    """Of a file with the weights of this model, however wide its numbers are."""
    numbers: int = sum(tensor.numel() for tensor in model.state_dict().values())
    return HEADER_BYTES + LARGEST_NUMBER_BYTES * numbers


def _refuse_unfitting(model: Any, weights: Weights, row: VaeRow) -> None:
    """VaeError where the weights do not fit the model key by key."""
    model._fix_state_dict_keys_on_load(weights.tensors)  # noqa: SLF001 - of attention, before diffusers 0.12
    what = f"{row.class_name} of their {CONFIG}"
    refuse_partial(weights.path.parent, what, keys_at_fault(model.state_dict(), weights.tensors))


def _filled(model: Any, weights: Weights, options: LoadOptions) -> Any:
    """The model with its weights, which are taken out of ``weights`` one by one, in the dtype asked for."""
    import torch

    dtype = getattr(torch, options.dtype)
    # Memory of their own: kernels round differently where numbers lie at odd addresses.
    own = {
        key: weights.tensors.pop(key).to(dtype if empty.is_floating_point() else empty.dtype, copy=True)
        for key, empty in model.state_dict().items()
    }
    model.load_state_dict(own, assign=True)
    if any(numbers.is_meta for numbers in (*model.parameters(), *model.buffers())):
        raise VaeError(f"{type(model).__name__} of this diffusers needs numbers that no weights file holds.")
    return model


def keys_at_fault(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> dict[str, list[str]]:
    """Keys of weights that a model lacks, has no place for, or has in another shape; see ``refuse_partial``."""
    return {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "mismatched": [key for key in expected if key in found and found[key].shape != expected[key].shape],
    }
