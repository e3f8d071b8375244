"""How a visit reads: who pays, when the technician comes, how far the job is, what a trouble code means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.domain.appointment import (
    PENDING,
    Appointment,
    AppointmentState,
    ExtraState,
    ExtraWork,
    Terms,
    Workshop,
)
from gateway.domain.device import Device
from gateway.domain.texts import Texts

FELL_THROUGH = (AppointmentState.CANCELLED, AppointmentState.DECLINED, AppointmentState.LAPSED)

CODE = re.compile(r"^([PCBU])([0-3])([0-9A-F])[0-9A-F]{2}(?:-[0-9A-F]{2})?$")
"""A trouble code by SAE J2012 / ISO 15031-6: system, who defined it, subsystem, fault; a failure type."""


# --- who pays ---------------------------------------------------------------------------------


def terms_words(texts: Texts, language: str, said: Terms) -> str | None:
    """ "180–220 €, 19% VAT included, valid until 31 December", "free of charge: …"; None where the owner pays
    and nothing is stated."""
    key = f"booking.terms.{said.payer}"
    if said.payer != "owner":
        named = f"{key}_named" if said.name else key
        until = _date(texts, language, said.valid_until)
        return texts.say(language, named, name=said.name, until=until)
    price = texts.price(language, said.price_from, said.price_to, said.currency)
    if price is None:
        return None
    parts = [price]
    if said.vat_percent is not None:
        parts.append(
            texts.say(language, "booking.terms.vat", percent=texts.number(language, said.vat_percent))
        )
    if said.valid_until:
        parts.append(
            texts.say(language, "booking.terms.valid", until=_date(texts, language, said.valid_until))
        )
    return ", ".join(parts)


def _date(texts: Texts, language: str, day: str | None) -> str | None:
    if not day:
        return None
    at = int(datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC).timestamp() * 1000)
    return texts.when(language, at, "UTC", "date_year")


def terms_of_visit(texts: Texts, language: str, terms: Mapping[str, Any]) -> str | None:
    """The terms of all jobs of a visit: owners' prices summed, whatever else pays named beside them."""
    said = [Terms(**dict(one)) for one in terms.values()]
    paid = [one for one in said if one.payer == "owner"]
    parts = [terms_words(texts, language, one) for one in _different(o for o in said if o.payer != "owner")]
    if paid:
        parts.insert(0, terms_words(texts, language, _sum(paid)))
    return "; ".join(part for part in parts if part) or None


def _different(said: Iterable[Terms]) -> list[Terms]:
    return list(dict.fromkeys(said))


def _sum(said: list[Terms]) -> Terms:
    """Prices of several jobs together; the earliest end of validity holds."""
    first = said[0]
    rates = {one.vat_percent for one in said}
    low = sum((one.price_from if one.price_from is not None else one.price_to) or 0 for one in said)
    high = sum((one.price_to if one.price_to is not None else one.price_from) or 0 for one in said)
    return Terms(
        payer="owner",
        price_from=low,
        price_to=high,
        currency=first.currency,
        vat_percent=first.vat_percent if len(rates) == 1 else None,
        valid_until=min((one.valid_until for one in said if one.valid_until), default=None),
    )


# --- times ------------------------------------------------------------------------------------


def arrival(texts: Texts, language: str, start: int, until: int | None, zone: str, form: str) -> str:
    """The time of a slot; at home the window in which the technician arrives: "Tuesday, 8:00–10:00"."""
    moment = texts.when(language, start, zone, form)
    return moment if until is None else f"{moment}–{texts.time(language, until, zone)}"


# --- trouble codes ----------------------------------------------------------------------------


def code_words(texts: Texts, language: str, code: str) -> str:
    """What a trouble code means: from the table, else what its structure says of it."""
    plain = code.strip().upper()
    for known in (plain, plain.partition("-")[0]):
        if texts.has(f"codes.known.{known}"):
            return texts.say(language, f"codes.known.{known}")
    parts = CODE.match(plain)
    if parts is None:
        return texts.say(language, "codes.strange")
    system, origin, area = parts.groups()
    subsystem = f"codes.area.{system}{area}"
    where = subsystem if texts.has(subsystem) else f"codes.system.{system}"
    maker = origin == "1" or (origin == "3" and system != "P")
    key = "codes.of_the_maker" if maker else "codes.by_structure"
    return texts.say(language, key, where=texts.say(language, where))


# --- what the owner hears ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A message about a visit."""

    title: str
    body: str
    actions: tuple[tuple[str, str], ...] = ()
    """(id, label)"""
    more: Mapping[str, Any] = field(default_factory=dict)
    """what the receiving browser needs besides: where actions are answered"""


def visit_words(
    texts: Texts,
    language: str,
    zone: str,
    payload: Mapping[str, Any],
    appointment: Appointment,
    extra: ExtraWork | None,
    workshop: Workshop,
    device: Device,
    now: int,
) -> Said | None:
    """The message that an outbox row stands for; None when it is not true any more."""
    moment = arrival(texts, language, appointment.start, appointment.arrive_until, zone, "moment")
    params = {"moment": moment, "workshop": workshop.name, "product": device.title}
    if extra is not None:
        return _extra(texts, language, zone, extra, params, now)
    change = payload.get("change", payload.get("about"))
    if not _still_so(appointment, str(change), payload):
        return None
    if change == "reminder" and appointment.arrive_until is not None:
        change = "reminder_home"
    key = f"booking.push.{change}"
    return Said(
        title=texts.say(language, f"{key}.title", **params), body=texts.say(language, f"{key}.body", **params)
    )


def _still_so(appointment: Appointment, change: str, payload: Mapping[str, Any]) -> bool:
    match change:
        case "reminder":
            return appointment.state is AppointmentState.CONFIRMED and appointment.start == payload["start"]
        case "checked_in" | "in_work" | "ready":
            return str(appointment.state) == change
        case "confirmed" | "rescheduled" | "wish_declined":
            return appointment.state is AppointmentState.CONFIRMED
        case "fell_through":
            return appointment.state in FELL_THROUGH
        case _:
            return appointment.state in PENDING


def _extra(
    texts: Texts, language: str, zone: str, extra: ExtraWork, params: Mapping[str, Any], now: int
) -> Said | None:
    """One question, two buttons."""
    if extra.state is not ExtraState.ASKED or extra.answer_by <= now:
        return None
    price = texts.price(language, extra.price, extra.price, extra.currency)
    until = texts.time(language, extra.answer_by, zone)
    told = {**params, "reason": extra.reason, "price": price, "until": until}
    return Said(
        title=texts.say(language, "booking.push.extra_work.title", **told),
        body=texts.say(language, "booking.push.extra_work.body", **told),
        actions=tuple((a, texts.say(language, f"booking.extra.{a}")) for a in ("approve", "decline")),
        more={"answer_at": f"/me/extra-work/{extra.id}/answer"},
    )
