"""`latentstore verify`: whether a dataset is what its manifest says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import json_option, location_argument, metric_weights_option, source_location_option, vae_location_option
from .output import Page, print_json
from .progress import CheckDisplay
from .show import configs_at

if TYPE_CHECKING:
    from latentstore import VerifyReport
    from latentstore.manifest import Manifest
    from latentstore.sources.interface import SourceRow
    from latentstore.vaes.interface import VaeRow
    from latentstore.verify import CheckResult

FINDINGS_SHOWN = 10
"""Of each check; ``--json`` gives all."""


@click.command("verify", short_help="Check that a dataset is what its manifest says.")
@location_argument
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    metavar="N",
    help="Rows that are decoded and measured again, against the source's own pictures.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Which rows are drawn for that.",
)
@source_location_option
@vae_location_option
@metric_weights_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    location: str,
    *,
    config: str | None,
    sample: int,
    seed: int,
    source_location: str | None,
    vae_location: str | None,
    metric_weights: str | None,
    as_json: bool,
) -> None:
    """Check that a latent dataset is what its manifest says, and that no more was lost than it says.

    LOCATION is the folder of a repository, or of one config in it. Exit code 1 where a check failed. A check that could
    not be run, because the source's pictures or the VAE are not at hand, says so and is no failure; see `latentstore
    list checks`.

    \b
    Examples:
      latentstore verify out
      latentstore verify out --config synthetic-demo --sample 100
      latentstore verify out --source-location ./resisc45 --json
    """
    from latentstore import verify

    reports = []
    with CheckDisplay() as display:
        for name in configs_at(location, config):
            source, vae = _rows(location, name, source_location, vae_location)
            reports.append(
                verify(
                    location,
                    name,
                    sample=sample,
                    seed=seed,
                    source=source,
                    vae=vae,
                    metric_weights=Path(metric_weights) if metric_weights else None,
                    progress=display.of(name or ""),
                )
            )
    if as_json:
        found = [report.to_dict() for report in reports]
        print_json(found[0] if len(found) == 1 else found)
    else:
        page = Page()
        for report in reports:
            _section(page, report)
        page.print()
    ctx.exit(0 if all(report.ok for report in reports) else 1)


def _rows(
    location: str, config: str | None, source_location: str | None, vae_location: str | None
) -> tuple[SourceRow | None, VaeRow | None]:
    """Rows for the folders that were named; None where the manifest's own are meant, or cannot be known."""
    from latentstore import LatentStoreError, open_store
    from latentstore.sources.table import source_of

    if source_location is None and vae_location is None:
        return None, None
    try:
        manifest = open_store(location, config).manifest
    except LatentStoreError:  # verify tells it better
        return None, None
    source = source_of(manifest.source).at(source_location) if source_location else None
    return source, _vae_at(manifest, vae_location) if vae_location else None


def _vae_at(manifest: Manifest, location: str) -> VaeRow:
    from latentstore.vaes.table import VAES, kl_checkpoint

    if manifest.vae.name in VAES:
        return VAES[manifest.vae.name].at(location)
    return replace(kl_checkpoint(location), name=manifest.vae.name)


STYLES = {"passed": "", "failed": "bold red", "not run": "yellow"}
WORDS = {"passed": "passed", "failed": "FAILED", "not run": "not run"}


def _section(page: Page, report: VerifyReport) -> None:
    page.heading(f"{report.config or report.location}: {_verdict(report)}")
    page.table(
        ["check", "result", "seconds>", "note"],
        [[result.check, WORDS[result.status], f"{result.seconds:.2f}", result.note] for result in report.results],
        styles=[STYLES[result.status] for result in report.results],
    )
    for result in report.results:
        if result.findings:
            _findings(page, result)


def _verdict(report: VerifyReport) -> str:
    count = {word: sum(result.status == word for result in report.results) for word in WORDS}
    return ", ".join(f"{count[status]} {WORDS[status]}" for status in WORDS if count[status])


def _findings(page: Page, result: CheckResult) -> None:
    page.line()
    page.line(f"FAILED {result.check}", style="bold red")
    shown = [(finding.file or "-", finding.message) for finding in result.findings[:FINDINGS_SHOWN]]
    page.pairs(shown)
    if len(result.findings) > FINDINGS_SHOWN:
        page.line(f"  and {len(result.findings) - FINDINGS_SHOWN:,} more; --json lists all")
