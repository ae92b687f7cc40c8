"""Which rows to take: a condition on the scalar columns, as text that a person would type.

    psnr > 30 and label in ("Airport", "Port") and not (width < 256)

The text is a Python expression of which only comparisons, ``in``, ``and``, ``or``, ``not``, column names and plain
values are allowed; it is never executed as Python. Class names stand for their labels, and so do class numbers (0 is
the first), unless a class of another number is named like one. A missing value (null) never satisfies a comparison.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentstore.errors import RequestError
from latentstore.named_table import unknown_name

Mask = NDArray[np.bool_]
LONGEST = 1 << 20
"""Letters of a condition: some ten thousand ids in a list."""
MOST_COMPARISONS = 10_000
SHOWN = 200
"""Letters of a condition that an error repeats."""

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda value, allowed: value in allowed,
    ast.NotIn: lambda value, allowed: value not in allowed,
}


def columns_in(condition: str, known: Sequence[str]) -> list[str]:
    """Names of the columns that a condition uses; UnknownNameError naming the nearest for one that does not exist."""
    names = sorted({node.id for node in ast.walk(_parsed(condition)) if isinstance(node, ast.Name)})
    for name in names:
        if name not in known:
            raise unknown_name("column", name, known)
    return names


def rows_where(condition: str, columns: Mapping[str, Sequence[Any]], class_names: Sequence[str] | None) -> Mask:
    """Which rows satisfy the condition, (N,) bool."""
    columns_in(condition, list(columns))
    try:
        return _mask(_parsed(condition).body, columns, condition, class_names)
    except (RecursionError, OverflowError) as error:
        raise RequestError(
            f"Filter {shown(condition)} has conditions too deep in each other, or a number that no column can have."
        ) from error


def _parsed(condition: str) -> ast.Expression:
    if len(condition) > LONGEST:
        raise RequestError(
            f"Filter {shown(condition)} has {len(condition):,} letters, expected {LONGEST:,} at most: give "
            "load_latents() a function that says which rows to keep."
        )
    try:
        found = ast.parse(condition.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two of a parser that is too deep
        raise RequestError(
            f"Filter {shown(condition)} cannot be read: write it like: psnr > 30 and label == 'Airport'"
        ) from error
    count = sum(len(node.ops) for node in ast.walk(found) if isinstance(node, ast.Compare))
    if count > MOST_COMPARISONS:
        raise RequestError(
            f"Filter {shown(condition)} has {count:,} comparisons, expected {MOST_COMPARISONS:,} at most: write the "
            "values as a list, such as: label in ('Airport', 'Port')"
        )
    return found


def shown(condition: str) -> str:
    """A condition as errors repeat it."""
    return repr(condition if len(condition) <= SHOWN else f"{condition[:SHOWN]}…")


def _mask(node: ast.expr, columns: Mapping[str, Sequence[Any]], text: str, class_names: Sequence[str] | None) -> Mask:
    if isinstance(node, ast.BoolOp):
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        found = _mask(node.values[0], columns, text, class_names)
        for value in node.values[1:]:  # one at a time: so many masks need not be in memory
            join(found, _mask(value, columns, text, class_names), out=found)
        return found
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_mask(node.operand, columns, text, class_names)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        masks = [
            _compare(left, operation, right, columns, text, class_names)
            for left, operation, right in zip(sides, node.ops, sides[1:], strict=False)
        ]
        return np.asarray(np.logical_and.reduce(masks), bool)
    raise _refused(node, text)


def _compare(
    left: ast.expr,
    operation: ast.cmpop,
    right: ast.expr,
    columns: Mapping[str, Sequence[Any]],
    text: str,
    class_names: Sequence[str] | None,
) -> Mask:
    compare = COMPARISONS.get(type(operation))
    if compare is None:
        raise _refused(operation, text)
    if isinstance(operation, (ast.In, ast.NotIn)) and not isinstance(right, (ast.Tuple, ast.List, ast.Set)):
        message = f"Filter {shown(text)}: write the values after 'in' as a list, such as ['Airport', 'Port']."
        raise RequestError(message)
    count = len(next(iter(columns.values()), ()))
    if class_names is not None and any(isinstance(side, ast.Name) and side.id == "label" for side in (left, right)):
        columns = {**columns, "label": _Labels(columns["label"], class_names)}
        left, right = (
            _names_beside(right, left, operation, class_names, text),
            _names_beside(left, right, operation, class_names, text),
        )
    quick = _quick(left, operation, right, columns, text)
    if quick is not None:
        return quick
    pairs = zip(_values(left, columns, count, text), _values(right, columns, count, text), strict=True)
    try:
        found = [a is not None and b is not None and bool(compare(a, b)) for a, b in pairs]
    except TypeError as error:
        raise RequestError(f"Filter {shown(text)} compares values of different types: {error}.") from error
    return np.array(found, bool)


ARRAYS: dict[type[ast.cmpop], Callable[[NDArray[Any], Any], Any]] = {
    **{kind: compare for kind, compare in COMPARISONS.items() if kind not in (ast.In, ast.NotIn)},
    ast.In: lambda values, allowed: np.isin(values, list(allowed)),
    ast.NotIn: lambda values, allowed: ~np.isin(values, list(allowed)),
}


class _Labels(Sequence[Any]):
    """A column of labels that is read as class names."""

    def __init__(self, labels: Sequence[Any], class_names: Sequence[str]) -> None:
        found = labels if isinstance(labels, np.ndarray) else [-1 if label is None else label for label in labels]
        self.numbers = np.asarray(found, np.int64)
        self._names = [*class_names, None]  # the last stands for -1

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, row: Any) -> Any:
        return self._names[self.numbers[row]]

    def number_of(self, name: Any) -> int:
        return self._names.index(name)


def _quick(
    left: ast.expr, operation: ast.cmpop, right: ast.expr, columns: Mapping[str, Sequence[Any]], text: str
) -> Mask | None:
    """All rows at once where a column of numbers is held against numbers; None where it is not."""
    values = columns[left.id] if isinstance(left, ast.Name) else None
    if not isinstance(values, (np.ndarray, _Labels)) or isinstance(right, ast.Name):
        return None
    constant = _constant(right, text)
    if isinstance(values, _Labels):
        if type(operation) not in (ast.Eq, ast.NotEq, ast.In, ast.NotIn):
            return None
        several = isinstance(constant, (tuple, list, set))
        numbers = [values.number_of(name) for name in (constant if several else [constant])]
        found = np.asarray(ARRAYS[type(operation)](values.numbers, numbers if several else numbers[0]), bool)
        return found & (values.numbers >= 0)
    listed = list(constant) if isinstance(constant, (tuple, list, set)) else [constant]
    if not all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in listed):
        return None
    found = np.asarray(ARRAYS[type(operation)](values, constant), bool)
    return found & ~np.isnan(values) if values.dtype.kind == "f" else found


def _values(node: ast.expr, columns: Mapping[str, Sequence[Any]], count: int, text: str) -> Sequence[Any]:
    if isinstance(node, ast.Name):
        values = columns[node.id]
        if isinstance(values, np.ndarray):  # a missing number is NaN there
            return [None if value != value else value for value in values.tolist()]  # noqa: PLR0124
        return values
    return [_constant(node, text)] * count


def _constant(node: ast.expr, text: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError) as error:
        raise _refused(node, text) from error


def _names_beside(
    beside: ast.expr, node: ast.expr, operation: ast.cmpop, class_names: Sequence[str], text: str
) -> ast.expr:
    """What labels are held against, as names of classes; anything else as it is."""
    if not isinstance(beside, ast.Name) or beside.id != "label":
        return node
    value = _constant(node, text)
    if isinstance(value, (tuple, list, set)):
        return ast.Constant([_class_meant(one, operation, class_names, text) for one in value])  # type: ignore[arg-type]
    return ast.Constant(_class_meant(value, operation, class_names, text))


def _class_meant(value: Any, operation: ast.cmpop, class_names: Sequence[str], text: str) -> str:
    """The name of the class that a name or a number means."""
    if not isinstance(value, int) or isinstance(value, bool):
        if value not in class_names:
            raise unknown_name("class", str(value), class_names)
        return str(value)
    if not isinstance(operation, (ast.Eq, ast.NotEq, ast.In, ast.NotIn)):
        raise RequestError(f"Filter {text!r}: class numbers have no order, use ==, !=, in or not in.")
    written = str(value)
    if written in class_names and class_names.index(written) != value:
        other = f"class number {value}, {class_names[value]!r}" if 0 <= value < len(class_names) else "a class number"
        raise RequestError(
            f"Filter {text!r}: {written} may be the class named {written!r} or {other}: write the name in quotes, "
            f"such as label == {written!r}."
        )
    if not 0 <= value < len(class_names):
        raise RequestError(
            f"Filter {text!r}: there is no class number {value}, classes are numbered 0 to {len(class_names) - 1}; "
            f"names are written in quotes, such as label == {class_names[0]!r}."
        )
    return class_names[value]


def _refused(node: ast.AST, text: str) -> RequestError:
    return RequestError(
        f"Filter {shown(text)} uses {type(node).__name__}, which is not allowed: "
        "only columns, values, comparisons, in, and, or, not."
    )
