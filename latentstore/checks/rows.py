"""The scalar columns of all rows, as index.parquet has them: types, ids, labels, and what follows from them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from latentstore.checks.interface import (
    Finding,
    Findings,
    Inspection,
    ShardVisit,
    counted,
    first_difference,
    some,
)
from latentstore.containers.arrow_features import CORE_DTYPES
from latentstore.containers.interface import INDEX_COLUMNS
from latentstore.duplicates import duplicates_sentence, find_duplicates
from latentstore.errors import StoreError
from latentstore.json_records import plain
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.manifest.names import INDEX
from latentstore.metrics.table import METRICS
from latentstore.quality import MetricSummary
from latentstore.remeasure import Unavailable
from latentstore.seal import size_ledger, summaries
from latentstore.vaes.table import VAES
from latentstore.views import VIEWS, id_of_view, id_without_view, view_rows

Test = Callable[[Any], bool]


# index ---------------------------------------------------------------------------------------------------------------


def check_index(inspection: Inspection) -> Findings:
    """index.parquet has the recorded bytes, all columns, and the rows of all shards in their order."""
    store = inspection.store
    try:
        index = store.index()
    except StoreError as error:
        yield Finding(INDEX, str(error))
        return
    lacking = [name for name in (*store.schema.scalar_columns, *INDEX_COLUMNS) if name not in index]
    if lacking:
        yield Finding(INDEX, f"lacks the columns {', '.join(lacking)}")
        return
    wanted: dict[str, list[Any]] = {name: [] for name in INDEX_COLUMNS}
    for split, info in inspection.shards():
        wanted["split"] += [split] * info.rows
        wanted["shard"] += [info.path] * info.rows
        wanted["row"] += range(info.rows)
    for name, values in wanted.items():
        place = first_difference(index[name], values)
        if place is not None:
            yield Finding(INDEX, f"column {name!r} is not that of the manifest's shards in order, from row {place}")
            return
    inspection.index = index
    inspection.note = f"{len(index['id']):,} rows"


def check_rows(inspection: Inspection, shard: ShardVisit) -> Findings:
    """The shard's own columns are those of the index, row by row."""
    start = inspection.starts[shard.info.path]
    expected = {name: inspection.index[name][start : start + shard.info.rows] for name in shard.columns}
    places = {name: first_difference(values, expected[name]) for name, values in shard.columns.items()}
    wrong = {name: place for name, place in places.items() if place is not None}
    if "id" in wrong and Counter(shard.columns["id"]) == Counter(expected["id"]):
        yield Finding(shard.info.path, f"has the rows of {INDEX} in another order, from row {wrong['id']}")
        return
    for name, place in wrong.items():
        found, indexed = shard.columns[name][place], expected[name][place]
        yield Finding(shard.info.path, f"column {name!r}, row {place}: {found!r}, but {INDEX} says {indexed!r}")


def note_rows(inspection: Inspection) -> Findings:
    """After all shards: how many rows were compared."""
    inspection.note = f"{len(inspection.sound_rows()):,} rows compared"
    yield from ()


# columns -------------------------------------------------------------------------------------------------------------

KINDS: dict[str, type] = {"string": str, "int32": int, "int64": int, "uint32": int, "float32": float}
"""What a value of each type is in Python."""
SHA256 = re.compile(r"[0-9a-f]{64}")
EMPTY_ALLOWED = frozenset({"label"})
"""Of the columns that every dataset has; scores may be undefined too."""
TESTS: dict[str, tuple[str, Test]] = {
    "id": ("not empty", bool),
    "label": ("0 or more", lambda value: bool(value >= 0)),
    "source_sha256": ("64 hexadecimal digits", lambda value: SHA256.fullmatch(value) is not None),
    "source_bytes": ("0 or more", lambda value: bool(value >= 0)),
    "latent_crc32": ("of 32 bits", lambda value: bool(0 <= value < 2**32)),
}


def check_columns(inspection: Inspection) -> Findings:
    """Values have their column's type, are there where they must be, and picture sizes fit the latents."""
    schema, index = inspection.store.schema, inspection.index
    for name in schema.scalar_columns:
        if name in schema.features:
            continue
        dtype = CORE_DTYPES.get(name, "float32")
        optional = name in EMPTY_ALLOWED or name in schema.metrics
        values = index[name]
        kinds = set(map(type, values))
        wrong = kinds - {KINDS[dtype]} - ({type(None)} if optional else set())
        if wrong:
            faulty = [row for row, value in enumerate(values) if type(value) in wrong]
            what = "null" if wrong == {type(None)} else f"{_names(wrong)} instead of {dtype}"
            yield _in_rows(inspection, name, faulty, f"is {what}")
        elif name in TESTS:
            wanted, test = TESTS[name]
            faulty = [row for row, value in enumerate(values) if value is not None and not test(value)]
            if faulty:
                yield _in_rows(inspection, name, faulty, f"is not {wanted}")
        elif name in schema.metrics:
            scores = np.array([0.0 if value is None else value for value in values])
            if np.isnan(scores).any():
                yield _in_rows(inspection, name, np.flatnonzero(np.isnan(scores)).tolist(), "is NaN instead of null")
    yield from _sizes(inspection)
    yield from _views(inspection)
    inspection.note = f"{len(schema.scalar_columns)} columns"


def _sizes(inspection: Inspection) -> Findings:
    """Each true picture fits into the pixels its latent covers, and would be padded to just those."""
    manifest = inspection.manifest
    for axis, name in enumerate(("height", "width")):
        values = _upright(inspection, name)
        if set(map(type, values)) != {int}:
            continue  # said above
        sizes = np.array(values, np.int64)
        padded = manifest.latent_shape[1 + axis] * manifest.vae.stride
        least, most = _bounds(manifest, axis, padded)
        faulty = np.flatnonzero((sizes < least) | (sizes > most)).tolist()
        if faulty:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            shown = f"is {sizes[faulty[0]]}, but latents of {padded} padded pixels as prepared need {wanted}"
            yield _in_rows(inspection, name, faulty, shown)


def _upright(inspection: Inspection, name: str) -> Sequence[Any]:
    """Heights or widths of the pictures as they were prepared, before a view made the one the other."""
    index = inspection.index
    values: Sequence[Any] = index[name]
    if not any(row.swaps for row in view_rows(inspection.manifest.preparation.views)):
        return values
    others = index["width" if name == "height" else "height"]
    swapped = [view in VIEWS and VIEWS[view].swaps for view in index["view"]]
    return [other if swaps else own for own, other, swaps in zip(values, others, swapped, strict=True)]


def _views(inspection: Inspection) -> Findings:
    """Every row is in one of the stored views, and its id says in which."""
    views, index = inspection.manifest.preparation.views, inspection.index
    if not views:
        return
    rows = list(zip(index["id"], index["view"], strict=True))
    unknown = [row for row, (_, view) in enumerate(rows) if view not in views]
    if unknown:
        shown = f"is {rows[unknown[0]][1]!r}, but the stored views are {', '.join(views)}"
        yield _in_rows(inspection, "view", unknown, shown)
    unnamed = [
        row
        for row, (name, view) in enumerate(rows)
        if view in views and id_of_view(id_without_view(name, view), view) != name
    ]
    if unnamed:
        name, view = rows[unnamed[0]]
        yield _in_rows(inspection, "id", unnamed, f"is {name!r}, but a row in the view {view} ends with @{view}")


def _bounds(manifest: Manifest, axis: int, padded: int) -> tuple[int, int]:
    """The smallest and the largest true size that becomes a latent of this size."""
    preparation = manifest.preparation
    row = VAES.get(manifest.vae.name)
    least = 1 if row is None else max(1, padded - manifest.vae.stride * row.cells + 1)
    if preparation.tile is not None:
        # The tile itself is padded, its pieces at the edge of a picture may be smaller; a tile that does not fit: none.
        tile = preparation.tile[axis]
        return (1, tile) if least <= tile <= padded else (1, 0)
    stretched = preparation.resize if preparation.resize is not None and len(preparation.resize) == 2 else None
    fixed = preparation.crop or stretched
    if fixed is not None:
        return (fixed[axis], fixed[axis]) if least <= fixed[axis] <= padded else (1, 0)
    return least, padded


def _in_rows(inspection: Inspection, column: str, rows: Sequence[int], message: str) -> Finding:
    """A finding about a column, in the shard of the first row concerned."""
    shard, row = inspection.index["shard"][rows[0]], inspection.index["row"][rows[0]]
    more = f" (and {counted(len(rows) - 1, 'further row')})" if len(rows) > 1 else ""
    return Finding(shard, f"column {column!r} {message}, row {row}{more}")


def _names(kinds: set[type]) -> str:
    return " or ".join(sorted("null" if kind is type(None) else kind.__name__ for kind in kinds))


# ids, labels, duplicates ---------------------------------------------------------------------------------------------


def check_ids(inspection: Inspection) -> Findings:
    """No id occurs twice, in one split or in two."""
    index = inspection.index
    counts = Counter(index["id"])
    repeated = {name for name, count in counts.items() if count > 1}
    places: dict[str, list[str]] = {}
    if repeated:
        for name, shard in zip(index["id"], index["shard"], strict=True):
            if name in repeated:
                places.setdefault(name, []).append(shard)
    for name, shards in places.items():
        where = some(dict.fromkeys(shards))
        yield Finding(shards[0], f"id {name!r} occurs {len(shards)} times ({where})")
    inspection.note = f"{len(counts):,} ids"


def check_labels(inspection: Inspection) -> Findings:
    """Every label is a place in the class list."""
    classes = inspection.manifest.source.classes
    if classes is None:
        inspection.note = "no classes"
        return
    outside = [
        row for row, label in enumerate(inspection.index["label"]) if label is not None and label >= len(classes)
    ]
    for row in outside:
        label, shard = inspection.index["label"][row], inspection.index["shard"][row]
        message = f"row {inspection.index['row'][row]} has label {label}, but there are {len(classes)} classes"
        yield Finding(shard, message)
    inspection.note = f"{len(classes)} classes"


def check_duplicates(inspection: Inspection) -> Findings:
    """build.duplicates is what the rows say; that there are any is a warning."""
    found = find_duplicates(inspection.index)
    if found != inspection.manifest.build.duplicates:
        yield Finding(FILE_NAME, "build.duplicates does not follow from the source_sha256 of the rows")
    sentence = duplicates_sentence(found)
    if sentence:
        yield Finding(INDEX, sentence, warning=True)
    for group in found.examples if found.across_splits else ():
        if len(set(group.splits)) > 1:
            pairs = (f"{split} {name!r}" for split, name in zip(group.splits, group.ids, strict=True))
            yield Finding(INDEX, f"one picture is {' and '.join(pairs)}", warning=True)
    inspection.note = sentence or "no two pictures are the same"


# summaries -----------------------------------------------------------------------------------------------------------

WORDING = ("title", "protocol")
"""Parts of a summary that are text for people: a later version may say the same in other words."""


def check_summaries(inspection: Inspection) -> Findings:
    """Quality and sizes in the manifest follow from the rows."""
    manifest = inspection.manifest
    if not inspection.index["id"]:
        raise Unavailable("there are no rows")
    known = [METRICS[name] for name in manifest.metrics if name in METRICS]
    found = summaries(known, inspection.index, manifest.source.classes)
    for name, summary in found.items():
        for part in fields(MetricSummary):
            if plain(getattr(summary, part.name)) != plain(getattr(manifest.quality[name], part.name)):
                text = f"quality.{name}.{part.name} is not that of "
                text += "the metric in this version" if part.name in WORDING else "the rows' own scores"
                yield Finding(FILE_NAME, text, warning=part.name in WORDING)
    recorded = manifest.size
    ledger = size_ledger(
        inspection.store.schema,
        inspection.index,
        recorded.stored_bytes,
        recorded.entropy_bytes,
        recorded.thumbnail_bytes,
    )
    for part in fields(ledger):
        if getattr(ledger, part.name) != getattr(recorded, part.name):
            yield Finding(FILE_NAME, f"size.{part.name} does not follow from the rows and the shards")
    unknown = [name for name in manifest.metrics if name not in METRICS]
    left_out = f"; {', '.join(unknown)}: unknown to this version" if unknown else ""
    inspection.note = f"{counted(len(found), 'metric')}, sizes{left_out}"
