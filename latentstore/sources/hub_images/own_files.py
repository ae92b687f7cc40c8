"""The files that a dataset may name: below its own folder, in its own archives, or in its own repository.

Rows, cards and lists of files are written by whoever made the dataset. What they name elsewhere (another path of this
machine, an address, another repository) is neither opened nor asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

from latentstore.errors import BadImageError, SourceError
from latentstore.hub.datasets import cache_of
from latentstore.image_decoding import image_size, read_open_picture, read_picture
from latentstore.sources.inside import FOLLOW_LINKS, LINK_OUT, home_of, leads_out
from latentstore.system.safe_paths import is_safe_path

if TYPE_CHECKING:
    from latentstore.sources.interface import SourceRow

OUTSIDE = "names a file outside its source, which is not opened"
ELSEWHERE = "names an address outside its source, which is not asked for"

ARCHIVES = frozenset({"zip", "gzip", "bz2", "xz", "lz4", "zstd", "tar"})
"""Protocols of fsspec that open one file inside another."""
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".lz4")

_COMMIT = r"[0-9a-f]{40}"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
"""What makes a name an address: ``file:/etc`` too, which fsspec opens."""
_RESOLVING = Lock()
"""datasets has one function that resolves patterns, for all threads."""


@dataclass(frozen=True)
class OwnFiles:
    """Where the files of one source lie."""

    folder: str
    """Absolute; empty for a repository on the Hub."""
    repo: str = ""
    """``user/name`` on the Hub; empty for a folder."""
    commit: str = ""
    """What of the repository is read; empty until that is known: any commit then."""
    follow_links: bool = False
    extracted: Mapping[str, Path] = field(default_factory=dict)
    """Folders that `datasets` unpacked this source's archives to."""

    @classmethod
    def of(cls, row: SourceRow, folder: str) -> OwnFiles:
        """Those of a row that was found to mean this folder; an empty one: the Hub."""
        return cls(folder, "" if folder else row.location, follow_links=bool(row.options.get(FOLLOW_LINKS)))

    def at(self, commit: str | None, data_files: Sequence[str]) -> OwnFiles:
        """The same, once the commit and the files are known that rows are read from."""
        return replace(self, commit=commit or "", extracted=self._unpacked(commit, data_files))

    def read(self, path: str) -> bytes:
        """The bytes of a picture that a row names; BadImageError where it is no file of this source.

        SourceError where a repository does not answer: the next picture would not be there either.
        """
        place = self.place_of(path)
        if "://" not in place:
            return read_picture(place)
        from datasets.utils.file_utils import xopen

        try:
            with xopen(place, "rb") as file:
                return read_open_picture(file)
        except BadImageError:
            raise
        except Exception as error:
            if isinstance(error, FileNotFoundError) or not self.repo:
                raise BadImageError("cannot be read: it is not in the source, or in a damaged archive") from error
            raise SourceError(f"The picture {place} cannot be fetched: {error}; run the same command again.") from error

    def size(self, path: str) -> tuple[int, int] | None:
        """(height, width) of a picture that a row names, from its header; None where there is none."""
        try:
            place = self.place_of(path)
            return image_size(place if "://" not in place else self.read(path))
        except BadImageError:
            return None

    def place_of(self, path: str) -> str:
        """Where a file is that this source names: what to open; BadImageError where it is not one of its own."""
        *inner, last = path.split("::")
        if any(hop.partition("://")[0] not in ARCHIVES for hop in inner):
            raise BadImageError(ELSEWHERE)
        return "::".join([*inner, self._own(last)])

    def _own(self, path: str) -> str:
        """Likewise of a file that is in no archive."""
        if "://" in path or _SCHEME.match(path):
            if self._in_repository(path):
                return path
            raise BadImageError(ELSEWHERE)
        if "\0" in path:
            raise BadImageError(OUTSIDE)
        if self.repo and self.commit and not os.path.isabs(path):  # noqa: PTH117
            if not is_safe_path(path):
                raise BadImageError(OUTSIDE)
            return f"hf://datasets/{self.repo}@{self.commit}/{path}"
        full = os.path.join(self.folder, path)  # noqa: PTH118 - as the source spells it
        folder, name = os.path.split(full)
        plain = name not in ("", ".", "..") and not os.path.islink(full)  # noqa: PTH114
        fault = "" if plain and not self._fault_of_folder(folder) else self._fault(full)
        if fault:
            raise BadImageError(fault)
        return full

    def _fault_of_folder(self, folder: str) -> str:
        """Likewise of a folder, which many pictures share: following links takes longer than reading a header."""
        if folder not in self._faults:
            self._faults[folder] = self._fault(folder)
        return self._faults[folder]

    def _fault(self, path: str) -> str:
        """Why a path of this machine is not one of this source; empty where it is."""
        home = self._home_above(os.path.normpath(path))
        if home is None:
            return OUTSIDE
        return LINK_OUT if not self.follow_links and leads_out(home, path) else ""

    @cached_property
    def _faults(self) -> dict[str, str]:
        """Of the folders that were looked at."""
        return {}

    def _in_repository(self, url: str) -> bool:
        """Whether this is an address in the source's own repository, at its own commit."""
        if not self.repo:
            return False
        found = re.fullmatch(
            rf"hf://datasets/{re.escape(self.repo)}@({self.commit or _COMMIT})(?:/(.*))?", url, re.DOTALL
        )
        return found is not None and (not found[2] or is_safe_path(found[2].rstrip("/")))

    def _home_above(self, path: str) -> Path | None:
        """What this path must stay below, links followed; None where its words alone lead elsewhere."""
        for above in (path, *map(str, Path(path).parents)):
            if above in self._homes:
                return self._homes[above]
        return None

    @cached_property
    def _homes(self) -> Mapping[str, Path]:
        """What each folder's files must stay below, by the folder's names."""
        if self.repo:
            cache = cache_of(self.repo)
            return {str(name): cache for name in (cache, cache.resolve())} | dict(self.extracted)
        names = (self.folder, os.path.realpath(self.folder))
        return {name: home_of(os.path.realpath(self.folder)) for name in names} | dict(self.extracted)

    def _unpacked(self, commit: str | None, data_files: Sequence[str]) -> dict[str, Path]:
        """Where `datasets` unpacks archives, and did before it read inside them: by a hash of where they lie."""
        from datasets import config
        from datasets.utils.file_utils import hash_url_to_filename

        found: dict[str, Path] = {}
        for path in data_files:
            if path.lower().endswith(ARCHIVE_SUFFIXES):
                inside = path.partition(f"@{commit}/")[2]
                local = str(cache_of(self.repo) / "snapshots" / str(commit) / inside) if self.repo else path
                name = hash_url_to_filename(os.path.abspath(local))  # noqa: PTH100 - as datasets does
                folder = Path(config.EXTRACTED_DATASETS_PATH, name)
                found |= {str(folder): folder, os.path.realpath(folder): folder}
        return found

    def refuse_others(self, names: Sequence[str], *, pictures: bool = False) -> None:
        """SourceError where one of these files or patterns of files is not this source's own.

        ``pictures``: pictures are left out, which are looked at one by one when they are read.
        """
        from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

        later = tuple(ImageFolder.EXTENSIONS) if pictures else ()
        for name in names:
            if "::" not in name and name.lower().endswith(later):
                continue
            try:
                self._check_name(name)
            except BadImageError as error:
                where = self.folder or self.repo
                raise SourceError(f"{where} {error} (found {name!r}): its list of files is not followed.") from error

    def _check_name(self, name: str) -> None:
        """BadImageError for a file, or a pattern of files, that is not this source's own."""
        if self.folder or _SCHEME.match(name) or os.path.isabs(name):  # noqa: PTH117
            self.place_of(name)
        elif ".." in name.split("/"):
            raise BadImageError(OUTSIDE)

    @contextmanager
    def resolving(self) -> Iterator[None]:
        """`datasets` looks for no file outside this source meanwhile; SourceError where it was asked to.

        Its card may name any path or address as a pattern, and looking for one already tells its host of us.
        """
        from datasets import data_files

        refused: list[SourceError] = []
        with _RESOLVING:
            resolve, ours = data_files.resolve_pattern, get_ident()

            def resolve_own(pattern: str, base_path: str, *args: Any, **kwargs: Any) -> Any:
                if get_ident() != ours:  # somebody else's datasets are no business of ours
                    return resolve(pattern, base_path, *args, **kwargs)
                try:
                    self.refuse_others([base_path, pattern])
                    pattern = self.place_of(pattern) if "::" in pattern else pattern  # else from where we happen to be
                    found = resolve(pattern, base_path, *args, **kwargs)
                    self.refuse_others(found, pictures=True)
                except SourceError as error:
                    refused.append(error)  # datasets would go on with what it has in its cache
                    raise
                return found

            data_files.resolve_pattern = resolve_own
            try:
                yield
            except Exception:
                if refused:
                    raise refused[0] from None
                raise
            finally:
                data_files.resolve_pattern = resolve
        if refused:
            raise refused[0]
