"""What the Hub's client raises, said in one sentence that names the command or page which helps."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from latentstore.named_table import NamedTable

LONGEST_WORDS = 300
"""Characters of the Hub's own words that are passed on."""
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which the same request may succeed."""
RATE_LIMIT = re.compile(r"\bt=(?P<seconds>\d+)")


@dataclass(frozen=True)
class Asked:
    """What the client was asked for, as far as sentences speak of it."""

    repo: str
    endpoint: str
    revision: str | None = None
    path: str = ""
    verb: str = "read"
    """``read`` or ``written``: the repository cannot be …"""
    kind: str = "dataset"
    """``dataset`` or ``model``."""

    @property
    def page(self) -> str:
        """The repository on the Hub's site."""
        return f"{self.endpoint}/{'' if self.kind == 'model' else 'datasets/'}{self.repo}"

    @property
    def namespace(self) -> str:
        """The account or organisation that the repository belongs to."""
        return self.repo.partition("/")[0]


@dataclass(frozen=True)
class RefusalRow:
    """One way in which the Hub or its client refuses, and what is said then."""

    name: str
    applies: Callable[[Exception], bool]
    sentence: Callable[[Asked, Exception], str]


def refusal_of(error: Exception, asked: Asked) -> str:
    """The sentence for an error of the client; of a kind that is not in ``REFUSALS`` its own first line."""
    error = _behind(error)
    for row in REFUSALS.values():
        if row.applies(error):
            return row.sentence(asked, error)
    return f"{asked.repo} cannot be {asked.verb}: {words_of(error)}."


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed a little later: the Hub is busy or ill, or the answer was lost."""
    error = _behind(error)
    status = status_of(error)
    if status is not None:
        return status in PASSING
    return not _is_offline(error) and (_is_transport(error) or isinstance(error, (ConnectionError, TimeoutError)))


def is_unreachable(error: Exception) -> bool:
    """Whether nobody answered, or nobody may be asked."""
    return _is_offline(error) or _is_unreachable(error)


def wait_asked_by(error: Exception) -> float:
    """Seconds that the Hub asks to wait, 0 where it does not say."""
    headers = getattr(getattr(_behind(error), "response", None), "headers", {})
    after = str(headers.get("Retry-After", ""))
    found = RATE_LIMIT.search(str(headers.get("RateLimit", "")))
    return float(after) if after.isdigit() else float(found["seconds"]) + 1 if found else 0.0


def status_of(error: Exception) -> int | None:
    """The HTTP status behind an error of the client; None where there was no answer."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return int(status) if status is not None else None


def words_of(error: Exception) -> str:
    """What the Hub or the client says, on one line: the Hub's own words where there are some."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    said = headers.get("X-Error-Message") or getattr(error, "server_message", None) or str(error)
    text = " ".join(str(said).split()) or type(error).__name__
    return text[:LONGEST_WORDS].rstrip(".")


def _behind(error: Exception) -> Exception:
    """The answer behind an error in which the client wrapped it, as it does for files sent in threads."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, Exception):
        found = found.__cause__
    cause = error.__cause__
    if isinstance(error, RuntimeError) and isinstance(cause, Exception):
        return _behind(cause)
    return error


def _is(*names: str) -> Callable[[Exception], bool]:
    """A test for errors of ``huggingface_hub.errors`` by name."""

    def applies(error: Exception) -> bool:
        from huggingface_hub import errors

        return isinstance(error, tuple(getattr(errors, name) for name in names))

    return applies


def _answered(*statuses: int, saying: str = "") -> Callable[[Exception], bool]:
    """A test for answers with one of these statuses and, where given, a pattern in the words."""

    def applies(error: Exception) -> bool:
        return status_of(error) in statuses and bool(re.search(saying, words_of(error), re.IGNORECASE))

    return applies


def _is_offline(error: Exception) -> bool:
    return _is("OfflineModeIsEnabled")(error)


def _is_transport(error: Exception) -> bool:
    """An error of the client's HTTP library below any answer."""
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError.__bases__[0]) and status_of(error) is None


def _is_unreachable(error: Exception) -> bool:
    return _is_transport(error) or isinstance(error, (ConnectionError, TimeoutError))


REFUSALS = NamedTable(
    "refusal",
    [
        RefusalRow(
            "offline",
            _is_offline,
            lambda asked, _: (
                f"{asked.repo} cannot be {asked.verb}: the client was told to stay offline; unset HF_HUB_OFFLINE."
            ),
        ),
        RefusalRow(
            "bad name",
            _is("HFValidationError"),
            lambda asked, _: (
                f"{asked.repo!r} is no name of a Hub repository: expected user/name, of letters, digits, '-', '_' and "
                "'.', with 96 characters at most."
            ),
        ),
        RefusalRow(
            "no token",
            lambda error: (
                _is("LocalTokenNotFoundError")(error)
                or _answered(401, saying="username or password|token is required")(error)
            ),
            lambda asked, _: (
                f"{asked.repo} cannot be {asked.verb} without a token: type hf auth login, or set HF_TOKEN."
            ),
        ),
        RefusalRow(
            "wrong token",
            _answered(401, saying="credentials"),
            lambda asked, _: (
                f"{asked.repo} cannot be {asked.verb}: the Hub does not know this token; type hf auth login, or "
                "correct HF_TOKEN."
            ),
        ),
        RefusalRow(
            "gated",
            _is("GatedRepoError"),
            lambda asked, _: f"{asked.repo} is gated: accept its terms on {asked.page}, then type: hf auth login",
        ),
        RefusalRow(
            "no repository",
            _is("RepositoryNotFoundError"),
            lambda asked, _: (
                f"The Hub has no {asked.kind} repository {asked.repo} that you may read: check the name, or "
                "type: hf auth login"
            ),
        ),
        RefusalRow(
            "no revision",
            _is("RevisionNotFoundError"),
            lambda asked, _: (
                f"{asked.repo} has no revision {asked.revision!r}: choose one of its branches and tags, see "
                f"{asked.page}/tree/main"
            ),
        ),
        RefusalRow(
            "no file",
            _is("EntryNotFoundError"),
            lambda asked, _: f"{asked.repo} has no file {asked.path} at {asked.revision or 'main'}.",
        ),
        RefusalRow(
            "read-only token",
            _answered(403, saying="write token|read-only|read token|fine-grained|permission"),
            lambda asked, _: (
                f"{asked.repo} cannot be {asked.verb} with this token, which may only read: make one with the role "
                f"'write' on {asked.endpoint}/settings/tokens, then type: hf auth login"
            ),
        ),
        RefusalRow(
            "no room",
            lambda error: (
                _answered(402, 413, 507)(error) or _answered(400, 403, saying="storage|quota|too large")(error)
            ),
            lambda asked, error: (
                f"The Hub has no room for it in {asked.namespace}: {words_of(error)}; see "
                f"{asked.endpoint}/settings/billing"
            ),
        ),
        RefusalRow(
            "namespace of others",
            _answered(403, saying="namespace|rights|not authorized|not allowed"),
            lambda asked, _: (
                f"You may not write into the namespace {asked.namespace!r}: choose one that `hf auth whoami` names, or "
                "ask its owner."
            ),
        ),
        RefusalRow(
            "forbidden",
            _answered(403),
            lambda asked, error: (
                f"{asked.repo} may not be {asked.verb}: {words_of(error)}; see what this token may do on "
                f"{asked.endpoint}/settings/tokens"
            ),
        ),
        RefusalRow(
            "name taken",
            _answered(409),
            lambda asked, error: (
                f"{asked.repo} cannot be {asked.verb}: the name is taken ({words_of(error)}); choose another one, or "
                "type: hf auth login, as someone who may read what is there."
            ),
        ),
        RefusalRow(
            "busy",
            _answered(429),
            lambda asked, _: (
                f"The Hub takes no more requests from you for now ({asked.repo} cannot be {asked.verb}): wait some "
                "minutes, then type the same command again; it continues."
            ),
        ),
        RefusalRow(
            "unreachable",
            _is_unreachable,
            lambda asked, error: (
                f"{asked.repo} cannot be {asked.verb}: {asked.endpoint} does not answer ({words_of(error)}); see "
                "whether there is a network, then type the same command again."
            ),
        ),
    ],
)
"""In the order in which they are tried."""
