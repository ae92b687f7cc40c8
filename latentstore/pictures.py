"""The prepared pictures of planned rows, and decoded ones beside them on their true area.

Whoever compares pictures with latents (build, calibration, preview, verify, compare) goes through here, so that all of
them see the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latentstore.errors import BadImageError, MixedSizesError, SourceError
from latentstore.pixels import piece_of, prepare_whole, to_uint8
from latentstore.records import SkippedTile, Tile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from latentstore.metrics.interface import Scorer
    from latentstore.plan import BuildPlan, PlannedRows
    from latentstore.sources.interface import OpenSource
    from latentstore.vaes.interface import Vae


@dataclass(frozen=True)
class PictureReader:
    """The pictures of a plan's rows."""

    plan: BuildPlan
    source: OpenSource
    rows: PlannedRows

    def tiles(self, split: str, positions: Sequence[int] | NDArray[np.int64]) -> Iterator[Tile | SkippedTile]:
        """The prepared picture of each of these planned rows of a split, or the reason why there is none.

        A picture whose pieces (tiles and views) follow each other is decoded once. Raises SourceError where the source
        stops giving pictures, MixedSizesError where a picture of a stream has another size than was planned for.
        """
        planned = self.rows.splits[split][np.asarray(positions, np.int64)]
        if len(planned) == 0:
            return
        starts = np.flatnonzero(np.diff(planned[:, 0], prepend=-1))
        wanted = planned[starts, 0].tolist()
        images = self._images(split, wanted)
        for number, image, pieces in zip(wanted, images, np.split(planned[:, 1], starts[1:]), strict=True):
            whole = self._whole(image, self.rows.pieces(split, number))
            for piece in pieces.tolist():
                yield whole if isinstance(whole, SkippedTile) else piece_of(whole, self.plan.preparation, piece)

    def _images(self, split: str, wanted: list[int]) -> Iterator[Tile | SkippedTile]:
        """What the source gives; its own failures to read are not mistaken for failures to write.

        Raises SourceError for a class number without a name: of a stream, or of a reader of the user's own, none is
        known before.
        """
        names = self.source.class_names
        try:
            for image in self.source.splits[split].read(wanted):
                if names is not None and isinstance(image, Tile) and image.label is not None:
                    self._refuse_beyond(image.source_path, image.label, len(names))
                yield image
        except OSError as error:
            where = f"{self.plan.source.name!r} at {self.plan.source.location!r}"
            raise SourceError(f"Source {where} stopped giving pictures: {error.strerror or error}.") from error

    def _refuse_beyond(self, path: str, label: int, classes: int) -> None:
        if not 0 <= label < classes:
            where = f"{self.plan.source.name!r} at {self.plan.source.location!r}"
            raise SourceError(
                f"Picture {path!r} of source {where} has the class number {label}, but its {classes} classes are "
                f"numbered 0 to {classes - 1}: mend the labels or the names in the source."
            )

    def _whole(self, image: Tile | SkippedTile, pieces: int) -> Tile | SkippedTile:
        """The prepared picture that so many pieces are taken from."""
        if isinstance(image, SkippedTile):
            return image
        preparation = self.plan.preparation
        size = image.pixels.shape[0], image.pixels.shape[1]
        try:
            found = preparation.pieces(size)
            if found != pieces:  # only a stream's pictures have other sizes than were planned for
                views = max(1, len(preparation.views))
                raise MixedSizesError(
                    f"Picture {image.source_path!r} is {size[0]}x{size[1]} and would be cut into {found // views} "
                    f"tiles, but a stream is planned for pictures of one size, here of {pieces // views} tiles: read "
                    "it without --streaming."
                )
            whole = prepare_whole(image, preparation)
        except BadImageError as error:
            return SkippedTile(image.id, image.source_path, str(error))
        padded = preparation.padded_size(size, self.plan.vae.pad_to)
        if padded != self.rows.padded:
            raise MixedSizesError(
                f"Picture {image.source_path!r} is {size[0]}x{size[1]} and would be encoded at "
                f"{padded[0]}x{padded[1]}, the ones before it at {self.rows.padded[0]}x{self.rows.padded[1]}: choose "
                "--resize, --crop or --tile."
            )
        return whole


def decoded_uint8(vae: Vae, raw: NDArray[np.float32]) -> torch.Tensor:
    """Pictures (N, 3, H, W) uint8 on the VAE's device, of raw latents (N, C, h, w)."""
    import torch

    return to_uint8(vae.decode(torch.from_numpy(raw)))


def side_by_side(
    tiles: Sequence[Tile], decoded: torch.Tensor
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """(rows, prepared, decoded) for the rows of each true size: both uint8 (n, 3, height, width), on one device."""
    import torch

    sizes = [tile.pixels.shape[:2] for tile in tiles]
    for size in dict.fromkeys(sizes):  # one true size, unless tiles were cut at an edge
        rows = [index for index, found in enumerate(sizes) if found == size]
        seen = decoded[rows, :, : size[0], : size[1]].contiguous()
        stacked = torch.from_numpy(np.stack([tiles[index].pixels for index in rows]))
        yield rows, stacked.permute(0, 3, 1, 2).contiguous().to(seen.device), seen


def scores_of(
    scorers: Mapping[str, Scorer], tiles: Sequence[Tile], decoded: torch.Tensor
) -> dict[str, NDArray[np.float64]]:
    """What each scorer says of each picture, (N,)."""
    scores = {name: np.empty(len(tiles)) for name in scorers}
    for rows, truth, seen in side_by_side(tiles, decoded):
        for name, scorer in scorers.items():
            scores[name][rows] = scorer(truth, seen)
    return scores
