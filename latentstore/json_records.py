"""Plain JSON to frozen dataclasses and back, by the dataclasses' own type hints.

A wrong value raises ManifestError carrying the path to it (``splits.train.shards[0].rows: expected int, found str``).
Fields that the dataclass does not know are ignored, so a newer minor version can add some.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from latentstore.errors import ManifestError

Record = TypeVar("Record")
ONLY_WHERE_SET = {"only_where_set": True}
"""Metadata of a dataclass's field that is left out of JSON where it has its default: what came after files that must
stay the same to the byte."""


def parse(record: type[Record], data: object) -> Record:
    """A record of this dataclass from plain JSON; raises ManifestError with the path of the first wrong field."""
    if not isinstance(data, Mapping):
        raise _unexpected("an object", data)
    hints = _hints(record)  # type: ignore[arg-type]  # a class can be hashed
    values: dict[str, Any] = {}
    for field in fields(record):  # type: ignore[arg-type]  # every caller passes a dataclass
        if field.name not in data:
            if field.default is MISSING and field.default_factory is MISSING:
                raise ManifestError("is missing", field=field.name)
            continue
        try:
            values[field.name] = _value(hints[field.name], data[field.name])
        except ManifestError as error:
            raise error.inside(field.name) from None
    return record(**values)


def plain(value: object) -> Any:
    """Plain JSON (dicts, lists, numbers, strings) of a record."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if _is_written(field, value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


@cache
def _hints(record: type[Any]) -> dict[str, Any]:
    return get_type_hints(record)


def _is_written(field: Field[Any], value: object) -> bool:
    return not field.metadata.get("only_where_set") or getattr(value, field.name) != field.default


def _value(hint: Any, data: object) -> Any:  # noqa: PLR0911 (one exit a kind of type)
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return data
    if origin in (Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        inner = next(argument for argument in arguments if argument is not type(None))
        return _value(inner, data)
    if origin is tuple:
        return _sequence(arguments, data)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(arguments[1], data)
    if is_dataclass(hint):
        return parse(hint, data)  # type: ignore[arg-type]  # is_dataclass says so
    return _scalar(hint, data)


def _sequence(arguments: tuple[Any, ...], data: object) -> tuple[Any, ...]:
    if not isinstance(data, (list, tuple)):
        raise _unexpected("a list", data)
    repeated = len(arguments) == 2 and arguments[1] is Ellipsis
    if not repeated and len(data) != len(arguments):
        raise _unexpected(f"{len(arguments)} items", data)
    hints = [arguments[0]] * len(data) if repeated else arguments
    items = []
    for index, (hint, item) in enumerate(zip(hints, data, strict=True)):
        try:
            items.append(_value(hint, item))
        except ManifestError as error:
            raise error.inside(f"[{index}]") from None
    return tuple(items)


def _mapping(hint: Any, data: object) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise _unexpected("an object", data)
    values = {}
    for key, item in data.items():
        try:
            values[str(key)] = _value(hint, item)
        except ManifestError as error:
            raise error.inside(str(key)) from None
    return values


def _scalar(hint: type, data: object) -> Any:
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            raise _unexpected("a number that a float can hold", data) from None
    if not isinstance(data, hint) or (isinstance(data, bool) and hint is not bool):
        raise _unexpected(hint.__name__, data)
    return data


def _unexpected(expected: str, data: object) -> ManifestError:
    shown = repr(data)
    return ManifestError(f"expected {expected}, found {shown if len(shown) <= 40 else type(data).__name__}")
