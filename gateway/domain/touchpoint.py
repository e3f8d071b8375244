"""Touchpoints: one contact with one owner about one matter, with its whole life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.domain.errors import ConflictError


class State(StrEnum):
    """Where a touchpoint stands."""

    DEFERRED = "deferred"  # decided to be sent later; wakes by itself
    OPEN = "open"  # with the owner, unanswered
    ANSWERED = "answered"  # the owner chose something that still has to happen (asked to be called, …)
    BOOKED = "booked"  # an appointment stands
    FULFILLED = "fulfilled"  # the job is done
    WITHDRAWN = "withdrawn"  # it became untrue, or consent ended, before it was answered
    EXPIRED = "expired"  # nobody answered in time
    CLOSED = "closed"  # the owner ended it (not now, never, already done, noted)


LIVE = (State.DEFERRED, State.OPEN, State.ANSWERED, State.BOOKED)
"""States in which a touchpoint still needs something."""

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.DEFERRED: frozenset(
        {State.OPEN, State.ANSWERED, State.BOOKED, State.WITHDRAWN, State.EXPIRED, State.CLOSED}
    ),
    State.OPEN: frozenset(
        {State.DEFERRED, State.ANSWERED, State.BOOKED, State.WITHDRAWN, State.EXPIRED, State.CLOSED}
    ),
    State.ANSWERED: frozenset({State.OPEN, State.BOOKED, State.FULFILLED, State.CLOSED}),
    State.BOOKED: frozenset({State.OPEN, State.FULFILLED, State.CLOSED}),
    State.FULFILLED: frozenset(),
    State.WITHDRAWN: frozenset(),
    State.EXPIRED: frozenset(),
    State.CLOSED: frozenset(),
}
"""The legal transitions; `moved` refuses every other one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A rule became true for a device."""

    id: str
    device: str
    rule: str
    version: int
    severity: str
    position: int
    """journal position at which the episode began"""
    began_ts: int
    """device time at which the condition became true, ms"""
    found_at: int
    """receive time at which it was found, ms"""
    shadow: bool = False
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """{signal: value} as it was then"""
    cleared_at: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A time a workshop can take. The id is `{workshop}@{start ms}`: checked again at the tap."""

    workshop: str
    start: int
    end: int
    bay: str | None = None
    held_until: int | None = None
    buffer_ms: int = 0
    """how long the bay stays taken after `end`"""
    arrive_until: int | None = None
    """end of the arrival window that begins at `start`; None: at the workshop"""

    @property
    def id(self) -> str:
        return f"{self.workshop}@{self.start}"


ACTIONS = ("book", "not_now", "snooze", "never", "already_done", "noted", "call_me")
"""What answers a touchpoint: one of these holds, once."""

REQUESTS = ("other_time", "other_workshop")
"""What an owner may ask for without answering: the matter stays open, with other proposals."""

EXTRA_WORK = ("approve", "decline")
"""What answers a workshop's question for extra work; the touchpoint stays booked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the owner chose, on whichever channel."""

    action: str
    """one of ACTIONS; taken in also: `book:<slot id>`, one of REQUESTS"""
    channel: str
    """page, web_push, display, email, api, call_centre"""
    at: int
    by: str
    """owner id, or who answered for the owner"""
    slot: str | None = None
    comment: str | None = None
    until: int | None = None
    """snooze, not_now: when the matter returns, ms"""
    done_at: int | None = None
    """already_done: when, ms; None while nobody said"""
    workshop: str | None = None
    """already_done: where, if it was a workshop that is known here; other_workshop: which"""
    place: str | None = None
    """already_done: where, in the owner's words"""
    stay: str | None = None
    """book: what the owner does meanwhile: waits, replacement_car, drops_off; None: not asked"""

    def same_choice(self, other: Answer) -> bool:
        """Whether both chose the same, wherever and whenever."""
        return (self.action, self.slot) == (other.action, other.slot)


@dataclass(frozen=True, kw_only=True, slots=True)
class Touchpoint:
    """One contact with one owner about one matter."""

    id: str
    finding: str
    device: str
    owner: str
    rule: str
    rule_version: int
    kind: str
    """appointment, reminder, hint, notice"""
    service: str | None
    severity: str
    purpose: str
    state: State
    created: int
    wake_at: int | None = None
    """when a deferred one is decided again, and when a closed one (not now) returns, ms"""
    sent_at: int | None = None
    expires_at: int | None = None
    answer: Answer | None = None
    closed_at: int | None = None
    slots: tuple[Slot, ...] = ()
    """the proposals the owner was shown; checked again at the tap"""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    workshop: str | None = None
    """the workshop the owner chose for this matter; None: the product's own"""

    waits_for: str | None = None
    """of a deferred one: the code of the ledger line that says why"""

    @property
    def live(self) -> bool:
        """Whether it still needs something."""
        return self.state in LIVE


@dataclass(frozen=True, kw_only=True, slots=True)
class Matter:
    """One of the findings that a touchpoint is about."""

    finding: str
    rule: str
    version: int
    service: str | None
    severity: str
    purpose: str
    added_at: int
    """ms; of the touchpoint's own: when it was created"""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    cleared_at: int | None = None


SEVERITIES = ("advice", "warning", "critical")
"""From what may wait to what may not."""


def graver(severity: str) -> int:
    """How grave it is, as a number: the graver, the higher."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else 0


def services(matters: Sequence[Matter]) -> list[str]:
    """What is to be done about them, each service once, in their order."""
    return list(dict.fromkeys(matter.service for matter in matters if matter.service))


def check_move(touchpoint: Touchpoint, to: State) -> None:
    """Raise ConflictError, naming what holds, unless `to` may follow the present state."""
    if to not in TRANSITIONS[touchpoint.state]:
        raise ConflictError(f"This matter is {touchpoint.state} and cannot become {to}.", touchpoint)


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerLine:
    """One sentence of the owner's ledger, stored as code and parameters, worded when shown."""

    id: str
    at: int
    code: str
    """key under `ledger.` in config/messages"""
    params: Mapping[str, Any] = field(default_factory=dict)
    owner: str | None = None
    device: str | None = None
    finding: str | None = None
    touchpoint: str | None = None
