"""The scalar columns that samples carry: which there are, and what training sees of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.containers.interface import THUMBNAIL
from latentstore.errors import RequestError
from latentstore.named_table import unknown_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from latentstore.containers.interface import ShardSchema


IMAGE = "image"
"""What a decoded picture is called in a sample."""


def columns_wanted(schema: ShardSchema, names: Sequence[str] | None, *, decode: bool = False) -> tuple[str, ...]:
    """The columns of these names, by default the label where there is one; RequestError where there is no such one."""
    known = schema.scalar_columns
    if names is None:
        return tuple(name for name in ("label",) if name in known)
    if isinstance(names, str):
        raise RequestError(f"Expected a list of columns, found the text {names!r}: write [{names!r}].")
    if schema.thumbnail and THUMBNAIL in names:
        raise RequestError(
            f"Column {THUMBNAIL!r} is for browsing and not loaded with the latents: read it with "
            "datasets.load_dataset, or decode pictures with decode=True."
        )
    for name in names:
        if name not in known:
            raise unknown_name("column", name, known)
    if decode and IMAGE in names:
        raise RequestError(
            f"Column {IMAGE!r} of the dataset has the name of decoded pictures: leave it out of columns, or load "
            "without decode=True and type ds.decode(batch['latent'])."
        )
    return tuple(names)


def picked(values: Any, rows: NDArray[np.int64]) -> Any:
    """Of a column, the values of these rows."""
    if isinstance(values, list):
        return [values[row] for row in rows.tolist()]
    import torch

    return values[torch.from_numpy(rows)]


def tensor_or_list(values: list[Any] | NDArray[Any], feature: Mapping[str, Any]) -> Any:
    """A tensor of a column of numbers, or the list itself.

    Labels are int64, a missing one -1. float64 stays float64, other floats are float32; integers are int64, or float64
    where some are missing. Any other missing number is NaN.
    """
    import torch

    if isinstance(values, np.ndarray):
        wide = values.dtype.kind == "f" and values.dtype.itemsize == 8
        kind = np.float64 if wide else np.float32 if values.dtype.kind == "f" else np.int64
        return torch.from_numpy(np.array(values, kind)) if values.dtype != np.uint64 else values.tolist()
    if feature.get("_type") == "ClassLabel":
        return torch.tensor([-1 if value is None else value for value in values], dtype=torch.int64)
    dtype = str(feature.get("dtype", "")) if feature.get("_type") == "Value" else ""
    missing = any(value is None for value in values)
    if dtype.startswith("float"):
        numbers = [np.nan if value is None else value for value in values]
        return torch.tensor(numbers, dtype=torch.float64 if dtype == "float64" else torch.float32)
    if dtype.startswith(("int", "uint")) and dtype != "uint64":
        numbers = [np.nan if value is None else value for value in values]
        return torch.tensor(numbers, dtype=torch.float64 if missing else torch.int64)
    if dtype == "bool" and not missing:
        return torch.tensor(values, dtype=torch.bool)
    return values
