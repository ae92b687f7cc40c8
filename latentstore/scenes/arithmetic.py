"""Formulas over pixel coordinates: outlines as signed distances in pixels (negative inside), ramps and waves.

Only operations that IEEE 754 rounds exactly touch an array, so that every machine draws the same bytes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from latentstore.scenes.palette import Colour

    # float32 at run time; looser here, because numpy's types lose the width when Python floats mix in.
    Field = NDArray[np.floating[Any]]


def direction(degrees: float) -> tuple[float, float]:
    """Cosine and sine of an angle in degrees."""
    # Rounded, because the last bit of a cosine may differ between C libraries and scenes must not.
    return round(math.cos(math.radians(degrees)), 6), round(math.sin(math.radians(degrees)), 6)


def planes(colour: Colour | Field) -> Field:
    """(3, 1, 1) for a colour; (3, H, W) as it is."""
    given = np.asarray(colour, np.float32)
    return given if given.ndim == 3 else given.reshape(3, 1, 1)


def spline(grid: Field, at: Field) -> Field:
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


def ramp(field: Field, low: float, high: float) -> Field:
    """0 at low, 1 at high, smooth between; low may be the larger."""
    t = np.clip((field - low) / (high - low), 0, 1)
    smooth: Field = t * t * (3 - 2 * t)
    return smooth


def wave(t: Field) -> Field:
    """A parabolic sine of period 1: arithmetic alone, so the same bits on every machine."""
    phase = 2 * (t - np.floor(t)) - 1
    sine: Field = 4 * phase * (np.abs(phase) - 1)
    return sine


def inside(distance: Field) -> Field:
    """Coverage in [0, 1] from a signed distance in pixels, negative inside: edges one pixel soft."""
    cover: Field = np.clip(0.5 - distance, 0, 1)
    return cover


def box(u: Field, v: Field, half_u: Field | float, half_v: Field | float) -> Field:
    """Signed distance in pixels to a rectangle about the origin."""
    distance: Field = np.maximum(np.abs(u) - half_u, np.abs(v) - half_v)
    return distance


def disc(u: Field, v: Field, radius: Field | float) -> Field:
    """Signed distance in pixels to a circle about the origin."""
    distance: Field = np.sqrt(u * u + v * v) - radius
    return distance


def nearest_line(v: Field, pitch: float) -> Field:
    """Signed distance to the nearest of the parallel lines at multiples of the pitch."""
    distance: Field = v - np.floor(v / pitch + 0.5) * pitch
    return distance
