"""What strangers write into the texts of a manifest, and every place where they can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Union, get_args, get_origin, get_type_hints

from latentstore import Manifest
from latentstore.errors import ManifestError
from latentstore.json_records import parse

WORDS = {
    "markdown": (
        "](x)<img src=x onerror=alert(1)> <script>alert(1)</script> [a](javascript:alert(1)) ![b](data:text/html,c) "
        "| cell \\| `` ``` <!-- latentstore:end --> <!-- latentstore:begin {} --> &#60;b&gt; &lt;i> **b** expected <b"
    ),
    "lines": (
        "\n\n---\n# heading\n```\n> **Published with --force**: `x` fails `latentstore verify --quick`: y\n"
        "- config_name: z\n&a [*a, !!python/object:os.system {}]\n\n| a | b | expected\n"
    ),
    "hidden": "\x1b]0;a\x07\x9b31m\x08\r\u202eb\u2066\u200f\u200b\u2028\ufeff\U000e0041\x00\ud800\xad expected",
    "code": "'; rm -rf ~; $(id) `id` \" \\ {0} \U0001f600 {a,b}x::pipe:id # expected",
}
"""By what they attack. No place is without an answer: a card shows them as words, a terminal as escapes."""

Path = tuple[Any, ...]


def filled(manifest: Manifest) -> Manifest:
    """The manifest with a word or number in every place that may be empty, as far as it stays valid."""
    for path, hint in [*_empty(manifest, Manifest, ())]:
        try:
            changed = replaced(manifest, path, _anything(hint))
            changed.validate()
        except ManifestError:
            continue
        manifest = changed
    return manifest


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Paths to every text in a record, those of the keys of its mappings included."""
    if isinstance(value, str):
        yield path
    elif is_dataclass(value):
        for field in fields(value):
            yield from places(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield (*path, ("key", key))
            yield from places(inner, (*path, key))
    elif isinstance(value, (tuple, list)):
        for place, inner in enumerate(value):
            yield from places(inner, (*path, place))


def replaced(value: Any, path: Path, new: Any) -> Any:
    """The record with something else at this place."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if is_dataclass(value):
        return replace(value, **{step: replaced(getattr(value, step), rest, new)})  # type: ignore[type-var]
    if isinstance(value, Mapping):
        if isinstance(step, tuple):
            return {new if key == step[1] else key: inner for key, inner in value.items()}
        return {key: replaced(inner, rest, new) if key == step else inner for key, inner in value.items()}
    return type(value)(replaced(inner, rest, new) if place == step else inner for place, inner in enumerate(value))


def _empty(value: Any, hint: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Places with nothing in them, and what may stand there."""
    arguments = get_args(hint)
    if value is None or value in ((), {}, "", []):
        yield path, hint
    elif is_dataclass(value):
        hints = get_type_hints(type(value))
        for field in fields(value):
            yield from _empty(getattr(value, field.name), hints[field.name], (*path, field.name))
    elif isinstance(value, Mapping) and len(arguments) == 2:
        for key, inner in value.items():
            yield from _empty(inner, arguments[1], (*path, key))


def _anything(hint: Any) -> Any:
    origin, arguments = get_origin(hint), [kind for kind in get_args(hint) if kind not in (type(None), Ellipsis)]
    if origin is tuple:
        return tuple(map(_anything, arguments))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"word": _anything(arguments[1])}
    if origin is Union or type(hint).__name__ == "UnionType":
        return _anything(arguments[0])
    if is_dataclass(hint):
        kinds = get_type_hints(hint)
        return parse(hint, {field.name: _anything(kinds[field.name]) for field in fields(hint)})  # type: ignore[arg-type]
    return {int: 1, float: 1.0, bool: True, Any: {"dtype": "string", "_type": "Value"}}.get(hint, "word")
