"""The text of a manifest: what its JSON holds, which version of the format it is in, and its digest."""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

from latentstore.errors import ManifestError, UnsupportedVersionError
from latentstore.manifest.names import FORMAT_VERSION

HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a letter as JSON can spell it: a text that has no other half cannot be written again."""
LARGEST_TEXT = 256 << 20
"""Bytes of a manifest."""
MOST_VALUES = 1 << 23
"""In it: with five of each, it can list a million skipped pictures."""


def with_digest(data: Mapping[str, Any]) -> str:
    """The text of a manifest with this content, ended by its digest."""
    digest = hashlib.sha256(_text({**data, "digest": ""}).encode()).hexdigest()
    return _text({**data, "digest": digest})


def digest_of(text: str, stated: str) -> str:
    """The digest that a manifest of this text should state, which states this one."""
    before, between, after = text.rpartition(f'"digest": "{stated}"')
    return hashlib.sha256(f'{before}"digest": ""{after}'.encode()).hexdigest() if between else ""


def contents(text: str) -> Any:
    """What the JSON text holds; ManifestError where it is none, or has numbers that JSON or a float cannot hold."""
    if len(text) > LARGEST_TEXT or sum(map(text.count, ",[{")) > MOST_VALUES:
        raise ManifestError(f"has more than {LARGEST_TEXT:,} bytes, or {MOST_VALUES:,} values")
    try:
        found = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if HALF.search(text):
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits, half a letter
        raise ManifestError(f"is not JSON ({error})") from error
    return found


def check_version(data: object) -> None:
    """Raise UnsupportedVersionError for another major version; warn of a newer minor one."""
    found = data.get("format_version") if isinstance(data, Mapping) else None
    if not isinstance(found, str) or not re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}", found):
        raise ManifestError(f"expected a version such as {FORMAT_VERSION!r}, found {found!r}", field="format_version")
    major, minor = (int(part) for part in found.split("."))
    own_major, own_minor = (int(part) for part in FORMAT_VERSION.split("."))
    if major != own_major:
        message = (
            f"this latentstore reads format {own_major}.x, the dataset is written in {found}; "
            "install a matching version with: pip install --upgrade latentstore"
        )
        raise UnsupportedVersionError(message, field="format_version")
    if minor > own_minor:
        text = (
            f"The dataset is written in format {found}, newer than {FORMAT_VERSION}: fields unknown here are ignored."
        )
        warnings.warn(text, stacklevel=4)


def _text(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ManifestError(f"is not JSON (the number {digits} is beyond what a float can hold)")
    return number


def _refuse_constant(name: str) -> None:
    raise ManifestError(f"is not JSON (the number {name} is not allowed)")
