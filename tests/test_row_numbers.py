"""Every way to name rows gives exactly those rows, or is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, SequentialSampler, Subset

from latentstore import load_latents
from latentstore.errors import RequestError
from latentstore.load import LatentDataset
from latentstore.row_numbers import one_a_row, row_number, row_numbers

ROWS = 30
INTEGERS: list[Any] = [
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.intp,
    ">i4",
    ">u8",
]
TENSORS = [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64]
WAYS: dict[str, Any] = {
    "list": [5, 7],
    "tuple": (5, 7),
    "range": range(5, 9, 2),
    "slice": slice(5, 8, 2),
    "from the end": [-25, -23],
    "mixed signs": [5, -23],
    "array from the end": np.array([-25, -23], np.int8),
    "numbers of numpy": [np.int64(5), np.uint8(7)],
    "tensors": [torch.tensor(5), torch.tensor(7)],
    "mask": np.isin(np.arange(ROWS), [5, 7]),
    "mask in a list": [row in (5, 7) for row in range(ROWS)],
    "mask in a tensor": torch.isin(torch.arange(ROWS), torch.tensor([5, 7])),
    "not contiguous": np.array([5, 0, 7, 0])[::2],
    **{f"array of {np.dtype(dtype)}": np.array([5, 7], dtype) for dtype in INTEGERS},
    **{f"tensor of {dtype}": torch.tensor([5, 7]).to(dtype) for dtype in TENSORS},
}
REFUSED: dict[str, tuple[Any, str]] = {
    "fractions": ([1.7, 2.2], "found float64"),
    "whole numbers in floats": (np.array([1.0, 2.0]), "found float64"),
    "one fraction": ([1, 2.5], "found float64"),
    "half floats": (torch.tensor([1.0], dtype=torch.bfloat16), "found Tensor"),
    "texts": (["1", "2"], "found texts"),
    "text": ("12", "found str"),
    "nothing": (None, "found NoneType"),
    "several lengths": ([[1], [2, 3]], "found list"),
    "two dimensions": ([[0, 1], [2, 3]], "found 2 dimensions"),
    "a mask in two dimensions": (np.ones((ROWS, 1), bool), "found 2 dimensions"),
    "a short mask": (np.ones(3, bool), "found 3 booleans for 30 rows"),
    "a list of booleans": ([True, False, True], "found 3 booleans for 30 rows"),
    "booleans and numbers": ([True, 2], "found booleans and numbers in one list"),
    "complex": (np.array([1j]), "found complex128"),
    "times": (np.array(["2020-01-01"], "M8[D]"), r"found datetime64\[D\]"),
    "objects": ([object()], "found texts"),
    "a set": ({1, 2}, "found set"),
    "a dict": ({1: 2}, "found dict"),
    "a generator": ((row for row in (1, 2)), "found generator"),
}


@pytest.fixture(scope="module")
def dataset(drawn: Path) -> LatentDataset:
    return load_latents(drawn, columns=["id"])


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_name_rows_gives_exactly_those(dataset: LatentDataset, way: str) -> None:
    asked = WAYS[way]
    wanted = [dataset[5]["id"], dataset[7]["id"]]
    assert dataset.batch(asked)["id"] == wanted
    assert dataset[asked]["id"] == wanted
    assert [sample["id"] for sample in dataset.__getitems__(asked)] == wanted
    assert torch.equal(dataset.batch(asked)["latent"][1], dataset[7]["latent"])


@pytest.mark.parametrize("way", REFUSED)
def test_what_would_have_to_be_guessed_at_is_refused(dataset: LatentDataset, way: str) -> None:
    asked, found = REFUSED[way]
    said = rf"^Expected row numbers: whole numbers in one dimension, a slice, or a boolean for each row, {found}"
    for act in (dataset.batch, dataset.__getitems__, dataset.__getitem__):
        with pytest.raises(RequestError, match=said):
            act(asked)


@pytest.mark.parametrize("asked", [3, np.int64(3), torch.tensor(3), np.array(3)])
def test_one_number_is_a_row_and_no_batch(dataset: LatentDataset, asked: Any) -> None:
    assert dataset[asked]["id"] == dataset[3]["id"]
    with pytest.raises(RequestError, match=r"ds\[3\] is one row, ds\.batch\(\[3\]\) a batch of one\.$"):
        dataset.batch(asked)


@pytest.mark.parametrize("asked", [True, np.array([True])[0], torch.tensor([True])[0], np.array([True]).reshape(())])
def test_a_boolean_is_no_row_number(dataset: LatentDataset, asked: Any) -> None:
    with pytest.raises(RequestError, match="Expected row numbers"):
        dataset[asked]


@pytest.mark.parametrize("asked", [[ROWS], [-ROWS - 1], [2**63], np.array([2**64 - 1], np.uint64), [0, 99]])
def test_rows_beyond_the_dataset_are_named(dataset: LatentDataset, asked: Any) -> None:
    for act in (dataset.batch, dataset.__getitems__):
        with pytest.raises(IndexError, match=r"row -?\d+ of a dataset of 30 rows"):
            act(asked)


@pytest.mark.parametrize("asked", [[], (), range(0), slice(3, 3), np.array([], int), np.zeros(ROWS, bool)])
def test_no_rows_are_a_batch_of_none(dataset: LatentDataset, asked: Any) -> None:
    assert dataset.batch(asked)["latent"].shape == (0, *dataset.latent_shape)
    assert dataset.__getitems__(asked) == []


def test_filters_that_are_functions_give_booleans_and_nothing_else(drawn: Path) -> None:
    for found in ([5, 7], np.arange(ROWS), ["True"] * ROWS, [1.0] * ROWS, None):
        with pytest.raises(RequestError, match="Expected the filter to give a boolean for each of the 30 rows, found"):
            load_latents(drawn, filter=lambda _, found=found: found)
    mask: Any = torch.arange(ROWS) % 10 == 0
    assert len(load_latents(drawn, filter=lambda _: mask)) == 3


@pytest.mark.parametrize("wrong", [["1"] * ROWS, [1j] * ROWS, [None] * ROWS, np.ones((ROWS, 1)), [1.0], {1: 2}])
def test_weights_are_one_number_a_row(dataset: LatentDataset, wrong: Any) -> None:
    with pytest.raises(RequestError, match="Expected one weight for each of the 30 rows, found"):
        dataset.loader(weights=wrong)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda found: np.array(found, np.float16)])
def test_weights_may_lie_anywhere(dataset: LatentDataset, kind: Any) -> None:
    loader = dataset.loader(weights=kind([float(row in (5, 7)) for row in range(ROWS)]), batch_size=ROWS)
    assert set(next(iter(loader))["id"]) == {dataset[5]["id"], dataset[7]["id"]}
    mask = dataset.loader(weights=kind([row in (5, 7) for row in range(ROWS)]), batch_size=ROWS)
    assert set(next(iter(mask))["id"]) == {dataset[5]["id"], dataset[7]["id"]}


def test_a_batch_sampler_may_be_the_sampler(dataset: LatentDataset) -> None:
    sampler = BatchSampler(SequentialSampler(range(ROWS)), 4, drop_last=False)
    batches = list(DataLoader(dataset, sampler=sampler, batch_size=None))  # type: ignore[arg-type]
    assert [name for batch in batches for name in batch["id"]] == dataset.batch(range(ROWS))["id"]
    assert [len(batch["latent"]) for batch in batches] == [4] * 7 + [2]


def test_datasets_are_added_and_cut_as_those_of_torch(dataset: LatentDataset) -> None:
    both = dataset + dataset
    assert isinstance(both, ConcatDataset)
    assert (len(both), both[ROWS + 5]["id"]) == (2 * ROWS, dataset[5]["id"])
    part: Subset[Any] = Subset(dataset, [5, 7])  # type: ignore[arg-type]
    assert [sample["id"] for sample in part.__getitems__([0, 1])] == dataset.batch([5, 7])["id"]


def test_the_functions_by_themselves() -> None:
    assert row_number(-1, 3) == 2
    assert row_numbers(np.array([2, 0], np.uint64), 3).dtype == np.int64
    assert one_a_row([1, 2, 3], 3, "weight").tolist() == [1.0, 2.0, 3.0]
