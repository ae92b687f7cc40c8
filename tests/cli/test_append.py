"""`latentstore build --append` as it is typed: with --status, over streams, and what `show` says of it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from latentstore import Manifest
from latentstore.errors import RequestError
from latentstore.json_records import plain
from latentstore.manifest import with_digest
from latentstore.manifest.names import JOURNAL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import DrawPictures, Run


@pytest.fixture
def command(tmp_path: Path, draw_pictures: DrawPictures) -> tuple[object, ...]:
    """What made the dataset, and of a source that has gained six pictures since."""
    found = ("build", draw_pictures(tmp_path / "tiny"), "--vae", "pool8", "--out", tmp_path / "out", "--threads", "1")
    return (*found, "--rows-per-shard", "2")


@pytest.fixture
def grown(run: Run, command: tuple[object, ...], tmp_path: Path, draw_pictures: DrawPictures) -> Path:
    """The folder of that dataset."""
    assert run(*command).exit_code == 0
    draw_pictures(tmp_path / "more", seed=1)
    for place, path in enumerate(sorted((tmp_path / "more").rglob("*.png"))):
        path.rename(tmp_path / "tiny" / path.parent.name / f"new-{place}.png")
    return tmp_path / "out" / "tiny-pool8"


def test_status_beside_append_only_looks(
    run: Run, command: tuple[object, ...], grown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(*command, "--append", "--status", grown)
    assert before.exit_code == 0, before.stderr
    assert f"{grown}: complete" in before.stdout
    assert not (grown / JOURNAL).exists()

    def full(*_: object, **__: object) -> None:
        message = "no room"
        raise RequestError(message)

    with monkeypatch.context() as patched:
        patched.setattr("latentstore.append_sealing.write_preview", full)
        assert run(*command, "--append").exit_code == 1
    found = run(*command, "--append", "--status", grown, "--json")
    assert found.exit_code == 0, found.stderr
    status = json.loads(found.stdout)
    status = status[0] if isinstance(status, list) else status
    assert (status["sealed"], len(status["shards"])) == (False, 6)
    assert {shard["state"] for shard in status["shards"]} == {"finished"}
    assert Manifest.read(grown).rows == 6
    assert (grown / JOURNAL).is_dir()
    assert run(*command, "--append").stdout.startswith("Added 6 pictures to tiny-pool8 in ")
    assert Manifest.read(grown).rows == 12


def test_show_says_what_was_added_and_by_which_other_versions(
    run: Run, command: tuple[object, ...], grown: Path
) -> None:
    assert run(*command, "--append").exit_code == 0
    assert "\n  appended  6 pictures\n" in run("show", grown).stdout
    manifest = plain(Manifest.read(grown))
    manifest["build"]["appended"][0]["versions"] |= {"torch": "9.0"}
    (grown / "manifest.json").write_text(with_digest(manifest))
    now = manifest["environment"]["versions"]["torch"]
    assert f"\n  appended  6 pictures, by torch 9.0 in place of {now}\n" in run("show", grown).stdout


def test_show_counts_the_pictures_that_were_converted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "grey").mkdir()
    Image.new("L", (16, 16), 7).save(tmp_path / "grey" / "a.png")
    Image.new("P", (16, 16), 7).save(tmp_path / "grey" / "b.png")
    options = ("--vae", "pool8", "--out", tmp_path / "out", "--views", "identity,hflip")
    assert run("build", tmp_path / "grey", *options).exit_code == 0
    assert "  converted  1 picture: grey to RGB; 1 picture: palette to RGB\n" in run("show", tmp_path / "out").stdout


def test_a_stream_that_has_grown_is_appended_to_and_one_whose_pictures_moved_is_refused(
    run: Run, tmp_path: Path
) -> None:
    def parquet(name: str, *colours: int) -> None:
        rows = []
        for colour in colours:
            file = io.BytesIO()
            Image.new("RGB", (16, 16), (colour, 90, 40)).save(file, "PNG")
            rows.append({"bytes": file.getvalue(), "path": None})
        (tmp_path / "set" / "data").mkdir(parents=True, exist_ok=True)
        made = Dataset.from_dict({"image": rows}, features=Features({"image": ImageFeature()}))
        made.to_parquet(tmp_path / "set" / "data" / f"train-{name}.parquet")

    parquet("1", 10, 20, 30)
    options = ("--streaming", "--order", "source", "--vae", "pool8", "--out", tmp_path / "out")
    command = ("build", f"hub:{tmp_path / 'set'}", *options)
    assert run(*command).exit_code == 0
    assert run(*command, "--append").stdout.startswith("Nothing to append: ")
    parquet("2", 40)
    added = run(*command, "--append")
    assert added.stdout.startswith("Added 1 picture to set-pool8 in "), added.stderr
    parquet("0", 50)
    refused = run(*command, "--append")
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].endswith(
        "Nothing can be added from source 'set', because new pictures cannot be told from old ones: they are known by "
        "their places only, and place 0 of split 'train' holds another one ('train/00000000') than the dataset has of "
        "it ('train/00000000'); build all of them into another --config."
    )
