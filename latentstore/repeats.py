"""What many keys say together, gone through row by row without holding them: which occur again, what each adds once.

Python's own hashes differ from run to run. So they only tell which keys surely occur once; the few others are compared
themselves, and what is found does not depend on the hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import compress

import numpy as np
from numpy.typing import NDArray

Keys = Callable[[], Iterator[Hashable]]
"""Gives the keys of all rows in order, each time that it is called."""


def may_recur(keys: Keys, count: int, groups: Keys | None = None) -> NDArray[np.bool_]:
    """Of the keys of so many rows, (count,): False where a key surely belongs to neighbouring rows only.

    With ``groups``: where its group, another key of the same rows, surely has neighbouring rows of one key only.
    True may, rarely, be said of others too.
    """
    starts = np.fromiter(_changes(keys()), bool, count)
    hashes = np.fromiter(map(hash, compress((groups or keys)(), starts)), np.int64)
    order = np.argsort(hashes)
    ordered = hashes[order]
    same = ordered[1:] == ordered[:-1]
    again = np.zeros(len(hashes), bool)
    again[order[1:][same]] = True
    again[order[:-1][same]] = True
    found: NDArray[np.bool_] = again[np.cumsum(starts) - 1]
    return found


def sum_once(keys: Keys, values: Iterable[int], count: int) -> int:
    """Sum of the values of so many rows, of which those with equal keys count once: the last of them."""
    total = 0
    recurring: dict[Hashable, int] = {}
    last: tuple[Hashable, int] | None = None
    for key, value, again in zip(keys(), values, may_recur(keys, count).tolist(), strict=True):
        if again:
            recurring[key] = value
            continue
        if last is not None and last[0] != key:
            total += last[1]
        last = key, value
    return total + (last[1] if last is not None else 0) + sum(recurring.values())


def _changes(keys: Iterable[Hashable]) -> Iterator[bool]:
    """Of each key, whether it is another than the one before."""
    before: Hashable = _NONE
    for key in keys:
        yield key != before
        before = key


_NONE = object()
