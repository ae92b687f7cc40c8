"""What `latentstore build` prints besides its result: where the time went, and how far a build is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import Page, note, print_json

if TYPE_CHECKING:
    from latentstore import BuildProfile, BuildStatus
    from latentstore.status import ShardStatus
    from latentstore.system.locks import Holder


def profile_json(profile: BuildProfile) -> dict[str, Any]:
    """A profile as plain JSON."""
    return {
        "seconds": profile.seconds,
        "workers": profile.workers,
        "pictures": profile.pictures,
        "stages": dict(profile.stages),
        "vae_share": profile.vae_share,
        "safety_share": profile.safety_share,
        "bottleneck": profile.bottleneck,
    }


def show_profile(profile: BuildProfile) -> None:
    """A profile as a table, on stderr."""
    from latentstore.build_profile import STAGES

    workers = f"{profile.workers} workers, " if profile.workers > 1 else ""
    note(f"Where {profile.seconds:.1f} s went ({workers}{profile.pictures:,} pictures); lanes run at the same time:")
    for row in STAGES.values():
        seconds = profile.stages.get(row.name, 0.0)
        note(f"  {row.lane:9}  {row.name:9}  {seconds:9.2f} s  {profile.share(seconds):6.1%}  {row.summary}")
    note(
        f"The VAE was busy {profile.vae_share:.1%} of the time; the bottleneck is {profile.bottleneck!r}; hashing, "
        f"syncing and the journal took {profile.safety_share:.2%}."
    )


def print_status(_context: click.Context, _parameter: click.Parameter, folder: str | None) -> None:
    """What ``--status`` does instead of building."""
    if folder is None or _context.resilient_parsing:
        return
    from latentstore import build_status
    from latentstore.json_records import plain

    found = [build_status(config) for config in _configs(Path(folder))]
    if _context.meta.get("latentstore.json"):
        print_json([plain(status) for status in found])
    else:
        page = Page()
        for status in found:
            _show_status(page, status)
        page.print()
    _context.exit()


class BuildCommand(click.Command):
    """A command that knows before anything else whether JSON is wanted: ``--status`` needs no other argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it."""
        ctx.meta["latentstore.json"] = "--json" in args
        return super().parse_args(ctx, args)


def _configs(folder: Path) -> list[Path]:
    """The folder, where it is that of a config; else those of its folders that something was built in."""
    from latentstore.manifest.names import JOURNAL

    def is_config(path: Path) -> bool:
        return (path / JOURNAL).is_dir() or (path / "manifest.json").is_file()

    inner = sorted(path for path in folder.iterdir() if is_config(path)) if folder.is_dir() else []
    return [folder] if is_config(folder) or not inner else inner


def _show_status(page: Page, status: BuildStatus) -> None:
    from latentstore.status import FINISHED, WAITING, WORKED_ON

    page.heading(f"{status.folder}: {_sentence(status)}")
    shards, total = len(status.shards), sum(shard.rows for shard in status.shards)
    pairs = [
        (state, f"{status.count(state):,} of {shards:,} shards, {status.rows(state):,} of {total:,} rows")
        for state in (FINISHED, WORKED_ON, WAITING)
    ]
    if status.rows_per_second:
        pairs.append(("pace", _pace(status, total)))
    page.pairs(pairs)
    known = [shard for shard in status.shards if shard.by is not None]
    if known:
        page.line()
        page.table(("shard", "rows>", "skipped>", "state", "who", "when"), [_cells(shard) for shard in known])


def _sentence(status: BuildStatus) -> str:
    if status.sealed:
        return "complete."
    if status.builder is not None:
        return f"being built by {status.builder}."
    return "not complete, and nobody builds it now: type the `latentstore build` command again, it continues."


def _pace(status: BuildStatus, total: int) -> str:
    from latentstore.status import FINISHED

    pace = status.rows_per_second or 0.0
    return f"{pace:,.1f} rows/s of finished shards, {(total - status.rows(FINISHED)) / pace:,.0f} s to go"


def _cells(shard: ShardStatus) -> list[str]:
    by: Holder | None = shard.by
    who, when = (f"{by.host}, process {by.pid}", by.since) if by is not None else ("", "")
    return [shard.name, f"{shard.rows:,}", f"{shard.skipped:,}", shard.state, who, when]
