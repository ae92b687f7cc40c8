"""Makes every checksum of a damaged config right again, as whoever damages it on purpose does.

The CRC-32 of Parquet pages, of JSON and of the table of offsets in tar shards, of each row's latent in the index; size
and sha256 of shards and index in the manifest; and the manifest's own digest. What cannot be read any more keeps what
it had.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentstore import open_store
from latentstore.containers.ustar import BLOCK, END
from latentstore.containers.webdataset import ENTRY, FOOTER, PICTURE_ENTRY
from latentstore.hashing import crc32_of, sha256_of

MANIFEST, INDEX = "manifest.json", "index.parquet"
DIGEST = re.compile(r'"digest": "([^"]*)"')
I32, CRC, SIZE = 5, 4, 3
"""Of Thrift's compact protocol: the type; of a page header: the fields of checksum and bytes in the file."""


@dataclass(frozen=True)
class Page:
    """Where a page of a whole Parquet file lies, and the checksum in its header."""

    crc: slice
    content: slice


def seal_file(folder: Path, name: str, whole: bytes) -> None:
    """Everything that follows from the bytes of a shard or of the index; ``whole`` is what they were before."""
    path = folder / name
    damaged = path.read_bytes()
    if len(damaged) == len(whole):  # else nothing lies where it was
        path.write_bytes(_with_checksums(path, damaged, whole))
    seal_entries(folder)


def seal_entries(folder: Path) -> None:
    """Size and sha256 of all listed files that are there, and the digest."""
    data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    shards = [shard for split in data["splits"].values() for shard in split["shards"]]
    for entry in [*shards, data["index"]]:
        path = folder / entry["path"]
        if path.is_file():
            entry |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    data["size"]["stored_bytes"] = sum(shard["bytes"] for shard in shards)
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    seal_digest(folder)


def seal_digest(folder: Path) -> None:
    """The digest of the manifest's text as it is now, whatever that says."""
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    found = list(DIGEST.finditer(text))
    if found:
        last = found[-1]
        without = f'{text[: last.start()]}"digest": ""{text[last.end() :]}'
        digest = hashlib.sha256(without.encode()).hexdigest()
        (folder / MANIFEST).write_text(f'{text[: last.start()]}"digest": "{digest}"{text[last.end() :]}', "utf-8")


def seal_index(folder: Path, columns: dict[str, list[Any]]) -> None:
    """Write these columns as the index, and what follows."""
    store = open_store(folder)
    store.container.write_index(folder / INDEX, store.schema, columns)
    seal_entries(folder)


def seal_rows(folder: Path, name: str) -> None:
    """The CRC-32 of every latent of a shard, in the index; whatever the library says of a damaged one is raised."""
    store = open_store(folder)
    number, info = next(
        (number, shard)
        for number, shard in enumerate(shard for split in store.manifest.splits.values() for shard in split.shards)
        if shard.path == name
    )
    reader = store.container.open(folder / name, store.schema)
    sums = crc32_of(reader.latents(np.arange(info.rows)))
    columns = store.index()
    first = sum(shard.rows for split in store.manifest.splits.values() for shard in split.shards[:number])
    columns["latent_crc32"][first : first + info.rows] = sums
    seal_index(folder, columns)


def _with_checksums(path: Path, damaged: bytes, whole: bytes) -> bytes:
    changed = bytearray(damaged)
    if path.suffix == ".tar":
        has_pictures = json.loads((path.parent / MANIFEST).read_text(encoding="utf-8")).get("thumbnail", 0) > 0
        _seal_table(changed, PICTURE_ENTRY if has_pictures else ENTRY)
        return bytes(changed)
    for page in _pages(whole):
        if damaged[page.content] != whole[page.content]:
            found = _varint(_zigzag(zlib.crc32(changed[page.content])), page.crc.stop - page.crc.start)
            if found is not None:
                changed[page.crc] = found
    return bytes(changed)


def _pages(whole: bytes) -> Iterator[Page]:
    """Every page with a checksum of a sound Parquet file."""
    import io

    import pyarrow.parquet as pq

    metadata = pq.ParquetFile(io.BytesIO(whole)).metadata
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            at = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
            end = at + column.total_compressed_size
            while at < end:
                crc, size, start = _header(whole, at)
                if crc is not None:
                    yield Page(crc, slice(start, start + size))
                at = start + size


def _header(whole: bytes, at: int) -> tuple[slice | None, int, int]:
    """Where the checksum of a page header lies, the page's bytes in the file, and where they begin."""
    from latentstore.containers.parquet_pages import page_header

    number, crc, size, place = 0, None, 0, at
    while whole[place] & 0x0F == I32:
        number += whole[place] >> 4
        start = place = place + 1
        value = shift = 0
        while True:
            value |= (whole[place] & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if whole[place - 1] < 0x80:
                break
        if number == CRC:
            crc = slice(start, place)
        elif number == SIZE:
            size = (value >> 1) ^ -(value & 1)
    try:
        return crc, size, at + page_header(memoryview(whole)[at:]).bytes
    except ValueError:  # a dictionary page: one struct of numbers follows
        while whole[place] != 0:
            place += 1
        return crc, size, place + 2


def _zigzag(checksum: int) -> int:
    signed = checksum - (1 << 32) if checksum >= 1 << 31 else checksum
    return (signed << 1) ^ (signed >> 31) if signed >= 0 else ((-signed) << 1) - 1


def _varint(value: int, size: int) -> bytes | None:
    """The number in so many bytes, of which the last ones may say nothing; None where it needs more."""
    if value >= 1 << 7 * size:
        return None
    return bytes((value >> 7 * place & 0x7F) | (0x80 if place < size - 1 else 0) for place in range(size))


def _seal_table(content: bytearray, entry: np.dtype[Any]) -> None:
    """The checksums of a tar shard's table of offsets: of each row's JSON, and of the table itself."""
    end = len(content) - len(END)
    start = content.rfind(b"__offsets__") + BLOCK
    if start < BLOCK or end - start < FOOTER.size:
        return
    _, rows, _ = FOOTER.unpack(content[end - FOOTER.size : end])
    if rows * entry.itemsize <= end - start - FOOTER.size:
        table = np.frombuffer(content, entry, rows, start)
        for row in table:
            first, size = int(row["json"]), int(row["json_bytes"])
            if first + size <= len(content):
                row["json_crc32"] = zlib.crc32(bytes(content[first : first + size]))
        del table
    content[end - 8 : end] = zlib.crc32(content[start : end - 8]).to_bytes(8, "little")
