"""The pictures of the figure and of the rate curves: the same for every VAE and every image file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from latentstore.records import Tile

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.comparison.replay import Replay
    from latentstore.vaes.interface import Vae

    Picture = NDArray[np.uint8]

CURVE_PICTURES = 64
"""Pictures behind the rate curves, at most: encoding all of a large dataset at every quality would take hours."""


@dataclass
class ChosenPictures:
    """Drawn once, with a seed, from the ids of the first VAE that is measured."""

    shown: int
    """How many the figure shows: the first of them."""
    behind_curves: int
    """How many are behind the rate curves."""
    seed: int
    ids: tuple[str, ...] = ()
    tiles: dict[str, Tile] = field(default_factory=dict)
    """The prepared pictures, by id, as far as they were seen."""

    def draw(self, ids: Sequence[str]) -> None:
        """Choose, unless that was done: the same for every order of the ids."""
        count = max(self.shown, self.behind_curves)
        if count and not self.ids:
            order = np.random.default_rng([self.seed, len(ids)]).permutation(len(ids))[:count]
            names = sorted(ids)
            self.ids = tuple(names[place] for place in order.tolist())

    def decoded(self, replay: Replay, vae: Vae) -> dict[str, Picture]:
        """Their decode (H, W, 3) from what a VAE's config stores, by id; their own pixels are kept on the way."""
        found: dict[str, Picture] = {}
        for batch in replay.batches(vae, ids=set(self.ids)):
            for tile, picture in zip(batch.tiles, batch.decoded, strict=True):
                self.tiles.setdefault(tile.id, tile)
                found[tile.id] = _picture(picture)
        return found

    def of_figure(self) -> dict[str, Picture]:
        """The prepared pictures of the figure, by id."""
        return {name: self.tiles[name].pixels for name in self.ids[: self.shown] if name in self.tiles}

    def of_curves(self, among: Mapping[str, object] | None = None) -> list[Tile]:
        """The prepared pictures behind the curves (those of one VAE: of these ids), in the order of the draw."""
        known = self.tiles if among is None else among
        return [self.tiles[name] for name in self.ids[: self.behind_curves] if name in known]


def _picture(planes: torch.Tensor) -> Picture:
    return np.ascontiguousarray(planes.permute(1, 2, 0).cpu().numpy())
