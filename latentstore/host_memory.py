"""How much memory this process may still take."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def available_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Bytes that can be taken without swapping: free ones, and those of caches that would be given back.

    Those of the machine, or what is left of the process's own limit where that is less: a container sees the memory of
    the machine that it runs on, and is killed at its limit.
    """
    return min([_of_machine(proc), *_left_of_limits(proc, cgroups)])


def _of_machine(proc: Path) -> int:
    try:
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # no Linux
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _left_of_limits(proc: Path, cgroups: Path) -> list[int]:
    """What is left of the limit of every control group that the process is in (version 2, else version 1)."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = cgroups / controllers
            group = root / path.strip("/")
            inside = [group, *(above for above in group.parents if above.is_relative_to(root))]
            left += [found for folder in {root, *inside} if (found := _left_of(folder)) is not None]
    return left


def _left_of(group: Path) -> int | None:
    """Bytes up to the limit of one group; None where it has none."""
    names = [("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")]
    for limit, used in names:
        try:
            most, taken = (group / limit).read_text().strip(), int((group / used).read_text())
            numbers = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        cached = int(numbers.get("inactive_file", 0))  # pages of files that would be given back
        return None if most == "max" else max(0, int(most) - taken + cached)
    return None
