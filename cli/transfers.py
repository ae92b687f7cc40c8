"""What push, pull and drop share: how far they are, on stderr, and the question before something cannot be undone."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from .output import bar_on, confirmed, failure, is_terminal, note, takes_escapes, words_column
from .progress import SECONDS_BETWEEN_LINES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from rich.progress import Progress

    from latentstore.publishing.records import PublishPlan, PublishProgress

WORDS = {
    "check": "checking",
    "compare": "comparing with what is there",
    "send": "sending",
    "commit": "committing",
    "confirm": "looking again",
    "receive": "receiving",
}
"""What people read for a stage."""
UNITS = ("bytes", "kB", "MB", "GB", "TB")
SHOWN = 20
"""Files that are listed; ``--json`` gives all."""


class TransferDisplay:
    """Call it with every `PublishProgress`; use it as a context."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bar: Progress | None = None
        self._stage = ""
        self._last_line = 0.0

    def __enter__(self) -> TransferDisplay:  # noqa: PYI034 (typing.Self is younger than Python 3.10)
        return self

    def __call__(self, progress: PublishProgress) -> None:
        """Show this report."""
        words = f"{WORDS[progress.stage]} {progress.path}".rstrip()
        if takes_escapes(sys.stderr):
            self._draw(words, progress)
        elif progress.stage != self._stage or self._clock() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = self._clock()
            share = f", {size_in_words(progress.done)} of {size_in_words(progress.total)}" if progress.total else ""
            note(f"{words}{share}")
        self._stage = progress.stage

    def stop(self) -> None:
        """Leave the terminal to something else."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _draw(self, words: str, progress: PublishProgress) -> None:
        if self._bar is None:
            self._bar = _bar()
            self._bar.add_task("", total=None)
            self._bar.start()
        total = progress.total or None
        self._bar.update(self._bar.task_ids[0], description=words, completed=progress.done, total=total)
        self._bar.refresh()  # small files come and go between two of its own


def ask_first(display: TransferDisplay, *, yes: bool) -> Callable[[PublishPlan], None]:
    """The question before a repository is made or files are removed; without a terminal only --yes answers it."""

    def ask(plan: PublishPlan) -> None:
        if yes:
            return
        display.stop()
        what = "; ".join(_deeds(plan))
        if not is_terminal(sys.stdin):
            raise failure(f"{plan.location}: this would {what}; type --yes to let it, or see --dry-run.")
        confirmed(f"{plan.location}: {what}?")

    return ask


def _deeds(plan: PublishPlan) -> list[str]:
    """What cannot be taken back by typing another command."""
    deeds = [f"make this repository and send {size_in_words(plan.bytes)}"] if plan.creates else []
    if plan.deletions:
        more = f" and {len(plan.deletions) - 3} more" if len(plan.deletions) > 3 else ""
        deeds.append(f"remove {', '.join(plan.deletions[:3])}{more}")
    return deeds


def size_in_words(size: float) -> str:
    """``12.3 MB``: bytes by thousands."""
    power = 0
    while size >= 1000 and power < len(UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:,.1f} {UNITS[power]}" if power else f"{size:,.0f} {UNITS[0]}"


def listed_paths(words: str, paths: Sequence[str], size: float | None = None, told: str = "") -> list[tuple[str, str]]:
    """Lines for ``Page.pairs``: how many files, and each on its own line, of many the first ones; none for none.

    ``told`` is what else is said of all of them.
    """
    if not paths:
        return []
    counted = f"{len(paths):,} file{'s' * (len(paths) != 1)}"
    more = [("", f"and {len(paths) - SHOWN:,} more")] if len(paths) > SHOWN else []
    bytes_too = f", {size_in_words(size)}" if size is not None else ""
    return [(words, f"{counted}{bytes_too}{told}"), *(("", path) for path in paths[:SHOWN]), *more]


def _bar() -> Progress:
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn

    words = words_column("{task.description}")
    return bar_on(sys.stderr, words, BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn())
