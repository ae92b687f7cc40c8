"""`latentstore cache`: decoded copies of compressed shards, listed and removed."""

from __future__ import annotations

from pathlib import Path

import click

from .options import json_option
from .output import Page, print_json, print_line


@click.group("cache", short_help="List or clear decoded copies of compressed shards.")
def command() -> None:
    """Decoded copies of compressed shards, which `load_latents` keeps where the memory is too small for them.

    They can be removed at any time; a shard is decoded again when it is needed.

    \b
    Examples:
      latentstore cache list
      latentstore cache clear
    """


@command.command("list")
@click.option("--cache", type=click.Path(file_okay=False), metavar="DIR", help="The folder, where another was named.")
@json_option
def list_(cache: str | None, *, as_json: bool) -> None:
    """Show what is kept, and where."""
    from latentstore.decoded_cache import DecodedCache, default_cache

    found = DecodedCache(Path(cache) if cache else default_cache())
    shards = found.shards()
    if as_json:
        rows = [{"sha256": shard.sha256, "bytes": shard.bytes, "path": str(shard.path)} for shard in shards]
        print_json({"folder": str(found.folder), "shards": rows})
        return
    page = Page()
    page.heading(f"{len(shards):,} decoded shards, {sum(shard.bytes for shard in shards):,} bytes in {found.folder}")
    if shards:
        page.table(["shard's sha256", "bytes>"], [[shard.sha256, f"{shard.bytes:,}"] for shard in shards])
    page.print()


@command.command("clear")
@click.option("--cache", type=click.Path(file_okay=False), metavar="DIR", help="The folder, where another was named.")
@json_option
def clear(cache: str | None, *, as_json: bool) -> None:
    """Remove all of it; who is reading goes on reading."""
    from latentstore.decoded_cache import DecodedCache, default_cache

    found = DecodedCache(Path(cache) if cache else default_cache())
    removed = found.clear()
    total = sum(shard.bytes for shard in removed)
    if as_json:
        print_json({"folder": str(found.folder), "removed": len(removed), "bytes": total})
    else:
        print_line(f"Removed {len(removed):,} decoded shards, {total:,} bytes, from {found.folder}")
