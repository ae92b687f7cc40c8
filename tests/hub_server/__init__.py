"""A Hugging Face Hub on 127.0.0.1, for tests and scripts: repositories with commits, LFS and Xet, rights and faults.

    from hub_server import Fault, HubServer

    with HubServer(tmp_path / "hub") as hub:                      # plain LFS; xet=True for what users have
        environment = hub.environment(tmp_path / "home")          # for a subprocess: nothing leaves this machine
        subprocess.run([sys.executable, "-c", "..."], env=environment, check=True)
        api = HfApi(endpoint=hub.endpoint, token=hub.token)       # in this process: see below
        hub.order(Fault("^commit ", status=503))                  # the next commit fails, the one after works
        hub.order(Fault("^lfs-put ", nth=2, before=lambda entry: process.kill(), hang_up=True))
        hub.log.counts()                                          # Counter({"preupload": 1, "lfs-put": 3, ...})
        hub.log.received("lfs-put"), hub.log.sent("cdn")          # bytes of bodies
        hub.xet_files.stored_bytes()                              # what Xet stored, past the server
        hub.log.forget()                                          # count from here; no fault is ordered any more
        hub.files("user/name")                                    # {path: bytes} of the main branch
        hub.change("user/name", {"README.md": b"..."})            # a commit of somebody else, in between

The three tokens are ``hub.token`` (user, may write, also in the organisation ``team``), ``hub.read_token`` (user, reads
only) and ``hub.stranger_token`` (another account, ``stranger``). ``hub.repository("user/name")`` gives what is there:
set its ``private``, or ``gated = "auto"`` and ``accepted`` (accounts). Kinds of requests are in ``endpoints.ROUTES``:
whoami, validate-yaml, create-repo, delete-repo, info, refs, commits, tag, branch, tree, paths-info, preupload,
lfs-batch, lfs-put, lfs-part, lfs-join, lfs-verify, xet-write-token, xet-read-token, commit, resolve, cdn ...

Faults that have a name are in ``FAULTS``: ``replace(FAULTS["lost answer"], pattern="^commit ")``; ``rate_limited(5)``
says how long to wait. A fault's pattern is searched in ``kind METHOD /path?query``.

huggingface_hub and datasets freeze HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE when they are imported, and the tests'
conftest.py has set them for a life offline. ``HfApi(endpoint=..., token=...)`` works in this process once
``huggingface_hub.constants.HF_HUB_OFFLINE`` is False and ``HF_HUB_DISABLE_XET`` True; uploads over LFS want the mark
``filterwarnings("ignore:Use 'content=:DeprecationWarning")``. HfFileSystem, load_dataset and the Xet path want a
subprocess. A folder of Xet storage is locked by the process that uses it: one at a time.

To kill a client at its k-th request, before or after the work: ``Fault(pattern, nth=k, before=kill, hang_up=True)`` or
``Fault(pattern, nth=k, after=kill, lose_answer=True)``.

What goes wrong inside the server, and a token that reaches the CDN, is kept in ``hub.problems``; leaving the context
raises it.
"""

from .faults import FAULTS, rate_limited
from .journal import Entry, Fault
from .repositories import Commit, Repository
from .server import HubServer

__all__ = ["FAULTS", "Commit", "Entry", "Fault", "HubServer", "Repository", "rate_limited"]
