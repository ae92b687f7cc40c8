"""JPEG files to pixels by simplejpeg, an extra: sooner than Pillow, and never other pixels than Pillow gives.

Both are libjpeg-turbo, but of whichever version each was built with. So simplejpeg is used only after it has given the
same pixels as Pillow for a set of small pictures, and only for files that it has nothing to remark about; all others,
broken ones among them, are left to Pillow. A dataset does not depend on whether it is installed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Decoder = Callable[[bytes], NDArray[np.uint8]]

_SCAN = 0xDA
_PLAIN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_HEADER_SEGMENTS = frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})


def decoded_jpeg(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB of a JPEG file of this (height, width); None where Pillow has to decode it."""
    decode = trusted_decoder()
    if decode is None or not _is_plain(data):
        return None
    try:
        pixels = decode(data)
    except Exception:  # noqa: BLE001 - whatever is wrong with the file, Pillow says it
        return None
    return pixels if pixels.shape == (*size, 3) else None


def _is_plain(data: bytes) -> bool:
    """Whether it is Huffman coded, baseline or progressive, with nothing out of the ordinary before the first scan.

    Of arithmetic coding, lossless and hierarchical files, libraries differ in whether they read them at all.
    """
    codes = {code for code, _ in _segments(data)}
    return _SCAN in codes and len(codes & _PLAIN_FRAMES) == 1 and codes <= _HEADER_SEGMENTS | _PLAIN_FRAMES | {_SCAN}


def in_one_scan(data: bytes) -> bool:
    """Whether a JPEG file is no progressive one and has all its channels in its first scan, which then is the last."""
    frame = scan = b""
    for code, place in _segments(data):
        if code == _SCAN:
            scan = data[place + 4 : place + 5]
        elif code in {0xC0, 0xC1}:
            frame = data[place + 9 : place + 10]
    return bool(scan) and scan == frame


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(code, offset) of the segments of a JPEG file up to its first scan, or as far as they follow each other."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        yield data[place + 1], place
        if data[place + 1] == _SCAN:
            return
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")


@cache
def trusted_decoder() -> Decoder | None:
    """The decoder of simplejpeg; None where it is not installed, or gives other pixels than Pillow."""
    try:
        from simplejpeg import decode_jpeg
    except ImportError:
        return None

    def decode(data: bytes) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
        return pixels

    return decode if gives_the_same(decode) else None


def gives_the_same(decode: Decoder) -> bool:
    """Whether it gives what Pillow gives, for pictures of every subsampling and of sizes that fill no whole block."""
    import numpy as np
    from PIL import Image

    try:
        for data in _samples():
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                if not np.array_equal(np.asarray(image), decode(data)):
                    return False
    except Exception:  # noqa: BLE001 - a decoder that cannot read these is not one to rely on
        return False
    return True


def _samples() -> Iterator[bytes]:
    """Small JPEG files: waves with noise on them."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for (height, width), subsampling, progressive in product(((16, 16), (33, 71), (50, 129)), (0, 1, 2), (False, True)):
        y, x = np.mgrid[:height, :width]
        waves = np.stack([np.sin(x / 5 + y / 9), np.cos(x / 7), np.sin(y / 4)], axis=-1) * 90 + 128
        noisy = np.clip(waves + rng.normal(0, 20, waves.shape), 0, 255).astype(np.uint8)
        for quality in (40, 90):
            file = io.BytesIO()
            Image.fromarray(noisy).save(file, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
            yield file.getvalue()
