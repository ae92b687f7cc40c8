"""Pace, and what is written to a pipe and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from latentstore_cli.progress import BuildDisplay, CheckDisplay, Pace

from latentstore import BuildProgress

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def report(done: int, *, stage: str = "encode", resumed: int = 0, skipped: int = 0) -> BuildProgress:
    return BuildProgress(stage, done, 1000, skipped, resumed, psnr=30.0 if done > resumed else None)


def test_pace_leaves_out_loading_and_earlier_runs(clock: Clock) -> None:
    pace = Pace(clock)
    assert pace.rate == 0
    assert pace.left is None
    clock.now += 60  # loading the VAE
    pace.update(report(400, resumed=400))
    assert pace.rate == 0
    pace.update(report(410, resumed=400))
    clock.now += 2
    pace.update(report(430, resumed=400))
    assert pace.rate == 10
    assert pace.left == 57
    clock.now += 100
    pace.update(report(1000, resumed=400, stage="seal"))
    assert pace.seconds == 62


def test_one_report_is_measured_from_the_beginning(clock: Clock) -> None:
    pace = Pace(clock)
    clock.now += 2
    pace.update(report(10))
    assert pace.rate == 5


def test_a_pipe_gets_a_line_at_stages_and_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with BuildDisplay(clock) as display:
        assert not display.called
        for seconds, made in ((1, report(10)), (1, report(20)), (8, report(100)), (4, report(120, skipped=2))):
            clock.now += seconds
            display(made)
        display(report(1000, stage="seal"))
        assert display.called
    assert capsys.readouterr().err.splitlines() == [
        "Opening the source and the VAE.",
        "encoding: 10/1,000 pictures, 10.0 images/s, 0:01:39 left, PSNR 30.00 dB",
        "encoding: 120/1,000 pictures, 8.5 images/s, 0:01:44 left, PSNR 30.00 dB, 2 skipped",
        "sealing: 1,000/1,000 pictures, 76.2 images/s, PSNR 30.00 dB",
    ]


def test_pictures_from_an_earlier_run_are_named(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    display = BuildDisplay(clock)
    clock.now += 1
    display(report(400, resumed=400))
    assert capsys.readouterr().err == "encoding: 400/1,000 pictures, 400 from before\n"


def test_checks_are_named_only_when_they_take_long(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with CheckDisplay(clock) as display:
        tell: Callable[[str, int, int], None] = display.of("mine")
        tell("manifest", 0, 0)
        clock.now += 11
        tell("identity", 0, 0)
        clock.now += 1
        tell("quality", 1, 16)
        clock.now += 10
        tell("quality", 4, 16)
        clock.now += 10
        display.of("")("shards", 1 << 30, 3 << 30)
    assert capsys.readouterr().err.splitlines() == [
        "checking mine: identity",
        "checking mine: quality, 25%",
        "checking: shards, 33%",
    ]
