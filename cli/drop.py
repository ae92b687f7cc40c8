"""`latentstore drop`: one config out of a published repository."""

from __future__ import annotations

from typing import Any

import click

from .options import json_option
from .output import Page, print_json
from .transfers import TransferDisplay, ask_first, listed_paths


@click.command("drop", short_help="Remove a config from a published repository.")
@click.argument("target", metavar="TARGET")
@click.argument("config", metavar="CONFIG")
@click.option("--revision", metavar="BRANCH", help="Branch to remove it from.  [default: main]")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead of changing the main branch.")
@click.option("-m", "--message", metavar="TEXT", help="Title of the commit.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def command(target: str, config: str, *, yes: bool, as_json: bool, **kept: Any) -> None:
    """Remove the files of CONFIG, and its part of the card, from TARGET; on the Hub in one commit.

    Files in its folder that latentstore did not put there stay. So do earlier commits on the Hub: who knows one can
    still read it.

    \b
    Examples:
      latentstore drop user/scenes-latents synthetic-demo --dry-run
      latentstore drop user/scenes-latents synthetic-demo --yes
    """
    from latentstore import drop

    with TransferDisplay() as display:
        report = drop(target, config, confirm=ask_first(display, yes=yes), progress=display, **kept)
    if as_json:
        print_json(report.to_dict())
        return
    page = Page()
    if report.pull_request:
        page.heading(f"Opened a pull request without {config}: {report.pull_request}")
    else:
        page.heading(f"{'Would remove' if report.dry_run else 'Removed'} {config} from {report.url}")
    page.line()
    pairs = listed_paths("to remove" if report.dry_run else "removed", report.deleted)
    page.pairs([*pairs, ("commit", report.commit)] if report.commit and not report.dry_run else pairs)
    page.print()
