"""Plain JSON to frozen dataclasses and back, by the dataclasses' own type hints.

A wrong value raises ManifestError carrying the path to it (``splits.train.shards[0].rows: expected int, found str``).
Fields that the dataclass does not know are ignored, so a newer minor version can add some. A hint may say which numbers
a field can have (``Count``, ``Side``, ...); ``check_ranges`` looks whether a record keeps to it.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache, partial
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from latentstore.errors import ManifestError

Record = TypeVar("Record")
Check = Callable[[Any], None]
"""Raises ManifestError for a value that is wrong."""
ONLY_WHERE_SET = {"only_where_set": True}
"""Metadata of a dataclass's field that is left out of JSON where it has its default: what came after files that must
stay the same to the byte."""

LARGEST_INTEGER = 1 << 128
"""Of any field, whether or not it says more: above it, not even the digits are worth reading."""
LONGEST_TEXT = 1 << 20
"""Letters."""
MOST_ITEMS = 1 << 24
"""Of a list or an object."""
DEEPEST = 32
"""Lists and objects in each other, where anything is allowed."""


@dataclass(frozen=True)
class Within:
    """The numbers that a field can have, both ends included."""

    low: float
    high: float

    def __str__(self) -> str:
        """``0 to 2^53``."""
        return f"{_end(self.low)} to {_end(self.high)}"


ANY_INTEGER = Within(-LARGEST_INTEGER, LARGEST_INTEGER)
FLOAT32 = 3.5e38
"""A little more than the largest float32."""
Count = Annotated[int, Within(0, 1 << 53)]
"""How many; of bytes, pixels and rows too. JavaScript and floats hold it."""
Some = Annotated[int, Within(1, 1 << 53)]
"""The same, of what there is at least one of."""
Side = Annotated[int, Within(1, 1 << 20)]
"""Of a picture, in pixels, or of a latent."""
Seed = Annotated[int, Within(0, LARGEST_INTEGER)]
Number = Annotated[float, Within(-FLOAT32, FLOAT32)]
"""A latent, a score, or what they are scaled by."""
Spread = Annotated[float, Within(0, FLOAT32)]
"""A standard deviation, or an error."""
Positive = Annotated[float, Within(1e-30, FLOAT32)]
"""A standard deviation that something is divided by."""
Patch = Annotated[int, Within(1, 64)]
"""Cells along one side."""
Thumbnail = Annotated[int, Within(0, 1024)]
"""Pixels along the longest side, or none."""
Ratio = Annotated[float, Within(1e-12, 1e30)]
"""What somebody divides by."""


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


def check_ranges(record: object) -> None:
    """ManifestError, with the path of the first wrong field, unless the fields of a record keep to their ranges."""
    for name, check in _checks_of(type(record)):  # type: ignore[arg-type]  # a class can be hashed
        try:
            check(getattr(record, name))
        except ManifestError as error:
            raise error.inside(name) from None


@cache
def _checks_of(record: type[Any]) -> list[tuple[str, Check]]:
    """The fields of a dataclass that can be wrong, and what finds out; made once, as lists have many records."""
    hints = get_type_hints(record, include_extras=True)
    found = ((field.name, _check_of(hints[field.name])) for field in fields(record))
    return [(name, check) for name, check in found if check is not None]


def _check_of(hint: Any) -> Check | None:
    """What finds out whether a value of this type is wrong; None where none is."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return partial(_check_number, arguments[1])
    if origin in (Union, types.UnionType):
        return _check_of(_without_null(hint))
    if origin is tuple:  # whose items all are of one type
        return partial(_check_items, _check_of(arguments[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return partial(_check_mapping, _check_of(arguments[1]))
    return _check_record if is_dataclass(hint) else {str: _check_text, Any: _check_anything}.get(hint)


def _check_record(record: object | None) -> None:
    if record is not None:
        check_ranges(record)


def _check_number(within: Within, value: float | None) -> None:
    if value is not None and not within.low <= value <= within.high:
        raise _unexpected(f"a number from {within}", value)


def _check_text(value: str | None) -> None:
    if value is not None and len(value) > LONGEST_TEXT:
        raise _too_many("letters", len(value), LONGEST_TEXT)


def _check_items(check: Check | None, values: Sequence[Any] | None) -> None:
    if values is None:
        return
    if len(values) > MOST_ITEMS:
        raise _too_many("items", len(values), MOST_ITEMS)
    if check is None:
        return
    for place, value in enumerate(values):
        try:
            check(value)
        except ManifestError as error:
            raise error.inside(f"[{place}]") from None


def _check_mapping(check: Check | None, values: Mapping[str, Any] | None) -> None:
    if values is None:
        return
    _check_items(_check_text, tuple(values))
    if check is None:
        return
    for name, value in values.items():
        try:
            check(value)
        except ManifestError as error:
            raise error.inside(name) from None


def _check_anything(value: Any, depth: int = 0) -> None:
    """Plain JSON of which nothing is known."""
    if depth > DEEPEST:
        raise _too_many("lists and objects in each other", depth, DEEPEST)
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, Mapping):
        _check_mapping(partial(_check_anything, depth=depth + 1), value)
    elif isinstance(value, (list, tuple)):
        _check_items(partial(_check_anything, depth=depth + 1), value)
    elif isinstance(value, int):
        _check_number(ANY_INTEGER, value)


def _too_many(what: str, found: int, most: int) -> ManifestError:
    return ManifestError(f"expected {most} {what} at most, found {found}")


def _without_null(hint: Any) -> Any:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    return next(argument for argument in get_args(hint) if argument is not type(None))


def _end(number: float) -> str:
    power = int(number).bit_length() - 1 if number >= 1 << 20 and isinstance(number, int) else 0
    return f"2^{power}" if power and number == 1 << power else f"{number:g}"


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
        return _value(_without_null(hint), data)
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
    if isinstance(data, int) and abs(data) > LARGEST_INTEGER:
        raise ManifestError(f"expected a number up to {_end(LARGEST_INTEGER)}, found a longer one")
    return data


def _unexpected(expected: str, data: object) -> ManifestError:
    shown = type(data).__name__ if isinstance(data, int) and abs(data) > LARGEST_INTEGER else repr(data)
    return ManifestError(f"expected {expected}, found {shown if len(shown) <= 40 else type(data).__name__}")
