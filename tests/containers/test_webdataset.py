"""Tar shards: where their bytes lie, what the real readers of tar files see, and damage."""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import io
import json
import math
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import shards

from latentstore.containers.interface import ShardSchema
from latentstore.containers.json_rows import column_array, json_features, json_row, json_rows
from latentstore.containers.table import CONTAINERS
from latentstore.containers.ustar import LARGEST_FILE, header
from latentstore.containers.webdataset import (
    ENTRY,
    FAST,
    FOOTER,
    MAGIC,
    open_webdataset,
    open_webdataset_ranges,
    write_webdataset,
)
from latentstore.errors import DamagedShardError, RequestError
from latentstore.records import LatentRecord
from latentstore.shards import blocks_of

SCHEMA = ShardSchema((3, 4, 5), "float16", ("a", "b"), ("psnr",))
IDS = ("plain", "dots.in/../names.tar", "scènes/été 🛰️", "__id__", "", "a b\n", "last")


def written_to(path: Path, rows: Iterable[LatentRecord], schema: ShardSchema = SCHEMA) -> Path:
    write_webdataset(path, schema, FAST, blocks_of(rows, schema))
    return path


def records(schema: ShardSchema = SCHEMA) -> list[LatentRecord]:
    """Seven rows with latents of any value, one of them without a label; the same at each call."""
    random = np.random.default_rng(0)
    return [
        LatentRecord(
            id=id_,
            latent=random.normal(0, 3, schema.latent_shape).astype(schema.dtype),
            label=None if row == 2 else row % 2,
            height=32,
            width=40,
            source_path=f"{row}.png",
            source_sha256="0" * 64,
            source_bytes=row,
            scores=dict.fromkeys(schema.metrics, 30.1 + row),
        )
        for row, id_ in enumerate(IDS)
    ]


def latents(schema: ShardSchema = SCHEMA) -> np.ndarray[Any, Any]:
    """The same latents, (N, C, h, w)."""
    return np.stack([record.latent for record in records(schema)])


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A shard of seven rows."""
    return written_to(tmp_path / "train-000000.tar", records())


def read_all(path: Path, schema: ShardSchema = SCHEMA) -> tuple[bytes, dict[str, list[Any]]]:
    """Everything a reader can ask for."""
    reader = open_webdataset(path, schema)
    return reader.latents(np.arange(reader.rows)).tobytes(), reader.columns(schema.scalar_columns)


def members(path: Path) -> dict[str, bytes]:
    """Every file in the archive as Python's tarfile reads it."""
    with tarfile.open(path, "r:") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


# What lies in the file ----------------------------------------------------------------------------------------------


def test_a_row_is_three_files_of_one_key_in_a_fixed_order_and_the_table_comes_last(shard: Path) -> None:
    names = list(members(shard))
    keys = [f"{row:010d}-{hashlib.sha256(id_.encode()).hexdigest()[:16]}" for row, id_ in enumerate(IDS)]
    assert names == [f"{key}{end}" for key in keys for end in (".latent.npy", ".json", ".cls")] + ["__offsets__"]


def test_without_classes_a_row_is_two_files(tmp_path: Path) -> None:
    schema = replace(SCHEMA, class_names=None)
    names = list(members(written_to(tmp_path / "x", records(schema), schema)))
    assert {name.partition(".")[2] for name in names[:-1]} == {"latent.npy", "json"}


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_the_numbers_are_npy_files_as_numpy_writes_them(tmp_path: Path, dtype: str) -> None:
    schema = replace(SCHEMA, dtype=dtype)
    found = members(written_to(tmp_path / "x", records(schema), schema))
    for record, (name, content) in zip(records(schema), list(found.items())[::3], strict=False):
        buffer = io.BytesIO()
        np.save(buffer, record.latent)
        assert content == buffer.getvalue(), name


def test_the_json_holds_every_scalar_column_with_exact_scores(shard: Path) -> None:
    found = [json.loads(content) for name, content in members(shard).items() if name.endswith(".json")]
    for row, record in zip(found, records(), strict=True):
        assert list(row) == list(SCHEMA.scalar_columns)
        assert row["id"] == record.id
        assert row["label"] == record.label
        assert row["latent_crc32"] == zlib.crc32(record.latent.tobytes())
        assert row["psnr"] == float(np.float32(record.scores["psnr"]))


def test_a_row_without_a_label_says_so_in_the_way_of_datasets(shard: Path) -> None:
    assert [content for name, content in members(shard).items() if name.endswith(".cls")] == [
        *(b"0", b"1", b"-1", b"1", b"0", b"1", b"0")
    ]


def test_nothing_of_the_writing_machine_is_in_the_archive(shard: Path) -> None:
    with tarfile.open(shard, "r:") as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert (member.mode, member.type, member.linkname) == (0o644, tarfile.REGTYPE, "")


def test_headers_are_those_that_tarfile_writes() -> None:
    for name, size in (("a", 0), ("0000000000-0123456789abcdef.latent.npy", 131_200), ("x" * 100, LARGEST_FILE)):
        info = tarfile.TarInfo(name)
        info.size = size
        found, wanted = header(name.encode(), size), info.tobuf(tarfile.USTAR_FORMAT)
        # Python's versions differ in the devices' numbers, and so in the checksum, which frombuf compares.
        assert found[:148] + found[156:329] + found[345:] == wanted[:148] + wanted[156:329] + wanted[345:]
        read = tarfile.TarInfo.frombuf(found, "ascii", "strict")
        assert (read.name, read.size, read.devmajor, read.devminor) == (name, size, 0, 0)


def test_a_file_too_large_for_a_tar_archive_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        header(b"x", LARGEST_FILE + 1)
    assert str(caught.value) == (
        "A tar archive holds no file of more than 8,589,934,591 bytes, found one of 8,589,934,592."
    )


def test_the_table_says_where_numbers_and_json_lie(shard: Path) -> None:
    """As FORMAT.md has it, without this library's reader."""
    content = shard.read_bytes()
    assert content.endswith(bytes(1024))
    magic, rows, checksum = FOOTER.unpack(content[-1024 - FOOTER.size : -1024])
    assert (magic, rows) == (MAGIC, 7)
    table = members(shard)["__offsets__"]
    assert zlib.crc32(table[:-8]) == checksum
    for record, entry in zip(records(), np.frombuffer(table, ENTRY, rows), strict=True):
        start = int(entry["numbers"])
        assert content[start : start + record.latent.nbytes] == record.latent.tobytes()
        text = content[int(entry["json"]) :][: int(entry["json_bytes"])]
        assert json.loads(text)["id"] == record.id
        assert zlib.crc32(text) == entry["json_crc32"]


def test_bytes_do_not_depend_on_the_blocks_that_the_rows_came_in(tmp_path: Path) -> None:
    (block,) = blocks_of(records(), SCHEMA)
    write_webdataset(tmp_path / "one", SCHEMA, FAST, [block])
    write_webdataset(tmp_path / "many", SCHEMA, FAST, [block[:1], block[1:1], block[1:5], block[5:]])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "many").read_bytes()


def test_a_shard_without_rows_is_whole(tmp_path: Path) -> None:
    content, columns = read_all(written_to(tmp_path / "x", []))
    assert (content, set(map(tuple, columns.values()))) == (b"", {()})
    assert open_webdataset(tmp_path / "x", SCHEMA).latents(np.array([], np.int64)).shape == (0, 3, 4, 5)
    assert list(members(tmp_path / "x")) == ["__offsets__"]


def test_a_row_that_is_not_there_is_an_index_error(shard: Path) -> None:
    with pytest.raises(IndexError):
        open_webdataset(shard, SCHEMA).latents(np.array([7]))


@settings(max_examples=25, deadline=None)
@given(shard=shards())
def test_tarfile_reads_any_shard_and_json_is_utf_8(shard: tuple[ShardSchema, list[LatentRecord]]) -> None:
    schema, rows = shard
    with TemporaryDirectory() as folder:
        found = members(written_to(Path(folder, "x"), rows, schema))
    assert len(found) == len(rows) * (2 + (schema.class_names is not None) + schema.thumbnail) + 1
    texts = [json.loads(content.decode("utf-8")) for name, content in found.items() if name.endswith(".json")]
    assert [text["id"] for text in texts] == [row.id for row in rows]


def test_json_is_text_that_people_can_read(shard: Path) -> None:
    texts = [content for name, content in members(shard).items() if name.endswith(".json")]
    assert texts[2].startswith('{"id":"scènes/été 🛰️","label":null,"height":32,"width":40,'.encode())


# JSON ---------------------------------------------------------------------------------------------------------------

UTC = dt.timezone.utc
CELLS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "timestamp[us, tz=UTC]": ("timestamp[us, tz=UTC]", [dt.datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)], [-1000000]),
    "timestamp[s]": ("timestamp[s]", [dt.datetime(1970, 1, 2), None], [86400, None]),  # noqa: DTZ001 (a column without zone)
    "date32": ("date32", [dt.date(1970, 1, 3)], [2]),
    "time64[us]": ("time64[us]", [dt.time(0, 0, 1)], [1000000]),
    "duration[ms]": ("duration[ms]", [dt.timedelta(seconds=2)], [2000]),
    "decimal": ("decimal128(5, 2)", [decimal.Decimal("1.50"), None], ["1.50", None]),
    "binary": ("binary", [b"\x00\xff", b"", None], ["AP8=", "", None]),
    "fixed_size_binary": ("fixed_size_binary[2]", [b"ab"], ["YWI="]),
    "int64": ("int64", [2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
    "uint32": ("uint32", [2**32 - 1], [2**32 - 1]),
    "float64": ("float64", [0.1, 5e-324, math.inf, -math.inf], [0.1, 5e-324, math.inf, -math.inf]),
    "bool": ("bool", [True, None], [True, None]),
    "string": ("string", ["é\u2028\x00", None], ["é\u2028\x00", None]),
}


def of(feature: Any) -> ShardSchema:
    """A schema with one further column."""
    return replace(SCHEMA, class_names=None, metrics=(), features={"x": feature})


def in_json(schema: ShardSchema, values: list[Any]) -> list[Any]:
    """The column x of rows as plain json gives it, once written."""
    core = {
        name: ["" if name in ("id", "source_path", "source_sha256") else 0] * len(values)
        for name in schema.scalar_columns
    }
    return [json.loads(text)["x"] for text in json_rows(schema, {**core, "x": values})]


@pytest.mark.parametrize(("dtype", "values", "stated"), CELLS.values(), ids=CELLS)
def test_a_value_is_in_json_what_the_format_says_and_comes_back(
    dtype: str, values: list[Any], stated: list[Any]
) -> None:
    schema = of({"dtype": dtype, "_type": "Value"})
    assert in_json(schema, values) == stated
    assert column_array(schema, "x", stated).to_pylist() == values


@pytest.mark.parametrize(("dtype", "values", "stated"), CELLS.values(), ids=CELLS)
def test_so_it_is_inside_of_lists_and_structs(dtype: str, values: list[Any], stated: list[Any]) -> None:
    leaf = {"dtype": dtype, "_type": "Value"}
    schema = of(
        {"many": {"feature": {"y": leaf}, "_type": "List"}, "pair": {"feature": leaf, "length": 2, "_type": "List"}}
    )
    nested = [{"many": [{"y": value}, None], "pair": [value, value]} for value in values]
    expected = [{"many": [{"y": value}, None], "pair": [value, value]} for value in stated]
    assert in_json(schema, [*nested, None]) == [*expected, None]
    assert column_array(schema, "x", [*expected, None]).to_pylist() == [*nested, None]


def test_not_a_number_is_null(tmp_path: Path) -> None:
    rows = [
        replace(record, scores={"psnr": score}) for record, score in zip(records(), (math.nan, math.inf), strict=False)
    ]
    path = written_to(tmp_path / "x", rows)
    texts = [content for name, content in members(path).items() if name.endswith(".json")]
    assert b'"psnr":null' in texts[0]
    assert b'"psnr":Infinity' in texts[1]
    assert open_webdataset(path, SCHEMA).columns(["psnr"]) == {"psnr": [None, math.inf]}


def test_types_are_stated_as_they_stand_in_the_json() -> None:
    leaf = {"dtype": "timestamp[us, tz=UTC]", "_type": "Value"}
    names = {"names": ["a"], "_type": "ClassLabel"}
    feature = {
        "when": [leaf],
        "raw": {"feature": {"dtype": "binary", "_type": "Value"}, "_type": "List"},
        "kind": names,
    }
    found = json_features(of(feature))["x"]
    integer, text = {"dtype": "int64", "_type": "Value"}, {"dtype": "string", "_type": "Value"}
    assert found == {"when": [integer], "raw": {"feature": text, "_type": "List"}, "kind": names}


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"1", b'{"id": 1}', b"\xff", b"[" * 100_000])
def test_a_text_that_is_no_row_is_refused(text: bytes) -> None:
    with pytest.raises((ValueError, TypeError, RecursionError)):
        json_row(SCHEMA, text)


# Damage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        (replace(SCHEMA, dtype="float32"), "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, 5), }"),
        (replace(SCHEMA, latent_shape=(5, 4, 3)), "{'descr': '<f2', 'fortran_order': False, 'shape': (5, 4, 3), }"),
    ],
)
def test_a_shard_of_another_type_or_shape_is_refused(shard: Path, schema: ShardSchema, found: str) -> None:
    with pytest.raises(DamagedShardError) as caught:
        open_webdataset(shard, schema)
    assert str(caught.value) == (
        f"Shard {shard} holds latents of {{'descr': '<f2', 'fortran_order': False, 'shape': (3, 4, 5), }}, "
        f"its manifest describes {found}."
    )


def test_missing_columns_are_listed_and_a_missing_label_is_noticed(shard: Path) -> None:
    with pytest.raises(DamagedShardError) as caught:
        open_webdataset(shard, replace(SCHEMA, metrics=("psnr", "ssim", "mae")))
    assert str(caught.value) == f"Shard {shard}, row 0: its JSON lacks columns that the manifest describes: mae, ssim."
    with pytest.raises(
        DamagedShardError, match="does not describe the files of 7 rows with the columns that its manif"
    ):
        open_webdataset(shard, replace(SCHEMA, class_names=None))


@pytest.mark.parametrize(
    "content", [b"", bytes(512), bytes(1024), bytes(10240), b"PAR1" * 999, MAGIC + b"\xff" * 16 + bytes(1024)]
)
def test_a_file_that_is_no_such_shard_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(DamagedShardError) as caught:
        open_webdataset(path, SCHEMA)
    assert str(caught.value) == (
        f"Shard {path} cannot be read as tar: it does not end with a table of offsets and two blocks of zeros."
    )


def test_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedShardError, match=r"gone\.tar cannot be read as tar"):
        open_webdataset(tmp_path / "gone.tar", SCHEMA)


def test_a_tar_of_someone_else_is_refused(shard: Path) -> None:
    found = members(shard)
    with tarfile.open(shard, "w") as archive:
        for name, content in found.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(DamagedShardError, match="does not end with a table of offsets"):
        open_webdataset(shard, SCHEMA)


def test_a_shard_that_was_cut_anywhere_is_refused(shard: Path) -> None:
    content = shard.read_bytes()
    for length in [*range(0, len(content), 97), *range(0, len(content), 512)]:
        shard.write_bytes(content[:length])
        with pytest.raises(DamagedShardError, match=r"train-000000\.tar"):
            open_webdataset(shard, SCHEMA)


def test_bytes_that_were_put_in_or_taken_out_are_noticed(shard: Path) -> None:
    content = shard.read_bytes()
    for place in range(0, len(content), 512):
        for other in (content[:place] + bytes(512) + content[place:], content[:place] + content[place + 512 :]):
            if other.rstrip(b"\0") == content.rstrip(b"\0") and len(other) > len(content):
                continue  # a block of zeros more at the end is refused by its size in the manifest
            shard.write_bytes(other)
            with pytest.raises(DamagedShardError, match=r"train-000000\.tar"):
                read_all(shard)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard that nobody changes."""
    return written_to(tmp_path_factory.mktemp("intact") / "x.tar", records())


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 1_000_000), bits=st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_changes_numbers_only(intact: Path, place: int, bits: int) -> None:
    """A changed number is found by the row's CRC-32 in the index; the zeros that fill up blocks mean nothing."""
    content = bytearray(intact.read_bytes())
    place %= len(content)
    content[place] ^= bits
    copy = intact.with_name("flipped")
    copy.write_bytes(content)
    wanted, columns = read_all(intact)
    try:
        found, same = read_all(copy)
    except DamagedShardError as error:
        assert "flipped" in str(error)  # noqa: PT017 (either way is right)
    else:
        assert same == columns
        starts = open_webdataset(intact, SCHEMA)._offsets
        inside = (starts <= place) & (place < starts + latents()[0].nbytes)
        assert (found != wanted) == inside.any()


def spoiled(path: Path, change: Callable[[bytearray, Any], None]) -> None:
    """The shard with bytes changed by one who knows where each row lies."""
    content = bytearray(path.read_bytes())
    change(content, open_webdataset(path, SCHEMA)._table)
    path.write_bytes(content)


def header_of_row_3(content: bytearray, table: Any) -> None:
    content[int(table["numbers"][3]) - 640 + 100] ^= 1


def npy_header_of_row_3(content: bytearray, table: Any) -> None:
    content[int(table["numbers"][3]) - 128 + 25] ^= 1


def npy_files_of_rows_3_and_4(content: bytearray, table: Any) -> None:
    third, fourth = (slice(int(start) - 640, int(start) + 120) for start in table["numbers"][3:5])
    content[third], content[fourth] = content[fourth], content[third]


@pytest.mark.parametrize("change", [header_of_row_3, npy_header_of_row_3, npy_files_of_rows_3_and_4])
def test_a_row_is_only_given_where_its_headers_are_its_own(
    shard: Path, change: Callable[[bytearray, Any], None]
) -> None:
    spoiled(shard, change)
    reader = open_webdataset(shard, SCHEMA)
    assert reader.latents(np.array([0, 1, 5])).tobytes() == latents()[[0, 1, 5]].tobytes()
    for _ in range(2):  # what was refused once is not taken for checked
        with pytest.raises(DamagedShardError) as caught:
            reader.latents(np.array([2, 3]))
        assert str(caught.value) == f"Shard {shard}, row 3: its .npy file does not begin as written."
    with pytest.raises(DamagedShardError, match="row 3"):
        reader.columns(["id"])


def json_of_row_3(content: bytearray, table: Any) -> None:
    start = int(table["json"][3])
    place = content.index(b'"height":32', start) + len('"height":3')
    content[place : place + 1] = b"1"


def label_of_row_3(content: bytearray, table: Any) -> None:
    place = int(table["json"][3]) + 512 + 512
    assert content[place : place + 2] == b"1\0"
    content[place : place + 1] = b"0"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (json_of_row_3, "the CRC-32 of its JSON is not the one in the table of offsets"),
        (label_of_row_3, "its files are not as they were written for this id, label and size"),
    ],
)
def test_columns_are_only_given_where_json_and_label_agree(
    shard: Path, change: Callable[[bytearray, Any], None], reason: str
) -> None:
    spoiled(shard, change)
    with pytest.raises(DamagedShardError) as caught:
        open_webdataset(shard, SCHEMA).columns(["height"])
    assert str(caught.value) == f"Shard {shard}, row 3: {reason}."


def test_a_table_that_was_changed_is_refused(shard: Path) -> None:
    sound = shard.read_bytes()
    start = sound.index(b"__offsets__") + 512
    for place in range(start - 512, len(sound)):
        shard.write_bytes(sound[:place] + bytes([sound[place] ^ 16]) + sound[place + 1 :])
        with pytest.raises(DamagedShardError, match="cannot be read as tar: "):
            open_webdataset(shard, SCHEMA)


def test_a_forged_table_with_a_right_checksum_is_refused(shard: Path) -> None:
    sound = shard.read_bytes()
    start = sound.index(b"__offsets__") + 512
    for field, value in (("numbers", 640), ("json", 2**63), ("json_bytes", 2**32 - 1)):
        content = bytearray(sound)
        table = np.frombuffer(content, ENTRY, 7, start)
        table[field][3] = value
        del table
        content[-1024 - 8 : -1024] = zlib.crc32(content[start : -1024 - 8]).to_bytes(8, "little")
        shard.write_bytes(content)
        with pytest.raises(DamagedShardError, match="does not describe the files of 7 rows"):
            open_webdataset(shard, SCHEMA)


@pytest.mark.parametrize("rows", [8, 10**6, 2**40, 2**64 - 1])
def test_a_table_of_more_rows_than_the_file_could_hold_is_not_read(shard: Path, rows: int) -> None:
    sound = shard.read_bytes()
    start = sound.index(b"__offsets__") + 512
    entries = bytes(ENTRY.itemsize * min(rows, 10**6))
    content = entries.ljust(-(-(len(entries) + 24) // 512) * 512 - 24, b"\0") + struct.pack("<8sQ", b"latents1", rows)
    table = content + zlib.crc32(content).to_bytes(8, "little")
    shard.write_bytes(sound[: start - 512] + header(b"__offsets__", len(table)) + table + bytes(1024))
    for opened in (lambda: open_webdataset(shard, SCHEMA), lambda: open_webdataset_ranges(Whole(shard), SCHEMA)):
        with pytest.raises(DamagedShardError) as caught:
            opened()
        wanted = "describe the files of 8 rows" if rows == 8 else "end with a table of offsets and two blocks of zeros"
        assert wanted in str(caught.value)


class Whole:
    """See ``ShardBytes``: a file here, of which only its end may be read."""

    def __init__(self, path: Path) -> None:
        self._content = path.read_bytes()
        self.name, self.size = str(path), len(self._content)

    def read(self, start: int, stop: int) -> bytes:
        assert stop - start < 1 << 20
        return self._content[start:stop]


def test_the_row_refuses_what_it_cannot_do() -> None:
    row = CONTAINERS["webdataset"]
    assert row.layouts == (FAST,)
    assert [row.shard_name("train", number, 12) for number in (0, 11)] == ["train-000000.tar", "train-000011.tar"]
