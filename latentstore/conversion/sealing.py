"""SEAL of a conversion: what follows from the new numbers is made anew, all else is the origin's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstore.card import write_card
from latentstore.conversion.choice import Conversion
from latentstore.conversion.shards import ConvertedShard
from latentstore.manifest import ConversionInfo, Manifest, StorageInfo
from latentstore.manifest.names import INDEX
from latentstore.metrics.table import METRICS
from latentstore.preview import write_preview
from latentstore.quarantine import write_skipped
from latentstore.seal import index_info, placed, refuse_loss, size_ledger, summaries, thumbnail_bytes
from latentstore.shard_totals import ShardTotals
from latentstore.system.durable_files import written_whole

if TYPE_CHECKING:
    from latentstore.journal import BuildFolder
    from latentstore.quality import MetricSummary


def sealed(conversion: Conversion, work: BuildFolder, converted: Sequence[ConvertedShard], *, strict: bool) -> Manifest:
    """Index and preview beside the shards, then the manifest, then the card of the whole repository."""
    before = conversion.origin.manifest
    totals = ShardTotals(tuple(before.splits), [(found.shard.split, found.finished) for found in converted])
    storage = _storage(conversion, totals)
    refuse_converted_loss(storage, strict=strict)
    index = _index(conversion, converted)
    with written_whole(work.folder / INDEX) as partial:
        conversion.target.container.write_index(partial, conversion.schema, index)
    pictures = thumbnail_bytes(work.folder, conversion.target.container, conversion.schema, totals.split_infos)
    manifest = replace(
        before,
        config=conversion.target.config,
        storage=storage,
        statistics=totals.statistics(conversion.schema.latent_shape[0]),
        splits=totals.split_infos,
        index=index_info(work.folder, before.rows),
        metrics=conversion.metrics,
        quality=_quality(conversion, index),
        size=size_ledger(conversion.schema, index, totals.stored_bytes, totals.entropy_bytes, pictures),
    )
    _preview(conversion, work.folder, manifest, index)
    write_skipped(work.folder, manifest.build.skipped)
    written = work.seal(manifest)
    write_card(work.folder.parent)
    return written


def refuse_converted_loss(storage: StorageInfo, *, strict: bool) -> None:
    """With ``strict``, RequestError where the dataset lost more than its budget."""
    if strict:
        refuse_loss(storage.measured_loss_db, storage.budget_db, "take a smaller --step")


def _index(conversion: Conversion, converted: Sequence[ConvertedShard]) -> dict[str, Sequence[Any]]:
    """Every column of every row but the latents, and where the row lies now."""
    kept = {name: conversion.origin.index[name] for name in conversion.kept_columns}
    new = {name: [value for found in converted for value in found.columns[name]] for name in conversion.new_columns}
    return {**kept, **new, **placed([(found.shard.split, found.name, found.shard.rows) for found in converted])}


def _storage(conversion: Conversion, totals: ShardTotals) -> StorageInfo:
    target, chosen, before = conversion.target, conversion.chosen, conversion.origin.manifest
    step = ConversionInfo(
        storage=before.storage.name,
        container=before.storage.container,
        layout=before.storage.layout,
        lossless=conversion.lossless,
        measured=bool(conversion.metrics) if conversion.lossless else conversion.measuring is not None,
        quality_before={name: summary.mean for name, summary in before.quality.items()},
        manifest_sha256=target.manifest_sha256,
    )
    placed = replace(
        before.storage,
        container=target.container.name,
        layout=target.layout,
        converted=(*before.storage.converted, step),
    )
    if conversion.same_numbers and target.storage is not None:
        return placed
    if conversion.same_numbers:  # auto found that they may stay
        return replace(placed, budget_db=target.max_psnr_drop, calibration=chosen.calibration)
    return replace(
        placed,
        name=chosen.name,
        dtype=conversion.schema.dtype,
        steps=chosen.steps,
        step_sigma=chosen.step,
        budget_db=before.storage.budget_db if conversion.lossless else target.max_psnr_drop,
        measured_loss_db=_loss(conversion, totals),
        clipped=totals.clipped if chosen.row.quantised else None,
        calibration=chosen.calibration,
    )


def _loss(conversion: Conversion, totals: ShardTotals) -> float | None:
    """Mean PSNR lost against the numbers before, on top of what those had lost as far as that is known."""
    earlier, lost_now = conversion.origin.manifest.storage.measured_loss_db, totals.measured_loss_db
    if conversion.lossless:
        return earlier
    return None if lost_now is None else lost_now + (earlier or 0.0)


def _quality(conversion: Conversion, index: Mapping[str, Sequence[Any]]) -> Mapping[str, MetricSummary]:
    before = conversion.origin.manifest
    if conversion.lossless:
        return before.quality
    return summaries([METRICS[name] for name in conversion.metrics], index, before.source.classes)


def _preview(conversion: Conversion, folder: Path, manifest: Manifest, index: Mapping[str, Sequence[Any]]) -> None:
    """Drawn again where numbers changed and the pictures are at hand; else the one that was there."""
    measuring, origin = conversion.measuring, conversion.origin.store
    known = origin.folder / origin.manifest.preview
    if measuring is not None:
        write_preview(
            folder,
            manifest,
            index,
            reader=measuring.originals.reader,
            vae=measuring.vae,
            storage=conversion.after,
            container=conversion.target.container,
        )
    elif known.is_file():
        with written_whole(folder / manifest.preview) as partial:
            shutil.copyfile(known, partial)
