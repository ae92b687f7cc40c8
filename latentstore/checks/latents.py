"""The stored numbers: each row's checksum, and what all of them add up to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.checks.interface import Finding, Findings, Inspection, ShardNumbers, ShardVisit, some
from latentstore.hashing import crc32_of
from latentstore.manifest import FILE_NAME, ChannelNumbers
from latentstore.shard_totals import channel_numbers
from latentstore.statistics import ChannelStatistics
from latentstore.value_counts import NumbersTally

if TYPE_CHECKING:
    from numpy.typing import NDArray


STATISTICS_TOLERANCE = 1e-9
"""Relative: statistics are recomputed in float64 from the same numbers, merged in another order."""
ENTROPY_TOLERANCE = 1
"""Bytes: the recorded number is rounded up from a sum of floats."""
EDGES = (1, 255)
"""The bytes of numbers at 127 steps, where clipped ones end."""


def check_checksums(_: Inspection, shard: ShardVisit) -> Findings:
    """Each row's bytes have the CRC-32 in its own column."""
    for start, stored in shard.blocks():
        wanted = shard.columns["latent_crc32"][start : start + len(stored)]
        for row, (found, recorded) in enumerate(zip(crc32_of(stored), wanted, strict=True), start):
            if found != recorded:
                message = f"row {row} has CRC-32 {found}, its column says {recorded}: its latent was changed"
                yield Finding(shard.info.path, message)


def note_checksums(inspection: Inspection) -> Findings:
    """After all shards: how many were compared."""
    inspection.note = f"{len(inspection.sound_rows()):,} checksums"
    yield from ()


def check_latents(inspection: Inspection, shard: ShardVisit) -> Findings:
    """Numbers are finite, and of int8 none is the byte 0; counts them for what is checked after all shards."""
    storage = inspection.store.storage()
    channels, height, width = inspection.manifest.latent_shape
    tally = NumbersTally(storage, channels, shard.info.rows * height * width)
    for _, stored in shard.blocks():
        tally.add(stored)
    if not tally.spoilt:
        inspection.numbers[shard.info.path] = ShardNumbers(tally.statistics, tally.bytes)
        return
    for start, stored in shard.blocks():
        for row in np.flatnonzero(_forbidden(stored).reshape(len(stored), -1).any(axis=1)).tolist():
            yield Finding(shard.info.path, f"row {start + row} holds {tally.spoilt}")


def _forbidden(stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Where stored numbers are not finite, or the byte 0."""
    return np.asarray(~np.isfinite(stored) if stored.dtype.kind == "f" else stored == 0)


def check_sums(inspection: Inspection) -> Findings:
    """After all shards: statistics of each split, entropy, and clipped numbers, where every shard could be read."""
    manifest, numbers = inspection.manifest, inspection.numbers
    partial = []
    for split, info in manifest.splits.items():
        if any(shard.path not in numbers for shard in info.shards):
            partial.append(split)
            continue
        found = ChannelStatistics.empty(manifest.vae.channels)
        for shard in info.shards:
            found = found.merge(numbers[shard.path].statistics)
        yield from _statistics(split, channel_numbers(found), manifest.statistics[split])
    if not partial:
        yield from _entropy(inspection)
        yield from _clipped(inspection)
    rows = sum(info.rows for _, info in inspection.shards() if info.path in numbers)
    unsaid = f"; statistics of {some(partial)} and the entropy need every shard" if partial else ""
    inspection.note = f"{rows:,} latents read{unsaid}"


def _statistics(split: str, found: ChannelNumbers, recorded: ChannelNumbers) -> Findings:
    for name in ("mean", "std", "minimum", "maximum"):
        have, want = np.asarray(getattr(found, name)), np.asarray(getattr(recorded, name))
        scale = np.maximum(np.abs(np.asarray(recorded.std)), 1e-12)
        if not np.all(np.abs(have - want) <= STATISTICS_TOLERANCE * scale + STATISTICS_TOLERANCE * np.abs(want)):
            yield Finding(FILE_NAME, f"statistics.{split}.{name} is not that of the stored latents")


def _entropy(inspection: Inspection) -> Findings:
    found = math.ceil(math.fsum(shard.counts.bits for shard in inspection.numbers.values()) / 8)
    recorded = inspection.manifest.size.entropy_bytes
    if abs(found - recorded) > ENTROPY_TOLERANCE:
        yield Finding(FILE_NAME, f"size.entropy_bytes is {recorded:,}, that of the stored numbers is {found:,}")


def _clipped(inspection: Inspection) -> Findings:
    """A clipped number is stored at the edge of what can be, so there are at least as many there."""
    recorded = inspection.manifest.storage.clipped
    if recorded is None:
        return
    counts = np.sum([shard.counts.counts[:, 0] for shard in inspection.numbers.values()], axis=0)
    for channel, (claimed, edge) in enumerate(zip(recorded, counts[:, EDGES].sum(axis=1).tolist(), strict=True)):
        if not 0 <= claimed <= edge:
            message = f"storage.clipped[{channel}] is {claimed}, but {edge} numbers lie at 127 steps"
            yield Finding(FILE_NAME, message)
