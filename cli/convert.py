"""`latentstore convert`: a dataset in another container, storage or layout, without encoding a picture again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .named_rows import source_and_vae_rows, verify_command
from .options import (
    calibration_option,
    container_option,
    device_option,
    json_option,
    layout_option,
    metric_weights_option,
    out_option,
    psnr_drop_option,
    recorded_source_option,
    step_option,
    storage_option,
    trust_option,
    vae_location_option,
)
from .output import Page, print_json
from .progress import BuildDisplay
from .show import counted_splits, quality_pairs, size_sentence, storage_pairs
from .value_kinds import AutoStorage, device_name

if TYPE_CHECKING:
    from latentstore import ConvertProgress, Manifest
    from latentstore.manifest import StorageInfo
    from latentstore.storage.interface import StorageRow


@click.command("convert", short_help="Change container, storage or layout of a dataset.")
@click.argument("location", metavar="LOCATION")
@out_option("result")
@click.option("--config", metavar="NAME", help="Config to read, where LOCATION holds several.")
@click.option("--name", default="", metavar="NAME", help="Name of the result.  [default: that of the config]")
@container_option()
@storage_option("Number format")
@layout_option("to train from", "as it is, where the container has it")
@step_option
@psnr_drop_option("result", "result")
@calibration_option("Pictures that `auto` is chosen on.", default=32, show_default=True)
@click.option(
    "--measure/--no-measure",
    default=None,
    help="Measure the quality again where numbers change, on the source's pictures; or leave all scores out.  "
    "[default: measure where pictures and VAE are at hand]",
)
@recorded_source_option()
@vae_location_option
@trust_option
@device_option("the VAE decodes")
@metric_weights_option
@click.option("--strict", is_flag=True, help="Seal nothing that lost more than --max-psnr-drop.")
@json_option
def command(
    location: str,
    out: str,
    *,
    config: str | None,
    name: str,
    storage: StorageRow | AutoStorage | None,
    source: str | None,
    vae_location: str | None,
    trust: bool,
    device: str,
    metric_weights: str | None,
    as_json: bool,
    **kept: Any,
) -> None:
    """Write a latent dataset again, in another container, storage or layout; no picture is encoded again.

    Where every number stays the same, scores and summaries stay too. Where numbers are rounded, quality is measured
    again on the source's own pictures; where those or the VAE are not at hand, scores are left out and the result says
    so. A damaged dataset is refused. Stopped for whatever reason, the same command continues.

    LOCATION is the folder of a repository, or of one config in it.

    \b
    Examples:
      latentstore convert out --out fast --layout fast
      latentstore convert out --out small --storage int8 --step 1/8
      latentstore convert out --out small --storage auto --max-psnr-drop 0.05
      latentstore convert out --out tar --container webdataset --name mine-tar
    """
    from latentstore import convert
    from latentstore.opening import download_store

    store = download_store(location, config)
    before = store.manifest
    source_found, vae_found = source_and_vae_rows(location, config, source, vae_location, trust=trust)
    display = _Notes()
    with display:
        manifest = convert(
            store,
            out,
            new_config=name,
            storage="auto" if isinstance(storage, AutoStorage) else storage,
            source=source_found,
            vae=vae_found,
            device=device_name(device),
            trust=trust,
            metric_weights=Path(metric_weights) if metric_weights else None,
            progress=display,
            **kept,
        )
    if as_json:
        print_json(_result(manifest, before, out, already_complete=not display.called, note=display.note))
    else:
        _summary(manifest, before, out, already_complete=not display.called, note=display.note)


class _Notes(BuildDisplay):
    """The display of a build, which also keeps what there is to say about measuring."""

    def __init__(self) -> None:
        super().__init__(opening="Opening the dataset.")
        self.note = ""

    def __call__(self, progress: ConvertProgress) -> None:  # type: ignore[override]
        """Show this report."""
        self.note = progress.note
        super().__call__(progress)


def _result(manifest: Manifest, before: Manifest, out: str, *, already_complete: bool, note: str) -> dict[str, Any]:
    from latentstore.json_records import plain

    return {
        "location": out,
        "config": manifest.config,
        "already_complete": already_complete,
        "not_measured_because": note,
        "stored_bytes_before": before.size.stored_bytes,
        "stored_bytes": manifest.size.stored_bytes,
        "manifest": plain(manifest),
    }


def _summary(manifest: Manifest, before: Manifest, out: str, *, already_complete: bool, note: str) -> None:
    page = Page()
    folder = Path(out) / manifest.config
    if already_complete:
        page.heading(f"Already complete, nothing to do: {folder} holds the result of this very conversion.")
    else:
        page.heading(f"Converted {before.config} into {folder}")
    channels, height, width = manifest.latent_shape
    size = manifest.size
    share = size.stored_bytes / before.size.stored_bytes
    page.line()
    page.pairs(
        [
            ("rows", counted_splits(manifest)),
            ("latent", f"{channels}x{height}x{width}, raw, of VAE {manifest.vae.name}"),
            ("from", _form(before.storage)),
            ("to", _form(manifest.storage)),
            *storage_pairs(manifest),
            ("numbers", _numbers(manifest, note)),
            *quality_pairs(manifest),
            ("bytes", f"{before.size.stored_bytes:,} before, {size.stored_bytes:,} now ({share:.2f}x)"),
            ("size", size_sentence(manifest)),
            ("entropy", f"{size.entropy_bytes:,} bytes, of the stored numbers one by one"),
        ]
    )
    page.line()
    page.line("Check it:")
    page.code([verify_command(out, manifest)])
    page.print()


def _form(storage: StorageInfo) -> str:
    return f"{storage.name} in {storage.container}, layout {storage.layout}"


def _numbers(manifest: Manifest, note: str) -> str:
    """What became of the numbers, whether that was measured, and how it can be."""
    last = manifest.storage.converted[-1]
    if last.lossless:
        return "every raw latent is the same to the last bit" + ("; scores are kept" if manifest.metrics else "")
    if last.measured:
        means = {name: summary.mean for name, summary in manifest.quality.items()}
        apart = [
            f"{name} {old:.4g} before, {means[name]:.4g} now"
            for name, old in last.quality_before.items()
            if old is not None and means.get(name) is not None
        ]
        return "; ".join(["rounded, and measured again", *apart])
    why = f" ({note})" if note else ""
    return f"rounded, and NOT measured again{why}: to measure, convert into another --out with --measure"
