"""Stored views: each encoded from the transformed pixels, measured against them, and drawn by the loader."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forged import edit_manifest, forge
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scenes import build_scenes, plan, scenes, smooth_picture, write_pictures

from latentstore import (
    CONTAINERS,
    STORAGES,
    VAES,
    Manifest,
    Preparation,
    build,
    convert,
    folder_source,
    load_latents,
    open_store,
    verify,
)
from latentstore.card import bits_in_words, render_card
from latentstore.duplicates import duplicates_sentence
from latentstore.epochs import DrawnViews
from latentstore.errors import ManifestError, RequestError, UnknownNameError
from latentstore.json_records import plain
from latentstore.load import LatentDataset
from latentstore.manifest import Duplicates
from latentstore.metrics.table import METRICS
from latentstore.pictures import PictureReader, decoded_uint8
from latentstore.plan import plan_rows
from latentstore.preview import CAPTION, GAP
from latentstore.records import LatentRecord, SkippedTile, Tile
from latentstore.sources.interface import OpenSource, SourceRow
from latentstore.views import D4, IDENTITY, VIEWS, id_of_view, id_without_view, view_rows

Pixels = NDArray[np.uint8]
ALL_VIEWS = Preparation(views=D4)
PLAIN = ("identity", "hflip", "vflip", "rot180")
sizes = st.tuples(st.integers(1, 6), st.integers(1, 6))


def numbered(size: tuple[int, int]) -> Pixels:
    """A picture whose pixels all differ."""
    return np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)


# The transforms ------------------------------------------------------------------------------------------------------


@given(size=sizes)
def test_a_view_has_the_same_pixels_in_other_places(size: tuple[int, int]) -> None:
    pixels = numbered(size)
    for row in VIEWS.values():
        seen = row.of(pixels)
        assert seen.dtype == np.uint8
        assert seen.flags.c_contiguous
        assert seen.shape == ((size[1], size[0], 3) if row.swaps else (*size, 3))
        assert sorted(map(tuple, seen.reshape(-1, 3))) == sorted(map(tuple, pixels.reshape(-1, 3)))


@given(size=sizes)
def test_views_are_those_of_numpy_and_pillow(size: tuple[int, int]) -> None:
    pixels = numbered(size)
    picture = Image.fromarray(pixels)
    expected: dict[str, Pixels] = {
        "identity": pixels,
        "hflip": np.fliplr(pixels),
        "vflip": np.flipud(pixels),
        "rot90": np.rot90(pixels),
        "rot180": np.rot90(pixels, 2),
        "rot270": np.rot90(pixels, 3),
        "transpose": np.asarray(picture.transpose(Image.Transpose.TRANSPOSE)),
        "antitranspose": np.asarray(picture.transpose(Image.Transpose.TRANSVERSE)),
    }
    assert list(expected) == list(D4)
    for name, wanted in expected.items():
        np.testing.assert_array_equal(VIEWS[name].of(pixels), wanted)


@given(size=sizes)
def test_the_eight_views_are_a_group(size: tuple[int, int]) -> None:
    pixels = numbered((size[0], size[0] + 1) if size[0] == size[1] == 1 else size)
    name_of = {(seen.shape, seen.tobytes()): name for name, seen in ((n, VIEWS[n].of(pixels)) for n in D4)}
    table = {}
    for first, second in product(D4, D4):
        both = VIEWS[second].of(VIEWS[first].of(pixels))
        table[first, second] = name_of[both.shape, both.tobytes()]  # closed: two views are one of the eight
    if min(size) > 1:
        assert len(name_of) == 8
        for name in D4:
            assert (table[name, IDENTITY], table[IDENTITY, name]) == (name, name)
            assert {table[name, other] for other in D4} == set(D4)  # so every view has one that undoes it
        assert table["rot90", "rot90"] == "rot180"
        assert table["rot90", "rot270"] == IDENTITY
        assert table["hflip", "vflip"] == "rot180"
        assert table["rot90", "hflip"] != table["hflip", "rot90"]


@given(name=st.text(min_size=1), view=st.sampled_from(D4))
def test_the_id_of_a_view_leads_back_to_its_picture(name: str, view: str) -> None:
    assert id_without_view(id_of_view(name, view), view) == name


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("identity", "hflop"), "There is no view named 'hflop'. Did you mean 'hflip'?"),
        (("identity", "hflip", "hflip"), "Expected every view once, found 'hflip' 2 times."),
        (
            ("hflip", "rot90"),
            "The views hflip,rot90 are without the picture as it is, which is needed too: type identity,hflip,rot90.",
        ),
    ],
)
def test_views_that_cannot_be_are_refused_before_anything_is_read(names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(RequestError) as caught:
        plan(preparation=Preparation(views=names))
    assert str(caught.value).startswith(sentence)


# What is stored ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four drawn scenes of 40x40 through the shipped VAE, in all eight views; float32, so that nothing is rounded."""
    out = tmp_path_factory.mktemp("turned")
    build_scenes(
        out,
        source=scenes(4, 40),
        vae=VAES["demo"],
        preparation=ALL_VIEWS,
        storage=STORAGES["float32"],
        rows_per_shard=12,
        config="turned",
    )
    return out


@pytest.fixture(scope="module")
def originals() -> dict[str, Pixels]:
    """The pixels of those scenes, as the source gives them."""
    found = scenes(4, 40).open().splits["train"].read(range(4))
    return {tile.id: tile.pixels for tile in found if isinstance(tile, Tile)}


def in_order(index: dict[str, list[Any]]) -> list[tuple[str, str]]:
    """(id of the picture, view) of each row."""
    return [(id_without_view(name, view), view) for name, view in zip(index["id"], index["view"], strict=True)]


def test_every_picture_is_stored_in_every_view_side_by_side(turned: Path, originals: dict[str, Pixels]) -> None:
    store = open_store(turned)
    index = store.index()
    rows = in_order(index)
    pictures = [picture for picture, _ in rows[::8]]
    assert sorted(pictures) == sorted(originals)
    assert rows == [(picture, view) for picture in pictures for view in D4]
    assert index["id"][:3] == [pictures[0], f"{pictures[0]}@hflip", f"{pictures[0]}@vflip"]
    assert store.manifest.columns == {"view": {"dtype": "string", "_type": "Value"}}
    assert {len(set(index["label"][start : start + 8])) for start in range(0, 32, 8)} == {1}


def test_a_stored_latent_is_that_of_the_transformed_picture_and_not_the_transformed_latent(
    turned: Path, originals: dict[str, Pixels]
) -> None:
    model = VAES["demo"].load(device="cpu", dtype="float32")
    dataset = load_latents(turned, views="all", space="raw", columns=["id", "view"])
    batch = dataset.batch(range(len(dataset)))
    found = dict(zip(in_order(batch), batch["latent"], strict=True))
    for picture, pixels in originals.items():
        own = found[picture, IDENTITY].numpy()
        for name in D4:
            seen = torch.from_numpy(VIEWS[name].of(pixels)).permute(2, 0, 1)[None].float() / 255
            expected = model.encode(seen).mean[0]
            latent = found[picture, name]
            torch.testing.assert_close(latent, expected, rtol=0, atol=1e-4)
            if name != IDENTITY:
                moved = VIEWS[name].of(own.transpose(1, 2, 0)).transpose(2, 0, 1)
                assert np.abs(moved - latent.numpy()).max() > 0.05, "a VAE is not equivariant"


def test_quality_is_measured_against_the_transformed_picture(turned: Path, originals: dict[str, Pixels]) -> None:
    model = VAES["demo"].load(device="cpu", dtype="float32")
    index = open_store(turned).index()
    psnr = METRICS["psnr"].open()
    dataset = load_latents(turned, views="all", space="raw")
    decoded = decoded_uint8(model, dataset.batch(range(len(dataset)))["latent"].numpy())
    for row, (picture, view) in enumerate(in_order(index)):
        seen = torch.from_numpy(VIEWS[view].of(originals[picture])).permute(2, 0, 1)[None]
        assert float(psnr(seen, decoded[row : row + 1])[0]) == pytest.approx(index["psnr"][row], abs=0.02)


def test_a_picture_is_read_once_however_many_rows_it_becomes() -> None:
    asked: list[list[int]] = []

    class Counting:
        random_access = True

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __len__(self) -> int:
            return len(self._inner)

        def sizes(self) -> Iterator[tuple[int, int] | None]:
            found: Iterator[tuple[int, int] | None] = self._inner.sizes()
            return found

        def read(self, rows: Sequence[int]) -> Iterator[Tile | SkippedTile]:
            asked.append(list(rows))
            yield from self._inner.read(rows)

    def opened(_: SourceRow) -> OpenSource:
        found: OpenSource = scenes(5, 40).open()
        return replace(found, splits={name: Counting(split) for name, split in found.splits.items()})

    planned = plan(source=replace(scenes(5, 40), reader=opened), preparation=Preparation(tile=(24, 24), views=D4))
    source = planned.source.open()
    rows = plan_rows(planned, source)
    reader = PictureReader(planned, source, rows)
    tiles = list(reader.tiles("train", range(rows.total)))
    assert len(tiles) == 5 * 4 * 8
    assert [sorted(rows) for rows in asked] == [[0, 1, 2, 3, 4]]


def test_every_tile_is_turned_where_it_lies(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (24, 40)})
    preparation = Preparation(tile=(24, 24), views=("identity", "rot90"))
    planned = plan(source=folder_source(str(photos)), preparation=preparation)
    source = planned.source.open()
    rows = plan_rows(planned, source)
    found = {tile.id: tile for tile in PictureReader(planned, source, rows).tiles("train", range(rows.total))}
    assert list(found) == ["a@r0c0", "a@r0c0@rot90", "a@r0c1", "a@r0c1@rot90"]
    pixels = smooth_picture(24, 40)
    last = found["a@r0c1@rot90"]
    assert isinstance(last, Tile)
    np.testing.assert_array_equal(last.pixels, np.rot90(pixels[:, 24:]))
    assert last.metadata == {"tile_row": 0, "tile_column": 1, "view": "rot90"}
    build(planned, tmp_path / "out")
    index = open_store(tmp_path / "out").index()
    assert list(zip(index["height"], index["width"], strict=True)) == [(24, 24), (24, 24), (24, 16), (16, 24)]
    assert verify(tmp_path / "out", trust=True).ok


def test_views_that_swap_the_sides_need_square_latents() -> None:
    planned = plan(source=scenes(3, [40, 24]), preparation=ALL_VIEWS)
    with pytest.raises(RequestError) as caught:
        plan_rows(planned, planned.source.open())
    assert str(caught.value) == (
        "The pictures are encoded at 40x24 pixels and would be 24x40 in the views rot90, rot270, transpose, "
        "antitranspose, but a config holds one latent shape: choose --views among identity, hflip, vflip, rot180, or "
        "make the pictures square with --resize HxW, --crop SIDE or --tile SIDE."
    )
    planned = plan(source=scenes(3, [40, 24]), preparation=Preparation(views=PLAIN))
    assert plan_rows(planned, planned.source.open()).total == 12


def test_pictures_that_are_square_only_when_padded_are_turned_and_pass_every_check(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (33, 40), "b.png": (40, 34), "c.png": (40, 40)})
    source = folder_source(str(photos))
    manifest = build(plan(source=source, vae=VAES["demo"], preparation=ALL_VIEWS), tmp_path / "out")
    assert manifest.rows == 24
    index = open_store(tmp_path / "out").index()
    shapes = {
        (name, view): size
        for (name, view), size in zip(in_order(index), zip(index["height"], index["width"], strict=True), strict=True)
    }
    assert (shapes["a", "hflip"], shapes["a", "rot90"], shapes["b", "transpose"]) == ((33, 40), (40, 33), (34, 40))
    report = verify(tmp_path / "out", sample=24, depth="full", trust=True)
    assert {result.status for result in report.results} == {"passed"}
    (quality,) = [result for result in report.results if result.check == "quality"]
    assert quality.note == "24 rows decoded and measured again"
    assert load_latents(tmp_path / "out", views="all", decode=True)[0]["image"].shape == (3, 40, 40)


@pytest.mark.parametrize("crop", [(33, 40), (40, 36)])
def test_sizes_of_turned_pictures_are_checked_as_they_were_before_they_were_turned(
    crop: tuple[int, int], tmp_path: Path
) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (50, 50), "b.png": (40, 60)})
    preparation = Preparation(crop=crop, views=D4)
    build(plan(source=folder_source(str(photos)), preparation=preparation), tmp_path)
    assert verify(tmp_path, trust=True).ok

    def upright(records: list[LatentRecord]) -> list[LatentRecord]:
        return [replace(one, height=crop[0], width=crop[1]) for one in records]

    forge(tmp_path / "photos-pool8", upright)
    assert [result.check for result in verify(tmp_path, trust=True).results if result.status == "failed"] == ["columns"]


def forged_view(records: list[LatentRecord]) -> list[LatentRecord]:
    first = records[1]
    return [records[0], replace(first, metadata={**first.metadata, "view": "diagonal"}), *records[2:]]


def forged_id(records: list[LatentRecord]) -> list[LatentRecord]:
    return [records[0], replace(records[1], id="scene@vflip@vflip"), *records[2:]]


def exchanged(records: list[LatentRecord]) -> list[LatentRecord]:
    """Identity and horizontal flip of the first picture, each with the other's latent."""
    first, second = records[:2]
    return [replace(first, latent=second.latent), replace(second, latent=first.latent), *records[2:]]


@pytest.mark.parametrize(
    ("change", "check", "sentence"),
    [
        (forged_view, "columns", "column 'view' is 'diagonal', but the stored views are identity, hflip, vflip"),
        (forged_id, "columns", "column 'id' is 'scene@vflip@vflip', but a row in the view hflip ends with @hflip"),
        (exchanged, "quality", "psnr is recorded as"),
    ],
)
def test_verify_notices_a_view_that_is_not_what_it_is_called(
    turned: Path, tmp_path: Path, change: Any, check: str, sentence: str
) -> None:
    shutil.copytree(turned, tmp_path / "out")
    assert verify(tmp_path / "out", sample=32, trust=True).ok
    forge(tmp_path / "out" / "turned", change)
    results = verify(tmp_path / "out", sample=32, trust=True).results
    failed = {result.check: result for result in results if result.status == "failed"}
    assert check in failed
    assert sentence in failed[check].findings[0].message


def test_a_picture_named_like_a_view_of_another_is_left_out_and_listed(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", dict.fromkeys(["a.png", "a@hflip.png", "b@left.png"], (16, 16)))
    source = folder_source(str(photos))
    preparation = Preparation(views=("identity", "hflip"))
    manifest = build(plan(source=source, preparation=preparation), tmp_path / "out")
    assert sorted(open_store(tmp_path / "out").index()["id"]) == ["a", "a@hflip", "b@left", "b@left@hflip"]
    assert {entry.reason for entry in manifest.build.skipped} == {
        "its name ends with @hflip, as that of a view of another picture does: rename it"
    }
    assert verify(tmp_path / "out", trust=True).ok
    assert build(plan(source=source), tmp_path / "plain").rows == 3  # without views it is a name like any other


def test_a_source_with_a_column_of_that_name_is_refused(tmp_path: Path) -> None:
    def opened(_: SourceRow) -> OpenSource:
        found: OpenSource = scenes(3, 16).open()
        return replace(found, features={"view": {"dtype": "string", "_type": "Value"}})

    source = replace(scenes(3, 16), reader=opened)
    with pytest.raises(RequestError, match="Two columns would be named 'view': have the source give its own another"):
        build(plan(source=source, preparation=ALL_VIEWS), tmp_path)


# Without views -------------------------------------------------------------------------------------------------------


def test_without_views_nothing_speaks_of_them(drawn: Path) -> None:
    store = open_store(drawn)
    assert "view" not in store.schema.scalar_columns
    assert '"views"' not in store.manifest.to_json()
    assert "views" not in plain(Preparation())
    assert plain(Preparation(views=("identity",)))["views"] == ["identity"]
    assert "views" not in render_card([store.manifest])


# Sizes and duplicates ------------------------------------------------------------------------------------------------


def built_once_and_in_views(folder: Path) -> tuple[Manifest, Manifest]:
    photos = write_pictures(folder / "photos", {f"{name}.png": (40, 40) for name in "abc"})
    source = folder_source(str(photos))
    return tuple(
        build(plan(source=source, preparation=Preparation(tile=(20, 40), views=views)), folder / name)
        for name, views in (("once", ()), ("views", ("identity", "hflip", "vflip", "rot180")))
    )  # type: ignore[return-value]


def test_the_ledger_counts_a_picture_once_in_however_many_views(tmp_path: Path) -> None:
    once, views = built_once_and_in_views(tmp_path)
    assert views.rows == 4 * once.rows
    assert views.size.pixels == 4 * once.size.pixels
    assert views.size.raw_rgb_bytes == once.size.raw_rgb_bytes == 3 * 3 * 40 * 40
    assert views.size.source_bytes == once.size.source_bytes
    stored = views.size.stored_bytes
    assert stored > once.size.stored_bytes
    assert views.size.bits_per_pixel == 8 * stored / (4 * 3 * 40 * 40)
    assert views.size.raw_rgb_over_stored == 3 * 3 * 40 * 40 / stored < once.size.raw_rgb_over_stored
    assert views.size.source_over_stored == views.size.source_bytes / stored < once.size.source_over_stored  # type: ignore[operator]
    assert bits_in_words(once) == f"{once.size.bits_per_pixel:.2f} bits per pixel"
    each = f"{8 * stored / (3 * 40 * 40):.2f} of each picture"
    assert bits_in_words(views) == f"{views.size.bits_per_pixel:.2f} bits per pixel of each view, {each}"
    assert each in render_card([views])
    assert verify(tmp_path / "views", trust=True).ok


def test_views_of_one_picture_are_no_duplicates(tmp_path: Path) -> None:
    _, views = built_once_and_in_views(tmp_path)
    assert views.build.duplicates == Duplicates()
    shutil.copy(tmp_path / "photos/a.png", tmp_path / "photos/copy.png")
    found = build(
        plan(source=folder_source(str(tmp_path / "photos")), preparation=ALL_VIEWS, config="again"), tmp_path / "more"
    ).build.duplicates
    assert (found.groups, found.pictures, found.examples[0].ids) == (1, 2, ("a", "copy"))
    assert duplicates_sentence(found) == "2 pictures in 1 set of equal ones, byte for byte"


# The manifest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("preparation.views", ["identity", "diagonal"], "There is no view named 'diagonal'."),
        ("preparation.views", ["identity", "identity"], "Expected every view once"),
        ("preparation.views", ["hflip"], "The views hflip are without the picture as it is"),
        ("columns", {}, "expected a column 'view' of strings, because there are views"),
        ("columns.view.dtype", "int32", "expected a column 'view' of strings, because there are views"),
    ],
)
def test_a_manifest_with_views_that_cannot_be_is_refused(
    turned: Path, tmp_path: Path, path: str, value: Any, sentence: str
) -> None:
    shutil.copytree(turned, tmp_path / "out")
    edit_manifest(tmp_path / "out/turned", path, value)
    with pytest.raises(ManifestError) as caught:
        open_store(tmp_path / "out")
    assert sentence in str(caught.value)
    assert str(caught.value.field) in ("preparation.views", "columns")


def test_a_manifest_of_turned_pictures_with_oblong_latents_is_refused() -> None:
    from strategies import example_text

    manifest = Manifest.from_json(example_text())
    turned = replace(
        manifest,
        latent_shape=(3, 2, 4),
        preparation=ALL_VIEWS,
        columns={"view": {"dtype": "string", "_type": "Value"}},
    )
    with pytest.raises(ManifestError, match="expected a square latent_shape for rot90, rot270, .*, found 2x4"):
        turned.validate()
    replace(turned, preparation=Preparation(views=PLAIN)).validate()


# Loading -------------------------------------------------------------------------------------------------------------


def loaded(folder: Path, **options: Any) -> LatentDataset:
    dataset: LatentDataset = load_latents(folder, columns=["id", "view", "label"], **options)
    return dataset


def epoch_of(loader: Any) -> list[str]:
    return [name for batch in loader for name in batch["id"]]


def test_an_epoch_gives_every_picture_once_in_a_view_of_its_own(turned: Path, originals: dict[str, Pixels]) -> None:
    dataset, rows = loaded(turned), loaded(turned, views="all")
    assert (len(dataset), len(rows)) == (4, 32)
    every = rows.batch(range(32))
    latents = dict(zip(every["id"], every["latent"], strict=True))
    labels = dict(zip(every["id"], every["label"].tolist(), strict=True))
    loader = dataset.loader(3, shuffle=True, seed=5)
    seen = []
    for _ in range(40):
        names = []
        for batch in loader:
            for place, name in enumerate(batch["id"]):
                assert torch.equal(batch["latent"][place], latents[name])
                assert int(batch["label"][place]) == labels[name]
            names += in_order(batch)
        assert sorted(picture for picture, _ in names) == sorted(originals)
        seen += names
    assert {view for _, view in seen} == set(D4)
    assert len(set(seen)) == 32, "over 40 epochs each picture was seen in each of its views"


def test_the_views_of_an_epoch_depend_on_seed_epoch_and_picture_only(turned: Path) -> None:
    dataset = loaded(turned)
    reference = {epoch: set(epoch_of(loader)) for loader in [dataset.loader(2, seed=3)] for epoch in range(6)}
    assert len({frozenset(names) for names in reference.values()}) > 1
    again = loaded(turned).loader(3, shuffle="full", seed=3, prefetch=2)
    assert [set(epoch_of(again)) for _ in range(6)] == list(reference.values())
    ranks = [dataset.loader(1, shuffle=True, seed=3, rank=rank, world_size=2) for rank in range(2)]
    for names in reference.values():
        parts = [epoch_of(loader) for loader in ranks]
        assert set(parts[0] + parts[1]) == names
    last = dataset.labels[-1]
    fewer = loaded(turned, filter=lambda index: [label == last for label in index["label"]])
    assert 0 < len(fewer) < 4
    one = fewer.loader(1, seed=3)
    for names in reference.values():
        assert set(epoch_of(one)) < names
    other = dataset.loader(2, seed=4)
    assert [set(epoch_of(other)) for _ in range(6)] != list(reference.values())


def test_an_epoch_of_views_goes_on_with_its_next_picture(turned: Path) -> None:
    dataset = loaded(turned)
    whole = dataset.loader(1, shuffle=True, seed=1)
    expected = [epoch_of(whole) for _ in range(3)]
    first = loaded(turned).loader(1, shuffle=True, seed=1)
    assert epoch_of(first) == expected[0]
    batches = iter(first)
    assert [next(batches)["id"][0] for _ in range(2)] == expected[1][:2]
    other = loaded(turned).loader(2, shuffle=True, seed=1)
    other.load_state_dict(first.state_dict())
    assert epoch_of(other) == expected[1][2:]
    assert epoch_of(other) == expected[2]
    with pytest.raises(RequestError, match="made with other data"):
        loaded(turned, views="all").loader(1, shuffle=True, seed=1).load_state_dict(first.state_dict())


def test_samples_of_the_dataset_itself_are_drawn_for_the_epoch_it_was_told(turned: Path) -> None:
    dataset = loaded(turned)
    loader = dataset.loader(4, seed=2)
    for epoch in range(4):
        dataset.set_epoch(epoch, seed=2)
        (batch,) = loader
        assert [sample["id"] for sample in dataset] == batch["id"]
        assert pickle.loads(pickle.dumps(dataset)).batch([1])["id"] == batch["id"][1:2]  # noqa: S301 (our own)
    assert dataset.fingerprint == loaded(turned).fingerprint != loaded(turned, views="identity").fingerprint


def test_views_can_be_chosen(turned: Path, drawn: Path) -> None:
    for wanted, expected in (
        ("identity", {"identity"}),
        ("rot90", {"rot90"}),
        (["hflip", "vflip"], {"hflip", "vflip"}),
    ):
        dataset = loaded(turned, views=wanted)
        assert len(dataset) == 4 * len(expected)
        assert set(dataset.batch(range(len(dataset)))["view"]) == expected
        assert len({frozenset(epoch_of(loader)) for loader in [dataset.loader(4)] for _ in range(4)}) == 1
    some = loaded(turned, filter="view in ('identity', 'hflip')")
    assert len(some) == 4
    found = {view for _ in range(20) for loader in [some.loader(4)] for batch in loader for view in batch["view"]}
    assert found <= {"identity", "hflip"}
    for options in ({}, {"views": "all"}, {"views": "identity"}, {"views": ["identity"]}):
        assert len(load_latents(drawn, **options)) == 30


@pytest.mark.parametrize(
    ("views", "error", "sentence"),
    [
        ("hflop", UnknownNameError, "There is no stored view named 'hflop'. Did you mean 'hflip'? Known: identity, "),
        (["draw"], UnknownNameError, "There is no stored view named 'draw'."),
        ([], RequestError, "Expected at least one view, found none; config 'turned' has identity, hflip, "),
    ],
)
def test_views_that_are_not_there_are_refused(turned: Path, views: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        load_latents(turned, views=views)
    assert str(caught.value).startswith(sentence)


def test_a_dataset_without_views_has_the_identity_alone(drawn: Path) -> None:
    with pytest.raises(UnknownNameError, match="no stored view named 'hflip'. Known: identity, draw, all"):
        load_latents(drawn, views="hflip")


def test_a_filter_that_leaves_nothing_of_a_view_is_refused(turned: Path) -> None:
    with pytest.raises(RequestError, match="No row of split 'train' that the filter keeps is in the view rot90."):
        load_latents(turned, views="rot90", filter="view == 'hflip'")


@st.composite
def pictures_with_gaps(draw: st.DrawFn) -> tuple[list[str], NDArray[np.int64]]:
    """The picture behind every row of a split, and which rows may be given; neighbours may lack views."""
    counts = draw(st.lists(st.integers(1, 8), min_size=1, max_size=12))
    pictures = [f"p{number}" for number, count in enumerate(counts) for _ in range(count)]
    kept = draw(st.lists(st.booleans(), min_size=len(pictures), max_size=len(pictures)).filter(any))
    return pictures, np.flatnonzero(kept)


@given(found=pictures_with_gaps(), seed=st.integers(0, 2**40), epoch=st.integers(0, 50))
def test_a_draw_gives_one_row_of_every_picture_that_has_any(
    found: tuple[list[str], NDArray[np.int64]], seed: int, epoch: int
) -> None:
    pictures, rows = found
    drawn = DrawnViews.of(pictures, rows)
    given_rows = drawn.drawn(seed, epoch)
    assert set(given_rows.tolist()) <= set(rows.tolist())
    assert [pictures[row] for row in given_rows] == list(dict.fromkeys(pictures[row] for row in rows))
    assert len(drawn) == len(given_rows)
    np.testing.assert_array_equal(drawn.drawn(seed, epoch), given_rows)


def test_all_views_are_drawn_as_often_as_each_other_and_not_by_the_random_numbers_of_the_order() -> None:
    drawn = DrawnViews.of([str(row // 8) for row in range(80_000)], np.arange(80_000))
    counts = np.bincount(drawn.drawn(0, 1) % 8)
    assert counts.min() > 1250 - 5 * 33
    assert counts.max() < 1250 + 5 * 33  # five standard deviations of a binomial of 10,000 draws
    order = np.random.default_rng([0, 1]).random(10_000)
    assert abs(np.corrcoef(order, drawn.drawn(0, 1) % 8)[0, 1]) < 0.05


# Around it -----------------------------------------------------------------------------------------------------------


def test_the_preview_shows_a_view_as_it_is_stored(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"a.png": (256, 256)})
    preparation = Preparation(views=("identity", "rot90", "hflip"))
    build(plan(source=folder_source(str(photos)), preparation=preparation, metrics=()), tmp_path / "out")
    sheet = np.asarray(Image.open(tmp_path / "out/photos-pool8/preview.png"))
    pixels = smooth_picture(256, 256)
    for row, expected in enumerate((pixels, np.rot90(pixels), np.fliplr(pixels))):
        top = GAP + CAPTION + row * (256 + CAPTION + GAP) + CAPTION
        np.testing.assert_array_equal(sheet[top : top + 256, GAP : GAP + 256], expected)


def test_a_dataset_with_views_is_converted_with_all_its_rows(turned: Path, tmp_path: Path) -> None:
    shutil.copytree(turned, tmp_path / "out")
    manifest = convert(
        open_store(tmp_path / "out"), tmp_path / "small", container=CONTAINERS["webdataset"], config="small"
    )
    assert manifest.rows == 32
    assert manifest.preparation.views == D4
    assert manifest.size.raw_rgb_bytes == open_store(turned).manifest.size.raw_rgb_bytes
    assert len(load_latents(tmp_path / "small")) == 4
    assert verify(tmp_path / "small", trust=True).ok


def test_a_streamed_dataset_draws_the_views_that_a_loaded_one_draws(turned: Path) -> None:
    for views, rows in (("all", 32), ("identity", 4)):
        dataset = load_latents(turned, streaming=True, views=views)
        assert sum(len(batch["latent"]) for batch in dataset.loader(4)) == len(dataset) == rows
    there, here = (load_latents(turned, streaming=streaming, columns=["id"]) for streaming in (True, False))
    assert len(there) == len(here) == 4
    assert len(there.labels) == 4
    streamed, loaded = there.loader(3, shuffle=True, seed=2), here.loader(3, shuffle=True, seed=2)
    shown = set()
    for _ in range(6):
        found, expected = (
            {name: latent for batch in loader for name, latent in zip(batch["id"], batch["latent"], strict=True)}
            for loader in (streamed, loaded)
        )
        assert set(found) == set(expected)
        assert len(found) == 4
        assert all(torch.equal(latent, expected[name]) for name, latent in found.items())
        shown |= set(found)
    assert len({name.partition("@")[2] for name in shown}) > 3


def test_a_streamed_epoch_of_drawn_views_is_ended_by_another_number_of_ranks(turned: Path) -> None:
    dataset = load_latents(turned, streaming=True, columns=["id"])
    whole = sorted(name for batch in dataset.loader(1, shuffle=True, seed=1) for name in batch["id"])
    loader = dataset.loader(1, shuffle=True, seed=1)
    first = next(iter(loader))["id"]
    rest = []
    for rank in range(2):
        other = dataset.loader(2, shuffle=True, seed=1, rank=rank, world_size=2, prefetch=0)
        other.load_state_dict(loader.state_dict())
        rest += [name for batch in other for name in batch["id"]]
    assert sorted(first + rest) == whole


def test_all_eight_views_have_a_summary() -> None:
    assert len(view_rows(D4)) == 8
    assert all(row.summary for row in VIEWS.values())
