"""drop(): one config out of a published repository."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from latentstore.errors import PublishError, RequestError
from latentstore.file_records import LocalFile
from latentstore.manifest.names import CARD, FILE_NAME, is_config_name
from latentstore.named_table import unknown_name
from latentstore.publishing.interface import Access, Sending
from latentstore.publishing.journey import Journey
from latentstore.publishing.merged_card import card_of, card_with, notes_of
from latentstore.publishing.planning import is_own, manifests_of_others, own_files, published_configs
from latentstore.publishing.records import Progress, PublishPlan, PublishReport, TargetState, silent
from latentstore.publishing.table import open_target
from latentstore.retries import Patience


def drop(
    target: str | Path,
    config: str,
    *,
    revision: str | None = None,
    create_pr: bool = False,
    message: str | None = None,
    dry_run: bool = False,
    confirm: Callable[[PublishPlan], None] | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    patience: Patience | None = None,
) -> PublishReport:
    """Remove a config's files, and its part of the card, from a published repository; on the Hub in one commit.

    Files in its folder that this library did not put there stay, and so does the history of the repository. The
    arguments are those of ``publish``. Raises UnknownNameError where there is no such config, else PublishError.
    """
    tell, patience = progress or silent, patience or Patience()
    place = open_target(target, revision, Access(endpoint, token, patience))
    how = Sending(message or f"Remove {config}", create_pr=create_pr)
    place.accept(how)

    def plan_for(state: TargetState) -> PublishPlan:
        own = own_files(state, config, partial(place.read, state)) if is_config_name(config) else {}
        deletions = tuple(path for path in sorted(own) if is_own(state.files[path], own))
        if not deletions:
            return PublishPlan(place.name, (), (), ())
        others = manifests_of_others(place.name, state, [config], lambda path: place.read(state, path))
        previous = card_of(place, state)
        notes = notes_of(previous, {other.config for other in others})
        card = LocalFile.of_text(CARD, card_with(place, state, others, previous, notes=notes))
        adds = () if CARD in state.files and state.files[CARD].holds(card) else (card,)
        return PublishPlan(place.name, adds, deletions, (), own=own)

    journey = Journey(place, plan_for, how, tell, patience)
    state, plan = journey.look()
    if not state.exists or not state.branch_exists:
        raise RequestError(place.absence(state))
    if not plan.deletions and config in published_configs(state):
        raise PublishError(
            f"{place.name}/{config}/{FILE_NAME} is no manifest of latentstore, so nothing there is known to be "
            "its own: remove the folder by hand."
        )
    if not plan.deletions:
        raise unknown_name("config", config, published_configs(state))
    place.accept_state(state, plan, how)
    if confirm is not None and not dry_run:
        confirm(plan)
    done = state if dry_run else journey.until_done(state, plan)
    return PublishReport(
        url=place.url,
        commit=done.head,
        configs=(config,),
        sent=tuple(file.path for file in plan.adds),
        skipped=(),
        deleted=plan.deletions,
        bytes=plan.bytes,
        pull_request=place.pull_request,
        pull_request_revision=place.pull_request_revision,
        tags=() if dry_run else place.tag(done, how),
        dry_run=dry_run,
    )
