"""What it takes to open a dataset of a million rows: seconds and memory, in a process of its own.

python scripts/bench_open.py                  1,000,000 rows of 1x4x4 float16
python scripts/bench_open.py --rows 100000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from store_of import store_of

OPEN = """
import json, resource, sys, time
import torch, pyarrow.parquet, latentstore.load
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before, start = rss(), time.perf_counter()
dataset = latentstore.load.load_latents(sys.argv[1])
opened, memory = time.perf_counter() - start, rss() - before
loader = dataset.loader(256, shuffle=True)
start = time.perf_counter()
next(iter(loader))
first = time.perf_counter() - start
start = time.perf_counter()
kept = len(latentstore.load.load_latents(sys.argv[1], filter="height >= 32 and label in ('class 1', 'class 2')"))
print(json.dumps([len(dataset), opened, memory, first, kept, time.perf_counter() - start]))
"""


def main() -> None:
    """Write, open, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(options.rows, 1, 4, 4)).astype(np.float16)
    with tempfile.TemporaryDirectory(prefix="bench-open-") as root:
        store_of(Path(root), latents, rng.integers(0, 45, options.rows))
        index = Path(root, "bench", "index.parquet").stat().st_size
        done = subprocess.run([sys.executable, "-c", OPEN, root], capture_output=True, text=True, check=True)
        rows, opened, memory, first, kept, filtered = json.loads(done.stdout)
    print(f"{rows:,} rows, index of {index:,} bytes, torch and pyarrow imported before:")
    print(f"  open               {opened:.2f} s, {memory / 2**20:.0f} MiB of memory")
    print(f"  first batch        {first:.2f} s (256 rows of a permutation of all)")
    print(f"  open with a filter {filtered:.2f} s, {kept:,} rows kept")


if __name__ == "__main__":
    main()
