"""Files of model repositories on the Hub: the weights of VAEs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from latentstore.errors import VaeError
from latentstore.hub.refusals import Asked, refusal_of

if TYPE_CHECKING:
    from collections.abc import Sequence

HUB = "https://huggingface.co"


def fetch_files(
    repo: str, files: Sequence[str], *, revision: str | None = None, gated: bool = False, endpoint: str | None = None
) -> list[Path]:
    """Local paths of files of a Hub model repository, downloaded into the Hub's cache where they are not yet there.

    All of them come from the commit of the first, however the repository moves meanwhile. ``gated`` says that the
    repository is known to want its licence accepted; ``endpoint`` is another Hub than the public one. Raises VaeError
    saying what is missing and how to get it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    transport = cast("type[Exception]", HfHubHTTPError.__bases__[0])  # of its HTTP library: httpx or httpx2
    asked = Asked(repo, endpoint or HUB, revision, kind="model")
    found: list[Path] = []
    try:
        for name in files:
            asked = replace(asked, path=name, revision=revision)
            found.append(Path(hf_hub_download(repo, name, revision=revision, endpoint=endpoint)))
            revision = commit_of(found[0]) or revision
    except LocalEntryNotFoundError as error:
        accept = f"accept its licence on {asked.page}, type: hf auth login, then" if gated else "with a network,"
        message = (
            f"{', '.join(files)} of {repo} are not in the local cache and the Hub cannot be reached; "
            f"{accept} type: hf download {repo} {' '.join(files)}"
        )
        raise VaeError(message) from error
    except (transport, HFValidationError, OSError) as error:
        raise VaeError(refusal_of(error, asked)) from error
    return found


def commit_of(path: Path) -> str | None:
    """The commit that a file or folder in the Hub's cache belongs to (``models--…/snapshots/<commit>/``), or None."""
    found = re.search(r"/models--[^/]+/snapshots/([^/]+)(?:/|$)", path.as_posix())
    return found[1] if found else None
