"""The text of a card: what is true of the whole repository around one section for each config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentstore.card.quality import protocols
from latentstore.card.section import overview, section
from latentstore.card.use import Place, use
from latentstore.card.words import command_word, hub_link, plain_text, source_repo, vae_repo
from latentstore.manifest import FORMAT_VERSION
from latentstore.vaes.table import VAES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from latentstore.manifest import Manifest
    from latentstore.vaes.interface import VaeRow

MARK = "Written by latentstore in format"


def body(
    manifests: Sequence[Manifest],
    *,
    title: str,
    place: Place,
    default: str | None,
    licence: str | None,
    scores: Mapping[str, Sequence[float | None]],
) -> Iterator[str]:
    """All lines. ``licence`` is the front matter's, ``default`` the config that is loaded where none is named."""
    yield from (f"# {plain_text(title)}", "")
    if not manifests:
        yield "There is no dataset here at present."
        return
    yield "Images as latents of a variational autoencoder (VAE), ready for training without running an encoder, with"
    yield f"the quality of every picture measured from the stored numbers. {MARK} {FORMAT_VERSION}; each"
    yield "config's `manifest.json` is its contract, and every figure below is taken from it or from its index."
    yield ""
    yield from overview(manifests)
    yield ""
    yield from use(manifests, place, default)
    for manifest in manifests:
        yield from section(manifest, scores.get(manifest.config))
        yield ""
    yield from protocols(manifests)
    yield ""
    yield from _limits(manifests)
    yield ""
    yield from _verify(manifests, place)
    yield ""
    yield from _licences(manifests, licence)
    yield ""
    yield from _citations(manifests)


def _limits(manifests: Sequence[Manifest]) -> Iterator[str]:
    views = any(manifest.preparation.views for manifest in manifests)
    yield from ("## What latents cannot do", "")
    yield "- A flipped, turned or cropped latent is not the latent of the flipped, turned or cropped picture."
    yield (
        "  The views stored here were encoded from transformed pixels: use those."
        if views
        else "  Transform pictures before they are encoded, not latents."
    )
    yield "- They belong to one VAE. Latents of different VAEs, even of one shape, must not be mixed, and only the VAE"
    yield "  named above, with the sha256 given there, decodes them as measured."
    yield "- What the encoder dropped is gone: texture below a latent cell, small objects, exact radiometry. The mean"
    yield "  says little about the worst picture; filter on the scores in the rows where it matters."
    if any(manifest.posterior == "mean" for manifest in manifests):
        yield "- They are posterior means, so every epoch sees the same latent of a picture; nothing is sampled."
    yield "- The scores say how near the decoded picture is to the original, not how well a model trained on latents"
    yield "  will do."


def _verify(manifests: Sequence[Manifest], place: Place) -> Iterator[str]:
    yield from ("## Verify", "", "```bash")
    yield from (
        f"latentstore verify {command_word(place.for_us)} --config {command_word(manifest.config)}"
        for manifest in manifests
    )
    yield from ("```", "")
    yield "checks the digest of the manifest, the sha256 of every shard, the CRC-32 of every latent, and that"
    yield "statistics, index and figures follow from the stored numbers; with the source at hand, the quality too."
    yield "Without this library, compare the `sha256sum` of a shard with the one in `manifest.json`."


def _licences(manifests: Sequence[Manifest], licence: str | None) -> Iterator[str]:
    yield from ("## Licences", "")
    if licence is None:
        yield "No licence has been chosen yet: this dataset was not published. Latents derive from both of these:"
    else:
        yield f"This dataset: **{plain_text(licence)}**. Latents derive from the pictures and from the VAE, whose own"
        yield "terms stay in force:"
    yield ""
    for manifest in _first_of_each(manifests, "source"):
        source = manifest.source
        repo = source_repo(source)
        name = hub_link(repo, kind="datasets/") if repo else plain_text(source.name)
        yield f"- source {name}: {plain_text(source.licence or 'not stated')}"
    for manifest in _first_of_each(manifests, "vae"):
        repo = vae_repo(manifest.vae)
        name = hub_link(repo) if repo else plain_text(manifest.vae.name)
        yield f"- VAE {name}: {plain_text(manifest.vae.licence)}"


def _citations(manifests: Sequence[Manifest]) -> Iterator[str]:
    yield from ("## Citation", "")
    for manifest in _first_of_each(manifests, "source"):
        source = manifest.source
        cited = plain_text(source.citation) if source.citation else "its publisher states no citation"
        yield f"- source {plain_text(source.name)}: {cited}"
    for manifest in _first_of_each(manifests, "vae"):
        vae = manifest.vae
        row: VaeRow | None = VAES.get(vae.name)
        # A checkpoint of someone's own may be called like a row.
        known = row is not None and (row.channels, row.class_name) == (vae.channels, vae.class_name)
        cited = plain_text(row.citation) if row and known and row.citation else "see the page of its weights"
        yield f"- VAE {plain_text(vae.name)}: {cited}"


def _first_of_each(manifests: Sequence[Manifest], part: str) -> list[Manifest]:
    """One manifest for each different source or VAE."""
    found: dict[object, Manifest] = {}
    for manifest in manifests:
        info = getattr(manifest, part)
        key = (info.name, info.licence, info.location) if part == "source" else (info.name, info.licence, info.repo)
        found.setdefault(key, manifest)
    return list(found.values())
