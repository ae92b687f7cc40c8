"""Training from a dataset on a server: the same rows, each once, checked, and no byte more than is needed."""

from __future__ import annotations

import json
import pickle
import shutil
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forged import edit_manifest
from range_server import Answers, Fault, RangeServer, serving
from scenes import build_scenes, scenes
from torch.utils.data import DataLoader

from latentstore import CONTAINERS, STORAGES, VAES, LatentDataset, load_latents, open_store
from latentstore.card import render_card, sealed_configs
from latentstore.containers import parquet, row_ranges
from latentstore.errors import (
    DamagedShardError,
    FetchError,
    ManifestError,
    NotSealedError,
    RequestError,
    UnknownNameError,
)
from latentstore.remote_store import open_remote_store
from latentstore.retries import Patience
from latentstore.stream import StreamedLatents
from latentstore.stream_order import cut, pieces, pools, shares

SIDE, ROWS, SHARD_ROWS, BLOCK_ROWS = 64, 48, 8, 4
ROW_BYTES = 3 * SIDE * SIDE * 2
BLOCK = BLOCK_ROWS * ROW_BYTES
TAIL = 8 << 10
WHOLE_PIXELS = replace(VAES["pool8"], name="pool1", stride=1)
"""Latents as large as the pictures."""
KINDS: dict[str, dict[str, Any]] = {
    "fast": {"layout": "fast"},
    "compact": {"layout": "compact"},
    "int8": {"storage": STORAGES["int8"], "step": 1 / 64},
    "tar": {"container": CONTAINERS["webdataset"]},
}
KIND = pytest.mark.parametrize("kind", KINDS)
UNPATIENT = Patience(tries=3, first_wait=0, longest_wait=0, timeout=10)


@pytest.fixture(scope="module", autouse=True)
def _small_blocks() -> Iterator[None]:
    """Row groups, blocks and ends of files that are small beside the few rows of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_BYTES", BLOCK)
        patch.setattr("latentstore.stream.BLOCK_BYTES", BLOCK)
        patch.setattr(row_ranges, "TAIL_BYTES", TAIL)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One config of each kind, of the same pictures: 6 shards of 8 rows of 24 KiB."""
    out = tmp_path_factory.mktemp("streamed")
    usual: dict[str, Any] = {"source": scenes(ROWS, SIDE), "vae": WHOLE_PIXELS, "rows_per_shard": SHARD_ROWS}
    for config, options in KINDS.items():
        build_scenes(out, config=config, **usual, metrics=(), **options)
    (out / "README.md").write_text(render_card(sealed_configs(out)))
    return out


@pytest.fixture
def server(repository: Path) -> Iterator[RangeServer]:
    with serving(repository) as found:
        yield found


def streamed(location: str | Path, config: str | None = None, **options: Any) -> StreamedLatents:
    """As ``load_latents(streaming=True)``, but without waiting between tries."""
    store = open_remote_store(location, config, patience=UNPATIENT)
    return StreamedLatents(LatentDataset(store, **options), store)


def ids_of(loader: Any) -> list[str]:
    return [name for batch in loader for name in batch["id"]]


@KIND
def test_the_rows_are_those_of_the_folder_in_every_container(server: RangeServer, repository: Path, kind: str) -> None:
    there = load_latents(server.url, kind, streaming=True, columns=["id", "label", "height"])
    here = load_latents(repository, kind, columns=["id", "label", "height"])
    batches = list(there.loader(batch_size=10))
    expected = here.batch(range(ROWS))
    assert [len(batch["latent"]) for batch in batches] == [10, 10, 10, 10, 8]
    assert set(batches[0]) == set(expected)
    for name in ("latent", "label", "height"):
        found = torch.cat([batch[name] for batch in batches])
        assert found.dtype == expected[name].dtype
        assert torch.equal(found, expected[name])
    assert ids_of(batches) == expected["id"]
    assert len(there) == ROWS
    assert there.manifest == here.manifest
    assert there.labels.tolist() == here.labels.tolist()
    shuffled = list(there.loader(10, shuffle=True))
    latents = {name: latent for batch in shuffled for name, latent in zip(batch["id"], batch["latent"], strict=True)}
    assert all(torch.equal(latents[name], here[row]["latent"]) for row, name in enumerate(expected["id"]))


@pytest.mark.parametrize("kind", ["path", "own folder", "file", "memory"])
def test_a_folder_on_disk_and_any_file_system_stream_too(repository: Path, kind: str) -> None:
    if kind == "memory":
        import fsspec

        files = fsspec.filesystem("memory")
        files.put(str(repository), "/put", recursive=True)
    places: dict[str, tuple[str | Path, str | None]] = {
        "path": (repository, "fast"),
        "own folder": (repository / "fast", None),
        "file": (f"file://{repository}", "fast"),
        "memory": ("memory://put", "fast"),
    }
    location, config = places[kind]
    there = load_latents(location, config, streaming=True, space="raw", dtype="float16")
    batch = next(iter(there.loader(5)))
    assert torch.equal(
        batch["latent"], load_latents(repository, "fast", space="raw", dtype="float16").batch(range(5))["latent"]
    )
    assert len(list(there)) == ROWS


def test_pictures_are_decoded_by_the_recorded_vae(server: RangeServer, repository: Path) -> None:
    there = load_latents(server.url, "fast", streaming=True, decode=True, vae=WHOLE_PIXELS)
    here = load_latents(repository, "fast", decode=True, vae=WHOLE_PIXELS)
    batch = next(iter(there.loader(3)))
    assert torch.equal(batch["image"], here.batch(range(3))["image"])
    assert torch.equal(there.decode(batch["latent"]), batch["image"])


@KIND
def test_an_epoch_is_a_pure_function_of_seed_and_epoch_and_holds_every_row_once(repository: Path, kind: str) -> None:
    dataset = streamed(repository, kind, columns=["id"])
    everything = sorted(open_store(repository, kind).index(["id"])["id"])
    loader = dataset.loader(7, shuffle=True, seed=3)
    first, second = ids_of(loader), ids_of(loader)
    assert sorted(first) == sorted(second) == everything
    assert first != second
    assert first == ids_of(dataset.loader(5, shuffle=True, seed=3, prefetch=0))
    assert first != ids_of(dataset.loader(7, shuffle=True, seed=4))
    places = [everything.index(name) for name in first]
    neighbours = np.mean(np.abs(np.diff(places)) == 1)
    assert neighbours < 0.2  # rows of several blocks are mixed


def test_rows_of_a_pool_come_from_several_blocks_and_blocks_from_all_shards() -> None:
    blocks = cut(np.arange(1000), [400, 600], 10)
    (mine,) = shares(blocks, 0, 0, 1, shuffled=True)
    order = list(pools(blocks, mine, (0, 0, 0), 0, shuffled=True))
    assert sorted(np.concatenate(order).tolist()) == list(range(1000))
    assert [len(np.unique(rows // 10)) for rows in order] == [8] * 12 + [4]
    assert {len(set(rows[:20] // 10)) > 4 for rows in order[:-1]} == {True}
    assert [rows.tolist() for rows in pools(blocks, np.arange(100), (0,), 995, shuffled=False)] == [
        [995, 996, 997, 998, 999]
    ]


def test_a_block_never_spans_two_shards_and_only_holds_wanted_rows() -> None:
    wanted = np.array([0, 1, 9, 10, 11, 12, 13, 40])
    blocks = cut(wanted, [11, 0, 20, 10], 5)
    parts = [wanted[rows].tolist() for rows in pieces(blocks, np.arange(len(wanted)))]
    assert parts == [[0, 1], [9], [10], [11, 12, 13], [40]]
    assert blocks.shards.tolist() == [0, 0, 0, 2, 3]
    short = cut(np.arange(6), [3, 3], 5)
    assert short.bounds.tolist() == [0, 3, 6]
    assert short.shards.tolist() == [0, 1]


@KIND
def test_ranks_share_an_epoch_and_no_block_is_fetched_by_two(server: RangeServer, kind: str) -> None:
    dataset = streamed(server.url, kind, columns=["id"])
    ids_of(dataset.loader(8))  # footers and tables are read now
    server.forget()
    names = []
    for rank in range(3):
        loader = dataset.loader(5, shuffle=True, seed=1, rank=rank, world_size=3)
        found = ids_of(loader)
        assert abs(len(found) - ROWS / 3) <= BLOCK_ROWS * 2
        names += found
    assert sorted(names) == sorted(ids_of(dataset.loader(8)))
    ranges = [(one.path, one.start) for one in server.asked]
    half = ranges[: len(ranges) // 2]
    assert sorted(half) == sorted(ranges[len(half) :])  # as many bytes as one epoch of one rank
    assert len(set(half)) == len(half)


def test_drop_last_gives_all_ranks_as_many_full_batches(repository: Path) -> None:
    dataset = streamed(repository, "fast", columns=["id"])
    for world_size in (1, 2, 5):
        batches = []
        for rank in range(world_size):
            loader = dataset.loader(3, shuffle=True, drop_last=True, rank=rank, world_size=world_size)
            announced = len(loader)
            found = list(loader)
            assert {len(batch["id"]) for batch in found} == {3}
            assert len(found) == announced
            batches.append(announced)
        assert len(set(batches)) == 1


@pytest.mark.parametrize("options", [{}, {"shuffle": True, "rank": 1, "world_size": 2}])
def test_the_length_of_a_loader_is_its_number_of_batches(repository: Path, options: dict[str, Any]) -> None:
    loader = streamed(repository, "fast").loader(7, **options)
    assert len(loader) == len(list(loader))


def test_opening_and_the_first_batch_move_index_manifest_and_one_block(server: RangeServer, repository: Path) -> None:
    dataset = load_latents(server.url, "fast", streaming=True)
    small = sum((repository / "fast" / name).stat().st_size for name in ("index.parquet", "manifest.json"))
    assert server.sent == small
    batch = next(iter(dataset.loader(4, prefetch=0)))
    assert len(batch["latent"]) == 4
    assert server.sent <= small + BLOCK + TAIL + parquet_header_and_probe()
    assert {one.path.rpartition("/")[2] for one in server.asked} == {
        "index.parquet",
        "manifest.json",
        "train-00000-of-00006.parquet",
    }


def parquet_header_and_probe() -> int:
    from latentstore.containers.parquet_pages import PAGE_HEADER_BYTES

    return PAGE_HEADER_BYTES + 1


@KIND
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_moves_the_stored_latents_once(
    server: RangeServer, repository: Path, kind: str, *, shuffle: bool
) -> None:
    dataset = streamed(server.url, kind)
    server.forget()
    list(dataset.loader(8, shuffle=shuffle))
    stored = sum(path.stat().st_size for path in (repository / kind).glob("train-*"))
    once = ROWS * ROW_BYTES if kind == "fast" else stored  # without the levels between the rows of a fast shard
    assert server.sent <= 1.1 * once
    server.forget()
    list(dataset.loader(8, shuffle=shuffle))  # what is known of the shards is not asked for again
    assert server.sent <= 1.02 * once


def test_labels_columns_and_filters_move_the_index_only(server: RangeServer, repository: Path) -> None:
    dataset = load_latents(server.url, "fast", streaming=True, columns=["id", "height"], filter="height > 3")
    assert len(dataset.labels) == ROWS
    assert server.sent_of("train-") == 0
    assert server.sent_of("index") == (repository / "fast" / "index.parquet").stat().st_size


@KIND
def test_rows_that_a_filter_leaves_out_are_not_fetched(server: RangeServer, kind: str) -> None:
    wanted = [1, 2, 20, 47]
    dataset = streamed(
        server.url, kind, columns=["id"], filter=lambda c: [row in wanted for row in range(len(c["id"]))]
    )
    assert len(dataset) == len(wanted)
    server.forget()
    found = ids_of(dataset.loader(8, shuffle=True))
    everything = ids_of(streamed(server.url, kind, columns=["id"]).loader())
    assert sorted(found) == sorted(everything[row] for row in wanted)
    asked = {one.path.rpartition("-of-")[0][-1:] or one.path[-5] for one in server.asked if one.path.count("train")}
    assert asked <= {"0", "1", "2", "3", "4", "5"}
    server.forget()
    ids_of(dataset.loader(8))
    if kind in ("fast", "tar"):
        assert server.sent <= len(wanted) * (ROW_BYTES + 2048)
    assert len({one.path for one in server.asked}) == 3


@KIND
@pytest.mark.parametrize("taken", [0, 1, 4, 9])
def test_an_epoch_goes_on_at_its_next_row_and_fetches_nothing_twice(server: RangeServer, kind: str, taken: int) -> None:
    options: dict[str, Any] = {"shuffle": True, "seed": 5}
    dataset = streamed(server.url, kind, columns=["id"])
    whole = ids_of(dataset.loader(5, **options))
    loader = dataset.loader(5, **options)
    batches = iter(loader)
    for _ in range(taken):
        next(batches)
    state = json.loads(json.dumps(loader.state_dict()))
    batches.close()  # type: ignore[attr-defined]
    again = dataset.loader(3, prefetch=0, **options)
    again.load_state_dict(state)
    assert len(again) == ROWS / 3
    server.forget()
    assert ids_of(again) == whole[5 * taken :]
    if kind == "fast":
        assert server.sent <= (ROWS - 5 * taken) * ROW_BYTES * 1.01 + 16 * row_ranges.GAP_BYTES
    second = ids_of(again)
    assert sorted(second) == sorted(whole)
    assert second == ids_of_epoch(dataset, 1, options)


def ids_of_epoch(dataset: StreamedLatents, epoch: int, options: dict[str, Any]) -> list[str]:
    loader = dataset.loader(5, **options)
    loader.epoch = epoch
    return ids_of(loader)


def test_blocks_that_were_given_are_not_fetched_again(server: RangeServer) -> None:
    dataset = streamed(server.url, "fast", columns=["id"])
    loader = dataset.loader(4, shuffle=True)
    list(loader)
    loader.load_state_dict({**loader.state_dict(), "epoch": 0, "done": 8 * BLOCK_ROWS})
    server.forget()
    assert len(ids_of(loader)) == ROWS - 8 * BLOCK_ROWS
    left = (ROWS - 8 * BLOCK_ROWS) * ROW_BYTES
    assert left - 4 * TAIL <= server.sent <= left  # ends of files are kept


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"weights": "x"}, "made with other weights"),
        ({"seed": 1}, "made with another seed"),
        ({"shuffle": "none"}, "made with another way to shuffle"),
        ({"block_rows": 9}, "made with blocks of another size"),
        ({"data": "x"}, "made with other data"),
    ],
)
def test_a_state_of_another_order_is_refused(repository: Path, change: dict[str, Any], sentence: str) -> None:
    loader = streamed(repository, "fast").loader(4, shuffle=True)
    with pytest.raises(RequestError, match=sentence):
        loader.load_state_dict({**loader.state_dict(), **change})
    with pytest.raises(RequestError, match="no state of such a loader: it lacks"):
        loader.load_state_dict({"epoch": 1})


def taken_together(loaders: list[Any], batches: int) -> tuple[list[str], dict[str, Any]]:
    """What these ranks give in so many batches each, and the state of the one that has given the most."""
    found: list[str] = []
    for loader in loaders:
        epoch = iter(loader)
        found += [name for _ in range(batches) for name in next(epoch, {"id": []})["id"]]
    states = [loader.state_dict() for loader in loaders if loader.state_dict()["epoch"] == 0]
    return found, json.loads(json.dumps(max(states, key=lambda state: int(state["done"]))))


WEIGHTS = np.arange(ROWS) % 5


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"weights": WEIGHTS}, {"shuffle": True, "pad": True}])
@pytest.mark.parametrize(
    "stages",
    [
        [(4, 3, 2), (3, 2, 1), (1, 5, 0)],  # world size, batch size, batches that each rank takes; at last all
        [(1, 5, 3), (4, 2, 2), (7, 3, 0)],
        [(2, 4, 1), (2, 4, 1), (5, 1, 2), (2, 4, 0)],
        [(5, 4, 2), (12, 1, 0)],  # fewer blocks are left than there are ranks
        [(3, 5, 3), (2, 48, 0)],  # the first rank has 16 rows, another may have fewer than 15
    ],
)
@pytest.mark.parametrize("kind", ["fast", "compact"])  # int8 has fewer blocks than ranks here
def test_another_number_of_ranks_ends_an_epoch_and_no_row_is_lost_or_given_again(
    repository: Path, kind: str, stages: list[tuple[int, int, int]], options: dict[str, Any]
) -> None:
    dataset = streamed(repository, kind, columns=["id"])
    whole = ids_of(dataset.loader(8, seed=2, **options))

    def ranks(world_size: int, size: int, state: dict[str, Any] | None) -> list[Any]:
        found = []
        for rank in range(world_size):
            loader = dataset.loader(size, seed=2, rank=rank, world_size=world_size, prefetch=0, **options)
            if state is not None:
                loader.load_state_dict(state)
            found.append(loader)
        return found

    given: list[str] = []
    state = None
    for world_size, size, batches in stages[:-1]:
        found, state = taken_together(ranks(world_size, size, state), batches)
        given += found
    last = ranks(*stages[-1][:2], state)
    rest = [list(loader) for loader in last]
    given += [name for batches in rest for name in ids_of(batches)]
    if "pad" in options:
        assert set(given) == set(whole)
        assert len({len(ids_of(batches)) for batches in rest}) == 1
    else:
        assert sorted(given) == sorted(whole)
    assert [ids_of(loader) for loader in ranks(*stages[-1][:2], state)] == [ids_of(batches) for batches in rest]
    following = [name for loader in last for name in ids_of(loader)]  # the next epoch is one as any other
    expected = dataset.loader(8, seed=2, **options)
    expected.epoch = 1
    assert set(following) == set(ids_of(expected))


def test_ranks_that_end_an_epoch_of_others_fetch_only_what_is_left(server: RangeServer) -> None:
    dataset = streamed(server.url, "fast", columns=["id"])
    list(dataset.loader(8))  # ends of files are read now
    first = [dataset.loader(4, shuffle=True, rank=rank, world_size=2) for rank in range(2)]
    given, state = taken_together(first, 3)
    server.forget()
    for rank in range(3):
        loader = dataset.loader(4, shuffle=True, rank=rank, world_size=3)
        loader.load_state_dict(state)
        given += ids_of(loader)
    assert len(set(given)) == len(given) == ROWS
    assert server.sent <= (ROWS - 24) * ROW_BYTES + 24 * row_ranges.GAP_BYTES


@pytest.mark.parametrize("world_size", [1, 3, 5, 7])
def test_padding_gives_every_rank_as_many_rows(repository: Path, world_size: int) -> None:
    dataset = streamed(repository, "fast", columns=["id"], filter="height > 3 and label != 'lake'")
    ranks = [dataset.loader(4, shuffle=True, rank=rank, world_size=world_size, pad=True) for rank in range(world_size)]
    announced = [len(loader) for loader in ranks]
    found = [list(loader) for loader in ranks]
    assert [len(batches) for batches in found] == announced
    assert len(set(announced)) == 1
    names = [ids_of(batches) for batches in found]
    assert len({len(given) for given in names}) == 1
    assert len({name for given in names for name in given}) == len(dataset)
    for given in names:  # what is repeated are a rank's own first rows
        own = list(dict.fromkeys(given))
        assert given == (own * 2)[: len(given)]
        assert len(given) - len(own) <= BLOCK_ROWS


def test_a_padded_epoch_goes_on_at_its_next_row(repository: Path) -> None:
    dataset = streamed(repository, "fast", columns=["id"], filter="label != 'lake'")
    options: dict[str, Any] = {"shuffle": True, "rank": 4, "world_size": 5, "pad": True}
    whole = ids_of(dataset.loader(1, **options))
    assert len(set(whole)) < len(whole)
    for taken in range(len(whole)):
        loader = dataset.loader(1, **options)
        given, state = taken_together([loader], taken)
        again = dataset.loader(2, prefetch=0, **options)
        again.load_state_dict(state)
        assert given + ids_of(again) == whole


@KIND
def test_weights_draw_rows_in_proportion_and_fetch_no_other(server: RangeServer, kind: str) -> None:
    dataset = streamed(server.url, kind, columns=["id"])
    everything = ids_of(dataset.loader(8))
    weights = np.zeros(ROWS)
    weights[[3, 40]] = 1, 3
    server.forget()
    loader = dataset.loader(7, weights=weights, seed=1)
    found = [ids_of(loader) for _ in range(12)]
    assert len({one.path for one in server.asked}) == 2
    assert {len(epoch) for epoch in found} == {ROWS}
    assert {name for epoch in found for name in epoch} == {everything[3], everything[40]}
    assert 0.68 < sum(epoch.count(everything[40]) for epoch in found) / (12 * ROWS) < 0.82
    assert found[0] != found[1]
    assert ids_of(dataset.loader(5, weights=weights, seed=1, prefetch=0)) == found[0]
    ranks = [dataset.loader(7, weights=WEIGHTS, rank=rank, world_size=3) for rank in range(3)]
    shared = [name for rank in ranks for name in ids_of(rank)]
    assert sorted(shared) == sorted(ids_of(dataset.loader(7, weights=WEIGHTS)))


def test_balanced_classes_are_drawn_as_often_as_each_other(repository: Path) -> None:
    dataset = streamed(repository, "fast", filter=lambda c: [row > 2 or row == 0 for row in range(len(c["id"]))])
    loader = dataset.loader(8, weights="balanced")
    drawn = np.bincount([label for _ in range(60) for batch in loader for label in batch["label"].tolist()])
    assert drawn.min() / drawn.max() > 0.75
    with pytest.raises(RequestError, match="Expected one weight for each of the 46 rows"):
        dataset.loader(8, weights=[1.0])
    with pytest.raises(RequestError, match="made with other weights"):
        dataset.loader(8, shuffle=True).load_state_dict(loader.state_dict())


@pytest.mark.parametrize("prefetch", [0, 2])
def test_no_more_is_fetched_ahead_than_was_asked_for(server: RangeServer, prefetch: int) -> None:
    dataset = streamed(server.url, "fast")
    list(dataset.loader(8))
    server.forget()
    batches = iter(dataset.loader(4, prefetch=prefetch))
    next(batches)
    time.sleep(0.3)
    assert server.sent <= (1 + prefetch) * BLOCK
    batches.close()  # type: ignore[attr-defined]


def test_memory_holds_a_few_blocks_and_not_the_dataset(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentstore.stream_order.POOL_BLOCKS", 1)
    dataset = streamed(repository, "fast")
    loader = dataset.loader(2, shuffle=True, prefetch=1)
    next(iter(loader))
    tracemalloc.start()
    try:
        for batch in loader:
            del batch
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (1 + 1 + 3) * BLOCK + 8 * 2 * ROW_BYTES < ROWS * ROW_BYTES


def test_what_fails_in_passing_does_not_stop_an_epoch(server: RangeServer, repository: Path) -> None:
    expected = load_latents(repository, "compact").batch(range(ROWS))["latent"]
    faults = [Fault(status=503), Fault(cut_after=5000), None, Fault(lost=True), Fault(status=429), None]
    server.faults = lambda _, number: faults[number % len(faults)]
    found = torch.cat([batch["latent"] for batch in streamed(server.url, "compact").loader(8, prefetch=0)])
    assert torch.equal(found, expected)


@KIND
def test_a_bit_that_flips_on_the_way_is_noticed_and_read_again(
    server: RangeServer, repository: Path, kind: str
) -> None:
    # The second and third request for a shard, after its size and its end, are for latents or a short page header.
    server.faults = lambda path, number: Fault(flip=TAIL + 500) if "train-" in path and number in (2, 3) else None
    found = torch.cat([batch["latent"] for batch in streamed(server.url, kind).loader(8, prefetch=0)])
    assert server.flipped >= 6
    assert torch.equal(found, load_latents(repository, kind).batch(range(ROWS))["latent"])


@KIND
def test_a_row_that_was_changed_is_never_given(server: RangeServer, kind: str) -> None:
    server.faults = lambda path, _: Fault(flip=TAIL + 500) if "train-00000" in path else None
    with pytest.raises(DamagedShardError, match=rf"^Shard {server.url}/{kind}/train-00000"):
        list(streamed(server.url, kind).loader(8))
    if kind == "fast":
        with pytest.raises(DamagedShardError, match="row 0: its latent is not the one that was written.* 2 times"):
            list(streamed(server.url, kind).loader(8, prefetch=0))


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """A config that a test may damage."""
    return Path(shutil.copytree(repository / "fast", tmp_path / "fast"))


def test_shards_that_are_missing_cut_or_in_each_others_place_are_refused(copy: Path) -> None:
    first, second = (copy / f"train-0000{number}-of-00006.parquet" for number in range(2))
    contents = [path.read_bytes() for path in (first, second)]
    with serving(copy.parent) as server:

        def sentence() -> str:
            with pytest.raises(DamagedShardError) as caught:
                list(streamed(server.url, "fast").loader(8))
            return str(caught.value)

        first.unlink()
        assert "is missing; the manifest lists it with 8 rows" in sentence()
        first.write_bytes(contents[0][:-100])
        assert f"has {len(contents[0]) - 100} bytes, the manifest says {len(contents[0])}" in sentence()
        first.write_bytes(contents[1])
        second.write_bytes(contents[0])
        edit_manifest(copy, "splits.train.shards.0.bytes", len(contents[1]))
        edit_manifest(copy, "splits.train.shards.1.bytes", len(contents[0]))
        assert "row 0: its latent is not the one that was written" in sentence()
        first.write_bytes(bytes(len(contents[1])))
        assert "cannot be read as Parquet" in sentence()


def test_an_index_or_manifest_that_was_changed_is_refused(copy: Path) -> None:
    index = copy / "index.parquet"
    content = bytearray(index.read_bytes())
    content[100] ^= 1
    with serving(copy.parent) as server:
        index.write_bytes(content)
        with pytest.raises(DamagedShardError, match=r"Index http.*index.parquet is not the one that the manifest desc"):
            streamed(server.url, "fast")
        index.write_bytes(bytes(content) + b"more")
        with pytest.raises(DamagedShardError, match="is not the one that the manifest describes"):
            streamed(server.url, "fast")
        index.unlink()
        with pytest.raises(DamagedShardError, match=r"Index http.*index.parquet is missing"):
            streamed(server.url, "fast")
        (copy / "manifest.json").write_bytes(b"\xff{}")
        with pytest.raises(ManifestError, match="cannot be read"):
            streamed(server.url, "fast")
        (copy / "manifest.json").write_text("{}")
        with pytest.raises(ManifestError):
            streamed(server.url, "fast")


def test_the_config_is_named_or_the_only_one_or_the_folder_itself(server: RangeServer, copy: Path) -> None:
    with pytest.raises(
        RequestError, match=f"{server.url} holds several configs, name one of them: compact, fast, int8"
    ):
        streamed(server.url)
    with pytest.raises(UnknownNameError, match="no config named 'fats'. Did you mean 'fast'"):
        streamed(server.url, "fats")
    assert streamed(f"{server.url}/fast").manifest.config == "fast"
    assert streamed(f"{server.url}/fast", "fast").manifest.config == "fast"
    with pytest.raises(UnknownNameError, match="no config named 'tar'.* Known: fast"):
        streamed(f"{server.url}/fast", "tar")
    with pytest.raises(RequestError, match="A config's name has letters"):
        streamed(server.url, "../fast")
    assert streamed(copy.parent).manifest.config == "fast"
    with serving(copy.parent) as bare:
        with pytest.raises(NotSealedError, match=r"There is no http.*/manifest.json and nothing that names a config"):
            streamed(bare.url)
        with pytest.raises(NotSealedError, match=r"There is no http.*/slow/manifest.json: the config is not there, or"):
            streamed(bare.url, "slow")
    (copy / "manifest.json").unlink()
    with pytest.raises(NotSealedError, match=r"There is no file://.*/manifest.json and nothing that names a config"):
        streamed(copy.parent)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"shuffle": "full"}, "shuffled in blocks, not row by row: write shuffle=True"),
        ({"shuffle": "blok"}, "no shuffle named 'blok'. Did you mean 'block'"),
        ({"batch_size": 0}, "batch_size of 1 or more, found 0"),
        ({"rank": 2, "world_size": 2}, "Expected a rank from 0 to world_size - 1 = 1, found 2"),
        (
            {"world_size": 13},
            "13 ranks cannot share 12 blocks of 4 rows, which are fetched as a whole: use fewer ranks",
        ),
        ({"prefetch": -1}, "Expected 0 or more batches to prefetch, found -1"),
    ],
)
def test_a_loader_that_cannot_be_is_refused(repository: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        streamed(repository, "fast").loader(**options)


def test_single_rows_are_refused_and_said_where_they_are_to_be_had(repository: Path) -> None:
    rows: Any = streamed(repository, "fast")
    sentence = r"A streamed dataset gives its rows through loader\(\) only"
    for part in (0, slice(3)):
        with pytest.raises(RequestError, match=sentence):
            rows[part]
    with pytest.raises(RequestError, match=sentence):
        list(DataLoader(rows, batch_size=4))


def test_a_dataset_survives_pickling(server: RangeServer) -> None:
    dataset = streamed(server.url, "compact", columns=["id"])
    found = ids_of(dataset.loader())
    copied: StreamedLatents = pickle.loads(pickle.dumps(dataset))  # noqa: S301 (our own bytes)
    assert ids_of(copied.loader()) == found


COMMIT = "1" * 40


def entry_of(file: Path, root: Path) -> dict[str, Any]:
    """A file of a repository in the words of the Hub's listing."""
    path = file.relative_to(root).as_posix()
    return {"type": "file", "oid": "0" * 40, "size": file.stat().st_size, "path": path}


def hub_answers(hub: RangeServer, storage: RangeServer) -> type[Answers]:
    class HubAnswers(Answers):  # type: ignore[misc] # mypy finds it under another name
        """A Hub with one dataset repository, whose larger files lie on another origin."""

        server_of = hub

        def answer(self, path: str, fault: Fault) -> None:
            api = "/api/datasets/someone/latents"
            if path in (api, f"{api}/revision/v1"):
                self._json({"id": "someone/latents", "sha": COMMIT, "siblings": []})
            elif path == f"{api}/tree/{COMMIT}":
                self._json([entry_of(file, hub.root) for file in hub.root.rglob("*") if file.is_file()])
            elif path.startswith(f"{api}/revision/"):
                self._refuse(path, 404, {"X-Error-Code": "RevisionNotFound"})
            elif path.startswith("/api/"):
                self._refuse(path, 404, {"X-Error-Code": "RepoNotFound"})
            elif path.endswith(".parquet"):
                name = path.removeprefix(f"/datasets/someone/latents/resolve/{COMMIT}")
                self._refuse(path, 302, {"Location": f"{storage.url}{name}?signature=x"})
            else:
                super().answer(path.removeprefix(f"/datasets/someone/latents/resolve/{COMMIT}"), fault)

        def _json(self, data: Any) -> None:
            text = json.dumps(data).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self._send(self.path, 0, len(text), text, Fault())

    return HubAnswers


def test_a_hub_repository_is_streamed_from_one_commit_and_its_token_stays_there(
    server: RangeServer, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    with serving(repository, lambda front: hub_answers(front, server)) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        expected = load_latents(repository, "compact").batch(range(ROWS))["latent"]
        for location in ("someone/latents", "someone/latents@v1", "hf://datasets/someone/latents@v1/compact"):
            dataset = load_latents(location, "compact", streaming=True)
            assert torch.equal(torch.cat([batch["latent"] for batch in dataset.loader()]), expected)
        files = [one for one in hub.asked if "/resolve/" in one.path]
        assert files
        assert {one.headers.get("authorization") for one in files} == {"Bearer hf_secret"}
        assert all(COMMIT in one.path for one in files)
        assert {one.headers.get("authorization") for one in server.asked} == {None}
        with pytest.raises(UnknownNameError, match="no config named 'compcat'. Did you mean 'compact'"):
            load_latents("someone/latents", "compcat", streaming=True)
        with pytest.raises(
            FetchError, match="someone/latents has no revision 'v2': choose one of its branches and tags"
        ):
            load_latents("someone/latents@v2", streaming=True)
        with pytest.raises(FetchError, match="The Hub has no dataset repository someone/other that you may read"):
            load_latents("someone/other", streaming=True)


def test_where_the_hub_may_not_be_asked_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match="someone/latents cannot be read: the client was told to stay offline"):
        load_latents("someone/latents", streaming=True)
