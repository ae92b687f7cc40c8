"""Memory that kernels free stays with the process: counted in pages that the system had to give."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

PAGES = """
import json, resource
import os, sys
import torch
from latentstore.freed_memory import give_back, kept

if "limited" in sys.argv:
    resource.setrlimit(resource.RLIMIT_DATA, (2**34, resource.RLIM_INFINITY))

SIZE = 48 * 2**20  # more than glibc keeps by itself

def pages(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(SIZE, dtype=torch.uint8)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / SIZE / times

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / SIZE

torch.set_num_threads(1)
pages(2)
found = {"before": pages(5)}
started = resident()
with kept():
    pages(12)  # small pieces beside the first ones are kept apart, so that those do not fit again
    with kept():
        found["inner"] = pages(5)
    found["inside"] = pages(5)
    found["held"] = resident() - started
found["left"] = resident() - started
with kept():
    pages(12)
    child = os.fork()
    if child == 0:
        with kept():
            pass  # the last context of this process
        os._exit(0 if resident() - started < 0.2 else 1)
    found["child"] = os.waitpid(child, 0)[1]
    give_back()
    found["given back"] = resident() - started
print(json.dumps(found))
"""


def measured(*arguments: str, **environment: str) -> dict[str, float]:
    """Pages that an allocation of 48 MiB takes, in parts of all that it has; and what stays resident, in the same."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", PAGES, *arguments]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, env=clean | environment)
    found: dict[str, float] = json.loads(told.stdout)
    return found


@glibc
def test_freed_memory_is_kept_inside_and_given_back_afterwards() -> None:
    found = measured()
    if found["before"] < 0.5:
        pytest.skip("this system gives large pages, so that their number says nothing")
    assert found["inner"] < 0.05
    assert found["inside"] < 0.05
    assert found["held"] > 0.9
    assert found["left"] < 0.2
    assert found["given back"] < 0.2
    assert found["child"] == 0


@glibc
@pytest.mark.parametrize(
    "environment", [{"MALLOC_TOP_PAD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.top_pad=131072"}]
)
def test_whoever_has_set_the_allocator_keeps_it_so(environment: dict[str, str]) -> None:
    found = measured(**environment)
    if found["before"] < 0.5:
        pytest.skip("this system gives large pages, so that their number says nothing")
    assert found["inside"] > 0.5


@glibc
def test_a_process_that_may_have_only_so_much_memory_keeps_none() -> None:
    found = measured("limited")
    if found["before"] < 0.5:
        pytest.skip("this system gives large pages, so that their number says nothing")
    assert found["inside"] > 0.5
