"""What must be sent, removed and left, so that a place holds these configs and still holds those of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from latentstore.card import CARD
from latentstore.errors import ManifestError, PublishError
from latentstore.file_records import LocalFile
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.publishing.own_files import is_file_of
from latentstore.publishing.records import LocalConfig, PublishPlan, TargetState


def published_configs(state: TargetState) -> list[str]:
    """Names of the configs that can be read there: the folders with a manifest."""
    found = (path.partition("/") for path in state.files)
    return sorted(folder for folder, _, name in found if name == FILE_NAME)


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


def plan_of(location: str, configs: Sequence[LocalConfig], card: str, state: TargetState) -> PublishPlan:
    """What there is to do so that these configs are there as they are here.

    Removed are only files of theirs that their manifests do not list any more; what people put beside them stays.
    """
    wanted = [file for config in configs for file in config.data]
    wanted += [config.manifest_file for config in configs]
    wanted.append(LocalFile.of_text(CARD, card))
    there = state.files
    unchanged = tuple(file for file in wanted if file.path in there and there[file.path].holds(file))
    kept = {file.path for file in unchanged}
    listed = {file.path for file in wanted}
    names = {config.name for config in configs}
    return PublishPlan(
        location=location,
        adds=tuple(file for file in wanted if file.path not in kept),
        deletions=tuple(path for path in sorted(there) if path not in listed and is_file_of(path, names)),
        unchanged=unchanged,
        creates=not state.exists,
        new_configs=frozenset(names - set(published_configs(state))),
        unfinished=state.unfinished & names,
    )
