"""What a dataset is: its source, its VAE, how it is stored, its splits, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from latentstore.json_records import ONLY_WHERE_SET, Count, Number, Ratio, Seed, Side, Some, Spread


@dataclass(frozen=True)
class SourceInfo:
    """Where the pictures came from."""

    name: str
    location: str
    revision: str | None
    images: Mapping[str, Count]
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
    stride: Side
    channels: Side
    licence: str


@dataclass(frozen=True)
class CandidateInfo:
    """One storage as it did on the calibration sample."""

    storage: str
    step_sigma: Ratio | None
    """Step as a multiple of each channel's standard deviation; null for floats."""
    bits_per_pixel: Spread
    """Order-0 entropy of the sample's stored numbers, a true pixel."""
    loss_db: Number
    """Mean over the sample's pictures of the PSNR lost against unrounded latents."""
    loss_error_db: Spread
    """Standard error of that mean."""
    clipped: Count
    """Numbers beyond 127 steps."""


@dataclass(frozen=True)
class CalibrationInfo:
    """What the choice of storage and steps rests on."""

    pictures: Count
    seed: Seed
    std: tuple[Spread, ...]
    """Of each channel of the sample's raw latents; the steps are multiples of it."""
    widened: tuple[Count, ...]
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
    quality_before: Mapping[str, Number | None] = field(default_factory=dict)
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
    steps: tuple[Number, ...] | None = None
    """One quantisation step a channel; null for floats."""
    step_sigma: Ratio | None = None
    """The steps as a multiple of each channel's standard deviation; null for floats."""
    budget_db: Number | None = None
    """PSNR that storing was allowed to cost; null where none was set."""
    measured_loss_db: Number | None = None
    """Mean over all pictures of the PSNR lost against unrounded latents; null where it was not measured."""
    clipped: tuple[Count, ...] | None = None
    """Numbers of each channel beyond 127 steps; null for floats."""
    calibration: CalibrationInfo | None = None
    converted: tuple[ConversionInfo, ...] = ()
    """What the dataset was before, oldest first; empty where it lies as it was built."""


@dataclass(frozen=True)
class ChannelNumbers:
    """Statistics of the raw latents of one split as stored, one number a channel."""

    count: Count
    """Values a channel."""
    mean: tuple[Number, ...]
    std: tuple[Spread, ...]
    minimum: tuple[Number, ...]
    maximum: tuple[Number, ...]


@dataclass(frozen=True)
class ShardInfo:
    """One shard file."""

    path: str
    """Relative to the config's folder."""
    rows: Count
    bytes: Count
    sha256: str


@dataclass(frozen=True)
class SplitInfo:
    """One split."""

    rows: Count
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True)
class SizeLedger:
    """What it takes to keep the same pictures in different forms; every ratio names its baseline."""

    pixels: Some
    """True pixels of all rows."""
    raw_rgb_bytes: Some
    """3 bytes a pixel; a picture or tile that is stored in several views counts once."""
    source_bytes: Count | None
    """The source's own files, each counted once; null where there are none."""
    payload_bytes: Some
    """Stored numbers before compression."""
    entropy_bytes: Count
    """Order-0 entropy of the stored numbers, per channel, byte place and shard: what a coder that sees one number at a
    time could reach."""
    stored_bytes: Some
    """All shards."""
    bits_per_pixel: Ratio
    """Stored bits for each of ``pixels``."""
    raw_rgb_over_stored: Ratio
    """Above 1: smaller than raw RGB."""
    source_over_stored: Ratio | None
    """Above 1: smaller than the source files; below 1: larger."""
    thumbnail_bytes: Count = field(default=0, metadata=ONLY_WHERE_SET)
    """Of all thumbnails, each as the WebP file it is; they are part of ``stored_bytes``, and of every ratio to it."""
