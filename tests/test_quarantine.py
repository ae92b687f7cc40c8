"""How many bad pictures a build puts up with, and the list of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from latentstore.containers.table import CONTAINERS
from latentstore.errors import SourceError
from latentstore.manifest import SkippedInfo
from latentstore.manifest.names import SKIPPED
from latentstore.plan import PlannedRows
from latentstore.quarantine import Quarantine, by_kind, kind_of, skipped_lines, write_skipped


def rows_of(*, pictures: int = 40, pieces: int = 1, splits: tuple[str, ...] = ("train",)) -> PlannedRows:
    """So many pictures in each split, every one cut into so many pieces, last picture first."""
    images = np.repeat(np.arange(pictures)[::-1], pieces)
    planned = np.stack([images, np.tile(np.arange(pieces), pictures)], axis=1)
    return PlannedRows(dict.fromkeys(splits, planned), (8, 8), 10, "", CONTAINERS["parquet"])


def skipped(position: int, reason: str = "empty file", split: str = "train") -> SkippedInfo:
    return SkippedInfo(f"p{position}", f"p{position}.png", reason, split, position)


def test_the_allowed_share_itself_is_allowed_and_one_more_is_not() -> None:
    quarantine = Quarantine(rows_of(), 0.05)
    quarantine.add([skipped(0)])
    quarantine.add([skipped(1)])
    with pytest.raises(SourceError, match="3 or more of 40 pictures cannot be used, but no more than 5 % may be bad"):
        quarantine.add([skipped(2)])


def test_what_is_known_already_counts_once_so_a_resumed_build_counts_alike() -> None:
    quarantine = Quarantine(rows_of(), 0.05)
    for _ in range(3):
        quarantine.add([skipped(0), skipped(1)])


def test_pictures_count_and_not_the_rows_they_would_have_become() -> None:
    quarantine = Quarantine(rows_of(pieces=4), 0.05)
    quarantine.add(skipped(position) for position in range(8))  # the pieces of two pictures
    with pytest.raises(SourceError, match="3 or more of 40"):
        quarantine.add([skipped(8)])


def test_the_share_is_one_of_all_splits() -> None:
    quarantine = Quarantine(rows_of(splits=("train", "test")), 0.05)
    quarantine.add([skipped(position) for position in range(4)])
    with pytest.raises(SourceError, match="5 or more of 80"):
        quarantine.add([skipped(0, split="test")])


def test_one_bad_picture_alone_stops_no_build_however_few_there_are() -> None:
    quarantine = Quarantine(rows_of(pictures=4), 0.05)
    quarantine.add([skipped(0)])
    with pytest.raises(SourceError, match="2 or more of 4 pictures"):
        quarantine.add([skipped(1)])


@pytest.mark.parametrize("max_bad", [0.0, 1.0])
def test_none_or_all_may_be_allowed(max_bad: float) -> None:
    quarantine = Quarantine(rows_of(), max_bad)
    quarantine.add([])
    everything = [skipped(position) for position in range(40)]
    if max_bad:
        quarantine.add(everything)
    else:
        with pytest.raises(SourceError, match="no more than 0 %"):
            quarantine.add(everything[:1])


def test_the_sentence_names_the_first_of_each_kind_of_reason_whatever_was_found_first() -> None:
    found = [
        skipped(7, "damaged or cut: 12 bytes missing"),
        skipped(3, "empty file"),
        skipped(1, "damaged or cut: 7 bytes missing"),
        skipped(2, "damaged or cut: odd"),
    ]
    sentences = []
    for order in (found, found[::-1]):
        with pytest.raises(SourceError) as caught:
            Quarantine(rows_of(), 0.05).add(order)
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]
    assert "('p1.png': damaged or cut: 7 bytes missing; 'p3.png': empty file)" in sentences[0]
    assert sentences[0].endswith("or allow a larger share with --max-bad, such as --max-bad 0.5.")


def test_reasons_of_one_kind_differ_in_numbers_and_in_what_a_decoder_says() -> None:
    assert kind_of("2x30000 is smaller than the crop 32x32") == kind_of("1x1 is smaller than the crop 32x32")
    assert kind_of("damaged or cut: a") == kind_of("damaged or cut: b") == "damaged or cut"
    assert kind_of("a file of 1,234.5 bytes") == "a file of N bytes"
    assert kind_of("empty file") != kind_of("a pipe, not a file")
    groups = by_kind([skipped(0, "x"), skipped(1, "y: 1"), skipped(2, "y: 2")])
    assert [[entry.position for entry in group] for group in groups] == [[1, 2], [0]]


def test_names_of_any_kind_stay_on_their_line() -> None:
    odd = SkippedInfo("a\nb\u2028", 'é"\r\x1b.png', "x", "train", 3)
    text = skipped_lines([odd, odd])
    assert text.isascii()
    assert len(text.splitlines()) == text.count("\n") == 2
    fields = {"id": "a\nb\u2028", "source_path": 'é"\r\x1b.png', "reason": "x", "split": "train", "position": 3}
    assert [json.loads(line) for line in text.splitlines()] == [fields] * 2
    assert list(json.loads(text.splitlines()[0])) == list(fields)


def test_without_skipped_pictures_there_is_no_file_and_an_old_one_goes(tmp_path: Path) -> None:
    write_skipped(tmp_path, [skipped(0)])
    assert [path.name for path in tmp_path.iterdir()] == [SKIPPED]
    write_skipped(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
