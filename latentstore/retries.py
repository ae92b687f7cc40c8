"""How often and how patiently a request is made again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from latentstore.errors import FetchError

Result = TypeVar("Result")


class PassingError(Exception):
    """A try failed in a way that may pass. ``wait`` is how many seconds the server asks for, where it does."""

    def __init__(self, reason: str, *, wait: float = 0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Patience:
    """When to try again, and when to give up."""

    tries: int = 6
    first_wait: float = 0.5
    """Seconds before the second try; each further wait is twice as long, and shortened at random by up to a half, so
    that many processes do not come back together."""
    longest_wait: float = 60
    """Seconds, also where a server asks for more."""
    timeout: float = 30
    """Seconds without a byte after which a connection is given up."""
    sleep: Callable[[float], None] = time.sleep

    def until_done(self, attempt: Callable[[], Result], what: str) -> Result:
        """What ``attempt`` gives once it raises no PassingError; FetchError, naming ``what``, where it always does."""
        reason = PassingError("")
        for number in range(self.tries):
            if number:
                own = self.first_wait * 2 ** (number - 1) * random.uniform(0.5, 1)  # noqa: S311 (no secret)
                self.sleep(min(self.longest_wait, max(own, reason.wait)))
            try:
                return attempt()
            except PassingError as error:
                reason = error
        raise FetchError(
            f"{what} cannot be read: {reason}, tried {self.tries} times; see whether the server is well and try again."
        ) from reason
