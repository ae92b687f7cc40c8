"""How a dataset came about: what computed it, by which plan, and which pictures went another way than the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from latentstore.json_records import ONLY_WHERE_SET, Count, Seed, Some


@dataclass(frozen=True)
class DuplicateGroup:
    """Pictures with the same bytes."""

    sha256: str
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    """Of each of them."""


@dataclass(frozen=True)
class Duplicates:
    """Pictures of the source that are byte for byte the same."""

    groups: Count = 0
    """Sets of equal pictures."""
    pictures: Count = 0
    """Pictures in them."""
    across_splits: Count = 0
    """Sets with pictures in more than one split: what is tested on was trained on."""
    across_classes: Count = 0
    """Sets whose pictures have different labels."""
    examples: tuple[DuplicateGroup, ...] = ()
    """Up to ten sets, those across splits first."""


@dataclass(frozen=True)
class Environment:
    """What computed it."""

    device: str
    dtype: str
    versions: Mapping[str, str]
    memory_format: str = "contiguous"
    """Of the VAE's weights: ``contiguous`` or ``channels_last``; kernels of the two round differently."""


@dataclass(frozen=True)
class SkippedInfo:
    """A picture that is not in the dataset, and why."""

    id: str
    source_path: str
    reason: str
    split: str
    position: Count
    """Its place in the planned order of its split."""


@dataclass(frozen=True)
class RetriedInfo:
    """A picture whose latent was not finite in the dtype of the build, and was computed in float32."""

    id: str
    split: str
    position: Count
    """Its place in the planned order of its split."""


@dataclass(frozen=True)
class HalvedInfo:
    """A batch that was too large for the memory there was, and was computed in parts."""

    split: str
    start: Count
    """Its first place in the planned order of its split."""
    stop: Count
    """The place after its last one."""
    rows_at_once: Some
    stage: str
    """``encode`` or ``decode``."""


@dataclass(frozen=True)
class AppendInfo:
    """Pictures that were added to a sealed dataset, as shards of their own."""

    pictures: Mapping[str, Count]
    """Added to each split, usable or not; splits without any are left out."""
    rows: Mapping[str, Count]
    """Planned rows that they are, those of skipped pictures included."""
    manifest_sha256: str
    """Of the manifest.json before it: which dataset was added to."""
    versions: Mapping[str, str]
    """What computed the added rows, as in ``Environment``."""


@dataclass(frozen=True)
class BuildInfo:
    """How it was built."""

    order: str
    """``shuffled`` or ``source``."""
    seed: Seed
    batch_size: Some
    rows_per_shard: Some
    plan: Mapping[str, Any]
    """What must agree for a re-run to be the same build."""
    skipped: tuple[SkippedInfo, ...] = ()
    duplicates: Duplicates = field(default_factory=Duplicates)
    conversions: Mapping[str, Count] = field(default_factory=dict)
    """How many pictures needed which conversion to become 8-bit RGB, each counted at its first row."""
    retried: tuple[RetriedInfo, ...] = field(default=(), metadata=ONLY_WHERE_SET)
    """Pictures that are not in the dtype of the others."""
    halved: tuple[HalvedInfo, ...] = field(default=(), metadata=ONLY_WHERE_SET)
    """Batches that are not as large as planned."""
    appended: tuple[AppendInfo, ...] = field(default=(), metadata=ONLY_WHERE_SET)
    """What was added since the first build, oldest first."""
