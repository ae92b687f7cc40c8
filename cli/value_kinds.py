"""Kinds of values on the command line, and what each is read into; for click, as types of options.

Nothing of the library is imported before a value is read, so that help stays light.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from latentstore.named_table import NamedTable

    Kind = click.ParamType[Any]
else:
    Kind = click.ParamType  # generic only for type checkers: older versions of click cannot be subscripted

AUTO = "auto"
FOLDER = click.Path(exists=True, file_okay=False)


class Size(Kind):
    """``256`` or ``256x300``, as (height, width); a single number is (side,) where it means the shorter side."""

    name = "size"

    def __init__(self, *, shorter_side: bool = False) -> None:
        self._shorter_side = shorter_side

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        """As it stands in the help."""
        return "N|HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The sides, all above zero."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,6})(?:[xX](\d{1,6}))?", value.strip())
        sides = tuple(int(side) for side in match.groups() if side) if match else ()
        if not sides or 0 in sides:
            self.fail(f"expected a side such as 256, or height x width such as 256x300, found {value!r}.", param, ctx)
        return sides if len(sides) == 2 or self._shorter_side else (sides[0], sides[0])


class RowName(Kind):
    """A name from one of the library's tables, as its row."""

    name = "name"

    def __init__(self, module: str, table: str) -> None:
        self._module = module
        self._table = table

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The row; a name that does not exist is a mistake on the command line."""
        if not isinstance(value, str):
            return value
        from latentstore.errors import UnknownNameError

        table: NamedTable[Any] = getattr(import_module(self._module), self._table)
        try:
            return self._rows(table, value)
        except UnknownNameError as error:
            self.fail(str(error), param, ctx)

    def _rows(self, table: NamedTable[Any], text: str) -> Any:
        return table[text]


class StorageName(RowName):
    """A storage, as its row; ``auto`` is None: whichever is small enough and good enough."""

    def __init__(self) -> None:
        super().__init__("latentstore.storage.table", "STORAGES")

    def _rows(self, table: NamedTable[Any], text: str) -> Any:
        return table[text] if text != AUTO else AutoStorage()


class AutoStorage:
    """Stands for ``--storage auto`` until the plan is made: click takes None for an option that was not given."""

    def __str__(self) -> str:
        return AUTO


class Step(Kind):
    """A share of a standard deviation: ``1/16`` or ``0.0625``."""

    name = "step"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        """As it stands in the help."""
        return "1/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, above zero."""
        if isinstance(value, float):
            return value
        try:
            step = float(Fraction(value.strip()))
        except (ValueError, ZeroDivisionError):
            step = 0.0
        if step <= 0:
            self.fail(f"expected a share of a standard deviation such as 1/16 or 0.05, found {value!r}.", param, ctx)
        return step


class RowNames(RowName):
    """Names from a table with commas between them, as their rows; ``none`` for no row."""

    def _rows(self, table: NamedTable[Any], text: str) -> Any:
        names = [name.strip() for name in text.split(",")]
        return () if names == ["none"] else tuple(table[name] for name in dict.fromkeys(names))


class ViewNames(RowNames):
    """Views with commas between them, as their names; ``d4`` for all eight."""

    def __init__(self) -> None:
        super().__init__("latentstore.views", "VIEWS")

    def _rows(self, table: NamedTable[Any], text: str) -> Any:
        from latentstore.views import D4

        return D4 if text.strip() == "d4" else tuple(row.name for row in super()._rows(table, text))


class Assignment(Kind):
    """``key=value``; the value is JSON where it can be, else text."""

    name = "key=value"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        """As it stands in the help."""
        return "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Key and value."""
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not equals or not key:
            self.fail(f"expected KEY=VALUE such as count=64, found {value!r}.", param, ctx)
        try:
            return key, json.loads(text, parse_constant=str)
        except (ValueError, RecursionError):  # also of thousands of digits or brackets
            return key, text


class Device(Kind):
    """``cpu``, ``cuda``, ``cuda:1`` or ``auto``."""

    name = "device"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        """As it stands in the help."""
        return "cpu|cuda|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, checked for its form only."""
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            self.fail(f"expected cpu, cuda, cuda:1 or auto, found {value!r}.", param, ctx)
        return str(value)


def device_name(device: str) -> str:
    """The device that ``auto`` stands for; RequestError for a CUDA device that is not there."""
    if device == "cpu":
        return device
    import torch

    from latentstore.errors import RequestError

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if found else "cpu"
    if int(device.partition(":")[2] or 0) >= found:
        raise RequestError(f"There is no device {device!r} here: {found} CUDA devices found; type --device cpu.")
    return device


class BatchSize(Kind):
    """A number, or ``auto``."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """1 or more."""
        if value == AUTO:
            return AUTO
        size: int = click.IntRange(min=1).convert(value, param, ctx)
        return size


class PngFile(click.Path):
    """A file to write whose name ends in .png."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, in a folder that exists."""
        path = Path(str(value)).expanduser()
        if path.suffix.lower() != ".png":
            self.fail(f"expected a file name that ends in .png, found {str(value)!r}.", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"there is no folder {str(path.parent)!r} to write it into.", param, ctx)
        return super().convert(str(path), param, ctx)
