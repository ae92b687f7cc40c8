"""What the tests of reading back share: a repository with two configs, and a client of a Hub on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hub_server import HubServer

REPO = "user/latents"


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def hub_with(built: Path, room: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub that has what was built as ``REPO``, and this process's client with an empty cache."""
    with HubServer(room / "hub") as hub:
        hub.create(REPO, files_of(built))
        ask(hub, room / "cache", monkeypatch)
        yield hub


def ask(hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch, token: str | None = None) -> None:
    """Let this process's client ask that Hub, and keep files there."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants._HF_DEFAULT_ENDPOINT, hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", token == "")
    monkeypatch.setenv("HF_TOKEN", hub.token if token is None else token)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ``HF_HUB_OFFLINE=1``."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def fetched(hub: HubServer) -> set[str]:
    """Paths of the files that were asked for."""
    asked = hub.log.of("resolve")
    return {entry.target.partition("/resolve/")[2].partition("/")[2].partition("?")[0] for entry in asked}
