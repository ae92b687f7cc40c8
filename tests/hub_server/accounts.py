"""Who may do what: accounts, their organisations, and tokens with a role."""

from __future__ import annotations

from dataclasses import dataclass

from .wire import Refusal


@dataclass(frozen=True)
class Token:
    """A token: whose it is, and whether it may write."""

    value: str
    account: str
    organisations: tuple[str, ...] = ()
    role: str = "write"
    """``write`` or ``read``."""

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Where its owner may have repositories."""
        return (self.account, *self.organisations)


USER, TEAM, STRANGER = "user", "team", "stranger"
TOKENS = (
    Token("hf_local_write", USER, (TEAM,)),
    Token("hf_local_read", USER, (TEAM,), role="read"),
    Token("hf_local_stranger", STRANGER),
)


def token_of(value: str | None) -> Token | None:
    """The token of a request, None for an anonymous one; an unknown token is refused, also where none is needed."""
    if value is None:
        return None
    for token in TOKENS:
        if token.value == value:
            return token
    raise Refusal(401, "Invalid credentials in Authorization header")


def may_write(token: Token | None, namespace: str) -> Token:
    """The token, where it may write there."""
    if token is None:
        raise Refusal(401, "Invalid username or password.")
    if namespace not in token.namespaces:
        message = f"You don't have the rights to create or change a repository under the namespace {namespace!r}"
        raise Refusal(403, f"Forbidden: {message}")
    if token.role != "write":
        raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
    return token


def whoami(token: Token | None) -> dict[str, object]:
    """What the Hub says about the owner of a token."""
    if token is None:
        raise Refusal(401, "Invalid username or password.")
    return {
        "type": "user",
        "id": token.account,
        "name": token.account,
        "fullname": token.account.title(),
        "email": f"{token.account}@example.invalid",
        "emailVerified": True,
        "canPay": False,
        "isPro": False,
        "orgs": [
            {"type": "org", "id": name, "name": name, "fullname": name.title(), "roleInOrg": "admin"}
            for name in token.organisations
        ],
        "auth": {"type": "access_token", "accessToken": {"displayName": f"local {token.role}", "role": token.role}},
    }
