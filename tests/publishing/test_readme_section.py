"""The README's commands for publishing, one after another, against a Hub on this machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from hub_server import HubServer
from scenes import write_pictures

from latentstore import VAES, BuildPlan, build, folder_source

ROOT = Path(__file__).parents[2]
TOOL = str(Path(sys.executable).parent / "latentstore")
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Publishing\n")[2].partition("\n## ")[0]


def test_every_command_runs(hub: HubServer, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "photos", {"a/1.png": (16, 16), "b/1.png": (16, 16)})
    # What the README builds with `demo`, without its weights.
    build(BuildPlan(source=folder_source(str(pictures)), vae=VAES["pool8"], config="photos-demo"), tmp_path / "latents")
    (block,) = re.findall(r"```bash\n(.*?)```", SECTION, flags=re.DOTALL)
    commands = [line.split() for line in block.splitlines()]
    assert [words[1] for words in commands] == ["push", "push", "verify", "show", "pull", "drop", "push"]
    for words in commands:
        done = subprocess.run(
            [TOOL, *words[1:]],
            env=hub.environment(tmp_path / "home"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)
    assert "photos-demo/manifest.json" in hub.files("user/photos-latents", "v1.0")
    copies = [tmp_path / "copy", tmp_path / "share" / "photos-latents"]
    for folder in copies:
        for path in (tmp_path / "latents" / "photos-demo").glob("*.parquet"):
            assert (folder / "photos-demo" / path.name).read_bytes() == path.read_bytes()
