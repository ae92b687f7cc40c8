"""Which folders are splits: the same as for `datasets`, wherever it puts every picture into one split."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentstore.sources.image_folder import open_image_folder
from latentstore.sources.interface import OpenSource, SourceRow
from latentstore.sources.split_names import SPLIT_WORDS, split_places
from tests.sources.test_image_folder import fill, labels, opened

Splits = dict[str, set[str]]
AS_DATASETS = {"val": "validation", "valid": "validation"}
"""Splits that are called like their folder here."""

TREES: Mapping[str, tuple[str, ...]] = {
    "train/val": ("train/a/1.png", "train/b/2.png", "val/a/3.png", "val/b/4.png"),
    "training/testing": ("training/a/1.png", "training/b/2.png", "testing/a/3.png", "testing/b/4.png"),
    "train/dev": ("train/a/1.png", "train/b/2.png", "dev/a/3.png", "dev/b/4.png"),
    "train/eval": ("train/a/1.png", "train/b/2.png", "eval/a/3.png", "eval/b/4.png"),
    "train_set/test_set": ("train_set/a/1.png", "train_set/b/2.png", "test_set/a/3.png", "test_set/b/4.png"),
    "training/validation": ("training/a/1.png", "training/b/2.png", "validation/a/3.png", "validation/b/4.png"),
    "evaluation": ("my-train.v2/a/1.png", "my-train.v2/b/2.png", "evaluation 1/a/3.png", "evaluation 1/b/4.png"),
    "below a folder": ("data/train/a/1.png", "data/train/b/2.png", "data/test/a/3.png", "data/test/b/4.png"),
    "two of a kind": ("train/a/1.png", "train/b/2.png", "val/a/3.png", "dev/b/4.png"),
    "only one": ("dev/a/1.png", "dev/b/2.png"),
    "no split": ("a/1.png", "b/2.png"),
    "words in words": ("trainer/1.png", "latest/2.png", "devil/3.png"),
    "CamelCase": ("RailwayStation/1.png", "TestSite/2.png"),
    "no classes": ("train/1.png", "test/2.png"),
    "files": ("a/train_1.png", "b/train_2.png", "a/test_1.png", "b/test-2.png"),
    "files at the top": ("train_1.png", "train_2.png", "my.dev.png"),
    "files of no split": ("a/best_1.png", "b/2.png"),
    "at different depths": ("x/train/a/1.png", "train/b/c/2.png", "test/a/d/3.png"),
}


def ours(source: OpenSource) -> Splits:
    return {AS_DATASETS.get(name, name): set(split.names()) for name, split in source.splits.items()}  # type: ignore[attr-defined]


def theirs(root: Path) -> Splits:
    """The files of each split, as `datasets` finds them."""
    from datasets.data_files import DataFilesDict, get_data_patterns

    found = DataFilesDict.from_patterns(get_data_patterns(str(root)), base_path=str(root))
    return {str(split): {os.path.relpath(file, root) for file in files} for split, files in found.items()}


@pytest.mark.parametrize("tree", TREES)
def test_splits_and_classes_are_those_of_datasets(tree: str, tmp_path: Path) -> None:
    from datasets import Image, load_dataset

    root = fill(tmp_path / "pictures", TREES[tree])
    loaded = load_dataset("imagefolder", data_dir=str(root), cache_dir=str(tmp_path / "cache"))
    source = opened(root)
    found: Splits = {}
    labelled: dict[str, str] = {}
    for split, rows in loaded.items():
        paths = [os.path.relpath(row["path"], root) for row in rows.cast_column("image", Image(decode=False))["image"]]
        found[split] = set(paths)
        if "label" in rows.features and None not in rows["label"]:
            labelled |= dict(zip(paths, rows.features["label"].int2str(rows["label"]), strict=True))
    assert ours(source) == found == theirs(root)
    if source.class_names:  # of a class in a class datasets has the last name alone; where there is none, the split's
        own = {path: str(name) for split in source.splits for path, name in labels(source, split).items()}
        assert {path: name.rpartition("/")[2] for path, name in own.items()} == labelled


def test_words_and_what_sets_them_off_are_those_of_datasets() -> None:
    from datasets import data_files

    assert {str(split): tuple(words) for split, words in data_files.SPLIT_KEYWORDS.items()} == SPLIT_WORDS
    assert data_files.NON_WORDS_CHARS == "-._ 0-9"


parts = st.sampled_from(["a", "b", "train", "test", "dev", "test_set", "my-train", "latest", "val2"])


@given(found=st.lists(st.lists(parts, min_size=1, max_size=3), min_size=1, max_size=5), named=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_tree_that_datasets_splits_without_rest_is_split_alike(found: list[list[str]], named: bool) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        paths = {f"{'/'.join(folders)}/{folders[0] if named else 'x'} {i}.png" for i, folders in enumerate(found)}
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        wanted = theirs(root)
        if sum(map(len, wanted.values())) != len(paths) or set().union(*wanted.values()) != paths:
            return  # it leaves pictures out, or has some in two splits
        places = split_places(sorted(paths))
        split: Splits = {}
        for path in paths:
            split.setdefault(places[path].split if places else "train", set()).add(path)
        assert split == wanted
    finally:
        shutil.rmtree(root)


def notes_of(root: Path, paths: Iterable[str]) -> tuple[str, ...]:
    return opened(fill(root, paths)).notes


def test_it_is_said_what_was_taken_for_a_split_unless_the_split_is_called_so(tmp_path: Path) -> None:
    assert notes_of(tmp_path / "plain", TREES["train/val"]) == ()
    assert notes_of(tmp_path / "sets", TREES["train_set/test_set"]) == (
        "folders were taken for splits: test (test_set); train (train_set)",
    )
    assert notes_of(tmp_path / "both", TREES["two of a kind"]) == (
        "folders were taken for splits: validation (dev, val); train (train)",
    )
    assert notes_of(tmp_path / "files", TREES["files at the top"]) == (
        "files were taken for splits: validation (my.dev.png); train (train_1.png, train_2.png)",
    )


def test_splits_beside_a_folder_that_is_none_stay_classes_and_that_is_said(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["train/1.png", "test/2.png", "extra/3.png"]))
    assert list(source.splits) == ["train"]
    assert source.class_names == ("extra", "test", "train")
    assert source.notes == ("test, train were taken for classes, not splits, because 'extra' is in none of them",)
    assert notes_of(tmp_path / "vehicles", ["train/1.png", "bus/2.png"]) == ()


def test_splits_below_the_classes_are_splits(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["cat/train/1.png", "cat/test/2.png", "dog/train/3.png", "dog/test/4.png"]))
    assert source.class_names == ("cat", "dog")
    assert {name: labels(source, name) for name in source.splits} == {
        "test": {"cat/test/2.png": "cat", "dog/test/4.png": "dog"},
        "train": {"cat/train/1.png": "cat", "dog/train/3.png": "dog"},
    }


def test_what_all_pictures_lie_in_is_only_a_split_where_nothing_below_is(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["test-data/train/a/1.png", "test-data/val/b/2.png"]))
    assert list(source.splits) == ["train", "val"]
    assert source.class_names == ("a", "b")
    assert list(opened(fill(tmp_path / "x", ["Testing/a/1.png", "Testing/b/2.png"])).splits) == ["test"]


def test_a_picture_that_is_named_like_a_split_among_others_is_no_split(tmp_path: Path) -> None:
    row = SourceRow("here", open_image_folder, str(fill(tmp_path, ["a/train_1.png", "b/2.png", "a/test.png"])))
    assert list(row.open().splits) == ["train"]
