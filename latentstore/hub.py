"""The one door to huggingface_hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latentstore.errors import VaeError

if TYPE_CHECKING:
    from collections.abc import Sequence


def fetch_files(repo: str, files: Sequence[str], *, revision: str | None = None) -> list[Path]:
    """Local paths of files of a Hub model repository, downloaded into the Hub's cache where they are not yet there.

    Raises VaeError saying what is missing and how to get it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return [Path(hf_hub_download(repo, name, revision=revision)) for name in files]
    except GatedRepoError as error:
        message = f"{repo} is gated: accept its licence at the Hub page {repo}, then type: hf auth login"
        raise VaeError(message) from error
    except RepositoryNotFoundError as error:
        raise VaeError(f"The Hub has no model repository {repo} that you may read; check the name.") from error
    except LocalEntryNotFoundError as error:
        message = (
            f"{', '.join(files)} of {repo} are not in the local cache and the Hub cannot be reached; "
            f"with a network, type: hf download {repo} {' '.join(files)}"
        )
        raise VaeError(message) from error
    except EntryNotFoundError as error:
        raise VaeError(f"{repo} does not hold all of {', '.join(files)}.") from error
    except (HfHubHTTPError, OSError) as error:
        raise VaeError(f"{repo} cannot be read from the Hub: {str(error).splitlines()[0]}") from error
