"""The search for reference cycles stands still inside, and goes on afterwards as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from latentstore.garbage import collection_paused


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Whatever a test leaves."""
    before = gc.isenabled()
    yield
    (gc.enable if before else gc.disable)()


def searches_of(objects: int) -> int:
    """How often Python looks for cycles while so many objects are made."""
    seen: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        seen.append(phase)

    gc.callbacks.append(note)
    try:
        kept = [[number] for number in range(objects)]
    finally:
        gc.callbacks.remove(note)
    assert len(kept) == objects
    return len(seen)


def test_nothing_is_searched_inside() -> None:
    gc.enable()
    assert searches_of(20_000) > 0
    with collection_paused():
        assert searches_of(20_000) == 0
    assert searches_of(20_000) > 0


@pytest.mark.parametrize("enabled", [True, False])
def test_afterwards_it_is_as_before_even_where_importing_fails(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    with pytest.raises(ImportError), collection_paused():
        raise ImportError
    assert gc.isenabled() is enabled


def test_one_pause_inside_another_ends_with_the_outer_one() -> None:
    gc.enable()
    with collection_paused():
        with collection_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
