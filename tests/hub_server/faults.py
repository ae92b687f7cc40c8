"""Faults with a name: what a client of the Hub must live with."""

from __future__ import annotations

from collections.abc import Mapping

from .journal import Fault


def rate_limited(seconds: int) -> Fault:
    """No request until so many seconds have passed, as the Hub says it."""
    headers = {"RateLimit": f'"api";r=0;t={seconds}', "RateLimit-Policy": '"fixed window";"api";q=1000;w=300'}
    return Fault(status=429, message="Too many requests", headers=headers)


FAULTS: Mapping[str, Fault] = {
    "internal error": Fault(status=500, message="Internal Error - We're working hard to fix this as soon as possible!"),
    "bad gateway": Fault(status=502, message="Bad Gateway"),
    "unavailable": Fault(status=503, message="Service Unavailable"),
    "gateway timeout": Fault(status=504, message="Gateway Time-out"),
    "rate limit": rate_limited(0),
    "wrong parent": Fault(status=412, message="A commit has happened since. Please refresh and try again."),
    "missing rights": Fault(status=403, message="Forbidden: you must use a write token to upload to a repository."),
    "expired token": Fault(status=401, message="Invalid credentials in Authorization header"),
    "hang up": Fault(hang_up=True),
    "lost answer": Fault(lose_answer=True),
    "cut body": Fault(cut_after=1000),
    "slow body": Fault(bytes_per_second=1 << 18),
    "flipped bit": Fault(flip=100),
}
"""By name; each happens once, to the first request: ``replace`` the pattern, ``nth`` and ``times``."""
