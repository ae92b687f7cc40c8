"""Every kind of TIFF against tifffile: it is read right, or skipped with the tag that makes it another kind."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from latentstore import tiff_kinds
from latentstore.errors import BadImageError
from latentstore.image_decoding import decode_image
from tests.tiffs import CODECS, DEFLATE, FLOAT, LZW, NONE, PACKBITS, SIGNED, UNSIGNED, Tiff

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Pixels = "NDArray[np.int64]"
HEIGHT, WIDTH = 9, 21
ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
NAMED = re.compile(r"(\w+) \(tag (\d+)\) is ")
READ = frozenset(
    {(photometric, UNSIGNED, bits) for photometric in (0, 1, 3) for bits in (1, 2, 4, 8)}
    | {(1, UNSIGNED, 16), (1, SIGNED, 16), (1, SIGNED, 32), (2, UNSIGNED, 8), (2, UNSIGNED, 16)}
)
"""(photometric interpretation, sample format, bits) that must be read, not skipped, at least as plain strips."""


def kind_of(bits: int, sample_format: int) -> np.dtype[Any]:
    letter = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}[sample_format]
    return np.dtype(f"{letter}{next(size for size in (1, 2, 4, 8) if bits <= 8 * size)}")


def samples_of(tiff: Tiff) -> NDArray[Any]:
    """Numbers over the whole range; of those that are signed or of 32 bits, what 16 bits hold of it."""
    count = (3 if tiff.photometric == 2 else 1) + len(tiff.extras)
    rng = np.random.default_rng(tiff.bits)
    top = 1 << (16 if tiff.bits > 16 else tiff.bits - (tiff.sample_format == SIGNED and tiff.bits == 16))
    low = -128 if (tiff.bits, tiff.sample_format) == (8, SIGNED) else 0
    return rng.integers(low, top + low, (HEIGHT, WIDTH, count)).astype(kind_of(tiff.bits, tiff.sample_format))


def colours_of(bits: int) -> tuple[int, ...]:
    ramp = np.linspace(0, 65535, 1 << bits).astype(int)
    return (*ramp.tolist(), *ramp[::-1].tolist(), *(ramp * 3 % 65536).tolist())


def grid() -> Iterator[Tiff]:
    """Bits, format, photometric, planar, predictor, compression, byte order, tiles or strips, extras and fill order."""
    kinds = [(bits, UNSIGNED) for bits in (1, 2, 4, 8, 12, 16, 24, 32)]
    kinds += [(8, SIGNED), (16, SIGNED), (32, SIGNED), (16, FLOAT), (32, FLOAT), (64, FLOAT)]
    layouts = list(product((1, 2), (1, 2), (NONE, LZW, DEFLATE, PACKBITS), ORDERS, (None, (16, 16))))
    for (bits, sample_format), photometric, extras in product(kinds, (0, 1, 2, 3), ((), (0,), (2,))):
        if photometric == 3 and bits > 8:
            continue
        for planar, predictor, compression, order, tile in layouts:
            if planar == 2 and photometric != 2 and not extras:  # one sample has no planes
                continue
            if extras and (order, tile) == (">", None):  # alpha lies where it lies in either order
                continue
            if predictor == 2 and (bits % 8 or bits == 24 or sample_format == FLOAT):  # differences of whole bytes
                continue
            colours = colours_of(bits) if photometric == 3 else ()
            tiff = Tiff(bits, sample_format, photometric, planar, predictor, compression, order, tile)
            yield replace(tiff, extras=extras, colours=colours)
            if predictor == 1 and compression in {NONE, LZW} and not tile:
                yield replace(tiff, extras=extras, colours=colours, fill_order=2)


def read_by_tifffile(tiff: Tiff, samples: NDArray[Any]) -> NDArray[Any]:
    """(H, W, S) as tifffile reads it; what it has no decoder for (LZW, 2 and 4 bits), in another form."""
    tiff = replace(tiff, compression=DEFLATE) if tiff.compression == LZW else tiff
    tiff = replace(tiff, bits=8, fill_order=1) if tiff.bits in {2, 4} else tiff
    with tifffile.TiffFile(io.BytesIO(tiff.written(samples))) as file:
        read = np.asarray(file.pages[0].asarray())
    read = read[..., None] if read.ndim == 2 else read
    return np.moveaxis(read, 0, -1) if tiff.planar == 2 else read


def as_rgb(read: NDArray[Any], tiff: Tiff) -> NDArray[np.int64]:
    """By the rules of FORMAT.md 15.1, in other words than those of the library."""
    whole = read.astype(np.int64)
    if tiff.photometric == 3:
        return np.array(tiff.colours).reshape(3, -1).T[whole[:, :, 0]] // 256
    top = 65535 if tiff.bits > 8 else (1 << tiff.bits) - 1
    if tiff.photometric == 0:
        whole = top - whole
    if tiff.photometric == 2:
        return whole[:, :, :3] * 255 // top if tiff.bits <= 8 else whole[:, :, :3] >> 8
    return np.repeat(np.round(whole[:, :, :1] * 255 / top).astype(np.int64), 3, axis=2)


def test_what_is_read_of_the_whole_grid_is_what_tifffile_reads_and_the_rest_is_skipped_by_its_tag() -> None:
    read = set()
    for tiff in grid():
        samples = samples_of(tiff)
        try:
            pixels = decode_image(tiff.written(samples)).pixels
        except BadImageError as error:
            assert NAMED.search(str(error)), f"{tiff} {error}"  # noqa: PT017 - read right or skipped, both are fine
            continue
        np.testing.assert_array_equal(pixels, as_rgb(read_by_tifffile(tiff, samples), tiff), err_msg=str(tiff))
        read.add((tiff.photometric, tiff.sample_format, tiff.bits))
    assert read >= READ
    assert (1, UNSIGNED, 12) not in read
    assert not {(0, UNSIGNED, 16), (1, SIGNED, 8), (1, FLOAT, 32)} & read


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("tiff", "named"),
    [
        (Tiff(16, photometric=2, planar=2), "PlanarConfiguration (tag 284) is 2, uncompressed and not of 8 bits"),
        (Tiff(16, photometric=2, planar=2, extras=(2,)), "PlanarConfiguration (tag 284) is 2"),
        (Tiff(16, photometric=0), "BitsPerSample (tag 258) is 16"),
        (Tiff(12), "BitsPerSample (tag 258) is 12"),
        (Tiff(8, SIGNED), "SampleFormat (tag 339) is 2, of 8 bits"),
        (Tiff(16, SIGNED, 2), "SampleFormat (tag 339) is 2"),
        (Tiff(32, FLOAT), "SampleFormat (tag 339) is 3, floating point pixels, whose range is not known"),
        (Tiff(8, photometric=2, planar=2, fill_order=2), "FillOrder (tag 266) is 2"),
        (Tiff(8, predictor=2), "Predictor (tag 317) is 2"),
        (Tiff(8, predictor=2, compression=PACKBITS), "Predictor (tag 317) is 2"),
        (Tiff(8, compression=DEFLATE, tags={317: (3,)}), "Predictor (tag 317) is 3"),
        (Tiff(8, tags={262: ()}), "PhotometricInterpretation (tag 262) is missing"),
        (Tiff(8, tags={262: (32803,)}), "PhotometricInterpretation (tag 262) is 32803"),
        (Tiff(8, tags={259: (6,)}), "Compression (tag 259) is 6"),
        (Tiff(8, photometric=2, tags={258: (8, 8, 16)}), "BitsPerSample (tag 258) is 8, 8, 16"),
        (Tiff(8, extras=(1,), planar=2, compression=DEFLATE), "ExtraSamples (tag 338) is 1"),
        (Tiff(8, photometric=3, colours=tuple(range(256)) * 3), "ColorMap (tag 320) is 0, 1, 2, 3, 4, 5 and 762 more"),
        (Tiff(8, photometric=3, colours=colours_of(4)), "ColorMap (tag 320)"),
        (Tiff(8, photometric=6), "YCbCrSubSampling (tag 530) is missing"),
        (
            Tiff(8, photometric=6, tags={530: (1, 1), 532: (16, 235, 128, 240, 128, 240)}),
            "ReferenceBlackWhite (tag 532)",
        ),
        (Tiff(8, photometric=6, tags={530: (1, 1), 529: (1, 1, 1)}), "YCbCrCoefficients (tag 529) is 1"),
        (Tiff(8, photometric=5, tags={332: (2,)}), "InkSet (tag 332) is 2"),
        (Tiff(8, photometric=5, tags={336: (255, 0)}), "DotRange (tag 336) is 255, 0"),
        (Tiff(8, tags={273: (0, 8)}), "StripOffsets (tag 273) is 0, 8"),
        (Tiff(8, tags={273: (8,), 279: (999,)}), "StripOffsets (tag 273) is 8"),
        (Tiff(8, photometric=8, planar=2), "PlanarConfiguration (tag 284) is 2, of CIELab"),
        (Tiff(8, photometric=8, planar=2, compression=LZW), "PlanarConfiguration (tag 284) is 2, of CIELab"),
        (Tiff(8, tags={279: (20, 20)}), "StripOffsets (tag 273)"),
        (Tiff(8, tile=(16, 16), compression=DEFLATE, tags={325: (40, 0)}), "TileOffsets (tag 324)"),
    ],
)
def test_a_kind_that_is_not_known_to_be_read_right_is_skipped_and_names_its_tag(
    tiff: Tiff, named: str, order: Literal["<", ">"]
) -> None:
    count = {2: 3, 5: 4, 6: 3, 8: 3}.get(tiff.photometric, 1) + len(tiff.extras)
    samples = np.arange(HEIGHT * WIDTH * count).reshape(HEIGHT, WIDTH, count) % 100
    data = replace(tiff, order=order).written(samples.astype(kind_of(tiff.bits, tiff.sample_format)))
    with pytest.raises(BadImageError, match=re.escape(named)):
        decode_image(data)


def test_signed_numbers_that_pillow_would_read_in_the_wrong_order_are_skipped() -> None:
    samples = np.full((HEIGHT, WIDTH, 1), 0x0102, np.int16)
    little = Tiff(16, SIGNED, compression=DEFLATE)
    assert (decode_image(little.written(samples)).pixels == 1).all()
    with pytest.raises(BadImageError, match=r"BitsPerSample \(tag 258\) is 16, signed, compressed and big-endian"):
        decode_image(replace(little, order=">").written(samples))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_what_tifffile_writes_is_read(big: bool, order: Any) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    for options in ({}, {"compression": "zlib", "predictor": True}, {"tile": (16, 32)}, {"rowsperstrip": 7}):
        file = io.BytesIO()
        tifffile.imwrite(file, rgb, photometric="rgb", bigtiff=big, byteorder=order, **options)
        if big and order == ">":  # which Pillow takes for one without tags
            with pytest.raises(BadImageError, match="a kind of TIFF that is not read"):
                decode_image(file.getvalue())
        else:
            np.testing.assert_array_equal(decode_image(file.getvalue()).pixels, rgb)


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("planar", [1, 2])
def test_inks_and_lab_and_ycbcr_are_what_they_are_in_other_files(compression: int, planar: int) -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rgb = Image.fromarray(np.stack([x * 12, y * 28, (x + y) * 8], axis=2).astype(np.uint8))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(rgb, *profiles, outputMode="LAB")
    assert lab is not None
    signed = np.asarray(lab)  # Pillow gives a and b as TIFF has them, signed
    lab_back = ImageCms.profileToProfile(lab, *profiles[::-1], outputMode="RGB")
    for photometric, samples, expected, tags, near in (
        (5, np.asarray(rgb.convert("CMYK")), rgb, {}, 0),
        (6, np.asarray(rgb.convert("YCbCr")), rgb.convert("YCbCr").convert("RGB"), {530: (1, 1)}, 1),
        (8, signed, lab_back, {}, 0),
    ):
        assert expected is not None
        data = Tiff(8, photometric=photometric, planar=planar, compression=compression, tags=tags).written(samples)
        try:
            found = decode_image(data).pixels.astype(int)
        except BadImageError as error:
            assert planar == 2, f"{photometric} {error}"  # noqa: PT017 - either end is fine, wrong pixels are not
            continue
        assert np.abs(found - np.asarray(expected)).max() <= near, photometric


def test_premultiplied_colours_are_divided_by_their_alpha() -> None:
    alpha = np.full((HEIGHT, WIDTH, 1), 128, np.uint8)
    colour = np.random.default_rng(0).integers(0, 129, (HEIGHT, WIDTH, 3), np.uint8)
    for compression in CODECS:
        data = Tiff(8, photometric=2, compression=compression, extras=(1,)).written(np.dstack([colour, alpha]))
        assert np.abs(decode_image(data).pixels - np.minimum(colour / 128 * 255, 255)).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_in_a_tiff_is_what_the_same_jpeg_is_alone(mode: str) -> None:
    y, x = np.mgrid[:40, :56]
    image = Image.fromarray(np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8)).convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF", compression="jpeg")
    assert np.abs(decode_image(file.getvalue()).pixels.astype(int) - np.asarray(image.convert("RGB"))).mean() < 4


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_lzw", "packbits"])
def test_black_and_white_is_read_in_every_compression_of_pillow(compression: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).random((40, 56)) < 0.5)
    file = io.BytesIO()
    image.save(file, "TIFF", compression=compression)
    np.testing.assert_array_equal(decode_image(file.getvalue()).pixels[:, :, 0], np.asarray(image) * 255)


def test_every_tag_that_is_judged_has_the_name_of_the_specification() -> None:
    for tag, name in tiff_kinds.NAMES.items():
        assert tifffile.TIFF.TAGS[tag] == name
    assert {tag for tag, _, _ in tiff_kinds._RULES} <= set(tiff_kinds.NAMES)
