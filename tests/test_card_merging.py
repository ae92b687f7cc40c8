"""What a person wrote on a card stays, byte for byte; what this library wrote follows the manifests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import build_scenes, scenes

from latentstore import Manifest
from latentstore.card import CardChoices, render_card, validate_card
from latentstore.card.block import BEGIN, END
from latentstore.card.front_matter import Readme
from latentstore.errors import RequestError

PERSON = """---
# our own
license: cc-by-4.0   # asked the authors
pretty_name: "Scenes"
tags: [aerial, mine]
extra_gated_prompt: |
  Be nice.

  # this is no comment
annotations_creators:
- found

# the last word
---
# Scenes

Drawn by us.
"""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    built: Manifest = build_scenes(tmp_path_factory.mktemp("one"), source=scenes(4, 16), config="one")
    return built


def data_of(card: str) -> dict[str, Any]:
    return Readme.parse(card).data


def lines_of(card: str) -> list[str]:
    return card.split("---\n")[1].splitlines(keepends=True)


# Words --------------------------------------------------------------------------------------------------------------


def test_a_persons_words_and_keys_are_kept_byte_for_byte(manifest: Manifest) -> None:
    card = render_card([manifest], PERSON)
    own = PERSON.split("---\n")[1].replace("tags: [aerial, mine]\n", "")
    kept = [line for line in lines_of(card) if line in own.splitlines(keepends=True)]
    assert "".join(kept).startswith(own.split("annotations")[0])
    assert card.split("---\n", 2)[2].startswith("# Scenes\n\nDrawn by us.\n\n<!-- latentstore:begin ")
    data = data_of(card)
    assert data["extra_gated_prompt"] == "Be nice.\n\n# this is no comment\n"
    assert data["license"] == "cc-by-4.0"
    assert data["pretty_name"] == "Scenes"
    assert data["tags"] == ["aerial", "mine", "latents", "latentstore", "vae", "pool8", "remote-sensing"]
    assert validate_card(card, [manifest]) == []


def test_words_around_the_marks_are_kept_and_what_is_between_them_is_rendered(manifest: Manifest) -> None:
    card = render_card([manifest])
    before, after = card.split(BEGIN)[0], "\n\n## My own section\r\n\tas I like it  \n"
    changed = before + "Mine.\n" + card[len(before) :].replace("# synthetic", "# changed") + after
    again = render_card([manifest], changed)
    assert again == before + "Mine.\n" + card[len(before) :] + after


@given(
    words=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=60),
    key=st.sampled_from(["note", "viewer", "x-mine"]),
    value=st.one_of(st.integers(), st.text(st.characters(categories=["L", "N", "P"]), max_size=20), st.booleans()),
)
def test_any_words_and_keys_survive_two_renderings(manifest: Manifest, words: str, key: str, value: Any) -> None:
    readme = Readme("", f"{words}\n").with_keys({key: value})
    previous = readme.text() if value is not None else words
    card = render_card([manifest], previous)
    assert render_card([manifest], card) == card
    assert data_of(card)[key] == value
    assert words in card


def test_a_card_with_windows_line_ends_is_merged(manifest: Manifest) -> None:
    card = render_card([manifest], PERSON.replace("\n", "\r\n"))
    assert "license: cc-by-4.0   # asked the authors\r\n" in card
    assert "Drawn by us.\r\n" in card
    assert data_of(card)["configs"][0]["config_name"] == "one"
    assert render_card([manifest], card) == card


def test_front_matter_in_braces_and_a_byte_order_mark_are_read(manifest: Manifest) -> None:
    card = render_card([manifest], "\ufeff\n---\n{license: mit, viewer: false}\n---\nHi.\n")
    assert card.startswith("---\nlicense: mit\nviewer: false\n")
    assert validate_card(card, [manifest]) == []


@pytest.mark.parametrize(
    ("previous", "message"),
    [
        ("---\n- a\n---\n", "The YAML block at the top of README.md cannot be read (it is not keys and values)"),
        ("---\na: [\n---\n", "The YAML block at the top of README.md cannot be read ("),
        ("---\na: 1\nb: 2\na: 3\n---\n", "The YAML block at the top of README.md has the key 'a' twice: remove one of"),
        (f"x\n{END}\n", f"README.md must have the line that starts with '{BEGIN} {{' and the line '{END}' once each"),
        (f"{BEGIN} {{}}\n", f"README.md must have the line that starts with '{BEGIN} {{' and the line '{END}' once"),
        (f"{BEGIN} {{}} -->\n{END}\n", f"The line of README.md that starts with '{BEGIN}' was changed"),
    ],
)
def test_a_card_that_cannot_be_merged_is_refused(manifest: Manifest, previous: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        render_card([manifest], previous)
    assert message in str(caught.value)


def test_the_block_is_refused_where_it_is_there_twice(manifest: Manifest) -> None:
    card = render_card([manifest])
    with pytest.raises(RequestError, match="once each"):
        render_card([manifest], card + card.split("---\n", 2)[2])


# Keys that both write -----------------------------------------------------------------------------------------------


def test_what_a_person_removed_stays_away_and_what_was_added_stays(manifest: Manifest) -> None:
    card = render_card([manifest])
    changed = Readme.parse(card).with_keys({"tags": ["latents", "aerial"], "pretty_name": "Mine", "language": None})
    data = data_of(render_card([manifest], changed.text()))
    assert data["tags"] == ["latents", "aerial"]
    assert data["pretty_name"] == "Mine"
    assert "language" not in data
    assert "# Mine\n" in render_card([manifest], changed.text())


def test_what_nobody_changed_follows_the_manifests(manifest: Manifest) -> None:
    card = render_card([manifest])
    other = replace(manifest, config="two", vae=replace(manifest.vae, name="other"))
    data = data_of(render_card([manifest, other], card))
    assert data["pretty_name"] == "synthetic as latents of pool8 and other"
    assert data["tags"] == ["latents", "latentstore", "vae", "pool8", "other", "remote-sensing"]
    assert data_of(render_card([other], render_card([manifest, other], card)))["tags"] == [
        *("latents", "latentstore", "vae", "other", "remote-sensing")
    ]


def test_a_chosen_name_and_language_stay_without_being_chosen_again(manifest: Manifest) -> None:
    card = render_card([manifest], choices=CardChoices(pretty_name="Chosen", language=("fr",)))
    again = render_card([manifest], card)
    assert again == card
    assert data_of(again)["pretty_name"] == "Chosen"
    assert data_of(again)["language"] == ["fr"]


# Configs ------------------------------------------------------------------------------------------------------------


def test_a_config_is_taken_off_the_card_and_a_persons_own_one_stays(manifest: Manifest) -> None:
    mine = {"config_name": "mine", "data_files": "mine/*.parquet"}
    two = replace(manifest, config="two")
    previous = Readme("", "Words.\n").with_keys({"configs": [mine], "dataset_info": {"dataset_size": 3}}).text()
    card = render_card([manifest, two], previous)
    assert [entry["config_name"] for entry in data_of(card)["configs"]] == ["one", "two", "mine"]
    assert [entry["config_name"] for entry in data_of(card)["dataset_info"]] == ["one", "two", "default"]
    fewer = render_card([two], card)
    assert data_of(fewer)["configs"][1] == mine
    assert [entry["config_name"] for entry in data_of(fewer)["configs"]] == ["two", "mine"]
    assert data_of(fewer)["configs"][0]["default"] is True
    assert "## one" not in fewer
    assert "## two" in fewer
    none = render_card([], fewer)
    assert data_of(none)["configs"] == [mine]
    assert "Words.\n" in none


def test_the_default_is_the_chosen_one_then_the_one_that_was_then_the_first(manifest: Manifest) -> None:
    def default(card: str) -> list[str]:
        return [entry["config_name"] for entry in data_of(card)["configs"] if entry.get("default")]

    all_three = [replace(manifest, config=name) for name in ("a", "b", "c")]
    first = render_card(all_three)
    assert default(first) == ["a"]
    chosen = render_card(all_three, first, CardChoices(default_config="b"))
    assert default(chosen) == ["b"]
    assert default(render_card(all_three, chosen)) == ["b"]
    assert default(render_card([all_three[0], all_three[2]], chosen)) == ["a"]
    mine = Readme("", "").with_keys({"configs": [{"config_name": "m", "data_files": "m/*.parquet", "default": True}]})
    assert default(render_card(all_three, mine.text())) == ["m"]
    assert default(render_card(all_three, mine.text(), CardChoices(default_config="c"))) == ["c"]


def test_what_a_person_added_to_the_entry_of_a_config_stays(manifest: Manifest) -> None:
    card = render_card([manifest])
    entry = {**data_of(card)["configs"][0], "columns": ["id", "latent"]}
    changed = Readme.parse(card).with_keys({"configs": [entry]})
    assert data_of(render_card([manifest], changed.text()))["configs"] == [entry]


def test_a_card_in_a_folder_keeps_its_words_while_configs_come(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(PERSON)
    for name in ("one", "two"):
        build_scenes(tmp_path, source=scenes(4, 16), config=name)
    card = path.read_text()
    assert card.split("---\n", 2)[2].startswith("# Scenes\n\nDrawn by us.\n\n<!-- latentstore:begin ")
    assert [entry["config_name"] for entry in data_of(card)["configs"]] == ["one", "two"]
    assert card.count("PSNR of all") == 2
