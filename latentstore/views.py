"""Stored views: the eight ways to turn and mirror a picture without changing a pixel.

The latent of a mirrored picture is not the mirrored latent: a VAE's encoder is not equivariant. So whoever trains on
latents and wants flips needs latents that were encoded from the transformed pixels. These are the symmetries of the
square (the dihedral group D4); each is a transposition or none, then a reversal of rows, of columns, or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latentstore.errors import RequestError
from latentstore.named_table import NamedTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

IDENTITY = "identity"


@dataclass(frozen=True)
class ViewRow:
    """One view of a picture."""

    name: str
    summary: str
    swaps: bool = False
    """Whether rows become columns, before anything is reversed: height and width change places."""
    reverses_rows: bool = False
    reverses_columns: bool = False

    def of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture (H, W, 3) in this view: the same values in other places, (W, H, 3) where it swaps."""
        if self.name == IDENTITY:
            return pixels
        turned = pixels.transpose(1, 0, 2) if self.swaps else pixels
        turned = turned[:: -1 if self.reverses_rows else 1, :: -1 if self.reverses_columns else 1]
        return np.ascontiguousarray(turned)


VIEWS = NamedTable(
    "view",
    [
        ViewRow(IDENTITY, "the picture as it is"),
        ViewRow("hflip", "left and right change places", reverses_columns=True),
        ViewRow("vflip", "top and bottom change places", reverses_rows=True),
        ViewRow("rot90", "turned by 90 degrees, counter-clockwise", swaps=True, reverses_rows=True),
        ViewRow("rot180", "turned by 180 degrees", reverses_rows=True, reverses_columns=True),
        ViewRow("rot270", "turned by 270 degrees, counter-clockwise", swaps=True, reverses_columns=True),
        ViewRow("transpose", "mirrored at the diagonal from top left", swaps=True),
        ViewRow(
            "antitranspose",
            "mirrored at the diagonal from top right",
            swaps=True,
            reverses_rows=True,
            reverses_columns=True,
        ),
    ],
)
D4 = tuple(VIEWS)
"""All eight."""


def view_rows(names: Sequence[str]) -> tuple[ViewRow, ...]:
    """The views of these names, in their order; none for no names.

    Raises UnknownNameError for a name that does not exist, RequestError where one is there twice or where the picture
    as it is (``identity``) is left out.
    """
    rows = tuple(VIEWS[name] for name in names)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RequestError(f"Expected every view once, found {twice!r} {names.count(twice)} times.")
    if rows and IDENTITY not in names:
        listed = ",".join(names)
        raise RequestError(
            f"The views {listed} are without the picture as it is, which is needed too: type {IDENTITY},{listed}."
        )
    return rows


def named_like_a_view(name: str) -> bool:
    """Whether the id of a picture ends as that of a view of another one does."""
    base, at, view = name.rpartition("@")
    return bool(at and base) and view in VIEWS and view != IDENTITY


def id_of_view(name: str, view: str) -> str:
    """Id of a view of the picture or tile with this id."""
    return name if view == IDENTITY else f"{name}@{view}"


def id_without_view(name: str, view: str) -> str:
    """Id of the picture or tile that a row with this id shows in this view."""
    return name if view == IDENTITY else name.removesuffix(f"@{view}")
