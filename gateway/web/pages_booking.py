"""What a workshop says of its bookings and of itself: requests, the day's steps, extra work, who comes from
the street, dates on which it is open otherwise, and its services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from types import SimpleNamespace as Shown
from typing import Any

from aiohttp import web

from gateway.domain import slots
from gateway.domain.access import Role
from gateway.domain.appointment import OpeningException, Part, Service, Workshop
from gateway.domain.errors import ConflictError, InvalidError
from gateway.domain.ids import new_id
from gateway.domain.moments import is_clock, minutes_of
from gateway.domain.report import Attachment
from gateway.domain.texts import Texts
from gateway.flow import book, follow_up, reports, visit
from gateway.ports import Records
from gateway.web import rights, visit_parts, workshop_parts
from gateway.web.access import allow
from gateway.web.context import CONTEXT
from gateway.web.pages_workshop import open_page, say
from gateway.web.render import see

routes = web.RouteTableDef()
workshop_only = allow(Role.WORKSHOP)

FORM_MOST = reports.PHOTO_MOST + 64 * 1024
"""Bytes of a form with a photo."""
SERVICES = "/workshop/services"


# --- bookings ---------------------------------------------------------------------------------


@routes.post("/workshop/bookings/{id}/decline")
@workshop_only
async def decline(request: web.Request) -> web.Response:
    """No to a request, or to the times that the owner wishes for instead."""
    reason = str((await request.post()).get("reason", "")).strip()[:500] or None
    return await say(
        request,
        lambda r, wanted, at: book.decline(r, wanted, at.now, at.context.policy, reason=reason),
        "declined",
    )


@routes.post("/workshop/bookings/{id}/accept")
@workshop_only
async def accept(request: web.Request) -> web.Response:
    """Yes to one of the times that the owner wishes for."""
    form = await request.post()

    def take(records: Records, wanted: str, at: Any) -> None:
        start = _whole(form, "start", most=10**15)
        book.accept(records, wanted, start, at.now, at.context.policy)

    return await say(request, take, "confirmed")


@routes.post("/workshop/bookings/{id}/cancel")
@workshop_only
async def cancel(request: web.Request) -> web.Response:
    """The workshop cannot keep the time; the owner gets others."""
    return await say(
        request,
        lambda r, wanted, at: book.cancel(r, wanted, at.now, at.context.policy, by="workshop"),
        "cancelled",
    )


@routes.post("/workshop/bookings/{id}/progress")
@workshop_only
async def progress(request: web.Request) -> web.Response:
    """Taken in, in work, ready; the owner sees it at once."""
    step = str((await request.post()).get("step", ""))
    return await say(
        request, lambda r, wanted, at: visit.step(r, wanted, step, at.now, at.context.policy), "saved"
    )


@routes.post("/workshop/bookings/{id}/done")
@workshop_only
async def done(request: web.Request) -> web.Response:
    """The job is done, with what was done and what it costs in the end; the owner is asked one question."""
    form = await request.post()

    def finish(records: Records, wanted: str, at: Any) -> None:
        work = _work(form)
        visit.close_questions(records, wanted, at.now, at.context.policy)
        follow_up.done(records, wanted, work, at.now, at.context.policy)

    return await say(request, finish, "done")


def _work(form: Any) -> dict[str, Any]:
    """What a form says of the job; what was left empty was not said."""
    note = str(form.get("note", "")).strip()[:2_000]
    parts = [part.strip()[:300] for part in str(form.get("parts", "")).split(",") if part.strip()][:100]
    work: dict[str, Any] = {}
    if note:
        work["note"] = note
    if parts:
        work["parts"] = parts
    if str(form.get("price", "")).strip():
        work["price"] = _whole(form, "price")
    if form.get("fixed") in ("yes", "no"):
        work["fixed"] = form["fixed"] == "yes"
    return work


def _whole(form: Any, name: str, *, least: int = 0, most: int = 1_000_000) -> int:
    text = str(form.get(name, "")).strip()
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise InvalidError(f"{name}: a whole number from {least} to {most}.")
    return int(text)


@routes.post("/workshop/bookings/{id}/extra-work")
@workshop_only
async def extra_work(request: web.Request) -> web.Response:
    """More was found: reason, price and perhaps a photo; nothing of it is done without the owner's word."""
    form = await request.clone(client_max_size=FORM_MOST).post()
    reason = str(form.get("reason", ""))
    try:
        body = await _photo(form.get("photo"))
    except InvalidError:
        return see(f"/workshop?booking={request.match_info['id']}", "invalid")

    def ask(records: Records, wanted: str, at: Any) -> None:
        price = _whole(form, "price")
        minutes = _whole(form, "minutes", most=7 * 24 * 60) if str(form.get("minutes", "")).strip() else 0
        photo = _keep(records, wanted, body, at.now) if body is not None else None
        policy = at.context.policy
        visit.ask_extra(records, wanted, reason, price, at.now, policy, photo=photo, minutes=minutes)

    return await say(request, ask, "asked", form=form)


async def _photo(file: Any) -> bytes | None:
    """The photo of a form, drawn anew; None when none was chosen. Raises InvalidError for what is none."""
    if not isinstance(file, web.FileField):
        return None
    with file.file:
        body = file.file.read(reports.PHOTO_MOST + 1)
    return await asyncio.to_thread(reports.photo, body) if file.filename else None


def _keep(records: Records, appointment_id: str, body: bytes, now: int) -> str:
    """Store the photo with whose visit it shows."""
    appointment = records.workshops.appointment(appointment_id)
    picture = Attachment(
        id=new_id(now),
        owner=appointment.owner,
        device=appointment.device,
        kind="extra_work",
        media_type="image/jpeg",
        body=body,
        created=now,
    )
    records.attachments.add(picture)
    return picture.id


# --- from the street --------------------------------------------------------------------------


@routes.get("/workshop/walk-in")
@workshop_only
async def walk_in(request: web.Request) -> web.Response:
    """Each service with its next free time: one more tap takes it."""
    at = await open_page(request)

    def work(records: Records) -> tuple[Workshop, list[Any]]:
        workshop = rights.workshop(records, at.who, at.workshop_id)
        services = [service for service in workshop.services if not service.at_home]
        return workshop, [(s, visit.next_free(records, workshop, s.id, at.now)) for s in services]

    workshop, found = await at.read(work)
    rows = [
        Shown(
            id=service.id,
            name=at.words.label(service.names, service.id),
            takes=at.words.minutes(service.minutes),
            when=at.words("walk_in.now", bay=slot[2])
            if slot[0] <= at.now
            else f"{visit_parts.moment(slot[0], at.words)} · {slot[2]}",
        )
        for service, slot in found
        if slot is not None
    ]
    return at.answer("workshop_walk_in.html", "day", Shown(shop=workshop.name, rows=rows))


@routes.post("/workshop/walk-in")
@workshop_only
async def take_walk_in(request: web.Request) -> web.Response:
    """Taken now or at the next free time; which one is decided here."""
    at, form = await open_page(request), await request.post()
    label = str(form.get("label", "")).strip()[:100] or None

    def work(records: Records) -> str:
        workshop = rights.workshop(records, at.who, at.workshop_id)
        service, policy = str(form.get("service", "")), at.context.policy
        return visit.walk_in(records, workshop.id, service, at.now, policy, label=label).id

    try:
        made = await at.write(work)
    except ConflictError:
        return see("/workshop/walk-in", "conflict")
    return see(f"/workshop?booking={made}", "walked_in")


# --- itself -----------------------------------------------------------------------------------


async def _change(request: web.Request, change: Callable[[Workshop, Any], Workshop]) -> web.Response:
    """Change what is known of the workshop by a form; what cannot be taken is said."""
    at, form = await open_page(request), await request.post()

    def work(records: Records) -> None:
        changed = change(rights.workshop(records, at.who, at.workshop_id), form)
        wrong = slots.fault(changed)
        if wrong is not None:
            raise InvalidError(wrong)
        records.workshops.put(changed)

    try:
        await at.write(work)
    except InvalidError:
        return see(SERVICES, "invalid")
    return see(SERVICES, "saved")


@routes.post("/workshop/exceptions")
@workshop_only
async def add_exception(request: web.Request) -> web.Response:
    """A date that is closed, or has other hours; the same date again replaces it."""
    return await _change(request, _with_exception)


def _with_exception(workshop: Workshop, form: Any) -> Workshop:
    try:
        day = date.fromisoformat(str(form.get("date", ""))).isoformat()
    except ValueError as error:
        raise InvalidError("date: a day, such as 2026-12-24.") from error
    kept = tuple(e for e in workshop.exceptions if e.date != day)
    if form.get("remove"):
        return replace(workshop, exceptions=kept)
    opens, closes = str(form.get("from", "")), str(form.get("to", ""))
    hours: tuple[tuple[str, str], ...] = ()
    if opens or closes:
        if not (is_clock(opens) and is_clock(closes) and minutes_of(opens) < minutes_of(closes)):
            raise InvalidError("from, to: times such as 09:00 and 13:00.")
        hours = ((opens, closes),)
    reason = str(form.get("reason", "")).strip()[:100] or None
    one = OpeningException(date=day, hours=hours, reason=reason)
    return replace(workshop, exceptions=tuple(sorted((*kept, one), key=lambda e: e.date)))


@routes.post("/workshop/holidays")
@workshop_only
async def set_holidays(request: web.Request) -> web.Response:
    """Closed on the public holidays of a country, and of a region of it."""
    return await _change(request, _with_holidays)


def _with_holidays(workshop: Workshop, form: Any) -> Workshop:
    country = str(form.get("country", "")).strip().upper() or None
    region = str(form.get("region", "")).strip().upper() or None
    if country is not None:
        try:
            slots.public_holidays(country, region, 2026)
        except ValueError as error:
            raise InvalidError("country, region: such as DE and HH.") from error
    return replace(workshop, country=country, region=region if country else None)


@routes.post("/workshop/services")
@workshop_only
async def set_service(request: web.Request) -> web.Response:
    """Time, price and needs of a service, a new one, or one that is offered no more."""
    context = request.app[CONTEXT]

    def change(workshop: Workshop, form: Any) -> Workshop:
        return _with_service(workshop, form, context.texts, workshop_parts.services(context.policy))

    return await _change(request, change)


def _with_service(workshop: Workshop, form: Any, texts: Texts, known: Sequence[str]) -> Workshop:
    wanted = str(form.get("id", ""))
    before = workshop.service(wanted)
    others = tuple(s for s in workshop.services if s.id != wanted)
    if before is not None and form.get("remove"):
        return replace(workshop, services=others)
    if before is None:
        return replace(workshop, services=(*others, _service(_new_service(wanted, form, texts, known), form)))
    after = _service(before, form)
    return replace(workshop, services=tuple(after if s.id == before.id else s for s in workshop.services))


def _new_service(wanted: str, form: Any, texts: Texts, known: Sequence[str]) -> Service:
    """One that a rule leads to, under its own name or the workshop's; what is typed freely is none."""
    if wanted not in known:
        raise InvalidError("id: one of the services that products are found to need.")
    named = str(form.get("name", "")).strip()[:100]
    known_as = {each: workshop_parts.service_name(texts, each, wanted) for each in texts.languages()}
    return Service(id=wanted, names=dict.fromkeys(known_as, named) if named else known_as, minutes=60)


def _service(before: Service, form: Any) -> Service:
    price_from, price_to = (_perhaps(form, name) for name in ("price_from", "price_to"))
    if price_from is not None and price_to is not None and price_from > price_to:
        raise InvalidError("price_to: not below price_from.")
    return replace(
        before,
        minutes=_whole(form, "minutes", least=5, most=7 * 24 * 60),
        price_from=price_from,
        price_to=price_to,
        lead_days=_whole(form, "lead_days", most=365),
        buffer_minutes=_whole(form, "buffer_minutes", most=720),
        skills=tuple(s.strip()[:50] for s in str(form.get("skills", "")).split(",") if s.strip())[:20],
        parts=_parts(str(form.get("parts", ""))),
        at_home=bool(form.get("at_home")),
        warranty=bool(form.get("warranty")),
        vat_percent=float(_whole(form, "vat_percent", most=100)) if form.get("vat_percent") else None,
        price_valid_until=_day(form, "price_valid_until"),
    )


def _day(form: Any, name: str) -> str | None:
    """A date of a form; None when it was left empty."""
    text = str(form.get(name, "")).strip()
    try:
        return date.fromisoformat(text).isoformat() if text else None
    except ValueError as error:
        raise InvalidError(f"{name}: a day, such as 2026-12-24.") from error


def _perhaps(form: Any, name: str) -> int | None:
    return _whole(form, name) if str(form.get(name, "")).strip() else None


def _parts(text: str) -> tuple[Part, ...]:
    """ "Pads 2, sensor 5": each part with the days until it can be there."""
    found = []
    for entry in (e.strip() for e in text.split(",") if e.strip()):
        name, _, days = entry.rpartition(" ")
        if not name or not (days.isascii() and days.isdigit() and int(days) <= 365):
            raise InvalidError("parts: each with its days, such as: pads 2, sensor 5.")
        found.append(Part(name=name[:100], days=int(days)))
    return tuple(found[:50])
