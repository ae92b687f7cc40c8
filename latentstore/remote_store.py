"""A sealed dataset that lies elsewhere: manifest and index are read whole, shards by range requests."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from latentstore.containers.parquet_ranges import RangedFile
from latentstore.containers.row_ranges import KeptTail
from latentstore.errors import DamagedShardError, ManifestError, MissingFileError, NotSealedError, RequestError
from latentstore.locations import HubRepository, ListedFile, LocalFolder, RemoteUrl
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.manifest.names import CARD, CONFIG_NAME, SKIPPED, is_config_name
from latentstore.manifest.text import LARGEST_TEXT
from latentstore.named_table import unknown_name
from latentstore.remote_files import HubFolder, RemoteFolder, open_folder
from latentstore.store import LatentStore, NamedBytes, check_known

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from latentstore.containers.interface import RangedShard, ShardReader, ShardSchema
    from latentstore.locations import Location
    from latentstore.manifest import ShardInfo
    from latentstore.retries import Patience
    from latentstore.store import LatentRows

SMALL_INDEX = 256 << 10
"""Bytes of an index that is read whole, and compared, whatever is wanted of it."""
PIECE_BYTES = 8 << 20
"""Of a shard that is fetched whole, in one request."""
CONFIG_IN_CARD = re.compile(
    rf"^- config_name: *(?P<quote>[\"']?)(?P<name>{CONFIG_NAME.pattern})(?P=quote) *\r?$", re.MULTILINE
)


@dataclass(frozen=True, repr=False)
class RemoteStore(LatentStore):
    """One sealed config somewhere; ``folder`` is only what messages say.

    ``ranged`` reads rows of a shard where it lies. What needs a whole shard gets it in a temporary file, one at a time.
    """

    files: RemoteFolder

    @property
    def is_remote(self) -> bool:
        """See ``LatentStore.is_remote``."""
        return True

    def at(self, name: str) -> str:
        """See ``LatentStore.at``."""
        return self.files.at(name)

    def ranged(self, info: ShardInfo) -> RangedShard:
        """One shard, opened for reading rows by ranges; DamagedShardError where it cannot be the manifest's."""
        found = self.container.open_ranges(FileRanges(self.files, info.path, self._sound_size(info)), self.schema)
        if found.rows != info.rows:
            raise DamagedShardError(f"Shard {self.at(info.path)} has {found.rows} rows, the manifest says {info.rows}.")
        return found

    def latents_of(self, info: ShardInfo) -> LatentRows:
        """See ``LatentStore.latents_of``: read by ranges, in blocks of the rows that can only be read together."""
        together = self.container.rows_together(self.schema, self.manifest.storage.layout)
        return _RangedLatents(self.ranged(info), together, self.schema)

    def shard(self, info: ShardInfo) -> ShardReader:
        """One shard, whole: fetched into a temporary file, which is gone when its reader is."""
        return self.copied(info, partial(self._fetched, info))

    @contextmanager
    def shard_file(self, info: ShardInfo) -> Iterator[Path]:
        """See ``LatentStore.shard_file``: fetched into a temporary file."""
        with TemporaryDirectory(prefix="latentstore-") as folder:
            yield self._fetched(info, Path(folder))

    def listing(self) -> Mapping[str, ListedFile]:
        """See ``LatentStore.listing``; a web server gives none, so there it asks for each file that is listed."""
        found = self.files.files()
        if found is not None:
            return found
        asked: dict[str, ListedFile] = {}
        for split in self.manifest.splits.values():
            for shard in split.shards:
                with suppress(MissingFileError):
                    asked[shard.path] = ListedFile(self.files.size(shard.path))
        with suppress(MissingFileError):
            asked[SKIPPED] = ListedFile(self.files.size(SKIPPED))
        return asked

    @property
    def inside_repository(self) -> str:
        """Its folder in the Hub repository that it is in; empty for a dataset that lies elsewhere."""
        return self.files.path if isinstance(self.files, HubFolder) else ""

    def _sound_size(self, info: ShardInfo) -> int:
        url = self.at(info.path)
        try:
            size = self.files.size(info.path)
        except MissingFileError:
            raise DamagedShardError(f"Shard {url} is missing; the manifest lists it with {info.rows} rows.") from None
        if size != info.bytes:
            message = f"Shard {url} has {size} bytes, the manifest says {info.bytes}: it was cut or replaced."
            raise DamagedShardError(message)
        return size

    def _fetched(self, info: ShardInfo, folder: Path) -> Path:
        """A shard as a file in this folder."""
        size, path = self._sound_size(info), folder / info.path
        with path.open("wb") as file:
            for start in range(0, size, PIECE_BYTES):
                file.write(self.files.read_range(info.path, start, min(size, start + PIECE_BYTES)))
        return path

    def _index_for(self, columns: Sequence[str] | None) -> Path | BinaryIO:
        """The index whole, where its bytes must be compared; else, of a long one, these columns by ranges.

        The Hub says which sha256 the file has that lies there. Where that is the manifest's, a part of the file is a
        part of the right one. Other places say nothing, so there the whole file is read.
        """
        info = self.manifest.index
        if columns is None or "_sound_index" in self.__dict__ or info.bytes <= SMALL_INDEX:
            return self._sound_index
        listed = (self.files.files() or {}).get(info.path)
        if listed is None or (listed.size, listed.sha256) != (info.bytes, info.sha256):
            return self._sound_index
        return cast("BinaryIO", _NamedRanges(FileRanges(self.files, info.path, info.bytes)))

    @cached_property
    def _sound_index(self) -> NamedBytes:
        """The index, whole (it is a small part of the dataset), once its bytes were found to be the manifest's."""
        info = self.manifest.index
        url = self.at(info.path)
        try:
            content = self.files.read_range(info.path, 0, info.bytes)
        except MissingFileError:
            raise DamagedShardError(f"Index {url} is missing.") from None
        if self.files.size(info.path) != info.bytes or hashlib.sha256(content).hexdigest() != info.sha256:
            raise DamagedShardError(f"Index {url} is not the one that the manifest describes: its bytes were changed.")
        return NamedBytes(content, url)


@dataclass(frozen=True)
class FileRanges:
    """See ``ShardBytes``."""

    files: RemoteFolder
    path: str
    size: int

    @property
    def name(self) -> str:
        """See ``ShardBytes.name``."""
        return self.files.at(self.path)

    def read(self, start: int, stop: int) -> bytes:
        """See ``ShardBytes.read``."""
        return self.files.read_range(self.path, start, stop)


class _RangedLatents:
    """See ``LatentRows``; rows that can only be read together are kept until others are asked for."""

    def __init__(self, shard: RangedShard, together: int, schema: ShardSchema) -> None:
        self._shard = shard
        self._together = together
        self._schema = schema
        self._kept: tuple[int, NDArray[np.uint8]] | None = None

    def latents(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Stored numbers (len(rows), C, h, w) of these rows, in the order asked for."""
        order = np.unique(rows)
        if self._together == 1:
            found = self._shard.stored(order)
        else:
            parts = [
                self._block(number)[order[order // self._together == number] % self._together]
                for number in np.unique(order // self._together).tolist()
            ]
            found = np.concatenate(parts)
        numbers = found.view(np.dtype(self._schema.dtype).newbyteorder("<"))
        return numbers.reshape(-1, *self._schema.latent_shape)[np.searchsorted(order, rows)]

    def _block(self, number: int) -> NDArray[np.uint8]:
        if self._kept is None or self._kept[0] != number:
            start = number * self._together
            rows = np.arange(start, min(start + self._together, self._shard.rows), dtype=np.int64)
            self._kept = (number, self._shard.stored(rows))
        return self._kept[1]


class _NamedRanges(RangedFile):
    """A file that is read by ranges, whose text is where it is."""

    def __init__(self, source: FileRanges) -> None:
        super().__init__(KeptTail(source))
        self._url = source.name

    def __str__(self) -> str:
        return self._url


def open_remote_store(
    location: str | Path | Location | RemoteFolder, config: str | None = None, *, patience: Patience | None = None
) -> RemoteStore:
    """Open a sealed dataset at a URL, a Hub repository ``user/repo[@revision]`` or a path: its manifest is read.

    ``location`` is what ``open_folder`` takes, or gives: a repository's folder (with ``config`` where it holds several)
    or a config's own folder. A plain web server gives no listing: there the configs are those that the repository's
    card names. Raises NotSealedError, ManifestError, FetchError or RequestError with one clear sentence.
    """
    root = _root(location, patience)
    if config is not None and not is_config_name(config):
        raise RequestError(f"A config's name has letters, digits, '-', '_' and '.' only, found {config!r}.")
    if config is not None and (found := _store_in(root.inside(config), config)) is not None:
        return found
    own = _store_in(root)
    if own is not None:
        if config not in (None, own.manifest.config):
            raise unknown_name("config", str(config), [own.manifest.config])
        return own
    names = configs_in(root)
    if config is not None:
        if names and config not in names:
            raise unknown_name("config", config, names)
        wanted = root.inside(config).at(FILE_NAME)
        raise NotSealedError(f"There is no {wanted}: the config is not there, or not complete.")
    if len(names) > 1:
        raise RequestError(f"{root.name} holds several configs, name one of them: {', '.join(names)}.")
    found = _store_in(root.inside(names[0]), names[0]) if names else None
    if found is None:
        raise NotSealedError(
            f"There is no {root.at(FILE_NAME)} and nothing that names a config with one: name the config, or give the "
            "config's own folder."
        )
    return found


def _store_in(folder: RemoteFolder, config: str | None = None) -> RemoteStore | None:
    """The dataset in a folder, which is that of this ``config`` in a repository; None where it has no manifest."""
    try:
        text = folder.read_bytes(FILE_NAME, LARGEST_TEXT).decode("utf-8")
    except MissingFileError:
        return None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{folder.at(FILE_NAME)} cannot be read ({error})") from error
    manifest = Manifest.from_file(text, folder.at(FILE_NAME))
    check_known(folder.at(FILE_NAME), manifest if config is None else manifest.of_folder(config))
    return RemoteStore(Path(folder.name), manifest, folder)


def _root(location: str | Path | Location | RemoteFolder, patience: Patience | None) -> RemoteFolder:
    if isinstance(location, (str, Path, LocalFolder, HubRepository, RemoteUrl)):
        return open_folder(location, patience)
    return location


def configs_in(root: RemoteFolder) -> list[str]:
    """Names of the configs of a repository: the folders with a manifest, or, without a listing, those on its card."""
    listed = root.folders()
    if listed is not None:
        return [name for name in listed if is_config_name(name) and FILE_NAME in (root.inside(name).files() or ())]
    from latentstore.card.front_matter import LARGEST_CARD

    try:
        card = root.read_bytes(CARD, LARGEST_CARD).decode("utf-8", "replace")
    except MissingFileError:
        return []
    return configs_on_card(card)


def configs_on_card(card: str) -> list[str]:
    """Names of the configs that a repository's card lists, sorted."""
    return sorted({found["name"] for found in CONFIG_IN_CARD.finditer(card) if is_config_name(found["name"])})
