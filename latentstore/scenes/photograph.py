"""From colour and height to a photograph: light, shadows, haze and sensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentstore.scenes.arithmetic import direction, planes
from latentstore.scenes.canvas import MARGIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.scenes.arithmetic import Field
    from latentstore.scenes.canvas import Scene


_LONGEST_SHADOW = 17


def photograph(scene: Scene) -> NDArray[np.uint8]:
    """The scene lit by one sun, as a camera sees it: uint8 (H, W, 3), the margin gone."""
    sun_x, sun_y = direction(scene.pick(0, 360))
    rise = scene.pick(0.75, 1.4)

    def view(field: Field, dx: int = 0, dy: int = 0) -> Field:
        top, left = MARGIN - 1 + dy, MARGIN - 1 + dx
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
    image = _expose(scene, view(scene.colour) * light * (1 - shadow * planes((0.62, 0.58, 0.50))))
    return np.ascontiguousarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))


def _expose(scene: Scene, image: Field) -> Field:
    """Haze, colour cast, blur and grain: (3, H + 2, W + 2) gives (3, H, W), a little beyond [0, 1]."""
    grey: Field = image.sum(0) / 3
    image = grey + scene.pick(0.75, 1.0) * (image - grey)
    haze = scene.pick(0.04, 0.14)
    image = image * ((1 - haze) * scene.pick(0.9, 1.12)) + haze * planes((0.66, 0.72, 0.80))
    image = image * (1 + planes((scene.pick(-0.04, 0.04), 0, scene.pick(-0.05, 0.05))))
    side = scene.pick(0.08, 0.2)
    image = image[:, 1:-1] * (1 - 2 * side) + (image[:, :-2] + image[:, 2:]) * side
    image = image[:, :, 1:-1] * (1 - 2 * side) + (image[:, :, :-2] + image[:, :, 2:]) * side
    grain = scene.rng.random((4, *scene.size), np.float32) - 0.5
    exposed: Field = image + 0.035 * grain[0] + 0.015 * grain[1:]
    return exposed
