"""Which names of folders and files mean a split, as `datasets` has it: its words, alone or set off by ``-._ 0-9``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product, takewhile

from latentstore.sources.naming import printable

SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What each split of `datasets` may be called."""

OWN_NAMES = frozenset({"train", "val", "valid", "validation", "test"})
"""Folders, case-folded, that a split is called after, where it has only one; else it is called as `datasets` does."""

_SET_OFF = {
    split: re.compile(rf"(?:.*[-._ 0-9])?(?:{'|'.join(words)})(?:[-._ 0-9].*)?", re.DOTALL)
    for split, words in SPLIT_WORDS.items()
}
_WHOLE = {word: split for split, words in SPLIT_WORDS.items() for word in words}
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class SplitPlace:
    """Where the path of a picture says its split."""

    split: str
    said_by: str
    """The folder, or the name of the file."""
    classes: tuple[str, ...]
    """The other folders of the path, without those that all paths begin with."""


def split_places(paths: Iterable[str]) -> dict[str, SplitPlace]:
    """The split of each picture in a folder by its path, where all of them say one; empty where one does not.

    What differs from picture to picture goes before what all lie in (``test-data/train`` and ``test-data/val`` are
    train and val), and names that are a split's word and nothing more before those that have one in them. Files count
    where no folder is called like a split. Pictures that lie in no folder, beside split folders, are left out.
    """
    of_folder: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        of_folder.setdefault(tuple(path.split("/")[:-1]), []).append(path)
    folders = [folder for folder in of_folder if folder]
    common = sum(
        1
        for _ in takewhile(
            lambda pair: pair[0] == pair[1], zip(min(folders, default=()), max(folders, default=()), strict=False)
        )
    )
    for start, split_of in product((common, 0), (_whole, _set_off)):
        said = {folder: next((i for i in range(start, len(folder)) if split_of(folder[i])), None) for folder in folders}
        if folders and None not in said.values():
            places = [(folder, place) for folder, place in said.items() if place is not None]
            return {
                path: SplitPlace(split_of(folder[at]), folder[at], folder[min(common, at) : at] + folder[at + 1 :])
                for folder, at in places
                for path in of_folder[folder]
            }
    if _called_like_splits(folders):
        return {}
    found: dict[str, SplitPlace] = {}
    for folder, members in of_folder.items():
        for path in members:
            name = path.rpartition("/")[2]
            if not (split := _set_off(name, fold=False)):
                return {}
            found[path] = SplitPlace(split, name, folder)
    return found


def called(places: Mapping[str, SplitPlace]) -> dict[str, str]:
    """What each split is called here, by what `datasets` calls it: like its folder, where that is one old name."""
    said: dict[str, set[str]] = {}
    for place in places.values():
        said.setdefault(place.split, set()).add(place.said_by)
    return {
        split: min(names) if len(names) == 1 and min(names).casefold() in OWN_NAMES else split
        for split, names in said.items()
    }


def taken_for(places: Mapping[str, SplitPlace]) -> list[str]:
    """A sentence that says which folders, or files, were taken for which split, where they are not called the same."""
    names = called(places)
    said: dict[str, set[str]] = {}
    for place in places.values():
        said.setdefault(names[place.split], set()).add(printable(place.said_by))
    if all(found == {split} for split, found in said.items()):
        return []
    kind = "files" if all(path.endswith(place.said_by) for path, place in places.items()) else "folders"
    return [f"{kind} were taken for splits: {'; '.join(f'{split} ({_listed(sorted(said[split]))})' for split in said)}"]


def left_as_classes(paths: Iterable[str]) -> list[str]:
    """A sentence where folders are called like several splits, and yet are classes, because others are not."""
    folders = {tuple(path.split("/")[:-1]) for path in paths} - {()}
    names = _called_like_splits(folders)
    if len({_set_off(name) for name in names}) < 2:
        return []
    other = next(folder for folder in sorted(folders) if not any(map(_set_off, folder)))
    listed = _listed(sorted(map(printable, names)))
    return [f"{listed} were taken for classes, not splits, because {printable('/'.join(other))!r} is in none of them"]


def _whole(name: str) -> str:
    """The split whose word this is, in any case; empty where it is none."""
    return _WHOLE.get(name.casefold(), "")


def _set_off(name: str, *, fold: bool = True) -> str:
    """The split whose word is in this name, set off from the rest; empty where none is, or those of several."""
    found = [split for split, words in _SET_OFF.items() if words.fullmatch(name.casefold() if fold else name)]
    return found[0] if len(found) == 1 else ""


def _called_like_splits(folders: Iterable[tuple[str, ...]]) -> set[str]:
    return {name for name in {name for folder in folders for name in folder} if _set_off(name)}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
