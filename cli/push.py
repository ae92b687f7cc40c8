"""`latentstore push`: sealed datasets to the Hub or another place."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from .options import json_option
from .output import Page, print_json
from .transfers import TransferDisplay, ask_first, listed_paths

if TYPE_CHECKING:
    from latentstore.publishing.records import PublishReport


@click.command("push", short_help="Publish a dataset on the Hub, in a bucket or a folder.")
@click.argument("folder", metavar="DIR")
@click.argument("target", metavar="TARGET")
@click.option("configs", "--config", multiple=True, metavar="NAME", help="Config, may be repeated.  [default: all]")
@click.option("--license", metavar="ID", help="Licence of the dataset, such as cc-by-4.0; needed on the first push.")
@click.option("--license-name", metavar="TEXT", help="With --license other: its name.")
@click.option("--license-link", metavar="URL", help="With --license other: where it can be read.")
@click.option("--pretty-name", metavar="TEXT", help="Title of the card.")
@click.option("--default-config", metavar="NAME", help="Config that is loaded where none is named.")
@click.option("--revision", metavar="BRANCH", help="Branch; it is made where there is none.  [default: main]")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead of changing the main branch.")
@click.option("--tag", metavar="NAME", help="Tag for the result, such as v1.")
@click.option("--private/--public", default=None, help="Who may read a new repository.  [default: as the account says]")
@click.option("-m", "--message", metavar="TEXT", help="Title of the commit.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent and removed.")
@click.option("--force", is_flag=True, help="Also push what fails `latentstore verify --quick`; the card then says so.")
@click.option("--yes", "-y", is_flag=True, help="Make a new repository, or remove files, without asking.")
@json_option
def command(
    folder: str,
    target: str,
    *,
    configs: tuple[str, ...],
    license: str | None,  # noqa: A002 (the option's name)
    license_name: str | None,
    license_link: str | None,
    pretty_name: str | None,
    default_config: str | None,
    yes: bool,
    as_json: bool,
    **kept: Any,
) -> None:
    """Publish the sealed configs in DIR; only what is not there yet is sent.

    TARGET is a Hub dataset repository (user/repo), a URL that can be written to (s3://bucket/folder) or a folder
    (./folder). Other configs that are there stay, and the card names them all; what people wrote on it stays as well.
    Shards that a config does not have any more are removed in the same commit. Stopped for whatever reason, the same
    command continues.

    A token for the Hub is that of `hf auth login`, or HF_TOKEN.

    \b
    Examples:
      latentstore push out user/scenes-latents --license cc-by-4.0
      latentstore push out user/scenes-latents --config synthetic-demo --tag v1
      latentstore push out user/scenes-latents --dry-run
      latentstore push out s3://bucket/scenes-latents
    """
    from latentstore import CardChoices, publish

    choices = CardChoices(
        license=license,
        license_name=license_name,
        license_link=license_link,
        pretty_name=pretty_name,
        default_config=default_config,
    )
    with TransferDisplay() as display:
        report = publish(
            folder,
            target,
            configs or None,
            choices=choices,
            confirm=ask_first(display, yes=yes),
            progress=display,
            **kept,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        _summary(report, _verifiable(target, report.pull_request_revision or kept["revision"]))


def _verifiable(target: str, revision: str | None) -> str:
    """What `verify` takes for the place and the branch or pull request that were pushed to."""
    return f"{target}@{revision}" if revision and not target.endswith(f"@{revision}") else target


def _summary(report: PublishReport, verifiable: str) -> None:
    page = Page()
    names = ", ".join(report.configs)
    if report.dry_run:
        page.heading(f"Would push {names} to {report.url}" + (" (a new repository)" if report.creates else ""))
    elif not report.sent and not report.deleted:
        page.heading(f"Nothing to send: {report.url} has {names} as it is here")
    elif report.pull_request:
        page.heading(f"Opened a pull request with {names}: {report.pull_request}")
    else:
        page.heading(f"Pushed {names} to {report.url}")
    page.line()
    replaced = len(report.sent) - len(report.added)
    told = f": {len(report.added):,} new, {replaced:,} in the place of other versions" if replaced else ""
    pairs = listed_paths("to send" if report.dry_run else "sent", report.sent, report.bytes, told)
    pairs += listed_paths("to remove" if report.dry_run else "removed", report.deleted)
    pairs += [("already there", f"{len(report.skipped):,} of {len(report.skipped) + len(report.sent):,} files")]
    pairs += [("commit", report.commit)] if report.commit and not report.dry_run else []
    pairs += [("tags", ", ".join(report.tags))] if report.tags else []
    for config, failed in report.failed.items():
        pairs += [("FAILED", f"{config}: {message}") for message in failed]
    page.pairs(pairs)
    if not report.dry_run:
        page.line()
        page.line("Check it:")
        page.code([f"latentstore verify {shlex.quote(verifiable)}"])
    page.print()
