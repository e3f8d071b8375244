"""Workshops, slots and appointments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A job a workshop does."""

    id: str
    """brakes-front, …: what a rule's touchpoint names"""
    names: Mapping[str, str]
    """{language: name}"""
    minutes: int
    price_from: int | None = None
    """whole currency units, with VAT; None when the workshop states none, then none is shown"""
    price_to: int | None = None
    currency: str = "EUR"
    lead_days: int = 1
    """whole days before the first slot that may be offered (parts, planning)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """Who does the work."""

    id: str
    name: str
    address: str | None = None
    phone: str | None = None
    time_zone: str = "Europe/Berlin"
    bays: tuple[str, ...] = ("Bay 1",)
    hours: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """{"mon": (("08:00", "18:00"),), …}; a day that is missing is closed"""
    holidays: tuple[str, ...] = ()
    """ISO dates on which it is closed"""
    services: tuple[Service, ...] = ()
    books: str = "at_once"
    """at_once, or on_request (the owner then reads "Requested")"""
    created: int = 0

    def service(self, service_id: str | None) -> Service | None:
        """The service of that id, None when it does not offer it."""
        return next((s for s in self.services if s.id == service_id), None)


class AppointmentState(StrEnum):
    """Where an appointment stands."""

    REQUESTED = "requested"  # the workshop has not said yes yet
    CONFIRMED = "confirmed"  # it stands
    DONE = "done"  # the job is finished
    CANCELLED = "cancelled"  # by owner or workshop
    NO_SHOW = "no_show"  # nobody came


BUSY = (AppointmentState.REQUESTED, AppointmentState.CONFIRMED, AppointmentState.DONE)
"""States that take up a bay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Appointment:
    """A booked time at a workshop, with the diagnosis."""

    id: str
    workshop: str
    service: str
    bay: str
    start: int
    end: int
    state: AppointmentState
    created: int
    owner: str | None = None
    """None for the workshop's own entries"""
    device: str | None = None
    touchpoint: str | None = None
    label: str | None = None
    """what the workshop wrote for its own entries"""
    diagnosis: Mapping[str, Any] = field(default_factory=dict)
    """{"finding", "rule", "evidence": {signal: value}, "codes": [..], "odometer", "firmware",
    "promised": {"minutes", "price_from", "price_to", "currency"}}"""
    done_at: int | None = None
    work: Mapping[str, Any] = field(default_factory=dict)
    """what was done: {"note", "parts"}"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """A slot kept for one touchpoint for a while."""

    touchpoint: str
    workshop: str
    bay: str
    start: int
    end: int
    until: int
