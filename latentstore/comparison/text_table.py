"""Tables and numbers as people read them."""

from __future__ import annotations

import math
from dataclasses import dataclass

NONE = "-"


@dataclass(frozen=True)
class TextTable:
    """One table: a heading that ends in ``>`` is of a column of numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def number(value: float | None, digits: int) -> str:
    """With so many digits after the point; a dash where there is none."""
    return NONE if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"
