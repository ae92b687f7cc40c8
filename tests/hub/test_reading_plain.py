"""Datasets on the Hub read by those who do not have this library: `datasets`, `webdataset`, each in its own process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hub_reading import REPO, files_of
from hub_server import HubServer
from scenes import build_scenes

from latentstore import CONTAINERS, load_latents

ROWS = 12
USUAL: Mapping[str, Any] = {"metrics": (), "rows_per_shard": 6}
PRINT = "import json; print(json.dumps(found))"


def run(code: str, environment: Mapping[str, str]) -> Any:
    """What ``code`` leaves in ``found``, in a process of its own; nothing else is printed."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{PRINT}"],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from scenes import scenes

    out = tmp_path_factory.mktemp("parquet")
    build_scenes(out, config="one", source=scenes(ROWS, 16), **USUAL)
    build_scenes(out, config="two", source=scenes(ROWS, 16), layout="fast", **USUAL)
    return out


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from scenes import scenes

    out = tmp_path_factory.mktemp("tars")
    build_scenes(out, config="tar", source=scenes(ROWS, 16), container=CONTAINERS["webdataset"], **USUAL)
    return out


LOAD = """
from datasets import load_dataset
rows = load_dataset({repo!r}, {config!r}, split="train", streaming={streaming})
found = [[row["id"], row["label"], float(sum(map(sum, row["latent"][0])))] for row in rows]
"""


def expected(folder: Path, config: str) -> list[list[Any]]:
    dataset = load_latents(folder, config, space="raw", columns=["id", "label"])
    return [[row["id"], int(row["label"]), float(row["latent"][0].double().sum())] for row in dataset]


def test_plain_datasets_streams_downloads_and_loads_again_offline(parquet: Path, tmp_path: Path) -> None:
    with HubServer(tmp_path / "hub") as hub:
        hub.create(REPO, files_of(parquet))
        online = hub.environment(tmp_path / "home")
        wanted = expected(parquet, "two")
        for streaming in (True, False):
            found = run(LOAD.format(repo=REPO, config="two", streaming=streaming), online)
            assert [row[:2] for row in found] == [row[:2] for row in wanted]
            assert [row[2] for row in found] == pytest.approx([row[2] for row in wanted], abs=1e-2)
        hub.log.forget()
        offline = {**online, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        assert run(LOAD.format(repo=REPO, config="two", streaming=False), offline) == found
        assert not hub.log.entries


def test_plain_datasets_and_webdataset_read_tars_where_they_are(tars: Path, tmp_path: Path) -> None:
    with HubServer(tmp_path / "hub") as hub:
        hub.create(REPO, files_of(tars))
        online = hub.environment(tmp_path / "home")
        wanted = expected(tars, "tar")
        for first in (f"{REPO!r}, 'tar'", f"'webdataset', data_files='hf://datasets/{REPO}/tar/*.tar'"):
            code = f"""
from datasets import load_dataset
rows = load_dataset({first}, split="train", streaming=True)
found = [[row["json"]["id"], int(row["cls"]), float(sum(map(sum, row["latent.npy"][0])))] for row in rows]
"""
            found = run(code, online)
            assert [row[:2] for row in found] == [row[:2] for row in wanted]
            assert [row[2] for row in found] == pytest.approx([row[2] for row in wanted], abs=1e-2)


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset reads URLs through curl")
def test_webdataset_streams_from_the_hub_by_its_urls(tars: Path, tmp_path: Path) -> None:
    with HubServer(tmp_path / "hub") as hub:
        hub.create(REPO, files_of(tars))
        code = f"""
import webdataset
urls = "hf://datasets/{REPO}/tar/train-{{000000..000001}}.tar"
rows = webdataset.WebDataset(urls, shardshuffle=False).decode()
found = [row["json"]["id"] for row in rows]
"""
        assert run(code, hub.environment(tmp_path / "home")) == [row[0] for row in expected(tars, "tar")]


def test_this_library_in_a_process_of_its_own_is_silent_and_needs_no_network_the_second_time(
    parquet: Path, tmp_path: Path
) -> None:
    code = f"""
import sys
from latentstore import load_latents
dataset = load_latents("{REPO}", "one", split="train", columns=["id"])
found = list(dataset.batch(range({ROWS}))["id"])
"""
    with HubServer(tmp_path / "hub") as hub:
        hub.create(REPO, files_of(parquet)).private = True
        shown = {**hub.environment(tmp_path / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "0", "TQDM_POSITION": "-1"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=shown, capture_output=True, text=True, timeout=120, check=True
        )
        assert (done.stdout, done.stderr) == ("", "")
        hub.log.forget()
        ids = run(code, {**hub.environment(tmp_path / "home"), "HF_HUB_OFFLINE": "1"})
        assert ids == [row[0] for row in expected(parquet, "one")]
        assert not hub.log.entries
