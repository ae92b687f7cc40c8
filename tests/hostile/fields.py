"""Every field of a manifest, found by the type hints of its records: a new one is attacked unasked."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from latentstore.manifest import Manifest

Place = tuple[str | int, ...]
TEXT, NUMBER, KEY = "text", "number", "key"


@dataclass(frozen=True)
class Leaf:
    """One place in a manifest."""

    path: Place
    kind: str
    """``text``, ``number``, or ``key`` where the name in an object is meant."""

    @property
    def words(self) -> str:
        """As errors write it."""
        found = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path).removeprefix(".")
        return f"{found} (its name)" if self.kind == KEY else found


def filled(data: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with something in every optional field and every empty list."""
    found: dict[str, Any] = _filled(Manifest, data)
    return found


def leaves(whole: Any, hint: Any = Manifest, path: Place = ()) -> Iterator[Leaf]:
    """Places of a filled manifest; of a list the first item, of an object whose values are records the first name."""
    hint = _one_of(type(whole) if hint is Any else hint)
    arguments = get_args(hint)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        for field in fields(hint):
            if path or field.name != "digest":
                yield from leaves(whole[field.name], hints[field.name], (*path, field.name))
    elif isinstance(whole, Mapping):
        inner = arguments[1] if arguments else Any
        names = list(whole) if inner is Any else list(whole)[:1]
        for name in names:
            yield Leaf((*path, name), KEY)
            yield from leaves(whole[name], inner, (*path, name))
    elif isinstance(whole, (list, tuple)):
        if whole:
            yield from leaves(whole[0], arguments[0] if arguments else Any, (*path, 0))
    elif isinstance(whole, bool) or whole is None or isinstance(whole, str):
        yield Leaf(path, TEXT)
    else:
        yield Leaf(path, NUMBER)


def planted(data: Mapping[str, Any], whole: Any, leaf: Leaf, value: Any, *, everywhere: bool = False) -> dict[str, Any]:
    """The manifest with this value there, and (``everywhere``) in every other place that said the same.

    ``whole`` is the same manifest, filled: what is on the way and not there is taken from it.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(data))
    inner: Any = changed
    for part in leaf.path[:-1]:
        inner, whole = _inside(inner, whole, part), whole[part]
    last = leaf.path[-1]
    old = last if leaf.kind == KEY else whole[last]
    if leaf.kind == KEY:
        inner[value] = inner.pop(last, whole[last])
    elif isinstance(inner, list) and not inner:
        inner.append(value)
    else:
        inner[last] = value
    if everywhere:
        changed = _exchanged(changed, old, value)
    return changed


def is_repeated(data: Mapping[str, Any], whole: Any, leaf: Leaf) -> bool:
    """Whether other places of the manifest say the same, so that a careful stranger changes them too."""
    inner = whole
    for part in leaf.path[:-1]:
        inner = inner[part]
    value = leaf.path[-1] if leaf.kind == KEY else inner[leaf.path[-1]]
    return value not in ("", None, 0, 1, True) and _count(data, value) > 1


def agreeing(data: dict[str, Any]) -> dict[str, Any]:
    """Sums made right again, where what is added up can be."""
    try:
        for split in data["splits"].values():
            split["rows"] = sum(shard["rows"] for shard in split["shards"])
        data["index"]["rows"] = sum(split["rows"] for split in data["splits"].values())
        shards = [shard for split in data["splits"].values() for shard in split["shards"]]
        data["size"]["stored_bytes"] = sum(shard["bytes"] for shard in shards)
    except (TypeError, KeyError, AttributeError):
        pass  # not a number any more: nothing to make right
    return data


def _inside(inner: Any, whole: Any, part: str | int) -> Any:
    """What is there, or what a filled manifest has there."""
    there = inner[part] if isinstance(inner, list) and isinstance(part, int) and len(inner) > part else None
    there = inner.get(part) if isinstance(inner, dict) else there
    if there is None:
        there = copy.deepcopy(whole[part])
        if isinstance(inner, list) and not inner:
            inner.append(there)
        else:
            inner[part] = there
    return there


def _exchanged(data: Any, old: Any, new: Any) -> Any:
    if isinstance(data, dict):
        return {(new if name == old else name): _exchanged(inner, old, new) for name, inner in data.items()}
    if isinstance(data, list):
        return [_exchanged(inner, old, new) for inner in data]
    return new if type(data) is type(old) and data == old else data


def _count(data: Any, value: Any) -> int:
    if isinstance(data, dict):
        return sum((name == value) + _count(inner, value) for name, inner in data.items())
    if isinstance(data, list):
        return sum(_count(inner, value) for inner in data)
    return int(type(data) is type(value) and data == value)


def _one_of(hint: Any) -> Any:
    """What an optional field holds where it holds something."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(one for one in get_args(hint) if one is not type(None))
    return hint


def _filled(hint: Any, data: Any) -> Any:
    hint = _one_of(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        there = data if isinstance(data, Mapping) else {}
        return {field.name: _filled(hints[field.name], there.get(field.name)) for field in fields(hint)}
    if origin is tuple:
        return [_filled(arguments[0], item) for item in data or [None]]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {name: _filled(arguments[1], item) for name, item in (data or {"example": None}).items()}
    if data is not None:
        return data
    return {str: "example", int: 7, float: 0.5, bool: True}.get(hint, "example")
