"""Bytes of a picture → pixels: the only door to PIL for reading what sources hold.

The format is found in the content, never in the name: JPEG, PNG, TIFF, WebP, BMP and GIF. What comes out is always
uint8 RGB; each step that was needed is named in `DecodedImage.conversions`:

    EXIF orientation            the picture is turned upright (in a PNG: where eXIf stands before the pixels)
    grey, 1 bit, palette        to RGB
    CMYK, YCbCr, LAB, HSV       to RGB (LAB through its colour profile, CMYK by the plain formula)
    alpha                       dropped, the colour under it kept
    16 bit grey                 to 8 bits: value / 257, rounded
    16 bit colour               to 8 bits: the high byte (PIL reads no more than that)
    JPEG with further pictures  the first is taken (MPO: the others are previews or the other eye)

Refused with `BadImageError`, whose text is short, free of addresses and file names, and the same on each run: no
bytes, another format, damaged or cut, several frames or pages (a GeoTIFF's overviews and masks are no pages), more
than `MAX_PIXELS`, floating point, and whole numbers outside 16 bits.
"""

from __future__ import annotations

import io
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from latentstore.errors import BadImageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 178_956_970
"""Height times width of the largest picture that is decoded: where PIL, too, refuses unless told otherwise."""

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")

_ORIENTATION_TAG = 0x0112
_SUBFILE_TAG = 254
_REDUCED_OR_MASK = 0b101
_KINDS = {"1": "1 bit", "L": "grey", "LA": "grey", "La": "grey", "P": "palette", "PA": "palette"} | {
    mode: mode for mode in ("CMYK", "YCbCr", "LAB", "HSV")
}

# Python keeps one list of warning filters for all threads; two that change it at once would leave it changed.
_FILTERS = threading.Lock()


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
    try:
        with _opened(io.BytesIO(data)) as (image, orientation):
            return _pixels(image, orientation)
    except BadImageError:
        raise
    except Exception as error:  # decoders raise anything at all on damaged bytes
        raise BadImageError(f"damaged or cut: {_told(error)}") from error


def image_size(source: bytes | str | os.PathLike[str]) -> tuple[int, int] | None:
    """(height, width) of the upright picture, from its header alone; None where the header already rules it out."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:  # noqa: PTH123, SIM117
            with _opened(file) as (image, orientation):
                width, height = image.size
    except Exception:  # noqa: BLE001 - as in decode_image; why it is unreadable is said when it is read
        return None
    turned = orientation > 4 and image.format != "TIFF"  # PIL gives the size of a TIFF as it is after turning
    return (width, height) if turned else (height, width)


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
        raise BadImageError(f"not a picture in a known format ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise BadImageError(f"larger than {MAX_PIXELS:,} pixels") from error
    finally:
        if image is not None:
            image.close()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """PIL's warnings about large or untidy files are dropped: what matters about them is raised or recorded here."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_header(image: ImageFile) -> None:
    """Raises BadImageError for what needs no decoding to be refused."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{height} x {width} pixels, larger than {MAX_PIXELS:,} pixels")
    if width * height == 0:
        raise BadImageError("no pixels")
    if image.mode == "F":
        raise BadImageError("floating point pixels, whose range is not known")
    frames = _frames(image)
    if frames > 1:
        raise BadImageError(f"{frames} {'pages' if image.format == 'TIFF' else 'frames (animated)'}, not one picture")


def _frames(image: ImageFile) -> int:
    """How many pictures the file holds that are no copies, masks or previews of the first."""
    count: int = getattr(image, "n_frames", 1)
    if count == 1 or image.format == "MPO":
        return 1
    if image.format != "TIFF":
        return count
    pictures = 0
    for page in range(count):
        image.seek(page)
        pictures += not int(image.tag_v2.get(_SUBFILE_TAG, 0)) & _REDUCED_OR_MASK  # type: ignore[attr-defined]
    image.seek(0)
    return pictures


def _orientation(image: ImageFile) -> int:
    """1 (upright) to 8, as EXIF counts; 1 where nothing sensible is said."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # PIL would decode the whole picture to look for it behind the pixels
    value = image.getexif().get(_ORIENTATION_TAG, 1)
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
    if image.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info:
        steps.append("alpha dropped")
    return DecodedImage(np.array(_rgb(upright), dtype=np.uint8, order="C"), tuple(steps))


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
    """The error in one line that is the same on each run."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines and " at 0x" not in lines[0] else type(error).__name__
