"""Curves of image files, against Pillow itself."""

from __future__ import annotations

import math
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, features
from scenes import smooth_picture
from skimage.metrics import peak_signal_noise_ratio

from latentstore import METRICS
from latentstore.comparison.rate_curves import ENCODERS, mean_scores, rate_curve

PICTURES = [smooth_picture(48, 64, seed) for seed in range(3)]
SCORERS = {"psnr": METRICS["psnr"].open(), "mae": METRICS["mae"].open()}


def test_the_points_of_jpeg_are_what_pillow_writes() -> None:
    curve = rate_curve(ENCODERS["JPEG"], PICTURES, SCORERS)
    assert [point.quality for point in curve.points] == list(ENCODERS["JPEG"].qualities)
    for point in curve.points:
        files, psnrs = [], []
        for picture in PICTURES:
            buffer = BytesIO()
            Image.fromarray(picture).save(buffer, "JPEG", quality=point.quality)
            files.append(buffer.getvalue())
            psnrs.append(peak_signal_noise_ratio(picture, np.asarray(Image.open(buffer))))
        assert point.bytes == sum(map(len, files))
        assert point.bits_per_pixel == 8 * point.bytes / (3 * 48 * 64)
        assert point.scores["psnr"] == pytest.approx(float(np.mean(psnrs)), abs=1e-9)


@pytest.mark.parametrize("name", list(ENCODERS))
def test_more_bits_are_better_and_the_bytes_repeat(name: str) -> None:
    encoder = ENCODERS[name]
    if encoder.missing():
        pytest.skip(encoder.missing())
    few = replace(encoder, qualities=encoder.qualities[::3])
    curve = rate_curve(few, PICTURES, SCORERS)
    assert curve.missing == ""
    sizes = [point.bytes for point in curve.points]
    quality = [point.scores["psnr"] for point in curve.points]
    assert sizes == sorted(sizes)
    assert quality == sorted(quality)
    assert all(point.scores["mae"] > 0 for point in curve.points)
    assert rate_curve(few, PICTURES, SCORERS) == curve


def test_an_encoder_that_pillow_lacks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "get_supported", lambda: ["jpg"])
    assert ENCODERS["JPEG"].missing() == ""
    curve = rate_curve(ENCODERS["AVIF"], PICTURES, SCORERS)
    assert curve.points == ()
    assert curve.missing == "this Pillow was built without AVIF: pip install --upgrade pillow"


def test_pictures_without_any_loss_are_not_averaged() -> None:
    changed = PICTURES[0] ^ 1
    lossless = (PICTURES[0], PICTURES[0])
    scores = mean_scores([lossless, (PICTURES[0], changed)], SCORERS)
    assert scores["psnr"] == pytest.approx(20 * math.log10(255))
    assert scores["mae"] == pytest.approx(0.5 / 255)
    assert math.isnan(mean_scores([lossless], SCORERS)["psnr"])
