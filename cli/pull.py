"""`latentstore pull`: published datasets into a folder."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import Any

import click

from .options import json_option
from .output import Page, print_json
from .transfers import TransferDisplay, listed_paths


@click.command("pull", short_help="Download a published dataset into a folder.")
@click.argument("location", metavar="LOCATION")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(file_okay=False))
@click.option("configs", "--config", multiple=True, metavar="NAME", help="Config, may be repeated.  [default: all]")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit.  [default: main]")
@json_option
def command(location: str, folder: str | None, *, configs: tuple[str, ...], as_json: bool, **kept: Any) -> None:
    """Download published configs, each file compared with the sha256 in its manifest.

    LOCATION is a Hub dataset repository (user/repo or user/repo@revision), a URL that fsspec knows (s3://bucket/folder)
    or a folder; DIR is the repository folder to fill, by default one here that is called like the last part of
    LOCATION. Files that are in DIR already are not downloaded again. The manifest comes last: what is not complete
    cannot be taken for a dataset. Stopped for whatever reason, the same command continues.

    \b
    Examples:
      latentstore pull user/scenes-latents
      latentstore pull user/scenes-latents@v1 ./scenes --config synthetic-demo
    """
    from latentstore import pull

    folder = folder or PurePosixPath(location.partition("@")[0].rstrip("/")).name or "latents"
    with TransferDisplay() as display:
        report = pull(location, folder, configs or None, progress=display, **kept)
    if as_json:
        print_json(report.to_dict())
        return
    page = Page()
    page.heading(f"{report.folder} holds {', '.join(report.configs)} of {location}")
    page.line()
    pairs = listed_paths("received", report.received, report.bytes)
    pairs += [("already here", f"{len(report.skipped):,} of {len(report.skipped) + len(report.received):,} files")]
    page.pairs([*pairs, ("commit", report.commit)] if report.commit else pairs)
    page.line()
    page.line("Check it:")
    page.code([f"latentstore verify {shlex.quote(report.folder)}"])
    page.print()
