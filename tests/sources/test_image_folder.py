"""Folders of pictures as people keep them, made of tiny real files."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from latentstore.errors import SourceError, UnknownNameError
from latentstore.records import SkippedTile, Tile
from latentstore.sources.image_folder import open_image_folder
from latentstore.sources.interface import OpenSource, SourceRow

if TYPE_CHECKING:
    from collections.abc import Iterable


def picture(value: int = 0, size: tuple[int, int] = (4, 6), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(file, kind)
    return file.getvalue()


def fill(root: Path, paths: Iterable[str]) -> Path:
    for value, path in enumerate(paths):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture(value % 256, kind="JPEG" if path.lower().endswith(("jpg", "jpeg")) else "PNG"))
    return root


def opened(root: Path | str, **options: Any) -> OpenSource:
    return open_image_folder(SourceRow("here", open_image_folder, location=str(root), options=options))


def tiles(source: OpenSource, split: str = "train") -> list[Tile | SkippedTile]:
    reader = source.splits[split]
    return list(reader.read(range(len(reader))))


def labels(source: OpenSource, split: str = "train") -> dict[str, str | None]:
    """Class name by source path; tiles that are skipped are left out."""
    names = source.class_names or ()
    read = [tile for tile in tiles(source, split) if isinstance(tile, Tile)]
    return {tile.source_path: None if tile.label is None else names[tile.label] for tile in read}


def test_folders_are_classes_in_sorted_order(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["Beach/b_1.jpg", "Airport/a_1.jpg", "beach/x.png", "Airport/a_2.jpg"]))
    assert source.class_names == ("Airport", "Beach", "beach")
    assert labels(source) == {
        "Airport/a_1.jpg": "Airport", "Airport/a_2.jpg": "Airport", "Beach/b_1.jpg": "Beach", "beach/x.png": "beach",
    }  # fmt: skip
    assert list(source.splits) == ["train"]
    assert source.revision is None
    assert dict(source.features) == {}
    assert source.notes == ()


def test_a_tile_holds_the_pixels_and_the_hash_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.png").write_bytes(picture(77, (5, 9)))
    (tile,) = tiles(opened(tmp_path))
    assert isinstance(tile, Tile)
    np.testing.assert_array_equal(tile.pixels, np.full((5, 9, 3), 77, np.uint8))
    assert tile.id == "a/one"
    assert tile.source_path == "a/one.png"
    assert tile.source_sha256 == hashlib.sha256(picture(77, (5, 9))).hexdigest()
    assert tile.source_bytes == len(picture(77, (5, 9)))
    assert tile.label == 0
    assert (tile.metadata, tile.conversions) == ({}, ())


def test_rows_can_be_read_in_any_order_and_again(tmp_path: Path) -> None:
    reader = opened(fill(tmp_path, [f"a/{i}.png" for i in range(5)])).splits["train"]
    assert reader.random_access
    assert [tile.id for tile in reader.read([3, 0, 3])] == ["a/3", "a/0", "a/3"]
    assert next(iter(reader.sizes())) == (4, 6)


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "Png", "tif", "TIFF", "webp", "bmp"])
def test_every_known_suffix_is_read_in_any_case(tmp_path: Path, suffix: str) -> None:
    fill(tmp_path, [f"a/x.{suffix}", f"a/y.{suffix}.txt"])
    source = opened(tmp_path)
    assert [tile.source_path for tile in tiles(source)] == [f"a/x.{suffix}"]
    assert source.notes == ("1 file that is no picture was left out",)


def test_hidden_files_and_folders_are_not_looked_at(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["a/x.png", "a/.x.png", ".git/y.png", "a/.thumbnails/z.png", "a/._x.png"]))
    assert list(labels(source)) == ["a/x.png"]
    assert source.notes == ()


def test_the_order_is_by_code_point_whatever_the_file_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ["b/1.png", "B/1.png", "a/10.png", "a/9.png", "a.b/1.png", "ä/1.png", "a/é.png", "Z/1.png"]
    fill(tmp_path, paths)
    scandir = os.scandir

    def shuffled(folder: str) -> list[os.DirEntry[str]]:
        entries = list(scandir(folder))
        random.shuffle(entries)
        return entries

    monkeypatch.setattr(os, "scandir", shuffled)
    for _ in range(3):
        assert [tile.source_path for tile in tiles(opened(tmp_path))] == sorted(paths)


def test_leading_folders_that_all_share_are_no_part_of_the_class(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["data/v1/urban/airport/1.png", "data/v1/urban/port/1.png", "data/v1/field/1.png"]))
    assert source.class_names == ("field", "urban/airport", "urban/port")
    assert tiles(source)[0].id == "data/v1/field/1"


def test_the_only_class_keeps_its_name(tmp_path: Path) -> None:
    assert opened(fill(tmp_path, ["data/Airport/1.png", "data/Airport/2.png"])).class_names == ("Airport",)


names = st.sampled_from(["a", "b", "data", "train", "Ä", "x y"])
folders = st.lists(st.lists(names, min_size=1, max_size=3).map(tuple), min_size=1, max_size=6)


@given(found=folders)
def test_stripping_shared_folders_keeps_classes_apart_and_named(found: list[tuple[str, ...]]) -> None:
    from latentstore.sources.image_folder import _shared

    shared = _shared(found)
    stripped = [folder[shared:] for folder in found]
    assert all(stripped)
    assert len(set(stripped)) == len(set(found))
    assert len({folder[:shared] for folder in found}) == 1
    assert len({folder[0] for folder in stripped}) > 1 or any(len(folder) == 1 for folder in stripped)


def test_a_picture_beside_the_class_folders_is_counted_skipped_and_named(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["thumbnail.png", "data/Airport/1.jpg", "data/Beach/1.jpg"]))
    assert source.class_names == ("Airport", "Beach")
    assert len(source.splits["train"]) == 3
    skipped = [tile for tile in tiles(source) if isinstance(tile, SkippedTile)]
    assert skipped == [
        SkippedTile("thumbnail", "thumbnail.png", "lies beside the class folders, so it has no class"),
    ]
    assert source.notes == ("skipped, because it lies beside the class folders, so it has no class: thumbnail.png",)
    assert list(source.splits["train"].sizes()) == [(4, 6), (4, 6), None]


def test_pictures_that_all_lie_at_the_top_have_no_classes(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["1.png", "2.png"]))
    assert source.class_names is None
    assert labels(source) == {"1.png": None, "2.png": None}
    assert source.notes == ()


def test_labels_can_be_switched_off_and_then_nothing_is_skipped(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["top.png", "a/1.png", "b/1.png"]), labels=False)
    assert source.class_names is None
    assert labels(source) == {"a/1.png": None, "b/1.png": None, "top.png": None}
    assert source.notes == ()


def test_the_only_split_can_be_named(tmp_path: Path) -> None:
    assert list(opened(fill(tmp_path, ["a/1.png"]), split="test").splits) == ["test"]


@pytest.mark.parametrize("above", ["", "AID/"])
def test_split_folders_are_splits_with_one_list_of_classes(tmp_path: Path, above: str) -> None:
    paths = [above + path for path in ("Train/b/1.png", "Train/a/1.png", "val/a/1.png", "TEST/c/1.png")]
    source = opened(fill(tmp_path, paths))
    assert set(source.splits) == {"Train", "val", "TEST"}
    assert source.class_names == ("a", "b", "c")
    assert labels(source, "val") == {f"{above}val/a/1.png": "a"}
    assert labels(source, "TEST") == {f"{above}TEST/c/1.png": "c"}
    everything = [tile.id for split in source.splits for tile in tiles(source, split)]
    assert len(set(everything)) == 4


def test_a_single_split_folder_is_a_split_too(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["validation/a/1.png", "validation/b/1.png"]))
    assert list(source.splits) == ["validation"]
    assert source.class_names == ("a", "b")


def test_one_folder_of_another_name_makes_them_classes(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["train/1.png", "bus/1.png"]))
    assert list(source.splits) == ["train"]
    assert source.class_names == ("bus", "train")


def test_splits_without_folders_below_have_no_classes(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["train/1.png", "test/2.png"]))
    assert source.class_names is None
    assert labels(source, "test") == {"test/2.png": None}


def test_pictures_outside_of_splits_and_classes_are_skipped_each_with_its_reason(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["top.png", "test/c/1.png", "train/stray.png", "train/b/1.png"]))
    assert source.class_names == ("b", "c")
    faults = {tile.source_path: tile.reason for tile in tiles(source) if isinstance(tile, SkippedTile)}
    assert faults == {
        "top.png": "lies beside the split folders, so it belongs to no split",
        "train/stray.png": "lies beside the class folders, so it has no class",
    }
    assert len(source.notes) == 2


def test_names_that_differ_in_the_suffix_alone_keep_it(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["a/x.jpg", "a/x.png", "a/x.png.png", "a/y.png", "b/x.png"]))
    assert [tile.id for tile in tiles(source)] == ["a/x.jpg", "a/x.png#1", "a/x.png#2", "a/y", "b/x"]


@pytest.mark.parametrize("damage", [b"", b"no picture", picture(3)[:40]])
def test_a_file_that_is_no_picture_is_skipped_with_its_reason(tmp_path: Path, damage: bytes) -> None:
    fill(tmp_path, ["a/1.png", "a/3.png"])
    (tmp_path / "a" / "2.png").write_bytes(damage)
    source = opened(tmp_path)
    first, second, third = tiles(source)
    assert isinstance(first, Tile)
    assert isinstance(third, Tile)
    assert isinstance(second, SkippedTile)
    assert (second.id, second.source_path) == ("a/2", "a/2.png")
    assert second.reason.startswith(("empty", "not a picture", "damaged"))


def test_a_dead_link_a_loop_and_a_forbidden_file_are_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, ["a/1.png", "a/secret.png"])
    (tmp_path / "a" / "dead.png").symlink_to("nowhere.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to("self")
    read_bytes = Path.read_bytes

    def refusing(path: Path) -> bytes:
        if path.name == "secret.png":
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    found = {tile.source_path: getattr(tile, "reason", "") for tile in tiles(opened(tmp_path))}
    assert found == {
        "a/1.png": "",
        "a/dead.png": "cannot be read: No such file or directory",
        "a/secret.png": "cannot be read: Permission denied",
    }


def test_a_linked_folder_is_followed(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", ["1.png"])
    root = fill(tmp_path / "root", ["a/1.png"])
    (root / "b").symlink_to(tmp_path / "elsewhere")
    assert list(labels(opened(root, follow_links=True))) == ["a/1.png", "b/1.png"]


def test_what_is_no_file_is_skipped_with_its_kind_and_never_waited_for(tmp_path: Path) -> None:
    fill(tmp_path, ["a/1.png", "a/full.png/inside.png"])
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "linked.png").symlink_to("pipe.png")
    (tmp_path / "a" / "device.png").symlink_to("/dev/zero")
    (tmp_path / "a" / "folder.png" / "inner").mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX)
    here = os.open(tmp_path / "a", os.O_RDONLY)
    try:
        listener.bind(f"/proc/self/fd/{here}/socket.png")  # the path of a socket is a short one
    finally:
        os.close(here)
        listener.close()
    source = opened(tmp_path, labels=False, follow_links=True)
    found = {tile.source_path: getattr(tile, "reason", "") for tile in tiles(source)}
    assert found == {
        "a/1.png": "",
        "a/full.png/inside.png": "",
        "a/pipe.png": "a pipe, not a file",
        "a/linked.png": "a pipe, not a file",
        "a/device.png": "a device, not a file",
        "a/folder.png": "a folder, not a file",
        "a/socket.png": "a socket, not a file",
    }
    assert [size is None for size in source.splits["train"].sizes()] == [bool(reason) for reason in found.values()]


def test_folders_that_all_link_to_each_other_are_refused_instead_of_walked_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentstore.sources import image_folder

    fill(tmp_path, [f"{name}/1.png" for name in "abcdef"])
    for name in "abcdef":
        for other in set("abcdef") - {name}:
            (tmp_path / name / other).symlink_to(tmp_path / other)
    monkeypatch.setattr(image_folder, "MAX_REPEATS", 100)
    with pytest.raises(SourceError, match=r"links that lead to the same folders again, more than 100 times"):
        opened(tmp_path)


def test_a_folder_that_cannot_be_listed_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, ["a/1.png", "locked/1.png"])
    scandir = os.scandir

    def refusing(folder: str) -> Any:
        if folder.endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    source = opened(tmp_path)
    assert source.notes == ("the folder locked cannot be read: Permission denied",)
    assert list(labels(source)) == ["a/1.png"]


def test_odd_names_survive_and_ids_are_valid_unicode(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/cl\xffss"
    os.mkdir(folder)  # noqa: PTH102 - bytes
    for name in (b"new\nline.png", "\N{EARTH GLOBE EUROPE-AFRICA}.png".encode(), b"by\xfete.png", b"plain .png"):
        with open(folder + b"/" + name, "wb") as file:  # noqa: PTH123
            file.write(picture())
    source = opened(tmp_path)
    read = tiles(source)
    assert source.class_names == (r"cl\udcffss",)
    assert sorted(posixpath.basename(tile.id) for tile in read) == sorted(
        ["new\nline", "\N{EARTH GLOBE EUROPE-AFRICA}", r"by\udcfete", "plain "]
    )
    for tile in read:
        assert isinstance(tile, Tile)
        tile.id.encode()
        tile.source_path.encode()


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"There is no folder '.*nope'.*latentstore list sources") as caught:
        opened(tmp_path / "nope")
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(SourceError, match="no location was given"):
        opened("")


def test_a_file_instead_of_a_folder_is_told_by_its_kind(tmp_path: Path) -> None:
    fill(tmp_path, ["x.png"])
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(SourceError, match=r"x\.png is a file \(an image\); latentstore build wants a folder of images"):
        opened(tmp_path / "x.png")
    with pytest.raises(SourceError, match=r"x\.zip is a file \(not an image\); .* such as .*"):
        opened(tmp_path / "x.zip")


def test_a_folder_without_pictures_says_what_was_looked_for_and_found(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found no file at all"):
        opened(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.npz").touch()
    (tmp_path / "readme.md").touch()
    with pytest.raises(SourceError, match=r"end in jpg jpeg png tif tiff webp bmp, at any depth, and found 2 other"):
        opened(tmp_path)


def test_an_unknown_option_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'labels'"):
        opened(fill(tmp_path, ["a/1.png"]), label=False)


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "pictures", ["a/1.png"])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(opened("~/pictures").splits["train"]) == 1


def test_a_class_in_two_unicode_normalisations_is_two_and_that_is_said(tmp_path: Path) -> None:
    source = opened(fill(tmp_path, ["caf\u00e9/1.png", "cafe\u0301/2.png", "b/3.png"]))
    assert source.class_names == ("b", "cafe\u0301", "caf\u00e9")
    (note,) = source.notes
    assert note.endswith(r"is spelled in 2 ways that look alike, so it is 2 classes: 'cafe\u0301', 'caf\xe9'")
