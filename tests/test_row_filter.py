"""Conditions on scalar columns: the same rows as Python itself would pick, and nothing but conditions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentstore.errors import RequestError, UnknownNameError
from latentstore.row_filter import columns_in, rows_where

ROWS = st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5), st.sampled_from("abc")), min_size=1, max_size=20)
CONDITIONS = [
    "x > 0",
    "n == 2 or x <= -1.5",
    "not (n in (1, 2))",
    "s not in ['a'] and n != 3",
    "-1 < x < 1",
    "0 <= n and n < 2 and s == 'b'",
]


@given(ROWS, st.sampled_from(CONDITIONS))
def test_a_condition_picks_the_rows_that_python_would_pick(rows: list[tuple[int, float, str]], condition: str) -> None:
    columns: dict[str, list[Any]] = {name: [row[place] for row in rows] for place, name in enumerate("nxs")}
    expected = [eval(condition, {}, {"n": n, "x": x, "s": s}) for n, x, s in rows]  # noqa: S307 (our own text)
    assert rows_where(condition, columns, None).tolist() == expected


def test_missing_values_satisfy_no_comparison() -> None:
    columns: dict[str, list[Any]] = {"x": [None, 1.0, None, 3.0]}
    assert rows_where("x > 2", columns, None).tolist() == [False, False, False, True]
    assert rows_where("x != 1.0", columns, None).tolist() == [False, False, False, True]


def test_class_names_stand_for_labels_on_either_side() -> None:
    columns: dict[str, list[Any]] = {"label": [0, 1, None, 1]}
    assert rows_where("label == 'sea'", columns, ["land", "sea"]).tolist() == [False, True, False, True]
    assert rows_where("'land' == label", columns, ["land", "sea"]).tolist() == [True, False, False, False]


def test_labels_are_numbers_where_there_are_no_names() -> None:
    assert rows_where("label >= 1", {"label": [0, 1, 2]}, None).tolist() == [False, True, True]


def test_the_columns_of_a_condition_are_those_it_names() -> None:
    assert columns_in("psnr > 3 and label in ('a', 'b')", ["label", "psnr", "id"]) == ["label", "psnr"]
    with pytest.raises(UnknownNameError, match="Did you mean 'psnr'"):
        columns_in("psnt > 3", ["label", "psnr", "id"])


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "x",
        "x >",
        "x = 3",
        "f(x) > 3",
        "x.real > 3",
        "x[0] > 3",
        "lambda: x",
        "x if x else x",
        "x + 1 > 2",
        "(x := 3) > 2",
    ],
)
def test_anything_else_is_refused_in_a_sentence(condition: str) -> None:
    with pytest.raises(RequestError):
        rows_where(condition, {"x": [1.0]}, None)


def test_a_long_chain_of_conditions_works() -> None:
    condition = " or ".join(f"n == {number}" for number in range(0, 300, 2))
    assert np.array_equal(rows_where(condition, {"n": list(range(300))}, None), np.arange(300) % 2 == 0)


def test_in_without_a_list_is_refused_because_it_would_look_for_parts_of_names() -> None:
    with pytest.raises(RequestError, match="write the values after 'in' as a list"):
        rows_where("label in ('Riverbank')", {"label": [0, 1]}, ["River", "Riverbank"])


TOO_MUCH = {
    "words": " or ".join(["x > 1"] * 50_000),
    "letters": "x in (" + "1, " * 500_000 + ")",
    "nots": "not " * 100_000 + "x > 1",
    "some nots": "not " * 2000 + "x > 1",
    "brackets": "(" * 100_000 + "x > 1" + ")" * 100_000,
    "lists": "x in " + "[" * 100_000,
    "minus": "x > " + "-" * 100_000 + "1",
    "a chain": "x" + " < 1" * 50_000,
    "digits": "x > " + "9" * 10_000,
    "a long number": "x > " + "9" * 4000,
    "a long number in a list": "x in (" + "9" * 4000 + ",)",
    "no words": "ab " * 100_000,
}


@pytest.mark.parametrize("name", TOO_MUCH)
@pytest.mark.parametrize("values", [[1.0, 2.0], np.array([1.0, 2.0]), np.array([1, 2], np.int32)], ids=str)
def test_a_condition_of_absurd_length_is_one_sentence_or_read(name: str, values: Any) -> None:
    try:
        found = rows_where(TOO_MUCH[name], {"x": values}, None)
    except RequestError as error:
        said = str(error)
    else:
        said = "Filter of two rows"
        assert name in ("some nots", "a long number", "a long number in a list")
        assert found.shape == (2,)
    assert said.startswith("Filter ")
    assert len(said) < 500
    assert "\n" not in said


def test_what_is_too_long_is_said_with_what_to_type_instead() -> None:
    with pytest.raises(RequestError) as caught:
        columns_in(TOO_MUCH["words"], ["x"])
    assert str(caught.value).endswith(
        "…' has 50,000 comparisons, expected 10,000 at most: write the values as a list, such as: label in ('Airport', "
        "'Port')"
    )
    with pytest.raises(RequestError, match="has 1,500,007 letters, expected 1,048,576 at most: give load_latents"):
        columns_in(TOO_MUCH["letters"], ["x"])


def test_a_list_of_ten_thousand_values_works() -> None:
    condition = f"n in {tuple(range(0, 20_000, 2))}"
    assert np.array_equal(rows_where(condition, {"n": list(range(300))}, None), np.arange(300) % 2 == 0)


def test_class_numbers_stand_for_labels_too() -> None:
    columns: dict[str, list[Any]] = {"label": [0, 1, None, 1]}
    for condition in ("label == 1", "1 == label", "label in [1]", "label not in (0,)", "label != 0"):
        assert rows_where(condition, columns, ["land", "sea"]).tolist() == [False, True, False, True]
    assert rows_where("label == 1 and label in ('sea', 0)", columns, ["land", "sea"]).tolist() == [0, 1, 0, 1]
    assert rows_where("label == 1", columns, ["0", "1"]).tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        (
            "label == 10",
            r"10 may be the class named '10' or a class number: write the name in quotes, such as label == '10'",
        ),
        ("label == 2", r"2 may be the class named '2' or class number 2, '10': write the name in quotes"),
        ("label in [0, 99]", r"no class number 99, classes are numbered 0 to 3; names are written in quotes"),
        ("label == -1", r"no class number -1"),
        ("0 <= label", r"class numbers have no order, use ==, !=, in or not in"),
        ("label == True", r"There is no class named 'True'"),
    ],
)
def test_a_number_that_is_no_class_or_may_be_two_is_refused(condition: str, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        rows_where(condition, {"label": [0, 1, 2]}, ["0", "1", "10", "2"])
