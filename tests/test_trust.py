"""What a manifest names is written by whoever made the dataset: nothing of it is opened that no user or table named."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import save_checkpoint
from click.testing import CliRunner
from forged import edit_manifest
from latentstore_cli.main import main
from scenes import build_scenes, plan, scenes, write_pictures

from latentstore import (
    SOURCES,
    STORAGES,
    VAES,
    VaeRow,
    VerifyReport,
    build,
    convert,
    folder_source,
    hub_source,
    load_latents,
    open_store,
    verify,
)
from latentstore.errors import SourceError, UntrustedError, VaeError
from latentstore.manifest import Manifest, VaeInfo
from latentstore.remeasure import needs_trust
from latentstore.sources import table as sources_table
from latentstore.vaes import checkpoint
from latentstore.vaes.table import kl_checkpoint, row_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path, drawn: Path) -> Path:
    """A copy of a sealed config that a test may tamper with; its manifest has a right digest again afterwards."""
    return Path(shutil.copytree(drawn / "synthetic-pool8", tmp_path / "synthetic-pool8"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user built from a folder of pictures, with a VAE of a folder: ``photos``, ``vae`` and ``out`` in it."""
    root = tmp_path_factory.mktemp("own")
    photos = write_pictures(root / "photos", {f"sea/{name}.png": (16, 16) for name in "abc"})
    save_checkpoint(root / "vae", "sd21")
    build(plan(source=folder_source(str(photos)), vae=kl_checkpoint(str(root / "vae")), config="mine"), root / "out")
    return root


def notes(report: VerifyReport) -> dict[str, str]:
    return {result.check: result.note for result in report.results if result.status == "not run"}


def nobody_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a source or a checkpoint fails the test."""
    for name, reader in sources_table.READERS.items():
        monkeypatch.setitem(sources_table.READERS, name, _forbidden(reader.__name__))
    monkeypatch.setattr(checkpoint, "folder_of", _forbidden("folder_of"))
    monkeypatch.setattr(checkpoint, "fetch_files", _forbidden("fetch_files"))


def _forbidden(name: str) -> Any:
    def opened(*_: Any, **__: Any) -> Any:
        pytest.fail("what a manifest names was opened")

    opened.__name__ = name
    return opened


# A user's own dataset -------------------------------------------------------------------------------------------------


def test_a_dataset_of_ones_own_is_verified_whole_where_it_is_trusted(own: Path) -> None:
    assert notes(verify(own / "out", trust=True)) == {}
    assert verify(own / "out", trust=True).ok


def test_without_a_word_its_source_and_vae_are_not_opened_and_the_checks_say_what_to_give(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody_is_opened(monkeypatch)
    report = verify(own / "out", depth="full")
    assert report.ok
    vae = (
        f"The dataset names {str(own / 'vae')!r} as its VAE 'vae', which is no row of the table and is not opened "
        "unasked: give --vae-location FOLDER (vae=ROW in Python), or --trust (trust=True)."
    )
    source = (
        f"The dataset names {str(own / 'photos')!r} as its source 'photos', which is no row of the table and is not "
        "opened unasked: give --source SOURCE (source=ROW in Python), or --trust (trust=True)."
    )
    needs = {"quality": "needs identity", "likeness": "needs identity"}
    assert notes(report) == {"identity": vae, **needs, "source": source}


def test_naming_the_places_is_the_users_word(own: Path) -> None:
    source, vae = folder_source(str(own / "photos")), replace(kl_checkpoint(str(own / "vae")), name="vae")
    assert notes(verify(own / "out", source=source, vae=vae)) == {}
    assert set(notes(verify(own / "out", source=source))) == {"identity", "quality", "likeness"}
    assert set(notes(verify(own / "out", vae=vae))) == {"quality", "source"}


def test_decoding_refuses_and_says_what_to_give(own: Path) -> None:
    dataset = load_latents(own / "out")
    latents = dataset.batch([0, 1])["latent"]
    with pytest.raises(UntrustedError, match=r"as its VAE 'vae', .* give --vae-location FOLDER \(vae=ROW in Python\)"):
        dataset.decode(latents)
    with pytest.raises(UntrustedError, match="as its VAE 'vae'"):
        load_latents(own / "out", decode=True)[0]
    with pytest.raises(UntrustedError, match="as its VAE 'vae'"):
        open_store(own / "out").load_vae()
    trusted = load_latents(own / "out", trust=True).decode(latents)
    named = load_latents(own / "out", vae=kl_checkpoint(str(own / "vae"))).decode(latents)
    assert torch.equal(trusted, named)


def test_converting_refuses_unless_nothing_is_measured(own: Path, tmp_path: Path) -> None:
    with pytest.raises(UntrustedError, match=r"\(trust=True\), or leave all scores out with --no-measure\.$"):
        convert(own / "out", tmp_path / "a", storage=STORAGES["int8"])
    assert not list(tmp_path.glob("a/*/*"))
    with pytest.raises(UntrustedError, match=r"\(trust=True\)\.$"):
        convert(own / "out", tmp_path / "a", storage="auto")
    assert convert(own / "out", tmp_path / "b", storage=STORAGES["int8"], measure=False).metrics == ()
    assert convert(own / "out", tmp_path / "c", storage=STORAGES["int8"], trust=True).metrics
    assert convert(own / "out", tmp_path / "d", layout="fast").metrics  # nothing is measured again


def test_adding_to_a_dataset_opens_what_the_plan_names_and_not_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_pictures(tmp_path / "photos", {f"sea/{name}.png": (16, 16) for name in "abc"})
    save_checkpoint(tmp_path / "vae", "sd21")
    wanted = plan(source=folder_source(str(photos)), vae=kl_checkpoint(str(tmp_path / "vae")), config="mine")
    build(wanted, tmp_path / "out")
    edit_manifest(tmp_path / "out" / "mine", "vae.repo", "/home/somebody/weights")
    edit_manifest(tmp_path / "out" / "mine", "source.location", "/etc")
    opened: list[str] = []
    folder_of = checkpoint.folder_of

    def noted(row: VaeRow, *choices: Any) -> Path:
        opened.append(row.repo)
        return folder_of(row, *choices)

    monkeypatch.setattr(checkpoint, "folder_of", noted)
    write_pictures(photos, {"sea/d.png": (16, 16)})
    assert build(wanted, tmp_path / "out", append=True).rows == 4
    assert set(opened) == {str(tmp_path / "vae")}


def test_the_command_line_says_trust_where_it_is_needed(own: Path, tmp_path: Path) -> None:
    run = CliRunner()
    untrusted = run.invoke(main, ["verify", str(own / "out")])
    assert untrusted.exit_code == 0
    assert "4 not run" in untrusted.output.splitlines()[0]
    for option in (["--trust"], ["--source", str(own / "photos"), "--vae-location", str(own / "vae")]):
        given = run.invoke(main, ["verify", str(own / "out"), *option])
        assert "not run" not in given.output.splitlines()[0], given.output
    refused = run.invoke(main, ["convert", str(own / "out"), "--out", str(tmp_path), "--storage", "int8"])
    assert refused.exit_code == 1
    converted = run.invoke(main, ["convert", str(own / "out"), "--out", str(tmp_path), "--storage", "int8", "--trust"])
    assert converted.output.rstrip().endswith(f"latentstore verify {tmp_path} --config mine --trust")


def test_links_that_a_manifest_would_have_followed_are_not_by_naming_a_folder(own: Path, tmp_path: Path) -> None:
    photos = Path(shutil.copytree(own / "photos", tmp_path / "photos"))
    build(plan(source=folder_source(str(photos), follow_links=True)), tmp_path / "out")
    run = CliRunner()
    refused = run.invoke(main, ["verify", str(tmp_path / "out"), "--source", str(photos)])
    assert refused.exit_code == 1
    assert "was built with --follow-links, and links out of" in refused.output
    assert run.invoke(main, ["verify", str(tmp_path / "out"), "--source", str(photos), "--trust"]).exit_code == 0


# Rows of the tables ---------------------------------------------------------------------------------------------------


def test_drawn_scenes_and_vaes_of_the_table_need_no_word(drawn: Path) -> None:
    assert needs_trust(open_store(drawn).manifest) is False
    assert notes(verify(drawn)) == {}
    latents = load_latents(drawn).batch([0])["latent"]
    assert load_latents(drawn).decode(latents).shape == (1, 3, 40, 40)


VAE_PLACES: dict[str, dict[str, Any]] = {
    "a folder": {"repo": "/home/somebody/weights"},
    "a folder below": {"repo": "./weights"},
    "another repository": {"repo": "somebody/else"},
    "an address": {"repo": "https://example.org/vae"},
    "a branch": {"repo": "madebyollin/taesd", "revision": "refs/pr/1"},
    "a pull request": {"repo": "madebyollin/taesd", "revision": "main"},
    "a name that is not known": {"name": "mine", "repo": "madebyollin/taesd", "revision": COMMIT},
    "another shape": {"channels": 5, "repo": "madebyollin/taesd"},
    "a checkpoint": {"name": "mine", "class_name": "AutoencoderKL", "repo": "somebody/vae", "subfolder": "../.."},
}


@pytest.mark.parametrize("place", VAE_PLACES)
def test_a_vae_elsewhere_is_refused_without_looking(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_is_opened(monkeypatch)
    monkeypatch.setattr(Path, "is_dir", _forbidden("is_dir"))
    row = VAES["taesd"]
    info = VaeInfo("taesd", row.class_name, row.repo, "", None, None, row.stride, row.channels, row.licence)
    with pytest.raises(UntrustedError, match="is not opened unasked: give --vae-location FOLDER"):
        row_of(replace(info, **VAE_PLACES[place]))


def test_a_vae_of_the_table_is_read_at_the_recorded_commit_unless_the_row_pins_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = VAES["taesd"]
    info = VaeInfo("taesd", row.class_name, row.repo, "x/../..", COMMIT, None, row.stride, row.channels, row.licence)
    assert row_of(info) == replace(row, revision=COMMIT)  # in the row's subfolder, whatever the manifest says
    assert row_of(replace(info, repo=None)) == row_of(replace(info, repo="")) == row
    pinned = replace(row, revision="f" * 40)
    monkeypatch.setattr("latentstore.vaes.table.VAES", {"taesd": pinned})
    assert row_of(replace(info, revision=None)) == row_of(replace(info, revision="f" * 40)) == pinned
    with pytest.raises(UntrustedError):
        row_of(info)


def test_a_vae_without_a_row_and_without_a_place_is_as_before() -> None:
    info = VaeInfo("mine", "Mine", None, "", None, None, 8, 3, "mit")
    with pytest.raises(VaeError, match="There is no row for VAE 'mine'"):
        row_of(info)


AID: dict[str, Any] = {"name": "aid", "reader": "open_hub_images", "location": "blanchon/AID"}
SOURCE_PLACES: dict[str, dict[str, Any]] = {
    "a system folder": {"name": "photos", "reader": "open_image_folder", "location": "/etc"},
    "a row of the table in a folder": {**AID, "location": "/home/somebody"},
    "a row of the table by another reader": {**AID, "reader": "open_image_folder"},
    "another repository": {**AID, "location": "somebody/AID"},
    "a branch": {**AID, "revision": "refs/pr/1"},
    "a repository": {"name": "else", "reader": "open_hub_images", "location": "somebody/else"},
    "scenes in a folder": {"location": "/etc"},
    "millions of scenes": {"options": {"count": 5_000_000, "size": 64, "seed": 0}},
    "huge scenes": {"options": {"count": 3, "size": 100_000, "seed": 0}},
    "scenes of no number": {"options": {"count": "all", "size": [64, {}], "seed": 0}},
}


@pytest.mark.parametrize("place", SOURCE_PLACES)
def test_a_source_elsewhere_is_not_opened(place: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SOURCE_PLACES[place].items():
        edit_manifest(folder, f"source.{name}", value)
        key = {"name": "source"}.get(name, name)
        if name in ("name", "location", "options"):
            edit_manifest(folder, f"build.plan.{key}", value)
    nobody_is_opened(monkeypatch)
    began = time.monotonic()
    report = verify(folder, depth="full", checks=None)
    assert time.monotonic() - began < 10
    found = notes(report)
    assert set(found) == {"quality", "source"}
    assert "unasked" in found["source"]
    assert "give --" in found["source"]
    assert needs_trust(open_store(folder).manifest)


def test_a_source_of_the_table_is_opened_where_the_row_reads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    def reader(row: Any) -> Any:
        opened.append(row)
        raise SourceError("not here")

    reader.__name__ = "open_hub_images"
    monkeypatch.setitem(sources_table.READERS, "open_hub_images", reader)
    rows = {**SOURCES, "aid": replace(SOURCES["aid"], reader=reader)}
    monkeypatch.setattr(sources_table, "SOURCES", rows)
    for name, value in {**AID, "revision": COMMIT, "options": {"data_dir": "data"}}.items():
        edit_manifest(folder, f"source.{name}", value)
    assert notes(verify(folder))["source"] == "the source pictures are not at hand (not here); say where with --source"
    assert {(row.location, row.revision) for row in opened} == {("blanchon/AID", COMMIT)}


def test_many_scenes_are_drawn_where_the_dataset_has_as_many_rows(monkeypatch: pytest.MonkeyPatch, drawn: Path) -> None:
    manifest: Manifest = open_store(drawn).manifest
    monkeypatch.setattr(sources_table, "DRAWN_PICTURES", 1)
    sources_table.refuse_untrusted(manifest)
    more = replace(manifest.source, options={**manifest.source.options, "count": manifest.rows + 1})
    with pytest.raises(UntrustedError, match=f"names {manifest.rows + 1} scenes of 40 pixels as its source"):
        sources_table.refuse_untrusted(replace(manifest, source=more))


@pytest.mark.parametrize(
    "options", [{"splits": 5}, {"image": []}, {"data_dir": 3}, {"streaming": "yes"}, {"splits": [{}]}, {"label": {}}]
)
def test_options_of_another_type_are_one_sentence(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"^The option '\w+' of source '\w+' cannot be ") as caught:
        hub_source(str(tmp_path)).at(tmp_path, **options).open()
    assert type(caught.value).__name__ == "RequestError"


def test_a_sample_that_is_no_number_is_one_sentence(folder: Path) -> None:
    edit_manifest(folder, "source.options", {"count": 30, "size": 40, "limit": "many"})
    assert "expected numbers" in notes(verify(folder, trust=True))["quality"]


def test_a_vae_of_a_users_own_under_a_name_of_the_table_is_still_found_by_trust(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "vae", "taesd")
    build_scenes(tmp_path / "out", source=scenes(4, 32), vae=VAES["taesd"].at(str(tmp_path / "vae")), metrics=())
    assert set(notes(verify(tmp_path / "out"))) == {"identity", "quality", "likeness"}
    assert set(notes(verify(tmp_path / "out", trust=True))) == {"quality"}  # nothing was measured
