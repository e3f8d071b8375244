"""Who may come in: tokens and roles."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.ids import new_id

SECRET_PREFIX = "tp_"
"""what every secret begins with, so that scanners find one that was left somewhere"""


class Role(StrEnum):
    """What somebody is to the gateway."""

    OWNER = "owner"  # sees and answers their own matters
    WORKSHOP = "workshop"  # sees and works its own appointments
    OPERATOR = "operator"  # after-sales: everything
    INTEGRATION = "integration"  # another system of the manufacturer: the API like an operator, no pages


WITH_SUBJECT = (Role.OWNER, Role.WORKSHOP)
"""Roles whose token stands for one owner or one workshop."""

NAME = re.compile(r"[^\W_][\w .-]{0,59}")
"""What an operator or another system is called: it is kept with whatever they look at or do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A bearer token; only its SHA-256 is kept."""

    id: str
    """a UUIDv7; of a browser's session followed by "." and the hash of the token that opened it"""
    hash: str
    role: Role
    subject: str | None
    """owner or workshop id; of operators and integrations what whoever uses it is called, or None"""
    created: int
    expires: int
    revoked: int | None = None
    account: str | None = None
    """of a session: the account that it was opened for; None where a token opened it"""
    way: str | None = None
    """of a session: how it was opened (accounts.Way)"""
    browser: str | None = None
    """of a session: which browser, in few words"""

    @property
    def opened_by(self) -> str | None:
        """Of a session: the hash of the token it was opened with, and ends with; else None."""
        _, _, parent = self.id.partition(".")
        return parent or None

    def live(self, now: int) -> bool:
        """Whether it opens anything at `now` (ms)."""
        return self.revoked is None and now < self.expires


def secret_hash(secret: str) -> str:
    """What is kept of a secret: SHA-256, which is enough for 256 random bits (no password)."""
    return hashlib.sha256(secret.encode()).hexdigest()


def issue_token(
    role: Role,
    subject: str | None,
    *,
    ttl_ms: int,
    now: int,
    random: Callable[[int], bytes],
    opened_by: Token | None = None,
    account: str | None = None,
    way: str | None = None,
    browser: str | None = None,
) -> tuple[Token, str]:
    """A new token and its secret, which is shown once and kept nowhere.

    `random(n)` gives n bytes from the system's generator. A session (`opened_by`) never outlives
    the token it was opened with. Raises ValueError when the role needs a subject and none is given, or for
    a name that cannot stand in a ledger.
    """
    if role in WITH_SUBJECT and not subject:
        raise ValueError(f"a token for {role} needs a subject")
    if role not in WITH_SUBJECT and subject and not NAME.fullmatch(subject):
        raise ValueError(f"a name has 1 to 60 letters, digits, blanks and .-_, which {subject!r} has not")
    secret = SECRET_PREFIX + urlsafe_b64encode(random(32)).rstrip(b"=").decode()
    expires = now + ttl_ms if opened_by is None else min(now + ttl_ms, opened_by.expires)
    token = Token(
        id=new_id(now) + (f".{opened_by.hash}" if opened_by else ""),
        hash=secret_hash(secret),
        role=role,
        subject=subject or None,
        created=now,
        expires=expires,
        account=account,
        way=way,
        browser=browser,
    )
    return token, secret
