"""Files of model repositories on the Hub: the weights of VAEs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from latentstore.errors import VaeError

if TYPE_CHECKING:
    from collections.abc import Sequence


def fetch_files(
    repo: str, files: Sequence[str], *, revision: str | None = None, gated: bool = False, endpoint: str | None = None
) -> list[Path]:
    """Local paths of files of a Hub model repository, downloaded into the Hub's cache where they are not yet there.

    All of them come from the commit of the first, however the repository moves meanwhile. ``gated`` says that the
    repository is known to want its licence accepted; ``endpoint`` is another Hub than the public one. Raises VaeError
    saying what is missing and how to get it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"{endpoint or 'https://huggingface.co'}/{repo}"
    found: list[Path] = []
    try:
        for name in files:
            found.append(Path(hf_hub_download(repo, name, revision=revision, endpoint=endpoint)))
            revision = commit_of(found[0]) or revision
    except GatedRepoError as error:
        raise VaeError(f"{repo} is gated: accept its licence on {page}, then type: hf auth login") from error
    except RepositoryNotFoundError as error:
        raise VaeError(f"The Hub has no model repository {repo} that you may read; check the name.") from error
    except RevisionNotFoundError as error:
        raise VaeError(f"{repo} has no revision {revision!r} on the Hub; check the branch, tag or commit.") from error
    except LocalEntryNotFoundError as error:
        accept = f"accept its licence on {page}, type: hf auth login, then" if gated else "with a network,"
        message = (
            f"{', '.join(files)} of {repo} are not in the local cache and the Hub cannot be reached; "
            f"{accept} type: hf download {repo} {' '.join(files)}"
        )
        raise VaeError(message) from error
    except EntryNotFoundError as error:
        raise VaeError(f"{repo} does not hold all of {', '.join(files)}.") from error
    except (HfHubHTTPError, OSError) as error:
        raise VaeError(f"{repo} cannot be read from the Hub: {str(error).splitlines()[0]}") from error
    return found


def commit_of(path: Path) -> str | None:
    """The commit that a file or folder in the Hub's cache belongs to (``models--…/snapshots/<commit>/``), or None."""
    found = re.search(r"/models--[^/]+/snapshots/([^/]+)(?:/|$)", path.as_posix())
    return found[1] if found else None
