"""One-time links: a secret in a message that opens one matter, without signing in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Purpose(StrEnum):
    """What a link is for."""

    ANSWER = "answer"  # about: a touchpoint
    QUESTION = "question"  # about: a question afterwards (feedback)
    EXTRA_WORK = "extra_work"  # about: a workshop's question for extra work
    INVITATION = "invitation"  # about: an invitation to share a product; its owner is who invites
    UNSUBSCRIBE = "unsubscribe"  # about: the purpose whose messages end (maintenance, usage, …)


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A link as it is kept: of its secret only the SHA-256."""

    id: str
    hash: str
    owner: str
    """in whose name it acts"""
    purpose: str
    """one of Purpose"""
    about: str
    """id of what it opens"""
    created: int
    expires_at: int
    used_at: int | None = None
