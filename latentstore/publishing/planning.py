"""What must be sent, removed and left, so that a place holds these configs and still holds those of others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial

from latentstore.errors import ManifestError, PublishError
from latentstore.file_records import LocalFile, RemoteFile
from latentstore.manifest import FILE_NAME, Manifest, listed_by
from latentstore.manifest.names import ARRIVED, CARD, PULLING, config_folder, is_config_name, is_data_name
from latentstore.publishing.interface import Target
from latentstore.publishing.records import LocalConfig, PublishPlan, TargetState


def published_configs(state: TargetState) -> list[str]:
    """Names of the configs that can be read there: the folders with a manifest."""
    found = (path.partition("/") for path in state.files)
    return sorted(folder for folder, _, name in found if name == FILE_NAME and is_config_name(folder))


def own_files(state: TargetState, config: str, read: Callable[[str], bytes]) -> dict[str, str | None]:
    """Files of a config there that this library put there, by path; nothing else is removed or written over.

    With each comes the sha256 that it must have to be that file. It is None for what a journal names, which was written
    when nothing else was in the way, and for the few that a manifest knows without one. Where there is neither, and
    what is removed can still be had, names are enough.
    """
    start = f"{config}/"
    there = {path.removeprefix(start) for path in state.files if config_folder(path) == config}
    found: dict[str, str | None] = {}
    listed = listed_by(read(start + FILE_NAME).decode("utf-8", "replace")) if FILE_NAME in there else {}
    journals = {ARRIVED, PULLING} & there
    if listed:
        found |= listed
    elif state.keeps_history:
        found |= dict.fromkeys(name for name in there if is_data_name(name))
    for journal in journals:
        found |= dict.fromkeys(_named_by(read(start + journal)))
    if listed or journals or state.keeps_history:  # else a file of that name is somebody's own
        found[FILE_NAME] = None
    return {start + name: sha256 for name, sha256 in found.items() if name in there}


def is_own(file: RemoteFile, own: Mapping[str, str | None]) -> bool:
    """Whether a file is the one that this library put there, as far as can be said without reading it."""
    return file.path in own and (own[file.path] is None or file.sha256 in (None, own[file.path]))


def _named_by(journal: bytes) -> set[str]:
    """Names of the files that a journal of a push or a pull has put there, or was putting there."""
    try:
        noted = json.loads(journal)
        names = {str(path).rpartition("/")[2] for path in (*noted["files"], *noted.get("sha256", ()))}
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return set()
    return {name for name in names if is_data_name(name) or name == FILE_NAME}


def in_the_way(
    state: TargetState, manifest: Manifest, wanted: Iterable[str], own: Mapping[str, str | None]
) -> list[str]:
    """Paths of files of others that a config would be written over, or would be read together with.

    A plain reader takes every file that a split's pattern on the card fits.
    """
    start, names = f"{manifest.config}/", set(wanted)
    patterns = [f"{start}{split}-*.{suffix}" for split in manifest.splits for suffix in ("parquet", "tar")]
    return sorted(
        path
        for path, file in state.files.items()
        if config_folder(path) == manifest.config
        and not is_own(file, own)
        and (path in names or any(fnmatchcase(path, pattern) for pattern in patterns))
    )


def manifests_of_others(
    location: str, state: TargetState, names: Sequence[str], read: Callable[[str], bytes]
) -> list[Manifest]:
    """The manifests there of all configs but these; PublishError where one cannot be understood.

    The card is written from all of them, and a config left out of it would be lost to its readers.
    """
    found = []
    for config in published_configs(state):
        if config in names:
            continue
        path = f"{config}/{FILE_NAME}"
        try:
            found.append(Manifest.from_file(read(path).decode("utf-8"), f"{location}/{path}").of_folder(config))
        except (ManifestError, UnicodeDecodeError) as error:
            raise PublishError(
                f"The config {config!r} of {location} cannot be understood ({error}), so no card can be written that "
                "names it: update latentstore, or remove it with latentstore drop."
            ) from error
    return found


def plan_of(place: Target, configs: Sequence[LocalConfig], card: str, state: TargetState) -> PublishPlan:
    """What there is to do so that these configs are there as they are here.

    Removed are only files of theirs that their manifests do not list any more; what people put beside them stays.
    PublishError where such a file is in the way.
    """
    wanted = [file for config in configs for file in config.data]
    wanted += [config.manifest_file for config in configs]
    wanted.append(LocalFile.of_text(CARD, card))
    there = state.files
    unchanged = tuple(file for file in wanted if file.path in there and there[file.path].holds(file))
    kept = {file.path for file in unchanged}
    listed = {file.path: file for file in wanted}
    own: dict[str, str | None] = {}
    for config in configs:
        own |= own_files(state, config.name, partial(place.read, state))
        found = in_the_way(state, config.manifest, listed, own)
        others = [path for path in found if path not in kept and not _may_be_replaced(place, state, listed.get(path))]
        if others:
            raise PublishError(_others(place.name, others))
    names = {config.name for config in configs}
    return PublishPlan(
        location=place.name,
        adds=tuple(file for file in wanted if file.path not in kept),
        deletions=tuple(path for path in sorted(own) if path not in listed and is_own(there[path], own)),
        unchanged=unchanged,
        creates=not state.exists,
        new_configs=frozenset(names - set(published_configs(state))),
        unfinished=state.unfinished & names,
        own=own,
    )


def _may_be_replaced(place: Target, state: TargetState, file: LocalFile | None) -> bool:
    """Whether nothing is lost when this file comes to where another of its name lies."""
    return file is not None and (state.keeps_history or place.holds(state, file))


def _others(location: str, paths: Sequence[str]) -> str:
    more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
    return (
        f"{location} holds {paths[0]}{more}, which no manifest there lists as its own: it would be written over, or be "
        "read as a part of the dataset; move it away, or choose another place."
    )
