"""READ a dataset of the Hub, or a local folder of one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING

from latentstore.errors import RequestError
from latentstore.sources.hub_images.columns import COLUMNS, DROP_COLUMNS, columns_of
from latentstore.sources.hub_images.loading import is_streamed, load, without_progress_bars
from latentstore.sources.hub_images.splits import MapSplit, map_splits, stream_splits
from latentstore.sources.inside import FOLLOW_LINKS
from latentstore.sources.interface import OpenSource
from latentstore.sources.naming import check_options

if TYPE_CHECKING:
    from latentstore.sources.interface import SourceRow, SplitReader

_OPTIONS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("config", "data_dir", "image", "label"), (str, NoneType)),
    **dict.fromkeys(("streaming", FOLLOW_LINKS), bool),
    **dict.fromkeys(("splits", COLUMNS, DROP_COLUMNS), (str, list, tuple, NoneType)),
}


def open_hub_images(row: SourceRow) -> OpenSource:
    """The images of the dataset `row.location`; options and rules are those of `latentstore.sources.hub_images`."""
    check_options(row, _OPTIONS)
    for name, value in row.options.items():
        parts = value if isinstance(value, (list, tuple)) else ()
        if not isinstance(value, _OPTIONS[name]) or not all(isinstance(part, str) for part in parts):
            raise RequestError(f"The option {name!r} of source {row.name!r} cannot be {value!r}.")
    with without_progress_bars():
        loaded = load(row)
        columns = columns_of(row, loaded.splits)
        readers = stream_splits(row, loaded, columns) if is_streamed(row) else map_splits(row, loaded, columns)
    return OpenSource(
        splits=readers,
        listing=_listing(readers),
        class_names=columns.class_names,
        features=columns.features,
        revision=loaded.commit or row.revision,
        notes=tuple(columns.notes),
    )


def _listing(readers: Mapping[str, SplitReader]) -> str:
    """See ``OpenSource.listing``: the id of every picture, where they can be known; else how many there are."""
    digest = hashlib.sha256()
    for name, reader in readers.items():
        known = reader.ids if isinstance(reader, MapSplit) else [str(len(reader))]
        digest.update("\0".join([name, *known, ""]).encode())
    return digest.hexdigest()
