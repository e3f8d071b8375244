"""Calendars: how a workshop is reached, which events stand in others' calendars, and mail that came in."""

from __future__ import annotations

import hmac
from base64 import b32encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit


class Reach(StrEnum):
    """How a workshop hears of appointments, besides its page, which always shows them."""

    PAGE = "page"  # it looks by itself
    API = "api"  # its own system, by webhooks
    MAIL = "mail"  # plain mail with invitations, which it answers from its own calendar


class Party(StrEnum):
    """Who has an appointment in a calendar."""

    WORKSHOP = "workshop"
    OWNER = "owner"


@dataclass(frozen=True, kw_only=True, slots=True)
class CalendarSettings:
    """How one workshop is reached, and where its own calendar is read."""

    workshop: str
    email: str | None = None
    reach: Reach = Reach.PAGE
    language: str = "en"
    """of the mail it gets"""
    busy_url: str | None = None
    """ICS feed of its own calendar, https://…"""
    busy_etag: str | None = None
    busy_modified: str | None = None
    """Last-Modified as the server wrote it"""
    busy_due_at: int | None = None
    """when it is fetched next, ms; None without a feed"""
    busy_taken_at: int | None = None
    """when it last could be read, ms"""
    busy_count: int = 0
    """busy times taken from it"""
    busy_problem: str | None = None
    """code of why it cannot be read, a text under `calendars.busy.problem`; None while all is well"""
    busy_detail: str | None = None
    """a status code or the like, one line"""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalendarEvent:
    """An appointment as it stands in others' calendars (RFC 5545 sections 3.8.4.7, 3.8.7.4)."""

    appointment: str
    uid: str
    sequence: int
    start: int
    end: int
    status: str
    """TENTATIVE, CONFIRMED, CANCELLED"""
    changed: int
    """ms"""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalendarInvitation:
    """One party's invitation to one appointment. Who knows the token of its address answers it."""

    token_hash: str
    appointment: str
    party: Party
    address: str
    created: int
    reply_sequence: int | None = None
    reply_stamp: int | None = None
    """DTSTAMP of the newest answer taken, ms"""
    partstat: str | None = None
    """what the newest answer said"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Feed:
    """A calendar feed that somebody subscribes to; `turn` counts up when its address is changed."""

    party: Party
    subject: str
    turn: int
    token_hash: str
    created: int


@dataclass(frozen=True, kw_only=True, slots=True)
class InboundMail:
    """A mail that came in, and what became of it."""

    id: str
    at: int
    message_id: str
    sender: str
    """as its From says, which proves nothing"""
    recipient: str
    """envelope recipient without its token"""
    subject: str
    outcome: str
    """a text under `calendars.mail.outcome`; "kept" for what somebody has to look at"""
    reason: str
    """a text under `calendars.mail.reason`"""
    params: Mapping[str, Any] = field(default_factory=dict)
    appointment: str | None = None
    owner: str | None = None
    raw: bytes | None = None
    """the message itself, of those that were kept"""
    size: int = 0
    """bytes of `raw` when it came in"""
    seen_at: int | None = None
    """when somebody said that it was dealt with, ms"""


def calendar_address(text: str) -> str:
    """The address of somebody's calendar as it is fetched: webcal: is https: (a name that calendars made
    up). Raises ValueError."""
    address = text.strip()
    if address.lower().startswith(("webcal://", "webcals://")):
        address = "https://" + address.partition("://")[2]
    parts = urlsplit(address)
    if parts.scheme not in ("https", "http") or not parts.hostname or len(address) > 2_000:
        raise ValueError("an address begins with https:// or webcal://")
    if parts.username or not address.isprintable() or " " in address:
        raise ValueError("an address has no user name and no spaces")
    return address


# --- secrets in addresses ---------------------------------------------------------------------


def reply_token(key: bytes, appointment: str, party: Party, address: str) -> str:
    """What proves that a mail answers this invitation: stays the same over its updates, for calendars know
    an organizer by the address (RFC 5546 section 2.1.1), and cannot be guessed without the key."""
    return _token(key, "reply", appointment, party, address.casefold())


def feed_token(key: bytes, party: Party, subject: str, turn: int) -> str:
    """The secret in a feed's address; another turn gives another one."""
    return _token(key, "feed", party, subject, turn)


def _token(key: bytes, *parts: object) -> str:
    digest = hmac.digest(key, "\x1f".join(str(part) for part in parts).encode(), sha256)
    return b32encode(digest[:20]).decode().lower()


def token_hash(token: str) -> str:
    """What is kept of a token. Addresses may come back in capitals."""
    return sha256(token.lower().encode()).hexdigest()


def plus_address(address: str, token: str) -> str:
    """replies@example.com → replies+token@example.com (RFC 5233)."""
    local, _, domain = address.rpartition("@")
    return f"{local}+{token}@{domain}"


def plus_token(address: str, base: str) -> str | None:
    """The token of an address made by `plus_address` from `base`; "" for `base` itself, None for others."""
    local, _, domain = address.strip().strip("<>").casefold().rpartition("@")
    base_local, _, base_domain = base.casefold().rpartition("@")
    if domain != base_domain or not base:
        return None
    name, _, token = local.partition("+")
    return token if name == base_local else None
