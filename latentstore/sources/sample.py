"""A seeded sample of a source's pictures, as a source of its own: any row, with fewer pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from latentstore.errors import RequestError
from latentstore.records import SkippedTile, Tile
from latentstore.sources.interface import OpenSource, SourceRow, SplitReader, names_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Size = tuple[int, int]

LIMIT, LIMIT_SEED = "limit", "limit_seed"
"""The options that a config's manifest records."""


@dataclass(frozen=True)
class SampledSplit:
    """Some rows of a split, in their own order."""

    split: SplitReader
    rows: NDArray[np.int64]
    """Ascending."""
    random_access: bool = True

    def __len__(self) -> int:
        return len(self.rows)

    def names(self) -> Sequence[str]:
        """See ``NamedSplit.names``."""
        names = names_of(self.split)
        return [names[row] for row in self.rows.tolist()]

    def sizes(self) -> Iterator[Size | None]:
        """See ``SplitReader.sizes``."""
        chosen = set(self.rows.tolist())
        return (size for row, size in enumerate(self.split.sizes()) if row in chosen)

    def read(self, rows: Sequence[int]) -> Iterator[Tile | SkippedTile]:
        """See ``SplitReader.read``."""
        return self.split.read(self.rows[list(rows)].tolist())


def sample_of(row: SourceRow, limit: int, seed: int = 0) -> SourceRow:
    """The row with at most ``limit`` of its pictures, drawn over all splits; a larger limit adds to the same ones."""
    if limit < 1 or seed < 0:
        raise RequestError(f"Expected a limit of 1 or more pictures and a seed of 0 or more, found {limit} and {seed}.")

    def open_sample(asked: SourceRow) -> OpenSource:
        own = {name: value for name, value in asked.options.items() if name not in (LIMIT, LIMIT_SEED)}
        return _sampled(replace(asked, reader=row.reader, options=own).open(), asked.name, limit, seed)

    # A manifest names the reader that knows the pictures; the options say that only some were taken.
    open_sample.__name__ = row.reader.__name__
    # What the publisher counts is the whole, so nothing is expected of a part.
    options = {**row.options, LIMIT: limit, LIMIT_SEED: seed}
    return replace(row, reader=open_sample, options=options, expected_images=None)


def _sampled(source: OpenSource, name: str, limit: int, seed: int) -> OpenSource:
    if not all(split.random_access for split in source.splits.values()):
        raise RequestError(
            f"Source {name!r} is a stream, which no sample can be drawn from: read it without streaming."
        )
    total = sum(map(len, source.splits.values()))
    chosen = np.sort(np.random.default_rng([seed, total]).permutation(total)[:limit])
    splits: dict[str, SplitReader] = {}
    start = 0
    for split_name, split in source.splits.items():
        rows = chosen[(chosen >= start) & (chosen < start + len(split))] - start
        start += len(split)
        if len(rows):
            splits[split_name] = SampledSplit(split, rows)
    return replace(source, splits=splits)
