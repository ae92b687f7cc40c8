"""What a location means, wherever one is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentstore.errors import RequestError
from latentstore.locations import HubRepository, LocalFolder, Location, RemoteUrl, location_of


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("user/repo", HubRepository("user/repo")),
        ("user/repo@v1.0", HubRepository("user/repo", "v1.0")),
        ("user/repo@refs/pr/1", HubRepository("user/repo", "refs/pr/1")),
        ("hub:user/repo", HubRepository("user/repo")),
        ("hub:user/my.repo-2@main", HubRepository("user/my.repo-2", "main")),
        ("hf://datasets/user/repo", HubRepository("user/repo")),
        ("hf://datasets/user/repo/", HubRepository("user/repo")),
        ("hf://datasets/user/repo@v1/a/b/", HubRepository("user/repo", "v1", "a/b")),
        ("hf://datasets/user/repo@refs%2Fpr%2F1/a", HubRepository("user/repo", "refs/pr/1", "a")),
        ("hf://datasets/user/repo@refs/pr/1/a", HubRepository("user/repo", "refs/pr/1", "a")),
        ("https://host/user/repo", RemoteUrl("https://host/user/repo")),
        ("s3://bucket/folder", RemoteUrl("s3://bucket/folder")),
        ("latents", LocalFolder(Path("latents"))),
        ("./user/repo", LocalFolder(Path("user/repo"))),
        ("../repo", LocalFolder(Path("../repo"))),
        ("./repo", LocalFolder(Path("repo"))),
        ("a/b/c", LocalFolder(Path("a/b/c"))),
        ("/user/repo", LocalFolder(Path("/user/repo"))),
        ("user/a repo", LocalFolder(Path("user/a repo"))),
    ],
)
def test_each_form_has_one_meaning(text: str, meant: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert location_of(text) == meant
    if isinstance(meant, HubRepository):
        assert location_of(str(meant)) == meant


def test_what_lies_here_goes_before_the_hub_unless_the_hub_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user" / "repo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert location_of("user/repo") == LocalFolder(Path("user/repo"))
    assert location_of("hub:user/repo") == HubRepository("user/repo")
    assert location_of(Path("user/other")) == LocalFolder(Path("user/other"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert location_of("~/user/repo") == LocalFolder(tmp_path / "user" / "repo")


@pytest.mark.parametrize(
    "text", ["hub:repo", "hub:user/repo/folder", "hub:./folder", "hub:user/repo@", "hf://models/user/repo", "hf://user"]
)
def test_what_begins_like_the_hubs_and_goes_on_otherwise_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=f"^Expected h.*, found {text!r}.$"):
        location_of(text)
