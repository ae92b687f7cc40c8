"""pull(): published configs back into a folder; the manifest comes last, when its data was found to be sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latentstore.card import CARD, scores_of
from latentstore.card.front_matter import LARGEST_CARD
from latentstore.errors import DamagedShardError, NotSealedError, PlanMismatchError
from latentstore.file_records import LocalFile, RemoteFile
from latentstore.hashing import sha256_of
from latentstore.journal import JOURNAL, write_atomically
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.named_table import unknown_name
from latentstore.publishing.interface import Access, Target
from latentstore.publishing.merged_card import card_of, card_with, notes_of
from latentstore.publishing.own_files import beside, is_beside, is_file_of, listed_files
from latentstore.publishing.planning import published_configs
from latentstore.publishing.records import Progress, PublishProgress, TargetState, silent
from latentstore.publishing.table import open_target
from latentstore.retries import Patience

LARGEST_COPY = 256 << 20
"""Bytes of a README that is copied as it is, and not read as a card."""


@dataclass(frozen=True)
class PullReport:
    """What came."""

    folder: str
    commit: str
    """That it is of, of a place with commits; else empty."""
    configs: tuple[str, ...]
    received: tuple[str, ...]
    """Paths of files that were not here before."""
    skipped: tuple[str, ...]
    """Paths of files that were here already, by their sha256."""
    bytes: int
    """Of the files that were received."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        from latentstore.json_records import plain

        found: dict[str, Any] = plain(self)
        return found


def pull(
    location: str | Path,
    folder: str | Path,
    configs: Sequence[str] | None = None,
    *,
    revision: str | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    patience: Patience | None = None,
) -> PullReport:
    """Bring published configs (all, or ``configs``) into a repository's folder.

    ``location`` is what ``publish`` takes, at ``@revision`` or ``revision`` (a branch, tag or commit); all files are of
    one commit. Files that are here already and have the right sha256 are not fetched again, and an interrupted pull
    goes on. Where another version of a config is here, its manifest is removed first.

    Raises DamagedShardError where what came is not what the manifest says, else PublishError, StoreError or
    RequestError.
    """
    tell = progress or silent
    place = open_target(location, revision, Access(endpoint, token, patience or Patience()))
    tell(PublishProgress("compare"))
    state = place.state()
    if not state.exists or not state.branch_exists:
        raise NotSealedError(place.absence(state))
    names = _chosen(place, state, configs)
    root = Path(folder).expanduser()
    manifests = {name: _manifest(place, state, name) for name in names}
    received: list[str] = []
    skipped: list[str] = []
    wanted: dict[str, RemoteFile] = {}
    for name, (manifest, text) in manifests.items():
        files = _wanted(manifest, state)
        _make_room(root / name, text, set(files))
        for path, file in files.items():
            (skipped if _is_here(root, file) else received).append(path)
        wanted |= files
    total, done = sum(state.files[path].bytes for path in received), 0
    for path in place.fetch(state, received, root):
        done += state.files[path].bytes
        _check(root, wanted[path])
        tell(PublishProgress("receive", path, done, total))
    for name, (_, text) in manifests.items():
        write_atomically(root / name / FILE_NAME, text)
    _write_card(root, place, state, whole=configs is None)
    return PullReport(str(root), state.head, tuple(names), tuple(received), tuple(skipped), total)


def _chosen(place: Target, state: TargetState, configs: Sequence[str] | None) -> list[str]:
    there = published_configs(state)
    for name in configs or ():
        if name not in there:
            raise unknown_name("config", name, there)
    if not there:
        raise NotSealedError(f"{place.name} holds no latent dataset: expected <config>/{FILE_NAME} in it, found none.")
    return list(dict.fromkeys(configs or there))


def _manifest(place: Target, state: TargetState, config: str) -> tuple[Manifest, str]:
    path = f"{config}/{FILE_NAME}"
    text = place.read(state, path).decode("utf-8", "replace")
    manifest = Manifest.from_file(text, f"{place.name}/{path}")
    lacking = [info.path for info in listed_files(manifest) if f"{config}/{info.path}" not in state.files]
    if lacking:
        raise DamagedShardError(f"{place.name} lacks {config}/{lacking[0]}, which its manifest lists.")
    return manifest, text


def _wanted(manifest: Manifest, state: TargetState) -> dict[str, RemoteFile]:
    """The data of a config by its path inside the repository: with the manifest's sha256, else the listing's."""
    start = f"{manifest.config}/"
    listed = {start + info.path: info.sha256 for info in listed_files(manifest)}
    unlisted = [start + name for name in beside(manifest) if start + name in state.files]
    found = {path: replace(state.files[path], sha256=sha256) for path, sha256 in listed.items()}
    return {**found, **{path: state.files[path] for path in unlisted}}


def _make_room(folder: Path, text: str, wanted: set[str]) -> None:
    """Take away what another version of the config left: the manifest first, then files that are not of this one."""
    if (folder / JOURNAL).is_dir():
        raise PlanMismatchError(f"{folder} is being built: choose another folder, or remove that folder.")
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / FILE_NAME
    if own.is_file() and own.read_bytes() != text.encode():
        own.unlink()
    for path in sorted(folder.iterdir()):
        inside = f"{folder.name}/{path.name}"
        if path.is_file() and path != own and inside not in wanted and is_file_of(inside, {folder.name}):
            path.unlink()


def _is_here(root: Path, wanted: RemoteFile) -> bool:
    """Whether the very file is here; another one of its name is removed."""
    here = root / wanted.path
    if not here.is_file():
        return False
    if _holds(here, wanted):
        return True
    here.unlink()
    return False


def _check(root: Path, wanted: RemoteFile) -> None:
    if not _holds(root / wanted.path, wanted):
        (root / wanted.path).unlink()
        who = "the listing there" if is_beside(wanted.path.rpartition("/")[2]) else "its manifest"
        raise DamagedShardError(
            f"{wanted.path} came with another sha256 than {who} says, and was removed: type the same command again; if "
            "it happens again, the published file is damaged."
        )


def _holds(here: Path, wanted: RemoteFile) -> bool:
    size = here.stat().st_size
    return size == wanted.bytes and wanted.holds(LocalFile(wanted.path, here, size, sha256_of(here)))


def _write_card(root: Path, place: Target, state: TargetState, *, whole: bool) -> None:
    """The published card, or one of the configs that are here, where that is not all of it."""
    sealed = {path.parent.name for path in root.glob(f"*/{FILE_NAME}")}
    as_it_is = whole and sealed == set(published_configs(state))
    text = card_of(place, state, LARGEST_COPY if as_it_is else LARGEST_CARD)
    if text is None or not as_it_is:
        manifests = [Manifest.read(root / name) for name in sorted(sealed)]
        scores = {manifest.config: found for manifest in manifests if (found := scores_of(root, manifest))}
        text = card_with(place, state, manifests, text, notes=notes_of(text, sealed), scores=scores)
    card = root / CARD
    if not card.is_file() or card.read_bytes() != text.encode():
        write_atomically(card, text)
