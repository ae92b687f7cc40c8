"""Every kind of picture file that a source may hold, made here by PIL itself and broken by hand."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from latentstore import image_decoding
from latentstore.errors import BadImageError
from latentstore.image_decoding import decode_image, image_size

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LOSSLESS = ("PNG", "TIFF", "BMP")
ALL = (*LOSSLESS, "JPEG", "WEBP", "GIF")


def scene(height: int = 24, width: int = 33) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 7 % 256, x * 5 % 256, (x + y) * 3 % 256], axis=2).astype(np.uint8)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey16(values: NDArray[np.uint16], kind: str = "PNG") -> bytes:
    return file_of(Image.fromarray(values), kind)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_lossless_rgb_picture_comes_out_as_it_went_in(kind: str) -> None:
    decoded = decode_image(file_of(Image.fromarray(scene()), kind))
    np.testing.assert_array_equal(decoded.pixels, scene())
    assert decoded.conversions == ()
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.c_contiguous
    assert decoded.pixels.flags.writeable


@pytest.mark.parametrize("kind", ALL)
def test_each_format_is_known_by_its_content(kind: str, tmp_path: Path) -> None:
    data = file_of(Image.fromarray(scene()), kind)
    misnamed = tmp_path / "picture.txt"
    misnamed.write_bytes(data)
    assert decode_image(data).pixels.shape == (24, 33, 3)
    assert image_size(data) == image_size(misnamed) == image_size(str(misnamed)) == (24, 33)


@pytest.mark.parametrize(
    ("mode", "kind", "conversions"),
    [
        ("L", "PNG", ("grey to RGB",)),
        ("1", "PNG", ("1 bit to RGB",)),
        ("P", "PNG", ("palette to RGB",)),
        ("P", "GIF", ("palette to RGB",)),
        ("CMYK", "TIFF", ("CMYK to RGB",)),
        ("CMYK", "JPEG", ("CMYK to RGB",)),
        ("YCbCr", "TIFF", ("YCbCr to RGB",)),
        ("LA", "PNG", ("grey to RGB", "alpha dropped")),
        ("RGBA", "PNG", ("alpha dropped",)),
        ("RGBA", "WEBP", ("alpha dropped",)),
    ],
)
def test_other_modes_become_rgb_and_the_step_is_named(mode: str, kind: str, conversions: tuple[str, ...]) -> None:
    image = Image.fromarray(scene()).convert(mode)
    if mode in {"LA", "RGBA"}:
        image.putalpha(128)
    decoded = decode_image(file_of(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    if kind != "JPEG":
        np.testing.assert_array_equal(decoded.pixels, np.asarray(image.convert("RGB")))
    assert decoded.pixels.shape == (24, 33, 3)
    assert decoded.conversions == conversions


def test_the_colour_under_transparent_pixels_is_kept() -> None:
    rgba = np.dstack([scene(), np.zeros((24, 33), np.uint8)])
    np.testing.assert_array_equal(decode_image(file_of(Image.fromarray(rgba))).pixels, scene())


def test_a_palette_whose_entries_have_an_alpha_each_keeps_its_colours_without_a_warning() -> None:
    image = Image.fromarray(scene()).quantize(8)
    decoded = decode_image(file_of(image, transparency=bytes(range(8))))
    np.testing.assert_array_equal(decoded.pixels, np.asarray(image.convert("RGB")))
    assert decoded.conversions == ("palette to RGB", "alpha dropped")


def test_lab_goes_through_its_colour_profile() -> None:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(scene()), *profiles, outputMode="LAB")
    assert lab is not None
    decoded = decode_image(file_of(lab, "TIFF"))
    assert decoded.conversions == ("LAB to RGB",)
    assert np.abs(decoded.pixels.astype(int) - scene()).mean() < 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_divided_by_257_and_rounded(kind: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65278], [65535, 385, 386, 1, 65406, 65407]], np.uint16)
    decoded = decode_image(grey16(values, kind))
    np.testing.assert_array_equal(decoded.pixels[:, :, 1], np.round(values / 257))
    assert decoded.pixels.max() == 255
    assert decoded.conversions == ("16 bit to 8", "grey to RGB")


def test_big_endian_sixteen_bit_tiff_is_read_alike() -> None:
    values = np.array([[0, 257, 65535], [1000, 2000, 3000]], np.uint16)
    big = Image.frombytes("I;16B", (3, 2), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(decode_image(file_of(big, "TIFF")).pixels[:, :, 0], np.round(values / 257))


def test_whole_numbers_of_32_bits_count_as_16_where_they_fit_and_are_refused_elsewhere() -> None:
    fits = np.array([[0, 65535], [257, 514]], np.int32)
    decoded = decode_image(file_of(Image.fromarray(fits), "TIFF"))
    np.testing.assert_array_equal(decoded.pixels[:, :, 0], [[0, 255], [1, 2]])
    for wrong in (fits + 1, fits - 1):
        with pytest.raises(BadImageError, match=r"outside 0\.\.65535"):
            decode_image(file_of(Image.fromarray(wrong), "TIFF"))


def test_sixteen_bit_colour_says_that_only_the_high_byte_was_read() -> None:
    row = b"\x00" + b"".join(struct.pack(">HHH", 0x1234, 0xABCD, 0x00FF) for _ in range(2))
    decoded = decode_image(png(2, 1, 16, 2, row))
    np.testing.assert_array_equal(decoded.pixels, [[[0x12, 0xAB, 0x00]] * 2])
    assert decoded.conversions == ("16 bit to 8 (high byte)",)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation_is_applied_to_pixels_and_size(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = Image.fromarray(scene())
    options = {"lossless": True} if kind == "WEBP" else {}
    data = file_of(raw, kind, exif=exif, **options)
    stored = Image.open(io.BytesIO(file_of(raw, kind, **options))).convert("RGB")
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    decoded = decode_image(data)
    np.testing.assert_array_equal(decoded.pixels, expected)
    assert decoded.conversions == (("turned by its EXIF orientation",) if orientation > 1 else ())
    assert image_size(data) == decoded.pixels.shape[:2] == ((33, 24) if orientation > 4 else (24, 33))


def test_an_orientation_that_makes_no_sense_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert decode_image(file_of(Image.fromarray(scene()), exif=exif)).conversions == ()


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(BadImageError, match=r"^empty file$"):
        decode_image(b"")
    assert image_size(b"") is None


@pytest.mark.parametrize("data", [b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", bytes(2000)])
def test_what_is_no_known_picture_is_refused_in_the_same_words_each_time(data: bytes) -> None:
    with pytest.raises(BadImageError) as first:
        decode_image(data)
    with pytest.raises(BadImageError) as second:
        decode_image(data)
    assert str(first.value) == str(second.value)
    assert str(first.value) == "not a picture in a known format (JPEG, PNG, TIFF, WEBP, BMP, GIF)"
    assert image_size(data) is None


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_cut_file_is_refused_and_never_a_crash(kind: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = file_of(Image.fromarray(noise), kind)
    with pytest.raises(BadImageError, match=r"damaged or cut|not a picture") as caught:
        decode_image(data[: int(len(data) * kept)])
    assert " at 0x" not in str(caught.value)


def test_any_single_broken_byte_gives_pixels_or_a_reason() -> None:
    rng = np.random.default_rng(1)
    for kind in ALL:
        whole = file_of(Image.fromarray(scene()), kind)
        for place in rng.integers(0, len(whole), 40):
            broken = bytearray(whole)
            broken[place] ^= int(rng.integers(1, 256))
            image_size(bytes(broken))
            try:
                assert decode_image(bytes(broken)).pixels.dtype == np.uint8
            except BadImageError as error:
                assert str(error)  # noqa: PT017 - either end is fine, another exception is not


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_refused(kind: str) -> None:
    frames = [Image.fromarray(scene() ^ value) for value in (0, 255, 85)]
    data = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(BadImageError, match=r"^several frames \(animated\), not one picture$"):
        decode_image(data)
    assert image_size(data) is None


def test_a_tiff_of_several_pages_is_refused() -> None:
    data = file_of(Image.fromarray(scene()), "TIFF", save_all=True, append_images=[Image.fromarray(scene())])
    with pytest.raises(BadImageError, match=r"^several pages, not one picture$"):
        decode_image(data)


def test_the_overviews_of_a_geotiff_are_no_pages() -> None:
    small = Image.fromarray(scene(12, 16))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    data = file_of(Image.fromarray(scene()), "TIFF", save_all=True, append_images=[small])
    np.testing.assert_array_equal(decode_image(data).pixels, scene())
    assert image_size(data) == (24, 33)


def test_the_first_picture_of_an_mpo_is_taken() -> None:
    data = file_of(Image.fromarray(scene()), "MPO", save_all=True, append_images=[Image.fromarray(scene(8, 8))])
    decoded = decode_image(data)
    assert decoded.pixels.shape == (24, 33, 3)
    assert decoded.conversions == ("first of several pictures",)
    assert image_size(data) == (24, 33)


@pytest.mark.parametrize("side", [13_378, 60_000])
def test_a_decompression_bomb_is_refused_from_its_header(side: int) -> None:
    data = png(side, side, 8, 2, b"")
    with pytest.raises(BadImageError, match="larger than 178,956,970 pixels"):
        decode_image(data)
    assert image_size(data) is None


def test_the_limit_is_on_pixels_and_inclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    data = file_of(Image.fromarray(scene()))
    monkeypatch.setattr(image_decoding, "MAX_PIXELS", 24 * 33)
    assert decode_image(data).pixels.size
    monkeypatch.setattr(image_decoding, "MAX_PIXELS", 24 * 33 - 1)
    with pytest.raises(BadImageError, match="24 x 33 pixels, larger than 791 pixels"):
        decode_image(data)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_beyond_pils_own_limit_decodes_without_a_warning(
    kind: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_of(Image.fromarray(scene()), kind, exif=exif)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    monkeypatch.setattr(image_decoding, "MAX_PIXELS", 1000)
    assert decode_image(data).pixels.size == 24 * 33 * 3


def test_floating_point_is_refused() -> None:
    data = file_of(Image.fromarray(scene()[:, :, 0].astype(np.float32)), "TIFF")
    with pytest.raises(BadImageError, match="floating"):
        decode_image(data)
    assert image_size(data) is None


def test_the_size_is_read_from_the_header_alone(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    for kind in ("PNG", "JPEG", "BMP"):
        path = tmp_path / kind
        path.write_bytes(file_of(Image.fromarray(noise), kind)[:2000])
        assert image_size(path) == (200, 300)


def test_no_size_where_there_is_no_file(tmp_path: Path) -> None:
    assert image_size(tmp_path / "missing.png") is None
    assert image_size(tmp_path) is None


def test_the_settings_of_pil_and_of_warnings_stay_as_they_were() -> None:
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with pytest.raises(BadImageError):
        decode_image(png(60_000, 60_000, 8, 2, b""))
    assert decode_image(file_of(Image.fromarray(scene()))).conversions == ()
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_many_threads_decode_the_same_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # PIL would warn about every one of them
    images = [Image.fromarray(scene() ^ value) for value in range(64)]
    files = [file_of(image, ALL[place % 3]) for place, image in enumerate(images)] + [b"broken"] * 8

    def decode(data: bytes) -> bytes:
        try:
            return decode_image(data).pixels.tobytes()
        except BadImageError:
            return b""

    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(decode, files)) == [*(np.asarray(image).tobytes() for image in images), *[b""] * 8]
    assert list(warnings.filters) == before
