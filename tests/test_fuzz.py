"""The fuzz run of scripts/fuzz_damage.py: its short form finds nothing, and what it looks for it would find."""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import damage
import pytest
from forged import edit_manifest

from latentstore import CHECKS, open_store
from latentstore.containers.parquet import open_parquet
from latentstore.containers.parquet_pages import column_chunks
from latentstore.containers.table import CONTAINERS
from latentstore.split_latents import SplitLatents
from latentstore.storage.table import STORAGES

SHARD = "train-00001-of-00003.parquet"
FAST = "parquet fast float16"


@pytest.fixture(scope="module")
def fuzz() -> Any:
    """The script as a module, which processes it starts can import too."""
    folder = str(Path(__file__).parents[1] / "scripts")
    sys.path.insert(0, folder)
    import fuzz_damage

    yield fuzz_damage
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def datasets(fuzz: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found: dict[str, Path] = fuzz.build_datasets(tmp_path_factory.mktemp("fuzz"))
    return found


def test_every_container_layout_and_storage_is_damaged(datasets: dict[str, Path]) -> None:
    kinds = {
        f"{container.name} {layout} {storage}"
        for container in CONTAINERS.values()
        for layout in container.layouts
        for storage in STORAGES
    }
    assert kinds < set(datasets)


def test_no_damage_gives_wrong_numbers_ends_the_process_or_says_nothing(
    fuzz: ModuleType, datasets: dict[str, Path]
) -> None:
    results = list(fuzz.run_all(datasets, range(120), seed=11))
    kinds = Counter(outcome.kind for _, _, outcome in results)
    assert [result for result in results if result[2].kind == fuzz.FAILURE] == []
    assert sum(kinds.values()) == 120
    assert kinds[fuzz.REFUSED] > 60
    assert kinds[fuzz.SAME] > 2  # a column of a shard that load takes from the index


def test_no_sealed_damage_ends_but_by_data_or_by_one_sentence(fuzz: ModuleType, datasets: dict[str, Path]) -> None:
    results = list(fuzz.run_all(datasets, range(40), seed=5, mode=fuzz.SEALED))
    kinds = Counter(outcome.kind for _, _, outcome in results)
    assert [result for result in results if result[2].kind == fuzz.FAILURE] == []
    assert sum(kinds.values()) == 40
    assert kinds[fuzz.REFUSED] > 15
    assert kinds[fuzz.SAME] > 3
    of_files = [outcome.note for _, what, outcome in results if not what.startswith(fuzz.MANIFEST)]
    assert not any("sha256 differs" in note or "digest" in note for note in of_files)


def test_a_damage_is_the_same_again_from_its_number_and_seed(fuzz: ModuleType, tmp_path: Path, drawn: Path) -> None:
    whole = drawn / "synthetic-pool8"
    seen = []
    for place in ("a", "b"):
        folder = Path(shutil.copytree(whole, tmp_path / place / "synthetic-pool8"))
        done = [fuzz.damage(folder, random.Random(f"0 {number}")) for number in range(5)]  # noqa: S311 (no secrets)
        seen.append((done, [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()]))
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("worker", "said"), [(damage.dies, "the process died (-11)"), (damage.hangs, "not done after 0.5 s")]
)
def test_a_process_that_dies_or_hangs_is_a_failure_and_the_run_goes_on(
    fuzz: ModuleType, datasets: dict[str, Path], worker: Callable[..., None], said: str
) -> None:
    results = list(fuzz.run_all(datasets, range(2), 0, worker=worker, seconds=0.5 if worker is damage.hangs else 60))
    assert [(number, outcome.kind, outcome.note) for number, _, outcome in results] == [
        (0, fuzz.FAILURE, said),
        (1, fuzz.FAILURE, said),
    ]


# A library that is broken in one place is found out --------------------------------------------------------------


@pytest.fixture(scope="module")
def expected(fuzz: ModuleType, datasets: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What each dataset gives while it is whole and the library too."""
    return {name: fuzz.loaded(folder) for name, folder in datasets.items()}


@pytest.fixture
def folder(datasets: dict[str, Path], tmp_path: Path, fuzz: ModuleType) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(datasets[FAST], tmp_path / fuzz.CONFIG))


def flip_a_latent(folder: Path) -> None:
    """The lowest bit of the first number of a shard in layout fast."""
    content = bytearray((folder / SHARD).read_bytes())
    offsets = open_parquet(folder / SHARD, open_store(folder).schema)._offsets
    assert offsets is not None
    content[int(offsets[0])] ^= 1
    (folder / SHARD).write_bytes(content)


def judged(fuzz: ModuleType, folder: Path, file: str, expected: dict[str, Any], *, mended: bool = False) -> Any:
    return fuzz.judge(folder, fuzz.Damage("by hand", (file,), mended), expected)


def test_a_flipped_latent_is_refused_by_load(fuzz: ModuleType, expected: dict[str, Any], folder: Path) -> None:
    flip_a_latent(folder)
    outcome = judged(fuzz, folder, SHARD, expected[FAST])
    assert outcome.kind == fuzz.REFUSED
    assert SHARD in outcome.note
    assert "CRC-32" in outcome.note


def test_a_load_that_compares_no_checksums_is_a_failure(
    fuzz: ModuleType, expected: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_a_latent(folder)
    monkeypatch.setattr(SplitLatents, "_check", lambda *_: None)
    outcome = judged(fuzz, folder, SHARD, expected[FAST])
    assert outcome.kind == fuzz.FAILURE
    assert outcome.note.startswith("load gives other data")


def test_a_verify_that_compares_nothing_is_a_failure(
    fuzz: ModuleType, expected: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_a_latent(folder)
    monkeypatch.setattr(fuzz, "CHECKS", {"manifest": CHECKS["manifest"]})
    outcome = judged(fuzz, folder, SHARD, expected[FAST])
    assert outcome.kind == fuzz.FAILURE
    assert outcome.note.startswith("only load refuses")
    monkeypatch.setattr(SplitLatents, "_check", lambda *_: None)
    again = judged(fuzz, folder, SHARD, expected[FAST])
    assert again.note == f"verify does not name {SHARD}: nothing found"


def test_an_error_that_is_not_ours_is_a_failure(
    fuzz: ModuleType, datasets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        message = "list index out of range"
        raise IndexError(message)

    monkeypatch.setattr(SplitLatents, "_check", broken)
    _, outcome = fuzz.run_one({FAST: datasets[FAST]}, 0, 0)
    assert outcome.kind == fuzz.FAILURE
    assert "IndexError: list index out of range (test_fuzz.py" in outcome.note


def test_an_error_that_names_no_file_is_a_failure(
    fuzz: ModuleType, expected: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentstore.errors import DamagedShardError

    def vague(*_: object) -> None:
        raise DamagedShardError("Something is wrong.")

    monkeypatch.setattr(SplitLatents, "_check", vague)
    outcome = judged(fuzz, folder, SHARD, expected[FAST])
    assert (outcome.kind, outcome.note) == (fuzz.FAILURE, "load names no file: Something is wrong.")


def test_steps_that_the_statistics_contradict_are_refused_by_load(
    fuzz: ModuleType, datasets: dict[str, Path], expected: dict[str, Any], tmp_path: Path
) -> None:
    whole = datasets["parquet fast int8"]
    for factor in (1.01, 1.0001, 1e-3, 1.7, 1e300):
        folder = Path(shutil.copytree(whole, tmp_path / str(factor) / fuzz.CONFIG))
        step = fuzz.open_store(folder).manifest.storage.steps[1]
        edit_manifest(folder, "storage.steps.1", step * factor)
        outcome = judged(fuzz, folder, fuzz.MANIFEST, expected["parquet fast int8"], mended=True)
        assert outcome.kind == fuzz.REFUSED
        assert outcome.note.startswith("manifest field 'storage.steps")


def test_a_page_header_without_sense_is_refused_by_load_and_holds_no_map_open(
    fuzz: ModuleType, folder: Path, expected: dict[str, Any]
) -> None:
    content = (folder / SHARD).read_bytes()
    chunk = column_chunks(memoryview(content), "latent")[0]
    (folder / SHARD).write_bytes(content[: chunk.offset] + b"\xff" * 8 + content[chunk.offset + 8 :])
    outcome = judged(fuzz, folder, SHARD, expected[FAST])
    assert outcome.kind == fuzz.REFUSED
    assert "no readable page header" in outcome.note


# Damage that is sealed again --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["parquet fast float16", "parquet compact float16", "webdataset fast int8"])
def test_a_sealed_damage_has_every_checksum_right(
    fuzz: ModuleType, datasets: dict[str, Path], expected: dict[str, dict[str, Any]], tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(datasets[name], tmp_path / fuzz.CONFIG))
    shard = next(path for path in sorted(folder.iterdir()) if path.name.startswith("train-"))
    whole = shard.read_bytes()
    at = place_of_a_number(folder, whole)
    shard.write_bytes(whole[:at] + bytes([whole[at] ^ 2]) + whole[at + 1 :])
    sys.modules["reseal"].seal_file(folder, shard.name, whole)
    found = fuzz.judge_sealed(folder, fuzz.Damage("by hand", (shard.name,), mended=True), expected[name])
    assert found.kind == fuzz.FOUND  # other data, which load believes: the index says so too
    assert "sha256" not in found.note
    assert "CRC-32" in found.note  # only the shard's own column still has the old one


def place_of_a_number(folder: Path, whole: bytes) -> int:
    """A byte of the first latent of a shard, of which every bit may be flipped."""
    reader = open_store(folder).shard(open_store(folder).manifest.splits["train"].shards[0])
    mapped = reader.mapped()
    if mapped is not None:
        return int(mapped[1][0])
    chunk = column_chunks(memoryview(whole), "latent")[0]
    return chunk.offset + chunk.bytes - 40  # in the last literals of zstd: another number, and no other length


def test_another_error_of_a_sealed_dataset_is_a_failure(
    fuzz: ModuleType, datasets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        message = "no such key"
        raise KeyError(message)

    monkeypatch.setattr(fuzz, "streamed", broken)
    _, outcome = fuzz.run_one({FAST: datasets[FAST]}, 0, 0, fuzz.SEALED)
    assert outcome.kind == fuzz.FAILURE
    assert "KeyError: 'no such key'" in outcome.note


def test_a_stream_that_gives_other_data_than_load_is_a_failure(
    fuzz: ModuleType, folder: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "streamed", lambda _: {})
    outcome = fuzz.judge_sealed(folder, fuzz.Damage("nothing", ()), expected[FAST])
    assert (outcome.kind, outcome.note) == (fuzz.FAILURE, "a stream gives other data than load")
