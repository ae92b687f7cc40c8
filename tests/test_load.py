"""What a trainer gets: right numbers, in the right space, in a stated order, or a clear refusal."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from forged import edit_manifest
from scenes import build_scenes, scenes, write_pictures
from torch.utils.data import DataLoader

from latentstore import VAES, LatentDataset, hub_source, load_latents, open_store
from latentstore.errors import (
    DamagedShardError,
    NotSealedError,
    RequestError,
    StoreError,
    UnknownNameError,
    UnsupportedVersionError,
    WrongVaeError,
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one config of the embedded VAE, whose normalisation is not the identity."""
    out = tmp_path_factory.mktemp("demo")
    build_scenes(out, source=scenes(8, 32), vae=VAES["demo"])
    return out


def test_three_lines_give_a_batch_in_model_space(demo: Path) -> None:
    ds = load_latents(demo, "synthetic-demo", split="train")
    batch = next(iter(ds.loader(batch_size=8, shuffle=True, seed=0)))
    assert batch["latent"].shape == (8, 16, 4, 4)
    assert batch["latent"].dtype == torch.float32
    assert batch["label"].dtype == torch.int64
    assert ds.decode(batch["latent"]).shape == (8, 3, 32, 32)


def test_model_space_is_the_manifests_normalisation_of_the_raw_latents(demo: Path) -> None:
    raw, model = load_latents(demo, space="raw"), load_latents(demo)
    a, b = raw.batch(range(8))["latent"], model.batch(range(8))["latent"]
    numbers = open_store(demo).manifest.normalisation
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (numbers.mean, numbers.std))
    assert not torch.equal(a, b)
    torch.testing.assert_close(b, (a - mean) * numbers.scale / std)


@pytest.mark.parametrize("space", ["raw", "model"])
def test_decoding_knows_its_space(demo: Path, space: str) -> None:
    dataset = load_latents(demo, space=space, columns=["id"])
    batch = dataset.batch(range(8))
    opened = {tile.id: tile for tile in scenes(8, 32).open().splits["train"].read(range(8))}
    truth = np.stack([opened[name].pixels for name in batch["id"]])
    seen = dataset.decode(batch["latent"]).permute(0, 2, 3, 1).numpy() * 255
    recorded = open_store(demo).index(["mae"])["mae"]
    np.testing.assert_allclose(np.abs(np.rint(seen) - truth).mean(axis=(1, 2, 3)) / 255, recorded, atol=2e-3)


def test_a_column_called_image_is_not_replaced_by_the_decoded_picture(tmp_path: Path) -> None:
    rows = [{"bytes": file.read_bytes(), "path": file.name} for file in pictures_in(tmp_path / "pictures")]
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.table({"photo": rows, "image": ["one", "two"]}), tmp_path / "rows" / "train.parquet")
    build_scenes(tmp_path / "out", source=hub_source(str(tmp_path / "rows")), vae=VAES["pool8"])
    assert sorted(load_latents(tmp_path / "out", columns=["image"]).batch([0, 1])["image"]) == ["one", "two"]
    assert load_latents(tmp_path / "out", decode=True).batch([0, 1])["image"].shape == (2, 3, 16, 16)
    with pytest.raises(RequestError, match=r"Column 'image' of the dataset has the name of decoded pictures: leave it"):
        load_latents(tmp_path / "out", columns=["image"], decode=True)


def pictures_in(folder: Path) -> list[Path]:
    write_pictures(folder, {"x.png": (16, 16), "y.png": (16, 16)})
    return sorted(folder.iterdir())


@contextmanager
def decoder_runs(dataset: LatentDataset) -> Iterator[list[int]]:
    """How many pictures the VAE's decoder makes at each of its runs; the VAE is loaded by a first picture."""
    dataset.decode(torch.zeros(1, *dataset.latent_shape))
    runs: list[int] = []
    decoder: Any = getattr(dataset._decoder.vae, "model").decoder  # noqa: B009 (of this VAE; the interface has none)
    hook = decoder.register_forward_hook(lambda _, __, made: runs.append(len(made)))
    try:
        yield runs
    finally:
        hook.remove()


def test_pictures_that_were_just_decoded_are_not_decoded_again(demo: Path) -> None:
    dataset = load_latents(demo, decode=True)
    with decoder_runs(dataset) as runs:
        first = dataset[3]["image"]
        assert torch.equal(dataset[3]["image"], first)
        assert torch.equal(dataset[-5]["image"], first)
        assert runs == [1]
        batch = dataset.batch([1, 3, 1, 2])  # row 3 is known, row 1 comes twice
        assert runs == [1, 2]
        assert torch.equal(batch["image"][1], first)
        assert torch.equal(batch["image"][0], batch["image"][2])
        (epoch,) = dataset.loader(4, shuffle=False, world_size=2, rank=1)  # rows 1, 3, 5 and 7
        assert runs == [1, 2, 2]
        assert torch.equal(epoch["image"][:2], batch["image"][:2])
    afresh = load_latents(demo, decode=True, picture_bytes=0).batch([1, 3, 1, 2])["image"]
    torch.testing.assert_close(batch["image"], afresh)  # to the last bit only in batches of one size


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_decoding_the_same_latents_again_looks_at_the_pictures_that_are_kept(demo: Path, dtype: str) -> None:
    dataset = load_latents(demo, dtype=dtype)
    latents = dataset.batch(range(4))["latent"]
    with decoder_runs(dataset) as runs:
        pictures = dataset.decode(latents)
        assert torch.equal(dataset.decode(latents[[2, 0]]), pictures[[2, 0]])
        assert runs == [4]
        latents[2, 0, 0, 0] += 1  # other numbers are another picture
        assert not torch.equal(dataset.decode(latents)[2], pictures[2])
        assert runs == [4, 1]
        assert dataset.decode(latents[:0]).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_latents_are_decoded_in_the_dtype_that_is_recorded(tmp_path: Path, dtype: str) -> None:
    build_scenes(tmp_path, source=scenes(2, 16), vae=VAES["demo"], dtype=dtype, metrics=())
    dataset = load_latents(tmp_path)
    images = dataset.decode(dataset.batch([0, 1])["latent"])
    assert images.dtype == torch.float32
    model: Any = getattr(dataset._decoder.vae, "model")  # noqa: B009 (of this VAE; the interface has none)
    assert model.dtype == getattr(torch, dtype)


def test_a_large_batch_is_decoded_a_few_pictures_at_a_time(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load_latents(demo, picture_bytes=0)
    latents = dataset.batch(range(8))["latent"]
    with decoder_runs(dataset) as runs:
        whole = dataset.decode(latents)
        monkeypatch.setattr("latentstore.latent_decoding.PIXELS_TOGETHER", 3 * 32 * 32 + 1)
        torch.testing.assert_close(dataset.decode(latents), whole, atol=1e-4, rtol=0)
        assert runs == [8, 3, 3, 2]
        monkeypatch.setattr("latentstore.latent_decoding.PIXELS_TOGETHER", 1)  # a picture is decoded whole
        torch.testing.assert_close(dataset.decode(latents[:2]), whole[:2], atol=1e-4, rtol=0)
        assert runs[4:] == [1, 1]


def test_what_is_written_to_a_picture_is_not_seen_by_the_next_who_looks(demo: Path) -> None:
    dataset = load_latents(demo, decode=True)
    for _ in range(2):
        image = dataset[0]["image"]
        assert image.max() > 0
        image.zero_()
    both = dataset.batch([0, 0])["image"]
    both[0].zero_()
    assert both[1].max() > 0


def test_pictures_are_kept_up_to_a_number_of_bytes_and_the_oldest_go_first(demo: Path) -> None:
    each = 3 * 32 * 32 * 4
    dataset = load_latents(demo, decode=True, picture_bytes=3 * each + 1)
    with decoder_runs(dataset) as runs:
        for row in (0, 1, 2, 0, 3, 0, 2, 1):
            dataset[row]
            assert dataset._decoder.kept.bytes <= 3 * each
        assert len(runs) == 5  # 0, 1, 2, then 3 in the place of 1, then 1 again
        dataset.batch(range(8))
        assert dataset._decoder.kept.bytes == 3 * each
        del runs[:]
        dataset.batch([5, 6, 7])
        assert runs == []
    for nothing in (0, each - 1):
        dataset = load_latents(demo, decode=True, picture_bytes=nothing)
        with decoder_runs(dataset) as runs:
            assert torch.equal(dataset[0]["image"], dataset[0]["image"])
            assert runs == [1, 1]
            assert dataset._decoder.kept.bytes == 0


def test_latents_that_a_gradient_is_to_reach_are_decoded_each_time(demo: Path) -> None:
    dataset = load_latents(demo)
    latents = dataset.batch([0, 1])["latent"]
    dataset.decode(latents)
    latents.requires_grad_()
    with decoder_runs(dataset) as runs:
        dataset.decode(latents)
        assert runs == [2]


def test_a_copy_of_a_dataset_keeps_pictures_of_its_own(demo: Path) -> None:
    dataset = load_latents(demo, decode=True)
    image = dataset[0]["image"]
    copy: LatentDataset = pickle.loads(pickle.dumps(dataset))  # noqa: S301 (our own bytes)
    assert copy._decoder.kept.bytes == 0
    assert torch.equal(copy[0]["image"], image)


def test_a_slice_is_a_batch(drawn: Path) -> None:
    dataset = load_latents(drawn, columns=["id", "label"])
    for part in (slice(0, 3), slice(None, None, 7), slice(-2, None), slice(5, 2), slice(20, 99)):
        rows = range(30)[part]
        batch = dataset[part]
        assert batch["latent"].shape == (len(rows), *dataset.latent_shape)
        assert batch["id"] == [dataset[row]["id"] for row in rows]
        assert batch["label"].tolist() == [int(dataset[row]["label"]) for row in rows]
    assert dataset[np.int64(3)]["id"] == dataset[torch.tensor(3)]["id"] == dataset[3]["id"]
    wrong: Any
    for wrong in (["1", "2"], "id", 1.0, None, {1, 2}, True):
        with pytest.raises(RequestError, match=r"Expected row numbers: .*, found \w+"):
            dataset[wrong]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_latents_come_in_the_dtype_asked_for(drawn: Path, dtype: str) -> None:
    assert load_latents(drawn, dtype=dtype)[0]["latent"].dtype == getattr(torch, dtype)


def test_both_layouts_and_every_way_of_reading_agree(drawn: Path, drawn_fast: Path) -> None:
    compact, fast = load_latents(drawn), load_latents(drawn_fast)
    order = [29, 0, 12, 11, 12, 5]
    expected = torch.stack([compact[row]["latent"] for row in order])
    for dataset in (compact, fast):
        assert torch.equal(dataset.batch(order)["latent"], expected)
        assert torch.equal(torch.stack([sample["latent"] for sample in dataset.__getitems__(order)]), expected)
    assert torch.equal(compact[-1]["latent"], compact[29]["latent"])
    with pytest.raises(IndexError):
        compact[30]


def test_a_sample_carries_the_columns_asked_for(drawn: Path) -> None:
    dataset = load_latents(drawn, columns=["label", "id", "psnr", "height"])
    index = open_store(drawn).index()
    for row, sample in enumerate(dataset):
        assert sample["id"] == index["id"][row]
        assert int(sample["label"]) == index["label"][row]
        assert float(sample["psnr"]) == pytest.approx(index["psnr"][row])
        assert int(sample["height"]) == 40


def test_text_filters_select_rows_by_their_scalar_columns(drawn: Path) -> None:
    index = open_store(drawn).index()
    dataset = load_latents(drawn, filter="psnr > 22 and label in ('forest', 'lake')", columns=["id", "psnr", "label"])
    names = open_store(drawn).manifest.source.classes or ()
    expected = [
        name
        for name, psnr, label in zip(index["id"], index["psnr"], index["label"], strict=True)
        if psnr > 22 and names[label] in ("forest", "lake")
    ]
    assert 0 < len(expected) < 30
    assert [sample["id"] for sample in dataset] == expected


def test_a_function_may_filter_too(drawn: Path) -> None:
    dataset = load_latents(drawn, filter=lambda columns: [row % 3 == 0 for row in range(len(columns["id"]))])
    assert len(dataset) == 10


def test_an_epoch_is_a_pure_function_of_seed_and_epoch_and_holds_every_row_once(drawn: Path) -> None:
    dataset = load_latents(drawn, columns=["id"])

    def epoch(**options: Any) -> list[str]:
        return [name for batch in dataset.loader(7, **options) for name in batch["id"]]

    everything = sorted(open_store(drawn).index(["id"])["id"])
    assert epoch() == open_store(drawn).index(["id"])["id"]
    shuffled = epoch(shuffle=True, seed=3)
    assert shuffled == epoch(shuffle=True, seed=3)
    assert shuffled != epoch(shuffle=True, seed=4)
    assert sorted(shuffled) == everything
    loader = dataset.loader(7, shuffle=True, seed=3)
    first, second = ([name for batch in loader for name in batch["id"]] for _ in range(2))
    assert first == shuffled
    assert second != first
    assert sorted(second) == everything


def test_ranks_share_an_epoch_without_repeating_or_losing_a_row(drawn: Path) -> None:
    dataset = load_latents(drawn, columns=["id"])
    loaders = [dataset.loader(4, shuffle=True, seed=1, rank=rank, world_size=4) for rank in range(4)]
    names = [name for loader in loaders for batch in loader for name in batch["id"]]
    assert sorted(names) == sorted(open_store(drawn).index(["id"])["id"])


def test_the_length_of_a_loader_is_its_number_of_batches(drawn: Path) -> None:
    dataset = load_latents(drawn)
    for options, batches in (({}, 5), ({"drop_last": True}, 4), ({"rank": 1, "world_size": 4}, 2)):
        loader = dataset.loader(7, **options)
        assert len(loader) == len(list(loader)) == batches


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_dataloader_takes_it_as_it_is(drawn: Path, workers: int) -> None:
    dataset = load_latents(drawn)
    context = "spawn" if workers else None
    rows: Any = dataset  # it has the methods of a map-style dataset; inheriting would import torch
    loader: DataLoader[Any] = DataLoader(rows, batch_size=8, num_workers=workers, multiprocessing_context=context)
    latents = torch.cat([batch["latent"] for batch in loader])
    assert torch.equal(latents, dataset.batch(range(30))["latent"])


MAPS = Path("/proc/self/maps")


class Mappings:
    """A map-style dataset whose samples say how often the process that read them has the dataset's shards mapped."""

    def __init__(self, dataset: LatentDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> int:
        self.dataset[row]
        folder = str(self.dataset._store.folder)
        return sum(folder in line and line.endswith(".parquet") for line in MAPS.read_text().splitlines())


@pytest.mark.skipif(not MAPS.exists(), reason="this system does not say what a process has mapped")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_process_maps_the_shards_once_however_many_samples_it_reads(
    tmp_path: Path, drawn_fast: Path, start: str
) -> None:
    folder = Path(shutil.copytree(drawn_fast, tmp_path / "copy"))
    rows: Any = Mappings(load_latents(folder))
    mappings = rows[0]
    assert 3 <= mappings <= 2 * 3  # of three shards: one of their bytes, and Arrow's own
    assert {rows[row] for row in range(30)} == {mappings}
    list(rows.dataset.loader(4, shuffle=True))
    assert rows[0] == mappings
    loader: DataLoader[Any] = DataLoader(rows, batch_size=8, num_workers=1, multiprocessing_context=start)
    assert {int(count) for counts in loader for count in counts} == {mappings}


def test_a_dataset_survives_pickling(drawn_fast: Path) -> None:
    dataset = load_latents(drawn_fast, filter="psnr > 20")
    copy: LatentDataset = pickle.loads(pickle.dumps(dataset))  # noqa: S301 (our own bytes)
    assert len(copy) == len(dataset)
    assert torch.equal(copy[3]["latent"], dataset[3]["latent"])


def test_a_config_is_named_where_there_are_several(tmp_path: Path) -> None:
    build_scenes(tmp_path, source=scenes(4, 16), config="one")
    build_scenes(tmp_path, source=scenes(4, 16), config="two")
    assert load_latents(tmp_path, "two").manifest.config == "two"
    assert load_latents(tmp_path / "one").manifest.config == "one"
    with pytest.raises(RequestError, match="several configs, name one of them: one, two"):
        load_latents(tmp_path)
    with pytest.raises(UnknownNameError, match="no config named 'tow'. Did you mean 'two'"):
        load_latents(tmp_path, "tow")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "trian"}, "There is no split named 'trian'. Did you mean 'train'"),
        ({"columns": ["psnrr"]}, "no column named 'psnrr'. Did you mean 'psnr'"),
        ({"space": "latent"}, "There is no space 'latent'; choose from model, raw"),
        ({"dtype": "int8"}, "Expected a floating point dtype"),
        ({"filter": "pnsr > 3"}, "no column named 'pnsr'. Did you mean 'psnr'"),
        ({"filter": "label == 'forrest'"}, "no class named 'forrest'. Did you mean 'forest'"),
        ({"filter": "psnr > 'high'"}, "compares values of different types"),
        ({"filter": "psnr >"}, "cannot be read"),
        ({"filter": "__import__('os').system('true')"}, "no column named '__import__'"),
        ({"filter": "psnr.__class__ == 3"}, "not allowed"),
        ({"filter": "psnr + 1 > 3"}, "not allowed"),
        ({"device": "cuda:99"}, "Device 'cuda:99' is not here, CUDA devices found: "),
        ({"device": "gpu"}, "Expected a device such as 'cpu' or 'cuda', found 'gpu'"),
        ({"picture_bytes": -1}, "Expected 0 or more picture_bytes, found -1"),
        ({"filter": "psnr > 1000 and height > 3"}, r"loosen it; height goes from 40 to 40; psnr goes from \d\d\.\d"),
        (
            {"filter": lambda columns: [False] * len(columns["id"])},
            "No row of split 'train' satisfies the filter, which is a function: it gave False for every row.",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(drawn: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message.replace("(", r"\(").replace("+", r"\+")):
        load_latents(drawn, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size of 1 or more, found 0"),
        ({"rank": 2, "world_size": 2}, "Expected a rank from 0 to world_size - 1 = 1, found 2"),
        ({"rank": 0, "world_size": 31}, "31 ranks cannot share 30 rows"),
    ],
)
def test_a_loader_that_cannot_be_is_refused(drawn: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load_latents(drawn).loader(**options)


@pytest.fixture
def folder(tmp_path: Path, drawn: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(drawn / "synthetic-pool8", tmp_path / "synthetic-pool8"))


def test_a_missing_shard_is_refused_before_training_starts(folder: Path) -> None:
    (folder / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(DamagedShardError, match=r"train-00001-of-00003.parquet is missing"):
        load_latents(folder)


def test_a_cut_shard_is_refused_before_training_starts(folder: Path) -> None:
    shard = folder / "train-00001-of-00003.parquet"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(DamagedShardError, match="it was cut or replaced"):
        load_latents(folder)


def test_an_edited_manifest_and_a_newer_format_are_refused(folder: Path) -> None:
    edit_manifest(folder, "format_version", "2.0")
    with pytest.raises(UnsupportedVersionError, match="pip install --upgrade latentstore"):
        load_latents(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"kind": "identity"', '"kind": "scale"'),
        ('"forest"', '"Forest"'),
        ('"seed": 0', '"seed": 1'),
        ('"licence": "Apache-2.0"', '"licence": "mit"'),
        ("  ", "   "),
        ('"digest": "', '"digest": "0'),
    ],
)
def test_a_manifest_that_was_edited_is_refused(folder: Path, old: str, new: str) -> None:
    path = folder / "manifest.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(StoreError, match="manifest field 'digest': is not that of .*the file was changed after"):
        load_latents(folder)
    path.write_text(re.sub(r',\s*"digest": "\w+"', "", text))
    with pytest.raises(StoreError, match="manifest field 'digest'"):
        load_latents(folder)


def test_an_unsealed_folder_and_a_missing_one_are_refused(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(NotSealedError):
        load_latents(folder)
    with pytest.raises(StoreError, match="There is no folder 'no/such/folder'."):
        load_latents("no/such/folder")


def test_latents_of_another_vae_are_not_decoded(tmp_path: Path, demo: Path) -> None:
    folder = Path(shutil.copytree(demo, tmp_path / "copy"))
    edit_manifest(folder / "synthetic-demo", "vae.weights_sha256", "f" * 64)
    dataset = load_latents(folder)
    with pytest.raises(WrongVaeError, match="another VAE would give wrong pictures"):
        dataset.decode(dataset[0]["latent"][None])


def test_latents_of_another_shape_are_not_decoded(demo: Path) -> None:
    with pytest.raises(RequestError, match=r"Expected latents of shape \(N, 16, 4, 4\), found \(2, 4, 4, 4\)"):
        load_latents(demo).decode(torch.zeros(2, 4, 4, 4))


def test_a_manifest_whose_number_format_is_not_that_of_its_storage_is_refused(folder: Path) -> None:
    edit_manifest(folder, "storage.dtype", "float32")
    with pytest.raises(StoreError, match=r"storage.dtype': expected float16 for storage float16, found 'float32'"):
        load_latents(folder)


@pytest.mark.parametrize("rows", [[0, 3], np.zeros((1, 16, 4, 4), np.float32)])
def test_what_is_no_tensor_is_not_decoded(demo: Path, rows: Any) -> None:
    kind = type(rows).__name__
    wanted = r"Expected latents of shape \(N, 16, 4, 4\) in a tensor, found a " + kind
    with pytest.raises(RequestError, match=wanted + r"; batch\(rows\)\['latent'\] gives such\.$"):
        load_latents(demo).decode(rows)


def test_decoded_pictures_may_be_used_in_a_loss(demo: Path) -> None:
    dataset = load_latents(demo)
    weight = torch.ones(1, requires_grad=True)
    (dataset.decode(dataset.batch([0])["latent"]) * weight).mean().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None


def test_an_edited_index_is_refused_before_its_labels_are_believed(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "index.parquet")
    place = table.schema.get_field_index("label")
    other = pa.array([(label + 1) % 12 for label in table.column("label").to_pylist()], pa.int64())
    pq.write_table(table.set_column(place, table.schema.field(place), other), folder / "index.parquet")
    with pytest.raises(DamagedShardError, match=r"index\.parquet is not the one that the manifest describes"):
        load_latents(folder)


def test_two_fast_shards_in_each_others_place_are_refused(tmp_path: Path) -> None:
    build_scenes(tmp_path, source=scenes(24, 40), layout="fast", rows_per_shard=12)
    folder = tmp_path / "synthetic-pool8"
    names = [folder / f"train-{number:05d}-of-00002.parquet" for number in range(2)]
    contents = [path.read_bytes() for path in names]
    for path, content in zip(names, reversed(contents), strict=True):
        path.write_bytes(content)
    sizes = [len(content) for content in contents]
    edit_manifest(folder, "splits.train.shards.0.bytes", sizes[1])
    edit_manifest(folder, "splits.train.shards.1.bytes", sizes[0])
    dataset = load_latents(folder)
    for row in (0, 23):
        with pytest.raises(DamagedShardError, match="is not the one that was written"):
            dataset[row]


@pytest.mark.parametrize("row", [0, 17, 29])
def test_a_flipped_bit_in_a_fast_shard_is_never_passed_on(tmp_path: Path, row: int) -> None:
    build_scenes(tmp_path, layout="fast", rows_per_shard=30)
    path = tmp_path / "synthetic-pool8" / "train-00000-of-00001.parquet"
    whole = load_latents(tmp_path).batch(range(30))["latent"]
    stored = whole[row].half().numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(stored) + 5] ^= 0x10
    path.write_bytes(content)
    dataset = load_latents(tmp_path)
    with pytest.raises(DamagedShardError, match=rf"train-00000-of-00001\.parquet, row {row}: its latent is not"):
        dataset.batch(range(30))
    others = [other for other in range(30) if other != row]
    assert torch.equal(dataset.batch(others)["latent"], whole[others])
    for _ in range(2):  # it is looked at again each time, not only the first
        with pytest.raises(DamagedShardError):
            dataset[row]


def test_an_edited_normalisation_is_refused_before_anything_is_decoded(tmp_path: Path, demo: Path) -> None:
    folder = Path(shutil.copytree(demo, tmp_path / "copy")) / "synthetic-demo"
    edit_manifest(folder, "normalisation.scale", 2.0)
    dataset = load_latents(folder)
    with pytest.raises(WrongVaeError, match="normalisation is not that of VAE 'demo'"):
        dataset.decode(dataset[0]["latent"][None])


def test_columns_keep_their_precision_and_missing_numbers_are_told_apart() -> None:
    from latentstore.scalar_columns import tensor_or_list as column

    value = {"_type": "Value"}
    assert column([-118.49127345678], value | {"dtype": "float64"}).item() == -118.49127345678
    assert column([2020, None, -1], value | {"dtype": "int32"})[[0, 2]].tolist() == [2020, -1]
    assert column([2020, None, -1], value | {"dtype": "int32"})[1].isnan()
    assert column([None, None], value | {"dtype": "float32"}).isnan().all()
    assert column([None, 3], {"_type": "ClassLabel", "names": ["a"] * 4}).tolist() == [-1, 3]
    assert column(["a", None], value | {"dtype": "string"}) == ["a", None]


def test_one_column_as_text_is_a_mistake_that_is_explained(drawn: Path) -> None:
    with pytest.raises(RequestError, match=r"Expected a list of columns, found the text 'psnr': write \['psnr'\]"):
        load_latents(drawn, columns="psnr")
