"""Colours of all that is drawn, as sRGB in [0, 1]."""

from __future__ import annotations

Colour = tuple[float, float, float]


def _palette(codes: str) -> tuple[Colour, ...]:
    """Colours (sRGB, in [0, 1]) from their hexadecimal codes."""
    return tuple((r / 255, g / 255, b / 255) for r, g, b in map(bytes.fromhex, codes.split()))


GRASS, DRY_GRASS, MEADOW = _palette("5e6e40 8a8259 6e784c")
LEAVES, CONIFER, BIRCH, HEDGE = _palette("40542b 293d29 4f6330 384a26")
ASPHALT, WORN_ASPHALT, CONCRETE = _palette("666669 807d7a a3a199")
PAINT, YELLOW_PAINT, GLASS, PLANKS = _palette("e6e6de d9b240 24262e a89e8c")
SAND, PALE_SAND, WET_SAND = _palette("ccba94 dbcca8 948061")
SOIL, DUST, FOREST_FLOOR = _palette("856b4f a19178 42422a")
LAKE, RIVER = _palette("455c4f 1a3038"), _palette("5e6652 334540")
SEA, DOCK = _palette("6b948f 1f4f66"), _palette("334f54 26424a")
POOL, FOAM = _palette("4cadc7 edf0eb")
TILES = _palette("8c5742 9e6b52 706661 5c5757 8f8070")
SHEETS = _palette("c7c7c4 a8adb2 8f99a8 d6d4cc 997866")
TANKS = _palette("dbdbd6 b8baba")
CARS = _palette("ebebeb b8babf 29292e 595c61 992421 2e457a e0e0db")
PARASOLS = _palette("ededeb cc4033 e0bf4c 387aad e6e0cc")
HULLS = _palette("ededeb e0e3e6 526180")
CABINS = _palette("596b80 bfbfbd 8c7a66")
CROPS = _palette("5c7338 788545 a3915c 876e52 4a6133 b8a670 705e4a 8c9154")
