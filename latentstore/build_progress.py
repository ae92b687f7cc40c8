"""How far a build is: what workers tell about their shards, added up for the caller's callback."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is; handed to the caller's callback after every batch."""

    stage: str
    """``calibrate``, ``encode``, ``seal`` or ``done``."""
    done: int
    """Pictures dealt with so far, skipped ones and those of an earlier run included."""
    total: int
    skipped: int
    resumed: int
    """Pictures in shards that an earlier run had finished."""
    psnr: float | None
    """Mean over the pictures of this run; None while there is none."""


Progress = Callable[[BuildProgress], None]


@dataclass(frozen=True)
class ShardProgress:
    """How far one shard is; workers send it from wherever they are, so it can be pickled.

    All numbers count from the shard's beginning: a shard that another worker takes over starts again.
    """

    shard: str
    """Name of its file."""
    done: int = 0
    """Pictures dealt with, skipped ones included."""
    skipped: int = 0
    scored: int = 0
    """Pictures whose PSNR is finite."""
    psnr_sum: float = 0.0

    def skip(self) -> ShardProgress:
        """One more picture, which was not usable."""
        return replace(self, done=self.done + 1, skipped=self.skipped + 1)

    def advance(self, pictures: int, psnr: list[float]) -> ShardProgress:
        """So many more pictures, with the PSNR of those that have one."""
        finite = [score for score in psnr if math.isfinite(score)]
        return replace(
            self,
            done=self.done + pictures,
            scored=self.scored + len(finite),
            psnr_sum=self.psnr_sum + math.fsum(finite),
        )


Tell = Callable[[ShardProgress], None]
"""Takes what a worker has to tell."""


class Report:
    """Adds up what is told of each shard, for the progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._resumed = 0
        self._shards: dict[str, ShardProgress] = {}
        self._sum = ShardProgress("")

    def resume(self, shard: str, pictures: int, skipped: int) -> None:
        """A shard that an earlier run had finished."""
        self._resumed += pictures
        self.tell(ShardProgress(shard, pictures, skipped))

    def tell(self, found: ShardProgress) -> None:
        """The newest of one shard.

        It counts where it is more than was known: of a finished shard, others than its worker know less.
        """
        before = self._shards.get(found.shard, ShardProgress(found.shard))
        if found.done <= before.done and found.scored <= before.scored:
            return
        self._shards[found.shard] = found
        self._sum = ShardProgress(
            "",
            self._sum.done + found.done - before.done,
            self._sum.skipped + found.skipped - before.skipped,
            self._sum.scored + found.scored - before.scored,
            self._sum.psnr_sum + found.psnr_sum - before.psnr_sum,
        )
        self.stage("encode")

    def stage(self, name: str) -> None:
        """Call back, in this stage."""
        if self._progress is not None:
            told = self._sum
            psnr = told.psnr_sum / told.scored if told.scored else None
            self._progress(BuildProgress(name, told.done, self._total, told.skipped, self._resumed, psnr))
