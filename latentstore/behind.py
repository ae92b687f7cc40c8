"""Work that runs behind whoever makes its items: a consumer in a thread of its own, behind a bounded queue."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from queue import Full, Queue, SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")
SECONDS_BETWEEN_LOOKS = 0.1


def behind(
    items: Iterable[Item],
    size: int,
    work: Callable[[Iterator[Item]], Iterator[Found]],
    *,
    ending: Callable[[], bool] = sys.is_finalizing,
) -> Generator[Found, None, None]:
    """What ``work`` gives for the items, which are made here while it works, in a thread, on those before.

    At most ``size`` items wait for it. Its results come in their order, each after the item that is being made.
    Whatever the items or the work raise is raised here; of both, what the work raised. Where the items end with an
    error, or nobody takes more results, the work still gets the items that were made until then (unless it is
    interrupted once more); when it asks for another one it is stopped, and is always waited for, so that all it has
    open is closed; not where the interpreter is ``ending``, which has stopped its threads for good.
    """
    line = _Line(size, work)
    try:
        line.thread.start()
        for item in items:
            yield from line.give(("item", item))
            if line.ended:
                return
        yield from line.give(("end", None))
        while not line.ended:
            yield from line.next_result()
    except Exception as error:
        line.stop()
        line.raise_what_came_before(error)
        raise
    finally:
        if not ending():
            line.stop()


class _Stopped(BaseException):
    """Ends work that asks for an item after the last."""


class _Line(Generic[Item, Found]):
    """Items on their way to the work, and what it made of them on the way back."""

    def __init__(self, size: int, work: Callable[[Iterator[Item]], Iterator[Found]]) -> None:
        self.thread = threading.Thread(target=self._run, args=(work,), daemon=True, name="latentstore-behind")
        self.ended = False
        """Whether the work is over and all its results were taken."""
        self._in_a_hurry = False
        self._over = threading.Event()
        self._items: Queue[tuple[str, object]] = Queue(size)
        self._found: SimpleQueue[tuple[str, object]] = SimpleQueue()

    def _run(self, work: Callable[[Iterator[Item]], Iterator[Found]]) -> None:
        try:
            for found in work(self._taken()):
                self._found.put(("item", found))
        except _Stopped:
            return
        except BaseException as error:  # noqa: BLE001 (raised again where the results are taken)
            self._found.put(("error", error))
        else:
            self._found.put(("end", None))
        finally:
            self._over.set()

    def _taken(self) -> Iterator[Item]:
        while True:
            kind, item = self._items.get()
            if kind == "end":
                return
            if kind == "stop" or self._in_a_hurry:
                raise _Stopped
            yield item  # type: ignore[misc]  # what was made of the items

    def stop(self) -> None:
        """Have the thread end once it has done what it was given; an interrupt is raised once it has ended."""
        interrupt: KeyboardInterrupt | None = None
        while self.thread.is_alive() and not self._over.is_set():
            try:
                with suppress(Full):
                    self._items.put(("stop", None), timeout=SECONDS_BETWEEN_LOOKS)
                self._over.wait(SECONDS_BETWEEN_LOOKS)  # a join that is interrupted takes the thread for ended
            except KeyboardInterrupt as again:
                interrupt, self._in_a_hurry = again, True
        if self.thread.ident is not None:
            self.thread.join()
        if interrupt is not None:
            raise interrupt

    def raise_what_came_before(self, error: Exception) -> None:
        """The error of the work, where it was not raised yet."""
        while not self._found.empty():
            kind, found = self._found.get()
            if kind == "error":
                raise found from error  # type: ignore[misc]  # what the thread caught

    def give(self, entry: tuple[str, object]) -> Iterator[Found]:
        """Hand an item on as soon as there is room, and take what was found until then."""
        given = False
        while not (given or self.ended):
            with suppress(Full):
                self._items.put(entry, timeout=SECONDS_BETWEEN_LOOKS)
                given = True
            while not self._found.empty():
                yield from self.next_result()

    def next_result(self) -> Iterator[Found]:
        """The next thing that the work found; none where it is over."""
        kind, found = self._found.get()
        if kind == "error":
            raise found  # type: ignore[misc]  # what the thread caught
        if kind == "end":
            self.ended = True
            return
        yield found  # type: ignore[misc]  # what the work gave
