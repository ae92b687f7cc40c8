"""Dataset repositories on the Hub: where the files of a revision are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentstore.errors import FetchError
from latentstore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from huggingface_hub import HfApi


@dataclass(frozen=True)
class HubFiles:
    """Where the files of one commit of a repository are, and what to send with each request for them."""

    url: str
    """Of the folder that they are in."""
    headers: Mapping[str, str]
    commit: str


def dataset_files(
    repo: str, *, revision: str | None = None, endpoint: str | None = None, token: str | None = None
) -> HubFiles:
    """The files of a dataset repository at the commit that ``revision`` (by default ``main``) now stands for.

    ``endpoint`` and ``token`` are those of huggingface_hub unless given. FetchError says what to do where there is
    none that may be read.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = HfApi(endpoint=endpoint, token=token, library_name="latentstore", library_version=__version__)
    try:
        commit = api.repo_info(repo, repo_type="dataset", revision=revision).sha
    except GatedRepoError as error:
        page = f"{api.endpoint}/datasets/{repo}"
        raise FetchError(f"{repo} is gated: accept its terms on {page}, then type: hf auth login") from error
    except RepositoryNotFoundError as error:
        message = f"There is no folder {repo!r}, and the Hub has no dataset repository of that name that you may read"
        raise FetchError(f"{message}: check the name, or type: hf auth login") from error
    except RevisionNotFoundError as error:
        raise FetchError(f"{repo} has no revision {revision!r} on the Hub; check the branch, tag or commit.") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise FetchError(f"{repo} cannot be read from the Hub: {str(error).splitlines()[0]}") from error
    return HubFiles(f"{api.endpoint}/datasets/{repo}/resolve/{commit}", _headers_of(api), str(commit))


def _headers_of(api: HfApi) -> dict[str, str]:
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # it is documented

    headers: dict[str, str] = build_hf_headers(
        token=api.token, library_name=api.library_name, library_version=api.library_version
    )
    return headers
