"""The workshop's week: each bay's days with what is booked, held, taken elsewhere, and how much is free."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from types import SimpleNamespace as Shown

from aiohttp import web

from gateway.domain import moments, slots
from gateway.domain.access import Role
from gateway.domain.appointment import BUSY, AppointmentState, BusyTime, Hold, Workshop
from gateway.domain.errors import InvalidError
from gateway.ports import Records
from gateway.web import charts, rights, views
from gateway.web.access import allow
from gateway.web.pages_workshop import Booking, Day, job_name, load_day, load_fill, open_page, tell
from gateway.web.words import Words

routes = web.RouteTableDef()

DAYS = 7


@routes.get("/workshop/week")
@allow(Role.WORKSHOP)
async def week(request: web.Request) -> web.Response:
    """Monday to Sunday of the week of `day`, of this week when it is left out."""
    at, wanted = await open_page(request), request.query.get("day")

    def work(records: Records) -> tuple[Workshop, date, list[Day], list[tuple[date, float]]]:
        workshop = rights.workshop(records, at.who, at.workshop_id)
        first = _monday(wanted, moments.local(at.now, workshop.time_zone).date())
        days = [first + timedelta(days=n) for n in range(DAYS)]
        loaded = [load_day(records, workshop, day, at.now) for day in days]
        tell(at.who, [owner for day in loaded for owner in day.people])
        return workshop, first, loaded, [load_fill(records, workshop, day, at.now) for day in days]

    workshop, first, days, fills = await at.read(work)
    today = moments.local(at.now, workshop.time_zone).date()
    view = Shown(
        shop=workshop.name,
        title=" – ".join(at.words.when(_noon(day.day, workshop), "medium") for day in (days[0], days[-1])),
        before=f"/workshop/week?day={first - timedelta(days=DAYS)}",
        after=f"/workshop/week?day={first + timedelta(days=DAYS)}",
        days=[_head(day, share, today, at.words) for day, (_, share) in zip(days, fills, strict=True)],
        bays=[Shown(name=bay, days=[_entries(day, bay, at.words) for day in days]) for bay in workshop.bays],
    )
    return at.answer("workshop_week.html", "week", view)


def _monday(wanted: str | None, today: date) -> date:
    """The first day of the week. Raises InvalidError for what is no date."""
    try:
        day = date.fromisoformat(wanted) if wanted else today
        monday = day - timedelta(days=day.weekday())
        if not 2000 <= monday.year < 9999:
            raise ValueError(wanted)
    except (ValueError, OverflowError) as error:
        raise InvalidError(f"day: {wanted!r} is no date; write it as 2026-12-03.") from error
    return monday


def _noon(day: date, workshop: Workshop) -> int:
    return moments.instants(day, 12 * 60, workshop.time_zone)[0]


def _head(loaded: Day, share: float, today: date, words: Words) -> Shown:
    noon = _noon(loaded.day, loaded.workshop)
    why = slots.closed_for(loaded.workshop, loaded.day, words.language)
    open_at = slots.openings(loaded.workshop, loaded.day)
    hours = ", ".join(f"{words.when(start, 'time')}–{words.when(end, 'time')}" for _, start, end in open_at)
    return Shown(
        name=words.when(noon, "medium"),
        today=loaded.day == today,
        href=f"/workshop?day={loaded.day.isoformat()}",
        note=" · ".join(part for part in (hours or words("workshop.closed_title"), why or "") if part),
        bar=charts.fill_bar(share) if open_at else "",
    )


def _entries(loaded: Day, bay: str, words: Words) -> list[Shown]:
    """What takes up a bay on a day, in order of time."""
    found = [(b.appointment.start, _booked(b, loaded.workshop, words)) for b in _of(loaded.bookings, bay)]
    held = [(h, job_name(loaded.workshop, job, words)) for h, job in loaded.holds if h.bay == bay]
    found += [(h.start, _kept(h, name, words)) for h, name in held]
    found += [(t.start, _elsewhere(t, loaded, words)) for t in loaded.elsewhere if t.bay in (None, bay)]
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def _of(bookings: Sequence[Booking], bay: str) -> list[Booking]:
    return [b for b in bookings if b.appointment.bay == bay and b.appointment.state in BUSY]


def _booked(one: Booking, workshop: Workshop, words: Words) -> Shown:
    a = one.appointment
    asks = a.state is AppointmentState.REQUESTED
    who = " · ".join(p for p in (one.device.title, one.device.plate) if p) if one.device else ""
    return Shown(
        time=_span(a.start, a.end, words),
        title=views.services_name(a, workshop, words),
        who=words("workshop.requested") if asks else who,
        href=f"/workshop?booking={a.id}",
        tone="ask" if asks else "done" if a.state is AppointmentState.DONE else "",
    )


def _kept(hold: Hold, name: str, words: Words) -> Shown:
    span = _span(hold.start, hold.end, words)
    return Shown(time=span, title=words("workshop.held"), who=name, href=None, tone="held")


def _elsewhere(time: BusyTime, loaded: Day, words: Words) -> Shown:
    span = _span(max(time.start, loaded.start), min(time.end, loaded.end), words)
    return Shown(time=span, title=words("workshop.elsewhere"), who="", href=None, tone="past")


def _span(start: int, end: int, words: Words) -> str:
    return f"{words.when(start, 'time')}–{words.when(end, 'time')}"
