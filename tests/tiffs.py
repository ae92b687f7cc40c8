"""TIFF files of every kind, written by hand: what a library would not write is in them, too."""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA = 1, 5, 8, 32946, 32773, 34925
CODECS = (NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA)
UNSIGNED, SIGNED, FLOAT = 1, 2, 3

_SHORT, _LONG = 3, 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Tiff:
    """How the samples of a picture are to be written."""

    bits: int = 8
    sample_format: int = UNSIGNED
    photometric: int = 1
    planar: int = 1
    predictor: int = 1
    compression: int = NONE
    order: Literal["<", ">"] = "<"
    tile: tuple[int, int] | None = None
    rows_per_strip: int = 7
    fill_order: int = 1
    extras: tuple[int, ...] = ()
    colours: tuple[int, ...] = ()
    tags: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """What else to write, or instead; no values leave a tag out."""

    def written(self, samples: NDArray[Any]) -> bytes:
        """The file that holds these samples (H, W, S)."""
        height, width, count = samples.shape
        planes = [samples] if self.planar == 1 else [samples[:, :, band : band + 1] for band in range(count)]
        parts = [self._packed(block) for plane in planes for block in self._blocks(plane)]
        return self._file(self._tags(height, width, count), parts)

    def _blocks(self, plane: NDArray[Any]) -> list[NDArray[Any]]:
        height, width, _ = plane.shape
        if self.tile is None:
            return [plane[top : top + self.rows_per_strip] for top in range(0, height, self.rows_per_strip)]
        rows, columns = self.tile
        padded = np.pad(plane, ((0, -height % rows), (0, -width % columns), (0, 0)), mode="edge")
        return [
            padded[top : top + rows, left : left + columns]
            for top in range(0, height, rows)
            for left in range(0, width, columns)
        ]

    def _packed(self, block: NDArray[Any]) -> bytes:
        if self.predictor == 2:
            block = np.concatenate([block[:, :1], block[:, 1:] - block[:, :-1]], axis=1)
        height = len(block)
        if self.bits % 8:
            flat = block.reshape(height, -1).astype(np.uint16)
            places = np.arange(self.bits - 1, -1, -1, dtype=np.uint16)
            data = np.packbits((flat[..., None] >> places & 1).astype(np.uint8).reshape(height, -1), axis=1).tobytes()
        elif self.bits == 24:
            wide = np.ascontiguousarray(block, np.dtype(np.uint32).newbyteorder(self.order)).view(np.uint8)
            data = wide.reshape(-1, 4)[:, slice(3) if self.order == "<" else slice(1, 4)].tobytes()
        else:
            data = block.astype(block.dtype.newbyteorder(self.order)).tobytes()
        if self.compression == NONE:
            packed = data
        elif self.compression == LZW:
            packed = _lzw(data)
        elif self.compression == PACKBITS:
            packed = b"".join(
                bytes([len(data[at : at + 128]) - 1]) + data[at : at + 128] for at in range(0, len(data), 128)
            )
        elif self.compression == LZMA:
            packed = lzma.compress(data)
        else:
            packed = zlib.compress(data)
        return packed.translate(_REVERSED) if self.fill_order == 2 else packed

    def _tags(self, height: int, width: int, count: int) -> dict[int, tuple[int, ...]]:
        tags = {256: (width,), 257: (height,), 258: (self.bits,) * count, 259: (self.compression,)}
        tags |= {262: (self.photometric,), 266: (self.fill_order,), 277: (count,), 284: (self.planar,)}
        tags |= {317: (self.predictor,), 320: self.colours, 338: self.extras, 339: (self.sample_format,) * count}
        tags |= {322: self.tile[1:], 323: self.tile[:1]} if self.tile else {278: (self.rows_per_strip,)}
        return tags | dict(self.tags)

    def _file(self, tags: dict[int, tuple[int, ...]], parts: Sequence[bytes]) -> bytes:
        offsets, counts = (324, 325) if self.tile else (273, 279)
        tags = {offsets: (0,) * len(parts), counts: tuple(map(len, parts))} | tags
        tags = {tag: values for tag, values in tags.items() if values}
        kinds = {
            tag: _SHORT if max(values) < 1 << 16 and tag not in (offsets, counts) else _LONG
            for tag, values in tags.items()
        }
        start = 8 + 2 + 12 * len(tags) + 4
        stored = {tag: struct.pack(f"{self.order}{len(v)}{'HI'[kinds[tag] == _LONG]}", *v) for tag, v in tags.items()}
        pixels = start + sum(len(data) + len(data) % 2 for data in stored.values() if len(data) > 4)
        if tags[offsets] == (0,) * len(parts):
            places = np.cumsum([pixels, *map(len, parts)])[:-1]
            stored[offsets] = struct.pack(f"{self.order}{len(parts)}I", *places.tolist())
        entries, further = b"", b""
        for tag in sorted(tags):
            data = stored[tag]
            inline = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(f"{self.order}I", start + len(further))
            further += data + b"\0" * (len(data) % 2) if len(data) > 4 else b""
            entries += struct.pack(f"{self.order}HHI", tag, kinds[tag], len(tags[tag])) + inline
        head = (b"II" if self.order == "<" else b"MM") + struct.pack(f"{self.order}HIH", 42, 8, len(tags))
        return head + entries + bytes(4) + further + b"".join(parts)


def _lzw(data: bytes) -> bytes:
    """As LZW that never refers to what it has seen: codes of nine bits, and the table cleared before it needs more."""
    codes = [256]
    for place, byte in enumerate(data):
        codes += [byte, 256] if place % 200 == 199 else [byte]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
