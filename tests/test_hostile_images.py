"""The run of scripts/hostile_folder.py in short: every kind of hostile picture once, and two dozen good ones."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latentstore import build, open_store, verify
from latentstore.errors import SourceError
from latentstore.image_decoding import CONVERSIONS
from latentstore.manifest.names import JOURNAL, SKIPPED


@pytest.fixture(scope="module")
def hostile() -> Iterator[Any]:
    """The script as a module."""
    folder = str(Path(__file__).parents[1] / "scripts")
    sys.path.insert(0, folder)
    import hostile_folder

    yield hostile_folder
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def kinds(hostile: Any) -> tuple[Any, ...]:
    """All but those that are hundreds of megabytes of pixels."""
    return tuple(kind for kind in hostile.KINDS if not kind.slow)


@pytest.fixture(scope="module")
def pictures(hostile: Any, kinds: tuple[Any, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("hostile") / "pictures"
    return folder, hostile.fill(folder, count=len(kinds) + 12, good=24, seed=5, kinds=kinds)


@pytest.fixture(scope="module")
def built(hostile: Any, pictures: tuple[Path, list[Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(hostile.plan_of(pictures[0]), out)
    return out


def test_good_pictures_are_all_there_and_every_bad_one_is_listed_with_its_reason(
    hostile: Any, pictures: tuple[Path, list[Any]], built: Path
) -> None:
    assert list(hostile.failures(pictures[1], built)) == []
    assert sum(picture.kind == "good" for picture in pictures[1]) == 24


def test_a_picture_that_became_something_else_would_be_noticed(
    hostile: Any, pictures: tuple[Path, list[Any]], built: Path
) -> None:
    made = pictures[1]
    good = next(picture for picture in made if picture.kind == "good")
    empty = next(picture for picture in made if picture.kind == "empty")
    for wrong, sentence in (
        ([*made, replace(good, path="missing.png")], r"'missing.png' \(good\) is lost"),
        ([replace(good, becomes="cut"), *made], r"must be skipped \(cut\), found used"),
        ([replace(empty, becomes=""), *made], "must be used, but is skipped: empty file"),
        ([replace(empty, becomes="cut"), *made], r"must be skipped \(cut\), found empty file"),
        (made[1:], "was never made"),
    ):
        (found,) = hostile.failures(wrong, built)
        assert re.search(sentence, found)


def test_a_dataset_with_many_skipped_pictures_verifies(built: Path) -> None:
    report = verify(built, trust=True)
    assert [result for result in report.results if result.findings] == []
    assert report.ok


def test_every_conversion_that_was_counted_has_a_stated_rule(built: Path) -> None:
    found = open_store(built).manifest.build.conversions
    assert set(found) <= set(CONVERSIONS)
    assert len(found) >= 10


def test_reasons_are_single_lines_that_can_be_printed_and_name_no_place_in_memory(built: Path) -> None:
    for entry in open_store(built).manifest.build.skipped:
        assert entry.reason.isprintable()
        assert 0 < len(entry.reason) < 400
        assert " at 0x" not in entry.reason


def test_the_list_is_the_same_in_another_build_and_after_an_interruption(
    hostile: Any, pictures: tuple[Path, list[Any]], built: Path, tmp_path: Path
) -> None:
    told: list[Any] = []

    def interrupt(progress: Any) -> None:
        told.append(progress)
        if len(told) == 9:
            raise KeyboardInterrupt

    plan = hostile.plan_of(pictures[0])
    with pytest.raises(KeyboardInterrupt):
        build(plan, tmp_path, progress=interrupt)
    assert not (tmp_path / "hostile" / SKIPPED).exists()
    build(plan, tmp_path)
    for name in (SKIPPED, "manifest.json"):
        assert (tmp_path / "hostile" / name).read_bytes() == (built / "hostile" / name).read_bytes()


def test_so_many_bad_pictures_stop_a_build_that_does_not_allow_them(
    hostile: Any, pictures: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    plan = hostile.plan_of(pictures[0])
    for max_bad, sentence in ((0.05, "no more than 5 % may be bad"), (0.3, "no more than 30 % may be bad")):
        with pytest.raises(SourceError, match=f"{sentence}.*allow a larger share with --max-bad") as caught:
            build(replace(plan, max_bad=max_bad), tmp_path)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "hostile" / "manifest.json").exists()
    assert (tmp_path / "hostile" / JOURNAL).is_dir()
    assert build(plan, tmp_path).rows > 24, "what was allowed now goes on from there"
    with pytest.raises(SourceError, match="no more than 5 % may be bad"):
        build(replace(plan, max_bad=0.05), tmp_path)


def test_strict_stops_at_the_first(hostile: Any, pictures: tuple[Path, list[Any]], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot be used: .* \(without --strict it would be skipped\)"):
        build(replace(hostile.plan_of(pictures[0]), strict=True), tmp_path)


def test_the_lines_of_the_list_are_those_of_the_manifest(built: Path) -> None:
    text = (built / "hostile" / SKIPPED).read_text(encoding="ascii")
    manifest = json.loads((built / "hostile" / "manifest.json").read_text(encoding="utf-8"))
    assert [json.loads(line) for line in text.split("\n")[:-1]] == manifest["build"]["skipped"]
    assert text.endswith("\n")
