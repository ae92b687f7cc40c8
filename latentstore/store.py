"""A sealed dataset, opened through its manifest: here, one in a folder of this machine."""

from __future__ import annotations

import hashlib
import io
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from latentstore.containers.interface import CORE_COLUMNS
from latentstore.containers.table import CONTAINERS
from latentstore.errors import DamagedShardError, ManifestError, NotSealedError, RequestError, StoreError, WrongVaeError
from latentstore.hashing import sha256_of
from latentstore.locations import ListedFile
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.named_table import unknown_name
from latentstore.storage.table import STORAGES
from latentstore.system.plain_files import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from latentstore.containers.interface import ContainerRow, ShardReader, ShardSchema
    from latentstore.manifest import ShardInfo
    from latentstore.storage.interface import Storage
    from latentstore.vaes.interface import Vae, VaeRow


class LatentRows(Protocol):
    """Latents of one shard."""

    def latents(self, rows: NDArray[Any]) -> NDArray[Any]:
        """See ``ShardReader.latents``."""


class NamedBytes(io.BytesIO):
    """A file in memory whose text is where it came from."""

    def __init__(self, content: bytes, url: str) -> None:
        super().__init__(content)
        self._url = url

    def __str__(self) -> str:
        return self._url

    def __reduce__(self) -> tuple[type[NamedBytes], tuple[bytes, str]]:
        return NamedBytes, (self.getvalue(), self._url)


@dataclass(frozen=True, repr=False)
class LatentStore:
    """One sealed config: its manifest, and the readers of its files."""

    folder: Path
    manifest: Manifest
    memory_map: bool = field(default=True, kw_only=True)
    """Whether files are mapped where they lie. What another process shortens meanwhile ends a process that has it
    mapped; so files that others may write to are better copied first, into files that nobody else knows of."""

    def __repr__(self) -> str:
        """One line: a manifest has thousands of numbers."""
        where, manifest = self.at("").rstrip("/"), self.manifest
        return f"{type(self).__name__}({where!r}, config {manifest.config!r}, {manifest.rows:,} rows)"

    @property
    def is_remote(self) -> bool:
        """Whether its files are read from somewhere else, by ranges."""
        return False

    def at(self, name: str) -> str:
        """Where a file of it is, for messages."""
        return str(self.folder / name)

    @property
    def container(self) -> ContainerRow:
        """How its shards are read."""
        return CONTAINERS[self.manifest.storage.container]

    @cached_property
    def schema(self) -> ShardSchema:
        """The columns of its shards."""
        return self.manifest.schema

    def storage(self) -> Storage:
        """How stored numbers become raw latents."""
        return STORAGES[self.manifest.storage.name].open(self.manifest.storage.steps)

    def shard(self, info: ShardInfo) -> ShardReader:
        """One shard, opened; DamagedShardError where it cannot be the one the manifest describes."""
        if self.memory_map:
            return self.opened(self.folder / info.path, info)
        return self.copied(info, partial(self._copy, info))

    def copied(self, info: ShardInfo, copy: Callable[[Path], Path]) -> ShardReader:
        """The same of a copy in a folder of its own, which is gone when its reader is."""
        folder = TemporaryDirectory(prefix="latentstore-")
        try:
            reader = self.opened(copy(Path(folder.name)), info)
        except BaseException:
            folder.cleanup()
            raise
        weakref.finalize(reader, folder.cleanup)
        return reader

    def _copy(self, info: ShardInfo, folder: Path) -> Path:
        path = self.folder / info.path
        try:
            return Path(copyfile(path, folder / info.path))
        except OSError as error:
            raise DamagedShardError(f"Shard {path} cannot be copied to be read ({error}).") from error

    def opened(self, path: Path, info: ShardInfo) -> ShardReader:
        """The same of a shard whose file is at ``path``."""
        try:
            size = path.stat().st_size
        except OSError:
            raise DamagedShardError(
                f"Shard {path} is missing; the manifest lists it with {info.rows} rows: copy it there again."
            ) from None
        if size != info.bytes:
            raise DamagedShardError(
                f"Shard {path} has {size} bytes, the manifest says {info.bytes}: it was cut or replaced, copy it there "
                "again."
            )
        reader = self.container.open(path, self.schema)
        if reader.rows != info.rows:
            raise DamagedShardError(f"Shard {path} has {reader.rows} rows, the manifest says {info.rows}.")
        return reader

    def latents_of(self, info: ShardInfo) -> LatentRows:
        """One shard, opened for its latents alone, a few at a time or all of them."""
        return self.shard(info)

    @contextmanager
    def shard_file(self, info: ShardInfo) -> Iterator[Path]:
        """Where the file of a shard lies while it is looked at."""
        yield self.folder / info.path

    def listing(self) -> Mapping[str, ListedFile]:
        """The files beside the manifest, by name; the shards at least, of those that are there."""
        files = (path for path in self.folder.iterdir() if path.is_file())
        return {path.name: ListedFile(path.stat().st_size) for path in files}

    def index(self, columns: Sequence[str] | None = None) -> dict[str, list[Any]]:
        """Scalar columns of every row of every split, with ``split``, ``shard`` and ``row``."""
        return self.container.read_index(self._index_for(columns), columns, self.manifest.rows)

    def checked_index(self, columns: Sequence[str] | None = None) -> dict[str, list[Any]]:
        """The same; DamagedShardError unless they are rows of the manifest's shards, with all that every row has."""
        index, path = self.index(columns), self.at(self.manifest.index.path)
        splits = self.manifest.splits
        listed = {
            "split": (name for name, info in splits.items() for _ in range(info.rows)),
            "shard": (shard.path for info in splits.values() for shard in info.shards for _ in range(shard.rows)),
        }
        if any(name in index and index[name] != list(wanted) for name, wanted in listed.items()):
            raise DamagedShardError(f"Index {path} does not list the rows of the manifest's shards.")
        for name in set(index) & set(CORE_COLUMNS) - {"label"}:
            if None in index[name]:
                row = index[name].index(None)
                raise DamagedShardError(f"Index {path} has no {name} in row {row}, which every row must have.")
        return index

    def index_of_split(self, split: str, columns: Sequence[str]) -> dict[str, Any]:
        """Columns of every row of one split, numbers as arrays; see ``ContainerRow.index_arrays``."""
        start = 0
        for name, info in self.manifest.splits.items():
            if name == split:
                break
            start += info.rows
        rows = self.manifest.splits[split].rows
        wanted = slice(start, start + rows)
        return self.container.index_arrays(self._index_for(columns), columns, wanted, self.manifest.rows)

    def _index_for(self, columns: Sequence[str] | None) -> Path | BinaryIO:  # noqa: ARG002
        """The index, to read these columns of it; DamagedShardError where it is not the manifest's."""
        return self._sound_index

    @cached_property
    def _sound_index(self) -> Path | BinaryIO:
        """The index, once its bytes were found to be those of the manifest: labels and filters rely on it."""
        path, info = self.folder / self.manifest.index.path, self.manifest.index
        if not path.is_file():
            raise DamagedShardError(f"Index {path} is missing: copy it there again.")
        content = None if self.memory_map else read_file(path, info.bytes)
        found = sha256_of(path) if content is None else hashlib.sha256(content).hexdigest()
        if path.stat().st_size != info.bytes or found != info.sha256:
            raise DamagedShardError(
                f"Index {path} is not the one that the manifest describes: its bytes were changed, copy it there again."
            )
        return path if content is None else NamedBytes(content, str(path))

    def load_vae(
        self, row: VaeRow | None = None, *, device: str = "cpu", dtype: str | None = None, trust: bool = False
    ) -> Vae:
        """The very VAE that made the latents; WrongVaeError where its weights are not the recorded ones.

        ``row`` names it where it is not in the table (a user's own row, or another location). Without one, what the
        manifest names is loaded if it is a row of the table, and with ``trust``: else UntrustedError.
        """
        from latentstore.vaes.table import row_of  # whoever trains on latents does not need it

        info = self.manifest.vae
        vae = (row or row_of(info, trust=trust)).load(device=device, dtype=dtype or self.manifest.environment.dtype)
        recorded = (info.weights_sha256, info.class_name, info.channels, info.stride)
        if (vae.identity.weights_sha256, vae.identity.class_name, vae.row.channels, vae.row.stride) != recorded:
            raise WrongVaeError(
                f"These latents were made by VAE {info.name!r} with weights sha256 {info.weights_sha256}, but the "
                f"weights found have {vae.identity.weights_sha256}; another VAE would give wrong pictures."
            )
        if vae.normalisation != self.manifest.normalisation:
            raise WrongVaeError(
                f"The manifest's normalisation is not that of VAE {info.name!r}: one of the two was changed, and the "
                "latents would be read at another scale."
            )
        return vae


def open_local_store(root: Path, config: str | None = None) -> LatentStore:
    """Open a sealed dataset: a repository's folder (with ``config`` where it holds several), or a config's own folder.

    The latter may have been renamed; the folder of a config in a repository is called like it. Raises NotSealedError,
    ManifestError or RequestError with one clear sentence.
    """
    if not root.exists():
        raise StoreError(f"There is no folder {str(root)!r}.")
    if (root / FILE_NAME).is_file():
        manifest = Manifest.read(root)
        if config not in (None, manifest.config):
            raise unknown_name("config", str(config), [manifest.config])
        return _opened(root, manifest)
    folder = root / _chosen(root, config)
    return _opened(folder, Manifest.read(folder).of_folder(folder.name))


def local_configs(root: Path) -> list[str]:
    """Names of the sealed configs in a repository's folder, sorted."""
    return sorted(path.parent.name for path in root.glob(f"*/{FILE_NAME}"))


def _opened(folder: Path, manifest: Manifest) -> LatentStore:
    check_known(folder / FILE_NAME, manifest)
    return LatentStore(folder, manifest)


def check_known(path: object, manifest: Manifest) -> None:
    """StoreError where this version cannot read the shards that the manifest at ``path`` describes."""
    if manifest.storage.container not in CONTAINERS or manifest.storage.name not in STORAGES:
        message = (
            f"{path} names container {manifest.storage.container!r} and storage "
            f"{manifest.storage.name!r}, which this version does not know: pip install --upgrade latentstore"
        )
        raise StoreError(message)
    dtype = STORAGES[manifest.storage.name].dtype
    if manifest.storage.dtype != dtype:
        message = f"expected {dtype} for storage {manifest.storage.name}, found {manifest.storage.dtype!r}"
        raise ManifestError(message, field="storage.dtype")


def _chosen(root: Path, config: str | None) -> str:
    sealed = local_configs(root)
    if config is not None:
        if config not in sealed:
            _refuse_unfinished(root / config)
            raise unknown_name("config", config, sealed)
        return config
    if len(sealed) > 1:
        message = f"{root} holds several configs, name one of them: {', '.join(sealed)}."
        raise RequestError(message)
    if not sealed:
        for folder in (*sorted(root.glob("*/")), root):
            _refuse_unfinished(folder)
        raise NotSealedError(f"{root} holds no latent dataset: expected <config>/{FILE_NAME} below it, found none.")
    return sealed[0]


def _refuse_unfinished(folder: Path) -> None:
    from latentstore.manifest.names import JOURNAL

    if (folder / JOURNAL).is_dir():
        message = f"{folder} is not complete: type the same `latentstore build` command again to finish it."
        raise NotSealedError(message)
