"""convert(): a sealed dataset in another container, storage or layout; the stages, read top to bottom.

Every shard becomes one shard, of the same rows. Where a number changes, scores are measured again on the prepared
pictures, or left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from latentstore.card import refuse_foreign_card, write_card
from latentstore.conversion.choice import settled
from latentstore.conversion.measuring import MeasureOptions
from latentstore.conversion.origin import Origin
from latentstore.conversion.progress import Report
from latentstore.conversion.sealing import refuse_converted_loss, sealed
from latentstore.conversion.shards import converted_shard
from latentstore.conversion.target import finished_before, target_of
from latentstore.errors import LatentStoreError, RequestError
from latentstore.freed_memory import kept
from latentstore.journal import claim, tidy
from latentstore.manifest.names import JOURNAL
from latentstore.opening import download_store
from latentstore.store import LatentStore

if TYPE_CHECKING:
    from latentstore.containers.interface import ContainerRow
    from latentstore.conversion.progress import ConvertProgress
    from latentstore.manifest import Manifest
    from latentstore.sources.interface import SourceRow
    from latentstore.storage.interface import StorageRow
    from latentstore.vaes.interface import VaeRow


@kept()
def convert(
    store: LatentStore | str | Path,
    out: str | Path,
    *,
    config: str | None = None,
    container: ContainerRow | None = None,
    storage: StorageRow | Literal["auto"] | None = None,
    layout: str | None = None,
    new_config: str = "",
    step: float | None = None,
    max_psnr_drop: float | None = None,
    calibration: int = 32,
    strict: bool = False,
    measure: bool | None = None,
    source: SourceRow | None = None,
    vae: VaeRow | None = None,
    metric_weights: Path | None = None,
    device: str = "cpu",
    trust: bool = False,
    progress: Callable[[ConvertProgress], None] | None = None,
) -> Manifest:
    """Write a sealed dataset (``config`` where its repository holds several) again and return the new manifest.

    It goes into ``<out>/<new_config>/``, by default under its own name. What is not named of ``container``, ``storage``
    and ``layout`` stays as it is. Storage ``"auto"`` is the smallest that keeps ``max_psnr_drop`` dB on ``calibration``
    pictures, which must be at hand. ``step`` is that of a quantised storage, as a multiple of each channel's standard
    deviation over all rows; 1/16 where it is not named.

    Where every raw latent stays the same to the last bit, so do scores and summaries. Else they are measured again on
    the source's own pictures, found as the manifest says or in ``source``, with the recorded VAE (or ``vae``) on
    ``device``; metrics whose networks are not in ``metric_weights`` are left out. What the manifest names is opened
    where it is a row of the tables; another folder or repository only with ``trust``, and UntrustedError says so.
    ``measure``: True insists on measuring, False leaves all scores out, None measures where pictures and VAE are at
    hand. With ``strict`` a dataset that lost
    more than ``max_psnr_drop`` is not sealed.

    Running it again continues where it stopped, and does nothing once the result is sealed. Raises RequestError,
    SourceError, StoreError or VaeError with one clear sentence; nothing of a damaged dataset is sealed.
    """
    opened = store if isinstance(store, LatentStore) else download_store(store, config)
    if opened.is_remote:
        raise RequestError(f"{opened.at('')} is converted on this machine: give convert its location, not its store.")
    target = target_of(
        opened,
        container=container,
        storage=storage,
        layout=layout,
        config=new_config,
        step=step,
        max_psnr_drop=max_psnr_drop,
        calibration=calibration,
    )
    folder = Path(out) / target.config
    found = finished_before(opened, target, folder, measure)
    if found is not None:
        refuse_converted_loss(found.storage, strict=strict)
        tidy(folder)
        write_card(Path(out))  # a conversion that was stopped between manifest and card left none
        return found
    refuse_foreign_card(Path(out))
    origin = Origin.of(opened)
    options = MeasureOptions(measure, source, vae, metric_weights, device, trust)
    report = Report(progress, origin.manifest.rows)
    with claim(folder, target.fingerprint) as work:
        with _let_go_where_refused(folder):
            conversion = settled(origin, target, options, work, report)
        converted = [converted_shard(conversion, work, shard, report) for shard in origin.shards]
        report.stage("seal")
        manifest = sealed(conversion, work, converted, strict=strict)
        report.stage("done")
        return manifest


@contextmanager
def _let_go_where_refused(folder: Path) -> Iterator[None]:
    """Leave nothing behind of a conversion that was refused before its first shard: another may be asked for next."""
    try:
        yield
    except LatentStoreError:
        if [entry.name for entry in folder.iterdir()] == [JOURNAL]:
            shutil.rmtree(folder)
        raise
