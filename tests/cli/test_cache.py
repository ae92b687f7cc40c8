"""`latentstore cache`: what is kept, and that it can be removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from latentstore import load_latents

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


def test_decoded_shards_are_listed_and_removed(run: Run, built: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    dataset = load_latents(built, cache=cache)
    shards = dataset.manifest.splits["train"].shards
    listed = run("cache", "list", "--cache", cache)
    assert listed.exit_code == 0
    assert f"{len(shards)} decoded shards, {dataset.bytes_mapped:,} bytes in {cache}\n" in listed.stdout
    found = json.loads(run("cache", "list", "--cache", cache, "--json").stdout)
    assert {shard["sha256"] for shard in found["shards"]} == {shard.sha256 for shard in shards}
    assert sum(shard["bytes"] for shard in found["shards"]) == dataset.bytes_mapped
    cleared = run("cache", "clear", "--cache", cache)
    assert cleared.stdout == f"Removed {len(shards)} decoded shards, {dataset.bytes_mapped:,} bytes, from {cache}\n"
    assert list(cache.glob("*.rows")) == []
    assert json.loads(run("cache", "clear", "--cache", cache, "--json").stdout)["removed"] == 0


def test_a_cache_that_is_not_there_is_empty(run: Run, tmp_path: Path) -> None:
    assert run("cache", "list", "--cache", tmp_path / "none").stdout.startswith("0 decoded shards, 0 bytes in ")
