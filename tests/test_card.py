"""The dataset card: valid front matter, measured facts, and the same text for the same manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scenes import build_scenes, scenes

from latentstore import STORAGES, Manifest, convert
from latentstore.card import ratio_in_words, render_card, sealed_configs

CARDS = Path(__file__).parents[1] / "dataset_cards"


def front_matter(card: str) -> Any:
    import yaml

    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_lists_every_sealed_config_and_one_is_the_default(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_scenes(tmp_path, source=scenes(4, 16), config=name)
    (tmp_path / "unfinished").mkdir()
    card = (tmp_path / "README.md").read_text()
    configs = front_matter(card)["configs"]
    assert [config["config_name"] for config in configs] == ["one", "two"]
    assert [config.get("default", False) for config in configs] == [True, False]
    assert configs[1]["data_files"] == [{"split": "train", "path": "two/train-*.parquet"}]


def test_the_card_is_the_same_for_the_same_manifests(drawn: Path) -> None:
    assert render_card(sealed_configs(drawn)) == (drawn / "README.md").read_text()


def test_the_card_states_what_was_lost_and_what_it_takes(drawn: Path) -> None:
    manifest = Manifest.read(drawn / "synthetic-pool8")
    card = (drawn / "README.md").read_text()
    assert f"{manifest.quality['psnr'].mean:.2f} dB mean" in card
    assert ratio_in_words(manifest.size.raw_rgb_over_stored) in card


@pytest.mark.parametrize(("ratio", "words"), [(3.0, "3.00x smaller"), (0.25, "4.00x larger"), (1.0, "1.00x smaller")])
def test_a_ratio_says_which_way_it_goes(ratio: float, words: str) -> None:
    assert ratio_in_words(ratio) == words


def published() -> list[Path]:
    return sorted(path.parent for path in CARDS.glob("*/manifest.json"))


def test_there_is_at_least_one_published_card() -> None:
    assert published()


@pytest.mark.parametrize("folder", published(), ids=lambda path: path.name)
def test_a_published_card_is_what_its_manifest_renders_to(folder: Path) -> None:
    assert (folder / "README.md").read_text() == render_card(
        [Manifest.from_json((folder / "manifest.json").read_text())]
    )


def test_the_card_names_every_baseline_and_what_storing_cost(tmp_path: Path) -> None:
    manifest = build_scenes(tmp_path, storage=STORAGES["int8"], step=1 / 8, max_psnr_drop=1.0)
    text = render_card([manifest])
    size = manifest.size
    for part in (
        "| latent | 3x5x5 int8, posterior mean, unscaled |",
        "| quantised | steps of 0.125 of each channel's standard deviation |",
        f"| storing cost | {manifest.storage.measured_loss_db:.4f} dB of mean PSNR, of a budget of 1 dB |",
        f"| against raw RGB, {size.raw_rgb_bytes:,} bytes | ",
        f"| against the numbers uncompressed, {size.payload_bytes:,} bytes | ",
        f"| against their order-0 entropy, {size.entropy_bytes:,} bytes | ",
    ):
        assert part in text
    half = convert(tmp_path, tmp_path / "half", storage=STORAGES["float32"])
    assert "| converted from | int8 in parquet, layout compact: no number changed |" in render_card([half])
