from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from latentstore.sources.synthetic import CLASSES, draw_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCENES_A_CLASS = 10


def describe(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean, spread and edge energy of each channel: 9 numbers in grey levels."""
    pixels = image.astype(np.float64)
    edges = np.abs(np.diff(pixels, axis=0)).mean((0, 1)) + np.abs(np.diff(pixels, axis=1)).mean((0, 1))
    return np.concatenate([pixels.mean((0, 1)), pixels.std((0, 1)), edges])


@pytest.fixture(scope="module")
def statistics() -> NDArray[np.float64]:
    """(classes, 2 * SCENES_A_CLASS, 9) numbers from scenes of 128x128."""
    seeds = range(2 * SCENES_A_CLASS)
    return np.array([[describe(draw_scene(label, (128, 128), seed)) for seed in seeds] for label in CLASSES])


def test_there_are_at_least_ten_classes_in_alphabetical_order() -> None:
    assert len(CLASSES) >= 10
    assert list(CLASSES) == sorted(set(CLASSES))


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (64, 64), (37, 1000), (256, 256)])
def test_a_scene_has_the_size_that_was_asked_for(label: str, size: tuple[int, int]) -> None:
    image = draw_scene(label, size, seed=3)
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


@pytest.mark.parametrize("label", CLASSES)
def test_the_same_arguments_give_the_same_bytes(label: str) -> None:
    assert draw_scene(label, (48, 80), 11).tobytes() == draw_scene(label, (48, 80), 11).tobytes()


def test_scenes_are_the_bytes_that_they_always_were() -> None:
    drawn = b"".join(draw_scene(label, (48, 80), 11).tobytes() for label in CLASSES)
    assert hashlib.sha256(drawn).hexdigest() == "44bb2cabe88b47f950adaa9109a7684fb6fc17f7bc4455f397ed70eaa3558a26"


@pytest.mark.parametrize("label", CLASSES)
def test_another_seed_gives_another_scene(label: str) -> None:
    first, second = (draw_scene(label, (64, 64), seed).astype(np.int16) for seed in (0, 1))
    assert np.abs(first - second).mean() > 4


@pytest.mark.parametrize("label", CLASSES)
def test_a_scene_is_exposed_like_a_photograph(label: str) -> None:
    image = draw_scene(label, (256, 256), 5)
    assert 50 < image.mean() < 190
    assert image.std() > 8
    assert np.mean((image == 0) | (image == 255)) < 0.02


@pytest.mark.parametrize("label", CLASSES)
def test_neighbouring_pixels_agree_more_than_distant_ones(label: str) -> None:
    grey = draw_scene(label, (256, 256), 5).mean(axis=2)
    near, far = (np.abs(grey[:, step:] - grey[:, :-step]).mean() for step in (1, 40))
    assert near < 0.75 * far


def test_simple_statistics_tell_the_classes_apart(statistics: NDArray[np.float64]) -> None:
    train, test = statistics[:, :SCENES_A_CLASS], statistics[:, SCENES_A_CLASS:]
    scale = train.std((0, 1))
    centroids = train.mean(1) / scale
    distances = np.linalg.norm(test[:, :, None] / scale - centroids, axis=-1)
    hits = distances.argmin(-1) == np.arange(len(CLASSES))[:, None]
    assert hits.mean() > 0.5, dict(zip(CLASSES, hits.mean(1), strict=True))


def test_every_pair_of_classes_differs_in_some_statistic(statistics: NDArray[np.float64]) -> None:
    means, spreads = statistics.mean(1), statistics.std(1)
    gap = np.abs(means[:, None] - means) / np.sqrt((spreads[:, None] ** 2 + spreads**2) / 2)
    clearest = gap.max(-1) + 99 * np.eye(len(CLASSES))
    first, second = np.unravel_index(clearest.argmin(), clearest.shape)
    assert clearest.min() > 0.5, (CLASSES[first], CLASSES[second])


def test_an_unknown_label_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"^No scene is called 'harbour'; the nearest is 'harbor', of "):
        draw_scene("harbour", (64, 64), 0)


@pytest.mark.parametrize("size", [(0, 64), (64, 0), (-1, 5)])
def test_a_size_below_one_pixel_is_refused(size: tuple[int, int]) -> None:
    sentence = f"A scene is at least 1 pixel high and wide, and {size[0]}x{size[1]} is not."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        draw_scene("forest", size, 0)
