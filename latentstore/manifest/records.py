"""What a dataset is: its source, its VAE, how it is stored, its splits, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from latentstore.json_records import ONLY_WHERE_SET


@dataclass(frozen=True)
class SourceInfo:
    """Where the pictures came from."""

    name: str
    location: str
    revision: str | None
    images: Mapping[str, int]
    """Pictures found in each split, usable or not."""
    classes: tuple[str, ...] | None
    """Class names in label order; null where the source has none."""
    licence: str | None
    citation: str
    homepage: str
    options: Mapping[str, Any] = field(default_factory=dict)
    reader: str = ""
    notes: tuple[str, ...] = ()
    ingest: tuple[str, ...] = ()
    """What was found against what the publisher states."""


@dataclass(frozen=True)
class VaeInfo:
    """Which VAE made the latents."""

    name: str
    class_name: str
    repo: str | None
    subfolder: str
    revision: str | None
    weights_sha256: str | None
    stride: int
    channels: int
    licence: str


@dataclass(frozen=True)
class CandidateInfo:
    """One storage as it did on the calibration sample."""

    storage: str
    step_sigma: float | None
    """Step as a multiple of each channel's standard deviation; null for floats."""
    bits_per_pixel: float
    """Order-0 entropy of the sample's stored numbers, a true pixel."""
    loss_db: float
    """Mean over the sample's pictures of the PSNR lost against unrounded latents."""
    loss_error_db: float
    """Standard error of that mean."""
    clipped: int
    """Numbers beyond 127 steps."""


@dataclass(frozen=True)
class CalibrationInfo:
    """What the choice of storage and steps rests on."""

    pictures: int
    seed: int
    std: tuple[float, ...]
    """Of each channel of the sample's raw latents; the steps are multiples of it."""
    widened: tuple[int, ...]
    """Channels whose step was made larger because clipping alone cost more than their share of the budget."""
    candidates: tuple[CandidateInfo, ...]


@dataclass(frozen=True)
class ConversionInfo:
    """One conversion that a dataset went through, from these numbers to the next."""

    storage: str
    container: str
    layout: str
    lossless: bool
    """Whether every raw latent stayed the same to the last bit."""
    measured: bool
    """Whether the quality in the manifest is that of the numbers after this step."""
    quality_before: Mapping[str, float | None] = field(default_factory=dict)
    """Mean of each metric before it."""
    manifest_sha256: str = ""
    """Of the manifest.json before it: which dataset this one was made from."""


@dataclass(frozen=True)
class StorageInfo:
    """How the numbers are stored."""

    name: str
    dtype: str
    container: str
    layout: str
    steps: tuple[float, ...] | None = None
    """One quantisation step a channel; null for floats."""
    step_sigma: float | None = None
    """The steps as a multiple of each channel's standard deviation; null for floats."""
    budget_db: float | None = None
    """PSNR that storing was allowed to cost; null where none was set."""
    measured_loss_db: float | None = None
    """Mean over all pictures of the PSNR lost against unrounded latents; null where it was not measured."""
    clipped: tuple[int, ...] | None = None
    """Numbers of each channel beyond 127 steps; null for floats."""
    calibration: CalibrationInfo | None = None
    converted: tuple[ConversionInfo, ...] = ()
    """What the dataset was before, oldest first; empty where it lies as it was built."""


@dataclass(frozen=True)
class ChannelNumbers:
    """Statistics of the raw latents of one split as stored, one number a channel."""

    count: int
    """Values a channel."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]


@dataclass(frozen=True)
class ShardInfo:
    """One shard file."""

    path: str
    """Relative to the config's folder."""
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitInfo:
    """One split."""

    rows: int
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True)
class SizeLedger:
    """What it takes to keep the same pictures in different forms; every ratio names its baseline."""

    pixels: int
    """True pixels of all rows."""
    raw_rgb_bytes: int
    """3 bytes a pixel; a picture or tile that is stored in several views counts once."""
    source_bytes: int | None
    """The source's own files, each counted once; null where there are none."""
    payload_bytes: int
    """Stored numbers before compression."""
    entropy_bytes: int
    """Order-0 entropy of the stored numbers, per channel, byte place and shard: what a coder that sees one number at a
    time could reach."""
    stored_bytes: int
    """All shards."""
    bits_per_pixel: float
    """Stored bits for each of ``pixels``."""
    raw_rgb_over_stored: float
    """Above 1: smaller than raw RGB."""
    source_over_stored: float | None
    """Above 1: smaller than the source files; below 1: larger."""
    thumbnail_bytes: int = field(default=0, metadata=ONLY_WHERE_SET)
    """Of all thumbnails, each as the WebP file it is; they are part of ``stored_bytes``, and of every ratio to it."""
