"""`latentstore fetch`: the networks that some metrics need, downloaded and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import json_option
from .output import Page, note, print_json
from .value_kinds import RowName

if TYPE_CHECKING:
    from latentstore.metrics.weights import WeightsFile


@click.command("fetch", short_help="Download the networks that LPIPS and FID need.")
@click.argument("folder", type=click.Path(file_okay=False), metavar="FOLDER")
@click.argument("names", nargs=-1, metavar="[NAME]...", type=RowName("latentstore.metrics.table", "WEIGHTS"))
@json_option
def command(folder: str, names: tuple[WeightsFile, ...], *, as_json: bool) -> None:
    """Download the networks that some metrics need into FOLDER, each checked against its sha256.

    NAME is alexnet (LPIPS), vgg16 (LPIPS with VGG) or inception (FID, KID); all of them where none is named. What is
    there already is not downloaded again. Nothing else of latentstore downloads them: hand FOLDER over with
    --metric-weights, or in the environment variable LATENTSTORE_METRIC_WEIGHTS.

    \b
    Examples:
      latentstore fetch ./metric-weights
      latentstore fetch ./metric-weights alexnet
      latentstore compare ./photos --vae demo --metric-weights ./metric-weights
    """
    from latentstore.metrics.table import WEIGHTS
    from latentstore.metrics.weights import fetch

    fetched = []
    for row in names or tuple(WEIGHTS.values()):
        note(f"{row.file}: {row.bytes / 1e6:,.0f} MB, {row.licence}")
        fetched.append((row, fetch(row, Path(folder))))
    if as_json:
        print_json([{"name": row.name, "file": str(path), "sha256": row.sha256} for row, path in fetched])
        return
    page = Page()
    page.pairs([(row.name, str(path)) for row, path in fetched])
    page.print()
