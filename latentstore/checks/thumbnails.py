"""The thumbnails: that each is a picture of the size that follows from its row, and what all of them take."""

from __future__ import annotations

from latentstore.checks.interface import Finding, Findings, Inspection, ShardVisit, some
from latentstore.containers.interface import THUMBNAIL
from latentstore.manifest import FILE_NAME
from latentstore.thumbnails import fault_of_thumbnail, size_of_thumbnail


def check_thumbnails(inspection: Inspection, shard: ShardVisit) -> Findings:
    """Every thumbnail is there, can be decoded, and has the size of its row's picture scaled to the stated side."""
    side = inspection.manifest.thumbnail
    if not side:
        return
    pictures = shard.reader.columns([THUMBNAIL])[THUMBNAIL]
    inspection.thumbnail_bytes[shard.info.path] = sum(len(picture or b"") for picture in pictures)
    sizes = zip(shard.columns["height"], shard.columns["width"], strict=True)
    for row, (picture, size) in enumerate(zip(pictures, sizes, strict=True)):
        fault = fault_of_thumbnail(picture or b"", size_of_thumbnail(*size, side))
        if fault is not None:
            yield Finding(shard.info.path, f"column {THUMBNAIL!r} {fault}, row {row}")


def check_thumbnail_sizes(inspection: Inspection) -> Findings:
    """After all shards: the size ledger says how many bytes they take, where every shard could be read."""
    if not inspection.manifest.thumbnail:
        inspection.note = "no thumbnails"
        return
    found = inspection.thumbnail_bytes
    missing = [info.path for _, info in inspection.shards() if info.path not in found]
    total, recorded = sum(found.values()), inspection.manifest.size.thumbnail_bytes
    if not missing and total != recorded:
        yield Finding(FILE_NAME, f"size.thumbnail_bytes is {recorded:,}, those of the shards take {total:,}")
    rows = sum(info.rows for _, info in inspection.shards() if info.path in found)
    unsaid = f"; what all take needs {some(missing)} too" if missing else ""
    inspection.note = f"{rows:,} thumbnails decoded{unsaid}"
