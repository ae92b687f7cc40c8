"""What a metric is: one number a picture, or one a set of pictures, from originals and decoded pictures as uint8.

Rows can be read without loading anything heavy. Where a metric needs weights, its row says which file and sha256;
``row.at(folder)`` is the same row with its weights looked for there, as for a VAE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from latentstore.errors import MetricError, RequestError
from latentstore.metrics.weights import WeightsFile, find_weights

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Features = NDArray[np.float32]
    State = Mapping[str, NDArray[np.generic]]


# One number a picture ------------------------------------------------------------------------------------------------


class Scorer(Protocol):
    """A metric with whatever it needs loaded."""

    def __call__(self, reference: torch.Tensor, reconstruction: torch.Tensor) -> NDArray[np.float64]:
        """Scores of a batch, shape (N,), from two uint8 tensors (N, 3, H, W) on one device.

        NaN where the metric is undefined for the picture (too small); each score is independent of the
        rest of the batch.
        """


@dataclass(frozen=True)
class MetricRow:
    """One metric, readable without loading anything heavy."""

    name: str
    """Name of the column: ``psnr``."""
    title: str
    """As people write it: ``PSNR``."""
    unit: str
    """``dB``, or empty."""
    higher_is_better: bool
    protocol: str
    """One sentence: range, window, what is averaged; goes into every manifest."""
    load: Callable[[Mapping[str, Path]], Scorer]
    """The scorer, from the checked files of ``weights`` by their names."""
    pool: Callable[[NDArray[np.float64], NDArray[np.float64]], float] | None = None
    """Dataset value from all scores (N,) and pixel counts (N,), where it is not the mean of the scores."""
    default: bool = False
    """Whether a build measures it when not told otherwise."""
    weights: tuple[WeightsFile, ...] = ()
    """The files it needs; none for most."""
    location: Path | None = None
    """Where they lie: the folder that holds them, or the file."""

    def at(self, location: str | Path | None) -> MetricRow:
        """The same metric, with its weights read from a folder or a file."""
        return replace(self, location=None if location is None else Path(location))

    def open(self) -> Scorer:
        """Loads what the metric needs; raises MetricError with one clear sentence where it is not at hand."""
        return _guarded(self.name, self.load(_found(self.weights, self.location)))

    def unavailable(self) -> str:
        """Which file it lacks and how to get it; empty where the metric can be opened."""
        return _lacking(self.weights, self.location)


# One number a set of pictures ----------------------------------------------------------------------------------------


class Extractor(Protocol):
    """A network that turns pictures into vectors, with its weights in memory."""

    @property
    def weights_sha256(self) -> str:
        """Exactly which weights these are."""

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Features (N, D) float32 of uint8 pictures (N, 3, H, W), on their device; each independent of the others."""


@dataclass(frozen=True)
class ExtractorRow:
    """One network whose features sets of pictures are compared by."""

    name: str
    features: int
    """Length D of a feature vector."""
    protocol: str
    """How a picture is prepared for it, and what is taken from it: a part of a sentence."""
    load: Callable[[Mapping[str, Path]], Extractor]
    """The extractor, from the checked files of ``weights`` by their names."""
    weights: tuple[WeightsFile, ...] = ()
    location: Path | None = None

    def at(self, location: str | Path | None) -> ExtractorRow:
        """The same network, with its weights read from a folder or a file."""
        return replace(self, location=None if location is None else Path(location))

    def open(self) -> Extractor:
        """Loads it; raises MetricError with one clear sentence where its weights are not at hand."""
        return self.load(_found(self.weights, self.location))


class Distance(Protocol):
    """How far two sets of feature vectors are apart, grown set by set."""

    def add(self, reference: Features, reconstruction: Features) -> None:
        """Takes features in, two arrays (N, D) float32."""

    def state(self) -> State:
        """All it knows, as named arrays."""

    def merge(self, state: State) -> None:
        """Takes in what another one of its kind knew."""

    @property
    def count(self) -> int:
        """Pictures taken in."""

    def value(self) -> float:
        """The distance, of two pictures or more."""

    def doubts(self) -> tuple[str, ...]:
        """Sentences on why the value is not to be trusted."""


@dataclass(frozen=True)
class SetScore:
    """One metric of a whole set of pictures."""

    metric: str
    title: str
    unit: str
    higher_is_better: bool
    value: float
    n: int
    """Pictures."""
    extractor: str
    features: int
    weights_sha256: str
    protocol: str
    warnings: tuple[str, ...] = ()
    """Sentences; empty where there is nothing to doubt."""


@dataclass(frozen=True)
class SetMetricRow:
    """One metric that compares sets of pictures, readable without loading anything heavy."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    measure: str
    """One sentence on how the features are compared."""
    distance: Callable[[int], Distance]
    """An empty distance between feature vectors of a length."""
    extractor: ExtractorRow | None
    """The network; None where the caller has to name one."""
    truncated: bool = False
    """True where decoded pictures are to be truncated to 8 bits (``truncated_uint8``), not rounded."""

    @property
    def network(self) -> ExtractorRow:
        """The network; raises MetricError where none was named."""
        if self.extractor is None:
            raise MetricError(f"The metric {self.name!r} has no network of its own: name one with using(...).")
        return self.extractor

    @property
    def protocol(self) -> str:
        """One sentence on the pictures, one on the features."""
        network = self.extractor.protocol if self.extractor else "Features of a network that the caller names"
        return f"{network}. {self.measure}"

    @property
    def weights(self) -> tuple[WeightsFile, ...]:
        """The files it needs."""
        return self.extractor.weights if self.extractor else ()

    def at(self, location: str | Path | None) -> SetMetricRow:
        """The same metric, with its weights read from a folder or a file."""
        return replace(self, extractor=self.extractor.at(location)) if self.extractor else self

    def using(self, extractor: ExtractorRow) -> SetMetricRow:
        """The same metric on the features of another network."""
        return replace(self, extractor=extractor)

    def unavailable(self) -> str:
        """What it lacks and how to get it; empty where the metric can be opened."""
        try:
            network = self.network
        except MetricError as error:
            return str(error)
        return _lacking(network.weights, network.location)

    def open(self) -> SetScorer:
        """Loads the network; raises MetricError with one clear sentence where its weights are not at hand."""
        return open_together([self])[self.name]


FEW_PICTURES = 10_000
"""Below, the sampling error of distances between sets is of the size of what they measure."""


@dataclass(frozen=True)
class SetScorer:
    """A metric of a set of pictures with its network loaded: fed batch by batch, merged across shards."""

    row: SetMetricRow
    extractor: Extractor
    distance: Distance

    def update(self, reference: torch.Tensor, reconstruction: torch.Tensor) -> None:
        """Takes in originals and decoded pictures, two uint8 tensors (N, 3, H, W) on one device."""
        update_together([self], reference, reconstruction)

    def state(self) -> State:
        """All it knows, as named arrays: what another shard's scorer merges."""
        return self.distance.state()

    def merge(self, state: State) -> None:
        """Takes in the state of a scorer of the same metric and network."""
        self.distance.merge(state)

    def compute(self) -> SetScore:
        """The metric of all pictures taken in; raises RequestError for fewer than two."""
        row, network, count = self.row, self.row.network, self.distance.count
        if count < 2:
            raise RequestError(f"The metric {row.name!r} compares sets of 2 pictures or more; found {count}.")
        few = f"{count:,} pictures are fewer than {FEW_PICTURES:,}: not comparable with values of other numbers."
        return SetScore(
            metric=row.name,
            title=row.title,
            unit=row.unit,
            higher_is_better=row.higher_is_better,
            value=self.distance.value(),
            n=count,
            extractor=network.name,
            features=network.features,
            weights_sha256=self.extractor.weights_sha256,
            protocol=row.protocol,
            warnings=(*((few,) if count < FEW_PICTURES else ()), *self.distance.doubts()),
        )

    def features(self, pictures: torch.Tensor) -> Features:
        """Feature vectors (N, D) float32 of uint8 pictures (N, 3, H, W)."""
        network, found = self.row.network, self.extractor(pictures)
        expected = (len(pictures), network.features)
        if tuple(found.shape) != expected:
            raise MetricError(f"{network.name} gave features of shape {tuple(found.shape)}; expected {expected}.")
        if not bool(found.isfinite().all()):
            raise MetricError(f"{network.name} gave features that are not finite.")
        features: Features = found.float().cpu().numpy()
        return features


def open_together(rows: Sequence[SetMetricRow]) -> dict[str, SetScorer]:
    """A scorer for each metric, by name; metrics of one network share it, in memory and in ``update_together``."""
    opened: list[tuple[ExtractorRow, Extractor]] = []
    scorers: dict[str, SetScorer] = {}
    for row in rows:
        extractor = next((known for network, known in opened if network == row.network), None)
        if extractor is None:
            extractor = row.network.open()
            opened.append((row.network, extractor))
        scorers[row.name] = SetScorer(row, extractor, row.distance(row.network.features))
    return scorers


def update_together(scorers: Iterable[SetScorer], reference: torch.Tensor, reconstruction: torch.Tensor) -> None:
    """Updates each scorer; a network that several share sees each picture once."""
    scorers = list(scorers)
    for scorer in scorers:
        _check(scorer.row.name, reference, reconstruction)
    if len(reference) == 0:
        return
    seen: dict[int, tuple[Features, Features]] = {}
    for scorer in scorers:
        if id(scorer.extractor) not in seen:
            seen[id(scorer.extractor)] = scorer.features(reference), scorer.features(reconstruction)
    for scorer in scorers:
        scorer.distance.add(*seen[id(scorer.extractor)])


# Both ----------------------------------------------------------------------------------------------------------------


def _guarded(name: str, scorer: Scorer) -> Scorer:
    def score(reference: torch.Tensor, reconstruction: torch.Tensor) -> NDArray[np.float64]:
        _check(name, reference, reconstruction)
        return scorer(reference, reconstruction)

    return score


def _check(name: str, reference: torch.Tensor, reconstruction: torch.Tensor) -> None:
    """Refuses what would give a wrong number instead of an error: other dtypes, shapes that broadcast."""
    found = [f"{picture.dtype} {tuple(picture.shape)}" for picture in (reference, reconstruction)]
    if reference.ndim != 4 or found[0] != found[1] or not found[0].startswith("torch.uint8 "):
        message = (
            f"The metric {name!r} compares two uint8 batches of one shape (N, 3, H, W); "
            f"found {found[0]} against {found[1]}."
        )
        raise RequestError(message)


def _found(weights: tuple[WeightsFile, ...], location: Path | None) -> dict[str, Path]:
    return {file.name: find_weights(file, location) for file in weights}


def _lacking(weights: tuple[WeightsFile, ...], location: Path | None) -> str:
    try:
        _found(weights, location)
    except MetricError as error:
        return str(error)
    return ""
