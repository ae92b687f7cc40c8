"""Dataset repositories on the Hub: the files of one commit, and their copies in the client's cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from latentstore.errors import FetchError, UnreachableError
from latentstore.hub.refusals import REFUSALS, Asked, is_unreachable, refusal_of
from latentstore.locations import ListedFile
from latentstore.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN = "main"
CARD = "README.md"


@dataclass(frozen=True)
class DatasetCommit:
    """A dataset repository at one commit: whatever is read or downloaded is of that, however the branch moves on.

    What it raises is FetchError, in one sentence; UnreachableError where there is no network, or may be none.
    """

    repo: str
    revision: str
    """The branch, tag or commit that was asked for."""
    commit: str
    endpoint: str
    token: str | None = field(repr=False)

    @property
    def url(self) -> str:
        """Of the folder that its files are in."""
        return f"{self.endpoint}/datasets/{self.repo}/resolve/{self.commit}"

    @property
    def headers(self) -> Mapping[str, str]:
        """What to send with each request for a file."""
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # it is documented

        headers: dict[str, str] = build_hf_headers(
            token=self.token, library_name="latentstore", library_version=__version__
        )
        return headers

    @property
    def gated(self) -> str:
        """What to say where its files may not be read, though it could be found: a gated repository is like that."""
        return REFUSALS["gated"].sentence(Asked(self.repo, self.endpoint), Exception())

    @cached_property
    def files(self) -> Mapping[str, ListedFile]:
        """Every file, by its path; one request for every thousand."""
        from huggingface_hub.hf_api import RepoFile

        with _told_plainly(Asked(self.repo, self.endpoint, self.revision)):
            tree = _api(self.endpoint, self.token).list_repo_tree(
                self.repo, repo_type="dataset", revision=self.commit, recursive=True
            )
            return {
                entry.path: ListedFile(entry.size, entry.lfs.sha256 if entry.lfs is not None else None)
                for entry in tree
                if isinstance(entry, RepoFile)
            }

    def download(self, paths: Sequence[str]) -> Path:
        """These files in the client's cache, downloaded where they are not yet there; the folder that they lie in.

        The cache learns what the revision stands for too, so that it is found there without a network.
        """
        folder = self._snapshot(self.commit, paths)
        missing = [path for path in paths if not (folder / path).is_file()]
        if missing:
            raise FetchError(f"{self.repo} at commit {self.commit[:12]} has no {', '.join(missing)}.")
        if self.revision != self.commit:
            self._snapshot(self.revision, [CARD])  # asked for a commit, the client notes no name
        return folder

    def _snapshot(self, revision: str, paths: Sequence[str]) -> Path:
        from huggingface_hub import snapshot_download

        with _told_plainly(Asked(self.repo, self.endpoint, self.revision)):
            return Path(
                snapshot_download(
                    self.repo,
                    repo_type="dataset",
                    revision=revision,
                    allow_patterns=list(paths),
                    endpoint=self.endpoint,
                    token=self.token,
                    library_name="latentstore",
                    library_version=__version__,
                    tqdm_class=_silent_progress(),
                )
            )

    def cached(self, path: str) -> bool:
        """Whether a file is in the client's cache."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repo, path, repo_type="dataset", revision=self.commit)
        return isinstance(found, str)


def dataset_commit(
    repo: str, revision: str | None = None, *, endpoint: str | None = None, token: str | None = None
) -> DatasetCommit:
    """The commit that ``revision`` (by default ``main``) of a dataset repository now stands for.

    ``endpoint`` and ``token`` are those of huggingface_hub unless given. FetchError says what to do where there is
    none that may be read, UnreachableError where nobody answers or nobody may be asked.
    """
    api = _api(endpoint, token)
    with _told_plainly(Asked(repo, api.endpoint, revision)):
        commit = api.repo_info(repo, repo_type="dataset", revision=revision).sha
    return DatasetCommit(repo, revision or MAIN, str(commit), api.endpoint, token)


def cache_of(repo: str) -> Path:
    """The folder of a dataset repository in the client's cache, where that has anything of it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE, f"datasets--{repo.replace('/', '--')}")


def cached_snapshot(repo: str, revision: str | None = None) -> Path | None:
    """The folder in the client's cache with what was downloaded of that revision, named by its commit; None if none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repo, repo_type="dataset", revision=revision, local_files_only=True, allow_patterns=[]
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return Path(folder)


def listed_in_cache(repo: str, revision: str | None = None) -> list[str]:
    """Paths of all files of that revision, downloaded or not, as the client noted them; none where it did not."""
    try:
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError
    except ImportError:  # before version 2 the client kept no listing
        return []
    try:
        return [entry.path for entry in get_cached_repo_tree(repo, repo_type="dataset", revision=revision)]
    except CachedRepoTreeNotFoundError:
        return []


def offline() -> bool:
    """Whether the client was told to ask nobody (``HF_HUB_OFFLINE``)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _api(endpoint: str | None, token: str | None) -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint, token=token, library_name="latentstore", library_version=__version__)


def _silent_progress() -> Any:
    """A progress bar of the client that is never shown: a library does not write on its user's terminal."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined] # it is documented

    class Silent(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

    return Silent


@contextmanager
def _told_plainly(asked: Asked) -> Iterator[None]:
    """Errors of the client as FetchError, in one sentence each."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    transport = cast("type[Exception]", HfHubHTTPError.__bases__[0])  # of its HTTP library: httpx or httpx2
    try:
        yield
    except (transport, HFValidationError, OSError) as error:
        kind = UnreachableError if is_unreachable(error) else FetchError
        raise kind(refusal_of(error, asked)) from error
