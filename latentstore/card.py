"""README.md of a repository of latents: the dataset card, rendered from the manifests of all its configs.

The YAML block at its top is what makes a plain ``datasets.load_dataset(folder)`` find the right files; the body states
measured facts only. The same manifests always give the same text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from latentstore.errors import RequestError, StoreError
from latentstore.journal import write_atomically
from latentstore.manifest import FILE_NAME, FORMAT_VERSION, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CARD = "README.md"
MARK = "Written by latentstore in format"
SIZE_CATEGORIES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def write_card(root: Path) -> Path:
    """Render the card of every sealed config below ``root`` and put it there in one step, where it has changed."""
    text = render_card(sealed_configs(root))
    path = root / CARD
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomically(path, text)
    return path


def refuse_foreign_card(root: Path) -> None:
    """RequestError where ``root`` has a README.md that this library did not write: it would be overwritten."""
    path = root / CARD
    if path.is_file() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
        message = f"{path} was not written by latentstore, and the dataset card would replace it: choose another --out."
        raise RequestError(message)


def sealed_configs(root: Path) -> list[Manifest]:
    """The manifests of all sealed configs below a repository's folder, by config name; damaged ones are left out."""
    found = []
    for path in sorted(root.glob(f"*/{FILE_NAME}")):
        try:
            found.append(Manifest.read(path.parent))
        except StoreError:
            continue
    return found


def render_card(manifests: Sequence[Manifest]) -> str:
    """The card's text."""
    lines = ["---", *_front_matter(manifests), "---", "", *_introduction(manifests)]
    for manifest in manifests:
        lines += ["", *_section(manifest)]
    return "\n".join(lines) + "\n"


def _front_matter(manifests: Sequence[Manifest]) -> Iterator[str]:
    rows = sum(manifest.rows for manifest in manifests)
    yield "tags:"
    yield from ("- latents", "- latentstore", "- remote-sensing")
    if any(manifest.source.classes for manifest in manifests):
        yield "task_categories:"
        yield "- image-classification"
    yield "size_categories:"
    yield "- " + next((name for limit, name in SIZE_CATEGORIES if rows < limit), "10M<n<100M")
    yield "configs:"
    for number, manifest in enumerate(manifests):
        yield f"- config_name: {json.dumps(manifest.config)}"
        if number == 0:
            yield "  default: true"
        yield "  data_files:"
        for split in manifest.splits:
            yield f"  - split: {json.dumps(split)}"
            yield f"    path: {json.dumps(f'{manifest.config}/{split}-*.{manifest.storage.container}')}"


def _introduction(manifests: Sequence[Manifest]) -> list[str]:
    first = manifests[0].config if manifests else ""
    return [
        "# Image latents",
        "",
        f"{MARK} {FORMAT_VERSION}: raw latents of the VAE named below, with the quality of",
        "every picture as measured from the stored numbers. Each config's `manifest.json` is the contract.",
        "",
        "```python",
        "from latentstore import load_latents",
        "",
        f'ds = load_latents("PATH", {json.dumps(first)})  # PATH: this folder',
        "batch = next(iter(ds.loader(batch_size=64, shuffle=True)))  # batch['latent'] is in model space",
        "```",
        "",
        "Without latentstore, `datasets.load_dataset(PATH, CONFIG)` gives the raw latents as shaped arrays.",
    ]


def _section(manifest: Manifest) -> Iterator[str]:
    channels, height, width = manifest.latent_shape
    vae, size = manifest.vae, manifest.size
    yield f"## {manifest.config}"
    yield ""
    yield f"![originals, reconstructions, difference]({manifest.config}/preview.png)"
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| pictures | {_counts(manifest)} |"
    if manifest.source.classes is not None:
        yield f"| classes | {len(manifest.source.classes)} |"
    yield f"| source | {manifest.source.name}, licence: {manifest.source.licence or 'not stated'} |"
    yield f"| VAE | {vae.name} ({vae.class_name}), licence: {vae.licence} |"
    yield f"| VAE weights sha256 | `{vae.weights_sha256 or 'none'}` |"
    yield f"| latent | {channels}x{height}x{width} {manifest.storage.dtype}, posterior {manifest.posterior}, unscaled |"
    for metric in manifest.quality.values():
        if metric.mean is not None:
            mean, median = _score(metric.mean, metric.unit), _score(metric.median, metric.unit)
            yield f"| {metric.title} | {mean} mean, {median} median |"
    yield f"| stored | {size.stored_bytes:,} bytes, {size.bits_per_pixel:.2f} bits per pixel |"
    yield f"| against raw RGB | {ratio_in_words(size.raw_rgb_over_stored)} |"
    if size.source_over_stored is not None:
        yield f"| against the source files | {ratio_in_words(size.source_over_stored)} |"


def ratio_in_words(ratio: float) -> str:
    """``3.1x smaller`` or ``4.2x larger``: a size ratio (baseline over stored) without a sign to misread."""
    return f"{ratio:.2f}x smaller" if ratio >= 1 else f"{1 / ratio:.2f}x larger"


def _counts(manifest: Manifest) -> str:
    return ", ".join(f"{split.rows:,} {name}" for name, split in manifest.splits.items())


def _score(value: float | None, unit: str) -> str:
    return "none" if value is None else f"{value:.2f} {unit}".strip() if unit else f"{value:.4f}"
