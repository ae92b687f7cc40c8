"""How the dataset is read: the code on the card, with this library and without. Tests run it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentstore.card.metadata import TAR_BUILDER, listed, shard_pattern
from latentstore.card.words import code_span, python_text
from latentstore.containers.table import CONTAINERS
from latentstore.errors import UntrustedError, VaeError
from latentstore.vaes.table import row_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from latentstore.manifest import Manifest

PATH = "PATH"
"""What stands in the code for the folder, where it is not known where on the Hub it will lie."""


@dataclass(frozen=True)
class Place:
    """Where the dataset lies, as the code on the card names it."""

    repo: str | None = None
    revision: str | None = None

    @property
    def for_us(self) -> str:
        """Argument of ``load_latents``."""
        if self.repo is None:
            return PATH
        return f"{self.repo}@{self.revision}" if self.revision else self.repo

    def file(self, path: str) -> str:
        """A file, or files, as `datasets` names them."""
        if self.repo is None:
            return f"{PATH}/{path}"
        return f"hf://datasets/{self.repo}{f'@{self.revision}' if self.revision else ''}/{path}"

    def url(self, path: str) -> str:
        """A file, or files, as any program finds them."""
        if self.repo is None:
            return f"{PATH}/{path}"
        return f"https://huggingface.co/datasets/{self.repo}/resolve/{self.revision or 'main'}/{path}"


def use(manifests: Sequence[Manifest], place: Place, default: str | None) -> Iterator[str]:
    """The section on how to read it."""
    first = next((manifest for manifest in manifests if manifest.config == default), manifests[0])
    remark = f"  # {PATH}: the folder of this file" if place.repo is None else ""
    yield from ("## Use", "", "```python", "from latentstore import load_latents", "")
    split = first.first_split
    named = f"{python_text(place.for_us)}, {python_text(first.config)}, split={python_text(split)}"
    yield f"ds = load_latents({named}){remark}"
    yield 'batch = next(iter(ds.loader(batch_size=64, shuffle=True)))  # batch["latent"]: float32, in model space'
    if _needs_trust(first):
        yield "# ds.decode(batch) gives pictures once you let it load this VAE, which latentstore does not know:"
        yield "# load_latents(..., trust=True)"
    else:
        yield 'images = ds.decode(batch["latent"][:4])  # (4, 3, H, W) in [0, 1]; loads the VAE'
    yield from ("```", "")
    loadable = listed(manifests)
    if loadable:
        chosen = first if first in loadable else loadable[0]
        yield from _with_datasets(chosen, place)
    yield from _with_webdataset(manifests, loadable, place)


def _needs_trust(manifest: Manifest) -> bool:
    """Whether the VAE is no row of the table, so that it is only read where the reader says so."""
    try:
        row_of(manifest.vae)
    except UntrustedError:
        return True
    except VaeError:
        return False
    return False


def _with_datasets(manifest: Manifest, place: Place) -> Iterator[str]:
    split = python_text(manifest.first_split)
    revision = f", revision={python_text(place.revision)}" if place.repo and place.revision else ""
    where = f"{python_text(place.repo or PATH)}, {python_text(manifest.config)}, split={split}{revision}"
    yield "Without this library, `datasets` gives the raw latents as they are stored. How they become what a denoiser"
    yield "is fed is said for each config below."
    yield from ("", "```python", "from datasets import load_dataset", "", f"rows = load_dataset({where})")
    yield f"stored = rows[0][{python_text(latent_column(manifest))}]"
    if manifest.source.classes is not None:
        column = "cls" if is_tar(manifest) else "label"
        yield f'class_names = rows.features["{column}"].names'
    yield from ("```", "")


def _with_webdataset(manifests: Sequence[Manifest], loadable: Sequence[Manifest], place: Place) -> Iterator[str]:
    tars = [manifest for manifest in manifests if is_tar(manifest) and manifest.rows]
    if not tars:
        return
    first = tars[0]
    split = first.first_split
    files = f"{first.config}/{_numbered([shard.path for shard in first.splits[split].shards])}"
    files = files.replace(":", "%3A")  # `webdataset` takes what follows `::pipe:` for a command
    if first in loadable:
        yield "The tar files are those that `webdataset` reads; in `cls`, -1 is a picture without a class:"
    else:
        names = ", ".join(code_span(tar.config) for tar in tars)
        yield f"The configs in tar files ({names}) are not in the list above, because `datasets` reads all configs of a"
        yield "repository in one way. They are read by the names of their files, or with `webdataset`:"
    yield from ("", "```python")
    if first not in loadable:
        yield "from datasets import load_dataset"
    yield from ("from webdataset import WebDataset", "")
    if first not in loadable:
        pattern = python_text(place.file(shard_pattern(first, split)))
        yield f'tar_rows = load_dataset("webdataset", data_files={pattern}, split="train")'
    yield f"for row in WebDataset({python_text(place.url(files))}, shardshuffle=False).decode():"
    yield '    stored, columns = row["latent.npy"], row["json"]'
    yield from ("```", "")


def latent_column(manifest: Manifest) -> str:
    """What `datasets` calls the column of latents."""
    return "latent.npy" if is_tar(manifest) else "latent"


def is_tar(manifest: Manifest) -> bool:
    """Whether its shards are tar files."""
    return CONTAINERS[manifest.storage.container].builder == TAR_BUILDER


def _numbered(names: Sequence[str]) -> str:
    """Names that count up, in the way of `webdataset`: ``train-{000000..000003}.tar``."""
    first, last = (re.sub(r".*-(\d+)\.\w+", r"\1", name) for name in (names[0], names[-1]))
    return names[0] if len(names) == 1 else names[0].replace(f"-{first}.", f"-{{{first}..{last}}}.")
