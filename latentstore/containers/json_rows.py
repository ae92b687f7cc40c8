"""The scalar columns of rows as JSON objects, and back with the types of the schema.

Text, integers, booleans, lists and objects are what they are in JSON. Bytes are base64; a decimal is text; a date,
time, timestamp or duration is the integer that Arrow stores, in the unit of its type (a timestamp counts from 1970 in
UTC). Infinite numbers are the words ``Infinity`` and ``-Infinity``, which Python's json, webdataset and datasets read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from latentstore.containers.arrow_features import arrow_type, feature_of_column, scalar_array, with_leaves

if TYPE_CHECKING:
    import pyarrow as pa

    from latentstore.containers.interface import ShardSchema


def json_rows(schema: ShardSchema, columns: Mapping[str, Sequence[Any]]) -> Iterator[bytes]:
    """One JSON object in UTF-8 for each row, with the scalar columns of the schema in their order."""
    names = schema.scalar_columns
    values = [_plain(scalar_array(schema, name, columns[name])) for name in names]
    for row in zip(*values, strict=True):
        text = json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, separators=(",", ":"), default=_text)
        yield text.encode()


def json_row(schema: ShardSchema, text: bytes) -> dict[str, Any]:
    """One row as JSON gives it; ValueError or TypeError where a scalar column or its id is missing."""
    row = json.loads(text)
    lacking = sorted(set(schema.scalar_columns) - set(row)) if isinstance(row, dict) else schema.scalar_columns
    if lacking:
        message = f"its JSON lacks columns that the manifest describes: {', '.join(lacking)}."
        raise ValueError(message)
    if not isinstance(row["id"], str):
        message = f"its id is no text but {row['id']!r}."
        raise TypeError(message)
    return dict(row)


def column_array(schema: ShardSchema, name: str, values: list[Any]) -> pa.Array:
    """One column of such rows with its own type; ValueError or TypeError where a value has another."""
    import pyarrow as pa

    kind = arrow_type(feature_of_column(schema, name), name)
    bare = [_from_text(value, kind) for value in values] if _holds_text(kind) else values
    return pa.array(bare, _with_counts(kind)).cast(kind)


def json_features(schema: ShardSchema) -> dict[str, Any]:
    """The type of each column as it stands in the JSON, in the words of `datasets`."""
    return {name: _json_feature(feature_of_column(schema, name), name) for name in schema.scalar_columns}


def _json_feature(feature: Any, column: str) -> Any:
    if isinstance(feature, Sequence):
        return [_json_feature(feature[0], column)]
    if feature.get("_type") in ("List", "LargeList", "Sequence"):
        return {**feature, "feature": _json_feature(feature["feature"], column)}
    if "_type" not in feature:
        return {name: _json_feature(part, column) for name, part in feature.items()}
    stored = arrow_type(feature, column)
    if _is_text(stored):
        return {"dtype": "string", "_type": "Value"}
    counted = _with_counts(stored)
    return feature if counted == stored else {"dtype": str(counted), "_type": "Value"}


def _plain(array: pa.Array) -> list[Any]:
    values: list[Any] = array.cast(_with_counts(array.type)).to_pylist()
    return values


def _text(value: bytes | Decimal) -> str:
    """What json has no word for."""
    return str(value) if isinstance(value, Decimal) else base64.b64encode(value).decode("ascii")


def _with_counts(kind: pa.DataType) -> pa.DataType:
    """The type with integers in place of dates and times, at any depth."""
    import pyarrow as pa

    def counted(leaf: pa.DataType) -> pa.DataType:
        if not pa.types.is_temporal(leaf):
            return leaf
        return pa.int32() if leaf.bit_width == 32 else pa.int64()

    return with_leaves(kind, counted)


def _is_text(kind: pa.DataType) -> bool:
    """Whether values of the type are text in JSON, though they are none."""
    import pyarrow as pa

    tests = ("decimal", "binary", "large_binary", "binary_view", "fixed_size_binary")
    return any(getattr(pa.types, f"is_{name}")(kind) for name in tests)


def _holds_text(kind: pa.DataType) -> bool:
    return _is_text(kind) or any(_holds_text(kind.field(place).type) for place in range(kind.num_fields))


def _from_text(value: Any, kind: pa.DataType) -> Any:
    """The value with bytes and decimals in place of text, at any depth; ValueError or TypeError where that is none."""
    import pyarrow as pa

    if value is None or not _holds_text(kind):
        return value
    if pa.types.is_decimal(kind):
        return Decimal(value)
    if _is_text(kind):
        return base64.b64decode(value, validate=True)
    if isinstance(value, dict):
        return {field.name: _from_text(value.get(field.name), field.type) for field in kind}
    return [_from_text(item, kind.value_type) for item in value]
