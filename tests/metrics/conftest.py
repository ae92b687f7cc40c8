"""Weights of the right names and shapes with random numbers in them, for the metrics that look through a network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest
import torch

from latentstore.hashing import sha256_of
from latentstore.metrics import inception, lpips

if TYPE_CHECKING:
    from pathlib import Path

    from latentstore.metrics.interface import ExtractorRow, MetricRow
    from latentstore.metrics.weights import WeightsFile


class WithRandomWeights(Protocol):
    """Rows that find random weights where they want published ones."""

    def __call__(self, row: MetricRow) -> MetricRow:
        """The row, wanting the sha256 of the random file, and looking in its folder."""

    def extractor(self, row: ExtractorRow) -> ExtractorRow:
        """The same for a network."""


def random_tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Numbers that keep activations at one size from layer to layer; the same everywhere."""
    random = np.random.default_rng(0)
    tensors = {}
    for name, shape in shapes.items():
        numbers = random.standard_normal(shape, dtype=np.float32)
        if len(shape) > 1:
            numbers *= np.float32((2 / np.prod(shape[1:])) ** 0.5)
        else:
            positive = name.endswith(("running_var", "bn.weight"))
            numbers = 1 + numbers * np.float32(0.1) if positive else numbers * np.float32(0.05)
        tensors[name] = torch.from_numpy(numbers)
    return tensors


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds each published file under its name, with random numbers, and with the tensors nobody uses."""
    folder = tmp_path_factory.mktemp("weights")
    spare = {"classifier.6.bias": torch.zeros(1000)}
    for backbone in (lpips.ALEX, lpips.VGG):
        torch.save(random_tensors(lpips.published_shapes(backbone)) | spare, folder / backbone.weights.file)
    counted = {"Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(0)}
    torch.save(random_tensors(inception.published_shapes()) | counted, folder / inception.INCEPTION.file)
    return folder


@pytest.fixture(scope="session")
def with_random_weights(weights_folder: Path) -> WithRandomWeights:
    hashes = {path.name: sha256_of(path) for path in weights_folder.iterdir()}

    def wanted(weights: tuple[WeightsFile, ...]) -> tuple[WeightsFile, ...]:
        return tuple(replace(file, sha256=hashes[file.file]) for file in weights)

    class Rows:
        def __call__(self, row: MetricRow) -> MetricRow:
            return replace(row, weights=wanted(row.weights)).at(weights_folder)

        def extractor(self, row: ExtractorRow) -> ExtractorRow:
            return replace(row, weights=wanted(row.weights)).at(weights_folder)

    return Rows()
