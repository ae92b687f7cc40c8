"""Drawn scenes as a source like any other."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from latentstore.errors import RequestError, UnknownNameError
from latentstore.records import Tile
from latentstore.sources.interface import OpenSource, SourceRow
from latentstore.sources.synthetic import CLASSES, draw_scene, open_synthetic


def opened(**options: Any) -> OpenSource:
    return SourceRow("drawn", open_synthetic, options={"size": 32, **options}).open()


def test_the_classes_come_in_turn_and_each_scene_is_numbered() -> None:
    source = opened(count=26)
    assert source.class_names == CLASSES
    reader = source.splits["train"]
    assert (len(reader), reader.random_access) == (26, True)
    tiles = list(reader.read(range(26)))
    assert [tile.label for tile in tiles if isinstance(tile, Tile)] == [row % 12 for row in range(26)]
    assert tiles[0].id == "beach/beach_0000"
    assert tiles[14].id == "farmland/farmland_0001"
    assert len({tile.id for tile in tiles}) == 26
    assert (source.revision, dict(source.features), source.notes) == (None, {}, ())


def test_a_tile_is_the_scene_and_its_hash_that_of_the_pixels() -> None:
    (tile,) = opened(count=3, size=(24, 40)).splits["train"].read([2])
    assert isinstance(tile, Tile)
    assert tile.pixels.shape == (24, 40, 3)
    np.testing.assert_array_equal(tile.pixels, draw_scene("farmland", (24, 40), 0))
    assert tile.source_sha256 == hashlib.sha256(tile.pixels.tobytes()).hexdigest()
    assert tile.source_bytes == 0
    assert tile.source_path == tile.id


def test_the_sizes_are_known_at_once() -> None:
    assert list(opened(count=3, size=(24, 40)).splits["train"].sizes()) == [(24, 40)] * 3


def test_the_same_row_is_the_same_scene_and_every_row_another() -> None:
    hashes = [[tile.source_sha256 for tile in scenes(seed)] for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1]
    assert len({*hashes[0], *hashes[2]}) == 52


def scenes(seed: int) -> list[Tile]:
    reader = opened(count=26, seed=seed).splits["train"]
    return [tile for tile in reader.read(range(26)) if isinstance(tile, Tile)]


def test_rows_that_are_not_there_are_an_error() -> None:
    for row in (3, -1):
        with pytest.raises(IndexError, match="of 3"):
            list(opened(count=3).splits["train"].read([row]))


def test_the_split_can_be_named_and_the_usual_number_is_128() -> None:
    assert {name: len(reader) for name, reader in opened(split="test").splits.items()} == {"test": 128}


@pytest.mark.parametrize("wrong", [{"count": 0}, {"size": 0}, {"size": (0, 4)}, {"seed": -1}])
def test_what_cannot_be_drawn_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="draws at least 1 scene"):
        opened(**wrong)


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'count'"):
        opened(counts=3)


def test_options_that_are_no_numbers_are_refused_in_a_sentence() -> None:
    for options in ({"count": "x"}, {"size": "big"}, {"size": [1, 2, 3]}, {"seed": 0.5}):
        row = SourceRow(name="synthetic", reader=open_synthetic, options=options)
        with pytest.raises(RequestError, match="takes whole numbers, not count="):
            row.open()
