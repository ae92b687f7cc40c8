"""What a folder says of a build in it: which shards are finished, by whom, which are worked on, what remains."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from latentstore.errors import RequestError
from latentstore.journal import BuildFolder, append_underway
from latentstore.manifest import Manifest
from latentstore.manifest.names import JOURNAL
from latentstore.plan import PlannedShard
from latentstore.system.locks import Holder

FINISHED, WORKED_ON, WAITING = "finished", "worked on", "waiting"


@dataclass(frozen=True)
class ShardStatus:
    """One shard of a build."""

    name: str
    rows: int
    """Planned ones; skipped pictures are among them."""
    state: str
    """``finished``, ``worked on`` or ``waiting``."""
    skipped: int = 0
    by: Holder | None = None
    """Who finished it (and when), or works on it (and since when)."""


@dataclass(frozen=True)
class BuildStatus:
    """One config's folder."""

    folder: str
    sealed: bool
    """Whether it is complete, and nothing is being added to it; then nothing is known of who built it."""
    builder: Holder | None
    """Who coordinates a build in it now; None where nobody does."""
    shards: tuple[ShardStatus, ...]
    rows_per_second: float | None
    """Of the shards that were finished since the builder began; None where that cannot be said."""

    def rows(self, state: str) -> int:
        """Planned rows of all shards in this state."""
        return sum(shard.rows for shard in self.shards if shard.state == state)

    def count(self, state: str) -> int:
        """Shards in this state."""
        return sum(shard.state == state for shard in self.shards)


def build_status(folder: str | Path) -> BuildStatus:
    """The status of the config that lies in ``folder``; changes nothing, whoever builds in it.

    Raises RequestError where nothing was ever built in it.
    """
    folder = Path(folder)
    if (folder / "manifest.json").is_file():
        manifest = Manifest.read(folder)
        shards = tuple(
            ShardStatus(shard.path, shard.rows, FINISHED)
            for split in manifest.splits.values()
            for shard in split.shards
        )
        if not append_underway(folder):
            return BuildStatus(str(folder), sealed=True, builder=None, shards=shards, rows_per_second=None)
    else:
        shards = ()
    work = BuildFolder(folder)
    planned = work.planned()
    if planned is None:
        begun = (folder / JOURNAL).is_dir()
        what = "was begun, but not planned yet" if begun else "holds no build of latentstore"
        raise RequestError(f"{folder} {what}: name the folder of a config, such as OUT/CONFIG.")
    shards += tuple(_shard_status(work, shard) for shard in planned)
    builder = work.builder
    return BuildStatus(
        str(folder), sealed=False, builder=builder, shards=shards, rows_per_second=_pace(builder, shards)
    )


def _shard_status(work: BuildFolder, shard: PlannedShard) -> ShardStatus:
    rows = shard.stop - shard.start
    entry = work.noted(shard)
    if entry is not None:
        return ShardStatus(shard.name, rows, FINISHED, len(entry.skipped), entry.by)
    holder = work.worked_on_by(shard)
    return ShardStatus(shard.name, rows, WAITING if holder is None else WORKED_ON, 0, holder)


def _pace(builder: Holder | None, shards: tuple[ShardStatus, ...]) -> float | None:
    if builder is None:
        return None
    began = _moment(builder.since)
    if began is None:
        return None
    finished = [
        (_moment(shard.by.since), shard.rows) for shard in shards if shard.state == FINISHED and shard.by is not None
    ]
    rows = sum(count for when, count in finished if when is not None and when >= began)
    seconds = (datetime.now(timezone.utc) - began).total_seconds()
    return rows / seconds if rows and seconds > 0 else None


def _moment(text: str) -> datetime | None:
    """The moment that a journal names; None where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
