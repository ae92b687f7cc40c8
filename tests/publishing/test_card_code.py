"""The code on a published card runs for a stranger: `datasets`, `webdataset` and this library, in a fresh process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer
from publishing_words import LICENSED, REPO, SOON
from scenes import build_scenes, scenes

from latentstore import CONTAINERS, load_latents, publish

FOUND = """
import json
print(json.dumps({
    "batch": list(batch["latent"].shape), "images": list(images.shape), "names": class_names,
    "stored": float(np.asarray(stored, "float64").sum()), "model": float(model.sum()), "shape": list(model.shape),
}))
"""


@pytest.mark.parametrize("container", ["parquet", "webdataset"])
def test_the_code_on_a_pushed_card_gives_what_was_built(hub: HubServer, tmp_path: Path, container: str) -> None:
    if container == "webdataset" and shutil.which("curl") is None:
        pytest.skip("webdataset reads URLs through curl")
    built = tmp_path / "built"
    build_scenes(built, source=scenes(12, 16), rows_per_shard=6, container=CONTAINERS[container], config="drawn")
    publish(built, REPO, choices=LICENSED, endpoint=hub.endpoint, token=hub.token, patience=SOON)
    card = hub.files(REPO)["README.md"].decode()
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(blocks) == (4 if container == "webdataset" else 3)
    assert f'load_latents("{REPO}", "drawn", split="train")' in blocks[0]
    # The card names the public Hub, which cannot be told to be another one.
    code = "\n".join(blocks).replace("https://huggingface.co", hub.endpoint)
    hub.log.forget()
    done = subprocess.run(
        [sys.executable, "-c", code + FOUND],
        env=hub.environment(tmp_path / "home", token=""),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert hub.log.sent("cdn") > 0
    found = json.loads(done.stdout)
    dataset = load_latents(built, "drawn", space="raw")
    number = 11 if container == "webdataset" else 0  # the loop over the tars ends with the last row
    raw = dataset[number]["latent"].double()
    model = load_latents(built, "drawn")[number]["latent"].double()
    assert found["batch"] == [12, *raw.shape]
    assert found["images"] == [4, 3, 16, 16]
    assert found["names"] == list(dataset.manifest.source.classes or ())
    assert found["shape"] == list(model.shape)
    assert found["stored"] == pytest.approx(float(raw.sum()), abs=1e-2)
    assert found["model"] == pytest.approx(float(model.sum()), abs=1e-2)
