"""Endpoints that take files: what to send how, LFS, tokens for Xet, and the commit itself."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .asked import Asked, may_read_files
from .listings import folders_of, stored
from .repositories import Blob, Commit, large, regular, upload_mode
from .wire import Answer, Refusal, as_json

if TYPE_CHECKING:
    from .server import HubServer

PREUPLOAD_FILES = 256
TOKEN_SECONDS = 3600


def preupload(asked: Asked) -> Answer:
    files = asked.request.json()["files"]
    if len(files) > PREUPLOAD_FILES:
        raise Refusal(400, f"At most {PREUPLOAD_FILES} files at once")
    present = asked.commit.files
    return as_json(
        {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": upload_mode(file["path"], base64.b64decode(file["sample"]), file["size"]),
                    "shouldIgnore": False,
                    "oid": present[file["path"]].upload_oid if file["path"] in present else None,
                }
                for file in files
            ]
        }
    )


def lfs_batch(asked: Asked) -> Answer:
    given = asked.request.json()
    hub = asked.hub
    listed = []
    transfer = "basic"
    for wanted in given["objects"]:
        shown: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in hub.lfs_objects and not hub.xet_files.find(wanted["oid"]):
            address = f"{hub.cdn}/lfs/{wanted['oid']}"
            upload: dict[str, Any] = {"href": address}
            if "multipart" in given.get("transfers", ()) and wanted["size"] > hub.multipart_bytes:
                transfer = "multipart"
                count = -(-wanted["size"] // hub.multipart_bytes)
                parts = {f"{number:05d}": f"{address}/{number}" for number in range(1, count + 1)}
                upload = {"href": f"{hub.endpoint}/lfs/{wanted['oid']}", "header": parts}
                parts["chunk_size"] = str(hub.multipart_bytes)
            verify = {"href": f"{hub.endpoint}/{asked.repository.page}.git/info/lfs/verify"}
            shown["actions"] = {"upload": upload, "verify": verify}
        listed.append(shown)
    return as_json({"transfer": transfer, "objects": listed, "hash_algo": "sha256"})


def lfs_put(asked: Asked) -> Answer:
    asked.hub.lfs_objects.store(asked.parts["sha256"], asked.request.pieces())
    return Answer()


def lfs_put_part(asked: Asked) -> Answer:
    number = int(asked.parts["part"])
    etag = asked.hub.lfs_objects.store_part(asked.parts["sha256"], number, asked.request.pieces())
    return Answer(headers={"ETag": f'"{etag}"'})


def lfs_join(asked: Asked) -> Answer:
    parts = asked.request.json()["parts"]
    asked.hub.lfs_objects.join(asked.parts["sha256"], [part["partNumber"] for part in parts])
    return as_json({})


def lfs_verify(asked: Asked) -> Answer:
    given = asked.request.json()
    if given["oid"] not in asked.hub.lfs_objects or len(asked.hub.lfs_objects.part(given["oid"])) != given["size"]:
        raise Refusal(404, f"Object {given['oid']} of {given['size']} bytes is not there")
    return as_json({})


def xet_token(asked: Asked) -> Answer:
    if asked.request.query.get("create_pr") != "1":
        asked.repository.at(asked.parts["revision"])
    may_read_files(asked.repository, asked.token)
    expires = int(time.time()) + TOKEN_SECONDS
    told = {"casUrl": asked.hub.xet_files.url, "exp": expires, "accessToken": "xet"}
    headers = {
        "X-Xet-Cas-Url": asked.hub.xet_files.url,
        "X-Xet-Access-Token": "xet",
        "X-Xet-Token-Expiration": str(expires),
    }
    return as_json(told, headers=headers)


def large_file_exists(hub: HubServer, sha256: str) -> bool:
    """Whether a commit may point to it."""
    return sha256 in hub.lfs_objects or hub.xet_files.find(sha256) is not None


def commit_files(asked: Asked) -> Answer:
    head, *lines = asked.request.lines()
    header = head["value"]
    repository, create_pr = asked.repository, asked.request.query.get("create_pr") == "1"
    before = asked.commit
    if header.get("parentCommit") not in {None, before.oid}:
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    files = changed_files(asked.hub, before, [(line["key"], line["value"]) for line in lines])
    author = asked.token.account if asked.token else ""
    named = (repository.pull_requests, "") if create_pr else repository.refs_of(asked.parts["revision"])
    made = repository.add(before, files, header["summary"], description=header.get("description") or "", author=author)
    page = f"{asked.hub.endpoint}/{repository.page}"
    told: dict[str, Any] = {"success": True, "commitOid": made.oid, "commitUrl": f"{page}/commit/{made.oid}"}
    if create_pr:
        number = str(len(repository.pull_requests) + 1)
        repository.pull_requests[number] = made.oid
        told["pullRequestUrl"] = f"{page}/discussions/{number}"
    else:
        names, name = named
        names[name] = made.oid
    return as_json(told)


def changed_files(hub: HubServer, before: Commit, changes: list[tuple[str, dict[str, Any]]]) -> dict[str, Blob]:
    """The files after these lines of a commit's payload."""
    files = dict(before.files)
    for key, value in changes:
        if key not in LINES:
            raise Refusal(400, f"Unknown key {key!r} in a commit")
        LINES[key](hub, files, value)
    return files


def _add_regular(_: HubServer, files: dict[str, Blob], line: dict[str, Any]) -> None:
    content = line["content"]
    blob = regular(base64.b64decode(content) if line.get("encoding") == "base64" else content.encode())
    files[_new_path(files, line["path"])] = blob


def _add_large(hub: HubServer, files: dict[str, Blob], line: dict[str, Any]) -> None:
    path, oid = _new_path(files, line["path"]), line["oid"]
    if not large_file_exists(hub, oid):
        message = "Your push was rejected because an LFS pointer pointed to a file that does not exist"
        raise Refusal(400, f"{message}: {path} ({oid})")
    size = len(stored(hub, oid))
    if line.get("size", size) != size:
        raise Refusal(400, f"{path} has {size} bytes, the commit says {line['size']}")
    files[path] = large(oid, size)


def _delete_file(_: HubServer, files: dict[str, Blob], line: dict[str, Any]) -> None:
    if files.pop(line["path"], None) is None:
        raise Refusal(404, f"A file with this name doesn't exist: {line['path']}", "EntryNotFound")


def _delete_folder(_: HubServer, files: dict[str, Blob], line: dict[str, Any]) -> None:
    folder = line["path"].rstrip("/")
    below = [name for name in files if name.startswith(f"{folder}/")]
    if not below:
        raise Refusal(404, f"A file with this name doesn't exist: {folder}", "EntryNotFound")
    for name in below:
        del files[name]


def _new_path(files: dict[str, Blob], path: str) -> str:
    parts = path.split("/")
    above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    if {"", ".", "..", ".git"} & set(parts) or above & set(files) or path in folders_of(files):
        raise Refusal(400, f"{path!r} is not a valid path, or a file and a folder would have the same name")
    return path


LINES: dict[str, Callable[[HubServer, dict[str, Blob], dict[str, Any]], None]] = {
    "file": _add_regular,
    "lfsFile": _add_large,
    "deletedFile": _delete_file,
    "deletedFolder": _delete_folder,
}
"""What each line of a commit's payload does to the files, by its key."""
