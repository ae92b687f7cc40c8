"""Whoever writes a manifest does not write the card: its texts stay texts, in tables, titles, links and code."""

from __future__ import annotations

import ast
import re
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import build_scenes, scenes
from strangers_words import WORDS, filled, places, replaced

from latentstore import Manifest, publish
from latentstore.card import CardChoices, refuse_foreign_card, render_card, validate_card, write_card
from latentstore.card.block import BEGIN, END, Body, Written
from latentstore.card.front_matter import LARGEST_CARD, Readme, read_card
from latentstore.card.words import plain_text, read_from_markdown
from latentstore.errors import LatentStoreError, ManifestError, PublishError, RequestError
from latentstore.printable import HIDDEN
from latentstore.publishing.local import local_words
from latentstore.publishing.merged_card import note_on, notes_of
from latentstore.remote_store import configs_on_card

CARDS = Path(__file__).parents[1] / "dataset_cards"
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def sample(config: str, **storage: Any) -> Manifest:
    """A published manifest with two classes, and something in every place."""
    manifest = Manifest.read(CARDS / config / config)
    psnr = manifest.quality["psnr"]
    classes = tuple(psnr.per_class)[:2]
    quality = {
        name: replace(metric, per_class={key: metric.per_class[key] for key in classes}, worst=metric.worst[:1])
        for name, metric in manifest.quality.items()
    }
    small = replace(
        manifest,
        source=replace(manifest.source, name="photos", classes=classes, revision="a" * 40, ingest=("expected 2",)),
        quality=quality,
        storage=replace(manifest.storage, **storage),
    )
    found: Manifest = filled(small)
    return found


SAMPLES = {
    "parquet": sample("synthetic-pool8"),
    "int8": sample("synthetic-demo-int8"),
    "tar": sample("synthetic-pool8", container="webdataset"),
}
SCORES = [20.0, 21.0, 30.0]


def rendered(manifest: Manifest, previous: str | None = None, *others: Manifest) -> str:
    choices = CardChoices(repo=None if previous else "someone/latents")
    return render_card([manifest, *others], previous, choices, scores={manifest.config: SCORES})


def separators(row: str) -> int:
    return re.sub(r"\\.", "", row).count("|")


def shape(card: str) -> dict[str, Any]:
    """What must not depend on any text: the parts of the page as a reader of Markdown finds them."""
    readme = Readme.parse(card)
    body = readme.body
    lines = [line for line in body.splitlines() if not line.startswith(BEGIN)]
    text = "\n".join(lines)
    prose = FENCED.sub("", text)
    spans = re.sub(r"(?<!\\)`[^`\n]*`", "", prose)
    return {
        "marks": (body.count(BEGIN), body.count(END)),
        "hidden": HIDDEN.findall(card.replace("\n", "")),
        "tags": sorted(re.findall(r"<[A-Za-z!/?][^>\n]*>?", text)),
        "entities": set(re.findall(r"&#?\w+;", spans)) - {"&lt;", "&amp;"},
        "blocks": [language for language, _ in FENCED.findall(text)] + [str(text.count("```"))],
        "headings": sum(line.startswith("#") for line in prose.splitlines()),
        "quotes": sum(line.startswith(">") for line in prose.splitlines()),
        "rows": [separators(line) for line in prose.splitlines() if line.startswith("|")],
        "links": len(re.findall(r"(?<!\\)\]\(", spans)),
        "keys": sorted(readme.data),
        "configs": len(readme.data.get("configs") or ()),
    }


def targets(card: str) -> list[str]:
    """Where the links lead; what the first mark says is a comment."""
    prose = re.sub(rf"^{BEGIN}.*$", "", FENCED.sub("", Readme.parse(card).body), flags=re.MULTILINE)
    prose = re.sub(r"(?<!\\)`[^`\n]*`", "", prose)
    return re.findall(r"(?<!\\)\]\(([^)]*)\)", prose)


SHAPES = {name: shape(rendered(manifest)) for name, manifest in SAMPLES.items()}
PLACES = {name: [*places(manifest)] for name, manifest in SAMPLES.items()}
TRIED = {
    name: [
        path
        for path in found
        if path[:2] != ("build", "plan") and (name == "parquet" or path == ("config",) or path not in PLACES["parquet"])
    ]
    for name, found in PLACES.items()
}


def test_every_text_of_a_manifest_is_among_the_places() -> None:
    found = {".".join(map(str, path)) for paths in PLACES.values() for path in paths}
    assert {"source.homepage", "source.notes.0", "vae.revision", "environment.device", "config", "posterior"} <= found
    assert {"environment.versions.('key', 'torch')", "source.classes.1", "quality.psnr.worst.0"} <= found
    assert len(found) > 100


@pytest.mark.parametrize("name", SAMPLES)
def test_a_text_of_a_stranger_changes_words_of_the_card_and_nothing_else(name: str) -> None:
    shown, word = 0, " ".join(WORDS.values())
    for path in TRIED[name]:
        evil = valid(replaced(SAMPLES[name], path, word))
        if evil is None:
            continue
        try:
            check_card(name, evil)
        except LatentStoreError:
            assert path[:2] == ("storage", "container") or path[0] == "columns", path
            continue
        except Exception as error:
            raise AssertionError(path) from error
        shown += 1
        if path[0] == "config":
            other = replace(SAMPLES[name], config="zz-other")
            assert shape(render_card([evil, other], rendered(evil)))["marks"] == (1, 1)
    assert shown > 60 or name != "parquet"  # a config of such a name is refused before it is shown


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_so_do_many_at_once(word: str) -> None:
    evil = SAMPLES["parquet"]
    for path in TRIED["parquet"]:
        if path[0] not in ("columns", "storage") and not isinstance(path[-1], tuple):
            evil = valid(replaced(evil, path, word)) or evil
    check_card("parquet", evil)


def valid(manifest: Manifest) -> Manifest | None:
    """None for what no reader lets in."""
    try:
        manifest.validate()
    except ManifestError:
        return None
    return manifest


def check_card(name: str, evil: Manifest) -> None:
    """The card of this manifest is that of the sample, in other words."""
    card = rendered(evil)
    assert shape(card) == SHAPES[name]
    assert card.encode().decode() == card
    assert all(re.match(r"https://huggingface\.co/|#|[\w.~%-]+/", target) for target in targets(card))
    for language, code in FENCED.findall(card):
        if language == "python":
            assert not any("::" in text for text in _strings(code) if text.startswith("https://"))
        elif language == "bash":
            words = [shlex.split(line) for line in code.splitlines()]
            assert [(line[:2], len(line)) for line in words] == [(["latentstore", "verify"], 5)]
    assert rendered(evil, card) == card
    features = Readme.parse(card).data["dataset_info"][0]["features"]
    (names,) = (feature["dtype"]["class_label"]["names"] for feature in features if "class_label" in str(feature))
    assert list(names.values()) == list(evil.source.classes or ())


def _strings(code: str) -> list[str]:
    return [
        node.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_code_on_the_card_has_the_very_name() -> None:
    name = WORDS["code"] + WORDS["hidden"] + WORDS["markdown"]
    card = rendered(replace(SAMPLES["parquet"], config=name))
    assert name in [text for _, code in FENCED.findall(card) if "load_latents" in code for text in _strings(code)]


def test_what_may_be_long_is_cut_and_what_must_be_exact_is_not() -> None:
    manifest = SAMPLES["parquet"]
    psnr = manifest.quality["psnr"]
    long = "x" * 100_000
    evil = replace(
        manifest,
        source=replace(manifest.source, name=long, citation=long, classes=(long, "b")),
        quality={**manifest.quality, "psnr": replace(psnr, per_class={long: 1.0, "b": 2.0}, worst=(long,))},
    )
    card = rendered(evil)
    assert len(card) < 200_000
    assert rendered(evil, card) == card
    larger = (
        r"The dataset card of all configs has 2,\d+,\d+ bytes, expected up to 2,097,152 in a dataset card: shorten it\."
    )
    with pytest.raises(LatentStoreError, match=larger):
        rendered(manifest, "x" * (LARGEST_CARD - 1000))
    with pytest.raises(
        LatentStoreError, match=r"README\.md has 2,097,153 bytes, expected up to 2,097,152 in a dataset"
    ):
        rendered(manifest, "x" * (LARGEST_CARD + 1))


# Notes ---------------------------------------------------------------------------------------------------------------


def test_a_note_of_someone_else_stays_words() -> None:
    manifest = SAMPLES["parquet"]
    forged = "> **Published with --force**: `one` fails `latentstore verify --quick`: <img src=x> [a](javascript:b)"
    before = f"{forged}\n\n{rendered(manifest)}"
    assert notes_of(before, {"one"}) == {}  # a person's own words are no note
    card = render_card([manifest], notes=[forged])
    (note,) = notes_of(card, {"one"}).values()
    assert "&lt;img src=x> \\[a\\](javascript:b)" in note
    again = render_card([manifest], card, notes=[note])
    assert notes_of(again, {"one"}) == {"one": note}
    assert notes_of(again, {"two"}) == {}


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_a_note_is_the_same_whoever_writes_the_card_again(word: str) -> None:
    manifest = SAMPLES["parquet"]
    note = note_on("one", word)
    card = render_card([manifest], notes=[note])
    assert notes_of(card, {"one"}) == {"one": note}
    assert render_card([manifest], card, notes=[note]) == card
    assert {**shape(card), "quotes": 0} == {**shape(render_card([manifest])), "quotes": 0}


@given(st.text(st.characters(codec="utf-8"), max_size=80) | st.text("\\`*[]|<&;#x1lt am", max_size=40))
def test_text_can_be_read_back_from_markdown(text: str) -> None:
    written = plain_text(text)
    assert plain_text(read_from_markdown(written)) == written
    assert re.sub(r"\\.", "", written).count("<") == 0


# READMEs of strangers -------------------------------------------------------------------------------------------------

FRAGMENTS = (
    *(
        "a: 1\n",
        "tags: [x]\n",
        "- b\n",
        "? [c]\n: d\n",
        "configs:\n",
        "  ",
        "\t",
        "|\n",
        ">-\n",
        "{",
        "}",
        "[",
        "]",
        ",",
    ),
    *(
        '"',
        "'",
        "&a ",
        "*a",
        "!!int ",
        "!!bool x\n",
        "!!timestamp x\n",
        "!!binary x\n",
        "!!set {x}\n",
        "!!python/x ",
        "<<: ",
    ),
    *(
        "2001-99-99\n",
        "9999-12-31T23:59:59-23:59\n",
        "1:1:1:1\n",
        "0x" + "f" * 500,
        ".inf\n",
        "...\n",
        "%YAML 1.1\n",
        "#\n",
    ),
    *("dataset_info: {config_name: [x], splits: 3}\n", "license: [[x]]\n", "pretty_name: {a: b}\n", "2001-01-01: y\n"),
    *("configs: [{config_name: [x], data_files: [{split: [a], path: {b: c}}]}]\n", "size_categories: {x: y}\n"),
    *(
        "configs: [{config_name: x, data_files: '[z-a]*', 2001-01-01: !!binary eA==}]\n",
        "\x00",
        "\u2028",
        "\r\n",
        "é: ü\n",
    ),
)
REMARKS = (
    *(
        f"{BEGIN} {{}} -->\n",
        f"{END}\n",
        f'{BEGIN} {{"configs": [], "keys": {{"tags": 3}}, "repo": null}} -->\n',
        "x\n",
    ),
    *(f'{BEGIN} {{"configs": ["x"], "keys": {{"tags": "abc"}}, "repo": "a::pipe:id"}} -->\n', f"{BEGIN} [1] -->\n"),
    f"{BEGIN} {'{' * 3000} }} -->\n",
)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=8), st.lists(st.sampled_from(REMARKS), max_size=3))
def test_a_readme_of_a_stranger_is_merged_or_refused_in_one_sentence(block: list[str], body: list[str]) -> None:
    manifest = SAMPLES["tar"]
    text = f"---\n{''.join(block)}\n---\n{''.join(body)}"
    problems = validate_card(text, [manifest], ["synthetic-pool8/train-00000-of-00001.tar", "README.md"])
    assert all(isinstance(sentence, str) for sentence in problems)
    try:
        card = render_card([manifest], text)
    except LatentStoreError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 (either outcome is right)
        return
    assert render_card([manifest], card) == card
    validate_card(card, [manifest], [])


KEYS = ("license", "license_name", "pretty_name", "language", "tags", "size_categories", "source_datasets", "configs")
INNER = (
    "config_name",
    "data_files",
    "data_dir",
    "default",
    "split",
    "path",
    "splits",
    "name",
    "num_examples",
    "features",
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "x", "other", "[z-a]*", "**/**/**x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=25)
@given(st.dictionaries(st.sampled_from((*KEYS, "dataset_info")), VALUES, max_size=4), VALUES)
def test_a_front_matter_of_any_kind_of_values_is_merged_or_refused(data: dict[str, Any], before: Any) -> None:
    manifest, files = SAMPLES["tar"], ["synthetic-pool8/train-00000-of-00001.tar", "README.md"]
    text = Readme("", Body("", None, "").with_block("", Written((), {"tags": before, "language": before}))).with_keys(
        data
    )
    validate_card(text.text(), [manifest], files)
    card = render_card([manifest], text.text())
    assert render_card([manifest], card) == card
    validate_card(card, [manifest], files)


def bounded(kind: str) -> str:
    """A million bytes of what an expression could go through again and again."""
    lines = {
        "blank lines": "---\na: |\n" + "\n" * 200_000 + "  x\n---\n",
        "no end of the block": "---\n" + "\n" * 1_000_000,
        "lines of dashes": "---\n" + "--- x\n" * 160_000,
        "first marks": f"{BEGIN} {{}} -->\n" * 30_000,
        "last marks": f"{END}\n" * 40_000,
        "notes": render_card([], "> **Published with --force**: `\n" * 30_000),
        "brackets": "---\na: " + "[" * 1_000_000 + "\n---\n",
        "questions": "---\n" + "? " * 500_000 + "\n---\n",
        "quotes": '---\na: "' + "x" * 1_000_000 + "\n---\n",
        "names of configs": "- config_name: " + " " * 500_000 + "x" * 500_000 + " !\n",
        "numbers": "---\na: 1" + ":1" * 300_000 + "\n---\n",
    }
    return lines[kind]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("blank lines", ""),
        ("no end of the block", ""),
        ("lines of dashes", ""),
        ("first marks", "README.md must have the line that starts with"),
        ("last marks", "README.md must have the line that starts with"),
        ("notes", ""),
        (
            "brackets",
            "cannot be read (expected up to 100,000 values, up to 64 inside of each other): mend or remove it.",
        ),
        (
            "questions",
            "cannot be read (expected up to 100,000 values, up to 64 inside of each other): mend or remove it.",
        ),
        ("quotes", "cannot be read (while scanning a quoted scalar"),
        ("names of configs", ""),
        ("numbers", "cannot be read (a number has 600,001 signs): mend or remove it."),
    ],
)
def test_a_million_bytes_of_one_thing_are_gone_through_once(kind: str, sentence: str) -> None:
    text, before = bounded(kind), time.process_time()
    assert configs_on_card(text) == []
    found = ""
    try:
        notes_of(text, {"x"})
        render_card([SAMPLES["parquet"]], text)
    except LatentStoreError as error:
        found = str(error)
    assert sentence in found
    assert bool(sentence) == bool(found)
    assert (
        time.process_time() - before < 20
    )  # seconds; what is gone through again at each line takes a minute or an hour


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("a: &x [1]\nb: *x\n", "the name 'x' stands for another value: write it out"),
        ("b: *x\n", "the name 'x' stands for another value: write it out"),
        ("a: {<<: {b: 1}}\n", "'<<' stands for other keys: write them out"),
        ("a:\n" + "- 1\n" * 1000, "expected up to 1,000 values, up to 64 inside of each other"),
        ("a: " + "[" * 65 + "]" * 65 + "\n", "expected up to 1,000 values, up to 64 inside of each other"),
        ("a: " + "9" * 401 + "\n", "a number has 401 signs"),
    ],
)
def test_what_is_larger_than_a_card_needs_is_refused(block: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentstore.card.front_matter.MOST_VALUES", 1000)
    with pytest.raises(RequestError) as caught:
        render_card([SAMPLES["parquet"]], f"---\n{block}---\n")
    expected = f"The YAML block at the top of README.md cannot be read ({reason}): mend or remove it."
    assert str(caught.value) == expected
    assert validate_card(f"---\n{block}---\n", []) == [expected]


def test_what_a_card_needs_is_not_refused() -> None:
    classes = tuple(f"a class of pictures, number {number}" for number in range(4000))
    manifest = replace(SAMPLES["parquet"], source=replace(SAMPLES["parquet"].source, classes=classes))
    card = render_card([manifest])
    features = Readme.parse(card).data["dataset_info"][0]["features"]
    assert classes[-1] in str(features)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("- config_name: one\n", ["one"]),
        ("- config_name: 'one'  \r\n", ["one"]),
        ('- config_name: "1.0"\n', ["1.0"]),
        ('- config_name: "\n', []),
        ('- config_name: "\\x"\n', []),
        ("- config_name: 'one\n", []),
        ("- config_name: \"one'\n", []),
        ("- config_name: ../one\n", []),
        ("- config_name: \n", []),
    ],
)
def test_names_on_a_card_are_those_that_a_config_can_have(line: str, names: list[str]) -> None:
    assert configs_on_card(f"---\nconfigs:\n{line}---\n") == names


def test_a_readme_that_is_larger_than_a_card_stops_before_it_is_read(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    with card.open("wb") as file:
        file.truncate(LARGEST_CARD + 1)
    sentence = f"{card} has 2,097,153 bytes, expected up to 2,097,152 in a dataset card: shorten it."
    for read in (lambda: read_card(card), lambda: local_words(tmp_path), lambda: write_card(tmp_path)):
        with pytest.raises(RequestError) as caught:
            read()
        assert str(caught.value) == sentence
    with pytest.raises(RequestError, match="cannot take a dataset card: .* has 2,097,153 bytes"):
        refuse_foreign_card(tmp_path)
    card.write_bytes(b"\xff")
    with pytest.raises(RequestError, match=r"README\.md is no text in UTF-8 \(.*\): mend or remove it\."):
        write_card(tmp_path)


def test_a_published_readme_that_is_larger_than_a_card_stops_a_push_in_one_sentence(tmp_path: Path) -> None:
    build_scenes(tmp_path / "local", source=scenes(4, 16))
    place = tmp_path / "place"
    place.mkdir()
    (place / "README.md").write_bytes(b"x" * (LARGEST_CARD + 1))
    with pytest.raises(
        PublishError, match=r"README\.md of .* has 2,097,153 bytes, expected up to 2,097,152 in a dataset"
    ):
        publish(tmp_path / "local", place, choices=CardChoices(license="mit"))
