"""Names that the format fixes: every file of a repository, and what configs, splits and shards may be called.

Whatever names a file of a config (a manifest, a listing, a journal) was written by somebody: a name that is none of
these is not believed.
"""

from __future__ import annotations

import re

from latentstore.system.safe_paths import is_safe_name

FORMAT_VERSION = "1.0"
CARD = "README.md"
FILE_NAME = "manifest.json"
SKIPPED = "skipped.jsonl"
"""Beside the manifest, where pictures were skipped."""
JOURNAL = ".build"
"""The folder of a build that is not sealed yet."""
OLD_JOURNAL = f"{JOURNAL}.old"
"""Its name while it is removed."""
ARRIVED = ".publishing.json"
"""The journal of a push, in the folder or bucket that it goes to."""
PULLING = ".pulling.json"
"""The journal of a pull."""
PULLED = ".pulled.json"
"""Beside the card that a pull wrote: its sha256, by which a card is known that nobody has changed since."""
INDEX = "index.parquet"

SPLIT_NAME = re.compile(r"\w+(\.\w+)*")
SHARD_NAME = re.compile(r"\w+(\.\w+)*(-plus[0-9]+)?-[0-9]{5,}(-of-[0-9]{5,})?\.(parquet|tar)")
"""What FORMAT.md 2.1 leaves to shards; ``plus`` and a number are those that were appended."""
INDEX_NAME = re.compile(r"index(-[0-9]+)?\.parquet")
PREVIEW_NAME = re.compile(r"preview(-[0-9]+)?\.png")
CONFIG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
TAKEN_CONFIG = "data"
"""The Hub's reader takes a folder of this name for something else."""


def index_name(appended: int) -> str:
    """Name of the index of a dataset that was added to so many times: readers of the old one are not disturbed."""
    return f"index-{appended}.parquet" if appended else INDEX


def preview_name(appended: int) -> str:
    """Name of the preview of a dataset that was added to so many times: the one before is not overwritten."""
    return f"preview-{appended}.png" if appended else "preview.png"


def is_config_name(name: str) -> bool:
    """Whether a config may be called so, and so its folder."""
    return name != TAKEN_CONFIG and CONFIG_NAME.fullmatch(name) is not None and is_safe_name(name)


def is_shard_name(name: str) -> bool:
    """Whether this is the name of a shard."""
    return SHARD_NAME.fullmatch(name) is not None and is_safe_name(name)


def is_index_name(name: str) -> bool:
    """Whether this is the name of an index."""
    return INDEX_NAME.fullmatch(name) is not None and is_safe_name(name)


def is_beside(name: str) -> bool:
    """Whether this is the name of a file that manifests do not list: a preview, the list of skipped pictures."""
    return name == SKIPPED or (PREVIEW_NAME.fullmatch(name) is not None and is_safe_name(name))


def is_data_name(name: str) -> bool:
    """Whether this library may have put a file of this name into a config's folder, its manifest left out."""
    return is_beside(name) or is_index_name(name) or is_shard_name(name)


def is_partial_name(name: str) -> bool:
    """Whether a file of this name is one of a config that was being written when its writer was stopped."""
    if not (name.startswith(".") and name.endswith(".partial")):
        return False
    parts = name[1 : -len(".partial")].split(".")
    begun = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return any(name == FILE_NAME or is_data_name(name) for name in begun)


def config_folder(path: str) -> str:
    """The config whose folder a path inside a repository lies in, directly; empty for any other path."""
    folder, _, name = path.rpartition("/")
    return folder if is_config_name(folder) and is_safe_name(name) else ""
