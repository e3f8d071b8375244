"""The owner's visits: what is booked, what the workshop was told, another time, a calendar file."""

from __future__ import annotations

from types import SimpleNamespace as Shown
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.appointment import HERE, Appointment
from gateway.domain.errors import ConflictError, NotFoundError, SlotTakenError
from gateway.flow import book, people
from gateway.ports import Records
from gateway.web import calendar_file, rights, views, visit_parts
from gateway.web.access import allow
from gateway.web.owner_page import COMING, OwnerPage, device_title, load_page, notify, open_page, toast
from gateway.web.pages_touchpoint import free_times, times_view
from gateway.web.render import see

routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)

MAP = "https://www.openstreetmap.org/search?query="
"""Where the way there opens; a phone that has maps of its own opens those (RFC 5870)."""


@routes.get("/me/visits")
@owner_only
async def visits(request: web.Request) -> web.Response:
    """What is booked, and what was."""

    def work(records: Records, at: OwnerPage) -> list[tuple[Appointment, Any, str]]:
        found = people.visits(records, at.owner_id)
        return [(a, views.find_workshop(records, a.workshop), device_title(records, a)) for a in found]

    at, loaded = await load_page(request, work)
    rows = [(a, _visit_row(a, workshop, title, at)) for a, workshop, title in loaded]
    coming = [row for a, row in rows if a.state in COMING]
    past = [row for a, row in reversed(rows) if a.state not in COMING]
    return at.answer("owner_visits.html", "visits", Shown(coming=coming, past=past))


def _visit_row(appointment: Appointment, workshop: Any, title: str, at: OwnerPage) -> Shown:
    service = views.service_name(appointment, workshop, at.words)
    return Shown(
        icon="calendar" if appointment.state in COMING else "wrench",
        href=f"/me/visits/{appointment.id}",
        when=f"{at.words.when(appointment.start, 'medium')}, {at.words.when(appointment.start, 'time')}",
        text=" · ".join(part for part in (service, title, workshop.name if workshop else "") if part),
        state=views.appointment_state(at.words, appointment.state),
    )


@routes.get("/me/visits/{name:[^/]+}.ics")
@owner_only
async def visit_calendar(request: web.Request) -> web.Response:
    """The visit as a calendar file (RFC 5545)."""
    at, wanted = await open_page(request), request.match_info["name"]
    loaded = await at.read(lambda records: _load_visit(records, at, wanted))
    known = await at.read(lambda records: records.calendars.event(loaded.appointment.id))
    domain = at.context.policy.calendar_domain
    return calendar_file.response(
        loaded.appointment, loaded.workshop, loaded.device, at.words, at.now, known=known, domain=domain
    )


@routes.get("/me/visits/{id}")
@owner_only
async def visit(request: web.Request) -> web.Response:
    """One visit: when, where, and what the workshop was told."""
    wanted = request.match_info["id"]
    at, loaded = await load_page(request, lambda records, at: _load_visit(records, at, wanted))
    told = min(at.now, loaded.appointment.created)
    one = await views.matter_series(at.context, loaded.matter, told) if loaded.matter else None
    view = _visit_view(loaded, one, at)
    undo = (
        f"/me/visits/{wanted}/cancel"
        if view.upcoming and request.query.get("said") in ("booked", "requested")
        else None
    )
    note = toast(at, undo, loaded.device.title if loaded.device else "")
    view.notify = notify(at, "visit", subscribed=loaded.subscribed) if view.upcoming else None
    return at.answer("owner_visit.html", "visits", view, toast=note)


def _load_visit(records: Records, at: OwnerPage, wanted: str) -> Shown:
    appointment = rights.appointment(records, at.who, wanted)
    touchpoint = records.touchpoints.get(appointment.touchpoint) if appointment.touchpoint else None
    questions = records.feedback.page(touchpoint=appointment.touchpoint) if appointment.touchpoint else []
    return Shown(
        appointment=appointment,
        workshop=views.find_workshop(records, appointment.workshop),
        device=records.devices.find(appointment.device) if appointment.device else None,
        matter=views.load_matter(records, touchpoint, at.context) if touchpoint else None,
        question=next((f.id for f in questions if f.open_at(at.now)), None),
        extras=records.workshops.extras(appointment=wanted),
        subscribed=bool(records.owners.subscriptions(at.owner_id)),
    )


def _visit_view(loaded: Shown, one: Any, at: OwnerPage) -> Shown:
    appointment, workshop, device, words = loaded.appointment, loaded.workshop, loaded.device, at.words
    product = " · ".join(p for p in (device.title, device.plate) if p) if device else ""
    line = " · ".join(p for p in (product, views.promised(appointment, words)) if p)
    address = workshop.address if workshop else None
    phone = workshop.phone if workshop else None
    return Shown(
        id=appointment.id,
        why_url=f"/me/touchpoints/{appointment.touchpoint}#why" if appointment.touchpoint else None,
        back="/me/visits",
        name=views.wording_name(loaded.matter, words)
        if loaded.matter
        else views.service_name(appointment, workshop, words),
        state=views.appointment_state(words, appointment.state),
        day=words.when(appointment.start, "weekday"),
        date_time=visit_parts.date_time(appointment, words),
        line=line,
        upcoming=appointment.state in COMING and appointment.state not in HERE,
        workshop=workshop.name if workshop else appointment.workshop,
        address=address,
        map_url=f"{MAP}{quote(address)}" if address else None,
        geo=f"geo:0,0?q={quote(address)}" if address else None,
        phone=phone,
        phone_link="".join(c for c in phone or "" if c.isdigit() or c == "+"),
        told=views.told(appointment, loaded.matter, one, at.context, words) if appointment.diagnosis else [],
        exactly=views.exactly(appointment, device, at.context, words),
        work=str(appointment.work.get("note") or "") if appointment.work else "",
        question_url=f"/me/feedback/{loaded.question}" if loaded.question else None,
        parts=visit_parts.owner(appointment, loaded.extras, workshop, words, at.now),
    )


@routes.post("/me/visits/{id}/cancel")
@owner_only
async def cancel_visit(request: web.Request) -> web.Response:
    """The owner does not come; the matter is open again."""
    at, wanted = await open_page(request), request.match_info["id"]

    def work(records: Records) -> Appointment:
        rights.changeable(records, at.who, wanted)
        return book.cancel(records, wanted, at.now, at.context.policy, by="owner")

    try:
        cancelled = await at.write(work)
    except ConflictError:
        return see(f"/me/visits/{wanted}", "conflict")
    form = await request.post()
    back = f"/me/touchpoints/{cancelled.touchpoint}" if form.get("undo") and cancelled.touchpoint else "/me"
    return see(back, "cancelled")


@routes.get("/me/visits/{id}/times")
@owner_only
async def visit_times(request: web.Request) -> web.Response:
    """Other times for a visit that stands."""
    at, wanted = await open_page(request), request.match_info["id"]

    def work(records: Records) -> tuple[views.Matter, list[Any]]:
        appointment = rights.appointment(records, at.who, wanted)
        if appointment.touchpoint is None:
            raise NotFoundError(f"There is no appointment {wanted}.")
        found = views.load_matter(records, records.touchpoints.get(appointment.touchpoint), at.context)
        return found, free_times(records, found, at.now)

    found, slots = await at.read(work)
    back = f"/me/visits/{wanted}"
    return at.answer("owner_times.html", "visits", times_view(at, found, slots, back, f"{back}/move"))


@routes.post("/me/visits/{id}/move")
@owner_only
async def move_visit(request: web.Request) -> web.Response:
    """Take another time for a visit."""
    at, wanted, form = await open_page(request), request.match_info["id"], await request.post()

    def work(records: Records) -> Appointment:
        rights.changeable(records, at.who, wanted)
        return book.reschedule(records, wanted, str(form.get("slot", "")), at.now, at.context.policy)

    try:
        await at.write(work)
    except SlotTakenError:
        return see(f"/me/visits/{wanted}/times", "taken")
    except ConflictError:
        return see(f"/me/visits/{wanted}", "conflict")
    return see(f"/me/visits/{wanted}", "moved")
