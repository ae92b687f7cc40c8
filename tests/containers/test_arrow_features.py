from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentstore.containers.arrow_features import CORE_DTYPES, arrow_type, feature_of_column, scalar_array
from latentstore.containers.interface import CORE_COLUMNS, ShardSchema
from latentstore.errors import RequestError

STRING = {"dtype": "string", "_type": "Value"}
SCHEMA = ShardSchema((4, 2, 3), "float16", ("a", "b"), ("psnr",), {"caption": STRING})


def value(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "_type": "Value"}


# Kept apart from `datasets` so that it can be compared with it below.
FEATURES: dict[str, tuple[Any, pa.DataType]] = {
    "string": (STRING, pa.string()),
    "large_string": (value("large_string"), pa.large_string()),
    "binary": (value("binary"), pa.binary()),
    "bool": (value("bool"), pa.bool_()),
    "int8": (value("int8"), pa.int8()),
    "uint64": (value("uint64"), pa.uint64()),
    "float16": (value("float16"), pa.float16()),
    "float64": (value("float64"), pa.float64()),
    "date32": (value("date32"), pa.date32()),
    "time64": (value("time64[us]"), pa.time64("us")),
    "duration": (value("duration[ms]"), pa.duration("ms")),
    "timestamp": (value("timestamp[s]"), pa.timestamp("s")),
    "timestamp with zone": (value("timestamp[us, tz=Europe/Zurich]"), pa.timestamp("us", tz="Europe/Zurich")),
    "timestamp with offset": (value("timestamp[ns, tz=+07:30]"), pa.timestamp("ns", tz="+07:30")),
    "decimal": (value("decimal128(10, -2)"), pa.decimal128(10, -2)),
    "wide decimal": (value("decimal256(50, 3)"), pa.decimal256(50, 3)),
    "class label": ({"names": ["a"], "_type": "ClassLabel"}, pa.int64()),
    "list": ({"feature": STRING, "_type": "List"}, pa.list_(pa.string())),
    "list of fixed length": ({"feature": value("int32"), "length": 2, "_type": "List"}, pa.list_(pa.int32(), 2)),
    "list without length": ({"feature": value("int32"), "length": -1, "_type": "List"}, pa.list_(pa.int32())),
    "large list": ({"feature": value("int32"), "_type": "LargeList"}, pa.large_list(pa.int32())),
    "list in the old way": ([value("int32")], pa.list_(pa.int32())),
    "struct": (
        {"a": STRING, "b": {"c": value("int8")}},
        pa.struct({"a": pa.string(), "b": pa.struct({"c": pa.int8()})}),
    ),
    "list of structs": (
        {"feature": {"a": STRING}, "_type": "List"},
        pa.list_(pa.struct({"a": pa.string()})),
    ),
}


@pytest.mark.parametrize(("feature", "expected"), FEATURES.values(), ids=FEATURES)
def test_a_feature_has_the_arrow_type_of_its_kind(feature: Any, expected: pa.DataType) -> None:
    assert arrow_type(feature, "x") == expected


@pytest.mark.parametrize("feature", [feature for feature, _ in FEATURES.values()], ids=FEATURES)
def test_datasets_takes_it_for_the_same_type(feature: Any) -> None:
    datasets = pytest.importorskip("datasets")
    theirs = datasets.Features.from_dict({"x": feature}).arrow_schema.field("x").type
    assert arrow_type(feature, "x") == theirs


@pytest.mark.parametrize("feature", [value("int7"), value("timestamp[us, tz="), value(""), value("decimal128(1)")])
def test_a_type_that_arrow_does_not_have_is_refused_naming_the_column(feature: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        arrow_type(feature, "gsd")
    assert str(caught.value) == (
        f"Column 'gsd' of the source has type {feature['dtype']!r}, which latentstore cannot pass through."
    )


@pytest.mark.parametrize(
    ("feature", "named"),
    [
        ({"_type": "Image"}, "'Image'"),
        ({"feature": {"_type": "Audio"}, "_type": "List"}, "'Audio'"),
        ({"shape": [2, 2], "dtype": "float32", "_type": "Array2D"}, "'Array2D'"),
        ({"a": {"_type": "Video"}}, "'Video'"),
        ([], r"\[\]"),
        ("string", "'string'"),
        (None, "None"),
    ],
)
def test_a_feature_that_cannot_be_passed_through_is_refused(feature: Any, named: str) -> None:
    with pytest.raises(RequestError, match=rf"^Column 'x' of the source has type {named}, which latentstore cannot"):
        arrow_type(feature, "x")


def test_every_column_has_a_feature() -> None:
    assert feature_of_column(SCHEMA, "latent") == {"shape": [4, 2, 3], "dtype": "float16", "_type": "Array3D"}
    assert feature_of_column(SCHEMA, "label") == {"names": ["a", "b"], "_type": "ClassLabel"}
    assert feature_of_column(SCHEMA, "psnr") == value("float32")
    assert feature_of_column(SCHEMA, "caption") == STRING
    assert tuple(CORE_DTYPES) == CORE_COLUMNS
    for name in set(CORE_COLUMNS) - {"label"}:
        assert feature_of_column(SCHEMA, name) == value(CORE_DTYPES[name])


NAN = float("nan")
WIDTHS: dict[str, Any] = {"float16": 16, "float32": 32, "float64": 64}


def column(feature: Any, values: Any) -> pa.Array:
    """The values as a further column of this feature."""
    return scalar_array(ShardSchema((1, 1, 1), "float16", None, (), {"x": feature}), "x", values)


def bits(number: float | None) -> bytes | None:
    """So that -0.0 is not 0.0."""
    return None if number is None else struct.pack("<d", number)


@pytest.mark.parametrize("dtype", WIDTHS)
@given(st.data())
def test_nan_is_null_and_every_other_number_stays_to_the_bit(dtype: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | st.floats(width=WIDTHS[dtype])))
    found = column(value(dtype), values)
    wanted = [None if number is None or math.isnan(number) else number for number in values]
    assert found.type == arrow_type(value(dtype), "x")
    assert [bits(number) for number in found.to_pylist()] == [bits(number) for number in wanted]
    assert found.null_count == wanted.count(None)


@pytest.mark.parametrize("dtype", WIDTHS)
def test_numbers_of_numpy_are_like_those_of_python(dtype: str) -> None:
    numbers = np.array([1.5, np.nan, -0.0, np.inf, -np.inf], dtype)
    wanted = column(value(dtype), numbers.tolist())
    assert wanted.null_count == 1
    for values in (numbers, list(numbers), numbers.astype(object)):
        found = column(value(dtype), values)
        assert found.type == wanted.type
        assert list(map(bits, found.to_pylist())) == list(map(bits, wanted.to_pylist()))


@pytest.mark.parametrize(
    ("dtype", "known"), [("int64", 7), ("uint32", 2**32 - 1), ("string", "nan"), ("bool", True), ("binary", b"")]
)
def test_nan_in_a_column_that_holds_no_floats_is_null_too(dtype: str, known: Any) -> None:
    assert column(value(dtype), [known, NAN, None]).to_pylist() == [known, None, None]


def test_nan_inside_of_a_list_or_struct_stays() -> None:
    listed = column({"feature": value("float64"), "_type": "List"}, [[1.0, NAN], NAN, None, []]).to_pylist()
    assert listed[1:] == [None, None, []]
    assert listed[0][0] == 1.0
    assert math.isnan(listed[0][1])
    within = column({"a": value("float32"), "b": [value("float64")]}, [{"a": NAN, "b": [NAN]}, NAN]).to_pylist()
    assert within[1] is None
    assert math.isnan(within[0]["a"])
    assert math.isnan(within[0]["b"][0])


def test_a_column_without_rows_has_its_type() -> None:
    assert column(value("float32"), []) == pa.array([], pa.float32())
