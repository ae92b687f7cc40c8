"""Small datasets to publish, and a Hub on this machine to publish them to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer
from publishing_words import SOON
from scenes import build_scenes, scenes

from latentstore import drop, publish, pull


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub on this machine, with plain LFS, that this process may talk to."""
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with HubServer(tmp_path / "hub") as server:
        yield server
        close_session()


@pytest.fixture
def push(hub: HubServer) -> Callable[..., Any]:
    """``publish`` to that Hub as its user, who does not wait long."""
    return partial(publish, endpoint=hub.endpoint, token=hub.token, patience=SOON)


@pytest.fixture
def remove(hub: HubServer) -> Callable[..., Any]:
    """``drop`` likewise."""
    return partial(drop, endpoint=hub.endpoint, token=hub.token, patience=SOON)


@pytest.fixture
def fetch(hub: HubServer) -> Callable[..., Any]:
    """``pull`` likewise."""
    return partial(pull, endpoint=hub.endpoint, token=hub.token, patience=SOON)


@pytest.fixture
def local(drawn: Path, tmp_path: Path) -> Path:
    """A repository with the config ``synthetic-pool8`` of three shards, which may be changed."""
    return shutil.copytree(drawn, tmp_path / "local")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another repository, with the config ``other`` of one shard."""
    out = tmp_path_factory.mktemp("other")
    build_scenes(out, source=scenes(6), config="other")
    return out
