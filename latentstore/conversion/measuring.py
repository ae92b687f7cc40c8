"""MEASURE: source pictures, VAE and metrics of the dataset that is converted, where they are at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.calibration import Sample, lost
from latentstore.errors import RequestError, SourceError, UntrustedError, VaeError, WrongVaeError
from latentstore.metrics.table import METRICS
from latentstore.pictures import decoded_uint8, scores_of
from latentstore.records import SkippedTile, Tile
from latentstore.remeasure import Originals, Unavailable, originals_of, scorers_at_hand
from latentstore.thumbnails import thumbnails_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.conversion.origin import Origin, OriginShard
    from latentstore.manifest import Manifest
    from latentstore.metrics.interface import Scorer
    from latentstore.sources.interface import SourceRow
    from latentstore.storage.interface import Storage
    from latentstore.vaes.interface import Vae, VaeRow


@dataclass(frozen=True)
class MeasureOptions:
    """Whether to measure, and where pictures, VAE and networks of metrics may be found."""

    measure: bool | None
    """None: where they are at hand."""
    source: SourceRow | None
    vae: VaeRow | None
    metric_weights: Path | None
    device: str
    trust: bool = False
    """Whether a source or VAE that the manifest names may be opened though it is no row of the tables."""


@dataclass(frozen=True)
class Measurement:
    """What measuring some rows gave."""

    scores: Mapping[str, list[float | None]]
    """Of each metric, one a row; None where it is undefined."""
    lost_db: list[float]
    """PSNR that the new numbers lost against the old ones, of each picture of which it can be said."""
    thumbnails: list[bytes]
    """Of the decode of the new numbers, one a row; empty where the dataset has none."""


@dataclass(frozen=True)
class Measuring:
    """What measuring takes."""

    origin: Origin
    vae: Vae
    originals: Originals
    scorers: Mapping[str, Scorer]

    def sample(self, pictures: int) -> Sample:
        """A seeded draw from the rows of all splits, with their raw latents as they are stored now."""
        origin, total = self.origin, len(self.origin.index["id"])
        drawn = np.random.default_rng([origin.manifest.build.seed, total]).permutation(total)[:pictures]
        rows = np.sort(drawn)
        tiles, latents = [], []
        for shard in origin.shards:
            here = rows[(rows >= shard.first) & (rows < shard.first + shard.rows)]
            if len(here):
                latents.append(origin.latents(shard, here - shard.first))
            tiles += [self._drawn(row) for row in here.tolist()]
        return Sample(tuple(tiles), origin.storage.decode(np.concatenate(latents)))

    def tiles(self, shard: OriginShard) -> Iterator[Tile]:
        """The prepared pictures of a shard's rows, in order; SourceError where one is not that which was encoded."""
        positions = self.originals.positions[shard.split][shard.start : shard.start + shard.rows]
        tiles = self.originals.reader.tiles(shard.split, positions)
        for row, tile in enumerate(tiles, shard.first):
            yield self._same(tile, row)

    def measured(
        self, tiles: Iterator[Tile], first: int, old: NDArray[Any], new: NDArray[Any], after: Storage
    ) -> Measurement:
        """The decode of new numbers against the next pictures, and what that lost against the old ones.

        Both (N, C, h, w), of the N rows of the index from ``first`` on; ``after`` reads the new ones.
        """
        psnr = {"psnr": METRICS["psnr"].open()}
        columns: dict[str, list[float | None]] = {name: [] for name in self.scorers}
        lost_db: list[float] = []
        thumbnails: list[bytes] = []
        size = self.origin.manifest.build.batch_size
        for start in range(0, len(new), size):
            rows = slice(start, min(len(new), start + size))
            batch = [next(tiles) for _ in range(rows.start, rows.stop)]
            seen = decoded_uint8(self.vae, after.decode(new[rows]))
            scores = scores_of({**psnr, **self.scorers}, batch, seen)
            if self.origin.manifest.thumbnail:
                thumbnails += thumbnails_of(batch, seen, self.origin.manifest.thumbnail)
            if "psnr" in self.origin.index:  # what the old numbers scored is known
                known = self.origin.index["psnr"][first + rows.start : first + rows.stop]
                reference = np.array([np.nan if score is None else score for score in known], np.float64)
            else:
                decoded = decoded_uint8(self.vae, self.origin.storage.decode(old[rows]))
                reference = scores_of(psnr, batch, decoded)["psnr"]
            apart = lost(reference, scores["psnr"])
            lost_db += apart[np.isfinite(apart)].tolist()
            for name, column in columns.items():
                column += [None if np.isnan(score) else float(np.float32(score)) for score in scores[name]]
        return Measurement(columns, lost_db, thumbnails)

    def _drawn(self, row: int) -> Tile:
        tile = self.originals.tile(self.origin.index, row)
        if isinstance(tile, str):
            raise SourceError(f"{self.origin.index['id'][row]!r}: {tile}, so the storage cannot be calibrated on it.")
        return tile

    def _same(self, tile: Tile | SkippedTile, row: int) -> Tile:
        """The picture, if it is the one that was encoded."""
        index = self.origin.index
        if isinstance(tile, SkippedTile):
            raise SourceError(
                f"{index['source_path'][row]!r} cannot be read any more ({tile.reason}): bring it back, or convert "
                "without measuring (--no-measure)."
            )
        if tile.source_sha256 != index["source_sha256"][row]:
            raise SourceError(
                f"{index['source_path'][row]!r} is not the picture that was encoded (another sha256): bring it back, "
                "or convert without measuring (--no-measure)."
            )
        return tile


def at_hand(origin: Origin, options: MeasureOptions, *, auto: bool) -> tuple[Measuring | None, str]:
    """What measuring takes, or why it is not there.

    RequestError where it must be: because ``measure`` insists, or because the storage is chosen on the pictures
    (``auto``). UntrustedError where nobody has said whether what the manifest names may be opened.
    """
    if options.measure is False and not auto:
        return None, ""
    try:
        vae = _vae(origin, options)
        originals = originals_of(origin.store, options.source, trust=options.trust)
    except UntrustedError as error:
        if auto or options.measure:
            raise
        raise UntrustedError(f"{str(error).rstrip('.')}, or leave all scores out with --no-measure.") from error
    except Unavailable as reason:
        if auto or options.measure:
            what = "--storage auto is chosen" if auto else "quality is measured"
            raise RequestError(f"{what} on the source pictures with the VAE, and {reason}.") from reason
        return None, str(reason)
    scorers, _ = scorers_at_hand(_metrics_of(origin.manifest), options.metric_weights)
    return Measuring(origin, vae, originals, scorers), ""


def _vae(origin: Origin, options: MeasureOptions) -> Vae:
    """Unavailable where it is not at hand, WrongVaeError where it is another."""
    try:
        return origin.store.load_vae(options.vae, device=options.device, trust=options.trust)
    except WrongVaeError:
        raise
    except VaeError as error:
        raise Unavailable(f"the VAE is not at hand ({error}); say where with --vae-location") from error


def _metrics_of(manifest: Manifest) -> tuple[str, ...]:
    """The metrics it has, or had before an earlier conversion dropped them."""
    earlier = [tuple(step.quality_before) for step in reversed(manifest.storage.converted) if step.quality_before]
    return manifest.metrics or next(iter(earlier), ())
