"""How invitations read: the mail, and the event in it, in the language of who gets them.

Worded when they are sent: what was overtaken meanwhile is not sent at all (see itip.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from gateway.domain import ical
from gateway.domain.appointment import ENDED, Appointment, AppointmentState, Workshop
from gateway.domain.calendars import CalendarEvent, Party, plus_address, reply_token
from gateway.domain.delivery import Delivery
from gateway.domain.device import Device
from gateway.domain.errors import NotFoundError
from gateway.domain.owner import Owner
from gateway.domain.policy import Policy
from gateway.domain.texts import Texts
from gateway.domain.visit_words import arrival, code_words, terms_of_visit
from gateway.domain.wording import Words, touchpoint_words
from gateway.flow import consents, course
from gateway.ports import Records
from rules import Catalogue

INVITATION, DECLINE_COUNTER = "invitation", "decline_counter"
ABOUT = (INVITATION, DECLINE_COUNTER)
"""What this module words; `payload["about"]` of their deliveries."""

OWNER_ALARM_MINUTES = 120
"""How long before the visit the owner's calendar rings."""

SAID_MOST = 500
"""Characters of what an owner says themselves; the page has all of it."""

NOTE_MOST = 200
"""Characters of what was noted at an earlier visit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Speech:
    """With what it is worded."""

    texts: Texts
    signals: Catalogue
    policy: Policy
    public_url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Telling:
    """One appointment, told to one party."""

    speech: Speech
    party: Party
    language: str
    zone: str
    appointment: Appointment
    workshop: Workshop
    event: CalendarEvent | None = None
    owner: Owner | None = None
    device: Device | None = None
    words: Words | None = None
    """of the matter behind it"""

    def say(self, key: str, **params: Any) -> str:
        return self.speech.texts.say(self.language, f"calendars.{key}", **params)

    @property
    def service(self) -> str:
        """All jobs of the visit by name."""
        return self.appointment.label or " + ".join(_job(self, job) for job in self.appointment.jobs)

    @property
    def product(self) -> str:
        return " · ".join(p for p in (self.device.title, self.device.plate) if p) if self.device else ""

    @property
    def moment(self) -> str:
        """When it begins; at home when the technician arrives."""
        a = self.appointment
        return arrival(self.speech.texts, self.language, a.start, a.arrive_until, self.zone, "moment")

    @property
    def until(self) -> int:
        """When it is over at the latest, ms: at home the technician may set to work at the window's end. The
        workshop plans by when they set out."""
        a = self.appointment
        if a.arrive_until is None or self.party is Party.WORKSHOP:
            return a.end
        return a.arrive_until + (a.end - a.start)

    @property
    def url(self) -> str:
        """Where the visit stands on our pages."""
        if self.party is Party.WORKSHOP:
            return f"{self.speech.public_url}/workshop?booking={self.appointment.id}"
        return f"{self.speech.public_url}/me/visits/{self.appointment.id}"


def _job(told: Telling, job: str) -> str:
    known = told.workshop.service(job)
    return (known.names.get(told.language) or known.names.get("en") or job) if known else job


class Look:
    """Reads of one transaction, each done once, however many visits are told."""

    def __init__(self, records: Records) -> None:
        self.workshop = cache(records.workshops.get)
        self.device = cache(records.devices.find)
        self.owner = cache(records.owners.get)
        self.spoken = cache(lambda workshop: records.calendars.settings(workshop).language)


def tell(records: Records, appointment: Appointment, party: Party, speech: Speech, now: int) -> Telling:
    """Everything that one party is told."""
    about = True
    if party is Party.WORKSHOP:
        about = consents.may_share(records, appointment)
        appointment = consents.handed(records, appointment)
    told = outline(Look(records), appointment, party, speech, records.calendars.event(appointment.id))
    return replace(told, words=_words(records, told, now)) if about else told


def outline(
    look: Look, appointment: Appointment, party: Party, speech: Speech, event: CalendarEvent | None
) -> Telling:
    """Whose visit it is, when and where, without what was found."""
    workshop = look.workshop(appointment.workshop)
    owner = _owner(look, appointment)
    return Telling(
        speech=speech,
        party=party,
        language=owner.language if party is Party.OWNER and owner else look.spoken(workshop.id),
        zone=workshop.time_zone,
        appointment=appointment,
        workshop=workshop,
        event=event,
        owner=owner,
        device=look.device(appointment.device) if appointment.device else None,
    )


def _owner(look: Look, appointment: Appointment) -> Owner | None:
    try:
        return look.owner(appointment.owner) if appointment.owner else None
    except NotFoundError:
        return None


def _words(records: Records, told: Telling, now: int) -> Words | None:
    if told.appointment.touchpoint is None or told.device is None:
        return None
    touchpoint = records.touchpoints.get(told.appointment.touchpoint)
    speech = told.speech
    rule = speech.policy.rules.get(touchpoint.rule)
    zone = told.owner.time_zone if told.party is Party.OWNER and told.owner else told.zone
    return touchpoint_words(
        touchpoint,
        told.device,
        told.workshop,
        rule,
        speech.signals,
        speech.texts,
        told.language,
        zone,
        now=now,
    )


# --- the mail ---------------------------------------------------------------------------------


def render(records: Records, delivery: Delivery, now: int, speech: Speech) -> Delivery | None:
    """The delivery with its mail; None when it was overtaken, or is about nothing any more."""
    payload = delivery.payload
    try:
        appointment = records.workshops.appointment(str(payload["appointment"]))
    except NotFoundError:
        return None
    told = tell(records, appointment, Party(payload["party"]), speech, now)
    if told.event is None or told.event.sequence != payload["sequence"]:
        return None
    to = str(payload["to"])
    if payload["about"] == DECLINE_COUNTER:
        mail = _refusal(told, payload, to, now)
    else:
        mail = _invitation(told, str(payload["method"]), to, now)
        if told.party is Party.WORKSHOP and told.words is not None and payload["method"] != "CANCEL":
            mail[course.KEY] = course.of(records, appointment, speech.policy, told.language, told.zone)
    return replace(delivery, payload={**payload, **mail, "language": told.language})


def _invitation(told: Telling, method: str, to: str, now: int) -> dict[str, Any]:
    kind = _kind(told)
    lines = [
        told.say(f"lead.{told.party}.{kind}", workshop=told.workshop.name, url=told.url),
        "",
        *_facts(told),
    ]
    if method != "CANCEL":
        lines += ["", _how_to_answer(told)]
    subject = told.say(
        f"subject.{told.party}.{kind}", service=told.service, moment=told.moment, product=told.product
    )
    return _mail(told, to, subject, lines, method, visit(told, to, now))


def _refusal(told: Telling, payload: Mapping[str, Any], to: str, now: int) -> dict[str, Any]:
    """DECLINECOUNTER with the reason in words (RFC 5546 section 3.2.8)."""
    asked = payload.get("asked")
    when = told.speech.texts.moment(told.language, asked, told.zone) if isinstance(asked, int) else ""
    why = told.say(f"refused.{payload['why']}", asked=when)
    lines = [why, "", told.say("refused.holds", service=told.service, moment=told.moment), told.url]
    event = ical.with_comment(visit(told, to, now), why)
    subject = told.say("subject.refused", service=told.service, asked=when)
    return _mail(told, to, subject, lines, "DECLINECOUNTER", event)


def _mail(
    told: Telling, to: str, subject: str, lines: list[str], method: str, event: ical.Visit
) -> dict[str, Any]:
    headers = {"Auto-Submitted": "auto-generated"}
    if told.speech.policy.reply_address:
        headers["Reply-To"] = organizer(told, to)
    return {
        "to": to,
        "subject": " ".join(subject.split()),
        "text": "\n".join(lines) + "\n",
        "html": None,
        "headers": headers,
        "calendar": {"method": method, "ics": ical.calendar([event], method=method).decode()},
    }


def _kind(told: Telling) -> str:
    """requested, wished, countered, booked or cancelled."""
    if told.appointment.state is AppointmentState.COUNTERED:
        return "countered"
    if told.appointment.wished and told.appointment.state not in ENDED:
        return "wished"
    status = told.event.status if told.event else "CONFIRMED"
    return {"TENTATIVE": "requested", "CANCELLED": "cancelled"}.get(status, "booked")


def _how_to_answer(told: Telling) -> str:
    by_mail = bool(told.speech.policy.reply_address)
    how = "mail" if by_mail else "page"
    return told.say(f"answer.{told.party}.{how}", url=told.url)


# --- the event --------------------------------------------------------------------------------


def organizer(told: Telling, to: str) -> str:
    """The address that answers of this invitation come in at."""
    policy = told.speech.policy
    if not policy.reply_address:
        return policy.sender_address
    token = reply_token(policy.calendar_key, told.appointment.id, told.party, to)
    return plus_address(policy.reply_address, token)


def visit(told: Telling, to: str, now: int) -> ical.Visit:
    """The event of an invitation."""
    plain = event(told)
    workshop = told.party is Party.WORKSHOP
    asks = workshop and _kind(told) in ("requested", "wished")
    name = told.workshop.name if workshop else (told.owner.name if told.owner else to)
    return replace(
        plain,
        stamp=max(now, plain.stamp),
        description="\n".join([*_facts(told), "", told.url]),
        organizer=ical.Person(
            mail=organizer(told, to), name=told.say("organizer") if workshop else told.workshop.name
        ),
        attendee=ical.Person(
            mail=to,
            name=name,
            partstat="NEEDS-ACTION" if asks else "ACCEPTED",
            rsvp=asks and bool(told.speech.policy.reply_address),
        ),
        alarm_minutes=None if workshop else OWNER_ALARM_MINUTES,
    )


def event(told: Telling) -> ical.Visit:
    """The event as it stands in a feed: when, what and where, and nothing that was found."""
    a, known = told.appointment, told.event
    parts = (told.service, told.product)
    return ical.Visit(
        uid=known.uid if known else f"{a.id}@{told.speech.policy.calendar_domain}",
        sequence=known.sequence if known else 0,
        stamp=known.changed if known else a.created,
        start=a.start,
        end=told.until,
        zone=told.zone,
        status=known.status if known else "CONFIRMED",
        summary=" · ".join(p for p in parts if p),
        location=_location(told),
        url=told.url,
    )


def _location(told: Telling) -> str:
    if told.appointment.address:
        return told.appointment.address
    return ", ".join(p for p in (told.workshop.name, told.workshop.address) if p)


def _facts(told: Telling) -> list[str]:
    """What, when and where; for the workshop whose, what was found and what was promised."""
    workshop = told.party is Party.WORKSHOP
    rows = [
        ("what", told.service),
        ("when", told.moment),
        ("where", "" if workshop and not told.appointment.address else _location(told)),
        ("product", told.product),
        ("owner", told.owner.name if workshop and told.owner else ""),
        *(_diagnosis(told) if workshop else _for_owner(told)),
    ]
    return [told.say(f"row.{name}", text=text) for name, text in rows if text]


def _for_owner(told: Telling) -> list[tuple[str, str]]:
    reason = told.words.name if told.words else ""
    return [
        ("found", reason),
        ("promised", _promise(told)),
        ("offered", _listed(told, told.appointment.offered)),
        ("wished", _listed(told, told.appointment.wished)),
        ("phone", told.workshop.phone or ""),
    ]


def _diagnosis(told: Telling) -> list[tuple[str, str]]:
    diagnosis, texts, language = told.appointment.diagnosis, told.speech.texts, told.language
    found = f"{told.words.name}. {told.words.evidence}" if told.words else ""
    odometer = diagnosis.get("odometer")
    stand = texts.quantity(language, float(odometer), "km", 0) if isinstance(odometer, int | float) else ""
    stay = told.appointment.stay
    return [
        ("found", found),
        ("also_found", "; ".join(_rule(told, str(m["rule"])) for m in (diagnosis.get("matters") or ())[1:])),
        ("said", " ".join(str((diagnosis.get("report") or {}).get("text") or "").split())[:SAID_MOST]),
        ("codes", "; ".join(_code(told, str(code)) for code in diagnosis.get("codes") or ())),
        ("odometer", stand),
        ("software", str(diagnosis.get("firmware") or "")),
        ("earlier", "; ".join(_earlier(told, visit) for visit in diagnosis.get("earlier") or ())),
        ("promised", _promise(told)),
        ("stay", told.say(f"stay.{stay}") if stay else ""),
        ("wished", _listed(told, told.appointment.wished)),
    ]


def _code(told: Telling, code: str) -> str:
    return f"{code} ({code_words(told.speech.texts, told.language, code)})"


def _rule(told: Telling, rule: str) -> str:
    """What people call a rule."""
    key = f"touchpoints.{rule}.name"
    return told.speech.texts.say(told.language, key) if told.speech.texts.has(key) else rule.replace("-", " ")


def _earlier(told: Telling, visit: Mapping[str, Any]) -> str:
    """ "3 December 2025: Front brakes (pads and discs)"."""
    day = told.speech.texts.when(told.language, int(visit["at"]), told.zone, "date_year")
    jobs = " + ".join(_job(told, str(job)) for job in visit.get("services") or ())
    note = " ".join(str(visit.get("note") or "").split())[:NOTE_MOST]
    return f"{day}: {jobs}{f' ({note})' if note else ''}"


def _listed(told: Telling, starts: tuple[int, ...]) -> str:
    moments = [told.speech.texts.moment(told.language, at, told.zone) for at in starts]
    return told.speech.texts.listed(told.language, moments, "units.or")


def _promise(told: Telling) -> str:
    """How long it takes and who pays how much, as on every other channel."""
    minutes = (told.appointment.diagnosis.get("promised") or {}).get("minutes")
    texts, language = told.speech.texts, told.language
    paid = terms_of_visit(texts, language, told.appointment.terms)
    parts = [texts.duration(language, int(minutes))] if minutes else []
    return ", ".join([*parts, *([paid] if paid else [])])
