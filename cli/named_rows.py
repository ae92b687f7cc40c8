"""What SOURCE, --vae and where to measure again mean: the library's rows behind what was typed.

Nothing of the library is imported before a value is read, so that help stays light.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import note

if TYPE_CHECKING:
    from latentstore.manifest import Manifest
    from latentstore.sources.interface import SourceRow
    from latentstore.vaes.interface import VaeRow

SOURCE_FORMS = (
    "A SOURCE is a name from `latentstore list sources`, a folder of images (./folder), "
    "or a Hub dataset (hub:user/repo)."
)
VAE_FORMS = (
    "A VAE is a name from `latentstore list vaes` (NAME=FOLDER for weights in a local folder), a folder of an "
    "AutoencoderKL checkpoint (./folder), "
    "or one on the Hub (hub:user/repo or hub:user/repo:subfolder)."
)


def source_row(text: str, *, location: str | None = None, options: dict[str, Any] | None = None) -> SourceRow:
    """The row that SOURCE means, with these options of its reader; UsageError where it has none of the three forms."""
    from latentstore.named_table import unknown_name
    from latentstore.sources.table import SOURCES, folder_source, hub_source

    options = options or {}
    if text.startswith("hub:"):
        _refuse_location("--source-location", location, text)
        row = hub_source(_hub_dataset(text.removeprefix("hub:")))
    elif text in SOURCES:
        _say_table_wins("source", text)
        row = SOURCES[text]
        if location is not None and not row.location:
            raise click.UsageError(f"Source {text!r} reads no files, so --source-location has no meaning for it.")
        row = row.at(location) if location is not None else row
    elif _is_path(text):
        _refuse_location("--source-location", location, text)
        row = folder_source(text)
    else:
        raise click.UsageError(f"{unknown_name('source', text, SOURCES)} {SOURCE_FORMS}")
    return replace(row, options={**row.options, **options})


def vae_row(text: str, *, location: str | None = None) -> VaeRow:
    """The row that --vae means; UsageError where it has none of the three forms, VaeError where nothing is there.

    NAME=FOLDER is a VAE of the table with its weights in a local folder, as --vae-location says for one.
    """
    from latentstore.errors import VaeError
    from latentstore.named_table import unknown_name
    from latentstore.vaes.table import VAES, kl_checkpoint

    name, equals, folder_named = text.partition("=")
    if equals and name in VAES:
        _refuse_location("--vae-location", location, text)
        if not Path(folder_named).expanduser().is_dir():
            raise VaeError(f"--vae {text}: there is no folder {folder_named!r} with the weights of {name}.")
        return vae_row(name, location=folder_named)
    if text.startswith("hub:"):
        _refuse_location("--vae-location", location, text)
        match = re.fullmatch(r"hub:([\w.-]+/[\w.-]+)(?:@([^:]+))?(?::(.+))?", text)
        if match is None:
            raise click.UsageError(f"Expected hub:user/repo or hub:user/repo:subfolder, found {text!r}. {VAE_FORMS}")
        return kl_checkpoint(match[1], revision=match[2], subfolder=match[3] or "")
    if text in VAES:
        _say_table_wins("VAE", text)
        row = VAES[text]
        if location is not None and not (row.repo or row.packaged):
            raise click.UsageError(f"VAE {text!r} has no weights, so --vae-location has no meaning for it.")
        return row.at(location) if location is not None else row
    if not _is_path(text):
        raise click.UsageError(f"{unknown_name('VAE', text, VAES)} {VAE_FORMS}")
    _refuse_location("--vae-location", location, text)
    folder = Path(text).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        hint = f" For the Hub's {text}, type hub:{text}." if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text) else ""
        raise VaeError(f"--vae {text} {what}: expected the folder of an AutoencoderKL checkpoint.{hint}")
    return kl_checkpoint(text)


def source_and_vae_rows(
    location: str, config: str | None, source: str | None, vae_location: str | None, *, trust: bool = False
) -> tuple[SourceRow | None, VaeRow | None]:
    """Rows for what --source and --vae-location name, to measure a dataset again; None where its manifest's are meant.

    None too where its manifest cannot be read: the command then says so better.
    """
    from latentstore import LatentStoreError, open_store

    if source is None and vae_location is None:
        return None, None
    named = source_row(source) if source is not None else None
    try:
        manifest = open_store(location, config).manifest
    except LatentStoreError:
        return None, None
    return (
        _source_at(manifest, named, trust=trust) if named is not None else None,
        _vae_at(manifest, vae_location) if vae_location else None,
    )


def verify_command(out: str, manifest: Manifest) -> str:
    """What to type to check a dataset of one's own that was just written."""
    from latentstore.remeasure import needs_trust

    trust = " --trust" if needs_trust(manifest) else ""
    return f"latentstore verify {shlex.quote(out)} --config {shlex.quote(manifest.config)}{trust}"


def _source_at(manifest: Manifest, named: SourceRow, *, trust: bool) -> SourceRow:
    """The manifest's source, with its options, read from where the named one is; the named one where it is another.

    UntrustedError where those options would have links followed that lead out of what was named.
    """
    from latentstore.errors import UntrustedError
    from latentstore.sources.image_folder import open_image_folder
    from latentstore.sources.inside import FOLLOW_LINKS
    from latentstore.sources.table import source_of

    recorded = source_of(manifest.source)
    if not recorded.location:
        return named
    # A folder may hold anything that was downloaded by hand: the recorded reader knows how it is laid out.
    if recorded.options.get(FOLLOW_LINKS) and not trust:
        raise UntrustedError(
            f"The dataset was built with --follow-links, and links out of {named.location!r} are not followed unasked: "
            "give --trust too."
        )
    if named.reader is open_image_folder or named.reader.__name__ == manifest.source.reader:
        return replace(recorded, location=named.location, revision=named.revision)
    return named


def _vae_at(manifest: Manifest, location: str) -> VaeRow:
    from latentstore.vaes.table import VAES, kl_checkpoint

    if manifest.vae.name in VAES:
        return VAES[manifest.vae.name].at(location)
    return replace(kl_checkpoint(location), name=manifest.vae.name)


def _hub_dataset(repo: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@.+)?", repo) and not repo.startswith((".", "/", "~")):
        found = f"hub:{repo}"
        raise click.UsageError(
            f"Expected hub:user/repo, hub:user/repo@revision or hub:./folder, found {found!r}. {SOURCE_FORMS}"
        )
    return repo


def _is_path(text: str) -> bool:
    separators = [separator for separator in (os.sep, os.altsep) if separator]
    return text.startswith((".", "~")) or any(separator in text for separator in separators) or Path(text).exists()


def _say_table_wins(kind: str, text: str) -> None:
    if Path(text).exists():
        note(f"Taking the {kind} {text!r} of the table; for what lies here under that name, type ./{text}")


def _refuse_location(option: str, location: str | None, text: str) -> None:
    if location is not None:
        raise click.UsageError(f"{option} goes with a name from the table; {text!r} says itself where to read.")
