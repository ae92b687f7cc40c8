"""Kills builds, fills their disk and lets their writes fail; then types the command again and compares every byte.

    python scripts/kill_build.py                                  100 kills an engine, 100 failures of each kind
    python scripts/kill_build.py --only local-1 --count 1000 --seed 7
    python scripts/kill_build.py --only full,limit,failing --count 30

Half of the kills come at a random time of a build, from outside; half in a random step: a call of whichever process
that makes, writes, syncs, renames or removes something in the dataset's folder, writes being done by half. Half of
those are among the last fifth of the steps, where a build is sealed. Most kill every process at once, the rest only the
one that came to the step, and the command is typed again while the others live. A re-run is killed too with a chance of
a quarter. Steps need a C compiler and Linux (`failing_disk.c`); without a compiler all kills are by time, and writes do
not fail at random.

A small folder of pictures, one of which is bad, is built with pool8 in 6 shards of 4 rows. Processes are forked from
one that has imported torch, so that 100 kills take minutes; ranks too, rather than by torchrun. Workers that an engine
starts itself start as they always do, which takes seconds: such engines are killed less often (local-2 a fifth, ray-2 a
twentieth), and two of three times one worker of engine local finishes what they began.

While anything runs, and after every death, what lies there must be part of what one undisturbed process makes: no file
has a final name before it is whole, the journal can be read, and a reader finds no sealed dataset or all of it. In the
end every file must be the same, and no other be there. Prints two Markdown tables and every sentence that a failure
ended in; exits with 1 where anything was not so.
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
from dataclasses import dataclass, field
from pathlib import Path

Draw = random.Random
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
READY = "KILL_BUILD_READY"
"""Set once the environment is one to import torch in; see `prepared`."""
QUIET_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
CONFIG = "killed"
JOURNAL = ".build"
SECONDS_BETWEEN_LOOKS = 0.003
MEMORY = Path("/dev/shm")  # noqa: S108 (a new folder of its own is made there)
MOST_TOLD = 40
"""Sentences about what was wrong that are printed."""
PATIENCE = 240.0
"""Seconds after which a build stands still."""
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of Linux: whose parents died become children of this process, which so sees them end."""
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


def pictures(folder: Path) -> Path:
    """24 small pictures in two classes, and a file that is none."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:16, :24]
    for number in range(24):
        path = folder / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        waves = [np.sin(x * (number + band) / 9 + y / 7) * 90 + 128 for band in range(3)]
        Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(path)
    (folder / "a" / "bad.png").write_bytes(b"no picture")
    return folder


@dataclass(frozen=True)
class Site:
    """Where all builds of this script go."""

    place: Path
    source: Path

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
        build(plan, self.out, engine=ENGINES[engine], workers=1 if placement else workers, placement=placement)

    def fresh(self) -> None:
        """Nothing was ever built."""
        shutil.rmtree(self.out, ignore_errors=True)


def loaded() -> None:
    """Import here, once, what every build imports."""
    import numpy as np
    import pyarrow.parquet
    import torch
    from PIL import Image

    import latentstore
    import latentstore.metrics.ssim
    import latentstore.vaes.pooling

    Image.init()
    torch.set_num_threads(1)
    _ = np, pyarrow.parquet, latentstore


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


def faults(out: Path, whole: Files) -> Iterator[str]:
    """What must never be seen there, a sentence each; ``whole`` is what an undisturbed build makes."""
    sealed = (out / CONFIG / "manifest.json").exists()
    found = files_of(out)
    yield from unreadable(out / CONFIG, sealed=sealed)
    for name, content in found.items():
        if is_final(name) and name not in whole:
            yield f"{name} was never to be there"
        elif is_final(name) and content != whole[name]:
            yield f"{name} has {len(content)} bytes under its final name, not the {len(whole[name])} it must have"
        elif f"{CONFIG}/{JOURNAL}/" in name and name.endswith(".json") and not is_json(content):
            yield f"{name} of the journal cannot be read"
    if sealed:  # files never go away, so those that were there before the look at them are there
        missing = [name for name in whole if name.startswith(f"{CONFIG}/") and name not in found]
        yield from (f"{name} is missing from a sealed dataset" for name in missing)


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


def differences(out: Path, whole: Files) -> Iterator[str]:
    """What is not as an undisturbed build leaves it, a sentence each."""
    found = files_of(out)
    yield from (f"{name} is missing at the end" for name in sorted(whole.keys() - found.keys()))
    yield from (f"{name} was left behind" for name in sorted(found.keys() - whole.keys()))
    yield from (f"{name} differs at the end" for name in sorted(whole) if found.get(name, whole[name]) != whole[name])


STATES = ("nothing", "begun", "among shards", "sealing", "before the card", "sealed")


def state_of(out: Path) -> str:
    """How far a build was when it died."""
    folder = out / CONFIG
    if (folder / "manifest.json").exists():
        whole = (out / "README.md").exists() and not (folder / ".build").exists()
        return "sealed" if whole else "before the card"
    if list(folder.glob("*index.parquet*")) or list(folder.glob(".index.parquet*")):
        return "sealing"
    if list(folder.glob(".build/*-0*.json")) or list(folder.glob("*train-0*")) or list(folder.glob(".train-0*")):
        return "among shards"
    return "begun" if out.exists() else "nothing"


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
        site.counter.write_bytes(bytes(8))
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
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        while not self.ended:
            time.sleep(0.001)


def _part(site: Site, part: Callable[[], None], fault: Fault, leader: int) -> None:
    """What a forked process does; it ends here."""
    code = 1
    try:
        os.setpgid(0, leader)
        said = os.open(site.said, os.O_WRONLY | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        names = {"MODE": fault.mode, "FOLDER": site.out, "COUNTER": site.counter, "AT": fault.at}
        names |= {"SEED": fault.seed, "CHANCE": fault.chance}
        os.environ.update({f"DISK_{name}": str(value) for name, value in names.items()})
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


def descendants(pid: int) -> Iterator[int]:
    """Every process below this one, of whichever group."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        yield from children
        waiting += children


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
    share: float = 1.0
    """Of the kills asked for: starting some engines takes long."""

    def parts(self, site: Site) -> list[Callable[[], None]]:
        """What each process does."""
        if not self.ranks:
            return [lambda: site.build(self.engine, self.workers)]
        return [lambda rank=rank: site.build(self.engine, self.ranks, rank) for rank in range(self.ranks)]  # type: ignore[misc]


CREWS = (
    Crew("local-1", "local", 1),
    Crew("local-2", "local", 2, share=0.2),
    Crew("torchrun-2", "torchrun", 2, ranks=2),
    Crew("ray-2", "ray", 2, from_outside=True, share=0.05),
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
        self.wrong += [f"{self.name}, {what}: {sentence}" for sentence in dict.fromkeys(found)]

    def is_over(self, seconds: float) -> bool:
        """Whether it took so long already."""
        return time.perf_counter() - self.began > seconds

    def ended(self) -> Tally:
        """Now."""
        self.seconds = time.perf_counter() - self.began
        return self


class Trials:
    """Builds that are disturbed and typed again, in one place."""

    def __init__(self, site: Site, whole: Files, seed: int, seconds: float) -> None:
        self.site = site
        self.seconds = seconds
        self.whole = whole
        self.seed = seed

    def watched(self, run: Run, tally: Tally, what: str, until: Callable[[], bool]) -> None:
        """Look at what a reader could see until something is so, or all processes have ended."""
        seen: object = None
        limit = time.monotonic() + PATIENCE
        while not run.ended and not until():
            now = [(path, status.st_mtime_ns, status.st_size) for path, status in entries(self.site.out)]
            if now != seen:
                seen = now
                tally.note(f"{what}, while it ran", faults(self.site.out, self.whole))
            if time.monotonic() > limit:
                tally.note(what, iter([f"it stood still for {PATIENCE:g} s and said {run.said!r}"]))
                run.kill()
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def to_its_end(self, crew: Crew, tally: Tally, what: str) -> Run:
        """The command typed again, undisturbed: it must end well, and all bytes be right."""
        run = Run.start(self.site, crew.parts(self.site))
        self.watched(run, tally, what, lambda: False)
        if not run.whole:
            tally.note(what, iter([f"the re-run ended with {run.codes} and said {run.said!r}"]))
        tally.note(what, differences(self.site.out, self.whole))
        return run

    def measured(self, crew: Crew, tally: Tally) -> tuple[float, int]:
        """Seconds and steps of an undisturbed build."""
        self.site.fresh()
        began = time.perf_counter()
        run = self.to_its_end(crew, tally, "undisturbed")
        return time.perf_counter() - began, run.steps

    def kills(self, crew: Crew, count: int) -> Tally:
        """So many kills of one engine's builds."""
        tally = Tally(crew.name)
        seconds, steps = self.measured(crew, tally)
        tally.counts["steps"] = steps
        trial = 0
        while tally.counts["kills"] < count and not tally.is_over(self.seconds):
            trial += 1
            draw = Draw(f"{self.seed} {crew.name} {trial}")
            self.site.fresh()
            self._killed(crew, tally, draw, f"kill {tally.counts['kills'] + 1}", seconds, steps)
            while tally.counts["kills"] < count and draw.random() < 0.25:
                what = f"kill {tally.counts['kills'] + 1} of a re-run"
                tally.counts["again"] += self._killed(crew, tally, draw, what, seconds, steps)
            finisher = crew if crew.share == 1 or trial % 3 == 0 else CREWS[0]
            self.to_its_end(finisher, tally, f"after kill {tally.counts['kills']}")
        return tally.ended()

    def _killed(self, crew: Crew, tally: Tally, draw: Draw, what: str, seconds: float, steps: int) -> bool:
        """Begin a build and kill it; where only one process is killed, type the command again beside the others.

        False where it had ended before: a re-run has less to do.
        """
        by_step = has_steps() and draw.random() < 0.5
        alone = by_step and not crew.from_outside and crew.workers > 1 and draw.random() < 0.4
        first = 1 if draw.random() < 0.5 else round(steps * 0.8)  # few of a small build's steps seal it
        at, after = draw.randint(first, max(first, steps)), draw.uniform(0, seconds)
        mode = "count" if not by_step or crew.from_outside else "kill-one" if alone else "kill-all"
        run = Run.start(self.site, crew.parts(self.site), Fault(mode, at=at))
        late = time.perf_counter() + after
        if by_step:
            what += f" in step {at} of {steps}{' of one process' if alone else ''}"
            self.watched(run, tally, what, lambda: run.lost_one if alone else crew.from_outside and run.steps >= at)
        else:
            what += f" after {after:.3f} s of {seconds:.3f}"
            self.watched(run, tally, what, lambda: time.perf_counter() >= late)
        if not alone:
            run.kill()
        if run.whole if mode == "count" else run.steps < at:
            return False
        tally.counts["kills"] += 1
        tally.counts["by step" if by_step else "by time"] += 1
        tally.counts["one process"] += alone
        tally.counts[state_of(self.site.out)] += 1
        tally.note(what, faults(self.site.out, self.whole))
        if alone:
            self._beside(crew, tally, what, run)
        return True

    def _beside(self, crew: Crew, tally: Tally, what: str, first: Run) -> None:
        """The command typed again while others of the first time live; all of them must come to an end."""
        again = Run.start(self.site, crew.parts(self.site))
        self.watched(again, tally, what, lambda: False)
        self.watched(first, tally, what, lambda: False)
        bad = {2} if "Another process is building" in again.said else set()  # the first coordinator lives
        found = {again.codes.get(rank) for rank in again.ranks} - {0} - bad
        if found:
            tally.note(what, iter([f"typed again beside the living it ended with {found} and said {again.said!r}"]))

    # Disks that are full, and writes that fail

    def failures(self, name: str, count: int, spoil: Spoil) -> Tally:
        """So many builds that the disk does not let end."""
        tally = Tally(name)
        crew = CREWS[0]
        for trial in range(1, count + 1):
            if tally.is_over(self.seconds):
                break
            draw = Draw(f"{self.seed} {name} {trial}")
            self.site.fresh()
            fault = spoil.before(self.site, self.whole, draw)
            what = f"failure {trial}"
            run = Run.start(self.site, crew.parts(self.site), fault)
            self.watched(run, tally, what, lambda: False)
            tally.note(what, faults(self.site.out, self.whole))
            tally.counts["builds"] += 1
            tally.counts["ended well" if run.whole else "stopped"] += 1
            tally.counts[state_of(self.site.out)] += not run.whole
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
    """Room for a random part of the dataset: of its bytes, or of its files."""
    pages = sum(-(-len(content) // 4096) for content in whole.values())
    room = f"size={4096 * draw.randint(1, pages + 8)}" if draw.random() < 0.7 else "size=64m"
    if room == "size=64m":
        room += f",nr_inodes={draw.randint(2, 2 * len(whole) + 8)}"
    mount(site, room)
    return NO_FAULT


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
    columns = ("kills", "by time", "by step", "one process", "again", *STATES)
    heads = ("kills", "by time", "by step", "one process only", "of a re-run", *STATES)
    yield f"| engine | steps | {' | '.join(heads)} | wrong | seconds |"
    yield "|---|" + "---:|" * (len(heads) + 3)
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
    names = [crew.name for crew in CREWS] + [spoil.name for spoil in SPOILS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="kills or failures of each; fewer of slow engines")
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
        site = Site(Path(place).resolve(), pictures(Path(place).resolve() / "pictures"))
        first = Run.start(site, CREWS[0].parts(site))
        while not first.ended:
            time.sleep(0.01)
        if not first.whole:
            print(f"An undisturbed build failed: {first.said}")
            return 1
        trials = Trials(site, files_of(site.out), options.seed, options.seconds)
        killed, failed = disturbed(trials, chosen, options.count)
    whole = trials.whole.values()
    print(f"{len(whole)} files, {sum(map(len, whole)):,} bytes; seed {options.seed}")
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


def disturbed(trials: Trials, chosen: Sequence[str], count: int) -> tuple[list[Tally], list[Tally]]:
    """What became of the builds that were killed, and of those whose disk failed."""
    killed = [trials.kills(crew, max(1, round(count * crew.share))) for crew in CREWS if crew.name in chosen]
    failed = []
    for spoil in SPOILS:
        if spoil.name in chosen and spoil.possible(trials.site):
            failed.append(trials.failures(spoil.name, count, spoil))
        elif spoil.name in chosen:
            print(f"Not possible here: {spoil.name}, {spoil.summary}.")
    return killed, failed


if __name__ == "__main__":
    sys.exit(main())
