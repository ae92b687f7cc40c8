"""Every storage, container and layout on the same latents: what each takes, what it loses, and how fast it is.

    python scripts/bench_storage.py                                        64 drawn scenes, the demo VAE
    python scripts/bench_storage.py --images PICTURES --vae taef2=WEIGHTS  a folder of pictures, weights from a folder
    python scripts/bench_storage.py --pictures 412 --sample 412 ...        more pictures, losses on all of them

Pictures are encoded once. int8 is measured at steps of 1/2 to 1/32 of each channel's standard deviation. The columns
of the Markdown table that it prints:

    bytes, bpp    all of the shard's file (latents, labels, ids, checksums, footer) a picture, and in bits a true pixel
    smaller       2 bytes a number, uncompressed, over those bytes
    bound         order-0 entropy of the stored numbers a picture, channel by channel and, of floats, byte by byte
    over          how much larger the file is than that bound
    lost          mean PSNR lost against the unrounded latents, in dB, on a seeded sample (layouts do not change it)
    write, read   10^6 bytes of float16 payload (2 bytes a number, whatever the storage) a second, one thread, best of
                  --rounds. Writing begins at float32 latents in memory and ends at a finished shard with its sha256;
                  reading opens a shard that the system holds in memory, takes all rows in a random order and ends at
                  float32.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from latentstore import SOURCES, VAES, BuildPlan, folder_source
from latentstore.calibration import Candidate, ChosenStorage, Sample, calibrate, spread_of
from latentstore.containers.interface import ContainerRow, ShardSchema
from latentstore.containers.table import CONTAINERS
from latentstore.entropy import ByteCounts
from latentstore.pictures import PictureReader
from latentstore.pixels import batch_of
from latentstore.plan import plan_rows
from latentstore.records import SkippedTile, record_of
from latentstore.shards import blocks_of, write_shard
from latentstore.statistics import ChannelStatistics
from latentstore.storage.table import STORAGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.vaes.interface import Vae

STEPS = (2, 4, 8, 16, 32)
"""Parts of a standard deviation."""
TARGET_SMALLER, TARGET_LOST, TARGET_OVER = 2.5, 0.02, 0.05


@dataclass(frozen=True)
class Line:
    """One storage in one layout of one container."""

    storage: str
    kept_in: str
    bytes: float
    """A picture."""
    bits_per_pixel: float
    smaller: float
    bound: float
    """Bytes a picture."""
    lost: float
    write: float
    read: float

    @property
    def over(self) -> float:
        """As a share of the bound."""
        return self.bytes / self.bound - 1


def main() -> None:
    """Encode, write, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="a folder of pictures; drawn scenes where it is left out")
    parser.add_argument("--vae", default="demo", metavar="NAME[=FOLDER]")
    parser.add_argument("--pictures", type=int, default=0, help="so many of them, drawn with seed 0; default: all")
    parser.add_argument("--sample", type=int, default=64, help="pictures that losses are measured on")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, metavar="PARTS", help="of int8: std / PARTS")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    name, _, folder = options.vae.partition("=")
    row = VAES[name].at(folder) if folder else VAES[name]
    source = folder_source(options.images) if options.images else SOURCES["synthetic"].at("", count=64)
    plan = BuildPlan(source=source, vae=row, batch_size=options.batch_size)
    vae = row.load()
    everything, classes = encoded(plan, vae, options.pictures)
    first = Sample(everything.tiles[: options.sample], everything.raw[: options.sample])
    print(
        f"{len(everything.tiles)} pictures, latents {everything.raw.shape[1:]} of {name}; "
        f"losses on {len(first.tiles)} of them\n"
    )
    lines = []
    for words, chosen, lost in storages(vae, first, everything, options.steps, options.batch_size):
        for container in CONTAINERS.values():
            for layout in container.layouts:
                kept_in = f"{container.name} {layout}"
                lines.append(measured(words, kept_in, everything, classes, chosen, lost, container, options.rounds))
    print("\n".join(table(lines)))
    print()
    print("\n".join(verdicts(lines)))


def encoded(plan: BuildPlan, vae: Vae, limit: int) -> tuple[Sample, tuple[str, ...] | None]:
    """The plan's pictures in its shuffled order (the first ``limit`` where that is not 0), latents and class names."""
    source = plan.source.open()
    rows = plan_rows(plan, source)
    reader = PictureReader(plan, source, rows)
    tiles = [
        tile
        for split, planned in rows.splits.items()
        for tile in reader.tiles(split, np.arange(min(limit or len(planned), len(planned))))
        if not isinstance(tile, SkippedTile)
    ]
    batches = [tiles[start : start + plan.batch_size] for start in range(0, len(tiles), plan.batch_size)]
    raw = [vae.encode(batch_of(batch, rows.padded).pixels).mean.float().cpu().numpy() for batch in batches]
    return Sample(tuple(tiles), np.concatenate(raw)), source.class_names


def storages(
    vae: Vae, sample: Sample, everything: Sample, parts: Sequence[int], batch_size: int
) -> Iterator[tuple[str, ChosenStorage, float]]:
    """Each storage in words, as a build would open it (without widened steps), and what it loses (dB)."""
    spread = spread_of(ChannelStatistics.of(everything.raw))
    words = {
        Candidate(storage, 1 / part if part else None): f"{storage.name}, std/{part}" if part else storage.name
        for storage in STORAGES.values()
        for part in (parts if storage.quantised else [0])
    }
    found = calibrate(vae, sample, list(words), budget=math.inf, batch_size=batch_size, seed=0, spread=spread)
    measured = found.calibration.candidates if found.calibration else ()
    losses = {(info.storage, info.step_sigma): info.loss_db for info in measured}
    for candidate, said in words.items():
        name, step = candidate.storage.name, candidate.step
        steps = None if step is None else tuple(np.asarray(step * spread, np.float32).astype(np.float64).tolist())
        yield said, ChosenStorage(name, step, steps), losses[name, step]


def measured(
    words: str,
    kept_in: str,
    everything: Sample,
    classes: tuple[str, ...] | None,
    chosen: ChosenStorage,
    lost: float,
    container: ContainerRow,
    rounds: int,
) -> Line:
    """One line of the table."""
    storage, raw, layout = chosen.open(), everything.raw, kept_in.split()[1]
    schema = ShardSchema(raw.shape[1:], storage.dtype.name, classes, ())
    payload = raw.size * 2
    order = np.random.default_rng(0).permutation(len(raw))
    with tempfile.TemporaryDirectory() as out:

        def write() -> None:
            stored = storage.encode(raw)
            records = (record_of(tile, latent, {}) for tile, latent in zip(everything.tiles, stored, strict=True))
            write_shard(Path(out), f"shard.{container.suffix}", container, schema, layout, blocks_of(records, schema))

        def read() -> NDArray[np.float32]:
            return storage.decode(container.open(Path(out) / f"shard.{container.suffix}", schema).latents(order))

        seconds_write, seconds_read = fastest(write, rounds), fastest(read, rounds)
        size = (Path(out) / f"shard.{container.suffix}").stat().st_size
        if read().tobytes() != storage.decode(storage.encode(raw))[order].tobytes():
            raise SystemExit(f"{words} in {kept_in}: what was read is not what was written")
    pixels = sum(tile.pixels.shape[0] * tile.pixels.shape[1] for tile in everything.tiles)
    return Line(
        storage=words,
        kept_in=kept_in,
        bytes=size / len(raw),
        bits_per_pixel=8 * size / pixels,
        smaller=payload / size,
        bound=ByteCounts.of(storage.encode(raw)).bits / 8 / len(raw),
        lost=lost,
        write=payload / seconds_write / 1e6,
        read=payload / seconds_read / 1e6,
    )


def fastest(run: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest of some runs."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def table(lines: list[Line]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield "| storage | kept in | bytes | bpp | smaller | bound | over | lost (dB) | write (MB/s) | read (MB/s) |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for line in lines:
        yield (
            f"| {line.storage} | {line.kept_in} | {line.bytes:,.0f} | {line.bits_per_pixel:.3f} | {line.smaller:.2f}x "
            f"| {line.bound:,.0f} | {100 * line.over:+.1f} % | {line.lost:.4f} | {line.write:,.0f} | {line.read:,.0f} |"
        )


def verdicts(lines: list[Line]) -> Iterator[str]:
    """What was to be reached, and what the smallest int8 that keeps it reaches."""
    kept = [line for line in lines if line.storage.startswith("int8") and line.lost <= TARGET_LOST]
    compact = [line for line in kept if line.kept_in.endswith("compact")]
    if not compact:
        yield f"No int8 step loses {TARGET_LOST} dB or less."
        return
    best = min(compact, key=lambda line: line.bytes)
    yield (
        f"{best.storage} in {best.kept_in}: {best.smaller:.2f}x smaller than uncompressed float16 (to reach: "
        f"{TARGET_SMALLER}x) at {best.lost:.4f} dB lost (to keep: {TARGET_LOST}), {100 * best.over:.1f} % over its "
        f"order-0 entropy (to keep: {100 * TARGET_OVER:.0f} %)."
    )


if __name__ == "__main__":
    main()
