"""The canvas of a scene: the colour of the ground, the height of what stands on it, and how both are painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentstore.scenes.arithmetic import direction, planes, ramp, spline

if TYPE_CHECKING:
    from latentstore.scenes.arithmetic import Field
    from latentstore.scenes.palette import Colour


# Drawn beyond every edge, so that shadows fall in from outside and the blur has neighbours; pixels.
MARGIN = 20


class Scene:
    """A canvas and its margin: colour (3, H, W) in [0, 1], height (H, W) and coordinates (u, v) in pixels."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        self.rng = rng
        self.size = size
        self.shape = (size[0] + 2 * MARGIN, size[1] + 2 * MARGIN)
        self.y = (np.arange(self.shape[0], dtype=np.float32) - self.shape[0] // 2)[:, None]
        self.x = (np.arange(self.shape[1], dtype=np.float32) - self.shape[1] // 2)[None, :]
        self.colour = np.zeros((3, *self.shape), np.float32)
        self.height = np.zeros(self.shape, np.float32)
        self.u, self.v = self.axes(self.pick(0, 360))

    def pick(self, low: float, high: float) -> float:
        """One random number for the whole scene."""
        return float(self.rng.uniform(low, high))

    def axes(self, degrees: float) -> tuple[Field, Field]:
        """Coordinates along and across a direction, in pixels from the centre."""
        cos, sin = direction(degrees)
        return self.x * cos + self.y * sin, self.y * cos - self.x * sin

    def noise(self, scale: float, octaves: int = 1) -> Field:
        """Value noise, mostly within [-1, 1]; `scale` is the width of the largest features in pixels."""
        total, weight = np.zeros(self.shape, np.float32), 1.0
        for octave in range(octaves):
            layer = self._octave(scale * 0.5**octave)
            layer *= weight
            total += layer
            weight *= 0.6
        return total

    def _octave(self, scale: float) -> Field:
        rows, columns = (np.arange(n, dtype=np.float32) / scale + self.pick(0, 1) for n in self.shape)
        grid = self.rng.random((int(rows[-1]) + 3, int(columns[-1]) + 3), np.float32) * 3.6 - 1.8
        return spline(spline(grid.T, columns).T, rows)

    def mottled(self, colour: Colour, scale: float, depth: float = 0.05) -> Field:
        """(3, H, W): the colour, worn into lighter and darker patches `scale` pixels wide."""
        return planes(colour) * (1 + depth * self.noise(scale, 3))

    def paint(self, cover: Field | float, colour: Colour | Field) -> None:
        """Lays a colour, (3,) or (3, H, W), over the ground where `cover` is 1, and mixes it in between."""
        for plane, paint in enumerate(colour):
            change = paint - self.colour[plane]
            change *= cover
            self.colour[plane] += change

    def build(self, cover: Field, colour: Colour | Field, height: Field | float) -> None:
        """Puts something `height` pixels tall where `cover` is 1; what stood there is gone."""
        self.paint(cover, colour)
        self.height += cover * (height - self.height)

    def ground(self, *colours: Colour, scale: float = 90) -> None:
        """Covers everything with mottled ground that wanders between the colours."""
        self.paint(1, colours[0])
        for colour in colours[1:]:
            self.paint(ramp(self.noise(scale, 4), -0.4, 0.6), colour)
        self.colour *= 1 + 0.07 * self.noise(5, 2)

    def plant(self, pitch: float, density: Field | float, colour: Colour, tall: float = 1.0) -> None:
        """Trees about `pitch` pixels apart; one stands where `density` at its trunk beats a random number."""
        cos, sin = direction(self.pick(0, 90))
        u = (self.x * cos + self.y * sin) / pitch + 0.13 * self.noise(pitch * 0.5, 2)
        v = (self.y * cos - self.x * sin) / pitch + 0.13 * self.noise(pitch * 0.5, 2)
        i, j = np.floor(u), np.floor(v)
        corner = float(i.min()), float(j.min())
        shape = int(i.max() - corner[0]) + 2, int(j.max() - corner[1]) + 2
        stray = self.rng.random((2, *shape), np.float32) * 0.56 - 0.28
        trunk_u, trunk_v = (
            axis + start for axis, start in zip(np.indices(shape, np.float32) + stray, corner, strict=True)
        )
        column = ((trunk_u * cos - trunk_v * sin) * pitch + self.shape[1] // 2).clip(0, self.shape[1] - 1)
        row = ((trunk_u * sin + trunk_v * cos) * pitch + self.shape[0] // 2).clip(0, self.shape[0] - 1)
        wanted = np.broadcast_to(density, self.shape)[row.astype(np.intp), column.astype(np.intp)]
        radius = 0.35 + 0.33 * self.rng.random(shape, np.float32)
        radius[self.rng.random(shape, np.float32) >= wanted] = -1
        tone = self.rng.random(shape, np.float32)
        first = ((i - corner[0]) * shape[1] + (j - corner[1])).astype(np.intp)
        best, shade = np.full(self.shape, -1, np.float32), np.zeros(self.shape, np.float32)
        # Trunks stray 0.28 and crowns reach 0.68 of the pitch: only the four nearest can cover a pixel.
        for cell in (first, first + 1, first + shape[1], first + shape[1] + 1):
            r = radius.take(cell)
            bump = r * np.abs(r) - (u - trunk_u.take(cell)) ** 2 - (v - trunk_v.take(cell)) ** 2
            shade = np.where(bump > best, tone.take(cell), shade)
            best = np.maximum(best, bump)
        rough = self.noise(3, 2)
        leaves = planes(colour) * (0.74 + 0.5 * shade + 0.14 * rough)
        crown = (0.5 + 0.8 * np.sqrt(np.maximum(best, 0))) * (pitch * tall) + 0.6 * rough
        self.build(np.clip(best * pitch + 0.3, 0, 1), leaves, np.maximum(crown, self.height))
