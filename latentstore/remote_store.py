"""A sealed dataset that lies elsewhere: manifest and index are read whole, shards by range requests."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from latentstore.errors import DamagedShardError, ManifestError, MissingFileError, NotSealedError, RequestError
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.named_table import unknown_name
from latentstore.remote_files import RemoteFolder, open_folder
from latentstore.store import LatentStore, check_known

if TYPE_CHECKING:
    from latentstore.containers.interface import RangedShard
    from latentstore.manifest import ShardInfo
    from latentstore.retries import Patience

CARD = "README.md"
LARGEST_TEXT = 256 << 20
"""Bytes of a manifest or card, at most."""
CONFIG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
CONFIG_IN_CARD = re.compile(r"^- config_name: *(?P<name>\S+) *$", re.MULTILINE)


@dataclass(frozen=True)
class RemoteStore(LatentStore):
    """One sealed config somewhere; ``folder`` is only what messages say."""

    files: RemoteFolder

    @property
    def is_remote(self) -> bool:
        """See ``LatentStore.is_remote``."""
        return True

    def ranged(self, info: ShardInfo) -> RangedShard:
        """One shard, opened for reading rows by ranges; DamagedShardError where it cannot be the manifest's."""
        url = self.files.at(info.path)
        try:
            size = self.files.size(info.path)
        except MissingFileError:
            raise DamagedShardError(f"Shard {url} is missing; the manifest lists it with {info.rows} rows.") from None
        if size != info.bytes:
            message = f"Shard {url} has {size} bytes, the manifest says {info.bytes}: it was cut or replaced."
            raise DamagedShardError(message)
        found = self.container.open_ranges(_ShardFile(self.files, info.path, size), self.schema)
        if found.rows != info.rows:
            raise DamagedShardError(f"Shard {url} has {found.rows} rows, the manifest says {info.rows}.")
        return found

    @cached_property
    def _sound_index(self) -> _NamedBytes:
        """The index, whole (it is a small part of the dataset), once its bytes were found to be the manifest's."""
        info = self.manifest.index
        url = self.files.at(info.path)
        try:
            content = self.files.read_range(info.path, 0, info.bytes)
        except MissingFileError:
            raise DamagedShardError(f"Index {url} is missing.") from None
        if self.files.size(info.path) != info.bytes or hashlib.sha256(content).hexdigest() != info.sha256:
            raise DamagedShardError(f"Index {url} is not the one that the manifest describes: its bytes were changed.")
        return _NamedBytes(content, url)


@dataclass(frozen=True)
class _ShardFile:
    """See ``ShardBytes``."""

    files: RemoteFolder
    path: str
    size: int

    @property
    def name(self) -> str:
        return self.files.at(self.path)

    def read(self, start: int, stop: int) -> bytes:
        return self.files.read_range(self.path, start, stop)


class _NamedBytes(io.BytesIO):
    """A file in memory whose text is where it came from."""

    def __init__(self, content: bytes, url: str) -> None:
        super().__init__(content)
        self._url = url

    def __str__(self) -> str:
        return self._url

    def __reduce__(self) -> tuple[type[_NamedBytes], tuple[bytes, str]]:
        return _NamedBytes, (self.getvalue(), self._url)


def open_remote_store(
    location: str | Path, config: str | None = None, *, patience: Patience | None = None
) -> RemoteStore:
    """Open a sealed dataset at a URL, a Hub repository ``user/repo[@revision]`` or a path: its manifest is read.

    ``location`` is a repository's folder (with ``config`` where it holds several) or a config's own folder. A plain web
    server gives no listing: there the configs are those that the repository's card names. Raises NotSealedError,
    ManifestError, FetchError or RequestError with one clear sentence.
    """
    root = open_folder(location, patience)
    if config is not None and not CONFIG_NAME.fullmatch(config):
        raise RequestError(f"A config's name has letters, digits, '-', '_' and '.' only, found {config!r}.")
    if config is not None and (found := _store_in(root.inside(config))) is not None:
        return found
    own = _store_in(root)
    if own is not None:
        if config not in (None, own.manifest.config):
            raise unknown_name("config", str(config), [own.manifest.config])
        return own
    names = _configs(root)
    if config is not None:
        if names and config not in names:
            raise unknown_name("config", config, names)
        wanted = root.inside(config).at(FILE_NAME)
        raise NotSealedError(f"There is no {wanted}: the config is not there, or not complete.")
    if len(names) > 1:
        raise RequestError(f"{root.name} holds several configs, name one of them: {', '.join(names)}.")
    found = _store_in(root.inside(names[0])) if names else None
    if found is None:
        raise NotSealedError(
            f"There is no {root.at(FILE_NAME)} and nothing that names a config with one: name the config, or give the "
            "config's own folder."
        )
    return found


def _store_in(folder: RemoteFolder) -> RemoteStore | None:
    """The dataset in a config's folder; None where it has no manifest."""
    try:
        text = folder.read_bytes(FILE_NAME, LARGEST_TEXT).decode("utf-8")
    except MissingFileError:
        return None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{folder.at(FILE_NAME)} cannot be read ({error})") from error
    manifest = Manifest.from_file(text, folder.at(FILE_NAME))
    check_known(folder.at(FILE_NAME), manifest)
    return RemoteStore(Path(folder.name), manifest, folder)


def _configs(root: RemoteFolder) -> list[str]:
    """Names of the configs of a repository: the folders with a manifest, or, without a listing, those on its card."""
    listed = root.folders()
    if listed is not None:
        return [name for name in listed if CONFIG_NAME.fullmatch(name) and _has_manifest(root.inside(name))]
    try:
        card = root.read_bytes(CARD, LARGEST_TEXT).decode("utf-8", "replace")
    except MissingFileError:
        return []
    names = (_unquoted(found["name"]) for found in CONFIG_IN_CARD.finditer(card))
    return sorted({name for name in names if CONFIG_NAME.fullmatch(name)})


def _has_manifest(folder: RemoteFolder) -> bool:
    try:
        return folder.size(FILE_NAME) > 0
    except MissingFileError:
        return False


def _unquoted(text: str) -> str:
    return str(json.loads(text)) if text[0] == text[-1] == '"' else text.strip("'")
