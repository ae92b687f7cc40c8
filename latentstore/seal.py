"""SEAL: index, preview, statistics, summaries and sizes of all shards into the manifest, which is written last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import mul
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.calibration import ChosenStorage
from latentstore.card import write_card
from latentstore.containers.columns import Column, give_back_memory, numbers_of
from latentstore.containers.interface import ContainerRow, ShardSchema
from latentstore.duplicates import find_duplicates
from latentstore.errors import RequestError, SourceError
from latentstore.hashing import sha256_of
from latentstore.manifest import (
    FORMAT_VERSION,
    BuildInfo,
    Environment,
    Manifest,
    ShardInfo,
    SizeLedger,
    SkippedInfo,
    SourceInfo,
    SplitInfo,
    StorageInfo,
    VaeInfo,
)
from latentstore.manifest.names import INDEX
from latentstore.pixels import each_picture_behind, each_tile_behind
from latentstore.plan import BuildPlan, PlannedRows
from latentstore.preview import write_preview
from latentstore.quality import MetricSummary, summarise
from latentstore.quarantine import write_skipped
from latentstore.repeats import sum_once
from latentstore.shard_totals import ShardTotals
from latentstore.sources.table import ingest_report
from latentstore.system.durable_files import written_whole

if TYPE_CHECKING:
    from pathlib import Path

    from latentstore.journal import BuildFolder, FinishedShard
    from latentstore.pictures import PictureReader
    from latentstore.sources.interface import OpenSource
    from latentstore.vaes.interface import Vae


@dataclass(frozen=True)
class Sealing:
    """Everything a finished build knows."""

    reader: PictureReader
    vae: Vae
    chosen: ChosenStorage
    schema: ShardSchema
    shards: tuple[FinishedShard, ...]
    fingerprint: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def plan(self) -> BuildPlan:
        """What was built."""
        return self.reader.plan

    @property
    def source(self) -> OpenSource:
        """Where the pictures came from."""
        return self.reader.source

    @property
    def rows(self) -> PlannedRows:
        """Which picture became which row."""
        return self.reader.rows

    @cached_property
    def totals(self) -> ShardTotals:
        """What the shards add up to."""
        splits = [planned.split for planned in self.rows.shards()]
        return ShardTotals(tuple(self.rows.splits), list(zip(splits, self.shards, strict=True)))


def seal(work: BuildFolder, done: Sealing) -> Manifest:
    """Index, preview and list of the skipped beside the shards, then the manifest, then the card of the repository."""
    index = collect_index(work.folder, done.plan.container, done.schema, done.totals.split_infos)
    if not index["id"]:
        raise SourceError(f"None of the {done.rows.total} pictures could be used; the first: {_first_reason(done)}")
    with written_whole(work.folder / INDEX) as partial:
        done.plan.container.write_index(partial, done.schema, index)
    pictures = thumbnail_bytes(work.folder, done.plan.container, done.schema, done.totals.split_infos)
    manifest = _manifest(done, index, index_info(work.folder, len(index["id"])), pictures)
    write_preview(
        work.folder,
        manifest,
        index,
        reader=done.reader,
        vae=done.vae,
        storage=done.chosen.open(),
        container=done.plan.container,
    )
    write_skipped(work.folder, manifest.build.skipped)
    sealed = work.seal(manifest)
    write_card(work.folder.parent)
    return sealed


def collect_index(
    folder: Path, container: ContainerRow, schema: ShardSchema, splits: Mapping[str, SplitInfo]
) -> dict[str, Column]:
    """The scalar columns of every row, read back from the shards, with split, shard and row.

    They stay compact: a dataset of millions of pictures is sealed in the memory that its builder has.
    """
    give_back_memory()
    shards = [(split, shard) for split, info in splits.items() for shard in info.shards]
    scalars = [container.open(folder / shard.path, schema).scalars(schema.scalar_columns) for _, shard in shards]
    columns = {name: Column.joined([found.pop(name) for found in scalars]) for name in schema.scalar_columns}
    columns |= placed([(split, shard.path, shard.rows) for split, shard in shards])
    give_back_memory()
    return columns


def placed(shards: Sequence[tuple[str, str, int]]) -> dict[str, Column]:
    """The columns that say where each row lies, of all rows of these shards: (split, name, rows) each."""
    return {
        "split": Column.joined([Column.repeated(split, rows) for split, _, rows in shards]),
        "shard": Column.joined([Column.repeated(name, rows) for _, name, rows in shards]),
        "row": Column.joined([Column.counted(rows) for _, _, rows in shards]),
    }


def thumbnail_bytes(folder: Path, container: ContainerRow, schema: ShardSchema, splits: Mapping[str, SplitInfo]) -> int:
    """Bytes of the thumbnails in all shards, each as the file it is; 0 where the schema has none."""
    if not schema.thumbnail:
        return 0
    shards = (shard for info in splits.values() for shard in info.shards)
    return sum(container.open(folder / shard.path, schema).thumbnail_bytes() for shard in shards)


def summaries(
    plan_metrics: Sequence[Any], index: Mapping[str, Sequence[Any]], classes: Sequence[str] | None
) -> dict[str, MetricSummary]:
    """The summary of every metric, from the columns of an index."""
    pixels = numbers_of(index["height"]) * numbers_of(index["width"])
    labels = index.get("label", [None] * len(pixels))
    return {
        row.name: summarise(
            row,
            scores=numbers_of(index[row.name]),
            pixel_counts=pixels,
            ids=index["id"],
            labels=labels,
            class_names=classes or (),
        )
        for row in plan_metrics
    }


def size_ledger(
    manifest_schema: ShardSchema,
    index: Mapping[str, Sequence[Any]],
    stored_bytes: int,
    entropy_bytes: int,
    thumbnail_bytes: int = 0,
) -> SizeLedger:
    """What all rows take, against what it takes to keep the pictures behind them.

    Raw RGB and source files count once, whatever is cut from them and in however many views: nobody would store a
    mirrored picture as a file of its own. So eight stored views are not eight times as good against both. The bits per
    pixel are those of the rows: what one stored latent takes.
    """
    rows = len(index["id"])
    pixels = seen_once = sum(map(mul, index["height"], index["width"]))
    if "view" in index:  # the views of a picture or tile have as many pixels as it has
        areas = map(mul, index["height"], index["width"])
        seen_once = sum_once(lambda: zip(index["split"], each_tile_behind(index), strict=True), areas, rows)
    files = index["source_bytes"]
    source_bytes = sum_once(lambda: zip(index["split"], each_picture_behind(index), strict=True), files, rows) or None
    payload = rows * manifest_schema.row_values * np.dtype(manifest_schema.dtype).itemsize
    return SizeLedger(
        pixels=pixels,
        raw_rgb_bytes=3 * seen_once,
        source_bytes=source_bytes,
        payload_bytes=payload,
        entropy_bytes=entropy_bytes,
        stored_bytes=stored_bytes,
        bits_per_pixel=8 * stored_bytes / pixels,
        raw_rgb_over_stored=3 * seen_once / stored_bytes,
        source_over_stored=source_bytes / stored_bytes if source_bytes else None,
        thumbnail_bytes=thumbnail_bytes,
    )


def index_info(folder: Path, rows: int, name: str = INDEX) -> ShardInfo:
    """What the manifest says of the index that lies in a config's folder."""
    path = folder / name
    return ShardInfo(path=name, rows=rows, bytes=path.stat().st_size, sha256=sha256_of(path))


def refuse_loss(lost_db: float | None, budget_db: float | None, advice: str) -> None:
    """RequestError with ``advice`` where storing lost more dB than the budget; None is a loss or a budget not known."""
    if lost_db is not None and budget_db is not None and lost_db > budget_db:
        raise RequestError(
            f"Storing cost {lost_db:.4f} dB of mean PSNR, over the budget of {budget_db:g} dB: raise --max-psnr-drop, "
            f"{advice}, or leave out --strict to keep it as it is."
        )


def _manifest(done: Sealing, index: Mapping[str, Sequence[Any]], file: ShardInfo, picture_bytes: int) -> Manifest:
    plan, source, vae, totals = done.plan, done.source, done.vae, done.totals
    return Manifest(
        format_version=FORMAT_VERSION,
        config=plan.config,
        latent_shape=done.schema.latent_shape,
        posterior=vae.identity.posterior,
        source=SourceInfo(
            name=plan.source.name,
            location=plan.source.location,
            revision=source.revision or plan.source.revision,
            images={name: len(split) for name, split in source.splits.items()},
            classes=source.class_names,
            licence=plan.source.licence,
            citation=plan.source.citation,
            homepage=plan.source.homepage,
            options=dict(plan.source.options),
            reader=plan.source.reader.__name__,
            notes=source.notes,
            ingest=ingest_report(plan.source, source),
        ),
        vae=VaeInfo(
            name=plan.vae.name,
            class_name=vae.identity.class_name,
            repo=vae.identity.repo,
            subfolder=plan.vae.subfolder,
            revision=vae.identity.revision,
            weights_sha256=vae.identity.weights_sha256,
            stride=plan.vae.stride,
            channels=plan.vae.channels,
            licence=plan.vae.licence,
        ),
        preparation=plan.preparation,
        storage=_storage(done),
        normalisation=vae.normalisation,
        statistics=totals.statistics(plan.vae.channels),
        splits=totals.split_infos,
        index=file,
        metrics=done.schema.metrics,
        quality=summaries(plan.metrics, index, source.class_names),
        size=size_ledger(done.schema, index, totals.stored_bytes, totals.entropy_bytes, picture_bytes),
        environment=Environment(plan.device.split(":")[0], plan.dtype, done.versions, plan.vae.memory_format),
        build=BuildInfo(
            order=plan.order,
            seed=plan.seed,
            batch_size=plan.batch_size,
            rows_per_shard=done.rows.rows_per_shard,
            plan=done.fingerprint,
            skipped=_skipped(done),
            duplicates=find_duplicates(index),
            conversions=dict(sorted(sum((Counter(shard.conversions) for shard in done.shards), Counter()).items())),
            retried=tuple(entry for shard in done.shards for entry in shard.retried),
            halved=tuple(entry for shard in done.shards for entry in shard.halved),
        ),
        columns=done.schema.features,
        thumbnail=plan.thumbnail,
    )


def _storage(done: Sealing) -> StorageInfo:
    plan, chosen = done.plan, done.chosen
    return StorageInfo(
        name=chosen.name,
        dtype=done.schema.dtype,
        container=plan.container.name,
        layout=plan.layout,
        steps=chosen.steps,
        step_sigma=chosen.step,
        budget_db=plan.max_psnr_drop,
        measured_loss_db=done.totals.measured_loss_db,
        clipped=done.totals.clipped if chosen.row.quantised else None,
        calibration=chosen.calibration,
    )


def _skipped(done: Sealing) -> tuple[SkippedInfo, ...]:
    return tuple(skipped for shard in done.shards for skipped in shard.skipped)


def _first_reason(done: Sealing) -> str:
    skipped = _skipped(done)
    return f"{skipped[0].source_path!r}: {skipped[0].reason}." if skipped else "the source is empty."
