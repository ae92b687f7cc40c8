"""A folder of pictures: the folders in it are the classes.

Read are files that end in jpg, jpeg, png, tif, tiff, webp or bmp, in any case, at any depth; what starts with a dot is
not looked at. Order: by relative path, code point by code point, whatever the file system says. What is called like a
picture and is none is skipped, counted and named: a pipe, a socket, a dead link, a folder without pictures.

Links that lead to files and folders of the same folder are followed. One that leads out of it is skipped, counted and
named like a picture, and what it leads to is not looked at, unless ``follow_links`` says so: the folder may be
somebody else's, and the result is going to be published.

Classes: a picture's folder ("urban/airport") without the leading names that all pictures in folders share ("data"),
but never without any; sorted. Where classes exist, a picture that lies beside the class folders has none: it is
skipped, counted and named. Where every picture lies at the top, there are no classes.

Splits: where every picture in a folder lies below one that is called like a split, at any depth, those are the splits,
and the classes are the other folders, one list for all splits. Where no folder is called so, but every file is, the
files' names say the split. A note says what was taken for which split (`split_names.py`: the words of `datasets`).

Options: ``labels`` (True; False takes no classes from folders), ``split`` ("train": the name of the only split),
``follow_links`` (False; True follows links that lead out of the folder).
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from latentstore.errors import BadImageError, SourceError
from latentstore.image_decoding import decode_image, image_size, read_picture
from latentstore.records import SkippedTile, Tile
from latentstore.sources.inside import FOLLOW_LINKS, LINK_OUT, home_of, leads_out
from latentstore.sources.interface import OpenSource, SourceRow
from latentstore.sources.naming import check_options, printable, spelled_twice, unique_ids
from latentstore.sources.split_names import SplitPlace, called, left_as_classes, split_places, taken_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")
"""What a file that is taken for a picture ends in, in any case."""

MAX_REPEATS = 10_000
"""How often links may lead to folders that were looked into already: ten that all link to each other have 10! ways."""

_OUTSIDE = LINK_OUT
_HIDDEN, _FOLDER, _PICTURE, _OTHER = "hidden", "folder", "picture", "other"
_BESIDE = "lies beside the class folders, so it has no class"
_BESIDE_SPLITS = "lies beside the split folders, so it belongs to no split"


@dataclass(frozen=True, slots=True)
class _Picture:
    """A file that will be read; `path` is relative to the root, as the file system spells it."""

    path: str
    id: str = ""
    label: int | None = None
    fault: str = ""
    """Why it cannot be used, where its place in the folder says so."""

    @property
    def folder(self) -> tuple[str, ...]:
        """The names of the folders it lies in, from the root."""
        return tuple(self.path.split("/")[:-1])


@dataclass(frozen=True)
class _FolderSplit:
    """One split of a folder; pictures are read, hashed and decoded when they are asked for."""

    root: str
    pictures: tuple[_Picture, ...]
    random_access: bool = True

    def __len__(self) -> int:
        return len(self.pictures)

    def names(self) -> Sequence[str]:
        return [printable(picture.path) for picture in self.pictures]

    def sizes(self) -> Iterator[tuple[int, int] | None]:
        for picture in self.pictures:
            yield None if picture.fault else image_size(os.path.join(self.root, picture.path))  # noqa: PTH118

    def read(self, rows: Sequence[int]) -> Iterator[Tile | SkippedTile]:
        return (self._tile(self.pictures[row]) for row in rows)

    def _tile(self, picture: _Picture) -> Tile | SkippedTile:
        path = printable(picture.path)
        if picture.fault:
            return SkippedTile(picture.id, path, picture.fault)
        try:
            data = read_picture(os.path.join(self.root, picture.path))  # noqa: PTH118
            decoded = decode_image(data)
        except BadImageError as error:
            return SkippedTile(picture.id, path, str(error))
        return Tile(
            id=picture.id,
            pixels=decoded.pixels,
            label=picture.label,
            source_path=path,
            source_sha256=hashlib.sha256(data).hexdigest(),
            source_bytes=len(data),
            conversions=decoded.conversions,
        )


def open_image_folder(row: SourceRow) -> OpenSource:
    """The pictures of the folder `row.location`; see the top of this file for the rules and options."""
    check_options(row, ("labels", "split", FOLLOW_LINKS))
    root = _root(row.location)
    paths, outside, others, notes = _listed(root, follow_links=bool(row.options.get(FOLLOW_LINKS)))
    if not paths:
        raise SourceError(_no_pictures(row.location, others))
    if len(outside) == len(paths):
        raise SourceError(
            f"In the folder {printable(row.location)!r} every picture lies behind a link that leads out of it "
            f"({printable(paths[0])}): type --follow-links to read what they lead to, or give the folder that holds it."
        )
    if others:
        notes.append(
            "1 file that is no picture was left out"
            if others == 1
            else f"{others:,} files that are no pictures were left out"
        )
    ids = unique_ids([printable(path) for path in paths])
    pictures = [
        _Picture(path, name, fault=_OUTSIDE if path in outside else "") for path, name in zip(paths, ids, strict=True)
    ]
    places = split_places([picture.path for picture in pictures])
    notes += taken_for(places) if places else left_as_classes([picture.path for picture in pictures])
    splits = _split_up(pictures, places, str(row.options.get("split", "train")))
    names: list[str] = []
    if row.options.get("labels", True):
        splits, names = _labelled(splits, places)
    notes += [*spelled_twice(names), *_faults(splits)]
    return OpenSource(
        splits={name: _FolderSplit(root, tuple(members)) for name, members in splits.items()},
        class_names=tuple(names) or None,
        features={},
        revision=None,
        listing=_listing(root, splits),
        notes=tuple(notes),
    )


def _listing(root: str, splits: dict[str, list[_Picture]]) -> str:
    """See ``OpenSource.listing``: split, path and file size of every picture."""
    digest = hashlib.sha256()
    for name, members in splits.items():
        for picture in members:
            try:
                outside = picture.fault == _OUTSIDE
                size = -1 if outside else os.stat(os.path.join(root, picture.path)).st_size  # noqa: PTH116, PTH118
            except OSError:
                size = -1
            digest.update(f"{name}\0{printable(picture.path)}\0{size}\n".encode())
    return digest.hexdigest()


def _root(location: str) -> str:
    """The folder; raises SourceError where there is none."""
    if not location:
        raise SourceError("A folder of images was expected, but no location was given.")
    root = os.path.abspath(os.path.expanduser(location))  # noqa: PTH100, PTH111 - keeps undecodable bytes and links
    if not os.path.lexists(root):
        raise SourceError(
            f"There is no folder {printable(location)!r} (looked for {printable(root)}); latentstore build wants a "
            f"folder of images, a source from `latentstore list sources`, or hub:user/repo."
        )
    if not Path(root).is_dir():
        kind = "an image" if image_size(root) else "not an image"
        folder = posixpath.dirname(location) or "."
        raise SourceError(
            f"{printable(location)} is a file ({kind}); latentstore build wants a folder of images, "
            f"such as {printable(folder)!r}."
        )
    return root


def _no_pictures(location: str, others: int) -> str:
    found = f"{others:,} other file{'' if others == 1 else 's'}" if others else "no file at all"
    suffixes = " ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
    return (
        f"The folder {printable(location)!r} holds no image: looked for files that end in {suffixes}, at any depth, "
        f"and found {found}; give the folder that holds the images."
    )


def _listed(root: str, *, follow_links: bool) -> tuple[list[str], set[str], int, list[str]]:
    """Relative paths of the pictures, sorted, and which of them are links that lead out and are not followed.

    Then the number of other files, and what could not be looked into.
    """
    found: dict[str, list[str]] = {kind: [] for kind in (_HIDDEN, _FOLDER, _PICTURE, _OTHER, _OUTSIDE)}
    named_alike: list[str] = []
    notes: list[str] = []
    home = None if follow_links else home_of(os.path.realpath(root))
    # each with the folders above it, by device and number: a link back to one of them is a loop
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    seen: Counter[tuple[int, int]] = Counter()
    while waiting:
        folder, above = waiting.pop()
        here = os.path.join(root, folder)  # noqa: PTH118
        try:
            status = os.stat(here)  # noqa: PTH116
            entries = list(os.scandir(here))
        except OSError as error:
            notes.append(f"the folder {printable(folder) or '.'} cannot be read: {error.strerror}")
            continue
        number = (status.st_dev, status.st_ino)
        if number in above:
            continue
        if _named_like_a_picture(folder):
            named_alike.append(folder)
        seen[number] += 1
        if seen.total() - len(seen) > MAX_REPEATS:
            raise SourceError(_tangled(root))
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            kind = _kind_of(entry, home)
            found[kind].append(path)
            if kind == _FOLDER:
                waiting.append((path, above | {number}))
    paths = [*found[_PICTURE], *found[_OUTSIDE]]
    with_pictures = _folders_above(paths)
    paths += [folder for folder in named_alike if folder not in with_pictures]
    return sorted(paths), set(found[_OUTSIDE]), len(found[_OTHER]), sorted(notes)


def _kind_of(entry: os.DirEntry[str], home: Path | None) -> str:
    """What an entry of a folder is to us; ``home`` is what links must stay below, None where they need not."""
    if entry.name.startswith("."):
        return _HIDDEN
    folder = _is_folder(entry)
    if not folder and not _named_like_a_picture(entry.name):
        return _OTHER
    if home is not None and entry.is_symlink() and leads_out(home, entry.path):
        return _OUTSIDE
    return _FOLDER if folder else _PICTURE  # pipes and dead links too: why they are none is said on reading


def _named_like_a_picture(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _folders_above(paths: Iterable[str]) -> set[str]:
    """Every folder that one of the paths leads through."""
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _tangled(root: str) -> str:
    return (
        f"The folder {printable(root)!r} has links that lead to the same folders again, more than {MAX_REPEATS:,} "
        "times: give a folder without them."
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _shared(folders: Iterable[tuple[str, ...]]) -> int:
    """How many leading names all folders share, leaving each of them at least one."""
    listed = list(folders)
    if not listed:
        return 0
    limit = min(len(folder) for folder in listed) - 1
    low, high = min(listed), max(listed)
    same = 0
    while same < limit and low[same] == high[same]:
        same += 1
    return same


def _split_up(pictures: list[_Picture], places: dict[str, SplitPlace], only: str) -> dict[str, list[_Picture]]:
    """The pictures of each split, in the order of their paths; `only` names the split where there are none."""
    if not places:
        return {only: pictures}
    splits: dict[str, list[_Picture]] = {}
    beside: list[_Picture] = []
    names = called(places)
    for picture in pictures:
        if picture.path in places:
            splits.setdefault(names[places[picture.path].split], []).append(picture)
        else:
            beside.append(replace(picture, fault=picture.fault or _BESIDE_SPLITS))
    first = next((name for name in splits if name.casefold() == "train"), next(iter(splits)))
    splits[first] = sorted([*splits[first], *beside], key=lambda picture: picture.path)
    return splits


def _labelled(
    splits: dict[str, list[_Picture]], places: dict[str, SplitPlace]
) -> tuple[dict[str, list[_Picture]], list[str]]:
    """The splits with their labels, and the names of the classes (none where no picture lies in a class folder)."""
    folders = {
        p.path: places[p.path].classes if p.path in places else p.folder for members in splits.values() for p in members
    }
    below = set(folders.values()) - {()}
    shared = _shared(below)
    names = sorted({_class_name(folder[shared:]) for folder in below})

    def labelled(picture: _Picture) -> _Picture:
        if folder := folders[picture.path]:
            return replace(picture, label=names.index(_class_name(folder[shared:])))
        return replace(picture, fault=picture.fault or _BESIDE) if names else picture

    return {name: [labelled(p) for p in members] for name, members in splits.items()}, names


def _class_name(folder: tuple[str, ...]) -> str:
    return printable("/".join(folder))


def _faults(splits: dict[str, list[_Picture]]) -> list[str]:
    """A sentence for each reason why pictures are skipped because of where they lie."""
    notes = []
    for fault in (_BESIDE, _BESIDE_SPLITS, _OUTSIDE):
        paths = [printable(p.path) for members in splits.values() for p in members if p.fault == fault]
        if paths:
            more = f" and {len(paths) - 3:,} more" if len(paths) > 3 else ""
            notes.append(f"skipped, because it {fault}: {', '.join(paths[:3])}{more}")
    return notes
