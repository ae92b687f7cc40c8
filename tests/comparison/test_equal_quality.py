"""Bytes for the same quality, on curves whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenes import scenes

from latentstore import METRICS, VAES, Comparison, compare
from latentstore.comparison.equal_quality import EqualQuality, equal_qualities
from latentstore.comparison.rate_curves import RateCurve, RatePoint
from latentstore.comparison.storage_curves import StoragePoint

PSNR, MAE = METRICS["psnr"], METRICS["mae"]


def storage(bits: float, *, step: float | None = None, **scores: float) -> StoragePoint:
    name = "float16" if step is None else "int8"
    return StoragePoint(name, step, 1, bits, bits, scores, 0.0)


def curve(*points: tuple[float, float], metric: str = "psnr") -> RateCurve:
    return RateCurve("JPEG", "", tuple(RatePoint(50, 1, bits, {metric: score}) for bits, score in points))


@pytest.fixture(scope="module")
def plain() -> Comparison:
    return compare(scenes(2), [VAES["pool8"]])


def against(plain: Comparison, storages: list[StoragePoint], files: RateCurve, *, metric: str = "psnr") -> EqualQuality:
    vae = replace(plain.vaes[0], storages=tuple(storages))
    (found,) = equal_qualities(replace(plain, vaes=(vae,), curves=(files,), rate_metrics=(METRICS[metric],)))
    return found


def test_the_ratio_is_taken_where_the_quality_is_the_same(plain: Comparison) -> None:
    # 6 dB a doubling: 33 dB takes sqrt(2) bits.
    found = against(plain, [storage(2.0, psnr=33.0), storage(8.0, psnr=36.0)], curve((1, 30), (2, 36)))
    assert [ratio.times for ratio in found.ratios] == pytest.approx([2 / 2**0.5, 4.0])
    assert found.even == ()
    assert found.sentence() == (
        "The same PSNR as JPEG takes 1.41 (float16, 33.00 dB) to 4.00 (float16, 36.00 dB) times its bytes."
    )


def test_where_the_curves_meet_both_take_the_same(plain: Comparison) -> None:
    storages = [storage(0.5, step=1 / 2, psnr=30.0), storage(4.0, step=1 / 4, psnr=33.0)]
    found = against(plain, storages, curve((1, 30), (2, 33), (4, 36)))
    assert [ratio.times for ratio in found.ratios] == pytest.approx([0.5, 2.0])
    ((bits, quality),) = found.even
    # From half to twice: even in the middle of the segment, in logarithms.
    assert (bits, quality) == pytest.approx((2**0.5, 31.5))
    assert found.sentence() == (
        "The same PSNR as JPEG takes 0.50 (int8, step 1/2, 30.00 dB) to 2.00 (int8, step 1/4, 33.00 dB) times its "
        "bytes; both take the same at 1.41 bits per pixel (31.50 dB)."
    )


def test_curves_may_meet_twice(plain: Comparison) -> None:
    storages = [storage(2.0, psnr=30.0), storage(1.0 * 2**1.25, psnr=33.0), storage(16.0, psnr=36.0)]
    found = against(plain, storages, curve((1, 30), (4, 33), (8, 36)))
    assert len(found.even) == 2
    assert " and at " in found.sentence()


def test_nothing_is_said_beyond_what_was_measured(plain: Comparison) -> None:
    found = against(plain, [storage(0.1, psnr=20.0), storage(0.2, psnr=22.0)], curve((1, 30), (2, 36)))
    assert found.ratios == ()
    assert found.sentence() == (
        "No storage has a PSNR that was measured for JPEG: 20.00 dB to 22.00 dB here, 30.00 dB to 36.00 dB there."
    )
    partly = against(plain, [storage(0.1, psnr=20.0), storage(2.0, psnr=30.0)], curve((1, 30), (2, 36)))
    assert [ratio.times for ratio in partly.ratios] == [2.0]
    assert partly.sentence() == "The same PSNR as JPEG takes 2.00 (float16, 30.00 dB) times its bytes."


def test_where_lower_is_better_the_curves_are_read_the_other_way(plain: Comparison) -> None:
    found = against(
        plain,
        [storage(4.0, mae=0.03), storage(8.0, mae=0.02)],
        curve((1, 0.04), (2, 0.03), (4, 0.01), metric="mae"),
        metric="mae",
    )
    assert [ratio.times for ratio in found.ratios] == pytest.approx([2.0, 8 / 2**1.5])
    assert (found.here, found.there) == ((0.03, 0.02), (0.04, 0.01))
    assert "2.83 (float16, 0.0200)" in found.sentence()


def test_a_point_that_costs_more_and_is_worse_does_not_bend_the_image_curve(plain: Comparison) -> None:
    found = against(plain, [storage(2.0, psnr=33.0)], curve((1, 30), (1.5, 29), (2, 36)))
    assert found.ratios[0].times == pytest.approx(2 / 2**0.5)


def test_without_points_there_is_no_comparison(plain: Comparison) -> None:
    vae = replace(plain.vaes[0], storages=(storage(1.0, psnr=float("nan")),))
    missing = replace(plain, curves=(curve(),), rate_metrics=(PSNR,))
    assert equal_qualities(missing) == []
    assert equal_qualities(replace(missing, vaes=(vae,), curves=(curve((1, 30)),))) == []
    assert MAE.higher_is_better is False
