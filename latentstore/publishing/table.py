"""The kinds of places to publish to."""

from __future__ import annotations

import re
from pathlib import Path

from latentstore.errors import RequestError
from latentstore.locations import HUB, HUB_NAME
from latentstore.named_table import NamedTable
from latentstore.publishing.folder_target import open_folder_target
from latentstore.publishing.hub_target import open_hub_target
from latentstore.publishing.interface import Access, Target, TargetRow

PAGE = re.compile(r"https?://[^/]+/datasets/(?P<repo>[\w.-]+/[\w.-]+)(/.*)?", re.ASCII)


def _on_hub(location: str) -> bool:
    return location.startswith((HUB, "hf://")) or (HUB_NAME.fullmatch(location) is not None)


def _at_url(location: str) -> bool:
    return "://" in location and not location.startswith(("http://", "https://", "hf://"))


def _here(location: str) -> bool:
    return (
        location.startswith(("/", "./", "../", "~", ".\\")) or location in (".", "..") or Path(location).is_absolute()
    )


TARGETS = NamedTable(
    "target",
    [
        TargetRow("hub", "a dataset repository on the Hugging Face Hub: user/repo", _on_hub, open_hub_target),
        TargetRow(
            "url", "a folder that fsspec can write to: s3://bucket/folder, gs://, file://", _at_url, open_folder_target
        ),
        TargetRow("folder", "a folder of this machine: ./folder, /folder", _here, open_folder_target),
    ],
)
"""In the order in which they are tried."""


def open_target(location: str | Path, revision: str | None = None, access: Access | None = None) -> Target:
    """The place that ``location`` names; nothing is read. RequestError where there cannot be such a place."""
    text = str(location.absolute()) if isinstance(location, Path) else location
    if "://" not in text and not text.startswith(HUB) and HUB_NAME.fullmatch(text) and Path(text).is_dir():
        raise RequestError(f"{text!r} may be the folder here or the Hub's: give ./{text} or hub:{text}.")
    for row in TARGETS.values():
        if row.fits(text):
            return row.open(text, revision, access or Access())
    page = PAGE.fullmatch(text)
    if page is not None:
        raise RequestError(f"{text!r} is a page of the Hub: give the name of the repository, {page['repo']}.")
    raise RequestError(
        "Expected a Hub repository (user/repo), a URL that can be written to (s3://bucket/folder) or a folder "
        f"(./folder), found {text!r}."
    )
