"""The card of a place: of the configs that come and of those that are there, around the words that people wrote."""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from latentstore.card import CardChoices, refuse_unlicensed, render_card, validate_card
from latentstore.card.block import Body
from latentstore.card.front_matter import body_of, card_text, refuse_large
from latentstore.card.vocabulary import LICENCES, OTHER
from latentstore.card.words import code_span, plain_text, read_from_markdown
from latentstore.containers.table import CONTAINERS
from latentstore.errors import PublishError, RequestError, StoreError
from latentstore.manifest import Manifest
from latentstore.manifest.names import CARD
from latentstore.named_table import unknown_name
from latentstore.publishing.interface import Target
from latentstore.publishing.planning import manifests_of_others
from latentstore.publishing.records import LocalConfig, TargetState

FORCED = re.compile(
    r"^> \*\*Published with --force\*\*: `(?P<config>[^`\n]+)` fails `latentstore verify --quick`: (?P<failed>.*)$",
    re.MULTILINE,
)


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
    notes = {config.name: note_on(config.name, "; ".join(config.failed)) for config in local if config.failed}
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
    return render_card(
        ordered, previous, choices, scores=scores, notes=[note for _, note in sorted((notes or {}).items())]
    )


def card_of(place: Target, state: TargetState) -> str | None:
    """The card that is there; None where there is none."""
    if CARD not in state.files:
        return None
    where = f"{CARD} of {place.name}"
    try:
        refuse_large(state.files[CARD].bytes, where)
        return card_text(place.read(state, CARD), where)
    except RequestError as error:
        raise PublishError(str(error)) from error


def notes_of(previous: str | None, configs: set[str]) -> dict[str, str]:
    """The notes on a card about these configs; their words, which somebody else may have written, stay words."""
    found = FORCED.finditer(Body.parse(body_of(previous or "")).rendered)
    return {
        note["config"]: note_on(note["config"], read_from_markdown(note["failed"]))
        for note in found
        if note["config"] in configs
    }


def note_on(config: str, failed: str) -> str:
    """A line about a config that was published with ``--force``, and what is wrong with it."""
    return f"> **Published with --force**: {code_span(config)} fails `latentstore verify --quick`: {plain_text(failed)}"


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
