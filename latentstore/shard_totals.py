"""What the finished shards of a dataset add up to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latentstore.journal import FinishedShard
from latentstore.manifest import ChannelNumbers, ShardInfo, SplitInfo
from latentstore.statistics import ChannelStatistics


@dataclass(frozen=True)
class ShardTotals:
    """Of all shards of all splits."""

    splits: tuple[str, ...]
    """Names, in order; of a split without shards too."""
    shards: Sequence[tuple[str, FinishedShard]]
    """(split, what is known of the shard), in order."""

    @cached_property
    def split_infos(self) -> dict[str, SplitInfo]:
        """Rows and shards of each split."""
        found: dict[str, list[ShardInfo]] = {split: [] for split in self.splits}
        for split, entry in self.shards:
            found[split].append(entry.shard)
        return {split: SplitInfo(sum(info.rows for info in infos), tuple(infos)) for split, infos in found.items()}

    def statistics(self, channels: int) -> dict[str, ChannelNumbers]:
        """Of the raw latents of each split."""
        merged = {split: ChannelStatistics.empty(channels) for split in self.splits}
        for split, entry in self.shards:
            merged[split] = merged[split].merge(ChannelStatistics.from_dict(entry.statistics))
        return {split: channel_numbers(found) for split, found in merged.items()}

    @property
    def stored_bytes(self) -> int:
        """Of all shard files."""
        return sum(entry.shard.bytes for _, entry in self.shards)

    @property
    def entropy_bytes(self) -> int:
        """Of all stored numbers, shard by shard, rounded up."""
        return math.ceil(math.fsum(entry.entropy_bits for _, entry in self.shards) / 8)

    @property
    def clipped(self) -> tuple[int, ...]:
        """Numbers of each channel that were clipped."""
        return tuple(np.sum([entry.clipped for _, entry in self.shards], axis=0).tolist())

    @property
    def measured_loss_db(self) -> float | None:
        """Mean PSNR that storing cost; None where it was not measured."""
        pictures = sum(entry.lost_pictures for _, entry in self.shards)
        return math.fsum(entry.lost_db for _, entry in self.shards) / pictures if pictures else None


def channel_numbers(found: ChannelStatistics) -> ChannelNumbers:
    """As the manifest states them; a split without rows has zeros."""
    blank = found.count == 0
    return ChannelNumbers(
        count=found.count,
        mean=tuple(found.mean.tolist()),
        std=tuple(found.std.tolist()),
        minimum=tuple((found.mean if blank else found.minimum).tolist()),
        maximum=tuple((found.mean if blank else found.maximum).tolist()),
    )
