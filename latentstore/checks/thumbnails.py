"""The thumbnails: each is a picture of its row's size and of what its row decodes to; and what all of them take."""

from __future__ import annotations

from latentstore.checks.interface import Finding, Findings, Inspection, ShardVisit, counted, some
from latentstore.containers.interface import THUMBNAIL
from latentstore.manifest import FILE_NAME
from latentstore.remeasure import Unavailable, decoded_rows
from latentstore.thumbnails import fault_of_thumbnail, size_of_thumbnail


def check_thumbnails(inspection: Inspection, shard: ShardVisit) -> Findings:
    """Every thumbnail is there, can be decoded, and has the size of its row's picture scaled to the stated side."""
    side = inspection.manifest.thumbnail
    if not side:
        return
    pictures = shard.reader.columns([THUMBNAIL])[THUMBNAIL]
    inspection.thumbnail_bytes[shard.info.path] = sum(len(picture or b"") for picture in pictures)
    sizes = zip(shard.columns["height"], shard.columns["width"], strict=True)
    start = inspection.starts[shard.info.path]
    first, last = inspection.watched_rows.searchsorted([start, start + shard.info.rows])
    watched = set(inspection.watched_rows[first:last].tolist())
    for row, (picture, size) in enumerate(zip(pictures, sizes, strict=True)):
        height, width = (length or 0 for length in size)  # whether there are some, check `columns` says
        fault = fault_of_thumbnail(picture or b"", size_of_thumbnail(height, width, side))
        if fault is not None:
            yield Finding(shard.info.path, f"column {THUMBNAIL!r} {fault}, row {row}")
        elif start + row in watched:
            inspection.thumbnails[start + row] = picture


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


def check_likeness(inspection: Inspection) -> Findings:
    """Thumbnails of drawn rows are pictures of what their stored numbers decode to."""
    manifest, index = inspection.manifest, inspection.index
    if not manifest.thumbnail:
        inspection.note = "no thumbnails"
        return
    if any(not step.lossless and not step.measured for step in manifest.storage.converted):
        raise Unavailable("the numbers were rounded when the dataset was converted, the thumbnails are those of before")
    rows = [row for row in sorted(inspection.thumbnails) if index["shard"][row] not in inspection.left_out]
    if not rows:
        raise Unavailable("no row was drawn: the sample is 0")
    pending = [row for row in rows if row not in inspection.likenesses]  # those of `quality` were compared there
    for some_rows, decoded in decoded_rows(inspection.store, index, pending, model=inspection.model()):
        inspection.compare_thumbnails(some_rows, decoded)
        inspection.tell(len(inspection.likenesses), len(rows))
    for row in rows:
        if inspection.likenesses[row]:
            place = f"row {index['row'][row]} ({index['id'][row]!r})"
            yield Finding(index["shard"][row], f"column {THUMBNAIL!r} {inspection.likenesses[row]}, {place}")
    inspection.note = f"{counted(len(rows), 'thumbnail')} held against what their rows decode to"
