"""One config on the card: what it is, how good it is, what it takes, and where it comes from."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from latentstore.card.contract import contract
from latentstore.card.quality import quality
from latentstore.card.words import (
    bits_in_words,
    bytes_in_words,
    code_span,
    file_link,
    hub_link,
    plain_text,
    ratio_in_words,
    rows_in_words,
    source_repo,
    table,
)
from latentstore.duplicates import duplicates_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from latentstore.manifest import Manifest

CLASSES = 12
"""Names of classes that are listed."""
REASONS = 5
"""Reasons for leaving out pictures that are listed."""


def section(manifest: Manifest, scores: Sequence[float | None] | None) -> Iterator[str]:
    """The whole section of a config; ``scores`` is the PSNR of every row, where it is at hand."""
    yield from (f"## {plain_text(manifest.config)}", "")
    yield f"![originals, reconstructions, difference]({file_link(f'{manifest.config}/{manifest.preview}')})"
    yield ""
    yield "The best, the median and the worst picture by PSNR: original, reconstruction, enhanced difference."
    yield ""
    yield from contract(manifest)
    yield ""
    yield from quality(manifest, scores)
    yield ""
    yield from _sizes(manifest)
    yield ""
    yield from _provenance(manifest)


def _sizes(manifest: Manifest) -> Iterator[str]:
    size = manifest.size
    yield from ("### Size", "")
    yield f"All shards take {size.stored_bytes:,} bytes, {bits_in_words(manifest)}."
    if size.thumbnail_bytes > size.stored_bytes:  # of equal pictures, a compressed shard keeps them only once
        yield f"Among these are thumbnails of the decoded latents, {size.thumbnail_bytes:,} bytes before compression."
    elif size.thumbnail_bytes:
        yield f"Of these bytes {size.thumbnail_bytes:,} are thumbnails of the decoded latents."
    yield ""
    once = ", each picture once" if manifest.preparation.views else ""
    baselines = [(f"raw RGB, 3 bytes a pixel{once}", size.raw_rgb_bytes)]
    if size.source_bytes is not None:
        baselines.append((f"the source's own files{once}", size.source_bytes))
    baselines.append(("the stored numbers, uncompressed", size.payload_bytes))
    baselines.append(("the order-0 entropy of the stored numbers", size.entropy_bytes))
    rows = [(name, f"{count:,}", ratio_in_words(count / size.stored_bytes)) for name, count in baselines]
    yield from table(("baseline", "bytes>", "what is stored, against it>"), rows)
    yield ""
    yield _worth(manifest)
    yield "They are worth storing because training starts from them without an encoder. As image files they are no"
    yield "bargain: `latentstore compare` puts JPEG, WebP and AVIF of equal quality beside them."


def _worth(manifest: Manifest) -> str:
    ratio = manifest.size.source_over_stored
    if ratio is None:
        return "The source has no files to compare these latents with."
    return f"These latents are {ratio_in_words(ratio)} than the files they were made from."


def _provenance(manifest: Manifest) -> Iterator[str]:
    source, build, environment = manifest.source, manifest.build, manifest.environment
    repo = source_repo(source)
    yield from ("### Provenance", "")
    where = f" ({hub_link(repo, kind='datasets/')})" if repo else ""
    rows = [("source", f"{plain_text(source.name)}{where}")]
    if repo and source.revision:
        rows.append(("revision of the source", code_span(source.revision)))
    if source.homepage:
        rows.append(("page of the source", plain_text(source.homepage)))
    rows.append(("pictures found", plain_text(", ".join(f"{count:,} {name}" for name, count in source.images.items()))))
    rows.append(("rows", plain_text(rows_in_words(manifest))))
    if source.classes is not None:
        rows.append(("classes", _classes(source.classes)))
    rows += [("against what its publisher states", plain_text(line)) for line in source.ingest if "expected" in line]
    rows.append(("left out", _skipped(manifest)))
    duplicates = duplicates_sentence(build.duplicates)
    if duplicates:
        rows.append(("duplicates", duplicates))
    seed = f"shuffled, seed {build.seed}" if build.order == "shuffled" else "that of the source"
    rows.append(("order of the rows", seed))
    rows.append(
        ("encoded", plain_text(f"on {environment.device} in {environment.dtype}, in batches of {build.batch_size}"))
    )
    rows.append(
        ("versions", plain_text(", ".join(f"{name} {version}" for name, version in environment.versions.items())))
    )
    yield from table(("", ""), rows)


def _classes(names: Sequence[str]) -> str:
    """How many, and what the first are called; all are in the front matter."""
    more = ", …" if len(names) > CLASSES else ""
    return f"{len(names):,}: {', '.join(plain_text(name) for name in names[:CLASSES])}{more}"


def _skipped(manifest: Manifest) -> str:
    """Counts by reason. The pictures themselves are in the manifest."""
    reasons = Counter(entry.reason for entry in manifest.build.skipped)
    if not reasons:
        return "no picture"
    listed = [f"{count:,}: {plain_text(reason)}" for reason, count in reasons.most_common(REASONS)]
    more = [f"{len(reasons) - REASONS} more reasons"] if len(reasons) > REASONS else []
    return "; ".join([*listed, *more])


def overview(manifests: Sequence[Manifest]) -> list[str]:
    """All configs in one table."""
    rows = []
    for manifest in manifests:
        psnr = manifest.quality.get("psnr")
        mean = "-" if psnr is None or psnr.mean is None else f"{psnr.mean:.2f}"
        channels, height, width = manifest.latent_shape
        rows.append(
            (
                f"[{plain_text(manifest.config)}](#{file_link(anchor(manifest.config))})",
                plain_text(manifest.source.name),
                plain_text(manifest.vae.name),
                f"{manifest.rows:,}",
                f"{channels}x{height}x{width}",
                plain_text(f"{manifest.storage.name}, {manifest.storage.container}"),
                mean,
                bytes_in_words(manifest.size.stored_bytes),
            )
        )
    return table(("config", "source", "VAE", "rows>", "latent", "stored as", "mean PSNR, dB>", "size>"), rows)


def anchor(heading: str) -> str:
    """The target of a link to a heading, as the Hub names it: lower case, without points."""
    return heading.lower().replace(".", "")
