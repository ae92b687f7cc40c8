"""Adding the new pictures of a source to a sealed dataset: what is planned, and how both parts are sealed as one.

Old shards keep their names and bytes. New ones lie beside them, unlisted, until the new manifest takes the place of the
old one in one step; so readers see the dataset as it was, or all of it as it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.calibration import ChosenStorage
from latentstore.card import write_card
from latentstore.duplicates import find_duplicates
from latentstore.errors import DamagedShardError, NotSealedError, PlanMismatchError, RequestError, SourceError
from latentstore.growth import Recalled, generations_of, planned_names, recall
from latentstore.hashing import sha256_of
from latentstore.journal import JOURNAL, FinishedShard, append_underway, claim_append, sync_folder, tidy, written_whole
from latentstore.manifest import FILE_NAME, FORMAT_VERSION, AppendInfo, Manifest, ShardInfo
from latentstore.pictures import PictureReader
from latentstore.plan import PlannedRows, plan_rows
from latentstore.preview import write_preview
from latentstore.quarantine import write_skipped
from latentstore.seal import collect_index, index_info, index_name, size_ledger, summaries, thumbnail_bytes
from latentstore.shard_totals import ShardTotals
from latentstore.sources.interface import names_of
from latentstore.sources.sample import LIMIT, SampledSplit
from latentstore.sources.table import ingest_report
from latentstore.store import LatentStore, open_local_store
from latentstore.value_counts import NumbersTally

if TYPE_CHECKING:
    from latentstore.journal import BuildFolder
    from latentstore.plan_opening import OpenedPlan
    from latentstore.sources.interface import SplitReader

MAY_DIFFER = {"listing", "pictures", "revision"}
"""Of the plan: what says which pictures the source holds."""
ROWS_AT_ONCE = 256
NAMED = 3
"""Pictures that a sentence names."""


@dataclass(frozen=True)
class Growth:
    """A sealed dataset, and the pictures that are to be added to it."""

    store: LatentStore
    """As it is before."""
    manifest_sha256: str
    """Of its manifest.json."""
    ready: OpenedPlan
    """Its rows are those of the dataset and, as the last generation, the new ones."""
    recalled: Recalled
    pictures: Mapping[str, int]
    """New ones of each split that has some."""

    @property
    def before(self) -> Manifest:
        """What the dataset says of itself before."""
        return self.store.manifest

    @property
    def rows(self) -> PlannedRows:
        """Of all generations."""
        return self.ready.rows

    @property
    def chosen(self) -> ChosenStorage:
        """The storage that the dataset has."""
        storage = self.before.storage
        return ChosenStorage(storage.name, storage.step_sigma, storage.steps, storage.calibration)


def growth_of(ready: OpenedPlan, folder: Path) -> Growth | None:
    """What is new in the source of a plan, against the dataset in ``folder``; None where nothing is.

    Raises StoreError, PlanMismatchError, RequestError or SourceError where it cannot be added.
    """
    store = open_local_store(folder)
    _refuse_other_plan(ready, store)
    index = store.index(["split", "source_path"])
    known = planned_names(store.manifest, index)
    try:
        recalled = recall(known, ready.source)
        new = {split: _new(reader, known.get(split, ())) for split, reader in ready.source.splits.items()}
    except LookupError as error:
        name = ready.plan.source.name
        raise RequestError(
            f"Nothing can be added from source {name!r}, because new pictures cannot be told from old ones: "
            f"{error.args[0]}; build all of them into another --config."
        ) from error
    new = {split: places for split, places in new.items() if len(places)}
    if not new:
        return None
    rows = _grown_rows(ready, store.manifest, recalled, new)
    pictures = {split: len(places) for split, places in new.items()}
    return Growth(store, sha256_of(folder / FILE_NAME), replace(ready, rows=rows), recalled, pictures)


def refuse_unsealed(folder: Path) -> None:
    """NotSealedError where there is nothing yet that could be added to."""
    if not (folder / FILE_NAME).is_file():
        raise NotSealedError(
            f"{folder} holds no finished dataset that could be added to: type the command without --append."
        )


def refuse_underway(folder: Path) -> None:
    """RequestError where an append was begun in ``folder`` and is not sealed: only another append may go on."""
    if append_underway(folder):
        raise RequestError(
            f"An append to {folder} was begun and is not finished: type the command with --append to finish it."
        )


def nothing_to_append(folder: Path) -> Manifest:
    """The manifest as it is; what an append had begun that has no picture left is removed."""
    manifest = Manifest.read(folder)
    if (folder / JOURNAL).is_dir():
        with claim_append(folder, {}, sha256_of(folder / FILE_NAME)):
            tidy_append(folder, manifest)
    return manifest


def tidy_append(folder: Path, manifest: Manifest) -> None:
    """Remove what only the manifest before this one needed, and what was needed until this one was written."""
    if manifest.build.appended:
        write_skipped(folder, manifest.build.skipped)
        for number in range(len(manifest.build.appended)):
            if index_name(number) != manifest.index.path:
                (folder / index_name(number)).unlink(missing_ok=True)
    tidy(folder)


def _refuse_other_plan(ready: OpenedPlan, store: LatentStore) -> None:
    """What is added must be made as the rest was, but for which pictures there are."""
    manifest, folder, wanted = store.manifest, store.folder, ready.fingerprint
    if manifest.storage.converted:
        raise RequestError(f"{folder} was converted from another dataset: add to that one, and convert it again.")
    if LIMIT in manifest.source.options or LIMIT in wanted["options"]:
        raise RequestError(f"{folder} holds a sample of its source: a sample cannot be added to.")
    known = manifest.build.plan
    if known.get("classes") != wanted["classes"]:
        old, new = known.get("classes") or (), wanted["classes"] or ()
        told = _some(
            [*(f"+{name}" for name in new if name not in old), *(f"-{name}" for name in old if name not in new)]
        )
        raise PlanMismatchError(
            f"The source has other classes than {folder} ({told or 'in another order'}), which would give labels "
            "another meaning: keep the classes as they were, or build all pictures into another --config."
        )
    keys = sorted({*known, *wanted} - MAY_DIFFER)
    differing = [key for key in keys if known.get(key) != wanted.get(key)]
    if differing:
        listed = "; ".join(f"{key}: there {known.get(key)!r}, asked for {wanted.get(key)!r}" for key in differing)
        raise PlanMismatchError(
            f"What is added to {folder} must be made as the rest of it was ({listed}): give the same options, or "
            "another --config."
        )


def _new(reader: SplitReader, known: Sequence[str]) -> list[int]:
    """Places of the pictures of a split that have none of these names."""
    old = set(known)
    return [place for place, name in enumerate(names_of(reader)) if name not in old]


def _grown_rows(ready: OpenedPlan, manifest: Manifest, recalled: Recalled, new: Mapping[str, list[int]]) -> PlannedRows:
    """The rows that there are, then those of the new pictures in an order of their own."""
    places = {split: np.array(found, np.int64) for split, found in new.items()}
    subset = {split: SampledSplit(ready.source.splits[split], rows) for split, rows in places.items()}
    _, height, width = manifest.latent_shape
    known = (height * manifest.vae.stride, width * manifest.vae.stride)
    planned = plan_rows(ready.plan, replace(ready.source, splits=subset), padded=known)
    if planned.padded != known:
        raise SourceError(
            f"The new pictures would be encoded at {planned.padded[0]}x{planned.padded[1]} pixels, those of the "
            f"dataset at {known[0]}x{known[1]}: a config holds one latent shape, so build them into "
            "another --config."
        )
    splits = dict(recalled.splits)
    for split, rows in planned.splits.items():
        images = np.stack([places[split][rows[:, 0]], rows[:, 1]], axis=1)
        splits[split] = np.concatenate([splits.get(split, np.empty((0, 2), np.int64)), images])
    due = {split: len(rows) for split, rows in planned.splits.items()}
    return replace(ready.rows, splits=splits, generations=(*generations_of(manifest), due))


# SEAL ----------------------------------------------------------------------------------------------------------------


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
    """Index, preview and list of the skipped of the whole, then its manifest in the place of the old one.

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
    write_skipped(folder, manifest.build.skipped)
    written = manifest.write(folder)
    sync_folder(folder)
    tidy_append(folder, written)
    write_card(folder.parent)
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
    return (f"{count} of the dataset had left the source when it was last added to: {_some(left)}",)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
