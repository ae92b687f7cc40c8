"""Names that the format fixes: the file, its version, and what splits and shards may be called."""

from __future__ import annotations

import re

FORMAT_VERSION = "1.0"
FILE_NAME = "manifest.json"
SPLIT_NAME = re.compile(r"\w+(\.\w+)*")
SHARD_NAME = re.compile(r"\w[\w.-]*")


def preview_name(appended: int) -> str:
    """Name of the preview of a dataset that was added to so many times: the one before is not overwritten."""
    return f"preview-{appended}.png" if appended else "preview.png"
