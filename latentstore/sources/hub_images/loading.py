"""What `datasets` finds at a location: splits, their lengths and the commit; or why it finds none."""

from __future__ import annotations

import json
import os
import posixpath
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstore.errors import LatentStoreError, SourceError
from latentstore.named_table import unknown_name
from latentstore.sources.hub_images.own_files import OwnFiles
from latentstore.sources.hub_images.paths import SNAPSHOT
from latentstore.system.safe_paths import is_safe_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from latentstore.sources.interface import SourceRow

_COMMIT = re.compile(r"[0-9a-f]{40}")

READ_BY = frozenset({"arrow", "cache", "csv", "imagefolder", "json", "parquet", "text", "webdataset"})
"""Readers of `datasets` for files that name no other files, but in columns that are looked at here."""
CARDS = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""What `datasets` reads of a folder to learn what is in it."""
STATE_BYTES = 64 << 20
"""Of a list of files that `save_to_disk` wrote: several hundred thousand names."""


@dataclass(frozen=True)
class Loaded:
    """What `datasets` found."""

    splits: Mapping[str, Any]
    """The dataset of each wanted split."""
    lengths: Mapping[str, int]
    """How many rows each split is known or said to have; streams may lack it."""
    commit: str | None
    """What the Hub resolved, where that is known."""
    files: OwnFiles
    """What its rows may name."""


@contextmanager
def without_progress_bars() -> Iterator[None]:
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


def is_streamed(row: SourceRow) -> bool:
    """Whether it is to be read in its own order, without downloading everything."""
    return bool(row.options.get("streaming", False))


def load(row: SourceRow) -> Loaded:
    """The splits that the row wants; SourceError or UnknownNameError in one sentence where there are none."""
    folder = _local_folder(row.location)
    files = OwnFiles.of(row, folder)
    inner = posixpath.normpath(str(row.options.get("data_dir") or "."))
    if inner != "." and not is_safe_path(inner):
        raise SourceError(f"The source option data_dir={inner} is no folder inside {row.location!r}.")
    saved = folder and _saved_folder(folder, row)
    try:
        loaded = _from_disk(saved, row, files) if saved else _built(folder or row.location, row, files)
    except LatentStoreError:
        raise
    except Exception as error:
        raise _unreadable(row, folder, error) from error
    inside = SNAPSHOT.match(os.path.realpath(folder)) if folder else None
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


def _from_disk(folder: str, row: SourceRow, files: OwnFiles) -> Loaded:
    from datasets import DatasetDict, load_from_disk

    _refuse_others_saved(folder, files)
    loaded = load_from_disk(folder)
    splits = dict(loaded) if isinstance(loaded, DatasetDict) else {str(loaded.split or "train"): loaded}
    chosen = {name: splits[name].with_format(None) for name in _wanted(row, list(splits))}
    lengths = {name: len(dataset) for name, dataset in chosen.items()}
    if is_streamed(row):
        chosen = {name: _raw(dataset.to_iterable_dataset()) for name, dataset in chosen.items()}
    return Loaded(chosen, lengths, None, files)


def _refuse_others_saved(folder: str, files: OwnFiles) -> None:
    """SourceError where a folder that `save_to_disk` wrote lists files elsewhere, before `datasets` opens them."""
    listed = Path(folder, "dataset_dict.json")
    files.refuse_others([str(listed)])
    names = _json(listed)["splits"] if listed.is_file() else ["."]
    for split in [os.path.join(folder, str(name)) for name in names]:  # noqa: PTH118 - as `datasets` joins them
        state = Path(split, "state.json")
        files.refuse_others([split, str(state), str(Path(split, "dataset_info.json"))])
        entries = _json(state)["_data_files"] if state.is_file() else []
        files.refuse_others([os.path.join(split, str(entry["filename"])) for entry in entries])  # noqa: PTH118


def _json(path: Path) -> Any:
    with path.open("rb") as file:
        return json.loads(file.read(STATE_BYTES))


def _built(location: str, row: SourceRow, files: OwnFiles) -> Loaded:
    from datasets import DownloadConfig, load_dataset_builder

    if files.folder:
        files.refuse_others([str(Path(files.folder, name)) for name in CARDS])
    with files.resolving():
        builder = load_dataset_builder(
            location,
            name=row.options.get("config"),
            data_dir=row.options.get("data_dir"),
            revision=row.revision,
            download_config=DownloadConfig(disable_tqdm=True),
        )
    # datasets names the builder of a repository by the commit, that of a folder by a shorter hash
    commit = builder.hash if _COMMIT.fullmatch(str(builder.hash)) else None
    data_files = [str(path) for paths in (builder.config.data_files or {}).values() for path in paths]
    files = files.at(commit, data_files)
    _refuse_other_readers(row, builder)
    files.refuse_others(data_files, pictures=True)
    if is_streamed(row):
        streams = builder.as_streaming_dataset()
        chosen = {name: _raw(streams[name]) for name in _wanted(row, [str(name) for name in streams])}
    else:
        builder.download_and_prepare()
        chosen = {name: _split(builder, name) for name in _wanted(row, [str(name) for name in builder.info.splits])}
    said = builder.info.splits or {}
    lengths = {name: said[name].num_examples for name in chosen if name in said and said[name].num_examples}
    return Loaded(chosen, lengths, commit, files)


def _split(builder: Any, name: str) -> Any:
    """One split of a prepared dataset; `datasets` fails on one without rows, and on all others with it."""
    from datasets import Dataset

    if builder.info.splits[name].num_examples:
        return builder.as_dataset(split=name)
    features = builder.info.features
    return Dataset.from_dict({column: [] for column in features}, features=features)


def _refuse_other_readers(row: SourceRow, builder: Any) -> None:
    """SourceError for a kind of files that may name others, which would be opened with no question asked."""
    reader = type(builder).__module__.rpartition(".")[2]
    if reader not in READ_BY:
        raise SourceError(
            f"{row.location!r} holds files that `datasets` reads as {reader}, which may lead to files elsewhere: "
            f"expected {', '.join(sorted(READ_BY - {'cache'}))}; write it as Parquet first."
        )


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


def rows_in(dataset: Any, location: str) -> Iterator[Any]:
    """The rows of a stream; what goes wrong in `datasets` on the way becomes one sentence."""
    try:
        yield from dataset
    except Exception as error:
        beyond = re.search(r"Class label (\d+) greater than configured num_classes (\d+)", str(error))
        if beyond:
            raise SourceError(
                f"The stream of {location!r} holds the class number {beyond[1]}, but its {beyond[2]} classes are "
                f"numbered 0 to {int(beyond[2]) - 1}: mend the labels or the names in the source, or leave the column "
                "out with --drop-columns NAME."
            ) from error
        raise SourceError(
            f"The stream of {location!r} broke off: {_line(error)}; run the same command again, or read it without "
            f"streaming."
        ) from error


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
