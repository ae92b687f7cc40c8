"""Objects that scenes share: water, vehicles, houses, roads, car parks and halls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentstore.scenes.arithmetic import box, inside, nearest_line, planes, ramp, wave
from latentstore.scenes.cells import Cells
from latentstore.scenes.palette import ASPHALT, CARS, CONCRETE, DRY_GRASS, GLASS, PAINT, SHEETS, TILES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latentstore.scenes.arithmetic import Field
    from latentstore.scenes.canvas import Scene
    from latentstore.scenes.palette import Colour


def meander(scene: Scene, u: Field, length: float, swing: float) -> Field:
    """How far a winding line strays sideways at each u, in pixels."""
    bends, wiggles = wave(u / length + scene.pick(0, 1)), wave(u / (length * 0.43) + scene.pick(0, 1))
    strays: Field = swing * (bends + 0.35 * wiggles)
    return strays


def lay_water(scene: Scene, distance: Field, reach: float, colours: Sequence[Colour]) -> None:
    """Water with waves where the distance is negative, darkening over `reach` pixels from the shore."""
    depth = ramp(distance + 6 * scene.noise(40, 2), 0, -reach)
    shallow, deep = colours
    body = planes(shallow) + depth * (planes(deep) - planes(shallow))
    u, _ = scene.axes(scene.pick(0, 180))
    waves = wave(u / 7 + 0.8 * scene.noise(24, 2)) * scene.noise(18)
    body = body * (1 + 0.06 * scene.noise(60, 3) + 0.05 * waves + 0.05 * scene.noise(3))
    scene.build(inside(distance), body, 0)


def park_cars(cells: Cells, present: Field, half: tuple[float, float] = (3.3, 1.5)) -> None:
    """One vehicle along u in each cell where `present` is 1."""
    scene, u = cells.scene, cells.u - cells.uniform(-1, 1)
    body = inside(box(u, cells.v, *half)) * present
    glass = inside(box(np.abs(u + 0.3) - half[0] * 0.45, cells.v, 0.4, half[1] * 0.6)) * present
    scene.build(body, cells.choice(CARS), 2.0)
    scene.paint(glass * 0.7, GLASS)


def build_houses(cells: Cells, place: tuple[Field, Field], half: tuple[Field, Field], present: Field) -> None:
    """Houses with gabled or hipped roofs, some with a wing; `place` is (u, v) about the middle of each."""
    scene, (u, v) = cells.scene, place
    wing = half[0] * cells.uniform(0.1, 0.6)
    main = box(u, v, *half)
    side = box(u - wing * (1 - 2 * cells.chance(0.5)), v - half[1] * 0.6, half[0] * 0.4, half[1] * 0.9)
    has_wing = cells.chance(0.6)
    outline = np.where(has_wing > 0, np.minimum(main, side), main)
    gable = np.where(half[0] > half[1], half[1] - np.abs(v), half[0] - np.abs(u))
    slope = np.where(cells.chance(0.5) > has_wing, gable, -outline)
    roof = cells.choice(TILES) * (1 + 0.05 * scene.noise(2) + 0.04 * wave(u / 3))
    scene.build(inside(outline) * present, roof, 4 + 0.55 * np.maximum(slope, 0))


def lay_road(scene: Scene, along: Field, across: Field, half: float, bridge: Field | float = 0) -> None:
    """A road of two lanes that clears what it crosses, or spans it where `bridge` is 1."""
    edge = np.abs(across) - half
    scene.paint(inside(edge - 3) * (0.5 - 0.5 * bridge), DRY_GRASS)
    deck = np.maximum(inside(edge), inside(edge - 1.5) * bridge)
    scene.build(deck, scene.mottled(ASPHALT, 12), 6 * bridge)
    scene.paint(inside(np.abs(edge - 0.7) - 0.7) * bridge, CONCRETE)
    dashes = inside(np.abs(nearest_line(along, 18)) - 4)
    scene.paint(inside(np.abs(across) - 0.4) * dashes * 0.8, PAINT)
    traffic = Cells(scene, along, across, (60, half))
    park_cars(traffic, traffic.chance(0.3) * inside(edge))


def mark_lot(scene: Scene, u: Field, v: Field, depth: float, full: float = 0.6) -> None:
    """Parking along u, from v = 0 to `depth`: every 34 pixels two rows nose to nose, then an aisle."""
    rows = Cells(scene, v - 8.5, u, (8.5, 5.2))
    spine = np.abs(nearest_line(v - 17, 34))
    marked = inside(np.maximum(spine - 8.5, np.maximum(-v, v - depth)))
    lines = np.maximum(inside(2.25 - np.abs(rows.v)), inside(spine - 0.3))
    scene.paint(lines * marked * 0.85, PAINT)
    park_cars(rows, rows.chance(full) * marked)


def build_halls(cells: Cells, half: tuple[Field, Field], present: Field, tall: float) -> None:
    """Large flat or shallow-gabled halls with ribbed roofs, skylights and vents."""
    scene, distance = cells.scene, box(cells.u, cells.v, *half)
    ribs = 1 + 0.05 * wave(cells.u / 5) + 0.03 * scene.noise(30, 3)
    cover = inside(distance) * present
    ridge = np.where(cells.chance(0.5) > 0, 0.22 * (half[1] - np.abs(cells.v)), 0)
    scene.build(cover, cells.choice(SHEETS) * ribs, tall + ridge)
    scene.paint(cover * inside(-distance - 1) * 0.5, PAINT)
    lights = box(nearest_line(cells.u, 15), np.abs(cells.v) - half[1] * 0.5, 1.4, half[1] * 0.28)
    lights = np.maximum(lights, distance + 4)
    scene.paint(inside(lights) * present * cells.chance(0.5) * 0.7, PAINT)
    vents = Cells(scene, *cells.axes, (16, 13))
    vent = np.maximum(box(vents.u, vents.v, 1.7, 1.5), distance + 5)
    scene.build(inside(vent) * vents.chance(0.25) * present, SHEETS[2], tall + 5)
