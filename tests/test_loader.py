"""LatentLoader: orders, ranks, resuming, memory that is used again, and weights."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import build_scenes, scenes

from latentstore import STORAGES, VAES, LatentDataset, load_latents, open_store
from latentstore.epochs import POOL_BLOCKS, SHUFFLES, balanced_weights, weighted
from latentstore.errors import RequestError, UnknownNameError
from latentstore.row_memory import KEPT, Recycled


def ids_of(loader: Any) -> list[list[str]]:
    """The ids of each batch of one epoch."""
    return [batch["id"] for batch in loader]


def flat(batches: list[list[str]]) -> list[str]:
    return [name for batch in batches for name in batch]


@pytest.fixture(scope="module")
def named(drawn_fast: Path) -> LatentDataset:
    """30 rows in 3 shards, with their ids."""
    return load_latents(drawn_fast, columns=["id", "label", "psnr"])


# Orders ---------------------------------------------------------------------------------------------------------------


@given(name=st.sampled_from(list(SHUFFLES)), total=st.integers(0, 300), size=st.integers(1, 40), seed=st.integers(0, 9))
def test_every_order_holds_every_row_once(name: str, total: int, size: int, seed: int) -> None:
    order = SHUFFLES[name].order(np.random.default_rng(seed), total, size)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(total))


def test_a_block_shuffle_reads_a_few_blocks_at_a_time_and_mixes_them() -> None:
    order = SHUFFLES["block"].order(np.random.default_rng(0), 4000, 100)
    pool = 100 * POOL_BLOCKS
    for start in range(0, 4000, pool):
        blocks = set((order[start : start + pool] // 100).tolist())
        assert len(blocks) == POOL_BLOCKS
    assert len(set((order[:pool] // 100).tolist())) == POOL_BLOCKS
    assert np.abs(np.diff(order[:pool])).mean() > 50  # no runs
    first = [frozenset((order[start : start + pool] // 100).tolist()) for start in range(0, 4000, pool)]
    assert first != [frozenset(range(start, start + POOL_BLOCKS)) for start in range(0, 40, POOL_BLOCKS)]


def test_the_shuffle_is_chosen_by_size_and_can_be_chosen(named: LatentDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named.loader(shuffle=True).shuffle == "full"
    assert named.loader(shuffle=False).shuffle == "none"
    assert named.loader(shuffle="block").shuffle == "block"
    monkeypatch.setattr("latentstore.loader.available_memory", lambda: named.bytes_mapped - 1)
    assert named.loader(shuffle=True).shuffle == "block"
    with pytest.raises(UnknownNameError, match="'fulll'.*'full'"):
        named.loader(shuffle="fulll")


@pytest.mark.parametrize("shuffle", ["none", "full", "block"])
@pytest.mark.parametrize("world_size", [1, 2, 4, 7])
def test_ranks_share_each_epoch_row_by_row(named: LatentDataset, shuffle: str, world_size: int) -> None:
    for epoch in range(2):
        found: list[str] = []
        for rank in range(world_size):
            loader = named.loader(4, shuffle=shuffle, seed=3, rank=rank, world_size=world_size)
            loader.epoch = epoch
            found += flat(ids_of(loader))
        assert len(found) == 30
        assert len(set(found)) == 30


def test_padding_gives_every_rank_as_many_rows(named: LatentDataset) -> None:
    batches = [ids_of(named.loader(4, shuffle=True, rank=rank, world_size=4, pad=True)) for rank in range(4)]
    assert {len(flat(found)) for found in batches} == {8}
    assert len(set(flat([name for found in batches for name in found]))) == 30


def test_dropping_the_last_gives_every_rank_as_many_whole_batches(named: LatentDataset) -> None:
    loaders = [named.loader(4, shuffle=True, rank=rank, world_size=4, drop_last=True) for rank in range(4)]
    assert [len(loader) for loader in loaders] == [1, 1, 1, 1]
    assert [[len(batch) for batch in ids_of(loader)] for loader in loaders] == [[4]] * 4


# Resuming -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("shuffle", ["none", "full", "block"])
def test_an_epoch_continues_with_the_next_row(named: LatentDataset, shuffle: str, prefetch: int) -> None:
    def new() -> Any:
        return named.loader(4, shuffle=shuffle, seed=5, prefetch=prefetch)

    loader = new()
    whole = [ids_of(loader) for _ in range(3)]
    for taken in range(9):
        loader = new()
        ids_of(loader)
        again = iter(loader)
        before = [next(again)["id"] for _ in range(taken)]
        state = json.loads(json.dumps(loader.state_dict()))
        resumed = new()
        resumed.load_state_dict(state)
        assert len(resumed) == 8
        rest = ids_of(resumed)
        assert len(rest) == 8 - taken
        assert before + rest == whole[1]
        assert ids_of(resumed) == whole[2]


def test_a_state_after_the_last_batch_begins_the_next_epoch(named: LatentDataset) -> None:
    loader = named.loader(7, shuffle=True)
    first = ids_of(loader)
    state = loader.state_dict()
    assert (state["epoch"], state["done"]) == (1, 0)
    resumed = named.loader(7, shuffle=True)
    resumed.load_state_dict(state)
    second = ids_of(resumed)
    assert second == ids_of(loader)
    assert second != first


@pytest.mark.parametrize(("before", "after"), [((2, 3), (4, 2)), ((1, 5), (3, 1)), ((3, 2), (1, 7)), ((4, 2), (4, 3))])
def test_another_number_of_ranks_or_another_batch_size_takes_up_every_row_that_is_left(
    named: LatentDataset, before: tuple[int, int], after: tuple[int, int]
) -> None:
    done: list[str] = []
    for rank in range(before[0]):
        loader = named.loader(before[1], shuffle=True, seed=1, rank=rank, world_size=before[0])
        batches = iter(loader)
        done += [name for _ in range(2) for name in next(batches)["id"]]
        state = loader.state_dict()
    left: list[str] = []
    for rank in range(after[0]):
        loader = named.loader(after[1], shuffle=True, seed=1, rank=rank, world_size=after[0])
        loader.load_state_dict(state)
        left += flat(ids_of(loader))
    assert len(done) == 2 * before[0] * before[1]
    assert sorted(done + left) == sorted(flat(ids_of(named.loader(30))))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": 2}, "This state was made with another seed (seed 1, here 2)"),
        ({"shuffle": "block"}, "This state was made with another way to shuffle (shuffle 'full', here 'block')"),
    ],
)
def test_a_state_of_another_order_is_refused(named: LatentDataset, changes: dict[str, Any], sentence: str) -> None:
    state = named.loader(4, shuffle="full", seed=1).state_dict()
    with pytest.raises(RequestError) as caught:
        named.loader(4, **{"shuffle": "full", "seed": 1, **changes}).load_state_dict(state)
    assert str(caught.value).startswith(sentence)


def test_a_state_of_other_data_is_refused(named: LatentDataset, drawn_fast: Path) -> None:
    state = named.loader(4).state_dict()
    other = load_latents(drawn_fast, filter="label != 'forest'")
    with pytest.raises(RequestError, match="made with other data, another split or another filter"):
        other.loader(4).load_state_dict(state)
    with pytest.raises(RequestError, match="made with other weights"):
        named.loader(4, weights="balanced").load_state_dict(state)
    with pytest.raises(RequestError, match="This is no state of such a loader: it lacks data, done"):
        named.loader(4).load_state_dict({"epoch": 1, "rows": 3, "seed": 0, "shuffle": "none"})


# Memory ---------------------------------------------------------------------------------------------------------------


def test_a_batch_that_is_kept_stays_as_it_was(named: LatentDataset) -> None:
    loader = named.loader(2, shuffle=True)
    kept = list(loader)
    reference = [named.batch(loader.order(0)[start : start + 2])["latent"] for start in range(0, 30, 2)]
    assert len(kept) > KEPT
    for batch, expected in zip(kept, reference, strict=True):
        assert torch.equal(batch["latent"], expected)


def test_a_view_of_a_batch_keeps_it_too(named: LatentDataset) -> None:
    loader = named.loader(2, shuffle=True)
    views = [(batch["latent"][1, 0].numpy(), batch["id"][1]) for batch in loader]
    by_id = dict(zip(named.batch(range(30))["id"], named.batch(range(30))["latent"], strict=True))
    for view, name in views:
        np.testing.assert_array_equal(view, by_id[name][0].numpy())


def test_memory_is_used_again_when_nothing_refers_to_it(named: LatentDataset) -> None:
    places = set()
    loader = named.loader(2)
    for batch in loader:
        places.add(batch["latent"].data_ptr())
        del batch
    assert len(places) <= 2


def test_recycled_tensors_are_never_two_peoples() -> None:
    pool = Recycled((3, 2), torch.float32)
    held = [pool.take() for _ in range(3 * KEPT)]
    assert len({tensor.data_ptr() for tensor in held}) == 3 * KEPT
    for number, tensor in enumerate(held):
        tensor.fill_(number)
    assert [int(tensor[0, 0]) for tensor in held] == list(range(3 * KEPT))
    last = held[-1].data_ptr()
    view = held[-1][1:]
    del held, tensor  # but for the view, nobody has any of them now
    others = [pool.take() for _ in range(KEPT - 1)]
    assert last not in {tensor.data_ptr() for tensor in others}
    del view
    assert pool.take().data_ptr() == last


@pytest.mark.parametrize("prefetch", [1, 4])
def test_prefetching_changes_nothing_but_when_things_are_read(named: LatentDataset, prefetch: int) -> None:
    plain, ahead = (named.loader(4, shuffle=True, seed=2, prefetch=number) for number in (0, prefetch))
    for one, other in zip(plain, ahead, strict=True):
        assert one["id"] == other["id"]
        assert torch.equal(one["latent"], other["latent"])
        assert torch.equal(one["label"], other["label"])


# Numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["raw", "model"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("storage", list(STORAGES))
def test_the_conversion_is_that_of_storage_and_normalisation(
    tmp_path: Path, space: str, dtype: str, storage: str
) -> None:
    build_scenes(tmp_path, source=scenes(6, 32), vae=VAES["demo"], storage=STORAGES[storage], calibration=2)
    store = open_store(tmp_path)
    (info,) = store.manifest.splits["train"].shards
    raw = torch.from_numpy(store.storage().decode(store.shard(info).latents(np.arange(6))))
    expected = (store.manifest.normalisation.to_model(raw) if space == "model" else raw).to(getattr(torch, dtype))
    dataset = load_latents(tmp_path, space=space, dtype=dtype)
    assert torch.equal(dataset.batch(range(6))["latent"], expected)
    (batch,) = dataset.loader(6)
    assert torch.equal(batch["latent"], expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("piece", [1, 5 * 150, 1 << 20])
def test_a_batch_that_is_read_in_pieces_is_the_same_to_the_bit(
    named: LatentDataset, monkeypatch: pytest.MonkeyPatch, piece: int, dtype: str
) -> None:
    dataset = load_latents(named._store.folder, dtype=dtype, columns=["id"])
    assert dataset.row_bytes == 150
    rows = np.random.default_rng(0).permutation(30)
    expected = [dataset[row] for row in rows]
    monkeypatch.setattr("latentstore.load.PIECE_BYTES", piece)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    batch = dataset.batch(rows)
    assert batch["id"] == [sample["id"] for sample in expected]
    assert torch.equal(batch["latent"], torch.stack([sample["latent"] for sample in expected]))


# Weights --------------------------------------------------------------------------------------------------------------


def test_balanced_classes_are_drawn_as_often_as_each_other() -> None:
    labels = np.array([0] * 90 + [1] * 9 + [2] * 1 + [-1] * 50)
    weights = balanced_weights(labels)
    assert (weights[-50:] == 0).all()
    drawn = labels[weighted(np.random.default_rng(0), np.tile(weights, 1))]
    counts = np.bincount(
        labels[[row for epoch in range(300) for row in weighted(np.random.default_rng(epoch), weights)]]
    )
    assert len(drawn) == 150
    assert counts.min() / counts.max() > 0.95


def test_weights_draw_rows_in_proportion_and_the_same_for_a_seed(named: LatentDataset) -> None:
    weights = np.zeros(30)
    weights[[3, 8]] = 1, 3
    loader = named.loader(30, weights=weights, seed=4)
    names = named.batch([3, 8])["id"]
    found = [flat(ids_of(loader)) for _ in range(40)]
    assert {name for epoch in found for name in epoch} == set(names)
    assert 0.7 < sum(epoch.count(names[1]) for epoch in found) / 1200 < 0.8
    assert flat(ids_of(named.loader(30, weights=weights, seed=4))) == found[0]
    assert len(flat(ids_of(named.loader(4, weights="balanced")))) == 30


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weights": "even"}, "Expected weights to be one number a row, or 'balanced', found 'even'."),
        ({"weights": [1.0]}, "Expected one weight for each of the 30 rows, found shape (1,)."),
        ({"weights": [0.0] * 30}, "Expected weights that are finite, not below zero and not all zero."),
        ({"weights": [float("nan")] * 30}, "Expected weights that are finite, not below zero and not all zero."),
        ({"prefetch": -1}, "Expected 0 or more batches to prefetch, found -1."),
        ({"batch_size": 0}, "Expected a batch_size of 1 or more, found 0."),
        ({"rank": 2, "world_size": 2}, "Expected a rank from 0 to world_size - 1 = 1, found 2."),
        (
            {"world_size": 31},
            "31 ranks cannot share 30 rows, at least one row a rank is needed: use 30 ranks or fewer.",
        ),
        ({"world_size": 0}, "Expected a world_size of 1 or more, found 0."),
        ({"batch_size": "64"}, "Expected a whole number as batch_size, found '64'."),
        ({"batch_size": 2.5}, "Expected a whole number as batch_size, found 2.5."),
        (
            {"batch_size": 8, "world_size": 4, "drop_last": True},
            "drop_last leaves no batch of 8, a rank has 7 rows: use a smaller batch_size, or leave out drop_last.",
        ),
    ],
)
def test_what_cannot_be_is_refused(named: LatentDataset, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError) as caught:
        named.loader(**options)
    assert str(caught.value) == sentence


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_pinned_memory_without_a_device_is_refused(named: LatentDataset) -> None:
    with pytest.raises(RequestError, match="no CUDA device here"):
        named.loader(pin_memory=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_prefetched_batches_are_pinned(named: LatentDataset) -> None:
    for batch in named.loader(4, prefetch=2):
        assert batch["latent"].is_pinned()


def test_a_dataset_that_was_pickled_reads_the_same(named: LatentDataset) -> None:
    again = pickle.loads(pickle.dumps(named))  # noqa: S301 (our own)
    assert torch.equal(again.batch(range(30))["latent"], named.batch(range(30))["latent"])
    assert again.fingerprint == named.fingerprint
