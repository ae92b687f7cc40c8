"""What the latents of a config are, and the numbers that a stranger needs to use them by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from latentstore.card.use import is_tar, latent_column
from latentstore.card.words import code_span, hub_link, is_packaged, plain_text, shape_in_words, table, vae_repo
from latentstore.normalisation import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from latentstore.manifest import Manifest

FEW = 16
"""Numbers that stand in a line without being folded away."""


def contract(manifest: Manifest) -> Iterator[str]:
    """The latent contract as a table, then as code that takes stored numbers to both spaces. Tests run the code."""
    yield from ("### Latents", "")
    yield from table(("", ""), _rows(manifest))
    yield from (
        "",
        f"By hand, from what is stored (`{latent_column(manifest)}`) to the raw latent that the VAE decodes, and to",
    )
    yield f"the model latent, `{KINDS[manifest.normalisation.kind].formula}`:"
    yield ""
    folded = _numbers(manifest) > 2 * FEW
    if folded:
        yield from ("<details><summary>Code, with all numbers</summary>", "")
    yield from ("```python", *_code(manifest), "```")
    if folded:
        yield from ("", "</details>")


def _rows(manifest: Manifest) -> Iterator[tuple[str, str]]:
    vae, storage, preparation = manifest.vae, manifest.storage, manifest.preparation
    repo = vae_repo(vae)
    where = f" in {hub_link(repo)}" if repo else ""
    folder = f", folder {code_span(vae.subfolder)}" if repo and vae.subfolder else ""
    yield "VAE", f"{plain_text(vae.name)}, {code_span(vae.class_name)}{where}{folder}"
    if vae.repo and not repo:
        yield "", "weights that its builder had at hand; the sha256 says which"
    if is_packaged(vae):
        yield "", "its weights come with the Python package `latentstore`"
    if repo:
        yield "revision", code_span(vae.revision) if vae.revision else "not recorded"
    yield "weights, sha256", code_span(vae.weights_sha256) if vae.weights_sha256 else "it has no weights"
    yield "stored", f"raw posterior {plain_text(manifest.posterior)}, without any scale: {_stored_words(manifest)}"
    model = manifest.normalisation.model_shape(manifest.latent_shape)
    yield (
        "shape",
        f"{shape_in_words(manifest.latent_shape)} (channels, rows, columns), {vae.stride}x{vae.stride} pixels a cell",
    )
    yield (
        "model space",
        f"{shape_in_words(model)}, {manifest.normalisation.kind}; what `load_latents` gives unless told otherwise",
    )
    yield (
        "pictures",
        f"{_preparation(manifest)}; padded on the right and below ({plain_text(preparation.pad)}) to whole cells",
    )
    if preparation.views:
        yield (
            "views of each picture",
            f"{', '.join(preparation.views)}: one row each, encoded from the transformed pixels",
        )
    yield "shards", plain_text(f"{storage.container}, layout {storage.layout}; format {manifest.format_version}")
    yield from _storing(manifest)


def _stored_words(manifest: Manifest) -> str:
    if manifest.storage.steps is None:
        return plain_text(manifest.storage.name)
    return f"{plain_text(manifest.storage.name)}, one step per channel"


def _preparation(manifest: Manifest) -> str:
    preparation = manifest.preparation
    named = (
        ("resized to", preparation.resize),
        ("cropped to", preparation.crop),
        ("cut into tiles of", preparation.tile),
    )
    return ", ".join(f"{what} {shape_in_words(sides)}" for what, sides in named if sides) or "as they are"


def _storing(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What storing cost, where that is known, and what the dataset was before it was converted."""
    storage = manifest.storage
    if storage.step_sigma is not None:
        yield "quantised", f"steps of {storage.step_sigma:.4g} of each channel's standard deviation"
    if storage.clipped is not None:
        yield "beyond 127 steps", f"{sum(storage.clipped):,} of {manifest.size.payload_bytes:,} numbers"
    if storage.measured_loss_db is not None:
        budget = f", of a budget of {storage.budget_db:g} dB" if storage.budget_db is not None else ""
        yield "storing cost", f"{storage.measured_loss_db:.4f} dB of mean PSNR{budget}"
    for before in storage.converted:
        kept = (
            "no number changed" if before.lossless else "rounded" if before.measured else "rounded, not measured again"
        )
        yield "converted from", plain_text(f"{before.storage} in {before.container}, layout {before.layout}: {kept}")


def _numbers(manifest: Manifest) -> int:
    """How many numbers its code lists."""
    normal = manifest.normalisation
    return len(manifest.storage.steps or ()) + len(normal.mean) + len(normal.std)


def _code(manifest: Manifest) -> Iterator[str]:
    channels, height, width = manifest.latent_shape
    normal, storage = manifest.normalisation, manifest.storage
    yield "import numpy as np"
    yield ""
    if storage.steps is not None:
        yield _array("steps", storage.steps, "float32")
        shaped = f"np.frombuffer(stored, np.uint8).reshape({channels}, {height}, {width})"
        read = "np.asarray(stored, np.uint8)" if is_tar(manifest) else shaped
        yield f"raw = ({read}.astype(np.float32) - 128) * steps[:, None, None]"
    else:
        yield "raw = np.asarray(stored, np.float32)"
    if normal.mean:
        yield _array("mean", normal.mean, "float64")
        yield _array("std", normal.std, "float64")
    yield from _to_model(manifest)


def _to_model(manifest: Manifest) -> Iterator[str]:
    normal = manifest.normalisation
    channels, height, width = manifest.latent_shape
    if normal.kind == "identity":
        yield "model = raw"
    elif normal.kind == "scale":
        yield f"model = raw * {normal.scale!r}"
    elif normal.kind == "scale_shift":
        yield f"model = (raw - {normal.shift!r}) * {normal.scale!r}"
    elif normal.kind == "mean_std":
        scale = "" if normal.scale == 1 else f" * {normal.scale!r}"
        yield f"model = (raw - mean[:, None, None]){scale} / std[:, None, None]"
    else:
        patch = normal.patch
        high, wide = height // patch, width // patch
        yield f"cells = raw.reshape({channels}, {high}, {patch}, {wide}, {patch}).transpose(0, 2, 4, 1, 3)"
        yield f"patches = cells.reshape({channels * patch**2}, {high}, {wide})"
        yield "model = (patches - mean[:, None, None]) / std[:, None, None]"


def _array(name: str, numbers: Sequence[float], dtype: str) -> str:
    """The numbers to the last digit, eight in a line."""
    lines = [", ".join(map(json.dumps, numbers[start : start + 8])) for start in range(0, len(numbers), 8)]
    if len(lines) == 1:
        return f"{name} = np.array([{lines[0]}], np.{dtype})"
    return "\n".join([f"{name} = np.array([", *(f"    {line}," for line in lines), f"], np.{dtype})"])
