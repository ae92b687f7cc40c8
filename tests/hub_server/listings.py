"""Endpoints that show and send the files of a commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .asked import Asked, may_read_files
from .repositories import POINTER_BYTES, Blob, Commit
from .wire import Answer, FilePart, Refusal, as_json, whole_or_range

if TYPE_CHECKING:
    from .server import HubServer

LISTED, LISTED_WITH_COMMITS = 1000, 50
"""Entries on a page of a tree."""


def entry_of(hub: HubServer, path: str, blob: Blob) -> dict[str, Any]:
    """A file as listings show it."""
    entry: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": path}
    if blob.sha256:
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": POINTER_BYTES}
        if found := hub.xet_files.find(blob.sha256):
            entry["xetHash"] = found.hash
    return entry


def folders_of(files: Mapping[str, Blob]) -> set[str]:
    """All folders that files are in."""
    parts = (path.split("/")[:-1] for path in files)
    return {"/".join(names[:depth]) for names in parts for depth in range(1, len(names) + 1)}


def entries_below(hub: HubServer, commit: Commit, folder: str, *, recursive: bool) -> Iterator[dict[str, Any]]:
    """Folders, then files, below a folder (the root is empty); by path."""
    prefix = f"{folder}/" if folder else ""
    for path in sorted(folders_of(commit.files)):
        if path.startswith(prefix) and (recursive or "/" not in path.removeprefix(prefix)):
            yield {"type": "directory", "oid": commit.oid, "size": 0, "path": path}
    for path, blob in sorted(commit.files.items()):
        if path.startswith(prefix) and (recursive or "/" not in path.removeprefix(prefix)):
            yield entry_of(hub, path, blob)


def with_last_commit(asked: Asked, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same entries, each with the commit that changed it last, where the request wants that."""
    if asked.request.query.get("expand", "").lower() != "true":
        return entries
    shown = []
    for entry in entries:
        last = asked.repository.last_change(asked.commit, entry["path"])
        shown.append({**entry, "lastCommit": {"id": last.oid, "title": last.title, "date": last.when}})
    return shown


def tree(asked: Asked) -> Answer:
    commit, folder = asked.commit, asked.parts.get("path") or ""
    if folder and folder not in folders_of(commit.files):
        raise Refusal(404, f"{folder} does not exist on {asked.parts['revision']}", "EntryNotFound")
    recursive = asked.request.query.get("recursive", "").lower() == "true"
    expand = asked.request.query.get("expand", "").lower() == "true"
    listed = list(entries_below(asked.hub, commit, folder, recursive=recursive))
    return page_of(asked, listed, LISTED_WITH_COMMITS if expand else asked.hub.tree_page, with_last_commit)


def page_of(
    asked: Asked,
    listed: list[Any],
    most: int,
    shown: Callable[[Asked, list[Any]], list[Any]] = lambda _, page: page,
) -> Answer:
    """The page that a request wants, and the address of the next one."""
    start = int(asked.request.query.get("cursor", "0"))
    most = min(most, int(asked.request.query.get("limit", most)))
    headers = {}
    if start + most < len(listed):
        kept = "".join(f"{key}={quote(value)}&" for key, value in asked.request.query.items() if key != "cursor")
        address = f"{asked.hub.endpoint}{asked.request.path}?{kept}cursor={start + most}"
        headers["Link"] = f'<{address}>; rel="next"'
    return as_json(shown(asked, listed[start : start + most]), headers=headers)


def paths_info(asked: Asked) -> Answer:
    fields = asked.request.fields()
    commit = asked.commit
    folders = folders_of(commit.files)
    listed = []
    for path in [value for name, value in fields if name == "paths"]:
        if path in commit.files:
            listed.append(entry_of(asked.hub, path, commit.files[path]))
        elif path in folders:
            listed.append({"type": "directory", "oid": commit.oid, "size": 0, "path": path})
    asked.request.query["expand"] = dict(fields).get("expand", "")
    return as_json(with_last_commit(asked, listed))


def resolve(asked: Asked) -> Answer:
    repository = asked.repository
    may_read_files(repository, asked.token)
    commit, path = asked.commit, asked.parts["path"]
    named = {"X-Repo-Commit": commit.oid, "Access-Control-Expose-Headers": "X-Repo-Commit,X-Linked-Etag"}
    blob = commit.files.get(path)
    if blob is None:
        refusal = Refusal(404, "Entry not found", "EntryNotFound")
        refusal.answer.headers |= named
        raise refusal
    if blob.content is not None:
        return whole_or_range(asked.request, blob.content, {**named, "ETag": f'"{blob.oid}"'})
    named |= {
        "X-Linked-Etag": f'"{blob.sha256}"',
        "X-Linked-Size": str(blob.size),
        "Location": f"{asked.hub.cdn}/cdn/{blob.sha256}",
    }
    if found := asked.hub.xet_files.find(blob.sha256 or ""):
        address = f"{asked.hub.endpoint}/api/{repository.kind}/{repository.name}/xet-read-token/{commit.oid}"
        named |= {"X-Xet-Hash": found.hash, "Link": f'<{address}>; rel="xet-auth"'}
    return Answer(302, b"", named)


def cdn(asked: Asked) -> Answer:
    sha256 = asked.parts["sha256"]
    return whole_or_range(asked.request, stored(asked.hub, sha256), {"ETag": f'"{sha256}"'})


def stored(hub: HubServer, sha256: str) -> bytes | FilePart:
    """The bytes of a large file, wherever they were uploaded to."""
    if sha256 in hub.lfs_objects:
        return hub.lfs_objects.part(sha256)
    found = hub.xet_files.find(sha256)
    if found is None:
        raise Refusal(404, f"No object {sha256}", "EntryNotFound")
    return hub.xet_content(found)
