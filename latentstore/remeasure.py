"""Decode rows of a dataset again and measure them against their source pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import MixedSizesError, SourceError, UntrustedError, VaeError
from latentstore.growth import recalled_reader
from latentstore.metrics.table import METRICS
from latentstore.pictures import PictureReader, decoded_uint8, scores_of
from latentstore.plan import BuildPlan, PlannedRows, kept_positions, plan_rows
from latentstore.records import SkippedTile, Tile
from latentstore.sources.table import refuse_untrusted, source_of
from latentstore.vaes.interface import LoadOptions, Vae, VaeRow
from latentstore.vaes.table import row_of

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.manifest import Manifest
    from latentstore.metrics.interface import Scorer
    from latentstore.sources.interface import OpenSource, SourceRow
    from latentstore.store import LatentRows, LatentStore

ROWS_AT_ONCE = 16
GONE = "its source picture cannot be read any more"
ANOTHER = "its source picture is not the one that was encoded (another sha256)"


class Unavailable(Exception):  # noqa: N818 (a reason not to look, no error)
    """What is needed to measure again is not at hand; the text says what, and how to give it."""


@dataclass(frozen=True)
class Remeasured:
    """One row, decoded and measured again."""

    row: int
    """Of the index."""
    id: str
    shard: str
    changed: str
    """What is wrong with its source picture; empty where it is the one that was encoded."""
    scores: Mapping[str, tuple[float | None, float]]
    """(recorded, measured again) of each metric."""


def remeasured(
    store: LatentStore,
    index: Mapping[str, Sequence[Any]],
    rows: NDArray[np.int64],
    *,
    model: Vae,
    originals: Originals,
    scorers: Mapping[str, Scorer],
    look: Callable[[Sequence[int], torch.Tensor], object] = lambda rows, decoded: None,  # noqa: ARG005
) -> Iterator[Remeasured]:
    """These rows of the index (ascending), decoded by ``model`` and scored against the source's own pixels.

    ``index`` has every column of index.parquet. A row whose source picture has changed is given without scores.
    ``look`` is called with the other rows and what they decode to, (N, 3, H, W) uint8, some at a time.
    """
    shelf = _Shelf(store)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        tiles = [(row, originals.tile(index, row)) for row in rows[start : start + ROWS_AT_ONCE].tolist()]
        kept = [(row, tile) for row, tile in tiles if isinstance(tile, Tile)]
        found: dict[str, NDArray[np.float64]] = {}
        if kept:
            decoded = decoded_uint8(model, shelf.raw(index, [row for row, _ in kept]))
            found = scores_of(scorers, [tile for _, tile in kept], decoded)
            look([row for row, _ in kept], decoded)
        places = {row: place for place, (row, _) in enumerate(kept)}
        for row, tile in tiles:
            changed = tile if isinstance(tile, str) else ""
            scores = {
                name: (index[name][row], float(column[places[row]])) for name, column in found.items() if not changed
            }
            yield Remeasured(row, index["id"][row], index["shard"][row], changed, scores)


def decoded_rows(
    store: LatentStore, index: Mapping[str, Sequence[Any]], rows: Sequence[int], *, model: Vae
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """These rows of the index (ascending) and what they decode to, (N, 3, H, W) uint8, some at a time."""
    shelf = _Shelf(store)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = list(rows[start : start + ROWS_AT_ONCE])
        yield some, decoded_uint8(model, shelf.raw(index, some))


def scorers_at_hand(names: Sequence[str], weights: Path | None) -> tuple[dict[str, Scorer], list[str]]:
    """The metrics of these names, opened, and the names of those whose weights are not in that folder."""
    rows = [METRICS[name].at(weights) for name in names if name in METRICS]
    lacking = [row.name for row in rows if row.unavailable()]
    return {row.name: row.open() for row in rows if row.name not in lacking}, lacking


@dataclass(frozen=True)
class Originals:
    """The prepared source pictures of a dataset's rows."""

    reader: PictureReader
    positions: Mapping[str, NDArray[np.int64]]
    """Of each split, the planned row that each of its rows was."""

    @cached_property
    def _starts(self) -> Mapping[str, int]:
        """The row of the index at which each split begins."""
        rows = np.cumsum([0, *map(len, self.positions.values())]).tolist()
        return dict(zip(self.positions, rows, strict=False))

    def tile(self, index: Mapping[str, Sequence[Any]], row: int) -> Tile | str:
        """The prepared picture of a row of the index, or what is wrong with its source picture."""
        split = index["split"][row]
        try:
            found = next(self.reader.tiles(split, [self.positions[split][row - self._starts[split]]]))
        except MixedSizesError:  # of a dataset that was added to, sizes are not looked at before
            return ANOTHER
        if isinstance(found, SkippedTile):
            return f"{GONE} ({found.reason})"
        return ANOTHER if found.source_sha256 != index["source_sha256"][row] else found

    def compared(self, index: Mapping[str, Sequence[Any]], rows: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
        """(row, what is wrong with its picture, or an empty text) of these rows (ascending).

        Each picture is read once, however many tiles were cut from it, and is not prepared. Raises Unavailable where
        the source stops giving pictures.
        """
        for split, start in self._starts.items():
            here = rows[(rows >= start) & (rows < start + len(self.positions[split]))]
            if len(here) == 0:
                continue
            images = self.reader.rows.splits[split][self.positions[split][here - start], 0]
            first = np.flatnonzero(np.diff(images, prepend=-1))
            wanted = images[first].tolist()
            try:
                pictures = self.reader.source.splits[split].read(wanted)
                for own, picture in zip(np.split(here, first[1:]), pictures, strict=True):
                    for row in own.tolist():
                        yield row, _compared(picture, index["source_sha256"][row])
            except OSError as error:
                raise Unavailable(f"the source stopped giving pictures: {error.strerror or error}") from error


def _compared(picture: Tile | SkippedTile, sha256: str) -> str:
    if isinstance(picture, SkippedTile):
        return f"{GONE} ({picture.reason})"
    return "" if picture.source_sha256 == sha256 else ANOTHER


def needs_trust(manifest: Manifest) -> bool:
    """Whether its source or its VAE is only opened by those who trust what the manifest names."""
    try:
        refuse_untrusted(manifest)
        row_of(manifest.vae)
    except UntrustedError:
        return True
    except VaeError:  # no row, and no place either
        return False
    return False


def originals_of(
    store: LatentStore, row: SourceRow | None = None, opened: OpenSource | None = None, *, trust: bool = False
) -> Originals:
    """The source pictures behind a dataset's rows: of ``row`` (``opened`` already, or not), or as the manifest says.

    What the manifest says is opened where it is a row of the table, and with ``trust``: else UntrustedError. Raises
    Unavailable where they are not at hand, SourceError where the source holds others. The VAE is not needed.
    """
    manifest = store.manifest
    if row is None and not trust:
        refuse_untrusted(manifest)
    try:
        source = row or source_of(manifest.source)
        opened = opened or source.open()
    except SourceError as error:
        raise Unavailable(f"the source pictures are not at hand ({error}); say where with --source") from error
    plan = BuildPlan(
        source=source,
        vae=_padding_row(manifest),
        preparation=manifest.preparation,
        order=manifest.build.order,
        seed=manifest.build.seed,
        config=manifest.config,
    )
    if manifest.build.appended:
        return _recalled_originals(store, plan, opened)
    rows = plan_rows(plan, opened)
    positions = _positions(manifest, rows)
    found = {split: len(kept) for split, kept in positions.items()}
    wanted = {split: info.rows for split, info in manifest.splits.items()}
    if rows.digest != manifest.build.plan.get("pictures") or found != wanted:
        raise SourceError(
            "The source holds other pictures than those that were encoded (their number or sizes differ)."
        )
    return Originals(PictureReader(plan, opened, rows), positions)


def _recalled_originals(store: LatentStore, plan: BuildPlan, opened: OpenSource) -> Originals:
    """Likewise of a dataset that was added to: pictures are found again, each is held against its sha256."""
    try:
        reader = recalled_reader(plan, store, opened)
    except LookupError as error:
        raise Unavailable(f"the source pictures cannot be told apart: {error.args[0]}") from error
    return Originals(reader, _positions(store.manifest, reader.rows))


def _positions(manifest: Manifest, rows: PlannedRows) -> dict[str, NDArray[np.int64]]:
    """Of each split, the planned row that each of its rows was."""
    skipped = manifest.build.skipped
    return {
        split: kept_positions(len(planned), [entry.position for entry in skipped if entry.split == split])
        for split, planned in rows.splits.items()
    }


def _padding_row(manifest: Manifest) -> VaeRow:
    """A row that pads every picture of this dataset as its own VAE did, and can do nothing else.

    The padded sides are multiples of what the VAE pads to, so every true size that it pads to them is padded to them
    by their greatest common divisor too.
    """
    _, height, width = manifest.latent_shape
    stride = math.gcd(height, width) * manifest.vae.stride
    return VaeRow(manifest.vae.name, _no_weights, manifest.vae.channels, stride, manifest.vae.licence)


def _no_weights(row: VaeRow, _: LoadOptions) -> Vae:
    raise VaeError(f"This row of {row.name!r} only says how pictures are padded.")


class _Shelf:
    """Raw latents by row of the index; the shard that was read last stays open."""

    def __init__(self, store: LatentStore) -> None:
        self._store = store
        self._entries = {shard.path: shard for split in store.manifest.splits.values() for shard in split.shards}
        self._storage = store.storage()
        self._open: tuple[str, LatentRows] | None = None

    def raw(self, index: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> NDArray[np.float32]:
        """(len(rows), C, h, w) float32, decoded from the stored numbers."""
        shards = [index["shard"][row] for row in rows]
        stored = [
            self._reader(path).latents(
                np.array(
                    [index["row"][row] for row, shard in zip(rows, shards, strict=True) if shard == path], np.int64
                )
            )
            for path in dict.fromkeys(shards)  # rows are ascending, so those of one shard are neighbours
        ]
        return self._storage.decode(np.concatenate(stored))

    def _reader(self, path: str) -> LatentRows:
        if self._open is None or self._open[0] != path:
            self._open = (path, self._store.latents_of(self._entries[path]))
        return self._open[1]
