"""Adding the new pictures of a source to a sealed dataset: which they are, and what is planned for them.

Old shards keep their names and bytes. New ones lie beside them, unlisted, until the new manifest takes the place of the
old one in one step; so readers see the dataset as it was, or all of it as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.calibration import ChosenStorage
from latentstore.card import write_card
from latentstore.errors import NotSealedError, PlanMismatchError, RequestError, SourceError
from latentstore.growth import KNOWN_BY, KnownPicture, Recalled, generations_of, known_pictures, recall, refuse_moved
from latentstore.hashing import sha256_of
from latentstore.journal import APPENDS_TO, append_underway, claim_append, is_tidy, tidy
from latentstore.manifest import FILE_NAME, FORMAT_VERSION, Manifest, preview_name
from latentstore.manifest.names import index_name
from latentstore.plan import PlannedRows, plan_rows
from latentstore.quarantine import write_skipped
from latentstore.sources.interface import names_of, placed
from latentstore.sources.sample import LIMIT, SampledSplit
from latentstore.store import LatentStore, open_local_store

if TYPE_CHECKING:
    from latentstore.plan_opening import OpenedPlan
    from latentstore.sources.interface import SplitReader

MAY_DIFFER = {"listing", "pictures", "revision"}
"""Of the plan: what says which pictures the source holds."""
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

    def identity(self, versions: Mapping[str, str]) -> dict[str, Any]:
        """What must agree for two runs to be the same append, as plain JSON; ``versions`` are those that compute.

        What other versions had begun is thrown away: all that one append adds is of those it is said to be of.
        """
        found = {**self.ready.fingerprint, "versions": dict(versions), APPENDS_TO: self.manifest_sha256}
        return dict(json.loads(json.dumps(found)))

    @property
    def chosen(self) -> ChosenStorage:
        """The storage that the dataset has."""
        storage = self.before.storage
        return ChosenStorage(storage.name, storage.step_sigma, storage.steps, storage.calibration)


def growth_of(ready: OpenedPlan, folder: Path) -> Growth | None:
    """What is new in the source of a plan, against the dataset in ``folder``; None where nothing is.

    Raises StoreError, PlanMismatchError, RequestError or SourceError where it cannot be added.
    """
    manifest_sha256 = sha256_of(folder / FILE_NAME)  # before it is read: who replaces it meanwhile is found out
    store = open_local_store(folder)
    _refuse_newer_format(store)
    _refuse_other_plan(ready, store)
    known = known_pictures(store.manifest, store.checked_index(KNOWN_BY))
    try:
        new = {split: _new(store, split, reader, known.get(split, ())) for split, reader in ready.source.splits.items()}
        recalled = recall(store.manifest, known, ready.source)
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
    return Growth(store, manifest_sha256, replace(ready, rows=rows), recalled, pictures)


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
    """The manifest as it is, and its card; what an append had begun that has no picture left is removed."""
    manifest = Manifest.read(folder)
    write_card(folder.parent)  # an append that was stopped between manifest and card left the one before
    if not is_tidy(folder):
        with claim_append(folder, {APPENDS_TO: sha256_of(folder / FILE_NAME)}):
            tidy_append(folder, manifest)
    return manifest


def tidy_append(folder: Path, manifest: Manifest) -> None:
    """Remove what only the manifest before this one needed, what was needed until this one, and what no one will be."""
    appended = len(manifest.build.appended)
    if appended:
        write_skipped(folder, manifest.build.skipped)
    for number in (*range(appended), appended + 1):
        for name in {index_name(number), preview_name(number)} - {manifest.index.path, manifest.preview}:
            (folder / name).unlink(missing_ok=True)
    tidy(folder)


def _refuse_newer_format(store: LatentStore) -> None:
    """RequestError where the manifest may have fields that would be lost: those of a newer format are not read."""
    found = store.manifest.format_version
    if _version(found) > _version(FORMAT_VERSION):
        raise RequestError(
            f"{store.folder} is in format {found}, and this latentstore writes {FORMAT_VERSION}: install the newer one "
            "with pip install --upgrade latentstore, then type the command again."
        )


def _version(text: str) -> list[int]:
    return [int(part) for part in text.split(".")]


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
        told = some_of(
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


def _new(store: LatentStore, split: str, reader: SplitReader, known: Sequence[KnownPicture]) -> list[int]:
    """Places of the pictures of a split that the dataset does not hold yet; LookupError where that cannot be said."""
    in_place = placed(reader)
    if in_place is not None:
        if known:
            refuse_moved(store.manifest, split, known, in_place)
        return list(range(len(known), len(reader)))
    old = {picture.name for picture in known}
    return [place for place, name in enumerate(names_of(reader)) if name not in old]


def _grown_rows(ready: OpenedPlan, manifest: Manifest, recalled: Recalled, new: Mapping[str, list[int]]) -> PlannedRows:
    """The rows that there are, then those of the new pictures in an order of their own."""
    places = {split: np.array(found, np.int64) for split, found in new.items()}
    splits_now = ready.source.splits
    subset = {
        split: SampledSplit(splits_now[split], rows, splits_now[split].random_access) for split, rows in places.items()
    }
    _, height, width = manifest.latent_shape
    known = (height * manifest.vae.stride, width * manifest.vae.stride)
    planned = plan_rows(ready.plan, replace(ready.source, splits=subset), padded=known)
    if planned.padded != known:
        raise SourceError(
            f"The new pictures would be encoded at {planned.padded[0]}x{planned.padded[1]} pixels, those of the "
            f"dataset at {known[0]}x{known[1]}: a config holds one latent shape, so build them into another --config."
        )
    splits = dict(recalled.splits)
    for split, rows in planned.splits.items():
        images = np.stack([places[split][rows[:, 0]], rows[:, 1]], axis=1)
        splits[split] = np.concatenate([splits.get(split, np.empty((0, 2), np.int64)), images])
    due = {split: len(rows) for split, rows in planned.splits.items()}
    return replace(ready.rows, splits=splits, generations=(*generations_of(manifest), due))


def some_of(names: Sequence[str]) -> str:
    """The first of these names, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
