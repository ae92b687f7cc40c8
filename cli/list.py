"""`latentstore list`: the rows of the library's tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from .output import Page, print_json

NONE = "-"

Row = dict[str, Any]
"""A row as plain JSON."""


def _vaes() -> list[Row]:
    from latentstore.vaes.table import VAES

    return [
        {
            "name": row.name,
            "channels": row.channels,
            "stride": row.stride,
            "pixel_values_per_latent_value": 3 * row.stride**2 / row.channels,
            "bits_per_pixel_float16": 16 * row.channels / row.stride**2,
            "parameters": row.parameters,
            "gflops_256": row.gflops_256,
            "licence": row.licence,
            "gated": row.gated,
            "repo": row.repo or None,
            "subfolder": row.subfolder or None,
            "revision": row.revision,
            "packaged": bool(row.packaged),
            "class_name": row.class_name,
            "pixel_range": row.pixel_range,
            "stochastic": row.stochastic,
            "normalisation": row.normalisation_kind or None,
            "numbers_from": row.numbers_from or None,
            "pad_to": row.pad_to,
            "float16_safe": row.float16_safe,
            "memory_format": row.memory_format,
            "cpu_dtype": row.cpu_dtype,
            "tiling": row.tiling,
            "summary": row.summary,
        }
        for row in VAES.values()
    ]


def _sources() -> list[Row]:
    from latentstore.sources.table import SOURCES

    return [
        {
            "name": row.name,
            "images": sum(row.expected_images.values()) if row.expected_images else row.options.get("count"),
            "splits": dict(row.expected_images) if row.expected_images else None,
            "classes": row.expected_classes,
            "size": list(row.size) if row.size else None,
            "licence": row.licence,
            "location": row.location or None,
            "options": dict(row.options),
            "homepage": row.homepage or None,
            "citation": row.citation,
        }
        for row in SOURCES.values()
    ]


def _storages() -> list[Row]:
    from latentstore.storage.table import STORAGES

    return [{"name": row.name, "bits": row.bits, "summary": row.summary} for row in STORAGES.values()]


def _containers() -> list[Row]:
    from latentstore.containers.table import CONTAINERS

    return [
        {"name": row.name, "suffix": row.suffix, "layouts": list(row.layouts), "summary": row.summary}
        for row in CONTAINERS.values()
    ]


def _metrics() -> list[Row]:
    from latentstore.metrics.table import METRICS, SET_METRICS

    return [
        {
            "name": row.name,
            "title": row.title,
            "of": of,
            "unit": row.unit or None,
            "higher_is_better": row.higher_is_better,
            "weights": [file.name for file in row.weights],
            "protocol": row.protocol,
        }
        for of, table in (("picture", METRICS), ("set", SET_METRICS))
        for row in table.values()
    ]


def _checks() -> list[Row]:
    from latentstore.checks.table import CHECKS

    return [
        {"name": row.name, "depth": row.depth, "summary": row.summary, "needs": list(row.needs)}
        for row in CHECKS.values()
    ]


def _engines() -> list[Row]:
    from latentstore.engines.table import ENGINES

    return [
        {"name": row.name, "placed": row.placed, "extra": row.extra or None, "summary": row.summary}
        for row in ENGINES.values()
    ]


def _vae_cells(row: Row) -> list[str]:
    where = "/".join(part for part in (row["repo"], row["subfolder"]) if part)
    licence = f"{row['licence']}, gated" if row["gated"] else row["licence"]
    return [
        row["name"],
        str(row["channels"]),
        str(row["stride"]),
        f"1:{row['pixel_values_per_latent_value']:g}",
        f"{row['bits_per_pixel_float16']:g}",
        NONE if row["parameters"] is None else f"{row['parameters'] / 1e6:.1f} M",
        NONE if row["gflops_256"] is None else f"{row['gflops_256']:.2f}",
        licence,
        where or ("shipped inside" if row["packaged"] else "no weights"),
        row["summary"],
    ]


def _source_cells(row: Row) -> list[str]:
    return [
        row["name"],
        NONE if row["images"] is None else f"{row['images']:,}",
        NONE if row["classes"] is None else str(row["classes"]),
        "x".join(map(str, row["size"])) if row["size"] else "any",
        row["licence"] or "not stated",
        f"hub:{row['location']}" if row["location"] else "drawn by latentstore",
    ]


def _metric_cells(row: Row) -> list[str]:
    better = "higher" if row["higher_is_better"] else "lower"
    return [row["name"], row["unit"] or NONE, better, row["protocol"]]


@dataclass(frozen=True)
class Listing:
    """One table: its rows, and how they are shown to people."""

    rows: Callable[[], list[Row]]
    columns: tuple[str, ...]
    cells: Callable[[Row], list[str]]
    below: int = 0
    """How many of the last columns go below each row on a narrow terminal."""
    remark: str = ""


LISTINGS = {
    "vaes": Listing(
        _vaes,
        ("name", "channels>", "stride>", "kept>", "bits>", "params>", "GFLOPs>", "licence", "where from", "what"),
        _vae_cells,
        below=3,
        remark=(
            "kept: values of the latent to values of the picture. bits: per pixel, at float16, uncompressed. "
            "GFLOPs: encode and decode of 256x256. More with --json."
        ),
    ),
    "sources": Listing(
        _sources, ("name", "images>", "classes>", "size", "licence", "where from"), _source_cells, below=2
    ),
    "storages": Listing(
        _storages, ("name", "bits>", "what"), lambda row: [row["name"], str(row["bits"]), row["summary"]]
    ),
    "containers": Listing(
        _containers,
        ("name", "layouts", "what"),
        lambda row: [row["name"], ", ".join(row["layouts"]), row["summary"]],
    ),
    "metrics": Listing(_metrics, ("name", "unit", "better", "how it is measured"), _metric_cells),
    "engines": Listing(
        _engines,
        ("name", "needs", "what"),
        lambda row: [row["name"], f"latentstore[{row['extra']}]" if row["extra"] else NONE, row["summary"]],
        remark="Whatever the engine and the number of workers, the bytes are the same.",
    ),
    "checks": Listing(
        _checks,
        ("name", "from depth", "what must hold", "needs"),
        lambda row: [row["name"], row["depth"], row["summary"], ", ".join(row["needs"]) or NONE],
        remark="Depth quick runs with `verify --quick` too. A check is not run where one that it needs failed; where "
        "that one failed for a shard, only this shard is left out.",
    ),
}


@click.command("list", short_help="List VAEs, sources, storages, containers, metrics, engines, checks.")
@click.argument("what", type=click.Choice(list(LISTINGS)), metavar="|".join(LISTINGS))
@click.option("as_json", "--json", is_flag=True, help="Print one JSON value instead of a table.")
def command(what: str, *, as_json: bool) -> None:
    """What there is to choose from: VAEs, sources, storages, containers, metrics, engines, checks.

    \b
    Examples:
      latentstore list vaes
      latentstore list sources --json
    """
    listing = LISTINGS[what]
    rows = listing.rows()
    if as_json:
        print_json(rows)
        return
    page = Page()
    page.table(listing.columns, [listing.cells(row) for row in rows], below=listing.below)
    if listing.remark:
        page.line()
        page.line(f"  {listing.remark}")
    page.print()
