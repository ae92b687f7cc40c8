"""Which request is which: a table of routes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .accounts import may_write, token_of
from .asked import Asked
from .listings import cdn, paths_info, resolve, tree
from .repository_endpoints import (
    change_settings,
    check_access,
    create_branch,
    create_repository,
    create_tag,
    delete_branch,
    delete_repository,
    delete_tag,
    list_commits,
    refs,
    repository_info,
    validate_yaml,
    whoami,
)
from .uploads import (
    commit_files,
    lfs_batch,
    lfs_join,
    lfs_put,
    lfs_put_part,
    lfs_verify,
    preupload,
    xet_token,
)
from .wire import Answer, Refusal, Request, as_json, segments

if TYPE_CHECKING:
    from .server import HubServer


def nothing(_: Asked) -> Answer:
    """An answer to a question that no client needs answered."""
    return as_json({})


@dataclass(frozen=True)
class Route:
    """One endpoint."""

    kind: str
    """What the log calls it, and what faults are ordered for."""
    methods: str
    path: str
    """A regular expression for the path as it was sent, quotes included."""
    answer: Callable[[Asked], Answer]
    writes: bool = False
    """Whether the sender must have the right to change the repository in the path."""
    on_cdn: bool = False
    """Another origin, to which no token may be sent."""


API = "/api/(?P<kind>models|datasets|spaces)/(?P<repo>[^/]+/[^/]+)"
PAGE = "/(?:(?P<kind>datasets|spaces)/)?(?P<repo>[^/]+/[^/]+)"
REVISION = "/(?P<revision>[^/]+)"
PATH = "/(?P<path>.+)"
SHA256 = "/(?P<sha256>[0-9a-f]{64})"

ROUTES = (
    Route("whoami", "GET", "/api/whoami-v2", whoami),
    Route("validate-yaml", "POST", "/api/validate-yaml", validate_yaml),
    Route("create-repo", "POST", "/api/repos/create", create_repository),
    Route("delete-repo", "DELETE", "/api/repos/delete", delete_repository),
    Route("agents", "GET", "/api/agent-harnesses", nothing),
    Route("settings", "PUT", f"{API}/settings", change_settings, writes=True),
    Route("auth-check", "GET", f"{API}/auth-check", check_access),
    Route("info", "GET", API, repository_info),
    Route("info", "GET", f"{API}/revision{REVISION}", repository_info),
    Route("refs", "GET", f"{API}/refs", refs),
    Route("commits", "GET", f"{API}/commits{REVISION}", list_commits),
    Route("tag", "POST", f"{API}/tag{REVISION}", create_tag, writes=True),
    Route("tag", "DELETE", f"{API}/tag{REVISION}", delete_tag, writes=True),
    Route("branch", "POST", f"{API}/branch{REVISION}", create_branch, writes=True),
    Route("branch", "DELETE", f"{API}/branch{REVISION}", delete_branch, writes=True),
    Route("tree", "GET", f"{API}/tree{REVISION}(?:{PATH})?", tree),
    Route("paths-info", "POST", f"{API}/paths-info{REVISION}", paths_info),
    Route("preupload", "POST", f"{API}/preupload{REVISION}", preupload, writes=True),
    Route("commit", "POST", f"{API}/commit{REVISION}", commit_files, writes=True),
    Route("xet-write-token", "GET", f"{API}/xet-write-token{REVISION}", xet_token, writes=True),
    Route("xet-read-token", "GET", f"{API}/xet-read-token{REVISION}", xet_token),
    Route("lfs-batch", "POST", rf"{PAGE}\.git/info/lfs/objects/batch", lfs_batch, writes=True),
    Route("lfs-verify", "POST", rf"{PAGE}\.git/info/lfs/verify", lfs_verify, writes=True),
    Route("lfs-put", "PUT", f"/lfs{SHA256}", lfs_put, on_cdn=True),
    Route("lfs-part", "PUT", rf"/lfs{SHA256}/(?P<part>\d+)", lfs_put_part, on_cdn=True),
    Route("lfs-join", "POST", f"/lfs{SHA256}", lfs_join),
    Route("cdn", "GET HEAD", f"/cdn{SHA256}", cdn, on_cdn=True),
    Route("resolve", "GET HEAD", f"{PAGE}/resolve{REVISION}{PATH}", resolve),
)


def route_of(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The route of a request, and the named parts of its path; None where there is no such endpoint."""
    for route in ROUTES:
        found = re.fullmatch(route.path, path) if method in route.methods.split() else None
        if found:
            return route, {name: segments(part) for name, part in found.groupdict().items() if part is not None}
    return None


def answered(hub: HubServer, request: Request, route: Route, parts: dict[str, str]) -> Answer:
    """Do what a request asks for, if its sender may."""
    if route.on_cdn != (request.host == hub.cdn_host):
        raise Refusal(421, f"{route.kind} is not served by {request.host}")
    if route.on_cdn and request.token:
        message = f"a token was sent to the CDN: {request.method} {request.target}"
        raise AssertionError(message)
    token = None if route.on_cdn else token_of(request.token)
    asked = Asked(hub, request, parts, token)
    if route.writes:
        may_write(token, asked.repository.namespace)
    return route.answer(asked)
