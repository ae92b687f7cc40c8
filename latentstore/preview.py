"""preview.png: originals, reconstructions and their difference; the best, the median and the worst by PSNR."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.containers.columns import numbers_of
from latentstore.errors import MixedSizesError
from latentstore.pictures import decoded_uint8
from latentstore.plan import kept_positions
from latentstore.records import SkippedTile, Tile
from latentstore.system.durable_files import written_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from latentstore.containers.interface import ContainerRow
    from latentstore.manifest import Manifest
    from latentstore.pictures import PictureReader
    from latentstore.storage.interface import Storage
    from latentstore.vaes.interface import Vae

GAIN = 4
"""Differences are shown this many times as strong."""
SIDE = 256
"""Longest side of a picture in the preview, in pixels."""
GAP, CAPTION = 8, 18


@dataclass(frozen=True)
class _Scene:
    """What it is drawn from."""

    folder: Path
    manifest: Manifest
    index: Mapping[str, Sequence[Any]]
    reader: PictureReader
    vae: Vae
    storage: Storage
    container: ContainerRow


def write_preview(
    folder: Path,
    manifest: Manifest,
    index: Mapping[str, Sequence[Any]],
    *,
    reader: PictureReader,
    vae: Vae,
    storage: Storage,
    container: ContainerRow,
) -> Path:
    """Draw it from the numbers stored in ``folder`` and the source's own pixels; ``index`` has all columns."""
    scene = _Scene(folder, manifest, index, reader, vae, storage, container)
    rows = [_row(scene, caption, row) for caption, row in _chosen(index)]
    path, png = folder / manifest.preview, _png(rows)
    with written_whole(path) as partial:
        partial.write_bytes(png)
    return path


def _chosen(index: Mapping[str, Sequence[Any]]) -> list[tuple[str, int]]:
    """(caption, index row) of the best, the median and the worst; the first rows where there is no PSNR."""
    if "psnr" not in index:
        return [("", row) for row in range(min(3, len(index["id"])))]
    scores = numbers_of(index["psnr"])
    scores = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-scores, kind="stable")
    places = dict.fromkeys([0, len(order) // 2, len(order) - 1])
    names = ["best", "median", "worst"] if len(places) == 3 else ["", "", ""]
    return [(f"{name} {scores[order[place]]:.2f} dB".strip(), int(order[place])) for name, place in zip(names, places)]  # noqa: B905


def _row(scene: _Scene, caption: str, row: int) -> tuple[str, list[NDArray[np.uint8]]]:
    original = _original(scene, row)
    decoded = _decoded(scene, row)[: original.shape[0], : original.shape[1]]
    difference = np.abs(original.astype(np.int16) - decoded.astype(np.int16)) * GAIN
    title = f"{scene.index['id'][row]}   {caption}"
    return title, [original, decoded, np.clip(difference, 0, 255).astype(np.uint8)]


def _original(scene: _Scene, row: int) -> NDArray[np.uint8]:
    index = scene.index
    split = index["split"][row]
    place = sum(1 for other in index["split"][:row] if other == split)
    skipped = [entry.position for entry in scene.manifest.build.skipped if entry.split == split]
    position = kept_positions(len(scene.reader.rows.splits[split]), skipped)[place]
    tile: Tile | SkippedTile | None = None
    with suppress(MixedSizesError):  # of a dataset that is added to, another picture may lie in its place by now
        tile = next(scene.reader.tiles(split, [position]))
    if not isinstance(tile, Tile) or tile.source_sha256 != index["source_sha256"][row]:
        return np.zeros((index["height"][row], index["width"][row], 3), np.uint8)
    return tile.pixels


def _decoded(scene: _Scene, row: int) -> NDArray[np.uint8]:
    shard = scene.container.open(scene.folder / scene.index["shard"][row], scene.manifest.schema)
    stored = shard.latents(np.array([scene.index["row"][row]]))
    pixels = decoded_uint8(scene.vae, scene.storage.decode(stored))
    return np.asarray(pixels[0].permute(1, 2, 0).cpu().numpy())


def _png(rows: Sequence[tuple[str, list[NDArray[np.uint8]]]]) -> bytes:
    from io import BytesIO

    from PIL import Image, ImageDraw

    shown = [(title, [_fitted(picture) for picture in pictures]) for title, pictures in rows]
    width = max(picture.width for _, pictures in shown for picture in pictures)
    heights = [max(picture.height for picture in pictures) + CAPTION for _, pictures in shown]
    sheet = Image.new("RGB", (3 * width + 4 * GAP, sum(heights) + (len(rows) + 1) * GAP + CAPTION), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(("original", "reconstruction", f"difference x{GAIN}")):
        draw.text((GAP + column * (width + GAP), GAP), title, fill="black")
    top = GAP + CAPTION
    for (title, pictures), height in zip(shown, heights, strict=True):
        draw.text((GAP, top), title.encode("ascii", "replace").decode(), fill="dimgray")
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (GAP + column * (width + GAP), top + CAPTION))
        top += height + GAP
    buffer = BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _fitted(pixels: NDArray[np.uint8]) -> Any:
    """At most SIDE long; small pictures are enlarged by a whole factor so that they can be seen."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    longest = max(picture.size)
    if longest > SIDE:
        scale = SIDE / longest
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        return picture.resize(size, Image.Resampling.LANCZOS)
    factor = max(1, SIDE // longest)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
