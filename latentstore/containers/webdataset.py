"""Tar shards that `webdataset`, `datasets` and tar read as they are, and this library reads by byte offset.

A row is two to four files: ``<key>.latent.npy``, ``<key>.json`` (its scalar columns), where the config has classes
``<key>.cls``, and where it has thumbnails ``<key>.thumbnail.webp``. The last file, ``__offsets__``, which those readers
pass over, says where the numbers and the JSON of every row lie, and how long its thumbnail is. All other bytes follow
from the schema, the ids, the labels and the sizes, so the reader compares them with what it would have written itself.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from latentstore.containers.arrow_features import feature_of_column
from latentstore.containers.columns import Column
from latentstore.containers.damage import damage_to
from latentstore.containers.interface import THUMBNAIL
from latentstore.containers.json_rows import column_array, json_features, json_row, json_rows
from latentstore.containers.row_gather import gathered
from latentstore.containers.row_ranges import KeptTail, read_rows
from latentstore.containers.ustar import BLOCK, END, digits_of, fill, header, set_checksums, whole_blocks
from latentstore.errors import DamagedShardError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from latentstore.containers.interface import RowBlock, ShardBytes, ShardSchema

FAST = "fast"
NUMBERS, SCALARS, LABEL, PICTURE = b".latent.npy", b".json", b".cls", b".thumbnail.webp"
"""What follows the key in the names of a row's files."""
NO_LABEL = -1
"""In a ``.cls`` file, which must hold a number; `datasets` takes this one for a missing label."""
OFFSETS = b"__offsets__"
ENTRY = np.dtype([("numbers", "<u8"), ("json", "<u8"), ("json_bytes", "<u4"), ("json_crc32", "<u4")])
"""Of each row: where its numbers and its JSON begin in the file, how long the JSON is, and its CRC-32."""
PICTURE_ENTRY = np.dtype([*ENTRY.descr, ("picture_bytes", "<u4"), ("picture_crc32", "<u4")])
"""The same, and of its thumbnail too."""
FOOTER = struct.Struct("<8sQQ")
"""At the end of the table: magic, number of rows, CRC-32 of all before itself."""
MAGIC = b"latents1"
NPY_HEADER_BYTES = 128
BEFORE = BLOCK + NPY_HEADER_BYTES
"""Bytes of a row before its numbers: both headers."""
ROW_DIGITS, ID_DIGITS = 10, 16
ROW_BLOCKS = 4
"""Of a row, at least: two files of a header and content. So a table of many rows lies in a file that is much longer."""
ROWS_AT_ONCE = 1024


def write_webdataset(path: Path, schema: ShardSchema, layout: str, blocks: Iterable[RowBlock]) -> None:  # noqa: ARG001
    """Write one shard; see ``ContainerRow.write``. There is one layout."""
    tables = [np.empty(0, _entry(schema))]
    rows = end = 0
    with path.open("wb") as file:
        for block in blocks:
            texts = list(json_rows(schema, block.columns))
            pictures = block.columns[THUMBNAIL] if schema.thumbnail else None
            table, end = _placed(schema, _described(schema, texts, pictures), start=end)
            labels = block.columns["label"] if schema.class_names is not None else [None] * len(block)
            latents = np.ascontiguousarray(block.latents, _dtype(schema))
            for place, (latent, text) in enumerate(zip(latents, texts, strict=True)):
                key = _key(rows + place, block.columns["id"][place])
                file.write(_before_numbers(schema, key))
                file.write(latent)
                file.write(_after_numbers(schema, key, text, labels[place]))
                if pictures is not None:
                    file.write(_picture_file(key, pictures[place]))
            tables.append(table)
            rows += len(block)
        file.write(_offsets_file(np.concatenate(tables)))
        file.write(END)


def open_webdataset(path: Path, schema: ShardSchema) -> TarShard:
    """Open one shard; see ``ContainerRow.open``."""
    return TarShard(path, schema)


def open_webdataset_ranges(source: ShardBytes, schema: ShardSchema) -> RangedTar:
    """Open one shard that lies elsewhere; see ``ContainerRow.open_ranges``."""
    return RangedTar(source, schema)


def rows_together(_: ShardSchema, __: str) -> int:
    """Every row lies by itself; see ``ContainerRow.rows_together``."""
    return 1


def reader_features(schema: ShardSchema) -> dict[str, Any]:
    """The columns that `datasets` gives of such shards; see ``ContainerRow.reader_features``."""
    scalars, text = json_features(schema), {"dtype": "string", "_type": "Value"}
    numbers = {"shape": list(schema.latent_shape), "dtype": schema.dtype, "_type": "Array3D"}
    files: dict[bytes, Any] = {NUMBERS: numbers, SCALARS: scalars}
    if schema.class_names is not None:
        files[LABEL], scalars["label"] = scalars["label"], {"dtype": "int64", "_type": "Value"}  # names once are enough
    if schema.thumbnail:
        files[PICTURE] = feature_of_column(schema, THUMBNAIL)
    return {suffix.decode()[1:]: feature for suffix, feature in files.items()} | {"__key__": text, "__url__": text}


class TarShard:
    """One tar shard, opened for reading rows in any order.

    Opening reads the table of offsets and no row but the first, so that a dataset larger than the memory opens at once;
    the headers before a row's numbers are checked when the row is first read.
    """

    def __init__(self, path: Path, schema: ShardSchema) -> None:
        self._path = path
        self._schema = schema
        with damage_to(f"Shard {path} cannot be read as tar"), path.open("rb") as file:
            self._table = _read_table(partial(_bytes_of, file), path.stat().st_size, _entry(schema))
        self.rows: int = len(self._table)
        self._offsets = self._table["numbers"].astype(np.int64)
        self._checked = np.zeros(self.rows, bool)
        self._check_table()
        if self.rows:
            self._scalars(0)

    def latents(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See ``ShardReader.latents``."""
        offsets = self._offsets[rows]
        new = rows[~self._checked[rows]]
        for start in range(0, len(new), ROWS_AT_ONCE):
            self._check_headers(new[start : start + ROWS_AT_ONCE])
        return gathered(self._bytes, offsets, _dtype(self._schema), self._schema.latent_shape)

    def mapped(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
        """See ``ShardReader.mapped``."""
        return (self._bytes if self.rows else np.empty(0, np.uint8)), self._offsets

    def columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """See ``ShardReader.columns``."""
        pictures = THUMBNAIL if self._schema.thumbnail else None
        scalars = self.scalars([name for name in names if name != pictures])
        columns = {name: list(column) for name, column in scalars.items()}
        if pictures in names:
            columns[THUMBNAIL] = [self._picture(row) for row in range(self.rows)]
        return {name: columns[name] for name in names}

    def scalars(self, names: Sequence[str]) -> dict[str, Column]:
        """See ``ShardReader.scalars``."""
        starts = range(0, max(1, self.rows), ROWS_AT_ONCE) if names else ()
        parts = [self._some_scalars(names, range(start, min(self.rows, start + ROWS_AT_ONCE))) for start in starts]
        return {name: Column.joined([part[name] for part in parts]) for name in names}

    def thumbnail_bytes(self) -> int:
        """See ``ShardReader.thumbnail_bytes``: those that the table of offsets says, which has a checksum."""
        return int(self._table["picture_bytes"].sum(dtype=np.int64)) if self._schema.thumbnail else 0

    def _some_scalars(self, names: Sequence[str], rows: range) -> dict[str, Column]:
        """Neighbouring rows only: JSON text and Python objects take several times what a column does."""
        found = [self._scalars(row) for row in rows]
        with damage_to(f"Shard {self._path} cannot be decoded"):
            return {
                name: Column.of_array(column_array(self._schema, name, [scalars[name] for scalars in found]))
                for name in names
            }

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        return np.memmap(self._path, dtype=np.uint8, mode="r")

    def _check_table(self) -> None:
        """DamagedShardError unless the file is, byte for byte, as long as rows of this schema and these JSON texts."""
        if self.rows:
            found, wanted = self._bytes[BLOCK:][:NPY_HEADER_BYTES].tobytes(), _npy_header(self._schema)
            if found != wanted:
                message = f"Shard {self._path} holds latents of {_in_words(found)}"
                raise DamagedShardError(f"{message}, its manifest describes {_in_words(wanted)}.")
        _check_places(self._path, self._schema, self._table, self._path.stat().st_size)

    def _check_headers(self, rows: NDArray[np.int64]) -> None:
        """DamagedShardError unless both headers before the numbers of these rows are as they were written."""
        found = np.lib.stride_tricks.sliding_window_view(self._bytes, BEFORE)[self._offsets[rows] - BEFORE]
        _check_before(self._path, self._schema, rows, found)
        self._checked[rows] = True

    def _scalars(self, row: int) -> dict[str, Any]:
        """One row as JSON gives it; DamagedShardError unless all of the row but its numbers is as it was written."""
        entry = self._table[row]
        start, size, first = int(entry["json"]), int(entry["json_bytes"]), int(entry["numbers"])
        text = self._bytes[start : start + size].tobytes()
        with damage_to(f"Shard {self._path}, row {row}"):
            if zlib.crc32(text) != entry["json_crc32"]:
                message = "the CRC-32 of its JSON is not the one in the table of offsets."
                raise ValueError(message)
            scalars = json_row(self._schema, text)
            key = _key(row, scalars["id"])
            before, after = (
                _before_numbers(self._schema, key),
                _after_numbers(self._schema, key, text, scalars.get("label")),
            )
            end = first + _numbers_bytes(self._schema)
            surrounding = self._bytes[first - len(before) : first].tobytes(), self._bytes[end:][: len(after)].tobytes()
            if surrounding != (before, after):
                message = "its files are not as they were written for this id, label and size."
                raise ValueError(message)
        return scalars

    def _picture(self, row: int) -> bytes:
        """The thumbnail of a row; DamagedShardError unless its file is as it was written."""
        size = int(self._table[row]["picture_bytes"])
        length = BLOCK + whole_blocks(size)
        start = self._end_of_row(row) - length
        found = self._bytes[start : start + length].tobytes()
        picture = found[BLOCK : BLOCK + size]
        key = self._bytes[self._offsets[row] - BEFORE :][: ROW_DIGITS + 1 + ID_DIGITS].tobytes()
        if zlib.crc32(picture) != self._table[row]["picture_crc32"] or found != _picture_file(key, picture):
            message = f"Shard {self._path}, row {row}: the file of its thumbnail is not as it was written."
            raise DamagedShardError(message)
        return picture

    def _end_of_row(self, row: int) -> int:
        """Where the next row begins, or the last file."""
        if row + 1 < self.rows:
            return int(self._offsets[row + 1]) - BEFORE
        return self._path.stat().st_size - len(END) - len(_offsets_file(self._table))


class RangedTar:
    """One tar shard that lies elsewhere: opening reads the table of offsets; neighbouring rows are one range."""

    def __init__(self, source: ShardBytes, schema: ShardSchema) -> None:
        self._source = source
        self._schema = schema
        with damage_to(f"Shard {source.name} cannot be read as tar"):
            table = _read_table(KeptTail(source).read, source.size, _entry(schema))
        _check_places(source.name, schema, table, source.size)
        self.rows: int = len(table)
        self._offsets = table["numbers"].astype(np.int64)

    def stored(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See ``RangedShard.stored``."""
        found = read_rows(self._source.read, self._offsets[rows] - BEFORE, BEFORE + _numbers_bytes(self._schema))
        _check_before(self._source.name, self._schema, rows, found[:, :BEFORE])
        return np.ascontiguousarray(found[:, BEFORE:])


def _bytes_of(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)


def _read_table(read: Callable[[int, int], bytes], size: int, entry: np.dtype[Any]) -> NDArray[Any]:
    """The entries of every row, from the end of a file of so many bytes; ValueError where there is no whole table.

    ``read`` gives the file's bytes from one offset to before another; ``entry`` is the type of an entry.
    """
    tail = read(max(0, size - FOOTER.size - len(END)), size)
    magic, rows, checksum = FOOTER.unpack(tail[: FOOTER.size].ljust(FOOTER.size, b"\0"))
    length = whole_blocks(rows * entry.itemsize + FOOTER.size)
    start = size - len(END) - length
    if magic != MAGIC or tail[FOOTER.size :] != END or start < BLOCK + rows * ROW_BLOCKS * BLOCK:
        message = "it does not end with a table of offsets and two blocks of zeros."
        raise ValueError(message)
    text = read(start - BLOCK, start + length)
    named, content = text[:BLOCK], text[BLOCK:]
    if named != header(OFFSETS, length) or zlib.crc32(content[:-8]) != checksum:
        message = "its table of offsets was changed."
        raise ValueError(message)
    return np.frombuffer(content, entry, rows)


def _check_places(shard: object, schema: ShardSchema, table: NDArray[Any], size: int) -> None:
    """DamagedShardError unless rows of this schema and these JSON texts lie there, and take so many bytes in all."""
    placed, end = _placed(schema, table)
    if size != end + len(_offsets_file(placed)) + len(END) or (placed != table).any():
        message = f"Shard {shard}: its table of offsets does not describe the files of {len(table)} rows"
        raise DamagedShardError(f"{message} with the columns that its manifest describes.")


def _check_before(shard: object, schema: ShardSchema, rows: NDArray[np.int64], found: NDArray[np.uint8]) -> None:
    """DamagedShardError unless both headers before the numbers of these rows, (N, BEFORE), are as they were written."""
    expected = np.tile(np.frombuffer(_before_numbers(schema, _key(0, "")), np.uint8), (len(rows), 1))
    ids = slice(ROW_DIGITS + 1, ROW_DIGITS + 1 + ID_DIGITS)
    expected[:, :ROW_DIGITS] = digits_of(rows, base=10, count=ROW_DIGITS)
    expected[:, ids] = found[:, ids]  # whether they are those of the id, the JSON says
    set_checksums(expected[:, :BLOCK])
    wrong = rows[(found != expected).any(axis=1)]
    if len(wrong):
        raise DamagedShardError(f"Shard {shard}, row {wrong[0]}: its .npy file does not begin as written.")


def _offsets_file(table: NDArray[Any]) -> bytes:
    """Header and content of the last file; its footer ends with its last block."""
    entries = table.tobytes()
    length = whole_blocks(len(entries) + FOOTER.size)
    footer = FOOTER.pack(MAGIC, len(table), 0)[:-8]
    content = entries.ljust(length - FOOTER.size, b"\0") + footer
    return header(OFFSETS, length) + content + zlib.crc32(content).to_bytes(8, "little")


def _entry(schema: ShardSchema) -> np.dtype[Any]:
    """What the table has of each row."""
    return PICTURE_ENTRY if schema.thumbnail else ENTRY


def _placed(schema: ShardSchema, described: NDArray[Any], *, start: int = 0) -> tuple[NDArray[Any], int]:
    """Entries of rows that follow each other from byte ``start`` on, and where the next row begins.

    ``described`` are entries with lengths and checksums; their offsets are not looked at.
    """
    sizes = described["json_bytes"].astype(np.int64)
    numbers = BLOCK + whole_blocks(NPY_HEADER_BYTES + _numbers_bytes(schema))
    label = 2 * BLOCK if schema.class_names is not None else 0
    picture = BLOCK + whole_blocks(described["picture_bytes"].astype(np.int64)) if schema.thumbnail else 0
    ends = start + np.cumsum(numbers + BLOCK + whole_blocks(sizes) + label + picture, dtype=np.int64)
    starts = np.concatenate([[start], ends])
    table = described.copy()
    table["numbers"] = starts[:-1] + BLOCK + NPY_HEADER_BYTES
    table["json"] = starts[:-1] + numbers + BLOCK
    return table, int(starts[-1])


def _described(schema: ShardSchema, texts: Sequence[bytes], pictures: Sequence[bytes] | None) -> NDArray[Any]:
    """Entries of rows with these JSON texts and thumbnails, without their offsets."""
    table = np.zeros(len(texts), _entry(schema))
    for name, files in (("json", texts), ("picture", pictures)):
        if files is not None:
            table[f"{name}_bytes"] = [len(file) for file in files]
            table[f"{name}_crc32"] = [zlib.crc32(file) for file in files]
    return table


def _before_numbers(schema: ShardSchema, key: bytes) -> bytes:
    """All bytes of a row before its numbers."""
    return header(key + NUMBERS, NPY_HEADER_BYTES + _numbers_bytes(schema)) + _npy_header(schema)


def _after_numbers(schema: ShardSchema, key: bytes, text: bytes, label: int | None) -> bytes:
    """All bytes of a row after its numbers, but for its thumbnail."""
    parts = [fill(NPY_HEADER_BYTES + _numbers_bytes(schema)), header(key + SCALARS, len(text)), text, fill(len(text))]
    if schema.class_names is not None:
        number = b"%d" % (NO_LABEL if label is None else label)
        parts += [header(key + LABEL, len(number)), number, fill(len(number))]
    return b"".join(parts)


def _picture_file(key: bytes, picture: bytes) -> bytes:
    """The file of a thumbnail, the last of its row."""
    return header(key + PICTURE, len(picture)) + picture + fill(len(picture))


def _key(row: int, id_: str) -> bytes:
    """The name that a row's files share. Ids may hold dots and slashes, so part of their sha256 stands for them."""
    digest = hashlib.sha256(id_.encode()).hexdigest()[:ID_DIGITS]
    return b"%0*d-%s" % (ROW_DIGITS, row, digest.encode())


def _npy_header(schema: ShardSchema) -> bytes:
    """What a ``.npy`` file of version 1.0 begins with. Formula: numpy.lib.format, "Format Version 1.0"."""
    described = f"{{'descr': '{_dtype(schema).str}', 'fortran_order': False, 'shape': {schema.latent_shape}, }}"
    length = NPY_HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + described.encode().ljust(length - 1) + b"\n"


def _in_words(npy_header: bytes) -> str:
    """What an ``.npy`` header says, or that it is none."""
    if not npy_header.startswith(b"\x93NUMPY"):
        return "no .npy file"
    return npy_header[10:].decode("latin-1").strip()


def _dtype(schema: ShardSchema) -> np.dtype[Any]:
    return np.dtype(schema.dtype).newbyteorder("<")


def _numbers_bytes(schema: ShardSchema) -> int:
    return schema.row_values * _dtype(schema).itemsize
