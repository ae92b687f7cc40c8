"""Whether a card is one that the Hub and `datasets` take, found out without a network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from latentstore.card.block import Body
from latentstore.card.front_matter import Readme
from latentstore.card.metadata import dataset_info, listed
from latentstore.card.vocabulary import LICENCES, OTHER, SIZE_CATEGORIES, TASKS
from latentstore.card.words import source_repo, vae_repo
from latentstore.errors import RequestError

if TYPE_CHECKING:
    from latentstore.manifest import Manifest

SPLIT = re.compile(r"\w+(\.\w+)*")
CONFIG_SIGNS = re.compile(r'[^<>:/\\|?*"]+')
"""What `datasets` allows in the name of a config: it becomes the name of a folder."""
RESERVED = "data"
"""`push_to_hub` refuses a config of this name."""


@dataclass(frozen=True)
class CheckedCard:
    """A card, and what it is held against."""

    text: str
    manifests: Sequence[Manifest]
    files: frozenset[str] | None
    """Paths of all files of the repository; None where they are not known."""

    @cached_property
    def data(self) -> dict[str, Any]:
        """Its front matter."""
        return Readme.parse(self.text).data

    @cached_property
    def configs(self) -> list[dict[str, Any]]:
        """The entries of ``configs`` that have a name."""
        return _named(self.data.get("configs"))

    @cached_property
    def infos(self) -> list[dict[str, Any]]:
        """The entries of ``dataset_info`` that have a name."""
        return _named(self.data.get("dataset_info"))

    @cached_property
    def listed(self) -> list[Manifest]:
        """The manifests whose configs belong on it."""
        return listed(self.manifests)


def validate_card(text: str, manifests: Sequence[Manifest], files: Sequence[str] | None = None) -> list[str]:
    """What is wrong with a card, a sentence each; nothing where it is right.

    ``manifests`` are those of all configs of the repository, ``files`` the paths of all its files, as they will lie on
    the Hub; without ``files`` nothing is said about patterns. A card without a licence is valid: see
    `refuse_unlicensed`.
    """
    card = CheckedCard(text, manifests, None if files is None else frozenset(files))
    try:
        problems = list(_block(card))
        Body.parse(Readme.parse(text).body)
    except RequestError as error:
        return [str(error)]
    return problems + [sentence for check in CHECKS for sentence in check(card)]


def _block(card: CheckedCard) -> Iterator[str]:
    if not card.text.startswith(("---\n", "---\r\n")):
        yield "The card does not begin with the line '---', so `datasets` finds no YAML block in it."
    elif not card.data:
        yield "The YAML block of the card has no keys."


def _licence(card: CheckedCard) -> Iterator[str]:
    found = card.data.get("license")
    names = found if isinstance(found, list) else [] if found is None else [found]
    for name in names:
        if not isinstance(name, str) or name not in LICENCES:
            yield f"license: the Hub does not know {name!r}; use one of its identifiers, or 'other' with license_name."
    for key in ("license_name", "license_link"):
        if OTHER in names and not card.data.get(key):
            yield f"license: 'other' wants {key} beside it."


def _vocabulary(card: CheckedCard) -> Iterator[str]:
    for key, known in (("size_categories", SIZE_CATEGORIES), ("task_categories", TASKS)):
        for name in _list(card.data.get(key)):
            if not isinstance(name, str) or name not in known:
                yield f"{key}: the Hub does not know {name!r}."
    for key in ("tags", "language", "source_datasets"):
        for name in _list(card.data.get(key)):
            if not isinstance(name, str) or not name:
                yield f"{key}: expected texts, found {name!r}."
    name = card.data.get("pretty_name")
    if name is not None and not isinstance(name, str):
        yield f"pretty_name: expected a text, found {name!r}."


def _config_names(card: CheckedCard) -> Iterator[str]:
    entries = card.data.get("configs")
    if entries is not None and (not isinstance(entries, list) or len(card.configs) != len(entries)):
        yield "configs: expected a list of entries with a text config_name each."
    names = [entry["config_name"] for entry in card.configs]
    for name, count in Counter(names).items():
        if count > 1:
            yield f"configs: {name!r} is there {count} times."
        if name == RESERVED or not CONFIG_SIGNS.fullmatch(name):
            yield f"configs: {name!r} cannot be the name of a config."
    for manifest in card.listed:
        if manifest.config not in names:
            yield f"configs: {manifest.config!r} is missing, so that `datasets` does not find it."


def _default(card: CheckedCard) -> Iterator[str]:
    if len(card.configs) < 2:
        return
    defaults = [
        entry["config_name"] for entry in card.configs if entry.get("default") or entry["config_name"] == "default"
    ]
    if len(defaults) != 1:
        yield f"configs: expected one default of {len(card.configs)} configs, found {', '.join(defaults) or 'none'}."


def _data_files(card: CheckedCard) -> Iterator[str]:
    for entry in card.configs:
        name, files = entry["config_name"], entry.get("data_files")
        if files is None and "data_dir" in entry:
            continue
        if isinstance(files, str) or (
            isinstance(files, list) and files and all(isinstance(file, str) for file in files)
        ):
            continue
        if not isinstance(files, list) or not files:
            yield f"configs: data_files of {name!r} must be a pattern, several, or a list of split and path."
            continue
        for file in files:
            yield from _split_and_path(name, file)
        splits = Counter(str(file.get("split")) for file in files if isinstance(file, dict))
        yield from (f"configs: {name!r} has the split {split!r} twice." for split, count in splits.items() if count > 1)


def _split_and_path(config: str, file: Any) -> Iterator[str]:
    if not isinstance(file, dict) or set(file) != {"split", "path"}:
        yield f"configs: data_files of {config!r} must have 'split' and 'path' and nothing else, found {file!r}."
        return
    if not isinstance(file["split"], str) or not SPLIT.fullmatch(file["split"]):
        yield (
            f"configs: {file['split']!r} of {config!r} cannot be the name of a split: it has letters, digits, "
            "underscores, and points between them."
        )
    if not isinstance(file["path"], str) and not (
        isinstance(file["path"], list) and all(isinstance(path, str) for path in file["path"])
    ):
        yield f"configs: path of {config!r} must be a pattern or a list of them, found {file['path']!r}."


def _patterns(card: CheckedCard) -> Iterator[str]:
    if card.files is None:
        return
    manifests = {manifest.config: manifest for manifest in card.listed}
    for entry in card.configs:
        name = entry["config_name"]
        for split, patterns in _patterns_of(entry).items():
            found = {path for path in card.files if any(matches(pattern, path) for pattern in patterns)}
            if name not in manifests:
                if not found:
                    yield f"configs: {', '.join(patterns)} of {name!r} matches no file."
                continue
            info = manifests[name].splits.get(split)
            wanted = {f"{name}/{shard.path}" for shard in info.shards} if info else set()
            for path in sorted(wanted - found):
                yield f"configs: no pattern of {name!r}, split {split!r}, matches the shard {path}, or it is not there."
            for path in sorted(found - wanted):
                yield f"configs: {', '.join(patterns)} of {name!r} also matches {path}, which is no shard of {split!r}."


def _builder(card: CheckedCard) -> Iterator[str]:
    kinds: dict[str, str] = {}
    for entry in card.configs:
        for patterns in _patterns_of(entry).values():
            for pattern in patterns:
                kinds.setdefault(PurePosixPath(pattern).suffix, entry["config_name"])
    if len(kinds) > 1:
        found = ", ".join(f"{suffix or 'no suffix'} ({config})" for suffix, config in kinds.items())
        yield f"configs: `datasets` reads all configs of a repository in one way, and these are of several: {found}."


def _infos(card: CheckedCard) -> Iterator[str]:
    found = {entry["config_name"]: entry for entry in card.infos}
    for name in found:
        if name not in {entry["config_name"] for entry in card.configs}:
            yield f"dataset_info: {name!r} is not among the configs."
    for manifest in card.listed:
        stated, wanted = found.get(manifest.config), dataset_info(manifest)
        if stated is None:
            yield f"dataset_info: {manifest.config!r} is missing."
            continue
        for split in manifest.splits:
            there, right = _examples(stated, split), _examples(wanted, split)
            if there != right:
                yield f"dataset_info: split {split!r} of {manifest.config!r} has {right} rows, the card says {there}."
        if {str(entry.get("name")) for entry in _splits(stated)} - set(manifest.splits):
            yield f"dataset_info: {manifest.config!r} names splits that it does not have."
        if stated.get("features") != wanted["features"]:
            yield f"dataset_info: the features of {manifest.config!r} are not those of its shards."


def _machine(card: CheckedCard) -> Iterator[str]:
    """Folders of the builder's machine are nobody's business, and lead nowhere."""
    for manifest in card.manifests:
        private = [manifest.source.location] if not source_repo(manifest.source) else []
        private += [manifest.vae.repo] if manifest.vae.repo and not vae_repo(manifest.vae) else []
        for place in private:
            if place.startswith(("/", "~", "./", "../")) and len(place) > 2 and place in card.text:
                yield f"The card names {place!r}, a folder of the machine where {manifest.config!r} was built."


CHECKS: tuple[Callable[[CheckedCard], Iterator[str]], ...] = (
    _licence,
    _vocabulary,
    _config_names,
    _default,
    _data_files,
    _patterns,
    _builder,
    _infos,
    _machine,
)


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern of ``data_files`` takes this path: ``*`` and ``?`` stay inside of a folder, ``**`` does not.

    The pattern may be a stranger's: each part of it is tried once at each place of the path.
    """
    ends = {0}
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern):
        if part == "**/":
            ends |= {place + 1 for place, sign in enumerate(path) if sign == "/" and place >= min(ends)}
        elif part in ("*", "**"):
            ends = _reached(path, ends, part == "**")
        elif part == "?" or (part.startswith("[") and part.endswith("]") and len(part) > 2):
            ends = {place + 1 for place in ends if place < len(path) and _takes(part, path[place])}
        else:
            ends = {place + len(part) for place in ends if path.startswith(part, place)}
        if not ends:
            return False
    return len(path) in ends


def _reached(path: str, starts: set[int], over_folders: bool) -> set[int]:
    """Every place to which any number of signs leads from these."""
    found: set[int] = set()
    on = False
    for place in range(len(path) + 1):
        on = place in starts or (on and (over_folders or path[place - 1] != "/"))
        if on:
            found.add(place)
    return found


def _takes(part: str, sign: str) -> bool:
    """Whether ``?`` or a class of signs such as ``[a-z]`` or ``[!0-9]`` takes this one."""
    return sign != "/" if part == "?" else fnmatchcase(sign, part)


def _patterns_of(entry: Mapping[str, Any]) -> dict[str, list[str]]:
    """Patterns of each split; those that name none are of ``train``, as `datasets` has it."""
    files = entry.get("data_files")
    if isinstance(files, str):
        return {"train": [files]}
    found: dict[str, list[str]] = {}
    for file in files if isinstance(files, list) else ():
        if isinstance(file, str):
            found.setdefault("train", []).append(file)
        elif isinstance(file, dict) and isinstance(file.get("split"), str):
            found.setdefault(file["split"], []).extend(str(path) for path in _list(file.get("path")))
    return found


def _examples(info: Mapping[str, Any], split: str) -> Any:
    return next((entry.get("num_examples") or 0 for entry in _splits(info) if entry.get("name") == split), 0)


def _splits(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in _list(info.get("splits")) if isinstance(entry, dict)]


def _named(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in _list(value) if isinstance(entry, dict) and isinstance(entry.get("config_name"), str)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
