"""What the tests of publishing say again and again."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from forged import Records, forge

from latentstore import CardChoices, Manifest, publish
from latentstore.card.front_matter import Readme
from latentstore.hashing import sha256_of
from latentstore.manifest import SkippedInfo
from latentstore.manifest.names import SKIPPED
from latentstore.quarantine import write_skipped
from latentstore.retries import Patience

REPO = "user/latents"
CONFIG = "synthetic-pool8"
LICENSED = CardChoices(license="cc0-1.0")
SOON = Patience(first_wait=0, sleep=lambda _: None)


def change_one_shard(local: Path, shard: int = 1) -> str:
    """Change a row of one shard, as another build would; its path in the repository."""

    def warmer(records: Records) -> Records:
        return [replace(records[0], latent=records[0].latent + 1), *records[1:]]

    forge(local / CONFIG, warmer, shard=shard)
    return f"{CONFIG}/{Manifest.read(local / CONFIG).splits['train'].shards[shard].path}"


def paths_of(local: Path) -> set[str]:
    """The files of a repository's folder that are published."""
    return {path.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file()}


def missing_data(files: Mapping[str, bytes]) -> list[str]:
    """What the manifests and the card among these files promise and the files do not keep."""
    import hashlib

    wrong = []
    for path, content in files.items():
        if not path.endswith("/manifest.json"):
            continue
        folder = path.removesuffix("manifest.json")
        manifest = Manifest.from_file(content.decode(), path)
        for info in [*(shard for split in manifest.splits.values() for shard in split.shards), manifest.index]:
            found = files.get(folder + info.path)
            if found is None or hashlib.sha256(found).hexdigest() != info.sha256:
                wrong.append(folder + info.path)
    return [*wrong, *(pattern for pattern in _patterns(files) if not fnmatch.filter(files, pattern))]


def _patterns(files: Mapping[str, bytes]) -> list[str]:
    """Of the files that the card names, as `datasets` reads it."""
    card = Readme.parse(files.get("README.md", b"").decode())
    entries = card.data.get("configs") or ()
    return [split["path"] for entry in entries for split in entry["data_files"]]


def files_at(place: str) -> dict[str, bytes]:
    """Every file at an fsspec URL or in a folder, by its path from there."""
    import fsspec

    files, root = fsspec.core.url_to_fs(place)
    files.invalidate_cache()
    return {path.removeprefix(root).lstrip("/"): files.cat_file(path) for path in files.find(root)}


def same_files(one: Path, two: Path) -> bool:
    """Whether two folders hold the same files to the byte; names that start with a dot do not count."""

    def listed(root: Path) -> dict[str, str]:
        found = ((path.relative_to(root), path) for path in root.rglob("*") if path.is_file())
        return {name.as_posix(): sha256_of(path) for name, path in found if not name.parts[0].startswith(".")}

    return listed(one) == listed(two)


def skip_some(local: Path, count: int = 2) -> str:
    """Let the manifest know of pictures that were skipped, as a build does; the path of their list."""
    folder = local / CONFIG
    manifest = Manifest.read(folder)
    skipped = tuple(SkippedInfo(f"bad{n}", f"bad/{n}.png", "is empty", "train", n) for n in range(count))
    source = replace(manifest.source, images={"train": manifest.rows + count})
    replace(manifest, source=source, build=replace(manifest.build, skipped=skipped)).write(folder)
    write_skipped(folder, skipped)
    return f"{CONFIG}/{SKIPPED}"


def push_once(folder: str, endpoint: str, token: str, cache: str) -> None:
    """What `latentstore push` does, for a process of its own that a test may kill."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = False
    constants.HF_HUB_DISABLE_XET = True
    constants.HF_HUB_CACHE = cache
    publish(folder, REPO, choices=LICENSED, endpoint=endpoint, token=token, patience=SOON)


def append_like(local: Path) -> tuple[str, str]:
    """Name the last shard and the index as an appending build does; their paths."""
    folder = local / CONFIG
    manifest = Manifest.read(folder)
    train = manifest.splits["train"]
    shard = replace(train.shards[-1], path="train-plus001-00000-of-00001.parquet")
    index = replace(manifest.index, path="index-1.parquet")
    (folder / train.shards[-1].path).rename(folder / shard.path)
    (folder / manifest.index.path).rename(folder / index.path)
    splits = {**manifest.splits, "train": replace(train, shards=(*train.shards[:-1], shard))}
    replace(manifest, splits=splits, index=index).write(folder)
    return f"{CONFIG}/{shard.path}", f"{CONFIG}/{index.path}"
