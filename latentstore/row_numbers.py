"""Row numbers and one number a row, as callers give them: exactly what was meant, or one sentence."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentstore.errors import RequestError

WANTED = "Expected row numbers: whole numbers in one dimension, a slice, or a boolean for each row"


def row_number(asked: object, rows: int) -> int:
    """The number of one row of so many, from the end if it is negative; IndexError beyond them.

    TypeError if it is no whole number; a boolean is none.
    """
    if isinstance(asked, bool) or str(getattr(asked, "dtype", "")).endswith("bool"):
        raise TypeError("a boolean is no row number")
    number = operator.index(asked)  # type: ignore[arg-type]  # it says so itself
    if not -rows <= number < rows:
        raise IndexError(f"row {number} of a dataset of {rows} rows")
    return number % rows


def row_numbers(asked: object, rows: int) -> NDArray[np.int64]:
    """Row numbers (N,) int64 from 0, of ``rows`` rows: of a slice, of whole numbers of any kind, of a boolean mask.

    Negative ones count from the end. IndexError beyond the rows; RequestError for anything that would have to be
    guessed at: fractions, texts, another number of dimensions, a mask of another length.
    """
    if isinstance(asked, slice):
        return np.arange(*asked.indices(rows), dtype=np.int64)
    found = array_of(asked)
    if found is None or found.ndim != 1:
        shape = f"{found.ndim} dimensions" if found is not None and found.ndim > 1 else type(asked).__name__
        raise RequestError(f"{WANTED}, found {shape}; ds[3] is one row, ds.batch([3]) a batch of one.")
    if found.dtype == bool:
        if len(found) != rows:
            raise RequestError(f"{WANTED}, found {len(found)} booleans for {rows} rows.")
        return np.flatnonzero(found)
    if found.dtype.kind not in "iu" and len(found):
        kind = "texts" if found.dtype.kind in "USO" else str(found.dtype)
        raise RequestError(f"{WANTED}, found {kind}.")
    if isinstance(asked, (list, tuple)) and any(isinstance(one, (bool, np.bool_)) for one in asked):
        raise RequestError(f"{WANTED}, found booleans and numbers in one list.")
    outside = found[(found >= rows) | (found < -rows)] if found.dtype.kind == "i" else found[found >= rows]
    if len(outside):
        raise IndexError(f"row {outside[0]} of a dataset of {rows} rows")
    numbers = found.astype(np.int64)
    return np.where(numbers < 0, numbers + rows, numbers) if numbers.size and numbers.min() < 0 else numbers


def one_a_row(asked: object, rows: int, name: str) -> NDArray[np.float64]:
    """A number for each row, (rows,) float64; RequestError for anything that is not exactly that."""
    found = array_of(asked)
    if found is None or found.dtype.kind not in "iufb":
        kind = type(asked).__name__ if found is None else "texts" if found.dtype.kind in "US" else str(found.dtype)
        raise RequestError(f"Expected one {name} for each of the {rows} rows, found {kind}.")
    if found.shape != (rows,):
        raise RequestError(f"Expected one {name} for each of the {rows} rows, found shape {found.shape}.")
    return found.astype(np.float64)


def array_of(asked: object) -> NDArray[Any] | None:
    """Numbers as an array, from wherever they are; None if they are none, or of several lengths."""
    detach = getattr(asked, "detach", None)  # a tensor, which may lie on a device
    try:
        return np.asarray(asked if detach is None else detach().cpu())
    except (ValueError, TypeError, RuntimeError):  # of several lengths; of a dtype that numpy does not have
        return None
