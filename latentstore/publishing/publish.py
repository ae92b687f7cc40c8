"""publish(): sealed configs on their way to the Hub or another place; the stages read top to bottom.

INSPECT what is here, LOOK at what is there, MERGE the card, PLAN what differs, SEND it, CONFIRM that it lies there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from latentstore.card import CardChoices
from latentstore.errors import PublishError
from latentstore.publishing.interface import Access, Sending
from latentstore.publishing.journey import Journey
from latentstore.publishing.local import local_configs, local_words
from latentstore.publishing.merged_card import merged_card
from latentstore.publishing.planning import plan_of
from latentstore.publishing.records import (
    LocalConfig,
    Progress,
    PublishPlan,
    PublishReport,
    TargetState,
    silent,
)
from latentstore.publishing.table import open_target
from latentstore.retries import Patience

Confirm = Callable[[PublishPlan], None]


def publish(
    folder: str | Path,
    target: str | Path,
    configs: Sequence[str] | None = None,
    *,
    choices: CardChoices | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    private: bool | None = None,
    message: str | None = None,
    dry_run: bool = False,
    force: bool = False,
    confirm: Confirm | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    patience: Patience | None = None,
) -> PublishReport:
    """Publish the sealed configs of a repository's folder (all, or ``configs``); only what differs is sent.

    ``target`` is a Hub dataset repository (``user/repo``, ``hub:user/repo``, ``hf://datasets/user/repo``, each with
    ``@branch`` or ``revision``), a URL that fsspec can write to, or a folder. Other configs that are there stay, and
    the card names them all. Shards that these configs do not have any more are removed in the same step. What was
    interrupted is typed again and continues.

    Each config is verified to the depth ``quick``; one that fails is refused, or with ``force`` published with a note
    in the card. ``choices`` is what only a person can decide about the card. ``confirm`` is called with the plan before
    a repository is made or files are removed, and raises to stop. ``dry_run`` only plans. ``tag`` names the result; the
    tag ``format-v1.0`` follows the main branch. ``private`` is for a repository that is new. ``endpoint`` and ``token``
    are those of huggingface_hub unless given.

    Raises PublishError, RequestError or StoreError, each one sentence.
    """
    tell, patience, wishes = progress or silent, patience or Patience(), choices or CardChoices()
    place = open_target(target, revision, Access(endpoint, token, patience))
    local = local_configs(folder, configs, force=force, progress=tell)
    words = local_words(folder)
    how = Sending(message or f"Publish {', '.join(config.name for config in local)}", private, create_pr, tag)
    place.accept(how)

    def plan_for(state: TargetState) -> PublishPlan:
        return plan_of(place, local, merged_card(place, state, local, wishes, words), state)

    journey = Journey(place, plan_for, how, tell, patience)
    state, plan = journey.look()
    if private and state.is_public:
        raise PublishError(
            f"{place.name} is there already and everyone may read it: leave out --private, or make it private first, "
            f"on {place.url}/settings"
        )
    place.accept_state(state, plan, how)
    before = state
    if dry_run:
        return _report(journey, plan, before, state, local, dry_run=True)
    if confirm is not None and (plan.creates or plan.deletions):
        confirm(plan)
    state = journey.until_done(state, plan)
    place.confirm(state, list(journey.sent.values()), tell)
    return _report(journey, plan, before, state, local, tags=place.tag(state, how))


def _report(
    journey: Journey,
    plan: PublishPlan,
    before: TargetState,
    state: TargetState,
    local: Sequence[LocalConfig],
    *,
    tags: tuple[str, ...] = (),
    dry_run: bool = False,
) -> PublishReport:
    adds = plan.adds if dry_run else tuple(journey.sent.values())
    paths = {file.path for file in adds}
    return PublishReport(
        url=journey.place.url,
        commit=state.head,
        configs=tuple(config.name for config in local),
        sent=tuple(file.path for file in adds),
        skipped=tuple(file.path for file in plan.unchanged if file.path not in paths),
        deleted=plan.deletions if dry_run else tuple(journey.deleted),
        bytes=sum(file.bytes for file in adds),
        added=tuple(file.path for file in adds if file.path not in before.files),
        pull_request=journey.place.pull_request,
        pull_request_revision=journey.place.pull_request_revision,
        tags=tags,
        failed={config.name: config.failed for config in local if config.failed},
        creates=plan.creates,
        dry_run=dry_run,
    )
