"""One row of the source as a tile, or why it is none."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from latentstore.errors import BadImageError
from latentstore.image_decoding import DecodedImage, decode_image, image_size
from latentstore.records import SkippedTile, Tile

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from latentstore.sources.hub_images.columns import Columns
    from latentstore.sources.hub_images.own_files import OwnFiles


def tile_of(example: Mapping[str, Any], columns: Columns, files: OwnFiles, name: str, path: str) -> Tile | SkippedTile:
    """The tile of one row; a fault of the picture is a SkippedTile, a lost connection an error."""
    try:
        content = _content(example[columns.image], files)
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


def sha256_held(value: Any, files: OwnFiles) -> str:
    """The ``source_sha256`` of what a row holds as its picture; empty where that cannot be read."""
    try:
        content = _content(value, files)
        held = content if isinstance(content, bytes) else _from_array(content).pixels.tobytes()
    except BadImageError:
        return ""
    return hashlib.sha256(held).hexdigest()


def _content(value: Any, files: OwnFiles) -> bytes | NDArray[np.generic]:
    """The bytes of the picture's file, or its pixels where the source holds no file."""
    import numpy as np

    if isinstance(value, dict):
        path = value.get("path")
        value = value["bytes"] if value.get("bytes") is not None else files.read(path) if path else None
    if value is None:
        raise BadImageError("there is no image in this row")
    return value if isinstance(value, bytes) else np.asarray(value)


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


def size_of(value: Any, files: OwnFiles) -> tuple[int, int] | None:
    """(height, width) of the picture in one row, from its header; None where it is unreadable."""
    if isinstance(value, dict) and value.get("bytes") is None and value.get("path"):
        return files.size(value["path"])
    try:
        content = _content(value, files)
        if isinstance(content, bytes):
            return image_size(content)
        height, width = _from_array(content).pixels.shape[:2]
    except BadImageError:
        return None
    return height, width
