"""Scenes with more ground than buildings: beach, farmland, forest, lake and river."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentstore.scenes.arithmetic import box, disc, inside, nearest_line, ramp, wave
from latentstore.scenes.cells import Cells
from latentstore.scenes.objects import lay_road, lay_water, meander
from latentstore.scenes.palette import (
    BIRCH,
    CONIFER,
    CROPS,
    DRY_GRASS,
    DUST,
    FOAM,
    FOREST_FLOOR,
    GRASS,
    HEDGE,
    LAKE,
    LEAVES,
    MEADOW,
    PALE_SAND,
    PARASOLS,
    RIVER,
    SAND,
    SEA,
    SOIL,
    WET_SAND,
)

if TYPE_CHECKING:
    from latentstore.scenes.canvas import Scene


def beach(scene: Scene) -> None:
    """Dunes, sand with parasols, and a sea with surf."""
    sea = scene.v + meander(scene, scene.u, 400, 14) + 9 * scene.noise(50, 3) + 1.2 * scene.noise(6, 2)
    scene.ground(SAND, PALE_SAND)
    scene.colour *= 1 + 0.03 * scene.noise(3)
    dunes = ramp(sea + 12 * scene.noise(30, 3), 45, 75)
    scene.paint(dunes * ramp(scene.noise(12, 3), -0.5, 0.4), DRY_GRASS)
    scene.height += dunes * (3 + 3 * scene.noise(25, 2))
    scene.plant(9, ramp(sea, 70, 110) * 0.7, LEAVES)
    parasols = Cells(scene, scene.u, scene.v, (10, 10))
    there = parasols.chance(scene.pick(0, 0.5)) * inside(np.abs(parasols.mean(sea) - 26) - 12)
    shade = disc(parasols.u - parasols.uniform(-2, 2), parasols.v - parasols.uniform(-2, 2), 2.2)
    scene.build(inside(shade) * there, parasols.choice(PARASOLS), 2.5)
    scene.paint(ramp(sea, 9, 1), WET_SAND)
    lay_water(scene, sea, 90, SEA)
    surf = sea + 5 * scene.noise(18, 2)
    for offset in (1, 12, 25):
        broken = ramp(scene.noise(20, 3), -0.5 + offset / 30, 0.5 + offset / 30)
        scene.paint(np.maximum(1 - np.abs(surf + offset) / 2.5, 0) * broken, FOAM)


def farmland(scene: Scene) -> None:
    """Strips of fields with furrows and hedges, and a lane."""
    scene.ground(SOIL, DRY_GRASS)
    u, v = (axis + 9 * scene.noise(160) + scene.pick(0, 300) for axis in (scene.u, scene.v))
    strips = Cells(scene, u * 0, v, (1, scene.pick(75, 130)))
    shifted = u + strips.uniform(0, 300) + scene.pick(-0.3, 0.3) * strips.v
    fields = Cells(scene, shifted, v, (scene.pick(90, 190), strips.pitch[1]))
    crop = fields.choice(CROPS) * (1 + 0.10 * scene.noise(70, 4))
    turned = fields.chance(0.5)
    rows = np.where(turned > 0, fields.u, fields.v)
    furrows = wave(rows / fields.uniform(3.5, 7)) * fields.uniform(0, 0.12)
    tracks = inside(np.abs(np.abs(nearest_line(rows, 34)) - 1.6) - 0.4) * fields.chance(0.6)
    scene.paint(1, crop * (1 + furrows + 0.04 * scene.noise(3)) * (1 - 0.13 * tracks))
    edge = -box(fields.u, fields.v, fields.pitch[0] / 2, fields.pitch[1] / 2) + 1.5 * scene.noise(20)
    scene.paint(ramp(edge, 3.5, 1.5), MEADOW)
    hedged = inside(np.abs(strips.v) - strips.pitch[1] / 2 + 5) < 1
    scene.plant(7, inside(edge - 3) * hedged * ramp(scene.noise(90), -0.3, 0.3), HEDGE, 0.8)
    lane = scene.v - meander(scene, scene.u, 700, 20) + scene.pick(-90, 90)
    scene.paint(inside(np.abs(lane) - 4.5), MEADOW)
    scene.build(inside(np.abs(lane) - 3), scene.mottled(DUST, 9), 0)


def forest(scene: Scene) -> None:
    """Leaf trees, birches and conifers, with glades and at times a track."""
    scene.ground(FOREST_FLOOR)
    scene.height += 6 * scene.noise(110, 2)
    glade = scene.noise(120, 3) + 0.35
    scene.paint(ramp(glade, -0.7, -1.0), scene.mottled(MEADOW, 40, 0.10))
    track = np.abs(scene.v - meander(scene, scene.u, 500, 40)) + 4 * scene.noise(40) - 3
    if scene.pick(0, 1) < 0.4:
        scene.paint(ramp(track, 2, 0), DUST)
        glade = np.minimum(glade, -1.2 + 0.2 * track)
    stand = scene.noise(130, 3)
    scene.plant(10, ramp(glade, -1.1, -0.7) + 0.04, LEAVES)
    scene.plant(6, 0.5 * ramp(glade, -1.0, -0.6), BIRCH, 1.5)
    scene.plant(8, ramp(stand, -0.1, 0.3) * ramp(glade, -1.0, -0.6), CONIFER, 1.4)


def lake(scene: Scene) -> None:
    """A wooded shore around open water."""
    scene.ground(GRASS, MEADOW, DRY_GRASS)
    u, v = scene.u + scene.pick(-30, 30), scene.v * scene.pick(1.1, 1.6) + scene.pick(-30, 30)
    shore = disc(u, v, scene.pick(75, 100)) + 34 * scene.noise(90, 2) + 3 * scene.noise(14, 3)
    scene.height += 5 * scene.noise(120, 2) * ramp(shore, 0, 50)
    wooded = ramp(scene.noise(110, 3), -0.3, 0.4) * ramp(shore, 3, 14)
    scene.plant(10, wooded, LEAVES)
    scene.plant(8, 0.8 * wooded * ramp(scene.noise(60), 0, 0.5), CONIFER, 1.2)
    scene.paint(ramp(shore, 7, 1) * (1 - np.clip(scene.height - 6, 0, 1)), DUST)
    lay_water(scene, shore, 40, LAKE)


def river(scene: Scene) -> None:
    """A winding river between fields and woods, at times under a bridge."""
    scene.ground(MEADOW, GRASS, DRY_GRASS)
    across = scene.v - meander(scene, scene.u, scene.pick(260, 420), scene.pick(25, 45))
    width = scene.pick(16, 32)
    bank = np.abs(across) - width + 7 * scene.noise(60, 2) + 1.5 * scene.noise(10, 2)
    fields = Cells(scene, scene.u, scene.v, (110, 80))
    cleared = ramp(scene.noise(200), -0.1, 0.1) * inside(24 - bank)
    scene.paint(cleared * 0.8, fields.choice(CROPS) * (1 + 0.08 * wave(fields.v / 5)))
    fringe = ramp(bank, 26, 8) * ramp(scene.noise(60, 2), -0.5, 0.3)
    wooded = np.maximum(fringe, ramp(scene.noise(140, 2), 0.1, 0.4))
    scene.plant(10, wooded * ramp(bank, 2, 9) * (1 - cleared), LEAVES)
    sand = ramp(bank + 6 * scene.noise(50), 8, 2) * (1 - np.clip(scene.height, 0, 1))
    scene.paint(sand, SAND)
    lay_water(scene, bank, 18, RIVER)
    if scene.pick(0, 1) < 0.4:
        lay_road(scene, scene.v, scene.u + scene.pick(-60, 60), 7, inside(bank - 4))
