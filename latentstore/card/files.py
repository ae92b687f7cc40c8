"""The card as a file: README.md of a repository's folder, rendered from the configs that lie in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentstore.card.block import BEGIN, Body
from latentstore.card.front_matter import Readme, read_card
from latentstore.card.render import render_card
from latentstore.containers.table import CONTAINERS
from latentstore.errors import RequestError, StoreError
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.manifest.names import CARD
from latentstore.system.durable_files import remove_abandoned, write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from latentstore.card.choices import CardChoices


def write_card(root: Path, choices: CardChoices | None = None) -> Path:
    """Render the card of every sealed config below ``root`` into its README.md, in one step, where it has changed."""
    manifests = sealed_configs(root)
    path = root / CARD
    previous = read_card(path)
    scores = {manifest.config: found for manifest in manifests if (found := scores_of(root, manifest))}
    text = render_card(manifests, previous, choices, scores=scores)
    remove_abandoned(path)
    if text != previous:
        write_atomically(path, text)
    return path


def refuse_foreign_card(root: Path, advice: str = "choose another --out") -> None:
    """RequestError where ``root`` has a README.md that is no dataset card, or one that cannot be merged.

    Words on a dataset card are kept; but the README of a program would get a front matter that nobody asked for.
    """
    path = root / CARD
    try:
        text = read_card(path)
        if text is None:
            return
        readme = Readme.parse(text)
        _ = readme.data
        Body.parse(readme.body)
    except RequestError as error:
        raise RequestError(f"{path} cannot take a dataset card: {error}") from error
    if not readme.yaml and BEGIN not in text and text.strip():
        raise RequestError(
            f"{path} was not written by latentstore and is no dataset card, because it does not begin with two lines "
            f"'---': add them at its top to keep its words on the card, or {advice}."
        )


def sealed_configs(root: Path) -> list[Manifest]:
    """The manifests of all sealed configs below a repository's folder, by config name.

    Damaged ones are left out, and those in a container that this version does not know.
    """
    found = []
    for path in sorted(root.glob(f"*/{FILE_NAME}")):
        try:
            manifest = Manifest.read(path.parent).of_folder(path.parent.name)
        except StoreError:
            continue
        if manifest.storage.container in CONTAINERS:
            found.append(manifest)
    return found


def scores_of(root: Path, manifest: Manifest) -> Sequence[float | None] | None:
    """PSNR of every row, from the index; None where it was not measured, or there is no index that can be read."""
    path = root / manifest.config / manifest.index.path
    if "psnr" not in manifest.metrics or not path.is_file():
        return None
    try:
        return CONTAINERS[manifest.storage.container].read_index(path, ["psnr"], manifest.rows)["psnr"]
    except (StoreError, OSError, ValueError, KeyError):  # another config's, and `verify` says what is wrong with it
        return None
