"""A seeded sample of a source is a source like any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from scenes import plan, scenes, write_pictures

from latentstore import SourceRow, build, folder_source, verify
from latentstore.errors import RequestError
from latentstore.records import Tile
from latentstore.sources.interface import OpenSource, SplitReader
from latentstore.sources.sample import sample_of


def ids(row: SourceRow) -> list[str]:
    return [tile.id for split in row.open().splits.values() for tile in split.read(range(len(split)))]


def two_splits(row: SourceRow) -> OpenSource:
    """A third and two thirds of the drawn scenes."""
    opened: OpenSource = scenes(count=int(row.options["count"])).open()
    first, second = scenes(4).open(), scenes(8).open()
    return replace(opened, splits={"test": first.splits["train"], "train": second.splits["train"]})


def test_a_sample_is_seeded_a_subset_and_grows_with_its_limit() -> None:
    everything = ids(scenes(20))
    small, large = ids(sample_of(scenes(20), 5, seed=1)), ids(sample_of(scenes(20), 9, seed=1))
    assert len(small) == 5
    assert set(small) < set(large) < set(everything)
    assert small == [name for name in everything if name in small]
    assert ids(sample_of(scenes(20), 5, seed=1)) == small
    assert ids(sample_of(scenes(20), 5, seed=2)) != small


def test_a_limit_beyond_the_source_takes_all_of_it() -> None:
    assert ids(sample_of(scenes(4), 9)) == ids(scenes(4))


def test_sizes_and_rows_belong_together(tmp_path: Path) -> None:
    sizes = {f"{number}.png": (16 + number, 20) for number in range(6)}
    row = sample_of(folder_source(str(write_pictures(tmp_path / "photos", sizes))), 3, seed=4)
    (split,) = row.open().splits.values()
    found = [tile for tile in split.read([2, 0, 1]) if isinstance(tile, Tile)]
    known = list(split.sizes())
    assert len(known) == len(split) == 3
    assert [tile.pixels.shape[:2] for tile in found] == [known[2], known[0], known[1]]


def test_the_sample_is_drawn_over_all_splits_and_an_empty_one_is_left_out() -> None:
    row = replace(scenes(12), reader=two_splits)
    assert {name: len(split) for name, split in sample_of(row, 11).open().splits.items()} in (
        {"test": 3, "train": 8},
        {"test": 4, "train": 7},
    )
    assert len(sample_of(row, 1).open().splits) == 1


def test_what_was_drawn_is_recorded(tmp_path: Path) -> None:
    manifest = build(plan(source=sample_of(scenes(20), 5, seed=3)), tmp_path)
    assert manifest.source.options == {"count": 20, "size": 40, "limit": 5, "limit_seed": 3}
    assert manifest.source.images == {"train": 5}
    assert manifest.source.reader == "open_synthetic"
    assert verify(tmp_path, trust=True).results[-1].status == "passed"
    assert not any("MISMATCH" in sentence for sentence in manifest.source.ingest)


def test_a_sample_can_be_read_from_another_place(tmp_path: Path) -> None:
    here = write_pictures(tmp_path / "here", {"a.png": (16, 16), "b.png": (16, 16)})
    there = here.rename(tmp_path / "there")
    row = sample_of(folder_source(str(here)), 1)
    assert ids(row.at(str(there))) == ids(sample_of(folder_source(str(there)), 1))


@dataclass(frozen=True)
class Stream:
    """Rows that come in their own order only."""

    split: SplitReader
    random_access: bool = False

    def __len__(self) -> int:
        return len(self.split)

    def sizes(self) -> Iterator[tuple[int, int] | None]:
        raise LookupError

    def read(self, rows: Sequence[int]) -> Iterator[Tile]:
        raise NotImplementedError


def test_a_stream_and_a_limit_of_nothing_are_refused() -> None:
    def open_stream(_: SourceRow) -> OpenSource:
        opened: OpenSource = scenes(4).open()
        return replace(opened, splits={"train": Stream(opened.splits["train"])})

    with pytest.raises(RequestError, match="Source 'synthetic' is a stream, which no sample can be drawn from"):
        sample_of(replace(scenes(4), reader=open_stream), 2).open()
    with pytest.raises(RequestError, match="Expected a limit of 1 or more pictures and a seed of 0 or more, found 0"):
        sample_of(scenes(4), 0)
