"""A folder on any file system as a place to publish: a bucket, a mounted disk, memory.

There are no commits, so the order of steps keeps readers from harm: the manifest of a config goes first, then its data
comes, then its manifest again, and the card last. ``<config>/.publishing.json`` says meanwhile which files have
arrived, so that what was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latentstore.card import CARD
from latentstore.checks.interface import some
from latentstore.errors import ManifestError, PublishError, RequestError
from latentstore.file_records import LocalFile, RemoteFile
from latentstore.fsspec_writing import WritableFolder, local_url
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.publishing.interface import Access, Sending
from latentstore.publishing.own_files import BESIDE, listed_files
from latentstore.publishing.records import Progress, PublishPlan, PublishProgress, TargetState

ARRIVED = ".publishing.json"
LARGEST_TEXT = 256 << 20
READ_WHOLE = (CARD, FILE_NAME, *BESIDE, ARRIVED)
"""Files whose content no manifest tells."""


@dataclass
class FolderTarget:
    """A repository's folder at an fsspec URL. Two who publish there at the same time are not kept apart."""

    folder: WritableFolder
    _sent: dict[str, LocalFile] = field(default_factory=dict, init=False, repr=False)
    """What this process put there: of a file that is not as its manifest says nothing else knows the sha256."""

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

    def accept(self, how: Sending) -> None:
        """RequestError for what only the Hub has."""
        given = {"--create-pr": how.create_pr, "--tag": how.tag is not None, "--private": how.private is not None}
        for option, asked in given.items():
            if asked:
                raise RequestError(f"{self.name} is no Hub repository, so {option} has no meaning for it.")

    def state(self) -> TargetState:
        """All files; the sha256 of data is the manifest's word, or that of ``.publishing.json`` while there is one."""
        sizes = self.folder.tree()
        known: dict[str, str] = {}
        contents = {path: self._whole(path) for path in sizes if path.rpartition("/")[2] in READ_WHOLE}
        for path, content in sorted(contents.items(), key=lambda found: found[0].endswith(ARRIVED)):
            known[path] = hashlib.sha256(content).hexdigest()
            if path.endswith(f"/{FILE_NAME}"):
                known.update(_told_by_manifest(path, content, sizes))
            elif path.endswith(f"/{ARRIVED}"):
                # What this does not name may be half of another version.
                config = path.removesuffix(ARRIVED)
                known = {name: sha for name, sha in known.items() if not name.startswith(config) or name in contents}
                known.update(_told_by_journal(content))
        known.update({path: file.sha256 for path, file in self._sent.items() if sizes.get(path) == file.bytes})
        files = {path: RemoteFile(path, size, known.get(path)) for path, size in sizes.items()}
        return TargetState(bool(sizes), files=files)

    def absence(self, state: TargetState) -> str:  # noqa: ARG002
        """That nothing is there, or may be read."""
        return f"There is nothing at {self.name} that you may read: check the name of the bucket or folder."

    def accept_tag(self, state: TargetState, plan: PublishPlan, how: Sending) -> None:
        """There are none, and ``accept`` has said so."""

    def _whole(self, path: str) -> bytes:
        return self.folder.read_bytes(path, LARGEST_TEXT)

    def read(self, state: TargetState, path: str) -> bytes:  # noqa: ARG002 (there is only one state)
        """A file."""
        return self._whole(path)

    def fetch(self, state: TargetState, paths: Sequence[str], root: Path) -> Iterator[str]:
        """Block by block into a file beside, which an interrupted fetch goes on with."""
        for path in paths:
            self.folder.fetch(path, state.files[path].bytes, root / path)
            yield path

    def prepare(self, state: TargetState, how: Sending) -> None:
        """Nothing: the folder comes with its first file."""

    def send(self, state: TargetState, plan: PublishPlan, how: Sending, tell: Progress) -> None:  # noqa: ARG002
        """Config by config; the card at the end."""
        done = 0
        for config in sorted({_config_of(path) for path in _touched(plan)} - {""}):
            adds = [file for file in plan.adds if _config_of(file.path) == config]
            data = [file for file in adds if not file.path.endswith(f"/{FILE_NAME}")]
            deletions = [path for path in plan.deletions if _config_of(path) == config]
            journal = f"{config}/{ARRIVED}"
            arrived = {file.path: file.sha256 for file in plan.unchanged if _config_of(file.path) == config}
            if data or deletions:
                self._note(journal, arrived)
                self.folder.remove(f"{config}/{FILE_NAME}")
            for file in data:
                self.folder.put(file)
                arrived[file.path] = file.sha256
                self._sent[file.path] = file
                self._note(journal, arrived)
                done += file.bytes
                tell(PublishProgress("send", file.path, done, plan.bytes))
            for path in deletions:
                self.folder.remove(path)
            self._manifest(config, adds, plan, removed=bool(data or deletions))
            self.folder.remove(journal)
        for file in plan.adds:
            if not _config_of(file.path):
                self.folder.put(file)
                tell(PublishProgress("commit", file.path, plan.bytes, plan.bytes))

    def _manifest(self, config: str, adds: Iterable[LocalFile], plan: PublishPlan, *, removed: bool) -> None:
        """The manifest of a config whose data is there; also one that did not change but was taken away."""
        path = f"{config}/{FILE_NAME}"
        if path in plan.deletions:
            return
        for file in (*adds, *(plan.unchanged if removed else ())):
            if file.path == path:
                self.folder.put(file)

    def _note(self, journal: str, arrived: Mapping[str, str]) -> None:
        self.folder.put(LocalFile.of_text(journal, json.dumps({"sha256": arrived}, indent=1) + "\n"))

    def confirm(self, state: TargetState, sent: Sequence[LocalFile], tell: Progress) -> None:
        """Read back what was sent: no file system tells the sha256 of what it has."""
        total, done, wrong = sum(file.bytes for file in sent), 0, []
        for file in sent:
            there = state.files.get(file.path)
            if (
                there is None
                or there.bytes != file.bytes
                or self.folder.sha256_of(file.path, there.bytes) != file.sha256
            ):
                wrong.append(file.path)
            done += file.bytes
            tell(PublishProgress("confirm", file.path, done, total))
        if wrong:
            raise PublishError(
                f"{self.name} has other contents than were sent: {some(wrong)}; see whether it is sound."
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
        config + info.path: info.sha256
        for info in listed_files(manifest)
        if sizes.get(config + info.path) == info.bytes
    }


def _told_by_journal(content: bytes) -> dict[str, str]:
    try:
        return {str(path): str(sha) for path, sha in json.loads(content)["sha256"].items()}
    except (ValueError, KeyError, AttributeError, TypeError):
        return {}  # cut by the interruption: everything is sent again


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
