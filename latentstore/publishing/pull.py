"""pull(): published configs back into a folder; the manifest comes last, when its data was found to be sound."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latentstore.card import refuse_foreign_card, scores_of
from latentstore.errors import DamagedShardError, NotSealedError, PlanMismatchError, RequestError
from latentstore.file_records import LocalFile, RemoteFile
from latentstore.hashing import sha256_of
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.manifest.names import CARD, JOURNAL, PULLED, PULLING, is_beside, is_config_name, is_data_name
from latentstore.named_table import unknown_name
from latentstore.publishing.interface import Access, Target
from latentstore.publishing.merged_card import card_of, card_with, notes_of
from latentstore.publishing.planning import in_the_way, is_own, own_files, published_configs
from latentstore.publishing.records import Progress, PublishProgress, TargetState, silent
from latentstore.publishing.table import open_target
from latentstore.retries import Patience
from latentstore.system.durable_files import write_atomically
from latentstore.system.safe_paths import below, refuse_link


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
    goes on. Another version of a config that is here gives way, its manifest first. Files that this library did not put
    here stay, and so do words on a card that was here before.

    Raises RequestError where files of others are in the way, before anything is fetched; DamagedShardError where what
    came is not what the manifest says, else PublishError or StoreError.
    """
    tell = progress or silent
    place = open_target(location, revision, Access(endpoint, token, patience or Patience()))
    tell(PublishProgress("compare"))
    state = place.state()
    if not state.exists or not state.branch_exists:
        raise NotSealedError(place.absence(state))
    names = _chosen(place, state, configs)
    root = Path(folder).expanduser()
    refuse_foreign_card(root, "choose another folder")
    manifests = {name: _manifest(place, state, name) for name in names}
    rooms = {name: _room(root, manifest, state) for name, (manifest, _) in manifests.items()}
    wanted = {path: file for room in rooms.values() for path, file in room.wanted.items()}
    received = [path for room in rooms.values() for path in room.lacking]
    for name, room in rooms.items():
        _make_room(root / name, room, manifests[name][1])
    total, done = sum(wanted[path].bytes for path in received), 0
    for path in place.fetch(state, received, root):
        done += wanted[path].bytes
        _check(root, wanted[path])
        tell(PublishProgress("receive", path, done, total))
    for name, (_, text) in manifests.items():
        write_atomically(root / name / FILE_NAME, text)
        (root / name / PULLING).unlink(missing_ok=True)
    _write_card(root, place, state, whole=configs is None)
    skipped = tuple(path for path in wanted if path not in set(received))
    return PullReport(str(root), state.head, tuple(names), tuple(received), skipped, total)


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
    manifest = Manifest.from_file(text, f"{place.name}/{path}").of_folder(config)
    lacking = [info.path for info in manifest.listed_files if f"{config}/{info.path}" not in state.files]
    if lacking:
        raise DamagedShardError(f"{place.name} lacks {config}/{lacking[0]}, which its manifest lists.")
    return manifest, text


@dataclass(frozen=True)
class _Room:
    """A config's folder here, and what is to become of the files in it."""

    wanted: Mapping[str, RemoteFile]
    """Data of the config by its path inside the repository: with the manifest's sha256, else the listing's."""
    lacking: tuple[str, ...]
    """Paths of those that are not here."""
    stale: tuple[str, ...]
    """Paths of what another version left."""
    own: Mapping[str, str | None]
    """See ``own_files``."""


def _room(root: Path, manifest: Manifest, state: TargetState) -> _Room:
    """What to do with a config's folder; nothing is changed. RequestError where files of others are in the way."""
    folder = root / manifest.config
    refuse_link(folder, "remove the link, or choose another folder")
    if (folder / JOURNAL).is_dir():
        raise PlanMismatchError(f"{folder} is being built: choose another folder, or remove that folder.")
    wanted = _wanted(manifest, state)
    paths = [path for path in sorted(folder.iterdir()) if not path.is_dir()] if folder.is_dir() else []
    listing = {file.path: file for file in (_unread(root, path) for path in paths)}
    own = own_files(TargetState(exists=True, files=listing), manifest.config, lambda path: (root / path).read_bytes())
    read = {path: _read(root, file) for path, file in listing.items() if path in {*wanted, *own}}
    found = {path for path, file in read.items() if path in wanted and wanted[path].holds(file)}
    files = {**listing, **{path: RemoteFile(path, file.bytes, file.sha256) for path, file in read.items()}}
    rest = TargetState(exists=True, files={path: file for path, file in files.items() if path not in found})
    others = in_the_way(rest, manifest, {*wanted, f"{manifest.config}/{FILE_NAME}"}, own)
    if others:
        raise RequestError(
            f"{root / others[0]}{' and more' if len(others) > 1 else ''} would be written over, or be read as a part "
            f"of {manifest.config!r}, and no manifest here lists it: move it away, or choose another folder."
        )
    stale = (path for path in own if path in rest.files and not path.endswith(f"/{FILE_NAME}"))
    return _Room(
        wanted=wanted,
        lacking=tuple(path for path in wanted if path not in found),
        stale=tuple(path for path in stale if is_own(files[path], own)),
        own=own,
    )


def _unread(root: Path, path: Path) -> RemoteFile:
    """A file of a config here by its name and size; UnsafePathError for a link, which might lead anywhere."""
    if is_data_name(path.name) or path.name in (FILE_NAME, PULLING):
        refuse_link(path, "remove the link, or choose another folder")
    return RemoteFile(path.relative_to(root).as_posix(), path.lstat().st_size)


def _read(root: Path, file: RemoteFile) -> LocalFile:
    here = below(root, file.path)
    return LocalFile(file.path, here, file.bytes, sha256_of(here))


def _wanted(manifest: Manifest, state: TargetState) -> dict[str, RemoteFile]:
    start = f"{manifest.config}/"
    listed = {start + info.path: info.sha256 for info in manifest.listed_files}
    unlisted = [start + name for name in manifest.beside if start + name in state.files]
    found = {path: replace(state.files[path], sha256=sha256) for path, sha256 in listed.items()}
    return {**found, **{path: state.files[path] for path in unlisted}}


def _make_room(folder: Path, room: _Room, text: str) -> None:
    """Take away what another version of the config left: the manifest first, then files that are not of this one.

    A journal says meanwhile what may be written over, so that a pull that was interrupted goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / FILE_NAME
    is_this = own.is_file() and own.read_bytes() == text.encode()
    if is_this and not room.lacking and not room.stale:
        return
    names = sorted({path.rpartition("/")[2] for path in (*room.wanted, *room.own)})
    write_atomically(folder / PULLING, json.dumps({"files": names}, indent=1) + "\n")
    if not is_this:
        own.unlink(missing_ok=True)
    for path in room.stale:
        (folder.parent / path).unlink(missing_ok=True)


def _check(root: Path, wanted: RemoteFile) -> None:
    here = below(root, wanted.path)
    if not wanted.holds(LocalFile(wanted.path, here, here.stat().st_size, sha256_of(here))):
        here.unlink()
        who = "the listing there" if is_beside(here.name) else "its manifest"
        raise DamagedShardError(
            f"{wanted.path} came with another sha256 than {who} says, and was removed: type the same command again; if "
            "it happens again, the published file is damaged."
        )


def _write_card(root: Path, place: Target, state: TargetState, *, whole: bool) -> None:
    """The published card, or one of the configs that are here, where that is not all of it.

    The words on a card that was here, and is not as a pull left it, stay: only what is rendered is new.
    """
    text, mine = card_of(place, state), _words_here(root)
    sealed = {path.parent.name for path in root.glob(f"*/{FILE_NAME}") if is_config_name(path.parent.name)}
    if text is None or mine is not None or not whole or sealed != set(published_configs(state)):
        manifests = [Manifest.read(root / name) for name in sorted(sealed)]
        scores = {manifest.config: found for manifest in manifests if (found := scores_of(root, manifest))}
        notes = notes_of(text, sealed)
        text = card_with(place, state, manifests, text if mine is None else mine, notes=notes, scores=scores)
    card = root / CARD
    if not card.is_file() or card.read_bytes() != text.encode():
        write_atomically(card, text)
    pulled = json.dumps({CARD: sha256_of(card)}) + "\n"
    if mine is None and not _holds(root / PULLED, pulled):
        write_atomically(root / PULLED, pulled)


def _words_here(root: Path) -> str | None:
    """The card that is here, if somebody wrote it; None where there is none, or the one that a pull wrote."""
    card = root / CARD
    if not card.is_file() or _holds(root / PULLED, json.dumps({CARD: sha256_of(card)}) + "\n"):
        return None
    return card.read_text(encoding="utf-8")


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.stat().st_size == len(text) and path.read_text(encoding="utf-8") == text
