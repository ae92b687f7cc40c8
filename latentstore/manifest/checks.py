"""Whether the parts of a manifest agree with each other; what does not is refused by the name of its field."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from latentstore.containers.arrow_features import fault_of_feature
from latentstore.errors import ManifestError, RequestError
from latentstore.json_records import check_ranges, plain
from latentstore.manifest.names import SPLIT_NAME, is_config_name, is_index_name, is_shard_name
from latentstore.pixels import VIEW_FEATURES
from latentstore.system.safe_paths import is_safe_name
from latentstore.views import view_rows

if TYPE_CHECKING:
    from latentstore.manifest.contract import Manifest
    from latentstore.manifest.records import SplitInfo, StorageInfo

MOST_VALUES = 1 << 31
"""Of one latent: a picture of 100,000 x 100,000 pixels, at stride 8 in 13 channels."""
STORED_DTYPES = ("float16", "float32", "uint8")
REACH = 127
"""Steps to either side of zero (see storage/int8)."""
ROUNDED = 1e-6
"""Relative: how far a multiple of a float32 number may be from the exact one, in float32."""
FLOAT32 = (2.0**-126, (2 - 2.0**-23) * 2.0**127)
"""Smallest and largest float32 above zero, but for those of less precision."""


def check(manifest: Manifest) -> None:
    """Raise ManifestError, naming the field, unless the parts agree."""
    channels, height, width = manifest.latent_shape
    if min(channels, height, width) < 1:
        raise ManifestError(f"expected three sizes above zero, found {manifest.latent_shape}", field="latent_shape")
    if channels != manifest.vae.channels:
        message = f"expected the {channels} channels of latent_shape, found {manifest.vae.channels}"
        raise ManifestError(message, field="vae.channels")
    _check_config(manifest)
    _check_normalisation(manifest)
    if set(manifest.statistics) != set(manifest.splits):
        raise ManifestError(f"expected the splits {sorted(manifest.splits)}", field="statistics")
    if set(manifest.quality) != set(manifest.metrics):
        raise ManifestError(f"expected the metrics {sorted(manifest.metrics)}", field="quality")
    _check_names(manifest)
    seen: set[str] = set()
    for name, split in manifest.splits.items():
        _check_split(name, split, seen)
    for name, numbers in manifest.statistics.items():
        if {len(numbers.mean), len(numbers.std), len(numbers.minimum), len(numbers.maximum)} != {channels}:
            raise ManifestError(f"expected {channels} numbers each", field=f"statistics.{name}")
    _check_multiples(manifest)
    _check_views(manifest)
    _check_places(manifest)
    _check_appended(manifest)
    stored = sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
    if stored != manifest.size.stored_bytes:
        message = f"expected the {stored} bytes of all shards, found {manifest.size.stored_bytes}"
        raise ManifestError(message, field="size.stored_bytes")
    _check_thumbnails(manifest)
    if manifest.index.rows != manifest.rows:
        message = f"expected the {manifest.rows} rows of all splits, found {manifest.index.rows}"
        raise ManifestError(message, field="index.rows")
    check_ranges(manifest)
    _check_columns(manifest)


def _check_columns(manifest: Manifest) -> None:
    """What a row is made of can be held, and has types."""
    if math.prod(manifest.latent_shape) > MOST_VALUES:
        message = f"expected {MOST_VALUES} numbers a latent at most, found {math.prod(manifest.latent_shape)}"
        raise ManifestError(message, field="latent_shape")
    for name, feature in manifest.columns.items():
        if (fault := fault_of_feature(feature)) is not None:
            raise ManifestError(f"expected a type in the words of `datasets`, found {fault}", field=f"columns.{name}")


def _check_config(manifest: Manifest) -> None:
    """The config and its index have names of the format, so that they lie where every config and index does."""
    if not is_config_name(manifest.config):
        message = f"expected letters, digits, '-', '_' and '.', and not 'data', found {manifest.config!r}"
        raise ManifestError(message, field="config")
    if not is_index_name(manifest.index.path):
        message = f"expected index.parquet, or index-<n>.parquet after n appends, found {manifest.index.path!r}"
        raise ManifestError(message, field="index.path")
    if not re.fullmatch(r"[0-9a-f]{64}", manifest.index.sha256) or manifest.index.bytes < 0:
        raise ManifestError(f"expected a sha256 and a size, found {manifest.index}", field="index")


def _check_normalisation(manifest: Manifest) -> None:
    channels, height, width = manifest.latent_shape
    try:
        manifest.normalisation.validate(channels)
    except ManifestError as error:
        raise error.inside("normalisation") from None
    patch = manifest.normalisation.patch
    if height % patch or width % patch:
        message = f"expected a number that divides the {height}x{width} cells of latent_shape, found {patch}"
        raise ManifestError(message, field="normalisation.patch")


def _check_names(manifest: Manifest) -> None:
    dtype = manifest.storage.dtype
    if dtype not in STORED_DTYPES:
        raise ManifestError(f"expected one of {', '.join(STORED_DTYPES)}, found {dtype!r}", field="storage.dtype")
    _check_steps(manifest.storage, manifest.latent_shape[0])
    name = manifest.schema.repeated_name
    if name is not None:
        where = "metrics" if name in manifest.metrics else "columns"
        raise ManifestError(f"expected columns of different names, found {name!r} twice", field=where)


def _check_steps(storage: StorageInfo, channels: int) -> None:
    for name in ("steps", "clipped"):
        numbers = getattr(storage, name)
        if (numbers is not None) != (storage.dtype == "uint8") or (numbers is not None and len(numbers) != channels):
            wanted = f"{channels} numbers" if storage.dtype == "uint8" else "null for floats"
            raise ManifestError(f"expected {wanted}, found {plain(numbers)!r}", field=f"storage.{name}")
    if storage.steps is not None and min(storage.steps) <= 0:
        raise ManifestError(f"expected steps above zero, found {min(storage.steps)}", field="storage.steps")
    beyond = [step for step in storage.steps or () if not FLOAT32[0] <= step <= FLOAT32[1]]
    if beyond:
        raise ManifestError(f"expected steps that float32 holds, found {beyond[0]}", field="storage.steps")


def _check_split(name: str, split: SplitInfo, seen: set[str]) -> None:
    where = f"splits.{name}"
    if not (SPLIT_NAME.fullmatch(name) and is_safe_name(name)):
        raise ManifestError("expected a name of letters, digits and underscores", field=where)
    if split.rows != sum(shard.rows for shard in split.shards):
        raise ManifestError(f"expected the {split.rows} rows its shards add up to", field=f"{where}.rows")
    for index, shard in enumerate(split.shards):
        if not is_shard_name(shard.path):
            message = f"expected a file name inside the config's folder, found {shard.path!r}"
            raise ManifestError(message, field=f"{where}.shards[{index}].path")
        if shard.path in seen or not re.fullmatch(r"[0-9a-f]{64}", shard.sha256) or min(shard.rows, shard.bytes) < 0:
            raise ManifestError(
                f"expected a new path, a sha256 and sizes, found {shard}", field=f"{where}.shards[{index}]"
            )
        seen.add(shard.path)


def _check_multiples(manifest: Manifest) -> None:
    """The smallest and largest stored numbers are whole multiples of their channel's step, or the steps are others."""
    if manifest.storage.steps is None:
        return
    for split, found in manifest.statistics.items():
        for channel, step in enumerate(manifest.storage.steps if found.count else ()):
            edges = {"minimum": found.minimum[channel], "maximum": found.maximum[channel]}
            wrong = [name for name, number in edges.items() if not _is_multiple(number, step)]
            if len(wrong) == 1:
                message = f"expected a multiple of storage.steps[{channel}] of up to {REACH} steps, found"
                field = f"statistics.{split}.{wrong[0]}[{channel}]"
                raise ManifestError(f"{message} {edges[wrong[0]]}", field=field)
            if wrong:
                message = f"expected a step of which statistics.{split} has multiples of up to {REACH}, found {step}"
                raise ManifestError(message, field=f"storage.steps[{channel}]")


def _is_multiple(number: float, step: float) -> bool:
    multiple = min(max(number / step, -2 * REACH), 2 * REACH)
    return abs(round(multiple)) <= REACH and abs(number - round(multiple) * step) <= ROUNDED * abs(number)


def _check_views(manifest: Manifest) -> None:
    """Views are known, have their column, and all give the one latent shape."""
    names = manifest.preparation.views
    _, height, width = manifest.latent_shape
    try:
        swapping = [row.name for row in view_rows(names) if row.swaps]
    except RequestError as error:
        raise ManifestError(str(error), field="preparation.views") from None
    if swapping and height != width:
        message = f"expected a square latent_shape for {', '.join(swapping)}, found {height}x{width}"
        raise ManifestError(message, field="preparation.views")
    if names and manifest.columns.get("view") != VIEW_FEATURES["view"]:
        raise ManifestError("expected a column 'view' of strings, because there are views", field="columns")


def _check_places(manifest: Manifest) -> None:
    """Pictures that went another way than the rest are of splits that there are."""
    build = manifest.build
    named = {
        "skipped": [entry.split for entry in build.skipped],
        "retried": [entry.split for entry in build.retried],
        "halved": [entry.split for entry in build.halved],
    }
    for name, splits in named.items():
        for place, split in enumerate(splits):
            if split not in manifest.splits:
                message = f"expected one of the splits {sorted(manifest.splits)}, found {split!r}"
                raise ManifestError(message, field=f"build.{name}[{place}].split")


def _check_appended(manifest: Manifest) -> None:
    """What was added is a part of what there is."""
    left = {split: manifest.planned_rows(split) for split in manifest.splits}
    for place, entry in enumerate(manifest.build.appended):
        for split, rows in entry.rows.items():
            left[split] = left.get(split, 0) - rows
            if rows < 1 or left[split] < 0:
                message = f"expected 1 or more of the rows that split {split!r} was planned with, found {rows}"
                raise ManifestError(message, field=f"build.appended[{place}].rows")


def _check_thumbnails(manifest: Manifest) -> None:
    """There are bytes of thumbnails where there are thumbnails; of equal pictures, shards may keep them only once."""
    found = manifest.size.thumbnail_bytes
    if manifest.thumbnail < 0:
        raise ManifestError(f"expected a length in pixels, or 0, found {manifest.thumbnail}", field="thumbnail")
    if found < 0 or (found > 0) != (manifest.thumbnail > 0 and manifest.rows > 0):
        wanted = "1 byte or more" if manifest.thumbnail and manifest.rows else "0, as there are no thumbnails"
        raise ManifestError(f"expected {wanted}, found {found}", field="size.thumbnail_bytes")
