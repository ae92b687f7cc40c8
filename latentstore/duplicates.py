"""Pictures of the source that are byte for byte the same, within and across splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from latentstore.manifest import DuplicateGroup, Duplicates
from latentstore.pixels import each_picture_behind
from latentstore.repeats import may_recur

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXAMPLES = 10


def find_duplicates(index: Mapping[str, Sequence[Any]]) -> Duplicates:
    """Of the pictures behind the rows of an index (its columns ``id``, ``split``, ``source_sha256``, ``label``).

    The tiles and views of one picture are one picture.
    """
    seen: dict[str, dict[tuple[str, str], int | None]] = {}
    labels = index.get("label") or repeat(None, len(index["id"]))
    several = _perhaps_equal(index).tolist()
    rows = zip(several, each_picture_behind(index), index["split"], index["source_sha256"], labels, strict=True)
    for equal, picture, split, sha256, label in rows:
        if equal:
            seen.setdefault(sha256, {})[split, picture] = label
    groups = {sha256: pictures for sha256, pictures in seen.items() if len(pictures) > 1}
    across = {sha256 for sha256, pictures in groups.items() if len({split for split, _ in pictures}) > 1}
    shown = sorted(groups, key=lambda sha256: (sha256 not in across, min(groups[sha256])))[:EXAMPLES]
    return Duplicates(
        groups=len(groups),
        pictures=sum(map(len, groups.values())),
        across_splits=len(across),
        across_classes=sum(len(set(pictures.values())) > 1 for pictures in groups.values()),
        examples=tuple(_group(sha256, sorted(groups[sha256])) for sha256 in shown),
    )


def _perhaps_equal(index: Mapping[str, Sequence[Any]]) -> NDArray[np.bool_]:
    """Which rows to look at: those of all pictures that are equal to another, and few besides; most datasets have none.

    So of a large one not the names and digests of all pictures are held.
    """
    return may_recur(
        lambda: zip(index["split"], each_picture_behind(index), index["source_sha256"], strict=True),
        len(index["id"]),
        groups=lambda: iter(index["source_sha256"]),
    )


def duplicates_sentence(found: Duplicates) -> str:
    """What people should know of them; empty where there are none."""
    if not found.groups:
        return ""
    parts = [f"{found.pictures:,} pictures in {_sets(found.groups)} of equal ones, byte for byte"]
    if found.across_splits:
        parts.append(f"{_sets(found.across_splits)} across splits, so that one split leaks into another")
    if found.across_classes:
        parts.append(f"{_sets(found.across_classes)} with different labels")
    return "; ".join(parts)


def _sets(count: int) -> str:
    return f"{count:,} set{'' if count == 1 else 's'}"


def _group(sha256: str, pictures: Sequence[tuple[str, str]]) -> DuplicateGroup:
    return DuplicateGroup(sha256, tuple(name for _, name in pictures), tuple(split for split, _ in pictures))
