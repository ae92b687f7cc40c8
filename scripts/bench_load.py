"""How fast shuffled batches come, in samples a second, beside a memory map (the limit) and the loaders people use.

python scripts/bench_load.py                     all that are installed
python scripts/bench_load.py --only latentstore,memmap --seconds 1

Every loader gives an owned torch batch of 64 latents as float32 in model space, and their labels, from the same rows in
a random order; data lie in the page cache. Each measurement is a process of its own, loaders take turns, and each
figure is the median of the repeats, over whole epochs after the first. Loaders with a shuffle buffer (WebDataset,
LitData, MosaicML Streaming) are counted once it is full. Those that are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 64
SHAPES = {"8 KiB": (4, 32, 32), "32 KiB": (16, 32, 32), "64 KiB": (32, 32, 32)}
PAYLOAD = 192 << 20
GAIN, OFFSET = 0.13025, 0.25
"""Of the space conversion that all of them do: model = raw * gain + offset, here (raw - shift) * scale."""

Batches = Iterator[tuple[Any, Any]]


@dataclass(frozen=True)
class Loader:
    """One way to read: how its files are made from (latents, labels), and its endless shuffled batches."""

    name: str
    needs: tuple[str, ...]
    write: Callable[[Path, Any, Any], None]
    batches: Callable[[Path, tuple[int, int, int]], Batches]


def to_model(stored: Any, out: Any = None) -> Any:
    """float32 in model space of float16; into ``out`` where the loader has memory to use again."""
    import torch

    found = torch.empty(stored.shape) if out is None else out[: len(stored)]
    return found.copy_(stored).mul_(GAIN).add_(OFFSET)


def endless(count: int) -> Iterator[np.ndarray]:
    """Rows of one batch after the other, epoch after epoch."""
    epoch = 0
    while True:
        order = np.random.default_rng(epoch).permutation(count)
        for start in range(0, count - BATCH + 1, BATCH):
            yield order[start : start + BATCH]
        epoch += 1


# Ours -----------------------------------------------------------------------------------------------------------------


def write_store(storage: str, container: str, layout: str) -> Callable[[Path, Any, Any], None]:
    """A sealed dataset of these latents, as a build would leave it."""

    def write(folder: Path, latents: Any, labels: Any) -> None:
        from store_of import store_of

        store_of(folder, latents, labels, storage=storage, container=container, layout=layout, gain=GAIN, offset=OFFSET)

    return write


def ours(folder: Path, _: tuple[int, int, int]) -> Batches:
    """Batches of our loader, as a trainer makes it."""
    from latentstore import load_latents

    loader = load_latents(folder, cache=folder / "cache").loader(BATCH, shuffle="full", drop_last=True)
    while True:
        for batch in loader:
            yield batch["latent"], batch["label"]


# The limit, and peers -------------------------------------------------------------------------------------------------


def write_memmap(folder: Path, latents: Any, labels: Any) -> None:
    """One file of numbers."""
    latents.reshape(len(latents), -1).tofile(folder / "latents.bin")
    np.save(folder / "labels.npy", labels)


def memmap(folder: Path, shape: tuple[int, int, int]) -> Batches:
    """The limit: rows gathered from the map into memory that is used again."""
    import torch

    mapped = np.memmap(folder / "latents.bin", np.float16, "r").reshape(-1, int(np.prod(shape)))
    labels = torch.from_numpy(np.load(folder / "labels.npy"))
    stored = np.empty((BATCH, mapped.shape[1]), np.float16)
    outputs = [torch.empty((BATCH, *shape)) for _ in range(3)]
    for number, rows in enumerate(endless(len(mapped))):
        np.take(mapped, rows, axis=0, out=stored, mode="clip")
        yield to_model(torch.from_numpy(stored).view(BATCH, *shape), outputs[number % 3]), labels[rows]


def write_webdataset(folder: Path, latents: Any, labels: Any) -> None:
    """Its own writer's tars."""
    import webdataset

    with webdataset.ShardWriter(str(folder / "%06d.tar"), maxsize=64 << 20, verbose=0) as sink:
        for row, (latent, label) in enumerate(zip(latents, labels, strict=True)):
            sink.write({"__key__": f"{row:09d}", "npy": latent, "cls": int(label)})


def webdataset_(folder: Path, _: tuple[int, int, int]) -> Batches:
    """Shards and a buffer of 1,000 samples, shuffled."""
    import torch
    import webdataset

    files = sorted(map(str, folder.glob("*.tar")))
    data = webdataset.WebDataset(files, shardshuffle=len(files), seed=0, resampled=False, empty_check=False)
    data = data.shuffle(1000).decode().to_tuple("npy", "cls").batched(BATCH, partial=False)
    while True:
        for latents, labels in data:
            yield to_model(torch.from_numpy(np.ascontiguousarray(latents))), torch.as_tensor(labels)


def write_datasets(folder: Path, latents: Any, labels: Any) -> None:
    """Array3D on disk."""
    import datasets

    features = datasets.Features(
        {"latent": datasets.Array3D(latents.shape[1:], "float16"), "label": datasets.Value("int64")}
    )
    step = 1024
    parts = [
        datasets.Dataset.from_dict(
            {"latent": latents[start : start + step], "label": labels[start : start + step]}, features=features
        )
        for start in range(0, len(latents), step)
    ]
    datasets.concatenate_datasets(parts).save_to_disk(str(folder / "data"))


def datasets_(folder: Path, _: tuple[int, int, int]) -> Batches:
    """Rows by number, formatted as torch."""
    import datasets

    data = datasets.load_from_disk(str(folder / "data")).with_format("torch")
    for rows in endless(len(data)):
        batch = data[rows.tolist()]
        yield batch["latent"].mul_(GAIN).add_(OFFSET), batch["label"]


def write_safetensors(folder: Path, latents: Any, labels: Any) -> None:
    """Files of 5,000 rows."""
    import torch
    from safetensors.torch import save_file

    for number, start in enumerate(range(0, len(latents), 5000)):
        part = {
            "latents": torch.from_numpy(latents[start : start + 5000]),
            "labels": torch.from_numpy(labels[start : start + 5000]),
        }
        save_file(part, folder / f"{number:03d}.safetensors")


def safetensors_(folder: Path, _: tuple[int, int, int]) -> Batches:
    """Item by item through ``safe_open`` and ``get_slice``, as LightningDiT reads its cache."""
    import torch
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    counts = []
    for file in files:
        with safe_open(file, framework="pt") as opened:
            counts.append(opened.get_slice("labels").get_shape()[0])
    starts = np.cumsum([0, *counts])
    for rows in endless(int(starts[-1])):
        latents, labels = [], []
        for row in rows.tolist():
            place = int(np.searchsorted(starts, row, side="right")) - 1
            with safe_open(files[place], framework="pt", device="cpu") as opened:
                inner = row - starts[place]
                latents.append(opened.get_slice("latents")[inner : inner + 1])
                labels.append(opened.get_slice("labels")[inner : inner + 1])
        yield to_model(torch.cat(latents)), torch.cat(labels)


def write_litdata(folder: Path, latents: Any, labels: Any) -> None:
    """Its own chunks."""
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    import torch

    for row, (latent, label) in enumerate(zip(latents, labels, strict=True)):
        writer[row] = {"latent": torch.from_numpy(latent), "label": int(label)}
    writer.done()
    writer.merge()


def litdata_(folder: Path, _: tuple[int, int, int]) -> Batches:
    """Its default shuffle."""
    import litdata
    from torch.utils.data import DataLoader

    data = litdata.StreamingDataset(str(folder), shuffle=True, seed=0)
    while True:
        for batch in DataLoader(data, batch_size=BATCH, drop_last=True):
            yield to_model(batch["latent"]), batch["label"]


def write_lance(folder: Path, latents: Any, labels: Any) -> None:
    """One column of bytes."""
    import lance
    import pyarrow as pa

    width = int(np.prod(latents.shape[1:])) * 2
    column = pa.Array.from_buffers(pa.binary(width), len(latents), [None, pa.py_buffer(latents)])
    lance.write_dataset(pa.table({"latent": column, "label": pa.array(labels)}), str(folder / "data.lance"))


def lance_(folder: Path, shape: tuple[int, int, int]) -> Batches:
    """Rows by number."""
    import lance
    import torch

    data = lance.dataset(str(folder / "data.lance"))
    for rows in endless(data.count_rows()):
        table = data.take(rows)
        column = table.column("latent").combine_chunks()
        stored = torch.frombuffer(bytearray(column.buffers()[1]), dtype=torch.float16).view(-1, *shape)
        yield to_model(stored[-BATCH:]), torch.from_numpy(table.column("label").to_numpy())


def write_mosaic(folder: Path, latents: Any, labels: Any) -> None:
    """Its own shards."""
    from streaming import MDSWriter

    with MDSWriter(
        out=str(folder), columns={"latent": f"ndarray:float16:{','.join(map(str, latents.shape[1:]))}", "label": "int"}
    ) as writer:
        for latent, label in zip(latents, labels, strict=True):
            writer.write({"latent": latent, "label": int(label)})


def mosaic(folder: Path, _: tuple[int, int, int]) -> Batches:
    """Its default shuffle."""
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    data = StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH, num_canonical_nodes=1)
    while True:
        for batch in DataLoader(data, batch_size=BATCH, drop_last=True):
            yield to_model(batch["latent"]), batch["label"]


LOADERS = {
    row.name: row
    for row in (
        Loader("memmap", (), write_memmap, memmap),
        Loader("latentstore", (), write_store("float16", "parquet", "fast"), ours),
        Loader("latentstore-tar", (), write_store("float16", "webdataset", "fast"), ours),
        Loader("latentstore-compact", (), write_store("float16", "parquet", "compact"), ours),
        Loader("latentstore-int8-compact", (), write_store("int8", "parquet", "compact"), ours),
        Loader("webdataset", ("webdataset",), write_webdataset, webdataset_),
        Loader("datasets", ("datasets",), write_datasets, datasets_),
        Loader("safetensors", ("safetensors",), write_safetensors, safetensors_),
        Loader("litdata", ("litdata",), write_litdata, litdata_),
        Loader("lance", ("lance",), write_lance, lance_),
        Loader("mosaic", ("streaming",), write_mosaic, mosaic),
    )
}


# One measurement, in a process of its own -----------------------------------------------------------------------------


def measure(name: str, folder: Path, shape: tuple[int, int, int], warm: float, seconds: float) -> dict[str, float]:
    """Samples a second over ``seconds``, after at least one epoch and ``warm`` seconds."""
    import torch

    torch.set_num_threads(1)
    rows = PAYLOAD // (2 * int(np.prod(shape)))
    begun = time.perf_counter()
    batches = LOADERS[name].batches(folder, shape)
    latent, label = next(batches)
    first = time.perf_counter() - begun
    if latent.shape != (BATCH, *shape) or latent.dtype != torch.float32 or len(label) != BATCH:
        message = f"{name} gave {tuple(latent.shape)} {latent.dtype}"
        raise SystemExit(message)
    seen = BATCH
    while time.perf_counter() - begun < warm or (seen < rows and time.perf_counter() - begun < 10 * warm):
        next(batches)
        seen += BATCH
    count, start, total = 0, time.perf_counter(), 0.0
    while (passed := time.perf_counter() - start) < seconds:
        latent, label = next(batches)
        total += float(latent.view(-1)[0])
        count += len(label)
    return {"rate": count / passed, "first_batch_s": first, "checksum": total}


def main() -> None:
    """Write, measure in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(LOADERS), help="loaders, with commas between them")
    parser.add_argument("--sizes", default=",".join(SHAPES), help="latents, with commas between them")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warm", type=float, default=1.5, help="seconds before counting")
    parser.add_argument("--seconds", type=float, default=1.5, help="seconds of counting")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, folder, size, warm = options.one
        print(json.dumps(measure(name, Path(folder), SHAPES[size], float(warm), options.seconds)))
        return
    names = [name for name in options.only.split(",") if name]
    unknown = [name for name in names if name not in LOADERS]
    if unknown:
        raise SystemExit(f"There is no loader named {', '.join(unknown)}; choose from {', '.join(LOADERS)}.")
    absent = {name: why for name in names if (why := why_absent(LOADERS[name]))}
    for name, why in absent.items():
        print(f"left out: {name}, because {why}")
    names = [name for name in names if name not in absent]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    for size in options.sizes.split(","):
        table(size, names, options)


def why_absent(loader: Loader) -> str:
    """Why a loader cannot be measured here, in words; nothing where it can."""
    for need in loader.needs:
        if find_spec(need) is None:
            return f"the package {need} is not installed"
        try:
            import_module(need)
        except Exception as error:  # noqa: BLE001 (whatever a peer's own needs raise)
            return f"the package {need} cannot be imported: {error!r}"
    return ""


def table(size: str, names: list[str], options: argparse.Namespace) -> None:
    """One size of latent: every loader, every repeat, interleaved."""
    shape = SHAPES[size]
    with tempfile.TemporaryDirectory(prefix="bench-load-") as root:
        latents, labels = drawn(shape)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for name in list(names):
            folder = Path(root, name)
            folder.mkdir()
            LOADERS[name].write(folder, latents, labels)
        for _ in range(options.repeats):
            for name in names:
                folder = Path(root, name)
                for file in folder.rglob("*"):
                    if file.is_file():
                        file.read_bytes()  # into the page cache
                found[name].append(one(name, folder, size, options))
        shutil.rmtree(root, ignore_errors=True)
    rates = {name: statistics.median(entry["rate"] for entry in runs) for name, runs in found.items()}
    limit, own = rates.get("memmap"), rates.get("latentstore")
    print(f"### {size} a latent, {shape} float16, {len(latents):,} rows\n")
    print("| loader | samples/s | of the memory map | latentstore is | first batch |")
    print("|---|---:|---:|---:|---:|")
    for name, rate in sorted(rates.items(), key=lambda pair: -pair[1]):
        share = f"{rate / limit:.3f}" if limit else ""
        times = f"{own / rate:.1f}x" if own else ""
        first = statistics.median(entry["first_batch_s"] for entry in found[name])
        spread = f"{min(e['rate'] for e in found[name]):,.0f} to {max(e['rate'] for e in found[name]):,.0f}"
        print(f"| {name} | {rate:,.0f} ({spread}) | {share} | {times} | {first:.2f} s |")
    print(flush=True)


def one(name: str, folder: Path, size: str, options: argparse.Namespace) -> dict[str, float]:
    """One measurement."""
    command = [sys.executable, __file__, "--one", name, str(folder), size, str(options.warm)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what pip installs is compiled, so a first batch waits for none
    done = subprocess.run(
        [*command, "--seconds", str(options.seconds)], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def drawn(shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """Smooth fields with noise, as latents are, and labels."""
    rng = np.random.default_rng(0)
    rows = PAYLOAD // (2 * int(np.prod(shape)))
    smooth = rng.normal(size=(64, *shape)).cumsum(axis=-1).cumsum(axis=-2) / 16
    latents = np.empty((rows, *shape), np.float16)
    for row in range(rows):
        latents[row] = smooth[row % 64] + rng.normal(size=shape, scale=0.3)
    return latents, rng.integers(0, 45, rows)


if __name__ == "__main__":
    main()
