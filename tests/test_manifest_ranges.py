"""Every number of a manifest has a range; whatever is planted in any field is refused by its name, or does no harm."""

from __future__ import annotations

import json
import os
import shutil
import time
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from click.testing import CliRunner
from latentstore_cli.main import main
from strategies import Path_, example, leaves, replaced

from latentstore import load_latents, open_store, verify
from latentstore.containers.arrow_features import arrow_type
from latentstore.errors import FetchError, ManifestError, RequestError, StoreError
from latentstore.fsspec_files import FsspecFolder
from latentstore.json_records import DEEPEST, Within, check_ranges
from latentstore.manifest import Manifest, with_digest
from latentstore.manifest import text as manifest_text
from latentstore.system.plain_files import read_file

GOLDEN = Path(__file__).parent / "data" / "format-1.0"
CONFIGS = ("int8-compact", "views")
SECONDS = 20
"""That any command may take on any of these manifests."""


def hints_below(hint: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, hint) of every part of a type that has none."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        parts = get_type_hints(hint, include_extras=True)
        for field in fields(hint):
            yield from hints_below(parts[field.name], f"{path}.{field.name}")
    elif origin in (Union, types.UnionType, tuple) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        for argument in arguments:
            yield from hints_below(argument, path)
    else:
        yield path, hint


def test_every_number_of_the_schema_has_a_range() -> None:
    found = dict(hints_below(Manifest, ""))
    assert [path for path, hint in found.items() if hint in (int, float)] == []
    ranged = {path: get_args(hint)[1] for path, hint in found.items() if get_origin(hint) is Annotated}
    assert len(ranged) > 40
    assert all(isinstance(within, Within) and within.low < within.high for within in ranged.values())


# Absurd values in every field ---------------------------------------------------------------------------------------

NUMBERS: list[Any] = [
    *(10**18, 10**3000, -(10**3000), 2**53, 2**53 + 1, -1, 0, 1, 0.0, -0.0, 1e308, -1e308, 5e-324),
    *(1e-30, 1e30, 3e38, -3e38, 0.1),
]
LONG = 70_000
SAME: dict[str | int, str] = {"test": "train", "ssim": "psnr"}
"""Names of parts with the same fields."""
OTHERS: list[Any] = [None, True, "", "x" * LONG, [], {}, [[]], {"": {}}, [0] * 1000, {"x" * LONG: 1}]


def nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


DEEP = [nested(DEEPEST - 2), nested(DEEPEST + 8), nested(600)]


def manifest_of(config: str) -> Any:
    return json.loads((GOLDEN / config / "manifest.json").read_text())


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def planted() -> Iterator[tuple[str, Path_, Any]]:
    """Every value in every field of real manifests; of the items of a list, in the first."""
    seen: set[Path_] = {("digest",)}
    for config in CONFIGS:
        for path, value in leaves(manifest_of(config)):
            general = tuple(SAME.get(part, "[]" if isinstance(part, int) else part) for part in path)
            if general not in seen:
                seen.add(general)
                for absurd in [*(NUMBERS if is_number(value) else NUMBERS[:4]), *OTHERS, *DEEP]:
                    yield config, path, absurd


@pytest.fixture(scope="module")
def accepted() -> list[tuple[str, Path_, Any]]:
    """What is planted and not refused; what is refused was refused by the name of a field, in a short sentence."""
    found, unclear = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latentstore.json_records.LONGEST_TEXT", LONG - 1)
        for config, path, value in planted():
            try:
                Manifest.from_json(json.dumps(replaced(manifest_of(config), path, value)))
            except ManifestError as error:
                if not error.field or len(str(error)) > 1300 or "\n" in str(error):
                    unclear.append((path, str(error)))
            else:
                found.append((config, path, value))
    assert unclear == []
    return found


def test_what_is_outside_of_its_range_is_not_accepted(accepted: list[tuple[str, Path_, Any]]) -> None:
    free = {"options", "plan", "columns"}
    for _, path, value in accepted:
        assert value not in DEEP[1:], path
        assert not isinstance(value, str) or len(value) < LONG, path
        if is_number(value) and not free & set(path) and path[-1] != "seed":
            assert abs(value) <= 3.5e38, path
            assert not isinstance(leaf(path), int) or abs(value) <= 2**53, path


def leaf(path: Path_) -> Any:
    """What stands there in the manifests."""
    for config in CONFIGS:
        found = dict(leaves(manifest_of(config))).get(path)
        if found is not None:
            return found
    return None


def together(accepted: list[tuple[str, Path_, Any]]) -> Iterator[tuple[str, Any]]:
    """Manifests with the smallest, the largest, or lists and objects in all fields of one part that take them."""
    chosen: dict[tuple[str, Path_, str], dict[Path_, Any]] = {}
    for config, path, value in accepted:
        for kind, better in (("low", min), ("high", max)) if is_number(value) else (("list", None), ("dict", None)):
            fields_ = chosen.setdefault((config, path[:2], kind), {})
            if better is not None:
                fields_[path] = better(fields_.get(path, value), value)
            elif value and type(value).__name__ == kind:
                fields_[path] = value
    for (config, _, _), fields_ in chosen.items():
        data = manifest_of(config) if fields_ else None
        for path, value in fields_.items():
            with suppress(ManifestError):
                changed = replaced(json.loads(json.dumps(data)), path, value)
                Manifest.from_json(json.dumps(changed))
                data = changed
        if fields_:
            yield config, data


def test_what_is_accepted_loads_shows_and_verifies(accepted: list[tuple[str, Path_, Any]], tmp_path: Path) -> None:
    folders = {config: Path(shutil.copytree(GOLDEN / config, tmp_path / config / config)) for config in CONFIGS}
    for config, data in together(accepted):
        folder = folders[config]
        (folder / "manifest.json").write_text(with_digest({**data, "digest": ""}))
        begun = time.process_time()
        done = CliRunner().invoke(main, ["show", str(folder.parent)])
        assert done.exception is None or isinstance(done.exception, SystemExit), (data, done.exception)
        assert len(done.output) < 100_000
        with suppress(StoreError, RequestError):
            assert len(load_latents(folder.parent)[0]["latent"]) > 0
        verify(folder.parent, depth="quick")
        assert time.process_time() - begun < SECONDS


def test_the_first_and_the_last_of_a_range_are_in_it() -> None:
    manifest = Manifest.from_json(json.dumps(example()))
    for changed, wrong in ((2**53, 2**53 + 1), (0, -1)):
        check_ranges(replace(manifest.index, bytes=changed))
        with pytest.raises(ManifestError) as caught:
            check_ranges(replace(manifest, index=replace(manifest.index, bytes=wrong)))
        assert str(caught.value) == f"manifest field 'index.bytes': expected a number from 0 to 2^53, found {wrong}"
    with pytest.raises(ManifestError) as caught:
        check_ranges(replace(manifest.size, raw_rgb_over_stored=0.0))
    assert str(caught.value) == "manifest field 'raw_rgb_over_stored': expected a number from 1e-12 to 1e+30, found 0.0"


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("build", "seed"), 10**3000, "'build.seed': expected a number up to 2^128, found a longer one"),
        (("source", "images", "train"), 2**60, "'source.images.train': expected a number from 0 to 2^53, found 115"),
        (("statistics", "train", "std", 1), -0.5, "'statistics.train.std[1]': expected a number from 0 to 3.5e+38"),
        (
            ("quality", "psnr", "per_class", "forest"),
            1e300,
            "'quality.psnr.per_class.forest': expected a number",
        ),
        (
            ("build", "plan", "a"),
            nested(40),
            "'build.plan.a[0][0][0]",
        ),
        (("source", "citation"), "x" * (1 << 21), "'source.citation': expected 1048576 letters at most, found 2097152"),
        (("normalisation", "scale"), 1e-300, "'normalisation.scale': a zero scale or std cannot be undone"),
        (("columns", "a"), 5, "'columns.a': expected a type in the words of `datasets`, found a int"),
        (
            ("columns", "a"),
            {"_type": "Value"},
            "'columns.a': expected a type in the words of `datasets`, found a Val",
        ),
        (
            ("columns", "a"),
            {"_type": "List", "length": 1 << 40, "feature": {"_type": "Value", "dtype": "int8"}},
            "'columns.a': expected a type in the words of `datasets`, found a list of the length 1099511627776",
        ),
    ],
)
def test_the_sentence_names_the_field_and_its_range(path: Path_, value: Any, sentence: str) -> None:
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(json.dumps(replaced(example(), path, value)))
    assert str(caught.value).startswith(f"manifest field {sentence}")


def test_a_latent_that_nothing_could_hold_is_refused() -> None:
    data = replaced(example(), ("latent_shape",), [3, 1 << 20, 1 << 20])
    with pytest.raises(ManifestError, match="'latent_shape': expected 2147483648 numbers a latent at most"):
        Manifest.from_json(json.dumps(data))


@pytest.mark.parametrize(
    "dtype",
    [
        *("fixed_size_binary[99999999999999999999]", "fixed_size_binary[2147483648]", "decimal128(999999999, 0)"),
        *("timestamp[parsec, tz=UTC]", "decimal128(0, 0)", "decimal256(77, 0)", "list", ""),
    ],
)
def test_a_type_that_arrow_does_not_have_is_one_sentence(dtype: str) -> None:
    with pytest.raises(RequestError) as caught:
        arrow_type({"dtype": dtype, "_type": "Value"}, "gsd")
    assert str(caught.value) == (
        f"Column 'gsd' of the source has type {dtype!r}, which latentstore cannot pass through."
    )


# Files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_manifest_that_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "config" / "manifest.json"
    place.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    begun = time.monotonic()
    with pytest.raises(ManifestError, match="cannot be read .*(it is a pipe or a device, expected a file|directory)"):
        Manifest.read(place.parent)
    for location in (tmp_path, place.parent):
        for look in (open_store, load_latents, verify):
            with pytest.raises((StoreError, RequestError)):
                look(location)
        with pytest.raises((StoreError, RequestError)):
            open_store(f"file://{location}")
    assert time.monotonic() - begun < SECONDS


def test_a_pipe_or_device_of_this_machine_is_not_read_as_a_file_elsewhere(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    folder = FsspecFolder(f"file://{tmp_path}")
    for name in ("pipe", "zeros"):
        for read in (folder.read_bytes, partial(folder.read_range, start=0)):
            with pytest.raises(FetchError, match=rf"^file://.*/{name} is a pipe or a device, expected a file\.$"):
                read(name, **{"at_most" if read == folder.read_bytes else "stop": 9})


def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert read_file(tmp_path / "a", 4) == read_file(tmp_path / "link", 9) == b"1234"
    with pytest.raises(OSError, match="it has 4 bytes, expected 3 at most"):
        read_file(tmp_path / "a", 3)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "b", 3)


def test_a_manifest_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Manifest.from_json(json.dumps(example())).write(tmp_path)
    monkeypatch.setattr(manifest_text, "MOST_VALUES", 100)
    with pytest.raises(ManifestError, match=r"^manifest: has more than 268,435,456 bytes, or 100 values$"):
        Manifest.read(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("latentstore.manifest.contract.LARGEST_TEXT", 1000)
    with pytest.raises(ManifestError, match="bytes, expected 1,000 at most"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("version", ["1." + "9" * 5000, "9" * 5000 + ".0", "\uff11.0"])
def test_a_version_of_many_digits_is_none(version: str) -> None:
    with pytest.raises(ManifestError, match="expected a version such as '1.0'"):
        Manifest.from_json(json.dumps({"format_version": version}))


# Folders ------------------------------------------------------------------------------------------------------------


def test_a_config_is_called_like_its_folder_in_a_repository(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "float16-fast", tmp_path / "other")
    said = "manifest field 'config': expected 'other', the name of its folder, found 'float16-fast'"
    looks = (open_store, partial(load_latents, streaming=True))
    for look, location in [(load_latents, str(tmp_path)), *((look, f"file://{tmp_path}") for look in looks)]:
        for config in (None, "other"):
            with pytest.raises(ManifestError) as caught:
                look(location, config)
            assert str(caught.value) == said
    report = verify(tmp_path)
    assert [finding.message for result in report.results for finding in result.findings] == [said]


def test_a_configs_own_folder_may_have_another_name(tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN / "float16-fast", tmp_path / "renamed")
    assert len(load_latents(folder)) == len(load_latents(GOLDEN / "float16-fast")) > 0
    assert len(load_latents(f"file://{folder}", streaming=True)) > 0
