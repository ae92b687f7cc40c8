"""What of a local dataset is published, and what stays on the machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from publishing_words import CONFIG

from latentstore import Manifest
from latentstore.publishing.local import local_configs, without_local_paths


@pytest.fixture
def manifest(drawn: Path) -> Manifest:
    return Manifest.read(drawn / CONFIG)


@pytest.mark.parametrize(
    ("name", "repo", "revision", "published"),
    [
        ("taef2", "/home/someone/weights/taef2", None, None),
        ("taef2", "weights/taef2", None, None),
        ("taef2", "madebyollin/taef2", None, "madebyollin/taef2"),
        ("mine", "someone/mine", "a" * 40, "someone/mine"),
        ("mine", "~/mine", "a" * 40, None),
        ("pool8", None, None, None),
    ],
)
def test_weights_are_named_by_their_hub_repository_or_not_at_all(
    manifest: Manifest, name: str, repo: str | None, revision: str | None, published: str | None
) -> None:
    built = replace(manifest, vae=replace(manifest.vae, name=name, repo=repo, revision=revision))
    assert without_local_paths(built).vae.repo == published


@pytest.mark.parametrize(
    ("reader", "location", "published"),
    [
        ("open_image_folder", "/data/someone/my scenes/", "my scenes"),
        ("open_image_folder", "C:\\data\\scenes", "scenes"),
        ("open_image_folder", "scenes", "scenes"),
        ("open_hub_images", "blanchon/AID", "blanchon/AID"),
        ("open_hub_images", "/data/downloaded/AID", "AID"),
        ("open_synthetic", "", ""),
    ],
)
def test_of_a_folder_of_pictures_its_name_is_left(
    manifest: Manifest, reader: str, location: str, published: str
) -> None:
    plan = {**manifest.build.plan, "location": location, "options": {"labels": "/data/labels.csv", "count": 3}}
    built = replace(
        manifest,
        source=replace(manifest.source, reader=reader, location=location, options=plan["options"]),
        build=replace(manifest.build, plan=plan),
    )
    found = without_local_paths(built)
    assert found.source.location == found.build.plan["location"] == published
    assert found.source.options == found.build.plan["options"] == {"labels": "labels.csv", "count": 3}


def test_a_manifest_without_local_paths_is_published_to_the_byte(drawn: Path) -> None:
    config = local_configs(drawn)[0]
    assert config.manifest_file.source == (drawn / CONFIG / "manifest.json").read_bytes()


def test_a_config_can_be_named_by_its_own_folder(drawn: Path) -> None:
    own, repository = local_configs(drawn / CONFIG)[0], local_configs(drawn)[0]
    assert own == repository
    assert [file.path for file in own.data] == [
        *(f"{CONFIG}/train-{number:05}-of-00003.parquet" for number in range(3)),
        f"{CONFIG}/index.parquet",
        f"{CONFIG}/preview.png",
    ]
