"""MixUp and CutMix: batches of a loader with two rows mixed into one, and soft labels that say in what proportion.

Both take the dict that a loader gives and return a new one, so they go between the loader and the network:

    for batch in loader:
        batch = mixup(batch, classes=len(ds.class_names), alpha=0.2)
        loss = cross_entropy(network(batch["latent"]), batch["label"])   # torch takes soft labels as they are

What they are not: an encoder is not linear, so the mean of two latents is *not* the latent of the mean of two pictures,
and a latent with a box of another one in it is the latent of neither collage, since an encoder sees beyond each cell.
They are regularisers of a network on latents, and good as far as they help on held-out rows. Flips and rotations are
worse off: a flipped latent is not the latent of the flipped picture, and unlike here the label claims that it is one.
Encode the flipped pictures as rows of their own and train on those.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from numpy.typing import NDArray


def mixup(
    batch: Mapping[str, Any],
    classes: int,
    alpha: float = 0.2,
    generator: torch.Generator | None = None,
    *,
    name: str = "latent",
) -> dict[str, Any]:
    """Each row mixed with another row of the batch: MixUp (Zhang et al. 2018, arXiv 1710.09412, equation 1).

    x = lambda x_i + (1 - lambda) x_j and y = lambda y_i + (1 - lambda) y_j, where lambda is drawn from
    Beta(alpha, alpha) once a batch and j is a random permutation of i. The paper finds alpha from 0.1 to 0.4 best.

    ``batch`` has ``name``, floats (N, ...), and ``label``, (N,) integers from 0 to ``classes`` - 1. The result has
    ``name`` mixed, ``label`` as (N, classes) float32 whose rows sum to 1, and every other column as it was, which is
    that of row i. ``generator`` (default: torch's own) decides lambda and the permutation. Raises RequestError where a
    row has no label (-1).
    """
    labels = _one_hot(batch, classes, name)
    random = _random(alpha, generator)
    kept = float(random.beta(alpha, alpha))
    partner = _partner(random, labels)
    values = batch[name]
    mixed = kept * values + (1 - kept) * values[partner.to(values.device)]
    return {**batch, name: mixed, "label": kept * labels + (1 - kept) * labels[partner]}


def cutmix(
    batch: Mapping[str, Any],
    classes: int,
    alpha: float = 1.0,
    generator: torch.Generator | None = None,
    *,
    name: str = "latent",
) -> dict[str, Any]:
    """A box of each row replaced by that of another row: CutMix (Yun et al. 2019, arXiv 1905.04899, equations 1 and 2).

    lambda is drawn from Beta(alpha, alpha); the box has the sides h sqrt(1 - lambda) and w sqrt(1 - lambda), rounded
    down to whole cells, about a cell drawn uniformly, and is cut off at the border. The label's share of row i is the
    exact share of cells that are still its own, not the lambda that was drawn. One box a batch, as the authors do.

    ``batch`` has ``name``, (N, C, h, w), and ``label``; see :func:`mixup` for these, the result, ``generator`` and
    errors. The paper uses alpha = 1.
    """
    labels = _one_hot(batch, classes, name)
    values = batch[name]
    if values.ndim != 4:
        raise RequestError(f"CutMix cuts boxes from {name!r} of shape (N, C, h, w), found {tuple(values.shape)}.")
    random = _random(alpha, generator)
    rows, columns = _box(random, alpha, *values.shape[-2:])
    partner = _partner(random, labels)
    mixed = values.clone()
    mixed[..., rows, columns] = values[partner.to(values.device)][..., rows, columns]
    cut = (rows.stop - rows.start) * (columns.stop - columns.start)
    kept = 1 - cut / math.prod(values.shape[-2:])
    return {**batch, name: mixed, "label": kept * labels + (1 - kept) * labels[partner]}


def _box(random: np.random.Generator, alpha: float, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the box, inside the grid; empty where lambda is near 1."""
    side = math.sqrt(1 - random.beta(alpha, alpha))
    sides = []
    for length in (height, width):
        cut, centre = int(length * side), int(random.integers(length))
        first = centre - cut // 2
        sides.append(slice(max(0, first), min(length, first + cut)))
    return sides[0], sides[1]


def _random(alpha: float, generator: torch.Generator | None) -> np.random.Generator:
    """A generator of numpy, seeded by torch's: torch draws no Beta from a generator of one's own."""
    import torch

    if not 0 < alpha < math.inf:
        raise RequestError(f"Expected an alpha above 0, found {alpha:g}.")
    device = "cpu" if generator is None else generator.device
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device=device)))


def _partner(random: np.random.Generator, labels: torch.Tensor) -> torch.Tensor:
    import torch

    order: NDArray[np.int64] = random.permutation(len(labels))
    return torch.from_numpy(order).to(labels.device)


def _one_hot(batch: Mapping[str, Any], classes: int, name: str) -> torch.Tensor:
    """(N, classes) float32 of whole labels."""
    import torch.nn.functional as F

    for wanted in (name, "label"):
        if wanted not in batch:
            raise RequestError(f"Expected a batch with {wanted!r}, found {', '.join(map(repr, batch))}.")
    labels: torch.Tensor = batch["label"]
    if labels.ndim != 1 or labels.is_floating_point():
        raise RequestError(
            f"Expected whole labels of shape (N,), found {labels.dtype} of shape {tuple(labels.shape)}: a batch is "
            "mixed once."
        )
    if (labels < 0).any():
        row = int((labels < 0).nonzero()[0])
        raise RequestError(
            f"Row {row} of the batch has no label (-1), so it cannot be mixed: leave such rows out with the filter of "
            "load_latents."
        )
    if (labels >= classes).any():
        raise RequestError(f"Expected labels below {classes}, the number of classes, found {int(labels.max())}.")
    return F.one_hot(labels, classes).float()
