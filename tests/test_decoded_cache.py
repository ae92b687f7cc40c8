"""Compressed shards are decoded once: into memory, or into a folder that processes share."""

from __future__ import annotations

import multiprocessing
import os
import resource
import stat
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import build_scenes

from latentstore import load_latents
from latentstore.decoded_cache import DecodedCache
from latentstore.errors import DamagedShardError, RequestError, UnsafePathError
from latentstore.host_memory import available_memory
from latentstore.split_latents import SplitLatents


@pytest.fixture
def compact(tmp_path: Path) -> Path:
    """30 rows in 3 compressed shards."""
    build_scenes(tmp_path / "data")
    return tmp_path / "data"


def test_memory_and_cache_give_the_numbers_of_the_fast_layout(compact: Path, drawn_fast: Path, tmp_path: Path) -> None:
    expected = load_latents(drawn_fast).batch(range(30))["latent"]
    memory, cached = load_latents(compact), load_latents(compact, cache=tmp_path / "cache")
    assert memory.in_memory
    assert not cached.in_memory
    assert torch.equal(memory.batch(range(30))["latent"], expected)
    assert torch.equal(cached.batch(range(30))["latent"], expected)
    shards = DecodedCache(tmp_path / "cache").shards()
    assert {shard.sha256 for shard in shards} == {info.sha256 for info in memory.manifest.splits["train"].shards}
    assert sum(shard.bytes for shard in shards) == memory.bytes_mapped


def test_a_shard_is_decoded_when_one_of_its_rows_is_first_read(compact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    real = SplitLatents._decoded_now

    def counted(self: SplitLatents, place: int) -> Any:
        decoded.append(place)
        return real(self, place)

    monkeypatch.setattr(SplitLatents, "_decoded_now", counted)
    dataset = load_latents(compact)
    assert decoded == []
    dataset.batch([13, 14])
    assert decoded == [1]
    for _ in dataset.loader(5, shuffle=True):
        pass
    assert sorted(decoded) == [0, 1, 2]


def test_a_cached_shard_is_not_decoded_again(compact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_latents(compact, cache=tmp_path / "cache").batch(range(30))["latent"]

    def never(_: SplitLatents, place: int) -> Any:
        raise AssertionError(place)

    monkeypatch.setattr(SplitLatents, "_decoded_now", never)
    assert torch.equal(load_latents(compact, cache=tmp_path / "cache").batch(range(30))["latent"], expected)


def test_decoding_goes_to_files_where_the_memory_is_too_small(
    compact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentstore.split_latents.available_memory", lambda: 100)
    monkeypatch.setattr("latentstore.split_latents.default_cache", lambda: tmp_path / "home")
    dataset = load_latents(compact)
    assert not dataset.in_memory
    assert len(DecodedCache(tmp_path / "home").shards()) == 3


def _read(folder: Path, cache: Path, barrier: Any, queue: Any) -> None:
    barrier.wait(60)
    queue.put(load_latents(folder, cache=cache).batch(range(30))["latent"].double().sum().item())


def test_processes_share_a_cache(compact: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_read, args=(compact, tmp_path / "cache", barrier, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = {queue.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert found == {load_latents(compact).batch(range(30))["latent"].double().sum().item()}
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert [name for name in names if name.endswith(".partial")] == []
    assert len([name for name in names if name.endswith(".rows")]) == 3


def _decode(folder: Path, barrier: Any) -> None:
    def slowly() -> Any:
        (folder / f"decoded-by-{os.getpid()}").touch()
        deadline = time.monotonic() + 1  # so that the other process asks before this is done
        while time.monotonic() < deadline and len(list(folder.glob("decoded-by-*"))) < 2:
            time.sleep(0.01)
        return np.arange(64, dtype=np.uint8)

    barrier.wait(240)
    found = DecodedCache(folder).get("f" * 64, 64, slowly)
    assert found.tolist() == list(range(64))


def test_of_two_processes_that_want_a_shard_one_decodes_it_and_the_other_waits(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="this system has no such locks")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [context.Process(target=_decode, args=(tmp_path, barrier)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(list(tmp_path.glob("decoded-by-*"))) == 1


def test_a_changed_shard_is_refused_by_name_before_it_is_decoded(compact: Path) -> None:
    path = compact / "synthetic-pool8" / "train-00001-of-00003.parquet"
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    dataset = load_latents(compact)
    assert len(dataset.batch(range(12))["latent"]) == 12
    with pytest.raises(DamagedShardError, match=r"train-00001-of-00003\.parquet is not the one .* its sha256 differs"):
        dataset.batch([12])


def test_a_changed_copy_in_the_cache_is_refused_and_says_what_to_type(compact: Path, tmp_path: Path) -> None:
    load_latents(compact, cache=tmp_path)
    for shard in DecodedCache(tmp_path).shards():
        content = np.fromfile(shard.path, np.uint8)
        content[-1] ^= 1
        content.tofile(shard.path)
    with pytest.raises(DamagedShardError, match="or its decoded copy in .* `latentstore cache clear`"):
        load_latents(compact, cache=tmp_path).batch(range(30))


def test_a_half_written_copy_is_made_again(compact: Path, tmp_path: Path) -> None:
    expected = load_latents(compact, cache=tmp_path).batch(range(30))["latent"]
    first = DecodedCache(tmp_path).shards()[0]
    first.path.write_bytes(first.path.read_bytes()[:-1])
    assert torch.equal(load_latents(compact, cache=tmp_path).batch(range(30))["latent"], expected)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(compact: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # bytes in any one file, as if there were no room
    try:
        with pytest.raises(RequestError, match=r"Cannot keep [\d,]+ decoded bytes in .*File too large.*bytes free"):
            load_latents(compact, cache=cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(cache.glob("*.rows")) == []
    assert list(cache.glob(".*.partial")) == []


def test_links_that_somebody_planted_are_not_written_through(compact: Path, tmp_path: Path) -> None:
    mine, cache = tmp_path / "mine", tmp_path / "cache"
    mine.write_bytes(b"mine")
    cache.mkdir()
    first, second, third = (info.sha256 for info in load_latents(compact).manifest.splits["train"].shards)
    for name in (f".{first}.rows.{os.getpid()}.partial", f"{second}.rows"):
        (cache / name).symlink_to(mine)
    load_latents(compact, cache=cache)
    assert mine.read_bytes() == b"mine"
    assert stat.S_IMODE((cache / f"{third}.rows").stat().st_mode) == 0o600
    (cache / f"{third}.rows").unlink()
    (cache / f".{third}.lock").unlink()
    (cache / f".{third}.lock").symlink_to(mine)
    with pytest.raises(UnsafePathError, match=r"\.lock is a link, or no plain file of its own, so it is not written"):
        load_latents(compact, cache=cache)
    assert mine.read_bytes() == b"mine"


def test_a_cache_is_made_for_its_user_alone(compact: Path, tmp_path: Path) -> None:
    load_latents(compact, cache=tmp_path / "cache")
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_a_cache_that_is_a_link_is_not_cleared(compact: Path, tmp_path: Path) -> None:
    load_latents(compact, cache=tmp_path / "cache")
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    with pytest.raises(UnsafePathError, match="is a link, .*: give the folder that it leads to"):
        DecodedCache(tmp_path / "link").clear()
    assert len(DecodedCache(tmp_path / "cache").clear()) == 3


def test_clearing_leaves_what_others_put_there(compact: Path, tmp_path: Path) -> None:
    mine = {name: tmp_path / name for name in ("gym.rows", ".my.lock", ".notes.partial", f"{'a' * 63}.rows")}
    for path in mine.values():
        path.write_text("mine")
    load_latents(compact, cache=tmp_path)
    assert len(DecodedCache(tmp_path).clear()) == 3
    assert {path.name for path in tmp_path.iterdir()} - {"data"} == set(mine)


def test_clearing_removes_everything_and_says_what(compact: Path, tmp_path: Path) -> None:
    load_latents(compact, cache=tmp_path)
    cache = DecodedCache(tmp_path)
    assert len(cache.clear()) == 3
    assert list(tmp_path.glob("*.rows")) == []
    assert cache.clear() == []


def test_available_memory_is_what_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:     42 kB\n")
    assert available_memory(tmp_path, tmp_path) == 42 * 1024
    assert available_memory(tmp_path / "none", tmp_path) > 2**20


@pytest.mark.parametrize(
    ("membership", "group", "limit", "used"),
    [
        ("0::/\n", ".", "memory.max", "memory.current"),
        ("0::/jobs/mine\n", "jobs/mine", "memory.max", "memory.current"),
        ("0::/jobs/mine\n", "jobs", "memory.max", "memory.current"),  # the limit of the group above counts as well
        ("3:cpu:/\n2:memory:/docker/1\n", "memory/docker/1", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ("3:cpu:/\n2:memory:/docker/1\n", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),  # inside it
    ],
)
def test_a_container_has_no_more_memory_than_its_limit_leaves(
    tmp_path: Path, membership: str, group: str, limit: str, used: str
) -> None:
    proc, folder = tmp_path / "proc", tmp_path / "cgroups" / group
    (proc / "self").mkdir(parents=True)
    folder.mkdir(parents=True)
    (proc / "meminfo").write_text("MemAvailable: 9000 kB\n")
    (proc / "self" / "cgroup").write_text(membership)
    (folder / used).write_text("700000\n")
    (folder / "memory.stat").write_text("anon 400000\ninactive_file 200000\n")
    (folder / limit).write_text("1000000\n")
    assert available_memory(proc, tmp_path / "cgroups") == 500_000
    (folder / used).write_text("1300000\n")
    assert available_memory(proc, tmp_path / "cgroups") == 0
    (folder / limit).write_text("max\n" if limit == "memory.max" else f"{2**63 - 4096}\n")
    assert available_memory(proc, tmp_path / "cgroups") == 9000 * 1024
