"""To a place, until nothing is left to do there.

Looking again is one and the same answer to an answer that was lost, to someone else's commit in between, and to the
question whether all has arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from latentstore.errors import PublishError
from latentstore.file_records import LocalFile
from latentstore.publishing.interface import Sending, Target
from latentstore.publishing.records import Progress, PublishPlan, PublishProgress, TargetState
from latentstore.retries import PassingError, Patience

ROUNDS = 12
"""How often a place may be found other than it was left, before that is an error: others write there all the time."""


@dataclass
class Journey:
    """Takes a place from what it is to what it should be, and remembers what that took."""

    place: Target
    plan_for: Callable[[TargetState], PublishPlan]
    """What there is to do in a state."""
    how: Sending
    tell: Progress
    patience: Patience
    sent: dict[str, LocalFile] = field(default_factory=dict)
    deleted: dict[str, None] = field(default_factory=dict)
    commits: int = 0
    """How often the place was changed."""

    def look(self) -> tuple[TargetState, PublishPlan]:
        """What is there, and what there is to do."""
        self.tell(PublishProgress("compare"))
        state = self.place.state()
        return state, self.plan_for(state)

    def until_done(self, state: TargetState, plan: PublishPlan) -> TargetState:
        """Send and look until nothing is left to do; the state in which that is so."""
        troubles, reason = 0, "others change it all the time"
        for _ in range(ROUNDS):
            if plan.is_done and state.branch_exists:
                return state
            if not state.exists or not state.branch_exists:
                self.place.prepare(state, self.how)
                made = self.place.state()
                if made.exists:  # a folder comes with its first file
                    state, plan = made, self.plan_for(made)
                if plan.is_done:  # a branch begins with what is on the main one
                    return state
            before, trouble = plan, None
            try:
                self.place.send(state, plan, self.how, self.tell)
            except PassingError as error:
                trouble, reason, troubles = error, str(error), troubles + 1
                if troubles >= self.patience.tries:
                    break
                self._wait(troubles, error.wait)
            state, plan = self.look()
            if trouble is None or plan.is_done:  # an answer may be lost where the work is not
                self.sent.update((file.path, file) for file in before.adds)
                self.deleted.update(dict.fromkeys(before.deletions))
                self.commits += 1
        if plan.is_done:
            return state
        raise PublishError(
            f"{self.place.name} could not be changed as asked ({reason.rstrip('.')}): type the same command again "
            "later, what was sent is not sent again."
        )

    def _wait(self, troubles: int, asked: float) -> None:
        own = self.patience.first_wait * 2 ** (troubles - 1)
        self.patience.sleep(min(self.patience.longest_wait, max(asked, own)))
