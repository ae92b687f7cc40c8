"""Computing in spite of short memory and numbers that are not finite, in the way the plan says and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np

from latentstore.errors import RequestError
from latentstore.freed_memory import give_back, kept
from latentstore.garbage import collection_paused

if TYPE_CHECKING:
    import torch

    from latentstore.plan import BuildPlan

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""What torch says where it has no class for it: of memory that is not an accelerator's."""


def in_parts(compute: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> tuple[torch.Tensor, int]:
    """What ``compute`` gives for a batch (N, ...), and how many rows it was given at once.

    That is all N, or halves and halves of halves where memory is short. RequestError where one row is too many.
    """
    import torch

    rows = len(batch)
    while True:
        try:
            if rows >= len(batch):
                return compute(batch), len(batch)
            return torch.cat([compute(part) for part in torch.split(batch, rows)]), rows
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split(". ")[0].split())
        # Out here the failed attempt's tensors are gone with its traceback.
        give_back()
        if rows <= 1:
            raise RequestError(
                f"One picture of {'x'.join(map(str, batch.shape[1:]))} numbers does not fit into memory ({reason}): "
                "choose --tile or --crop, another --device, or --dtype bfloat16."
            )
        rows = -(-rows // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was short, on a CPU or an accelerator."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY)


def not_finite(batch: torch.Tensor) -> torch.Tensor:
    """(N,) bool: which rows of (N, C, H, W) hold a number that is not finite."""
    return ~batch.isfinite().flatten(1).all(dim=1)


@contextmanager
def as_planned(plan: BuildPlan) -> Iterator[None]:
    """Have torch compute as the plan says: with its threads on a CPU, with cuDNN's repeatable algorithms on CUDA.

    A caller's autocast and error state of numpy do not reach it. On a CPU memory that is freed is kept, which no number
    depends on. All these are settings of the process, or of the thread; they are put back. An accelerator's other
    kernels that the VAEs here use (matrix products, attention, interpolation forwards) are repeatable as they are.
    """
    with collection_paused():
        import torch

    cudnn = torch.backends.cudnn
    before = torch.get_num_threads(), cudnn.deterministic, cudnn.benchmark
    if plan.threads is not None and plan.device == "cpu":
        torch.set_num_threads(plan.threads)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with (
            torch.autocast(plan.device.partition(":")[0], enabled=False),
            np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"),
            kept() if plan.device == "cpu" else nullcontext(),
        ):
            yield
    finally:
        torch.set_num_threads(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]
