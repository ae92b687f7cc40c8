from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import TEXTS

from latentstore.errors import UnknownNameError
from latentstore.named_table import NamedTable


@dataclass(frozen=True)
class Fruit:
    name: str
    colour: str = ""


FRUITS = NamedTable("fruit", [Fruit("pear", "green"), Fruit("Apple", "red"), Fruit("quince")])


def test_rows_are_found_by_name_in_the_order_they_were_given() -> None:
    assert FRUITS["pear"].colour == "green"
    assert list(FRUITS) == ["pear", "Apple", "quince"]
    assert [row.name for row in FRUITS.values()] == list(FRUITS)
    assert len(FRUITS) == 3


def test_a_missing_name_says_which_exist_and_which_is_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        FRUITS["aple"]
    assert str(caught.value) == "There is no fruit named 'aple'. Did you mean 'Apple'? Known: pear, Apple, quince."


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    with pytest.raises(UnknownNameError) as caught:
        FRUITS["zzzz"]
    assert str(caught.value) == "There is no fruit named 'zzzz'. Known: pear, Apple, quince."


def test_an_empty_table_says_so() -> None:
    with pytest.raises(UnknownNameError) as caught:
        NamedTable[Fruit]("fruit", [])["pear"]
    assert str(caught.value) == "There is no fruit named 'pear'. Known: none."


def test_asking_whether_a_name_exists_raises_nothing() -> None:
    assert "pear" in FRUITS
    assert "plum" not in FRUITS
    assert FRUITS.get("plum") is None
    assert FRUITS.get("plum", "none") == "none"
    assert FRUITS.get("pear") is FRUITS["pear"]


def test_two_rows_of_one_name_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="two rows of the fruit table are named 'pear'"):
        NamedTable("fruit", [Fruit("pear"), Fruit("pear")])


@given(TEXTS, st.lists(TEXTS, unique=True, max_size=5))
def test_any_name_is_either_found_or_refused_in_one_sentence(name: str, names: list[str]) -> None:
    table = NamedTable("fruit", map(Fruit, names))
    if name in names:
        assert table[name].name == name
        return
    with pytest.raises(UnknownNameError, match="There is no fruit named"):
        table[name]
