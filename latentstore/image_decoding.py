"""Bytes of a picture → pixels: the only door to PIL for reading what sources hold.

The format is found in the content, never in the name: JPEG, PNG, TIFF, WebP, BMP and GIF. What comes out is always
uint8 RGB; each step that was needed is named in `DecodedImage.conversions`, and `CONVERSIONS` states its rule.

Refused with `BadImageError`, whose text is one short line, free of addresses and file names, and the same on each run:
no bytes, no file (a pipe, a socket, a folder), another format, damaged or cut, several frames or pages (a GeoTIFF's
overviews and masks are no pages), more than `MAX_PIXELS`, floating point, whole numbers outside 16 bits, and every kind
of TIFF that is not known to be read right (`tiff_kinds.py`). Nothing
that a file says of itself makes reading it endless: the number of its bytes, pages and scans is limited too.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import struct
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from latentstore.errors import BadImageError
from latentstore.fast_jpeg import decoded_jpeg, in_one_scan
from latentstore.tiff_kinds import layout_of, why_not_read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 178_956_970
"""Height times width of the largest picture that is decoded: where PIL, too, refuses unless told otherwise."""

LARGE_FILE_BYTES = 64 << 20
BYTES_PER_PIXEL = 12
"""A file of more than the former has no more than the latter for each pixel: four 16 bit samples, and overviews."""

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")

CONVERSIONS: Mapping[str, str] = {
    "turned by its EXIF orientation": "upright, as tag 0x0112 says (in a PNG: where eXIf stands before the pixels)",
    "1 bit to RGB": "black is 0, white is 255, in all three channels",
    "grey to RGB": "the same value in all three channels",
    "palette to RGB": "the colour of each entry",
    "CMYK to RGB": "by the plain formula, (255 - C) x (255 - K) / 255 and so on; no colour profile is used",
    "YCbCr to RGB": "as in JPEG (JFIF); where the file is a JPEG this is decoding, and not counted",
    "LAB to RGB": "through the colour profiles of LAB and sRGB",
    "HSV to RGB": "by the plain formula",
    "alpha dropped": "the colour under it is kept; nothing is blended",
    "16 bit to 8": "grey: value / 257, rounded, so that 65535 becomes 255",
    "16 bit to 8 (high byte)": "colour: value / 256, rounded down",
    "further bands dropped": "the first three of a TIFF that says it is RGB and has more",
    "first of several pictures": "of a JPEG with further ones (MPO), which are previews or the other eye",
    "channels first to last": "of numbers that a Hub dataset holds in place of a file, (3, H, W)",
}
"""Every step that may be needed to get 8-bit RGB, by the name under which it is counted, and its rule."""

MAX_SCANS = 500
"""Of a progressive JPEG, which needs about ten: each costs a pass over all its pixels."""
MAX_PAGES = 64
"""Of a TIFF: a picture, its overviews and masks."""
_MAX_REASON = 200
_PIXELS_AT_ONCE = 1 << 22

_FIRST_BYTES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"RIFF": "WEBP",
    b"BM": "BMP",
    b"GIF8": "GIF",
}

_NO_FILE = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)

_ORIENTATION_TAG = 0x0112
_SUBFILE_TAG = 254
_SAMPLES_TAG = 277
_REDUCED_OR_MASK = 0b101
_START_OF_SCAN = b"\xff\xda"
_KINDS = {"1": "1 bit", "L": "grey", "LA": "grey", "La": "grey", "P": "palette", "PA": "palette"} | {
    mode: mode for mode in ("CMYK", "YCbCr", "LAB", "HSV")
}

# Python keeps one list of warning filters for all threads; two that change it at once would leave it changed.
_FILTERS = threading.Lock()
_PIL_LOG = logging.getLogger("PIL")


@dataclass(frozen=True)
class DecodedImage:
    """A picture as pixels."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) uint8 RGB, 0..255, upright, its own memory."""
    conversions: tuple[str, ...]
    """What had to be done to get there, in order ("palette to RGB", "16 bit to 8"); empty if nothing."""


def decode_image(data: bytes) -> DecodedImage:
    """The picture that the bytes of a file hold; raises BadImageError with the reason why there is none."""
    if not data:
        raise BadImageError("empty file")
    with _told_as_bad(), _opened(io.BytesIO(data)) as (image, orientation):
        _check_scans(image, data)
        if (image.format, image.mode, orientation) == ("JPEG", "RGB", 1):
            pixels = decoded_jpeg(data, (image.height, image.width))
            if pixels is not None:
                return DecodedImage(pixels, ())
        return _pixels(image, orientation)


@contextmanager
def _told_as_bad() -> Iterator[None]:
    """Decoders raise anything at all on damaged bytes: all of it is a BadImageError."""
    try:
        yield
    except BadImageError:
        raise
    except Exception as error:
        raise BadImageError(f"damaged or cut: {_told(error)}") from error


def read_picture(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a picture's file; BadImageError where they cannot be read, or are no file or too many.

    What is no regular file is never opened: reading from a pipe waits for a writer, from a device it may not end.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - names may be undecodable bytes
        _check_kind(found)
        if found.st_size > LARGE_FILE_BYTES:
            _check_large(path, found.st_size)
        return Path(path).read_bytes() if found.st_size else b""  # what the kernel makes up has no size, nor an end
    except OSError as error:
        raise BadImageError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a dataset may name a file by something that is no path
        raise BadImageError(f"cannot be read: {error}") from error


def read_open_picture(file: IO[bytes]) -> bytes:
    """Likewise of a file that is open already and does not know its size: one inside an archive, or fetched."""
    most = LARGE_FILE_BYTES + BYTES_PER_PIXEL * MAX_PIXELS
    data = file.read(most + 1)
    if len(data) > LARGE_FILE_BYTES:
        with _told_as_bad(), _opened(io.BytesIO(data)) as (image, _):
            _check_bytes(len(data), image)
    return data


def image_size(source: bytes | str | os.PathLike[str]) -> tuple[int, int] | None:
    """(height, width) of the upright picture, from its header alone; None where the header already rules it out."""
    try:
        if not isinstance(source, bytes):
            _check_kind(os.stat(source))  # noqa: PTH116 - as in read_picture
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:  # noqa: PTH123, SIM117
            with _opened(file) as (image, orientation):
                width, height = image.size
    except Exception:  # noqa: BLE001 - as in decode_image; why it is unreadable is said when it is read
        return None
    turned = orientation > 4 and image.format != "TIFF"  # PIL gives the size of a TIFF as it is after turning
    return (width, height) if turned else (height, width)


def _check_kind(found: os.stat_result) -> None:
    """Raises BadImageError for what is no file."""
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _NO_FILE if is_kind(found.st_mode)), "a device")
        raise BadImageError(f"{kind}, not a file")


def _check_large(path: str | os.PathLike[str], size: int) -> None:
    """Raises BadImageError for a large file whose header rules it out, or says that most of it is no picture."""
    with open(path, "rb") as file, _told_as_bad(), _opened(file) as (image, _):  # noqa: PTH123
        _check_bytes(size, image)


def _check_bytes(size: int, image: ImageFile) -> None:
    if size > LARGE_FILE_BYTES + BYTES_PER_PIXEL * image.width * image.height:
        raise BadImageError(f"a file of {size:,} bytes for {image.height} x {image.width} pixels")


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[tuple[ImageFile, int]]:
    """The opened, undecoded picture and its EXIF orientation; BadImageError if the header already rules it out."""
    from PIL import Image, UnidentifiedImageError

    image: ImageFile | None = None
    try:
        with _without_warnings():
            image = Image.open(file, formats=FORMATS)
            _check_header(image)
            orientation = _orientation(image)
        yield image, orientation
    except UnidentifiedImageError as error:
        raise BadImageError(_why_unknown(file)) from error
    except Image.DecompressionBombError as error:
        raise BadImageError(f"larger than {MAX_PIXELS:,} pixels") from error
    finally:
        if image is not None:
            image.close()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """PIL's warnings about large or untidy files are dropped: what matters about them is raised or recorded here.

    What it logs goes to those who listen, and no longer to the terminal where nobody does.
    """
    if not _PIL_LOG.handlers:
        _PIL_LOG.addHandler(logging.NullHandler())
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _why_unknown(file: IO[bytes]) -> str:
    """Why PIL could not tell what it is: PIL keeps to itself what it found wrong."""
    from PIL import Image

    file.seek(0)
    first = file.read(8)
    kind = next((name for start, name in _FIRST_BYTES.items() if first.startswith(start)), None)
    if kind is None:
        return f"not a picture in a known format ({', '.join(FORMATS)})"
    file.seek(0)
    try:
        with _without_warnings():
            Image.OPEN[kind][0](file, "").close()
    except Exception as error:  # noqa: BLE001 - decoders raise anything at all
        why = (_tags_told(file) if kind == "TIFF" else "") or _told(error)
        return f"damaged or cut, or a kind of {kind} that is not read: {why}"
    return f"damaged or cut, or a kind of {kind} that is not read"


def _tags_told(file: IO[bytes]) -> str:
    """The tags that say why a TIFF cannot be opened; empty where they, too, cannot be read."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    file.seek(0)
    try:
        head = file.read(8)
        tags = ImageFileDirectory_v2(head + file.read(8) if 43 in head[2:4] else head)
        file.seek(tags.next)
        with _without_warnings():
            tags.load(file)
        return (why_not_read(tags, big_endian=tags.prefix == b"MM") or layout_of(tags)) if tags else ""
    except Exception:  # noqa: BLE001 - decoders raise anything at all
        return ""


def _check_header(image: ImageFile) -> None:
    """Raises BadImageError for what needs no decoding to be refused."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{height} x {width} pixels, larger than {MAX_PIXELS:,} pixels")
    if width * height == 0:
        raise BadImageError("no pixels")
    if image.format == "TIFF":
        if why := why_not_read(image.tag_v2, big_endian=image.tag_v2.prefix == b"MM"):  # type: ignore[attr-defined]
            raise BadImageError(f"a kind of TIFF that is not read: {why}")
        _check_pages(image)
    elif image.format != "MPO" and getattr(image, "is_animated", False):
        raise BadImageError("several frames (animated), not one picture")


def _check_pages(image: ImageFile) -> None:
    """Raises BadImageError for a TIFF with several pictures that are no copies or masks of the first.

    Its pages are not counted first: a chain of them may be as long as the file, or lead back into itself.
    """
    pictures = 0
    for page in range(MAX_PAGES + 1):
        try:
            image.seek(page)
        except EOFError:
            break
        pictures += not int(image.tag_v2.get(_SUBFILE_TAG, 0)) & _REDUCED_OR_MASK  # type: ignore[attr-defined]
        if pictures > 1 or page == MAX_PAGES:
            raise BadImageError("several pages, not one picture")
    image.seek(0)


def _check_scans(image: ImageFile, data: bytes) -> None:
    """Raises BadImageError for a JPEG that would be decoded over and over."""
    if image.format not in {"JPEG", "MPO"} or in_one_scan(data):
        return
    if data.count(_START_OF_SCAN) > MAX_SCANS:
        raise BadImageError(f"a JPEG of more than {MAX_SCANS} scans")


def _orientation(image: ImageFile) -> int:
    """1 (upright) to 8, as EXIF counts; 1 where nothing sensible is said."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # PIL would decode the whole picture to look for it behind the pixels
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - decoders raise anything at all; the pixels do not need it
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _pixels(image: ImageFile, orientation: int) -> DecodedImage:
    import numpy as np
    from PIL import Image

    steps = ["first of several pictures"] if image.format == "MPO" and getattr(image, "n_frames", 1) > 1 else []
    deep_colour = _reads_high_bytes(image)
    if image.format == "TIFF" and (orientation > 1 or image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0)):
        with _without_warnings():  # it checks its size once more, and turns itself with a look at its other tags
            image.load()
    upright = _turned(image, orientation)
    if orientation > 1:
        steps.append("turned by its EXIF orientation")
    if deep_colour:
        steps.append("16 bit to 8 (high byte)")
    if image.mode == "I" or image.mode.startswith("I;"):
        grey = _eight_bits(np.asarray(upright))
        return DecodedImage(np.repeat(grey[:, :, None], 3, axis=2), (*steps, "16 bit to 8", "grey to RGB"))
    if image.mode in _KINDS:
        steps.append(f"{_KINDS[image.mode]} to RGB")
    if image.format == "TIFF" and image.tag_v2.get(_SAMPLES_TAG, 1) > len(image.getbands()):  # type: ignore[attr-defined]
        steps.append("further bands dropped")
    if image.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info:
        steps.append("alpha dropped")
    pixels = np.empty((upright.height, upright.width, 3), np.uint8)
    rows = max(1, _PIXELS_AT_ONCE // upright.width)
    for top in range(0, upright.height, rows):  # one go for most: a large one does not need its memory three times
        part = (
            upright
            if rows >= upright.height
            else upright.crop((0, top, upright.width, min(upright.height, top + rows)))
        )
        pixels[top : top + rows] = np.asarray(_rgb(part))
    return DecodedImage(pixels, tuple(steps))


def _reads_high_bytes(image: ImageFile) -> bool:
    """Whether PIL's decoder will cut 16 bit samples to 8 on its own; single grey channels keep their 16 bits."""
    if not image.tile or image.mode.startswith("I"):
        return False
    arguments = image.tile[0][3]
    raw_mode = arguments if isinstance(arguments, str) else (arguments or ("",))[0]
    return ";16" in str(raw_mode)


def _turned(image: ImageFile, orientation: int) -> Image.Image:
    """The decoded picture, upright."""
    from PIL.Image import Transpose

    image.load()
    if orientation == 1 or image.format == "TIFF":
        return image
    turns = (
        *(Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM, Transpose.TRANSPOSE),
        *(Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90),
    )
    return image.transpose(turns[orientation - 2])


def _eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey values of 16 bits (H, W) as uint8: value / 257, rounded, so that 65535 becomes 255."""
    import numpy as np

    if values.min() < 0 or values.max() > 65535:
        raise BadImageError("whole numbers outside 0..65535, whose range is not known")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _rgb(image: Image.Image) -> Image.Image:
    """The picture in mode RGB, alpha dropped."""
    if image.mode == "RGB":
        return image
    if image.mode == "LAB":
        return _from_lab(image)
    if image.mode == "P":
        # by way of RGBA, or PIL warns about palettes whose entries have an alpha each
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode in {"RGBa", "La"}:
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    return image.convert("RGB")


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    if converted is None:
        raise BadImageError("LAB colours could not be converted")
    return converted


def _told(error: Exception) -> str:
    """The error in one line that is the same on each run, can be printed, and does not fill the screen."""
    if isinstance(error, struct.error) or isinstance(error.__cause__, struct.error):
        return "it ends in its header"
    lines = str(error).strip().splitlines()
    text = lines[0] if lines and " at 0x" not in lines[0] else type(error).__name__
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= _MAX_REASON else f"{text[: _MAX_REASON - 1]}…"
