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
from dataclasses import dataclass, field
from functools import cache
from typing import Any

# Parameters of mallopt, as malloc.h numbers them.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
MEBIBYTE = 2**20

KEPT = {MMAP_MAX: 0, TRIM_THRESHOLD: -1}
"""No piece comes from the system by itself, and none goes back."""
USUAL = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * MEBIBYTE, TRIM_THRESHOLD: 64 * MEBIBYTE}
"""What glibc comes to by itself in a process that frees large pieces; it cannot be asked what it had."""
SAME = "mmap_max", "mmap_threshold", "top_pad", "trim_threshold"
"""What it is called where somebody sets it: ``MALLOC_MMAP_MAX_``, ``GLIBC_TUNABLES=glibc.malloc.mmap_max=…``."""


@dataclass
class _Inside:
    """Contexts that are open, and who may change them."""

    guard: threading.Lock = field(default_factory=threading.Lock)
    contexts: set[object] = field(default_factory=set)


_inside = _Inside()


@contextmanager
def kept() -> Iterator[None]:
    """Keep memory that is freed inside; after the last of several such contexts it goes back to the system.

    A setting of the process. Nothing happens where the C library is not glibc, where the environment says how it is to
    allocate, or where the process may have only so much memory.
    """
    context = object()
    try:
        if _glibc() is not None and not _limited():
            with _inside.guard:
                _inside.contexts.add(context)
                _set(KEPT)
        yield
    finally:
        with _inside.guard:
            if context in _inside.contexts:
                _inside.contexts.remove(context)
                if not _inside.contexts:
                    _give_back()


def give_back() -> None:
    """Memory is short: what is free goes back to the system now, and from now on as usual."""
    with _inside.guard:
        if _inside.contexts:
            _give_back()


def _give_back() -> None:
    _set(USUAL)
    _glibc().malloc_trim(0)


def _set(values: dict[int, int]) -> None:
    for parameter, value in values.items():
        _glibc().mallopt(parameter, value)


def _limited() -> bool:
    import resource

    limits = (resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return any(limit != resource.RLIM_INFINITY for limit in limits)


@cache
def _glibc() -> Any:
    """The C library, where it is glibc and nobody else has set it; else None."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    settled = (f"MALLOC_{name.upper()}_" in os.environ or f"glibc.malloc.{name}=" in tunables for name in SAME)
    if sys.platform != "linux" or any(settled):
        return None
    library = ctypes.CDLL(None)
    wanted = "gnu_get_libc_version", "mallopt", "malloc_trim"
    return library if all(hasattr(library, name) for name in wanted) else None


def _in_a_forked_child() -> None:
    """No context of the parent's ends here, and nobody here holds its lock."""
    _inside.guard = threading.Lock()
    if _inside.contexts:
        _inside.contexts.clear()
        _set(USUAL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_forked_child)
