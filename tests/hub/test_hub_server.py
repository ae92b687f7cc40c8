"""The local Hub answers the real client as the real Hub does: huggingface_hub, datasets and hf_xet drive it."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hub_server import FAULTS, Fault, HubServer, rate_limited

REPO = "user/scenes"
CARD = b"""---
license: mit
configs:
- config_name: small
  data_files:
  - split: train
    path: small/train-*.parquet
---
# Scenes
"""


# huggingface_hub sends the bytes of LFS in a way that its own HTTP client warns about.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def api(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real client, in this process and over LFS, with the writing token."""
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return HfApi(endpoint=hub.endpoint, token=hub.token)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub tries again after a while; here, at once."""
    monkeypatch.setattr("time.sleep", lambda _: None)


def added(path: str, content: bytes) -> Any:
    from huggingface_hub import CommitOperationAdd

    return CommitOperationAdd(path, content)


def commit(api: Any, files: dict[str, bytes], **more: Any) -> Any:
    operations = [added(path, content) for path, content in files.items()]
    return api.create_commit(REPO, operations, commit_message="some files", repo_type="dataset", **more)


def parquet(rows: int = 100) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": list(range(rows)), "name": [f"scene {row}" for row in range(rows)]}), sink)
    return bytes(sink.getvalue())


def run(hub: HubServer, tmp_path: Path, code: str, *arguments: str, token: str | None = None) -> Any:
    """What a process of its own, whose Hub this is, says in JSON on its last line."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=hub.environment(tmp_path / "home", token=token),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


STORY = """
    import json, sys
    from pathlib import Path
    from huggingface_hub import HfApi, HfFileSystem, snapshot_download

    api, repo = HfApi(), "user/scenes"
    api.create_repo(repo, repo_type="dataset")
    first = api.upload_folder(repo_id=repo, repo_type="dataset", folder_path="folder")
    again = api.upload_folder(repo_id=repo, repo_type="dataset", folder_path="folder")
    shard = Path("folder/small/train-0.parquet")
    said = {"first": first.oid, "again": again.oid}
    here = Path(snapshot_download(repo, repo_type="dataset"))
    said["same"] = (here / "small/train-0.parquet").read_bytes() == shard.read_bytes()
    files = HfFileSystem()
    said["listed"] = files.ls(f"datasets/{repo}/small", detail=False)
    with files.open(f"datasets/{repo}/small/train-0.parquet", block_size=1000, cache_type="none") as file:
        file.seek(50)
        said["range"] = file.read(30) == shard.read_bytes()[50:80]
    from datasets import load_dataset

    whole = load_dataset(repo, "small", split="train")
    stream = load_dataset(repo, "small", split="train", streaming=True)
    said["rows"], said["streamed"] = whole[-1:], next(iter(stream))
    print()
    print(json.dumps(said))
"""


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_a_folder_is_pushed_listed_fetched_and_loaded_by_the_programs_people_use(tmp_path: Path, xet: bool) -> None:
    shard = parquet()
    (tmp_path / "folder" / "small").mkdir(parents=True)
    (tmp_path / "folder" / "README.md").write_bytes(CARD)
    (tmp_path / "folder" / "small" / "train-0.parquet").write_bytes(shard)
    # Long enough for several chunks, some of which Xet stores once.
    noise = random.Random(0).randbytes(300_000)  # noqa: S311
    (tmp_path / "folder" / "noise.bin").write_bytes(noise + noise + bytes(200_000) + noise)
    with HubServer(tmp_path / "hub", xet=xet) as hub:
        said = run(hub, tmp_path, STORY)
        head = hub.repository(REPO).head
        assert said == {
            "first": head.oid,
            "again": head.oid,
            "same": True,
            "listed": ["datasets/user/scenes/small/train-0.parquet"],
            "range": True,
            "rows": {"x": [99], "name": ["scene 99"]},
            "streamed": {"x": 0, "name": "scene 0"},
        }
        assert hub.files(REPO)["small/train-0.parquet"] == shard
        assert hub.files(REPO)["noise.bin"] == noise + noise + bytes(200_000) + noise
        assert head.files["small/train-0.parquet"].sha256 == hashlib.sha256(shard).hexdigest()
        counts = hub.log.counts()
        assert counts["commit"] == 1
        # What went which way: hf_xet writes into its own storage, and nothing of it passes through LFS.
        assert (counts["lfs-put"], counts["lfs-verify"]) == ((0, 0) if xet else (2, 2))
        assert (counts["xet-write-token"] > 0, counts["xet-read-token"] > 0) == (xet, xet)
        assert hub.log.received("lfs-put") == (0 if xet else len(shard) + 1_100_000)
        assert (300_000 < hub.xet_files.stored_bytes() < 1_100_000) == xet
        # The listed file, the range and the stream are read from the other origin, in both ways.
        assert counts["cdn"] >= 2
        assert all("authorization" not in entry.headers for entry in hub.log.of("cdn"))
        assert all("authorization" in entry.headers for entry in hub.log.of("resolve"))


def test_a_repository_begins_with_one_commit_and_is_not_made_twice(api: Any, hub: HubServer) -> None:
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    url = api.create_repo(REPO, repo_type="dataset", private=True)
    assert str(url) == f"{hub.endpoint}/datasets/{REPO}"
    assert hub.repository(REPO).private
    assert api.list_repo_files(REPO, repo_type="dataset") == [".gitattributes"]
    assert str(api.create_repo(REPO, repo_type="dataset", exist_ok=True)) == str(url)
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo(REPO, repo_type="dataset")
    assert caught.value.response.status_code == 409
    api.create_repo("model", repo_type="model")
    assert api.model_info("user/model").sha == hub.repository("user/model", "models").head.oid
    api.delete_repo(REPO, repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info(REPO, repo_type="dataset")


def test_commits_add_change_copy_and_delete_and_the_history_stays(api: Any, hub: HubServer) -> None:
    from huggingface_hub import CommitOperationCopy, CommitOperationDelete

    hub.create(REPO)
    first = commit(api, {"a/one.bin": b"\0one", "a/two.txt": b"two", "b/three.txt": b"three"})
    second = api.create_commit(
        REPO,
        [
            added("b/three.txt", b"other"),
            CommitOperationCopy("a/one.bin", "c/copy.bin"),
            CommitOperationDelete("a/", is_folder=True),
        ],
        commit_message="second",
        commit_description="and why",
        repo_type="dataset",
    )
    assert {path: content for path, content in hub.files(REPO).items() if path != ".gitattributes"} == {
        "b/three.txt": b"other",
        "c/copy.bin": b"\0one",
    }
    assert hub.files(REPO, first.oid)["a/two.txt"] == b"two"
    listed = api.list_repo_commits(REPO, repo_type="dataset")
    assert [entry.title for entry in listed] == ["second", "some files", "initial commit"]
    assert (listed[0].commit_id, listed[0].message, listed[0].authors) == (second.oid, "and why", ["user"])
    with pytest.raises(Exception, match="A file with this name doesn't exist: nowhere"):
        api.delete_file("nowhere", REPO, repo_type="dataset")


def test_a_commit_on_a_parent_that_is_not_the_newest_is_refused(api: Any, hub: HubServer) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    head = hub.create(REPO).head.oid
    newer = hub.change(REPO, {"note.txt": b"from somebody else"})
    with pytest.raises(HfHubHTTPError) as caught:
        commit(api, {"a.txt": b"a"}, parent_commit=head)
    assert caught.value.response.status_code == 412
    assert hub.repository(REPO).head == newer
    made = commit(api, {"a.txt": b"a"}, parent_commit=newer.oid)
    assert hub.repository(REPO).commits[made.oid].parent == newer.oid


def test_files_that_did_not_change_are_neither_sent_nor_committed(api: Any, hub: HubServer) -> None:
    hub.create(REPO)
    files = {"one.npy": b"1" * 500, "two.npy": b"2" * 500, "note.txt": b"text"}
    commit(api, files)
    assert hub.log.received("lfs-put") == 1000
    hub.log.forget()
    head = hub.repository(REPO).head
    same = commit(api, files)
    assert same.oid == head.oid == hub.repository(REPO).head.oid
    assert (hub.log.counts()["commit"], hub.log.counts()["lfs-put"]) == (0, 0)
    hub.log.forget()
    commit(api, {**files, "two.npy": b"3" * 700})
    assert [entry.received for entry in hub.log.of("lfs-put")] == [700]
    # The commit says its title and one file; the two others were told apart by preupload.
    assert len(hub.log.of("commit")) == 1
    assert hub.repository(REPO).last_change(hub.repository(REPO).head, "one.npy") == head
    assert hub.repository(REPO).last_change(hub.repository(REPO).head, "two.npy").parent == head.oid


def test_a_large_object_is_sent_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    content = bytes(range(256)) * 10
    with HubServer(tmp_path / "hub", multipart_bytes=1000) as hub:
        hub.create(REPO)
        api = HfApi(endpoint=hub.endpoint, token=hub.token)
        commit(api, {"large.bin": content, "small.bin": b"\0"})
        assert [entry.received for entry in sorted(hub.log.of("lfs-part"), key=lambda e: e.target)] == [1000, 1000, 560]
        assert (hub.log.counts()["lfs-join"], hub.log.counts()["lfs-put"]) == (1, 1)
        assert hub.files(REPO)["large.bin"] == content


def test_a_pointer_to_an_object_that_is_not_there_is_refused(api: Any, hub: HubServer) -> None:
    head = hub.create(REPO).head

    def lose_objects(_: object) -> None:
        for path in hub.lfs_objects.folder.iterdir():
            path.unlink()

    hub.order(Fault("^commit ", before=lose_objects))
    with pytest.raises(Exception, match="LFS pointer pointed to a file that does not exist"):
        commit(api, {"lost.bin": b"\0lost"})
    assert hub.log.counts()["lfs-put"] == 1
    assert hub.repository(REPO).head == head


def test_an_object_is_what_its_name_says_or_is_not_kept(api: Any, hub: HubServer) -> None:
    from huggingface_hub import get_session

    del api  # it lets this process reach the Hub
    right, wrong = b"\0right", b"\0wrong"
    name = hashlib.sha256(right).hexdigest()
    assert get_session().put(f"{hub.cdn}/lfs/{name}", content=wrong).status_code == 400
    assert hub.lfs_objects.sizes() == {}
    assert get_session().put(f"{hub.cdn}/lfs/{name}", content=right).status_code == 200
    assert get_session().put(f"{hub.endpoint}/lfs/{name}", content=right).status_code == 421
    assert hub.lfs_objects.sizes() == {name: 6}
    assert get_session().get(f"{hub.cdn}/cdn/{name}").content == right


def test_a_tree_comes_in_pages_and_missing_folders_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HubServer(tmp_path / "hub", tree_page=4) as hub:
        hub.create(REPO, {f"data {part}/{number}.txt": b"x" for part in "ab" for number in range(5)})
        api = HfApi(endpoint=hub.endpoint, token=hub.token)
        listed = list(api.list_repo_tree(REPO, repo_type="dataset", recursive=True))
        assert [entry.path for entry in listed][:3] == ["data a", "data b", ".gitattributes"]
        assert len(listed) == 13
        assert hub.log.counts()["tree"] == 4
        below = list(api.list_repo_tree(REPO, "data b", repo_type="dataset", expand=True))
        assert [entry.path for entry in below] == [f"data b/{number}.txt" for number in range(5)]
        assert {entry.last_commit and entry.last_commit.title for entry in below} == {"somebody else"}
        for missing in ("data", "data b/0.txt"):
            with pytest.raises(EntryNotFoundError):
                list(api.list_repo_tree(REPO, missing, repo_type="dataset"))
        with pytest.raises(RevisionNotFoundError):
            api.repo_info(REPO, repo_type="dataset", revision="nowhere")
        found = api.get_paths_info(REPO, ["data a/1.txt", "nowhere", "data b"], repo_type="dataset")
        assert [entry.path for entry in found] == ["data a/1.txt", "data b"]


def test_branches_tags_and_pull_requests_name_commits(api: Any, hub: HubServer) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    hub.create(REPO, {"a.txt": b"first"})
    api.create_tag(REPO, tag="v1.0", repo_type="dataset")
    api.create_branch(REPO, branch="side", repo_type="dataset")
    commit(api, {"a.txt": b"side"}, revision="side")
    proposed = commit(api, {"a.txt": b"proposed"}, create_pr=True)
    assert proposed.pr_url == f"{hub.endpoint}/datasets/{REPO}/discussions/1"
    commit(api, {"b.txt": b"and more"}, revision="refs/pr/1")
    commit(api, {"a.txt": b"second"})
    contents = {name: hub.files(REPO, name)["a.txt"] for name in ("v1.0", "side", "refs/pr/1", "main")}
    assert contents == {"v1.0": b"first", "side": b"side", "refs/pr/1": b"proposed", "main": b"second"}
    assert hub.files(REPO, "refs/pr/1")["b.txt"] == b"and more"
    listed = api.list_repo_refs(REPO, repo_type="dataset", include_pull_requests=True)
    assert [ref.name for ref in listed.branches] == ["main", "side"]
    assert [ref.name for ref in listed.tags] == ["v1.0"]
    assert [ref.ref for ref in listed.pull_requests] == ["refs/pr/1"]
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_tag(REPO, tag="v1.0", repo_type="dataset")
    assert caught.value.response.status_code == 409
    api.delete_branch(REPO, branch="side", repo_type="dataset")
    api.delete_tag(REPO, tag="v1.0", repo_type="dataset")
    with pytest.raises(Exception, match="Invalid rev id"):
        api.repo_info(REPO, repo_type="dataset", revision="v1.0")


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        (None, 200, slice(0, 1000)),
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=990-5000", 206, slice(990, 1000)),
        ("bytes=-10", 206, slice(990, 1000)),
        ("bytes=1000-", 416, slice(0, 0)),
    ],
)
@pytest.mark.parametrize("name", ["large.bin", "small.txt"])
def test_ranges_are_those_of_the_file_wherever_it_is_kept(
    api: Any, hub: HubServer, name: str, asked: str | None, status: int, expected: slice
) -> None:
    from huggingface_hub import get_session

    del api  # it lets this process reach the Hub
    content = bytes(65 + number % 26 for number in range(1000))
    head = hub.create(REPO, {name: content}).head
    headers = {"Authorization": f"Bearer {hub.token}", **({"Range": asked} if asked else {})}
    url = f"{hub.endpoint}/datasets/{REPO}/resolve/main/{name}"
    shown = get_session().head(url, headers=headers, follow_redirects=False)
    assert shown.headers["X-Repo-Commit"] == head.oid
    answer = get_session().get(url, headers=headers, follow_redirects=True)
    assert (answer.status_code, answer.content) == (status, content[expected])
    if status == 206:
        start, stop, _ = expected.indices(1000)
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/1000"
    if name == "large.bin":
        assert shown.status_code == 302
        assert shown.headers["X-Linked-Etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
        assert shown.headers["X-Linked-Size"] == "1000"


def test_a_card_that_the_hub_would_refuse_is_refused_before_anything_is_sent(api: Any, hub: HubServer) -> None:
    hub.create(REPO)
    for wrong, sentence in (
        (b"---\nlicense: [\n---\n", "not a YAML mapping"),
        (b"---\nlicense: {a: 1}\n---\n", '"license" must be'),
        (b"---\nsize_categories: lots\n---\n", '"size_categories" must be'),
        (b"---\nconfigs:\n- data_files: 3\n---\n", "config_name.*must be a string"),
    ):
        with pytest.raises(ValueError, match=sentence):
            commit(api, {"README.md": wrong})
    assert "preupload" not in hub.log.counts()
    commit(api, {"README.md": CARD})
    assert api.dataset_info(REPO).card_data.license == "mit"


def test_tokens_say_who_may_do_what(api: Any, hub: HubServer) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    told = api.whoami()
    assert (told["name"], [org["name"] for org in told["orgs"]]) == ("user", ["team"])
    assert api.whoami(token=hub.read_token)["auth"]["accessToken"]["role"] == "read"
    api.create_repo("team/shared", repo_type="dataset")
    refused = []
    for name, token in (
        ("someone/else", hub.token),
        ("user/new", hub.read_token),
        ("user/new", "hf_nobody"),
        ("user/new", False),
    ):
        with pytest.raises(HfHubHTTPError) as caught:
            api.create_repo(name, repo_type="dataset", token=token)
        refused.append(caught.value.response.status_code)
    assert refused == [403, 403, 401, 401]
    assert set(hub.repositories) == {("datasets", "team/shared")}
    hub.create(REPO)
    for token, status in ((hub.read_token, 403), (hub.stranger_token, 403), (False, 401)):
        with pytest.raises(HfHubHTTPError) as caught:
            commit(api, {"a.txt": b"a"}, token=token)
        assert caught.value.response.status_code == status


def test_private_and_gated_files_are_read_by_those_who_may(api: Any, hub: HubServer, tmp_path: Path) -> None:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    repository = hub.create(REPO, {"a.bin": b"\0content"})

    caches = count()

    def fetched(token: str | bool) -> bytes:
        folder = tmp_path / f"cache{next(caches)}"
        path = api.hf_hub_download(REPO, "a.bin", repo_type="dataset", token=token, cache_dir=folder)
        return Path(path).read_bytes()

    anonymous = False
    assert fetched(anonymous) == b"\0content"
    repository.private = True
    for hidden in (anonymous, hub.stranger_token):
        with pytest.raises(RepositoryNotFoundError):
            api.repo_info(REPO, repo_type="dataset", token=hidden)
        with pytest.raises(RepositoryNotFoundError):
            fetched(hidden)
    assert fetched(hub.read_token) == b"\0content"
    repository.private, repository.gated = False, "auto"
    for outside in (anonymous, hub.stranger_token):
        assert api.repo_info(REPO, repo_type="dataset", token=outside).gated == "auto"
        with pytest.raises(GatedRepoError):
            fetched(outside)
    repository.accepted.add("stranger")
    assert fetched(hub.stranger_token) == b"\0content"


def test_an_answer_that_is_lost_leaves_the_work_done(api: Any, hub: HubServer) -> None:
    head = hub.create(REPO).head
    hub.order(replace(FAULTS["lost answer"], pattern="^commit "))
    with pytest.raises(Exception, match=r"disconnected|closed|reset"):
        commit(api, {"a.txt": b"a"})
    assert hub.files(REPO)["a.txt"] == b"a"
    assert hub.repository(REPO).head.parent == head.oid
    assert [entry.status for entry in hub.log.of("commit")] == [0]


def test_a_connection_that_ends_before_the_work_leaves_it_undone(api: Any, hub: HubServer) -> None:
    head = hub.create(REPO).head
    hub.order(replace(FAULTS["hang up"], pattern="^commit "))
    with pytest.raises(Exception, match=r"disconnected|closed|reset"):
        commit(api, {"a.txt": b"a"})
    assert hub.repository(REPO).head == head


@pytest.mark.parametrize("name", ["internal error", "bad gateway", "unavailable", "gateway timeout", "rate limit"])
@pytest.mark.usefixtures("no_waiting")
def test_what_passes_is_tried_again_by_the_client_and_counted(api: Any, hub: HubServer, name: str) -> None:
    hub.create(REPO)
    hub.order(replace(FAULTS[name], pattern="^preupload ", times=2))
    commit(api, {"a.txt": b"a"})
    status = FAULTS[name].status
    assert [entry.status for entry in hub.log.of("preupload")] == [status, status, 200]


def test_a_rate_limit_says_how_long_to_wait(api: Any, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", waited.append)
    hub.create(REPO)
    hub.order(replace(rate_limited(41), pattern="^preupload "))
    commit(api, {"a.txt": b"a"})
    assert waited == [42]


@pytest.mark.parametrize(("name", "status"), [("wrong parent", 412), ("missing rights", 403), ("expired token", 401)])
def test_what_does_not_pass_is_told_and_nothing_is_done(api: Any, hub: HubServer, name: str, status: int) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    head = hub.create(REPO).head
    hub.order(replace(FAULTS[name], pattern=r"POST .*/commit/"))
    with pytest.raises(HfHubHTTPError) as caught:
        commit(api, {"a.txt": b"a"})
    assert caught.value.response.status_code == status
    assert hub.repository(REPO).head == head


@pytest.mark.usefixtures("no_waiting")
def test_a_body_that_is_cut_is_fetched_again(api: Any, hub: HubServer, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20
    hub.create(REPO, {"a.bin": content})
    hub.order(replace(FAULTS["cut body"], pattern="^cdn GET"))
    path = api.hf_hub_download(REPO, "a.bin", repo_type="dataset", cache_dir=tmp_path / "cache")
    assert Path(path).read_bytes() == content
    assert [(entry.status, entry.sent) for entry in hub.log.of("cdn")] == [(200, 1000), (200, 5120)]


def test_slow_and_damaged_bodies_arrive_as_ordered(
    api: Any, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(1000)
    hub.create(REPO, {"a.bin": content, "b.bin": b"\0" * 999})
    hub.order(replace(FAULTS["flipped bit"], pattern="^cdn GET"))
    damaged = Path(api.hf_hub_download(REPO, "a.bin", repo_type="dataset", cache_dir=tmp_path / "cache")).read_bytes()
    assert [at for at in range(1000) if damaged[at] != content[at]] == [100]
    waited: list[float] = []
    monkeypatch.setattr("hub_server.wire.time.sleep", waited.append)
    hub.order(Fault("^cdn GET", bytes_per_second=1998))
    path = api.hf_hub_download(REPO, "b.bin", repo_type="dataset", cache_dir=tmp_path / "cache")
    assert Path(path).read_bytes() == b"\0" * 999
    assert 0.5 in waited


def test_a_hook_sees_the_request_of_its_number_before_and_after_the_work(api: Any, hub: HubServer) -> None:
    hub.create(REPO)
    seen: list[tuple[str, str, bool]] = []

    def note(when: str) -> Any:
        return lambda entry: seen.append((when, entry.kind, "two.txt" in hub.files(REPO)))

    hub.order(Fault("^commit ", nth=2, before=note("before"), after=note("after")))
    for name in ("one.txt", "two.txt", "three.txt"):
        commit(api, {name: b"text"})
    assert seen == [("before", "commit", False), ("after", "commit", True)]


def test_a_commit_in_between_is_a_lost_race(api: Any, hub: HubServer) -> None:
    head = hub.create(REPO).head.oid
    hub.order(Fault("^commit ", before=lambda _: hub.change(REPO, {"b.txt": b"theirs"})))
    with pytest.raises(Exception, match="A commit has happened since"):
        commit(api, {"a.txt": b"ours"}, parent_commit=head)
    assert "a.txt" not in hub.files(REPO)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_client_killed_at_a_request_leaves_what_was_done_until_then(
    hub: HubServer, tmp_path: Path, when: str
) -> None:
    hub.create(REPO)
    code = """
        import json
        from huggingface_hub import CommitOperationAdd, HfApi

        api, repo = HfApi(), "user/scenes"
        files = [CommitOperationAdd(f"{number}.npy", bytes([number]) * 5000) for number in range(3)]
        api.preupload_lfs_files(repo, files, repo_type="dataset", num_threads=1)
        api.create_commit(repo, files, commit_message="three files", repo_type="dataset")
        print(json.dumps("done"))
    """
    started = threading.Event()

    def kill(_: object) -> None:
        assert started.wait(60)
        process.kill()
        process.wait(60)

    ordered = {"before": Fault(before=kill, hang_up=True), "after": Fault(after=kill, lose_answer=True)}[when]
    hub.order(replace(ordered, pattern="^lfs-put ", nth=2))
    environment = hub.environment(tmp_path / "home")
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=environment, cwd=tmp_path) as process:
        started.set()
    assert process.returncode == -9
    assert len(hub.lfs_objects.sizes()) == {"before": 1, "after": 2}[when]
    assert "commit" not in hub.log.counts()
    hub.log.forget()
    assert run(hub, tmp_path, code) == "done"
    assert hub.log.counts()["lfs-put"] == {"before": 2, "after": 1}[when]
    assert hub.files(REPO)["2.npy"] == b"\2" * 5000


def test_what_xet_stored_before_a_client_was_killed_is_not_sent_again(tmp_path: Path) -> None:
    (tmp_path / "shard.npy").write_bytes(random.Random(1).randbytes(200_000))  # noqa: S311
    code = """
        import json
        from huggingface_hub import HfApi

        made = HfApi().upload_file(
            path_or_fileobj="shard.npy", path_in_repo="shard.npy", repo_id="user/scenes", repo_type="dataset"
        )
        print(json.dumps(made.oid))
    """
    started = threading.Event()

    def kill(_: object) -> None:
        assert started.wait(60)
        process.kill()
        process.wait(60)

    with HubServer(tmp_path / "hub", xet=True) as hub:
        head = hub.create(REPO).head
        hub.order(Fault("^commit ", before=kill, hang_up=True))
        environment = hub.environment(tmp_path / "home")
        with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=environment, cwd=tmp_path) as process:
            started.set()
        assert process.returncode == -9
        assert hub.repository(REPO).head == head
        stored = hub.xet_files.stored_bytes()
        assert stored > 200_000
        assert run(hub, tmp_path, code) == hub.repository(REPO).head.oid
        assert hub.xet_files.stored_bytes() == stored
        assert hub.files(REPO)["shard.npy"] == (tmp_path / "shard.npy").read_bytes()


def test_of_many_commits_on_one_parent_exactly_one_is_made(
    api: Any, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = hub.create(REPO)
    head, add = repository.head, repository.add

    def slowly(*given: Any, **named: Any) -> Any:
        time.sleep(0.05)  # without a lock, all would be between the look at the parent and the change
        return add(*given, **named)

    monkeypatch.setattr(repository, "add", slowly)

    def answer(number: int) -> str:
        try:
            return str(commit(api, {"a.txt": str(number).encode()}, parent_commit=head.oid).oid)
        except OSError as error:
            return str(error)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(answer, range(16)))
    made = hub.repository(REPO).head
    assert made.parent == head.oid
    assert hub.files(REPO)["a.txt"] == str(answers.index(made.oid)).encode()
    assert sum("A commit has happened since" in said for said in answers) == 15


def test_a_token_that_reaches_the_other_origin_is_a_problem(tmp_path: Path) -> None:
    import urllib.request

    content = b"\0content"
    with pytest.raises(AssertionError, match="a token was sent to the CDN"), HubServer(tmp_path / "hub") as hub:  # noqa: PT012
        hub.create(REPO, {"a.bin": content})
        address = f"{hub.cdn}/cdn/{hashlib.sha256(content).hexdigest()}"
        opened = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opened.open(address) as answer:
            assert answer.read() == content
        assert not hub.problems
        opened.addheaders = [("Authorization", f"Bearer {hub.token}")]
        with pytest.raises(OSError, match="500"):
            opened.open(address)
