"""A home with a stranger's dataset in it, the user's own files around it, and what may not happen to them."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CONFIG, HONEST = "photos-pool8", "honest-pool8"
MINE = b"mine, and nobody else's\n"
SECRET = "the-secret-of-this-home"  # noqa: S105 (no password)
"""Stands in every private file, and must never come out."""
PICTURES = 9
"""A number that nothing else in the manifest is, so that it can be changed everywhere at once."""
LARGE = 64 << 20
"""Bytes of files whose content is not looked at: only attacks have such."""
SHARD = "train-00000-of-00001.parquet"


@dataclass
class Scratch:
    """One home; a command is run in it, and sees the stranger's files through it."""

    home: Path
    web: str = ""
    """URL of the server that hands out the stranger's repository."""
    elsewhere: str = ""
    """URL of a server that nobody named."""
    keys: dict[str, bytes] = field(default_factory=dict)
    """Further keys of a bucket with the repository, such as no disk can have."""
    answer: Callable[[Any, str], bool] = lambda handler, path: False  # noqa: ARG005
    """What the web server does instead of its answer; False where it answers as usual."""
    own: dict[Path, bytes] = field(default_factory=dict)
    """The user's own files inside what a command may change."""
    excess: list[str] = field(default_factory=list)
    """What was done beyond measure, as the attack itself has seen it."""

    @property
    def repo(self) -> Path:
        """The stranger's repository."""
        return self.home / "stranger" / "repo"

    @property
    def config(self) -> Path:
        """Its only config."""
        return self.repo / CONFIG

    @property
    def honest(self) -> Path:
        """The user's own repository."""
        return self.home / "honest"

    @property
    def target(self) -> Path:
        """The folder that the user names to be written to."""
        return self.home / "work" / "target"

    @property
    def private(self) -> Path:
        """A folder that nobody names."""
        return self.home / "private"

    @property
    def cache(self) -> Path:
        """Where decoded shards are kept."""
        return self.home / ".cache" / "latentstore" / "decoded"

    def fill(self, text: str) -> str:
        """A word of ``words.py`` with the places of this home in it."""
        for name, value in (("@HOME@", str(self.home)), ("@ELSEWHERE@", self.elsewhere), ("@WEB@", self.web)):
            text = text.replace(name, value)
        return text

    def manifest(self) -> dict[str, Any]:
        """The stranger's manifest as plain JSON."""
        found: dict[str, Any] = json.loads((self.config / "manifest.json").read_text(encoding="utf-8"))
        return found

    def seal(self, data: Mapping[str, Any]) -> None:
        """Write it with a digest that is right, whatever it says."""
        (self.config / "manifest.json").write_text(sealed(data), encoding="utf-8")

    def reseal(self) -> None:
        """Make size and sha256 of every listed file right again, as far as the files are there."""
        data = self.manifest()
        listed = [shard for split in data["splits"].values() for shard in split["shards"]]
        for entry in [*listed, data["index"]]:
            path = self.config / entry["path"]
            if stat.S_ISREG(path.stat().st_mode):
                content = path.read_bytes()
                entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        size = data["size"]
        size["stored_bytes"] = sum(entry["bytes"] for entry in listed)
        size["bits_per_pixel"] = 8 * size["stored_bytes"] / size["pixels"]
        size["raw_rgb_over_stored"] = size["raw_rgb_bytes"] / max(1, size["stored_bytes"])
        size["source_over_stored"] = size["source_bytes"] / max(1, size["stored_bytes"])
        self.seal(data)

    def mine(self, path: Path, content: bytes = MINE) -> None:
        """A file of the user's own, where a command may write."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.own[path] = content


def sealed(data: Mapping[str, Any]) -> str:
    """The text of a manifest, ended by its digest. Escapes stand for what is no ASCII: JSON can say more than UTF-8."""
    found: dict[str, str] = {}
    for digest in ("", None):
        whole = {**data, "digest": found.get("digest", "") if digest is None else ""}
        text = json.dumps(whole, indent=2) + "\n"
        found["digest"] = hashlib.sha256(text.encode()).hexdigest()
    return text


def draw_pictures(folder: Path, first: int = 0, last: int = PICTURES) -> None:
    """Pictures of 32x32, two classes."""
    for number in range(first, last):
        path = folder / ("forest", "harbor")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(path)


def make_home(home: Path) -> None:
    """The home that every cell gets a copy of: everything in it is honest."""
    from latentstore import STORAGES, VAES, BuildPlan, build, folder_source

    home.mkdir(parents=True)
    os.chdir(home)  # so that the manifest names a place that every copy has
    draw_pictures(Path("photos"))
    for config, out, storage in ((CONFIG, "stranger/repo", "int8"), (HONEST, "honest", "float16")):
        plan = BuildPlan(
            source=folder_source("photos"),
            vae=VAES["pool8"],
            config=config,
            storage=STORAGES[storage],
            rows_per_shard=PICTURES,
            calibration=PICTURES,
            threads=1,
        )
        build(plan, home / out)
    scratch = Scratch(home)
    draw_pictures(home / "source" / "photos", 20, 24)
    scratch.target.mkdir(parents=True)
    for folder in (home, home / "work", home / "stranger", scratch.private):
        folder.mkdir(exist_ok=True)
        (folder / "victim.txt").write_bytes(MINE)
    (home / ".bashrc").write_bytes(MINE)
    (scratch.private / "letter.txt").write_text(f"{SECRET}\n")
    draw_pictures(scratch.private / "pictures", 40, 43)
    for folder in (scratch.repo, scratch.target):
        (folder / "victim.txt").write_bytes(MINE)


def looks_of(home: Path, without: tuple[Path, ...]) -> dict[str, str]:
    """What lies in a home, links as what they are; not what lies in these folders."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(home):
        here = Path(folder)
        folders[:] = [name for name in folders if here / name not in without or (here / name).is_symlink()]
        for name in (*folders, *files):
            path = here / name
            kind = path.lstat().st_mode
            if path in without and not stat.S_ISLNK(kind):
                continue
            if stat.S_ISLNK(kind):
                looks = f"link to {path.readlink()}"
            elif stat.S_ISREG(kind):
                size = path.stat().st_size
                content = path.read_bytes() if size < LARGE else b""
                looks = f"{size} bytes, {hashlib.blake2b(content).hexdigest()[:16]}"
            else:
                looks = f"kind {stat.S_IFMT(kind):o}"
            found[str(path.relative_to(home))] = looks
    return found


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What came, went and changed, in words."""
    return [
        *(f"made {name}" for name in after if name not in before),
        *(f"removed {name}" for name in before if name not in after),
        *(f"changed {name}" for name in before if after.get(name, before[name]) != before[name]),
    ]
