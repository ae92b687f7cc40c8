"""Endpoints for accounts, repositories, and the names of their commits."""

from __future__ import annotations

from typing import Any

from . import accounts
from .accounts import may_write
from .asked import Asked, may_read_files, visible
from .cards import front_matter, problems_of
from .listings import LISTED_WITH_COMMITS, page_of
from .repositories import POINTER_BYTES, new_repository
from .wire import Answer, Refusal, as_json

KINDS = {"model": "models", "dataset": "datasets", "space": "spaces"}


def whoami(asked: Asked) -> Answer:
    return as_json(accounts.whoami(asked.token))


def validate_yaml(asked: Asked) -> Answer:
    given = asked.request.json()
    errors = problems_of(given["content"])
    return as_json({"errors": [{"message": error} for error in errors], "warnings": []}, status=400 if errors else 200)


def create_repository(asked: Asked) -> Answer:
    given = asked.request.json()
    kind = KINDS[given.get("type") or "model"]
    namespace = given.get("organization") or (asked.token.account if asked.token else "")
    may_write(asked.token, namespace)
    name = f"{namespace}/{given['name']}"
    found = asked.hub.repositories.get((kind, name))
    made = found or new_repository(kind, name, private=given.get("visibility") == "private")
    answer = {"url": f"{asked.hub.endpoint}/{made.page}", "name": name, "id": name}
    if found:
        return as_json({"error": f"You already created this {kind[:-1]} repo", **answer}, status=409)
    asked.hub.repositories[kind, name] = made
    return as_json(answer)


def delete_repository(asked: Asked) -> Answer:
    given = asked.request.json()
    namespace = given.get("organization") or (asked.token.account if asked.token else "")
    repository = visible(asked.hub, KINDS[given.get("type") or "model"], f"{namespace}/{given['name']}", asked.token)
    may_write(asked.token, namespace)
    del asked.hub.repositories[repository.kind, repository.name]
    return Answer()


def change_settings(asked: Asked) -> Answer:
    given, repository = asked.request.json(), asked.repository
    if "private" in given or "visibility" in given:
        repository.private = bool(given.get("private", given.get("visibility") == "private"))
    if "gated" in given:
        repository.gated = given["gated"] or ""
    return as_json({"private": repository.private, "gated": repository.gated or False})


def repository_info(asked: Asked) -> Answer:
    repository = asked.repository
    commit = repository.at(asked.parts.get("revision", "main"))
    with_blobs = asked.request.query.get("blobs") == "true"
    siblings = []
    for path, blob in sorted(commit.files.items()):
        entry: dict[str, Any] = {"rfilename": path}
        if with_blobs:
            entry |= {"size": blob.size, "blobId": blob.oid}
            entry |= (
                {"lfs": {"sha256": blob.sha256, "size": blob.size, "pointerSize": POINTER_BYTES}} if blob.sha256 else {}
            )
        siblings.append(entry)
    card = commit.files.get("README.md")
    return as_json(
        {
            "_id": commit.oid[:24],
            "id": repository.name,
            "author": repository.namespace,
            "sha": commit.oid,
            "lastModified": commit.when,
            "createdAt": next(iter(repository.commits.values())).when,
            "private": repository.private,
            "gated": repository.gated or False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
            "cardData": front_matter(card.content) if card and card.content else None,
        }
    )


def check_access(asked: Asked) -> Answer:
    may_read_files(asked.repository, asked.token)
    return Answer()


def refs(asked: Asked) -> Answer:
    repository = asked.repository
    listed = {
        "branches": [(name, f"refs/heads/{name}", oid) for name, oid in repository.branches.items()],
        "tags": [(name, f"refs/tags/{name}", oid) for name, oid in repository.tags.items()],
        "converts": [],
    }
    if asked.request.query.get("include_prs"):
        listed["pullRequests"] = [
            (f"refs/pr/{name}", f"refs/pr/{name}", oid) for name, oid in repository.pull_requests.items()
        ]
    return as_json(
        {
            kind: [{"name": name, "ref": ref, "targetCommit": oid} for name, ref, oid in rows]
            for kind, rows in listed.items()
        }
    )


def create_tag(asked: Asked) -> Answer:
    name = asked.request.json()["tag"]
    if name in asked.repository.tags:
        raise Refusal(409, f"Tag {name} already exists")
    asked.repository.tags[name] = asked.commit.oid
    return as_json({"name": name})


def delete_tag(asked: Asked) -> Answer:
    if asked.repository.tags.pop(asked.parts["revision"], None) is None:
        raise Refusal(404, f"Invalid rev id: {asked.parts['revision']}", "RevisionNotFound")
    return Answer()


def create_branch(asked: Asked) -> Answer:
    repository, name = asked.repository, asked.parts["revision"]
    given = asked.request.json()
    if name in repository.branches and not given.get("overwrite"):
        raise Refusal(409, f"Reference {name} already exists")
    start = repository.at(given.get("startingPoint") or "main")
    if given.get("emptyBranch"):
        start = repository.add(None, {}, f"Start branch {name}")
    repository.branches[name] = start.oid
    return Answer()


def delete_branch(asked: Asked) -> Answer:
    if asked.parts["revision"] == "main":
        raise Refusal(403, "The default branch cannot be deleted")
    if asked.repository.branches.pop(asked.parts["revision"], None) is None:
        raise Refusal(404, f"Invalid rev id: {asked.parts['revision']}", "RevisionNotFound")
    return Answer()


def list_commits(asked: Asked) -> Answer:
    listed = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.description,
            "authors": [{"user": commit.author}],
            "date": commit.when,
        }
        for commit in asked.repository.history(asked.commit)
    ]
    return page_of(asked, listed, LISTED_WITH_COMMITS)
