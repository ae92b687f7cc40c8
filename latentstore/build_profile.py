"""Where the time of a build went: seconds of work in each stage, and how much of the time the VAE computed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from latentstore.named_table import NamedTable


@dataclass(frozen=True)
class StageRow:
    """One stage whose seconds are counted."""

    name: str
    lane: str
    """Stages of one lane take turns in one thread; lanes run at the same time."""
    summary: str


READING, COMPUTING, WRITING = "reading", "computing", "writing"
STAGES = NamedTable(
    "stage",
    [
        StageRow("read", READING, "files read, decoded, cut and scaled"),
        StageRow("prepare", READING, "pictures stacked into batches"),
        StageRow("encode", COMPUTING, "VAE encoder"),
        StageRow("store", COMPUTING, "numbers rounded, and read again"),
        StageRow("decode", COMPUTING, "VAE decoder, of the stored numbers"),
        StageRow("measure", COMPUTING, "metrics, and copies to and from the device"),
        StageRow("count", WRITING, "statistics, entropy and checksums"),
        StageRow("thumbnail", WRITING, "small pictures of what was stored"),
        StageRow("write", WRITING, "compressed and written"),
        StageRow("hash", WRITING, "sha256 of the file"),
        StageRow("sync", WRITING, "on disk for good, and noted in the journal"),
    ],
)
VAE_STAGES = ("encode", "decode")
SAFETY_STAGES = ("hash", "sync")


@dataclass(frozen=True)
class BuildProfile:
    """Where the time went; profiles of several workers add up."""

    seconds: float
    """From the first picture to the last shard, summed over the workers."""
    vae_seconds: float
    """Of those, how long the VAE was encoding, decoding or both."""
    pictures: int
    workers: int = 1
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds of work in each stage; lanes overlap, so they add up to more than ``seconds``."""

    @classmethod
    def sum_of(cls, profiles: Iterable[BuildProfile]) -> BuildProfile:
        """All workers together."""
        found = list(profiles)
        stages = {name: sum(one.stages.get(name, 0.0) for one in found) for name in STAGES}
        return cls(
            seconds=sum(one.seconds for one in found),
            vae_seconds=sum(one.vae_seconds for one in found),
            pictures=sum(one.pictures for one in found),
            workers=sum(one.workers for one in found),
            stages=stages,
        )

    def share(self, seconds: float) -> float:
        """Such seconds as a part of all; 0 where nothing was built."""
        return seconds / self.seconds if self.seconds else 0.0

    @property
    def vae_share(self) -> float:
        """The part of the time in which the VAE computed."""
        return self.share(self.vae_seconds)

    @property
    def safety_share(self) -> float:
        """The part that hashing, syncing and the journal took, were it not done while the VAE computes."""
        return self.share(sum(self.stages.get(name, 0.0) for name in SAFETY_STAGES))

    @property
    def lanes(self) -> dict[str, float]:
        """Seconds of work in each lane."""
        found = dict.fromkeys((READING, COMPUTING, WRITING), 0.0)
        for name, seconds in self.stages.items():
            found[STAGES[name].lane] += seconds
        return found

    @property
    def bottleneck(self) -> str:
        """The stage to make faster first: the longest of the lane that the others wait for."""
        lanes = self.lanes
        busiest = max(lanes, key=lambda lane: lanes[lane])
        return max((row.name for row in STAGES.values() if row.lane == busiest), key=lambda n: self.stages.get(n, 0.0))


class StageClock:
    """Counts the seconds of each stage, in several threads; a stage inside another stops that one's clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        self._running = threading.local()
        self._device: list[tuple[float, float]] = []
        self._device_began: Any = None

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Count what happens inside for this stage (an empty name: for none)."""
        outer = getattr(self._running, "stage", "")
        self._switch(stage)
        try:
            yield
        finally:
            self._switch(outer)

    def _switch(self, stage: str) -> None:
        now = time.perf_counter()
        before = getattr(self._running, "stage", "")
        if before:
            with self._lock:
                self._seconds[before] = self._seconds.get(before, 0.0) + now - self._running.since
        self._running.stage, self._running.since = stage, now

    @contextmanager
    def on_device(self, stage: str) -> Iterator[DeviceSpan]:
        """Count what an accelerator does for a stage; ``done()`` is called on the span once it was waited for."""
        import torch

        def event() -> Any:
            return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

        with self._lock:
            if self._device_began is None:
                self._device_began = event()
                self._device_began.record()
        span = DeviceSpan(self, stage, event(), event())
        span.start.record()
        yield span
        span.stop.record()

    def add_span(self, span: DeviceSpan) -> None:
        """Count a span that is over."""
        start, stop = (self._device_began.elapsed_time(event) / 1000 for event in (span.start, span.stop))
        with self._lock:
            self._seconds[span.stage] = self._seconds.get(span.stage, 0.0) + stop - start
            self._device.append((start, stop))

    def profile(self, seconds: float, pictures: int) -> BuildProfile:
        """What was counted until now."""
        with self._lock:
            stages = {name: self._seconds.get(name, 0.0) for name in STAGES}
            spans = sorted(self._device)
        busy = union(spans) if spans else sum(stages[name] for name in VAE_STAGES)
        return BuildProfile(seconds, busy, pictures, 1, stages)


@dataclass(frozen=True)
class DeviceSpan:
    """What an accelerator does between two of its events."""

    clock: StageClock
    stage: str
    start: Any
    stop: Any

    def done(self) -> None:
        """It was waited for, so its seconds are known."""
        self.clock.add_span(self)


def union(spans: Iterable[tuple[float, float]]) -> float:
    """How long at least one of these spans (start, stop), sorted by their start, lasts."""
    total, until = 0.0, float("-inf")
    for start, stop in spans:
        total += max(0.0, stop - max(start, until))
        until = max(until, stop)
    return total
