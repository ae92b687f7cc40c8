"""What a place must be able to do for something to be published there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from latentstore.file_records import LocalFile
from latentstore.publishing.records import Progress, PublishPlan, TargetState
from latentstore.retries import Patience


@dataclass(frozen=True)
class Sending:
    """How to send."""

    message: str
    """Of the commit, where there are commits."""
    private: bool | None = None
    """Of a repository that is made for this; None for what its owner's account says."""
    create_pr: bool = False
    tag: str | None = None


class Target(Protocol):
    """A place for published datasets. PublishError, in one sentence, where it refuses."""

    @property
    def name(self) -> str:
        """Where it is, for messages."""

    @property
    def url(self) -> str:
        """Where people look at it."""

    @property
    def card_repository(self) -> str | None:
        """``user/repo`` for the code on the card; None where it does not lie on the Hub."""

    @property
    def pull_request(self) -> str:
        """The page of the pull request that was opened, or empty."""

    @property
    def pull_request_revision(self) -> str:
        """``refs/pr/1``, where one was opened."""

    def state(self) -> TargetState:
        """What is there now."""

    def absence(self, state: TargetState) -> str:
        """The sentence for those who want to read what is not there."""

    def read(self, state: TargetState, path: str) -> bytes:
        """A file of that state."""

    def holds(self, state: TargetState, file: LocalFile) -> bool:
        """Whether a file that is there is just as it is to be sent."""

    def accept(self, how: Sending) -> None:
        """RequestError for what cannot be done there."""

    def accept_state(self, state: TargetState, plan: PublishPlan, how: Sending) -> None:
        """PublishError, before anything is sent, where it cannot be changed so from this state."""

    def fetch(self, state: TargetState, paths: Sequence[str], root: Path) -> Iterator[str]:
        """Bring files of that state into a folder, each to its path; yields each when it has come whole."""

    def prepare(self, state: TargetState, how: Sending) -> None:
        """Make the place, or the branch, where there is none yet."""

    def send(self, state: TargetState, plan: PublishPlan, how: Sending, tell: Progress) -> None:
        """Do what is planned. At no time does a reader see a manifest whose data is not there.

        PassingError where the place is not, or may not be, as ``state`` says any more: look again and plan again.
        """

    def confirm(self, state: TargetState, sent: Sequence[LocalFile], tell: Progress) -> None:
        """PublishError unless what was sent lies there as it was sent."""

    def tag(self, state: TargetState, how: Sending) -> tuple[str, ...]:
        """Give the state its names; the tags that it has then."""


@dataclass(frozen=True)
class Access:
    """Who asks, and whom; None is what the client finds."""

    endpoint: str | None = None
    token: str | None = None
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class TargetRow:
    """One kind of place."""

    name: str
    summary: str
    fits: Callable[[str], bool]
    """Whether a location is of this kind."""
    open: Callable[[str, str | None, Access], Target]
    """Takes location, revision and access."""
