"""The dataset card: measured facts only, code that runs, and the same text for the same manifests."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import build_scenes, scenes

from latentstore import CONTAINERS, STORAGES, Manifest, convert, load_latents, verify
from latentstore.card import (
    CardChoices,
    ratio_in_words,
    refuse_unlicensed,
    render_card,
    scores_of,
    sealed_configs,
    validate_card,
    write_card,
)
from latentstore.card.contract import contract
from latentstore.card.front_matter import Readme
from latentstore.errors import RequestError
from latentstore.normalisation import Normalisation

CARDS = Path(__file__).parents[1] / "dataset_cards"


def front_matter(card: str) -> Any:
    assert card.startswith("---\n")
    return Readme.parse(card).data


def files_below(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two configs of the same pictures, in float16 and int8."""
    out = tmp_path_factory.mktemp("repository")
    for config in ("float16", "int8"):
        build_scenes(out, config=config, storage=STORAGES[config])
    return out


def manifest_of(repository: Path, config: str = "float16", **changes: Any) -> Manifest:
    return replace(Manifest.read(repository / config), **changes)


# The front matter ---------------------------------------------------------------------------------------------------


def test_the_card_lists_every_sealed_config_and_one_is_the_default(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_scenes(tmp_path, source=scenes(4, 16), config=name)
    (tmp_path / "unfinished").mkdir()
    card = (tmp_path / "README.md").read_text()
    configs = front_matter(card)["configs"]
    assert [config["config_name"] for config in configs] == ["one", "two"]
    assert [config.get("default", False) for config in configs] == [True, False]
    assert configs[1]["data_files"] == [{"split": "train", "path": "two/train-*.parquet"}]


def test_the_front_matter_states_exact_rows_and_sizes(repository: Path) -> None:
    data = front_matter((repository / "README.md").read_text())
    manifest = manifest_of(repository, "int8")
    (info,) = (entry for entry in data["dataset_info"] if entry["config_name"] == "int8")
    assert info["splits"] == [{"name": "train", "num_bytes": 30 * 75, "num_examples": 30}]
    assert info["download_size"] == manifest.size.stored_bytes
    assert data["size_categories"] == ["n<1K"]
    assert data["source_datasets"] == ["original"]
    assert data["task_categories"] == ["image-classification", "unconditional-image-generation"]


@pytest.mark.parametrize("config", ["float16", "int8"])
@pytest.mark.parametrize("streaming", [False, True], ids=["loaded", "streamed"])
def test_datasets_takes_files_types_and_rows_from_the_card(repository: Path, config: str, *, streaming: bool) -> None:
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(str(repository), config, split="train", streaming=streaming)
    info = next(
        entry
        for entry in front_matter((repository / "README.md").read_text())["dataset_info"]
        if entry["config_name"] == config
    )
    assert found.features == datasets.Features._from_yaml_list(info["features"])
    assert found.features["label"].names[0] == "beach"
    assert len(list(found)) == info["splits"][0]["num_examples"] == 30


def test_datasets_still_reads_single_columns(repository: Path) -> None:
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(str(repository), "float16", split="train", columns=["id", "label"])
    assert set(found.column_names) == {"id", "label"}
    assert len(found) == 30


def test_datasets_finds_the_default_config_of_the_card(repository: Path) -> None:
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    data = front_matter((repository / "README.md").read_text())
    configs = MetadataConfigs.from_dataset_card_data(DatasetCardData(**data))
    assert configs.get_default_config_name() == "float16"
    assert list(configs) == ["float16", "int8"]


def test_pictures_as_a_column_are_an_image_on_the_card(repository: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = {"shown": {"_type": "Image"}, "bytes_of_it": {"decode": False, "_type": "Image"}}
    data = front_matter(render_card([manifest_of(repository, columns=features)]))
    found = {entry["name"]: entry for entry in data["dataset_info"][0]["features"]}
    assert found["shown"]["dtype"] == "image"
    types = datasets.Features._from_yaml_list(data["dataset_info"][0]["features"])
    assert types["shown"] == datasets.Image()
    assert types["bytes_of_it"] == datasets.Image(decode=False)


def test_the_source_and_its_language_are_those_of_the_hub_where_it_lies_there(repository: Path) -> None:
    source = replace(
        manifest_of(repository).source, name="aid", location="blanchon/AID", reader="open_hub_images", revision="a" * 40
    )
    card = render_card([manifest_of(repository, source=source)])
    data = front_matter(card)
    assert data["source_datasets"] == ["blanchon/AID"]
    assert data["language"] == ["en"]
    assert "remote-sensing" in data["tags"]
    assert "[blanchon/AID](https://huggingface.co/datasets/blanchon/AID)" in card
    photos = replace(source, name="photos", location="/home/someone/photos", reader="open_image_folder", revision=None)
    data = front_matter(render_card([manifest_of(repository, source=photos)]))
    assert data["source_datasets"] == ["original"]
    assert "language" not in data
    assert "remote-sensing" not in data["tags"]


# What is never on it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/home/someone/vae", "~/vae", "./vae", "models/vae"])
def test_folders_of_the_builders_machine_are_not_on_the_card(repository: Path, place: str) -> None:
    manifest = manifest_of(repository)
    vae = replace(manifest.vae, name="own", class_name="AutoencoderKL", repo=place, weights_sha256="ab" * 32)
    source = replace(manifest.source, name="photos", location=place + "/photos", reader="open_image_folder")
    card = render_card([replace(manifest, vae=vae, source=source)])
    assert place not in card
    assert "weights that its builder had at hand" in card
    assert "ab" * 32 in card


def test_a_vae_of_the_hub_is_named_with_its_commit(repository: Path) -> None:
    manifest = manifest_of(repository)
    vae = replace(manifest.vae, name="own", class_name="AutoencoderKL", repo="someone/vae", revision="c" * 40)
    card = render_card([replace(manifest, vae=vae)])
    assert "[someone/vae](https://huggingface.co/someone/vae)" in card
    assert "c" * 40 in card


def test_weights_that_come_with_the_package_are_said_to_and_no_others(repository: Path) -> None:
    manifest = manifest_of(repository)
    packaged = replace(manifest.vae, name="demo", channels=16, weights_sha256="a" * 64, repo=None)
    others = (
        manifest.vae,
        replace(packaged, name="own"),
        replace(packaged, channels=4),
        replace(packaged, repo="a/b"),
    )
    says = ["come with the Python package" in render_card([replace(manifest, vae=vae)]) for vae in (packaged, *others)]
    assert says == [True, False, False, False, False]


def test_names_from_outside_stay_text(repository: Path) -> None:
    nasty = "<!-- latentstore:end --> | ``` <script> [a](b)"
    manifest = manifest_of(repository)
    source = replace(manifest.source, licence=nasty, citation=nasty, classes=(nasty, *manifest.source.classes[1:]))  # type: ignore[index]
    psnr = replace(manifest.quality["psnr"], per_class={nasty: 3.0, "b": 4.0}, worst=(nasty,))
    manifest = replace(manifest, source=source, quality={**manifest.quality, "psnr": psnr})
    card = render_card([manifest], choices=CardChoices(pretty_name=nasty))
    assert render_card([manifest], card) == card
    text = re.sub(r"```.*?\n```|`[^`\n]*`", "", Readme.parse(card).body, flags=re.DOTALL)
    assert "&lt;script>" in text
    assert "<script>" not in text
    assert "\n```" not in text


# The text -----------------------------------------------------------------------------------------------------------


def test_the_card_is_the_same_for_the_same_manifests(repository: Path) -> None:
    manifests = sealed_configs(repository)
    scores = {manifest.config: scores_of(repository, manifest) or () for manifest in manifests}
    card = (repository / "README.md").read_text()
    assert render_card(manifests, card, scores=scores) == card
    assert front_matter(render_card(manifests)) == front_matter(card)


def test_the_card_states_what_was_lost_and_what_it_takes(drawn: Path) -> None:
    manifest = Manifest.read(drawn / "synthetic-pool8")
    card = (drawn / "README.md").read_text()
    psnr = manifest.quality["psnr"]
    row = next(line for line in card.splitlines() if line.startswith("| PSNR, dB |"))
    for number in (psnr.mean, psnr.median, psnr.p5, psnr.p95, psnr.pooled):
        assert f"{number:.2f}" in row
    assert ratio_in_words(manifest.size.raw_rgb_over_stored) in card
    worst = min(psnr.per_class, key=lambda name: psnr.per_class[name])
    shown = card[card.index("Mean PSNR of each class") :].split("```text\n")[1].splitlines()
    assert shown[0].split()[0] == worst


def test_the_histogram_counts_every_row_once(repository: Path) -> None:
    manifest = manifest_of(repository)
    assert "PSNR of all" not in render_card([manifest])
    for scores in (scores_of(repository, manifest), [20.0, None, float("inf"), 20.04, 31.5, 20.2]):
        assert scores is not None
        card = render_card([manifest], scores={"float16": scores})
        block = card[card.index("PSNR of all") :].split("```text\n")[1].split("```")[0]
        finite = [score for score in scores if score is not None and np.isfinite(score)]
        assert sum(int(line.split()[1]) for line in block.splitlines()) == len(finite)
        edges = [float(line.split()[0]) for line in block.splitlines()]
        assert edges[0] <= min(finite)
        assert edges[-1] <= max(finite) < edges[-1] + (edges[1] - edges[0])


def test_the_code_begins_with_the_split_to_train_on(repository: Path) -> None:
    manifest = manifest_of(repository)
    splits = {"a_test": manifest.splits["train"], "train": manifest.splits["train"]}
    assert 'split="train")' in render_card([replace(manifest, splits=splits)])
    renamed = replace(manifest, splits={"validation": manifest.splits["train"]})
    assert 'split="validation")' in render_card([renamed])


def test_equal_scores_have_no_histogram(repository: Path) -> None:
    assert "PSNR of all" not in render_card([manifest_of(repository)], scores={"float16": [30.0, 30.0]})


@pytest.mark.parametrize(("ratio", "words"), [(3.0, "3.00x smaller"), (0.25, "4.00x larger"), (1.0, "1.00x smaller")])
def test_a_ratio_says_which_way_it_goes(ratio: float, words: str) -> None:
    assert ratio_in_words(ratio) == words


def test_the_card_names_every_baseline_and_what_storing_cost(tmp_path: Path) -> None:
    manifest = build_scenes(tmp_path, storage=STORAGES["int8"], step=1 / 8, max_psnr_drop=1.0)
    text = render_card([manifest])
    size = manifest.size
    for part in (
        "| stored | raw posterior mean, without any scale: int8, one step per channel |",
        "| quantised | steps of 0.125 of each channel's standard deviation |",
        f"| storing cost | {manifest.storage.measured_loss_db:.4f} dB of mean PSNR, of a budget of 1 dB |",
        f"| raw RGB, 3 bytes a pixel | {size.raw_rgb_bytes:,} | ",
        f"| the stored numbers, uncompressed | {size.payload_bytes:,} | ",
        f"| the order-0 entropy of the stored numbers | {size.entropy_bytes:,} | ",
    ):
        assert part in text
    half = convert(tmp_path, tmp_path / "half", storage=STORAGES["float32"])
    assert "| converted from | int8 in parquet, layout compact: no number changed |" in render_card([half])


def test_figures_that_were_not_measured_are_not_there(repository: Path) -> None:
    card = render_card([manifest_of(repository, quality={}, metrics=())])
    assert "Not measured for the numbers as they are stored now." in card
    assert "dB |" not in card.split("## Use")[1]


# The code -----------------------------------------------------------------------------------------------------------


def code_in(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


@pytest.mark.parametrize("config", ["float16", "int8"])
@pytest.mark.parametrize("container", ["parquet", "webdataset"])
@pytest.mark.filterwarnings("ignore:.*_io.FileIO.*:pytest.PytestUnraisableExceptionWarning")
def test_a_stranger_makes_model_latents_by_hand(tmp_path: Path, container: str, config: str) -> None:
    pytest.importorskip("datasets")
    build_scenes(tmp_path, config=config, storage=STORAGES[config], container=CONTAINERS[container])
    card = (tmp_path / "README.md").read_text().replace("PATH", str(tmp_path))
    ours, theirs, *others = code_in(card)
    names: dict[str, Any] = {}
    exec(compile(ours, "card", "exec"), names)  # noqa: S102 (our own card)
    assert names["batch"]["latent"].shape[1:] == (3, 5, 5)
    assert names["images"].shape == (4, 3, 40, 40)
    exec(compile(theirs, "card", "exec"), names)  # noqa: S102
    assert names["class_names"][0] == "beach"
    exec(compile(others[-1], "card", "exec"), names)  # noqa: S102
    expected = load_latents(tmp_path, config).batch([0])["latent"][0].numpy()
    np.testing.assert_allclose(names["model"], expected, rtol=1e-6, atol=1e-6)


NORMALISATIONS = (
    Normalisation("identity"),
    Normalisation("scale", scale=0.13025),
    Normalisation("scale_shift", scale=1.5305, shift=0.0609),
    Normalisation("mean_std", scale=0.5, mean=(0.1, -0.2, 0.3), std=(1.5, 0.7, 2.0)),
    Normalisation("patch_batch_norm", mean=tuple(np.arange(12) / 7), std=tuple(np.arange(1, 13) / 5), patch=2),
)


@pytest.mark.parametrize("normalisation", NORMALISATIONS, ids=lambda row: row.kind)
def test_every_normalisation_is_written_out_as_code(repository: Path, normalisation: Normalisation) -> None:
    torch = pytest.importorskip("torch")
    manifest = manifest_of(repository, latent_shape=(3, 4, 6), normalisation=normalisation)
    raw = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    (code,) = code_in("\n".join(contract(manifest)))
    names: dict[str, Any] = {"stored": raw.tolist()}
    exec(compile(code, "card", "exec"), names)  # noqa: S102
    expected = normalisation.to_model(torch.from_numpy(raw))
    np.testing.assert_allclose(names["model"], expected, rtol=1e-5, atol=1e-6)


def test_the_code_names_the_repository_once_it_is_known(repository: Path) -> None:
    manifests = sealed_configs(repository)
    card = render_card(manifests, choices=CardChoices(repo="someone/latents", revision="v1"))
    assert 'load_latents("someone/latents@v1", "float16", split="train")' in card
    assert 'load_dataset("someone/latents", "float16", split="train", revision="v1")' in card
    assert "\nlatentstore verify someone/latents@v1 --config int8\n" in card
    assert "PATH" not in card
    again = render_card(manifests, card)
    assert 'load_latents("someone/latents", "float16", split="train")' in again
    assert "PATH" not in again


def test_the_commands_that_verify_are_those_of_this_folder(repository: Path) -> None:
    card = (repository / "README.md").read_text()
    commands = re.findall(r"^latentstore verify (\S+) --config (\S+)$", card, re.MULTILINE)
    assert commands == [("PATH", "float16"), ("PATH", "int8")]
    assert all(verify(repository, config, depth="quick").ok for _, config in commands)


# Licences -----------------------------------------------------------------------------------------------------------


def test_a_licence_is_never_made_up(repository: Path) -> None:
    manifests = sealed_configs(repository)
    card = render_card(manifests)
    assert "license" not in front_matter(card)
    assert "No licence has been chosen yet" in card
    with pytest.raises(RequestError) as caught:
        refuse_unlicensed(card, manifests)
    assert str(caught.value) == (
        "The dataset has no licence, and latents derive from the pictures (source synthetic: Apache-2.0) and the VAE "
        "(pool8: apache-2.0): choose one that both allow and type it after --license, such as --license cc-by-4.0."
    )
    licensed = render_card(manifests, card, CardChoices(license="cc-by-4.0"))
    refuse_unlicensed(licensed, manifests)
    assert front_matter(licensed)["license"] == "cc-by-4.0"
    assert "This dataset: **cc-by-4.0**" in licensed
    assert front_matter(render_card(manifests, licensed))["license"] == "cc-by-4.0"


def test_another_licence_takes_the_place_of_the_old_one_with_its_name_and_link(repository: Path) -> None:
    manifests = sealed_configs(repository)
    own = CardChoices(license="other", license_name="mine", license_link="https://example.org/licence")
    card = render_card(manifests, None, own)
    assert "This dataset: **mine**" in card
    data = front_matter(render_card(manifests, card, CardChoices(license="mit")))
    assert data["license"] == "mit"
    assert "license_name" not in data
    assert "license_link" not in data


# dataset_cards ------------------------------------------------------------------------------------------------------


def published() -> list[Path]:
    return sorted(path.parent for path in CARDS.glob("*/README.md"))


def test_there_are_published_cards_and_one_is_of_several_configs() -> None:
    counts = [len(list(folder.glob("*/manifest.json"))) for folder in published()]
    assert len(counts) >= 3
    assert max(counts) > 1
    assert min(counts) > 0


@pytest.mark.parametrize("folder", published(), ids=lambda path: path.name)
def test_a_published_card_is_what_its_manifests_render_to(folder: Path) -> None:
    manifests = sealed_configs(folder)
    scores = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/psnr.json")}
    text = (folder / "README.md").read_text(encoding="utf-8")
    choices = CardChoices(license="apache-2.0", repo=f"user/{folder.name}")
    assert render_card(manifests, None, choices, scores=scores) == text
    shards = [f"{m.config}/{shard.path}" for m in manifests for split in m.splits.values() for shard in split.shards]
    others = [f"{m.config}/{name}" for m in manifests for name in ("manifest.json", "index.parquet", "preview.png")]
    assert validate_card(text, manifests, [*shards, *others, "README.md"]) == []
    refuse_unlicensed(text, manifests)


@pytest.mark.parametrize("folder", published(), ids=lambda path: path.name)
def test_datasets_understands_a_published_card(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    data = DatasetCard.load(folder / "README.md").data
    configs = MetadataConfigs.from_dataset_card_data(data)
    assert configs.get_default_config_name() in {manifest.config for manifest in sealed_configs(folder)}
    infos = datasets.info.DatasetInfosDict.from_dataset_card_data(data)
    for manifest in sealed_configs(folder):
        assert infos[manifest.config].splits["train"].num_examples == manifest.rows


# As a file ----------------------------------------------------------------------------------------------------------


def test_the_readme_of_something_else_is_not_made_a_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My program\n")
    with pytest.raises(RequestError, match="was not written by latentstore and is no dataset card"):
        build_scenes(tmp_path, source=scenes(4, 16))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# My dataset\n")
    build_scenes(tmp_path, source=scenes(4, 16))
    card = (tmp_path / "README.md").read_text()
    assert "# My dataset\n" in card
    assert front_matter(card)["license"] == "mit"
    assert validate_card(card, sealed_configs(tmp_path), files_below(tmp_path)) == []


def test_a_card_that_cannot_be_read_stops_a_build_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\n- a list\n---\n")
    with pytest.raises(RequestError, match=r"README\.md cannot take a dataset card: The YAML block"):
        build_scenes(tmp_path, source=scenes(4, 16))
    assert not (tmp_path / "synthetic-pool8").exists()


def test_a_damaged_index_costs_a_config_its_histogram_only(tmp_path: Path) -> None:
    build_scenes(tmp_path, config="one")
    (tmp_path / "one" / "index.parquet").write_bytes(b"damaged")
    write_card(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "PSNR of all" not in card
    assert "Mean PSNR of each class" in card
