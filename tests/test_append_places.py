"""Appending from sources whose pictures have no names of their own: streams, Parquet files, tars."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from appending import assert_sound, hashes, raw
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from scenes import smooth_picture

from latentstore import VAES, BuildPlan, Manifest, Preparation, build, hub_source, open_store, verify
from latentstore.errors import RequestError

CONFIG = "pictures-pool8"
Add = Callable[[Path, int, Sequence[int]], None]


def png(number: int) -> bytes:
    """A picture of 24x16 pixels, as a file."""
    file = io.BytesIO()
    Image.fromarray(smooth_picture(24, 16, number)).save(file, "PNG")
    return file.getvalue()


def parquet(folder: Path, shard: int, held: Sequence[dict[str, Any]]) -> None:
    features = Features({"image": ImageFeature(), "number": Value("int64")})
    path = folder / "data" / f"train-{shard:05d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"image": list(held), "number": list(range(len(held)))}
    Dataset.from_dict(rows, features=features).to_parquet(path)


def nameless(folder: Path, shard: int, numbers: Sequence[int]) -> None:
    """A Parquet file of pictures without paths."""
    parquet(folder, shard, [{"bytes": png(number), "path": None} for number in numbers])


def named_alike(folder: Path, shard: int, numbers: Sequence[int]) -> None:
    """A Parquet file of pictures with names that others have too."""
    parquet(folder, shard, [{"bytes": png(number), "path": f"{number % 2}.png"} for number in numbers])


def tar(folder: Path, shard: int, numbers: Sequence[int]) -> None:
    """A tar file, of which every member has a name of its own."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / f"train-{shard:05d}.tar", "w") as archive:
        for number in numbers:
            member = tarfile.TarInfo(f"{number:05d}.png")
            member.size = len(png(number))
            archive.addfile(member, io.BytesIO(png(number)))


def files(folder: Path, shard: int, numbers: Sequence[int]) -> None:
    """Pictures as files, sorted by their names."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / f"{shard}-{number:03d}.png").write_bytes(png(number))


def plan(folder: Path, *, streaming: bool = True, **changes: Any) -> BuildPlan:
    """Batches of 2, shards of 4 rows, in the source's order where it is streamed."""
    options: dict[str, Any] = {"streaming": True} if streaming else {}
    source = hub_source(str(folder), **options)
    usual: dict[str, Any] = {"source": replace(source, name="pictures"), "vae": VAES["pool8"], "threads": 1}
    usual |= {"order": "source"} if streaming else {}
    return BuildPlan(**{**usual, "batch_size": 2, "rows_per_shard": 4, "config": CONFIG, **changes})


def numbers_of(out: Path) -> list[int]:
    """Which of the drawn pictures each row is, by its sha256."""
    known = {hashlib.sha256(png(number)).hexdigest(): number for number in range(40)}
    return [known[sha256] for sha256 in open_store(out).index(["source_sha256"])["source_sha256"]]


def grown(add: Add, tmp_path: Path, first: int = 6, last: int = 13, **changes: Any) -> tuple[Manifest, Manifest]:
    """A dataset before and after another file was put behind the first."""
    add(tmp_path / "pictures", 0, range(first))
    before = build(plan(tmp_path / "pictures", **changes), tmp_path / "out")
    add(tmp_path / "pictures", 1, range(first, last))
    return before, build(plan(tmp_path / "pictures", **changes), tmp_path / "out", append=True)


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "any order"])
@pytest.mark.parametrize("add", [nameless, named_alike, tar, files])
def test_what_lies_behind_the_old_pictures_is_added(add: Add, streaming: bool, tmp_path: Path) -> None:
    before, after = grown(add, tmp_path, streaming=streaming)
    assert (before.rows, after.rows, after.source.images) == (6, 13, {"train": 13})
    assert sorted(numbers_of(tmp_path / "out")[:6]) == list(range(6))
    assert sorted(numbers_of(tmp_path / "out")) == list(range(13))
    assert_sound(tmp_path / "out")
    old = hashes(tmp_path / "out" / CONFIG)
    assert build(plan(tmp_path / "pictures", streaming=streaming), tmp_path / "out", append=True) == after
    assert hashes(tmp_path / "out" / CONFIG) == old
    add(tmp_path / "pictures", 2, [13, 14])
    build(plan(tmp_path / "pictures", streaming=streaming), tmp_path / "out", append=True)
    assert sorted(numbers_of(tmp_path / "out")) == list(range(15))
    assert_sound(tmp_path / "out")


def test_a_stream_that_grew_is_what_a_stream_of_all_pictures_holds(tmp_path: Path) -> None:
    _, after = grown(nameless, tmp_path)
    whole = build(plan(tmp_path / "pictures"), tmp_path / "whole")
    assert np.array_equal(raw(tmp_path / "out" / CONFIG), raw(tmp_path / "whole" / CONFIG))
    assert open_store(tmp_path / "out").index(["id"]) == open_store(tmp_path / "whole").index(["id"])
    assert after.statistics["train"].mean == pytest.approx(whole.statistics["train"].mean, rel=1e-12)


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "any order"])
def test_tiles_and_views_and_bad_pictures_do_not_confuse_the_places(streaming: bool, tmp_path: Path) -> None:
    preparation = Preparation(tile=(8, 8), views=("identity", "hflip"))

    def add(folder: Path, shard: int, numbers: Sequence[int]) -> None:
        held = [{"bytes": png(number) if number % 4 != 1 else b"no picture", "path": None} for number in numbers]
        parquet(folder, shard, held)

    _, after = grown(add, tmp_path, 4, 8, preparation=preparation, max_bad=1.0, streaming=streaming)
    assert {entry.source_path for entry in after.build.skipped} == {"train/00000001", "train/00000005"}
    assert after.rows == 6 * 6 * 2
    assert set(numbers_of(tmp_path / "out")) == {0, 2, 3, 4, 6, 7}
    assert_sound(tmp_path / "out")


def refused(tmp_path: Path, words: str, *, streaming: bool) -> None:
    old = hashes(tmp_path / "out" / CONFIG)
    said = rf"^Nothing can be added from source 'pictures', because new .* {words}; build all of them into another"
    with pytest.raises(RequestError, match=said):
        build(plan(tmp_path / "pictures", streaming=streaming), tmp_path / "out", append=True)
    assert hashes(tmp_path / "out" / CONFIG) == old


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "any order"])
def test_pictures_without_names_that_moved_are_not_taken_for_new_ones(streaming: bool, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    nameless(pictures, 1, range(6))
    build(plan(pictures, streaming=streaming), tmp_path / "out")
    nameless(pictures, 0, range(6, 9))  # before the others
    words = r"known by their places only, and place 0 of split 'train' holds another one \('train/00000000'\) than"
    refused(tmp_path, f".*{words} .*", streaming=streaming)
    (pictures / "data" / "train-00000.parquet").unlink()
    nameless(pictures, 1, [0, 1, 2, 3, 9, 5, 6])  # one of them is another
    refused(tmp_path, r".* place 4 of split 'train' holds another one .*", streaming=streaming)
    nameless(pictures, 1, range(4))
    refused(tmp_path, r".*, and split 'train' has 4 left of 6", streaming=streaming)


def test_names_that_several_have_do_not_hide_that_pictures_moved(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    named_alike(pictures, 0, range(6))
    build(plan(pictures), tmp_path / "out")
    named_alike(pictures, 0, [2, 1, 0, 3, 4, 5, 6])  # 0 and 2 have one name
    refused(tmp_path, r".* place 0 of split 'train' holds another one \('0\.png'\) .* \('0\.png'\)", streaming=True)


def test_a_stream_with_names_says_which_picture_has_come_between(tmp_path: Path) -> None:
    files(tmp_path / "pictures", 1, range(3))
    build(plan(tmp_path / "pictures"), tmp_path / "out")
    files(tmp_path / "pictures", 0, [3])
    words = r".* place 0 of split 'train' holds another one \('0-003\.png'\) .* \('1-000\.png'\)"
    refused(tmp_path, words, streaming=True)


def test_pictures_with_names_may_move_where_they_are_not_streamed(tmp_path: Path) -> None:
    files(tmp_path / "pictures", 1, range(3))
    build(plan(tmp_path / "pictures", streaming=False), tmp_path / "out")
    files(tmp_path / "pictures", 0, [3])
    build(plan(tmp_path / "pictures", streaming=False), tmp_path / "out", append=True)
    assert sorted(numbers_of(tmp_path / "out")) == [0, 1, 2, 3]
    assert_sound(tmp_path / "out")


def test_verify_finds_a_picture_of_a_stream_that_was_changed_later(tmp_path: Path) -> None:
    grown(nameless, tmp_path)
    nameless(tmp_path / "pictures", 1, [*range(6, 12), 30])
    report = verify(tmp_path / "out", depth="full", trust=True)
    found = {finding.message.partition(" ")[0] for result in report.results for finding in result.findings}
    assert found == {"'train/00000012'"}
