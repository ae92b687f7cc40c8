"""FORMAT.md and the code say the same."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from strategies import FORMAT, example, example_text

from latentstore.containers.arrow_features import CORE_DTYPES
from latentstore.containers.interface import CORE_COLUMNS, INDEX_COLUMNS, THUMBNAIL
from latentstore.containers.parquet import COMPACT, FAST, ROW_GROUP_BYTES, ROWS_WITH_THUMBNAILS
from latentstore.containers.parquet_limits import FREE_BYTES, GROWTH
from latentstore.containers.table import CONTAINERS
from latentstore.json_records import DEEPEST, LONGEST_TEXT, MOST_ITEMS, ONLY_WHERE_SET, plain
from latentstore.manifest import FILE_NAME, FORMAT_VERSION, STORED_DTYPES, BuildInfo, Manifest, SizeLedger
from latentstore.manifest.checks import MOST_VALUES as LARGEST_LATENT
from latentstore.manifest.names import INDEX, JOURNAL
from latentstore.manifest.text import LARGEST_TEXT, MOST_VALUES
from latentstore.metrics.table import METRICS
from latentstore.normalisation import KINDS
from latentstore.pixels import Preparation
from latentstore.plan import SHUFFLED, SOURCE_ORDER
from latentstore.storage.table import STORAGES
from latentstore.views import VIEWS

TEXT = FORMAT.read_text(encoding="utf-8")
FIELD = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
LEFT_OUT = [
    *("preparation.views", "build.retried", "build.halved", "build.appended", "size.thumbnail_bytes", "thumbnail")
]
"""Fields that the document says are left out where they are empty or 0."""
WORDS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def section(number: int) -> str:
    """The text of one section."""
    (found,) = re.findall(rf"^## {number}\. .*?(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    return str(found)


def in_words(hint: Any) -> str:
    """A type hint as the field table writes it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return f"{in_words(arguments[0])} or null"
    if origin is tuple:
        count = "" if arguments[1] is Ellipsis else f"{len(arguments)} "
        return f"list of {count}{in_words(arguments[0])}s"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        numbers = in_words(arguments[1]).replace(" or null", "s or null")
        return "object" if arguments[1] is Any else f"object of {numbers}" + ("" if "null" in numbers else "s")
    return WORDS.get(hint, "object")


def if_absent(field: Field[Any]) -> str:
    """What a reader takes for a field that is not there."""
    if field.default is not MISSING:
        return f"`{json.dumps(field.default)}`"
    return "refused" if field.default_factory is MISSING else f"`{json.dumps(plain(field.default_factory()))}`"


def described(record: type, path: str = "") -> Iterator[tuple[str, str, str]]:
    """(path, type, what if absent) of every field of a dataclass and its parts."""
    hints = get_type_hints(record)
    for field in fields(record):
        hint = hints[field.name]
        yield f"{path}{field.name}", in_words(hint), if_absent(field)
        inner = [hint, *get_args(hint)]
        for part in inner:
            if is_dataclass(part):
                optional = get_origin(hint) in (Union, types.UnionType)
                between = "[]" if get_origin(hint) is tuple else "" if part is hint or optional else ".<>"
                yield from described(part, f"{path}{field.name}{between}.")  # type: ignore[arg-type]


def test_the_field_table_is_the_manifest_field_by_field() -> None:
    table = [(re.sub(r"<\w+>", "<>", path), kind, absent) for path, kind, absent, _ in FIELD.findall(section(12))]
    assert table == list(described(Manifest))


def ranges(record: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(range, field) of every field of a dataclass and its parts that holds numbers."""
    hints = get_type_hints(record, include_extras=True)
    for field in fields(record):
        pending, place = [hints[field.name]], f"{path}{field.name}"
        while pending:
            hint = pending.pop()
            arguments = get_args(hint)
            if get_origin(hint) is Annotated:
                yield str(arguments[1]), place
            elif is_dataclass(hint):
                yield from ranges(hint, f"{place}.")
            elif get_origin(hint) is tuple and arguments[-1] is not Ellipsis:
                pending.append(arguments[0])
            else:
                inner = "[]" if get_origin(hint) is tuple and is_dataclass(arguments[0]) else ""
                between = ".<>" if arguments and is_dataclass(arguments[-1]) and not is_union(hint) else ""
                place += inner or between
                pending += [argument for argument in arguments if argument not in (str, Ellipsis, type(None))]


def is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def test_the_range_of_every_number_is_that_of_the_code() -> None:
    expected: dict[str, list[str]] = {}
    for within, field in ranges(Manifest):
        expected.setdefault(within, []).append(field)
    rows = re.findall(r"^\| (\S+ to \S+) \| (`.*`) \|$", section(12), re.MULTILINE)
    found = {within: re.findall("`([^`]+)`", re.sub(r"<\w+>", "<>", listed)) for within, listed in rows}
    assert found == expected
    listed_above = {re.sub(r"<\w+>", "<>", path): kind for path, kind, *_ in FIELD.findall(section(12))}
    numbers = [path for path, kind in listed_above.items() if re.search("integer|number", kind)]
    assert sorted(numbers) == sorted(field for listed in expected.values() for field in listed)


def test_the_largest_manifest_and_index_are_those_of_the_code() -> None:
    text = " ".join(section(12).split())
    for number in (LONGEST_TEXT, MOST_ITEMS, MOST_VALUES):
        assert f"{number:,}" in text
    assert f"{LARGEST_TEXT >> 20} MiB" in text
    assert f"{DEEPEST} levels" in text
    assert f"{LARGEST_LATENT:,} numbers" in text
    limits = " ".join(section(13).split())
    assert f"{FREE_BYTES >> 20} MiB and {GROWTH:,} times its size" in limits


def test_every_field_has_a_meaning_of_its_own() -> None:
    meanings = [meaning for *_, meaning in FIELD.findall(section(12))]
    assert all(len(meaning.split()) > 1 or meaning.startswith("`") for meaning in meanings)


def test_the_example_is_valid_and_survives_the_round_trip_to_the_letter() -> None:
    manifest = Manifest.from_json(example_text())
    assert manifest.to_json() == example_text()


def test_the_example_names_every_field_of_the_table() -> None:
    data = example()
    for path, *_ in FIELD.findall(section(12)):
        inner: Any = data
        for part in re.sub(r"\[\]", ".[]", path).split("."):
            if inner == [] and part == "[]":
                break  # nothing was converted, nothing is twice there
            if path.split("[]")[0] in LEFT_OUT and part not in inner:
                break
            key = next(iter(inner)) if part.startswith("<") else 0 if part == "[]" else part
            inner = inner[key]


def test_fields_that_are_left_out_where_empty_are_those_that_the_document_names() -> None:
    records = {"preparation.": Preparation, "build.": BuildInfo, "size.": SizeLedger, "": Manifest}
    found = [
        f"{path}{field.name}"
        for path, record in records.items()
        for field in fields(record)
        if field.metadata == ONLY_WHERE_SET
    ]
    assert found == LEFT_OUT
    text = " ".join(section(12).split())
    named = "`preparation.views`, `build.retried`, `build.halved` and `build.appended`"
    assert f"every field of this table, but for {named}, which they MUST leave out where they are empty" in text
    assert "and for `size.thumbnail_bytes` and `thumbnail`, which they MUST leave out where they are 0" in text
    assert not {"retried", "halved", "appended"} & set(example()["build"])
    assert "views" not in example()["preparation"]
    assert "views" not in example()["build"]["plan"]["preparation"]


def test_the_views_are_those_of_the_code() -> None:
    table = re.findall(r"^\| `(\w+)` \| \((.+), (.+)\) \| (\w) x (\w) \|$", section(2), re.MULTILINE)
    assert [name for name, *_ in table] == list(VIEWS)
    places = np.stack(np.meshgrid(range(2), range(3), [0], indexing="ij"), axis=-1)[:, :, 0].astype(np.uint8)
    for name, row, column, high, wide in table:
        seen = VIEWS[name].of(places)
        assert seen.shape[:2] == ({"H": 2, "W": 3}[high], {"H": 2, "W": 3}[wide])
        for i, j in np.ndindex(*seen.shape[:2]):
            known = {"i": i, "j": j, "H - 1 - i": 1 - i, "W - 1 - j": 2 - j, "H - 1 - j": 1 - j, "W - 1 - i": 2 - i}
            assert seen[i, j].tolist()[:2] == [known[row], known[column]]


def test_the_numbers_of_the_example_follow_from_each_other() -> None:
    manifest = Manifest.from_json(example_text())
    size, rows = manifest.size, manifest.rows
    channels, height, width = manifest.latent_shape
    assert size.raw_rgb_bytes == 3 * size.pixels
    assert size.payload_bytes == rows * channels * height * width
    assert 0 < size.entropy_bytes <= size.payload_bytes
    assert size.bits_per_pixel == 8 * size.stored_bytes / size.pixels
    assert size.raw_rgb_over_stored == size.raw_rgb_bytes / size.stored_bytes
    assert manifest.statistics["train"].count == rows * height * width
    assert manifest.source.images["train"] == rows + len(manifest.build.skipped)


def test_the_document_is_of_the_version_that_the_code_writes() -> None:
    assert re.findall(r"^# The format on disk, version (\S+)$", TEXT, re.MULTILINE) == [FORMAT_VERSION]
    assert f"This file is version {FORMAT_VERSION}." in section(10)
    assert Manifest.from_json(example_text()).format_version == FORMAT_VERSION


def test_the_columns_are_those_of_the_code_in_order() -> None:
    table = FIELD.findall(section(2))
    assert [name for name, *_ in table] == ["id", "latent", THUMBNAIL, *CORE_COLUMNS[1:]]
    assert {name: kind for name, kind, *_ in table if name not in ("latent", THUMBNAIL)} == CORE_DTYPES
    for name, kind in INDEX_COLUMNS.items():
        assert f"`{name}` ({kind}" in " ".join(section(2).split())


@pytest.mark.parametrize(
    ("number", "names"),
    [
        (1, [FILE_NAME, INDEX, "preview.png", f"{JOURNAL}/"]),
        (3, [f'"{SHUFFLED}"', f'"{SOURCE_ORDER}"']),
        (4, [FAST, COMPACT]),
        (5, list(STORAGES)),
        (5, list(STORED_DTYPES)),
        (6, list(KINDS)),
        (8, list(METRICS)),
        (12, [f'"{name}"' for name in CONTAINERS]),
    ],
)
def test_every_name_that_the_code_writes_is_in_its_section(number: int, names: list[str]) -> None:
    text = section(number)
    assert [name for name in names if f"`{name}`" not in text and f"/{name}" not in text] == []


def test_the_formulas_of_the_normalisations_are_those_of_the_code() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", section(6), re.MULTILINE))
    assert {name: f"model = {formula}".replace(" x ", " * ") for name, formula in table.items()} == {
        name: row.formula for name, row in KINDS.items()
    }


def test_the_size_of_a_row_group_is_that_of_the_code() -> None:
    assert f"{ROW_GROUP_BYTES >> 20} MiB" in section(4)
    assert f"not more than {ROWS_WITH_THUMBNAILS}" in section(4)


def test_sentences_are_numbered_without_gaps() -> None:
    for number in range(1, 14):
        found = re.findall(rf"^- {number}\.(\d+) ", section(number), re.MULTILINE)
        assert found == [str(place + 1) for place in range(len(found))], f"section {number}"
