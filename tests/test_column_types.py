"""Every type that pyarrow can make, as a further column: it survives everything, or is refused before encoding."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from arrow_sources import ROWS, arrow_source, column

from latentstore import CONTAINERS, VAES, BuildPlan, build, convert, load_latents, open_store, publish, pull, verify
from latentstore.card.choices import CardChoices
from latentstore.errors import LatentStoreError

DAY, NOON, EARLY = dt.date(2020, 1, 2), dt.datetime(2020, 1, 2, 12, 30, 5), dt.datetime(1960, 1, 2)  # noqa: DTZ001
LATER = dt.timedelta(days=1, seconds=2)
MONEY = Decimal("100.00")
INT, TEXT = pa.int32(), pa.string()
WHOLE = [pa.int8(), pa.int16(), INT, pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
UNITS = ("s", "ms", "us", "ns")

Kinds = dict[str, tuple[pa.DataType, list[Any]]]

KEPT: Kinds = {
    **{str(kind): (kind, [1, None, 3]) for kind in WHOLE},
    **{str(kind): (kind, [1.5, None, -2.0]) for kind in (pa.float16(), pa.float32(), pa.float64())},
    "bool": (pa.bool_(), [True, None, False]),
    "null": (pa.null(), [None] * ROWS),
    **{str(kind): (kind, ["a", None, "ü"]) for kind in (TEXT, pa.large_string(), pa.string_view())},
    **{str(kind): (kind, [b"a\0", None, b""]) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())},
    "fixed_size_binary": (pa.binary(2), [b"ab", None, b"\0\0"]),
    **{str(kind): (kind, [DAY, None, dt.date(1960, 2, 3)]) for kind in (pa.date32(), pa.date64())},
    **{f"time32[{unit}]": (pa.time32(unit), [dt.time(1, 2, 3), None, dt.time(0)]) for unit in UNITS[:2]},
    **{f"time64[{unit}]": (pa.time64(unit), [dt.time(1, 2, 3), None, dt.time(0)]) for unit in UNITS[2:]},
    **{f"timestamp[{unit}]": (pa.timestamp(unit), [NOON, None, EARLY]) for unit in UNITS},
    **{f"timestamp[{unit}, zone]": (pa.timestamp(unit, tz="Europe/Zurich"), [NOON, None, NOON]) for unit in UNITS},
    **{f"duration[{unit}]": (pa.duration(unit), [LATER, None, dt.timedelta(0)]) for unit in UNITS},
    "decimal128": (pa.decimal128(20, 2), [MONEY, None, -MONEY]),
    "decimal256": (pa.decimal256(50, 2), [MONEY, None, -MONEY]),
    "dictionary of texts": (pa.dictionary(INT, TEXT), ["a", None, "b"]),
    "dictionary of numbers": (pa.dictionary(pa.int8(), pa.int64()), [5, None, 7]),
    "list": (pa.list_(INT), [[1, None], None, []]),
    "large_list": (pa.large_list(INT), [[1], None, []]),
    "fixed_size_list": (pa.list_(INT, 2), [[1, 2], None, [3, 4]]),
    "list of lists": (pa.list_(pa.list_(pa.float32())), [[[1.0]], None, []]),
    "list of fixed lists": (pa.list_(pa.list_(pa.int8(), 2), 2), [[[1, 2], [3, 4]], None, [[5, 6], [7, 8]]]),
    "list of nulls": (pa.list_(pa.null()), [[], None, []]),
    "list of date64": (pa.list_(pa.date64()), [[DAY], None, []]),
    "large list of seconds": (pa.large_list(pa.timestamp("s")), [[NOON], None, []]),
    "fixed list of seconds": (pa.list_(pa.time32("s"), 1), [[dt.time(1)], None, [dt.time(2)]]),
    "struct": (pa.struct([("a", INT), ("b", TEXT)]), [{"a": 1, "b": "x"}, None, {"a": None, "b": None}]),
    "struct of date64": (pa.struct([("a", pa.date64())]), [{"a": DAY}, None, {"a": None}]),
    "struct of bytes": (pa.struct([("a", pa.binary())]), [{"a": b"\0"}, None, {"a": None}]),
    "list of structs": (
        pa.list_(pa.struct([("a", pa.date32()), ("b", pa.list_(pa.decimal128(9, 2)))])),
        [[{"a": DAY, "b": [MONEY]}], None, []],
    ),
}

REFUSED: Kinds = {
    "month_day_nano_interval": (pa.month_day_nano_interval(), [pa.MonthDayNano([1, 2, 3]), None, None]),
    "decimal32": (pa.decimal32(5, 2), [MONEY, None, -MONEY]),
    "decimal64": (pa.decimal64(10, 2), [MONEY, None, -MONEY]),
    "decimal of negative scale": (pa.decimal128(10, -2), [Decimal(100), None, Decimal(-300)]),
    "list_view": (pa.list_view(INT), [[1], None, []]),
    "large_list_view": (pa.large_list_view(INT), [[1], None, []]),
    "struct of nothing": (pa.struct([]), [{}, None, {}]),
    "list of structs of nothing": (pa.list_(pa.struct([])), [[{}], None, []]),
    "map": (pa.map_(TEXT, INT), [[("a", 1)], None, []]),
    "run_end_encoded": (pa.run_end_encoded(INT, pa.int64()), [5, 5, 7]),
    "sparse_union": (pa.sparse_union([pa.field("0", INT)]), [1, 2, 3]),
    "dense_union": (pa.dense_union([pa.field("0", INT)]), [1, 2, 3]),
    "uuid": (pa.uuid(), [b"0" * 16, None, b"1" * 16]),
    "json": (pa.json_(), ["{}", None, "[1]"]),
    "bool8": (pa.bool8(), [1, None, 0]),
    "fixed_shape_tensor": (pa.fixed_shape_tensor(pa.float32(), (2, 2)), [[1.0, 2, 3, 4]] * ROWS),
    "opaque": (pa.opaque(INT, "x", "y"), [1, None, 2]),
}


def names(kinds: Kinds) -> list[str]:
    return [f"c{place}" for place in range(len(kinds))]


@pytest.fixture(scope="module", params=["parquet", "webdataset"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One dataset with a column of every type that passes."""
    root = tmp_path_factory.mktemp(request.param)
    columns = {name: column(*held) for name, held in zip(names(KEPT), KEPT.values(), strict=True)}
    source = arrow_source(root / "source", columns)
    container = CONTAINERS[request.param]
    build(BuildPlan(source, VAES["pool8"], "c", container=container, order="source", threads=1), root / "out")
    return root / "out"


def values_of(folder: Path) -> dict[str, list[Any]]:
    """Every further column as the index and the shards hold it, which must be the same."""
    store = open_store(folder)
    shard = store.shard(store.manifest.splits["train"].shards[0]).columns(names(KEPT))
    index = store.index()
    assert {name: index[name] for name in names(KEPT)} == shard
    return {kind: shard[name] for kind, name in zip(KEPT, names(KEPT), strict=True)}


def as_python(kind: pa.DataType, values: list[Any]) -> list[Any]:
    """What Arrow itself gives for them."""
    found: list[Any] = column(kind, values).to_pylist()
    return found


def test_every_type_survives_build_convert_push_and_pull(built: Path, tmp_path: Path) -> None:
    other = CONTAINERS["webdataset" if open_store(built).manifest.storage.container == "parquet" else "parquet"]
    convert(built, tmp_path / "converted", container=other)
    publish(built, str(tmp_path / "pushed"), choices=CardChoices(license="mit"))
    pull(str(tmp_path / "pushed"), tmp_path / "pulled")
    expected = {kind: as_python(*held) for kind, held in KEPT.items()}
    for place in (built, tmp_path / "converted", tmp_path / "pulled"):
        report = verify(place, depth="full", trust=True)
        assert [result.findings for result in report.results if result.findings] == []
        assert values_of(place) == expected


def test_every_type_is_loaded_here_and_by_datasets(built: Path, tmp_path: Path) -> None:
    found = load_latents(built, columns=names(KEPT)).batch([2, 0])
    assert set(found) == {"latent", *names(KEPT)}
    assert all(len(found[name]) == 2 for name in names(KEPT))
    assert datasets.load_dataset(str(built), split="train", cache_dir=str(tmp_path)).num_rows == ROWS


@pytest.mark.parametrize(("kind", "values"), REFUSED.values(), ids=REFUSED)
def test_other_types_are_refused_before_a_picture_is_encoded(
    kind: pa.DataType, values: list[Any], tmp_path: Path
) -> None:
    source = arrow_source(tmp_path / "source", {"x": column(kind, values)})
    told: list[str] = []
    with pytest.raises(LatentStoreError, match=r"(leave it out with --drop-columns x|datasets dtype equivalent)\.$"):
        build(BuildPlan(source, VAES["pool8"]), tmp_path / "out", progress=lambda at: told.append(at.stage))
    assert told == []
    assert not (tmp_path / "out").exists()


def test_no_type_of_pyarrow_is_forgotten() -> None:
    """Ids of types, of which a new version may have more."""
    met = {held[0].id for held in (*KEPT.values(), *REFUSED.values())}
    every = {name: getattr(pa.lib, name) for name in dir(pa.lib) if name.startswith("Type_")}
    never = {"Type_INTERVAL_MONTHS", "Type_INTERVAL_DAY_TIME"}  # which pyarrow cannot make
    assert {name for name, number in every.items() if number not in met} <= never
