"""A dataset of images from the Hugging Face Hub, or a local folder of one: the only door to `datasets`.

`location` is a repository ("user/name") or a folder: a downloaded repository, what `save_to_disk` wrote, or anything
else that `load_dataset` reads. Options, all of them optional:

    config, data_dir   as in `load_dataset`
    splits             the names of the splits to take (all)
    image              the column of the pictures (the only one of type Image)
    label              the column of the labels ("label", or else the only one of type ClassLabel)
    streaming          read in order without downloading everything (False)

Pictures are read as the bytes of their files, so that the hash is the file's. Labels: class numbers keep the source's
names as they are; texts and bare numbers become classes in sorted order; None and negative numbers are no label; what
is no single label stays a further column. Further columns pass through with their types, but for media (pictures,
sound, video), which are left out; one that is named like a column of ours is renamed to "source_" and its name.

Ids: the paths of the pictures where all have one and rows can be had in any order; "<split>/<row>" otherwise.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstore.errors import BadImageError, LatentStoreError, RequestError, SourceError
from latentstore.image_decoding import DecodedImage, decode_image, image_size, read_picture
from latentstore.named_table import unknown_name
from latentstore.records import SkippedTile, Tile
from latentstore.sources.interface import OpenSource
from latentstore.sources.naming import check_options, printable, unique_ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from latentstore.sources.interface import Feature, SourceRow, SplitReader

OUR_COLUMNS = frozenset(
    {"id", "latent", "latent_std", "label", "height", "width", "source_path", "source_sha256", "source_bytes"}
    | {"latent_crc32"}
    | {
        "psnr",
        "ssim",
        "mae",
        "lpips",
        "lpips_vgg",
        "ssim_vaes4rs",
        "thumbnail",
        "split",
        "shard",
        "row",
        "tile_row",
        "tile_column",
        "view",
    }
)
"""Names that a further column of a source cannot keep."""

_OPTIONS = ("config", "data_dir", "splits", "image", "label", "streaming")
_MEDIA = frozenset({"Image", "Audio", "Video", "Pdf", "Mesh", "Nifti"})
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SNAPSHOT = re.compile(r"^.*/snapshots/([0-9a-f]{40})(?:/|$)")
_ROOTS = (
    _SNAPSHOT,
    re.compile(r"^hf://(?:datasets/)?[^/]+/[^/@]+(?:@[^/]+)?/"),
    re.compile(r"^.*/extracted/[0-9a-f]{40,64}/"),
)


def open_hub_images(row: SourceRow) -> OpenSource:
    """The images of the dataset `row.location`; see the top of this file for the options and rules."""
    check_options(row, _OPTIONS)
    with _without_progress_bars():
        loaded = _load(row)
        columns = _columns(row, loaded.splits)
        readers = _stream_splits(row, loaded, columns) if _streams(row) else _map_splits(row, loaded.splits, columns)
    return OpenSource(
        splits=readers,
        listing=_listing(readers),
        class_names=columns.class_names,
        features=columns.features,
        revision=loaded.commit or row.revision,
        notes=tuple(columns.notes),
    )


# What to read -------------------------------------------------------------------------------------------------------


def _listing(readers: Mapping[str, SplitReader]) -> str:
    """See ``OpenSource.listing``: the id of every picture, where they can be known; else how many there are."""
    digest = hashlib.sha256()
    for name, reader in readers.items():
        known = reader.ids if isinstance(reader, _MapSplit) else [str(len(reader))]
        digest.update("\0".join([name, *known, ""]).encode())
    return digest.hexdigest()


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """`datasets` draws no progress bars meanwhile; what the user or the environment has set is as before afterwards."""
    from datasets import config
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if config.HF_DATASETS_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _streams(row: SourceRow) -> bool:
    return bool(row.options.get("streaming", False))


@dataclass(frozen=True)
class _Loaded:
    """What `datasets` found."""

    splits: Mapping[str, Any]
    """The dataset of each wanted split."""
    lengths: Mapping[str, int]
    """How many rows each split is known or said to have; streams may lack it."""
    commit: str | None
    """What the Hub resolved, where that is known."""


def _load(row: SourceRow) -> _Loaded:
    folder = _local_folder(row.location)
    saved = folder and _saved_folder(folder, row)
    try:
        loaded = _from_disk(saved, row) if saved else _built(folder or row.location, row)
    except LatentStoreError:
        raise
    except Exception as error:
        raise _unreadable(row, folder, error) from error
    inside = _SNAPSHOT.match(os.path.realpath(folder)) if folder else None
    return replace(loaded, commit=inside[1]) if inside else loaded


def _local_folder(location: str) -> str:
    """The folder that is meant; empty for a repository on the Hub. Raises SourceError where it is neither."""
    folder = os.path.abspath(os.path.expanduser(location))  # noqa: PTH100, PTH111 - '..' may lead out of a link
    if location and Path(folder).is_dir():
        return folder
    if re.fullmatch(r"[\w.-]+/[\w.-]+", location) and not location.startswith("."):
        return ""
    raise SourceError(
        f"There is no folder {location!r}, and it is no name of a Hub repository either; expected 'user/name' or "
        f"an existing folder."
    )


def _saved_folder(folder: str, row: SourceRow) -> str:
    """The folder that `save_to_disk` wrote; empty where it did not."""
    inner = os.path.join(folder, row.options.get("data_dir") or "")  # noqa: PTH118
    marks = ("dataset_dict.json", "state.json")
    return inner if any(Path(inner, mark).is_file() for mark in marks) else ""


def _from_disk(folder: str, row: SourceRow) -> _Loaded:
    from datasets import DatasetDict, load_from_disk

    loaded = load_from_disk(folder)
    splits = dict(loaded) if isinstance(loaded, DatasetDict) else {str(loaded.split or "train"): loaded}
    chosen = {name: splits[name].with_format(None) for name in _wanted(row, list(splits))}
    lengths = {name: len(dataset) for name, dataset in chosen.items()}
    if _streams(row):
        chosen = {name: _raw(dataset.to_iterable_dataset()) for name, dataset in chosen.items()}
    return _Loaded(chosen, lengths, None)


def _built(location: str, row: SourceRow) -> _Loaded:
    from datasets import DownloadConfig, load_dataset_builder

    builder = load_dataset_builder(
        location,
        name=row.options.get("config"),
        data_dir=row.options.get("data_dir"),
        revision=row.revision,
        download_config=DownloadConfig(disable_tqdm=True),
    )
    if _streams(row):
        splits = builder.as_streaming_dataset()
    else:
        builder.download_and_prepare()
        splits = builder.as_dataset()
    # datasets names the builder of a repository by the commit, that of a folder by a shorter hash
    commit = builder.hash if _COMMIT.fullmatch(str(builder.hash)) else None
    chosen = {name: splits[name] for name in _wanted(row, [str(name) for name in splits])}
    if _streams(row):
        chosen = {name: _raw(dataset) for name, dataset in chosen.items()}
    said = builder.info.splits or {}
    lengths = {name: said[name].num_examples for name in chosen if name in said and said[name].num_examples}
    return _Loaded(chosen, lengths, commit)


def _raw(stream: Any) -> Any:
    """The stream with its types known and no media decoded: `datasets` decodes even the columns that are dropped."""
    known = stream if stream.features else stream._resolve_features()  # noqa: SLF001 - there is no public way
    return known.decode(enable=False)


def _wanted(row: SourceRow, known: list[str]) -> list[str]:
    """The splits to read; raises UnknownNameError for one that is not there."""
    asked = row.options.get("splits")
    if asked is None:
        return known
    names = [asked] if isinstance(asked, str) else list(asked)
    for name in names:
        if name not in known:
            raise unknown_name(f"split in {row.location!r}", name, known)
    return names


def _unreadable(row: SourceRow, folder: str, error: Exception) -> LatentStoreError:
    """The error of `datasets` as one sentence of ours."""
    text = _line(error)
    config = row.options.get("config")
    if match := re.search(r"not found\. Available: \[(.*)\]", text):
        return unknown_name(f"config in {row.location!r}", str(config), re.findall(r"'([^']*)'", match[1]))
    if "Config name is missing" in text:
        names = ", ".join(re.findall(r"'([^']*)'", str(error).partition("available configs:")[2])) or text
        ask = "choose one with the source option config=NAME"
        return SourceError(f"{row.location!r} has several configs; {ask}, of: {names}.")
    if folder:
        return SourceError(f"The folder {row.location!r} holds no dataset that can be read: {text}.")
    if isinstance(error, ConnectionError):
        return SourceError(
            f"The Hub cannot be reached for {row.location!r}, which is neither in the local cache nor a folder here: "
            f"{text}; try again with a connection, or give the folder it was downloaded to."
        )
    return SourceError(
        f"There is no folder {row.location!r}, and it cannot be read from the Hub: {text}; check the name, and log "
        f"in with `hf auth login` if it is private."
    )


def _line(error: Exception) -> str:
    """The first line of the error (of what caused it, where `datasets` hides that), without its full stop."""
    if "occurred while generating" in str(error) and isinstance(error.__cause__, Exception):
        return _line(error.__cause__)
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


# Which columns ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """What each column of the source is to us."""

    image: str
    label: str | None
    further: Mapping[str, str]
    """Our name of each column that passes through, by the source's name."""
    features: Mapping[str, Feature]
    """The types of the further columns, by our name."""
    class_names: tuple[str, ...] | None = None
    classes: Mapping[Any, int] | None = None
    """Index of each label where the source has none of its own; None where its numbers are the index."""
    notes: list[str] = field(default_factory=list)

    def index(self, value: Any) -> int | None:
        """The class of a label as the source holds it; None where there is none."""
        if value is None or self.class_names is None:
            return None
        if self.classes is not None:
            return self.classes.get(value)
        return int(value) if value >= 0 else None


def _columns(row: SourceRow, splits: Mapping[str, Any]) -> _Columns:
    types = _types(row, splits)
    image = _image_column(row, types)
    label = _label_column(row, types)
    notes: list[str] = []
    class_names, classes = _classes(row, splits, types, label, notes)
    if class_names is None:
        label = None
    dropped = [name for name, type_ in types.items() if name != image and _kinds(type_) & _MEDIA]
    if dropped:
        notes.append(f"columns left out, because they hold media: {', '.join(dropped)}")
    kept = [name for name in types if name not in {image, label, *dropped}]
    further = _renamed(kept, notes)
    features = {ours: types[name] for name, ours in further.items()}
    return _Columns(image, label, further, features, class_names, classes, notes)


def _types(row: SourceRow, splits: Mapping[str, Any]) -> dict[str, Any]:
    """The type of each column in the words of `datasets`; raises SourceError where the splits differ."""
    from datasets import Features

    found: dict[str, Any] = {}
    first = ""
    for name, dataset in splits.items():
        types = Features(dataset.features).to_dict()
        if first and types != found:
            raise SourceError(
                f"The splits {first!r} and {name!r} of {row.location!r} have different columns: {_listed(found)} "
                f"against {_listed(types)}; take those that agree with the source option splits=NAME."
            )
        found, first = types, name
    return found


def _kinds(type_: Any) -> set[str]:
    """The names of all types within a type."""
    if isinstance(type_, list):
        return set().union(*map(_kinds, type_))
    if not isinstance(type_, dict):
        return set()
    own = {type_["_type"]} if isinstance(type_.get("_type"), str) else set()
    return own.union(*map(_kinds, type_.values()))


def _listed(types: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({_told(type_)})" for name, type_ in types.items())


def _told(type_: Any) -> str:
    """A type in a word or two."""
    if not isinstance(type_, dict) or not isinstance(type_.get("_type"), str):
        return "struct" if isinstance(type_, dict) else "list"
    return str(type_.get("dtype") if type_["_type"] == "Value" else type_["_type"])


def _image_column(row: SourceRow, types: Mapping[str, Any]) -> str:
    images = [name for name, type_ in types.items() if isinstance(type_, dict) and type_.get("_type") == "Image"]
    asked = row.options.get("image")
    if asked is not None:
        if asked not in types:
            raise unknown_name(f"column in {row.location!r}", asked, types)
        if asked not in images and _told(types[asked]) not in {"binary", "large_binary", "list", "List", "Array3D"}:
            raise SourceError(f"The column {asked!r} of {row.location!r} holds no images but {_told(types[asked])}.")
        return str(asked)
    if not images:
        raise SourceError(
            f"{row.location!r} has no column of type Image; its columns are: {_listed(types)}; if one of them holds "
            f"images, name it with the source option image=NAME."
        )
    if len(images) > 1:
        listed = ", ".join(images)
        raise SourceError(f"{row.location!r} has several columns of images, {listed}; choose with image=NAME.")
    return images[0]


def _label_column(row: SourceRow, types: Mapping[str, Any]) -> str | None:
    asked = row.options.get("label")
    if asked is not None:
        if asked not in types:
            raise unknown_name(f"column in {row.location!r}", asked, types)
        return str(asked)
    if "label" in types:
        return "label"
    named = [name for name, type_ in types.items() if _told(type_) == "ClassLabel"]
    return named[0] if len(named) == 1 else None


def _classes(
    row: SourceRow, splits: Mapping[str, Any], types: Mapping[str, Any], label: str | None, notes: list[str]
) -> tuple[tuple[str, ...] | None, dict[Any, int] | None]:
    """The names of the classes, and the index of each label where the source has no index of its own."""
    if label is None:
        return None, None
    kind = _told(types[label])
    if kind == "ClassLabel":
        return tuple(types[label]["names"]), None
    numbers = re.fullmatch(r"u?int\d+", kind)
    if not numbers and kind not in {"string", "large_string"}:
        notes.append(f"column {label!r} is no single label but {kind}, so it is a further column")
        return None, None
    held = _values(row, splits, label) - {None}
    values = sorted(value for value in held if not numbers or value >= 0)
    if numbers:
        notes.append(f"column {label!r} of {row.location!r} holds numbers without names, so the numbers are the names")
    return tuple(str(value) for value in values), {value: index for index, value in enumerate(values)}


def _values(row: SourceRow, splits: Mapping[str, Any], column: str) -> set[Any]:
    """Every value of the column in all splits; a stream is read once for it, without the other columns."""
    found: set[Any] = set()
    for dataset in splits.values():
        if hasattr(dataset, "unique"):
            found.update(dataset.unique(column))
        else:
            found.update(example[column] for example in _rows(dataset.select_columns([column]), row.location))
    return found


def _renamed(names: list[str], notes: list[str]) -> dict[str, str]:
    """Our name of each further column."""
    ours: dict[str, str] = {}
    for name in names:
        new = name
        while new in OUR_COLUMNS or (new != name and new in names):
            new = f"source_{new}"
        if new != name:
            notes.append(f"column {name!r} is called {new!r} here, because {name!r} is one of our own columns")
        ours[name] = new
    return ours


# Where a picture lies -----------------------------------------------------------------------------------------------


def _relative(path: str, location: str) -> str:
    """The path inside the source: below the local folder, the snapshot or the repository; else the base name."""
    inner = path.partition("::")[0].partition("://")[2] if "::" in path else path
    folder = os.path.abspath(os.path.expanduser(location))  # noqa: PTH100, PTH111
    for base in (folder, os.path.realpath(folder)):
        if inner.startswith(base + os.sep):
            return inner[len(base) + 1 :].replace(os.sep, "/")
    for root in _ROOTS:
        if match := root.match(inner):
            return inner[match.end() :]
    outside = inner.startswith("/") or "://" in inner or ".." in inner.split("/")
    return posixpath.basename(inner) if outside else posixpath.normpath(inner)


def _ids(row: SourceRow, paths: Sequence[str]) -> list[str]:
    """An id for each picture of a source whose pictures all have a path."""
    prefix = str(row.options.get("data_dir") or "").strip("/") + "/"
    return unique_ids([printable(path).removeprefix(prefix) for path in paths])


def _numbered(split: str, row: int) -> str:
    return f"{split}/{row:08d}"


# From a row to a tile -----------------------------------------------------------------------------------------------


def _tile(example: Mapping[str, Any], columns: _Columns, name: str, path: str) -> Tile | SkippedTile:
    """The tile of one row; a fault of the picture is a SkippedTile, a lost connection an error."""
    try:
        content = _content(example[columns.image])
        decoded = decode_image(content) if isinstance(content, bytes) else _from_array(content)
    except BadImageError as error:
        return SkippedTile(name, path, str(error))
    held = content if isinstance(content, bytes) else decoded.pixels.tobytes()
    return Tile(
        id=name,
        pixels=decoded.pixels,
        label=columns.index(example[columns.label]) if columns.label else None,
        source_path=path,
        source_sha256=hashlib.sha256(held).hexdigest(),
        source_bytes=len(held) if isinstance(content, bytes) else 0,
        metadata={ours: example[theirs] for theirs, ours in columns.further.items()},
        conversions=decoded.conversions,
    )


def _content(value: Any) -> bytes | NDArray[np.generic]:
    """The bytes of the picture's file, or its pixels where the source holds no file."""
    import numpy as np

    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else _file(value.get("path"))
    if value is None:
        raise BadImageError("there is no image in this row")
    return value if isinstance(value, bytes) else np.asarray(value)


def _file(path: str | None) -> bytes | None:
    if path is None:
        return None
    if "://" not in path:
        return read_picture(path)
    from datasets.utils.file_utils import xopen

    try:
        with xopen(path, "rb") as file:
            return bytes(file.read())
    except Exception as error:
        raise SourceError(f"The picture {path} cannot be fetched: {error}; run the same command again.") from error


def _from_array(values: NDArray[np.generic]) -> DecodedImage:
    """Pixels that the source holds as numbers: (H, W), (H, W, 1), (H, W, 3) or (3, H, W), whole, 0..255."""
    import numpy as np

    steps: list[str] = []
    if values.ndim == 3 and values.shape[0] == 3 and values.shape[2] != 3:
        values = values.transpose(1, 2, 0)
        steps.append("channels first to last")
    if values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 1):
        values = np.repeat(values.reshape(*values.shape[:2], 1), 3, axis=2)
        steps.append("grey to RGB")
    if values.ndim != 3 or values.shape[2] != 3 or values.size == 0:
        raise BadImageError(f"numbers of shape {values.shape} are no picture")
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise BadImageError(f"{values.dtype} numbers that are not whole and 0..255")
    return DecodedImage(np.ascontiguousarray(values, dtype=np.uint8), tuple(steps))


def _size(value: Any) -> tuple[int, int] | None:
    """(height, width) of the picture in one row, from its header; None where it is unreadable."""
    if isinstance(value, dict) and value.get("bytes") is None and "://" not in (value.get("path") or "://"):
        return image_size(value["path"])
    try:
        content = _content(value)
        if isinstance(content, bytes):
            return image_size(content)
        height, width = _from_array(content).pixels.shape[:2]
    except BadImageError:
        return None
    return height, width


# Splits -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _MapSplit:
    """A split whose rows can be had in any order."""

    dataset: Any
    columns: _Columns
    ids: Sequence[str]
    paths: Sequence[str]
    random_access: bool = True

    def __len__(self) -> int:
        return len(self.ids)

    def names(self) -> Sequence[str]:
        return self.paths

    def sizes(self) -> Iterator[tuple[int, int] | None]:
        images = self.dataset.select_columns([self.columns.image])
        return (_size(images[row][self.columns.image]) for row in range(len(images)))

    def read(self, rows: Sequence[int]) -> Iterator[Tile | SkippedTile]:
        return (_tile(self.dataset[int(row)], self.columns, self.ids[row], self.paths[row]) for row in rows)


def _map_splits(row: SourceRow, splits: Mapping[str, Any], columns: _Columns) -> dict[str, SplitReader]:
    datasets = {name: _as_files(dataset, columns) for name, dataset in splits.items()}
    paths = {name: _paths(dataset, columns.image, row.location) for name, dataset in datasets.items()}
    together = [path for members in paths.values() for path in members]
    ids = iter(_ids(row, [path for path in together if path])) if all(together) else None
    readers: dict[str, SplitReader] = {}
    for name, dataset in datasets.items():
        numbered = [_numbered(name, number) for number in range(len(dataset))]
        own = [next(ids) for _ in numbered] if ids else numbered
        known = [printable(path or number) for path, number in zip(paths[name], numbered, strict=True)]
        readers[name] = _MapSplit(dataset, columns, own, known)
    return readers


def _as_files(dataset: Any, columns: _Columns) -> Any:
    """The dataset with the columns we use, pictures as the bytes of their files."""
    from datasets import Image

    used = [columns.image, *([columns.label] if columns.label else []), *columns.further]
    dataset = dataset.select_columns(used)
    if isinstance(dataset.features[columns.image], Image):
        return dataset.cast_column(columns.image, Image(decode=False))
    return dataset


def _paths(dataset: Any, image: str, location: str) -> list[str | None]:
    """The path inside the source of each picture, without touching the pictures; None where there is none."""
    from datasets import Image

    if not isinstance(dataset.features[image], Image):
        return [None] * len(dataset)
    paths = dataset.select_columns([image]).flatten()[f"{image}.path"][:]
    return [_relative(path, location) if path else None for path in paths]


@dataclass
class _StreamSplit:
    """A split that is read from its beginning; a read that goes on where the last one ended costs nothing extra."""

    name: str
    dataset: Any
    columns: _Columns
    location: str
    length: int
    random_access: bool = False
    _open_end: tuple[int, Iterator[Any]] | None = None
    """The next row and what is left of the stream after the last read."""

    def __len__(self) -> int:
        return self.length

    def sizes(self) -> Iterator[tuple[int, int] | None]:
        raise LookupError(f"the sizes of the images of {self.location!r} are only known after reading the stream")

    def read(self, rows: Sequence[int]) -> Iterator[Tile | SkippedTile]:
        rows = [int(row) for row in rows]
        if any(later <= earlier for earlier, later in pairwise(rows)):
            raise RequestError(f"{self.location!r} is streamed, so its rows can only be read in ascending order.")
        return self._tiles(rows)

    def _tiles(self, rows: Sequence[int]) -> Iterator[Tile | SkippedTile]:
        # taken, not shared: two reads at once must not pull from one stream
        (position, examples), self._open_end = self._open_end or (0, _rows(self.dataset, self.location)), None
        if rows and rows[0] < position:
            position, examples = 0, _rows(self.dataset, self.location)
        for row in rows:
            for _ in range(row - position):
                next(examples, None)
            example = next(examples, None)
            if example is None:
                raise self._wrong_length(f"ended before row {row:,}")
            position = row + 1
            if position == self.length and next(examples, None) is not None:
                raise self._wrong_length("holds more")
            yield _tile(example, self.columns, _numbered(self.name, row), self._path(example, row))
        self._open_end = (position, examples)

    def _wrong_length(self, found: str) -> SourceError:
        return SourceError(
            f"The split {self.name!r} of {self.location!r} says that it holds {self.length:,} images, but it {found}; "
            f"read it without streaming."
        )

    def _path(self, example: Mapping[str, Any], row: int) -> str:
        value = example[self.columns.image]
        path = value.get("path") if isinstance(value, dict) else None
        return printable(_relative(path, self.location)) if path else _numbered(self.name, row)


def _stream_splits(row: SourceRow, loaded: _Loaded, columns: _Columns) -> dict[str, SplitReader]:
    readers: dict[str, SplitReader] = {}
    for name, dataset in loaded.splits.items():
        length = loaded.lengths.get(name)
        if not length:
            length = sum(1 for _ in _rows(dataset.remove_columns([columns.image]), row.location))
        readers[name] = _StreamSplit(name, _as_files(dataset, columns), columns, row.location, length)
    return readers


def _rows(dataset: Any, location: str) -> Iterator[Any]:
    """The rows of a stream; what goes wrong in `datasets` on the way becomes one sentence."""
    try:
        yield from dataset
    except Exception as error:
        raise SourceError(
            f"The stream of {location!r} broke off: {_line(error)}; run the same command again, or read it without "
            f"streaming."
        ) from error
