"""simplejpeg in the place of Pillow: never another pixel, never another reason."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from latentstore import fast_jpeg
from latentstore.errors import BadImageError
from latentstore.fast_jpeg import decoded_jpeg, gives_the_same, in_one_scan, trusted_decoder
from latentstore.image_decoding import decode_image


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    trusted_decoder.cache_clear()
    yield
    trusted_decoder.cache_clear()


def jpeg(seed: int = 0, size: tuple[int, int] = (40, 57), mode: str = "RGB", **options: object) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    smooth = Image.fromarray(noise).resize((size[1] // 3, size[0] // 3)).resize((size[1], size[0]))
    smooth.convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


def end(data: bytes) -> tuple[bytes, tuple[str, ...]] | str:
    try:
        decoded = decode_image(data)
    except BadImageError as error:
        return str(error)
    return decoded.pixels.tobytes(), decoded.conversions


def test_a_decoder_that_gives_other_pixels_is_not_used() -> None:
    assert gives_the_same(by_pillow)
    assert not gives_the_same(lambda data: np.invert(by_pillow(data)))
    assert not gives_the_same(lambda data: by_pillow(data)[:-1])

    def refusing(_: bytes) -> NDArray[np.uint8]:
        raise ValueError

    assert not gives_the_same(refusing)


def test_without_simplejpeg_pillow_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert trusted_decoder() is None
    assert decoded_jpeg(jpeg(), (40, 57)) is None
    np.testing.assert_array_equal(decode_image(jpeg()).pixels, by_pillow(jpeg()))


def test_pictures_and_damaged_ones_end_the_same_with_and_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg", reason="simplejpeg is not installed")
    rng = np.random.default_rng(3)
    whole = [
        jpeg(0),
        jpeg(1, subsampling=0, quality=100),
        jpeg(2, progressive=True),
        jpeg(3, mode="L"),
        jpeg(4, mode="CMYK"),
        jpeg(5, restart_marker_blocks=2),
        jpeg(6, (3, 4)),
    ]
    files = [*whole, *(data + b"and more" for data in whole)]
    for data in whole:
        files += [data[: int(cut)] for cut in rng.integers(2, len(data), 12)] + [data[:-1], data[:-2]]
        for _ in range(60):
            broken = bytearray(data)
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                broken[place] ^= 1 << int(rng.integers(0, 8))
            files.append(bytes(broken))
    fast = [end(data) for data in files]
    assert trusted_decoder() is not None, "both are libjpeg-turbo here"
    monkeypatch.setattr("latentstore.image_decoding.decoded_jpeg", lambda data, size: None)  # noqa: ARG005
    assert fast == [end(data) for data in files]


def test_a_file_is_in_one_scan_where_its_first_scan_has_all_channels() -> None:
    thumbnail = jpeg(size=(16, 16))
    assert in_one_scan(jpeg())
    assert in_one_scan(jpeg(mode="L"))
    assert in_one_scan(jpeg(mode="CMYK"))
    assert not in_one_scan(jpeg(progressive=True))
    assert not in_one_scan(jpeg(progressive=True, exif=b"Exif\0\0" + thumbnail))
    assert not in_one_scan(jpeg()[:100])
    assert not in_one_scan(b"")


def test_it_is_used_for_plain_files_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytes] = []

    def decode(data: bytes) -> NDArray[np.uint8]:
        given.append(data)
        return by_pillow(data)

    monkeypatch.setattr(fast_jpeg, "trusted_decoder", lambda: decode)
    exif = Image.Exif()
    exif[0x0112] = 6
    arithmetic = jpeg().replace(b"\xff\xc0", b"\xff\xc9", 1)
    for data in (jpeg(mode="L"), jpeg(mode="CMYK"), jpeg(exif=exif), arithmetic):
        decode_image(data)
    assert given == []
    decode_image(jpeg())
    assert given == [jpeg()]
    assert decoded_jpeg(jpeg(), (57, 40)) is None
