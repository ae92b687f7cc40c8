"""Quality against bits per pixel: axes, points, and labels that do not cover each other."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from itertools import combinations

import numpy as np
import pytest
from noisy import NOISY
from PIL import Image, ImageDraw
from scenes import scenes

from latentstore import METRICS, PROTOCOLS, STORAGES, VAES, Comparison, compare
from latentstore.comparison import drawing
from latentstore.comparison import rate_plot as plot
from latentstore.comparison.rate_curves import ENCODERS, RateCurve
from latentstore.errors import RequestError

ENCODER = replace(ENCODERS["JPEG"], qualities=(10, 50, 90))


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare(scenes(6, 64), [VAES["pool8"], NOISY], encoders=[ENCODER])


def pen() -> drawing.Pen:
    return drawing.Pen(ImageDraw.Draw(Image.new("RGB", (10, 10))))


def crowded(found: Comparison, count: int) -> Comparison:
    """So many VAEs at nearly one place, amid the curve."""
    vae = found.vaes[0]
    assert vae.size is not None
    size = vae.size
    names = [f"vae-number-{number}" for number in range(count)]
    vaes = tuple(
        replace(
            vae,
            vae=name,
            size=replace(size, bits_per_pixel=1 + 0.01 * number),
            rate_scores={"psnr": 28 + 0.02 * number},
        )
        for number, name in enumerate(names)
    )
    return replace(found, vaes=vaes)


def test_the_plot_is_a_picture_of_the_stated_size(found: Comparison) -> None:
    with Image.open(BytesIO(plot.rate_png(found))) as image:
        assert image.format == "PNG"
        assert image.size == (plot.WIDTH, plot.PANEL_HEIGHT + plot.foot_height(found))
        pixels = np.asarray(image.convert("RGB")).astype(int)
    panel = plot.draw_panel(pen(), found, METRICS["psnr"], 0)
    for vae in found.vaes:
        assert vae.size is not None
        x, y = panel.at((vae.size.bits_per_pixel, vae.rate_scores["psnr"]))
        assert np.abs(pixels[round(y), round(x)] - (0xB3, 0x26, 0x1E)).max() < 40  # its mark


def test_every_metric_has_a_panel(found: Comparison) -> None:
    both = replace(
        found,
        rate_metrics=(METRICS["psnr"], METRICS["mae"]),
        vaes=tuple(replace(vae, rate_scores={**vae.rate_scores, "mae": 0.02}) for vae in found.vaes),
        curves=tuple(
            replace(
                curve,
                points=tuple(replace(point, scores={**point.scores, "mae": 0.01}) for point in curve.points),
            )
            for curve in found.curves
        ),
    )
    with Image.open(BytesIO(plot.rate_png(both))) as image:
        assert image.size == (plot.WIDTH, 2 * plot.PANEL_HEIGHT + plot.foot_height(found))


@pytest.mark.parametrize("count", [1, 8, 20])
def test_labels_cover_neither_each_other_nor_a_mark(found: Comparison, count: int) -> None:
    panel = plot.draw_panel(pen(), crowded(found, count), METRICS["psnr"], 0)
    assert len(panel.taken) == count + 2  # both ends of the curve
    assert not any(drawing.overlap(a, b, 0) for a, b in combinations(panel.taken, 2))
    assert all(drawing.inside(box, panel.box) for box in panel.taken)
    for vae in crowded(found, count).vaes:
        assert vae.size is not None
        mark = drawing.around(panel.at((vae.size.bits_per_pixel, vae.rate_scores["psnr"])), 7)
        assert not any(drawing.overlap(mark, box, 0) for box in panel.taken)


def test_the_axes_hold_every_point_and_the_first_is_logarithmic(found: Comparison) -> None:
    panel = plot.draw_panel(pen(), found, METRICS["psnr"], 0)
    left, top, right, bottom = panel.box
    for series in plot.series_of(found, "psnr"):
        for point in series.points:
            x, y = panel.at(point)
            assert left < x < right
            assert top < y < bottom
    steps = np.diff([panel.at((2.0**power, 30))[0] for power in range(-2, 3)])
    assert np.allclose(steps, steps[0])


@pytest.mark.parametrize("span", [(21.0, 39.0), (0.0, 1.0), (0.012, 0.019), (99.9, 100.3), (-3.0, 4.0), (5, 5.004)])
def test_ticks_are_round_few_and_all_different(span: tuple[float, float]) -> None:
    ticks = list(drawing.ticks(span))
    assert 3 <= len(ticks) <= 10
    assert len({shown for _, shown in ticks}) == len(ticks)
    assert all(span[0] <= value <= span[1] and float(shown) == pytest.approx(value) for value, shown in ticks)


def test_an_encoder_that_is_missing_is_in_the_legend(found: Comparison) -> None:
    with_gap = replace(found, curves=(*found.curves, RateCurve("AVIF", "", (), "not here")))
    assert plot.rate_png(with_gap) != plot.rate_png(found)


def test_lossless_pictures_have_no_point(found: Comparison) -> None:
    lossless = tuple(replace(vae, rate_scores={"psnr": float("nan")}) for vae in found.vaes)
    series = plot.series_of(replace(found, vaes=lossless), "psnr")
    assert [len(one.points) for one in series] == [3, 0]
    assert plot.rate_png(replace(found, vaes=lossless))


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(RequestError, match="There is nothing to draw: no VAE was measured, or no image encoder"):
        plot.rate_png(compare(scenes(2), [VAES["pool8"]], protocol=PROTOCOLS["vaes4rs"]))


# Curves over storages ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored() -> Comparison:
    return compare(scenes(6, 64), [VAES["pool8"], NOISY], encoders=[ENCODER], storages=list(STORAGES.values()))


def test_every_vae_is_a_curve_with_a_mark_for_each_storage(stored: Comparison) -> None:
    files, *vaes = plot.series_of(stored, "psnr")
    assert (files.name, files.heading) == ("JPEG", "image files")
    assert [one.name for one in vaes] == ["pool8", "noisy"]
    for one, vae in zip(vaes, stored.vaes, strict=True):
        assert one.points == tuple((point.bits_per_pixel, point.scores["psnr"]) for point in vae.storages)
        assert [mark.kind for mark in one.marks[-2:]] == ["diamond", "square"]
        assert {mark.kind for mark in one.marks[:-2]} == {"circle"}
        assert [mark.label for mark in one.marks if mark.label] == ["1/2", "1/32"]
    assert len({one.colour for one in (files, *vaes)}) == 3
    with Image.open(BytesIO(plot.rate_png(stored))) as image:
        assert image.size == (plot.WIDTH, plot.PANEL_HEIGHT + plot.foot_height(stored))
        pixels = np.asarray(image.convert("RGB")).astype(int)
    panel = plot.draw_panel(pen(), stored, METRICS["psnr"], 0)
    x, y = panel.at(next(mark.point for mark in vaes[1].marks if mark.kind == "diamond"))
    assert np.abs(pixels[round(y), round(x)] - (0xD5, 0x5E, 0x00)).max() < 40


def test_labels_of_curves_do_not_cover_each_other(stored: Comparison) -> None:
    many = replace(stored, vaes=tuple(replace(stored.vaes[0], vae=f"vae-number-{place}") for place in range(5)))
    panel = plot.draw_panel(pen(), many, METRICS["psnr"], 0)
    # The name of each curve, and its other labelled points; the file's name stands with the quality of its last point.
    assert len(panel.taken) == 5 * 3 + 2
    assert not any(drawing.overlap(a, b, 0) for a, b in combinations(panel.taken, 2))


def test_float32_does_not_stretch_the_axis_and_is_named_where_it_falls_off(stored: Comparison) -> None:
    assert not any("Beyond the axis" in line for line in plot.caption(stored))
    vae = stored.vaes[0]
    far = (*vae.storages[:-1], replace(vae.storages[-1], bits_per_pixel=1000.0))
    other = replace(stored, vaes=(replace(vae, storages=far),))
    panel = plot.panel_of(plot.series_of(other, "psnr"), 0)
    assert not panel.holds(1000.0)
    assert all(panel.holds(point.bits_per_pixel) for point in far[:-1])
    assert list(plot.caption(other))[-1] == "Beyond the axis, at these bits per pixel: float32 of pool8 1000.00."
    assert plot.rate_png(other)


def test_the_caption_says_whose_bytes_are_counted(found: Comparison, stored: Comparison) -> None:
    assert "column latent of a compact Parquet shard" in " ".join(plot.caption(stored))
    assert "all that is stored" in " ".join(plot.caption(found))


def test_curves_can_be_drawn_without_image_files() -> None:
    alone = compare(scenes(4), [VAES["pool8"]], storages=[STORAGES["float16"]])
    assert alone.curve_pictures == 4
    assert plot.rate_png(alone)
