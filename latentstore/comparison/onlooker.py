"""Metrics that look on while a config is built: those that need weights, and those of whole sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from latentstore.comparison.protocols import ProtocolRow, Score
from latentstore.errors import RequestError
from latentstore.metrics.inception import truncated_uint8
from latentstore.metrics.interface import SetScorer, open_together, update_together
from latentstore.pixels import to_uint8
from latentstore.quality import summarise

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from latentstore.metrics.interface import MetricRow, Scorer, SetMetricRow
    from latentstore.normalisation import Normalisation
    from latentstore.records import LatentBatch
    from latentstore.vaes.interface import Vae, VaeIdentity, VaeRow


@dataclass(frozen=True)
class OnlookingMetrics:
    """The metrics of a protocol that look on, opened, by the name of their column."""

    pictures: Mapping[str, MetricRow]
    sets: Mapping[str, SetMetricRow]
    picture_scorers: Mapping[str, Scorer]
    set_scorers: Mapping[str, SetScorer]
    """By the name of the metric."""
    unavailable: Mapping[str, str]
    """Columns that lack their weights: which file, and how to get it."""

    @classmethod
    def of(cls, protocol: ProtocolRow, weights: str | Path | None) -> OnlookingMetrics:
        """Those that can be had with the weights in a folder, and for each of the others what it lacks."""
        pictures = {column.name: column.picture.at(weights) for column in protocol.columns if column.picture}
        sets = {column.name: column.set.at(weights) for column in protocol.columns if column.set}
        reasons = {name: row.unavailable() for name, row in pictures.items()}
        reasons |= {name: row.unavailable() for name, row in sets.items()}
        lacking = {name: reason for name, reason in reasons.items() if reason}
        at_hand = {name: row for name, row in pictures.items() if name not in lacking}
        together = {name: row for name, row in sets.items() if name not in lacking}
        return cls(
            pictures=at_hand,
            sets=together,
            picture_scorers={name: row.open() for name, row in at_hand.items()},
            set_scorers=open_together(list(together.values())),
            unavailable={column.name: lacking[column.name] for column in protocol.columns if column.name in lacking},
        )


class RememberingVae:
    """A loaded VAE that remembers its last pictures before they became 8-bit numbers."""

    def __init__(self, vae: Vae) -> None:
        self._vae = vae
        self._last: torch.Tensor | None = None

    @property
    def row(self) -> VaeRow:
        """See ``Vae.row``."""
        return self._vae.row

    @property
    def identity(self) -> VaeIdentity:
        """See ``Vae.identity``."""
        return self._vae.identity

    @property
    def normalisation(self) -> Normalisation:
        """See ``Vae.normalisation``."""
        return self._vae.normalisation

    def encode(self, pixels: torch.Tensor) -> LatentBatch:
        """See ``Vae.encode``."""
        return self._vae.encode(pixels)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Vae.decode``."""
        self._last = self._vae.decode(latents)
        return self._last

    def unrounded(self, seen: torch.Tensor) -> torch.Tensor:
        """The pictures (N, 3, H, W) in [0, 1] of which rounding made ``seen``, just decoded."""
        import torch

        if self._last is None:
            raise RequestError("No picture was decoded yet.")
        last = self._last[:, :, : seen.shape[2], : seen.shape[3]]
        if len(last) == len(seen):
            return last
        # Pictures of another true size were in the same batch: find these among them.
        rounded = list(to_uint8(last))
        places: list[int] = []
        for picture in seen:
            places.append(next(i for i, other in enumerate(rounded) if i not in places and torch.equal(picture, other)))
        return last[places]


class Onlooker:
    """Takes in every picture of one VAE as it is measured."""

    def __init__(self, metrics: OnlookingMetrics, vae: RememberingVae) -> None:
        self._metrics = metrics
        self._vae = vae
        by_name = {metric.name: name for name, metric in metrics.sets.items()}
        # The network is shared by all VAEs, what it has seen is not.
        self._sets = {
            by_name[name]: replace(scorer, distance=scorer.row.distance(scorer.row.network.features))
            for name, scorer in metrics.set_scorers.items()
        }
        self._scores: dict[str, list[float]] = {name: [] for name in metrics.picture_scorers}
        self.pictures = 0

    @property
    def wants_pictures(self) -> bool:
        """False where it has nothing to measure."""
        return bool(self._scores or self._sets)

    def __call__(self, original: torch.Tensor, decoded: torch.Tensor) -> None:
        """One batch of pictures of one size, uint8."""
        self.pictures += len(original)
        for name, scorer in self._metrics.picture_scorers.items():
            self._scores[name].extend(scorer(original, decoded).tolist())
        truncated = [scorer for scorer in self._sets.values() if scorer.row.truncated]
        update_together([scorer for scorer in self._sets.values() if not scorer.row.truncated], original, decoded)
        if truncated:
            unrounded = self._vae.unrounded(decoded)
            update_together(truncated, truncated_uint8(original.float() / 255), truncated_uint8(unrounded))

    def score(self, column: str) -> Score:
        """What came out for a column."""
        if column in self._sets:
            if self.pictures < 2:
                return Score(None, "it compares sets of 2 pictures or more", self.pictures)
            found = self._sets[column].compute()
            return Score(found.value, n=found.n, warnings=found.warnings)
        scores = np.array(self._scores[column], np.float64)
        names = [str(number) for number in range(len(scores))]
        summary = summarise(
            self._metrics.pictures[column], scores, np.ones(len(scores)), names, [None] * len(scores), ()
        )
        missing = "" if summary.mean is not None else "no picture is large enough"
        return Score(summary.mean, missing, summary.n, summary.median, summary.p5, summary.p95)
