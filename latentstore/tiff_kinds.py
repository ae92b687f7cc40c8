"""Which TIFFs are known to be read right. Of any other, the first tag that makes it so is named, with its value.

TIFF has more kinds than Pillow reads, and Pillow takes some for others: what it makes of them are pixels, but not those
of the picture. So this is a list of what was held against an independent reader (`tests/test_tiff_kinds.py`), kind by
kind, and not of what is known to be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAMES: Mapping[int, str] = {
    256: "ImageWidth",
    257: "ImageLength",
    258: "BitsPerSample",
    259: "Compression",
    262: "PhotometricInterpretation",
    266: "FillOrder",
    273: "StripOffsets",
    277: "SamplesPerPixel",
    278: "RowsPerStrip",
    279: "StripByteCounts",
    284: "PlanarConfiguration",
    317: "Predictor",
    320: "ColorMap",
    322: "TileWidth",
    323: "TileLength",
    324: "TileOffsets",
    325: "TileByteCounts",
    332: "InkSet",
    336: "DotRange",
    338: "ExtraSamples",
    339: "SampleFormat",
    529: "YCbCrCoefficients",
    530: "YCbCrSubSampling",
    532: "ReferenceBlackWhite",
}
"""The tags that decide what the numbers in a file mean, by what the TIFF specification calls them."""

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_UNSIGNED, _SIGNED, _FLOATING = 1, 2, 3
_UNCOMPRESSED, _JPEG = 1, 7
_SEPARATE = 2

_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3}
"""How many samples make the colour of a pixel."""

_BITS: Mapping[tuple[int, int], frozenset[int]] = {
    (_WHITE_IS_ZERO, _UNSIGNED): frozenset({1, 2, 4, 8}),
    (_BLACK_IS_ZERO, _UNSIGNED): frozenset({1, 2, 4, 8, 16, 32}),
    (_BLACK_IS_ZERO, _SIGNED): frozenset({16, 32}),
    (_RGB, _UNSIGNED): frozenset({8, 16}),
    (_PALETTE, _UNSIGNED): frozenset({1, 2, 4, 8}),
    (_CMYK, _UNSIGNED): frozenset({8, 16}),
    (_YCBCR, _UNSIGNED): frozenset({8}),
    (_LAB, _UNSIGNED): frozenset({8}),
}
"""Bits of a sample, by photometric interpretation and sample format."""

_DIFFERENCED = frozenset({5, 8, 32946, 34925, 50000})
"""Compressions that the horizontal predictor is defined for: LZW, two names of Deflate, LZMA, Zstandard."""
_COMPRESSIONS = _DIFFERENCED | {_UNCOMPRESSED, 2, 3, 4, _JPEG, 32773, 50001}
"""Further: three of CCITT for 1 bit, JPEG, PackBits, WebP."""

_REC_601 = (0.299, 0.587, 0.114)
_FULL_RANGE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)
_MOST_SHOWN = 6


@dataclass(frozen=True)
class _Tags:
    """The tags of one picture, as tuples, with what the specification says where one is missing."""

    held: Mapping[int, Any]
    big_endian: bool

    def values(self, tag: int) -> tuple[Any, ...]:
        """Empty where the file does not have the tag."""
        value = self.held.get(tag, ())
        return tuple(value) if isinstance(value, (tuple, list)) else (value,)

    def one(self, tag: int, otherwise: Any = None) -> Any:
        return next(iter(self.values(tag)), otherwise)

    @property
    def photometric(self) -> Any:
        return self.one(262)

    @property
    def compressed(self) -> bool:
        return bool(self.one(259, _UNCOMPRESSED) != _UNCOMPRESSED)

    @property
    def separate(self) -> bool:
        return bool(self.one(284, 1) == _SEPARATE)

    @property
    def bits(self) -> Any:
        return self.one(258, 1)

    @property
    def sample_format(self) -> Any:
        return self.one(339, _UNSIGNED)

    @property
    def samples(self) -> Any:
        return self.one(277, 1)

    @property
    def extras(self) -> tuple[Any, ...]:
        return self.values(338)


def _alike(values: Sequence[Any]) -> bool:
    return len(set(values)) <= 1


def _known_extras(tags: _Tags) -> bool:
    """One alpha at most, and the first; of grey whose samples are apart from each other, it is not seen."""
    if tags.photometric == _RGB and tags.extras == (999,):  # of Corel Draw
        return True
    first, rest = tags.extras[:1], tags.extras[1:]
    premultiplied = not tags.separate or (tags.compressed and _COLOURS[tags.photometric] > 1)
    alpha = not tags.separate or _COLOURS[tags.photometric] > 1
    return not any(rest) and (first in {(), (0,)} or (first == (1,) and premultiplied) or (first == (2,) and alpha))


def _can_be_reversed(tags: _Tags) -> bool:
    """Whether bytes whose bits are in the other order are read: libtiff turns all of them, Pillow's own reader some."""
    not_turned = {(_WHITE_IS_ZERO, 8), (_PALETTE, 1), (_PALETTE, 2), (_PALETTE, 4)}
    return tags.compressed or not (tags.separate or (tags.photometric, tags.bits) in not_turned)


def _known_samples(tags: _Tags) -> bool:
    beyond = tags.samples - _COLOURS[tags.photometric]
    return bool(beyond == len(tags.extras) or (tags.photometric == _RGB and beyond == 1 and not tags.extras))


def _known_palette(tags: _Tags) -> bool:
    """As many colours as numbers, of 16 bits each: where none is above 255, some writer meant 8 bits, or black."""
    colours = tags.values(320)
    return tags.photometric != _PALETTE or (len(colours) == 3 << tags.bits and not 0 < max(colours) <= 255)


def _known_subsampling(tags: _Tags) -> bool:
    """What is not written is (2, 2); the decoder of a JPEG knows better."""
    ycbcr = tags.photometric == _YCBCR and tags.one(259, _UNCOMPRESSED) != _JPEG
    return not ycbcr or (tags.values(530) or (2, 2)) == (1, 1)


def _near(tag: int, expected: Sequence[float]) -> Callable[[_Tags], bool]:
    """The tag is missing, or has these numbers, but for their rounding to fractions."""

    def known(tags: _Tags) -> bool:
        values = tags.values(tag)
        near = [abs(float(value) - wanted) < 1e-3 for value, wanted in zip(values, expected, strict=False)]
        return tags.photometric != _YCBCR or not values or (len(values) == len(expected) and all(near))

    return known


def _plain_inks(tags: _Tags) -> bool:
    whole = (0, (1 << tags.bits) - 1)
    return tags.photometric != _CMYK or tags.values(336) in {(), whole, whole * 4}


def _all_there(offsets: int, counts: int) -> Callable[[_Tags], bool]:
    """No strip or tile is missing, or smaller than what it holds; 0 is how one that was left out is written."""

    def known(tags: _Tags) -> bool:
        tiled = bool(tags.values(322))
        if tiled != (offsets == 324):
            return True
        width, height = tags.one(256), tags.one(257)
        columns, rows = (tags.one(322), tags.one(323)) if tiled else (width, min(tags.one(278, height), height))
        down = -(-height // rows)
        number = -(-width // columns) * down * (tags.samples if tags.separate else 1)
        last = rows if tiled else height - (down - 1) * rows
        line = -(-columns * tags.bits * (1 if tags.separate else tags.samples) // 8)
        places, sizes = tags.values(offsets), tags.values(counts)
        return (
            len(places) == number
            and all(places)
            and min(sizes, default=last * line) >= (1 if tags.compressed else last * line)
        )

    return known


_RULES: Sequence[tuple[int, Callable[[_Tags], bool], str]] = (
    (262, lambda tags: tags.photometric in _COLOURS, ""),
    (259, lambda tags: tags.one(259, _UNCOMPRESSED) in _COMPRESSIONS, ""),
    (339, lambda tags: tags.sample_format != _FLOATING, "floating point pixels, whose range is not known"),
    (339, lambda tags: _alike(tags.values(339)) and (tags.photometric, tags.sample_format) in _BITS, ""),
    (339, lambda tags: tags.sample_format == _UNSIGNED or tags.bits in _BITS[_BLACK_IS_ZERO, _SIGNED], "of 8 bits"),
    (258, lambda tags: _alike(tags.values(258)) and tags.bits in _BITS[tags.photometric, tags.sample_format], ""),
    (277, _known_samples, "of which the others are not described"),
    (338, _known_extras, ""),
    (284, lambda tags: tags.one(284, 1) in {1, _SEPARATE}, ""),
    (284, lambda tags: not tags.separate or tags.compressed or tags.bits == 8, "uncompressed and not of 8 bits"),
    (284, lambda tags: not tags.separate or tags.compressed or _COLOURS[tags.photometric] > 1, "uncompressed grey"),
    (284, lambda tags: not tags.separate or tags.photometric != _LAB, "of CIELab"),
    (266, lambda tags: tags.one(266, 1) == 1 or (tags.one(266) == 2 and _can_be_reversed(tags)), ""),
    (317, lambda tags: tags.one(317, 1) in ({1, 2} if tags.one(259) in _DIFFERENCED else {1}), ""),
    (
        258,
        lambda tags: tags.bits < 16 or not tags.big_endian or not tags.compressed or tags.sample_format == _UNSIGNED,
        "signed, compressed and big-endian",
    ),
    (320, _known_palette, "where colours from 0 to 65535 were expected"),
    (530, _known_subsampling, ""),
    (529, _near(529, _REC_601), ""),
    (532, _near(532, _FULL_RANGE), ""),
    (332, lambda tags: tags.photometric != _CMYK or tags.one(332, 1) == 1, ""),
    (336, _plain_inks, ""),
    (273, _all_there(273, 279), "so parts of the picture are missing"),
    (324, _all_there(324, 325), "so parts of the picture are missing"),
)
"""(tag, what must hold for its value to be one that is read, what else to say where it does not); in this order."""


def why_not_read(held: Mapping[int, Any], *, big_endian: bool) -> str:
    """The tag that makes this no kind that is known to be read right, and its value; empty where it is one."""
    tags = _Tags(held, big_endian=big_endian)
    for tag, known, because in _RULES:
        try:
            fine = known(tags)
        except (TypeError, ValueError, ZeroDivisionError, KeyError, IndexError):  # numbers were expected, and others
            fine = False
        if not fine:
            return ", ".join(filter(None, (_told(tags, tag), because)))
    return ""


def layout_of(held: Mapping[int, Any]) -> str:
    """The tags that together say how samples are laid out."""
    return ", ".join(_told(_Tags(held, big_endian=False), tag) for tag in (262, 258, 277, 338, 339, 284, 266))


def _told(tags: _Tags, tag: int) -> str:
    values = tags.values(tag)
    if not values:
        return f"{NAMES[tag]} (tag {tag}) is missing"
    try:
        shown = [f"{float(value):g}" for value in values[:_MOST_SHOWN]]
    except (TypeError, ValueError):
        return f"{NAMES[tag]} (tag {tag}) is no number"
    more = f" and {len(values) - _MOST_SHOWN:,} more" if len(values) > _MOST_SHOWN else ""
    return f"{NAMES[tag]} (tag {tag}) is {', '.join(dict.fromkeys(shown) if _alike(values) else shown)}{more}"
