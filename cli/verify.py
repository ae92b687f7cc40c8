"""`latentstore verify`: whether a dataset is what its manifest says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .named_rows import source_and_vae_rows
from .options import (
    json_option,
    location_argument,
    metric_weights_option,
    recorded_source_option,
    seed_option,
    trust_option,
    vae_location_option,
)
from .output import Page, print_json
from .progress import CheckDisplay
from .show import configs_at
from .value_kinds import Device, device_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latentstore import VerifyReport
    from latentstore.checks.interface import Finding

FINDINGS_SHOWN = 10
"""Of each check; ``--json`` gives all."""


@click.command("verify", short_help="Check that a dataset is what its manifest says.")
@location_argument
@click.option(
    "--quick",
    is_flag=True,
    help="Only the manifest, which files there are and how large, and the index: no shard is opened.",
)
@click.option("--full", is_flag=True, help="Measure every row again, and hash every source picture.")
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    metavar="N",
    help="Rows that are decoded and measured again, against the source's own pictures; none with 0.",
)
@seed_option("Which rows are drawn for that.")
@recorded_source_option("All of them are hashed then.")
@vae_location_option
@trust_option
@click.option(
    "--device", type=Device(), default="cpu", show_default=True, help="What decodes: cpu, cuda, cuda:1, or auto."
)
@metric_weights_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    location: str,
    *,
    config: str | None,
    quick: bool,
    full: bool,
    sample: int,
    seed: int,
    source: str | None,
    vae_location: str | None,
    trust: bool,
    device: str,
    metric_weights: str | None,
    as_json: bool,
) -> None:
    """Check that a latent dataset is what its manifest says, and that no more was lost than it says.

    LOCATION is the folder of a repository, or of one config in it: a folder of this machine, user/repo[@revision] on
    the Hub (hub:user/repo where a folder is called so), or a URL; of what lies elsewhere nothing is kept. Every shard
    is read once and hashed, and a sample of rows is decoded and measured again. Exit code 1 where a check failed. A
    check that could not be run, because the source's pictures or the VAE are not at hand, says so and is no failure,
    and neither is a warning; see `latentstore list checks`.

    A dataset names its source and its VAE, and whoever made it chose the names. Sources and VAEs of the tables are
    opened; any other folder or repository only where --source, --vae-location or --trust says so.

    A manifest is not signed: who changes data and manifest together, where nothing outside speaks of it, is not found
    out. Compare the sha256 of manifest.json with one that you trust.

    \b
    Examples:
      latentstore verify out
      latentstore verify out --quick
      latentstore verify out --trust
      latentstore verify user/repo@v1.0 --quick
      latentstore verify out --config synthetic-demo --sample 100
      latentstore verify out --full --source ./resisc45 --json
    """
    from latentstore import verify

    if quick and full:
        raise click.UsageError("--quick and --full exclude each other.")
    reports = []
    with CheckDisplay() as display:
        for name in configs_at(location, config):
            source_found, vae_found = source_and_vae_rows(location, name, source, vae_location, trust=trust)
            reports.append(
                verify(
                    location,
                    name,
                    depth="quick" if quick else "full" if full else "normal",
                    sample=sample,
                    seed=seed,
                    source=source_found,
                    vae=vae_found,
                    metric_weights=Path(metric_weights) if metric_weights else None,
                    device=device_name(device),
                    trust=trust,
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
            _findings(page, f"FAILED {result.check}", result.findings, "bold red")
        if result.warnings:
            _findings(page, f"warning of {result.check}", result.warnings, "yellow")


def _verdict(report: VerifyReport) -> str:
    counts = [(sum(result.status == word for result in report.results), shown) for word, shown in WORDS.items()]
    warnings = sum(bool(result.warnings) for result in report.results)
    counts.append((warnings, "warning" if warnings == 1 else "warnings"))
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def _findings(page: Page, title: str, findings: Sequence[Finding], style: str) -> None:
    page.line()
    page.line(title, style=style)
    page.pairs([(finding.file or "-", finding.message) for finding in findings[:FINDINGS_SHOWN]])
    if len(findings) > FINDINGS_SHOWN:
        page.line(f"  and {len(findings) - FINDINGS_SHOWN:,} more; --json lists all")
