"""open_store(): the sealed dataset at any location."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from latentstore.errors import DamagedShardError, FetchError, RequestError, UnreachableError
from latentstore.hashing import sha256_of
from latentstore.locations import HubRepository, LocalFolder, RemoteUrl, location_of
from latentstore.manifest import FILE_NAME
from latentstore.named_table import unknown_name
from latentstore.store import LatentStore, local_configs, open_local_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latentstore.hub.datasets import DatasetCommit
    from latentstore.locations import Location
    from latentstore.manifest import Manifest

CARD = "README.md"


def open_store(location: str | Path, config: str | None = None) -> LatentStore:
    """Open a sealed dataset: a repository (with ``config`` where it holds several), or a config's own folder.

    ``location`` is a folder, ``user/repo[@revision]`` or ``hub:user/repo[@revision]`` on the Hub,
    ``hf://datasets/user/repo[@revision][/folder]``, or another URL (http(s), or what fsspec knows). A folder of this
    machine goes before a repository of that name. Of a dataset that lies elsewhere nothing but the manifest is read;
    the Hub's client being offline, what it has downloaded before is opened.

    Raises NotSealedError, ManifestError, FetchError or RequestError with one clear sentence.
    """
    where = location_of(location)
    try:
        return open_in_place(where, config)
    except UnreachableError as error:
        if not isinstance(where, HubRepository):
            raise
        return open_local_store(_in_cache(where, config, error), config)


def open_in_place(location: str | Path | Location, config: str | None = None) -> LatentStore:
    """The same, but never what was downloaded of a Hub repository: UnreachableError where it cannot be asked."""
    where = location_of(location) if isinstance(location, (str, Path)) else location
    if isinstance(where, LocalFolder):
        return open_local_store(where.path, config)
    from latentstore.remote_store import open_remote_store  # what it needs takes a while to import

    return open_remote_store(where, config)


def sealed_configs(location: str | Path) -> list[str]:
    """Names of the sealed configs of a repository, sorted; none where the location is a config's own folder."""
    from latentstore.remote_files import open_folder
    from latentstore.remote_store import configs_in

    where = location_of(location)
    if isinstance(where, LocalFolder):
        return [] if (where.path / FILE_NAME).is_file() else local_configs(where.path)
    try:
        return configs_in(open_folder(where))
    except UnreachableError as error:
        if not isinstance(where, HubRepository):
            raise
        return _configs_noted(where, _in_cache(where, None, error))


def download_store(
    location: str | Path,
    config: str | None = None,
    split: str | None = None,
    *,
    endpoint: str | None = None,
    token: str | None = None,
) -> LatentStore:
    """The same with every file on this machine: those of the config (and split) of a Hub repository are downloaded.

    They come from one commit into the cache of the Hub's client; those that were there before are not asked for again.
    Each that was not is compared with the sha256 in the manifest. ``endpoint`` and ``token`` are the client's own
    unless given. Without a network the copy that the cache has is opened, and a warning says which commit it is of.
    """
    where = location_of(location)
    if isinstance(where, LocalFolder):
        return open_local_store(where.path, config)
    if isinstance(where, RemoteUrl):
        raise RequestError(
            f"{where} is not downloaded as a whole: read it where it is with load_latents({str(where)!r}, "
            "streaming=True), or copy it to a folder first."
        )
    from latentstore.hub.datasets import dataset_commit

    try:
        there = dataset_commit(where.repo, where.revision, endpoint=endpoint, token=token)
    except UnreachableError as error:
        store = open_local_store(_in_cache(where, config, error), config)
        _check_cached(store, where, split, error)
        return store
    return _downloaded(there, where, config, split)


def _downloaded(there: DatasetCommit, where: HubRepository, config: str | None, split: str | None) -> LatentStore:
    from latentstore.remote_files import hub_folder
    from latentstore.remote_store import open_remote_store

    remote = open_remote_store(hub_folder(there, where.folder), config)  # refuses before anything is downloaded
    folder = remote.inside_repository
    names = _files_of(remote.manifest, split)
    paths = [f"{folder}/{name}".lstrip("/") for name in names]
    new = [name for name, path in zip(names, paths, strict=True) if not there.cached(path)]
    copied = there.download([CARD, *paths] if CARD in there.files else paths)
    store = open_local_store(copied / folder)
    _check_downloaded(store, new)
    return store


def _files_of(manifest: Manifest, split: str | None) -> list[str]:
    """The files of a config's folder that are needed to read one split, or all of them."""
    if split is not None and split not in manifest.splits:
        raise unknown_name("split", split, list(manifest.splits))
    splits = manifest.splits.values() if split is None else [manifest.splits[split]]
    return [FILE_NAME, manifest.index.path, *(shard.path for found in splits for shard in found.shards)]


def _check_downloaded(store: LatentStore, names: Sequence[str]) -> None:
    """Compare new files with the manifest, and let the cache forget one that is another."""
    manifest = store.manifest
    entries = [manifest.index, *(shard for found in manifest.splits.values() for shard in found.shards)]
    for entry in entries:
        path = store.folder / entry.path
        if entry.path in names and (path.stat().st_size != entry.bytes or sha256_of(path) != entry.sha256):
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise DamagedShardError(
                f"{entry.path} was downloaded with other bytes than the manifest says, and is removed from the cache "
                "again: load it once more; where that does not help, the repository is damaged, see `latentstore "
                "verify`."
            )


def _in_cache(where: HubRepository, config: str | None, reason: UnreachableError) -> Path:
    """The folder with what the Hub's client has downloaded of a repository; ``reason`` is why it is looked for."""
    from latentstore.hub.datasets import cached_snapshot, offline

    found = cached_snapshot(where.repo, where.revision)
    folder = found / where.folder if found is not None else None
    if found is None or folder is None or not folder.is_dir() or (config and not (folder / config).is_dir()):
        what = f"config {config!r} of {where}" if config else str(where)
        raise FetchError(f"{_first(reason)} The local cache has nothing of {what}: with a network, {_fetch(where)}")
    listed = _configs_noted(where, folder) if config is None else []
    if len(listed) > 1:
        raise RequestError(f"{where} holds several configs, name one of them: {', '.join(listed)}.")
    if not offline():
        warnings.warn(f"{reason} The copy of commit {found.name[:12]} in the local cache is read.", stacklevel=4)
    return folder


def _check_cached(store: LatentStore, where: HubRepository, split: str | None, reason: UnreachableError) -> None:
    names = _files_of(store.manifest, split)
    missing = [name for name in names if not (store.folder / name).is_file()]
    if missing:
        raise FetchError(
            f"{_first(reason)} Of config {store.manifest.config!r} of {where}, {len(missing)} of {len(names)} files "
            f"are not in the local cache ({missing[0]}): with a network, {_fetch(where, store.manifest.config)}"
        )


def _configs_noted(where: HubRepository, folder: Path) -> list[str]:
    """Names of the configs that there are as far as the cache knows, downloaded or not."""
    from latentstore.card.front_matter import refuse_large
    from latentstore.hub.datasets import listed_in_cache
    from latentstore.remote_store import configs_on_card

    if (folder / FILE_NAME).is_file():
        return []
    start = f"{where.folder}/" if where.folder else ""
    noted = [path.removeprefix(start).split("/") for path in listed_in_cache(where.repo, where.revision)]
    found = sorted({parts[0] for parts in noted if len(parts) == 2 and parts[1] == FILE_NAME})
    card = folder / CARD
    if found or not card.is_file():
        return found
    refuse_large(card.stat().st_size, str(card))
    return configs_on_card(card.read_text("utf-8", "replace"))


def _first(reason: Exception) -> str:
    return f"{str(reason).rstrip('.')}."


def _fetch(where: HubRepository, config: str = "") -> str:
    revision = f" --revision {where.revision}" if where.revision else ""
    only = f" --include '{config}/*'" if config else ""
    return f"type: hf download {where.repo} --repo-type dataset{revision}{only}"
