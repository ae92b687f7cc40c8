from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import TEXTS

from latentstore.errors import ManifestError
from latentstore.json_records import parse, plain


@dataclass(frozen=True)
class Wheel:
    spokes: int
    width: float = 0.5


@dataclass(frozen=True)
class Car:
    name: str
    wheels: tuple[Wheel, ...]
    size: tuple[int, int] | None
    by_side: Mapping[str, Wheel] = field(default_factory=dict)
    prices: Mapping[str, float] = field(default_factory=dict)
    old: bool = False
    note: str | None = None
    rest: Any = None
    open: Mapping[str, Any] = field(default_factory=dict)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(TEXTS, inner, max_size=3)


WHEELS = st.builds(Wheel, st.integers(), st.floats(allow_nan=False, allow_infinity=False))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(st.none() | st.booleans() | TEXTS | NUMBERS, lambda inner: st.lists(inner) | _objects(inner))


CARS = st.builds(
    Car,
    name=TEXTS,
    wheels=st.lists(WHEELS, max_size=3).map(tuple),
    size=st.none() | st.tuples(st.integers(), st.integers()),
    by_side=st.dictionaries(TEXTS, WHEELS, max_size=2),
    prices=st.dictionaries(TEXTS, NUMBERS, max_size=2),
    old=st.booleans(),
    note=st.none() | TEXTS,
    rest=PLAIN,
    open=_objects(PLAIN),
)


@given(CARS)
def test_a_record_survives_the_way_through_json(car: Car) -> None:
    assert parse(Car, json.loads(json.dumps(plain(car)))) == car


def test_missing_fields_with_a_default_take_it() -> None:
    assert parse(Car, {"name": "a", "wheels": [], "size": None}) == Car("a", (), None)


def test_unknown_fields_are_ignored_at_every_depth() -> None:
    data: dict[str, Any] = {"name": "a", "wheels": [{"spokes": 3, "new": 1}], "size": None, "newer": {}}
    assert parse(Car, data) == Car("a", (Wheel(3),), None)


def test_an_integer_is_a_number_and_becomes_a_float() -> None:
    width = parse(Wheel, {"spokes": 3, "width": 2}).width
    assert isinstance(width, float)
    assert width == 2


GOOD = {"name": "a", "wheels": [{"spokes": 3}], "size": [1, 2], "by_side": {"left": {"spokes": 1}}}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": 3}, "manifest field 'name': expected str, found 3"),
    ({"name": None}, "manifest field 'name': expected str, found None"),
    ({"old": 1}, "manifest field 'old': expected bool, found 1"),
    ({"note": 1}, "manifest field 'note': expected str, found 1"),
    ({"wheels": {}}, "manifest field 'wheels': expected a list, found {}"),
    ({"wheels": "ab"}, "manifest field 'wheels': expected a list, found 'ab'"),
    ({"wheels": [{"spokes": 3}, 7]}, "manifest field 'wheels[1]': expected an object, found 7"),
    ({"wheels": [{"spokes": True}]}, "manifest field 'wheels[0].spokes': expected int, found True"),
    ({"wheels": [{"spokes": 3.0}]}, "manifest field 'wheels[0].spokes': expected int, found 3.0"),
    ({"wheels": [{"width": 1.0}]}, "manifest field 'wheels[0].spokes': is missing"),
    ({"wheels": [{"spokes": 1, "width": True}]}, "manifest field 'wheels[0].width': expected float, found True"),
    (
        {"wheels": [{"spokes": 1, "width": 10**400}]},
        "manifest field 'wheels[0].width': expected a number that a float can hold, found int",
    ),
    ({"size": [1, 2, 3]}, "manifest field 'size': expected 2 items, found [1, 2, 3]"),
    ({"size": [1, "2"]}, "manifest field 'size[1]': expected int, found '2'"),
    ({"by_side": []}, "manifest field 'by_side': expected an object, found []"),
    ({"by_side": {"left": {}}}, "manifest field 'by_side.left.spokes': is missing"),
    ({"prices": {"here": "1"}}, "manifest field 'prices.here': expected float, found '1'"),
    ({"open": 3}, "manifest field 'open': expected an object, found 3"),
    ({"name": ["a long list"] * 9}, "manifest field 'name': expected str, found list"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG)
def test_a_wrong_value_is_named_with_its_path(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse(Car, {**GOOD, **change})
    assert str(caught.value) == sentence


@given(PLAIN)
def test_nothing_but_a_manifest_error_comes_of_any_json(data: Any) -> None:
    if isinstance(data, dict) and {"name", "wheels", "size"} <= set(data):
        return
    with pytest.raises(ManifestError):
        parse(Car, data)
