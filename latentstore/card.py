"""README.md of a repository of latents: the dataset card, rendered from the manifests of all its configs.

The YAML block at its top is what makes a plain ``datasets.load_dataset(folder)`` find the right files; the body states
measured facts only. The same manifests always give the same text.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstore.containers.table import CONTAINERS
from latentstore.errors import RequestError, StoreError
from latentstore.journal import remove_abandoned, write_atomically
from latentstore.manifest import FILE_NAME, FORMAT_VERSION, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CARD = "README.md"
TAR_BUILDER = "webdataset"
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
    remove_abandoned(path)
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
    """The manifests of all sealed configs below a repository's folder, by config name.

    Damaged ones are left out, and those in a container that this version does not know.
    """
    found = []
    for path in sorted(root.glob(f"*/{FILE_NAME}")):
        try:
            manifest = Manifest.read(path.parent)
        except StoreError:
            continue
        if manifest.storage.container in CONTAINERS:
            found.append(manifest)
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
    listed = _listed(manifests)
    for number, manifest in enumerate(listed):
        yield f"- config_name: {json.dumps(manifest.config)}"
        if number == 0:
            yield "  default: true"
        yield "  data_files:"
        for split in manifest.splits:
            yield f"  - split: {json.dumps(split)}"
            yield f"    path: {json.dumps(_glob(manifest, split))}"
    yield from _types(listed)


def _listed(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Those that `datasets` can load from the card: it reads all configs of a repository as it reads the first.

    Where there are several kinds, it is the kind that comes first in the table of containers.
    """
    found = {CONTAINERS[manifest.storage.container].builder for manifest in manifests}
    builder = next((row.builder for row in CONTAINERS.values() if row.builder in found), None)
    return [manifest for manifest in manifests if CONTAINERS[manifest.storage.container].builder == builder]


def _glob(manifest: Manifest, split: str) -> str:
    """The shards of a split, from the repository's folder."""
    return f"{manifest.config}/{split}-*.{CONTAINERS[manifest.storage.container].suffix}"


def _types(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The column types of those whose files do not hold them; without, `datasets` guesses from the first five rows."""
    heading = ["dataset_info:"]
    for manifest in manifests:
        types = CONTAINERS[manifest.storage.container].reader_features
        if types is None:
            continue
        yield from heading
        heading = []
        yield f"- config_name: {json.dumps(manifest.config)}"
        yield "  features:"
        for name, feature in types(manifest.schema).items():
            yield f"  - {_yaml({'name': name, **_card_type(feature)})}"


def _card_type(feature: Any) -> dict[str, Any]:
    """A type in the words of `datasets` as cards spell it."""
    if not isinstance(feature, dict):
        return {"list": _card_type(feature[0])}
    kind = feature.get("_type")
    if kind is None:
        return {"struct": [{"name": name, **_card_type(part)} for name, part in feature.items()]}
    if kind == "Value":
        return {"dtype": feature["dtype"]}
    if kind == "ClassLabel":
        return {"dtype": {"class_label": {"names": {str(n): name for n, name in enumerate(feature["names"])}}}}
    if kind == "Array3D":
        return {"dtype": {"array3_d": {"shape": feature["shape"], "dtype": feature["dtype"]}}}
    length = {"length": feature["length"]} if feature.get("length", -1) not in (None, -1) else {}
    return {"large_list" if kind == "LargeList" else "list": _card_type(feature["feature"]), **length}


def _yaml(value: Mapping[str, Any]) -> str:
    """The value on one line. JSON is YAML, but for characters beyond 16 bits: YAML does not take them in halves."""
    return re.sub(r"\\u(d[89ab]\w\w)\\u(d[c-f]\w\w)", _whole_character, json.dumps(value))


def _whole_character(halves: re.Match[str]) -> str:
    high, low = int(halves[1], 16) - 0xD800, int(halves[2], 16) - 0xDC00
    return f"\\U{0x10000 + (high << 10) + low:08x}"


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
        *_without_latentstore(manifests),
    ]


def _without_latentstore(manifests: Sequence[Manifest]) -> Iterator[str]:
    """How people read the shards who have only the usual libraries."""
    tars = [manifest for manifest in manifests if _is_tar(manifest) and manifest.rows]
    arrays = "Without latentstore, `datasets.load_dataset(PATH, CONFIG)` gives the raw latents as shaped arrays"
    if not tars:
        yield f"{arrays}."
        return
    config = tars[0].config
    split, info = next(found for found in tars[0].splits.items() if found[1].rows)
    files = json.dumps(f"PATH/{config}/{_numbered([shard.path for shard in info.shards])}")
    lines = [
        "import webdataset",
        "",
        f"for row in webdataset.WebDataset({files}, shardshuffle=False).decode():",
        '    latent, columns = row["latent.npy"], row["json"]  # the raw latent (C, h, w), numbers as stored',
    ]
    if tars[0] in _listed(manifests):
        yield f"{arrays} in the column `latent.npy`,"
        yield "the labels in `cls` (-1: none) and the other columns in `json`. `webdataset` reads the files as well:"
    else:
        yield f"{arrays}, but not"
        names = ", ".join(tar.config for tar in tars)
        yield f"of configs in tar files ({names}) beside others. Those are named by their files:"
        lines.insert(0, "import datasets")
        shards = json.dumps(f"PATH/{_glob(tars[0], split)}")
        lines.append(f'rows = datasets.load_dataset("webdataset", data_files={shards}, split="train")')
    yield from ("", "```python", *lines, "```")


def _is_tar(manifest: Manifest) -> bool:
    return CONTAINERS[manifest.storage.container].builder == TAR_BUILDER


def _numbered(names: Sequence[str]) -> str:
    """Names that count up, in the way of `webdataset`: ``train-{000000..000003}.tar``."""
    first, last = (re.sub(r".*-(\d+)\.\w+", r"\1", name) for name in (names[0], names[-1]))
    return names[0] if len(names) == 1 else names[0].replace(f"-{first}.", f"-{{{first}..{last}}}.")


def _section(manifest: Manifest) -> Iterator[str]:
    channels, height, width = manifest.latent_shape
    vae, size = manifest.vae, manifest.size
    yield f"## {manifest.config}"
    yield ""
    yield f"![originals, reconstructions, difference]({manifest.config}/preview.png)"
    yield ""
    yield "| | |"
    yield "|---|---|"
    if manifest.preparation.views:
        yield f"| rows | {_counts(manifest)} |"
        views = ", ".join(manifest.preparation.views)
        yield f"| views of each picture | {views}, encoded from the transformed pixels |"
    else:
        yield f"| pictures | {_counts(manifest)} |"
    if manifest.source.classes is not None:
        yield f"| classes | {len(manifest.source.classes)} |"
    yield f"| source | {manifest.source.name}, licence: {manifest.source.licence or 'not stated'} |"
    yield f"| VAE | {vae.name} ({vae.class_name}), licence: {vae.licence} |"
    yield f"| VAE weights sha256 | `{vae.weights_sha256 or 'none'}` |"
    yield f"| latent | {channels}x{height}x{width} {manifest.storage.name}, posterior {manifest.posterior}, unscaled |"
    yield from _storing(manifest)
    for metric in manifest.quality.values():
        if metric.mean is not None:
            mean, median = _score(metric.mean, metric.unit), _score(metric.median, metric.unit)
            yield f"| {metric.title} | {mean} mean, {median} median |"
    yield f"| stored | {size.stored_bytes:,} bytes, {bits_in_words(manifest)} |"
    yield f"| against raw RGB, {size.raw_rgb_bytes:,} bytes | {ratio_in_words(size.raw_rgb_over_stored)} |"
    if size.source_over_stored is not None:
        files = f"the source files, {size.source_bytes:,} bytes"
        yield f"| against {files} | {ratio_in_words(size.source_over_stored)} |"
    payload = f"the numbers uncompressed, {size.payload_bytes:,} bytes"
    yield f"| against {payload} | {ratio_in_words(size.payload_bytes / size.stored_bytes)} |"
    entropy = f"their order-0 entropy, {size.entropy_bytes:,} bytes"
    yield f"| against {entropy} | {ratio_in_words(size.entropy_bytes / size.stored_bytes)} |"


def _storing(manifest: Manifest) -> Iterator[str]:
    """What storing cost, where that is known, and what the dataset was before it was converted."""
    storage = manifest.storage
    if storage.step_sigma is not None:
        yield f"| quantised | steps of {storage.step_sigma:.4g} of each channel's standard deviation |"
    if storage.measured_loss_db is not None:
        budget = f", of a budget of {storage.budget_db:g} dB" if storage.budget_db is not None else ""
        yield f"| storing cost | {storage.measured_loss_db:.4f} dB of mean PSNR{budget} |"
    for before in storage.converted:
        kept = (
            "no number changed" if before.lossless else "rounded" if before.measured else "rounded, not measured again"
        )
        yield f"| converted from | {before.storage} in {before.container}, layout {before.layout}: {kept} |"


def ratio_in_words(ratio: float) -> str:
    """``3.1x smaller`` or ``4.2x larger``: a size ratio (baseline over stored) without a sign to misread."""
    return f"{ratio:.2f}x smaller" if ratio >= 1 else f"{1 / ratio:.2f}x larger"


def bits_in_words(manifest: Manifest) -> str:
    """Stored bits per pixel; of a dataset with views, per pixel of the rows and of the pictures behind them."""
    size = manifest.size
    text = f"{size.bits_per_pixel:.2f} bits per pixel"
    if not manifest.preparation.views:
        return text
    return f"{text} of each view, {24 * size.stored_bytes / size.raw_rgb_bytes:.2f} of each picture"


def _counts(manifest: Manifest) -> str:
    return ", ".join(f"{split.rows:,} {name}" for name, split in manifest.splits.items())


def _score(value: float | None, unit: str) -> str:
    return "none" if value is None else f"{value:.2f} {unit}".strip() if unit else f"{value:.4f}"
