"""Options that several commands have, each in one place; what differs between two commands is an argument here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from .value_kinds import FOLDER, Assignment, Device, RowName, Size, Step, StorageName, ViewNames

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = TypeVar("Command", bound=Callable[..., Any])

AS_IT_IS = "  [default: as it is]"


# What is read and written --------------------------------------------------------------------------------------------


def json_option(command: Command) -> Command:
    """``--json``."""
    return click.option("as_json", "--json", is_flag=True, help="Print one JSON value instead of tables.")(command)


def location_argument(command: Command) -> Command:
    """LOCATION and ``--config``."""
    text = "Config to look at, where LOCATION holds several.  [default: all of them]"
    command = click.option("--config", metavar="NAME", help=text)(command)
    return click.argument("location", metavar="LOCATION")(command)


def out_option(result: str) -> Callable[[Command], Command]:
    """``--out`` of a command that writes this, a dataset or a result, into a repository folder."""
    text = f"Repository folder; the {result} goes into DIR/CONFIG. It is created where it does not exist."
    return click.option("--out", required=True, type=click.Path(file_okay=False), metavar="DIR", help=text)


def source_location_option(command: Command) -> Command:
    """``--source-location``."""
    text = "Folder to read the source's pictures from, where it was downloaded by hand or has moved."
    return click.option("--source-location", type=FOLDER, metavar="PATH", help=text)(command)


def recorded_source_option(more: str = "") -> Callable[[Command], Command]:
    """``--source``: the pictures of a dataset that is there already; ``more`` is one more sentence on it."""
    text = (
        "Where to read the source's pictures: a folder, hub:user/repo[@revision] or a "
        f"name of `latentstore list sources`.{more and f' {more}'}"
    )
    return click.option("--source", "--source-location", "source", metavar="SOURCE", help=text)


def source_option_option(command: Command) -> Command:
    """``--source-option KEY=VALUE``, repeatable."""
    text = "Option of the source's reader, such as count=64 for synthetic scenes or label=label_2; may be repeated."
    return click.option("--source-option", "source_options", multiple=True, type=Assignment(), help=text)(command)


def follow_links_option(command: Command) -> Command:
    """``--follow-links``."""
    text = (
        "Read what links that lead out of SOURCE lead to; without it they are skipped and listed, because a folder of "
        "somebody else's may link to your own files."
    )
    return click.option("--follow-links", is_flag=True, help=text)(command)


def columns_options(command: Command) -> Command:
    """``--columns`` and ``--drop-columns`` of a Hub source."""
    text = "Further columns of a Hub dataset to leave out, with commas between them."
    command = click.option("--drop-columns", metavar="NAMES", help=text)(command)
    text = "Further columns of a Hub dataset to take, and no other.  [default: all]"
    return click.option("--columns", metavar="NAMES", help=text)(command)


def preparation_options(command: Command) -> Command:
    """``--resize``, ``--crop`` and ``--tile``, in the order in which they are applied."""
    command = click.option("--tile", type=Size(), help="Cut into tiles, after cropping.")(command)
    text = "Centre crop, after resizing; smaller pictures are skipped and listed."
    command = click.option("--crop", type=Size(), help=text)(command)
    text = "Scale so that the shorter side is N, or to HxW exactly."
    return click.option("--resize", type=Size(shorter_side=True), help=text)(command)


def seed_option(of: str) -> Callable[[Command], Command]:
    """``--seed``, 0 or more; ``of`` says of what."""
    return click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help=of)


# What computes -------------------------------------------------------------------------------------------------------


def vae_location_option(command: Command) -> Command:
    """``--vae-location``."""
    text = "Folder to read the VAE's weights from (config.json and diffusion_pytorch_model.safetensors)."
    return click.option("--vae-location", type=FOLDER, metavar="PATH", help=text)(command)


def trust_option(command: Command) -> Command:
    """``--trust``."""
    text = (
        "Open the folder or repository that the dataset names as its source or its VAE, though it is no row of the "
        "tables: for datasets that you made yourself, or whose maker you trust."
    )
    return click.option("--trust", is_flag=True, help=text)(command)


def metric_weights_option(command: Command) -> Command:
    """``--metric-weights``, or the environment variable LATENTSTORE_METRIC_WEIGHTS."""
    return weights_option("--metric-weights", text="Folder with the networks that some metrics need, such as LPIPS.")(
        command
    )


def weights_option(*names: str, text: str) -> Callable[[Command], Command]:
    """A folder of the networks of metrics under these names, or in the environment variable for it."""
    return click.option(
        *names, type=FOLDER, envvar="LATENTSTORE_METRIC_WEIGHTS", show_envvar=True, metavar="FOLDER", help=text
    )


def device_option(does: str) -> Callable[[Command], Command]:
    """``--device``; ``does`` says what happens there: "the VAE decodes"."""
    text = f"Where {does}; auto takes a CUDA device where there is one."
    return click.option("--device", type=Device(), default="auto", show_default=True, help=text)


def dtype_option(text: str, **default: Any) -> Callable[[Command], Command]:
    """``--dtype``."""
    return click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16", "auto"]), help=text, **default)


# How it is stored ----------------------------------------------------------------------------------------------------


def container_option(default: str | None = None) -> Callable[[Command], Command]:
    """``--container``; without a default, what a dataset is in already."""
    text = "File format of the shards; see `latentstore list containers`."
    return click.option(
        "--container",
        type=RowName("latentstore.containers.table", "CONTAINERS"),
        default=default,
        show_default=True,
        metavar="NAME",
        help=text if default else text + AS_IT_IS,
    )


def storage_option(what: str, default: str | None = None) -> Callable[[Command], Command]:
    """``--storage``; without a default, what a dataset is in already."""
    text = f"{what}, see `latentstore list storages`; `auto` takes the smallest that keeps --max-psnr-drop."
    return click.option(
        "--storage",
        type=StorageName(),
        default=default,
        show_default=True,
        metavar="NAME",
        help=text if default else text + AS_IT_IS,
    )


def layout_option(fast: str, usual: str, **default: Any) -> Callable[[Command], Command]:
    """``--layout``; ``fast`` says what the fast one is for, ``usual`` what is taken otherwise."""
    text = f"compact: compressed, to publish; fast: uncompressed, {fast}.  [default: {usual}]"
    return click.option("--layout", metavar="NAME", help=text, **default)


def step_option(command: Command) -> Command:
    """``--step``."""
    text = "Of int8: the step, as a share of each channel's standard deviation.  [default: 1/16]"
    return click.option("--step", type=Step(), help=text)(command)


def psnr_drop_option(held: str, sealed: str) -> Callable[[Command], Command]:
    """``--max-psnr-drop``; ``held`` is what keeps to it, ``sealed`` what --strict does not seal."""
    text = (
        f"Mean PSNR that storing may cost: what `auto` keeps to, and what the {held} is held against; with "
        f"--strict a {sealed} that lost more is not sealed.  [default: 0.02 for auto]"
    )
    return click.option("--max-psnr-drop", type=click.FloatRange(min=0), metavar="DB", help=text)


def calibration_option(text: str, **default: Any) -> Callable[[Command], Command]:
    """``--calibration``."""
    return click.option("--calibration", type=click.IntRange(min=1), metavar="N", help=text, **default)


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
