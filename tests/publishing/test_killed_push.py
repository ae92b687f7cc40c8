"""A push that dies at any moment: scripts/kill_push.py in short, over LFS."""

from __future__ import annotations

import multiprocessing
import random
import signal
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from hub_server import Entry, Fault, HubServer
from publishing_words import REPO, push_once
from scenes import build_scenes, scenes

SCRIPTS = Path(__file__).parents[2] / "scripts"
KILLS = 4
LIFE = 60
"""Seconds after which a push hangs."""


@pytest.fixture
def kill_push(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import kill_push

    return kill_push


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two versions of one config, in eight shards and in six."""
    found = []
    for number, rows in enumerate((3, 4)):
        found.append(tmp_path_factory.mktemp(f"version-{number}"))
        build_scenes(found[-1], source=scenes(24, 24 + 8 * number), rows_per_shard=rows, config="scenes")
    return found


class Pusher:
    """Starts pushes in processes that begin in a moment, because what they import was imported before."""

    def __init__(self, cache: Path) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["publishing_words", "huggingface_hub.hf_api", "pyarrow.parquet"])
        self._cache = cache

    def start(self, hub: HubServer, version: Path) -> BaseProcess:
        """A push of a version that runs."""
        process = self._context.Process(
            target=push_once, args=(str(version), hub.endpoint, hub.token, str(self._cache)), daemon=True
        )
        process.start()
        return process

    def run(self, hub: HubServer, version: Path) -> None:
        """A push that ends well."""
        process = self.start(hub, version)
        process.join(LIFE)
        assert process.exitcode == 0


def test_a_killed_push_leaves_a_whole_state_and_goes_on_to_that_of_one_that_was_not(
    versions: list[Path], kill_push: Any, tmp_path: Path
) -> None:
    pusher = Pusher(tmp_path / "cache")
    rng = random.Random(6)  # noqa: S311 (no secret)
    with HubServer(tmp_path / "plain") as hub:
        pusher.run(hub, versions[0])
        hub.log.forget()
        pusher.run(hub, versions[1])
        wanted, requests = hub.files(REPO), len(hub.log.entries)
    for number in range(KILLS):
        with HubServer(tmp_path / f"hub-{number}") as hub, kill_push.Reader(hub) as reader:
            pusher.run(hub, versions[0])
            hub.log.forget()
            dying: list[BaseProcess] = []
            begun = threading.Event()

            def kill(_: Entry, dying: list[BaseProcess] = dying, begun: threading.Event = begun) -> None:
                begun.wait(LIFE)
                dying[0].kill()

            hub.order(Fault(nth=rng.randint(1, requests - 1), **{rng.choice(["before", "after"]): kill}))
            dying.append(pusher.start(hub, versions[1]))
            begun.set()
            dying[0].join(LIFE)
            assert dying[0].exitcode == -signal.SIGKILL
            pusher.run(hub, versions[1])
            assert hub.files(REPO) == wanted
            whole = [entry.target for entry in hub.log.of("lfs-put") if entry.status == 200]
            assert len(whole) == len(set(whole))
        assert reader.looks > 0
        assert reader.wrong == []
