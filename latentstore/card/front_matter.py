"""The YAML block at the top of a README: read, changed key by key, and written; what nobody changes stays as it is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from latentstore.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BLOCK = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(?P<yaml>(?:.*\n)*?)---[ \t]*(?:\r?\n|\Z)")
REMARKS = re.compile(r"(?:^[ \t]*(?:#.*)?\r?\n)*\Z", re.MULTILINE)
"""Empty lines and comments at the end of what belongs to a key."""


@dataclass(frozen=True)
class Readme:
    """A README in its two parts."""

    yaml: str
    """Between the two lines of dashes; empty where there is no block."""
    body: str
    """Everything after the second line of dashes."""

    @classmethod
    def parse(cls, text: str) -> Readme:
        """The parts of a README; RequestError where its block is no YAML of keys and values, or has a key twice.

        A byte order mark and empty lines before the block are dropped: `datasets` finds no block behind them.
        """
        found = BLOCK.match(text)
        if found is None:
            return cls("", text)
        readme = cls(found["yaml"], text[found.end() :])
        names = [name for name, _, _ in readme.parts()]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise RequestError(
                f"The YAML block at the top of README.md has the key {twice!r} twice: remove one of them."
            )
        return readme

    @cached_property
    def data(self) -> dict[str, Any]:
        """Keys and values of the block; empty where there is none."""
        import yaml

        try:
            found = yaml.safe_load(self.yaml) or {}
        except (yaml.YAMLError, ValueError) as error:
            raise _not_yaml(error) from error
        if not isinstance(found, dict):
            raise _not_yaml(f"it is {type(found).__name__}, not keys and values")
        return found

    def with_keys(self, wanted: Mapping[str, Any]) -> Readme:
        """The README with these values; a key whose value is None is left out.

        Keys that already have their value, and all others, keep their bytes; new ones come last, in their order.
        """
        block = _in_lines(self)
        kept = []
        for name, text, remarks in block.parts():
            if name not in wanted or wanted[name] == block.data[name]:
                kept += [text, remarks]
            else:
                kept += [_dumped(name, wanted[name]), remarks]
        new = [_dumped(name, value) for name, value in wanted.items() if name not in block.data]
        return replace(self, yaml="".join([*kept, *new]))

    def text(self) -> str:
        """The whole README."""
        return f"---\n{self.yaml}---\n{self.body}" if self.yaml else self.body

    def parts(self) -> Iterator[tuple[str, str, str]]:
        """(key, its lines, comments and empty lines after them), in order; what stands before the first has key ''."""
        import yaml

        try:
            node = yaml.compose(self.yaml, yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise _not_yaml(error) from error
        if node is None:
            yield "", "", self.yaml
            return
        if not isinstance(node, yaml.MappingNode):
            raise _not_yaml("it is not keys and values")
        marks = [key.start_mark for key, _ in node.value]
        starts = [mark.index - mark.column for mark in marks]
        if starts and starts[0]:
            yield "", "", self.yaml[: starts[0]]
        for (key, _), start, stop in zip(node.value, starts, [*starts[1:], len(self.yaml)], strict=True):
            lines = self.yaml[start:stop]
            cut = REMARKS.search(lines)
            end = cut.start() if cut else len(lines)
            yield str(key.value), lines[:end], lines[end:]


def _in_lines(readme: Readme) -> Readme:
    """The same block with one key a line, where it was written in braces."""
    if not readme.yaml.lstrip().startswith("{"):
        return readme
    return replace(readme, yaml="".join(_dumped(name, value) for name, value in readme.data.items()))


def _dumped(name: str, value: Any) -> str:
    """A key and its value in YAML's block style, always in the same way; nothing for None."""
    import yaml

    if value is None:
        return ""
    apart = json.loads(
        json.dumps(value, default=str)
    )  # lists that are one object would be written once, with an anchor
    text: str = yaml.safe_dump(
        {name: apart}, sort_keys=False, allow_unicode=True, default_flow_style=False, width=float("inf")
    )
    return text


def _not_yaml(why: object) -> RequestError:
    reason = " ".join(str(why).split())
    return RequestError(f"The YAML block at the top of README.md cannot be read ({reason}): mend or remove it.")
