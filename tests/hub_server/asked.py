"""A request whose route is found: the repository it names, for who may see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .accounts import Token
from .repositories import Commit, Repository
from .wire import Refusal, Request

if TYPE_CHECKING:
    from .server import HubServer


@dataclass(frozen=True)
class Asked:
    """A request whose route is found and whose sender may do it."""

    hub: HubServer
    request: Request
    parts: dict[str, str]
    """The named parts of the path, without quotes."""
    token: Token | None

    @property
    def repository(self) -> Repository:
        """The repository that the path names, for who may see it."""
        kind = self.parts.get("kind") or "models"
        return visible(self.hub, kind, self.parts["repo"], self.token)

    @property
    def commit(self) -> Commit:
        """What the revision in the path stands for."""
        return self.repository.at(self.parts["revision"])


def visible(hub: HubServer, kind: str, name: str, token: Token | None) -> Repository:
    """A repository, as far as this token is concerned: a private one of others does not exist."""
    found = hub.repositories.get((kind, name))
    hidden = found is not None and found.private and (token is None or found.namespace not in token.namespaces)
    if found is None or hidden:
        raise Refusal(404 if token else 401, "Repository not found", "RepoNotFound")
    return found


def may_read_files(repository: Repository, token: Token | None) -> None:
    """Refuse the files of a gated repository to those who have not accepted its terms."""
    if not repository.gated or (token and repository.namespace in token.namespaces):
        return
    if token is None:
        message = f"Access to {repository.kind[:-1]} {repository.name} is restricted. You must have access to it and "
        raise Refusal(401, f"{message}be authenticated to access it. Please log in.", "GatedRepo")
    if token.account not in repository.accepted:
        message = f"Access to {repository.kind[:-1]} {repository.name} is restricted and you are not in the authorized "
        raise Refusal(403, f"{message}list.", "GatedRepo")
