"""Files of weights that metrics need: which they are, whether those at hand are the right ones, how to get them.

Nothing here is downloaded unless ``fetch`` is called. A file of another sha256 is never used: a metric whose weights
are missing is unavailable, and says which file it wants.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentstore.errors import MetricError
from latentstore.hashing import sha256_of

_BLOCK = 1 << 20
_PATIENCE_SECONDS = 60
_WHOLE = 200


@dataclass(frozen=True)
class WeightsFile:
    """One file of published weights."""

    name: str
    """``alexnet``."""
    file: str
    """The name it is published under: ``alexnet-owt-7be5be79.pth``."""
    url: str
    sha256: str
    """Hexadecimal, of the whole file."""
    bytes: int
    licence: str
    """As its publisher states it, in a few words."""
    also: tuple[str, ...] = ()
    """Other names that the same bytes are published under."""


def find_weights(weights: WeightsFile, location: Path | None) -> Path:
    """The file, looked for in a folder (by its names) or given itself, with its sha256 checked.

    Raises MetricError saying which file is wanted and how to get it, where it is missing or another.
    """
    if location is None:
        raise MetricError(f"{_wanted(weights)} is not at hand: {_how_to_get(weights)}.")
    names = (weights.file, *weights.also)
    path = next((location / name for name in names if (location / name).is_file()), None)
    if path is None and location.is_file():
        path = location
    if path is None:
        raise MetricError(f"{_wanted(weights)} is not in {location}: {_how_to_get(weights)}.")
    try:
        found = sha256_of(path)
    except OSError as error:
        raise MetricError(f"{path} cannot be read: {error.strerror or error}.") from error
    if found != weights.sha256:
        raise MetricError(f"{path} has sha256 {found}, but {_wanted(weights)} is expected: {_how_to_get(weights)}.")
    return path


def fetch(weights: WeightsFile, folder: Path, *, progress: Callable[[int, int], None] | None = None) -> Path:
    """Download the file into a folder, unless it is there already; under its name it is whole and right, or absent.

    ``progress`` is told the bytes that came and those expected. Raises MetricError with one clear sentence.
    """
    target = folder / weights.file
    try:
        return find_weights(weights, folder)
    except MetricError:
        if target.exists():
            raise
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{weights.file}.", suffix=".part", dir=folder)
    except OSError as error:
        raise MetricError(f"Cannot write into {folder}: {error.strerror or error}.") from error
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            _download(weights, file, progress)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _download(weights: WeightsFile, file: Any, progress: Callable[[int, int], None] | None) -> None:
    from http.client import HTTPException

    from latentstore.http_connections import HttpConnections, RedirectError

    if not weights.url.startswith(("https://", "http://")):
        raise MetricError(f"{weights.url} is no address to download {weights.file} from.")
    digest, came = hashlib.sha256(), 0
    headers = {"User-Agent": "latentstore", "Accept-Encoding": "identity"}
    asked = HttpConnections(_PATIENCE_SECONDS).followed(weights.url, lambda _: headers, weights.bytes)
    try:
        with asked as (_, response):
            if response.status != _WHOLE:
                raise MetricError(_not_downloaded(weights, f"HTTP Error {response.status}: {response.reason[:100]}"))
            while block := response.read(_BLOCK):
                file.write(block)
                digest.update(block)
                came += len(block)
                if came > weights.bytes:
                    break
                if progress is not None:
                    progress(came, weights.bytes)
    except RedirectError as error:
        raise MetricError(f"{weights.url} {error}: nothing is downloaded from there.") from error
    except (OSError, HTTPException, ValueError) as error:
        raise MetricError(_not_downloaded(weights, error)) from error
    if came != weights.bytes or digest.hexdigest() != weights.sha256:
        more = "more than " if came > weights.bytes else ""
        raise MetricError(
            f"What came from {weights.url} is not {_wanted(weights)}, of {weights.bytes:,} bytes: found "
            f"{more}{min(came, weights.bytes):,} bytes of sha256 {digest.hexdigest()}; nothing was kept."
        )


def _not_downloaded(weights: WeightsFile, reason: object) -> str:
    return f"{weights.url} cannot be downloaded ({reason}); type the same again."


def _wanted(weights: WeightsFile) -> str:
    return f"{weights.file} (sha256 {weights.sha256})"


def _how_to_get(weights: WeightsFile) -> str:
    size = f"{weights.bytes / 1e6:,.0f} MB, {weights.licence}"
    return f"type latentstore fetch FOLDER {weights.name} ({size}, from {weights.url}), then --metric-weights FOLDER"
