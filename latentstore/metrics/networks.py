"""What the metrics that look through a network share: loading strictly, running each picture alike, own networks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from latentstore.errors import MetricError
from latentstore.metrics.interface import ExtractorRow

if TYPE_CHECKING:
    from pathlib import Path

    import torch

# Kernels round differently for another batch size, so there is only one: a CPU gains nothing from more than one.
_CPU_BATCH, _DEVICE_BATCH = 1, 16


def read_tensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], *, spare: Callable[[str], bool]
) -> dict[str, torch.Tensor]:
    """The tensors of a file, float32 on the CPU: exactly those named in ``shapes``; ``spare`` ones may be there too.

    Raises MetricError naming what is missing, unexpected or of another shape.
    """
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        found = {name: tensor for name, tensor in loaded.items() if name in shapes or not spare(name)}
        differ = sorted(set(found) ^ set(shapes)) or [n for n in shapes if tuple(found[n].shape) != shapes[n]]
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise MetricError(f"{path} holds no weights that torch can read: {reason}") from error
    if differ:
        raise MetricError(
            f"{path} does not hold the weights of this network: {len(differ)} tensors are missing, unexpected or of "
            f"another shape, {differ[0]} first."
        )
    return {name: tensor.to(torch.float32) for name, tensor in found.items()}


def run_alike(network: Callable[..., torch.Tensor], *pictures: torch.Tensor) -> torch.Tensor:
    """The rows that a network gives for N pictures (or pairs of them), one for each, whatever stands beside it.

    Batches are all of one size, the last filled up with repeats; convolutions are taken in full float32.
    """
    import torch

    size = _CPU_BATCH if pictures[0].device.type == "cpu" else _DEVICE_BATCH
    rows = []
    with torch.inference_mode(), _full_float32():
        for start in range(0, len(pictures[0]), size):
            parts = [batch[start : start + size] for batch in pictures]
            real = len(parts[0])
            if real < size:
                parts = [torch.cat([part, part[-1:].expand(size - real, -1, -1, -1)]) for part in parts]
            rows.append(network(*parts)[:real])
    return torch.cat(rows)


@contextmanager
def _full_float32() -> Iterator[None]:
    import torch

    # cuDNN's default is TF32, good to 1e-3 only.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def module_extractor(
    name: str, module: torch.nn.Module, features: int, *, protocol: str = "", weights_sha256: str = ""
) -> ExtractorRow:
    """A row for a network of your own, such as an encoder trained on remote sensing.

    It is called with float32 pictures (N, 3, H, W) in [0, 1] and gives (N, ``features``); scaling to its own size and
    range is its own business, and ``protocol`` should say what it does. The sha256, where none is given, is that of
    its tensors' names and bytes.
    """
    identity = weights_sha256 or _sha256_of_tensors(module.state_dict())
    said = protocol or f"Features of {name}, given pictures in [0, 1] of their own size"
    return ExtractorRow(name, features, said, lambda _: ModuleExtractor(module, identity))


class ModuleExtractor:
    """Any torch module as an extractor."""

    def __init__(self, module: torch.nn.Module, weights_sha256: str) -> None:
        self._module = module.eval()
        self.weights_sha256 = weights_sha256

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Features (N, D) of uint8 pictures (N, 3, H, W), on their device."""
        module = self._module.to(pictures.device)
        return run_alike(lambda part: module(part.float() / 255), pictures)


def _sha256_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
