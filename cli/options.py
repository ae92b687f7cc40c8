"""What commands share on their command lines: options as decorators, and how sizes, names, SOURCE and --vae are read.

Nothing of the library is imported before a value is read, so that help stays light.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .output import note

if TYPE_CHECKING:
    from collections.abc import Callable

    from latentstore.manifest import Manifest
    from latentstore.named_table import NamedTable
    from latentstore.sources.interface import SourceRow
    from latentstore.vaes.interface import VaeRow

    Kind = click.ParamType[Any]
    Command = TypeVar("Command", bound=Callable[..., Any])
else:
    Kind = click.ParamType  # generic only for type checkers: older versions of click cannot be subscripted

SOURCE_FORMS = (
    "A SOURCE is a name from `latentstore list sources`, a folder of images (./folder), "
    "or a Hub dataset (hub:user/repo)."
)
VAE_FORMS = (
    "A VAE is a name from `latentstore list vaes` (NAME=FOLDER for weights in a local folder), a folder of an "
    "AutoencoderKL checkpoint (./folder), "
    "or one on the Hub (hub:user/repo or hub:user/repo:subfolder)."
)
AUTO = "auto"
FOLDER = click.Path(exists=True, file_okay=False)


# Kinds of values -----------------------------------------------------------------------------------------------------


class Size(Kind):
    """``256`` or ``256x300``, as (height, width); a single number is (side,) where it means the shorter side."""

    name = "size"

    def __init__(self, *, shorter_side: bool = False) -> None:
        self._shorter_side = shorter_side

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        """As it stands in the help."""
        return "N|HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The sides, all above zero."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,6})(?:[xX](\d{1,6}))?", value.strip())
        sides = tuple(int(side) for side in match.groups() if side) if match else ()
        if not sides or 0 in sides:
            self.fail(f"expected a side such as 256, or height x width such as 256x300, found {value!r}.", param, ctx)
        return sides if len(sides) == 2 or self._shorter_side else (sides[0], sides[0])


class RowName(Kind):
    """A name from one of the library's tables, as its row."""

    name = "name"

    def __init__(self, module: str, table: str) -> None:
        self._module = module
        self._table = table

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The row; a name that does not exist is a mistake on the command line."""
        if not isinstance(value, str):
            return value
        from latentstore.errors import UnknownNameError

        table: NamedTable[Any] = getattr(import_module(self._module), self._table)
        try:
            return self._rows(table, value)
        except UnknownNameError as error:
            self.fail(str(error), param, ctx)

    def _rows(self, table: NamedTable[Any], text: str) -> Any:
        return table[text]


class StorageName(RowName):
    """A storage, as its row; ``auto`` is None: whichever is small enough and good enough."""

    def __init__(self) -> None:
        super().__init__("latentstore.storage.table", "STORAGES")

    def _rows(self, table: NamedTable[Any], text: str) -> Any:
        return table[text] if text != AUTO else AutoStorage()


class AutoStorage:
    """Stands for ``--storage auto`` until the plan is made: click takes None for an option that was not given."""

    def __str__(self) -> str:
        return AUTO


class Step(Kind):
    """A share of a standard deviation: ``1/16`` or ``0.0625``."""

    name = "step"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        """As it stands in the help."""
        return "1/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, above zero."""
        if isinstance(value, float):
            return value
        try:
            step = float(Fraction(value.strip()))
        except (ValueError, ZeroDivisionError):
            step = 0.0
        if step <= 0:
            self.fail(f"expected a share of a standard deviation such as 1/16 or 0.05, found {value!r}.", param, ctx)
        return step


class RowNames(RowName):
    """Names from a table with commas between them, as their rows; ``none`` for no row."""

    def _rows(self, table: NamedTable[Any], text: str) -> Any:
        names = [name.strip() for name in text.split(",")]
        return () if names == ["none"] else tuple(table[name] for name in dict.fromkeys(names))


class ViewNames(RowNames):
    """Views with commas between them, as their names; ``d4`` for all eight."""

    def __init__(self) -> None:
        super().__init__("latentstore.views", "VIEWS")

    def _rows(self, table: NamedTable[Any], text: str) -> Any:
        from latentstore.views import D4

        return D4 if text.strip() == "d4" else tuple(row.name for row in super()._rows(table, text))


class Assignment(Kind):
    """``key=value``; the value is JSON where it can be, else text."""

    name = "key=value"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        """As it stands in the help."""
        return "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Key and value."""
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not equals or not key:
            self.fail(f"expected KEY=VALUE such as count=64, found {value!r}.", param, ctx)
        try:
            return key, json.loads(text, parse_constant=str)
        except json.JSONDecodeError:
            return key, text


class Device(Kind):
    """``cpu``, ``cuda``, ``cuda:1`` or ``auto``."""

    name = "device"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        """As it stands in the help."""
        return "cpu|cuda|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, checked for its form only."""
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            self.fail(f"expected cpu, cuda, cuda:1 or auto, found {value!r}.", param, ctx)
        return str(value)


# Options that several commands have ----------------------------------------------------------------------------------


def json_option(command: Command) -> Command:
    """``--json``."""
    return click.option("as_json", "--json", is_flag=True, help="Print one JSON value instead of tables.")(command)


def location_argument(command: Command) -> Command:
    """LOCATION and ``--config``."""
    text = "Config to look at, where LOCATION holds several.  [default: all of them]"
    command = click.option("--config", metavar="NAME", help=text)(command)
    return click.argument("location", metavar="LOCATION")(command)


def source_location_option(command: Command) -> Command:
    """``--source-location``."""
    text = "Folder to read the source's pictures from, where it was downloaded by hand or has moved."
    return click.option("--source-location", type=FOLDER, metavar="PATH", help=text)(command)


def vae_location_option(command: Command) -> Command:
    """``--vae-location``."""
    text = "Folder to read the VAE's weights from (config.json and diffusion_pytorch_model.safetensors)."
    return click.option("--vae-location", type=FOLDER, metavar="PATH", help=text)(command)


def source_option_option(command: Command) -> Command:
    """``--source-option KEY=VALUE``, repeatable."""
    text = "Option of the source's reader, such as count=64 for synthetic scenes or label=label_2; may be repeated."
    return click.option("--source-option", "source_options", multiple=True, type=Assignment(), help=text)(command)


def preparation_options(command: Command) -> Command:
    """``--resize``, ``--crop`` and ``--tile``, in the order in which they are applied."""
    command = click.option("--tile", type=Size(), help="Cut into tiles, after cropping.")(command)
    text = "Centre crop, after resizing; smaller pictures are skipped and listed."
    command = click.option("--crop", type=Size(), help=text)(command)
    text = "Scale so that the shorter side is N, or to HxW exactly."
    return click.option("--resize", type=Size(shorter_side=True), help=text)(command)


def views_option(command: Command) -> Command:
    """``--views``."""
    text = (
        "Store every picture in these views, each encoded from the transformed pixels, to be drawn from in training: "
        "identity,hflip,vflip,rot90,rot180,rot270,transpose,antitranspose, or `d4` for all eight. So many times the "
        "rows and the bytes.  [default: the picture as it is]"
    )
    return click.option("--views", type=ViewNames(), default=(), metavar="NAMES", help=text)(command)


def thumbnail_option(command: Command) -> Command:
    """``--thumbnail``."""
    text = (
        "Longest side, in pixels, of a thumbnail of each decoded latent, so that whoever browses the dataset sees "
        "pictures; about 0.9 kB each; 0 for none."
    )
    return click.option(
        "--thumbnail", type=click.IntRange(0, 1024), default=64, show_default=True, metavar="N", help=text
    )(command)


def storage_options(command: Command) -> Command:
    """``--storage``, ``--step``, ``--max-psnr-drop`` and ``--calibration``."""
    text = "Pictures that the steps of int8, and the choice of `auto`, are measured on.  [default: 32]"
    command = click.option("--calibration", type=click.IntRange(min=1), metavar="N", help=text)(command)
    text = (
        "Mean PSNR that storing may cost: what `auto` keeps to, and what the whole build is held against; with "
        "--strict a dataset that lost more is not sealed.  [default: 0.02 for auto]"
    )
    command = click.option("--max-psnr-drop", type=click.FloatRange(min=0), metavar="DB", help=text)(command)
    text = "Of int8: the step, as a share of each channel's standard deviation.  [default: 1/16]"
    command = click.option("--step", type=Step(), help=text)(command)
    text = (
        "Number format of the latents, see `latentstore list storages`; `auto` takes the smallest that keeps "
        "--max-psnr-drop."
    )
    return click.option(
        "--storage", type=StorageName(), default="float16", show_default=True, metavar="NAME", help=text
    )(command)


def metric_weights_option(command: Command) -> Command:
    """``--metric-weights``, or the environment variable LATENTSTORE_METRIC_WEIGHTS."""
    text = "Folder with the networks that some metrics need, such as LPIPS."
    return click.option(
        "--metric-weights",
        type=FOLDER,
        envvar="LATENTSTORE_METRIC_WEIGHTS",
        show_envvar=True,
        metavar="FOLDER",
        help=text,
    )(command)


# From what was typed to rows -----------------------------------------------------------------------------------------


def source_row(text: str, *, location: str | None = None, options: dict[str, Any] | None = None) -> SourceRow:
    """The row that SOURCE means, with these options of its reader; UsageError where it has none of the three forms."""
    from latentstore.named_table import unknown_name
    from latentstore.sources.table import SOURCES, folder_source, hub_source

    options = options or {}
    if text.startswith("hub:"):
        _refuse_location("--source-location", location, text)
        row = hub_source(_hub_dataset(text.removeprefix("hub:")))
    elif text in SOURCES:
        _say_table_wins("source", text)
        row = SOURCES[text]
        if location is not None and not row.location:
            raise click.UsageError(f"Source {text!r} reads no files, so --source-location has no meaning for it.")
        row = row.at(location) if location is not None else row
    elif _is_path(text):
        _refuse_location("--source-location", location, text)
        row = folder_source(text)
    else:
        raise click.UsageError(f"{unknown_name('source', text, SOURCES)} {SOURCE_FORMS}")
    return replace(row, options={**row.options, **options})


def vae_row(text: str, *, location: str | None = None) -> VaeRow:
    """The row that --vae means; UsageError where it has none of the three forms, VaeError where nothing is there.

    NAME=FOLDER is a VAE of the table with its weights in a local folder, as --vae-location says for one.
    """
    from latentstore.errors import VaeError
    from latentstore.named_table import unknown_name
    from latentstore.vaes.table import VAES, kl_checkpoint

    name, equals, folder_named = text.partition("=")
    if equals and name in VAES:
        _refuse_location("--vae-location", location, text)
        if not Path(folder_named).expanduser().is_dir():
            raise VaeError(f"--vae {text}: there is no folder {folder_named!r} with the weights of {name}.")
        return vae_row(name, location=folder_named)
    if text.startswith("hub:"):
        _refuse_location("--vae-location", location, text)
        match = re.fullmatch(r"hub:([\w.-]+/[\w.-]+)(?:@([^:]+))?(?::(.+))?", text)
        if match is None:
            raise click.UsageError(f"Expected hub:user/repo or hub:user/repo:subfolder, found {text!r}. {VAE_FORMS}")
        return kl_checkpoint(match[1], revision=match[2], subfolder=match[3] or "")
    if text in VAES:
        _say_table_wins("VAE", text)
        row = VAES[text]
        if location is not None and not (row.repo or row.packaged):
            raise click.UsageError(f"VAE {text!r} has no weights, so --vae-location has no meaning for it.")
        return row.at(location) if location is not None else row
    if not _is_path(text):
        raise click.UsageError(f"{unknown_name('VAE', text, VAES)} {VAE_FORMS}")
    _refuse_location("--vae-location", location, text)
    folder = Path(text).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        hint = f" For the Hub's {text}, type hub:{text}." if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text) else ""
        raise VaeError(f"--vae {text} {what}: expected the folder of an AutoencoderKL checkpoint.{hint}")
    return kl_checkpoint(text)


def source_and_vae_rows(
    location: str, config: str | None, source: str | None, vae_location: str | None
) -> tuple[SourceRow | None, VaeRow | None]:
    """Rows for what --source and --vae-location name, to measure a dataset again; None where its manifest's are meant.

    None too where its manifest cannot be read: the command then says so better.
    """
    from latentstore import LatentStoreError, open_store

    if source is None and vae_location is None:
        return None, None
    named = source_row(source) if source is not None else None
    try:
        manifest = open_store(location, config).manifest
    except LatentStoreError:
        return None, None
    return (
        _source_at(manifest, named) if named is not None else None,
        _vae_at(manifest, vae_location) if vae_location else None,
    )


def device_name(device: str) -> str:
    """The device that ``auto`` stands for; RequestError for a CUDA device that is not there."""
    if device == "cpu":
        return device
    import torch

    from latentstore.errors import RequestError

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if found else "cpu"
    if int(device.partition(":")[2] or 0) >= found:
        raise RequestError(f"There is no device {device!r} here: {found} CUDA devices found; type --device cpu.")
    return device


def _source_at(manifest: Manifest, named: SourceRow) -> SourceRow:
    """The manifest's source, with its options, read from where the named one is; the named one where it is another."""
    from latentstore.sources.image_folder import open_image_folder
    from latentstore.sources.table import source_of

    recorded = source_of(manifest.source)
    if not recorded.location:
        return named
    # A folder may hold anything that was downloaded by hand: the recorded reader knows how it is laid out.
    if named.reader is open_image_folder or named.reader.__name__ == manifest.source.reader:
        return replace(recorded, location=named.location, revision=named.revision)
    return named


def _vae_at(manifest: Manifest, location: str) -> VaeRow:
    from latentstore.vaes.table import VAES, kl_checkpoint

    if manifest.vae.name in VAES:
        return VAES[manifest.vae.name].at(location)
    return replace(kl_checkpoint(location), name=manifest.vae.name)


def _hub_dataset(repo: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@.+)?", repo) and not repo.startswith((".", "/", "~")):
        found = f"hub:{repo}"
        raise click.UsageError(
            f"Expected hub:user/repo, hub:user/repo@revision or hub:./folder, found {found!r}. {SOURCE_FORMS}"
        )
    return repo


def _is_path(text: str) -> bool:
    separators = [separator for separator in (os.sep, os.altsep) if separator]
    return text.startswith((".", "~")) or any(separator in text for separator in separators) or Path(text).exists()


def _say_table_wins(kind: str, text: str) -> None:
    if Path(text).exists():
        note(f"Taking the {kind} {text!r} of the table; for what lies here under that name, type ./{text}")


def _refuse_location(option: str, location: str | None, text: str) -> None:
    if location is not None:
        raise click.UsageError(f"{option} goes with a name from the table; {text!r} says itself where to read.")
