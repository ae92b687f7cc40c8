"""How far a conversion is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from latentstore.build_progress import BuildProgress


@dataclass(frozen=True)
class ConvertProgress(BuildProgress):
    """How far a conversion is; ``stage`` is ``calibrate``, ``convert``, ``seal`` or ``done``."""

    note: str = ""
    """Why the quality is not measured again, and how it can be; empty where there is nothing to say."""


class Report:
    """Counts for the caller's callback."""

    def __init__(self, progress: Callable[[ConvertProgress], None] | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = self._resumed = self._scored = 0
        self._psnr_sum = 0.0
        self.note = ""

    def advance(self, rows: int, psnr: Sequence[float | None]) -> None:
        """So many rows are converted, of which some were scored."""
        self._done += rows
        finite = [score for score in psnr if score is not None and math.isfinite(score)]
        self._scored += len(finite)
        self._psnr_sum += math.fsum(finite)
        self.stage("convert")

    def resume(self, rows: int) -> None:
        """So many rows were converted by an earlier run."""
        self._done += rows
        self._resumed += rows
        self.stage("convert")

    def stage(self, name: str) -> None:
        """Tell the caller."""
        if self._progress is not None:
            psnr = self._psnr_sum / self._scored if self._scored else None
            self._progress(ConvertProgress(name, self._done, self._total, 0, self._resumed, psnr, self.note))
