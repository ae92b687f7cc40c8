"""The way back, and the way out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_server import Fault, HubServer
from publishing_words import (
    CONFIG,
    LICENSED,
    REPO,
    append_like,
    change_one_shard,
    missing_data,
    paths_of,
    same_files,
)

from latentstore import PublishReport, verify
from latentstore.errors import DamagedShardError, NotSealedError, PublishError, RequestError, UnknownNameError
from latentstore.publishing import hub_target
from latentstore.publishing.records import PublishProgress

Push = Callable[..., PublishReport]


def test_what_was_pushed_comes_back_to_the_byte(
    hub: HubServer, push: Push, fetch: Any, local: Path, other: Path, tmp_path: Path
) -> None:
    push(local, REPO, choices=LICENSED)
    push(other, REPO)
    report = fetch(REPO, tmp_path / "back")
    assert report.commit == hub.repository(REPO).head.oid
    assert report.configs == ("other", CONFIG)
    assert same_files(tmp_path / "back" / CONFIG, local / CONFIG)
    assert same_files(tmp_path / "back" / "other", other / "other")
    assert (tmp_path / "back" / "README.md").read_bytes() == hub.files(REPO)["README.md"]
    assert verify(tmp_path / "back", CONFIG, depth="quick").ok
    assert push(tmp_path / "back", REPO).sent == ()


def test_an_older_state_comes_back_by_its_tag(push: Push, fetch: Any, local: Path, tmp_path: Path) -> None:
    before = shutil.copytree(local, tmp_path / "before")
    push(local, REPO, choices=LICENSED, tag="v1")
    change_one_shard(local)
    push(local, REPO)
    fetch(f"{REPO}@v1", tmp_path / "old")
    assert same_files(tmp_path / "old" / CONFIG, before / CONFIG)
    fetch(REPO, tmp_path / "old")
    assert same_files(tmp_path / "old" / CONFIG, local / CONFIG)


def test_only_what_is_not_here_is_fetched(hub: HubServer, push: Push, fetch: Any, local: Path, tmp_path: Path) -> None:
    push(local, REPO, choices=LICENSED)
    fetch(REPO, tmp_path / "back")
    changed = change_one_shard(local)
    push(local, REPO)
    hub.log.forget()
    report = fetch(REPO, tmp_path / "back")
    assert set(report.received) == {changed, f"{CONFIG}/index.parquet"}
    assert same_files(tmp_path / "back" / CONFIG, local / CONFIG)
    assert fetch(REPO, tmp_path / "back").received == ()


class Stopped(BaseException):
    """Like Ctrl-C."""


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_pull_that_was_stopped_leaves_no_manifest_and_goes_on(
    push: Push,
    fetch: Any,
    local: Path,
    tmp_path: Path,
    after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_target, "FILES_A_GROUP", 1)
    push(local, REPO, choices=LICENSED)
    received = 0

    def stop(progress: PublishProgress) -> None:
        nonlocal received
        received += progress.stage == "receive"
        if received == after:
            raise Stopped

    with pytest.raises(Stopped):
        fetch(REPO, tmp_path / "back", progress=stop)
    assert not (tmp_path / "back" / CONFIG / "manifest.json").exists()
    report = fetch(REPO, tmp_path / "back")
    assert len(report.skipped) == after
    assert same_files(tmp_path / "back" / CONFIG, local / CONFIG)


def test_a_pull_over_another_version_takes_its_manifest_away_first(
    push: Push, fetch: Any, local: Path, tmp_path: Path
) -> None:
    push(local, REPO, choices=LICENSED)
    fetch(REPO, tmp_path / "back")
    change_one_shard(local)
    push(local, REPO)

    def stop(progress: PublishProgress) -> None:
        if progress.stage == "receive":
            raise Stopped

    with pytest.raises(Stopped):
        fetch(REPO, tmp_path / "back", progress=stop)
    assert not (tmp_path / "back" / CONFIG / "manifest.json").exists()
    fetch(REPO, tmp_path / "back")
    assert same_files(tmp_path / "back" / CONFIG, local / CONFIG)


def test_one_config_comes_with_a_card_of_its_own(
    push: Push, fetch: Any, local: Path, other: Path, tmp_path: Path
) -> None:
    push(local, REPO, choices=LICENSED)
    push(other, REPO)
    fetch(REPO, tmp_path / "back", ["other"])
    card = (tmp_path / "back" / "README.md").read_text()
    assert "config_name: other" in card
    assert CONFIG not in card
    assert not (tmp_path / "back" / CONFIG).exists()


def test_the_card_of_a_part_keeps_its_histogram_and_the_words_of_people(
    hub: HubServer, push: Push, fetch: Any, local: Path, other: Path, tmp_path: Path
) -> None:
    push(other, REPO, choices=LICENSED)
    push(local, REPO)
    card = hub.files(REPO)["README.md"].decode()
    hub.change(REPO, {"README.md": f"{card}\nMine.\n".encode()})
    fetch(REPO, tmp_path / "back", [CONFIG])
    part = (tmp_path / "back" / "README.md").read_text()
    section = card[card.index(f"\n## {CONFIG}\n") : card.index("\n## How quality was measured")]
    assert "PSNR of all 30 pictures" in section
    assert section in part
    assert part.endswith("\nMine.\n")
    assert f'load_latents("{REPO}", "{CONFIG}", split="train")' in part


def test_what_was_published_with_force_says_so_in_a_part_too(
    push: Push, fetch: Any, local: Path, other: Path, tmp_path: Path
) -> None:
    append_like(local)  # which `verify` does not take for one that was appended to
    push(local, REPO, choices=LICENSED, force=True)
    push(other, REPO)
    for name, says in ((CONFIG, True), ("other", False)):
        fetch(REPO, tmp_path / name, [name])
        card = (tmp_path / name / "README.md").read_text()
        assert (f"> **Published with --force**: `{CONFIG}` fails" in card) == says


def test_a_damaged_copy_is_refused_and_its_manifest_stays_away(
    hub: HubServer, push: Push, fetch: Any, local: Path, tmp_path: Path
) -> None:
    push(local, REPO, choices=LICENSED)
    shard = f"{CONFIG}/train-00001-of-00003.parquet"
    hub.change(REPO, {shard: bytes(len(hub.files(REPO)[shard]))})
    with pytest.raises(DamagedShardError, match=rf"{shard} came with another sha256 than its manifest says"):
        fetch(REPO, tmp_path / "back")
    assert not (tmp_path / "back" / CONFIG / "manifest.json").exists()
    assert not (tmp_path / "back" / shard).exists()


def test_an_answer_that_is_cut_is_asked_for_again(
    hub: HubServer, push: Push, fetch: Any, local: Path, tmp_path: Path
) -> None:
    push(local, REPO, choices=LICENSED)
    hub.order(Fault("^cdn ", cut_after=1000))
    fetch(REPO, tmp_path / "back")
    assert same_files(tmp_path / "back" / CONFIG, local / CONFIG)


def test_what_is_not_there_cannot_be_pulled(push: Push, fetch: Any, local: Path, tmp_path: Path) -> None:
    with pytest.raises(
        NotSealedError, match=r"The Hub has no dataset repository user/latents that you may read: .*hf auth login"
    ):
        fetch(REPO, tmp_path / "back")
    push(local, REPO, choices=LICENSED)
    with pytest.raises(NotSealedError, match=r"user/latents has no revision 'v9': choose one of its branches and tags"):
        fetch(f"{REPO}@v9", tmp_path / "back")
    with pytest.raises(UnknownNameError, match=r"There is no config named 'synthetic-pool9'. Did you mean"):
        fetch(REPO, tmp_path / "back", ["synthetic-pool9"])
    assert not (tmp_path / "back").exists()


def test_a_dropped_config_is_gone_with_its_part_of_the_card_in_one_commit(
    hub: HubServer, push: Push, remove: Any, local: Path, other: Path
) -> None:
    push(local, REPO, choices=LICENSED)
    push(other, REPO)
    hub.change(REPO, {"other/notes.txt": b"mine"})
    before = len(hub.repository(REPO).commits)
    report = remove(REPO, "other")
    assert len(hub.repository(REPO).commits) == before + 1
    files = hub.files(REPO)
    assert set(files) == paths_of(local) | {".gitattributes", "other/notes.txt"}
    assert "other/manifest.json" in report.deleted
    assert "config_name: other" not in files["README.md"].decode()
    assert missing_data(files) == []
    assert push(local, REPO).sent == ()


def test_the_last_config_can_be_dropped_too(hub: HubServer, push: Push, remove: Any, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    remove(REPO, CONFIG)
    assert set(hub.files(REPO)) == {".gitattributes", "README.md"}
    assert "license: cc0-1.0" in hub.files(REPO)["README.md"].decode()
    push(local, REPO)
    assert missing_data(hub.files(REPO)) == []


def test_a_dry_run_of_a_drop_changes_nothing(hub: HubServer, push: Push, remove: Any, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    hub.log.forget()
    assert f"{CONFIG}/manifest.json" in remove(REPO, CONFIG, dry_run=True).deleted
    assert not {"commit", "tag", "preupload"} & set(hub.log.counts())


def test_a_drop_is_confirmed_first(hub: HubServer, push: Push, remove: Any, local: Path) -> None:
    push(local, REPO, choices=LICENSED)

    def refuse(_: object) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        remove(REPO, CONFIG, confirm=refuse)
    assert missing_data(hub.files(REPO)) == []


def test_a_drop_that_lost_a_race_keeps_the_config_that_came_in_between(
    hub: HubServer, push: Push, remove: Any, local: Path, other: Path
) -> None:
    push(local, REPO, choices=LICENSED)
    hub.order(Fault("^commit ", before=lambda _: push(other, REPO) and None))
    remove(REPO, CONFIG)
    files = hub.files(REPO)
    assert "other/manifest.json" in files
    assert f"{CONFIG}/manifest.json" not in files
    assert "config_name: other" in files["README.md"].decode()


def test_only_what_is_there_can_be_dropped(hub: HubServer, push: Push, remove: Any, local: Path) -> None:
    with pytest.raises(RequestError, match=r"The Hub has no dataset repository user/latents that you may read"):
        remove(REPO, CONFIG)
    push(local, REPO, choices=LICENSED)
    with pytest.raises(UnknownNameError, match=r"Did you mean 'synthetic-pool8'"):
        remove(REPO, "synthetic-pool9")
    with pytest.raises(PublishError, match=r"may only read"):
        remove(REPO, CONFIG, token=hub.read_token)
