"""What a publisher decides about a card, and no manifest can know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CardChoices:
    """Each is left as it is on the card where it is not given; the licence is never made up."""

    license: str | None = None
    """Of the dataset: an identifier of the Hub such as ``cc-by-4.0``; ``other`` wants the two below."""
    license_name: str | None = None
    license_link: str | None = None
    pretty_name: str | None = None
    language: tuple[str, ...] = ()
    """Codes such as ``en``."""
    default_config: str | None = None
    """The config that is loaded where none is named."""
    repo: str | None = None
    """Where it will lie on the Hub, ``user/name``: what the code on the card names."""
    revision: str | None = None
    """A tag or commit that the code on the card shall name."""
