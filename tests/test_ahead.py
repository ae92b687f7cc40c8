"""An iterator in a thread of its own: same items, same errors, and it ends when nobody listens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentstore.ahead import ahead


def threads() -> list[threading.Thread]:
    """Those that work ahead."""
    return [thread for thread in threading.enumerate() if thread.name == "latentstore-ahead"]


@given(items=st.lists(st.integers()), size=st.integers(1, 5))
def test_the_items_are_the_same_in_the_same_order(items: list[int], size: int) -> None:
    assert list(ahead(iter(items), size)) == items
    assert threads() == []


def test_no_more_than_so_many_wait() -> None:
    made: list[int] = []
    taken = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            taken.release()
            yield number

    with closing(ahead(items(), 2)) as found:
        assert next(found) == 0
        for _ in range(4):  # the one taken, two that wait, and one that wants in
            assert taken.acquire(timeout=10)
        assert not taken.acquire(timeout=0.3)
        assert made == [0, 1, 2, 3]


def test_an_error_comes_at_its_place_and_is_the_very_same() -> None:
    error = ValueError("the third")

    def items() -> Iterator[int]:
        yield from (1, 2)
        raise error

    found = ahead(items(), 1)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="the third") as caught:
        next(found)
    assert caught.value is error
    assert threads() == []


def test_the_thread_ends_and_closes_its_items_when_nobody_takes_more() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    found = ahead(items(), 1)
    assert next(found) == 0
    found.close()
    assert closed.is_set()
    assert threads() == []


def test_the_thread_works_inside_the_context() -> None:
    inside: list[str] = []

    @contextmanager
    def context() -> Iterator[None]:
        inside.append(threading.current_thread().name)
        yield
        inside.append("left")

    assert list(ahead(iter([1]), 1, inside=context)) == [1]
    assert inside == ["latentstore-ahead", "left"]
