"""The one conversation of a touchpoint, the same on phone, car and at the call centre."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

VERIFIED_MS = 30 * 60_000
"""So long after the caller was verified an agent may answer for them."""
CODE_MS = 10 * 60_000
"""So long a code that the owner reads out is good."""
CODE_TRIES = 5
"""So often a code may be typed wrong; then another one has to be made."""
UNDO_MS = 48 * 3_600_000
"""So long an owner may take back what an agent answered for them."""
PRESENT_MS = 5 * 60_000
"""Who says "here" is there for so long, unless they say it again or leave."""


class Part(StrEnum):
    """Who says something."""

    OWNER = "owner"  # the owner, or who may answer for the product
    AGENT = "agent"  # somebody of after-sales
    SYSTEM = "system"  # the gateway, stored as a code and worded when shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """One line."""

    id: str
    touchpoint: str
    at: int
    part: Part
    by: str
    """owner id, or operator:<name>"""
    channel: str
    """page, display, api, call_centre"""
    text: str
    """as it was said; of the system empty"""
    code: str | None = None
    """of the system: what it says, worded in the reader's language"""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """Where the conversation of a touchpoint stands."""

    touchpoint: str
    owner: str
    device: str
    opened_at: int
    agent: str | None = None
    """who of after-sales took it"""
    verified_at: int | None = None
    verified_by: str | None = None
    """code, or what the caller was asked, such as plate, address"""
    code_hash: str | None = None
    code_until: int | None = None
    code_tries: int = 0
    waiting_since: int | None = None
    """the owner's first word that nobody has answered"""
    closed_at: int | None = None

    def passed_on(self, owner: str) -> Conversation:
        """The same with somebody else, of whom nobody has made sure that it is them who call."""
        return replace(
            self,
            owner=owner,
            verified_at=None,
            verified_by=None,
            code_hash=None,
            code_until=None,
            code_tries=0,
        )

    def verified(self, now: int) -> bool:
        """Whether the caller is known to be the owner."""
        return self.verified_at is not None and now - self.verified_at < VERIFIED_MS


@dataclass(frozen=True, kw_only=True, slots=True)
class Present:
    """Somebody of after-sales who is there."""

    name: str
    until: int
    since: int


class Offer(StrEnum):
    """What an owner is offered."""

    TALK = "talk"  # somebody is there
    CALLBACK = "callback"  # nobody is: a call by a promised time
    WAITS = "waits"  # a call is promised already
    NONE = "none"  # the product moves, or the matter is over
