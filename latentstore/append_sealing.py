"""SEAL of an append: index, preview and manifest of the dataset and of what was added to it, as one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.append import some_of, tidy_append
from latentstore.card import write_card
from latentstore.duplicates import find_duplicates
from latentstore.errors import DamagedShardError, SourceError
from latentstore.hashing import sha256_of
from latentstore.journal import FinishedShard
from latentstore.manifest import FILE_NAME, FORMAT_VERSION, AppendInfo, Manifest, ShardInfo
from latentstore.manifest.names import index_name
from latentstore.pictures import PictureReader
from latentstore.preview import write_preview
from latentstore.seal import collect_index, index_info, size_ledger, summaries, thumbnail_bytes
from latentstore.shard_totals import ShardTotals
from latentstore.sources.table import ingest_report
from latentstore.system.durable_files import sync_folder, writing, written_whole
from latentstore.value_counts import NumbersTally

if TYPE_CHECKING:
    from pathlib import Path

    from latentstore.append import Growth
    from latentstore.journal import BuildFolder
    from latentstore.store import LatentStore

ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Grown:
    """A growth whose shards are all finished."""

    growth: Growth
    folder: Path
    shards: tuple[FinishedShard, ...]
    """The new ones, in the order of ``PlannedRows.shards``."""
    totals: ShardTotals
    """Of old and new ones."""
    versions: Mapping[str, str]

    @classmethod
    def of(cls, growth: Growth, shards: tuple[FinishedShard, ...], versions: Mapping[str, str]) -> Grown:
        """Counts all stored numbers again; DamagedShardError where an old shard is not what the manifest says."""
        store, before = growth.store, growth.before
        added = {planned.name: entry for planned, entry in zip(growth.rows.shards(), shards, strict=True)}
        listed = {info.path: info for split in before.splits.values() for info in split.shards}
        pairs = []
        for planned in growth.rows.all_shards():
            entry = added.get(planned.name) or _finished_before(store, listed[planned.name])
            pairs.append((planned.split, _recounted(store, entry)))
        return cls(growth, store.folder, shards, ShardTotals(tuple(growth.rows.splits), pairs), versions)

    @property
    def measured_loss_db(self) -> float | None:
        """Mean PSNR that storing cost: each part counts with its rows."""
        before, now = self.growth.before.storage.measured_loss_db, self._new.measured_loss_db
        if before is None or now is None:
            return before if self._new_rows == 0 else None
        old_rows = self.growth.before.rows
        return math.fsum([before * old_rows, now * self._new_rows]) / (old_rows + self._new_rows)

    @property
    def _new(self) -> ShardTotals:
        return ShardTotals(self.totals.splits, [("", entry) for entry in self.shards])

    @property
    def _new_rows(self) -> int:
        return sum(entry.shard.rows for entry in self.shards)

    @property
    def clipped(self) -> tuple[int, ...] | None:
        """Numbers of each channel that were clipped; None for floats."""
        before = self.growth.before.storage.clipped
        return None if before is None else tuple(np.add(before, self._new.clipped).tolist())


def seal_append(work: BuildFolder, done: Grown) -> Manifest:
    """Index and preview of the whole, then its manifest in the place of the old one, then the list of the skipped.

    Index and preview have names of their own, so that the old manifest has its own until then.

    Raises SourceError where a new picture would have the id of an old one.
    """
    growth, folder = done.growth, work.folder
    store, name = growth.store, index_name(len(growth.before.build.appended) + 1)
    index = collect_index(folder, store.container, store.schema, done.totals.split_infos)
    _refuse_repeated_ids(index)
    with written_whole(folder / name) as partial:
        store.container.write_index(partial, store.schema, index)
    thumbnails = thumbnail_bytes(folder, store.container, store.schema, done.totals.split_infos)
    manifest = _manifest(done, index, index_info(folder, len(index["id"]), name), thumbnails)
    write_preview(
        folder,
        manifest,
        index,
        reader=PictureReader(growth.ready.plan, growth.recalled.source, growth.rows),
        vae=growth.ready.vae,
        storage=store.storage(),
        container=store.container,
    )
    with writing(folder / FILE_NAME):
        written = manifest.write(folder)
        sync_folder(folder)
    write_card(folder.parent)  # while the preview is there that the card before shows
    tidy_append(folder, written)
    return written


def _manifest(done: Grown, index: Mapping[str, Sequence[Any]], file: ShardInfo, thumbnails: int) -> Manifest:
    growth, before, totals = done.growth, done.growth.before, done.totals
    plan, source = growth.ready.plan, growth.ready.source
    splits = list(totals.splits)
    build = before.build
    conversions = sum((Counter(entry.conversions) for entry in done.shards), Counter(build.conversions))
    added = AppendInfo(
        pictures=dict(growth.pictures),
        rows=dict(growth.rows.generations[-1]),
        manifest_sha256=growth.manifest_sha256,
        versions=dict(done.versions),
    )

    def in_order(entry: Any) -> tuple[int, int]:
        return splits.index(entry.split), getattr(entry, "position", getattr(entry, "start", 0))

    def joined(name: str) -> tuple[Any, ...]:
        new = [record for entry in done.shards for record in getattr(entry, name)]
        return tuple(sorted([*getattr(build, name), *new], key=in_order))

    images = {split: before.source.images.get(split, 0) + growth.pictures.get(split, 0) for split in splits}
    return replace(
        before,
        format_version=FORMAT_VERSION,
        source=replace(
            before.source,
            revision=source.revision or plan.source.revision,
            images=images,
            notes=(*source.notes, *_left_notes(growth.recalled.left)),
            ingest=ingest_report(plan.source, source),
        ),
        storage=replace(before.storage, measured_loss_db=done.measured_loss_db, clipped=done.clipped),
        statistics=totals.statistics(before.vae.channels),
        splits=totals.split_infos,
        index=file,
        quality=summaries(plan.metrics, index, before.source.classes),
        size=size_ledger(before.schema, index, totals.stored_bytes, totals.entropy_bytes, thumbnails),
        build=replace(
            build,
            plan=growth.ready.fingerprint,
            skipped=joined("skipped"),
            duplicates=find_duplicates(index),
            conversions=dict(sorted(conversions.items())),
            retried=joined("retried"),
            halved=joined("halved"),
            appended=(*build.appended, added),
        ),
    )


def _finished_before(store: LatentStore, info: ShardInfo) -> FinishedShard:
    """What is known of an old shard, once its bytes were found to be those of the manifest."""
    path = store.folder / info.path
    if not path.is_file() or sha256_of(path) != info.sha256:
        raise DamagedShardError(
            f"Shard {path} is not the one that the manifest describes (another sha256), so nothing is added: get the "
            "dataset again, or see `latentstore verify`."
        )
    channels = store.manifest.vae.channels
    return FinishedShard(info, {}, (), 0.0, clipped=(0,) * channels)


def _recounted(store: LatentStore, entry: FinishedShard) -> FinishedShard:
    """With statistics and entropy of its stored numbers, counted in one way for old and new ones.

    So what the manifest says depends on the numbers, and not on how often the dataset was added to.
    """
    channels, height, width = store.manifest.latent_shape
    tally = NumbersTally(store.storage(), channels, entry.shard.rows * height * width)
    reader = store.shard(entry.shard)
    for start in range(0, entry.shard.rows, ROWS_AT_ONCE):
        tally.add(reader.latents(np.arange(start, min(entry.shard.rows, start + ROWS_AT_ONCE))))
    if tally.spoilt:
        raise DamagedShardError(f"Shard {store.folder / entry.shard.path} holds {tally.spoilt}: nothing is added.")
    return replace(entry, statistics=tally.statistics.to_dict(), entropy_bits=tally.bytes.bits)


def _refuse_repeated_ids(index: Mapping[str, Sequence[Any]]) -> None:
    """Ids are made of names without suffixes: one that has left may have had the id that a new one gets."""
    seen: dict[str, str] = {}
    for name, path in zip(index["id"], index["source_path"], strict=True):
        if name in seen:
            raise SourceError(
                f"The new picture {path!r} would have the id {name!r}, which {seen[name]!r} has: rename it, then type "
                "the command again."
            )
        seen[name] = path


def _left_notes(left: Sequence[str]) -> tuple[str, ...]:
    if not left:
        return ()
    count = f"{len(left):,} picture{'' if len(left) == 1 else 's'}"
    return (f"{count} of the dataset had left the source when it was last added to: {some_of(left)}",)
