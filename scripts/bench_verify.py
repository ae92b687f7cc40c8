"""How long `verify` takes: the quick depth in seconds, and each pass over the shards against a bare sha256 of them.

python scripts/bench_verify.py                  10,000 rows of 3x32x32 float16, in both layouts
python scripts/bench_verify.py --rows 100000    more of them

The latents are drawn at random and written through the library, so no VAE is needed. All rates are of the same files in
the same run, read from memory where they fit; the bare sha256 reads 1 MiB at a time.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from latentstore import CHECKS, METRICS, VAES, BuildPlan, LatentStore, Manifest, VerifyReport, build, verify
from latentstore.entropy import ByteCounts
from latentstore.manifest import ShardInfo, SplitInfo
from latentstore.manifest.names import INDEX
from latentstore.records import LatentRecord
from latentstore.seal import collect_index, index_info, size_ledger, summaries
from latentstore.shard_totals import channel_numbers
from latentstore.shards import blocks_of, write_shard
from latentstore.sources.table import SOURCES
from latentstore.statistics import ChannelStatistics

SHAPE = (3, 32, 32)
SPLIT = "train"
LAYOUTS = ("fast", "compact")
REPEATS = 3


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--shards", type=int, default=4)
    options = parser.parse_args()
    print(f"{options.rows:,} rows of {'x'.join(map(str, SHAPE))} float16 in {options.shards} shards\n")
    print("| layout | what | seconds | MB/s | share of bare sha256 |")
    print("|---|---|---:|---:|---:|")
    for layout in LAYOUTS:
        with tempfile.TemporaryDirectory() as out:
            folder = dataset(Path(out), layout, options.rows, options.shards)
            for line in measured(folder):
                print(f"| {layout} | {line} |")


def measured(folder: Path) -> Iterator[str]:
    """What is printed of one dataset."""
    megabytes = Manifest.read(folder).size.stored_bytes / 1e6
    verify(folder, depth="quick")  # imports pyarrow
    bare = best(lambda: hash_all(folder))
    quick = best(lambda: sound(verify(folder, depth="quick")))
    yield f"verify, depth quick | {quick:.3f} | |"
    yield f"bare sha256 of the shards | {bare:.3f} | {megabytes / bare:,.0f} | 1.00"
    for name, checks in (
        ("check hashes", ("hashes",)),
        ("every check of the shards", ("hashes", "structure", "rows", "checksums", "latents")),
    ):
        seconds = best(partial(shard_seconds, folder, checks))
        yield f"{name} | {seconds:.3f} | {megabytes / seconds:,.0f} | {bare / seconds:.2f}"
    report = verify(folder, depth="normal", sample=0)
    spent = {result.check: result.seconds for result in report.results if result.seconds >= 0.01}
    listed = ", ".join(f"{check} {seconds:.2f} s" for check, seconds in spent.items())
    yield f"seconds of each check: {listed} | {sum(spent.values()):.3f} | |"


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few runs; what returns a number has measured itself."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        own = work()
        seconds.append(own if isinstance(own, float) else time.perf_counter() - started)
    return min(seconds)


def shard_seconds(folder: Path, checks: tuple[str, ...]) -> float:
    """Seconds that these checks took, of a run in which nothing was found wrong."""
    report = verify(folder, checks=[CHECKS[name] for name in checks])
    sound(report)
    return sum(result.seconds for result in report.results if result.check in checks)


def sound(report: VerifyReport) -> None:
    """A benchmark of a damaged dataset would measure something else."""
    wrong = [finding for result in report.results for finding in result.findings]
    if wrong:
        raise SystemExit(f"The dataset is damaged: {wrong[0]}")


def hash_all(folder: Path) -> None:
    """Read every shard and hash it."""
    for shard in Manifest.read(folder).splits[SPLIT].shards:
        digest = hashlib.sha256()
        with (folder / shard.path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)


def dataset(out: Path, layout: str, rows: int, shards: int) -> Path:
    """A sealed dataset of drawn latents, its manifest made from that of a small real one."""
    metrics = tuple(METRICS[name] for name in ("psnr", "ssim", "mae"))
    source = SOURCES["synthetic"].at("", count=2)
    plan = BuildPlan(
        source=source,
        vae=VAES["pool8"],
        layout=layout,
        metrics=metrics,
        rows_per_shard=-(-rows // shards),
        thumbnail=0,
    )
    manifest = build(plan, out)
    folder = out / plan.config
    for old in folder.glob(f"{SPLIT}-*"):
        old.unlink()
    rng = np.random.default_rng(0)
    statistics, bits, entries = ChannelStatistics.empty(SHAPE[0]), [], []
    for number, part in enumerate(np.array_split(np.arange(rows), shards)):
        latents = rng.normal(0, 0.4, (len(part), *SHAPE)).astype(np.float16)
        records = (record(int(row), latent, rng) for row, latent in zip(part, latents, strict=True))
        name = plan.container.shard_name(SPLIT, number, shards)
        blocks = blocks_of(records, manifest.schema)
        entries.append(write_shard(folder, name, plan.container, manifest.schema, layout, blocks))
        statistics = statistics.merge(ChannelStatistics.of(latents))
        bits.append(ByteCounts.of(latents).bits)
    sealed(folder, manifest, tuple(entries), statistics, math.ceil(math.fsum(bits) / 8))
    return folder


def record(row: int, latent: np.ndarray, rng: np.random.Generator) -> LatentRecord:
    """One row as a build would write it."""
    name = f"class-{row % 12}/{row:06d}"
    scores = {"psnr": float(rng.normal(30, 3)), "ssim": float(rng.random()), "mae": float(rng.random() * 9)}
    scores = {metric: float(np.float32(score)) for metric, score in scores.items()}
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return LatentRecord(name, latent, row % 12, 256, 256, f"{name}.png", sha256, 70_000 + row, scores)


def sealed(
    folder: Path, manifest: Manifest, entries: tuple[ShardInfo, ...], statistics: ChannelStatistics, entropy: int
) -> None:
    """Index and manifest of these shards."""
    rows = sum(entry.rows for entry in entries)
    splits = {SPLIT: SplitInfo(rows, entries)}
    store = LatentStore(folder, manifest)
    index = collect_index(folder, store.container, store.schema, splits)
    store.container.write_index(folder / INDEX, store.schema, index)
    stored = sum(entry.bytes for entry in entries)
    replace(
        manifest,
        splits=splits,
        index=index_info(folder, rows),
        statistics={SPLIT: channel_numbers(statistics)},
        source=replace(manifest.source, images={SPLIT: rows}),
        size=size_ledger(store.schema, index, stored, entropy),
        quality=summaries([METRICS[name] for name in manifest.metrics], index, manifest.source.classes),
    ).write(folder)


if __name__ == "__main__":
    main()
