"""Scenes that look like aerial photographs, drawn by arithmetic, so that everything runs without a download.

The demo, the tests and the benchmarks need images with the statistics of remote sensing: textures at many
scales, straight man-made edges, small objects repeated, shadows that agree. `draw_scene` makes one from a
label and a seed, always the same one; what it consists of is in `latentstore.scenes`.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latentstore.errors import RequestError
from latentstore.records import Tile
from latentstore.scenes.canvas import Scene
from latentstore.scenes.countryside import beach, farmland, forest, lake, river
from latentstore.scenes.photograph import photograph
from latentstore.scenes.settlements import dense_residential, industrial, sparse_residential
from latentstore.scenes.transport import harbor, highway, parking, runway
from latentstore.sources.interface import OpenSource
from latentstore.sources.naming import check_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from latentstore.sources.interface import SourceRow

_SCENES: Mapping[str, Callable[[Scene], None]] = {
    "beach": beach,
    "dense_residential": dense_residential,
    "farmland": farmland,
    "forest": forest,
    "harbor": harbor,
    "highway": highway,
    "industrial": industrial,
    "lake": lake,
    "parking": parking,
    "river": river,
    "runway": runway,
    "sparse_residential": sparse_residential,
}
CLASSES: tuple[str, ...] = tuple(sorted(_SCENES))


def draw_scene(label: str, size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """An aerial-looking scene, the same for the same arguments: uint8 (H, W, 3) sRGB for a `size` of (H, W).

    The scale is fixed at about 0.7 m a pixel: a larger size shows more land, not larger houses.
    """
    if label not in _SCENES:
        nearest = difflib.get_close_matches(label, CLASSES, 1, 0)[0]
        known = ", ".join(CLASSES)
        raise ValueError(f"No scene is called {label!r}; the nearest is {nearest!r}, of {known}.")
    if min(size) < 1:
        raise ValueError(f"A scene is at least 1 pixel high and wide, and {size[0]}x{size[1]} is not.")
    scene = Scene(size, np.random.default_rng([seed, CLASSES.index(label)]))
    _SCENES[label](scene)
    return photograph(scene)


@dataclass(frozen=True)
class _DrawnSplit:
    """Scenes that are drawn when they are asked for, the classes in turn."""

    count: int
    size: tuple[int, int]
    seed: int
    random_access: bool = True

    def __len__(self) -> int:
        return self.count

    def names(self) -> Sequence[str]:
        return [_path(row) for row in range(self.count)]

    def sizes(self) -> Iterator[tuple[int, int]]:
        return (self.size for _ in range(self.count))

    def read(self, rows: Sequence[int]) -> Iterator[Tile]:
        return (self._tile(int(row)) for row in rows)

    def _tile(self, row: int) -> Tile:
        if not 0 <= row < self.count:
            raise IndexError(f"scene {row} of {self.count}")
        number, label = divmod(row, len(CLASSES))
        name = CLASSES[label]
        pixels = draw_scene(name, self.size, (self.seed << 32) + number)
        path = _path(row)
        return Tile(path, pixels, label, path, hashlib.sha256(pixels.tobytes()).hexdigest(), source_bytes=0)


def _path(row: int) -> str:
    number, label = divmod(row, len(CLASSES))
    return f"{CLASSES[label]}/{CLASSES[label]}_{number:04d}"


def open_synthetic(row: SourceRow) -> OpenSource:
    """Drawn scenes; options: ``count`` (128), ``size`` (256, or height and width), ``seed``, ``split``."""
    check_options(row, ("count", "size", "seed", "split"))
    count, seed, side = (row.options.get(name, usual) for name, usual in (("count", 128), ("seed", 0), ("size", 256)))
    numbers = [count, seed, *(side if isinstance(side, (list, tuple)) else (side, side))]
    if len(numbers) != 4 or not all(isinstance(number, int) for number in numbers):
        raise RequestError(
            f"The source {row.name!r} takes whole numbers, not count={count!r}, size={side!r}, seed={seed!r}."
        )
    height, width = numbers[2:]
    if count < 1 or seed < 0 or min(height, width) < 1:
        raise RequestError(
            f"The source {row.name!r} draws at least 1 scene of at least 1x1 pixels from a seed of 0 or more, "
            f"not count={count}, size={height}x{width}, seed={seed}."
        )
    split = _DrawnSplit(count, (height, width), seed)
    return OpenSource({str(row.options.get("split", "train")): split}, CLASSES, features={}, revision=None)
