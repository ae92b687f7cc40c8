"""`latentstore push`, `pull` and `drop`, as users run them: against a Hub on this machine, over LFS and over Xet."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hub_server import HubServer

if TYPE_CHECKING:
    from tests.cli.conftest import Run, RunInstalled, RunOnTerminal

REPO = "user/tiny"


@pytest.fixture(params=["lfs", "xet"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HubServer]:
    """A Hub on this machine."""
    with HubServer(tmp_path / "hub", xet=request.param == "xet") as server:
        yield server


def test_a_dataset_goes_to_the_hub_and_comes_back(
    hub: HubServer, run_installed: RunInstalled, copy: Path, tmp_path: Path
) -> None:
    environment = hub.environment(tmp_path / "home")
    pushed = run_installed("push", copy, REPO, "--license", "cc0-1.0", "--yes", "--tag", "v1", env=environment)
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.startswith(f"Pushed tiny-pool8 to {hub.endpoint}/datasets/{REPO}\n")
    assert "sending tiny-pool8/" in pushed.stderr
    again = run_installed("push", copy, REPO, "--json", env=environment)
    assert json.loads(again.stdout)["sent"] == []
    pulled = run_installed("pull", f"{REPO}@v1", tmp_path / "back", env=environment)
    assert pulled.returncode == 0, pulled.stderr
    for path in (copy / "tiny-pool8").iterdir():
        if path.name != "manifest.json":  # it is published without the folder that the pictures were in
            assert (tmp_path / "back" / "tiny-pool8" / path.name).read_bytes() == path.read_bytes()
    verified = run_installed("verify", tmp_path / "back", "--sample", 0)
    assert verified.returncode == 0, verified.stdout
    dropped = run_installed("drop", REPO, "tiny-pool8", "--yes", env=environment)
    assert dropped.returncode == 0, dropped.stderr
    assert set(hub.files(REPO)) == {".gitattributes", "README.md"}


def test_a_change_goes_into_a_pull_request_or_a_branch_and_is_planned_first(
    run_installed: RunInstalled, copy: Path, tmp_path: Path
) -> None:
    with HubServer(tmp_path / "hub") as hub:
        environment = hub.environment(tmp_path / "home")
        pushed = run_installed("push", copy, REPO, "--license", "mit", "--yes", "--private", env=environment)
        assert pushed.returncode == 0, pushed.stderr
        assert hub.repository(REPO).private
        head = hub.repository(REPO).head.oid
        choice = ["--pretty-name", "Tiny scenes"]
        planned = run_installed("push", copy, REPO, *choice, "--dry-run", "--json", env=environment)
        assert json.loads(planned.stdout)["sent"] == ["README.md"]
        assert json.loads(planned.stdout)["added"] == []
        opened = run_installed("push", copy, REPO, *choice, "--create-pr", env=environment)
        assert opened.returncode == 0, opened.stderr
        page = f"{hub.endpoint}/datasets/{REPO}/discussions"
        assert opened.stdout.startswith(f"Opened a pull request with tiny-pool8: {page}/1\n")
        assert ": 0 new, 1 in the place of other versions\n" in opened.stdout
        assert f"latentstore verify {REPO}@refs/pr/1" in opened.stdout
        assert hub.repository(REPO).head.oid == head
        assert b"pretty_name: Tiny scenes" in hub.files(REPO, "refs/pr/1")["README.md"]
        looked = run_installed("verify", f"{REPO}@refs/pr/1", "--quick", env=environment)
        assert looked.returncode == 0, looked.stderr
        branched = run_installed("push", copy, REPO, *choice, "--revision", "draft", "--json", env=environment)
        assert json.loads(branched.stdout)["sent"] == ["README.md"]
        assert b"pretty_name: Tiny scenes" in hub.files(REPO, "draft")["README.md"]
        dropped = run_installed("drop", REPO, "tiny-pool8", "--create-pr", "--yes", env=environment)
        assert dropped.stdout.startswith(f"Opened a pull request without tiny-pool8: {page}/2\n")
        assert "tiny-pool8/manifest.json" not in hub.files(REPO, "refs/pr/2")
        assert hub.repository(REPO).head.oid == head


def test_a_new_repository_wants_a_yes(hub: HubServer, run_installed: RunInstalled, copy: Path, tmp_path: Path) -> None:
    environment = hub.environment(tmp_path / "home")
    refused = run_installed("push", copy, REPO, "--license", "mit", env=environment)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert f"Error: {REPO}: this would make this repository and send " in refused.stderr
    assert refused.stderr.rstrip().endswith("type --yes to let it, or see --dry-run.")
    assert not hub.repositories
    planned = run_installed("push", copy, REPO, "--license", "mit", "--dry-run", env=environment)
    assert planned.returncode == 0
    assert planned.stdout.startswith(f"Would push tiny-pool8 to {hub.endpoint}/datasets/{REPO} (a new repository)\n")
    assert not hub.repositories


def test_a_folder_is_pushed_to_without_a_hub(run: Run, copy: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    pushed = run("push", copy, there, "--license", "cc0-1.0", "--yes", "--json")
    assert pushed.exit_code == 0, pushed.stderr
    assert json.loads(pushed.stdout)["creates"] is True
    again = run("push", copy, there)
    assert again.stdout.startswith(f"Nothing to send: {there.as_uri()} has tiny-pool8 as it is here\n")
    pulled = run("pull", there, tmp_path / "back")
    assert pulled.stdout.startswith(f"{tmp_path / 'back'} holds tiny-pool8 of {there}\n")
    refused = run("drop", there, "tiny-pool8")
    assert refused.exit_code == 1
    assert "this would remove tiny-pool8/index.parquet" in refused.stderr
    dry = run("drop", there, "tiny-pool8", "--dry-run")
    assert dry.stdout.startswith("Would remove tiny-pool8 from ")
    assert run("drop", there, "tiny-pool8", "--yes").exit_code == 0
    assert not (there / "tiny-pool8" / "manifest.json").exists()


def test_a_missing_licence_is_one_sentence(run: Run, copy: Path, tmp_path: Path) -> None:
    refused = run("push", copy, tmp_path / "there", "--yes")
    assert refused.exit_code == 1
    assert "type it after --license, such as --license cc-by-4.0" in refused.stderr


def test_on_a_terminal_it_asks_and_shows_a_bar(run_on_terminal: RunOnTerminal, copy: Path, tmp_path: Path) -> None:
    shown = run_on_terminal("push", copy, tmp_path / "there", "--license", "mit", "--yes", columns=120)
    assert shown.exit_code == 0, shown.text
    assert any(line.startswith("Pushed tiny-pool8 to ") for line in shown.lines)
    assert "sending tiny-pool8/" in shown.text


def test_what_fails_verify_is_pushed_with_force_only(run: Run, copy: Path, tmp_path: Path) -> None:
    shard = next((copy / "tiny-pool8").glob("train-*.parquet"))
    shard.write_bytes(shard.read_bytes() + b"\0")
    there = tmp_path / "there"
    refused = run("push", copy, there, "--license", "mit", "--yes")
    assert refused.exit_code == 1
    assert "with --force; the card then says so." in refused.stderr
    forced = run("push", copy, there, "--license", "mit", "--yes", "--force")
    assert forced.exit_code == 0, forced.stderr
    assert "FAILED" in forced.stdout
    assert "Published with --force" in (there / "README.md").read_text()
    shutil.rmtree(there)
