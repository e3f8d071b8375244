"""Workshops, slots and appointments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part that a job needs."""

    name: str
    days: int = 0
    """whole days until it can be at the workshop"""


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
    """whole days before the first slot that may be offered (planning)"""
    skills: tuple[str, ...] = ()
    """what the bay must be able to do: "ev", "aircon", …"""
    buffer_minutes: int = 0
    """how long the bay stays taken after the job"""
    parts: tuple[Part, ...] = ()
    """what it needs; no slot is offered before all of it can be there"""
    at_home: bool = False
    """done at the owner's home: its slots are arrival windows"""
    vat_percent: float | None = None
    """the VAT that the price contains, where the workshop states it"""
    price_valid_until: str | None = None
    """ISO date until which the price holds; None when the workshop states none"""
    warranty: bool = False
    """the manufacturer's warranty pays for it while it runs; wear is not covered"""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpeningException:
    """A date on which a workshop is not open as usual."""

    date: str
    """ISO date at the workshop"""
    hours: tuple[tuple[str, str], ...] = ()
    """from – to; empty: closed"""
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HomeVisits:
    """How a workshop's technicians come to owners."""

    window_minutes: int = 120
    """length of an arrival window"""
    travel_minutes: int = 30
    """from one job to the next"""
    technicians: tuple[str, ...] = ()
    """the bays that travel; empty: all of them"""
    postcodes: tuple[str, ...] = ()
    """beginnings of the postcodes it comes to"""
    latitude: float | None = None
    longitude: float | None = None
    radius_km: float | None = None
    """how far around that point it comes"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Who pays for a job, and how much, as it was stated."""

    payer: str
    """warranty, recall, plan, owner"""
    price_from: int | None = None
    """whole currency units, with VAT; only where the owner pays"""
    price_to: int | None = None
    currency: str = "EUR"
    vat_percent: float | None = None
    valid_until: str | None = None
    """ISO date until which this holds: of the price, the warranty, the plan"""
    name: str | None = None
    """of the service plan"""


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
    exceptions: tuple[OpeningException, ...] = ()
    """single dates with other hours, or closed, and why; they stand above holidays"""
    country: str | None = None
    """ISO 3166-1 alpha-2: closed on that country's public holidays; None: only on `holidays`"""
    region: str | None = None
    """subdivision for its own public holidays, e.g. HH"""
    skills: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{bay: what it can do}; a bay that is missing does what needs no skill"""
    services: tuple[Service, ...] = ()
    books: str = "at_once"
    """at_once, or on_request (the owner then reads "Requested")"""
    answer_hours: int = 24
    """a request that it has not answered by then ends"""
    replacement_cars: int | None = None
    """how many it has a day; None: it states no number"""
    home: HomeVisits | None = None
    """None: it comes to nobody"""
    email: str | None = None
    """where it takes requests by mail"""
    created: int = 0

    def service(self, service_id: str | None) -> Service | None:
        """The service of that id, None when it does not offer it."""
        return next((s for s in self.services if s.id == service_id), None)


class AppointmentState(StrEnum):
    """Where an appointment stands."""

    REQUESTED = "requested"  # the workshop has not said yes yet
    WISHED = "wished"  # the owner asks for times that nobody offered; it takes up no bay yet
    COUNTERED = "countered"  # the workshop offers other times, the owner has not chosen yet
    CONFIRMED = "confirmed"  # it stands
    CHECKED_IN = "checked_in"  # the product is at the workshop, or the technician at the door
    IN_WORK = "in_work"  # the job has begun
    READY = "ready"  # the job is done, the product waits to be fetched
    DONE = "done"  # the job is finished
    CANCELLED = "cancelled"  # by owner or workshop
    DECLINED = "declined"  # the workshop cannot take it
    LAPSED = "lapsed"  # the workshop did not answer in time
    RELEASED = "released"  # several were asked, another workshop was first
    NO_SHOW = "no_show"  # nobody came


HERE = (AppointmentState.CHECKED_IN, AppointmentState.IN_WORK, AppointmentState.READY)
"""The job is on."""

STANDING = (AppointmentState.REQUESTED, AppointmentState.CONFIRMED, *HERE)
"""Something is going to happen at that time."""

PENDING = (AppointmentState.REQUESTED, AppointmentState.WISHED, AppointmentState.COUNTERED)
"""One side waits for the other's word."""

BUSY = (*STANDING, AppointmentState.DONE)
"""States that take up a bay."""

ENDED = (
    AppointmentState.CANCELLED,
    AppointmentState.DECLINED,
    AppointmentState.LAPSED,
    AppointmentState.RELEASED,
    AppointmentState.NO_SHOW,
)
"""Nothing came of it."""


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
    """what was done: {"note", "parts", "price", "currency", "kept": {"time", "price", "fixed"}}"""
    services: tuple[str, ...] = ()
    """all jobs of the visit, `service` first; empty: only that one"""
    buffer_ms: int = 0
    """how long the bay stays taken after `end`: cleaning up, or the way to the next owner"""
    arrive_until: int | None = None
    """end of the arrival window that begins at `start`; None: the owner comes to the workshop"""
    address: str | None = None
    """where the technician comes; None at the workshop"""
    stay: str | None = None
    """waits, replacement_car, drops_off; None when the owner was not asked or did not say"""
    terms: Mapping[str, Any] = field(default_factory=dict)
    """`Terms` as they were when it was booked, by service; empty where none were stated"""
    answer_by: int | None = None
    """when a pending one lapses"""
    remind_at: int | None = None
    """when the owner is reminded; None when it was done, or there is nothing to remind of"""
    wished: tuple[int, ...] = ()
    """starts that the owner asks for instead, ms"""
    offered: tuple[int, ...] = ()
    """starts that the workshop offers instead, ms"""
    reason: str | None = None
    """why it was declined, countered or cancelled, in the words of who did it"""
    progress: Mapping[str, int] = field(default_factory=dict)
    """{"checked_in", "in_work", "ready": ms}"""
    sequence: int = 0
    """how often time or place changed (RFC 5545 section 3.8.7.4)"""

    @property
    def jobs(self) -> tuple[str, ...]:
        """All services of the visit."""
        return self.services or (self.service,)

    @property
    def bay_until(self) -> int:
        """When the bay is free again, ms."""
        return self.end + self.buffer_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """A slot kept for one touchpoint for a while."""

    touchpoint: str
    workshop: str
    bay: str
    start: int
    end: int
    until: int
    buffer_ms: int = 0
    """how long the bay stays taken after `end`"""


@dataclass(frozen=True, kw_only=True, slots=True)
class BusyTime:
    """A time that a workshop's own calendar has taken."""

    workshop: str
    start: int
    end: int
    source: str
    """which feed or system says so; a new version of it replaces the old one"""
    bay: str | None = None
    """None: nobody there has time"""
    uid: str | None = None
    """its name in the source"""


class ExtraState(StrEnum):
    """Where a question for extra work stands."""

    ASKED = "asked"  # the owner has not answered yet
    APPROVED = "approved"  # it may be done
    DECLINED = "declined"  # it must not be done
    LAPSED = "lapsed"  # no answer in time: it is not done


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtraWork:
    """What a workshop found beyond the job, with its price: done only when the owner says so."""

    id: str
    appointment: str
    owner: str
    reason: str
    price: int
    """whole currency units, with VAT"""
    currency: str = "EUR"
    photo: str | None = None
    """id of an attachment"""
    minutes: int = 0
    """how much longer it takes"""
    state: ExtraState = ExtraState.ASKED
    asked_at: int
    answer_by: int
    answered_at: int | None = None
    by: str | None = None
    """who answered"""
    channel: str | None = None
