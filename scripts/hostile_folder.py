"""Fills a folder with bad pictures and a few good ones, builds from it, and says what became of each.

    python scripts/hostile_folder.py                            1,000 hostile and 200 good ones, a minute on one core
    python scripts/hostile_folder.py --count 100 --seed 7
    python scripts/hostile_folder.py --only "scan bomb" --each

Every kind of hostile picture states what must become of it: it is used, because a stated rule makes 8-bit RGB of it
(section 15 of FORMAT.md), or it is skipped and listed with a reason that begins in a certain way; for flipped bits
either is right. The build is one through average pooling with --crop 32 and the share of bad pictures unlimited. Then
the rows and the list of skipped pictures are compared with what was made, and the default share must stop it.

Prints a Markdown table, seconds, and the peak of resident memory before the first picture and at the end; exits with 1
where anything became of a picture that must not, a warning was given, or `verify` finds anything.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import socket
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentstore import VAES, BuildPlan, Preparation, build, open_store, verify
from latentstore.errors import SourceError
from latentstore.manifest.names import SKIPPED
from latentstore.sources.naming import printable
from latentstore.sources.table import folder_source

Draw = random.Random
CROP = 32
EITHER = None
"""Of a kind that may be used or skipped, as it happens."""
USED = ""
DAMAGED = "damaged or cut"
UNKNOWN = "not a picture in a known format"
TOO_LARGE = "larger than"


# Files as they should be ---------------------------------------------------------------------------------------------


def scene(draw: Draw, height: int = 40, width: int = 48) -> Image.Image:
    """A few soft waves, RGB."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * draw.uniform(0.02, 0.3) + y * draw.uniform(0.02, 0.3) + draw.uniform(0, 6)) for _ in range(3)]
    return Image.fromarray((np.stack(waves, axis=-1) * 90 + 128).astype(np.uint8))


def noise(draw: Draw, height: int = 64, width: int = 64) -> Image.Image:
    """What no format makes small, so that most of the file is pixels."""
    return Image.frombytes("RGB", (width, height), draw.randbytes(3 * height * width))


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of its file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG, with its CRC."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, pixels: bytes, before: bytes = b"") -> bytes:
    """A PNG of compressed rows, with further chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(changes: Mapping[int, tuple[int, int, int]], pixels: bytes = b"", next_page: int = 0) -> bytes:
    """A little TIFF of 40x48 RGB, some tags of which are (type, count, value) as stated."""
    usual = {
        256: (4, 1, 48),
        257: (4, 1, 40),
        258: (3, 3, 1024),
        259: (3, 1, 1),
        262: (3, 1, 2),
        273: (4, 1, 2048),
        277: (3, 1, 3),
        278: (4, 1, 40),
        279: (4, 1, len(pixels) or 5760),
        284: (3, 1, 1),
    }
    tags = {**usual, **changes}
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", next_page)
    depths = struct.pack("<HHHHHH", *[8] * 6)
    return head.ljust(1024, b"\0") + depths.ljust(1024, b"\0") + (pixels or bytes(5760))


@cache
def zeros_compressed(size: int) -> bytes:
    """So many zero bytes, a thousandth of it in size."""
    packed = zlib.compressobj(9)
    whole, rest = divmod(size, 1 << 20)
    parts = [packed.compress(bytes(1 << 20)) for _ in range(whole)]
    return b"".join([*parts, packed.compress(bytes(rest)), packed.flush()])


# Files as they should not be -----------------------------------------------------------------------------------------


def cut(kind: str, **options: Any) -> Callable[[Draw], bytes]:
    """Some of the beginning of a file."""

    def make(draw: Draw) -> bytes:
        whole = file_of(noise(draw), kind, **options)
        return whole[: int(len(whole) * draw.uniform(0.1, 0.95))]

    return make


def flipped(draw: Draw) -> bytes:
    """A good file with some bits changed."""
    kind = draw.choice(["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"])
    data = bytearray(file_of(scene(draw), kind))
    for _ in range(draw.choice([1, 3, 30])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def animated(kind: str) -> Callable[[Draw], bytes]:
    """Three frames."""
    return lambda draw: file_of(scene(draw), kind, save_all=True, append_images=[scene(draw), scene(draw)])


def corrupt_deflate(draw: Draw) -> bytes:
    """A PNG whose checksums are right and whose compressed rows are none."""
    packed = bytearray(zlib.compress(draw.randbytes(40 * 145)))
    packed[20:40] = draw.randbytes(20)
    return png(48, 40, 8, 2, bytes(packed))


def wrong_crc(draw: Draw) -> bytes:
    """A PNG whose header does not have its checksum."""
    data = bytearray(file_of(scene(draw), "PNG"))
    data[29] ^= 0xFF
    return bytes(data)


def chunk_bomb(kind: bytes, content: bytes) -> Callable[[Draw], bytes]:
    """A small PNG with a chunk that is a hundred megabytes when it is unpacked."""
    return lambda _: png(
        48, 40, 8, 2, zlib.compress(bytes(40 * 145)), chunk(kind, content + zeros_compressed(100 << 20))
    )


def scan_bomb(draw: Draw) -> bytes:
    """A progressive JPEG that says the same thing a thousand times."""
    data = file_of(scene(draw), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 1000 + data[-2:]


def sixteen_bit_colour(draw: Draw) -> bytes:
    """A PNG of 16 bits a sample."""
    rows = b"".join(b"\0" + draw.randbytes(48 * 6) for _ in range(40))
    return png(48, 40, 16, 2, zlib.compress(rows))


def turned(draw: Draw) -> bytes:
    """A JPEG that lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = draw.randint(2, 8)
    return file_of(scene(draw), "JPEG", exif=exif)


def with_band(draw: Draw) -> bytes:
    """A TIFF of red, green, blue and near infrared."""
    return tiff({258: (3, 4, 1024), 277: (3, 1, 4), 279: (4, 1, 7680), 338: (3, 1, 0)}, draw.randbytes(7680))


def integers(draw: Draw, *, kind: type, largest: int) -> bytes:
    """A TIFF of one channel of such numbers."""
    values: NDArray[Any] = np.array([[draw.uniform(0, largest) for _ in range(48)] for _ in range(40)]).astype(kind)
    values[0, 0] = largest
    return file_of(Image.fromarray(values), "TIFF")


def many_pages(_: Draw) -> bytes:
    """A TIFF of a hundred thousand pages without pixels, each said to be a mask of the first."""
    count, start = 100_000, 8192
    entry = struct.pack("<HHHII", 1, 254, 4, 1, 4)
    offsets = [start + number * (len(entry) + 4) for number in range(count)]
    pages = b"".join(entry + struct.pack("<I", offset) for offset in [*offsets[1:], 0])
    return tiff({}, next_page=start).ljust(start, b"\0") + pages


def overviews(draw: Draw) -> bytes:
    """A TIFF with a smaller copy of itself."""
    small = scene(draw, 20, 24)
    small.encoderinfo = {"tiffinfo": {254: 1}}
    return file_of(scene(draw), "TIFF", save_all=True, append_images=[small])


def deep_palette(draw: Draw) -> bytes:
    """A palette with an alpha for each entry."""
    return file_of(scene(draw).quantize(8), "PNG", transparency=bytes(range(8)))


def with_alpha(mode: str, kind: str) -> Callable[[Draw], bytes]:
    """A picture that can be seen through."""

    def make(draw: Draw) -> bytes:
        image = scene(draw).convert(mode)
        image.putalpha(draw.randrange(256))
        return file_of(image, kind)

    return make


def as_mode(mode: str, kind: str, **options: Any) -> Callable[[Draw], bytes]:
    """A picture in other colours than RGB."""
    return lambda draw: file_of(scene(draw).convert(mode), kind, **options)


def plain(kind: str, **options: Any) -> Callable[[Draw], bytes]:
    """A picture."""
    return lambda draw: file_of(scene(draw), kind, **options)


def these(content: bytes) -> Callable[[Draw], bytes]:
    """These very bytes."""
    return lambda _: content


def no_bytes(_: Draw) -> bytes:
    """Nothing."""
    return b""


# What is no file -----------------------------------------------------------------------------------------------------


def write(path: Path, content: bytes) -> None:
    """As a file."""
    path.write_bytes(content)


def pipe(path: Path, _: bytes) -> None:
    """Nobody will ever write into it."""
    os.mkfifo(path)


def listening(path: Path, _: bytes) -> None:
    """A socket; the path of one is short, so it is made from inside its folder."""
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def linked_to(target: str) -> Callable[[Path, bytes], None]:
    """A link; ``{name}`` is its own name."""
    return lambda path, _: path.symlink_to(target.format(name=path.name))


def linked_pipe(path: Path, _: bytes) -> None:
    """A link to a pipe that is not called like a picture."""
    os.mkfifo(path.with_suffix(".pipe"))
    path.symlink_to(path.with_suffix(".pipe").name)


def empty_folder(path: Path, _: bytes) -> None:
    """A folder with a folder in it, and no picture."""
    (path / "inner").mkdir(parents=True)


def folder_loop(path: Path, _: bytes) -> None:
    """A folder that holds itself, beside a picture it does not."""
    path.mkdir()
    (path / "itself.png").symlink_to(".")


def locked(path: Path, content: bytes) -> None:
    """A file that nobody may read, but for those who may read everything."""
    path.write_bytes(content)
    path.chmod(0)


def sparse(path: Path, content: bytes) -> None:
    """A file of a terabyte that takes no room, or as large as there can be."""
    with path.open("wb") as file:
        file.write(content)
        for power in (40, 34, 31):
            try:
                file.truncate(1 << power)
            except OSError:
                continue
            return


# The table -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A way to be hostile."""

    name: str
    make: Callable[[Draw], bytes] = no_bytes
    becomes: str | None = USED
    """What its reason holds where it must be skipped; USED or EITHER."""
    suffix: str = ".png"
    put: Callable[[Path, bytes], None] = write
    file_name: bytes = b""
    """Of a kind that is hostile by its name: what comes after its number."""
    slow: bool = False
    """Made once only: it is many megabytes of pixels."""


NO_FORMAT: Mapping[str, bytes] = {
    "text": b"this is no picture\n",
    "web page": b"<!doctype html><title>404</title>",
    "vector drawing": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n",
    "archive": b"PK\x03\x04" + bytes(60),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
    "zeros": bytes(5000),
    "large metafile": b"\xd7\xcd\xc6\x9a" + bytes(60),
}
NAMES: Mapping[str, bytes] = {
    "newline in its name": b"new\nline\r\n.png",
    "emoji in its name": "\N{PILE OF POO}\N{EARTH GLOBE EUROPE-AFRICA}.png".encode(),
    "255 bytes of name": b"",
    "bytes that are no text in its name": b"\xff\xfe\x80.png",
    "escape sequence in its name": b"\x1b[31mred\x07.png",
    "right to left in its name": "\N{RIGHT-TO-LEFT OVERRIDE}gnp.png".encode(),
    "line separator in its name": "\N{LINE SEPARATOR}\N{NEXT LINE}.png".encode(),
    "quotes in its name": b"'\"`$(x);|&*?<>\\ .png",
    "combining letters in its name": "e\N{COMBINING ACUTE ACCENT}.PNG".encode(),
    "template in its name": b"{0}%s{path}.png",
    "name of a view": b"x@hflip.png",
}
BAD_TAGS: Mapping[str, Mapping[int, tuple[int, int, int]]] = {
    "no width": {256: (4, 1, 0)},
    "width of 2^32 - 1": {256: (4, 1, 0xFFFFFFFF)},
    "strips beyond the end": {273: (4, 1, 0x7FFFFFF0)},
    "tags of 4,000,000,000 entries": {273: (4, 4_000_000_000, 8), 279: (4, 4_000_000_000, 8)},
    "samples without number": {277: (3, 1, 65535)},
    "compression 65,000": {259: (3, 1, 65000)},
    "tiles of 2^30 pixels": {322: (4, 1, 1 << 30), 323: (4, 1, 1 << 30), 324: (4, 1, 8), 325: (4, 1, 8)},
    "deflate that is none": {259: (3, 1, 8)},
}

KINDS: tuple[Kind, ...] = (
    Kind("empty", becomes="empty file", suffix=".jpg"),
    *(Kind(f"{name} called a picture", these(data), UNKNOWN) for name, data in NO_FORMAT.items()),
    *(Kind(f"cut {kind}", cut(kind), DAMAGED) for kind in ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")),
    Kind("cut progressive JPEG", cut("JPEG", progressive=True), DAMAGED, ".jpg"),
    Kind("cut CMYK JPEG", lambda draw: as_mode("CMYK", "JPEG")(draw)[:500], DAMAGED, ".jpg"),
    Kind("flipped bits", flipped, EITHER),
    Kind("corrupt deflate", corrupt_deflate, DAMAGED),
    Kind("wrong CRC", wrong_crc, DAMAGED),
    Kind("first bytes alone", these(b"\x89PNG\r\n\x1a\n"), DAMAGED),
    *(Kind(f"animated {kind}", animated(kind), "several frames") for kind in ("GIF", "WEBP", "PNG")),
    Kind("several pages", animated("TIFF"), "several pages", ".tif"),
    Kind("100,000 pages", many_pages, DAMAGED, ".tif"),
    Kind("pages in a circle", lambda _: tiff({254: (4, 1, 1)}, next_page=8), EITHER, ".tif"),
    Kind("PNG bomb", these(png(60_000, 60_000, 8, 2, b"")), TOO_LARGE),
    Kind("PNG bomb, unpacked", lambda _: png(20_000, 20_000, 8, 2, zeros_compressed(1 << 28)), TOO_LARGE, slow=True),
    Kind("TIFF bomb", these(tiff({256: (4, 1, 60_000), 257: (4, 1, 60_000)})), TOO_LARGE, ".tiff"),
    Kind("BMP bomb", these(b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6)),
         TOO_LARGE, ".bmp"),
    Kind("GIF bomb", these(b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x08\0;"),
         TOO_LARGE),
    Kind("scan bomb", scan_bomb, "a JPEG of more than", ".jpg"),
    Kind("text bomb", chunk_bomb(b"zTXt", b"x\0\0"), DAMAGED),
    Kind("international text bomb", chunk_bomb(b"iTXt", b"x\0\1\0\0\0"), DAMAGED),
    Kind("colour profile bomb", chunk_bomb(b"iCCP", b"x\0\0"), EITHER),
    Kind("169 megapixels in 20 kB", lambda _: png(13_000, 13_000, 1, 0, zeros_compressed(13_000 * 1626)), slow=True),
    Kind("floating point", lambda draw: integers(draw, kind=np.float32, largest=1), "floating point", ".tif"),
    Kind("32 bit", lambda draw: integers(draw, kind=np.int32, largest=1 << 20), "whole numbers outside", ".tif"),
    *(Kind(f"TIFF with {name}", these(tiff(tags)), EITHER, ".tif") for name, tags in BAD_TAGS.items()),
    Kind("five bands", lambda draw: tiff({258: (3, 5, 1024), 262: (3, 1, 1), 277: (3, 1, 5)}, draw.randbytes(9600)),
         "a kind of TIFF that is not read", ".tif"),
    Kind("1 x 1", lambda draw: file_of(scene(draw, 1, 1), "PNG"), "smaller than the crop"),
    Kind("30,000 x 2", lambda draw: file_of(scene(draw, 2, 30_000), "PNG"), "smaller than the crop"),
    Kind("2 x 30,000", lambda draw: file_of(scene(draw, 30_000, 2), "JPEG"), "smaller than the crop", ".jpg"),
    Kind("pipe", becomes="a pipe, not a file", put=pipe),
    Kind("socket", becomes="a socket, not a file", put=listening),
    Kind("folder", becomes="a folder, not a file", put=empty_folder),
    Kind("folder that holds itself", becomes="a folder, not a file", put=folder_loop),
    Kind("dead link", becomes="cannot be read", put=linked_to("nowhere")),
    Kind("link to itself", becomes="cannot be read", put=linked_to("{name}")),
    Kind("link to a pipe", becomes="a pipe, not a file", put=linked_pipe),
    Kind("link to a device", becomes="is a link that leads out of the source", put=linked_to("/dev/zero")),
    Kind("forbidden", plain("PNG"), "cannot be read", put=locked),
    Kind("a terabyte of nothing", these(b""), UNKNOWN, put=sparse),
    Kind("a terabyte after a picture", plain("PNG"), "a file of", put=sparse),
    # What follows is used.
    *(Kind(name, plain("PNG"), file_name=file_name) for name, file_name in NAMES.items()),
    Kind("JPEG called PNG", plain("JPEG")),
    Kind("PNG called JPEG", plain("PNG"), suffix=".JPG"),
    Kind("GIF called PNG", plain("GIF")),
    Kind("WebP, lossless", plain("WEBP", lossless=True), suffix=".webp"),
    Kind("progressive JPEG", plain("JPEG", progressive=True), suffix=".jpeg"),
    Kind("JPEG of full colour", plain("JPEG", subsampling=0, quality=100), suffix=".jpg"),
    Kind("JPEG and more", lambda draw: plain("JPEG")(draw) + draw.randbytes(999), suffix=".jpg"),
    Kind("several pictures in a JPEG", animated("MPO"), suffix=".jpg"),
    Kind("CMYK JPEG", as_mode("CMYK", "JPEG"), suffix=".jpg"),
    Kind("CMYK TIFF", as_mode("CMYK", "TIFF"), suffix=".tif"),
    Kind("YCbCr TIFF", as_mode("YCbCr", "TIFF"), suffix=".tif"),
    Kind("LAB TIFF", as_mode("LAB", "TIFF"), suffix=".tif"),
    *(Kind(f"{mode} PNG", as_mode(mode, "PNG")) for mode in ("1", "L", "P")),
    *(Kind(f"{mode} BMP", as_mode(mode, "BMP"), suffix=".bmp") for mode in ("1", "L", "P", "RGB")),
    Kind("RGBA BMP", with_alpha("RGBA", "BMP"), suffix=".bmp"),
    Kind("palette with alpha", deep_palette),
    Kind("grey with alpha", with_alpha("LA", "PNG")),
    Kind("RGBA PNG", with_alpha("RGBA", "PNG")),
    Kind("RGBA WebP", with_alpha("RGBA", "WEBP"), suffix=".webp"),
    Kind("16 bit grey", lambda draw: integers(draw, kind=np.uint16, largest=65535), suffix=".tif"),
    Kind("16 bit colour", sixteen_bit_colour),
    Kind("four bands", with_band, suffix=".tif"),
    Kind("overviews", overviews, suffix=".tif"),
    Kind("turned", turned, suffix=".jpg"),
    Kind("corrupt EXIF", lambda draw: plain("JPEG", exif=b"Exif\0\0II*\0" + draw.randbytes(90))(draw), suffix=".jpg"),
    Kind("corrupt EXIF in a PNG", lambda draw: plain("PNG", exif=b"MM\0*" + draw.randbytes(90))(draw)),
    Kind("corrupt EXIF in a WebP", lambda draw: plain("WEBP", exif=b"Exif\0\0" + draw.randbytes(90))(draw),
         suffix=".webp"),
    Kind("broken colour profile", lambda draw: plain("PNG", icc_profile=draw.randbytes(300))(draw)),
    Kind("broken colour profile in a JPEG", lambda draw: plain("JPEG", icc_profile=draw.randbytes(300))(draw),
         suffix=".jpg"),
)  # fmt: skip


# The folder and what becomes of it -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """A picture that was put into the folder."""

    path: str
    """As the dataset will call it."""
    kind: str
    becomes: str | None


def fill(folder: Path, *, count: int, good: int, seed: int, kinds: tuple[Kind, ...] = KINDS) -> list[Made]:
    """So many hostile pictures, of all kinds in turn, and so many good ones of different sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(good):
        draw = Draw(f"good {seed} {number}")
        path = folder / f"good-{number:04d}{draw.choice(['.png', '.jpg', '.webp'])}"
        saved_as = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[path.suffix]
        path.write_bytes(file_of(scene(draw, draw.randint(32, 70), draw.randint(32, 70)), saved_as))
        made.append(Made(path.name, "good", USED))
    for number in range(count):
        kind = kinds[number % len(kinds)]
        if kind.slow and number >= len(kinds):
            kind = next(other for other in kinds if not other.slow)
        made.append(put(folder, kind, number, Draw(f"hostile {seed} {number}")))
    return made


def put(folder: Path, kind: Kind, number: int, draw: Draw) -> Made:
    """One hostile picture."""
    name = f"{number:04d}-".encode()
    if kind.name == "255 bytes of name":
        name = name.ljust(251, b"x") + b".png"
    else:
        name += kind.file_name or kind.name.replace(" ", "-").replace("/", "-").encode() + kind.suffix.encode()
    path = folder / os.fsdecode(name)
    kind.put(path, kind.make(draw))
    becomes = kind.becomes
    if kind.put is locked and os.access(path, os.R_OK):
        becomes = USED  # whoever is allowed everything reads this too
    return Made(printable(path.name), kind.name, becomes)


def plan_of(folder: Path, **changes: Any) -> BuildPlan:
    """Average pooling over the middle of each picture."""
    usual: dict[str, Any] = {
        "source": folder_source(folder),
        "vae": VAES["pool8"],
        "config": "hostile",
        "preparation": Preparation(crop=(CROP, CROP)),
        "rows_per_shard": 64,
        "max_bad": 1.0,
    }
    return BuildPlan(**{**usual, **changes})


def failures(made: list[Made], out: Path) -> Iterator[str]:
    """What is not as it must be, a sentence each."""
    store = open_store(out)
    rows = set(store.index(["source_path"])["source_path"])
    listed = {entry.source_path: entry.reason for entry in store.manifest.build.skipped}
    lines = [json.loads(line) for line in (store.folder / SKIPPED).read_text(encoding="ascii").splitlines()]
    if [entry["source_path"] for entry in lines] != [entry.source_path for entry in store.manifest.build.skipped]:
        yield f"{SKIPPED} lists other pictures than the manifest"
    for picture in made:
        reason = listed.get(picture.path, USED)
        if (picture.path in rows) == bool(reason):
            yield f"{picture.path!r} ({picture.kind}) is {'both used and skipped' if reason else 'lost'}"
        elif picture.becomes == USED and reason:
            yield f"{picture.path!r} ({picture.kind}) must be used, but is skipped: {reason}"
        elif picture.becomes and picture.becomes not in reason:
            yield f"{picture.path!r} ({picture.kind}) must be skipped ({picture.becomes}), found {reason or 'used'}"
    strangers = (rows | set(listed)) - {picture.path for picture in made}
    yield from (f"{path!r} was never made" for path in sorted(strangers))


def table(made: list[Made], out: Path) -> Iterator[str]:
    """Lines of a Markdown table: what became of each kind."""
    listed = {entry.source_path: entry.reason for entry in open_store(out).manifest.build.skipped}
    yield "| kind | made | used | skipped | for instance, because |"
    yield "|---|---:|---:|---:|---|"
    counts = Counter(picture.kind for picture in made)
    for kind, count in counts.items():
        reasons = [listed[picture.path] for picture in made if picture.kind == kind and picture.path in listed]
        told = reasons[0].replace("|", "/") if reasons else ""
        yield f"| {kind} | {count} | {count - len(reasons)} | {len(reasons)} | {told} |"
    skipped = sum(picture.path in listed for picture in made)
    yield f"| all | {len(made)} | {len(made) - skipped} | {skipped} | |"


def peak() -> float:
    """The most memory that this process held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Fill, build, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="hostile pictures")
    parser.add_argument("--good", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="the name of one kind")
    parser.add_argument("--each", action="store_true", help="print what became of each picture")
    options = parser.parse_args()
    kinds = tuple(kind for kind in KINDS if options.only in (None, kind.name))
    with tempfile.TemporaryDirectory(prefix="hostile-") as place:
        folder, out = Path(place, "pictures"), Path(place, "out")
        made = fill(folder, count=options.count, good=options.good, seed=options.seed, kinds=kinds)
        build(plan_of(folder, source=folder_source(few_of(folder, Path(place, "few")))), Path(place, "first"))
        before, started = peak(), time.perf_counter()
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            manifest = build(plan_of(folder), out)
        seconds = time.perf_counter() - started
        wrong = [*failures(made, out), *(f"a warning was given: {entry.message}" for entry in given)]
        report = verify(out, trust=True)
        wrong += [f"verify, {result.check}: {found}" for result in report.results for found in result.findings]
        wrong += [*not_stopped(folder, Path(place, "stopped"))]
        if options.each:
            reasons = {entry.source_path: entry.reason for entry in manifest.build.skipped}
            print("\n".join(f"{picture.path!r}: {reasons.get(picture.path, 'used')}" for picture in made))
        print("\n".join(table(made, out)))
        print(f"\nconversions: {json.dumps(dict(manifest.build.conversions))}")
        print(f"{seconds:.1f} s; {before:.0f} MiB at most before the first picture, {peak():.0f} MiB at the end")
        print(f"{len(wrong)} failures of {len(made):,} pictures, seed {options.seed}")
        print("".join(f"  {line}\n" for line in wrong), end="")
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o644)
    return int(bool(wrong))


def few_of(folder: Path, place: Path) -> Path:
    """The first good pictures alone: what a build takes before it meets any other."""
    place.mkdir()
    for path in sorted(folder.glob("good-*"))[:8]:
        (place / path.name).write_bytes(path.read_bytes())
    return place


def not_stopped(folder: Path, out: Path) -> Iterator[str]:
    """A sentence where a build that nobody allowed so many bad pictures is not stopped by them."""
    try:
        build(plan_of(folder, max_bad=0.05), out)
    except SourceError as error:
        print(f"With the usual share: {error}\n")
    else:
        yield "the share of bad pictures did not stop the build"


if __name__ == "__main__":
    sys.exit(main())
