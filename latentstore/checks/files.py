"""The shard files, and the list of what is in none of them: there, with the bytes that were written, readable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentstore.checks.interface import Finding, Findings, Inspection, ShardVisit, counted
from latentstore.hashing import sha256_of
from latentstore.journal import append_begun, names_underway
from latentstore.manifest.names import SKIPPED, index_name
from latentstore.quarantine import skipped_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latentstore.locations import ListedFile


def check_files(inspection: Inspection) -> Findings:
    """Every listed shard lies in the folder with its size in bytes, and no other; where a listing has sha256, that too.

    The Hub's listing has it of every file that is not in git itself. Files that an unfinished append needs are no
    strangers.
    """
    container, found = inspection.store.container, inspection.store.listing()
    listed = {info.path: info for _, info in inspection.shards()}
    for path, info in listed.items():
        if path not in found:
            yield Finding(path, "is listed in the manifest, but missing")
        elif found[path].size != info.bytes:
            yield Finding(path, f"has {found[path].size:,} bytes, the manifest says {info.bytes:,}")
        elif found[path].sha256 not in (None, info.sha256):
            yield Finding(path, _another(inspection, found[path].sha256))
    names = {name for name in found if name.endswith(f".{container.suffix}") and not name.startswith(".")}
    begun = not inspection.store.is_remote and append_begun(inspection.store.folder)
    underway = _underway(inspection) if begun else set()
    for name in sorted(names - set(listed) - underway - {inspection.manifest.index.path}):
        yield Finding(name, "is not listed in the manifest")
    if not begun:  # else the list may be the one that the next manifest goes with
        yield from _skipped_file(inspection, found)
    hashed = sum(path in found and found[path].sha256 is not None for path in listed)
    known = f", the sha256 of {hashed:,} from its listing" if inspection.store.is_remote else ""
    more = "; an append was begun and is not finished" if begun else ""
    inspection.note = f"{counted(len(listed), 'shard')}{known}{more}"


def _underway(inspection: Inspection) -> set[str]:
    """Names of the files that an append needs until it is finished."""
    appended = len(inspection.manifest.build.appended)
    return names_underway(inspection.store.folder) | {index_name(appended + 1), index_name(max(0, appended - 1))}


def _skipped_file(inspection: Inspection, found: Mapping[str, ListedFile]) -> Findings:
    """The list of skipped pictures is the one in the manifest; of a copy that lies elsewhere, by its size."""
    skipped, store = inspection.manifest.build.skipped, inspection.store
    wanted = skipped_lines(skipped).encode()
    if SKIPPED not in found:
        if skipped:
            yield Finding(SKIPPED, f"is missing, but the manifest lists {counted(len(skipped), 'skipped picture')}")
    elif found[SKIPPED].size != len(wanted) or not (store.is_remote or (store.folder / SKIPPED).read_bytes() == wanted):
        yield Finding(SKIPPED, "does not list the skipped pictures that the manifest does")


def check_hashes(inspection: Inspection, shard: ShardVisit) -> Findings:
    """The sha256 of the file is the recorded one."""
    found = sha256_of(shard.path)
    if found != shard.info.sha256:
        yield Finding(shard.info.path, _another(inspection, found))


def _another(inspection: Inspection, sha256: str | None) -> str:
    other = next((info.path for _, info in inspection.shards() if info.sha256 == sha256), None)
    if other is not None:
        return f"has the sha256 of {other}: one file stands in the place of the other"
    return "its sha256 is not the one in the manifest: its bytes were changed"


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
    columns = len(inspection.store.schema.columns)
    inspection.note = f"{inspection.manifest.rows:,} rows of {columns} columns"
    yield from ()
