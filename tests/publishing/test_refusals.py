"""Every mistake and every refusal is one sentence that says what to do."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hub_server import Fault, HubServer
from publishing_words import CONFIG, LICENSED, REPO, SOON, change_one_shard

from latentstore import CardChoices, PublishReport, publish, pull
from latentstore.errors import LatentStoreError, NotSealedError, PublishError, RequestError
from latentstore.publishing.hub_target import REF_NAME

Push = Callable[..., PublishReport]


def refused(push: Callable[[], Any], kind: type[Exception] = LatentStoreError) -> str:
    """The sentence."""
    with pytest.raises(kind) as caught:
        push()
    text = str(caught.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def test_without_a_token(push: Push, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    text = refused(lambda: push(local, REPO, choices=LICENSED, token=None), PublishError)
    assert text == f"{REPO} cannot be written without a token: type hf auth login, or set HF_TOKEN."


def test_with_a_token_that_may_only_read(hub: HubServer, push: Push, local: Path) -> None:
    text = refused(lambda: push(local, REPO, choices=LICENSED, token=hub.read_token), PublishError)
    assert text == (
        f"{REPO} cannot be written with this token, which may only read: make one with the role 'write' on "
        f"{hub.endpoint}/settings/tokens, then type: hf auth login"
    )


def test_with_a_token_that_the_hub_does_not_know(push: Push, local: Path) -> None:
    text = refused(lambda: push(local, REPO, choices=LICENSED, token="hf_wrong"), PublishError)  # noqa: S106
    assert text == (
        f"{REPO} cannot be read: the Hub does not know this token; type hf auth login, or correct HF_TOKEN."
    )


def test_into_the_namespace_of_others(push: Push, local: Path) -> None:
    text = refused(lambda: push(local, "stranger/latents", choices=LICENSED), PublishError)
    assert text == (
        "You may not write into the namespace 'stranger': choose one that `hf auth whoami` names, or ask its owner."
    )


@pytest.mark.parametrize("name", ["user/bad--name", "user/name.git", f"user/{'n' * 97}"])
def test_to_a_name_that_the_hub_does_not_take(push: Push, local: Path, name: str) -> None:
    text = refused(lambda: push(local, name, choices=LICENSED), PublishError)
    assert text.startswith(f"'{name}' is no name of a Hub repository: expected user/name")


@pytest.mark.parametrize("target", ["name", "", "user/name/more", "https://example.org/x", "user/na me", "a:b/c"])
def test_to_what_is_no_place(push: Push, local: Path, target: str) -> None:
    text = refused(lambda: push(local, target, choices=LICENSED), RequestError)
    assert "user/repo" in text


def test_to_a_folder_in_a_repository(push: Push, local: Path) -> None:
    text = refused(lambda: push(local, f"hf://datasets/{REPO}/folder", choices=LICENSED), RequestError)
    assert text.startswith("Expected user/repo, hub:user/repo or hf://datasets/user/repo, found")


def test_to_what_may_be_a_folder_or_a_repository(
    push: Push, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / REPO).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    text = refused(lambda: push(local, REPO, choices=LICENSED), RequestError)
    assert text == f"'{REPO}' may be the folder here or the Hub's: give ./{REPO} or hub:{REPO}."


def test_to_a_name_that_is_taken_by_what_may_not_be_read(hub: HubServer, push: Push, local: Path) -> None:
    hub.create(REPO)
    hub.order(Fault("^info ", status=404, code="RepoNotFound", times=None))
    text = refused(lambda: push(local, REPO, choices=LICENSED), PublishError)
    assert text.startswith(f"{REPO} cannot be written: the name is taken (")
    assert text.endswith("); choose another one, or type: hf auth login, as someone who may read what is there.")


def test_to_a_tag_or_a_commit_which_stay_what_they_are(
    hub: HubServer, push: Push, remove: Callable[..., Any], local: Path
) -> None:
    push(local, REPO, choices=LICENSED, tag="v1")
    head = hub.repository(REPO).head.oid
    change_one_shard(local)
    hub.log.forget()
    for act in (partial(push, local, f"{REPO}@v1"), partial(remove, f"{REPO}@v1", CONFIG)):
        assert refused(act, PublishError) == (
            f"'v1' is a tag of {REPO}, which stays what it is: give a branch, or leave out the revision for the main "
            "one."
        )
    for act in (partial(push, local, f"{REPO}@{head}"), partial(remove, f"{REPO}@{head}", CONFIG)):
        text = refused(act, RequestError)
        assert text.startswith(f"{head[:12]}… is a commit, which stays what it is: give a branch")
    assert not {"preupload", "lfs-put", "commit"} & set(hub.log.counts())


def test_where_there_is_no_room(hub: HubServer, push: Push, local: Path) -> None:
    hub.order(Fault("^preupload ", status=403, message="Private repository storage limit reached"))
    text = refused(lambda: push(local, REPO, choices=LICENSED), PublishError)
    assert text == (
        "The Hub has no room for it in user: Private repository storage limit reached; see "
        f"{hub.endpoint}/settings/billing"
    )


def test_where_a_gate_is_closed(hub: HubServer, push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED)
    hub.order(Fault("^info ", status=403, code="GatedRepo", message="restricted"))
    text = refused(lambda: push(local, REPO), PublishError)
    assert text == f"{REPO} is gated: accept its terms on {hub.endpoint}/datasets/{REPO}, then type: hf auth login"


def test_where_nobody_answers(local: Path, hub: HubServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    text = refused(
        lambda: publish(local, REPO, choices=LICENSED, endpoint=endpoint, token=hub.token, patience=SOON), PublishError
    )
    assert text.startswith(f"{REPO} cannot be read: {endpoint} does not answer (")
    assert text.endswith("; see whether there is a network, then type the same command again.")


def test_while_offline(push: Push, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    text = refused(lambda: push(local, REPO, choices=LICENSED), PublishError)
    assert text == f"{REPO} cannot be read: the client was told to stay offline; unset HF_HUB_OFFLINE."


def test_without_a_licence(hub: HubServer, push: Push, local: Path) -> None:
    text = refused(lambda: push(local, REPO), RequestError)
    assert "--license" in text
    assert not hub.repositories


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"create_pr": True, "revision": "draft"}, "--revision or --create-pr"),
        ({"create_pr": True, "tag": "v1"}, "--tag or --create-pr"),
    ],
)
def test_for_what_excludes_each_other(push: Push, local: Path, wishes: dict[str, Any], said: str) -> None:
    assert said in refused(lambda: push(local, REPO, choices=LICENSED, **wishes), RequestError)


def test_for_two_branches_at_once(push: Push, local: Path) -> None:
    text = refused(lambda: push(local, f"{REPO}@one", choices=LICENSED, revision="two"), RequestError)
    assert "name two branches" in text


def test_of_a_folder_that_is_not_there(push: Push, tmp_path: Path) -> None:
    text = refused(lambda: push(tmp_path / "nothing", REPO, choices=LICENSED), RequestError)
    assert text.startswith("There is no folder")


def test_of_a_folder_without_a_dataset(push: Push, tmp_path: Path) -> None:
    assert "holds no latent dataset" in refused(lambda: push(tmp_path, REPO, choices=LICENSED), NotSealedError)


def test_of_a_config_that_is_not_complete(push: Push, local: Path) -> None:
    (local / "half" / ".build").mkdir(parents=True)
    text = refused(lambda: push(local, REPO, choices=LICENSED), NotSealedError)
    assert text == (
        f"{local / 'half'} is not complete: type the same `latentstore build` command again to finish it, or name the "
        "others with --config."
    )
    refused(lambda: push(local, REPO, choices=LICENSED, force=True), NotSealedError)
    push(local, REPO, [CONFIG], choices=LICENSED)


def test_of_a_config_that_fails_verify_unless_it_is_forced_and_then_the_card_says_so(
    hub: HubServer, push: Push, local: Path, other: Path
) -> None:
    path = local / CONFIG / "train-00001-of-00003.parquet"
    path.write_bytes(path.read_bytes() + b"\0")
    text = refused(lambda: push(local, REPO, choices=LICENSED), PublishError)
    assert text.startswith(f"{local / CONFIG} is not what its manifest says (train-00001-of-00003.parquet: has ")
    assert "or publish it as it is with --force" in text
    assert not hub.repositories
    report = push(local, REPO, choices=LICENSED, force=True)
    assert report.failed[CONFIG]
    note = f"> **Published with --force**: `{CONFIG}` fails `latentstore verify --quick`: "
    assert note in hub.files(REPO)["README.md"].decode()
    assert hub.files(REPO)[f"{CONFIG}/train-00001-of-00003.parquet"] == path.read_bytes()
    push(other, REPO)
    assert note in hub.files(REPO)["README.md"].decode()
    path.write_bytes(path.read_bytes()[:-1])
    push(local, REPO)
    assert note not in hub.files(REPO)["README.md"].decode()


def test_of_a_config_that_lacks_a_shard_even_if_it_is_forced(push: Push, local: Path) -> None:
    (local / CONFIG / "train-00001-of-00003.parquet").unlink()
    text = refused(lambda: push(local, REPO, choices=LICENSED, force=True), PublishError)
    assert text.endswith("lacks train-00001-of-00003.parquet, which cannot be published, not even with --force.")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cc0", "The Hub lists no licence 'cc0' (did you mean 'cc0-1.0'?); for one that it does not list, type"),
        ("MIT", "(did you mean 'mit'?)"),
        ("§", "The Hub lists no licence '§'; for one that it does not list, type --license other with"),
        ("other", "--license other says which only with --license-name and --license-link."),
    ],
)
def test_under_a_licence_that_is_none_of_the_hubs(push: Push, local: Path, name: str, said: str) -> None:
    assert said in refused(lambda: push(local, REPO, choices=CardChoices(license=name)), RequestError)


def test_with_a_default_config_that_is_not_there(hub: HubServer, push: Push, local: Path) -> None:
    choices = CardChoices(license="mit", default_config="synthetic-pool9")
    assert "Did you mean 'synthetic-pool8'?" in refused(lambda: push(local, REPO, choices=choices), RequestError)
    assert not hub.repositories


@pytest.mark.parametrize("name", ["bad tag", "bad..name", "bad/", ".bad", "bad.lock", "a~1", "a:b", ""])
def test_for_names_that_git_does_not_take(hub: HubServer, push: Push, local: Path, name: str) -> None:
    said = f" {name!r} is no name that git takes: expected letters"
    assert refused(lambda: push(local, REPO, choices=LICENSED, tag=name), RequestError).startswith(f"--tag{said}")
    if name:  # an empty one is none
        text = refused(lambda: push(local, REPO, choices=LICENSED, revision=name), RequestError)
        assert text.startswith(f"--revision{said}")
    assert not hub.log.entries


@pytest.mark.parametrize("name", ["v1", "v1.0", "2026-05/first_try", "refs/pr/3", "größer"])
def test_other_names_may_be_given(name: str) -> None:
    assert REF_NAME.fullmatch(name)


def test_for_a_tag_of_another_commit_before_anything_is_sent(hub: HubServer, push: Push, local: Path) -> None:
    push(local, REPO, choices=LICENSED, tag="v1")
    push(local, REPO, tag="v1")
    change_one_shard(local)
    hub.log.forget()
    text = refused(lambda: push(local, REPO, tag="v1"), PublishError)
    assert text.startswith(f"{REPO} has a tag 'v1' on the commit ")
    assert not {"preupload", "lfs-put", "commit", "tag"} & set(hub.log.counts())


def test_to_the_address_of_a_page(push: Push, local: Path) -> None:
    page = "https://huggingface.co/datasets/user/latents/tree/main"
    text = refused(lambda: push(local, page, choices=LICENSED), RequestError)
    assert text == f"'{page}' is a page of the Hub: give the name of the repository, user/latents."


def test_a_place_without_anything_cannot_be_read(tmp_path: Path) -> None:
    text = refused(lambda: pull(tmp_path / "nothing", tmp_path / "back"), NotSealedError)
    assert text.endswith("nothing that you may read: check the name of the bucket or folder.")
    assert text.startswith("There is nothing at file://")
