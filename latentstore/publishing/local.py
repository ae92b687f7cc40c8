"""What there is to publish: the sealed configs of a folder, looked at quickly, and their files by sha256.

No shard is read: its sha256 is the manifest's, and a shard that is sent is compared with it on the way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from latentstore.card.front_matter import read_card
from latentstore.containers.table import CONTAINERS
from latentstore.errors import NotSealedError, PublishError, RequestError, StoreError
from latentstore.file_records import LocalFile
from latentstore.hashing import sha256_of
from latentstore.manifest import FILE_NAME, Manifest, ShardInfo
from latentstore.manifest.names import CARD, JOURNAL, SKIPPED
from latentstore.named_table import unknown_name
from latentstore.publishing.records import LocalConfig, Progress, PublishProgress, silent
from latentstore.quarantine import skipped_lines
from latentstore.vaes.table import VAES
from latentstore.verify import verify

HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
PLACES_IN_OPTIONS = ("/", "~", "./", "../", "file:")


def local_configs(
    folder: str | Path, names: Sequence[str] | None = None, *, force: bool = False, progress: Progress = silent
) -> list[LocalConfig]:
    """The sealed configs of a repository's folder, or the one whose own folder this is, by name.

    Each is verified to the depth ``quick``. NotSealedError where one is not complete; PublishError where one fails,
    unless ``force`` says that it is published as it is.
    """
    found = []
    for place in _folders(Path(folder).expanduser(), names):
        progress(PublishProgress("check", place.name))
        found.append(_config(place, force=force))
    return found


def _folders(root: Path, names: Sequence[str] | None) -> list[Path]:
    if not root.is_dir():
        raise RequestError(f"There is no folder {str(root)!r}: give the one that `latentstore build` wrote to (--out).")
    if (root / FILE_NAME).is_file():
        own = Manifest.read(root).config
        for name in names or ():
            if name != own:
                raise unknown_name("config", name, [own])
        return [root]
    sealed = {path.parent.name: path.parent for path in sorted(root.glob(f"*/{FILE_NAME}"))}
    unfinished = [path.parent.name for path in sorted(root.glob(f"*/{JOURNAL}")) if path.parent.name not in sealed]
    if (root / JOURNAL).is_dir():
        raise NotSealedError(f"{root} is not complete: type the same `latentstore build` command again to finish it.")
    for name in names or unfinished:
        if name in unfinished:
            raise NotSealedError(
                f"{root / name} is not complete: type the same `latentstore build` command again to finish it, or name "
                "the others with --config."
            )
        if name not in sealed:
            raise unknown_name("config", name, list(sealed))
    if not sealed:
        raise NotSealedError(
            f"{root} holds no latent dataset: expected <config>/{FILE_NAME} below it, found none; give the folder that "
            "`latentstore build` wrote to (--out)."
        )
    return [sealed[name] for name in dict.fromkeys(names or sealed)]


def _config(folder: Path, *, force: bool) -> LocalConfig:
    report = verify(folder, depth="quick")
    failed = tuple(f"{finding.file}: {finding.message}" for result in report.results for finding in result.findings)
    if failed and not force:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise PublishError(
            f"{folder} is not what its manifest says ({failed[0].rstrip('.')}{more}): see latentstore verify {folder} "
            "--quick, or publish it as it is with --force; the card then says so."
        )
    manifest = Manifest.read(folder)
    missing = [info.path for info in manifest.listed_files if not (folder / info.path).is_file()]
    if missing:
        raise PublishError(f"{folder} lacks {', '.join(missing)}, which cannot be published, not even with --force.")
    name = manifest.config
    data = [_data_file(name, folder / info.path, info) for info in manifest.listed_files]
    preview = folder / manifest.preview
    if preview.is_file():
        data.append(LocalFile(f"{name}/{preview.name}", preview, preview.stat().st_size, sha256_of(preview)))
    if manifest.build.skipped:  # beside an append that is not finished, the file may be that of another manifest
        data.append(LocalFile.of_text(f"{name}/{SKIPPED}", skipped_lines(manifest.build.skipped)))
    published = without_local_paths(manifest)
    # As it is to the byte, unless something had to go.
    text = (folder / FILE_NAME).read_text(encoding="utf-8") if published == manifest else published.to_json()
    file = LocalFile.of_text(f"{name}/{FILE_NAME}", text)
    return LocalConfig(published, tuple(data), file, failed, _scores(folder, manifest))


def local_words(folder: str | Path) -> str | None:
    """README.md of the repository's folder, whose words a new card begins with; None where there is none."""
    root = Path(folder).expanduser()
    card = (root.parent if (root / FILE_NAME).is_file() else root) / CARD
    return read_card(card)


def _scores(folder: Path, manifest: Manifest) -> Sequence[float | None] | None:
    if "psnr" not in manifest.metrics:
        return None
    try:
        found: Sequence[float | None] = CONTAINERS[manifest.storage.container].read_index(
            folder / manifest.index.path, ["psnr"], manifest.rows
        )["psnr"]
    except (StoreError, OSError, ValueError, KeyError):  # only with ``force``, and then the card says so
        return None
    return found


def _data_file(config: str, path: Path, info: ShardInfo) -> LocalFile:
    """By the manifest's word; one of another size is hashed, which only ``force`` lets come this far."""
    size = path.stat().st_size
    return LocalFile(f"{config}/{path.name}", path, size, info.sha256 if size == info.bytes else sha256_of(path))


def without_local_paths(manifest: Manifest) -> Manifest:
    """The manifest without the folders of the machine that it was built on; the same one where it names none.

    Of the pictures' folder its last part stays; a folder of weights is left out, and their sha256 says which they are.
    """
    source, plan = manifest.source, dict(manifest.build.plan)
    location = source.location
    on_hub = source.reader == "open_hub_images" and HUB_NAME.fullmatch(location) and not Path(location).is_dir()
    if not on_hub:
        location = _last_part(location)
        if plan.get("location") == source.location:
            plan["location"] = location
    options = _without_places(source.options)
    if "options" in plan:
        plan["options"] = _without_places(plan["options"])
    return replace(
        manifest,
        source=replace(source, location=location, options=options),
        vae=replace(manifest.vae, repo=_public_repository(manifest)),
        build=replace(manifest.build, plan=plan),
    )


def _public_repository(manifest: Manifest) -> str | None:
    """The VAE's Hub repository, if it is one: that of the table, or one whose commit is known."""
    vae = manifest.vae
    row = VAES.get(vae.name)
    if vae.repo is None or (row is not None and row.repo == vae.repo):
        return vae.repo
    return vae.repo if vae.revision is not None and HUB_NAME.fullmatch(vae.repo) else None


def _without_places(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _last_part(value) if isinstance(value, str) and value.startswith(PLACES_IN_OPTIONS) else value
        for name, value in options.items()
    }


def _last_part(location: str) -> str:
    """The name of the folder, of whatever system the path is; an address of the web stays."""
    if location.startswith(("http://", "https://")):
        return location
    return re.split(r"[/\\]", location.rstrip("/\\"))[-1]
