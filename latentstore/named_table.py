"""NamedTable: the rows of one kind, by name; a missing name says which exist and which is nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from latentstore.errors import UnknownNameError


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """The name users type."""


Row = TypeVar("Row", bound=Named)


class NamedTable(Mapping[str, Row]):
    """An immutable, ordered table of rows of one kind.

    ``kind`` is the word used in messages ("VAE", "storage"). Duplicate names are a programming error.
    """

    def __init__(self, kind: str, rows: Iterable[Row]) -> None:
        self.kind = kind
        self._rows: dict[str, Row] = {}
        for row in rows:
            if row.name in self._rows:
                message = f"two rows of the {kind} table are named {row.name!r}"
                raise ValueError(message)
            self._rows[row.name] = row

    def __getitem__(self, name: str) -> Row:
        try:
            return self._rows[name]
        except KeyError:
            raise unknown_name(self.kind, name, self._rows) from None

    def get(self, name: str, default: Any = None) -> Any:
        """The row, or ``default`` where there is none."""
        return self._rows.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not among the known ones: says which exist and which is nearest."""
    names = list(known)
    folded = {candidate.casefold(): candidate for candidate in names}
    nearest = difflib.get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.5)
    hint = f" Did you mean {folded[nearest[0]]!r}?" if nearest else ""
    listed = ", ".join(names) if names else "none"
    return UnknownNameError(f"There is no {kind} named {name!r}.{hint} Known: {listed}.")
