"""What image files make of the same pictures: quality against bits per pixel for JPEG, WebP and AVIF."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.named_table import NamedTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentstore.metrics.interface import Scorer

    Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class EncoderRow:
    """One way to write a picture as a file with Pillow."""

    name: str
    format: str
    """Pillow's name of the format."""
    feature: str
    """Pillow's name of the library behind it."""
    qualities: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of ``Image.save``, beside the quality."""
    how: str = ""
    """In words."""

    def missing(self) -> str:
        """Why there is no such encoder here; empty where there is."""
        from PIL import features

        supported = self.feature in features.get_supported()
        return "" if supported else f"this Pillow was built without {self.name}: pip install --upgrade pillow"

    def encode(self, picture: Picture, quality: int) -> bytes:
        """The file of a picture, (H, W, 3) uint8."""
        from PIL import Image

        buffer = BytesIO()
        Image.fromarray(picture).save(buffer, self.format, quality=quality, **self.options)
        return buffer.getvalue()


# Threads are pinned to one where an encoder cuts the picture into as many parts as it has threads: the bytes would
# depend on the machine.
ENCODERS = NamedTable(
    "image encoder",
    [
        EncoderRow(
            name="JPEG",
            format="JPEG",
            feature="jpg",
            qualities=(5, 10, 20, 35, 50, 65, 80, 90, 95),
            how="Pillow's defaults: baseline, colour at half resolution",
        ),
        EncoderRow(
            name="WebP",
            format="WEBP",
            feature="webp",
            qualities=(5, 20, 40, 60, 75, 85, 93, 98),
            options={"method": 4},
            how="lossy, method 4, colour at half resolution",
        ),
        EncoderRow(
            name="AVIF",
            format="AVIF",
            feature="avif",
            qualities=(10, 25, 40, 55, 70, 82, 92),
            options={"speed": 6, "max_threads": 1},
            how="speed 6, colour at half resolution",
        ),
    ],
)


@dataclass(frozen=True)
class RatePoint:
    """All pictures at one quality."""

    quality: int
    bytes: int
    """Of all files, headers included."""
    bits_per_pixel: float
    scores: Mapping[str, float]
    """Mean over the pictures with a finite score, by the metric's name; NaN where none has one."""


@dataclass(frozen=True)
class RateCurve:
    """One encoder over its qualities; no point, and the reason, where it is missing."""

    encoder: str
    how: str
    points: tuple[RatePoint, ...]
    missing: str = ""


def rate_curve(encoder: EncoderRow, pictures: Sequence[Picture], scorers: Mapping[str, Scorer]) -> RateCurve:
    """The encoder's curve over uint8 pictures (H, W, 3): bits per pixel, and the mean of every metric."""
    missing = encoder.missing()
    if missing:
        return RateCurve(encoder.name, encoder.how, (), missing)
    points = tuple(_point(encoder, quality, pictures, scorers) for quality in encoder.qualities)
    return RateCurve(encoder.name, encoder.how, points)


def mean_scores(pairs: Sequence[tuple[Picture, Picture]], scorers: Mapping[str, Scorer]) -> dict[str, float]:
    """Mean of each metric over (original, decoded) pictures; NaN where no picture has a finite score."""
    found: dict[str, list[float]] = {name: [] for name in scorers}
    for original, decoded in pairs:
        for name, scorer in scorers.items():
            found[name].append(float(scorer(planes(original), planes(decoded))[0]))
    return {name: finite_mean(scores) for name, scores in found.items()}


def finite_mean(scores: Sequence[float]) -> float:
    """Mean of the finite ones, the same in any order; NaN where there is none."""
    finite = [score for score in scores if math.isfinite(score)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def planes(picture: Picture) -> Any:
    """A picture (H, W, 3) as a tensor (1, 3, H, W) uint8."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].contiguous()


def _point(encoder: EncoderRow, quality: int, pictures: Sequence[Picture], scorers: Mapping[str, Scorer]) -> RatePoint:
    files = [encoder.encode(picture, quality) for picture in pictures]
    pairs = [(picture, _decoded(file)) for picture, file in zip(pictures, files, strict=True)]
    size = sum(map(len, files))
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
    return RatePoint(quality, size, 8 * size / pixels, mean_scores(pairs, scorers))


def _decoded(file: bytes) -> Picture:
    from PIL import Image

    with Image.open(BytesIO(file)) as image:
        return np.array(image.convert("RGB"))  # a copy that may be written to, as torch wants it
