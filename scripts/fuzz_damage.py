"""Damages small datasets in thousands of seeded ways, and shows that no wrong number ever comes out of one.

    python scripts/fuzz_damage.py                         2,000 damages, some minutes on one core
    python scripts/fuzz_damage.py --count 300 --seed 7
    python scripts/fuzz_damage.py --only 1234 --each      one of them again, with all it says
    python scripts/fuzz_damage.py --sealed                the same as an attacker does it

Datasets of every container, layout and storage are built from drawn scenes. Each damage changes one copy: bits flipped,
bytes cut, inserted, overwritten or repeated, files swapped or removed, in shards, index and manifest, and the
manifest's JSON taken apart (fields removed, of another type, huge, negative, null, deeply nested). Some damages to a
shard or the index also mend its size and sha256 in the manifest, so that what reads the file is reached. Then
`load_latents` reads every row with all columns and `verify` runs its checks, but for those that decode pictures. Both
run in a process of their own, so that one that dies or hangs is noticed. What may come of it:

    refused    load says why, naming the file or the field of the manifest
    same       load gives the very same data as before; where bytes of a listed file were changed, verify names the file
    found      load gives other data, because the manifest says so and agrees with itself; verify names the file

Anything else is a failure: other data that verify finds nothing wrong with, or that comes out of a changed shard or
index whose entry in the manifest was not mended; an error that is not one of ours or names no file; a process that
dies, or that takes more than half a minute.

With ``--sealed`` every checksum is made right again after the damage (see ``reseal.py``): those of pages and rows,
sizes, sha256, the manifest's digest. Nobody can then tell other data from what was meant, so that is no failure:

    unseen     load gives other data, and verify finds nothing wrong

What is looked for is that reading, streaming and `verify` end as they should: by data or by one sentence that names a
file, not by another error, a dead process, more than a gigabyte of memory or half a minute; and that a stream gives the
very data that load does.

Prints a Markdown table, then each failure with its number; exits with 1 where there are any.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from reseal import INDEX, MANIFEST, seal_digest, seal_file, seal_index, seal_rows

from latentstore import CHECKS, SOURCES, VAES, BuildPlan, build, load_latents, open_store, verify
from latentstore.containers.table import CONTAINERS
from latentstore.errors import LatentStoreError
from latentstore.hashing import sha256_of
from latentstore.storage.table import STORAGES

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    Worker = Callable[[dict[str, Path], int, Connection], None]

CONFIG = "fuzzed"
SCENES = {"count": 10, "size": 64}
ROWS_PER_SHARD = 4
CHECKS_THAT_DECODE = ("quality", "source")
SECONDS = 30.0
MEMORY = 12 << 30
"""Bytes of address space: a length that damage made huge must not fill the machine."""
RISE = 1 << 30
"""Bytes by which no sealed damage may raise the most memory that a process ever had."""
REFUSED, SAME, FOUND, UNSEEN, FAILURE = "refused", "same", "found", "unseen", "FAILURE"
OUTCOMES = (REFUSED, SAME, FOUND, UNSEEN, FAILURE)


@dataclass(frozen=True)
class Damage:
    """What was done to one copy."""

    what: str
    """In words."""
    files: tuple[str, ...]
    """Whose bytes were changed."""
    mended: bool = False
    """Whether the manifest was made to agree."""


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    kind: str
    note: str


# Datasets -------------------------------------------------------------------------------------------------------------


def build_datasets(out: Path) -> dict[str, Path]:
    """A sealed config of every container, layout and storage, and one whose normalisation has numbers; by name."""
    kinds = [
        (container, layout, storage, "pool8")
        for container in CONTAINERS.values()
        for layout in container.layouts
        for storage in STORAGES.values()
    ]
    built = {}
    for container, layout, storage, vae in [*kinds, (CONTAINERS["parquet"], "fast", STORAGES["int8"], "demo")]:
        name = f"{container.name} {layout} {storage.name}{' (demo)' if vae == 'demo' else ''}"
        plan = BuildPlan(
            source=SOURCES["synthetic"].at("", **SCENES),
            vae=VAES[vae],
            config=CONFIG,
            storage=storage,
            container=container,
            layout=layout,
            calibration=4,
            rows_per_shard=ROWS_PER_SHARD,
        )
        build(plan, out / name)
        built[name] = out / name / CONFIG
    return built


def loaded(folder: Path) -> dict[str, Any]:
    """Everything that load gives of a config: each split's latents and columns, and the class names."""
    found: dict[str, Any] = {}
    for split in open_store(folder).manifest.splits:
        columns = open_store(folder).schema.scalar_columns
        dataset = load_latents(folder, split=split, columns=columns)
        batch = dataset.batch(range(len(dataset)))
        found[f"{split} class names"] = dataset.class_names
        for name, values in batch.items():
            found[f"{split} {name}"] = values if isinstance(values, list) else values.numpy()
    return found


def streamed(folder: Path) -> dict[str, Any]:
    """The same, read by ranges as from somewhere else."""
    found: dict[str, Any] = {}
    for split in open_store(folder).manifest.splits:
        columns = open_store(folder).schema.scalar_columns
        dataset = load_latents(folder.as_uri(), split=split, columns=columns, streaming=True)
        batches = list(dataset.loader(batch_size=3))
        found[f"{split} class names"] = dataset.class_names
        for name in batches[0] if batches else ():
            parts = [batch[name] if isinstance(batch[name], list) else batch[name].numpy() for batch in batches]
            lists = isinstance(parts[0], list)
            found[f"{split} {name}"] = [one for part in parts for one in part] if lists else np.concatenate(parts)
    return found


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Whether both hold the very same numbers and words."""
    return set(left) == set(right) and all(_equal(left[name], right[name]) for name in left)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return (left.shape, left.dtype, left.tobytes()) == (right.shape, right.dtype, right.tobytes())
    return repr(left) == repr(right)


# Damages --------------------------------------------------------------------------------------------------------------


def damage(folder: Path, draw: random.Random) -> Damage:
    """One drawn damage to a config."""
    shards = sorted(path.name for path in folder.iterdir() if path.name.startswith("train-"))
    kind = draw.choices(["shard", "index", "manifest bytes", "manifest JSON", "files"], [50, 12, 8, 22, 8])[0]
    if kind == "manifest JSON":
        return _damage_json(folder / MANIFEST, draw)
    if kind == "files":
        return _damage_files(folder, shards, draw)
    name = {"shard": draw.choice(shards), "index": INDEX, "manifest bytes": MANIFEST}[kind]
    before = (folder / name).read_bytes()
    way = draw.choices(list(BYTE_DAMAGES), [weight for _, weight in BYTE_DAMAGES.values()])[0]
    after = BYTE_DAMAGES[way][0](before, draw)
    (folder / name).write_bytes(after)
    if after == before:
        return Damage(f"{name}: {way}, which changed nothing", ())
    mended = name != MANIFEST and draw.random() < 0.4
    if mended:
        _mend(folder, name)
    return Damage(f"{name}: {way}{', mended in the manifest' if mended else ''}", (name,), mended)


def _place(data: bytes, draw: random.Random) -> int:
    """Half of all damages are in the last third of a file, where Parquet keeps what describes the rest."""
    return draw.randrange(len(data) * 2 // 3, len(data)) if draw.random() < 0.5 else draw.randrange(len(data))


def _flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        changed[_place(data, draw)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _set_byte(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + bytes([draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])]) + data[at + 1 :]


def _overwrite(data: bytes, draw: random.Random) -> bytes:
    at, length = _place(data, draw), draw.choice([2, 4, 8, 64, 512])
    block = draw.choice([bytes(length), b"\xff" * length, draw.randbytes(length)])[: len(data) - at]
    return data[:at] + block + data[at + len(block) :]


def _repeat(data: bytes, draw: random.Random) -> bytes:
    at, to, length = _place(data, draw), _place(data, draw), draw.choice([4, 64, 512])
    block = data[at : at + length][: len(data) - to]
    return data[:to] + block + data[to + len(block) :]


def _insert(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + draw.randbytes(draw.choice([1, 4, 100])) + data[at:]


def _double(data: bytes, draw: random.Random) -> bytes:
    at, length = _place(data, draw), draw.choice([1, 16, 400])
    return data[: at + length] + data[at:]


def _remove(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + data[at + draw.choice([1, 4, 100]) :]


def _cut_end(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.choice([0, draw.randrange(len(data)), len(data) - draw.randrange(1, 10)])]


def _cut_start(data: bytes, draw: random.Random) -> bytes:
    return data[draw.randrange(1, len(data)) :]


BYTE_DAMAGES: dict[str, tuple[Callable[[bytes, random.Random], bytes], int]] = {
    "bits flipped": (_flip, 30),
    "a byte set": (_set_byte, 15),
    "a block overwritten": (_overwrite, 20),
    "a block repeated over another": (_repeat, 12),
    "bytes inserted": (_insert, 6),
    "a block doubled": (_double, 6),
    "bytes removed": (_remove, 6),
    "the end cut off": (_cut_end, 6),
    "the start cut off": (_cut_start, 4),
}
"""Ways to change the bytes of one file, and how often each is drawn."""


def _mend(folder: Path, name: str) -> None:
    """Give the manifest the size and sha256 that a file has now."""
    data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    shards = [shard for split in data["splits"].values() for shard in split["shards"]]
    for entry in [*shards, data["index"]]:
        if entry["path"] == name:
            size = (folder / name).stat().st_size
            if name != INDEX:
                data["size"]["stored_bytes"] += size - entry["bytes"]
            entry |= {"bytes": size, "sha256": sha256_of(folder / name)}
    (folder / MANIFEST).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _damage_files(folder: Path, shards: list[str], draw: random.Random) -> Damage:
    way = draw.choice(["swapped", "copied over", "removed", "now a folder"])
    one, other = draw.sample([*shards, INDEX], 2)
    if way in ("removed", "now a folder"):
        (folder / one).unlink()
        if way == "now a folder":
            (folder / one).mkdir()
        return Damage(f"{one} {way}", (one,))
    if way == "copied over":
        shutil.copyfile(folder / one, folder / other)
        return Damage(f"{one} copied over {other}", (other,))
    first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
    (folder / one).write_bytes(second)
    (folder / other).write_bytes(first)
    return Damage(f"{one} and {other} swapped", (one, other))


def _damage_json(path: Path, draw: random.Random) -> Damage:
    """One field of the manifest changed; the text stays JSON, but for numbers that JSON does not have."""
    data = json.loads(path.read_text(encoding="utf-8"))
    top = draw.choice(list(data))
    below = [(data, top, top), *_fields(data[top], top)]
    parent, key, words = draw.choice(below)
    old, nested = parent[key], ""
    way = draw.choice(["removed", "renamed", "exchanged", "nudged", "replaced", "replaced", "replaced", "nested"])
    if way == "removed":
        del parent[key]
    elif way == "renamed" and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
    elif way == "exchanged" and isinstance(parent, list) and len(parent) > 1:
        other = draw.randrange(len(parent))
        parent[key], parent[other] = parent[other], parent[key]
    elif way == "nudged" and isinstance(old, (int, float)) and not isinstance(old, bool):
        parent[key] = draw.choice([old + 1, old - 1, old * 2, -old, old * 1.001, old / 2, old // 2])
    elif way == "nested":
        parent[key], depth = "@nested@", draw.choice([1, 50, 5_000, 200_000])
        nested = draw.choice(["[" * depth + "]" * depth, '{"a":' * depth + "0" + "}" * depth])
    else:
        parent[key] = draw.choice(STRANGE)
    text = json.dumps(data, indent=2, ensure_ascii=False).replace('"@nested@"', nested)
    path.write_text(text + "\n", encoding="utf-8")
    return Damage(f"{MANIFEST}: {words} {way}", (MANIFEST,), mended=True)


def sealed_damage(folder: Path, draw: random.Random) -> Damage:
    """One drawn damage to a config, after which every checksum is right again."""
    shards = sorted(path.name for path in folder.iterdir() if path.name.startswith("train-"))
    kind = draw.choices(["shard", "index", "rows of the index", "manifest JSON", "files"], [40, 10, 12, 32, 6])[0]
    if kind == "manifest JSON":
        done = _damage_json(folder / MANIFEST, draw)
        seal_digest(folder)
        return Damage(f"{done.what}, sealed", done.files, mended=True)
    if kind == "rows of the index":
        return _damage_rows(folder, draw)
    name = draw.choice(shards) if kind != "index" else INDEX
    whole = (folder / name).read_bytes()
    if kind == "files":
        other = draw.choice([one for one in [*shards, INDEX] if one != name])
        what = f"{other} in the place of {name}"
        (folder / name).write_bytes((folder / other).read_bytes())
    else:
        way = draw.choices(list(BYTE_DAMAGES), [weight for _, weight in BYTE_DAMAGES.values()])[0]
        what = f"{name}: {way}"
        (folder / name).write_bytes(BYTE_DAMAGES[way][0](whole, draw))
    seal_file(folder, name, whole)
    return Damage(f"{what}, sealed", (name,), mended=True)


def _damage_rows(folder: Path, draw: random.Random) -> Damage:
    """Some values of a column of the index, or all, or another number of rows."""
    columns = open_store(folder).index()
    name = draw.choice(list(columns))
    number = next((value for value in columns[name] if value is not None), 0)
    strange = [
        value for value in STRANGE if type(value) is type(number) and (not isinstance(value, int) or value < 2**31)
    ]
    way = draw.choice(["one value", "one value", "all values", "exchanged", "fewer rows", "more rows"])
    rows = len(columns[name])
    if way in ("fewer rows", "more rows"):
        keep = rows - 1 if way == "fewer rows" else rows + draw.choice([1, 1000])
        columns = {one: [values[place % rows] for place in range(keep)] for one, values in columns.items()}
    elif way == "exchanged":
        draw.shuffle(columns[name])
    else:
        value = draw.choice(strange)
        columns[name] = [value] * rows if way == "all values" else [value, *columns[name][1:]]
    try:
        seal_index(folder, columns)
    except (LatentStoreError, ValueError, OverflowError, TypeError) as error:  # such a column cannot be written
        return Damage(f"{INDEX}: {name} {way}, which cannot be ({type(error).__name__})", ())
    return Damage(f"{INDEX}: {name} {way}, sealed", (INDEX,), mended=True)


def _fields(data: Any, words: str = "") -> Iterator[tuple[Any, Any, str]]:
    """(parent, key, path in words) of every field at any depth."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        path = f"{words}[{key}]" if isinstance(data, list) else f"{words}.{key}".removeprefix(".")
        yield data, key, path
        yield from _fields(value, path)


STRANGE: list[Any] = [
    *(None, True, False, "", "x", "../x", "/etc/hosts", "a\x00b", "\n", [], {}, [[]], {"a": 1}, [1, 2, 3], [None]),
    *(0, -1, 1, 3, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e-300, 1e300, float("nan"), float("inf")),
]
"""What a field may suddenly be."""


# What comes of it -----------------------------------------------------------------------------------------------------


def judge(folder: Path, done: Damage, expected: dict[str, Any]) -> Outcome:
    """Load and verify a damaged config that gave ``expected`` when it was whole."""
    try:
        data, refused = loaded(folder), None
    except LatentStoreError as error:
        data, refused = None, str(error)
    found = verify_says(folder)
    alike = data is not None and same(data, expected)
    fault = next(_faults(folder, done, refused, found, alike=alike), None)
    if fault is not None:
        return Outcome(FAILURE, fault)
    if refused is not None:
        return Outcome(REFUSED, refused)
    return Outcome(SAME if alike else FOUND, "; ".join(found))


def judge_sealed(folder: Path, done: Damage, expected: dict[str, Any]) -> Outcome:
    """Load, stream and verify a config whose checksums are all right."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in done.files:
        if name.startswith("train-"):
            with suppress(Exception):  # one that cannot be read: the same comes out below
                seal_rows(folder, name)
    told = [_told(loaded, folder), _told(streamed, folder)]
    found = verify_says(folder)
    rise = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    sentences = [*(said for said in told if isinstance(said, str)), *found]
    vague = [text for text in sentences if not names_a_file(text, folder) or len(text.splitlines()) != 1]
    if vague:
        return Outcome(FAILURE, f"not one sentence that names a file: {vague[0]}")
    if rise > RISE:
        return Outcome(FAILURE, f"{rise >> 20} MiB of memory")
    data, stream = told
    if isinstance(data, str):
        return Outcome(REFUSED, data)
    if not isinstance(stream, str) and not same(data, stream):
        return Outcome(FAILURE, "a stream gives other data than load")
    if same(data, expected):
        return Outcome(SAME, "; ".join(found))
    return Outcome(FOUND if found else UNSEEN, "; ".join(found))


def _told(read: Callable[[Path], dict[str, Any]], folder: Path) -> dict[str, Any] | str:
    """The data, or the sentence in its place."""
    try:
        return read(folder)
    except LatentStoreError as error:
        return str(error)


def _faults(folder: Path, done: Damage, refused: str | None, found: list[str], *, alike: bool) -> Iterator[str]:
    """What the library did wrong: ``refused`` is what load said, ``found`` what verify did."""
    listed = bool(done.files) and not done.mended and MANIFEST not in done.files
    files, shown = ", ".join(done.files), "; ".join(found) or "nothing found"
    if refused is not None and not names_a_file(refused, folder):
        yield f"load names no file: {refused}"
    if refused is not None and listed and not any(name in refused for name in done.files):
        yield f"load does not name {files}: {refused}"
    if refused is not None and not found:
        yield f"only load refuses: {refused}"
    yield from (f"verify names no file: {text}" for text in found if not names_a_file(text, folder))
    if listed and not any(name in text for text in found for name in done.files):
        yield f"verify does not name {files}: {shown}"
    if refused is None and not alike and (listed or not found):
        yield f"load gives other data; verify: {shown}"


def verify_says(folder: Path) -> list[str]:
    """``file: message`` of every finding of the checks that decode nothing."""
    checks = [row for name, row in CHECKS.items() if name not in CHECKS_THAT_DECODE]
    try:
        report = verify(folder, checks=checks)
    except LatentStoreError as error:
        return [str(error)]
    findings = [finding for result in report.results for finding in result.findings]
    return [f"{folder}/{finding.file}: {finding.message}" if finding.file else finding.message for finding in findings]


def names_a_file(text: str, folder: Path) -> bool:
    """Whether an error says where to look: a file, or the manifest and where in it."""
    return f"{folder}/" in text or text.startswith(("manifest:", "manifest field '"))


@dataclass(frozen=True)
class Mode:
    """One way to damage, and to judge what comes of it."""

    damage: Callable[[Path, random.Random], Damage]
    judge: Callable[[Path, Damage, dict[str, Any]], Outcome]


PLAIN, SEALED = "as it happens", "sealed"
MODES = {PLAIN: Mode(damage, judge), SEALED: Mode(sealed_damage, judge_sealed)}


def run_one(datasets: dict[str, Path], number: int, seed: int, mode: str = PLAIN) -> tuple[Damage, Outcome]:
    """The damage of this number, and what came of it."""
    whole = list(datasets.values())[number % len(datasets)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(whole, Path(place) / CONFIG))
        done = MODES[mode].damage(folder, random.Random(f"{seed} {number}"))  # noqa: S311 (damages are no secrets)
        try:
            return done, MODES[mode].judge(folder, done, _expected(whole))
        except Exception as error:  # noqa: BLE001 (whatever is not one of our errors is what is looked for)
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
            return done, Outcome(FAILURE, said)


@cache
def _expected(folder: Path) -> dict[str, Any]:
    return loaded(folder)


def serve(datasets: dict[str, Path], seed: int, pipe: Connection, mode: str = PLAIN) -> None:
    """In a process of its own: answer each number with what came of that damage."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    while (number := pipe.recv()) is not None:
        pipe.send(run_one(datasets, number, seed, mode))


def run_all(
    datasets: dict[str, Path],
    numbers: range,
    seed: int,
    *,
    mode: str = PLAIN,
    worker: Worker | None = None,
    seconds: float = SECONDS,
) -> Iterator[tuple[int, str, Outcome]]:
    """(number, damage in words, outcome) of each; a process that dies or hangs is an outcome too."""
    context = multiprocessing.get_context("spawn")
    work = worker or partial(serve, mode=mode)
    process = None
    for number in numbers:
        if process is None:
            pipe, theirs = context.Pipe()
            process = context.Process(target=work, args=(datasets, seed, theirs), daemon=True)
            process.start()
            theirs.close()
        try:
            pipe.send(number)
            if pipe.poll(seconds):
                done, outcome = pipe.recv()
                yield number, done.what, outcome
                continue
            process.kill()
            died = f"not done after {seconds:g} s"
        except (EOFError, BrokenPipeError, ConnectionResetError):
            process.join()
            died = f"the process died ({process.exitcode})"
        process.join()
        process = None
        yield number, described(datasets, number, seed, mode), Outcome(FAILURE, died)
    if process is not None:
        pipe.send(None)
        process.join()


def described(datasets: dict[str, Path], number: int, seed: int, mode: str = PLAIN) -> str:
    """The damage of this number in words, without looking at what comes of it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(list(datasets.values())[number % len(datasets)], Path(place) / CONFIG))
        return MODES[mode].damage(folder, random.Random(f"{seed} {number}")).what  # noqa: S311 (likewise)


def main() -> int:
    """Damage, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one damage")
    parser.add_argument("--each", action="store_true", help="print what comes of each damage")
    parser.add_argument("--sealed", action="store_true", help="make every checksum right again after each damage")
    options = parser.parse_args()
    mode = SEALED if options.sealed else PLAIN
    numbers = range(options.count) if options.only is None else range(options.only, options.only + 1)
    with tempfile.TemporaryDirectory() as out:
        datasets = build_datasets(Path(out))
        names = list(datasets)
        counts = {name: Counter[str]() for name in names}
        failures = []
        for number, what, outcome in run_all(datasets, numbers, options.seed, mode=mode):
            name = names[number % len(names)]
            counts[name][outcome.kind] += 1
            line = f"{number} ({name}) {what}: {outcome.kind}: {outcome.note}"
            if outcome.kind == FAILURE:
                failures.append(line)
            if options.each:
                print(line)
    print("\n".join(table(counts)))
    print(f"\n{len(failures)} failures of {len(numbers)} damages, seed {options.seed}")
    for line in failures:
        print(f"  {line}")
    return int(bool(failures))


def table(counts: dict[str, Counter[str]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield f"| dataset | {' | '.join(OUTCOMES)} |"
    yield f"|---|{'---:|' * len(OUTCOMES)}"
    for name, found in {**counts, "all": sum(counts.values(), Counter())}.items():
        yield f"| {name} | {' | '.join(str(found[outcome]) for outcome in OUTCOMES)} |"


if __name__ == "__main__":
    sys.exit(main())
