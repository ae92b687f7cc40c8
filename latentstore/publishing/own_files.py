"""The files of a config: which of a folder this library puts there, and which of those a manifest lists."""

from __future__ import annotations

import re

from latentstore.manifest import FILE_NAME, Manifest, ShardInfo
from latentstore.quarantine import SKIPPED

SHARD = re.compile(r"\w+(\.\w+)*(-plus\d+)?-\d{5,}(-of-\d{5,})?\.(parquet|tar)")
"""File names that FORMAT.md 2.1 leaves to shards; ``plus`` and a number are those that were appended."""
INDEX = re.compile(r"index(-\d+)?\.parquet")
PREVIEW = re.compile(r"preview(-\d+)?\.png")


def listed_files(manifest: Manifest) -> list[ShardInfo]:
    """What the manifest lists with its sha256: the shards, then the index, whatever its name."""
    return [*(shard for split in manifest.splits.values() for shard in split.shards), manifest.index]


def beside(manifest: Manifest) -> tuple[str, ...]:
    """Names of the files that a manifest does not list, and that its config may lack."""
    return (manifest.preview, SKIPPED)


def is_beside(name: str) -> bool:
    """Whether this is the name of such a file, of whatever manifest."""
    return name == SKIPPED or PREVIEW.fullmatch(name) is not None


def is_file_of(path: str, configs: set[str]) -> bool:
    """Whether a file is one that this library puts into the folder of one of these configs."""
    folder, _, name = path.rpartition("/")
    known = name == FILE_NAME or is_beside(name) or any(pattern.fullmatch(name) for pattern in (SHARD, INDEX))
    return folder in configs and known
