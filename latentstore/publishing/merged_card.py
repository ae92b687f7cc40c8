"""The card of a place: of the configs that come and of those that are there, around the words that people wrote."""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from latentstore.card import CARD, CardChoices, refuse_unlicensed, render_card, validate_card
from latentstore.card.vocabulary import LICENCES, OTHER
from latentstore.containers.table import CONTAINERS
from latentstore.errors import PublishError, RequestError, StoreError
from latentstore.manifest import Manifest
from latentstore.named_table import unknown_name
from latentstore.publishing.interface import Target
from latentstore.publishing.planning import manifests_of_others
from latentstore.publishing.records import LocalConfig, TargetState

FORCED = re.compile(r"^> \*\*Published with --force\*\*: `(?P<config>[^`]+)` .*\n\n?", re.MULTILINE)
END = "<!-- latentstore:end -->"
"""What the notes stand before: inside the part of the card that is rendered."""


def merged_card(
    place: Target, state: TargetState, local: Sequence[LocalConfig], choices: CardChoices, words: str | None
) -> str:
    """The text of README.md for what will be there; the same for the same, however often it is asked for.

    A person's words are those on the card that is there, or ``words`` where there is none. RequestError where there is
    no licence or a choice names nothing, PublishError where `datasets` or the Hub would not understand the card.
    """
    names = [config.name for config in local]
    others = manifests_of_others(place.name, state, names, lambda path: place.read(state, path))
    manifests = [*(config.manifest for config in local), *others]
    _refuse_unknown(choices, [manifest.config for manifest in manifests])
    previous = card_of(place, state)
    notes = {config.name: _note(config) for config in local if config.failed}
    text = card_with(
        place,
        state,
        manifests,
        previous if previous is not None else words,
        choices=choices,
        notes={**notes_of(previous, {other.config for other in others}), **notes},
        scores={config.name: config.scores for config in local if config.scores is not None},
    )
    refuse_unlicensed(text, manifests)
    problems = validate_card(text, manifests)
    if problems:
        raise PublishError(f"The card for {place.name} would not be understood: {problems[0]}")
    return text


def _refuse_unknown(choices: CardChoices, configs: Sequence[str]) -> None:
    licence = choices.license
    if licence is not None and licence not in LICENCES:
        text = licence.casefold()
        longer = [name for name in sorted(LICENCES) if text and name.startswith(text)]
        nearest = longer or difflib.get_close_matches(text, sorted(LICENCES), n=1, cutoff=0.5)
        hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
        raise RequestError(
            f"The Hub lists no licence {licence!r}{hint}; for one that it does not list, type --license other with "
            "--license-name and --license-link."
        )
    if licence == OTHER and not (choices.license_name and choices.license_link):
        raise RequestError("--license other says which only with --license-name and --license-link.")
    if choices.default_config is not None and choices.default_config not in configs:
        raise unknown_name("config", choices.default_config, sorted(configs))


def card_with(
    place: Target,
    state: TargetState,
    manifests: Sequence[Manifest],
    previous: str | None,
    *,
    choices: CardChoices | None = None,
    notes: Mapping[str, str] | None = None,
    scores: Mapping[str, Sequence[float | None]] | None = None,
) -> str:
    """The text for these manifests, and the notes about those published with ``--force``.

    ``scores`` are those of configs that are here; those of others are read from their indexes there.
    """
    ordered = sorted(manifests, key=lambda manifest: manifest.config)
    choices = choices or CardChoices()
    choices = choices if choices.repo else replace(choices, repo=place.card_repository)
    scores = dict(scores or {})
    there = [manifest for manifest in ordered if manifest.config not in scores]
    scores |= {manifest.config: found for manifest in there if (found := _scores_there(place, state, manifest))}
    text = render_card(ordered, None if previous is None else FORCED.sub("", previous), choices, scores=scores)
    before, mark, after = text.rpartition(END)
    return f"{before}{''.join(notes[name] for name in sorted(notes))}{mark}{after}" if notes else text


def card_of(place: Target, state: TargetState) -> str | None:
    """The card that is there; None where there is none."""
    if CARD not in state.files:
        return None
    try:
        return place.read(state, CARD).decode("utf-8")
    except UnicodeDecodeError as error:
        raise PublishError(f"{CARD} of {place.name} is no text in UTF-8 ({error}): mend or remove it there.") from error


def notes_of(previous: str | None, configs: set[str]) -> dict[str, str]:
    """The notes on a card about these configs."""
    found = FORCED.finditer(previous or "")
    return {note["config"]: note[0] for note in found if note["config"] in configs}


def _note(config: LocalConfig) -> str:
    failed = " ".join("; ".join(config.failed).split())
    return f"> **Published with --force**: `{config.name}` fails `latentstore verify --quick`: {failed}\n\n"


def _scores_there(place: Target, state: TargetState, manifest: Manifest) -> Sequence[float | None] | None:
    """PSNR of every row of a config that is there; None where it was not measured or cannot be read."""
    path = f"{manifest.config}/{manifest.index.path}"
    container = CONTAINERS.get(manifest.storage.container)
    if "psnr" not in manifest.metrics or path not in state.files or container is None:
        return None
    if state.files[path].bytes != manifest.index.bytes:
        return None
    try:
        content = io.BytesIO(place.read(state, path))
        found: Sequence[float | None] = container.read_index(content, ["psnr"], manifest.rows)["psnr"]
    except (StoreError, OSError, ValueError, KeyError):  # the card is not the place to say what `verify` says
        return None
    return found
