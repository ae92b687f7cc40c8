"""Pictures that are byte for byte the same: found by a build, told by verify, never a failure."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from scenes import plan, write_pictures

from latentstore import Preparation, build, folder_source, verify
from latentstore.duplicates import duplicates_sentence, find_duplicates
from latentstore.manifest import DuplicateGroup, Duplicates, Manifest
from latentstore.verify import VerifyReport


def built(photos: Path, **changes: object) -> Manifest:
    return build(plan(source=folder_source(str(photos)), **changes), photos.with_name("out"))


def warnings_of(report: VerifyReport) -> list[str]:
    assert all(not result.warnings for result in report.results if result.check != "duplicates")
    return [finding.message for result in report.results for finding in result.warnings]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two splits of two classes, all pictures different."""
    names = [
        f"{split}/{name}/{number}.png" for split in ("train", "test") for name in ("lake", "wood") for number in "01"
    ]
    found: Path = write_pictures(tmp_path / "photos", dict.fromkeys(names, (40, 40)))
    return found


def test_different_pictures_are_no_duplicates(photos: Path) -> None:
    assert built(photos).build.duplicates == Duplicates()
    report = verify(photos.with_name("out"), trust=True)
    assert report.ok
    assert warnings_of(report) == []
    assert duplicates_sentence(Duplicates()) == ""


def test_equal_files_are_found_within_and_across_splits_and_classes(photos: Path) -> None:
    shutil.copy(photos / "train/lake/0.png", photos / "train/lake/copy.png")
    shutil.copy(photos / "train/lake/1.png", photos / "test/lake/leaked.png")
    shutil.copy(photos / "test/wood/0.png", photos / "test/lake/mislabelled.png")
    found = built(photos).build.duplicates
    assert (found.groups, found.pictures, found.across_splits, found.across_classes) == (3, 6, 1, 1)
    first, *others = found.examples
    assert (first.ids, first.splits) == (("test/lake/leaked", "train/lake/1"), ("test", "train"))
    assert {group.ids for group in others} == {
        ("train/lake/0", "train/lake/copy"),
        ("test/lake/mislabelled", "test/wood/0"),
    }
    report = verify(photos.with_name("out"), trust=True)
    assert report.ok
    assert {result.status for result in report.results} == {"passed"}
    first_warning, *others_warned = warnings_of(report)
    assert first_warning == (
        "6 pictures in 3 sets of equal ones, byte for byte; 1 set across splits, so that one split leaks into another; "
        "1 set with different labels"
    )
    assert others_warned == ["one picture is test 'test/lake/leaked' and train 'train/lake/1'"]


def test_the_tiles_of_one_picture_are_one_picture(photos: Path) -> None:
    tiled = Preparation(tile=(20, 20))
    assert built(photos, preparation=tiled).build.duplicates == Duplicates()
    shutil.rmtree(photos.with_name("out"))
    shutil.copy(photos / "train/lake/0.png", photos / "test/lake/leaked.png")
    found = built(photos, preparation=tiled).build.duplicates
    assert (found.groups, found.pictures, found.across_splits) == (1, 2, 1)
    assert warnings_of(verify(photos.with_name("out"), trust=True))[0].startswith("2 pictures in 1 set of equal ones")


def test_of_many_sets_those_across_splits_are_the_examples() -> None:
    sets = range(15)
    index = {
        "id": [f"{name}{number}" for number in sets for name in "ab"],
        "split": [split for number in sets for split in ("train", "test" if number > 11 else "train")],
        "source_sha256": [f"{number:064x}" for number in sets for _ in "ab"],
    }
    found = find_duplicates(index)
    assert (found.groups, found.pictures, found.across_splits, found.across_classes) == (15, 30, 3, 0)
    assert len(found.examples) == 10
    assert [set(group.splits) for group in found.examples] == [{"train", "test"}] * 3 + [{"train"}] * 7
    assert found.examples[0] == DuplicateGroup(f"{12:064x}", ("b12", "a12"), ("test", "train"))
    assert duplicates_sentence(found).startswith("30 pictures in 15 sets of equal ones, byte for byte; 3 sets across")
