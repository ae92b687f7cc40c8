"""The card: front matter and text, rendered from the manifests into what a person wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentstore.card.block import Body, Written
from latentstore.card.body import body
from latentstore.card.choices import CardChoices
from latentstore.card.front_matter import Readme, refuse_large
from latentstore.card.metadata import front_matter, title
from latentstore.card.use import Place
from latentstore.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latentstore.manifest import Manifest


def render_card(
    manifests: Sequence[Manifest],
    previous: str | None = None,
    choices: CardChoices | None = None,
    *,
    scores: Mapping[str, Sequence[float | None]] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """README.md of a repository with these configs: the same text for the same arguments.

    ``previous`` is the README that is there: a person's own keys of the front matter, and all text outside of the
    marks, are kept byte for byte. ``choices`` is what only a person can decide. ``scores`` gives the PSNR of every row
    of a config, for a histogram; ``notes`` are the paragraphs that it ends with, in Markdown. Rendering with the
    remaining manifests takes a config off the card. RequestError where ``previous`` cannot be read.
    """
    choices = choices or CardChoices()
    readme = Readme.parse(previous or "")
    text = Body.parse(readme.body)
    written = text.written or Written()
    keys, suggested = front_matter(manifests, readme.data, written, choices)
    repo = choices.repo or written.repo
    merged = readme.with_keys(keys)
    lines = body(
        manifests,
        title=str(merged.data.get("pretty_name") or title(manifests)),
        place=Place(repo, choices.revision if repo else None),
        default=_default(keys),
        licence=licence_of(merged.data),
        scores=scores or {},
    )
    ended = "\n\n".join(["\n".join(lines), *notes])
    block = text.with_block(ended, Written(tuple(m.config for m in manifests), suggested, repo))
    card = Readme(merged.yaml, block).text()
    refuse_large(len(card.encode()), "The dataset card of all configs")
    return card


def licence_of(data: Mapping[str, Any]) -> str | None:
    """The licence in a front matter, in words; None where there is none."""
    found = data.get("license")
    names = [str(name) for name in found] if isinstance(found, list) else [str(found)] if found else []
    if names == ["other"] and data.get("license_name"):
        return str(data["license_name"])
    return ", ".join(names) or None


def refuse_unlicensed(card: str, manifests: Sequence[Manifest]) -> None:
    """RequestError where a card that shall be published states no licence: none is ever made up."""
    if licence_of(Readme.parse(card).data) is not None:
        return
    sources = _stated((manifest.source.name, manifest.source.licence) for manifest in manifests)
    vaes = _stated((manifest.vae.name, manifest.vae.licence) for manifest in manifests)
    raise RequestError(
        f"The dataset has no licence, and latents derive from the pictures (source {sources}) and the VAE ({vaes}): "
        "choose one that both allow and type it after --license, such as --license cc-by-4.0."
    )


def _stated(pairs: Any) -> str:
    return ", ".join(dict.fromkeys(f"{name}: {licence or 'not stated'}" for name, licence in pairs))


def _default(keys: Mapping[str, Any]) -> str | None:
    return next((entry["config_name"] for entry in keys["configs"] or () if entry.get("default")), None)
