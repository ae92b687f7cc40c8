"""Writing into a dataset repository on the Hub: every call of its client that does so.

A file's content is sent ahead of the commit that names it. So what was sent before an interruption is not sent again,
and a commit is small: it has a line for each file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from latentstore.errors import FetchError, PublishError
from latentstore.file_records import LocalFile, RemoteFile
from latentstore.hub.refusals import Asked, is_passing, refusal_of, status_of, wait_asked_by
from latentstore.retries import PassingError, Patience
from latentstore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from huggingface_hub import CommitOperationAdd, HfApi

Result = TypeVar("Result")
MAIN = "main"
EXISTS = 409
SOMEONE_ELSE = 412
"""The branch has moved since it was read."""


class MovedError(PassingError):
    """The branch is not any more where it was when it was read: someone else has committed."""


@dataclass(frozen=True)
class HubCommit:
    """A commit that was made."""

    oid: str
    url: str
    pull_request: str = ""
    """Its page, where one was opened."""
    revision: str = ""
    """``refs/pr/1``: where further commits of the pull request go."""


@dataclass
class HubRepository:
    """One dataset repository; PublishError, in one sentence, where the Hub refuses.

    ``endpoint`` and ``token`` are those of huggingface_hub unless given. PassingError leaves only ``commit``, of which
    the caller must look first whether it was made nevertheless.
    """

    repo: str
    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    patience: Patience = field(default_factory=Patience)
    _sent: dict[tuple[str, str], CommitOperationAdd] = field(default_factory=dict, init=False, repr=False)

    @property
    def page(self) -> str:
        """The repository on the Hub's site."""
        return f"{self.endpoint_in_use}/datasets/{self.repo}"

    @property
    def endpoint_in_use(self) -> str:
        """The Hub that is asked: the client's own where none was given."""
        return str(self._api.endpoint)

    @property
    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.token, library_name="latentstore", library_version=__version__)

    # Reading ---------------------------------------------------------------------------------------------------------

    def is_public(self) -> bool | None:
        """Whether everyone may read it; None where there is no such repository that may be read."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        def look() -> bool | None:
            try:
                return not self._api.repo_info(self.repo, repo_type="dataset").private
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return None

        return self._asked(look, self._about("read"))

    def head(self, revision: str = MAIN) -> str | None:
        """The commit that a branch or pull request stands for; None where there is none of that name."""
        from huggingface_hub.errors import RevisionNotFoundError

        def look() -> str | None:
            try:
                return str(self._api.repo_info(self.repo, repo_type="dataset", revision=revision).sha)
            except RevisionNotFoundError:
                return None

        return self._asked(look, self._about("read", revision))

    def files(self, commit: str) -> dict[str, RemoteFile]:
        """Every file of a commit by its path; one request for every thousand."""
        from huggingface_hub.hf_api import RepoFile

        def look() -> dict[str, RemoteFile]:
            tree = self._api.list_repo_tree(self.repo, repo_type="dataset", revision=commit, recursive=True)
            return {
                entry.path: RemoteFile(
                    entry.path,
                    entry.size,
                    entry.lfs.sha256 if entry.lfs is not None else None,
                    entry.blob_id if entry.lfs is None else None,
                )
                for entry in tree
                if isinstance(entry, RepoFile)
            }

        return self._asked(look, self._about("read", commit))

    def content(self, commit: str, path: str) -> bytes:
        """The bytes of one file of a commit; it is kept in the client's cache."""
        from huggingface_hub.errors import LocalEntryNotFoundError

        def look() -> bytes:
            try:
                found = self._api.hf_hub_download(self.repo, path, repo_type="dataset", revision=commit)
            except LocalEntryNotFoundError as error:  # the client says so whenever nobody answers
                raise ConnectionError(str(error)) from error
            return Path(found).read_bytes()

        return self._asked(look, self._about("read", commit, path))

    def download(self, commit: str, paths: Sequence[str], folder: Path) -> None:
        """Files of a commit into a folder, each to its path; those that came before an interruption are not fetched."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        def fetch() -> None:
            try:
                with _quietly():
                    snapshot_download(
                        self.repo,
                        repo_type="dataset",
                        revision=commit,
                        allow_patterns=list(paths),
                        local_dir=folder,
                        endpoint=self._api.endpoint,
                        token=self.token,
                        library_name="latentstore",
                        library_version=__version__,
                    )
            except LocalEntryNotFoundError as error:
                raise ConnectionError(str(error)) from error

        self._asked(fetch, self._about("read", commit))

    def tags(self) -> dict[str, str]:
        """The commit of each tag."""
        about = self._about("read")
        refs = self._asked(lambda: self._api.list_repo_refs(self.repo, repo_type="dataset"), about)
        return {tag.name: str(tag.target_commit) for tag in refs.tags}

    # Writing ---------------------------------------------------------------------------------------------------------

    def create(self, *, private: bool | None) -> None:
        """Make the repository, where there is none yet; PublishError where there is one that may not be read."""

        def make() -> None:
            try:
                self._api.create_repo(self.repo, repo_type="dataset", private=private)
            except Exception as error:
                if status_of(error) != EXISTS or self.is_public() is None:
                    raise  # else someone has made it meanwhile, or this very request, whose answer was lost

        self._asked(make, self._about("written"))

    def create_branch(self, name: str) -> None:
        """Make a branch that begins at the main one's head."""
        self._asked(
            lambda: self._api.create_branch(self.repo, branch=name, repo_type="dataset", exist_ok=True),
            self._about("written", name),
        )

    def send(self, files: Sequence[LocalFile], revision: str, *, create_pr: bool = False) -> None:
        """Send the contents of these files ahead of a commit; those that the Hub has are not sent again.

        What git holds itself (small texts) travels with the commit. PublishError where a file is not what is
        expected: it was changed or damaged since it was sealed, and nothing has named it yet.
        """
        added = [self._operation(file) for file in files]
        with _quietly():
            self._asked(
                lambda: self._api.preupload_lfs_files(
                    self.repo,
                    additions=added,
                    repo_type="dataset",
                    revision=revision,
                    create_pr=create_pr,
                    free_memory=False,
                ),
                self._about("written", revision),
            )
        for file, operation in zip(files, added, strict=True):
            found = operation.upload_info.sha256.hex()
            if found != file.sha256:
                raise PublishError(
                    f"{file.source!s} has the sha256 {found[:12]}…, its manifest says {file.sha256[:12]}…: the file is "
                    "damaged; nothing was published. Type: latentstore verify"
                )

    def commit(
        self,
        files: Sequence[LocalFile],
        deletions: Sequence[str],
        *,
        message: str,
        parent: str,
        revision: str = MAIN,
        create_pr: bool = False,
    ) -> HubCommit:
        """One commit on top of ``parent`` with files that were sent, and without those in ``deletions``.

        PassingError where the branch has moved or no answer came: the commit may have been made.
        """
        from huggingface_hub import CommitOperationDelete

        operations: list[Any] = [self._operation(file) for file in files]
        operations += [CommitOperationDelete(path, is_folder=False) for path in deletions]
        about = self._about("written", revision)
        try:
            with _quietly():
                made = self._api.create_commit(
                    self.repo,
                    operations,
                    commit_message=message,
                    repo_type="dataset",
                    revision=revision,
                    parent_commit=parent,
                    create_pr=create_pr,
                )
        except Exception as error:
            if status_of(error) == SOMEONE_ELSE:
                raise MovedError(f"{self.repo} was changed by someone else meanwhile") from error
            if is_passing(error):
                raise PassingError(refusal_of(error, about), wait=wait_asked_by(error)) from error
            raise PublishError(refusal_of(error, about)) from error
        return HubCommit(made.oid, str(made.commit_url), made.pr_url or "", made.pr_revision or "")

    def tag(self, name: str, commit: str, *, message: str = "", moving: bool = False) -> None:
        """Give a commit a name; one that other commits have is refused, or taken from them where it is ``moving``."""
        found = self.tags().get(name)
        if found == commit:
            return
        about = self._about("written", name)
        if found is not None and not moving:
            raise PublishError(self.tag_taken(name, found))
        if found is not None:
            self._asked(lambda: self._api.delete_tag(self.repo, tag=name, repo_type="dataset"), about)
        self._asked(
            lambda: self._api.create_tag(
                self.repo, tag=name, tag_message=message, revision=commit, repo_type="dataset", exist_ok=True
            ),
            about,
        )

    def tag_taken(self, name: str, commit: str) -> str:
        """The sentence for a tag that another commit has."""
        return (
            f"{self.repo} has a tag {name!r} on the commit {commit[:12]} already: choose another --tag, or type: "
            f"hf repos tag delete {self.repo} {name} --repo-type dataset"
        )

    # How -------------------------------------------------------------------------------------------------------------

    def _operation(self, file: LocalFile) -> CommitOperationAdd:
        """What the client calls adding a file; the same for the same content, so that it is sent once."""
        from huggingface_hub import CommitOperationAdd

        if isinstance(file.source, bytes):
            return CommitOperationAdd(file.path, file.source)
        key = (file.path, file.sha256)
        if key not in self._sent:
            self._sent[key] = CommitOperationAdd(file.path, file.source)
        return self._sent[key]

    def _about(self, verb: str, revision: str | None = None, path: str = "") -> Asked:
        return Asked(self.repo, self._api.endpoint, revision, path, verb)

    def _asked(self, ask: Callable[[], Result], about: Asked) -> Result:
        """The answer, asked for again while that may help."""

        def attempt() -> Result:
            try:
                return ask()
            except (PublishError, PassingError, KeyboardInterrupt):
                raise
            except Exception as error:
                if is_passing(error):
                    raise PassingError(refusal_of(error, about), wait=wait_asked_by(error)) from error
                raise PublishError(refusal_of(error, about)) from error

        try:
            return self.patience.until_done(attempt, self.repo)
        except FetchError as error:
            raise PublishError(str(error.__cause__)) from error


def repository_name(text: str) -> bool:
    """Whether this can be the name of a repository with its owner: ``user/name``."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", text, re.ASCII) is not None


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the client's progress bars, which it draws on its user's terminal; those who had them have them after."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined] # they are documented
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
