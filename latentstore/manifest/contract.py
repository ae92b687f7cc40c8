"""The manifest itself: what is in it, how it is read and checked, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from latentstore.containers.interface import ShardSchema
from latentstore.errors import ManifestError, NotSealedError
from latentstore.json_records import ONLY_WHERE_SET, Side, Thumbnail, parse, plain
from latentstore.manifest.build_records import BuildInfo, Environment
from latentstore.manifest.checks import check
from latentstore.manifest.names import FILE_NAME, SKIPPED, is_index_name, is_shard_name, preview_name
from latentstore.manifest.records import (
    ChannelNumbers,
    ShardInfo,
    SizeLedger,
    SourceInfo,
    SplitInfo,
    StorageInfo,
    VaeInfo,
)
from latentstore.manifest.text import LARGEST_TEXT, check_version, contents, digest_of, with_digest
from latentstore.normalisation import Normalisation
from latentstore.pixels import Preparation
from latentstore.quality import MetricSummary
from latentstore.system.durable_files import write_atomically
from latentstore.system.plain_files import read_file


@dataclass(frozen=True)
class Manifest:
    """The contract of one config."""

    format_version: str
    config: str
    latent_shape: tuple[Side, Side, Side]
    posterior: str
    """What is stored of the encoder's posterior: ``mean``, or ``sample`` where a study is reproduced."""
    source: SourceInfo
    vae: VaeInfo
    preparation: Preparation
    storage: StorageInfo
    normalisation: Normalisation
    statistics: Mapping[str, ChannelNumbers]
    splits: Mapping[str, SplitInfo]
    index: ShardInfo
    """The file with the scalar columns of all rows."""
    metrics: tuple[str, ...]
    quality: Mapping[str, MetricSummary]
    size: SizeLedger
    environment: Environment
    build: BuildInfo
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Type of each column passed through from the source, in the words of `datasets`."""
    thumbnail: Thumbnail = field(default=0, metadata=ONLY_WHERE_SET)
    """Longest side of the thumbnails in pixels (a smaller picture keeps its size); 0: there is no such column."""
    digest: str = field(default="", compare=False)
    """sha256 of the manifest's own text with this empty; empty until it is written."""

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(split.rows for split in self.splits.values())

    @property
    def first_split(self) -> str:
        """The split that people begin with: ``train`` where it has rows, else the first that has."""
        filled = [name for name, info in self.splits.items() if info.rows]
        return "train" if "train" in filled else next(iter(filled or self.splits))

    def planned_rows(self, split: str) -> int:
        """Rows that a split was planned to have: those it has, and one for each that was skipped."""
        return self.splits[split].rows + sum(entry.split == split for entry in self.build.skipped)

    @property
    def preview(self) -> str:
        """Name of the picture of some rows beside it, where there is one; each append draws its own, beside the old."""
        return preview_name(0 if self.storage.converted else len(self.build.appended))

    @property
    def listed_files(self) -> list[ShardInfo]:
        """What it lists with its sha256: the shards, then the index, whatever its name."""
        return [*(shard for split in self.splits.values() for shard in split.shards), self.index]

    @property
    def beside(self) -> tuple[str, ...]:
        """Names of the files that it does not list, and that its config may lack."""
        return (self.preview, SKIPPED)

    @property
    def schema(self) -> ShardSchema:
        """The columns of every shard."""
        return ShardSchema(
            latent_shape=self.latent_shape,
            dtype=self.storage.dtype,
            class_names=self.source.classes,
            metrics=self.metrics,
            features=self.columns,
            thumbnail=self.thumbnail > 0,
        )

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a config folder; NotSealedError where there is none, ManifestError where it is wrong."""
        path = folder / FILE_NAME
        try:
            text = read_file(path, LARGEST_TEXT).decode("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise NotSealedError(f"{folder} has no {FILE_NAME}, so it is not a complete latent dataset.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(f"{path} cannot be read ({error})") from error
        return cls.from_file(text, str(path))

    @classmethod
    def from_file(cls, text: str, where: str) -> Manifest:
        """The manifest in the text of a file, which must be as it was written; ``where`` names it in errors."""
        manifest = cls.from_json(text)
        if not manifest.digest or digest_of(text, manifest.digest) != manifest.digest:
            message = f"is not that of {where}: the file was changed after it was written"
            raise ManifestError(message, field="digest")
        return manifest

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest in this JSON text, checked."""
        data = contents(text)
        check_version(data)
        manifest = parse(cls, data)
        manifest.validate()
        return manifest

    def of_folder(self, name: str) -> Manifest:
        """Itself; ManifestError unless its config is called like the folder of a repository that it lies in."""
        if self.config != name:
            raise ManifestError(f"expected {name!r}, the name of its folder, found {self.config!r}", field="config")
        return self

    def to_json(self) -> str:
        """JSON text, the same for the same manifest; it ends with its own digest."""
        return with_digest(plain(self))

    def write(self, folder: Path) -> Manifest:
        """Check it, put it into the config folder in one atomic step, and give it back with its digest."""
        self.validate()
        text = self.to_json()
        write_atomically(folder / FILE_NAME, text)
        return replace(self, digest=json.loads(text)["digest"])

    def validate(self) -> None:
        """Raise ManifestError, naming the field, unless the parts agree with each other."""
        check(self)


def listed_by(text: str) -> dict[str, str | None]:
    """Names of the files that a manifest says are its own, with their sha256; None for those that it does not list.

    It is read as far as it can be, whatever else is wrong with it; of a name that no file of a config has nothing is
    believed. Who removes a file compares its sha256 as well.
    """
    try:
        return _listed(Manifest.from_json(text))
    except ManifestError:
        pass
    try:
        data = contents(text)
        shards = [shard for split in data["splits"].values() for shard in split["shards"]]
        found = {str(info["path"]): str(info["sha256"]) for info in (*shards, data["index"])}
    except (ManifestError, LookupError, TypeError, AttributeError):
        return {}
    return {name: sha256 for name, sha256 in found.items() if is_shard_name(name) or is_index_name(name)}


def _listed(manifest: Manifest) -> dict[str, str | None]:
    return {**dict.fromkeys(manifest.beside), **{info.path: info.sha256 for info in manifest.listed_files}}
