"""A folder on any file system as a place to publish: a bucket, a mounted disk, memory.

There are no commits, so the order of steps keeps readers from harm: the manifest of a config goes first, then its data
comes and is read back, then its manifest comes again, and the card last. ``<config>/.publishing.json`` says meanwhile
which files have arrived, so that what was interrupted goes on where it was, and who is at work. No lock can be had in a
bucket, and nobody can tell there whether who was interrupted will come back; so whoever comes later takes the config
over, and who was before finds that out before the next step and stops.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from latentstore.checks.interface import some
from latentstore.errors import ManifestError, MissingFileError, PublishError, RequestError
from latentstore.file_records import LocalFile, RemoteFile
from latentstore.fsspec_writing import WritableFolder, local_url
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.manifest.names import ARRIVED, CARD, config_folder, is_beside, is_data_name, is_partial_name
from latentstore.publishing.interface import Access, Sending
from latentstore.publishing.records import Progress, PublishPlan, PublishProgress, TargetState
from latentstore.retries import PassingError

LARGEST_TEXT = 256 << 20
READ_WHOLE = (CARD, FILE_NAME, ARRIVED)
"""Files whose content no manifest tells, besides those of ``names.is_beside``."""


@dataclass
class FolderTarget:
    """A repository's folder at an fsspec URL."""

    folder: WritableFolder
    _writer: str = field(default_factory=lambda: secrets.token_hex(8), init=False)
    """Who this is among those who publish there at the same time."""
    _done: set[str] = field(default_factory=set, init=False)
    """Configs that this process has put there whole. What is there instead since is someone else's."""
    _sent: dict[str, LocalFile] = field(default_factory=dict, init=False, repr=False)
    """What this process put there and found there again: of a file that is not as its manifest says nothing else knows
    the sha256."""

    @property
    def name(self) -> str:
        """The URL."""
        return self.folder.name

    @property
    def url(self) -> str:
        """The URL."""
        return self.folder.name

    @property
    def card_repository(self) -> None:
        """It is not on the Hub."""
        return

    @property
    def pull_request(self) -> str:
        """There are none."""
        return ""

    @property
    def pull_request_revision(self) -> str:
        """There are none."""
        return ""

    def accept(self, how: Sending) -> None:
        """RequestError for what only the Hub has."""
        given = {"--create-pr": how.create_pr, "--tag": how.tag is not None, "--private": how.private is not None}
        for option, asked in given.items():
            if asked:
                raise RequestError(f"{self.name} is no Hub repository, so {option} has no meaning for it.")

    def state(self) -> TargetState:
        """All files; the sha256 of data is the manifest's word, or that of ``.publishing.json`` while there is one."""
        sizes = self.folder.tree()
        unfinished = frozenset(config_folder(path) for path in sizes if path.endswith(f"/{ARRIVED}")) - {""}
        texts = self._texts(sizes)
        return TargetState(bool(sizes), files=self._files(sizes, texts), unfinished=unfinished, texts=texts)

    def _texts(self, sizes: Mapping[str, int]) -> dict[str, bytes]:
        """The small files among these, of which nothing else tells what is in them; who has gone meanwhile is not."""
        names = {path: path.rpartition("/")[2] for path in sizes if config_folder(path) or path == CARD}
        found = {}
        for path, name in names.items():
            if name in READ_WHOLE or is_beside(name):
                with suppress(MissingFileError):
                    found[path] = self._whole(path)
        return found

    def _files(self, sizes: Mapping[str, int], contents: Mapping[str, bytes]) -> dict[str, RemoteFile]:
        """What is known of these files, which are all of a config or of all of them, by their small files."""
        known: dict[str, str] = {}
        for path, content in sorted(contents.items(), key=lambda found: found[0].endswith(ARRIVED)):
            known[path] = hashlib.sha256(content).hexdigest()
            if path.endswith(f"/{FILE_NAME}"):
                known.update(_told_by_manifest(path, content, sizes))
            elif path.endswith(f"/{ARRIVED}"):
                # What this does not name may be half of another version.
                config = path.removesuffix(ARRIVED)
                known = {name: sha for name, sha in known.items() if not name.startswith(config) or name in contents}
                known.update(_told_by_journal(config, content))
        mine = {path for path, file in self._sent.items() if known.get(path) == file.sha256}
        for path, file in self._sent.items():
            # Where the manifest beside it is another's, so may this be.
            if f"{_config_of(path)}/{FILE_NAME}" in mine and sizes.get(path) == file.bytes:
                known.setdefault(path, file.sha256)
        return {path: RemoteFile(path, size, known.get(path)) for path, size in sizes.items()}

    def absence(self, state: TargetState) -> str:  # noqa: ARG002
        """That nothing is there, or may be read."""
        return f"There is nothing at {self.name} that you may read: check the name of the bucket or folder."

    def accept_state(self, state: TargetState, plan: PublishPlan, how: Sending) -> None:
        """There are none, and ``accept`` has said so."""

    def _whole(self, path: str) -> bytes:
        return self.folder.read_bytes(path, LARGEST_TEXT)

    def read(self, state: TargetState, path: str) -> bytes:
        """A file; a small one as it was in that state."""
        return state.texts[path] if path in state.texts else self._whole(path)

    def fetch(self, state: TargetState, paths: Sequence[str], root: Path) -> Iterator[str]:
        """Block by block into a file beside, which an interrupted fetch goes on with."""
        for path in paths:
            self.folder.fetch(path, state.files[path].bytes, root / path)
            yield path

    def prepare(self, state: TargetState, how: Sending) -> None:
        """Nothing: the folder comes with its first file."""

    def send(self, state: TargetState, plan: PublishPlan, how: Sending, tell: Progress) -> None:  # noqa: ARG002
        """Config by config; the card at the end, but before a config goes that it must not name any more."""
        done = 0
        removed = {_config_of(path) for path in plan.deletions if path.endswith(f"/{FILE_NAME}")}
        configs = sorted(({_config_of(path) for path in _touched(plan)} | plan.unfinished) - {""})
        for config in configs if removed else ():
            self._refuse_other_state(state, config)
        if removed:
            self._card(state, plan, tell)
        for config in configs:
            done = self._config(state, plan, config, done, tell)
        if not removed:
            self._card(state, plan, tell)

    def _config(self, state: TargetState, plan: PublishPlan, config: str, done: int, tell: Progress) -> int:
        """One config; the bytes that are sent after it."""
        adds = [file for file in plan.adds if _config_of(file.path) == config]
        unchanged = [file for file in plan.unchanged if _config_of(file.path) == config]
        # One that did not change is put back.
        manifest = next((file for file in (*adds, *unchanged) if file.path == f"{config}/{FILE_NAME}"), None)
        data = [file for file in adds if file is not manifest]
        kept = [file for file in unchanged if file is not manifest]
        deletions = [path for path in plan.deletions if _config_of(path) == config]
        if config in self._done:
            raise PublishError(self._taken_over(config))
        self._refuse_other_state(state, config)
        self._refuse_others_files(state, plan, [*(file.path for file in data), *deletions])
        arrived = {file.path: file.sha256 for file in kept}
        written = sorted({path for path in plan.own if _config_of(path) == config} | {file.path for file in data})
        self._note(config, arrived, written)
        before = self.folder.stamps(f"{config}/")
        if data or deletions or config in state.unfinished:
            self.folder.remove(f"{config}/{FILE_NAME}")
        for file in data:
            self._refuse_other_writer(config)
            self.folder.put(file)
            arrived[file.path] = file.sha256
            self._refuse_other_writer(config)
            self._note(config, arrived, written)
            done += file.bytes
            tell(PublishProgress("send", file.path, done, plan.bytes))
        for path in deletions:
            self._refuse_other_writer(config)
            self.folder.remove(path)
        # Of what came before an interruption nobody has read anything back.
        self._read_back(config, [*data, *(kept if config in state.unfinished else ())], arrived, tell)
        after = self.folder.stamps(f"{config}/")
        self._refuse_other_writer(config)
        if any(before.get(file.path) != after.get(file.path) for file in kept):
            raise PassingError(f"{self.name}/{config} was changed by someone else meanwhile")
        if manifest is not None:
            self.folder.put(manifest)
            self._sent[manifest.path] = manifest
            self._take_back_late(manifest, [*data, *kept], after)
        self.folder.remove(f"{config}/{ARRIVED}")
        self._done.add(config)
        return done

    def _take_back_late(self, manifest: LocalFile, files: Sequence[LocalFile], stamps: Mapping[str, str]) -> None:
        """PublishError, and no manifest, where somebody else took the config over just before it came.

        That the journal has gone is no harm where no file has changed: who finds all done tidies up.
        """
        config = _config_of(manifest.path)
        writer, now = self._writer_there(config), self.folder.stamps(f"{config}/")
        changed = any(now.get(file.path) != stamps.get(file.path) for file in files)
        if writer == self._writer or (writer is None and not changed):
            return
        if self._is_there(manifest):
            # Who comes next must know that all of this may be written over.
            here = [path for path in now if is_data_name(path.rpartition("/")[2])]
            self._note(config, {}, here)
            self.folder.remove(manifest.path)
        raise PublishError(self._taken_over(config))

    def holds(self, state: TargetState, file: LocalFile) -> bool:
        """By its content, which is read."""
        size = state.files[file.path].bytes
        return size == file.bytes and self.folder.sha256_of(file.path, size) == file.sha256

    def _is_there(self, file: LocalFile) -> bool:
        """Whether a small file lies there just as it was sent."""
        return bool(self.folder.stamps(file.path)) and self._whole(file.path) == file.source

    def _card(self, state: TargetState, plan: PublishPlan, tell: Progress) -> None:
        """What lies beside the configs, unless someone has changed it since it was read."""
        for file in plan.adds:
            if not _config_of(file.path):
                if file.path == CARD:
                    self._refuse_other_card(state)
                self.folder.put(file)
                tell(PublishProgress("commit", file.path, plan.bytes, plan.bytes))

    def _refuse_others_files(self, state: TargetState, plan: PublishPlan, paths: Sequence[str]) -> None:
        """PublishError unless what is to be replaced or removed has the very bytes that the manifest there states.

        What was said of them before was that name and size are right.
        """
        there = [path for path in paths if path in state.files and plan.own.get(path) is not None]
        others = [path for path in there if self.folder.sha256_of(path, state.files[path].bytes) != plan.own[path]]
        if others:
            raise PublishError(
                f"{self.name} holds {some(others)} with other contents than the manifest there states, so it may be "
                "somebody's own: move it away, or choose another place."
            )

    def _note(self, config: str, arrived: Mapping[str, str], others: Iterable[str]) -> None:
        """Say what has arrived, what else here may be written over, and that it is this process which is at work."""
        files = [path.removeprefix(f"{config}/") for path in others if path not in arrived]
        content = {"writer": self._writer, "sha256": arrived, "files": files}
        self.folder.put(LocalFile.of_text(f"{config}/{ARRIVED}", json.dumps(content, indent=1) + "\n"))

    def _refuse_other_writer(self, config: str) -> None:
        """PublishError where someone else has begun to publish this config since."""
        if self._writer_there(config) != self._writer:
            raise PublishError(self._taken_over(config))

    def _writer_there(self, config: str) -> str | None:
        """Who is at work on a config; None where nobody says so."""
        journal = f"{config}/{ARRIVED}"
        return _writer_of(self._whole(journal)) if self.folder.stamps(journal) else None

    def _taken_over(self, config: str) -> str:
        return (
            f"Someone else began to publish {config} to {self.name} while this push was at it; it has stopped and "
            "leaves it to them: wait until they are done, then type the same command again to have yours in its place."
        )

    def _refuse_other_state(self, state: TargetState, config: str) -> None:
        """PassingError where a config is not any more as it was when the plan was made: look, and plan again."""
        start = f"{config}/"
        sizes = {path: size for path, size in self.folder.tree().items() if path.startswith(start)}
        if self._files(sizes, self._texts(sizes)) != {
            path: file for path, file in state.files.items() if path.startswith(start)
        }:
            raise PassingError(f"{self.name}/{config} was changed by someone else meanwhile")

    def _refuse_other_card(self, state: TargetState) -> None:
        """PassingError where the card is another than the one whose words were kept."""
        before = state.files.get(CARD)
        there = CARD in self.folder.stamps(CARD)
        now = hashlib.sha256(self._whole(CARD)).hexdigest() if there else None
        if now != (before.sha256 if before is not None else None):
            raise PassingError(f"{self.name}/{CARD} was changed by someone else meanwhile")

    def _read_back(self, config: str, sent: Sequence[LocalFile], arrived: dict[str, str], tell: Progress) -> None:
        """PublishError, while there is no manifest, unless what was sent lies there: no file system tells a sha256.

        What writers that were stopped had begun goes.
        """
        sizes = self.folder.tree()
        for path in sizes:
            if _config_of(path) == config and is_partial_name(path.rpartition("/")[2]):
                self._refuse_other_writer(config)  # else it may be theirs, and no writer's who was stopped
                self.folder.remove(path)
        wrong = self._wrong(sizes, sent, tell)
        self._sent.update((file.path, file) for file in sent if file.path not in wrong)
        if wrong:
            self._refuse_other_writer(config)  # who came later may have put them there
            self._note(config, {path: sha256 for path, sha256 in arrived.items() if path not in wrong}, wrong)
            raise PublishError(
                f"{self.name} has other contents than were sent: {some(wrong)}; see whether it is sound, then type the "
                "same command again: they are sent again."
            )

    def _wrong(self, sizes: Mapping[str, int], sent: Sequence[LocalFile], tell: Progress) -> list[str]:
        """Paths of files that are not there as they were sent; each is read."""
        total, done, wrong = sum(file.bytes for file in sent), 0, []
        for file in sent:
            size = sizes.get(file.path)
            if size != file.bytes or self.folder.sha256_of(file.path, size) != file.sha256:
                wrong.append(file.path)
            done += file.bytes
            tell(PublishProgress("confirm", file.path, done, total))
        return wrong

    def confirm(self, state: TargetState, sent: Sequence[LocalFile], tell: Progress) -> None:
        """That manifests and card lie there as sent; the data was read back before its manifest was put there."""
        sizes = {path: file.bytes for path, file in state.files.items()}
        texts = [file for file in sent if isinstance(file.source, bytes)]
        lost = [file.path for file in sent if file not in texts and sizes.get(file.path) != file.bytes]
        wrong = [*lost, *self._wrong(sizes, texts, tell)]
        if wrong:
            raise PublishError(
                f"{self.name} has other contents than were sent: {some(wrong)}; see latentstore verify, then type the "
                "same command again."
            )

    def tag(self, state: TargetState, how: Sending) -> tuple[str, ...]:  # noqa: ARG002
        """There are none."""
        return ()


def _told_by_manifest(path: str, content: bytes, sizes: Mapping[str, int]) -> dict[str, str]:
    """sha256 of the files that a manifest lists and that have the size it says."""
    config = path.removesuffix(FILE_NAME)
    try:
        manifest = Manifest.from_file(content.decode("utf-8"), path)
    except (ManifestError, UnicodeDecodeError):
        return {}  # then everything is sent again
    return {
        config + info.path: info.sha256 for info in manifest.listed_files if sizes.get(config + info.path) == info.bytes
    }


def _told_by_journal(folder: str, content: bytes) -> dict[str, str]:
    """sha256 of the files of its own folder that a journal names."""
    try:
        told = {str(path): str(sha) for path, sha in json.loads(content)["sha256"].items()}
        return {path: sha for path, sha in told.items() if path.startswith(folder)}
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
        return {}  # cut by the interruption: everything is sent again


def _writer_of(content: bytes) -> str | None:
    """Who wrote a journal; None where it does not say."""
    try:
        return str(json.loads(content)["writer"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return None


def _touched(plan: PublishPlan) -> list[str]:
    return [*(file.path for file in plan.adds), *plan.deletions]


def _config_of(path: str) -> str:
    return path.rpartition("/")[0]


def open_folder_target(location: str, revision: str | None, access: Access) -> FolderTarget:
    """The folder at a URL, or a folder of this machine."""
    if revision is not None:
        raise RequestError(f"{location} is no Hub repository, so --revision has no meaning for it.")
    url = location if "://" in location else local_url(Path(location))
    return FolderTarget(WritableFolder(url, patience=access.patience))
