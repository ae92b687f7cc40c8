from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Path_, example, example_text, in_words, leaves, replaced

from latentstore.errors import ManifestError, NotSealedError, StoreError, UnsupportedVersionError
from latentstore.json_records import plain
from latentstore.manifest import FORMAT_VERSION, Manifest

SHARD = ("splits", "train", "shards", 0)
SHA = example()["splits"]["train"]["shards"][0]["sha256"]


def read(*changes: tuple[Path_, Any]) -> Manifest:
    """The example, with these values at these paths."""
    data = example()
    for path, value in changes:
        replaced(data, path, value)
    return Manifest.from_json(json.dumps(data))


def sentence(*changes: tuple[Path_, Any]) -> str:
    with pytest.raises(ManifestError) as caught:
        read(*changes)
    return str(caught.value)


# Versions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.9", "2.0", "10.0"])
def test_another_major_version_is_refused_before_anything_else_is_looked_at(version: str) -> None:
    with pytest.raises(UnsupportedVersionError) as caught:
        Manifest.from_json(json.dumps({"format_version": version}))
    assert str(caught.value) == (
        f"manifest field 'format_version': this latentstore reads format 1.x, the dataset is written in {version}; "
        "install a matching version with: pip install --upgrade latentstore"
    )


def test_a_newer_minor_version_is_read_with_a_warning_and_unknown_fields_are_ignored() -> None:
    changes: list[tuple[Path_, Any]] = [
        (("format_version",), "1.7"),
        (("newer",), {"a": [1]}),
        (("vae", "newer"), None),
        ((*SHARD, "crc"), 5),
    ]
    text = "The dataset is written in format 1.7, newer than 1.0: fields unknown here are ignored."
    with pytest.warns(UserWarning, match=text):
        manifest = read(*changes)
    assert manifest.format_version == "1.7"
    assert manifest.vae == read().vae


def test_the_own_version_is_read_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read().format_version == FORMAT_VERSION


@pytest.mark.parametrize("version", ["", "1", "1.0.0", "v1.0", "1.x", "-1.0", "1.0\n", None, 1.0, ["1.0"]])
def test_what_is_no_version_is_named(version: object) -> None:
    found = sentence((("format_version",), version))
    assert found == f"manifest field 'format_version': expected a version such as '1.0', found {version!r}"


@pytest.mark.parametrize("text", ["[]", "null", "3", '"1.0"', "{}"])
def test_json_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match=r"expected a version such as '1\.0', found None"):
        Manifest.from_json(text)


# Text ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("place", ['"scale": 1.0', '"count": 64', '"options": {}'])
def test_numbers_that_json_does_not_have_are_refused_everywhere(number: str, place: str) -> None:
    text = example_text().replace(place, place.partition(":")[0] + f": {number}")
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(text)
    assert str(caught.value) == f"manifest: is not JSON (the number {number} is not allowed)"


@pytest.mark.parametrize("place", ['"scale": 1.0', '"options": {}'])
def test_a_number_beyond_what_a_float_can_hold_is_refused_everywhere(place: str) -> None:
    text = example_text().replace(place, place.partition(":")[0] + ": -1e999")
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(text)
    assert str(caught.value) == "manifest: is not JSON (the number -1e999 is beyond what a float can hold)"


def test_half_a_letter_is_refused_because_no_file_can_hold_it() -> None:
    with pytest.raises(ManifestError, match=r"^manifest: is not JSON \('utf-8' codec can't encode character '.ud800'"):
        Manifest.from_json('{"config": "\\ud800"}')
    with pytest.raises(ManifestError, match="^manifest field 'format_version': expected a version"):
        Manifest.from_json('{"config": "\\ud83d\\ude00"}')


@pytest.mark.parametrize("text", ["", "{", "not json", "[" * 100_000, "\ufeff{}", '{"a": ' + "1" * 5000 + "}"])
def test_text_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match=r"^manifest: is not JSON "):
        Manifest.from_json(text)


@given(st.integers(0, len(example_text()) - 3))
def test_a_manifest_that_was_cut_is_refused(length: int) -> None:
    with pytest.raises(ManifestError):
        Manifest.from_json(example_text()[:length])


# Fields -------------------------------------------------------------------------------------------------------------

OF_ANY_KIND = (("source", "options"), ("build", "plan"), ("columns",))
"""Their insides are the business of others."""
LEAVES = [
    (path, value) for path, value in leaves(example()) if not any(path[: len(any_)] == any_ for any_ in OF_ANY_KIND)
]


@given(st.sampled_from(LEAVES), st.sampled_from([None, True, 7, -1.5, "text", [], {}, [1], {"a": 1}]))
def test_a_field_of_another_type_is_named_or_read_as_it_stands(leaf: tuple[Path_, Any], value: Any) -> None:
    path, old = leaf
    if type(value) is type(old):
        return
    data = replaced(example(), path, value)
    try:
        manifest = Manifest.from_json(json.dumps(data))
    except ManifestError as error:
        assert error.field == in_words(path)  # noqa: PT017 (either way is right)
    else:
        assert json.loads(manifest.to_json()) == {**data, "digest": json.loads(manifest.to_json())["digest"]}


def objects(value: Any, path: Path_ = ()) -> list[Path_]:
    """The path of every field of every object."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    own = [(*path, key) for key in value] if isinstance(value, dict) else []
    return own + [found for key, item in inner for found in objects(item, (*path, key))]


@pytest.mark.parametrize("path", objects(example()), ids=in_words)
def test_a_missing_field_is_named_or_has_a_default(path: Path_) -> None:
    data = example()
    inner: Any = data
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    try:
        manifest = Manifest.from_json(json.dumps(data))
    except ManifestError as error:
        if error.message == "is missing":
            assert error.field == in_words(path)  # noqa: PT017 (either way is right)
    else:
        assert manifest.format_version == FORMAT_VERSION


# Parts that must agree ----------------------------------------------------------------------------------------------

NOT_A_SHARD = (
    "manifest field 'splits.train.shards[0]': expected a new path, a sha256 and sizes, found "
    "ShardInfo(path='train-00000-of-00001.parquet'"
)
NO_FILE_NAME = "manifest field 'splits.train.shards[0].path': expected a file name inside the config's folder, found "
WRONG: list[tuple[list[tuple[Path_, Any]], str]] = [
    (
        [(("latent_shape",), [3, 0, 4])],
        "manifest field 'latent_shape': expected three sizes above zero, found (3, 0, 4)",
    ),
    (
        [(("vae", "channels"), 4)],
        "manifest field 'vae.channels': expected the 3 channels of latent_shape, found 4",
    ),
    (
        [(("normalisation", "kind"), "scael")],
        (
            "manifest field 'normalisation.kind': expected one of identity, scale, scale_shift, mean_std, "
            "patch_batch_norm, found 'scael'"
        ),
    ),
    (
        [(("normalisation", "std"), [1.0])],
        "manifest field 'normalisation.std': expected 0 numbers for 3 channels, found 1",
    ),
    (
        [
            (("latent_shape",), [3, 3, 4]),
            (("normalisation",), {"kind": "patch_batch_norm", "patch": 2, "mean": [0.0] * 12, "std": [1.0] * 12}),
        ],
        "manifest field 'normalisation.patch': expected a number that divides the 3x4 cells of latent_shape, found 2",
    ),
    ([(("normalisation", "scale"), 0.0)], "manifest field 'normalisation.scale': a zero scale or std cannot be undone"),
    (
        [(("storage", "dtype"), "float8")],
        "manifest field 'storage.dtype': expected one of float16, float32, uint8, found 'float8'",
    ),
    ([(("statistics",), {})], "manifest field 'statistics': expected the splits ['train']"),
    (
        [(("statistics", "train", "mean"), [0.0, 0.0])],
        "manifest field 'statistics.train': expected 3 numbers each",
    ),
    ([(("quality",), {})], "manifest field 'quality': expected the metrics ['psnr']"),
    ([(("metrics",), [])], "manifest field 'quality': expected the metrics []"),
    (
        [(("metrics",), ["psnr", "psnr"])],
        "manifest field 'metrics': expected columns of different names, found 'psnr' twice",
    ),
    (
        [(("columns",), {"row": {"dtype": "int64", "_type": "Value"}})],
        "manifest field 'columns': expected columns of different names, found 'row' twice",
    ),
    (
        [(("columns",), {"latent": {"dtype": "int64", "_type": "Value"}})],
        "manifest field 'columns': expected columns of different names, found 'latent' twice",
    ),
    (
        [(("splits", "train", "rows"), 5)],
        "manifest field 'splits.train.rows': expected the 5 rows its shards add up to",
    ),
    (
        [(("size", "stored_bytes"), 1)],
        "manifest field 'size.stored_bytes': expected the 5078 bytes of all shards, found 1",
    ),
    ([((*SHARD, "sha256"), "F" * 64)], f"{NOT_A_SHARD}, rows=4, bytes=5078, sha256='{'F' * 64}')"),
    ([((*SHARD, "sha256"), "0" * 63)], f"{NOT_A_SHARD}, rows=4, bytes=5078, sha256='{'0' * 63}')"),
    ([((*SHARD, "bytes"), -1)], f"{NOT_A_SHARD}, rows=4, bytes=-1, sha256='{SHA}')"),
    (
        [((*SHARD, "rows"), -1), (("splits", "train", "rows"), -1)],
        f"{NOT_A_SHARD}, rows=-1, bytes=5078, sha256='{SHA}')",
    ),
    *(
        ([((*SHARD, "path"), path)], f"{NO_FILE_NAME}{path!r}")
        for path in (
            "../x.parquet",
            "..",
            ".",
            "",
            "/etc/x.parquet",
            "C:\\x.parquet",
            "C:x.parquet",
            "a\\x.parquet",
            "a/x.parquet",
            "./x.parquet",
            "x.parquet/",
            ".x.parquet",
            "x\x00.parquet",
            "x.parquet\n",
            "~",
            "hf://x",
        )
    ),
]


@pytest.mark.parametrize(("changes", "expected"), WRONG)
def test_parts_that_do_not_agree_are_named(changes: list[tuple[Path_, Any]], expected: str) -> None:
    assert sentence(*changes) == expected


@pytest.mark.parametrize("name", ["", "a b", "a-b", "../a", "a/b", "a.", ".a", "a\n"])
def test_a_split_that_cannot_be_part_of_a_file_name_is_refused(name: str) -> None:
    data = example()
    data["splits"][name] = data["splits"].pop("train")
    data["statistics"][name] = data["statistics"].pop("train")
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(json.dumps(data))
    assert str(caught.value) == (f"manifest field 'splits.{name}': expected a name of letters, digits and underscores")


@pytest.mark.parametrize("second", ["train", "test"])
def test_a_shard_that_is_listed_twice_is_refused_in_one_split_and_in_two(second: str) -> None:
    data = example()
    shard = data["splits"]["train"]["shards"][0]
    if second == "train":
        data["splits"]["train"] = {"rows": 8, "shards": [shard, shard]}
    else:
        data["splits"]["test"] = {"rows": 4, "shards": [shard]}
        data["statistics"]["test"] = data["statistics"]["train"]
    data["size"]["stored_bytes"] *= 2
    with pytest.raises(ManifestError, match=rf"'splits\.{second}\.shards\[\d\]': expected a new path"):
        Manifest.from_json(json.dumps(data))


def test_statistics_of_another_split_are_noticed() -> None:
    data = example()
    data["statistics"]["test"] = data["statistics"].pop("train")
    with pytest.raises(ManifestError, match=r"^manifest field 'statistics': expected the splits \['train'\]$"):
        Manifest.from_json(json.dumps(data))


# Files --------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    manifest = read()
    written = manifest.write(tmp_path)
    assert (tmp_path / "manifest.json").read_text(encoding="utf-8") == manifest.to_json()
    assert Manifest.read(tmp_path) == manifest
    assert plain(Manifest.read(tmp_path)) == plain(written) == json.loads(manifest.to_json())


def test_the_digest_is_the_sha256_of_the_text_without_it(tmp_path: Path) -> None:
    digest = read().write(tmp_path).digest
    text = (tmp_path / "manifest.json").read_bytes()
    assert text.endswith(f'  "digest": "{digest}"\n}}\n'.encode())
    assert hashlib.sha256(text.replace(digest.encode(), b"")).hexdigest() == digest


@given(place=st.integers(0, len(example_text().encode()) - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_passes(place: int, bit: int) -> None:
    content = bytearray(example_text().encode())
    content[place] ^= 1 << bit
    with TemporaryDirectory() as folder:
        Path(folder, "manifest.json").write_bytes(content)
        with pytest.raises(StoreError):
            Manifest.read(Path(folder))


def test_the_text_ends_in_one_newline_and_keeps_letters_of_all_languages(tmp_path: Path) -> None:
    read((("source", "classes"), ["forêt", "港"])).write(tmp_path)
    written = (tmp_path / "manifest.json").read_bytes()
    assert "港".encode() in written
    assert written.endswith(b"\n}\n")
    assert b"\r" not in written


def test_writing_replaces_in_one_step_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("old")
    with (tmp_path / "manifest.json").open() as old:
        read().write(tmp_path)
        assert old.read() == "old"  # who had it open still reads all of the old one
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_manifest_that_does_not_agree_with_itself_is_not_written(tmp_path: Path) -> None:
    wrong = read()
    object.__setattr__(wrong, "latent_shape", (9, 4, 4))
    with pytest.raises(ManifestError, match=r"vae\.channels"):
        wrong.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_manifest_is_not_sealed(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotSealedError) as caught:
            Manifest.read(folder)
        assert str(caught.value) == f"{folder} has no manifest.json, so it is not a complete latent dataset."


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x80abc"])
def test_a_manifest_that_is_not_utf8_is_refused_with_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        Manifest.read(tmp_path)
    assert str(caught.value).startswith(f"manifest: {tmp_path / 'manifest.json'} cannot be read (")


def test_a_manifest_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(ManifestError, match="cannot be read"):
        Manifest.read(tmp_path)


def test_rows_and_schema_follow_from_the_parts() -> None:
    manifest = read()
    assert manifest.rows == 4
    assert manifest.schema.latent_shape == (3, 4, 4)
    assert manifest.schema.dtype == "uint8"
    assert manifest.schema.scalar_columns == (
        *("id", "label", "height", "width", "source_path", "source_sha256", "source_bytes", "latent_crc32"),
        "psnr",
    )


# Steps --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.01, 1.7, 1e-3, 1e30])
def test_steps_of_which_the_extremes_are_no_multiples_are_refused(factor: float) -> None:
    step = example()["storage"]["steps"][1] * factor
    assert sentence((("storage", "steps", 1), step)) == (
        "manifest field 'storage.steps[1]': expected a step of which statistics.train has multiples of up to 127, "
        f"found {step}"
    )


@pytest.mark.parametrize("name", ["minimum", "maximum"])
def test_an_extreme_that_is_no_multiple_of_its_step_is_refused(name: str) -> None:
    for multiple in (0.5, 128, -1e300):
        number = example()["storage"]["steps"][2] * multiple
        assert sentence((("statistics", "train", name, 2), number)) == (
            f"manifest field 'statistics.train.{name}[2]': expected a multiple of storage.steps[2] of up to 127 steps, "
            f"found {number}"
        )


def test_a_channel_of_zeros_and_a_split_without_rows_fit_any_step() -> None:
    at = ("statistics", "train")
    assert read(((*at, "minimum", 0), 0), ((*at, "maximum", 0), 0.0)).statistics["train"].maximum[0] == 0
    assert read(((*at, "count"), 0), ((*at, "minimum", 0), 0.001)).statistics["train"].count == 0


@pytest.mark.parametrize("step", [1e300, 1e-60])
def test_steps_that_float32_cannot_hold_are_refused(step: float) -> None:
    found = sentence((("storage", "steps", 0), step))
    assert found == f"manifest field 'storage.steps': expected steps that float32 holds, found {step}"
