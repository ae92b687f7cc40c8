"""The manifest: the contract of one config, written last, so that its presence means the dataset is complete.

``Manifest.read`` parses at the edge into frozen dataclasses and checks that the parts agree; everything behind it can
rely on what it says. FORMAT.md specifies every field.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from latentstore.containers.interface import ShardSchema
from latentstore.errors import ManifestError, NotSealedError, RequestError, UnsupportedVersionError
from latentstore.json_records import ONLY_WHERE_SET, parse, plain
from latentstore.normalisation import Normalisation
from latentstore.pixels import VIEW_FEATURES, Preparation
from latentstore.quality import MetricSummary
from latentstore.views import view_rows

FORMAT_VERSION = "1.0"
FILE_NAME = "manifest.json"
STORED_DTYPES = ("float16", "float32", "uint8")
REACH = 127
"""Steps to either side of zero (see storage/int8)."""
ROUNDED = 1e-6
"""Relative: how far a multiple of a float32 number may be from the exact one, in float32."""
FLOAT32 = (2.0**-126, (2 - 2.0**-23) * 2.0**127)
"""Smallest and largest float32 above zero, but for those of less precision."""
SHARD_NAME = re.compile(r"\w[\w.-]*")
SPLIT_NAME = re.compile(r"\w+(\.\w+)*")


@dataclass(frozen=True)
class SourceInfo:
    """Where the pictures came from."""

    name: str
    location: str
    revision: str | None
    images: Mapping[str, int]
    """Pictures found in each split, usable or not."""
    classes: tuple[str, ...] | None
    """Class names in label order; null where the source has none."""
    licence: str | None
    citation: str
    homepage: str
    options: Mapping[str, Any] = field(default_factory=dict)
    reader: str = ""
    notes: tuple[str, ...] = ()
    ingest: tuple[str, ...] = ()
    """What was found against what the publisher states."""


@dataclass(frozen=True)
class VaeInfo:
    """Which VAE made the latents."""

    name: str
    class_name: str
    repo: str | None
    subfolder: str
    revision: str | None
    weights_sha256: str | None
    stride: int
    channels: int
    licence: str


@dataclass(frozen=True)
class CandidateInfo:
    """One storage as it did on the calibration sample."""

    storage: str
    step_sigma: float | None
    """Step as a multiple of each channel's standard deviation; null for floats."""
    bits_per_pixel: float
    """Order-0 entropy of the sample's stored numbers, a true pixel."""
    loss_db: float
    """Mean over the sample's pictures of the PSNR lost against unrounded latents."""
    loss_error_db: float
    """Standard error of that mean."""
    clipped: int
    """Numbers beyond 127 steps."""


@dataclass(frozen=True)
class CalibrationInfo:
    """What the choice of storage and steps rests on."""

    pictures: int
    seed: int
    std: tuple[float, ...]
    """Of each channel of the sample's raw latents; the steps are multiples of it."""
    widened: tuple[int, ...]
    """Channels whose step was made larger because clipping alone cost more than their share of the budget."""
    candidates: tuple[CandidateInfo, ...]


@dataclass(frozen=True)
class ConversionInfo:
    """One conversion that a dataset went through, from these numbers to the next."""

    storage: str
    container: str
    layout: str
    lossless: bool
    """Whether every raw latent stayed the same to the last bit."""
    measured: bool
    """Whether the quality in the manifest is that of the numbers after this step."""
    quality_before: Mapping[str, float | None] = field(default_factory=dict)
    """Mean of each metric before it."""
    manifest_sha256: str = ""
    """Of the manifest.json before it: which dataset this one was made from."""


@dataclass(frozen=True)
class StorageInfo:
    """How the numbers are stored."""

    name: str
    dtype: str
    container: str
    layout: str
    steps: tuple[float, ...] | None = None
    """One quantisation step a channel; null for floats."""
    step_sigma: float | None = None
    """The steps as a multiple of each channel's standard deviation; null for floats."""
    budget_db: float | None = None
    """PSNR that storing was allowed to cost; null where none was set."""
    measured_loss_db: float | None = None
    """Mean over all pictures of the PSNR lost against unrounded latents; null where it was not measured."""
    clipped: tuple[int, ...] | None = None
    """Numbers of each channel beyond 127 steps; null for floats."""
    calibration: CalibrationInfo | None = None
    converted: tuple[ConversionInfo, ...] = ()
    """What the dataset was before, oldest first; empty where it lies as it was built."""


@dataclass(frozen=True)
class ChannelNumbers:
    """Statistics of the raw latents of one split as stored, one number a channel."""

    count: int
    """Values a channel."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]


@dataclass(frozen=True)
class ShardInfo:
    """One shard file."""

    path: str
    """Relative to the config's folder."""
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitInfo:
    """One split."""

    rows: int
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True)
class SizeLedger:
    """What it takes to keep the same pictures in different forms; every ratio names its baseline."""

    pixels: int
    """True pixels of all rows."""
    raw_rgb_bytes: int
    """3 bytes a pixel; a picture or tile that is stored in several views counts once."""
    source_bytes: int | None
    """The source's own files, each counted once; null where there are none."""
    payload_bytes: int
    """Stored numbers before compression."""
    entropy_bytes: int
    """Order-0 entropy of the stored numbers, per channel, byte place and shard: what a coder that sees one number at a
    time could reach."""
    stored_bytes: int
    """All shards."""
    bits_per_pixel: float
    """Stored bits for each of ``pixels``."""
    raw_rgb_over_stored: float
    """Above 1: smaller than raw RGB."""
    source_over_stored: float | None
    """Above 1: smaller than the source files; below 1: larger."""
    thumbnail_bytes: int = field(default=0, metadata=ONLY_WHERE_SET)
    """Of all thumbnails, each as the WebP file it is; they are part of ``stored_bytes``, and of every ratio to it."""


@dataclass(frozen=True)
class DuplicateGroup:
    """Pictures with the same bytes."""

    sha256: str
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    """Of each of them."""


@dataclass(frozen=True)
class Duplicates:
    """Pictures of the source that are byte for byte the same."""

    groups: int = 0
    """Sets of equal pictures."""
    pictures: int = 0
    """Pictures in them."""
    across_splits: int = 0
    """Sets with pictures in more than one split: what is tested on was trained on."""
    across_classes: int = 0
    """Sets whose pictures have different labels."""
    examples: tuple[DuplicateGroup, ...] = ()
    """Up to ten sets, those across splits first."""


@dataclass(frozen=True)
class Environment:
    """What computed it."""

    device: str
    dtype: str
    versions: Mapping[str, str]
    memory_format: str = "contiguous"
    """Of the VAE's weights: ``contiguous`` or ``channels_last``; kernels of the two round differently."""


@dataclass(frozen=True)
class SkippedInfo:
    """A picture that is not in the dataset, and why."""

    id: str
    source_path: str
    reason: str
    split: str
    position: int
    """Its place in the planned order of its split."""


@dataclass(frozen=True)
class RetriedInfo:
    """A picture whose latent was not finite in the dtype of the build, and was computed in float32."""

    id: str
    split: str
    position: int
    """Its place in the planned order of its split."""


@dataclass(frozen=True)
class HalvedInfo:
    """A batch that was too large for the memory there was, and was computed in parts."""

    split: str
    start: int
    """Its first place in the planned order of its split."""
    stop: int
    """The place after its last one."""
    rows_at_once: int
    stage: str
    """``encode`` or ``decode``."""


@dataclass(frozen=True)
class AppendInfo:
    """Pictures that were added to a sealed dataset, as shards of their own."""

    pictures: Mapping[str, int]
    """Added to each split, usable or not; splits without any are left out."""
    rows: Mapping[str, int]
    """Planned rows that they are, those of skipped pictures included."""
    manifest_sha256: str
    """Of the manifest.json before it: which dataset was added to."""
    versions: Mapping[str, str]
    """What computed the added rows, as in ``Environment``."""


@dataclass(frozen=True)
class BuildInfo:
    """How it was built."""

    order: str
    """``shuffled`` or ``source``."""
    seed: int
    batch_size: int
    rows_per_shard: int
    plan: Mapping[str, Any]
    """What must agree for a re-run to be the same build."""
    skipped: tuple[SkippedInfo, ...] = ()
    duplicates: Duplicates = field(default_factory=Duplicates)
    conversions: Mapping[str, int] = field(default_factory=dict)
    """How many pictures needed which conversion to become 8-bit RGB."""
    retried: tuple[RetriedInfo, ...] = field(default=(), metadata=ONLY_WHERE_SET)
    """Pictures that are not in the dtype of the others."""
    halved: tuple[HalvedInfo, ...] = field(default=(), metadata=ONLY_WHERE_SET)
    """Batches that are not as large as planned."""
    appended: tuple[AppendInfo, ...] = field(default=(), metadata=ONLY_WHERE_SET)
    """What was added since the first build, oldest first."""


@dataclass(frozen=True)
class Manifest:
    """The contract of one config."""

    format_version: str
    config: str
    latent_shape: tuple[int, int, int]
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
    thumbnail: int = field(default=0, metadata=ONLY_WHERE_SET)
    """Longest side of the thumbnails in pixels (a smaller picture keeps its size); 0: there is no such column."""
    digest: str = field(default="", compare=False)
    """sha256 of the manifest's own text with this empty; empty until it is written."""

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(split.rows for split in self.splits.values())

    def planned_rows(self, split: str) -> int:
        """Rows that a split was planned to have: those it has, and one for each that was skipped."""
        return self.splits[split].rows + sum(entry.split == split for entry in self.build.skipped)

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
            text = path.read_bytes().decode("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise NotSealedError(f"{folder} has no {FILE_NAME}, so it is not a complete latent dataset.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(f"{path} cannot be read ({error})") from error
        return cls.from_file(text, str(path))

    @classmethod
    def from_file(cls, text: str, where: str) -> Manifest:
        """The manifest in the text of a file, which must be as it was written; ``where`` names it in errors."""
        manifest = cls.from_json(text)
        if not manifest.digest or _digest_of(text, manifest.digest) != manifest.digest:
            message = f"is not that of {where}: the file was changed after it was written"
            raise ManifestError(message, field="digest")
        return manifest

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest in this JSON text, checked."""
        try:
            data = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits
            raise ManifestError(f"is not JSON ({error})") from error
        _check_version(data)
        manifest = parse(cls, data)
        manifest.validate()
        return manifest

    def to_json(self) -> str:
        """JSON text, the same for the same manifest; it ends with its own digest."""
        return with_digest(plain(self))

    def write(self, folder: Path) -> Manifest:
        """Check it, put it into the config folder in one atomic step, and give it back with its digest."""
        self.validate()
        path, text = folder / FILE_NAME, self.to_json()
        partial = folder / f".{FILE_NAME}.partial"
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        return replace(self, digest=json.loads(text)["digest"])

    def validate(self) -> None:
        """Raise ManifestError, naming the field, unless the parts agree with each other."""
        channels, height, width = self.latent_shape
        if min(channels, height, width) < 1:
            raise ManifestError(f"expected three sizes above zero, found {self.latent_shape}", field="latent_shape")
        if channels != self.vae.channels:
            message = f"expected the {channels} channels of latent_shape, found {self.vae.channels}"
            raise ManifestError(message, field="vae.channels")
        _check_normalisation(self)
        if set(self.statistics) != set(self.splits):
            raise ManifestError(f"expected the splits {sorted(self.splits)}", field="statistics")
        if set(self.quality) != set(self.metrics):
            raise ManifestError(f"expected the metrics {sorted(self.metrics)}", field="quality")
        _check_names(self)
        seen: set[str] = set()
        for name, split in self.splits.items():
            _check_split(name, split, seen)
        for name, numbers in self.statistics.items():
            if {len(numbers.mean), len(numbers.std), len(numbers.minimum), len(numbers.maximum)} != {channels}:
                raise ManifestError(f"expected {channels} numbers each", field=f"statistics.{name}")
        _check_multiples(self)
        _check_views(self)
        _check_appended(self)
        stored = sum(shard.bytes for split in self.splits.values() for shard in split.shards)
        if stored != self.size.stored_bytes:
            message = f"expected the {stored} bytes of all shards, found {self.size.stored_bytes}"
            raise ManifestError(message, field="size.stored_bytes")
        _check_thumbnails(self)
        if self.index.rows != self.rows:
            message = f"expected the {self.rows} rows of all splits, found {self.index.rows}"
            raise ManifestError(message, field="index.rows")


def _check_views(manifest: Manifest) -> None:
    """Views are known, have their column, and all give the one latent shape."""
    names = manifest.preparation.views
    _, height, width = manifest.latent_shape
    try:
        swapping = [row.name for row in view_rows(names) if row.swaps]
    except RequestError as error:
        raise ManifestError(str(error), field="preparation.views") from None
    if swapping and height != width:
        message = f"expected a square latent_shape for {', '.join(swapping)}, found {height}x{width}"
        raise ManifestError(message, field="preparation.views")
    if names and manifest.columns.get("view") != VIEW_FEATURES["view"]:
        raise ManifestError("expected a column 'view' of strings, because there are views", field="columns")


def _check_thumbnails(manifest: Manifest) -> None:
    """There are bytes of thumbnails where there are thumbnails; of equal pictures, shards may keep them only once."""
    found = manifest.size.thumbnail_bytes
    if manifest.thumbnail < 0:
        raise ManifestError(f"expected a length in pixels, or 0, found {manifest.thumbnail}", field="thumbnail")
    if found < 0 or (found > 0) != (manifest.thumbnail > 0 and manifest.rows > 0):
        wanted = "1 byte or more" if manifest.thumbnail and manifest.rows else "0, as there are no thumbnails"
        raise ManifestError(f"expected {wanted}, found {found}", field="size.thumbnail_bytes")


def _check_appended(manifest: Manifest) -> None:
    """What was added is a part of what there is."""
    left = {split: manifest.planned_rows(split) for split in manifest.splits}
    for place, entry in enumerate(manifest.build.appended):
        for split, rows in entry.rows.items():
            left[split] = left.get(split, 0) - rows
            if rows < 1 or left[split] < 0:
                message = f"expected 1 or more of the rows that split {split!r} was planned with, found {rows}"
                raise ManifestError(message, field=f"build.appended[{place}].rows")


def with_digest(data: Mapping[str, Any]) -> str:
    """The text of a manifest with this content, ended by its digest."""
    digest = hashlib.sha256(_text({**data, "digest": ""}).encode()).hexdigest()
    return _text({**data, "digest": digest})


def _text(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _digest_of(text: str, stated: str) -> str:
    """The digest that a manifest of this text should state, which states this one."""
    before, between, after = text.rpartition(f'"digest": "{stated}"')
    return hashlib.sha256(f'{before}"digest": ""{after}'.encode()).hexdigest() if between else ""


def _check_version(data: object) -> None:
    found = data.get("format_version") if isinstance(data, Mapping) else None
    if not isinstance(found, str) or not re.fullmatch(r"\d+\.\d+", found):
        raise ManifestError(f"expected a version such as {FORMAT_VERSION!r}, found {found!r}", field="format_version")
    major, minor = (int(part) for part in found.split("."))
    own_major, own_minor = (int(part) for part in FORMAT_VERSION.split("."))
    if major != own_major:
        message = (
            f"this latentstore reads format {own_major}.x, the dataset is written in {found}; "
            "install a matching version with: pip install --upgrade latentstore"
        )
        raise UnsupportedVersionError(message, field="format_version")
    if minor > own_minor:
        text = (
            f"The dataset is written in format {found}, newer than {FORMAT_VERSION}: fields unknown here are ignored."
        )
        warnings.warn(text, stacklevel=4)


def _check_normalisation(manifest: Manifest) -> None:
    channels, height, width = manifest.latent_shape
    try:
        manifest.normalisation.validate(channels)
    except ManifestError as error:
        raise error.inside("normalisation") from None
    patch = manifest.normalisation.patch
    if height % patch or width % patch:
        message = f"expected a number that divides the {height}x{width} cells of latent_shape, found {patch}"
        raise ManifestError(message, field="normalisation.patch")


def _check_names(manifest: Manifest) -> None:
    dtype = manifest.storage.dtype
    if dtype not in STORED_DTYPES:
        raise ManifestError(f"expected one of {', '.join(STORED_DTYPES)}, found {dtype!r}", field="storage.dtype")
    _check_steps(manifest.storage, manifest.latent_shape[0])
    name = manifest.schema.repeated_name
    if name is not None:
        where = "metrics" if name in manifest.metrics else "columns"
        raise ManifestError(f"expected columns of different names, found {name!r} twice", field=where)


def _check_steps(storage: StorageInfo, channels: int) -> None:
    for name in ("steps", "clipped"):
        numbers = getattr(storage, name)
        if (numbers is not None) != (storage.dtype == "uint8") or (numbers is not None and len(numbers) != channels):
            wanted = f"{channels} numbers" if storage.dtype == "uint8" else "null for floats"
            raise ManifestError(f"expected {wanted}, found {plain(numbers)!r}", field=f"storage.{name}")
    if storage.steps is not None and min(storage.steps) <= 0:
        raise ManifestError(f"expected steps above zero, found {min(storage.steps)}", field="storage.steps")
    beyond = [step for step in storage.steps or () if not FLOAT32[0] <= step <= FLOAT32[1]]
    if beyond:
        raise ManifestError(f"expected steps that float32 holds, found {beyond[0]}", field="storage.steps")


def _check_multiples(manifest: Manifest) -> None:
    """The smallest and largest stored numbers are whole multiples of their channel's step, or the steps are others."""
    if manifest.storage.steps is None:
        return
    for split, found in manifest.statistics.items():
        for channel, step in enumerate(manifest.storage.steps if found.count else ()):
            edges = {"minimum": found.minimum[channel], "maximum": found.maximum[channel]}
            wrong = [name for name, number in edges.items() if not _is_multiple(number, step)]
            if len(wrong) == 1:
                message = f"expected a multiple of storage.steps[{channel}] of up to {REACH} steps, found"
                field = f"statistics.{split}.{wrong[0]}[{channel}]"
                raise ManifestError(f"{message} {edges[wrong[0]]}", field=field)
            if wrong:
                message = f"expected a step of which statistics.{split} has multiples of up to {REACH}, found {step}"
                raise ManifestError(message, field=f"storage.steps[{channel}]")


def _is_multiple(number: float, step: float) -> bool:
    multiple = min(max(number / step, -2 * REACH), 2 * REACH)
    return abs(round(multiple)) <= REACH and abs(number - round(multiple) * step) <= ROUNDED * abs(number)


def _check_split(name: str, split: SplitInfo, seen: set[str]) -> None:
    where = f"splits.{name}"
    if not SPLIT_NAME.fullmatch(name):
        raise ManifestError("expected a name of letters, digits and underscores", field=where)
    if split.rows != sum(shard.rows for shard in split.shards):
        raise ManifestError(f"expected the {split.rows} rows its shards add up to", field=f"{where}.rows")
    for index, shard in enumerate(split.shards):
        if not SHARD_NAME.fullmatch(shard.path):
            message = f"expected a file name inside the config's folder, found {shard.path!r}"
            raise ManifestError(message, field=f"{where}.shards[{index}].path")
        if shard.path in seen or not re.fullmatch(r"[0-9a-f]{64}", shard.sha256) or min(shard.rows, shard.bytes) < 0:
            raise ManifestError(
                f"expected a new path, a sha256 and sizes, found {shard}", field=f"{where}.shards[{index}]"
            )
        seen.add(shard.path)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ManifestError(f"is not JSON (the number {digits} is beyond what a float can hold)")
    return number


def _refuse_constant(name: str) -> None:
    raise ManifestError(f"is not JSON (the number {name} is not allowed)")
