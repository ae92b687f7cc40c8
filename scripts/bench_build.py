"""How much of a bare VAE's speed a build keeps, where its time goes, and whether its memory grows with the dataset.

    python scripts/bench_build.py                                       the demo VAE on drawn JPEG files, this machine
    python scripts/bench_build.py --vaes sd --device cuda --dtype bfloat16 --images 2048 --batch-size 64
    python scripts/bench_build.py --memory 1000,10000,50000 --vaes ''   peak memory only (pool8, 64x64)

    python scripts/bench_build.py --vaes '' --start                     when the first batch is encoded

Four ways take turns on the same files. Each run is compared with the bare one of its turn, by the clock and in seconds
of the processor (which neighbours on the machine change less); shown is the median of --repeats turns, and the profile
of the fastest build:

bare    encode and decode of batches that are in memory already, nothing else, in a process of its own
kept    the same in this process, on a CPU, where memory that is freed is kept for the next layer, as in a build: what
        cannot be undercut
build   `latentstore.build`: read, encode, store, decode, PSNR, SSIM and MAE, write, hash, sync, journal
study   the loop people write: one process, batch 64, files read with Pillow, one compressed .npz a picture, decode
        and one PSNR a batch; nothing overlaps

`sd` and the other names of `latentstore list vaes` without weights at hand get random weights: speed does not depend
on them. "safety" is hashing, syncing and the journal, in percent of the build's time, as if nothing ran beside it.

Memory is the most that the building process ever had resident, files that it has mapped included, and the most until
sealing began. Every picture is a file of other bytes, as in real datasets: equal ones would be counted as duplicates
and take less. Shards are small enough (--memory-rows-per-shard) that the smallest dataset has several: the first shard
fills buffers whose size the plan fixes, so one that is not even full would be compared with something else. The process
imports nothing but what a build does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from latentstore import STORAGES, VAES, BuildPlan, BuildProfile, BuildProgress, VaeRow, build, folder_source
from latentstore.build_profile import STAGES
from latentstore.freed_memory import kept
from latentstore.records import LatentBatch
from latentstore.sources.synthetic import CLASSES, draw_scene
from latentstore.vaes.interface import LoadOptions, Vae

DRAWN = 48
"""Different pictures; further files are links to them, and are read and decoded like any other."""
STUDY_BATCH = 64


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vaes", default="demo", help="names, with commas between them; empty for none")
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, help="of torch, on a CPU")
    parser.add_argument("--rows-per-shard", type=int, default=64)
    parser.add_argument(
        "--memory", default="", help="numbers of images to measure peak memory with, such as 1000,10000"
    )
    parser.add_argument("--memory-rows-per-shard", type=int, default=256)
    parser.add_argument("--start", action="store_true", help="seconds from the command to the first encoded batch")
    parser.add_argument("--one-build", help=argparse.SUPPRESS)  # what a measured process is started with
    parser.add_argument("--one-start", help=argparse.SUPPRESS)
    parser.add_argument("--one-bare", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for job, measure in ((options.one_build, one_build), (options.one_start, one_start), (options.one_bare, one_bare)):
        if job:
            measure(json.loads(job))
            return
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        for name in filter(None, options.vaes.split(",")):
            speed(name, Path(folder), options)
        if options.start:
            start(Path(folder), options)
        counts = [int(count) for count in filter(None, options.memory.split(","))]
        if counts:
            memory(Path(folder), counts, options.memory_rows_per_shard)


# Speed ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RandomFamily:
    """Loads an official architecture with random weights, once."""

    loaded: Vae

    def __call__(self, row: VaeRow, options: LoadOptions) -> Vae:  # noqa: ARG002 (the family's signature)
        """That VAE."""
        return self.loaded


@dataclass(frozen=True)
class Spent:
    """Seconds of one run."""

    wall: float
    cpu: float
    """Of all threads of this process: what a busy neighbour does not change much."""


def clocks() -> Spent:
    """Now."""
    return Spent(time.perf_counter(), time.process_time())


def since(began: Spent) -> Spent:
    """From then to now."""
    now = clocks()
    return Spent(now.wall - began.wall, now.cpu - began.cpu)


def speed(name: str, folder: Path, options: argparse.Namespace) -> None:
    """One VAE: the four ways, then the profile of the fastest build."""
    vae = loaded(name, options)
    row = replace(VAES[name], family=RandomFamily(vae))
    photos = pictures(folder / f"photos-{options.size}", options.images, options.size)
    profiles: dict[float, BuildProfile] = {}
    ways: dict[str, Callable[[], Spent]] = {
        "bare": partial(bare_alone, name, photos, options),
        **({"kept": partial(kept()(bare), vae, photos, options)} if options.device == "cpu" else {}),
        "build": partial(built, row, photos, folder, options, profiles),
        "study": partial(study, vae, photos, folder, options),
    }
    spent: dict[str, list[Spent]] = {way: [] for way in ways}
    few = pictures(folder / f"few-{options.size}", options.batch_size, options.size)
    built(row, few, folder, options, {})  # once for packages, caches and the kernels' choices
    for repeat in range(options.repeats):
        for way in list(ways)[:: 1 if repeat % 2 else -1]:
            spent[way].append(ways[way]())
    print(
        f"{name}: {options.images} JPEG files of {options.size}x{options.size}, {options.device} {options.dtype}, "
        f"median of {options.repeats}; "
        "speed as a part of that of bare, then of kept (range, and in seconds of the processor)"
    )
    for way, found in spent.items():
        shares = [share_of(spent[limit], found) for limit in ("bare", "kept") if limit in spent]
        print(f"  {way:6} {options.images / median(one.wall for one in found):9.1f} images/s   {'   '.join(shares)}")
    show(profiles[min(one.wall for one in spent["build"])])


def loaded(name: str, options: argparse.Namespace) -> Vae:
    """The VAE of that name, on the device and in the dtype that are asked for."""
    import bench_vaes  # packages that a build whose memory is measured has no use for

    vae: Vae = bench_vaes.loaded(VAES[name], LoadOptions(options.device, options.dtype))
    return vae


def bare_alone(name: str, photos: Path, options: argparse.Namespace) -> Spent:
    """``bare`` in a process that never built anything: what a build does to this one's memory does not reach it."""
    wanted = ("device", "dtype", "batch_size", "threads")
    return Spent(
        **measured({"vae": name, "photos": str(photos), **{key: vars(options)[key] for key in wanted}}, "--one-bare")
    )


def one_bare(job: dict[str, Any]) -> None:
    """Encode and decode all batches once the kernels are chosen, and print the seconds."""
    options = argparse.Namespace(**job)
    if options.threads:
        torch.set_num_threads(options.threads)
    vae = loaded(options.vae, options)
    first = next(batches_of(Path(options.photos), options.batch_size))
    vae.decode(vae.encode(to_float(first)).mean)
    print(json.dumps(vars(bare(vae, Path(options.photos), options))))


def share_of(limit: list[Spent], found: list[Spent]) -> str:
    """Median and range over the turns of the speed of one way as a part of another's, by both clocks."""
    pairs = list(zip(limit, found, strict=True))
    wall = sorted(one.wall / other.wall for one, other in pairs)
    cpu = median(one.cpu / other.cpu for one, other in pairs)
    return f"{median(wall):5.2f} ({wall[0]:.2f} to {wall[-1]:.2f}, processor {cpu:.2f})"


def show(profile: BuildProfile) -> None:
    """Where a build's time went."""
    for stage, seconds in profile.stages.items():
        print(f"    {stage:9} {seconds:8.2f} s {profile.share(seconds):7.1%}   {STAGES[stage].summary}")
    print(
        f"    VAE busy {profile.vae_share:.1%} of {profile.seconds:.2f} s, bottleneck {profile.bottleneck}, "
        f"safety {profile.safety_share:.2%}"
    )


def bare(vae: Vae, photos: Path, options: argparse.Namespace) -> Spent:
    """Seconds of encode and decode alone, on the same batches."""
    batches = [to_float(batch) for batch in batches_of(photos, options.batch_size)]
    if options.device != "cpu":
        batches = [batch.pin_memory() for batch in batches]
    done(options.device)
    began = clocks()
    for batch in batches:
        vae.decode(vae.encode(batch).mean)
    done(options.device)
    return since(began)


def built(
    row: VaeRow, photos: Path, folder: Path, options: argparse.Namespace, profiles: dict[float, BuildProfile]
) -> Spent:
    """Seconds of a build's worker; opening before (but in the processor's seconds) and sealing after are left out."""
    plan = BuildPlan(
        source=folder_source(str(photos)),
        vae=row,
        batch_size=options.batch_size,
        rows_per_shard=options.rows_per_shard,
        device=options.device,
        dtype=options.dtype,
        threads=options.threads,
    )
    found: list[tuple[BuildProfile, float]] = []
    began = clocks()
    with tempfile.TemporaryDirectory(dir=folder) as out:
        build(plan, out, profiled=lambda profile: found.append((profile, since(began).cpu)))
    profile, cpu = found[0]
    profiles[profile.seconds] = profile
    return Spent(profile.seconds, cpu)


def study(vae: Vae, photos: Path, folder: Path, options: argparse.Namespace) -> Spent:
    """Seconds of the loop that published such latents: read, encode, one .npz a picture, decode, PSNR of the batch."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        began = clocks()
        for number, batch in enumerate(batches_of(photos, STUDY_BATCH)):
            pixels = to_float(batch)
            latents = vae.encode(pixels).mean
            for index, latent in enumerate(latents.to(torch.float16).cpu().numpy()):
                np.savez_compressed(f"{out}/{number}-{index}.npz", latent=latent)
            error = (vae.decode(latents).float().cpu() - pixels).square().mean()
            float(-10 * torch.log10(error))
        done(options.device)
        return since(began)


def batches_of(photos: Path, size: int) -> Iterator[list[np.ndarray[Any, Any]]]:
    """Decoded files, so many at once."""
    paths = sorted(photos.rglob("*.jpg"))
    for start_at in range(0, len(paths), size):
        yield [np.asarray(Image.open(path)) for path in paths[start_at : start_at + size]]


def to_float(pictures_: list[np.ndarray[Any, Any]]) -> torch.Tensor:
    """(N, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.stack(pictures_)).permute(0, 3, 1, 2).to(torch.float32).div_(255)


def done(device: str) -> None:
    """Wait for an accelerator."""
    if device != "cpu":
        torch.cuda.synchronize()


def pictures(folder: Path, count: int, size: int, *, linked: bool = True) -> Path:
    """So many JPEG files with ``DRAWN`` different pictures; links, or files of bytes that differ after their end."""
    drawn: list[Path] = []
    for number in range(count):
        path = folder / CLASSES[number % len(CLASSES)] / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < DRAWN:
            scene = draw_scene(path.parent.name, (size, size), number)
            Image.fromarray(scene).save(path, quality=90)
            drawn.append(path)
        elif linked:
            os.link(drawn[number % DRAWN], path)
        else:
            path.write_bytes(drawn[number % DRAWN].read_bytes() + b"%d" % number)
    return folder


# Start and memory, each in a process of its own ----------------------------------------------------------------------


MARKS = {
    "loading": "torch imported, pictures planned",
    "loaded": "diffusers imported, VAE loaded",
    "encoded": "first batch encoded",
    "told": "first batch decoded, measured, told",
}


def start(folder: Path, options: argparse.Namespace) -> None:
    """Seconds from starting Python to each mark on the way to the first batch, files and packages in the cache."""
    photos = pictures(folder / "start", 64, options.size)
    job = {"photos": str(photos), "vae": "demo"}
    runs = [measured(job, "--one-start") for _ in range(options.repeats + 1)]  # the first fills the cache
    print(f"start, demo, {options.size}x{options.size}: seconds since the command, fastest of {len(runs)}")
    for mark, words in MARKS.items():
        wall, cpu = (min(run[mark][clock] for run in runs) for clock in (0, 1))
        print(f"  {words:36} {wall:6.1f} by the clock {cpu:6.1f} of the processor")


def memory(folder: Path, counts: list[int], rows_per_shard: int) -> None:
    """Peak resident memory of a whole build against the number of images."""
    before: float | None = None
    for count in counts:
        photos = pictures(folder / f"memory-{count}", count, 64, linked=False)
        job = {"photos": str(photos), "vae": "pool8", "rows_per_shard": rows_per_shard}
        found = measured(job)
        before = before or found["megabytes"]
        print(
            f"{count:7,} images of 64x64, pool8: peak {found['megabytes']:6.0f} MB "
            f"({found['megabytes'] / before:.2f} of the first), sealing included; "
            f"{found['working']:6.0f} MB until sealing began ({count / found['seconds']:.0f} images/s, shards of "
            f"{rows_per_shard})",
            flush=True,
        )


def measured(job: dict[str, Any], way: str = "--one-build") -> dict[str, Any]:
    """What a build in a process of its own says of itself."""
    command = [sys.executable, __file__, way, json.dumps({**job, "began": time.time()})]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


class FirstBatchDone(Exception):  # noqa: N818
    """Ends a build whose first batch was all that was asked for."""


@dataclass
class Marks:
    """A VAE's family that notes when its VAE was loaded and encoded the first batch; and what else is noted."""

    family: Callable[[VaeRow, LoadOptions], Vae]
    began: float
    noted: dict[str, tuple[float, float]] = field(default_factory=dict)

    def note(self, mark: str) -> None:
        """Now, where it is the first time."""
        self.noted.setdefault(mark, (time.time() - self.began, time.process_time()))

    def __call__(self, row: VaeRow, options: LoadOptions) -> Vae:
        """The family's own, watched."""
        self.note("loading")
        vae = self.family(row, options)
        self.note("loaded")
        return Watched(vae, self)


@dataclass(frozen=True)
class Watched:
    """A VAE that notes when it has encoded."""

    vae: Vae
    marks: Marks

    def encode(self, pixels: torch.Tensor) -> LatentBatch:
        """The VAE's own."""
        found = self.vae.encode(pixels)
        self.marks.note("encoded")
        return found

    def __getattr__(self, name: str) -> Any:
        """Everything else as it is."""
        return getattr(self.vae, name)


def one_start(job: dict[str, Any]) -> None:
    """Build until the first batch is told of, and print when each mark was reached."""
    row = VAES[job["vae"]]
    marks = Marks(row.family, job["began"])

    def watch(progress: BuildProgress) -> None:
        if progress.stage == "encode":
            marks.note("told")
            raise FirstBatchDone

    plan = BuildPlan(source=folder_source(job["photos"]), vae=replace(row, family=marks), storage=STORAGES["float16"])
    with tempfile.TemporaryDirectory(dir=Path(job["photos"]).parent) as out, suppress(FirstBatchDone):
        build(plan, out, progress=watch)
    print(json.dumps(marks.noted))


def one_build(job: dict[str, Any]) -> None:
    """Build, and print seconds and peak memory."""
    working = 0.0

    def watch(progress: BuildProgress) -> None:
        nonlocal working
        if progress.stage == "seal":
            working = peak()

    plan = BuildPlan(
        source=folder_source(job["photos"]),
        vae=VAES[job["vae"]],
        storage=STORAGES["float16"],
        rows_per_shard=job.get("rows_per_shard"),
    )
    with tempfile.TemporaryDirectory(dir=Path(job["photos"]).parent) as out:
        build(plan, out, progress=watch)
    print(json.dumps({"seconds": time.time() - job["began"], "megabytes": peak(), "working": working}))


def peak() -> float:
    """Megabytes that this process had resident at most until now.

    ``getrusage`` counts what its parent had when it was started too, so it is asked only where nothing else is known.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
