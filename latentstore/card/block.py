"""The part of a README's text that is rendered: it stands between two marks, and nothing else is ever changed.

The first mark is followed by what was written the last time, so that a person's own changes of the front matter can be
told from ours.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from latentstore.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

BEGIN, END = "<!-- latentstore:begin", "<!-- latentstore:end -->"
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)*")
REMARK = "<!-- All until the mark at the end is rendered from the manifests. Write above or below it. -->"
BLOCK = re.compile(
    rf"^{BEGIN} (?P<written>\{{.*\}}) -->[ \t]*\r?\n(?P<text>(?:.*\n)*?){END}[ \t]*(?:\r?\n|\Z)", re.MULTILINE
)


@dataclass(frozen=True)
class Written:
    """What this library wrote into a card."""

    configs: tuple[str, ...] = ()
    """Names of the configs in it."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the front matter that a person may change, as they were written."""
    repo: str | None = None
    """The repository that its code names."""


@dataclass(frozen=True)
class Body:
    """The text below the front matter, in three parts."""

    before: str
    written: Written | None
    """None where nothing of ours stands in it."""
    after: str
    rendered: str = ""
    """What stands between the marks."""

    @classmethod
    def parse(cls, text: str) -> Body:
        """The parts of a body; RequestError where the marks are not one pair."""
        if BEGIN not in text and END not in text:
            return cls(text, None, "")
        # Counted first: the expression would look for an end from every beginning.
        found = BLOCK.search(text) if text.count(BEGIN) == text.count(END) == 1 else None
        if found is None:
            raise RequestError(
                f"README.md must have the line that starts with '{BEGIN} {{' and the line '{END}' once each, in this "
                "order: restore them, or remove both and what stands between them."
            )
        return cls(text[: found.start()], _read(found["written"]), text[found.end() :], found["text"])

    def with_block(self, lines: str, written: Written) -> str:
        """The text with these lines in the place of the old ones; below a person's words where there were none."""
        block = f"{BEGIN} {_json(written)} -->\n{REMARK}\n\n{lines.strip()}\n\n{END}\n"
        if self.written is not None:
            return f"{self.before}{block}{self.after}"
        if not self.before.strip():
            return f"\n{block}"
        gap = "\n" if self.before.endswith("\n") else "\n\n"
        return f"{self.before}{gap}{block}"


def _json(written: Written) -> str:
    """On one line, and without the signs that would begin or end a mark."""
    data = {"configs": list(written.configs), "keys": dict(written.keys), "repo": written.repo}
    return json.dumps(data).replace(">", "\\u003e").replace("<", "\\u003c")


def _read(text: str) -> Written:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _changed(error) from error
    configs, keys, repo = map(data.get, ("configs", "keys", "repo")) if isinstance(data, dict) else (None, None, None)
    named = repo is None or (isinstance(repo, str) and REPOSITORY.fullmatch(repo) is not None)
    if not isinstance(configs, list) or not isinstance(keys, dict) or not named:
        raise _changed("expected configs, keys and repo as latentstore writes them")
    return Written(tuple(map(str, configs)), keys, repo)


def _changed(why: object) -> RequestError:
    return RequestError(
        f"The line of README.md that starts with '{BEGIN}' was changed and cannot be read ({why}): restore it, or "
        "remove it with all that stands before the mark at the end."
    )
