"""How far a build or a check is, on stderr: a bar on a terminal, now and then a plain line in a pipe."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from .output import bar_on, note, takes_escapes, words_column

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.progress import Progress

    from latentstore import BuildProgress

SECONDS_BETWEEN_LINES = 10.0
WORDS = {
    "calibrate": "calibrating",
    "encode": "encoding",
    "convert": "converting",
    "seal": "sealing",
    "done": "done",
}
"""What people read for a stage of a build or a conversion."""
MOVING = ("encode", "convert")
"""Stages in which pictures are dealt with one after another."""


class Pace:
    """Pictures a second and time left, from what a build reports; shards of an earlier run do not count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._first: tuple[float, int] | None = None
        self._built = 0
        self._left = 0
        self._seconds = 0.0

    def update(self, progress: BuildProgress) -> None:
        """Take the next report into account."""
        now = self._clock()
        self._built, self._left = progress.done - progress.resumed, progress.total - progress.done
        if self._built and self._first is None:
            self._first = (now, self._built)
        if progress.stage in MOVING:  # sealing is no part of the pace
            self._seconds = now - self._started

    @property
    def seconds(self) -> float:
        """From the beginning to the last picture."""
        return self._seconds

    @property
    def rate(self) -> float:
        """Pictures a second of this run; 0 where nothing was built yet."""
        if self._first is None:
            return 0.0
        since, before = self._first
        seconds, built = self._started + self._seconds - since, self._built - before
        if built > 0 and seconds > 0:  # loading the VAE is over by the first report
            return built / seconds
        return self._built / self._seconds if self._seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until every picture is encoded; None where that is unknown."""
        return self._left / self.rate if self.rate else None


class BuildDisplay:
    """Call it with every `BuildProgress`; use it as a context."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, opening: str = "Opening the source and the VAE."
    ) -> None:
        self._opening = opening
        self.called = False
        """False while the build has reported nothing: what is complete already reports nothing."""
        self._clock = clock
        self._pace = Pace(clock)
        self._stage = ""
        self._last_line = 0.0
        self._bar: Progress | None = None
        self._last: BuildProgress | None = None

    def __enter__(self) -> BuildDisplay:  # noqa: PYI034 (typing.Self is younger than Python 3.10)
        note(self._opening)
        return self

    def __call__(self, progress: BuildProgress) -> None:
        """Show this report."""
        self.called = True
        self._pace.update(progress)
        self._last = progress
        if takes_escapes(sys.stderr):
            self._draw(progress)
        else:
            self._write(progress)
        self._stage = progress.stage

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None and self._last is not None and takes_escapes(sys.stderr):
            note(f"{_counted(self._last)} in {_clock(self._pace.seconds)}, {_rate(self._pace)}")

    def _draw(self, progress: BuildProgress) -> None:
        if self._bar is None:
            self._bar = _bar()
            self._bar.add_task("", total=progress.total, figures="")
        self._bar.update(
            self._bar.task_ids[0],
            description=WORDS.get(progress.stage, progress.stage),
            completed=progress.done,
            total=progress.total,
            figures=_figures(progress, self._pace),
        )
        self._bar.start()  # once more does nothing

    def _write(self, progress: BuildProgress) -> None:
        now = self._clock()
        if progress.stage == self._stage and now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        word = WORDS.get(progress.stage, progress.stage)
        note(f"{word}: {progress.done:,}/{progress.total:,} pictures, {_figures(progress, self._pace)}")


class CheckDisplay:
    """Shows which check runs and how far it is; use it as a context."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._bar: Progress | None = None
        self._clock = clock
        self._last_line = clock()

    def __enter__(self) -> CheckDisplay:  # noqa: PYI034 (typing.Self is younger than Python 3.10)
        if takes_escapes(sys.stderr):
            self._bar = _checks_bar()
            self._bar.add_task("checking", total=None)
            self._bar.start()
        return self

    def of(self, config: str) -> Callable[[str, int, int], None]:
        """The callback for the checks of one config."""
        return lambda check, done, total: self._show(config, check, done, total)

    def _show(self, config: str, check: str, done: int, total: int) -> None:
        text = f"checking {config}: {check}" if config else f"checking: {check}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text, completed=done, total=total or None)
        elif self._clock() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = self._clock()
            note(f"{text}, {done / total:.0%}" if total else text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn

    words, figures = words_column("{task.description}"), words_column("{task.fields[figures]}")
    return bar_on(sys.stderr, words, BarColumn(bar_width=None), MofNCompleteColumn(), figures)


def _checks_bar() -> Progress:
    from rich.progress import BarColumn, TaskProgressColumn

    return bar_on(sys.stderr, words_column("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn())


def _figures(progress: BuildProgress, pace: Pace) -> str:
    """``35.2 images/s, 0:01:10 left, 30.12 dB, 2 skipped``; only what is known."""
    figures = [_rate(pace)] if pace.rate else []
    if pace.left is not None and progress.stage in MOVING:
        figures.append(f"{_clock(pace.left)} left")
    if progress.psnr is not None:
        figures.append(f"PSNR {progress.psnr:.2f} dB")
    if progress.skipped:
        figures.append(f"{progress.skipped:,} skipped")
    if progress.resumed and progress.stage in MOVING:
        figures.append(f"{progress.resumed:,} from before")
    return ", ".join(figures) or "starting"


def _counted(progress: BuildProgress) -> str:
    earlier = f", {progress.resumed:,} of them from before," if progress.resumed else ""
    return f"{progress.done:,} pictures{earlier}"


def _rate(pace: Pace) -> str:
    return f"{pace.rate:,.1f} images/s"


def _clock(seconds: float) -> str:
    """``0:01:10``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
