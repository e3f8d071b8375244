"""What the API takes and gives: one pydantic model each. Times are RFC 3339, in and out.

Each is built where it is first used: building them all would be a tenth of every command's start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from gateway.domain.appointment import Appointment, AppointmentState
from gateway.domain.delivery import DeliveryState, Reached
from gateway.domain.device import Device, Facts
from gateway.domain.feedback import AskState, Feedback
from gateway.domain.report import Report
from gateway.domain.slots import public_holidays
from gateway.domain.times import parse_rfc3339, rfc3339
from gateway.domain.touchpoint import State, Touchpoint
from rules.readings import Value

ZONES = frozenset(available_timezones())
EVERY_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


# --- the small ones -----------------------------------------------------------------------------


def _to_moment(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("a time with its zone is expected, for example 2026-11-23T07:34:00Z.")
    # In a query an unescaped "+01:00" arrives as " 01:00".
    text = re.sub(r" (\d\d:\d\d)$", r"+\1", value.strip())
    try:
        moment = parse_rfc3339(text)
        rfc3339(moment)  # what cannot be said again, at either end of the calendar, is not taken
        return moment
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{value!r} is no time with its zone; write it as 2026-11-23T07:34:00Z.") from error


def _to_every(value: object) -> object:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a length such as 30s, 10m, 1h or 1d is expected.")
    return int(match[1]) * EVERY_MS[match[2]]


def _zone(value: str) -> str:
    if value not in ZONES:
        raise ValueError(f"{value!r} is no IANA time zone, such as Europe/Berlin.")
    return value


def _printable(value: str) -> str:
    if not all(c.isprintable() or c == "\n" for c in value):
        raise ValueError("control characters are not possible.")
    return value


def _real_date(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError as error:
        raise ValueError(f"{value!r} is no date; write it as 2026-11-23.") from error


_DATE_TIME = {"type": "string", "format": "date-time", "examples": ["2026-11-23T07:34:00.000Z"]}

MomentIn = Annotated[int, BeforeValidator(_to_moment), WithJsonSchema(_DATE_TIME)]
"""RFC 3339 → ms"""
Moment = Annotated[int, PlainSerializer(rfc3339, return_type=str), WithJsonSchema(_DATE_TIME)]
"""ms → RFC 3339"""
Every = Annotated[
    int,
    BeforeValidator(_to_every),
    WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,5}[smhd]$", "examples": ["1h"]}),
]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Position = Annotated[int, Field(ge=0, le=2**53)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(_printable)]
Prose = Annotated[str, StringConstraints(max_length=4_000), AfterValidator(_printable)]
Zone = Annotated[
    str, AfterValidator(_zone), WithJsonSchema({"type": "string", "examples": ["Europe/Berlin"]})
]
Date = Annotated[str, AfterValidator(_real_date), WithJsonSchema({"type": "string", "format": "date"})]
Price = Annotated[int, Field(ge=0, le=1_000_000_000)]
LocalTime = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")]
Stay = Literal["waits", "replacement_car", "drops_off"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class In(BaseModel):
    """What is taken: unknown names are refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, defer_build=True)


class Out(BaseModel):
    """What is given."""

    model_config = ConfigDict(from_attributes=True, populate_by_name=True, defer_build=True)

    @classmethod
    def of(cls, thing: object) -> Self:
        """From a value of the domain whose fields have the same names."""
        return cls.model_validate(thing, from_attributes=True)


# --- owners -------------------------------------------------------------------------------------


class OwnerPut(In):
    """A person who owns products; what is left out takes its default."""

    name: Line
    email: Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)] | None = None
    phone: Line | None = None
    address: Line | None = None
    language: Language = Field("en", description="en or de; what is not spoken falls back to English.")
    time_zone: Zone = "Europe/Berlin"
    wishes: dict[str, Any] = Field(default_factory=dict, description="What workshops may rely on.")


class OwnerIn(OwnerPut):
    """A new owner."""

    id: Id | None = Field(None, description="Yours, or one is made.")


class OwnerOut(Out):
    """An owner."""

    id: str
    name: str
    email: str | None
    phone: str | None
    address: str | None
    language: str
    time_zone: str
    wishes: Mapping[str, Any]
    created: Moment


class ConsentIn(In):
    """Agree, or withdraw."""

    granted: bool
    text: Annotated[str, StringConstraints(min_length=1, max_length=40)] | None = Field(
        None, description="Version of the text that was shown; else the configured one."
    )


class ConsentEntry(Out):
    """One entry of a consent's history."""

    granted: bool
    at: Moment
    source: str = Field(description="Who recorded it.")
    by: str | None = Field(description="The owner, or the name of who took it down.")
    text: str | None = Field(description="Version of the text that was shown.")


class ConsentOut(Out):
    """A consent as it stands, with its history, newest first."""

    owner: str
    purpose: str
    granted: bool
    history: list[ConsentEntry]


class PreferencesIn(In):
    """When and how an owner wants to be reached; what is left out keeps its default."""

    quiet_from: LocalTime = "21:00"
    quiet_to: LocalTime = "07:00"
    channels: tuple[Literal["web_push", "display", "email", "letter", "webhook"], ...] = (
        "web_push",
        "display",
        "email",
        "letter",
        "webhook",
    )
    muted: tuple[Id, ...] = Field((), description="Rules the owner does not want to hear of.", max_length=200)
    weekly_budget: int = Field(2, ge=0, le=100, description="Service messages a week.")
    marketing_budget: int | None = Field(
        None, ge=0, le=100, description="Offers a week, beside the service messages; null: the operator's."
    )


class PreferencesOut(Out):
    """When and how an owner wants to be reached."""

    quiet_from: str
    quiet_to: str
    channels: tuple[str, ...]
    muted: tuple[str, ...]
    weekly_budget: int
    marketing_budget: int


class LedgerLineOut(Out):
    """One line of the owner's ledger, in the owner's language."""

    id: str
    at: Moment
    code: str
    params: Mapping[str, Any]
    text: str
    device: str | None
    finding: str | None
    touchpoint: str | None


class PushKeys(In):
    """Keys of the browser (RFC 8291)."""

    p256dh: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{86,88}={0,2}$")]
    auth: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22,24}={0,2}$")]


class SubscriptionIn(In):
    """What the browser's PushSubscription.toJSON() gives, and a label."""

    endpoint: Annotated[str, StringConstraints(max_length=2_000, pattern=r"^https?://[^\s]+$")]
    keys: PushKeys
    expiration_time: float | None = Field(None, alias="expirationTime")
    label: Line = "Browser"


class SubscriptionOut(Out):
    """A browser that may show messages; its address stays with us."""

    id: str
    owner: str
    label: str
    created: Moment


# --- devices ------------------------------------------------------------------------------------


class PlanIn(In):
    """A service plan: until when it pays for what."""

    name: Line | None = Field(None, description="As owners know it.")
    until: Date
    services: tuple[Word, ...] = Field((), max_length=200, description="What it contains; empty: everything.")


class CoverIn(In):
    """Who pays for what a product needs; null: that cover there is none."""

    warranty_until: Date | None
    plan: PlanIn | None


class DeviceIn(In):
    """A product instance."""

    id: Id
    kind: Word
    model: Line | None = None
    owner: Id | None = None
    name: Line | None = None
    plate: Line | None = None
    serial: Line | None = None
    purchased: Date | None = None
    warranty_until: Date | None = None
    plan: PlanIn | None = None
    workshop: Id | None = Field(None, description="The workshop its owner chose for it.")


class TransferIn(In):
    """Whose the device is from now on; null for nobody's."""

    owner: Id | None


class CoverOut(Out):
    """Who pays for what a product needs; null: that cover there is none."""

    warranty_until: str | None
    plan: dict[str, Any] | None = Field(description="name, until, services.")


class HoldingOut(Out):
    """Whose a device is; null for nobody's."""

    owner: str | None


class LatestOut(Out):
    """The newest reading of a signal."""

    ts: Moment
    value: Value


class FactsOut(Out):
    """What is known of a device now."""

    last_seen: Moment | None
    online: bool | None
    moving: bool
    moving_since: Moment | None
    open_findings: tuple[str, ...]
    latest: dict[str, LatestOut]

    @classmethod
    def of_facts(cls, facts: Facts) -> Self:
        """From the facts that assess keeps."""
        return cls(
            last_seen=facts.last_seen or None,
            online=facts.online,
            moving=facts.moving,
            moving_since=facts.moving_since,
            open_findings=facts.open,
            latest={name: LatestOut(ts=ts, value=value) for name, (ts, value) in facts.latest.items()},
        )


class DeviceOut(Out):
    """A device, registered or only heard of."""

    id: str
    registered: bool
    kind: str | None
    model: str | None = None
    owner: str | None = None
    name: str | None = None
    plate: str | None = None
    serial: str | None = None
    purchased: str | None = None
    warranty_until: str | None = None
    plan: dict[str, Any] | None = Field(None, description="name, until, services: the service plan.")
    workshop: str | None = None
    firmware: str | None = None
    created: Moment | None = None
    counters: dict[str, float] = Field(default_factory=dict, description="Signals that count up, now.")
    facts: FactsOut | None = None

    @classmethod
    def of_device(cls, device: Device, facts: Facts | None = None, counters: tuple[str, ...] = ()) -> Self:
        """A registered device, with facts where they are asked for."""
        out = cls.model_validate({**_fields(device), "registered": True})
        if facts is not None:
            out.facts = FactsOut.of_facts(facts)
            found = {name: facts.latest[name][1] for name in counters if name in facts.latest}
            out.counters = {
                name: float(value) for name, value in found.items() if isinstance(value, (int, float))
            }
        return out

    @classmethod
    def of_unclaimed(cls, facts: Facts, kind: str | None) -> Self:
        """A device that reported and that nobody registered."""
        return cls(id=facts.device, registered=False, kind=facts.kind or kind, facts=FactsOut.of_facts(facts))


def _fields(thing: Any) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in thing.__dataclass_fields__}


class ReadingOut(Out):
    """One value of a signal."""

    ts: Moment
    value: Value


class IntervalOut(Out):
    """One interval of a signal, by its start."""

    ts: Moment
    min: float
    mean: float
    max: float
    count: int


class ReadingsOut(Out):
    """Readings, or intervals where `every` is given."""

    items: list[ReadingOut] | list[IntervalOut]
    next: str | None

    @staticmethod
    def of_rows(rows: Iterable[tuple[Any, ...]], following: str | None, *, intervals: bool) -> ReadingsOut:
        """From what the time series gives, as text at once: thousands of readings are no thousands of
        models, which would keep the event loop from everybody else."""
        names = tuple((IntervalOut if intervals else ReadingOut).model_fields)
        items = [dict(zip(names, (rfc3339(row[0]), *row[1:]), strict=True)) for row in rows]
        made = ReadingsOut.model_construct(items=[], next=following)
        made._text = msgspec.json.encode({"items": items, "next": following}).decode()
        return made

    _text: str = PrivateAttr("")

    def text(self) -> str:
        """The JSON text."""
        return self._text


# --- workshops ----------------------------------------------------------------------------------


class SparePartIn(In):
    """A part that a job needs."""

    name: Line
    days: int = Field(0, ge=0, le=365, description="Whole days until it can be at the workshop.")


class SparePartOut(Out):
    """A part that a job needs."""

    name: str
    days: int


class ServiceIn(In):
    """A job a workshop does."""

    id: Word
    names: dict[Language, Line] = Field(min_length=1, description="By language.")
    minutes: int = Field(ge=5, le=7 * 24 * 60)
    price_from: Price | None = Field(None, description="Whole currency units, with VAT.")
    price_to: Price | None = None
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "EUR"
    lead_days: int = Field(1, ge=0, le=365, description="Whole days before the first slot on offer.")
    skills: tuple[Line, ...] = Field((), max_length=20, description="What its bay must be able to do.")
    buffer_minutes: int = Field(0, ge=0, le=720, description="How long the bay stays taken afterwards.")
    parts: tuple[SparePartIn, ...] = Field((), max_length=50, description="No slot before they are there.")
    at_home: bool = Field(False, description="Done at the owner's home; slots are arrival windows.")
    vat_percent: float | None = Field(None, ge=0, le=100, description="The VAT that the price contains.")
    price_valid_until: Date | None = None
    warranty: bool = Field(False, description="The manufacturer's warranty pays for it while it runs.")


class ServiceOut(Out):
    """A job a workshop does."""

    id: str
    names: Mapping[str, str]
    minutes: int
    price_from: int | None
    price_to: int | None
    currency: str
    lead_days: int
    skills: tuple[str, ...]
    buffer_minutes: int
    parts: tuple[SparePartOut, ...]
    at_home: bool
    vat_percent: float | None
    price_valid_until: str | None
    warranty: bool


class ExceptionIn(In):
    """A date on which a workshop is not open as usual."""

    date: Date
    hours: tuple[tuple[LocalTime, LocalTime], ...] = Field((), description="Empty: closed.")
    reason: Line | None = None


class ExceptionOut(Out):
    """A date on which a workshop is not open as usual."""

    date: str
    hours: tuple[tuple[str, str], ...]
    reason: str | None


class HomeVisitsIn(In):
    """How technicians come to owners: to some postcodes, around a point, or, where neither is said, to
    everybody."""

    window_minutes: int = Field(120, ge=30, le=720, description="Length of an arrival window.")
    travel_minutes: int = Field(30, ge=0, le=720, description="From one job to the next.")
    technicians: tuple[Line, ...] = Field((), max_length=100, description="The bays that travel; empty: all.")
    postcodes: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,5}$")], ...] = Field(
        (), max_length=1_000, description="Beginnings of postcodes."
    )
    latitude: float | None = Field(None, ge=-90, le=90)
    longitude: float | None = Field(None, ge=-180, le=180)
    radius_km: float | None = Field(None, gt=0, le=1_000)


class HomeVisitsOut(Out):
    """How technicians come to owners."""

    window_minutes: int
    travel_minutes: int
    technicians: tuple[str, ...]
    postcodes: tuple[str, ...]
    latitude: float | None
    longitude: float | None
    radius_km: float | None


class WorkshopPut(In):
    """Who does the work; what is left out takes its default."""

    name: Line
    address: Line | None = None
    phone: Line | None = None
    time_zone: Zone = "Europe/Berlin"
    bays: tuple[Line, ...] = Field(("Bay 1",), min_length=1, max_length=100)
    hours: dict[Day, tuple[tuple[LocalTime, LocalTime], ...]] = Field(
        default_factory=dict, description='{"mon": [["08:00", "18:00"]], …}; a day that is missing is closed.'
    )
    holidays: tuple[Date, ...] = Field((), max_length=1_000)
    services: tuple[ServiceIn, ...] = Field((), max_length=200)
    books: Literal["at_once", "on_request"] = "at_once"
    exceptions: tuple[ExceptionIn, ...] = Field(
        (), max_length=1_000, description="Dates that are closed or have other hours; above holidays."
    )
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] | None = Field(
        None, description="ISO 3166-1: closed on that country's public holidays."
    )
    region: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{1,3}$")] | None = Field(
        None, description="ISO 3166-2 subdivision, for its own public holidays."
    )
    skills: dict[Line, tuple[Line, ...]] = Field(
        default_factory=dict, description='{"Bay 1": ["ev"]}: what each bay can do beyond the usual.'
    )
    answer_hours: int = Field(24, ge=1, le=336, description="A request without an answer ends then.")
    replacement_cars: int | None = Field(None, ge=0, le=1_000, description="A day; null: none is stated.")
    home: HomeVisitsIn | None = None
    email: Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)] | None = Field(
        None, description="Where it takes requests by mail."
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        everywhere = [*self.hours.items(), *((e.date, e.hours) for e in self.exceptions)]
        for day, spans in everywhere:
            for begin, end in spans:
                if begin >= end:
                    raise ValueError(f"hours of {day}: {begin} is not before {end}.")
        travelling = self.home.technicians if self.home else ()
        strange = sorted({*self.skills, *travelling} - set(self.bays))
        if strange:
            raise ValueError(f"{strange[0]} is none of the bays.")
        if self.country is not None:
            public_holidays(self.country, self.region, 2026)
        for what, names in (("bay", self.bays), ("service", [service.id for service in self.services])):
            if len(set(names)) < len(names):
                raise ValueError(f"the same {what} stands there twice.")
        return self


class WorkshopIn(WorkshopPut):
    """A new workshop."""

    id: Id | None = Field(None, description="Yours, or one is made.")


class WorkshopOut(Out):
    """Who does the work."""

    id: str
    name: str
    address: str | None
    phone: str | None
    time_zone: str
    bays: tuple[str, ...]
    hours: Mapping[str, tuple[tuple[str, str], ...]]
    holidays: tuple[str, ...]
    services: tuple[ServiceOut, ...]
    books: str
    exceptions: tuple[ExceptionOut, ...]
    country: str | None
    region: str | None
    skills: Mapping[str, tuple[str, ...]]
    answer_hours: int
    replacement_cars: int | None
    home: HomeVisitsOut | None
    email: str | None
    created: Moment


class SlotOut(Out):
    """A time a workshop can take; `id` is what an answer names."""

    id: str
    workshop: str
    start: Moment
    end: Moment
    held_until: Moment | None
    arrive_until: Moment | None = Field(description="At home: end of the arrival window from `start`.")


# --- touchpoints --------------------------------------------------------------------------------


class VerifyIn(In):
    """How the caller is known: by their code, or by two things or more that they were asked and knew."""

    code: Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")] | None = Field(None, examples=["042137"])
    asked: tuple[Literal["plate", "serial", "address", "phone", "email", "purchased"], ...] = Field(
        (), max_length=6, examples=[[]]
    )
    agent: Annotated[str, StringConstraints(pattern=r"^[^:\x00-\x1f]{1,60}$")] | None = Field(
        None, description="Of another system: who there speaks with the caller. It stands in the ledger."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> VerifyIn:
        if (self.code is None) == (not self.asked):
            raise ValueError("name either code or asked.")
        return self


class ForOwner(In):
    """On what strength somebody else than the owner says it: the caller was verified in the touchpoint's
    conversation in the last half hour, or is by `verified`, or it came through the owner's app. Who has
    signed in is refused without (403, `unverified`); a token's word is taken, and the owner told that."""

    through: Literal["app", "telephone"] | None = Field(
        None,
        description="Of another system: app when the owner says it themselves, signed in to the "
        "manufacturer's app. Else somebody takes it down for them on the telephone.",
    )
    verified: VerifyIn | None = Field(
        None, description="How the caller was verified, where that was not said before."
    )


class AnswerIn(ForOwner):
    """What the owner chose."""

    action: Annotated[str, StringConstraints(min_length=1, max_length=160)] = Field(
        description="book, not_now, snooze, never, already_done, noted, call_me; other_time and"
        " other_workshop change the proposals and leave the matter open."
    )
    slot: Annotated[str, StringConstraints(max_length=300)] | None = Field(
        None, description="book: its id; up to three, each of another workshop, between commas, ask them all."
    )
    stay: Stay | None = Field(None, description="book: what the owner does meanwhile; null: not asked.")
    comment: Prose | None = None
    until: Annotated[str, StringConstraints(max_length=40)] | None = Field(
        None,
        description="snooze, not_now: when it returns; tomorrow, weekend, next_week, a day or a time.",
        examples=["next_week", "2026-12-01"],
    )
    done_on: Annotated[str, StringConstraints(max_length=10)] | None = Field(
        None, description="already_done: the day, 2026-11-20.", examples=["2026-11-20"]
    )
    workshop: Id | None = Field(None, description="already_done: where; other_workshop: which.")
    place: Line | None = Field(None, description="already_done: where, if it was none of the workshops.")
    for_product: bool = Field(False, description="other_workshop: for this product from now on, too.")


class AnswerOut(Out):
    """What the owner chose, where and when."""

    action: str
    slot: str | None
    comment: str | None
    channel: str
    at: Moment
    by: str
    until: Moment | None
    done_at: Moment | None
    workshop: str | None
    place: str | None


class ReturnIn(ForOwner):
    """When a matter that was put off is to come back."""

    until: Annotated[str, StringConstraints(max_length=40)] | None = Field(
        None, description="tomorrow, weekend, next_week, a day or a time; left out: at once."
    )


class WorkshopRef(Out):
    """A workshop that can be chosen."""

    id: str
    name: str
    address: str | None
    phone: str | None


class TouchpointOut(Out):
    """One contact with one owner about one matter."""

    id: str
    rule: str
    rule_version: int
    finding: str
    device: str
    owner: str
    kind: str
    service: str | None
    severity: str
    purpose: str
    state: State
    created: Moment
    wake_at: Moment | None
    sent_at: Moment | None
    expires_at: Moment | None
    closed_at: Moment | None
    answer: AnswerOut | None
    slots: tuple[SlotOut, ...]
    workshop: str | None
    evidence: Mapping[str, Any]


class MatterOut(Out):
    """One of the findings that a touchpoint is about."""

    finding: str
    rule: str
    version: int
    service: str | None
    severity: str
    purpose: str
    added_at: Moment
    evidence: Mapping[str, Any]
    cleared_at: Moment | None


class TouchpointDetail(TouchpointOut):
    """A touchpoint with everything that it is about."""

    matters: list[MatterOut] = Field(description="Its own finding first, then those that share the visit.")


# --- what owners report -------------------------------------------------------------------------


class ReportIn(In):
    """Something is wrong."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    photo: str | None = Field(None, description="JPEG, PNG or WebP in base64, up to 8 MB.")


class ReportOut(Out):
    """What an owner reported, with what the product sent around that moment."""

    id: str
    device: str
    owner: str
    text: str
    photo: str | None = Field(description="Id of an attachment: GET /attachments/{id}.")
    touchpoint: str
    created: Moment
    around: Mapping[str, Any] = Field(description="Readings, newest values, findings and codes; times in ms.")
    matter: TouchpointOut | None = Field(None, description="The touchpoint it opened, when it is new.")

    @classmethod
    def of_report(cls, report: Report, matter: TouchpointOut | None = None) -> Self:
        """From a report; `matter` with the one that was just opened."""
        return cls.of(report).model_copy(update={"matter": matter})


class AttachmentIn(In):
    """A photo."""

    photo: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="JPEG, PNG or WebP in base64, up to 8 MB."
    )


class AttachmentOut(Out):
    """A photo as it is kept; GET /attachments/{id} gives the picture."""

    id: str
    kind: str
    media_type: str
    created: Moment


# --- appointments -------------------------------------------------------------------------------


class AppointmentOut(Out):
    """A booked time at a workshop, with the diagnosis."""

    id: str
    workshop: str
    service: str
    bay: str
    start: Moment
    end: Moment
    state: AppointmentState
    created: Moment
    owner: str | None
    device: str | None
    touchpoint: str | None
    label: str | None
    diagnosis: Mapping[str, Any]
    code_meanings: Mapping[str, str] = Field({}, description="The diagnosis's trouble codes, in words.")
    done_at: Moment | None
    work: Mapping[str, Any]
    services: tuple[str, ...] = Field(validation_alias="jobs", description="All jobs of the visit.")
    arrive_until: Moment | None = Field(description="At home: end of the arrival window from `start`.")
    address: str | None = Field(description="At home: where.")
    stay: str | None = Field(description="waits, replacement_car, drops_off; null: nobody asked.")
    terms: Mapping[str, Any] = Field(description="Who pays, by service, as it was stated at booking.")
    answer_by: Moment | None = Field(description="When it ends if nobody answers.")
    remind_at: Moment | None
    wished: tuple[Moment, ...] = Field(description="Times that the owner asks for instead.")
    offered: tuple[Moment, ...] = Field(description="Times that the workshop offers instead.")
    reason: str | None
    progress: Mapping[str, Moment] = Field(description="When it was checked in, in work, ready.")
    sequence: int


class WorkIn(In):
    """What was done."""

    note: Prose = ""
    parts: tuple[Line, ...] = Field((), max_length=100)
    price: Price | None = Field(None, description="What the owner pays in the end, with VAT.")
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = None
    fixed: bool | None = Field(None, description="Whether what was found is mended.")


class CounterIn(In):
    """Other times that the workshop proposes."""

    starts: tuple[MomentIn, ...] = Field(min_length=1, max_length=10)
    reason: Prose | None = None


class RescheduleIn(ForOwner):
    """Another slot."""

    slot: Annotated[str, StringConstraints(max_length=100)]


# --- afterwards and operating --------------------------------------------------------------------


class FeedbackIn(ForOwner):
    """The answer to the one question."""

    score: int = Field(ge=0, le=10, description="Each question has its own lowest and highest.")
    comment: Prose | None = None
    expected: Literal["better", "as", "worse"] | None = Field(
        None, description="Better, as or worse than expected; nobody has to say."
    )


class FeedbackOut(Out):
    """A question afterwards, and its answer."""

    id: str
    touchpoint: str | None = Field(description="null: a question on the way (nps), about the product.")
    owner: str
    device: str | None
    question: str
    state: AskState = Field(description="waiting for room in the budget, asked, or dropped.")
    asked_at: Moment
    score: int | None
    comment: str | None
    answered_at: Moment | None
    expected: str | None


class RuleOut(Out):
    """A rule, as deciding knows it."""

    id: str
    version: int
    kind: str
    purpose: str
    severity: str
    touchpoint_kind: str
    service: str | None
    shadow: bool
    when: str = Field(validation_alias="condition")
    for_ms: int = Field(description="How long it has to be true without a break.")
    clear: str | None = Field(description="What ends an episode; null: that `when` is false.")
    signals: tuple[str, ...]
    resets: tuple[str, ...]
    limit: float | None
    source: str | None


class PartOut(Out):
    """One part of a condition, and what it was."""

    text: str = Field(description="As the rule writes it.")
    words: str = Field(description="What it asks, in the language of who asks.")
    value: Value | None = Field(description="null: it cannot be told.")
    unit: str | None
    value_words: str
    note: str = Field(description="Why it cannot be told, or when its signal was measured.")
    parts: list[PartOut]


class ExplanationOut(Out):
    """Why a rule is, or is not, true for a device."""

    rule: str
    version: int
    device: str
    at: Moment = Field(description="By the device's own clock.")
    holds: bool | None = Field(description="null: it cannot be told, and so is not true.")
    pending_since: Moment | None = Field(description="True since then, but not yet for as long as it asks.")
    open_since: Moment | None = Field(description="Its episode has been open since then.")
    headline: str
    because: str = Field(description="The part that decides, in words.")
    when: PartOut
    clear: PartOut | None


class ReloadOut(Out):
    """What became of reading the rules again."""

    id: str = Field(description="Of the activation; its control entry in the journal has the same.")
    rule_set: str = Field(description="Hash of the texts.")
    rules: int = Field(description="How many rules it has.")
    changed: bool = Field(description="false: the files make the set that was asked for last.")
    position: int | None = Field(description="Of the journal, from which on it holds; null: on its way.")


class QuarantineOut(Out):
    """A message that could not be decoded."""

    position: int
    received: Moment
    topic: str
    reason: str
    detail: str
    replayed: Moment | None
    size: int
    payload: str = Field(description="Base64.")
    text: str | None = Field(description="The payload where it is UTF-8.")


class ReplayIn(In):
    """Which messages to put into the journal again: some, or all of one reason."""

    positions: tuple[Position, ...] = Field((), max_length=5_000)
    reason: Word | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.positions) == bool(self.reason):
            raise ValueError("name either positions or a reason.")
        return self


class ReplayOut(Out):
    """What a replay did."""

    replayed: int


class AttemptOut(Out):
    """One try of a delivery."""

    number: int
    at: Moment
    result: str
    detail: str


class DeliveryOut(Out):
    """A row of the outbox."""

    id: str
    channel: str
    target: str
    key: str
    touchpoint: str | None
    owner: str | None
    state: DeliveryState
    due_at: Moment
    attempts: int
    lease_until: Moment | None
    created: Moment
    expires_at: Moment | None


class OutcomeOut(Out):
    """How far a delivery is known to have come."""

    outcome: Reached
    at: Moment


class DeliveryDetail(DeliveryOut):
    """A row of the outbox with its attempts, and how far it is known to have come."""

    tries: list[AttemptOut]
    outcomes: list[OutcomeOut]


class ReaderOut(Out):
    """A reader of the journal."""

    position: int
    lag: int


class JournalOut(Out):
    """The journal now."""

    head: int
    first: int
    bytes: int
    max_bytes: int
    readers: dict[str, ReaderOut]


def shape_of(thing: object) -> dict[str, Any] | None:
    """What holds, in a conflict, as the API shows it."""
    if isinstance(thing, Touchpoint):
        return TouchpointOut.of(thing).model_dump(mode="json")
    if isinstance(thing, Appointment):
        return AppointmentOut.of(thing).model_dump(mode="json")
    if isinstance(thing, Feedback):
        return FeedbackOut.of(thing).model_dump(mode="json")
    return thing if isinstance(thing, dict) else None
