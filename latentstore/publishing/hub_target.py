"""The Hub as a place to publish: everything in one commit, so that readers see all of it or nothing.

Only the data of configs that nobody can read there yet goes ahead in commits of its own, where there are more files
than one commit should have. Files of a config that is there already never do: its manifest would be wrong meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latentstore.checks.interface import some
from latentstore.errors import PublishError, RequestError
from latentstore.file_records import LocalFile
from latentstore.hub.refusals import REFUSALS, Asked
from latentstore.hub.writing import MAIN, HubRepository, MovedError
from latentstore.locations import HubRepository as HubLocation
from latentstore.locations import location_of
from latentstore.manifest import FORMAT_VERSION
from latentstore.publishing.interface import Access, Sending
from latentstore.publishing.records import Progress, PublishPlan, PublishProgress, TargetState
from latentstore.retries import PassingError

FILES_A_COMMIT = 100
"""More the Hub may not finish within its time limit of a minute."""
FILES_A_GROUP = 8
BYTES_A_GROUP = 1 << 30
REF_NAME = re.compile(r"(?!.*(\.\.|//|\.lock(/|$)))\w[\w./+-]*(?<![./])")
"""What git allows in the name of a branch or tag, and a little less."""
COMMIT = re.compile(r"[0-9a-f]{40}")
FORMAT_TAG = f"format-v{FORMAT_VERSION}"


@dataclass
class HubTarget:
    """A dataset repository, at a branch."""

    repository: HubRepository
    revision: str = MAIN
    pull_request: str = ""
    pull_request_revision: str = field(default="", init=False)
    """``refs/pr/N`` once a pull request was opened: that is where all goes on."""
    _made: str = field(default="", init=False)
    """The commit that this process made last, if nothing went wrong since. What others put on top of it is theirs."""

    @property
    def name(self) -> str:
        """``user/repo``, with the branch where it is not the main one."""
        return self.repository.repo if self.revision == MAIN else f"{self.repository.repo}@{self.revision}"

    @property
    def url(self) -> str:
        """The page of the repository, of the branch, or of the pull request."""
        if self.pull_request:
            return self.pull_request
        page = self.repository.page
        return page if self.revision == MAIN else f"{page}/tree/{self.revision}"

    @property
    def card_repository(self) -> str:
        """``user/repo``."""
        return self.repository.repo

    def state(self) -> TargetState:
        """The head of the branch, or of the main one for a branch that is not there; after a commit, that commit."""
        is_public = self.repository.is_public()
        if is_public is None:
            return TargetState(exists=False)
        at = self.pull_request_revision or self.revision
        head = self._made or self.repository.head(at)
        branch_exists = head is not None
        head = head or self.repository.head(MAIN)
        if head is None:
            raise PublishError(f"{self.repository.repo} has no branch {MAIN!r}; make one on {self.repository.page}")
        return TargetState(
            exists=True,
            head=head,
            files=self.repository.files(head),
            branch_exists=branch_exists,
            is_public=is_public,
            keeps_history=True,
        )

    def read(self, state: TargetState, path: str) -> bytes:
        """A file of that commit."""
        return self.repository.content(state.head, path)

    def holds(self, state: TargetState, file: LocalFile) -> bool:
        """By the listing, which has a hash of every file."""
        return state.files[file.path].holds(file)

    def fetch(self, state: TargetState, paths: Sequence[str], root: Path) -> Iterator[str]:
        """With the Hub's client, which goes on where it was interrupted; a few files side by side."""
        for start in range(0, len(paths), FILES_A_GROUP):
            group = paths[start : start + FILES_A_GROUP]
            self.repository.download(state.head, group, root)
            yield from group

    def accept(self, how: Sending) -> None:
        """RequestError for what cannot be done together, and for names that git does not take."""
        for option, name in (("--revision", self.revision), ("--tag", how.tag)):
            if name is not None and not REF_NAME.fullmatch(name):
                raise RequestError(
                    f"{option} {name!r} is no name that git takes: expected letters, digits, '-', '_', '.' and '/', "
                    "beginning and ending with a letter or digit."
                )
        if COMMIT.fullmatch(self.revision):
            raise RequestError(
                f"{self.revision[:12]}… is a commit, which stays what it is: give a branch, or leave out the revision "
                "for the main one."
            )
        if how.create_pr and self.revision != MAIN:
            raise RequestError("A pull request goes to the main branch: leave out --revision or --create-pr.")
        if how.tag is not None and how.create_pr:
            raise RequestError("A pull request has no tag before it is merged: leave out --tag or --create-pr.")

    def absence(self, state: TargetState) -> str:
        """That there is no such repository, or no such branch, tag or commit in it."""
        about = Asked(self.repository.repo, self.repository.endpoint_in_use, self.revision)
        return REFUSALS["no revision" if state.exists else "no repository"].sentence(about, Exception())

    def accept_state(self, state: TargetState, plan: PublishPlan, how: Sending) -> None:
        """Only a branch goes on. A tag is not taken from another commit; that of this very state may be asked for."""
        if not state.exists or (self.revision == MAIN and how.tag is None):
            return
        tags = self.repository.tags()
        if self.revision in tags:
            raise PublishError(
                f"{self.revision!r} is a tag of {self.repository.repo}, which stays what it is: give a branch, or "
                "leave out the revision for the main one."
            )
        if how.tag is None:
            return
        found = tags.get(how.tag)
        if found is not None and not (plan.is_done and found == state.head):
            raise PublishError(self.repository.tag_taken(how.tag, found))

    def prepare(self, state: TargetState, how: Sending) -> None:
        """Make the repository and the branch, where they are missing."""
        if not state.exists:
            self.repository.create(private=how.private)
        if self.revision != MAIN and not (state.exists and state.branch_exists):
            self.repository.create_branch(self.revision)

    def send(self, state: TargetState, plan: PublishPlan, how: Sending, tell: Progress) -> None:
        """Contents first, which no reader sees; then the commit that names them all."""
        at = self.pull_request_revision or self.revision
        opening = how.create_pr and not self.pull_request_revision
        done, total = 0, plan.bytes
        for group in groups_of([file for file in plan.adds if not isinstance(file.source, bytes)]):
            self.repository.send(group, at, create_pr=opening)
            for file in group:
                done += file.bytes
                tell(PublishProgress("send", file.path, done, total))
        head = state.head
        last = list(plan.adds)
        ahead = [file for file in plan.adds if file.path.partition("/")[0] in plan.new_configs and _is_data(file)]
        if len([file for file in plan.adds if _is_data(file)]) > FILES_A_COMMIT:
            last = [file for file in plan.adds if file not in ahead]
            parts = [ahead[n : n + FILES_A_COMMIT] for n in range(0, len(ahead), FILES_A_COMMIT)]
            for number, part in enumerate(parts, start=1):
                message = f"{how.message} (data, part {number} of {len(parts)})"
                head = self._commit(part, (), message, head, how)
                tell(PublishProgress("commit", part[-1].path, done, total))
        tell(PublishProgress("commit", "", done, total))
        self._commit(last, plan.deletions, how.message, head, how)

    def _commit(
        self, files: Sequence[LocalFile], deletions: Sequence[str], message: str, parent: str, how: Sending
    ) -> str:
        opening = how.create_pr and not self.pull_request_revision
        self._made = ""
        try:
            made = self.repository.commit(
                files,
                deletions,
                message=message,
                parent=parent,
                revision=self.pull_request_revision or self.revision,
                create_pr=opening,
            )
        except PassingError as error:
            if not opening or isinstance(error, MovedError):
                raise
            # Trying again might open a second one.
            raise PublishError(
                f"The Hub did not say whether it opened the pull request ({error}): look at "
                f"{self.repository.page}/discussions before typing the same command again."
            ) from error
        if made.pull_request:
            self.pull_request, self.pull_request_revision = made.pull_request, made.revision
        self._made = made.oid
        return made.oid

    def confirm(self, state: TargetState, sent: Sequence[LocalFile], tell: Progress) -> None:
        """Compare the Hub's own sha256 of every file, as the tree of the commit has it."""
        tell(PublishProgress("confirm"))
        wrong = [file.path for file in sent if file.path not in state.files or not state.files[file.path].holds(file)]
        if wrong:
            raise PublishError(f"{self.name} has other contents than were sent, at commit {state.head}: {some(wrong)}.")

    def tag(self, state: TargetState, how: Sending) -> tuple[str, ...]:
        """The user's tag, and on the main branch the tag of the format, which moves with it."""
        tags = self.repository.tags()
        given = []
        if how.tag is not None:
            if tags.get(how.tag) != state.head:
                self.repository.tag(how.tag, state.head, message=how.message)
            given.append(how.tag)
        if self.revision == MAIN and not how.create_pr:
            if tags.get(FORMAT_TAG) == state.head:
                given.append(FORMAT_TAG)
            elif self.repository.head(MAIN) == state.head:  # else who came later gives it to theirs
                about = f"The newest state in version {FORMAT_VERSION} of the format of latentstore"
                self.repository.tag(FORMAT_TAG, state.head, message=about, moving=True)
                given.append(FORMAT_TAG)
        return tuple(given)


def groups_of(files: Sequence[LocalFile]) -> Iterator[list[LocalFile]]:
    """Files that are sent side by side: a few of them, of so many bytes together."""
    group: list[LocalFile] = []
    for file in files:
        if group and (len(group) == FILES_A_GROUP or sum(one.bytes for one in group) + file.bytes > BYTES_A_GROUP):
            yield group
            group = []
        group.append(file)
    if group:
        yield group


def _is_data(file: LocalFile) -> bool:
    return not isinstance(file.source, bytes)


def open_hub_target(location: str, revision: str | None, access: Access) -> HubTarget:
    """The repository that a location names, at the branch that it names or ``revision``."""
    found = location_of(location)
    if not isinstance(found, HubLocation) or found.folder:
        raise RequestError(f"Expected user/repo, hub:user/repo or hf://datasets/user/repo, found {location!r}.")
    if revision is not None and found.revision not in (None, revision):
        raise RequestError(f"{location!r} and --revision {revision} name two branches; give one of them.")
    repository = HubRepository(found.repo, endpoint=access.endpoint, token=access.token, patience=access.patience)
    return HubTarget(repository, revision or found.revision or MAIN)
