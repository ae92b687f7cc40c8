"""What a push sends, and what it leaves on the Hub whatever happens on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import FAULTS, Entry, Fault, HubServer
from publishing_words import CONFIG, LICENSED, REPO, SOON, change_one_shard, missing_data, paths_of

from latentstore import Manifest, PublishReport
from latentstore.errors import PublishError, RequestError
from latentstore.publishing import hub_target
from latentstore.publishing.records import PublishPlan, PublishProgress
from latentstore.retries import Patience

Push = Callable[..., PublishReport]
SHARDS = [f"{CONFIG}/train-{number:05}-of-00003.parquet" for number in range(3)]


def commits(hub: HubServer) -> int:
    return len(hub.repository(REPO).commits)


def test_a_first_push_brings_everything_in_one_commit(hub: HubServer, push: Push, local: Path) -> None:
    report = push(local, REPO, choices=LICENSED)
    files = hub.files(REPO)
    assert set(files) == paths_of(local) | {".gitattributes"}
    assert missing_data(files) == []
    assert hub.log.counts()["commit"] == 1
    assert "latentstore/" in hub.log.of("commit")[0].headers["user-agent"]
    assert set(report.sent) == paths_of(local)
    assert report.commit == hub.repository(REPO).head.oid
    assert report.creates
    for path in [*SHARDS, f"{CONFIG}/index.parquet", f"{CONFIG}/manifest.json"]:
        assert files[path] == (local / path).read_bytes()


def test_a_second_push_sends_only_the_shard_that_changed(hub: HubServer, push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    changed = change_one_shard(local)
    hub.log.forget()
    report = push(local, REPO)
    assert set(report.sent) == {changed, f"{CONFIG}/index.parquet", f"{CONFIG}/manifest.json", "README.md"}
    assert set(report.skipped) == {SHARDS[0], SHARDS[2], f"{CONFIG}/preview.png"}
    index, shard = local / CONFIG / "index.parquet", local / changed
    assert hub.log.counts()["lfs-put"] == 2
    assert hub.log.received("lfs-put") == index.stat().st_size + shard.stat().st_size
    assert missing_data(hub.files(REPO)) == []


def test_a_push_of_what_is_there_already_makes_no_commit(hub: HubServer, push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    before = commits(hub)
    hub.log.forget()
    report = push(local, REPO)
    assert report.sent == ()
    assert commits(hub) == before
    assert not {"preupload", "lfs-batch", "lfs-put", "commit", "create-repo"} & set(hub.log.counts())


def test_shards_that_are_there_already_are_not_even_read(hub: HubServer, push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    path = local / SHARDS[0]
    path.write_bytes(bytes(path.stat().st_size))  # damaged, which only reading it can tell
    assert push(local, REPO).sent == ()
    assert missing_data(hub.files(REPO)) == []


def test_a_damaged_shard_is_found_while_it_is_sent_and_never_published(hub: HubServer, push: Push, local: Path) -> None:
    path = local / SHARDS[0]
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(PublishError, match=r"train-00000-of-00003.parquet has the sha256 .* the file is damaged"):
        push(local, REPO, choices=LICENSED)
    assert CONFIG not in str(list(hub.files(REPO)))


def test_shards_that_a_config_does_not_have_any_more_go_in_the_same_commit(
    hub: HubServer, push: Push, local: Path, tmp_path: Path
) -> None:
    from scenes import build_scenes

    push(local, REPO, choices=LICENSED)
    hub.change(REPO, {f"{CONFIG}/notes.txt": b"mine"})
    build_scenes(tmp_path / "again", rows_per_shard=20)
    hub.log.forget()
    report = push(tmp_path / "again", REPO)
    assert set(report.deleted) == set(SHARDS)
    assert hub.log.counts()["commit"] == 1
    files = hub.files(REPO)
    assert set(files) == paths_of(tmp_path / "again") | {".gitattributes", f"{CONFIG}/notes.txt"}
    assert missing_data(files) == []


def test_configs_of_others_stay_and_the_card_names_them_all(
    hub: HubServer, push: Push, local: Path, other: Path
) -> None:
    push(local, REPO, choices=LICENSED)
    push(other, REPO)
    files = hub.files(REPO)
    card = files["README.md"].decode()
    assert "config_name: other" in card
    assert f"config_name: {CONFIG}" in card
    assert missing_data(files) == []
    assert push(local, REPO).sent == ()


def test_what_people_wrote_on_the_card_stays(hub: HubServer, push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    card = hub.files(REPO)["README.md"].decode()
    hub.change(REPO, {"README.md": card.replace("license: cc0-1.0", "license: mit").encode() + b"\nThanks to all.\n"})
    change_one_shard(local)
    push(local, REPO)
    after = hub.files(REPO)["README.md"].decode()
    assert after.endswith("\nThanks to all.\n")
    assert "license: mit" in after


def test_a_new_repository_begins_with_the_words_on_the_local_card(hub: HubServer, push: Push, local: Path) -> None:
    card = local / "README.md"
    card.write_text(card.read_text() + "\nBuilt on a rainy day.\n")
    push(local, REPO, choices=LICENSED)
    assert hub.files(REPO)["README.md"].decode().endswith("\nBuilt on a rainy day.\n")


def test_a_dry_run_sends_nothing_and_says_what_it_would_send(hub: HubServer, push: Push, local: Path) -> None:
    planned = push(local, REPO, choices=LICENSED, dry_run=True)
    assert set(hub.log.counts()) == {"info"}
    assert push(local, REPO, choices=LICENSED).sent == planned.sent
    changed = change_one_shard(local)
    hub.log.forget()
    planned = push(local, REPO, dry_run=True)
    assert not {"preupload", "lfs-put", "commit", "tag"} & set(hub.log.counts())
    done = push(local, REPO)
    assert changed in planned.sent
    assert (done.sent, done.bytes) == (planned.sent, planned.bytes)


class Stopped(BaseException):
    """Like Ctrl-C."""


@pytest.mark.parametrize("after", range(1, 9))
def test_a_push_that_was_stopped_goes_on_and_sends_nothing_twice(
    hub: HubServer, push: Push, local: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_target, "FILES_A_GROUP", 1)
    reports = 0

    def stop(_: PublishProgress) -> None:
        nonlocal reports
        reports += 1
        if reports == after:
            raise Stopped

    with pytest.raises(Stopped):
        push(local, REPO, choices=LICENSED, progress=stop)
    if ("datasets", REPO) in hub.repositories:
        assert missing_data(hub.files(REPO)) == []
    push(local, REPO, choices=LICENSED)
    assert set(hub.files(REPO)) == paths_of(local) | {".gitattributes"}
    assert missing_data(hub.files(REPO)) == []
    large = [path for path in paths_of(local) if path.endswith((".parquet", ".png"))]
    assert hub.log.received("lfs-put") == sum((local / path).stat().st_size for path in large)
    assert hub.log.counts()["commit"] == 1


def test_a_lost_race_is_run_again_with_the_card_of_both(hub: HubServer, push: Push, local: Path, other: Path) -> None:
    push(local, REPO, choices=LICENSED)
    change_one_shard(local)
    hub.log.forget()
    hub.order(Fault("^commit ", before=lambda _: push(other, REPO) and None))
    push(local, REPO)
    assert [entry.status for entry in hub.log.of("commit")] == [412, 200, 200]
    files = hub.files(REPO)
    card = files["README.md"].decode()
    assert "config_name: other" in card
    assert f"config_name: {CONFIG}" in card
    assert missing_data(files) == []
    assert hub.log.counts()["lfs-put"] == 2 + 3  # what was sent before the race is not sent again


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub: HubServer, push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    change_one_shard(local)
    before = commits(hub)
    hub.order(replace(FAULTS["lost answer"], pattern="^commit "))
    report = push(local, REPO)
    assert commits(hub) == before + 1
    assert f"{CONFIG}/manifest.json" in report.sent
    assert missing_data(hub.files(REPO)) == []


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_that_is_ill_for_a_moment_is_asked_again(hub: HubServer, push: Push, local: Path, status: int) -> None:
    waits: list[float] = []
    hub.order(Fault("^commit ", status=status, times=2, headers={"Retry-After": "7"}))
    hub.order(Fault("^info ", status=503), Fault("^create-repo ", status=503), Fault("^tag ", status=503))
    push(local, REPO, choices=LICENSED, patience=Patience(sleep=waits.append))
    assert waits.count(7) == 2
    assert missing_data(hub.files(REPO)) == []


def test_a_hub_that_stays_ill_is_an_error_that_says_what_to_do(hub: HubServer, push: Push, local: Path) -> None:
    hub.order(Fault("^commit ", status=503, times=None))
    with pytest.raises(
        PublishError, match=r"user/latents could not be changed as asked .* type the same command again"
    ):
        push(local, REPO, choices=LICENSED)


def test_a_file_that_the_hub_lost_from_the_commit_is_noticed_and_sent_again(
    hub: HubServer, push: Push, local: Path
) -> None:
    push(local, REPO, choices=LICENSED)
    changed = change_one_shard(local)
    kept = hub.repository(REPO).head.files[SHARDS[0]]

    def lose(_: Entry) -> None:
        files = hub.repository(REPO).head.files
        assert files[SHARDS[0]] == kept
        del files[SHARDS[0]]

    hub.order(Fault("^commit ", after=lose))
    report = push(local, REPO)
    assert {changed, SHARDS[0]} <= set(report.sent)
    assert report.commit == hub.repository(REPO).head.oid
    assert missing_data(hub.files(REPO)) == []


def test_what_someone_pushes_right_behind_the_commit_stands(
    hub: HubServer, push: Push, local: Path, tmp_path: Path
) -> None:
    push(local, REPO, choices=LICENSED)
    theirs = Path(shutil.copytree(local, tmp_path / "theirs"))
    change_one_shard(local)
    change_one_shard(theirs, 2)
    hub.order(Fault("^commit ", after=lambda _: push(theirs, REPO) and None))
    report = push(local, REPO)
    files = hub.files(REPO)
    assert hub.repository(REPO).head.oid != report.commit
    assert missing_data(hub.files(REPO, report.commit)) == missing_data(files) == []
    assert files[f"{CONFIG}/manifest.json"] == (theirs / CONFIG / "manifest.json").read_bytes()
    assert hub.repository(REPO).tags["format-v1.0"] == hub.repository(REPO).head.oid


def test_a_card_that_datasets_would_not_understand_is_not_published(hub: HubServer, push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    card = hub.files(REPO)["README.md"].decode()
    theirs = "configs:\n- config_name: mine\n  data_files:\n  - split: not-a-split\n    path: mine.csv\n"
    hub.change(REPO, {"README.md": card.replace("configs:\n", theirs, 1).encode()})
    change_one_shard(local)
    before = commits(hub)
    with pytest.raises(PublishError, match=r"The card for user/latents would not be understood: .*not-a-split"):
        push(local, REPO)
    assert commits(hub) == before


def test_an_organisation_is_pushed_to_as_a_user_is(hub: HubServer, push: Push, local: Path) -> None:
    report = push(local, "team/latents", choices=LICENSED, private=True)
    assert report.url.endswith("/datasets/team/latents")
    assert hub.repository("team/latents").private
    assert missing_data(hub.files("team/latents")) == []


def test_many_new_files_go_ahead_in_parts_and_the_manifest_comes_with_the_last(
    hub: HubServer, push: Push, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_target, "FILES_A_COMMIT", 2)
    push(local, REPO, choices=LICENSED)
    states = [commit.files for commit in hub.repository(REPO).commits.values()]
    assert len(states) == 1 + 3 + 1
    assert [any(path.endswith("manifest.json") for path in files) for files in states] == [False] * 4 + [True]
    assert ["README.md" in files for files in states] == [False] * 4 + [True]
    assert missing_data(hub.files(REPO)) == []


def test_files_of_a_config_that_is_there_already_never_go_ahead_of_its_manifest(
    hub: HubServer, push: Push, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scenes import build_scenes

    push(local, REPO, choices=LICENSED)
    monkeypatch.setattr(hub_target, "FILES_A_COMMIT", 2)
    build_scenes(tmp_path / "again", rows_per_shard=4)
    before = commits(hub)
    push(tmp_path / "again", REPO)
    assert commits(hub) == before + 1
    assert missing_data(hub.files(REPO)) == []


def test_a_pull_request_leaves_the_main_branch_as_it_is(hub: HubServer, push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    change_one_shard(local)
    before = hub.repository(REPO).head.oid
    report = push(local, REPO, create_pr=True)
    assert hub.repository(REPO).head.oid == before
    assert report.pull_request.endswith("/datasets/user/latents/discussions/1")
    assert missing_data(hub.files(REPO, "refs/pr/1")) == []
    assert report.tags == ()
    assert len(hub.repository(REPO).pull_requests) == 1


def test_a_pull_request_whose_answer_was_lost_is_not_opened_again(hub: HubServer, push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    change_one_shard(local)
    hub.order(replace(FAULTS["lost answer"], pattern="^commit "))
    with pytest.raises(PublishError, match=r"did not say whether it opened the pull request .*latents/discussions"):
        push(local, REPO, create_pr=True)
    assert len(hub.repository(REPO).pull_requests) == 1


def test_a_branch_is_made_and_filled(hub: HubServer, push: Push, local: Path, other: Path) -> None:
    push(local, REPO, choices=LICENSED)
    main = hub.repository(REPO).head.oid
    report = push(other, REPO, revision="draft")
    assert hub.repository(REPO).head.oid == main
    assert "other/manifest.json" in hub.files(REPO, "draft")
    assert report.url.endswith("/datasets/user/latents/tree/draft")
    assert push(other, f"{REPO}@draft").sent == ()


def test_a_branch_is_made_where_the_main_one_has_it_all(hub: HubServer, push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    report = push(local, REPO, revision="draft")
    assert report.sent == ()
    assert hub.files(REPO, "draft") == hub.files(REPO)


def test_tags_name_the_result_and_that_of_the_format_follows(hub: HubServer, push: Push, local: Path) -> None:
    report = push(local, REPO, choices=LICENSED, tag="v1")
    first = hub.repository(REPO).head.oid
    assert report.tags == ("v1", "format-v1.0")
    assert hub.repository(REPO).tags == {"v1": first, "format-v1.0": first}
    change_one_shard(local)
    push(local, REPO)
    assert hub.repository(REPO).tags == {"v1": first, "format-v1.0": hub.repository(REPO).head.oid}


def test_a_tag_of_another_commit_is_not_taken_away(push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED, tag="v1")
    change_one_shard(local)
    with pytest.raises(PublishError, match=r"has a tag 'v1' on the commit .* choose another --tag"):
        push(local, REPO, tag="v1")


def test_a_new_repository_can_be_private(hub: HubServer, push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED, private=True)
    assert hub.repository(REPO).private
    push(local, REPO, private=True)


def test_a_public_repository_is_not_taken_for_a_private_one(push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    change_one_shard(local)
    with pytest.raises(PublishError, match=r"everyone may read it: leave out --private, or make it private first"):
        push(local, REPO, private=True)


def test_one_config_of_several_can_be_chosen(hub: HubServer, push: Push, local: Path, other: Path) -> None:
    shutil.copytree(other / "other", local / "other")
    push(local, REPO, ["other"], choices=LICENSED)
    assert not any(path.startswith(CONFIG) for path in hub.files(REPO))
    push(local, f"hub:{REPO}")
    assert f"{CONFIG}/manifest.json" in hub.files(REPO)
    with pytest.raises(RequestError, match=r"There is no config named 'othr'. Did you mean 'other'"):
        push(local, REPO, ["othr"])


def test_a_new_repository_and_a_removal_are_confirmed_first(
    hub: HubServer, push: Push, local: Path, tmp_path: Path
) -> None:
    from scenes import build_scenes

    asked: list[PublishPlan] = []

    def refuse(plan: PublishPlan) -> None:
        asked.append(plan)
        raise Stopped

    with pytest.raises(Stopped):
        push(local, REPO, choices=LICENSED, confirm=refuse)
    assert asked[0].creates
    assert not hub.repositories
    push(local, REPO, choices=LICENSED)
    change_one_shard(local)
    push(local, REPO, confirm=refuse)  # nothing that cannot be undone
    build_scenes(tmp_path / "again", rows_per_shard=20)
    with pytest.raises(Stopped):
        push(tmp_path / "again", REPO, confirm=refuse)
    assert asked[1].deletions == tuple(SHARDS)


def test_progress_is_told_for_every_shard(push: Push, local: Path, hub: HubServer) -> None:
    told: list[PublishProgress] = []
    push(local, REPO, choices=LICENSED, progress=told.append)
    sent = [report for report in told if report.stage == "send"]
    assert [report.path for report in sent] == [*SHARDS, f"{CONFIG}/index.parquet", f"{CONFIG}/preview.png"]
    assert [report.done for report in sent] == sorted({report.done for report in sent})
    assert all(report.total == sum(len(hub.files(REPO)[path]) for path in paths_of(local)) for report in sent)


def test_the_manifest_of_another_config_that_cannot_be_read_stops_the_push(
    hub: HubServer, push: Push, local: Path
) -> None:
    push(local, REPO, choices=LICENSED)
    hub.change(REPO, {"strange/manifest.json": b"{}"})
    with pytest.raises(PublishError, match=r"config 'strange' of user/latents cannot be understood"):
        push(local, REPO)


def test_the_wait_between_tries_is_the_patience_of_the_caller(hub: HubServer, push: Push, local: Path) -> None:
    hub.order(Fault("^info ", status=503, times=None))
    with pytest.raises(PublishError, match=r"user/latents cannot be read: .*"):
        push(local, REPO, choices=LICENSED, patience=replace(SOON, tries=2))
    assert hub.log.counts() == {"info": 2}


def test_published_manifests_do_not_name_folders_of_this_machine(hub: HubServer, push: Push, tmp_path: Path) -> None:
    from scenes import build_scenes, write_pictures

    from latentstore import folder_source

    pictures = write_pictures(tmp_path / "my pictures", {"a/1.png": (16, 16), "b/1.png": (16, 16)})
    build_scenes(tmp_path / "out", source=folder_source(str(pictures)))
    report = push(tmp_path / "out", REPO, choices=LICENSED)
    name = report.configs[0]
    published = hub.files(REPO)[f"{name}/manifest.json"].decode()
    assert str(tmp_path) in (tmp_path / "out" / name / "manifest.json").read_text()
    assert str(tmp_path) not in published
    manifest = Manifest.from_file(published, "there")
    assert manifest.source.location == "my pictures"
    assert manifest.build.plan["location"] == "my pictures"
    assert push(tmp_path / "out", REPO).sent == ()
