"""Objects that repeat: a grid of cells, each with random numbers of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latentstore.scenes.arithmetic import Field
    from latentstore.scenes.canvas import Scene
    from latentstore.scenes.palette import Colour


class Cells:
    """A grid of cells: each pixel knows its cell's random numbers and its place (u, v) about the centre."""

    def __init__(self, scene: Scene, u: Field, v: Field, pitch: tuple[float, float]) -> None:
        self.scene, self.pitch, self.axes = scene, pitch, (u, v)
        i, j = np.floor(u / pitch[0]), np.floor(v / pitch[1])
        self.u, self.v = u - (i + 0.5) * pitch[0], v - (j + 0.5) * pitch[1]
        self.odd = j % 2
        columns = int(j.max() - j.min()) + 1
        self.count = (int(i.max() - i.min()) + 1) * columns
        self._cell = ((i - i.min()) * columns + (j - j.min())).astype(np.intp)

    def _spread(self, numbers: Field) -> Field:
        spread: Field = numbers.take(self._cell, -1)
        return spread

    def uniform(self, low: float, high: float) -> Field:
        """(H, W): one number in [low, high) a cell."""
        return self._spread(low + (high - low) * self.scene.rng.random(self.count, np.float32))

    def chance(self, probability: float) -> Field:
        """(H, W): 1 in that share of the cells, else 0."""
        return self._spread((self.scene.rng.random(self.count) < probability).astype(np.float32))

    def choice(self, colours: Sequence[Colour]) -> Field:
        """(3, H, W): one of the colours a cell, slightly varied."""
        chosen = np.array(colours, np.float32)[self.scene.rng.integers(len(colours), size=self.count)]
        chosen = chosen * (0.9 + 0.2 * self.scene.rng.random((self.count, 1), np.float32))
        return self._spread(np.ascontiguousarray(chosen.T))

    def mean(self, field: Field) -> Field:
        """(H, W): the mean of the field over each cell."""
        area = np.bincount(self._cell.ravel(), minlength=self.count)
        total = np.bincount(self._cell.ravel(), field.ravel(), self.count)
        return self._spread((total / np.maximum(area, 1)).astype(np.float32))

    def clear(self, obstacle: Field) -> Field:
        """(H, W): 1 in the cells that the obstacle hardly touches, else 0."""
        return (self.mean(obstacle) < 0.04).astype(np.float32)
