"""HubServer: one Hub, from start to stop, and what tests see of it."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock, RLock, Thread

from .accounts import TOKENS, USER
from .endpoints import answered, route_of
from .journal import Entry, Fault, Journal
from .lfs import LfsObjects
from .listings import LISTED, stored
from .repositories import Blob, Commit, Repository, large, new_repository, regular, upload_mode
from .wire import Answer, BoundedServer, Connection, Refusal, Request, Sending
from .xet_storage import XetFile, XetStorage

MULTIPART_BYTES = 64 << 20
CACHED_XET_BYTES = 256 << 20
UNLOCKED = {"lfs-put", "lfs-part", "lfs-join", "cdn"}
"""Kinds of requests that move bytes and change no repository; all others are answered one after another."""


class HubServer:
    """A Hub on 127.0.0.1; a context manager that keeps large files in ``folder``.

    ``xet`` says whether clients with ``environment()`` upload and download through Xet or LFS: the server speaks both.
    Objects of LFS larger than ``multipart_bytes`` are uploaded in parts of that size; a page of a tree has
    ``tree_page`` entries.
    """

    def __init__(
        self, folder: Path, *, xet: bool = False, multipart_bytes: int = MULTIPART_BYTES, tree_page: int = LISTED
    ) -> None:
        self.xet = xet
        self.multipart_bytes = multipart_bytes
        self.tree_page = tree_page
        self.log = Journal()
        self.problems: list[str] = []
        """What went wrong inside the server, and tokens that reached the CDN; leaving the context raises them."""
        self.repositories: dict[tuple[str, str], Repository] = {}
        """By kind (``models``, ``datasets``, ``spaces``) and ``namespace/name``."""
        self.lfs_objects = LfsObjects(folder / "lfs")
        self.xet_files = XetStorage(folder / "xet")
        self.endpoint = self.cdn = ""
        self.cdn_host = "localhost"
        """The large files' origin: another name of the same port, so that a client sees another site."""
        self.token, self.read_token, self.stranger_token = (token.value for token in TOKENS)
        self._lock = RLock()
        self._xet_lock = Lock()
        self._xet_cache: dict[str, bytes] = {}
        self._http: BoundedServer | None = None

    def __enter__(self) -> HubServer:  # noqa: PYI034 # typing.Self needs Python 3.11
        connection = type("HubConnection", (Connection,), {"serve": staticmethod(self._serve)})
        self._http = BoundedServer(("127.0.0.1", 0), connection)
        port = self._http.server_address[1]
        self.endpoint, self.cdn = f"http://127.0.0.1:{port}", f"http://{self.cdn_host}:{port}"
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._http is not None:
            self._http.stop()
        if kind is None and self.problems:
            raise AssertionError("\n".join(self.problems))

    def environment(
        self, home: Path, *, token: str | None = None, base: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The environment variables of a process whose Hub this is, with its caches in ``home``.

        ``token`` is the writing one unless given ("" for none); ``base`` is this process's own environment unless
        given.
        """
        given = {
            name: value
            for name, value in (os.environ if base is None else base).items()
            if not name.startswith(("HF_", "HUGGING_FACE")) and not name.lower().endswith("_proxy")
        }
        given |= {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        token = self.token if token is None else token
        given |= {"HF_TOKEN": token} if token else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
        # Without compression, files can be put together again without hf_xet.
        given |= {"HF_XET_XORB_COMPRESSION_POLICY": "none"} if self.xet else {"HF_HUB_DISABLE_XET": "1"}
        return given

    def order(self, *faults: Fault) -> None:
        """Let these happen to requests, counting from now."""
        self.log.order(*faults)

    def repository(self, name: str, kind: str = "datasets") -> Repository:
        """A repository that is there; KeyError where it is not."""
        return self.repositories[kind, name]

    def create(self, name: str, files: Mapping[str, bytes] | None = None, kind: str = "datasets") -> Repository:
        """A new repository, with these files in its second commit."""
        with self._lock:
            made = self.repositories[kind, name] = new_repository(kind, name)
            if files:
                self.change(name, files, kind=kind)
            return made

    def files(self, name: str, revision: str = "main", kind: str = "datasets") -> dict[str, bytes]:
        """Content by path."""
        with self._lock:
            listed = self.repository(name, kind).at(revision).files
            return {path: self.content(blob) for path, blob in listed.items()}

    def content(self, blob: Blob) -> bytes:
        """The bytes of a file, wherever they are kept."""
        if blob.content is not None:
            return blob.content
        found = stored(self, blob.sha256 or "")
        return found if isinstance(found, bytes) else found.read()

    def change(
        self, name: str, files: Mapping[str, bytes | None], *, title: str = "somebody else", kind: str = "datasets"
    ) -> Commit:
        """A commit on the main branch that no client asked for; None deletes a file."""
        with self._lock:
            repository = self.repository(name, kind)
            after = dict(repository.head.files)
            for path, content in files.items():
                if content is None:
                    del after[path]
                else:
                    after[path] = self._kept(path, content)
            made = repository.add(repository.head, after, title, author=USER)
            repository.branches["main"] = made.oid
            return made

    def xet_content(self, file: XetFile) -> bytes:
        """The bytes of a file in Xet; kept, because streaming readers ask for many ranges of one file."""
        with self._xet_lock:
            if file.hash not in self._xet_cache:
                while sum(map(len, self._xet_cache.values())) > CACHED_XET_BYTES:
                    del self._xet_cache[next(iter(self._xet_cache))]
                self._xet_cache[file.hash] = self.xet_files.content(file)
            return self._xet_cache[file.hash]

    def _kept(self, path: str, content: bytes) -> Blob:
        if upload_mode(path, content[:512], len(content)) == "regular":
            return regular(content)
        return large(self.lfs_objects.store_bytes(content), len(content))

    def _serve(self, request: Request) -> tuple[Answer, Sending, Callable[[int], None]] | None:
        found = route_of(request.method, request.path)
        entry, faults = self.log.begin(
            found[0].kind if found else "unknown", request.method, request.target, request.headers
        )
        try:
            answer = self._answer(request, entry, faults)
            for fault in faults:
                if fault.after:
                    fault.after(entry)
            if answer is not None:
                for _ in request.pieces():  # what nobody wanted; else the next request would begin in its middle
                    pass
        except (ConnectionError, TimeoutError):  # the client was killed, or gave up, within its request
            return None
        except Exception:  # noqa: BLE001
            self.problems.append(f"{entry.line}\n{traceback.format_exc()}")
            answer = Refusal(500, "the local Hub failed; see HubServer.problems").answer
        finally:
            entry.received = request.received
        if answer is None or any(fault.lose_answer for fault in faults):
            return None
        entry.status = answer.status
        sending = next((fault.sending for fault in faults if fault.sending != Sending()), Sending())

        def sent(count: int) -> None:
            entry.sent += count

        return answer, sending, sent

    def _answer(self, request: Request, entry: Entry, faults: list[Fault]) -> Answer | None:
        for fault in faults:
            if fault.before:
                fault.before(entry)
        if any(fault.hang_up for fault in faults):
            return None
        refused = next((fault for fault in faults if fault.status), None)
        if refused:
            answer = Refusal(refused.status, refused.message, refused.code).answer
            answer.headers |= refused.headers
            return answer
        found = route_of(request.method, request.path)
        if found is None:
            return Refusal(404, f"Sorry, we can't find {request.method} {request.target}").answer
        try:
            if entry.kind in UNLOCKED:
                return answered(self, request, *found)
            request.body()  # before the lock: a slow client must not hold up the others
            with self._lock:
                return answered(self, request, *found)
        except Refusal as refusal:
            return refusal.answer
