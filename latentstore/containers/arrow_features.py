"""Column types in the words of `datasets` ("features", plain JSON) as Arrow types, without importing `datasets`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from latentstore.containers.columns import Column
from latentstore.containers.interface import THUMBNAIL
from latentstore.errors import RequestError

if TYPE_CHECKING:
    import pyarrow as pa

    from latentstore.containers.interface import ShardSchema

CORE_DTYPES = {
    "id": "string",
    "label": "int64",
    "height": "int32",
    "width": "int32",
    "source_path": "string",
    "source_sha256": "string",
    "source_bytes": "int64",
    "latent_crc32": "uint32",
}
LISTS = ("List", "LargeList", "Sequence")
LONGEST_LIST = 1 << 24
"""Items of a list of one length, or bytes of a value of one."""
BYTES = "uint8"
"""Stored numbers of one byte: a column of fixed-size binary, which no reader takes apart."""


def feature_of_column(schema: ShardSchema, name: str) -> Mapping[str, Any]:
    """The feature of one of our own columns, or of one passed through."""
    if name == "latent" and schema.dtype == BYTES:
        return {"dtype": f"fixed_size_binary[{schema.row_values}]", "_type": "Value"}
    if name == "latent":
        return {"shape": list(schema.latent_shape), "dtype": schema.dtype, "_type": "Array3D"}
    if name == THUMBNAIL and schema.thumbnail:
        return {"_type": "Image"}
    if name == "label" and schema.class_names is not None:
        return {"names": list(schema.class_names), "_type": "ClassLabel"}
    if name in schema.features:
        return schema.features[name]
    return {"dtype": "float32" if name in schema.metrics else CORE_DTYPES[name], "_type": "Value"}


def arrow_type(feature: Any, column: str) -> pa.DataType:
    """The Arrow type of a feature; RequestError naming the column where there is none."""
    import pyarrow as pa

    if isinstance(feature, Sequence) and not isinstance(feature, str) and len(feature) == 1:
        return pa.list_(arrow_type(feature[0], column))
    kind = feature.get("_type") if isinstance(feature, Mapping) else None
    if kind == "Value":
        return _value_type(str(feature["dtype"]), column)
    if kind == "ClassLabel":
        return pa.int64()
    if kind in LISTS:
        item = arrow_type(feature["feature"], column)
        length = feature.get("length", -1)
        if kind == "LargeList":
            return pa.large_list(item)
        return pa.list_(item, length) if length not in (None, -1) else pa.list_(item)
    if isinstance(feature, Mapping) and kind is None:
        return pa.struct([pa.field(key, arrow_type(inner, column)) for key, inner in feature.items()])
    message = f"Column {column!r} of the source has type {kind or feature!r}, which latentstore cannot pass through."
    raise RequestError(message)


def fault_of_feature(feature: Any) -> str | None:
    """What makes a feature no feature; None for one that is, be it of a kind that cannot be passed through."""
    if isinstance(feature, list):
        return fault_of_feature(feature[0]) if len(feature) == 1 else f"a list of {len(feature)}"
    if not isinstance(feature, Mapping):
        return f"a {type(feature).__name__}"
    kind = feature.get("_type")
    if kind is None:
        return next((fault for inner in feature.values() if (fault := fault_of_feature(inner))), None)
    if kind in LISTS:
        length = feature.get("length")
        sound = length is None or (isinstance(length, int) and -1 <= length <= LONGEST_LIST)
        return fault_of_feature(feature.get("feature")) if sound else f"a list of the length {str(length)[:40]}"
    return "a Value without dtype" if kind == "Value" and not isinstance(feature.get("dtype"), str) else None


def refuse_column(feature: Any, column: str) -> None:
    """RequestError naming a further column whose values cannot be written: the index of every config is Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = arrow_type(feature, column)
    try:
        pq.write_table(pa.table({column: pa.nulls(1, kind)}), pa.BufferOutputStream())
    except (pa.ArrowException, OSError, ValueError) as error:
        message = f"Column {column!r} of the source has type {kind}, which Parquet does not hold."
        raise RequestError(message) from error


def with_leaves(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """The type with each type in it that holds no other one changed, at any depth."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, with_leaves(field.type, change)) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(with_leaves(kind.value_type, change), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(with_leaves(kind.value_type, change))
    return pa.list_(with_leaves(kind.value_type, change)) if pa.types.is_list(kind) else change(kind)


def kept_by_parquet(kind: pa.DataType) -> pa.DataType:
    """The type that Parquet gives back: it counts days, and no seconds but milliseconds, at any depth."""
    import pyarrow as pa

    def kept(leaf: pa.DataType) -> pa.DataType:
        if pa.types.is_date64(leaf):
            return pa.date32()
        if leaf == pa.time32("s"):
            return pa.time32("ms")
        return pa.timestamp("ms", tz=leaf.tz) if pa.types.is_timestamp(leaf) and leaf.unit == "s" else leaf

    return with_leaves(kind, kept)


def scalar_array(schema: ShardSchema, name: str, values: Sequence[Any]) -> pa.Array | pa.ChunkedArray:
    """One scalar column with its type. NaN becomes null: an undefined score is absent, in every reader's eyes.

    Inside of a list or struct it stays. A ``Column`` comes in as many chunks as it has.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = arrow_type(feature_of_column(schema, name), name)
    if pa.types.is_nested(kind) and not isinstance(values, Column):  # Arrow's own rule for NaN reaches into lists
        known = [None if isinstance(value, float) and value != value else value for value in values]  # noqa: PLR0124
        return pa.array(known, kind)
    array = typed_array(values, kind)
    if not pa.types.is_floating(kind):
        return array
    left = pc.is_nan(array.cast(pa.float64()))  # of numbers of numpy, which that rule passes over
    return pc.if_else(left, pa.scalar(None, kind), array) if pc.any(left).as_py() else array


def typed_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """Values with an Arrow type, NaN and None as null; of a ``Column`` in chunks, as it has them."""
    import pyarrow as pa

    return values.arrow(kind) if isinstance(values, Column) else pa.array(values, kind, from_pandas=True)


def _value_type(dtype: str, column: str) -> pa.DataType:
    import pyarrow as pa

    try:
        found = _parsed(dtype)
    except (ValueError, OverflowError, KeyError, pa.ArrowException) as error:
        message = f"Column {column!r} of the source has type {dtype!r}, which latentstore cannot pass through."
        raise RequestError(message) from error
    return found


def _parsed(dtype: str) -> pa.DataType:
    import pyarrow as pa

    zoned = re.fullmatch(r"timestamp\[(\w+), tz=(.+)\]", dtype)
    if zoned:
        return pa.timestamp(zoned[1], tz=zoned[2])
    fixed = re.fullmatch(r"fixed_size_binary\[(\d{1,9})\]", dtype)
    if fixed:
        return pa.binary(int(fixed[1]))
    decimal = re.fullmatch(r"decimal(128|256)\((\d{1,9}), (-?\d{1,9})\)", dtype)
    if decimal:
        make = pa.decimal128 if decimal[1] == "128" else pa.decimal256
        return make(int(decimal[2]), int(decimal[3]))
    return pa.type_for_alias(dtype)
