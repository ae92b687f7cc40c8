"""What a comparison found: one record a VAE, and one for all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstore.comparison.protocols import ColumnRow, ProtocolRow, Score
from latentstore.comparison.published import PublishedRow
from latentstore.comparison.rate_curves import RateCurve
from latentstore.comparison.storage_curves import StoragePoint
from latentstore.manifest import SizeLedger
from latentstore.pixels import Preparation
from latentstore.quality import MetricSummary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from latentstore.metrics.interface import MetricRow

    Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class ComparedVae:
    """One VAE's line of the table."""

    vae: str
    summary: str
    channels: int
    stride: int
    parameters: int | None
    gflops_256: float | None
    """Of encode and decode of one 256x256 picture, 2 a multiply-add; None where it was not counted."""
    reason: str = ""
    """Why it was not measured; empty where it was. Everything below is only there where it was."""
    config: str = ""
    latent_shape: tuple[int, int, int] | None = None
    posterior: str = ""
    """What was stored: ``mean``, or ``sample``."""
    device: str = ""
    dtype: str = ""
    rows: int = 0
    """Pictures measured."""
    skipped: int = 0
    scores: Mapping[str, Score] = field(default_factory=dict)
    """By the name of the protocol's column."""
    size: SizeLedger | None = None
    quality: Mapping[str, MetricSummary] = field(default_factory=dict)
    """Every metric of the config, as in its manifest."""
    rate_scores: Mapping[str, float] = field(default_factory=dict)
    """Means over the pictures of the rate curves, by metric."""
    storages: tuple[StoragePoint, ...] = ()
    """The same pictures in each storage that was asked for, fewest bits first; none where none was."""
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    """Decoded pictures (H, W, 3) of the figure, by id."""

    @property
    def measured(self) -> bool:
        """False where there are no numbers."""
        return not self.reason


@dataclass(frozen=True)
class Comparison:
    """Several VAEs on the same pictures."""

    source: str
    location: str
    revision: str | None
    options: Mapping[str, Any]
    available: int
    """Pictures that the source holds, or the sample of it."""
    limit: int | None
    """How many were drawn from it; None where all were taken."""
    protocol: ProtocolRow
    columns: tuple[ColumnRow, ...]
    """The protocol's, with this comparison's batch size in their words."""
    preparation: Preparation
    seed: int
    batch_size: int
    vaes: tuple[ComparedVae, ...]
    published: tuple[PublishedRow, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Columns without numbers: what they lack and how to get it."""
    curves: tuple[RateCurve, ...] = ()
    rate_metrics: tuple[MetricRow, ...] = ()
    """What quality means there: PSNR, and LPIPS where there is one."""
    curve_pictures: int = 0
    """How many of the pictures are behind the curves, ``rate_scores`` and ``storages``."""
    originals: Mapping[str, Picture] = field(default_factory=dict)
    """Prepared pictures (H, W, 3) of the figure, by id."""
    out: Path | None = None
    """Where the built configs are; None where they were not kept."""

    @property
    def ok(self) -> bool:
        """True where every VAE was measured."""
        return all(vae.measured for vae in self.vaes)

    @property
    def rows(self) -> int:
        """Pictures measured, of the VAE with the most."""
        return max((vae.rows for vae in self.vaes), default=0)

    @property
    def has_storages(self) -> bool:
        """Whether there is a point for each storage, and not only one for each VAE."""
        return any(vae.storages for vae in self.vaes)
