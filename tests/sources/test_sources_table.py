"""Each row of the table, the rows made for a folder or a repository, and the report of what was found."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from latentstore.errors import UnknownNameError
from latentstore.sources.hub_images import open_hub_images
from latentstore.sources.image_folder import open_image_folder
from latentstore.sources.interface import OpenSource, SourceRow
from latentstore.sources.naming import check_options, printable, unique_ids
from latentstore.sources.synthetic import CLASSES
from latentstore.sources.table import SOURCES, folder_source, hub_source, ingest_report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from latentstore.records import Tile

rows = pytest.mark.parametrize("row", SOURCES.values(), ids=list(SOURCES))


@rows
def test_a_row_is_a_frozen_description(row: SourceRow) -> None:
    assert dataclasses.is_dataclass(row)
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.name = "other"  # type: ignore[misc]
    assert re.fullmatch(r"[a-z0-9_]+", row.name)
    assert SOURCES[row.name] is row
    assert row.licence is None or row.licence
    assert row.citation.endswith(".")


@rows
def test_what_is_expected_makes_sense(row: SourceRow) -> None:
    assert row.expected_classes is not None
    assert row.expected_classes > 1
    for split, count in (row.expected_images or {}).items():
        assert re.fullmatch(r"\w+", split)
        assert count >= row.expected_classes
    assert row.size is None or min(row.size) > 0


@rows
def test_a_row_knows_where_it_comes_from(row: SourceRow) -> None:
    if row.name == "synthetic":
        assert row.location == ""
        return
    assert row.reader is open_hub_images
    assert re.fullmatch(r"[\w-]+/[\w-]+", row.location)
    assert re.match(r"https?://", row.homepage)
    assert re.search(r"(19|20)\d\d\.$", row.citation)
    assert row.expected_images


@pytest.mark.parametrize(
    ("name", "images", "classes", "size"),
    [
        ("aid", 10_000, 30, (600, 600)),
        ("resisc45", 31_500, 45, (256, 256)),
        ("ucmerced", 2_100, 21, None),
        ("eurosat", 27_000, 10, (64, 64)),
        ("patternnet", 30_400, 38, (256, 256)),
        ("rsi_cb256", 24_747, 35, (256, 256)),
    ],
)
def test_the_published_numbers(name: str, images: int, classes: int, size: tuple[int, int] | None) -> None:
    row = SOURCES[name]
    assert sum((row.expected_images or {}).values()) == images
    assert (row.expected_classes, row.size) == (classes, size)


def test_the_licences_of_aid_and_resisc45_are_unknown() -> None:
    assert SOURCES["aid"].licence is None
    assert SOURCES["resisc45"].licence is None


def test_aid_and_resisc45_are_read_below_their_data_folder() -> None:
    assert SOURCES["aid"].options == SOURCES["resisc45"].options == {"data_dir": "data"}


def test_the_synthetic_source_has_as_many_classes_as_are_expected() -> None:
    assert SOURCES["synthetic"].expected_classes == len(CLASSES)
    assert len(SOURCES["synthetic"].open().splits["train"]) == 128


def test_an_unknown_source_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'resisc45'"):
        SOURCES["RESISC-45"]


def test_the_table_is_read_without_anything_heavy() -> None:
    code = (
        "import sys; from latentstore.sources.table import SOURCES;"
        "heavy = {'torch', 'datasets', 'PIL', 'pyarrow', 'huggingface_hub', 'pandas'} & set(sys.modules);"
        "print(len(SOURCES), *sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (str(len(SOURCES)), "")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/My Aerials", "my-aerials"),
        ("naip/", "naip"),
        ("../x/UC_Merced", "uc_merced"),
        (".", "images"),
        ("/data/衛星", "images"),
    ],
)
def test_a_folder_makes_a_row_with_a_name_of_its_own(path: str, name: str) -> None:
    row = folder_source(path, labels=False)
    assert (row.name, row.location, row.options) == (name, path, {"labels": False})
    assert row.reader is open_image_folder
    assert row.expected_images is None


def test_a_repository_makes_a_row_and_may_carry_its_revision() -> None:
    row = hub_source("timm/resisc45", streaming=True)
    assert (row.name, row.location, row.revision) == ("resisc45", "timm/resisc45", None)
    assert row.reader is open_hub_images
    assert row.options == {"streaming": True}
    assert hub_source("u/r@v1.0").revision == "v1.0"
    assert hub_source("u/r@v1.0").location == "u/r"
    assert hub_source("u/r", revision="abc").revision == "abc"
    assert hub_source("/data/a@b").location == "/data/a@b"


class Counted:
    """A split of which only the length is asked."""

    random_access = True

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def sizes(self) -> Iterator[tuple[int, int] | None]:
        raise NotImplementedError

    def read(self, rows: Sequence[int]) -> Iterator[Tile]:
        raise NotImplementedError


def report(row: SourceRow, splits: Mapping[str, int], classes: int) -> tuple[str, ...]:
    names = tuple(str(number) for number in range(classes)) or None
    return ingest_report(row, OpenSource({name: Counted(count) for name, count in splits.items()}, names, {}, None))


def test_what_was_expected_and_found_is_said() -> None:
    assert report(SOURCES["aid"], {"train": 10_000}, 30) == (
        "train: 10,000 of 10,000 expected images.",
        "30 of 30 expected classes.",
    )


def test_each_difference_is_said_clearly() -> None:
    assert report(SOURCES["aid"], {"train": 10_001}, 0) == (
        "train: MISMATCH, 10,001 images, but 10,000 were expected (1 too many).",
        "MISMATCH, no classes, but 30 were expected (30 too few).",
    )
    assert report(SOURCES["eurosat"], {"train": 16_199, "extra": 1}, 10) == (
        "train: MISMATCH, 16,199 images, but 16,200 were expected (1 too few).",
        "extra: 1 image, in a split that was not expected.",
        "validation: the split is missing; 5,400 images were expected.",
        "test: the split is missing; 5,400 images were expected.",
        "10 of 10 expected classes.",
    )


@pytest.mark.parametrize("splits", ["test", ["test"]])
def test_splits_that_were_not_asked_for_are_not_missed(splits: Any) -> None:
    row = SOURCES["eurosat"].at("somewhere", splits=splits)
    assert report(row, {"test": 5_400}, 10) == ("test: 5,400 of 5,400 expected images.", "10 of 10 expected classes.")


def test_where_nothing_is_expected_the_numbers_found_are_said() -> None:
    assert report(folder_source("x"), {"train": 412}, 6) == ("train: 412 images.", "6 classes.")
    assert report(folder_source("x"), {"train": 1}, 1) == ("train: 1 image.", "1 class.")
    assert report(folder_source("x"), {"train": 2}, 0) == ("train: 2 images.", "No classes.")


def test_ids_drop_the_suffix_unless_two_would_collide() -> None:
    assert unique_ids(["a/1.png", "a/2.jpg"]) == ["a/1", "a/2"]
    assert unique_ids(["a/1.png", "a/1.jpg", "b/1.png"]) == ["a/1.png", "a/1.jpg", "b/1"]
    assert unique_ids(["1.png", "1.png", "2"]) == ["1.png#0", "1.png#1", "2"]


@pytest.mark.parametrize("paths", [["x", "x", "x#0"], ["x#0.a", "x.b", "x.b"], ["x.a", "x.a", "x.a#0.c", "x.a#1"]])
def test_ids_are_unique_even_where_names_play_tricks(paths: list[str]) -> None:
    assert len(set(unique_ids(paths))) == len(paths)


def test_names_become_valid_unicode() -> None:
    assert printable("caf\udce9 é") == r"caf\udce9 é"


def test_options_are_checked_against_those_that_exist() -> None:
    check_options(folder_source("x", labels=True), ("labels",))
    with pytest.raises(UnknownNameError, match=r"no option of source 'x' named 'label'. Did you mean 'labels'"):
        check_options(folder_source("x", label=True), ("labels",))
