"""Scenes of traffic: a harbour, a highway, a car park and a runway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentstore.scenes.arithmetic import box, inside, nearest_line, ramp, wave
from latentstore.scenes.cells import Cells
from latentstore.scenes.objects import build_halls, lay_road, lay_water, mark_lot, meander, park_cars
from latentstore.scenes.palette import (
    ASPHALT,
    CABINS,
    CONCRETE,
    DOCK,
    DRY_GRASS,
    GLASS,
    GRASS,
    HULLS,
    LEAVES,
    MEADOW,
    PAINT,
    PLANKS,
    SHEETS,
    WORN_ASPHALT,
    YELLOW_PAINT,
)

if TYPE_CHECKING:
    from latentstore.scenes.arithmetic import Field
    from latentstore.scenes.canvas import Scene


def harbor(scene: Scene) -> None:
    """Boats at walks, a quay with a car park, and sheds."""
    u, v = scene.u, scene.v + scene.pick(-40, 20)
    berth = scene.pick(8, 11)
    spacing = berth * scene.pick(6.2, 7)
    lay_water(scene, np.full(scene.shape, -60, np.float32), 50, DOCK)
    end = -v - scene.pick(90, 130)
    side = np.abs(nearest_line(u, spacing)) - 2.2
    fingers = np.maximum(np.abs(nearest_line(v, berth)) - 0.6, side - 1.4 * berth)
    scene.build(inside(np.maximum(np.minimum(side, fingers), end)), scene.mottled(PLANKS, 5), 1.2)
    moored = Cells(scene, u, v, (spacing / 2, berth))
    taken = moored.chance(scene.pick(0.5, 0.9)) * moored.clear(inside(-np.maximum(v - 54, end)))
    _moor_boats(moored, side - 2, taken)
    quay = v - 56
    scene.build(inside(-quay), scene.mottled(CONCRETE, 40, 0.08), 1.5)
    scene.paint(inside(np.abs(quay - 1.5) - 1), PAINT)
    scene.paint(inside(np.abs(quay - 32) - 20), scene.mottled(ASPHALT, 30))
    mark_lot(scene, u, quay - 15, 34)
    sheds = Cells(scene, u + scene.pick(0, 90), quay - 58, (90, 62))
    build_halls(sheds, (sheds.uniform(24, 40), sheds.uniform(14, 22)), inside(58 - quay), 7)
    scene.plant(8, inside(np.abs(quay - 55) - 2) * 0.8, LEAVES)


def _moor_boats(berths: Cells, bow: Field, afloat: Field) -> None:
    """Moored boats; `bow` is the distance from the walk in pixels, v runs across the hull."""
    scene, berth = berths.scene, berths.pitch[1]
    length, beam = berths.uniform(1.1, 1.9) * berth, berths.uniform(0.24, 0.34) * berth
    along = (bow - length / 2) / (length / 2)
    taper = beam * (1 - np.maximum(along, 0) ** 2 * 0.9)
    hull = np.maximum(np.abs(berths.v) - taper, (np.abs(along) - 1) * length / 2)
    scene.build(inside(hull) * afloat, berths.choice(HULLS), 2)
    cabin = box(bow - length * 0.42, berths.v, length * 0.2, beam * 0.5)
    scene.build(inside(cabin) * afloat, berths.choice(CABINS), 4)


def highway(scene: Scene) -> None:
    """Two carriageways with cars and lorries, at times under a bridge."""
    scene.ground(GRASS, DRY_GRASS, MEADOW)
    across = scene.v - meander(scene, scene.u, scene.pick(500, 1200), scene.pick(5, 30))
    side = np.abs(across)
    lane, median = 5.4, scene.pick(3, 9)
    width = lane * int(scene.rng.integers(2, 4))
    edge = side - median - width - 5
    scene.plant(10, ramp(edge, 12, 40) * ramp(scene.noise(80, 3), -0.4, 0.5), LEAVES)
    scene.build(inside(edge - 3), DRY_GRASS, 0)
    worn = scene.mottled(WORN_ASPHALT, 20) * (1 - 0.05 * wave((side - median) / lane + 0.25))
    scene.build(inside(np.maximum(edge, median - 2 - side)), worn, 0)
    scene.build(inside(side - 0.6), CONCRETE, 1.5)
    carriageway = np.abs(side - median - width / 2) - width / 2
    scene.paint(inside(np.abs(carriageway) - 0.45) * 0.9, PAINT)
    dashes = np.maximum(np.abs(nearest_line(side - median, lane)) - 0.4, carriageway + lane / 2)
    scene.paint(inside(np.maximum(dashes, np.abs(nearest_line(scene.u, 17)) - 3)), PAINT)
    # The second carriageway's lanes are counted from -100, so that it has traffic of its own.
    lanes = np.where(across > 0, side - median, median - side - 100 * lane)
    for half, pitch, share in (((3.4, 1.5), 26, 0.3), ((9.0, 1.9), 90, 0.22)):
        cells = Cells(scene, scene.u, lanes, (pitch, lane))
        park_cars(cells, cells.chance(share) * inside(carriageway), half)
    if scene.pick(0, 1) < 0.45:
        lay_road(scene, scene.v, scene.u + scene.pick(-60, 60), 7, inside(edge - 7))


def parking(scene: Scene) -> None:
    """Rows of parked cars, at times with planted islands."""
    scene.ground(ASPHALT, WORN_ASPHALT)
    u, v = scene.u, scene.v + scene.pick(0, 34) + 3400
    mark_lot(scene, u, v, 1e5, scene.pick(0.45, 0.9))
    island = Cells(scene, u + scene.pick(0, 100), v - 17, (scene.pick(80, 130), 34))
    bed = box(island.u, np.abs(island.v) - 17, 4, 15) + 99 * (scene.pick(0, 1) < 0.4)
    scene.build(inside(bed), CONCRETE, 0.5)
    scene.build(inside(bed + 1), GRASS, 0.5)
    scene.plant(9, inside(bed) * 0.8, LEAVES)
    edge = scene.u + scene.pick(70, 150)
    scene.build(inside(edge + 14), GRASS, 0)
    scene.plant(10, inside(edge + 18) * 0.5, LEAVES)


def runway(scene: Scene) -> None:
    """The end of a runway, a taxiway and at times an airliner."""
    scene.ground(GRASS, DRY_GRASS, MEADOW)
    scene.colour *= 1 + 0.03 * wave(scene.v / 16)
    u, v = scene.u + scene.pick(-60, 110), scene.v + scene.pick(0, 45)
    half = scene.pick(26, 32)
    taxiway = v - half - scene.pick(60, 75)
    link = box(u - scene.pick(90, 160), v - 45, 11, 45)
    paved = np.minimum(np.abs(taxiway) - 10, link)
    scene.paint(inside(paved - 3), DRY_GRASS)
    scene.paint(inside(paved), scene.mottled(WORN_ASPHALT, 30))
    scene.paint(inside(np.abs(taxiway) - 0.6), YELLOW_PAINT)
    strip = np.maximum(np.abs(v) - half - 5, -u - 20)
    scene.paint(inside(strip), scene.mottled(ASPHALT, 60))
    scene.paint(inside(np.abs(np.abs(v) - half) - 0.8) * inside(-u), PAINT)
    _paint_runway(scene, u, v, half)
    if scene.pick(0, 1) < 0.6:
        _park_airliner(scene, u - scene.pick(-60, 150), taxiway)


def _park_airliner(scene: Scene, u: Field, v: Field) -> None:
    """One airliner about the origin, its nose towards +u."""
    side, along = np.abs(v), (u / 23) ** 2
    body = np.maximum(side - 2.7 * np.sqrt(np.maximum(1 - along * along, 0)), np.abs(u) - 23)
    wings = np.maximum(np.abs(u + 0.5 * side - 5) - 4.8 + 0.17 * side, side - 21)
    tail = np.maximum(np.abs(u + 0.5 * side + 18) - 2.2, side - 7.5)
    scene.build(inside(np.minimum(wings, tail)), SHEETS[0], 4)
    scene.build(inside(box(u - 3, side - 8, 3, 1.3)), SHEETS[1], 4)
    scene.build(inside(body), PAINT, 6 - 0.4 * side)


def _paint_runway(scene: Scene, u: Field, v: Field, half: float) -> None:
    """Rubber, threshold bars, touchdown zone, aiming points and centre line; the threshold is at u = 0."""
    rubber = ramp(np.abs(v), 13, 0) * ramp(u, 30, 120) * ramp(scene.noise(40, 3), -1.5, 1)
    scene.paint(rubber * 0.45, GLASS)
    bars = int((half - 4) / 5.2) * 2.6
    keys = np.maximum(box(u - 24, np.abs(v) - 2.6 - bars, 18, bars), np.abs(nearest_line(v, 5.2)) - 1.5)
    aiming = box(u - 210, np.abs(v) - 13, 22, 4)
    touchdown = np.maximum(box(nearest_line(u - 135, 75), np.abs(v) - 13, 14, 4.5), np.abs(u - 135) - 90)
    touchdown = np.maximum(touchdown, np.abs(nearest_line(v, 3.4)) - 1)
    centre = np.maximum(box(nearest_line(u - 75, 46), v, 14, 0.9), 56 - u)
    marks = np.minimum(np.minimum(keys, aiming), np.minimum(touchdown, centre))
    scene.paint(inside(np.minimum(marks, box(u - 1, v, 1.3, half))) * 0.9, PAINT)
