"""`latentstore build`: pictures in, a measured and sealed latent dataset out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .build_report import BuildCommand, print_status, profile_json, show_profile
from .named_rows import source_row, vae_row, verify_command
from .options import (
    calibration_option,
    columns_options,
    container_option,
    device_option,
    dtype_option,
    follow_links_option,
    json_option,
    layout_option,
    metric_weights_option,
    out_option,
    preparation_options,
    psnr_drop_option,
    seed_option,
    source_location_option,
    source_option_option,
    step_option,
    storage_option,
    thumbnail_option,
    vae_location_option,
    views_option,
)
from .output import Page, print_json
from .progress import BuildDisplay
from .show import counted_splits, duplicate_pairs, quality_pairs, size_sentence, skipped_pairs, storage_pairs
from .value_kinds import AUTO, AutoStorage, BatchSize, RowName, RowNames, device_name

if TYPE_CHECKING:
    from latentstore import BuildPlan, BuildProfile, Manifest
    from latentstore.engines.interface import EngineRow, Placement
    from latentstore.storage.interface import StorageRow

RANKS = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"))
"""Variables that tell a process its place: torchrun's, then Slurm's."""


@click.command("build", cls=BuildCommand, short_help="Turn images into a measured latent dataset.")
@click.argument("source", metavar="SOURCE")
@click.option("--vae", required=True, metavar="NAME", help="VAE that makes the latents; three forms, see above.")
@out_option("dataset")
@click.option("--config", default="", metavar="NAME", help="Name of the dataset.  [default: SOURCE-VAE]")
@source_location_option
@vae_location_option
@metric_weights_option
@source_option_option
@follow_links_option
@columns_options
@click.option("--streaming", is_flag=True, help="Read a Hub dataset in its own order, without downloading it first.")
@preparation_options
@views_option
@storage_option("Number format of the latents", "float16")
@step_option
@psnr_drop_option("whole build", "dataset")
@calibration_option("Pictures that the steps of int8, and the choice of `auto`, are measured on.  [default: 32]")
@container_option("parquet")
@layout_option("rows are read straight from the file", "compact, or what the container has", default="")
@click.option(
    "--metrics",
    type=RowNames("latentstore.metrics.table", "METRICS"),
    metavar="NAMES",
    help="Quality columns, such as psnr,ssim; `none` skips measuring.  [default: psnr,ssim,mae]",
)
@click.option(
    "--order",
    type=click.Choice(["shuffled", "source"]),
    default="shuffled",
    show_default=True,
    help="Order of the rows: a seeded permutation, or as the source has them.",
)
@seed_option("Of the permutation.")
@click.option(
    "--batch-size",
    type=BatchSize(),
    default=16,
    show_default=True,
    metavar="N|auto",
    help="Pictures encoded at once; part of the plan, because rounding depends on it. auto measures once what is "
    "fastest here, and keeps to it.",
)
@click.option(
    "--rows-per-shard",
    type=click.IntRange(min=1),
    metavar="N",
    help="Rows in each file.  [default: as many as make 128 MiB before compression]",
)
@device_option("the VAE computes")
@dtype_option(
    "Precision of the VAE's arithmetic; auto takes what was measured fastest for this VAE on a CPU.",
    default="float32",
    show_default=True,
)
@thumbnail_option
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads that the VAE computes with on a CPU; part of the plan, because rounding depends on it.  "
    "[default: what the build was begun with, or one a core]",
)
@click.option(
    "--engine",
    type=RowName("latentstore.engines.table", "ENGINES"),
    default="local",
    show_default=True,
    metavar="NAME",
    help="What runs the workers; see `latentstore list engines`. The bytes are the same.",
)
@click.option(
    "--ray-address",
    envvar="RAY_ADDRESS",
    show_envvar=True,
    metavar="ADDRESS",
    help="Ray cluster that engine ray joins, such as head:6379, or auto for one that runs on this machine. Trust it: "
    "whoever runs it can run code here.  [default: none, one is started here]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that build shards at the same time, one for each GPU.  [default: 1]",
)
@click.option("--profile", "wants_profile", is_flag=True, help="Say afterwards where the time went, on stderr.")
@click.option(
    "--status",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    is_eager=True,
    expose_value=False,
    callback=print_status,
    help="Only say how far a build in DIR is, by whom, and what remains.",
)
@click.option(
    "--append",
    is_flag=True,
    help="Add the pictures that SOURCE has gained since to the finished dataset, as new shards; the old ones stay.",
)
@click.option("--strict", is_flag=True, help="Stop at the first unusable picture, instead of skipping and listing it.")
@click.option(
    "--max-bad",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    metavar="SHARE",
    help="Stop where more than this share of the pictures is unusable: the source may not be what it seems.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    source: str,
    vae: str,
    out: str,
    *,
    engine: EngineRow,
    ray_address: str | None,
    workers: int | None,
    wants_profile: bool,
    append: bool,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Turn the images of SOURCE into a latent dataset, and measure what was lost.

    Stopped for whatever reason, the same command continues; finished shards are not made again, and the result is the
    same to the byte. A folder that holds the result of another plan is left alone, and the difference is printed.

    \b
    SOURCE  a name            from `latentstore list sources`
            a folder          of images; the folders in it are the classes
            hub:user/repo     a dataset on the Hub; hub:user/repo@revision;
                              hub:./folder for a downloaded copy of one
    --vae   a name            from `latentstore list vaes`
            name=folder       that VAE, with its weights in a local folder
            a folder          with config.json and weights of an AutoencoderKL
            hub:user/repo     or hub:user/repo:subfolder, an AutoencoderKL there

    \b
    DIR/README.md                      the card of everything in DIR
    DIR/CONFIG/manifest.json           the contract; written last
    DIR/CONFIG/train-00000-of-00004.parquet
    DIR/CONFIG/index.parquet           labels, sizes and scores of every row
    DIR/CONFIG/preview.png             originals, reconstructions, differences

    \b
    Examples:
      latentstore build synthetic --vae demo --out out
      latentstore build ./photos --vae demo --out out --resize 256 --crop 256
      latentstore build resisc45 --vae flux1 --out out --device cuda --dtype bfloat16
      latentstore build aid --vae sdxl --out out --storage auto --max-psnr-drop 0.02
      latentstore build eurosat --vae sdxl --out out --views identity,hflip
      latentstore build aid --vae sdxl --out out --device cuda --workers 8
      torchrun --nproc-per-node 8 --no-python latentstore build aid --vae sdxl --out out --engine torchrun
      latentstore build ./photos --vae demo --out out --resize 256 --crop 256 --append
      latentstore build --status out
    """
    from latentstore import build

    plan = _plan(source, vae, **wanted)
    typed = ctx.get_parameter_source("ray_address") is ParameterSource.COMMANDLINE
    if ray_address and (engine.clusters or typed):  # the variable says nothing to other engines
        engine = engine.at(ray_address)
    placement = _placement(engine, os.environ)
    profiles: list[BuildProfile] = []
    with BuildDisplay() as display:
        manifest = build(
            plan,
            out,
            progress=display,
            engine=engine,
            workers=workers or 1,
            placement=placement,
            profiled=profiles.append,
            append=append,
        )
    if placement is not None and placement.rank > 0:
        return  # rank 0 says it all
    if wants_profile and profiles:
        show_profile(profiles[0])
    if as_json:
        result = _result(manifest, out, already_complete=not display.called)
        print_json(result | ({"profile": profile_json(profiles[0])} if wants_profile and profiles else {}))
    else:
        _summary(manifest, out, already_complete=not display.called, append=append)


def _placement(engine: EngineRow, environment: Mapping[str, str]) -> Placement | None:
    """Which process of how many this is, as torchrun or Slurm say; None where the engine starts its own."""
    if not engine.placed:
        return None
    from latentstore.engines.interface import Placement

    for names in RANKS:
        if all(name in environment for name in names):
            rank, world, local_rank = (int(environment[name]) for name in names)
            return Placement(rank, world, local_rank)
    return None


def _plan(
    source: str,
    vae: str,
    *,
    source_location: str | None,
    source_options: tuple[tuple[str, Any], ...],
    follow_links: bool,
    streaming: bool,
    columns: str | None,
    drop_columns: str | None,
    vae_location: str | None,
    device: str,
    metrics: tuple[Any, ...] | None,
    metric_weights: str | None,
    resize: tuple[int, ...] | None,
    crop: tuple[int, int] | None,
    tile: tuple[int, int] | None,
    views: tuple[str, ...],
    storage: StorageRow | AutoStorage,
    batch_size: int | str,
    step: float | None,
    calibration: int | None,
    **kept: Any,
) -> BuildPlan:
    from latentstore import BuildPlan, Preparation

    flags: dict[str, Any] = {"streaming": streaming or None, "follow_links": follow_links or None}
    flags |= {"columns": columns, "drop_columns": drop_columns}
    options = {**dict(source_options), **{name: given for name, given in flags.items() if given is not None}}
    if step is not None and getattr(storage, "name", "") != "int8":
        raise click.UsageError(f"--step goes with --storage int8, found --storage {getattr(storage, 'name', storage)}.")
    kept |= {name: value for name, value in (("step", step), ("calibration", calibration)) if value is not None}
    if metrics is not None:
        kept["metrics"] = tuple(row.at(metric_weights) for row in metrics)
    return BuildPlan(
        source=source_row(source, location=source_location, options=options),
        vae=vae_row(vae, location=vae_location),
        preparation=Preparation(resize=resize, crop=crop, tile=tile, views=views),
        storage=None if isinstance(storage, AutoStorage) else storage,
        device=device_name(device),
        **({"find_batch_size": True} if batch_size == AUTO else {"batch_size": batch_size}),
        **kept,
    )


def _result(manifest: Manifest, out: str, *, already_complete: bool) -> dict[str, Any]:
    from latentstore.json_records import plain

    return {
        "location": out,
        "config": manifest.config,
        "already_complete": already_complete,
        "manifest": plain(manifest),
    }


def _summary(manifest: Manifest, out: str, *, already_complete: bool, append: bool) -> None:
    page = Page()
    folder = Path(out) / manifest.config
    if already_complete and append:
        page.heading(f"Nothing to append: {folder} holds, or lists as skipped, every picture of the source.")
    elif already_complete:
        page.heading(f"Already complete, nothing to do: {folder} holds the result of this very plan.")
    elif append:
        added = sum(manifest.build.appended[-1].pictures.values())
        page.heading(f"Added {added:,} picture{'' if added == 1 else 's'} to {manifest.config} in {folder}")
    else:
        page.heading(f"Built {manifest.config} in {folder}")
    channels, height, width = manifest.latent_shape
    found = [("source", manifest.source.ingest[0])] if manifest.source.ingest else []
    found += [("", sentence) for sentence in (*manifest.source.ingest[1:], *manifest.source.notes)]
    page.line()
    page.pairs(
        [
            ("rows", counted_splits(manifest)),
            *found,
            *skipped_pairs(manifest, paths=1, reasons=3),
            *duplicate_pairs(manifest),
            ("latent", f"{channels}x{height}x{width} {manifest.storage.name}, raw, of VAE {manifest.vae.name}"),
            *storage_pairs(manifest),
            *quality_pairs(manifest),
            ("size", size_sentence(manifest)),
        ]
    )
    page.line()
    page.line("Check it, then train on it:")
    page.code(_next_commands(manifest, out))
    page.print()


def _next_commands(manifest: Manifest, out: str) -> list[str]:
    split = manifest.first_split
    return [
        verify_command(out, manifest),
        "",
        "from latentstore import load_latents",
        f"batches = load_latents({out!r}, {manifest.config!r}, split={split!r}).loader(64, shuffle=True)",
    ]
