"""The YAML block at the top of a README: read, changed key by key, and written; what nobody changes stays as it is.

Anybody may have written it, so it is bounded: in bytes, in values, in depth; and no value stands for another one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from latentstore.errors import RequestError
from latentstore.manifest.names import CARD
from latentstore.printable import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

BLOCK = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(?P<yaml>(?:.*\n)*?)---[ \t]*(?:\r?\n|\Z)")
REMARK = re.compile(r"[ \t]*(?:#.*)?\r?\n")
"""An empty line or a comment."""
TAG = re.compile(r"<(?=[!/?]|[A-Za-z][A-Za-z0-9-]*[\s/>])")
LARGEST_CARD = 2 << 20
"""Bytes of a README: of two configs with 20,000 named classes each, and some words."""
MOST_VALUES = 100_000
"""Keys, entries and values in a block, all together."""
DEEPEST = 64
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
LONGEST_NUMBER = 400
"""Signs."""


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
        RequestError, too, where the README is larger than a card is.
        """
        refuse_large(len(text.encode("utf-8", "surrogatepass")))
        found = BLOCK.match(text)
        if found is None:
            return cls("", text)
        readme = cls(found["yaml"], text[found.end() :])
        seen: set[str] = set()
        for name, _, _ in readme.parts():
            if name in seen:
                raise RequestError(
                    f"The YAML block at the top of README.md has the key {name!r} twice: remove one of them."
                )
            seen.add(name)
        return readme

    @cached_property
    def data(self) -> dict[str, Any]:
        """Keys and values of the block; empty where there is none."""
        import yaml

        if self._node is None:
            return {}
        try:
            found: Any = yaml.constructor.SafeConstructor().construct_document(self._node)
        except (yaml.YAMLError, *UNREADABLE) as error:
            raise _not_yaml(error) from error
        if not isinstance(found, dict):  # a set is written like keys without values
            raise _not_yaml("it is not keys and values")
        return found

    @cached_property
    def _node(self) -> Any:
        """The keys and values of the block with their places; None where it is empty."""
        import yaml

        try:
            node = _bounded_loader()(self.yaml).get_single_node()
        except yaml.YAMLError as error:
            raise _not_yaml(error) from error
        if node is not None and not isinstance(node, yaml.MappingNode):
            raise _not_yaml("it is not keys and values")
        return node

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
        pairs = self._node.value if self._node is not None else []
        if not pairs:
            yield "", "", self.yaml
            return
        marks = [key.start_mark for key, _ in pairs]
        starts = [mark.index - mark.column for mark in marks]
        if starts and starts[0]:
            yield "", "", self.yaml[: starts[0]]
        for (key, _), start, stop in zip(pairs, starts, [*starts[1:], len(self.yaml)], strict=True):
            lines = self.yaml[start:stop]
            end = _end_without_remarks(lines)
            yield str(key.value), lines[:end], lines[end:]


UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
"""What the constructor of yaml raises for values that are not what their tags say, beside its own error."""


def body_of(text: str) -> str:
    """What stands below the block of a README; the block itself is not read."""
    found = BLOCK.match(text)
    return text if found is None else text[found.end() :]


def refuse_large(size: int, where: str = CARD) -> None:
    """RequestError where a README has more bytes than a card has."""
    if size > LARGEST_CARD:
        wanted = f"up to {LARGEST_CARD:,} in a dataset card"
        raise RequestError(f"{where} has {size:,} bytes, expected {wanted}: shorten it.")


def card_text(content: bytes, where: str = CARD) -> str:
    """The text of a README, whose bytes these are; RequestError where it is too large, or no text in UTF-8."""
    refuse_large(len(content), where)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{where} is no text in UTF-8 ({error}): mend or remove it.") from error


def read_card(path: Path) -> str | None:
    """The text of a README of this machine, as `card_text` takes it; None where there is no such file."""
    if not path.is_file():
        return None
    refuse_large(path.stat().st_size, str(path))
    return card_text(path.read_bytes(), str(path))


@cache
def _bounded_loader() -> Any:
    """Reads YAML into nodes; what is larger, deeper or more tangled than a card needs is refused on the way.

    The loader that is written in C would be faster, but ends the process where lists are nested deeply.
    """
    import yaml

    class BoundedLoader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
        def __init__(self, text: str) -> None:
            super().__init__(text)
            self.values = 0
            self.depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            self.values += 1
            self.depth += 1
            if event.anchor is not None:
                raise _not_yaml(f"the name {event.anchor[:40]!r} stands for another value: write it out")
            if self.values > MOST_VALUES or self.depth > DEEPEST:
                raise _not_yaml(f"expected up to {MOST_VALUES:,} values, up to {DEEPEST} inside of each other")
            node = super().compose_node(parent, index)
            if node.tag == "tag:yaml.org,2002:merge":
                raise _not_yaml("'<<' stands for other keys: write them out")
            if node.tag in NUMBERS and len(node.value) > LONGEST_NUMBER:
                raise _not_yaml(f"a number has {len(node.value):,} signs")
            self.depth -= 1
            return node

    return BoundedLoader


def _end_without_remarks(lines: str) -> int:
    """Where the empty lines and comments at the end begin."""
    end = len(lines)
    while end:
        start = lines.rfind("\n", 0, end - 1) + 1
        if REMARK.fullmatch(lines, start, end) is None:
            break
        end = start
    return end


def _in_lines(readme: Readme) -> Readme:
    """The same block with one key a line, where it was written in braces."""
    if readme._node is None or not readme._node.flow_style:  # noqa: SLF001 (its own module's)
        return readme
    return replace(readme, yaml="".join(_dumped(name, value) for name, value in readme.data.items()))


def _dumped(name: str, value: Any) -> str:
    """A key and its value in YAML's block style, always in the same way; nothing for None."""
    import yaml

    if value is None:
        return ""
    found: Any = {name: _apart(value)}
    words = json.dumps(found, ensure_ascii=False)
    # What cannot be seen, and what a page that knows no YAML would take for a tag, is written as escapes.
    seen, stand_in = HIDDEN.search(words) is None, ""
    if TAG.search(words):
        free = (
            sign for sign in map(chr, range(0xE000, 0xF900)) if sign not in words and _escape(sign)[1:] not in words
        )
        seen, stand_in = False, next(free)
        found = json.loads(TAG.sub(stand_in, words))
    text: str = yaml.safe_dump(found, sort_keys=False, allow_unicode=seen, default_flow_style=False, width=float("inf"))
    return text.replace(_escape(stand_in), "\\x3C") if stand_in else text


def _escape(sign: str) -> str:
    return f"\\u{ord(sign):04X}"


def _apart(value: Any) -> Any:
    """Plain JSON; lists that are one object become several, as one would be written once, with an anchor."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _name(key): _apart(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_apart(inner) for inner in value]
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _name(key: Any) -> str:
    return json.dumps(key) if key is None or isinstance(key, (int, float)) else str(key)


def _not_yaml(why: object) -> RequestError:
    reason = " ".join(str(why).split())
    return RequestError(f"The YAML block at the top of README.md cannot be read ({reason}): mend or remove it.")
