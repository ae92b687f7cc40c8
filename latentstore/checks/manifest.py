"""The manifest against itself, against the plan it was built from, and against the tables of this version."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from latentstore.checks.interface import Finding, Findings, Inspection
from latentstore.growth import names_of_shards
from latentstore.json_records import plain
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.manifest.names import INDEX, index_name
from latentstore.pixels import TILE_FEATURES, VIEW_FEATURES
from latentstore.sources.table import SOURCES
from latentstore.storage.table import STORAGES
from latentstore.vaes.interface import VaeRow
from latentstore.vaes.table import VAES
from latentstore.version import __version__

COMMIT = re.compile(r"[0-9a-f]{40}")
ADDED = {**TILE_FEATURES, **VIEW_FEATURES}
"""Columns that come from the preparation, not from the source."""
STEP_TOLERANCE = 1e-6
"""Relative: steps are rounded to float32."""


def check_manifest(inspection: Inspection) -> Findings:
    """What parsing does not see: opening the store has checked presence and type of every field."""
    manifest, folder = inspection.manifest, inspection.store.folder.name
    if folder != manifest.config:
        yield _at("config", f"the folder is called {folder!r}, the config {manifest.config!r}")
    yield from _names(inspection)
    yield from _counts(manifest)
    yield from _steps(manifest)
    inspection.note = f"format {manifest.format_version}"


def _names(inspection: Inspection) -> Findings:
    manifest, container = inspection.manifest, inspection.store.container
    index = INDEX if manifest.storage.converted else index_name(len(manifest.build.appended))
    if manifest.index.path != index:
        yield _at("index.path", f"expected {index}, found {manifest.index.path!r}")
    if manifest.storage.layout not in container.layouts:
        yield _at("storage.layout", f"{container.name} has no layout {manifest.storage.layout!r}")
    for split, info in manifest.splits.items():
        names = names_of_shards(manifest, split)
        if len(names) != len(info.shards):
            yield _at(f"splits.{split}.shards", f"expected {len(names)} shards, found {len(info.shards)}")
            continue
        for number, (shard, name) in enumerate(zip(info.shards, names, strict=True)):
            if shard.path != name:
                yield _at(f"splits.{split}.shards[{number}].path", f"expected {name}, found {shard.path!r}")


def _counts(manifest: Manifest) -> Findings:
    _, height, width = manifest.latent_shape
    for split, info in manifest.splits.items():
        yield from _differs(f"statistics.{split}.count", manifest.statistics[split].count, info.rows * height * width)
        skipped = {entry.position for entry in manifest.build.skipped if entry.split == split}
        # A picture that is skipped may have been several tiles, or several views.
        if manifest.preparation.tile is None and not manifest.preparation.views:
            images = manifest.source.images.get(split)
            yield from _differs(f"source.images.{split}", images, info.rows + len(skipped))
    if set(manifest.source.images) != set(manifest.splits):
        yield _at("source.images", f"expected the splits {', '.join(manifest.splits)}")


def _steps(manifest: Manifest) -> Findings:
    """Steps follow from the calibration: a multiple of each channel's standard deviation, but where widened."""
    storage = manifest.storage
    if storage.steps is None or storage.calibration is None or storage.step_sigma is None:
        return
    if len(storage.calibration.std) != len(storage.steps):
        yield _at("storage.calibration.std", f"expected {len(storage.steps)} numbers")
        return
    for channel, (step, std) in enumerate(zip(storage.steps, storage.calibration.std, strict=True)):
        wanted = storage.step_sigma * std
        if channel not in storage.calibration.widened and abs(step - wanted) > STEP_TOLERANCE * wanted:
            yield _at(
                f"storage.steps[{channel}]", f"expected step_sigma x calibration.std = {wanted:.9g}, found {step}"
            )


def check_provenance(inspection: Inspection) -> Findings:
    """Who made it from what: as the build plan says, and as the tables say of a VAE or source that they know.

    The tables are part of one version of this library, so another version's are only worth a warning.
    """
    manifest = inspection.manifest
    for path, recorded, wanted in _planned(manifest):
        if recorded != wanted:
            yield _at(path, f"{recorded!r} is not what build.plan says, {wanted!r}")
    if manifest.posterior not in ("mean", "sample"):
        yield _at("posterior", f"expected 'mean' or 'sample', found {manifest.posterior!r}")
    same_tables = manifest.environment.versions.get("latentstore") == __version__
    for path, recorded, wanted in _tabled(manifest):
        if recorded != wanted:
            table = "the table of this version of latentstore"
            yield Finding(FILE_NAME, f"{path}: {recorded!r} is not what {table} says, {wanted!r}", not same_tables)
    known = [kind for kind, row in (("VAE", _vae_row(manifest)), ("source", _source_row(manifest))) if row is not None]
    inspection.note = f"build.plan, and the table's {' and '.join(known)}" if known else "build.plan"


@dataclass(frozen=True)
class _Planned:
    """One entry of build.plan, and the field of the manifest that says the same."""

    key: str
    field: str
    after_conversion: bool = True
    """Whether it still holds when the dataset was written in other numbers."""


PLANNED = (
    _Planned("config", "config", after_conversion=False),
    _Planned("source", "source.name"),
    _Planned("location", "source.location"),
    _Planned("options", "source.options"),
    _Planned("classes", "source.classes"),
    _Planned("vae", "vae.name"),
    _Planned("weights_sha256", "vae.weights_sha256"),
    _Planned("posterior", "posterior"),
    _Planned("device", "environment.device"),
    _Planned("dtype", "environment.dtype"),
    _Planned("memory_format", "environment.memory_format"),
    _Planned("max_psnr_drop", "storage.budget_db", after_conversion=False),
    _Planned("step", "storage.step_sigma", after_conversion=False),
    _Planned("metrics", "metrics", after_conversion=False),
    _Planned("preparation", "preparation"),
    _Planned("thumbnail", "thumbnail"),
    _Planned("order", "build.order"),
    _Planned("seed", "build.seed"),
    _Planned("batch_size", "build.batch_size"),
    _Planned("rows_per_shard", "build.rows_per_shard", after_conversion=False),
)


def _planned(manifest: Manifest) -> Iterator[tuple[str, Any, Any]]:
    """(field, recorded, wanted) of everything that build.plan says."""
    plan, converted = manifest.build.plan, bool(manifest.storage.converted)
    for entry in PLANNED:
        if entry.key in plan and (entry.after_conversion or not converted):
            yield entry.field, _field(manifest, entry.field), plan[entry.key]
    if "columns" in plan:
        passed = {name: feature for name, feature in manifest.columns.items() if name not in ADDED}
        named = plan["columns"] if isinstance(plan["columns"], Mapping) else {}
        yield "columns", passed, {name: f for name, f in named.items() if name not in ADDED}
    if "max_psnr_drop" not in plan and not converted:
        yield "storage.budget_db", manifest.storage.budget_db, None
    # A branch or tag has become a commit by the time the manifest is written.
    if COMMIT.fullmatch(str(plan.get("revision"))):
        yield "source.revision", manifest.source.revision, plan["revision"]
    first = manifest.storage.converted[0] if converted else None
    storage = manifest.storage.name if first is None else first.storage
    where = "storage.name" if first is None else "storage.converted[0].storage"
    if "storage" in plan and plan["storage"] != "auto":
        yield where, storage, plan["storage"]
    for name in ("container", "layout"):
        where = f"storage.{name}" if first is None else f"storage.converted[0].{name}"
        if name in plan:
            yield where, getattr(first or manifest.storage, name), plan[name]


def _tabled(manifest: Manifest) -> Iterator[tuple[str, Any, Any]]:
    """(field, recorded, wanted) of everything that a row of the tables says."""
    vae = _vae_row(manifest)
    if vae is not None:
        for name in ("licence", "class_name", "stride", "channels"):
            yield f"vae.{name}", getattr(manifest.vae, name), getattr(vae, name)
        if vae.normalisation is not None:
            yield "normalisation", plain(manifest.normalisation), plain(vae.normalisation)
    source = _source_row(manifest)
    if source is not None:
        for name in ("licence", "citation", "homepage"):
            yield f"source.{name}", getattr(manifest.source, name), getattr(source, name)
    storage = STORAGES[manifest.storage.name]
    yield "storage.dtype", manifest.storage.dtype, storage.dtype


def _vae_row(manifest: Manifest) -> VaeRow | None:
    """The table's row of that name, where it is of the same class: a checkpoint of someone's own may be called so."""
    row: VaeRow | None = VAES.get(manifest.vae.name)
    return row if row is not None and row.class_name == manifest.vae.class_name else None


def _source_row(manifest: Manifest) -> Any:
    """Likewise of the source, where it was read by the row's reader."""
    row = SOURCES.get(manifest.source.name)
    return row if row is not None and row.reader.__name__ == manifest.source.reader else None


def _field(manifest: Manifest, path: str) -> Any:
    value: Any = manifest
    for part in path.split("."):
        value = getattr(value, part)
    return plain(value)


def _differs(path: str, found: Any, wanted: Any) -> Findings:
    if found != wanted:
        yield _at(path, f"expected {wanted!r}, found {found!r}")


def _at(path: str, message: str) -> Finding:
    return Finding(FILE_NAME, f"{path}: {message}")
