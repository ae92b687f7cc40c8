"""The front matter of a card: what the manifests say, and how it is joined with what a person wrote."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from latentstore.card.block import Written
from latentstore.card.choices import CardChoices
from latentstore.card.features import card_features
from latentstore.card.vocabulary import size_category
from latentstore.card.words import label, source_repo
from latentstore.containers.table import CONTAINERS
from latentstore.sources.table import SOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latentstore.manifest import Manifest

TAR_BUILDER = "webdataset"
LICENCE_KEYS = ("license", "license_name", "license_link")
SHARED = ("pretty_name", "language", "source_datasets", "task_categories", "tags")
"""Keys that are written for the person, who may change them."""
STORED_BYTES = {"float16": 2, "float32": 4, "uint8": 1}
CAPTIONS = ("caption", "captions", "text")


def listed(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Those that `datasets` can load from the card: it reads all configs of a repository as it reads the first.

    Where there are several kinds, it is the kind that comes first in the table of containers.
    """
    found = {CONTAINERS[manifest.storage.container].builder for manifest in manifests}
    builder = next((row.builder for row in CONTAINERS.values() if row.builder in found), None)
    return [manifest for manifest in manifests if CONTAINERS[manifest.storage.container].builder == builder]


def shard_pattern(manifest: Manifest, split: str) -> str:
    """The shards of a split, from the repository's folder: ``aid-flux2/train-*.parquet``."""
    return f"{manifest.config}/{split}-*.{CONTAINERS[manifest.storage.container].suffix}"


def title(manifests: Sequence[Manifest]) -> str:
    """What a repository is called where nobody gave it a name: ``resisc45 as latents of flux2``."""
    sources = dict.fromkeys(label(manifest.source.name) for manifest in manifests)
    vaes = dict.fromkeys(label(manifest.vae.name) for manifest in manifests)
    return f"{_joined(sources)} as latents of {_joined(vaes)}" if manifests else "Image latents"


def front_matter(
    manifests: Sequence[Manifest], theirs: Mapping[str, Any], written: Written, choices: CardChoices
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(keys of the front matter to write, None for one to remove; those that a person may change, as suggested).

    ``theirs`` is the front matter that is there, ``written`` what was suggested the last time. A key that a person
    changed stays as it is; of a list, the person's own entries stay, and entries that the person removed stay away.
    Licence, size and everything about the configs and their columns are not suggestions.
    """
    suggested = _suggested(manifests)
    chosen = _chosen(choices)
    keys: dict[str, Any] = {name: chosen[name] for name in LICENCE_KEYS if name in chosen}
    for name in SHARED:
        keys[name] = chosen[name] if name in chosen else _three_way(name, suggested, theirs, written.keys)
    keys["size_categories"] = [size_category(sum(manifest.rows for manifest in manifests))]
    keys["configs"] = _configs(manifests, theirs, written, choices.default_config)
    keys["dataset_info"] = _dataset_info(manifests, theirs, written)
    return keys, suggested


def _chosen(choices: CardChoices) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if choices.license is not None:
        found = {name: getattr(choices, name) for name in LICENCE_KEYS}
    if choices.pretty_name is not None:
        found["pretty_name"] = choices.pretty_name
    if choices.language:
        found["language"] = list(choices.language)
    return found


def _suggested(manifests: Sequence[Manifest]) -> dict[str, Any]:
    if not manifests:
        return {}
    known = [_is_known(manifest) for manifest in manifests]
    english = any(is_known and manifest.source.classes for is_known, manifest in zip(known, manifests, strict=True))
    sources = dict.fromkeys(source_repo(manifest.source) or "original" for manifest in manifests)
    captions = any(name in manifest.columns for manifest in manifests for name in CAPTIONS)
    tasks = {
        "image-classification": any(manifest.source.classes for manifest in manifests),
        "unconditional-image-generation": True,
        "text-to-image": captions,
    }
    tags = ["latents", "latentstore", "vae", *dict.fromkeys(label(manifest.vae.name) for manifest in manifests)]
    return {
        "pretty_name": title(manifests),
        **({"language": ["en"]} if english else {}),
        "source_datasets": list(sources),
        "task_categories": [task for task, fits in tasks.items() if fits],
        "tags": [*tags, *(["remote-sensing"] if any(known) else [])],
    }


def _is_known(manifest: Manifest) -> bool:
    """Whether the source is a row of the table; all of those are remote sensing, with classes named in English."""
    source = manifest.source
    return source.name in SOURCES and SOURCES[source.name].reader.__name__ == source.reader


def _three_way(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], before: Mapping[str, Any]) -> Any:
    """The value to write, None for none: ours, unless a person changed, added or removed what we wrote before."""
    new, there, old = ours.get(name), theirs.get(name), before.get(name)
    if there is None:
        return new if old is None else None
    if there == old:
        return new
    if not isinstance(there, list) or not isinstance(new, list):
        return there
    was, now, is_there = (
        {repr(entry) for entry in found} for found in (old if isinstance(old, list) else (), new, there)
    )
    return [
        *(entry for entry in there if repr(entry) not in was - now),
        *(entry for entry in new if repr(entry) not in is_there | was),
    ]


def _configs(
    manifests: Sequence[Manifest], theirs: Mapping[str, Any], written: Written, default: str | None
) -> list[dict[str, Any]] | None:
    before = _entries(theirs.get("configs"))
    shown = listed(manifests)
    names = [manifest.config for manifest in shown]
    ours = {*names, *written.configs, *_all(manifests)}
    foreign = [entry for entry in before if str(entry.get("config_name")) not in ours]
    named = next((str(entry.get("config_name")) for entry in before if entry.get("default")), None)
    taken = next((name for name in (default, named) if name in names), None)
    if taken is None and not any(entry.get("default") for entry in foreign):
        taken = next(iter(names), None)
    if default is not None and default == taken:
        foreign = [{key: value for key, value in entry.items() if key != "default"} for entry in foreign]
    entries = []
    for manifest in shown:
        own: dict[str, Any] = {"config_name": manifest.config}
        if manifest.config == taken:
            own["default"] = True
        splits = [name for name, split in manifest.splits.items() if split.rows]  # `datasets` fails on an empty one
        own["data_files"] = [{"split": split, "path": shard_pattern(manifest, split)} for split in splits]
        entries.append(own | _further(before, manifest.config, {*own, "default"}))
    return [*entries, *foreign] or None


def _dataset_info(
    manifests: Sequence[Manifest], theirs: Mapping[str, Any], written: Written
) -> list[dict[str, Any]] | None:
    found = theirs.get("dataset_info")
    before = _entries([{"config_name": "default", **found}] if isinstance(found, dict) else found)
    ours = {*_all(manifests), *written.configs}
    foreign = [entry for entry in before if str(entry.get("config_name")) not in ours]
    shown = listed(manifests)
    return [*(dataset_info(manifest) for manifest in shown), *foreign] or None


def dataset_info(manifest: Manifest) -> dict[str, Any]:
    """The entry of one config. Sizes in memory are those of the latents alone: the manifest knows no others."""
    latent = math.prod(manifest.latent_shape) * STORED_BYTES[manifest.storage.dtype]
    splits: list[dict[str, Any]] = [
        {"name": name, "num_bytes": split.rows * latent, "num_examples": split.rows}
        for name, split in manifest.splits.items()
        if split.rows
    ]
    return {
        "config_name": manifest.config,
        "features": card_features(manifest),
        "splits": splits,
        "download_size": manifest.size.stored_bytes,
        "dataset_size": sum(split["num_bytes"] for split in splits),
    }


def _further(entries: Sequence[Mapping[str, Any]], config: str, own: set[str]) -> dict[str, Any]:
    """What a person wrote besides into the entry of one of our configs."""
    found = next((entry for entry in entries if entry.get("config_name") == config), {})
    return {key: value for key, value in found.items() if key not in own}


def _entries(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _all(manifests: Sequence[Manifest]) -> set[str]:
    return {manifest.config for manifest in manifests}


def _joined(names: Mapping[str, None]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
