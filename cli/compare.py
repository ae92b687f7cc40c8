"""`latentstore compare`: several VAEs on the same pictures, in tables and figures."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .named_rows import source_row, vae_row
from .options import (
    device_option,
    dtype_option,
    json_option,
    preparation_options,
    seed_option,
    source_location_option,
    source_option_option,
    weights_option,
)
from .output import Page, note, print_json, print_lines
from .progress import BuildDisplay
from .value_kinds import PngFile, RowName, RowNames, device_name

if TYPE_CHECKING:
    from types import TracebackType

    from latentstore.comparison.protocols import ProtocolRow
    from latentstore.comparison.result import Comparison
    from latentstore.storage.interface import StorageRow
    from latentstore.vaes.interface import VaeRow

FIGURE_PICTURES = 4


@click.command("compare", short_help="Compare VAEs on the same images: quality, size, cost.")
@click.argument("source", metavar="SOURCE")
@click.option(
    "--vae",
    "vaes",
    required=True,
    multiple=True,
    metavar="NAME",
    help="VAE to measure; may be repeated. The three forms of `latentstore build`.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Measure a seeded sample of N pictures only.")
@click.option(
    "--protocol",
    type=RowName("latentstore.comparison.protocols", "PROTOCOLS"),
    default="ours",
    show_default=True,
    metavar="NAME",
    help="ours: how this project measures; vaes4rs: how the study VAEs4RS does, under other column names.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Keep the built datasets in DIR, and use those that are there.  [default: a temporary folder]",
)
@click.option(
    "--figure",
    type=PngFile(dir_okay=False),
    metavar="FILE.png",
    help="Draw originals and reconstructions into FILE.png, and quality against bits per pixel, with JPEG, WebP and "
    "AVIF, into FILE-rate.png (not where --rate draws it).",
)
@click.option(
    "--rate",
    type=PngFile(dir_okay=False),
    metavar="FILE.png",
    help="Measure each VAE's latents in several storages, on up to 64 pictures, and draw quality against bits per "
    "pixel into FILE.png, beside JPEG, WebP and AVIF of the same pictures.",
)
@click.option(
    "--storages",
    type=RowNames("latentstore.storage.table", "STORAGES"),
    metavar="NAMES",
    help="Storages that --rate measures, with commas between them: float16,int8. int8 is measured with steps of 1/2 to "
    "1/32 of each channel's standard deviation.  [default: all of them]",
)
@weights_option(
    *("--weights", "--metric-weights", "weights"),
    text="Folder with the files that LPIPS and FID want; without them they are shown as unavailable.",
)
@source_location_option
@source_option_option
@preparation_options
@seed_option("Of the sample, of the order, of draws from a posterior, and of the pictures in the figure.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Pictures encoded at once; the PSNR of vaes4rs depends on it.  [default: 16]",
)
@device_option("the VAEs compute")
@dtype_option("Precision of the VAEs' arithmetic.  [default: float32; bfloat16 for vaes4rs]")
@click.option("--markdown", is_flag=True, help="Print Markdown instead of tables.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, source: str, vaes: tuple[str, ...], *, markdown: bool, as_json: bool, **wanted: Any
) -> None:
    """Build SOURCE with every VAE, and put side by side what each costs, keeps and loses.

    SOURCE is a name from `latentstore list sources`, a folder of images, or hub:user/repo, as for `latentstore build`.
    A VAE that cannot be loaded is a line that says why; the others are measured, and the exit code is 1. For resisc45
    and aid the numbers that the study VAEs4RS published stand beside those measured here, marked where they were
    measured in another way.

    \b
    Examples:
      latentstore compare synthetic --vae pool8 --vae demo --limit 12
      latentstore compare resisc45 --vae sdxl --vae flux1 --limit 500 --figure vaes.png
      latentstore compare ./crops --vae demo --rate rate.png --storages float16,int8
      latentstore compare aid --vae sd21 --protocol vaes4rs --weights . --markdown
    """
    if markdown and as_json:
        raise click.UsageError("--json and --markdown are two forms of one result: choose one.")
    files = _figure_files(wanted.pop("figure"), wanted.pop("rate"), chose_storages=wanted["storages"] is not None)
    comparison = _compared(source, vaes, files=files, **wanted)
    figures = _drawn(comparison, files)
    if as_json:
        from latentstore.comparison.report import to_json

        print_json({**to_json(comparison), "figures": [str(path) for path in figures]})
    elif markdown:
        from latentstore.comparison.report import markdown as rendered

        print_lines(rendered(comparison))
    else:
        _page(comparison, figures).print()
    ctx.exit(0 if comparison.ok else 1)


@dataclass(frozen=True)
class FigureFiles:
    """Where figures are drawn; None for those that are not."""

    pictures: Path | None
    rate: Path | None
    over_storages: bool
    """Whether every VAE is a curve over its storages, and not one point."""


def _figure_files(figure: str | None, rate: str | None, *, chose_storages: bool) -> FigureFiles:
    pictures = Path(figure) if figure else None
    if rate:
        if pictures is not None and pictures.absolute() == Path(rate).absolute():
            raise click.UsageError("--figure and --rate would write the same file: give one of them another name.")
        return FigureFiles(pictures, Path(rate), over_storages=True)
    if chose_storages:
        raise click.UsageError("--storages chooses what --rate measures: add --rate FILE.png.")
    beside = pictures.with_name(f"{pictures.stem}-rate{pictures.suffix}") if pictures is not None else None
    return FigureFiles(pictures, beside, over_storages=False)


def _compared(
    source: str,
    vaes: tuple[str, ...],
    *,
    files: FigureFiles,
    storages: tuple[StorageRow, ...] | None,
    protocol: ProtocolRow,
    source_location: str | None,
    source_options: tuple[tuple[str, Any], ...],
    resize: tuple[int, ...] | None,
    crop: tuple[int, int] | None,
    tile: tuple[int, int] | None,
    device: str,
    **kept: Any,
) -> Comparison:
    from latentstore import STORAGES, Preparation, compare
    from latentstore.comparison.rate_curves import ENCODERS

    if storages == ():
        raise click.UsageError("--storages none leaves --rate nothing to measure: name a storage, or leave it out.")
    measured = STORAGES.values() if storages is None else storages
    rows = [_vae(text) for text in dict.fromkeys(vaes)]
    with CompareDisplay(len(rows)) as display:
        return compare(
            source_row(source, location=source_location, options=dict(source_options)),
            rows,
            protocol=protocol,
            preparation=Preparation(resize=resize, crop=crop, tile=tile),
            device=device_name(device),
            pictures=FIGURE_PICTURES if files.pictures else 0,
            encoders=list(ENCODERS.values()) if files.rate else (),
            storages=list(measured) if files.over_storages else (),
            progress=display.of,
            **kept,
        )


def _vae(text: str) -> VaeRow:
    """The row; for a checkpoint that cannot be looked into, one that says so when it is loaded, and stops no other."""
    from latentstore.errors import VaeError
    from latentstore.vaes.interface import LoadOptions, Vae, VaeRow

    try:
        return vae_row(text)
    except VaeError as error:
        reason = str(error)

        def refuse(_row: VaeRow, _options: LoadOptions) -> Vae:
            raise VaeError(reason)

        return VaeRow(name=text, family=refuse, channels=0, stride=1, licence="unknown")


def _drawn(comparison: Comparison, files: FigureFiles) -> list[Path]:
    """The figures that were asked for, where there is something to draw: the tables are printed in any case."""
    from latentstore.comparison.figure import pictures_png
    from latentstore.comparison.rate_plot import rate_png
    from latentstore.errors import RequestError

    wanted = [(files.pictures, pictures_png), (files.rate, rate_png)]
    asked = [(path, draw) for path, draw in wanted if path is not None]
    if asked and not comparison.curve_pictures:
        note("No figure was drawn: no VAE was measured.")
        return []
    drawn = []
    for path, draw in asked:
        try:
            path.write_bytes(draw(comparison))
        except RequestError as error:
            note(f"{path} was not drawn: {error}")
            continue
        drawn.append(path)
    return drawn


def _page(comparison: Comparison, figures: list[Path]) -> Page:
    from latentstore.comparison.rate_report import storage_table
    from latentstore.comparison.report import cost_table, published_table, quality_table, sections, title

    page = Page()
    page.heading(title(comparison))
    published, storages = published_table(comparison), storage_table(comparison)
    for table, below in ((quality_table(comparison), 0), (cost_table(comparison), 2), (published, 0), (storages, 0)):
        if table is not None:
            page.heading(table.title)
            page.table(table.columns, table.rows, below=below)
    for heading, remarks in sections(comparison):
        page.heading(heading)
        page.pairs(remarks)
    for path in figures:
        page.line(f"Figure: {path}")
    if comparison.out is not None:
        page.line(f"Kept: {', '.join(vae.config for vae in comparison.vaes if vae.config)} in {comparison.out}")
    return page


@dataclass
class CompareDisplay:
    """Shows the build of one VAE after the other; use it as a context."""

    total: int
    _current: ExitStack = field(default_factory=ExitStack)
    _number: int = 0

    def __enter__(self) -> CompareDisplay:  # noqa: PYI034 (typing.Self is younger than Python 3.10)
        return self

    def of(self, vae: str) -> BuildDisplay:
        """The display of the next VAE's build; the one before is closed."""
        self._current.close()
        self._number += 1
        note(f"{vae}, {self._number} of {self.total}:")
        return self._current.enter_context(BuildDisplay())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._current.__exit__(kind, error, trace)
