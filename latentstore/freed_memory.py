"""Memory that kernels on a CPU give back stays with the process, so that the next batch has it at once.

A VAE's layers fill buffers of tens of megabytes and drop them a moment later. glibc asks the system for each and gives
each back, and the system fills every page with zeros before it is used again: that can take longer than the layer. A
caching allocator, as torch has for accelerators, does not. glibc can be told to be one.

So layers that the system's pages held up are up to three times as fast, and the process holds up to twice as much
memory: pieces of other sizes do not always fit where others were. Only memory of the main thread is kept whole; what
other threads ask for in such pieces still comes from the system.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Parameters of mallopt, as malloc.h numbers them.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
MEBIBYTE = 2**20

KEPT = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1}
"""No piece comes from the system by itself, and none goes back."""
USUAL = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * MEBIBYTE, TRIM_THRESHOLD: 64 * MEBIBYTE}
"""What glibc comes to by itself in a process that frees large pieces; it cannot be asked what it had."""

_guard = threading.Lock()
_inside = 0


@contextmanager
def kept() -> Iterator[None]:
    """Keep memory that is freed inside; after the last of several such contexts it goes back to the system.

    A setting of the process. Nothing happens where the C library is not glibc, or where the environment says how it
    is to allocate (``MALLOC_TRIM_THRESHOLD_``, ``GLIBC_TUNABLES`` and the like).
    """
    _enter(1)
    try:
        yield
    finally:
        _enter(-1)


def _enter(step: int) -> None:
    global _inside
    library = _glibc()
    if library is None:
        return
    with _guard:
        before, _inside = _inside, _inside + step
        if before == 0:
            _set(library, KEPT)
        elif _inside == 0:
            _set(library, USUAL)
            library.malloc_trim(0)


def _set(library: Any, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        library.mallopt(parameter, value)


@cache
def _glibc() -> Any:
    """The C library, where it is glibc and nobody else has set it; else None."""
    settled = any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform != "linux" or settled or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    library = ctypes.CDLL(None)
    wanted = "gnu_get_libc_version", "mallopt", "malloc_trim"
    return library if all(hasattr(library, name) for name in wanted) else None
