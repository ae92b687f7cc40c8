"""Where a picture lies inside its source, and what it is called by that."""

from __future__ import annotations

import os
import posixpath
import re
from typing import TYPE_CHECKING

from latentstore.sources.naming import printable, unique_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latentstore.sources.interface import SourceRow

SNAPSHOT = re.compile(r"^.*/snapshots/([0-9a-f]{40})(?:/|$)")
"""A folder of the Hub's cache, and its commit."""
_ROOTS = (
    SNAPSHOT,
    re.compile(r"^hf://(?:datasets/)?[^/]+/[^/@]+(?:@[^/]+)?/"),
    re.compile(r"^.*/extracted/[0-9a-f]{40,64}/"),
)


def path_inside(path: str, location: str) -> str:
    """The path inside the source: below the local folder, the snapshot or the repository; else the base name."""
    inner = path.partition("::")[0].partition("://")[2] if "::" in path else path
    folder = os.path.abspath(os.path.expanduser(location))  # noqa: PTH100, PTH111
    for base in (folder, os.path.realpath(folder)):
        if inner.startswith(base + os.sep):
            return inner[len(base) + 1 :].replace(os.sep, "/")
    for root in _ROOTS:
        if match := root.match(inner):
            return inner[match.end() :]
    outside = inner.startswith("/") or "://" in inner or ".." in inner.split("/")
    return posixpath.basename(inner) if outside else posixpath.normpath(inner)


def ids_of(row: SourceRow, paths: Sequence[str]) -> list[str]:
    """An id for each picture of a source whose pictures all have a path."""
    prefix = str(row.options.get("data_dir") or "").strip("/") + "/"
    return unique_ids([printable(path).removeprefix(prefix) for path in paths])
