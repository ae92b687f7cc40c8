"""A consumer in a thread of its own: same results, same errors, and it ends when nobody wants more."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentstore.behind import behind


def threads() -> list[threading.Thread]:
    """Those that work behind."""
    return [thread for thread in threading.enumerate() if thread.name == "latentstore-behind"]


def in_pairs(items: Iterator[int]) -> Iterator[tuple[int, ...]]:
    """Every two items as one result; the last may be alone."""
    for first in items:
        second = next(items, None)
        yield (first,) if second is None else (first, second)


def doubled(items: Iterator[int]) -> Iterator[int]:
    """A result for each item."""
    for item in items:
        yield 2 * item


@given(items=st.lists(st.integers()), size=st.integers(1, 5))
def test_the_results_are_those_of_the_work_alone(items: list[int], size: int) -> None:
    assert list(behind(items, size, doubled)) == list(doubled(iter(items)))
    assert list(behind(items, size, in_pairs)) == list(in_pairs(iter(items)))
    assert threads() == []


def test_items_are_made_here_and_worked_on_elsewhere() -> None:
    makers: set[str] = set()
    workers: set[str] = set()

    def items() -> Iterator[int]:
        for number in range(3):
            makers.add(threading.current_thread().name)
            yield number

    def work(found: Iterator[int]) -> Iterator[int]:
        for item in found:
            workers.add(threading.current_thread().name)
            yield item

    assert list(behind(items(), 1, work)) == [0, 1, 2]
    assert makers == {threading.current_thread().name}
    assert workers == {"latentstore-behind"}


def test_items_are_made_while_the_work_is_at_those_before() -> None:
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    def work(found: Iterator[int]) -> Iterator[bool]:
        for _ in found:
            yield second.wait(timeout=10)

    assert list(behind(items(), 2, work)) == [True, True]


def test_no_more_than_so_many_wait() -> None:
    """With the first item taken and two that wait, the third is made and not given."""
    made: list[int] = []
    third, go_on = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            if number == 3:
                third.set()
            yield number

    def work(found: Iterator[int]) -> Iterator[int]:
        for item in found:
            if item == 0:
                assert third.wait(timeout=10)
                assert not go_on.wait(timeout=0.3)
                assert made == [0, 1, 2, 3]
            yield item

    assert list(behind(items(), 2, work)) == list(range(10))


def test_an_error_of_the_work_is_the_very_same_and_what_came_before_it_is_given() -> None:
    error = ValueError("the third")

    def work(found: Iterator[int]) -> Iterator[int]:
        for item in found:
            if item == 2:
                raise error
            yield item

    given_: list[int] = []
    with pytest.raises(ValueError, match="the third") as caught:
        given_.extend(behind(range(1000), 1, work))
    assert caught.value is error
    assert threads() == []


def test_an_error_of_the_items_is_the_very_same_and_the_work_gets_what_was_made_before_and_is_closed() -> None:
    error = ValueError("no more")
    made: list[int] = []
    closed = threading.Event()

    def items() -> Iterator[int]:
        yield from range(5)
        raise error

    def work(found: Iterator[int]) -> Iterator[int]:
        try:
            for item in found:
                time.sleep(0.05)
                made.append(item)
                yield item
        finally:
            closed.set()

    with pytest.raises(ValueError, match="no more") as caught:
        list(behind(items(), 4, work))
    assert caught.value is error
    assert made == [0, 1, 2, 3, 4]
    assert closed.is_set()
    assert threads() == []


def test_the_work_is_closed_and_waited_for_when_nobody_takes_more() -> None:
    closed = threading.Event()
    taken: list[int] = []

    def work(found: Iterator[int]) -> Iterator[int]:
        try:
            for item in found:
                taken.append(item)
                yield item
        finally:
            closed.set()

    with closing(behind(range(1000), 1, work)) as found:
        assert next(found) == 0
    assert closed.is_set()
    assert len(taken) < 1000
    assert threads() == []


def test_work_that_wants_no_more_ends_it() -> None:
    def first(items: Iterator[int]) -> Iterator[int]:
        yield next(items)

    assert list(behind(range(1000), 1, first)) == [0]
    assert threads() == []


def test_where_both_fail_the_error_of_the_work_is_raised() -> None:
    """A full disk is not hidden by the picture that could not be read meanwhile."""
    full = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert full.wait(timeout=10)
        raise ValueError("no picture")

    def work(found: Iterator[int]) -> Iterator[int]:
        for item in found:
            full.set()
            time.sleep(0.1)
            raise OSError("the disk is full")
            yield item

    with pytest.raises(OSError, match="the disk is full") as caught:
        list(behind(items(), 2, work))
    assert isinstance(caught.value.__cause__, ValueError)


def test_whoever_is_interrupted_again_and_again_still_waits_for_the_work() -> None:
    """The locks of what it writes are released afterwards."""
    entered, closed = threading.Event(), threading.Event()
    made: list[int] = []

    def items() -> Iterator[int]:
        yield from (1, 2)
        assert entered.wait(timeout=10)
        threading.Thread(target=interrupt_twice).start()
        raise KeyboardInterrupt

    def interrupt_twice() -> None:
        for _ in range(2):
            time.sleep(0.2)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def work(found: Iterator[int]) -> Iterator[int]:
        try:
            for item in found:
                entered.set()
                time.sleep(0.8)
                made.append(item)
                yield item
        finally:
            closed.set()

    with pytest.raises(KeyboardInterrupt):
        list(behind(items(), 2, work))
    assert made == [1]  # interrupted once more, it does not even begin with what waits
    assert closed.is_set()
    assert threads() == []
