"""Parquet shards that a plain `datasets.load_dataset` reads as shaped arrays and this library reads by byte offset.

``latent`` is list<list<list<float>>> carrying the Array3D extension metadata of `datasets`, written with pyarrow
alone; numbers of one byte are a column of fixed-size binary instead. One row group is one page of the latent column.
In layout ``fast`` that page is PLAIN and uncompressed, so the numbers of a row lie contiguous at a known offset of the
file; in layout ``compact`` it is compressed with zstd, floats after byte-stream-split.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from latentstore.containers.arrow_features import (
    BYTES,
    arrow_type,
    feature_of_column,
    kept_by_parquet,
    scalar_array,
    typed_array,
)
from latentstore.containers.arrow_numbers import byte_values, leaf_values, number_values
from latentstore.containers.columns import Column, give_back_memory
from latentstore.containers.damage import damage_to
from latentstore.containers.interface import INDEX_COLUMNS, THUMBNAIL, RowBlock, regrouped
from latentstore.containers.parquet_limits import FREE_BYTES, LATENT_GROWTH, CheckedParquet, Room, mapped_bytes
from latentstore.containers.parquet_pages import ColumnChunk, column_chunks, data_page
from latentstore.containers.row_gather import gathered
from latentstore.errors import DamagedShardError

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from latentstore.containers.interface import ShardSchema

FAST, COMPACT = "fast", "compact"
ROW_GROUP_BYTES = 16 << 20
"""Payload of one row group: large enough for compression, small enough to stream (facts of the Hub's readers)."""
ROWS_WITH_THUMBNAILS = 16384
"""Rows of one row group at most, where they have thumbnails: about a kilobyte each, whatever the size of the latent."""
LEAF = "latent.list.element.list.element.list.element"
ZSTD_LEVEL = 3


def write_parquet(path: Path, schema: ShardSchema, layout: str, blocks: Iterable[RowBlock]) -> None:
    """Write one shard; see ``ContainerRow.write``."""
    import pyarrow.parquet as pq

    arrow = _arrow_schema(schema)
    with pq.ParquetWriter(path, arrow, **_writer_options(schema, layout)) as writer:
        for group in regrouped(blocks, _rows_per_group(schema)):
            writer.write_table(_table(schema, arrow, group), row_group_size=len(group))


def open_parquet(path: Path, schema: ShardSchema) -> ParquetShard:
    """Open one shard; see ``ContainerRow.open``."""
    return ParquetShard(path, schema)


def rows_together(schema: ShardSchema, layout: str) -> int:
    """Rows of one row group, which are compressed together; see ``ContainerRow.rows_together``."""
    return _rows_per_group(schema) if layout == COMPACT else 1


def latent_column_bytes(path: Path) -> int:
    """Bytes that the latents of a shard take in its file, page headers included; other columns and footer are not."""
    with damage_to(f"Shard {path} cannot be read as Parquet"), path.open("rb") as file:
        return sum(chunk.bytes for chunk in column_chunks(memoryview(file.read()), "latent"))


class ParquetShard:
    """One Parquet shard, opened for reading rows in any order."""

    def __init__(self, path: Path, schema: ShardSchema) -> None:
        self._path = path
        self._schema = schema
        self._dtype = np.dtype(schema.dtype).newbyteorder("<")
        self._nested = schema.dtype != BYTES
        self._file = self._open()
        self.rows = self._file.rows
        with damage_to(f"Shard {path} cannot be read as Parquet"):
            self._offsets = self._row_offsets()
        self._bytes: NDArray[np.uint8] | None = None
        self._decoded: NDArray[Any] | None = None

    def latents(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See ``ShardReader.latents``."""
        if self._offsets is None:
            if self._decoded is None:
                self._decoded = self._decode_all()
            return np.asarray(self._decoded[rows])
        if self._bytes is None:
            self._bytes = self._map()
        return gathered(self._bytes, self._offsets[rows], self._dtype, self._schema.latent_shape)

    def mapped(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
        """See ``ShardReader.mapped``."""
        if self._offsets is None:
            return None
        if self._bytes is None:
            self._bytes = self._map()
        return self._bytes, self._offsets

    def columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """See ``ShardReader.columns``."""
        with damage_to(f"Shard {self._path} cannot be decoded"):
            found = self._file.columns(names)
            return {name: _values(name, column, self._schema) for name, column in found.items()}

    def scalars(self, names: Sequence[str]) -> dict[str, Column]:
        """See ``ShardReader.scalars``."""
        with damage_to(f"Shard {self._path} cannot be decoded"):
            found = self._file.columns(names, threads=False)
            return {name: Column(column) for name, column in found.items()}

    def thumbnail_bytes(self) -> int:
        """See ``ShardReader.thumbnail_bytes``."""
        import pyarrow.compute as pc

        if not self._schema.thumbnail:
            return 0
        total = 0
        with damage_to(f"Shard {self._path} cannot be decoded"):
            for group in range(len(self._file.footer.groups)):
                pictures = self._file.of_group(group, [THUMBNAIL]).column(THUMBNAIL)
                files = pc.struct_field(pictures, "bytes")  # null where the picture is
                total += pc.sum(pc.binary_length(files)).as_py() or 0
        return total

    def _open(self) -> CheckedParquet:
        with damage_to(f"Shard {self._path} cannot be read as Parquet"):
            file = CheckedParquet(self._path, checksums=True)
            arrow = file.file.schema_arrow
            missing = file.lacking(self._schema.columns)
            if missing:
                listed = ", ".join(missing)
                raise DamagedShardError(f"Shard {self._path} lacks columns that its manifest describes: {listed}.")
            found, wanted = _latent_kind(arrow.field("latent")), _latent_kind(_latent_field(self._schema))
            if found != wanted:
                message = f"Shard {self._path} holds latents of {found}, its manifest describes {wanted}."
                raise DamagedShardError(message)
        return file

    def _row_offsets(self) -> NDArray[np.int64] | None:
        """Byte offset of each row's numbers, or None where they must be decoded first."""
        row_bytes = self._schema.row_values * self._dtype.itemsize
        offsets = [np.empty(0, np.int64)]
        buffer = mapped_bytes(self._path)
        chunks = column_chunks(buffer, "latent")
        each = self._schema.row_values if self._nested else 1
        wrong = any(chunk.values != chunk.rows * each for chunk in chunks)
        if wrong or sum(chunk.rows for chunk in chunks) != self.rows:
            message = f"Shard {self._path}: its row groups do not hold {self.rows} whole latents."
            raise DamagedShardError(message)
        for chunk in chunks:
            first = self._first_value(buffer, chunk)
            if first is None:
                return None
            offsets.append(first + row_bytes * np.arange(chunk.rows, dtype=np.int64))
        return np.concatenate(offsets)

    def _first_value(self, buffer: memoryview, chunk: ColumnChunk) -> int | None:
        """Offset of the first number of a row group; None where it is not one plain page without nulls."""
        if chunk.compressed:
            return None
        page = data_page(buffer, chunk.offset, nested=self._nested)
        payload = chunk.rows * self._schema.row_values * self._dtype.itemsize
        if not page.plain or page.values != chunk.values or page.end - page.first != payload:
            return None
        if not 0 <= page.first <= page.end <= len(buffer):
            raise DamagedShardError(f"Shard {self._path}: a page of {chunk.rows} rows is shorter than its numbers.")
        return page.first

    def _map(self) -> NDArray[np.uint8]:
        return np.memmap(self._path, dtype=np.uint8, mode="r")

    def _decode_all(self) -> NDArray[Any]:
        decoded = np.empty((self.rows, self._schema.row_values), self._dtype)
        start, row_bytes = 0, self._schema.row_values * self._dtype.itemsize
        with damage_to(f"Shard {self._path} cannot be decoded"):
            for number, group in enumerate(self._file.footer.groups):
                room = Room(FREE_BYTES + LATENT_GROWTH * group.rows * row_bytes)
                for chunk in self._file.of_group(number, ["latent"], room).column("latent").chunks:
                    rows = len(chunk)
                    values = leaf_values(chunk, self._schema.latent_shape) if self._nested else byte_values(chunk)
                    decoded[start : start + rows] = values.reshape(rows, self._schema.row_values)
                    start += rows
        return decoded.reshape(self.rows, *self._schema.latent_shape)


def deviations(path: Path, schema: ShardSchema, layout: str) -> list[str]:
    """How a shard's description of itself differs from the schema's; see ``ContainerRow.deviations``."""
    import pyarrow.parquet as pq

    wanted = _arrow_schema(schema)
    with damage_to(f"Shard {path} cannot be read as Parquet"):
        found = pq.read_schema(path, memory_map=True)
        compressed = {chunk.compressed for chunk in column_chunks(mapped_bytes(path), "latent") if chunk.rows}
        described = json.loads((found.metadata or {}).get(b"huggingface", b"null"))
    faults = []
    if found.names != wanted.names:
        faults.append(f"has the columns {', '.join(found.names)}, expected {', '.join(wanted.names)} in this order")
    for name in (column for column in schema.columns if column != "latent"):
        kind, expected = found.field(name).type, kept_by_parquet(wanted.field(name).type)
        if kind != expected:
            faults.append(f"column {name!r} is of type {kind}, expected {expected}")
    if described != json.loads(wanted.metadata[b"huggingface"]):
        faults.append("describes other columns or classes to `datasets` than the manifest does")
    if compressed - {layout == COMPACT}:
        faults.append(f"is not written in layout {layout!r}, as the manifest says")
    return faults


def write_index(path: Path, schema: ShardSchema, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write the scalar columns of all rows; see ``ContainerRow.write_index``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [_scalar_field(schema, name) for name in schema.scalar_columns]
    arrays = [scalar_array(schema, name, columns[name]) for name in schema.scalar_columns]
    for name, alias in INDEX_COLUMNS.items():
        fields.append(pa.field(name, pa.type_for_alias(alias)))
        arrays.append(typed_array(columns[name], fields[-1].type))
    features = {name: feature_of_column(schema, name) for name in schema.scalar_columns}
    features |= {name: {"dtype": alias, "_type": "Value"} for name, alias in INDEX_COLUMNS.items()}
    arrow = pa.schema(fields, metadata=_huggingface(features))
    table = pa.table(arrays, schema=arrow)
    pq.write_table(table, path, compression="zstd", compression_level=ZSTD_LEVEL)
    give_back_memory()


def read_index(path: Path | BinaryIO, names: Sequence[str] | None, rows: int) -> dict[str, list[Any]]:
    """Columns of the index; see ``ContainerRow.read_index``."""
    with damage_to(f"Index {path} cannot be read"):
        index = _index(path, names or (), rows)
        wanted = index.file.schema_arrow.names if names is None else names
        found: dict[str, list[Any]] = {name: [] for name in wanted}
        for number in range(len(index.footer.groups)):  # more need not be in memory twice
            group = index.of_group(number, list(wanted))
            for name, values in found.items():
                values.extend(group.column(name).to_pylist())
        return found


def index_arrays(path: Path | BinaryIO, names: Sequence[str], rows: slice, total: int) -> dict[str, Any]:
    """Columns of the index as arrays; see ``ContainerRow.index_arrays``."""
    with damage_to(f"Index {path} cannot be read"):
        index = _index(path, names, total)
        return {name: _array(column) for name, column in index.columns(names, rows).items()}


def _index(path: Path | BinaryIO, names: Sequence[str], rows: int) -> CheckedParquet:
    """The index, once it was found to have so many rows and these columns."""
    index = CheckedParquet(path)
    if index.rows != rows:
        raise DamagedShardError(f"Index {path} has {index.rows} rows, the manifest says {rows}.")
    if lacking := index.lacking(names):
        raise DamagedShardError(f"Index {path} lacks the columns {', '.join(lacking)}.")
    return index


def _array(column: pa.ChunkedArray) -> Any:
    import pyarrow as pa

    number = pa.types.is_floating(column.type) or (pa.types.is_integer(column.type) and not column.null_count)
    return _numbers(column) if number else column.to_pylist()


def _numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers; null is NaN, which only floats can be."""
    values, known = number_values(column.combine_chunks())
    return values if known is None else np.where(known, values, np.array(np.nan, values.dtype))


def _arrow_schema(schema: ShardSchema) -> pa.Schema:
    import pyarrow as pa

    own = {"latent": _latent_field, THUMBNAIL: _thumbnail_field} if schema.thumbnail else {"latent": _latent_field}
    fields = [own[name](schema) if name in own else _scalar_field(schema, name) for name in schema.columns]
    features = {f.name: feature_of_column(schema, f.name) for f in fields}
    return pa.schema(fields, metadata=_huggingface(features))


def _huggingface(features: Mapping[str, Any]) -> dict[str, str]:
    """The schema entry from which `datasets` takes column types."""
    return {"huggingface": json.dumps({"info": {"features": features}})}


def _latent_field(schema: ShardSchema) -> pa.Field:
    import pyarrow as pa

    if schema.dtype == BYTES:
        return pa.field("latent", pa.binary(schema.row_values))
    leaf = pa.from_numpy_dtype(np.dtype(schema.dtype))
    return pa.field(
        "latent",
        pa.list_(pa.list_(pa.list_(leaf))),
        metadata={
            "ARROW:extension:name": "datasets.features.features.Array3DExtensionType",
            "ARROW:extension:metadata": json.dumps([list(schema.latent_shape), schema.dtype]),
        },
    )


def _thumbnail_field(_: ShardSchema) -> pa.Field:
    import pyarrow as pa

    return pa.field(THUMBNAIL, pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]))


def _scalar_field(schema: ShardSchema, name: str) -> pa.Field:
    import pyarrow as pa

    return pa.field(name, arrow_type(feature_of_column(schema, name), name))


def _writer_options(schema: ShardSchema, layout: str) -> dict[str, Any]:
    # One page a row group: `fast` readers compute offsets from it, so no limit may split it.
    options: dict[str, Any] = {
        "data_page_size": 1 << 30,
        "max_rows_per_page": 1 << 30,
        "write_statistics": list(schema.scalar_columns),
        "use_dictionary": list(schema.scalar_columns),
        "version": "2.6",
        "write_page_checksum": True,  # a byte that was flipped on the way is noticed when the page is decoded
        "store_schema": True,
    }
    leaf, packed = ("latent", "PLAIN") if schema.dtype == BYTES else (LEAF, "BYTE_STREAM_SPLIT")
    if layout == FAST:
        return options | {"compression": "none", "column_encoding": {leaf: "PLAIN"}}
    return options | {"compression": "zstd", "compression_level": ZSTD_LEVEL, "column_encoding": {leaf: packed}}


def _rows_per_group(schema: ShardSchema) -> int:
    rows = max(1, ROW_GROUP_BYTES // (schema.row_values * np.dtype(schema.dtype).itemsize))
    return min(rows, ROWS_WITH_THUMBNAILS) if schema.thumbnail else rows


def _table(schema: ShardSchema, arrow: pa.Schema, group: RowBlock) -> pa.Table:
    import pyarrow as pa

    arrays = []
    for field in arrow:
        if field.name == "latent":
            latents = np.ascontiguousarray(group.latents, np.dtype(schema.dtype).newbyteorder("<"))
            arrays.append(_as_bytes(latents) if schema.dtype == BYTES else _nested(latents))
        elif field.name == THUMBNAIL and schema.thumbnail:
            arrays.append(_pictures(group.columns[THUMBNAIL]))
        else:
            arrays.append(scalar_array(schema, field.name, group.columns[field.name]))
    return pa.table(arrays, schema=arrow)


def _pictures(files: Sequence[bytes]) -> pa.Array:
    """WebP files as `datasets` stores pictures; they have no path."""
    import pyarrow as pa

    names = ["bytes", "path"]
    return pa.StructArray.from_arrays([pa.array(files, pa.binary()), pa.nulls(len(files), pa.string())], names)


def _values(name: str, column: pa.ChunkedArray, schema: ShardSchema) -> list[Any]:
    """A column as Python values; of a thumbnail, the bytes of its file."""
    found: list[Any] = column.to_pylist()
    if name != THUMBNAIL or not schema.thumbnail:
        return found
    return [picture["bytes"] if picture is not None else None for picture in found]


def _as_bytes(latents: NDArray[Any]) -> pa.Array:
    """(N, C, h, w) of one byte each as fixed-size binary, sharing memory."""
    import pyarrow as pa

    kind = pa.binary(latents[0].size)
    return pa.Array.from_buffers(kind, len(latents), [None, pa.py_buffer(latents)])


def _nested(latents: NDArray[Any]) -> pa.Array:
    """(N, C, h, w) as list<list<list>>, sharing memory."""
    import pyarrow as pa

    array = pa.array(latents.reshape(-1))
    for axis in (3, 2, 1):
        outer = int(np.prod(latents.shape[:axis]))
        offsets = np.arange(outer + 1, dtype=np.int32) * latents.shape[axis]
        array = pa.ListArray.from_arrays(pa.array(offsets), array)
    return array


def _latent_kind(field: pa.Field) -> str:
    """Type and shape of a latent column in words; an extension type only where `datasets` is imported."""
    import pyarrow as pa

    kind, described = field.type, (field.metadata or {}).get(b"ARROW:extension:metadata", b"[null]")
    if isinstance(kind, pa.BaseExtensionType):
        described, kind = kind.__arrow_ext_serialize__(), kind.storage_type
    depth = 0
    while pa.types.is_list(kind):
        kind, depth = kind.value_type, depth + 1
    return f"{depth} nested lists of {kind} and shape {json.loads(described)[0]}"
