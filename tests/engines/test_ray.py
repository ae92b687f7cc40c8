"""Engine ray: real clusters on this machine, each in a process of its own and with a timeout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from latentstore_cli.main import main
from ray_cluster import ray_plan
from scenes import plan, write_pictures

from latentstore import build, folder_source
from latentstore.engines.table import ENGINES
from latentstore.errors import RequestError

TESTS = Path(__file__).parents[1]
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}

needs_ray = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import ray"], capture_output=True, check=False).returncode != 0,
    reason="ray is not installed: pip install 'latentstore[ray]'",
)


def in_a_process(*arguments: object, timeout: float = 180) -> str:
    """What the program printed."""
    # nobody answers there: what the environment names is none of the library's business
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(TESTS), "RAY_ADDRESS": "127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment,
        cwd=TESTS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def by_one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("local")
    build(ray_plan(), out)
    return out


def on_two_nodes(out: Path, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(in_a_process(TESTS / "ray_cluster.py", out, *options).splitlines()[-1])
    return found


@needs_ray
def test_two_nodes_share_the_work_and_write_the_bytes_of_one_process(by_one_process: Path, tmp_path: Path) -> None:
    found = on_two_nodes(tmp_path / "ray")
    assert len(found["finished_by"]) == 2
    assert found["refused"] == "The Ray cluster has 4 CPU slots and 9 workers were asked for: choose --workers 4."
    assert bytes_of(tmp_path / "ray") == bytes_of(by_one_process)


@needs_ray
def test_a_node_that_is_killed_in_the_middle_changes_no_byte(by_one_process: Path, tmp_path: Path) -> None:
    found = on_two_nodes(tmp_path / "ray", "--kill")
    assert 0 < found["killed_after"] < found["shards"]
    assert bytes_of(tmp_path / "ray") == bytes_of(by_one_process)


WITHOUT_A_CLUSTER = """
import sys
from pathlib import Path
from latentstore import build, folder_source
from latentstore.engines.table import ENGINES
from latentstore.errors import LatentStoreError
from scenes import plan

if __name__ == "__main__":
    import ray
    pictures, out = map(Path, sys.argv[1:])
    try:
        build(plan(source=folder_source(pictures), strict=True), out, engine=ENGINES["ray"])
    except LatentStoreError as error:
        print(type(error).__name__, error)
    print("still connected:", ray.is_initialized())
"""


@needs_ray
def test_a_cluster_is_started_where_there_is_none_and_an_actors_error_is_that_of_the_build(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(WITHOUT_A_CLUSTER)
    pictures = write_pictures(tmp_path / "pictures", {f"a/{n}.png": (40, 40) for n in range(9)})
    said = in_a_process(program, pictures, tmp_path / "ray").splitlines()
    assert said == ["still connected: False"]
    build(plan(source=folder_source(pictures), strict=True), tmp_path / "local")
    assert bytes_of(tmp_path / "ray") == bytes_of(tmp_path / "local")

    cut = pictures / "a/4.png"
    cut.write_bytes(cut.read_bytes()[:-200])
    said = in_a_process(program, pictures, tmp_path / "stopped").splitlines()
    assert said[0].startswith("SourceError 'a/4.png' cannot be used: "), said
    assert said[1] == "still connected: False"


class FakeRay(ModuleType):
    """Notes how it is asked to connect, and then does not."""

    def __init__(self, *, connected: bool = False) -> None:
        super().__init__("ray")
        self.connected = connected
        self.asked: list[dict[str, Any]] = []

    def is_initialized(self) -> bool:
        return self.connected

    def init(self, **arguments: Any) -> None:
        self.asked.append(arguments)
        raise ConnectionError("not today")

    def cluster_resources(self) -> dict[str, float]:
        return {}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    found = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", found)
    monkeypatch.setenv("RAY_ADDRESS", "somebody:6379")
    return found


def test_the_library_joins_no_cluster_that_is_not_named(fake: FakeRay, tmp_path: Path) -> None:
    for engine, address in ((ENGINES["ray"], "local"), (ENGINES["ray"].at("head:6379"), "head:6379")):
        with pytest.raises(RequestError, match="Ray cannot be reached: not today"):
            build(plan(), tmp_path, engine=engine, workers=2)
        assert fake.asked.pop()["address"] == address
    assert fake.asked == []


def test_a_cluster_that_the_caller_is_connected_to_is_used(fake: FakeRay, tmp_path: Path) -> None:
    fake.connected = True
    with pytest.raises(RequestError, match="The Ray cluster has 0 CPU slots and 1 workers were asked for"):
        build(plan(), tmp_path, engine=ENGINES["ray"])
    assert fake.asked == []


@pytest.mark.parametrize(
    ("options", "address"),
    [([], "somebody:6379"), (["--ray-address", "head:6379"], "head:6379"), (["--ray-address", ""], "local")],
)
def test_the_command_line_takes_the_users_option_or_variable(
    fake: FakeRay, tmp_path: Path, options: list[str], address: str
) -> None:
    command = ["build", "synthetic", "--vae", "pool8", "--out", str(tmp_path), "--source-option", "count=2"]
    result = CliRunner().invoke(main, [*command, "--engine", "ray", *options])
    assert "Ray cannot be reached: not today" in result.output
    assert [asked["address"] for asked in fake.asked] == [address]


def test_an_address_is_for_engines_that_have_clusters(fake: FakeRay, tmp_path: Path) -> None:
    sentence = "Engine 'local' has no clusters: leave the address out, or choose engine ray."
    with pytest.raises(RequestError, match=sentence):
        ENGINES["local"].at("head:6379")
    command = ["build", "synthetic", "--vae", "pool8", "--out", str(tmp_path), "--source-option", "count=2"]
    refused = CliRunner().invoke(main, [*command, "--ray-address", "head:6379"])
    assert refused.exit_code == 1
    assert sentence in refused.output
    assert CliRunner().invoke(main, command).exit_code == 0  # the variable is Ray's, not ours
    assert fake.asked == []


def test_an_observer_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="An observer sees the pictures of one process only"):
        build(plan(), tmp_path, engine=ENGINES["ray"], observe=lambda *_: None)
