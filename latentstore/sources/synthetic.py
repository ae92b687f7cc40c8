"""Scenes that look like aerial photographs, drawn by arithmetic, so that everything runs without a download.

The demo, the tests and the benchmarks need images with the statistics of remote sensing: textures at many
scales, straight man-made edges, small objects repeated, shadows that agree. `draw_scene` makes one from a
label and a seed, always the same one. A scene is two fields, the colour of the ground and the height of what
stands on it, at about 0.7 m a pixel; light, shadows, haze and sensor follow from those two, in `_photograph`.

Every drawing is a formula over pixel coordinates: objects repeat in `_Cells`, outlines are signed distances
in pixels (negative inside). Only operations that IEEE 754 rounds exactly touch an array, so that every
machine draws the same bytes.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import RequestError
from latentstore.records import Tile
from latentstore.sources.interface import OpenSource
from latentstore.sources.naming import check_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from latentstore.sources.interface import SourceRow

    # float32 at run time; looser here, because numpy's types lose the width when Python floats mix in.
    Field = NDArray[np.floating[Any]]
    Colour = tuple[float, float, float]

# Drawn beyond every edge, so that shadows fall in from outside and the blur has neighbours; pixels.
_MARGIN = 20
_LONGEST_SHADOW = 17


def _palette(codes: str) -> tuple[Colour, ...]:
    """Colours (sRGB, in [0, 1]) from their hexadecimal codes."""
    return tuple((r / 255, g / 255, b / 255) for r, g, b in map(bytes.fromhex, codes.split()))


_GRASS, _DRY_GRASS, _MEADOW = _palette("5e6e40 8a8259 6e784c")
_LEAVES, _CONIFER, _BIRCH, _HEDGE = _palette("40542b 293d29 4f6330 384a26")
_ASPHALT, _WORN_ASPHALT, _CONCRETE = _palette("666669 807d7a a3a199")
_PAINT, _YELLOW_PAINT, _GLASS, _PLANKS = _palette("e6e6de d9b240 24262e a89e8c")
_SAND, _PALE_SAND, _WET_SAND = _palette("ccba94 dbcca8 948061")
_SOIL, _DUST, _FOREST_FLOOR = _palette("856b4f a19178 42422a")
_LAKE, _RIVER = _palette("455c4f 1a3038"), _palette("5e6652 334540")
_SEA, _DOCK = _palette("6b948f 1f4f66"), _palette("334f54 26424a")
_POOL, _FOAM = _palette("4cadc7 edf0eb")
_TILES = _palette("8c5742 9e6b52 706661 5c5757 8f8070")
_SHEETS = _palette("c7c7c4 a8adb2 8f99a8 d6d4cc 997866")
_TANKS = _palette("dbdbd6 b8baba")
_CARS = _palette("ebebeb b8babf 29292e 595c61 992421 2e457a e0e0db")
_PARASOLS = _palette("ededeb cc4033 e0bf4c 387aad e6e0cc")
_HULLS = _palette("ededeb e0e3e6 526180")
_CABINS = _palette("596b80 bfbfbd 8c7a66")
_CROPS = _palette("5c7338 788545 a3915c 876e52 4a6133 b8a670 705e4a 8c9154")


class _Scene:
    """A canvas and its margin: colour (3, H, W) in [0, 1], height (H, W) and coordinates (u, v) in pixels."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        self.rng = rng
        self.size = size
        self.shape = (size[0] + 2 * _MARGIN, size[1] + 2 * _MARGIN)
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
        cos, sin = _direction(degrees)
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
        return _spline(_spline(grid.T, columns).T, rows)

    def mottled(self, colour: Colour, scale: float, depth: float = 0.05) -> Field:
        """(3, H, W): the colour, worn into lighter and darker patches `scale` pixels wide."""
        return _planes(colour) * (1 + depth * self.noise(scale, 3))

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
            self.paint(_ramp(self.noise(scale, 4), -0.4, 0.6), colour)
        self.colour *= 1 + 0.07 * self.noise(5, 2)

    def plant(self, pitch: float, density: Field | float, colour: Colour, tall: float = 1.0) -> None:
        """Trees about `pitch` pixels apart; one stands where `density` at its trunk beats a random number."""
        cos, sin = _direction(self.pick(0, 90))
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
        leaves = _planes(colour) * (0.74 + 0.5 * shade + 0.14 * rough)
        crown = (0.5 + 0.8 * np.sqrt(np.maximum(best, 0))) * (pitch * tall) + 0.6 * rough
        self.build(np.clip(best * pitch + 0.3, 0, 1), leaves, np.maximum(crown, self.height))


class _Cells:
    """A grid of cells: each pixel knows its cell's random numbers and its place (u, v) about the centre."""

    def __init__(self, scene: _Scene, u: Field, v: Field, pitch: tuple[float, float]) -> None:
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


def _direction(degrees: float) -> tuple[float, float]:
    # Rounded, because the last bit of a cosine may differ between C libraries and scenes must not.
    return round(math.cos(math.radians(degrees)), 6), round(math.sin(math.radians(degrees)), 6)


def _planes(colour: Colour | Field) -> Field:
    planes = np.asarray(colour, np.float32)
    return planes if planes.ndim == 3 else planes.reshape(3, 1, 1)


def _spline(grid: Field, at: Field) -> Field:
    """Rows of the grid at fractional positions, by a quadratic B-spline: (n, k), (m,) -> (m, k)."""
    whole = at.astype(np.intp)
    part = (at - np.floor(at))[:, None]
    total = grid.take(whole, 0) * (0.5 * (1 - part) ** 2)
    for tap, weight in ((1, 0.75 - (part - 0.5) ** 2), (2, 0.5 * part**2)):
        # In place: fresh arrays for every tap cost more than the sums.
        rows = grid.take(whole + tap, 0)
        rows *= weight
        total += rows
    return total


def _ramp(field: Field, low: float, high: float) -> Field:
    """0 at low, 1 at high, smooth between; low may be the larger."""
    t = np.clip((field - low) / (high - low), 0, 1)
    smooth: Field = t * t * (3 - 2 * t)
    return smooth


def _wave(t: Field) -> Field:
    """A parabolic sine of period 1: arithmetic alone, so the same bits on every machine."""
    phase = 2 * (t - np.floor(t)) - 1
    wave: Field = 4 * phase * (np.abs(phase) - 1)
    return wave


def _inside(distance: Field) -> Field:
    """Coverage in [0, 1] from a signed distance in pixels, negative inside: edges one pixel soft."""
    cover: Field = np.clip(0.5 - distance, 0, 1)
    return cover


def _box(u: Field, v: Field, half_u: Field | float, half_v: Field | float) -> Field:
    """Signed distance in pixels to a rectangle about the origin."""
    distance: Field = np.maximum(np.abs(u) - half_u, np.abs(v) - half_v)
    return distance


def _disc(u: Field, v: Field, radius: Field | float) -> Field:
    """Signed distance in pixels to a circle about the origin."""
    distance: Field = np.sqrt(u * u + v * v) - radius
    return distance


def _nearest_line(v: Field, pitch: float) -> Field:
    """Signed distance to the nearest of the parallel lines at multiples of the pitch."""
    distance: Field = v - np.floor(v / pitch + 0.5) * pitch
    return distance


def _meander(scene: _Scene, u: Field, length: float, swing: float) -> Field:
    """How far a winding line strays sideways at each u, in pixels."""
    bends, wiggles = _wave(u / length + scene.pick(0, 1)), _wave(u / (length * 0.43) + scene.pick(0, 1))
    strays: Field = swing * (bends + 0.35 * wiggles)
    return strays


def _water(scene: _Scene, distance: Field, reach: float, colours: Sequence[Colour]) -> None:
    """Water with waves where the distance is negative, darkening over `reach` pixels from the shore."""
    depth = _ramp(distance + 6 * scene.noise(40, 2), 0, -reach)
    shallow, deep = colours
    body = _planes(shallow) + depth * (_planes(deep) - _planes(shallow))
    u, _ = scene.axes(scene.pick(0, 180))
    waves = _wave(u / 7 + 0.8 * scene.noise(24, 2)) * scene.noise(18)
    body = body * (1 + 0.06 * scene.noise(60, 3) + 0.05 * waves + 0.05 * scene.noise(3))
    scene.build(_inside(distance), body, 0)


def _cars(cells: _Cells, present: Field, half: tuple[float, float] = (3.3, 1.5)) -> None:
    """One vehicle along u in each cell where `present` is 1."""
    scene, u = cells.scene, cells.u - cells.uniform(-1, 1)
    body = _inside(_box(u, cells.v, *half)) * present
    glass = _inside(_box(np.abs(u + 0.3) - half[0] * 0.45, cells.v, 0.4, half[1] * 0.6)) * present
    scene.build(body, cells.choice(_CARS), 2.0)
    scene.paint(glass * 0.7, _GLASS)


def _houses(cells: _Cells, place: tuple[Field, Field], half: tuple[Field, Field], present: Field) -> None:
    """Houses with gabled or hipped roofs, some with a wing; `place` is (u, v) about the middle of each."""
    scene, (u, v) = cells.scene, place
    wing = half[0] * cells.uniform(0.1, 0.6)
    main = _box(u, v, *half)
    side = _box(u - wing * (1 - 2 * cells.chance(0.5)), v - half[1] * 0.6, half[0] * 0.4, half[1] * 0.9)
    has_wing = cells.chance(0.6)
    outline = np.where(has_wing > 0, np.minimum(main, side), main)
    gable = np.where(half[0] > half[1], half[1] - np.abs(v), half[0] - np.abs(u))
    slope = np.where(cells.chance(0.5) > has_wing, gable, -outline)
    roof = cells.choice(_TILES) * (1 + 0.05 * scene.noise(2) + 0.04 * _wave(u / 3))
    scene.build(_inside(outline) * present, roof, 4 + 0.55 * np.maximum(slope, 0))


def _road(scene: _Scene, along: Field, across: Field, half: float, bridge: Field | float = 0) -> None:
    """A road of two lanes that clears what it crosses, or spans it where `bridge` is 1."""
    edge = np.abs(across) - half
    scene.paint(_inside(edge - 3) * (0.5 - 0.5 * bridge), _DRY_GRASS)
    deck = np.maximum(_inside(edge), _inside(edge - 1.5) * bridge)
    scene.build(deck, scene.mottled(_ASPHALT, 12), 6 * bridge)
    scene.paint(_inside(np.abs(edge - 0.7) - 0.7) * bridge, _CONCRETE)
    dashes = _inside(np.abs(_nearest_line(along, 18)) - 4)
    scene.paint(_inside(np.abs(across) - 0.4) * dashes * 0.8, _PAINT)
    traffic = _Cells(scene, along, across, (60, half))
    _cars(traffic, traffic.chance(0.3) * _inside(edge))


def _beach(scene: _Scene) -> None:
    sea = scene.v + _meander(scene, scene.u, 400, 14) + 9 * scene.noise(50, 3) + 1.2 * scene.noise(6, 2)
    scene.ground(_SAND, _PALE_SAND)
    scene.colour *= 1 + 0.03 * scene.noise(3)
    dunes = _ramp(sea + 12 * scene.noise(30, 3), 45, 75)
    scene.paint(dunes * _ramp(scene.noise(12, 3), -0.5, 0.4), _DRY_GRASS)
    scene.height += dunes * (3 + 3 * scene.noise(25, 2))
    scene.plant(9, _ramp(sea, 70, 110) * 0.7, _LEAVES)
    parasols = _Cells(scene, scene.u, scene.v, (10, 10))
    there = parasols.chance(scene.pick(0, 0.5)) * _inside(np.abs(parasols.mean(sea) - 26) - 12)
    disc = _disc(parasols.u - parasols.uniform(-2, 2), parasols.v - parasols.uniform(-2, 2), 2.2)
    scene.build(_inside(disc) * there, parasols.choice(_PARASOLS), 2.5)
    scene.paint(_ramp(sea, 9, 1), _WET_SAND)
    _water(scene, sea, 90, _SEA)
    surf = sea + 5 * scene.noise(18, 2)
    for offset in (1, 12, 25):
        broken = _ramp(scene.noise(20, 3), -0.5 + offset / 30, 0.5 + offset / 30)
        scene.paint(np.maximum(1 - np.abs(surf + offset) / 2.5, 0) * broken, _FOAM)


def _dense_residential(scene: _Scene) -> None:
    block, lot = 9.0 * int(scene.rng.integers(10, 13)), scene.pick(22, 27)
    u, v = scene.u + scene.pick(0, 200), scene.v + scene.pick(0, 100)
    scene.ground(_GRASS, _MEADOW, _DRY_GRASS, scale=40)
    lots = _Cells(scene, u, v, (lot, block / 2))
    scene.colour *= 0.9 + lots.uniform(0, 0.22)
    front = np.where(lots.odd > 0, -lots.v, lots.v) + block / 4
    cross = np.abs(_nearest_line(u, lot * 9)) - 7
    street = np.minimum(np.abs(_nearest_line(v, block)) - 6, cross)
    present = lots.clear(_inside(cross))
    drive_u = lots.u - lots.uniform(-lot / 3, lot / 3)
    scene.paint(_inside(_box(drive_u, front - 10, 2.6, 9)) * present, _CONCRETE)
    scene.build(_inside(lot / 2 - 0.9 - np.abs(lots.u)) * lots.chance(0.5) * present, _HEDGE, 1.5)
    pool = _box(lots.u - lots.uniform(-5, 5), front - block * 0.40, lots.uniform(2, 4), lots.uniform(2, 3))
    has_pool = lots.chance(0.28) * present
    scene.paint(_inside(pool - 1.5) * has_pool, _CONCRETE)
    scene.paint(_inside(pool) * has_pool, _POOL)
    half = lots.uniform(lot * 0.33, lot * 0.42), lots.uniform(6.5, 9.5)
    _houses(lots, (lots.u, front - lots.uniform(21, 25)), half, present)
    yards = _inside(3 - street) * (1 - np.clip(scene.height, 0, 1)) * (1 - _inside(pool - 3) * has_pool)
    scene.plant(11, yards * scene.pick(0.15, 0.45), _LEAVES, 0.9)
    scene.paint(_inside(street - 2.5), _CONCRETE)
    scene.build(_inside(street), scene.mottled(_ASPHALT, 14), 0)
    # The block is a multiple of 9, so that one grid of cells parks along both kerbs of every street.
    kerbs = _Cells(scene, u, v, (13, 9))
    _cars(kerbs, kerbs.chance(0.3) * _inside(np.abs(_nearest_line(v, block)) - 7) * _inside(-cross))


def _farmland(scene: _Scene) -> None:
    scene.ground(_SOIL, _DRY_GRASS)
    u, v = (axis + 9 * scene.noise(160) + scene.pick(0, 300) for axis in (scene.u, scene.v))
    strips = _Cells(scene, u * 0, v, (1, scene.pick(75, 130)))
    shifted = u + strips.uniform(0, 300) + scene.pick(-0.3, 0.3) * strips.v
    fields = _Cells(scene, shifted, v, (scene.pick(90, 190), strips.pitch[1]))
    crop = fields.choice(_CROPS) * (1 + 0.10 * scene.noise(70, 4))
    turned = fields.chance(0.5)
    rows = np.where(turned > 0, fields.u, fields.v)
    furrows = _wave(rows / fields.uniform(3.5, 7)) * fields.uniform(0, 0.12)
    tracks = _inside(np.abs(np.abs(_nearest_line(rows, 34)) - 1.6) - 0.4) * fields.chance(0.6)
    scene.paint(1, crop * (1 + furrows + 0.04 * scene.noise(3)) * (1 - 0.13 * tracks))
    edge = -_box(fields.u, fields.v, fields.pitch[0] / 2, fields.pitch[1] / 2) + 1.5 * scene.noise(20)
    scene.paint(_ramp(edge, 3.5, 1.5), _MEADOW)
    hedged = _inside(np.abs(strips.v) - strips.pitch[1] / 2 + 5) < 1
    scene.plant(7, _inside(edge - 3) * hedged * _ramp(scene.noise(90), -0.3, 0.3), _HEDGE, 0.8)
    lane = scene.v - _meander(scene, scene.u, 700, 20) + scene.pick(-90, 90)
    scene.paint(_inside(np.abs(lane) - 4.5), _MEADOW)
    scene.build(_inside(np.abs(lane) - 3), scene.mottled(_DUST, 9), 0)


def _forest(scene: _Scene) -> None:
    scene.ground(_FOREST_FLOOR)
    scene.height += 6 * scene.noise(110, 2)
    glade = scene.noise(120, 3) + 0.35
    scene.paint(_ramp(glade, -0.7, -1.0), scene.mottled(_MEADOW, 40, 0.10))
    track = np.abs(scene.v - _meander(scene, scene.u, 500, 40)) + 4 * scene.noise(40) - 3
    if scene.pick(0, 1) < 0.4:
        scene.paint(_ramp(track, 2, 0), _DUST)
        glade = np.minimum(glade, -1.2 + 0.2 * track)
    stand = scene.noise(130, 3)
    scene.plant(10, _ramp(glade, -1.1, -0.7) + 0.04, _LEAVES)
    scene.plant(6, 0.5 * _ramp(glade, -1.0, -0.6), _BIRCH, 1.5)
    scene.plant(8, _ramp(stand, -0.1, 0.3) * _ramp(glade, -1.0, -0.6), _CONIFER, 1.4)


def _harbor(scene: _Scene) -> None:
    u, v = scene.u, scene.v + scene.pick(-40, 20)
    berth = scene.pick(8, 11)
    spacing = berth * scene.pick(6.2, 7)
    _water(scene, np.full(scene.shape, -60, np.float32), 50, _DOCK)
    end = -v - scene.pick(90, 130)
    side = np.abs(_nearest_line(u, spacing)) - 2.2
    fingers = np.maximum(np.abs(_nearest_line(v, berth)) - 0.6, side - 1.4 * berth)
    scene.build(_inside(np.maximum(np.minimum(side, fingers), end)), scene.mottled(_PLANKS, 5), 1.2)
    moored = _Cells(scene, u, v, (spacing / 2, berth))
    taken = moored.chance(scene.pick(0.5, 0.9)) * moored.clear(_inside(-np.maximum(v - 54, end)))
    _boats(moored, side - 2, taken)
    quay = v - 56
    scene.build(_inside(-quay), scene.mottled(_CONCRETE, 40, 0.08), 1.5)
    scene.paint(_inside(np.abs(quay - 1.5) - 1), _PAINT)
    scene.paint(_inside(np.abs(quay - 32) - 20), scene.mottled(_ASPHALT, 30))
    _lot(scene, u, quay - 15, 34)
    sheds = _Cells(scene, u + scene.pick(0, 90), quay - 58, (90, 62))
    _halls(sheds, (sheds.uniform(24, 40), sheds.uniform(14, 22)), _inside(58 - quay), 7)
    scene.plant(8, _inside(np.abs(quay - 55) - 2) * 0.8, _LEAVES)


def _boats(berths: _Cells, bow: Field, afloat: Field) -> None:
    """Moored boats; `bow` is the distance from the walk in pixels, v runs across the hull."""
    scene, berth = berths.scene, berths.pitch[1]
    length, beam = berths.uniform(1.1, 1.9) * berth, berths.uniform(0.24, 0.34) * berth
    along = (bow - length / 2) / (length / 2)
    taper = beam * (1 - np.maximum(along, 0) ** 2 * 0.9)
    hull = np.maximum(np.abs(berths.v) - taper, (np.abs(along) - 1) * length / 2)
    scene.build(_inside(hull) * afloat, berths.choice(_HULLS), 2)
    cabin = _box(bow - length * 0.42, berths.v, length * 0.2, beam * 0.5)
    scene.build(_inside(cabin) * afloat, berths.choice(_CABINS), 4)


def _lot(scene: _Scene, u: Field, v: Field, depth: float, full: float = 0.6) -> None:
    """Parking along u, from v = 0 to `depth`: every 34 pixels two rows nose to nose, then an aisle."""
    rows = _Cells(scene, v - 8.5, u, (8.5, 5.2))
    spine = np.abs(_nearest_line(v - 17, 34))
    marked = _inside(np.maximum(spine - 8.5, np.maximum(-v, v - depth)))
    lines = np.maximum(_inside(2.25 - np.abs(rows.v)), _inside(spine - 0.3))
    scene.paint(lines * marked * 0.85, _PAINT)
    _cars(rows, rows.chance(full) * marked)


def _halls(cells: _Cells, half: tuple[Field, Field], present: Field, tall: float) -> None:
    """Large flat or shallow-gabled halls with ribbed roofs, skylights and vents."""
    scene, distance = cells.scene, _box(cells.u, cells.v, *half)
    ribs = 1 + 0.05 * _wave(cells.u / 5) + 0.03 * scene.noise(30, 3)
    cover = _inside(distance) * present
    ridge = np.where(cells.chance(0.5) > 0, 0.22 * (half[1] - np.abs(cells.v)), 0)
    scene.build(cover, cells.choice(_SHEETS) * ribs, tall + ridge)
    scene.paint(cover * _inside(-distance - 1) * 0.5, _PAINT)
    lights = _box(_nearest_line(cells.u, 15), np.abs(cells.v) - half[1] * 0.5, 1.4, half[1] * 0.28)
    lights = np.maximum(lights, distance + 4)
    scene.paint(_inside(lights) * present * cells.chance(0.5) * 0.7, _PAINT)
    vents = _Cells(scene, *cells.axes, (16, 13))
    vent = np.maximum(_box(vents.u, vents.v, 1.7, 1.5), distance + 5)
    scene.build(_inside(vent) * vents.chance(0.25) * present, _SHEETS[2], tall + 5)


def _highway(scene: _Scene) -> None:
    scene.ground(_GRASS, _DRY_GRASS, _MEADOW)
    across = scene.v - _meander(scene, scene.u, scene.pick(500, 1200), scene.pick(5, 30))
    side = np.abs(across)
    lane, median = 5.4, scene.pick(3, 9)
    width = lane * int(scene.rng.integers(2, 4))
    edge = side - median - width - 5
    scene.plant(10, _ramp(edge, 12, 40) * _ramp(scene.noise(80, 3), -0.4, 0.5), _LEAVES)
    scene.build(_inside(edge - 3), _DRY_GRASS, 0)
    worn = scene.mottled(_WORN_ASPHALT, 20) * (1 - 0.05 * _wave((side - median) / lane + 0.25))
    scene.build(_inside(np.maximum(edge, median - 2 - side)), worn, 0)
    scene.build(_inside(side - 0.6), _CONCRETE, 1.5)
    carriageway = np.abs(side - median - width / 2) - width / 2
    scene.paint(_inside(np.abs(carriageway) - 0.45) * 0.9, _PAINT)
    dashes = np.maximum(np.abs(_nearest_line(side - median, lane)) - 0.4, carriageway + lane / 2)
    scene.paint(_inside(np.maximum(dashes, np.abs(_nearest_line(scene.u, 17)) - 3)), _PAINT)
    # The second carriageway's lanes are counted from -100, so that it has traffic of its own.
    lanes = np.where(across > 0, side - median, median - side - 100 * lane)
    for half, pitch, share in (((3.4, 1.5), 26, 0.3), ((9.0, 1.9), 90, 0.22)):
        cells = _Cells(scene, scene.u, lanes, (pitch, lane))
        _cars(cells, cells.chance(share) * _inside(carriageway), half)
    if scene.pick(0, 1) < 0.45:
        _road(scene, scene.v, scene.u + scene.pick(-60, 60), 7, _inside(edge - 7))


def _industrial(scene: _Scene) -> None:
    scene.ground(_WORN_ASPHALT, _CONCRETE, _DUST)
    u, v = scene.u + scene.pick(0, 150), scene.v + scene.pick(0, 100)
    pitch = (scene.pick(105, 150), scene.pick(78, 96))
    plots = _Cells(scene, u, v, pitch)
    inset = -_box(plots.u, plots.v, pitch[0] / 2 - 7, pitch[1] / 2 - 7)
    scene.paint(_inside(inset - 3) * plots.chance(0.7), _GRASS)
    scene.plant(9, _inside(np.abs(inset) - 2) * 0.35, _LEAVES)
    scene.build(_inside(inset), scene.mottled(_ASPHALT, 30), 0)
    dashes = np.maximum(np.abs(inset + 7) - 0.3, np.abs(_nearest_line(u + v, 18)) - 4)
    scene.paint(_inside(dashes) * 0.7, _PAINT)
    hall = plots.chance(0.7)
    half = plots.uniform(pitch[0] * 0.24, pitch[0] * 0.39), plots.uniform(pitch[1] * 0.18, pitch[1] * 0.3)
    yard = _inside(6 - inset)
    _tanks(_Cells(scene, u, v, (pitch[0] / 5, pitch[1] / 4)), np.maximum(hall, 1 - yard))
    _halls(plots, half, hall, 9)
    # Each plot starts its docks elsewhere, or all halls in a line would have the same lorries.
    docks = _Cells(scene, plots.v - half[1], u + plots.uniform(0, 2000), (26, 5.5))
    apron = np.maximum(_box(plots.u, plots.v - half[1] - 13, half[0] - 1, 13), 2 - inset)
    _cars(docks, docks.chance(0.4) * hall * docks.clear(1 - _inside(apron)), (9, 1.9))
    crates = _Cells(scene, u, v, (5.5, 18))
    stacked = crates.chance(0.8) * crates.clear(np.maximum(np.minimum(scene.height, 1), 1 - yard))
    stacked *= crates.mean(scene.noise(60)) > 0.15
    paints = crates.choice((*_TILES, *_SHEETS, *_CARS))
    scene.build(_inside(_box(crates.u, crates.v, 2.2, 8)) * stacked, paints, 3.5)


def _tanks(cells: _Cells, obstacle: Field) -> None:
    """A round tank with a walkway around its roof in every cell that is clear."""
    scene, rim = cells.scene, _disc(cells.u, cells.v, cells.uniform(7, 10))
    clear = cells.clear(obstacle)
    scene.build(_inside(rim) * clear, cells.choice(_TANKS), 9)
    scene.paint(_inside(np.abs(rim + 2) - 0.4) * clear * 0.4, _ASPHALT)


def _lake(scene: _Scene) -> None:
    scene.ground(_GRASS, _MEADOW, _DRY_GRASS)
    u, v = scene.u + scene.pick(-30, 30), scene.v * scene.pick(1.1, 1.6) + scene.pick(-30, 30)
    shore = _disc(u, v, scene.pick(75, 100)) + 34 * scene.noise(90, 2) + 3 * scene.noise(14, 3)
    scene.height += 5 * scene.noise(120, 2) * _ramp(shore, 0, 50)
    wooded = _ramp(scene.noise(110, 3), -0.3, 0.4) * _ramp(shore, 3, 14)
    scene.plant(10, wooded, _LEAVES)
    scene.plant(8, 0.8 * wooded * _ramp(scene.noise(60), 0, 0.5), _CONIFER, 1.2)
    scene.paint(_ramp(shore, 7, 1) * (1 - np.clip(scene.height - 6, 0, 1)), _DUST)
    _water(scene, shore, 40, _LAKE)


def _parking(scene: _Scene) -> None:
    scene.ground(_ASPHALT, _WORN_ASPHALT)
    u, v = scene.u, scene.v + scene.pick(0, 34) + 3400
    _lot(scene, u, v, 1e5, scene.pick(0.45, 0.9))
    island = _Cells(scene, u + scene.pick(0, 100), v - 17, (scene.pick(80, 130), 34))
    bed = _box(island.u, np.abs(island.v) - 17, 4, 15) + 99 * (scene.pick(0, 1) < 0.4)
    scene.build(_inside(bed), _CONCRETE, 0.5)
    scene.build(_inside(bed + 1), _GRASS, 0.5)
    scene.plant(9, _inside(bed) * 0.8, _LEAVES)
    edge = scene.u + scene.pick(70, 150)
    scene.build(_inside(edge + 14), _GRASS, 0)
    scene.plant(10, _inside(edge + 18) * 0.5, _LEAVES)


def _river(scene: _Scene) -> None:
    scene.ground(_MEADOW, _GRASS, _DRY_GRASS)
    across = scene.v - _meander(scene, scene.u, scene.pick(260, 420), scene.pick(25, 45))
    width = scene.pick(16, 32)
    bank = np.abs(across) - width + 7 * scene.noise(60, 2) + 1.5 * scene.noise(10, 2)
    fields = _Cells(scene, scene.u, scene.v, (110, 80))
    cleared = _ramp(scene.noise(200), -0.1, 0.1) * _inside(24 - bank)
    scene.paint(cleared * 0.8, fields.choice(_CROPS) * (1 + 0.08 * _wave(fields.v / 5)))
    fringe = _ramp(bank, 26, 8) * _ramp(scene.noise(60, 2), -0.5, 0.3)
    wooded = np.maximum(fringe, _ramp(scene.noise(140, 2), 0.1, 0.4))
    scene.plant(10, wooded * _ramp(bank, 2, 9) * (1 - cleared), _LEAVES)
    sand = _ramp(bank + 6 * scene.noise(50), 8, 2) * (1 - np.clip(scene.height, 0, 1))
    scene.paint(sand, _SAND)
    _water(scene, bank, 18, _RIVER)
    if scene.pick(0, 1) < 0.4:
        _road(scene, scene.v, scene.u + scene.pick(-60, 60), 7, _inside(bank - 4))


def _runway(scene: _Scene) -> None:
    scene.ground(_GRASS, _DRY_GRASS, _MEADOW)
    scene.colour *= 1 + 0.03 * _wave(scene.v / 16)
    u, v = scene.u + scene.pick(-60, 110), scene.v + scene.pick(0, 45)
    half = scene.pick(26, 32)
    taxiway = v - half - scene.pick(60, 75)
    link = _box(u - scene.pick(90, 160), v - 45, 11, 45)
    paved = np.minimum(np.abs(taxiway) - 10, link)
    scene.paint(_inside(paved - 3), _DRY_GRASS)
    scene.paint(_inside(paved), scene.mottled(_WORN_ASPHALT, 30))
    scene.paint(_inside(np.abs(taxiway) - 0.6), _YELLOW_PAINT)
    strip = np.maximum(np.abs(v) - half - 5, -u - 20)
    scene.paint(_inside(strip), scene.mottled(_ASPHALT, 60))
    scene.paint(_inside(np.abs(np.abs(v) - half) - 0.8) * _inside(-u), _PAINT)
    _runway_paint(scene, u, v, half)
    if scene.pick(0, 1) < 0.6:
        _airliner(scene, u - scene.pick(-60, 150), taxiway)


def _airliner(scene: _Scene, u: Field, v: Field) -> None:
    """One airliner about the origin, its nose towards +u."""
    side, along = np.abs(v), (u / 23) ** 2
    body = np.maximum(side - 2.7 * np.sqrt(np.maximum(1 - along * along, 0)), np.abs(u) - 23)
    wings = np.maximum(np.abs(u + 0.5 * side - 5) - 4.8 + 0.17 * side, side - 21)
    tail = np.maximum(np.abs(u + 0.5 * side + 18) - 2.2, side - 7.5)
    scene.build(_inside(np.minimum(wings, tail)), _SHEETS[0], 4)
    scene.build(_inside(_box(u - 3, side - 8, 3, 1.3)), _SHEETS[1], 4)
    scene.build(_inside(body), _PAINT, 6 - 0.4 * side)


def _runway_paint(scene: _Scene, u: Field, v: Field, half: float) -> None:
    """Rubber, threshold bars, touchdown zone, aiming points and centre line; the threshold is at u = 0."""
    rubber = _ramp(np.abs(v), 13, 0) * _ramp(u, 30, 120) * _ramp(scene.noise(40, 3), -1.5, 1)
    scene.paint(rubber * 0.45, _GLASS)
    bars = int((half - 4) / 5.2) * 2.6
    keys = np.maximum(_box(u - 24, np.abs(v) - 2.6 - bars, 18, bars), np.abs(_nearest_line(v, 5.2)) - 1.5)
    aiming = _box(u - 210, np.abs(v) - 13, 22, 4)
    touchdown = np.maximum(_box(_nearest_line(u - 135, 75), np.abs(v) - 13, 14, 4.5), np.abs(u - 135) - 90)
    touchdown = np.maximum(touchdown, np.abs(_nearest_line(v, 3.4)) - 1)
    centre = np.maximum(_box(_nearest_line(u - 75, 46), v, 14, 0.9), 56 - u)
    marks = np.minimum(np.minimum(keys, aiming), np.minimum(touchdown, centre))
    scene.paint(_inside(np.minimum(marks, _box(u - 1, v, 1.3, half))) * 0.9, _PAINT)


def _sparse_residential(scene: _Scene) -> None:
    scene.ground(_MEADOW, _DRY_GRASS, _GRASS)
    bend = _meander(scene, scene.u, scene.pick(350, 600), 22) + scene.pick(-40, 40)
    lane = _nearest_line(scene.v - bend, 252)
    plots = _Cells(scene, scene.u + scene.pick(0, 90), scene.v - bend, (scene.pick(70, 96), 84))
    lived_in = plots.chance(0.85) * _inside(np.abs(lane) - 84)
    # The plots follow the lane; a house must not be bent with them.
    u, v = plots.u - plots.uniform(-14, 14), plots.v - plots.uniform(-10, 10) + bend - plots.mean(bend)
    lawn = lived_in * _ramp(_disc(u, v, 30) + 8 * scene.noise(30), 4, -4)
    scene.paint(lawn * 0.7, _GRASS)
    drive = np.maximum(np.abs(u - 5 + 3 * _wave(v / 80)) - 2, np.abs(lane) - 42)
    scene.paint(_inside(drive) * lived_in, plots.choice((_CONCRETE, _WORN_ASPHALT, _DUST)))
    woods = np.maximum(_ramp(scene.noise(90, 3) + 0.6 * _inside(84 - np.abs(lane)), -0.1, 0.6), 0.12)
    scene.plant(11, woods * (1 - 0.8 * lawn) * _inside(10 - np.abs(lane)) * (1 - _inside(drive - 5)), _LEAVES)
    pool = _box(u - plots.uniform(-12, 12), np.abs(lane) - plots.uniform(66, 72), 5, 3)
    has_pool = lived_in * plots.chance(0.25)
    scene.build(_inside(pool - 1.5) * has_pool, _CONCRETE, 0)
    scene.paint(_inside(pool) * has_pool, _POOL)
    # A rational turn: cosine and sine of one random angle a plot, without asking the C library.
    turn = plots.uniform(-0.25, 0.25)
    cos, sin = (1 - turn * turn) / (1 + turn * turn), 2 * turn / (1 + turn * turn)
    half = plots.uniform(10, 15), plots.uniform(6.5, 9)
    _houses(plots, (u * cos + v * sin, v * cos - u * sin), half, lived_in)
    cars = _box(u - 5, np.abs(lane) - plots.uniform(12, 30), 1.5, 3.3)
    scene.build(_inside(cars) * lived_in * plots.chance(0.6), plots.choice(_CARS), 2)
    _road(scene, scene.u, lane, 5)


_SCENES: Mapping[str, Callable[[_Scene], None]] = {
    "beach": _beach,
    "dense_residential": _dense_residential,
    "farmland": _farmland,
    "forest": _forest,
    "harbor": _harbor,
    "highway": _highway,
    "industrial": _industrial,
    "lake": _lake,
    "parking": _parking,
    "river": _river,
    "runway": _runway,
    "sparse_residential": _sparse_residential,
}
CLASSES: tuple[str, ...] = tuple(sorted(_SCENES))


def _photograph(scene: _Scene) -> NDArray[np.uint8]:
    """The scene lit by one sun, as a camera sees it: uint8 (H, W, 3), the margin gone."""
    sun_x, sun_y = _direction(scene.pick(0, 360))
    rise = scene.pick(0.75, 1.4)

    def view(field: Field, dx: int = 0, dy: int = 0) -> Field:
        top, left = _MARGIN - 1 + dy, _MARGIN - 1 + dx
        return field[..., top : top + scene.size[0] + 2, left : left + scene.size[1] + 2]

    here = view(scene.height)
    horizon = here
    for step in range(1, _LONGEST_SHADOW):
        dx, dy = round(step * sun_x), round(step * sun_y)
        horizon = np.maximum(horizon, view(scene.height, dx, dy) - step * rise)
    shadow = np.clip(horizon - here, 0, 1)
    slope_x = np.clip((view(scene.height, 1) - view(scene.height, -1)) / 2, -1, 1)
    slope_y = np.clip((view(scene.height, 0, 1) - view(scene.height, 0, -1)) / 2, -1, 1)
    light = 1 - 0.38 * np.clip(slope_x * sun_x + slope_y * sun_y, -1, 1)
    # Skylight is blue: shadows lose more red than blue.
    image = _expose(scene, view(scene.colour) * light * (1 - shadow * _planes((0.62, 0.58, 0.50))))
    return np.ascontiguousarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))


def _expose(scene: _Scene, image: Field) -> Field:
    """Haze, colour cast, blur and grain: (3, H + 2, W + 2) gives (3, H, W), a little beyond [0, 1]."""
    grey: Field = image.sum(0) / 3
    image = grey + scene.pick(0.75, 1.0) * (image - grey)
    haze = scene.pick(0.04, 0.14)
    image = image * ((1 - haze) * scene.pick(0.9, 1.12)) + haze * _planes((0.66, 0.72, 0.80))
    image = image * (1 + _planes((scene.pick(-0.04, 0.04), 0, scene.pick(-0.05, 0.05))))
    side = scene.pick(0.08, 0.2)
    image = image[:, 1:-1] * (1 - 2 * side) + (image[:, :-2] + image[:, 2:]) * side
    image = image[:, :, 1:-1] * (1 - 2 * side) + (image[:, :, :-2] + image[:, :, 2:]) * side
    grain = scene.rng.random((4, *scene.size), np.float32) - 0.5
    exposed: Field = image + 0.035 * grain[0] + 0.015 * grain[1:]
    return exposed


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
    scene = _Scene(size, np.random.default_rng([seed, CLASSES.index(label)]))
    _SCENES[label](scene)
    return _photograph(scene)


@dataclass(frozen=True)
class _DrawnSplit:
    """Scenes that are drawn when they are asked for, the classes in turn."""

    count: int
    size: tuple[int, int]
    seed: int
    random_access: bool = True

    def __len__(self) -> int:
        return self.count

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
        path = f"{name}/{name}_{number:04d}"
        return Tile(path, pixels, label, path, hashlib.sha256(pixels.tobytes()).hexdigest(), source_bytes=0)


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
