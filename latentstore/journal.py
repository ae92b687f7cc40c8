"""The folder of a config while it is being built: who builds, from which plan, and which shards are done.

``<config>/.build/`` holds ``plan.json``, one small file a finished shard and one lock file a shard that somebody works
on. It goes away when the manifest is written. One file an entry, because several machines cannot append to one file of
a shared folder without tearing each other's lines. A resume believes an entry only where the shard's file has the
recorded size and sha256.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from latentstore.errors import ManifestError, NotSealedError, PlanMismatchError, RequestError, UnsafePathError
from latentstore.hashing import sha256_of
from latentstore.json_records import parse, plain
from latentstore.manifest import FILE_NAME, HalvedInfo, Manifest, RetriedInfo, ShardInfo, SkippedInfo
from latentstore.manifest.names import JOURNAL, OLD_JOURNAL, SPLIT_NAME, is_data_name, is_partial_name, is_shard_name
from latentstore.manifest.text import LARGEST_TEXT
from latentstore.plan import PlannedShard
from latentstore.system.durable_files import sync_folder, write_atomically, writing
from latentstore.system.locks import Holder, Lock, holder_of, is_held, take
from latentstore.system.plain_files import read_file
from latentstore.system.safe_paths import is_safe_name, refuse_link

PLAN = "plan.json"
APPENDS_TO = "appends_to"
"""Entry of the plan of an append: sha256 of the manifest that it adds to."""
TRIES = 5
"""To claim a folder whose builder lives: who asks for a build's status holds its lock for an instant."""
TRIES_AFTER_DEATH = 100
"""To claim one whose builder is dead or has no name: only who asks can hold it, on a busy machine for longer."""
SECONDS_BETWEEN_TRIES = 0.05
ENTRY = re.compile(
    r"plan\.json|shards\.json|storage\.json|conversion\.json|lock|\w+(\.\w+)*-[0-9]{5,}\.(json|lock)|\..+\.partial"
)
"""Names of the files of a journal."""
UNREADABLE = (OSError, ValueError, RecursionError, ManifestError)
"""Errors of a file of the journal that nobody finished, or that somebody else wrote."""
Record = TypeVar("Record")


@dataclass(frozen=True)
class FinishedShard:
    """What is known of a finished shard without opening it."""

    shard: ShardInfo
    statistics: Mapping[str, Any]
    """Of its latents, in the exact form that merges."""
    skipped: tuple[SkippedInfo, ...]
    entropy_bits: float
    """Of its stored numbers."""
    conversions: Mapping[str, int] = field(default_factory=dict)
    clipped: tuple[int, ...] = ()
    """Numbers of each channel that were clipped."""
    lost_db: float = 0.0
    """Sum over its pictures of the PSNR that storing cost."""
    lost_pictures: int = 0
    """How many pictures that is; 0 where it was not measured."""
    retried: tuple[RetriedInfo, ...] = ()
    halved: tuple[HalvedInfo, ...] = ()
    by: Holder | None = None
    """Who finished it, and when; never in a manifest, whose bytes do not depend on it."""

    @property
    def by_this_process(self) -> bool:
        """Whether this very process finished it."""
        return self.by is not None and self.by.is_this_process


@dataclass(frozen=True)
class PlannedShards:
    """Every shard of a build, noted for who asks how far it is."""

    shards: tuple[PlannedShard, ...]


class BuildFolder:
    """A config's folder while one plan is built in it, by one builder and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal = folder / JOURNAL

    def finished(self, planned: PlannedShard) -> FinishedShard | None:
        """What the journal says of this shard, if its file still is what was written: its sha256 is looked at."""
        entry = self.noted(planned)
        return entry if entry is not None and sha256_of(self.folder / entry.shard.path) == entry.shard.sha256 else None

    def noted(self, planned: PlannedShard) -> FinishedShard | None:
        """What the journal says of this shard, if its file has the size that was written."""
        try:
            entry = parse(FinishedShard, _json_in(self._entry(planned)))
        except UNREADABLE:
            return None
        if entry.shard.path != planned.name:  # nobody wrote that who built this
            return None
        path = self.folder / entry.shard.path
        return entry if path.is_file() and path.stat().st_size == entry.shard.bytes else None

    def forget(self, planned: PlannedShard) -> None:
        """What the journal says of this shard is not so: it is to be built again."""
        with writing(self._entry(planned)):
            self._entry(planned).unlink(missing_ok=True)

    def finish(self, planned: PlannedShard, entry: FinishedShard) -> None:
        """Remember that this shard is done."""
        write_atomically(self._entry(planned), json.dumps(plain(entry), allow_nan=False))

    def take(self, planned: PlannedShard) -> Lock | None:
        """The shard for this worker alone; None while another works on it. Who died holds nothing."""
        with writing(self._lock(planned)):
            try:
                lock = take(self._lock(planned))
            except FileNotFoundError:
                if self.is_sealed:
                    return None
                raise
        return lock if isinstance(lock, Lock) else None

    def worked_on_by(self, planned: PlannedShard) -> Holder | None:
        """Who works on this shard now; None where nobody does."""
        path = self._lock(planned)
        return holder_of(path) if is_held(path) else None

    @property
    def builder(self) -> Holder | None:
        """Who has claimed the folder now; None where nobody has."""
        path = self._journal / "lock"
        return holder_of(path) if is_held(path) else None

    @property
    def is_sealed(self) -> bool:
        """Whether the journal is gone."""
        return not self._journal.is_dir()

    def remember(self, name: str, record: object) -> None:
        """Keep a record that a later run of the same plan must use again."""
        write_atomically(self._journal / f"{name}.json", json.dumps(plain(record), allow_nan=False))

    def recall(self, name: str, kind: type[Record]) -> Record | None:
        """That record; None where there is none that can be read."""
        try:
            return parse(kind, _json_in(self._journal / f"{name}.json"))
        except UNREADABLE:
            return None

    def planned(self) -> tuple[PlannedShard, ...] | None:
        """Every shard of the build; None where the journal does not say.

        UnsafePathError where it names what no shard is called: whatever such a journal says, nothing of it is done.
        """
        noted = self.recall("shards", PlannedShards)
        for shard in noted.shards if noted is not None else ():
            split = shard.split
            if not (is_shard_name(shard.name) and SPLIT_NAME.fullmatch(split) and is_safe_name(split)):
                raise UnsafePathError(
                    f"The journal {self._journal} names the shard {shard.name!r} of split {split!r}, expected names "
                    "as shards have them: it was not written by latentstore, so see who put it there, and remove it."
                )
        return None if noted is None else noted.shards

    def seal(self, manifest: Manifest) -> Manifest:
        """Write the manifest and give it back as written; now the dataset is complete and the journal is gone."""
        with writing(self.folder / FILE_NAME):
            written = manifest.write(self.folder)
            sync_folder(self.folder)
        tidy(self.folder)
        return written

    def refuse_other_plan(self, fingerprint: Mapping[str, Any]) -> None:
        """PlanMismatchError where another plan than this one was begun here."""
        _refuse_other_plan(self.folder, _read_plan(self._journal / PLAN), fingerprint)

    def _entry(self, planned: PlannedShard) -> Path:
        return self._journal / f"{planned.split}-{planned.index:05d}.json"

    def _lock(self, planned: PlannedShard) -> Path:
        return self._journal / f"{planned.split}-{planned.index:05d}.lock"


@contextmanager
def claim(folder: Path, fingerprint: Mapping[str, Any]) -> Iterator[BuildFolder]:
    """The config's folder for one builder and one plan.

    Raises PlanMismatchError with the difference where the folder belongs to another plan, RequestError where another
    builder is at work in it or where it cannot be written.
    """
    journal = folder / JOURNAL
    _refuse_links(folder)
    _refuse_strangers(folder)
    try:
        journal.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"Cannot write into {folder}: {error.strerror}; choose another --out.") from error
    with _lock(journal / "lock", folder):
        plan = journal / PLAN
        _refuse_other_plan(folder, _read_plan(plan), fingerprint)
        write_atomically(plan, json.dumps(fingerprint, indent=2))
        yield BuildFolder(folder)


@contextmanager
def claim_append(folder: Path, identity: Mapping[str, Any]) -> Iterator[BuildFolder]:
    """A sealed config's folder for one builder that adds to it; the sealed manifest stays valid meanwhile.

    What an append of another identity (as plain JSON, with ``APPENDS_TO``) had begun here is thrown away. Raises
    RequestError where another builder is at work in the folder, or has replaced the manifest that is added to, or where
    the folder cannot be written.
    """
    journal = folder / JOURNAL
    _refuse_links(folder)
    if not journal.exists():
        _refuse_in_the_way(folder)
    try:
        journal.mkdir(exist_ok=True)
    except OSError as error:
        raise RequestError(f"Cannot write into {folder}: {error.strerror}; --append needs to.") from error
    with _lock(journal / "lock", folder):
        if sha256_of(folder / FILE_NAME) != identity[APPENDS_TO]:
            raise RequestError(f"Another process has just added to {folder}: type the command again.")
        if _read_plan(journal / PLAN) != identity:
            _throw_away(folder)
        write_atomically(journal / PLAN, json.dumps(identity, indent=2))
        yield BuildFolder(folder)


def begun_append(folder: Path) -> Mapping[str, Any] | None:
    """The identity of the append whose journal lies in ``folder``; None where there is none."""
    known = _read_plan(folder / JOURNAL / PLAN) or {}
    return known if APPENDS_TO in known else None


def append_begun(folder: Path) -> bool:
    """Whether the journal of an append lies in ``folder``; what it added may be sealed already."""
    return begun_append(folder) is not None


def append_underway(folder: Path) -> bool:
    """Whether an append to the sealed config in ``folder`` was begun and is not sealed."""
    plan = _read_plan(folder / JOURNAL / PLAN) or {}
    manifest = folder / FILE_NAME
    return APPENDS_TO in plan and manifest.is_file() and bool(plan[APPENDS_TO] == sha256_of(manifest))


def names_underway(folder: Path) -> set[str]:
    """Names of the shards that the journal in ``folder`` plans; empty where there is none."""
    return {shard.name for shard in BuildFolder(folder).planned() or ()}


def _throw_away(folder: Path) -> None:
    """Remove what a journal knows of, but for what the manifest lists and the lock that this builder holds."""
    listed = {shard.path for split in Manifest.read(folder).splits.values() for shard in split.shards}
    with writing(folder / JOURNAL):
        for name in names_underway(folder) - listed:
            (folder / name).unlink(missing_ok=True)
        for path in (folder / JOURNAL).iterdir():
            if path.name != "lock":
                path.unlink(missing_ok=True)


def known_plan(folder: Path) -> Mapping[str, Any] | None:
    """The plan that a config's folder holds the result, or the beginning, of; None where there is none."""
    try:
        return Manifest.read(folder).build.plan
    except NotSealedError:
        return _read_plan(folder / JOURNAL / PLAN)


def tidy(folder: Path) -> None:
    """Remove what is needed only until a config is sealed.

    What a process was writing when it was killed goes first, and the journal last (see ``is_tidy``): in one step under
    another name, so that a worker that looks at it sees all of it, or that it is gone.
    """
    old = folder / OLD_JOURNAL
    _refuse_links(folder)
    with writing(folder / JOURNAL):
        for partial in folder.glob(".*.partial"):
            if is_partial_name(partial.name):
                partial.unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
        with suppress(FileNotFoundError):
            (folder / JOURNAL).rename(old)
        shutil.rmtree(old, ignore_errors=True)


def is_tidy(folder: Path) -> bool:
    """Whether ``tidy`` has nothing left to do; it may have been stopped at any moment."""
    return not any((folder / name).exists() for name in (JOURNAL, OLD_JOURNAL))


def sealed_manifest(folder: Path, fingerprint: Mapping[str, Any]) -> Manifest | None:
    """The manifest, if this folder already holds the whole result of this very plan; PlanMismatchError for another."""
    try:
        manifest = Manifest.read(folder)
    except NotSealedError:
        return None
    _refuse_other_plan(folder, manifest.build.plan, fingerprint)
    return manifest


def _json_in(path: Path) -> Any:
    return json.loads(read_file(path, LARGEST_TEXT))


def _read_plan(plan: Path) -> Mapping[str, Any] | None:
    try:
        known = _json_in(plan)
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    except OSError as error:
        raise RequestError(f"{plan} cannot be read ({error}): see who put it there, and remove it.") from error
    return known if isinstance(known, Mapping) else {}


def _refuse_strangers(folder: Path) -> None:
    """PlanMismatchError where a folder holds files and was never built in."""
    if not folder.is_dir() or (folder / JOURNAL).is_dir():
        return
    strangers = sorted(entry.name for entry in folder.iterdir())
    if strangers:
        message = (
            f"{folder} already holds {', '.join(strangers[:3])}{' …' if len(strangers) > 3 else ''} "
            "and no build of latentstore: choose an empty --out or another --config."
        )
        raise PlanMismatchError(message)


def _refuse_links(folder: Path) -> None:
    """UnsafePathError where the folder of a config, or its journal, is a link: what is written would be elsewhere.

    RequestError where somebody else keeps files in a folder of that name: the journal is removed at the end.
    """
    for path in (folder, folder / JOURNAL, folder / OLD_JOURNAL):
        refuse_link(path, "remove the link, or give the folder that it leads to")
    for journal in (folder / JOURNAL, folder / OLD_JOURNAL):
        entries = sorted(entry.name for entry in journal.iterdir()) if journal.is_dir() else ()
        others = [name for name in entries if not ENTRY.fullmatch(name)]
        if others:
            raise RequestError(
                f"{journal} holds {others[0]!r}{' …' if len(others) > 1 else ''}, which is no file of a journal: "
                "latentstore keeps its own there and removes them, so move it away."
            )


def _refuse_in_the_way(folder: Path) -> None:
    """RequestError for files of a sealed config that are named like its data and are not its own.

    What an append writes and removes has such names. Once its journal is there, they are known to be its own.
    """
    manifest = Manifest.read(folder)
    own = {info.path for info in manifest.listed_files} | set(manifest.beside)
    others = sorted(entry.name for entry in folder.iterdir() if is_data_name(entry.name) and entry.name not in own)
    if others:
        raise RequestError(
            f"{folder} holds {others[0]}{' …' if len(others) > 1 else ''}, which its manifest does not list and an "
            "append may write over: move it to another folder, then type the command again."
        )


def _refuse_other_plan(folder: Path, known: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> None:
    if known is None or known == json.loads(json.dumps(wanted)):
        return
    keys = sorted(key for key in {*known, *wanted} if known.get(key) != json.loads(json.dumps(wanted.get(key))))
    if set(keys) <= {"listing", "pictures", "classes", "columns"}:
        message = (
            f"{folder} was built from other pictures than the source holds now: add the new ones with --append, or "
            "choose another --out or --config."
        )
        raise PlanMismatchError(message)
    listed = "; ".join(f"{key}: there {known.get(key)!r}, asked for {wanted.get(key)!r}" for key in keys)
    message = (
        f"{folder} already holds another plan ({listed}): choose another --out or --config, or remove that folder."
    )
    raise PlanMismatchError(message)


@contextmanager
def _lock(path: Path, folder: Path) -> Iterator[None]:
    """Hold the folder's lock while building; a builder that died holds nothing."""
    lock = _taken(path, folder)
    try:
        yield
    finally:
        lock.release()


def _taken(path: Path, folder: Path) -> Lock:
    """The folder's lock; RequestError where another builder has it, or has just sealed."""
    holder: Holder | None = None
    for tries in count(1):
        with writing(path):
            try:
                found = take(path)
            except FileNotFoundError:  # sealed in this very instant, and the journal is gone
                break
        if isinstance(found, Lock):
            return found
        holder = None if found is None or found.is_gone else found
        if tries == (TRIES_AFTER_DEATH if holder is None else TRIES):
            break
        time.sleep(SECONDS_BETWEEN_TRIES)
    who = f" ({holder})" if holder is not None else ""
    raise RequestError(
        f"Another process is building into {folder}{who}: wait until it is done, then type the command again."
    )
