"""What leaves the house: outbox rows, attempts, and what a channel says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class DeliveryState(StrEnum):
    """Where an outbox row stands."""

    PENDING = "pending"  # due at due_at
    LEASED = "leased"  # somebody sends it until lease_until
    SENT = "sent"  # the channel took it
    DEAD = "dead"  # given up: seen by the operator, can be retried
    DROPPED = "dropped"  # not needed any more (answered elsewhere, expired, address gone)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One touchpoint on one channel: a row of the outbox. `id` is the stable id receivers see."""

    id: str
    channel: str
    """web_push, display, email, letter, webhook, journal"""
    target: str
    """push subscription, device, e-mail address, owner (a letter), webhook endpoint, or "journal\""""
    key: str
    """what replaces what: an effect is queued once per (channel, target, key)"""
    payload: Mapping[str, Any] = field(default_factory=dict)
    touchpoint: str | None = None
    owner: str | None = None
    state: DeliveryState = DeliveryState.PENDING
    due_at: int = 0
    attempts: int = 0
    lease_until: int | None = None
    created: int = 0
    expires_at: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One try of a delivery."""

    delivery: str
    number: int
    at: int
    result: str
    """sent, retry, dropped, dead"""
    detail: str
    """status code or error, one line"""


class Reached(StrEnum):
    """How far a delivery is known to have come. A channel says what it can know, and nothing more."""

    SENT = "sent"  # the channel took it
    DELIVERED = "delivered"  # it is where the owner can see it: the browser or the receiver says so
    SEEN = "seen"  # somebody opened it
    ANSWERED = "answered"  # the answer came through it
    FAILED = "failed"  # it will not arrive: refused, bounced, given up


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryOutcome:
    """One thing that is known of a delivery, and since when."""

    delivery: str
    outcome: Reached
    at: int
    """ms"""


@dataclass(frozen=True, kw_only=True, slots=True)
class MailAddress:
    """What is known of an e-mail address beyond its spelling."""

    address: str
    """lower case"""
    state: str
    """undeliverable, or good again after somebody said so"""
    reason: str
    """what the mail server said, one line"""
    at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """The channel took it."""

    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Try again: on the schedule, or not before `after_ms` when the receiver said so."""

    detail: str
    after_ms: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Gone:
    """The address is no more (404, 410): drop it and do not try again."""

    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """The receiver will never take this: dead letter."""

    detail: str


Outcome = Sent | Retry | Gone | Refused
