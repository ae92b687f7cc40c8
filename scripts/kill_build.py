"""Kills builds, fills their disk and lets their writes fail; then types the command again and compares every byte.

    python scripts/kill_build.py                                  100 kills an engine, 100 failures of each kind
    python scripts/kill_build.py --only local-1,append-local-1 --count 1000 --seed 7
    python scripts/kill_build.py --only full,limit,failing --count 30

Half of the kills come at a random time of a build, from outside; half in a random step: a call of whichever process
that makes, writes, syncs, renames or removes something in the dataset's folder, writes being done by half. Half of
those are among the last fifth of the steps, where a build is sealed. Most kill every process at once, the rest only the
one that came to the step, and the command is typed again while the others live. A re-run is killed too with a chance of
a quarter. Steps need a C compiler and Linux (`failing_disk.c`); without a compiler all kills are by time, and writes do
not fail at random.

A small folder of pictures, one of which is bad, is built with pool8 in 7 shards of 4 rows. Processes are forked from
one that has imported torch, so that 100 kills take minutes; ranks too, rather than by torchrun. Workers that an engine
starts itself start as they always do, which takes seconds, so 100 kills of such an engine take half an hour; two of
three times one worker of engine local finishes what they began. With ray-2, the build starts a Ray cluster and it dies
with it; with cluster-2 there is one before, and only the build's own processes are killed. What was done is told as it
is done, on stderr.

While anything runs, and after every death, what lies there must be part of what one undisturbed process makes: no file
has a final name before it is whole, the journal can be read, and a reader finds no sealed dataset or all of it, which
passes `verify`. In the end every file must be the same, and no other be there.

Appends are killed like builds (`append-local-1` and so on): a sealed dataset is put there, and 14 more pictures and one
more bad one are added in 4 shards. Beside the old manifest every old file must have its old bytes, and `verify` pass,
while the append runs too; beside the new one every file must have its new bytes.

Prints two Markdown tables and every sentence that a failure ended in; exits with 1 where anything was not so.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import random
import re
import resource
import secrets
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

Draw = random.Random
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
READY = "KILL_BUILD_READY"
"""Set once the environment is one to import torch in; see `prepared`."""
QUIET_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
CONFIG = "killed"
JOURNAL = ".build"
MANIFEST, SKIPPED, CARD = f"{CONFIG}/manifest.json", f"{CONFIG}/skipped.jsonl", "README.md"
SECONDS_BETWEEN_LOOKS = 0.003
SECONDS_WHILE_STILL = 0.02
"""Between looks where nothing has changed for ten times as long: looking is work, too."""
MEMORY = Path("/dev/shm")  # noqa: S108 (a new folder of its own is made there)
APPEND = "append-"
"""Before the name of an engine whose appends are killed."""
LOOKS_A_VERIFY = 12
"""Changes that were looked at for each time that `verify` looks, while an append runs."""
IMPORTED = (
    "latentstore.append",
    "latentstore.build",
    "latentstore.metrics.ssim",
    "latentstore.vaes.pooling",
    "latentstore.verify",
    "numpy.random",
    "pandas",
    "PIL.ImageFont",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "yaml",
)
MOST_TOLD = 40
"""Sentences about what was wrong that are printed."""
MOST_SAID = 1000
"""Last characters of what a process said that are told."""
REFUSALS = ("Another process is building", "Another process has just added")
PATIENCE = 240.0
"""Seconds after which a build stands still."""
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of Linux: whose parents died become children of this process, which so sees them end."""
SPARED: set[int] = set()
"""Processes that no kill is for, nor for what they start, unless that is an actor."""
STEPS_LIBRARY = Path(__file__).with_name("failing_disk.c")


# The environment -----------------------------------------------------------------------------------------------------


def prepared() -> None:
    """Start this script again with one thread, and with the library that counts steps where it can be compiled.

    Both have to be in the environment before torch is imported.
    """
    if READY in os.environ:
        return
    environment = {**os.environ, **ONE_THREAD, **QUIET_RAY, READY: "1"}
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is not None:
        library = Path(tempfile.mkdtemp(prefix="failing-disk-"), "failing_disk.so")
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, STEPS_LIBRARY, "-ldl"], check=True)
        environment["LD_PRELOAD"] = str(library)
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # noqa: S606 (this very script)


def has_steps() -> bool:
    """Whether steps are counted."""
    return "LD_PRELOAD" in os.environ


# What is built -------------------------------------------------------------------------------------------------------


def pictures(folder: Path, count: int, bad: int) -> Path:
    """Small pictures in two classes, and files that are none."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:16, :24]
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        waves = [np.sin(x * (number + band) / 9 + y / 7) * 90 + 128 for band in range(3)]
        Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(path)
    for number in range(bad):
        (folder / "a" / f"bad{number}.png").write_bytes(b"no picture")
    return folder


@dataclass(frozen=True)
class Site:
    """Where all builds of this script go."""

    place: Path
    source: Path
    sealed: Path | None = None
    """A copy of what every build adds to; None where each begins with nothing."""

    @property
    def out(self) -> Path:
        """The repository's folder, the same for every build: its name is in what is recorded of it."""
        return self.place / "out"

    @property
    def counter(self) -> Path:
        """The file in which steps are counted."""
        return self.place / "steps"

    @property
    def said(self) -> Path:
        """What the last build's processes said."""
        return self.place / "said"

    def build(self, engine: str, workers: int, rank: int | None = None) -> None:
        """One process's part of the build."""
        from latentstore import ENGINES, VAES, BuildPlan, build, folder_source
        from latentstore.engines.interface import Placement

        plan = BuildPlan(
            source=folder_source(self.source),
            vae=VAES["pool8"],
            config=CONFIG,
            batch_size=2,
            rows_per_shard=4,
            max_bad=1.0,
            threads=1,
        )
        placement = None if rank is None else Placement(rank, workers)
        row = ENGINES[engine]
        build(
            plan,
            self.out,
            engine=row.at(os.environ.get("RAY_ADDRESS", "")) if row.clusters else row,
            workers=1 if placement else workers,
            placement=placement,
            append=self.sealed is not None,
        )

    def fresh(self) -> None:
        """Nothing was ever built, or added."""
        shutil.rmtree(self.out, ignore_errors=True)
        if self.sealed is not None:
            shutil.copytree(self.sealed, self.out)


def loaded() -> None:
    """Import here, once, what every build imports, so that it dies at its work rather than while it imports."""
    for name in IMPORTED:
        with suppress(ImportError):  # pandas, say, is only imported where there is one
            import_module(name)
    import torch
    from PIL import Image

    Image.init()
    torch.set_num_threads(1)


# What must be so, always ---------------------------------------------------------------------------------------------


Files = dict[str, bytes]


def files_of(folder: Path) -> Files:
    """Every file below a folder that stays there while it is looked at."""
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where, name)
            try:
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
            except FileNotFoundError:
                continue
    return found


def is_final(name: str) -> bool:
    """Whether a file of this name is part of a dataset, rather than of the work on it."""
    return not any(part.startswith(".") for part in name.split("/"))


@dataclass(frozen=True)
class Expected:
    """What must be there, always and in the end."""

    whole: Files
    """What an undisturbed build leaves."""
    before: Files = field(default_factory=dict)
    """What lay there before; of an append."""

    def faults(self, out: Path) -> Iterator[str]:
        """What must never be seen there, a sentence each."""
        manifest, tidy = content_of(out / MANIFEST), not (out / CONFIG / JOURNAL).exists()
        found = files_of(out)
        yield from unreadable(out / CONFIG, sealed=manifest is not None)
        later = content_of(out / MANIFEST)
        old = later == self.before.get(MANIFEST)  # else a new one was written, at last while the files were read
        new = manifest == self.whole[MANIFEST]
        late = {CARD} if tidy else {CARD, SKIPPED}  # written after the manifest (FORMAT.md, 1.8 and 1.19)
        for name, content in found.items():
            if f"{CONFIG}/{JOURNAL}/" in name and name.endswith(".json") and not is_json(content):
                yield f"{name} of the journal cannot be read"
            elif is_final(name):
                yield from self._file_faults(name, content, old=old, new=new and name not in late)
        # Files that belong to a manifest never go away beside it, so those that were there before the look are found.
        needed = self.before.keys() if old else self.whole.keys() - late if new else set()
        yield from (f"{name} is missing from a sealed dataset" for name in sorted(needed - found.keys()))

    def _file_faults(self, name: str, content: bytes, *, old: bool, new: bool) -> Iterator[str]:
        """What is wrong with a file under its final name, beside the old manifest (or none), the new one, or either."""
        kept = self.before.get(name)
        made = self.whole.get(name)
        if kept is None and made is None:
            yield f"{name} was never to be there"
        elif content not in (kept, made):
            wanted = " or ".join(str(len(file)) for file in (kept, made) if file is not None)
            yield f"{name} has {len(content)} bytes under its final name, not the {wanted} it must have"
        elif old and kept is not None and content != kept:
            yield f"{name} is the new one beside the old manifest"
        elif new and made is not None and content != made:
            yield f"{name} is the old one beside the new manifest"

    def differences(self, out: Path) -> Iterator[str]:
        """What is not as an undisturbed build leaves it, a sentence each."""
        found, whole = files_of(out), self.whole
        yield from (f"{name} is missing at the end" for name in sorted(whole.keys() - found.keys()))
        yield from (f"{name} was left behind" for name in sorted(found.keys() - whole.keys()))
        yield from (
            f"{name} differs at the end" for name in sorted(whole) if found.get(name, whole[name]) != whole[name]
        )

    def state(self, out: Path) -> str:
        """How far a build was when it died; one of STATES."""
        found = files_of(out)
        new = {name.rpartition("/")[2].lstrip(".") for name in found if name not in self.before}
        if found == self.whole:
            return "sealed"
        if MANIFEST in found and found[MANIFEST] != self.before.get(MANIFEST):
            return "before the card"
        if any(name.startswith("index") for name in new):
            return "sealing"
        if any(name.startswith("train-") and not name.endswith(".lock") for name in new):
            return "among shards"
        return "begun" if out.exists() and (new or not self.before) else "nothing"


def content_of(path: Path) -> bytes | None:
    """Of a file; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def unreadable(folder: Path, *, sealed: bool) -> Iterator[str]:
    """Where a reader finds neither no sealed dataset nor one; ``sealed``: there was a manifest before he looked."""
    from latentstore import open_store
    from latentstore.errors import NotSealedError, StoreError

    try:
        open_store(folder)
    except NotSealedError:
        if sealed:
            yield "a reader finds no sealed dataset beside its manifest"
    except StoreError as error:
        if folder.exists():
            yield f"a reader is told: {error}"


def is_json(content: bytes) -> bool:
    """Whether a file of the journal holds JSON."""
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


STATES = ("nothing", "begun", "among shards", "sealing", "before the card", "sealed")


def unsound(out: Path) -> Iterator[str]:
    """What `verify` finds wrong with a sealed dataset, in a process of its own: this one stays as it is to fork others.

    Nothing where none is sealed.
    """
    if not (out / MANIFEST).exists():
        return
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _verify(out, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    yield from json.loads(said) if is_json(said.encode()) else ["`verify` died"]


def _verify(out: Path, pipe: int) -> None:
    """What a forked process does; it ends here."""
    try:
        from latentstore import CHECKS, verify

        checks = [check for check in CHECKS.values() if check.name != "source"]  # which has more pictures now
        try:
            report = verify(out, CONFIG, checks=checks, sample=4, trust=True)
            failed = [result for result in report.results if result.status == "failed"]
            said = [f"check {result.check} fails: {found}" for result in failed for found in result.findings[:2]]
        except Exception:  # noqa: BLE001 (whatever it is, it is a finding)
            said = [f"`verify` raised {traceback.format_exc()}"]
        os.write(pipe, json.dumps(said).encode())
    finally:
        os._exit(0)


# Processes that build ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a build."""

    mode: str = "count"
    """Of the library; see failing_disk.c."""
    at: int = 0
    """The step; 0 for none."""
    after: float | None = None
    """Seconds after which all is killed from outside."""
    seed: int = 0
    chance: int = 0
    """In a million, that a step fails."""
    file_bytes: int = 0
    """The longest that a file may become; 0 for any length."""

    def environment(self, site: Site) -> dict[str, str]:
        """What failing_disk.c reads."""
        names = {"MODE": self.mode, "FOLDER": site.out, "COUNTER": site.counter, "AT": self.at}
        names |= {"SEED": self.seed, "CHANCE": self.chance}
        return {f"DISK_{name}": str(value) for name, value in names.items()}


NO_FAULT = Fault()


@dataclass
class Run:
    """Processes that build together: a process group that ends by itself or is killed."""

    site: Site
    ranks: list[int]
    codes: dict[int, int] = field(default_factory=dict)

    @classmethod
    def start(cls, site: Site, parts: Sequence[Callable[[], None]], fault: Fault = NO_FAULT) -> Run:
        """Fork a process for each part."""
        with site.counter.open("r+b" if site.counter.exists() else "wb") as file:
            file.write(bytes(8))  # never shorter: processes of an earlier start may have mapped it
        site.said.write_text("")
        ranks: list[int] = []
        for part in parts:
            leader = ranks[0] if ranks else 0
            rank = os.fork()
            if rank == 0:
                _part(site, part, fault, leader)
            os.setpgid(rank, ranks[0] if ranks else rank)
            ranks.append(rank)
        return cls(site, ranks)

    @property
    def ended(self) -> bool:
        """Whether the processes that were started have ended, and all that they started."""
        reap(self.codes)
        try:
            os.killpg(self.ranks[0], 0)
        except ProcessLookupError:
            return True
        return False

    @property
    def lost_one(self) -> bool:
        """Whether one was killed."""
        reap(self.codes)
        return any(self.codes.get(rank) == -signal.SIGKILL for rank in self.ranks)

    @property
    def whole(self) -> bool:
        """Whether every process said that all is built."""
        return [self.codes.get(rank) for rank in self.ranks] == [0] * len(self.ranks)

    @property
    def said(self) -> str:
        """What they said."""
        return self.site.said.read_text(errors="replace").strip()

    @property
    def steps(self) -> int:
        """How many were made since the last start."""
        found: int = struct.unpack("Q", self.site.counter.read_bytes())[0]
        return found

    def kill(self) -> None:
        """SIGKILL to all of them, and to whatever they started, in whichever group."""
        for pid in [*descendants(os.getpid())]:
            killed(pid)
        while not self.ended:
            time.sleep(0.001)

    def kill_one(self, draw: Draw) -> bool:
        """SIGKILL to what coordinates, or to one of the actors that work; False where all have just ended."""
        actors = [pid for pid in descendants(os.getpid()) if b"ray::_Worker" in command_of(pid)]
        return not self.ended and killed(draw.choice([*self.ranks, *sorted(actors)]))


def _part(site: Site, part: Callable[[], None], fault: Fault, leader: int) -> None:
    """What a forked process does; it ends here."""
    code = 1
    try:
        os.setpgid(0, leader)
        said = os.open(site.said, os.O_WRONLY | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.environ.update(fault.environment(site))
        if has_steps():
            ctypes.CDLL(None).disk_arm()
        if fault.file_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_bytes, resource.RLIM_INFINITY))
        code = _said(part)
    finally:
        os._exit(code)


def _said(part: Callable[[], None]) -> int:
    from latentstore.errors import LatentStoreError

    try:
        part()
    except LatentStoreError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))  # it fits whole
        os.write(2, f"{error}\n".encode())
        return 2
    except BaseException:  # noqa: BLE001 (whatever it is, it is a finding)
        os.write(2, traceback.format_exc().encode())
        return 3
    return 0


def reap(codes: dict[int, int]) -> None:
    """Note how processes ended that have."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        codes[pid] = os.waitstatus_to_exitcode(status)


def killed(pid: int) -> bool:
    """Whether there still was such a process to kill."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def command_of(pid: int) -> bytes:
    """How a process was called, or calls itself; nothing where it has ended."""
    return content_of(Path(f"/proc/{pid}/cmdline")) or b""


def is_actor(pid: int) -> bool:
    """Whether Ray started this process for an actor, or may still put one into it."""
    words = command_of(pid).split(b"\0")
    return words[0].startswith((b"ray::_Worker", b"ray::IDLE")) or any(
        word.endswith(b"/default_worker.py") for word in words
    )


@contextmanager
def cluster(site: Site) -> Iterator[None]:
    """A Ray cluster that outlives the builds in it: they are connected to it, and kills spare its own processes."""
    place, log = site.place / "ray", site.place / "ray.log"
    options = {"temp-dir": place, "port": 0, "num-cpus": 3, "min-worker-port": 0, "max-worker-port": 0}
    words = [f"--{name}={value}" for name, value in options.items()] + ["--include-dashboard=false"]
    program = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--head", *words]
    site.counter.write_bytes(bytes(8))
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.update(own)  # else who connects does not know the token that this user may have
    with log.open("wb") as said:
        environment = {**os.environ, **NO_FAULT.environment(site), "RAY_worker_register_timeout_seconds": "20"}
        if subprocess.run(program, stdout=said, stderr=said, env=environment, check=False).returncode:
            sys.exit(f"A Ray cluster cannot be started: {log.read_text()[-MOST_SAID:]}")
    SPARED.update(pid for pid in descendants(os.getpid()) if not is_actor(pid))
    os.environ["RAY_ADDRESS"] = (place / "ray_current_cluster").read_text().strip()
    try:
        yield
    finally:
        for name in ("RAY_ADDRESS", *own):
            del os.environ[name]
        SPARED.clear()
        for pid in [*descendants(os.getpid())]:
            killed(pid)


def descendants(pid: int) -> Iterator[int]:
    """Every process below this one, of whichever group, but for those that kills spare."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    waiting = [(pid, False)]
    while waiting:
        parent, spared = waiting.pop()
        for child in parents.get(parent, []):
            of_cluster = (spared or child in SPARED) and not is_actor(child)
            waiting.append((child, of_cluster))
            if not of_cluster:
                yield child


# Kills ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crew:
    """An engine, and how its processes are started."""

    name: str
    engine: str
    workers: int
    ranks: int = 0
    """Processes that are started by hand; 0 where the engine starts them."""
    from_outside: bool = False
    """Whether its processes form several groups, so that a kill in a step comes from outside, an instant later."""
    in_cluster: bool = False
    """Whether a Ray cluster is there before, and outlives the kills."""
    slow: bool = False
    """Whether starting its processes takes so long that it finishes only a third of what it began."""

    def parts(self, site: Site) -> list[Callable[[], None]]:
        """What each process does."""
        if not self.ranks:
            return [lambda: site.build(self.engine, self.workers)]
        return [lambda rank=rank: site.build(self.engine, self.ranks, rank) for rank in range(self.ranks)]  # type: ignore[misc]


CREWS = (
    Crew("local-1", "local", 1),
    Crew("local-2", "local", 2, slow=True),
    Crew("torchrun-2", "torchrun", 2, ranks=2),
    Crew("ray-2", "ray", 2, from_outside=True, slow=True),
    Crew("cluster-2", "ray", 2, from_outside=True, slow=True, in_cluster=True),
)


@dataclass
class Tally:
    """What became of one engine's builds, or of those on one kind of failing disk."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    sentences: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0

    def note(self, what: str, found: Iterator[str]) -> None:
        """Keep what was found wrong."""
        for sentence in dict.fromkeys(found):
            self.wrong.append(f"{self.name}, {what}: {sentence}")
            self.tell(f"{what}: WRONG: {sentence}")

    def tell(self, what: str) -> None:
        """Say what is done, for who waits."""
        print(f"{time.perf_counter() - self.began:7.1f} s  {self.name}, {what}", file=sys.stderr, flush=True)

    def is_over(self, seconds: float) -> bool:
        """Whether it took so long already."""
        return time.perf_counter() - self.began > seconds

    def ended(self) -> Tally:
        """Now."""
        self.seconds = time.perf_counter() - self.began
        return self


class Trials:
    """Builds that are disturbed and typed again, in one place."""

    def __init__(self, site: Site, expected: Expected, seed: int, seconds: float) -> None:
        self.site = site
        self.seconds = seconds
        self.expected = expected
        self.seed = seed

    def watched(self, run: Run, tally: Tally, what: str, until: Callable[[], bool]) -> None:
        """Look at what a reader could see until something is so, or all processes have ended."""
        seen: object = None
        looks = 0
        changed = time.monotonic()
        limit = changed + PATIENCE
        while not run.ended and not until():
            now = [(path, status.st_mtime_ns, status.st_size) for path, status in entries(self.site.out)]
            if now != seen:
                seen, looks, changed = now, looks + 1, time.monotonic()
                tally.note(f"{what}, while it ran", self.expected.faults(self.site.out))
                if looks % LOOKS_A_VERIFY == 0:
                    tally.note(f"{what}, while it ran", self._old_unsound(tally))
            if time.monotonic() > limit:
                tally.counts["still"] += 1
                tally.note(what, iter([f"it stood still for {PATIENCE:g} s and said {run.said!r}"]))
                run.kill()
            still = time.monotonic() - changed > 10 * SECONDS_WHILE_STILL
            time.sleep(SECONDS_WHILE_STILL if still else SECONDS_BETWEEN_LOOKS)

    def _old_unsound(self, tally: Tally) -> Iterator[str]:
        """What `verify` finds wrong with what is being added to, as long as it is."""
        old = self.expected.before.get(MANIFEST)
        if old is None or content_of(self.site.out / MANIFEST) != old:
            return
        found = list(unsound(self.site.out))
        if content_of(self.site.out / MANIFEST) == old:  # else files went away that only the old one needed
            tally.counts["verified"] += 1
            yield from found

    def to_its_end(self, crew: Crew, tally: Tally, what: str) -> Run:
        """The command typed again, undisturbed: it must end well, and all bytes be right."""
        run = Run.start(self.site, crew.parts(self.site))
        self.watched(run, tally, what, lambda: False)
        if not run.whole:
            tally.note(what, iter([f"the re-run ended with {run.codes} and said {run.said[-MOST_SAID:]!r}"]))
        tally.note(what, self.expected.differences(self.site.out))
        return run

    def measured(self, crew: Crew, tally: Tally) -> tuple[float, int]:
        """Seconds and steps of an undisturbed build."""
        self.site.fresh()
        began = time.perf_counter()
        run = self.to_its_end(crew, tally, "undisturbed")
        return time.perf_counter() - began, run.steps

    def kills(self, crew: Crew, name: str, count: int) -> Tally:
        """So many kills of one engine's builds."""
        tally = Tally(name)
        seconds, steps = self.measured(crew, tally)
        tally.counts["steps"] = steps
        trial = 0
        while tally.counts["kills"] < count and not tally.is_over(self.seconds) and len(tally.wrong) < MOST_TOLD:
            trial += 1
            draw = Draw(f"{self.seed} {name} {trial}")
            self.site.fresh()
            self._killed(crew, tally, draw, f"kill {tally.counts['kills'] + 1}", seconds, steps)
            while tally.counts["kills"] < count and draw.random() < 0.25:
                what = f"kill {tally.counts['kills'] + 1} of a re-run"
                tally.counts["again"] += self._killed(crew, tally, draw, what, seconds, steps)
            finisher = CREWS[0] if crew.slow and trial % 3 else crew
            self.to_its_end(finisher, tally, f"after kill {tally.counts['kills']}")
            tally.counts["finished by it"] += finisher is crew
        return tally.ended()

    def _killed(self, crew: Crew, tally: Tally, draw: Draw, what: str, seconds: float, steps: int) -> bool:
        """Begin a build and kill it; where only one process is killed, type the command again beside the others.

        False where it had ended before: a re-run has less to do.
        """
        by_step = has_steps() and draw.random() < 0.5
        alone = by_step and (crew.in_cluster or not crew.from_outside) and crew.workers > 1 and draw.random() < 0.4
        first = 1 if draw.random() < 0.5 else round(steps * 0.8)  # few of a small build's steps seal it
        at, after = draw.randint(first, max(first, steps)), draw.uniform(0, seconds)
        mode = "count" if not by_step or crew.from_outside else "kill-one" if alone else "kill-all"
        run = Run.start(self.site, crew.parts(self.site), Fault(mode, at=at))
        late = time.perf_counter() + after
        if by_step:
            what += f" in step {at} of {steps}{' of one process' if alone else ''}"
            self.watched(run, tally, what, lambda: run.steps >= at if crew.from_outside else alone and run.lost_one)
        else:
            what += f" after {after:.3f} s of {seconds:.3f}"
            self.watched(run, tally, what, lambda: time.perf_counter() >= late)
        if alone and crew.from_outside and not run.kill_one(draw):
            return False
        if not alone:
            run.kill()
        if run.whole if mode == "count" else run.steps < at:
            return False
        tally.counts["kills"] += 1
        tally.counts["by step" if by_step else "by time"] += 1
        tally.counts["one process"] += alone
        state = self.expected.state(self.site.out)
        tally.counts[state] += 1
        tally.note(what, self.expected.faults(self.site.out))
        tally.note(what, self._old_unsound(tally) if alone else unsound(self.site.out))
        tally.tell(f"{what}: {state}, {len(tally.wrong)} wrong")
        if alone:
            self._beside(crew, tally, what, run)
        return True

    def _beside(self, crew: Crew, tally: Tally, what: str, first: Run) -> None:
        """The command typed again while others of the first time live; all of them must come to an end."""
        again = Run.start(self.site, crew.parts(self.site))
        self.watched(again, tally, what, lambda: False)
        self.watched(first, tally, what, lambda: False)
        codes = first.codes | again.codes  # whichever was watched noted all ends
        refused = any(words in again.said for words in REFUSALS)  # the first coordinator lives
        ends = {
            "those that lived": {codes.get(rank) for rank in first.ranks} - {0, -signal.SIGKILL},
            "what was typed beside them": {codes.get(rank) for rank in again.ranks} - ({0, 2} if refused else {0}),
        }
        for who, found in ends.items():
            if found:
                tally.note(what, iter([f"{who} ended with {found} and said {again.said[-MOST_SAID:]!r}"]))
        first.kill()  # actors whose coordinator died end a little later

    def of_crews(self, kind: str, chosen: Sequence[str], count: int) -> list[Tally]:
        """So many kills of each chosen engine's builds or, as ``kind`` says, appends."""
        tallies = []
        for crew in CREWS:
            if kind + crew.name in chosen:
                with cluster(self.site) if crew.in_cluster else nullcontext():
                    tallies.append(self.kills(crew, kind + crew.name, count))
        return tallies

    # Disks that are full, and writes that fail

    def of_spoils(self, kind: str, chosen: Sequence[str], count: int) -> list[Tally]:
        """So many builds or, as ``kind`` says, appends on each chosen kind of bad disk that can be had."""
        wanted = [spoil for spoil in SPOILS if kind + spoil.name in chosen]
        possible = [spoil for spoil in wanted if spoil.possible(self.site)]
        for spoil in wanted:
            if spoil not in possible:
                print(f"Not possible here: {spoil.name}, {spoil.summary}.")
        return [self.failures(kind + spoil.name, count, spoil) for spoil in possible]

    def failures(self, name: str, count: int, spoil: Spoil) -> Tally:
        """So many builds that the disk does not let end."""
        tally = Tally(name)
        crew = CREWS[0]
        for trial in range(1, count + 1):
            if tally.is_over(self.seconds):
                break
            draw = Draw(f"{self.seed} {name} {trial}")
            self.site.fresh()
            fault = spoil.before(self.site, self.expected.whole, draw)
            what = f"failure {trial}"
            run = Run.start(self.site, crew.parts(self.site), fault)
            self.watched(run, tally, what, lambda: False)
            tally.note(what, self.expected.faults(self.site.out))
            tally.note(what, unsound(self.site.out))
            tally.counts["builds"] += 1
            tally.counts["ended well" if run.whole else "stopped"] += 1
            tally.counts[self.expected.state(self.site.out)] += not run.whole
            if not run.whole:
                tally.note(what, unclear(run.codes[run.ranks[0]], run.said))
                tally.sentences[pattern(run.said, self.site)] += 1
            spoil.after(self.site)
            self.to_its_end(crew, tally, f"with room after {what}")
            spoil.undo(self.site)
        return tally.ended()


def entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every path below a folder, with what it is now."""
    for where, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(where, name)  # noqa: PTH118 (asked for a thousand times a second)
            try:
                yield path, os.lstat(path)
            except FileNotFoundError:
                continue


def unclear(code: int, said: str) -> Iterator[str]:
    """Where a build did not end in one sentence that says where and what to do."""
    if code != 2:
        yield f"it did not end in an error of the library but with {code}: {said}"
    elif "\n" in said or not said.endswith(".") or not (CONFIG in said or "README" in said):
        yield f"it did not end in one clear sentence: {said!r}"


def pattern(said: str, site: Site) -> str:
    """A sentence without what differs between two of a kind."""
    said = said.replace(str(site.out), "OUT")
    return re.sub(r"-0000\d(-of)?", r"-0000N\1", re.sub(r"\.[^ ./]+\.partial", ".….partial", said))


# Ways in which a disk can fail ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spoil:
    """One way."""

    name: str
    summary: str
    before: Callable[[Site, Files, Draw], Fault]
    """Make ready for a build that shall fail."""
    after: Callable[[Site], None] = lambda _: None
    """Make room."""
    undo: Callable[[Site], None] = lambda _: None
    possible: Callable[[Site], bool] = lambda _: True


def mount(site: Site, options: str) -> bool:
    """A file system in memory at the repository's folder, or the one that is there with other options."""
    site.out.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(site.out)]
    return (
        shutil.which("mount") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


def unmount(site: Site) -> None:
    """The folder as it was before."""
    subprocess.run(["umount", str(site.out)], check=True)


def can_mount(site: Site) -> bool:
    """Whether this user may, here."""
    if not mount(site, "size=64k"):
        return False
    unmount(site)
    return True


def small_disk(site: Site, whole: Files, draw: Draw) -> Fault:
    """Room for what a build begins with and a random part of what it makes: of its bytes, or of its files."""
    begun = files_of(site.sealed) if site.sealed is not None else {}
    taken, files = pages_of(begun), 2 * len(begun)
    room = f"size={4096 * draw.randint(taken + 1, pages_of(whole) + 8)}" if draw.random() < 0.7 else "size=64m"
    if room == "size=64m":
        room += f",nr_inodes={draw.randint(files + 2, 2 * len(whole) + 8)}"
    mount(site, room)
    if site.sealed is not None:
        shutil.copytree(site.sealed, site.out, dirs_exist_ok=True)
    return NO_FAULT


def pages_of(files: Files) -> int:
    """How many pages their contents take."""
    return sum(-(-len(content) // 4096) for content in files.values())


def short_files(_: Site, whole: Files, draw: Draw) -> Fault:
    """No file may be longer than something: what does not fit gives EFBIG."""
    return Fault(file_bytes=draw.randint(1, len(draw.choice(sorted(whole.values())))))


def failing_writes(_: Site, __: Files, draw: Draw) -> Fault:
    """Any step fails with a random chance."""
    return Fault("fail", seed=draw.randrange(1 << 30), chance=int(10 ** draw.uniform(2.8, 4.8)))


SPOILS = (
    Spoil(
        "full",
        "a file system in memory with room for a random part",
        small_disk,
        after=lambda site: subprocess.run(
            ["mount", "-o", "remount,size=64m,nr_inodes=0", str(site.out)], check=True, capture_output=True
        ).check_returncode(),
        undo=unmount,
        possible=can_mount,
    ),
    Spoil("limit", "RLIMIT_FSIZE: no file longer than a random size", short_files),
    Spoil(
        "failing",
        "ENOSPC, EIO or half a write, each step with a chance",
        failing_writes,
        possible=lambda _: has_steps(),
    ),
)


# The tables ----------------------------------------------------------------------------------------------------------


def kill_table(tallies: Sequence[Tally]) -> Iterator[str]:
    """Where builds were killed, in Markdown."""
    columns = {key: key for key in ("kills", "by time", "by step")}
    columns |= {"one process": "one process only", "again": "of a re-run", **{state: state for state in STATES}}
    columns |= {"finished by it": "finished by it", "verified": "old one verified", "still": "stood still"}
    yield f"| engine | steps | {' | '.join(columns.values())} | wrong | seconds |"
    yield "|---|" + "---:|" * (len(columns) + 3)
    for tally in tallies:
        cells = " | ".join(str(tally.counts[column]) for column in columns)
        yield f"| {tally.name} | {tally.counts['steps']} | {cells} | {len(tally.wrong)} | {tally.seconds:.0f} |"


def failure_table(tallies: Sequence[Tally]) -> Iterator[str]:
    """Where the disk stopped builds, in Markdown."""
    columns = ("builds", "stopped", "ended well", *STATES)
    yield f"| disk | {' | '.join(columns)} | wrong | seconds |"
    yield "|---|" + "---:|" * (len(columns) + 2)
    for tally in tallies:
        cells = " | ".join(str(tally.counts[column]) for column in columns)
        yield f"| {tally.name} | {cells} | {len(tally.wrong)} | {tally.seconds:.0f} |"


def main() -> int:
    """Build once undisturbed, then disturb, compare, print."""
    names = [f"{kind}{crew.name}" for kind in ("", APPEND) for crew in CREWS]
    names += [f"{kind}{spoil.name}" for kind in ("", APPEND) for spoil in SPOILS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="kills or failures of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf, help="for each engine and disk, then no more")
    parser.add_argument("--only", default=",".join(names), help=f"of {','.join(names)}")
    parser.add_argument(
        "--place",
        type=Path,
        default=MEMORY if os.access(MEMORY, os.W_OK) else None,
        help="folder to build in; in memory where possible: SIGKILL loses nothing that was written, synced or not",
    )
    options = parser.parse_args()
    chosen = options.only.split(",")
    if set(chosen) - set(names):
        parser.error(f"--only takes some of {','.join(names)}")
    prepared()
    loaded()
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="kill-build-", dir=options.place) as place:
        folder = Path(place).resolve()
        site = Site(folder, pictures(folder / "pictures", 24, bad=1))
        trials = Trials(site, Expected(undisturbed(site)), options.seed, options.seconds)
        shutil.copytree(site.out, folder / "sealed")
        killed = trials.of_crews("", chosen, options.count)
        failed = trials.of_spoils("", chosen, options.count)
        said = [f"build: {summary(trials.expected.whole)}"]
        if any(name.startswith(APPEND) for name in chosen):
            pictures(site.source, 38, bad=2)
            adding = Site(folder, site.source, folder / "sealed")
            expected = Expected(undisturbed(adding), trials.expected.whole)
            trials = Trials(adding, expected, options.seed, options.seconds)
            killed += trials.of_crews(APPEND, chosen, options.count)
            failed += trials.of_spoils(APPEND, chosen, options.count)
            said += [f"append: {summary(expected.whole)}"]
    print(f"{'; '.join(said)}; seed {options.seed}")
    if has_steps():
        shutil.rmtree(Path(os.environ["LD_PRELOAD"]).parent)
    else:
        print("No C compiler: steps are not counted, so all kills are by time.")
    print("".join(f"\n{line}" for line in (kill_table(killed) if killed else ())))
    print("".join(f"\n{line}" for line in (failure_table(failed) if failed else ())))
    for tally in failed:
        print("".join(f"{times:4d} x {tally.name}: {said}\n" for said, times in tally.sentences.most_common()), end="")
    wrong = [sentence for tally in (*killed, *failed) for sentence in tally.wrong]
    print(f"\n{len(wrong)} wrong")
    print("".join(f"  {line}\n" for line in wrong[:MOST_TOLD]), end="")
    return int(bool(wrong))


def undisturbed(site: Site) -> Files:
    """What one process makes that nothing happens to."""
    site.fresh()
    run = Run.start(site, CREWS[0].parts(site))
    while not run.ended:
        time.sleep(0.01)
    if not run.whole:
        sys.exit(f"An undisturbed build failed: {run.said}")
    return files_of(site.out)


def summary(files: Files) -> str:
    """How much there is."""
    return f"{len(files)} files, {sum(map(len, files.values())):,} bytes"


if __name__ == "__main__":
    sys.exit(main())
