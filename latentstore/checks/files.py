"""The shard files, and the list of what is in none of them: there, with the bytes that were written, readable."""

from __future__ import annotations

from latentstore.checks.interface import Finding, Findings, Inspection, ShardVisit, counted
from latentstore.hashing import sha256_of
from latentstore.journal import append_begun, names_underway
from latentstore.quarantine import SKIPPED, skipped_lines
from latentstore.seal import index_name


def check_files(inspection: Inspection) -> Findings:
    """Every listed shard lies in the folder with its size in bytes, and no other; so does the list of the skipped."""
    folder, container = inspection.store.folder, inspection.store.container
    listed = {info.path for _, info in inspection.shards()}
    for _, info in inspection.shards():
        path = folder / info.path
        if not path.is_file():
            yield Finding(info.path, "is listed in the manifest, but missing")
        elif path.stat().st_size != info.bytes:
            yield Finding(info.path, f"has {path.stat().st_size:,} bytes, the manifest says {info.bytes:,}")
    found = {path.name for path in folder.glob(f"*.{container.suffix}") if not path.name.startswith(".")}
    begun = append_begun(folder)
    underway = _underway(inspection) if begun else set()
    for name in sorted(found - listed - underway - {inspection.manifest.index.path}):
        yield Finding(name, "is not listed in the manifest")
    if not begun:  # else the list may be the one that the next manifest goes with
        yield from _skipped_file(inspection)
    inspection.note = counted(len(listed), "shard") + ("; an append was begun and is not finished" if begun else "")


def _underway(inspection: Inspection) -> set[str]:
    """Names of the files that an append needs until it is finished."""
    appended = len(inspection.manifest.build.appended)
    return names_underway(inspection.store.folder) | {index_name(appended + 1), index_name(max(0, appended - 1))}


def _skipped_file(inspection: Inspection) -> Findings:
    """The list of skipped pictures is the one in the manifest."""
    path, skipped = inspection.store.folder / SKIPPED, inspection.manifest.build.skipped
    if path.is_file():
        if path.read_bytes() != skipped_lines(skipped).encode():
            yield Finding(SKIPPED, "does not list the skipped pictures that the manifest does")
    elif skipped:
        yield Finding(SKIPPED, f"is missing, but the manifest lists {counted(len(skipped), 'skipped picture')}")


def check_hashes(inspection: Inspection, shard: ShardVisit) -> Findings:
    """The sha256 of the file is the recorded one."""
    found = sha256_of(shard.path)
    if found == shard.info.sha256:
        return
    other = next((info.path for _, info in inspection.shards() if info.sha256 == found), None)
    if other is not None:
        yield Finding(shard.info.path, f"has the sha256 of {other}: one file stands in the place of the other")
    else:
        yield Finding(shard.info.path, "its sha256 is not the one in the manifest: its bytes were changed")


def note_hashed(inspection: Inspection) -> Findings:
    """After all shards: how much was read."""
    total = sum(info.bytes for _, info in inspection.shards() if info.path not in inspection.left_out)
    inspection.note = f"{total:,} bytes hashed"
    yield from ()


def check_structure(inspection: Inspection, shard: ShardVisit) -> Findings:
    """The file can be opened, describes its columns as the manifest does, and gives them."""
    _ = shard.reader  # DamagedShardError where columns are missing, or rows
    manifest = inspection.manifest
    deviations = inspection.store.container.deviations
    for message in deviations(shard.path, inspection.store.schema, manifest.storage.layout):
        yield Finding(shard.info.path, message)
    lengths = {len(values) for values in shard.columns.values()}
    if lengths != {shard.info.rows}:
        yield Finding(shard.info.path, f"its columns have {sorted(lengths)} rows, the manifest says {shard.info.rows}")


def note_structure(inspection: Inspection) -> Findings:
    """After all shards: how many rows they have."""
    columns = 1 + len(inspection.store.schema.scalar_columns)
    inspection.note = f"{inspection.manifest.rows:,} rows of {columns} columns"
    yield from ()
