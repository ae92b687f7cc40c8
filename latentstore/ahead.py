"""Work that runs ahead of whoever needs it: an iterator in a thread of its own, behind a bounded queue."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from queue import Empty, Full, Queue
from typing import TypeVar

Item = TypeVar("Item")
SECONDS_BETWEEN_LOOKS = 0.1


def ahead(
    items: Iterable[Item],
    size: int,
    *,
    inside: Callable[[], AbstractContextManager[object]] = nullcontext,
    ending: Callable[[], bool] = sys.is_finalizing,
) -> Generator[Item, None, None]:
    """The same items in the same order, made in a thread while the ones before are used; at most ``size`` wait.

    Whatever the items raise is raised here, at their place. ``inside`` gives a context that the thread enters first.
    Where nobody takes more items, the thread ends after the item that it is working on, and is waited for; not where
    the interpreter is ``ending``, which has stopped its threads for good.
    """
    queue: Queue[tuple[str, object]] = Queue(size)
    stopped = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, queue, stopped, inside), daemon=True, name="latentstore-ahead")
    thread.start()
    try:
        while True:
            kind, found = queue.get()
            if kind == "end":
                return
            if kind == "error":
                raise found  # type: ignore[misc]  # what the thread caught
            yield found  # type: ignore[misc]  # what the thread took from the items
    finally:
        if not ending():
            stopped.set()
            _drain(queue)
            thread.join()


def _fill(
    items: Iterable[Item],
    queue: Queue[tuple[str, object]],
    stopped: threading.Event,
    inside: Callable[[], AbstractContextManager[object]],
) -> None:
    try:
        with inside():
            for item in items:
                if not _put(queue, ("item", item), stopped):
                    return
    except BaseException as error:  # noqa: BLE001 (raised again where the items are taken)
        _put(queue, ("error", error), stopped)
    else:
        _put(queue, ("end", None), stopped)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _put(queue: Queue[tuple[str, object]], entry: tuple[str, object], stopped: threading.Event) -> bool:
    """Wait for room; False where nobody takes items any more."""
    while not stopped.is_set():
        try:
            queue.put(entry, timeout=SECONDS_BETWEEN_LOOKS)
        except Full:
            continue
        return True
    return False


def _drain(queue: Queue[tuple[str, object]]) -> None:
    """Make room, so that a thread that waits for it sees that it should stop."""
    try:
        while True:
            queue.get_nowait()
    except Empty:
        return
