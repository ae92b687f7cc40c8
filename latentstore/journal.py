"""The folder of a config while it is being built: who builds, from which plan, and which shards are done.

``<config>/.build/`` holds ``plan.json`` and one small file a finished shard. It goes away when the manifest is
written. A shard counts as finished only if its file has the recorded size and sha256.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from latentstore.errors import ManifestError, NotSealedError, PlanMismatchError, RequestError
from latentstore.hashing import sha256_of
from latentstore.json_records import parse, plain
from latentstore.manifest import Manifest, ShardInfo, SkippedInfo
from latentstore.plan import PlannedShard

JOURNAL = ".build"
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


class BuildFolder:
    """A config's folder, claimed by one builder for one plan."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal = folder / JOURNAL

    def finished(self, planned: PlannedShard) -> FinishedShard | None:
        """What the journal says of this shard, if its file still is what was written."""
        try:
            data = json.loads(self._entry(planned).read_text(encoding="utf-8"))
            entry = parse(FinishedShard, data)
        except (FileNotFoundError, ValueError, ManifestError):
            return None
        path = self.folder / entry.shard.path
        intact = path.is_file() and path.stat().st_size == entry.shard.bytes and sha256_of(path) == entry.shard.sha256
        return entry if intact else None

    def finish(self, planned: PlannedShard, entry: FinishedShard) -> None:
        """Remember that this shard is done."""
        write_atomically(self._entry(planned), json.dumps(plain(entry), allow_nan=False))

    def remember(self, name: str, record: object) -> None:
        """Keep a record that a later run of the same plan must use again."""
        write_atomically(self._journal / f"{name}.json", json.dumps(plain(record), allow_nan=False))

    def recall(self, name: str, kind: type[Record]) -> Record | None:
        """That record; None where there is none that can be read."""
        try:
            return parse(kind, json.loads((self._journal / f"{name}.json").read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, ManifestError):
            return None

    def seal(self, manifest: Manifest) -> Manifest:
        """Write the manifest and give it back as written; now the dataset is complete and the journal is gone."""
        written = manifest.write(self.folder)
        shutil.rmtree(self._journal, ignore_errors=True)
        return written

    def _entry(self, planned: PlannedShard) -> Path:
        return self._journal / f"{planned.split}-{planned.index:05d}.json"


@contextmanager
def claim(folder: Path, fingerprint: Mapping[str, Any]) -> Iterator[BuildFolder]:
    """The config's folder for one builder and one plan.

    Raises PlanMismatchError with the difference where the folder belongs to another plan, RequestError where another
    builder is at work in it or where it cannot be written.
    """
    journal = folder / JOURNAL
    _refuse_strangers(folder)
    try:
        journal.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"Cannot write into {folder}: {error.strerror}; choose another --out.") from error
    with _lock(journal / "lock", folder):
        plan = journal / "plan.json"
        _refuse_other_plan(folder, _known_plan(plan), fingerprint)
        write_atomically(plan, json.dumps(fingerprint, indent=2))
        yield BuildFolder(folder)


def tidy(folder: Path) -> None:
    """Remove what a build that was stopped right after sealing left behind."""
    shutil.rmtree(folder / JOURNAL, ignore_errors=True)


def sealed_manifest(folder: Path, fingerprint: Mapping[str, Any]) -> Manifest | None:
    """The manifest, if this folder already holds the whole result of this very plan; PlanMismatchError for another."""
    try:
        manifest = Manifest.read(folder)
    except NotSealedError:
        return None
    _refuse_other_plan(folder, manifest.build.plan, fingerprint)
    return manifest


def write_atomically(path: Path, text: str) -> None:
    """Text under its final name in one step: nobody ever sees half of it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _known_plan(plan: Path) -> Mapping[str, Any] | None:
    try:
        known = json.loads(plan.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
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


def _refuse_other_plan(folder: Path, known: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> None:
    if known is None or known == json.loads(json.dumps(wanted)):
        return
    keys = sorted(key for key in {*known, *wanted} if known.get(key) != json.loads(json.dumps(wanted.get(key))))
    if set(keys) <= {"listing", "pictures", "classes", "columns"}:
        message = f"{folder} was built from other pictures than the source holds now: choose another --out or --config."
        raise PlanMismatchError(message)
    listed = "; ".join(f"{key}: there {known.get(key)!r}, asked for {wanted.get(key)!r}" for key in keys)
    message = (
        f"{folder} already holds another plan ({listed}): choose another --out or --config, or remove that folder."
    )
    raise PlanMismatchError(message)


@contextmanager
def _lock(path: Path, folder: Path) -> Iterator[None]:
    """Hold the lock while building; the system lets go of it when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: two builders are not noticed there
        yield
        return
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"Another process is building into {folder}: wait until it is done, then type the command again."
            raise RequestError(message) from error
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
