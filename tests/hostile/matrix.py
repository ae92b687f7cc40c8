"""Attacks by commands: each cell is run in a copy of one home, in a process that is watched, and judged.

What may come of a cell:

    refused    one sentence (a LatentStoreError, exit 1), or a report of `verify` that says what is wrong
    harmless   success, and nothing of what the stranger wanted happened

Anything else is a failure: something outside of what the command may write was changed, or a file of the user's own
inside it; a private file was opened, or came out; an address was contacted that the user did not name; a traceback, or
more than one sentence; control characters on the terminal; raw HTML, a link or a key of YAML on the card; more time or
memory than a small dataset can need; a process that died.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from range_server import Answers, RangeServer, serving

from .attacks import Attack, field_attacks, file_attacks
from .commands import COMMANDS, Command, Said
from .scratch import CONFIG, LARGE, MINE, SECRET, Scratch, difference, looks_of, make_home
from .watching import watching

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

REFUSED, HARMLESS, FAILURE = "refused", "harmless", "FAILURE"
SECONDS = 30.0
"""Of a processor, or of waiting, that no cell may take; an honest one takes a fraction of one."""
BEGINNING = 120.0
"""The same for the first use of a command in a process, which imports much."""
GIVEN_UP = 100.0
"""Seconds after which the process itself is taken for lost."""
RISE = 400 << 20
"""Bytes by which no cell may raise the most memory that the process ever had."""
MEMORY = 12 << 30
"""Bytes of address space."""
LONGEST_SENTENCE = 20_000
"""Characters."""
FIELDS, FILES = "fields", "files"
DRAWN = 5
"""Attacks on a field among which the one is chosen whose value and command had the fewest turns."""
UNWANTED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]|^FAKE LINE",
    re.MULTILINE,
)
"""What no terminal should be given, and a line that only a stranger begins so."""
OWN_MARK = re.compile(r"^<!-- latentstore:begin \{[^<>\n]*\} -->$", re.MULTILINE)
"""A comment of this library's that begins its part of a card, and that nothing in it ends."""


@dataclass(frozen=True)
class Cell:
    """One attack on one command."""

    attack: Attack
    command: Command

    @property
    def name(self) -> str:
        """For people, and to run it again."""
        return f"{self.attack.name} -> {self.command.name}"


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    kind: str
    note: str
    seconds: float = 0.0


# Which cells there are ------------------------------------------------------------------------------------------------


def attacks_of(home: Path, part: str) -> dict[str, Attack]:
    """Attacks on the fields of a manifest, or on everything else, by name."""
    found = field_attacks(Scratch(home).manifest()) if part == FIELDS else file_attacks()
    return {attack.name: attack for attack in found}


def cells_of(attacks: Iterable[Attack], commands: Iterable[Command] = tuple(COMMANDS.values())) -> Iterator[Cell]:
    """Each of these attacks on each of these commands that it concerns."""
    rows = list(commands)
    yield from (Cell(attack, row) for attack in attacks for row in rows if attack.face in row.faces)


def sampled(attacks: Iterable[Attack], part: str, seed: int, *, each: int = 1) -> list[Cell]:
    """So many cells of every field, or of every attack on a file; all commands and values have their turn."""
    draw = random.Random(seed)  # noqa: S311 (cells are drawn, not secrets)
    by_place: dict[str, list[Attack]] = {}
    for attack in attacks:
        by_place.setdefault(attack.where if part == FIELDS else attack.name, []).append(attack)
    used = Counter[str]()
    chosen: dict[str, Cell] = {}
    for found in by_place.values():
        for _ in range(each):
            cells = list(cells_of(draw.sample(found, min(DRAWN, len(found)))))
            cell = min(draw.sample(cells, len(cells)), key=lambda one: used[one.command.name] + used[one.attack.what])
            chosen[cell.name] = cell
            used.update((cell.command.name, cell.attack.what))
    return list(chosen.values())


# One cell -------------------------------------------------------------------------------------------------------------


class TooSlowError(BaseException):
    """The time is up; no library may catch it."""


@dataclass
class Laboratory:
    """What all cells of one process share."""

    home: Path
    web: RangeServer
    elsewhere: RangeServer
    seconds: float = SECONDS

    def run(self, cell: Cell) -> Outcome:
        """Plant, run, judge."""
        with tempfile.TemporaryDirectory(prefix="latentstore-cell-") as place:
            home = Path(shutil.copytree(self.home, Path(place).resolve() / "home", symlinks=True))
            scratch = Scratch(home, web=self.web.url, elsewhere=self.elsewhere.url)
            scratch.own = {folder / "victim.txt": MINE for folder in (scratch.repo, scratch.target)}
            os.chdir(home)
            os.environ["HOME"] = str(home)
            self.web.root, self.elsewhere.root = scratch.repo, scratch.private
            self.web.forget()
            self.elsewhere.forget()
            cell.command.prepare(scratch)
            try:
                cell.attack.plant(scratch)
            except (OSError, ValueError) as error:  # no such name on this disk, in this format
                return Outcome(HARMLESS, f"cannot be planted: {error}")
            self.web.faults = lambda path, number: None  # noqa: ARG005
            _answering.clear()
            _answering.append(scratch)
            try:
                return self._judged(cell, scratch)
            finally:
                os.chdir(self.home)

    def _judged(self, cell: Cell, scratch: Scratch) -> Outcome:
        allowed = _address(self.web.url) if cell.command.named else ()
        writes = (*cell.command.writes(scratch), scratch.home / ".cache")
        before = looks_of(scratch.home, writes)
        secrets = _secrets(scratch)
        peak, begin, clock = _peak(forget=True), time.process_time(), time.monotonic()
        with watching(scratch.private, allowed) as seen, _limited(self.seconds):
            try:
                said = cell.command.run(scratch)
            except TooSlowError as error:
                said = Said(1, error=error)
            except Exception as error:  # noqa: BLE001 (judged below)
                said = Said(1, error=error)
        took, waited, rise = time.process_time() - begin, time.monotonic() - clock, _peak() - peak
        faults = list(seen.found)
        faults += difference(before, looks_of(scratch.home, writes))
        faults += _faults_of_answer(said)
        faults += _faults_with_own_files(scratch, said)
        faults += _leaks(scratch, cell.command, said, secrets)
        faults += _faults_of_card(cell.command.card(scratch))
        faults += scratch.excess
        faults += [f"took {took:.1f} s"] if took > self.seconds else []
        faults += [f"took {rise >> 20} MiB of memory"] if rise > RISE else []
        if faults:
            return Outcome(FAILURE, "; ".join(faults), waited)
        if said.code:
            return Outcome(REFUSED, said.err.strip()[-300:] or said.out.strip()[-300:], waited)
        return Outcome(HARMLESS, "", waited)


def _faults_of_answer(said: Said) -> Iterator[str]:
    if said.error is not None:
        yield _told(said.error)
        return
    if said.code not in (0, 1):
        yield f"exit code {said.code}: {said.err[-200:]!r}"
    errors = [line for line in said.err.splitlines() if line.startswith("Error:")]
    if said.code and len(errors) > 1:
        yield f"{len(errors)} errors: {errors[-1][:200]!r}"
    if said.code and not errors and not said.out.strip():
        yield f"exit 1 and no sentence: {said.err[-200:]!r}"
    if any(len(line) > LONGEST_SENTENCE for line in errors):
        yield f"a sentence of {max(map(len, errors))} characters"
    if not said.exact:
        for stream in (said.out, said.err):
            found = UNWANTED.search(stream)
            if found is not None:
                yield f"the terminal gets {stream[max(0, found.start() - 30) : found.end() + 20]!r}"


def _told(error: BaseException) -> str:
    """An error, and where in the library it came from."""
    if isinstance(error, TooSlowError):
        frames = traceback.extract_tb(error.__traceback__)
        at = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "latentstore" in frame.filename]
        return f"{error} {' < '.join(reversed(at[-2:]))}".rstrip()
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/latentstore/" in frame.filename or "/cli/" in frame.filename]
    place = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in (ours or frames)[-1:])
    return f"traceback {type(error).__name__}: {str(error)[:160]!r}{place}"


def _faults_with_own_files(scratch: Scratch, said: Said) -> Iterator[str]:
    for path, content in scratch.own.items():
        name = path.relative_to(scratch.home)
        if not path.is_file():
            yield f"removed the user's {name}"
        elif path.name == "README.md":
            if content.strip() not in path.read_bytes():
                yield f"replaced the user's {name}"
        elif path.read_bytes() != content:
            yield f"changed the user's {name}{'' if said.code else ' and said that all is well'}"


def _secrets(scratch: Scratch) -> set[str]:
    """sha256 of every private picture, as an index would have it."""
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in scratch.private.rglob("*.png")}


def _leaks(scratch: Scratch, command: Command, said: Said, secrets: set[str]) -> Iterator[str]:
    if SECRET in said.out or SECRET in said.err:
        yield "shows a private file"
    for folder in (folder for folder in command.writes(scratch) if not folder.is_symlink()):
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGE:
                continue
            if SECRET.encode() in path.read_bytes():
                yield f"publishes a private file in {path.relative_to(scratch.home)}"
            if path.match("index*.parquet") and path.parent == scratch.target / CONFIG and _rows_of(path) & secrets:
                yield f"publishes a private picture in {path.relative_to(scratch.home)}"


def _rows_of(index: Path) -> set[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return set(pq.read_table(index, columns=["source_sha256"]).column(0).to_pylist())
    except (pa.ArrowException, OSError, KeyError):
        return set()  # the stranger's own file, which is none


def _faults_of_card(card: Path) -> Iterator[str]:
    """Raw HTML and links of a stranger's, and keys of the front matter that nobody wrote."""
    import yaml
    from markdown_it import MarkdownIt

    if card.is_symlink() or not card.is_file() or card.stat().st_size > 1 << 20:
        return
    text = card.read_text("utf-8", "replace")
    if 'latentstore:begin {"' not in text:
        return  # not one that this library wrote
    body = OWN_MARK.sub("", text.partition("\n---\n")[2])
    rendered = MarkdownIt("commonmark").enable("table").parse(body)
    inline = [child for token in rendered for child in token.children or ()]
    for token in (*rendered, *inline):
        if token.type in ("html_block", "html_inline") and re.search("onerror|<script|pwned", token.content):
            yield f"raw HTML on the card: {token.content[:80]!r}"
        if any(str(token.attrs.get(name, "")).startswith("https://pwned.example") for name in ("href", "src")):
            yield "a link of the stranger's on the card"
        if token.type == "inline" and token.content.strip() == "pwned":
            yield "a heading or paragraph of the stranger's on the card"
    try:
        keys = yaml.safe_load(text.removeprefix("---\n").partition("\n---\n")[0])
    except (yaml.YAMLError, ValueError) as error:
        yield f"the card's front matter is no YAML ({str(error)[:80]!r})"
        return
    if isinstance(keys, dict) and "pwned" in keys:
        yield "a key of the stranger's in the card's front matter"


def _address(url: str) -> tuple[tuple[str, int], ...]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return ((host, int(port)),)


def _peak(*, forget: bool = False) -> int:
    """The most memory that this process had, in bytes; ``forget`` begins again, where the system can do that."""
    if forget:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    with suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Whatever waits for too long is ended, also inside a call of the system."""

    def stop(*_: object) -> None:
        raise TooSlowError(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Processes ------------------------------------------------------------------------------------------------------------

_answering: list[Scratch] = []


class HostileAnswers(Answers):  # type: ignore[misc] # mypy finds it under another name
    """A web server that answers as the stranger wants."""

    def do_GET(self) -> None:  # noqa: N802 (the name that http.server asks for)
        """Whatever the attack has planted."""
        if _answering and _answering[-1].answer(self, self.path):
            return
        if _servable(self.server_of.root / self.path.partition("?")[0].lstrip("/")):
            super().do_GET()
        else:
            self._refuse(self.path, 404, {})


def _servable(file: Path) -> bool:
    """Whether this is a name of the disk's, of a file that this process may hold: the server lives in it too."""
    try:
        return not file.is_file() or file.stat().st_size < LARGE
    except (OSError, ValueError):
        return False


def serve(home: Path, part: str, pipe: Connection) -> None:
    """In a process of its own: run the cell of each name, and answer what came of it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    with ExitStack() as stack:
        elsewhere = stack.enter_context(serving(home))
        # Before anything imports the Hub's client: whoever asks the Hub is heard, and answered that nothing is there.
        os.environ.update(HF_ENDPOINT=f"{elsewhere.url}/hub", HF_HUB_OFFLINE="0", HF_DATASETS_OFFLINE="0")
        os.environ["HF_HOME"] = stack.enter_context(tempfile.TemporaryDirectory())
        web = stack.enter_context(serving(home, lambda server: type("Bound", (HostileAnswers,), {"server_of": server})))
        _lose_patience()
        laboratory = Laboratory(home, web, elsewhere, BEGINNING)
        attacks = attacks_of(home, part)
        honest = Attack("", "nothing", "nothing", "", lambda _: None)
        pipe.send([(row.name, laboratory.run(Cell(honest, row))) for row in COMMANDS.values() if _can_be_honest(row)])
        laboratory.seconds = SECONDS
        while (cell := pipe.recv()) is not None:
            pipe.send(laboratory.run(Cell(attacks[cell[0]], COMMANDS[cell[1]])))


def _can_be_honest(command: Command) -> bool:
    return "table" not in command.faces


def _lose_patience() -> None:
    """Nobody waits for a server that fails on purpose."""
    from latentstore.retries import Patience

    *others, _timeout, _sleep = Patience.__init__.__defaults__ or ()
    Patience.__init__.__defaults__ = (*others, 3.0, lambda _: None)


def run_all(home: Path, part: str, cells: Sequence[Cell], seconds: float = GIVEN_UP) -> Iterator[tuple[Cell, Outcome]]:
    """Each cell and what came of it; a process that dies or hangs is an outcome too.

    Commands with nothing planted come first, each time a process begins: they must succeed.
    """
    context = multiprocessing.get_context("spawn")
    process = None
    for cell in cells:
        if process is None:
            pipe, theirs = context.Pipe()
            process = context.Process(target=serve, args=(home, part, theirs), daemon=True)
            process.start()
            theirs.close()
            honest = Attack("nothing planted", "nothing", "nothing", "", lambda _: None)
            for name, outcome in pipe.recv():
                wrong = outcome.kind == REFUSED
                yield (
                    Cell(honest, COMMANDS[name]),
                    Outcome(FAILURE, f"an honest dataset is refused: {outcome.note}") if wrong else outcome,
                )
        try:
            pipe.send((cell.attack.name, cell.command.name))
            if pipe.poll(seconds):
                yield cell, pipe.recv()
                continue
            process.kill()
            died = f"not done after {seconds:g} s, and not to be stopped"
        except (EOFError, BrokenPipeError, ConnectionResetError):
            process.join()
            died = f"the process died ({process.exitcode})"
        process.join()
        process = None
        yield cell, Outcome(FAILURE, died)
    if process is not None:
        pipe.send(None)
        process.join()


def made_home(place: Path) -> Path:
    """The home that every cell gets a copy of."""
    where = Path.cwd()
    try:
        make_home(place)
    finally:
        os.chdir(where)
    return place


def counted(results: Sequence[tuple[Cell, Outcome]]) -> Iterator[str]:
    """Lines of a Markdown table: groups of attacks by commands, ``refused/harmless`` and what failed."""
    names = list(COMMANDS)
    yield f"| attack | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    groups = list(dict.fromkeys(cell.attack.group for cell, _ in results))
    for group in groups:
        line = []
        for name in names:
            kinds = [found.kind for cell, found in results if (cell.attack.group, cell.command.name) == (group, name)]
            bad = kinds.count(FAILURE)
            line.append(
                f"{kinds.count(REFUSED)}/{kinds.count(HARMLESS)}{f' **{bad} failed**' if bad else ''}" if kinds else ""
            )
        yield f"| {group} | {' | '.join(line)} |"


def kept(results: Sequence[tuple[Cell, Outcome]]) -> Any:
    """Only the failures."""
    return [(cell.name, found.note) for cell, found in results if found.kind == FAILURE]
