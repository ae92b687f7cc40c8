"""Scenes where people live and work: dense and sparse housing, and industry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentstore.scenes.arithmetic import box, disc, inside, nearest_line, ramp, wave
from latentstore.scenes.cells import Cells
from latentstore.scenes.objects import build_halls, build_houses, lay_road, meander, park_cars
from latentstore.scenes.palette import (
    ASPHALT,
    CARS,
    CONCRETE,
    DRY_GRASS,
    DUST,
    GRASS,
    HEDGE,
    LEAVES,
    MEADOW,
    PAINT,
    POOL,
    SHEETS,
    TANKS,
    TILES,
    WORN_ASPHALT,
)

if TYPE_CHECKING:
    from latentstore.scenes.arithmetic import Field
    from latentstore.scenes.canvas import Scene


def dense_residential(scene: Scene) -> None:
    """Blocks of small lots along streets with parked cars."""
    block, lot = 9.0 * int(scene.rng.integers(10, 13)), scene.pick(22, 27)
    u, v = scene.u + scene.pick(0, 200), scene.v + scene.pick(0, 100)
    scene.ground(GRASS, MEADOW, DRY_GRASS, scale=40)
    lots = Cells(scene, u, v, (lot, block / 2))
    scene.colour *= 0.9 + lots.uniform(0, 0.22)
    front = np.where(lots.odd > 0, -lots.v, lots.v) + block / 4
    cross = np.abs(nearest_line(u, lot * 9)) - 7
    street = np.minimum(np.abs(nearest_line(v, block)) - 6, cross)
    present = lots.clear(inside(cross))
    drive_u = lots.u - lots.uniform(-lot / 3, lot / 3)
    scene.paint(inside(box(drive_u, front - 10, 2.6, 9)) * present, CONCRETE)
    scene.build(inside(lot / 2 - 0.9 - np.abs(lots.u)) * lots.chance(0.5) * present, HEDGE, 1.5)
    pool = box(lots.u - lots.uniform(-5, 5), front - block * 0.40, lots.uniform(2, 4), lots.uniform(2, 3))
    has_pool = lots.chance(0.28) * present
    scene.paint(inside(pool - 1.5) * has_pool, CONCRETE)
    scene.paint(inside(pool) * has_pool, POOL)
    half = lots.uniform(lot * 0.33, lot * 0.42), lots.uniform(6.5, 9.5)
    build_houses(lots, (lots.u, front - lots.uniform(21, 25)), half, present)
    yards = inside(3 - street) * (1 - np.clip(scene.height, 0, 1)) * (1 - inside(pool - 3) * has_pool)
    scene.plant(11, yards * scene.pick(0.15, 0.45), LEAVES, 0.9)
    scene.paint(inside(street - 2.5), CONCRETE)
    scene.build(inside(street), scene.mottled(ASPHALT, 14), 0)
    # The block is a multiple of 9, so that one grid of cells parks along both kerbs of every street.
    kerbs = Cells(scene, u, v, (13, 9))
    park_cars(kerbs, kerbs.chance(0.3) * inside(np.abs(nearest_line(v, block)) - 7) * inside(-cross))


def sparse_residential(scene: Scene) -> None:
    """Houses on large plots under trees, along a bent lane."""
    scene.ground(MEADOW, DRY_GRASS, GRASS)
    bend = meander(scene, scene.u, scene.pick(350, 600), 22) + scene.pick(-40, 40)
    lane = nearest_line(scene.v - bend, 252)
    plots = Cells(scene, scene.u + scene.pick(0, 90), scene.v - bend, (scene.pick(70, 96), 84))
    lived_in = plots.chance(0.85) * inside(np.abs(lane) - 84)
    # The plots follow the lane; a house must not be bent with them.
    u, v = plots.u - plots.uniform(-14, 14), plots.v - plots.uniform(-10, 10) + bend - plots.mean(bend)
    lawn = lived_in * ramp(disc(u, v, 30) + 8 * scene.noise(30), 4, -4)
    scene.paint(lawn * 0.7, GRASS)
    drive = np.maximum(np.abs(u - 5 + 3 * wave(v / 80)) - 2, np.abs(lane) - 42)
    scene.paint(inside(drive) * lived_in, plots.choice((CONCRETE, WORN_ASPHALT, DUST)))
    woods = np.maximum(ramp(scene.noise(90, 3) + 0.6 * inside(84 - np.abs(lane)), -0.1, 0.6), 0.12)
    scene.plant(11, woods * (1 - 0.8 * lawn) * inside(10 - np.abs(lane)) * (1 - inside(drive - 5)), LEAVES)
    pool = box(u - plots.uniform(-12, 12), np.abs(lane) - plots.uniform(66, 72), 5, 3)
    has_pool = lived_in * plots.chance(0.25)
    scene.build(inside(pool - 1.5) * has_pool, CONCRETE, 0)
    scene.paint(inside(pool) * has_pool, POOL)
    # A rational turn: cosine and sine of one random angle a plot, without asking the C library.
    turn = plots.uniform(-0.25, 0.25)
    cos, sin = (1 - turn * turn) / (1 + turn * turn), 2 * turn / (1 + turn * turn)
    half = plots.uniform(10, 15), plots.uniform(6.5, 9)
    build_houses(plots, (u * cos + v * sin, v * cos - u * sin), half, lived_in)
    cars = box(u - 5, np.abs(lane) - plots.uniform(12, 30), 1.5, 3.3)
    scene.build(inside(cars) * lived_in * plots.chance(0.6), plots.choice(CARS), 2)
    lay_road(scene, scene.u, lane, 5)


def industrial(scene: Scene) -> None:
    """Halls, tanks, lorries and stacked crates on paved plots."""
    scene.ground(WORN_ASPHALT, CONCRETE, DUST)
    u, v = scene.u + scene.pick(0, 150), scene.v + scene.pick(0, 100)
    pitch = (scene.pick(105, 150), scene.pick(78, 96))
    plots = Cells(scene, u, v, pitch)
    inset = -box(plots.u, plots.v, pitch[0] / 2 - 7, pitch[1] / 2 - 7)
    scene.paint(inside(inset - 3) * plots.chance(0.7), GRASS)
    scene.plant(9, inside(np.abs(inset) - 2) * 0.35, LEAVES)
    scene.build(inside(inset), scene.mottled(ASPHALT, 30), 0)
    dashes = np.maximum(np.abs(inset + 7) - 0.3, np.abs(nearest_line(u + v, 18)) - 4)
    scene.paint(inside(dashes) * 0.7, PAINT)
    hall = plots.chance(0.7)
    half = plots.uniform(pitch[0] * 0.24, pitch[0] * 0.39), plots.uniform(pitch[1] * 0.18, pitch[1] * 0.3)
    yard = inside(6 - inset)
    _build_tanks(Cells(scene, u, v, (pitch[0] / 5, pitch[1] / 4)), np.maximum(hall, 1 - yard))
    build_halls(plots, half, hall, 9)
    # Each plot starts its docks elsewhere, or all halls in a line would have the same lorries.
    docks = Cells(scene, plots.v - half[1], u + plots.uniform(0, 2000), (26, 5.5))
    apron = np.maximum(box(plots.u, plots.v - half[1] - 13, half[0] - 1, 13), 2 - inset)
    park_cars(docks, docks.chance(0.4) * hall * docks.clear(1 - inside(apron)), (9, 1.9))
    crates = Cells(scene, u, v, (5.5, 18))
    stacked = crates.chance(0.8) * crates.clear(np.maximum(np.minimum(scene.height, 1), 1 - yard))
    stacked *= crates.mean(scene.noise(60)) > 0.15
    paints = crates.choice((*TILES, *SHEETS, *CARS))
    scene.build(inside(box(crates.u, crates.v, 2.2, 8)) * stacked, paints, 3.5)


def _build_tanks(cells: Cells, obstacle: Field) -> None:
    """A round tank with a walkway around its roof in every cell that is clear."""
    scene, rim = cells.scene, disc(cells.u, cells.v, cells.uniform(7, 10))
    clear = cells.clear(obstacle)
    scene.build(inside(rim) * clear, cells.choice(TANKS), 9)
    scene.paint(inside(np.abs(rim + 2) - 0.4) * clear * 0.4, ASPHALT)
