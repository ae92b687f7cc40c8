"""What in a text could change how other text is read or shown, as visible escapes; ordinary letters stay."""

from __future__ import annotations

import re

_JOINED = r"[\u0600-\u0dff\u2190-\u2bff\ufe0f\U0001f000-\U0001faff]"
"""Persian and Indian letters and emoji, between which a joiner or non-joiner is spelling."""
HIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
    rf"|(?<!{_JOINED})[\u200c\u200d]|[\u200c\u200d](?!{_JOINED})"
)
"""Control characters (with ESC and line ends), marks of direction, what has no width, tags, halves of characters."""


def printable(text: str) -> str:
    r"""The text on one line, with ``\x1b``, ``\u202e`` and ``\n`` in the place of what is not seen."""
    return HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)
