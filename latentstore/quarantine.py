"""Pictures that cannot be used: how many a build puts up with, and the list of them beside the manifest."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np

from latentstore.errors import SourceError
from latentstore.json_records import plain
from latentstore.manifest.names import SKIPPED
from latentstore.system.durable_files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from latentstore.manifest import SkippedInfo
    from latentstore.plan import PlannedRows

_KINDS_TOLD = 3


def kind_of(reason: str) -> str:
    """What reasons of one kind have in common: without the numbers, and what a decoder says after the colon."""
    return re.sub(r"\d+(?:[.,]\d+)*", "N", reason.partition(":")[0])


def by_kind(skipped: Iterable[SkippedInfo]) -> list[list[SkippedInfo]]:
    """The skipped pictures by kind of reason, the most frequent first."""
    groups: dict[str, list[SkippedInfo]] = {}
    for entry in skipped:
        groups.setdefault(kind_of(entry.reason), []).append(entry)
    return sorted(groups.values(), key=len, reverse=True)


class Quarantine:
    """The bad pictures of a build so far, and whether it goes on.

    What counts is pictures of the whole plan, not rows or those seen so far. So the same is said of a build that any
    number of workers did in any number of runs; and what refuses a part of it would refuse the whole.

    One bad picture alone stops no build, however few there are, unless no share at all is allowed.
    """

    def __init__(self, rows: PlannedRows, max_bad: float) -> None:
        self._rows = rows
        self._max_bad = max_bad
        due = (planned[rows.first_due(split) :, 0] for split, planned in rows.splits.items())
        self._pictures = sum(len(np.unique(images)) for images in due)
        self._allowed = max(1.0, max_bad * self._pictures) if max_bad else 0.0
        self._found: dict[tuple[str, int], SkippedInfo] = {}

    def add(self, skipped: Iterable[SkippedInfo]) -> None:
        """Take note of skipped rows; what is known already counts once.

        Raises SourceError with the first of each kind of reason once more than the allowed share are bad.
        """
        for entry in skipped:
            image = int(self._rows.splits[entry.split][entry.position, 0])
            self._found.setdefault((entry.split, image), entry)
        if len(self._found) > self._allowed:
            raise SourceError(self._too_many())

    def _too_many(self) -> str:
        found, pictures = len(self._found), self._pictures
        ordered = sorted(self._found.values(), key=lambda entry: (entry.split, entry.position))
        kinds = by_kind(ordered)
        told = "; ".join(f"{kind[0].source_path!r}: {kind[0].reason}" for kind in kinds[:_KINDS_TOLD])
        more = f"; and {len(kinds) - _KINDS_TOLD:,} more kinds of reasons" if len(kinds) > _KINDS_TOLD else ""
        return (
            f"{found:,} or more of {pictures:,} pictures cannot be used, but no more than {100 * self._max_bad:g} % "
            f"may be bad ({told}{more}): mend the source, or allow a larger share with --max-bad, such as "
            "--max-bad 0.5."
        )


def skipped_lines(skipped: Iterable[SkippedInfo]) -> str:
    """One line of JSON, in ASCII, for each skipped picture, in the order and with the fields of the manifest."""
    return "".join(f"{json.dumps(plain(entry))}\n" for entry in skipped)


def write_skipped(folder: Path, skipped: Sequence[SkippedInfo]) -> None:
    """The list of skipped pictures beside the shards; no file where there are none."""
    path = folder / SKIPPED
    if skipped:
        write_atomically(path, skipped_lines(skipped))
    else:
        path.unlink(missing_ok=True)
