"""What held when the library was attacked and must go on holding: each promise, its tests, and those that lacked.

The rest of this folder attacks everything with everything (see ``matrix.py``).
"""

from __future__ import annotations

import ast
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forged import edit_manifest
from range_server import Answers, RangeServer, serving

from latentstore import load_latents
from latentstore.card.front_matter import Readme
from latentstore.containers import parquet
from latentstore.errors import DamagedShardError, FetchError, ManifestError, RequestError
from latentstore.http_files import HttpFolder
from latentstore.retries import Patience
from latentstore.row_filter import rows_where

TESTS = Path(__file__).parents[1]
LIBRARY = TESTS.parent / "latentstore"
COMMAND_LINE = TESTS.parent / "cli"
SOON = Patience(tries=2, first_wait=0, timeout=5, sleep=lambda _: None)

HELD: Mapping[str, tuple[str, ...]] = {
    "the filter grammar is not eval": (
        "test_row_filter.py::test_anything_else_is_refused_in_a_sentence",
        "hostile/test_what_held.py::test_a_filter_computes_nothing_but_comparisons",
    ),
    "credentials do not follow a redirect to another origin": (
        "test_remote_files.py::test_a_token_stays_with_its_origin_and_redirects_are_remembered_until_they_expire",
    ),
    "bodies of 200 answers are capped": (
        "hostile/test_what_held.py::test_a_body_has_as_many_bytes_as_are_expected_at_most",
    ),
    "offsets are checked before mapping": (
        "hostile/test_what_held.py::test_a_page_beyond_the_end_of_its_file_is_refused_before_it_is_mapped",
        "containers/test_webdataset.py::test_a_forged_table_with_a_right_checksum_is_refused",
    ),
    "shard names and absurd shapes are refused on load": (
        "test_manifest.py::test_parts_that_do_not_agree_are_named",
        "hostile/test_what_held.py::test_a_latent_of_absurd_size_is_refused_on_load",
    ),
    "picture bombs stay within limits": (
        "test_image_decoding.py::test_a_decompression_bomb_is_refused_from_its_header",
        "test_hostile_images.py::test_good_pictures_are_all_there_and_every_bad_one_is_listed_with_its_reason",
    ),
    "weights_only everywhere, and no pickle": (
        "vaes/test_tiny.py::test_a_pickle_that_builds_anything_but_tensors_is_refused",
        "hostile/test_what_held.py::test_nothing_unpickles_evaluates_or_starts_a_program",
    ),
    "weights of metrics are known by their sha256": (
        "metrics/test_weights.py::test_a_file_of_another_sha256_is_refused_by_a_sentence_that_says_how_to_get_the_right_one",
    ),
    "cached copies are compared by sha256 and CRC": (
        "test_decoded_cache.py::test_a_changed_copy_in_the_cache_is_refused_and_says_what_to_type",
        "test_decoded_cache.py::test_a_changed_shard_is_refused_by_name_before_it_is_decoded",
    ),
    "YAML is loaded safely": (
        "hostile/test_what_held.py::test_a_card_cannot_name_a_function_to_call",
        "hostile/test_what_held.py::test_nothing_unpickles_evaluates_or_starts_a_program",
    ),
}


@pytest.mark.parametrize("promise", HELD)
def test_each_promise_has_its_tests(promise: str) -> None:
    for place in HELD[promise]:
        file, _, name = place.partition("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, place


# The filter grammar ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "condition",
    [
        "__import__('os').system('touch pwned')",
        "x == __import__('os').system('touch pwned')",
        "().__class__.__base__.__subclasses__()",
        "x > open('pwned', 'w').write('')",
        "x in [open('pwned', 'w')]",
        "x == [y for y in (1, 2)]",
        "x == f'{x.__class__}'",
        "x > 9 ** 9 ** 9",
        "x == 'a' * 10 ** 10",
        "x > 1 << 10 ** 9",
        "x < {1: open('pwned', 'w')}",
        "x == (yield)",
        "x == await x",
        "x > -x",
        "x == x.__class__",
        "exec('pwned = 1')",
        "*x",
    ],
)
def test_a_filter_computes_nothing_but_comparisons(
    condition: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.process_time()
    with pytest.raises(RequestError) as caught:
        rows_where(condition, {"x": [1.0]}, None)
    assert time.process_time() - began < 1
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# What comes over a network --------------------------------------------------------------------------------------------


def without_length(server: RangeServer) -> type[Answers]:
    """Sends the file with no word on how long it is; whoever wants to know reads to the end."""

    class Endless(Answers):  # type: ignore[misc] # mypy finds it under another name
        server_of = server

        def do_GET(self) -> None:  # noqa: N802 (the name that http.server asks for)
            self.close_connection = True
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                for _ in range(256):
                    self.wfile.write(bytes(1 << 16))
                    server.flipped += 1
            except OSError:
                return

    return Endless


def test_a_body_has_as_many_bytes_as_are_expected_at_most(tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(bytes(1000))
    with serving(tmp_path) as server:
        folder = HttpFolder(server.url, patience=SOON)
        assert folder.read_bytes("file.bin", 1000) == bytes(1000)
        with pytest.raises(FetchError, match=r"file\.bin has 1000 bytes, expected 999 at most\.$"):
            folder.read_bytes("file.bin", 999)
    with serving(tmp_path, without_length) as server:
        with pytest.raises(FetchError, match=r"file\.bin has more than 999 bytes\.$"):
            HttpFolder(server.url, patience=SOON).read_bytes("file.bin", 999)
        assert server.flipped < 256  # 64 kB each: nobody read 16 MiB


# What lies in a file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [2**62, 2**31, 10**6, 100, -100, -(10**6), -(2**62)])
def test_a_page_beyond_the_end_of_its_file_is_refused_before_it_is_mapped(
    drawn_fast: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    honest = parquet.data_page  # type: ignore[attr-defined] # where it is used, not where it is written

    def forged(buffer: memoryview, offset: int, *, nested: bool = True) -> Any:
        page = honest(buffer, offset, nested=nested)
        return replace(
            page, first=len(buffer) * (moved > 0) + moved, end=len(buffer) * (moved > 0) + moved + page.end - page.first
        )

    monkeypatch.setattr(parquet, "data_page", forged)
    with pytest.raises(DamagedShardError, match=r"train-0000\d-of-00003\.parquet"):
        load_latents(drawn_fast).batch(range(4))


@pytest.mark.parametrize(
    "shape", [[3, 2**31, 2**31], [3, 10**18, 1], [3, 10**300, 1], [3, -5, -5], [3, 0, 5], [2**40, 5, 5]]
)
def test_a_latent_of_absurd_size_is_refused_on_load(drawn: Path, tmp_path: Path, shape: list[int]) -> None:
    folder = Path(shutil.copytree(drawn / "synthetic-pool8", tmp_path / "synthetic-pool8"))
    edit_manifest(folder, "latent_shape", shape)
    edit_manifest(folder, "vae.channels", shape[0])
    with pytest.raises((ManifestError, DamagedShardError)) as caught:
        load_latents(folder).batch(range(2))
    assert len(str(caught.value).splitlines()) == 1


# What is never done ---------------------------------------------------------------------------------------------------

MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "subprocess", "ctypes.util"}
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"} | {
    *("tempfile.mktemp", "np.lib.format.read_array", "torch.hub.load", "torch.jit.load", "pty.spawn", "input"),
}
ALLOWED = {
    "engines/local.py": {"pickle"},  # asks whether a plan of the user's own can be sent to a process of its own
    "engines/failures.py": {"pickle"},  # reads what it has written in the same line
    "vaes/tiny.py": {"pickle"},  # names the error of a file that torch refuses
}


def dotted(node: ast.expr) -> str:
    """The name of what is called."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe(tree: ast.AST) -> list[str]:
    """What stands there that runs what a file says, beside what ruff's S rules find."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            name, given = dotted(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            found += [name] if name in CALLS else []
            found += [name] if name == "torch.load" and given.get("weights_only") != "True" else []
            found += [f"{name} with pickle"] if given.get("allow_pickle", "False") != "False" else []
            found += [f"{name} with code of others"] if given.get("trust_remote_code", "False") != "False" else []
            found += [f"{name} in a shell"] if given.get("shell", "False") != "False" else []
            found += [f"{name} without use_safetensors"] if _may_unpickle(name, given) else []
    return found


def _may_unpickle(name: str, given: Mapping[str | None, str]) -> bool:
    return name.endswith(".from_pretrained") and given.get("use_safetensors") != "True" and None not in given


@pytest.mark.parametrize(
    "path",
    sorted([*LIBRARY.rglob("*.py"), *COMMAND_LINE.rglob("*.py")]),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_nothing_unpickles_evaluates_or_starts_a_program(path: Path) -> None:
    name = path.relative_to(path.parents[1] if path.is_relative_to(COMMAND_LINE) else LIBRARY).as_posix()
    found = set(unsafe(ast.parse(path.read_text(encoding="utf-8"))))
    assert found - ALLOWED.get(name, set()) == set()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("torch.load(path)", "torch.load"),
        ("torch.load(path, weights_only=False)", "torch.load"),
        ("np.load(path, allow_pickle=True)", "np.load with pickle"),
        ("import pickle", "pickle"),
        ("from marshal import loads", "marshal"),
        ("yaml.load(text, Loader=yaml.Loader)", "yaml.load"),
        ("AutoencoderKL.from_pretrained(folder)", "AutoencoderKL.from_pretrained without use_safetensors"),
        ("load_dataset(name, trust_remote_code=True)", "load_dataset with code of others"),
        ("eval(text)", "eval"),
    ],
)
def test_what_is_never_done_would_be_found(line: str, found: str) -> None:
    assert unsafe(ast.parse(line)) == [found]


def test_a_card_cannot_name_a_function_to_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "---\ntags: !!python/object/apply:os.system ['touch pwned']\n---\n"
    with pytest.raises(RequestError) as caught:
        assert Readme.parse(text).data
    assert "README.md" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
