"""The offline validator: each mistake that the Hub or `datasets` would refuse is found, and named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scenes import build_scenes, scenes

from latentstore import CONTAINERS, Manifest
from latentstore.card import CardChoices, render_card, validate_card
from latentstore.card.checks import matches
from latentstore.card.front_matter import Readme
from latentstore.card.vocabulary import LICENCES, SIZE_CATEGORIES, TASKS, size_category


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Manifest], str, list[str]]:
    """Manifests, card and files of a repository of two configs."""
    out = tmp_path_factory.mktemp("two")
    manifests = [build_scenes(out, source=scenes(4, 16), config=name, rows_per_shard=2) for name in ("one", "two")]
    files = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    return manifests, (out / "README.md").read_text(), files


def problems(repository: tuple[list[Manifest], str, list[str]], *, files: list[str] | None = None, **keys: Any) -> str:
    manifests, card, found = repository
    changed = Readme.parse(card).with_keys(keys).text()
    return "\n".join(validate_card(changed, manifests, found if files is None else files))


def configs(*, one: Any = ..., **changes: Any) -> list[dict[str, Any]]:
    """The entries of both configs, with changes to the first."""
    entries: list[dict[str, Any]] = [
        {"config_name": name, "data_files": [{"split": "train", "path": f"{name}/train-*.parquet"}]}
        for name in ("one", "two")
    ]
    entries[0] |= {"default": True, **changes}
    if one is not ...:
        entries[0]["data_files"] = one
    return entries


def test_a_rendered_card_has_no_problems(repository: tuple[list[Manifest], str, list[str]]) -> None:
    manifests, card, files = repository
    assert validate_card(card, manifests, files) == []
    assert problems(repository, configs=configs()) == ""
    licensed = render_card(
        manifests, card, CardChoices(license="other", license_name="mine", license_link="https://example.org")
    )
    assert validate_card(licensed, manifests, files) == []


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"license": "cc-by-5.0"}, "license: the Hub does not know 'cc-by-5.0'"),
    ({"license": ["mit", "nonsense"]}, "license: the Hub does not know 'nonsense'"),
    ({"license": "other"}, "license: 'other' wants license_name beside it."),
    ({"license": "other", "license_name": "mine"}, "license: 'other' wants license_link beside it."),
    ({"size_categories": ["lots"]}, "size_categories: the Hub does not know 'lots'."),
    ({"task_categories": ["latent-magic"]}, "task_categories: the Hub does not know 'latent-magic'."),
    ({"tags": ["a", 3]}, "tags: expected texts, found 3."),
    ({"pretty_name": ["a"]}, "pretty_name: expected a text, found ['a']."),
    ({"configs": "one"}, "configs: expected a list of entries with a text config_name each."),
    ({"configs": [{"data_files": "a"}, *configs()]}, "configs: expected a list of entries with a text config_name"),
    ({"configs": [*configs(), configs()[1]]}, "configs: 'two' is there 2 times."),
    ({"configs": configs()[:1]}, "configs: 'two' is missing, so that `datasets` does not find it."),
    ({"configs": [*configs(), {"config_name": "data", "data_files": "x/*.parquet"}]}, "'data' cannot be the name"),
    ({"configs": [*configs(), {"config_name": "a/b", "data_files": "x/*.parquet"}]}, "'a/b' cannot be the name"),
    ({"configs": configs(default=False)}, "configs: expected one default of 2 configs, found none."),
    (
        {"configs": [{**entry, "default": True} for entry in configs()]},
        "expected one default of 2 configs, found one, two",
    ),
    ({"configs": configs(one=3)}, "configs: data_files of 'one' must be a pattern, several, or a list of split"),
    (
        {"configs": configs(one=[{"split": "train"}])},
        "data_files of 'one' must have 'split' and 'path' and nothing else",
    ),
    ({"configs": configs(one=[{"split": "my-train", "path": "one/*"}])}, "'my-train' of 'one' cannot be the name of a"),
    ({"configs": configs(one=[{"split": "train", "path": 3}])}, "configs: path of 'one' must be a pattern or a list"),
    (
        {"configs": configs(one=[{"split": "train", "path": "one/train-*.parquet"}] * 2)},
        "configs: 'one' has the split 'train' twice.",
    ),
    (
        {"configs": configs(one=[{"split": "train", "path": "one/*"}])},
        "configs: one/* of 'one' also matches one/manifest.json, which is no shard of 'train'.",
    ),
    (
        {"configs": configs(one=[{"split": "train", "path": "one/train-00000-*.parquet"}])},
        "configs: no pattern of 'one', split 'train', matches the shard one/train-00001-of-00002.parquet",
    ),
    (
        {"configs": [*configs(), {"config_name": "mine", "data_files": "mine/*.csv"}]},
        "configs: mine/*.csv of 'mine' matches no file.",
    ),
    (
        {"configs": [*configs(), {"config_name": "mine", "data_files": "mine/*.csv"}]},
        "reads all configs of a repository in one way, and these are of several: .parquet (one), .csv (mine).",
    ),
    ({"dataset_info": None}, "dataset_info: 'one' is missing."),
    ({"dataset_info": [{"config_name": "three"}]}, "dataset_info: 'three' is not among the configs."),
    ({"dataset_info": [{"config_name": "one", "splits": []}]}, "split 'train' of 'one' has 4 rows, the card says 0."),
    ({"dataset_info": [{"config_name": "one"}]}, "the features of 'one' are not those of its shards."),
]


@pytest.mark.parametrize(("keys", "message"), MISTAKES, ids=[message[:50] for _, message in MISTAKES])
def test_a_mistake_is_named(
    repository: tuple[list[Manifest], str, list[str]], keys: dict[str, Any], message: str
) -> None:
    assert message in problems(repository, **keys)


def test_a_shard_that_is_not_there_and_a_file_too_many_are_named(
    repository: tuple[list[Manifest], str, list[str]],
) -> None:
    files = [file for file in repository[2] if file != "two/train-00000-of-00002.parquet"]
    assert "matches the shard two/train-00000-of-00002.parquet, or it is not there" in problems(repository, files=files)
    files = [*repository[2], "two/train-old.parquet"]
    assert "of 'two' also matches two/train-old.parquet" in problems(repository, files=files)


def test_a_split_that_the_manifest_does_not_have_is_named(repository: tuple[list[Manifest], str, list[str]]) -> None:
    info = Readme.parse(repository[1]).data["dataset_info"]
    info[0]["splits"].append({"name": "test", "num_examples": 0})
    assert "dataset_info: 'one' names splits that it does not have." in problems(repository, dataset_info=info)


def test_a_card_that_datasets_does_not_find_is_named(repository: tuple[list[Manifest], str, list[str]]) -> None:
    manifests, card, files = repository
    assert "does not begin with the line '---'" in validate_card("\n" + card, manifests, files)[0]
    assert "does not begin with the line '---'" in validate_card("# words", manifests, files)[0]
    assert "cannot be read" in validate_card("---\na: [\n---\n", manifests, files)[0]


def test_a_folder_of_the_builders_machine_is_named(repository: tuple[list[Manifest], str, list[str]]) -> None:
    manifests, card, files = repository
    source = replace(manifests[0].source, location="/home/someone/photos")
    found = validate_card(
        card + "from /home/someone/photos\n", [replace(manifests[0], source=source), manifests[1]], files
    )
    assert found == ["The card names '/home/someone/photos', a folder of the machine where 'one' was built."]


def test_of_both_containers_the_card_lists_one(repository: tuple[list[Manifest], str, list[str]]) -> None:
    manifests, _, files = repository
    tar = replace(manifests[0], config="tar", storage=replace(manifests[0].storage, container="webdataset"))
    assert CONTAINERS["webdataset"].builder != CONTAINERS["parquet"].builder
    assert validate_card(render_card([*manifests, tar]), [*manifests, tar], files) == []


@pytest.mark.parametrize(
    ("pattern", "path", "taken"),
    [
        ("a/train-*.parquet", "a/train-00000-of-00001.parquet", True),
        ("a/train-*.parquet", "a/b/train-0.parquet", False),
        ("a/train-*.parquet", "a/train-b/0.parquet", False),
        ("a/**/x.csv", "a/x.csv", True),
        ("a/**/x.csv", "a/b/c/x.csv", True),
        ("**", "a/b", True),
        ("a/?.csv", "a/b.csv", True),
        ("a/[bc].csv", "a/b.csv", True),
        ("a/[!bc].csv", "a/b.csv", False),
        ("a.csv", "aXcsv", False),
    ],
)
def test_patterns_match_as_those_of_datasets(pattern: str, path: str, *, taken: bool, tmp_path: Path) -> None:
    from fsspec.implementations.local import LocalFileSystem

    assert matches(pattern, path) is taken
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("")
    found = LocalFileSystem().glob(f"{tmp_path}/{pattern}")
    assert (str(tmp_path / path) in [str(name) for name in found]) is taken


def test_the_categories_of_size_are_those_of_datasets() -> None:
    import json

    import datasets

    known = json.loads((Path(datasets.__file__).parent / "utils/resources/size_categories.json").read_text())
    assert set(known) == SIZE_CATEGORIES
    assert [size_category(rows) for rows in (0, 999, 1000, 31_500, 10**12)] == [
        *("n<1K", "n<1K", "1K<n<10K", "10K<n<100K", "n>1T")
    ]


def test_the_tasks_of_datasets_that_are_still_used_are_known() -> None:
    from datasets.utils.metadata import known_task_ids

    assert set(known_task_ids) - TASKS == {"conversational"}
    assert {"cc-by-4.0", "mit", "apache-2.0", "openrail++", "other", "unknown"} <= LICENCES
