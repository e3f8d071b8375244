"""The workshop's day: bays and bookings, what waits for a word, and each booking with its diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import SimpleNamespace as Shown
from typing import Any, TypeVar

from aiohttp import web

from gateway.domain import moments, slots
from gateway.domain.access import Role
from gateway.domain.appointment import (
    BUSY,
    HERE,
    Appointment,
    AppointmentState,
    BusyTime,
    ExtraWork,
    Hold,
    Workshop,
)
from gateway.domain.device import Device
from gateway.domain.errors import ConflictError, InvalidError, SlotTakenError
from gateway.domain.owner import Owner
from gateway.domain.report import Report
from gateway.flow import book, consents
from gateway.ports import Records
from gateway.web import answering, charts, rights, views, visit_parts, workshop_parts
from gateway.web.access import Identity, allow, local_path, who
from gateway.web.context import CONTEXT, Context
from gateway.web.render import page, see, words_for
from gateway.web.words import Words

T = TypeVar("T")
routes = web.RouteTableDef()
workshop_only = allow(Role.WORKSHOP)

DAYS_SHOWN = 10
ROW_MS = 15 * moments.MINUTE_MS
"""A row of the calendar's grid."""
FREE_LEAST_MS = 45 * moments.MINUTE_MS
"""A shorter gap is not worth saying that it is free."""
MOST_ROWS = 63
LIST_MOST = 200
READ_AT_ONCE = 500
COMING = (AppointmentState.REQUESTED, AppointmentState.WISHED, AppointmentState.CONFIRMED)
WAITING = (AppointmentState.REQUESTED, AppointmentState.WISHED)
"""The workshop is to say something."""


class _Page:
    """One request of a workshop."""

    def __init__(self, request: web.Request, words: Words) -> None:
        self.request = request
        self.context: Context = request.app[CONTEXT]
        self.words = words
        self.now = self.context.clock.now()
        self.who = who(request)
        self.workshop_id = self.who.subject or ""

    async def read(self, work: Callable[[Records], T]) -> T:
        return await self.context.database.read(work)

    async def write(self, work: Callable[[Records], T]) -> T:
        result = await self.context.database.write(work)
        if self.context.announce:
            await self.context.announce()
        return result

    def answer(self, template: str, tab: str, view: Shown) -> web.Response:
        said = f"toast.workshop_{self.request.query.get('said', '')}"
        toast = Shown(text=self.words(said), undo_url=None) if self.words.has(said) else None
        return page(self.request, template, self.words, tab=tab, view=view, toast=toast)


async def open_page(request: web.Request) -> _Page:
    return _Page(request, await words_for(request))


# --- loading ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Booking:
    """An appointment with whose it is."""

    appointment: Appointment
    device: Device | None = None
    owner: Owner | None = None
    matter: views.Matter | None = None
    earlier: Sequence[Appointment] = ()
    extras: Sequence[ExtraWork] = ()
    report: Report | None = None
    """what the owner said, where the matter is their own"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """A day of a workshop with everything in it."""

    workshop: Workshop
    day: date
    start: int
    end: int
    bookings: Sequence[Booking]
    holds: Sequence[tuple[Hold, str | None]]
    """with the job that is thought of: who it is for, a workshop learns with the booking"""
    elsewhere: Sequence[BusyTime] = ()
    """what the workshop's own calendars have taken"""

    people: Sequence[str | None] = ()
    """owner ids of whose visits are shown"""

    @property
    def bays(self) -> tuple[str, ...]:
        """Its bays, and those of bookings from before it gave one up."""
        booked = (b.appointment.bay for b in self.bookings if b.appointment.bay)
        return tuple(dict.fromkeys((*self.workshop.bays, *booked)))


def load_day(records: Records, workshop: Workshop, day: date, now: int) -> Day:
    """Bookings and holds of one local day."""
    start = moments.instants(day, 0, workshop.time_zone)[0]
    end = moments.instants(day + timedelta(days=1), 0, workshop.time_zone)[0]
    found = records.workshops.appointments(workshop=workshop.id, start=start, end=end)
    bookings = [_booking(records, a) for a in found if a.state in (*BUSY, AppointmentState.NO_SHOW)]
    held = records.workshops.holds(workshop.id, start, end, now)
    return Day(
        workshop=workshop,
        day=day,
        start=start,
        end=end,
        bookings=bookings,
        holds=[(hold, records.touchpoints.get(hold.touchpoint).service) for hold in held],
        people=[b.appointment.owner for b in bookings],
        elsewhere=records.workshops.busy_times(workshop.id, start, end),
    )


def _booking(records: Records, appointment: Appointment) -> Booking:
    device = records.devices.find(appointment.device) if appointment.device else None
    owner = records.owners.get(appointment.owner) if appointment.owner else None
    return Booking(appointment=appointment, device=device, owner=owner)


def tell(who: Identity, people: Iterable[str | None]) -> None:
    """Whose visits a list of the workshop's shows is told to them; of what was found it shows nothing."""
    for owner in dict.fromkeys(people):
        who.saw(owner, "visits", "prepare_visit")


def load_booking(records: Records, appointment: Appointment, context: Context) -> Booking:
    """The appointment with the matter behind it and earlier visits."""
    appointment = consents.handed(records, appointment)
    one = _booking(records, appointment)
    shared = appointment.touchpoint is not None and consents.may_share(records, appointment)
    touchpoint = records.touchpoints.get(appointment.touchpoint or "") if shared else None
    earlier = (
        records.workshops.appointments(
            workshop=appointment.workshop,
            device=appointment.device,
            states=(AppointmentState.DONE,),
            end=appointment.start,
        )
        if appointment.device
        else []
    )
    return Booking(
        appointment=appointment,
        device=one.device,
        owner=one.owner,
        matter=views.load_matter(records, touchpoint, context) if touchpoint else None,
        earlier=[a for a in earlier if a.id != appointment.id][-3:],
        extras=records.workshops.extras(appointment=appointment.id),
        report=records.reports.of_touchpoint(touchpoint.id) if touchpoint else None,
    )


# --- the day ---------------------------------------------------------------------------------


@routes.get("/workshop")
@workshop_only
async def today(request: web.Request) -> web.Response:
    """The day with the booking that matters most: chosen, newest, or the first of the day."""
    at = await open_page(request)
    wanted = request.query.get("booking")
    loaded = await at.read(lambda records: _load(records, at, request.query.get("day"), wanted))
    view = await _day_page(at, loaded)
    return at.answer("workshop_day.html", "day", view)


def _load(records: Records, at: _Page, day: str | None, wanted: str | None) -> Shown:
    workshop = rights.workshop(records, at.who, at.workshop_id)
    chosen = rights.appointment(records, at.who, wanted) if wanted else None
    shown_day = _shown_day(records, workshop, day, chosen, at.now)
    loaded = load_day(records, workshop, shown_day, at.now)
    if chosen is None:
        chosen = _most_telling(loaded)
        chosen = rights.handed_over(records, at.who, chosen) if chosen else None
    requests = [a for a in records.workshops.pending(workshop.id) if a.state in WAITING]
    coming = records.workshops.appointments(
        workshop=workshop.id, states=(AppointmentState.CONFIRMED,), start=at.now
    )
    requests += [a for a in coming if a.wished]
    tell(at.who, [*loaded.people, *(a.owner for a in requests)])
    return Shown(
        workshop=workshop,
        day=loaded,
        strip=[load_fill(records, workshop, d, at.now) for d in open_days(workshop, at.now, shown_day)],
        booking=load_booking(records, chosen, at.context) if chosen else None,
        requests=[_booking(records, a) for a in requests],
    )


def _shown_day(
    records: Records, workshop: Workshop, day: str | None, chosen: Appointment | None, now: int
) -> date:
    """The day asked for, the chosen booking's, that of the newest booking of ours, or the next open one."""
    if chosen is not None:
        return moments.local(chosen.start, workshop.time_zone).date()
    if day:
        try:
            return date.fromisoformat(day)
        except ValueError as error:
            raise InvalidError(f"day: {day!r} is no date; write it as 2026-12-03.") from error
    newest = newest_booking(records, workshop, now)
    if newest is not None:
        return moments.local(newest.start, workshop.time_zone).date()
    return open_days(workshop, now, None)[0]


def newest_booking(records: Records, workshop: Workshop, now: int, days_back: int = 0) -> Appointment | None:
    """The touchpoints' booking that was made last, of those today and later, or so many days ago."""
    since = moments.day_start(now, workshop.time_zone, -days_back)
    found = (a for a in booked(records, workshop.id, since) if a.state in BUSY)
    return max(found, key=lambda a: a.created, default=None)


def booked(records: Records, workshop: str, since: int) -> list[Appointment]:
    """What owners booked of the times from `since` on; a workshop's own entries may be many more."""
    found: list[Appointment] = []
    after = None
    while len(found) < LIST_MOST:
        some = records.workshops.appointments(workshop=workshop, start=since, after=after, limit=READ_AT_ONCE)
        found += [a for a in some if a.touchpoint]
        if len(some) < READ_AT_ONCE:
            break
        after = some[-1].id
    return found[:LIST_MOST]


def _most_telling(loaded: Day) -> Appointment | None:
    ours = [b.appointment for b in loaded.bookings if b.appointment.touchpoint]
    return max(ours, key=lambda a: a.created, default=None)


def open_days(workshop: Workshop, now: int, shown: date | None) -> list[date]:
    """The next days on which it is open, beginning today or with the week before the day shown."""
    first = moments.local(now, workshop.time_zone).date()
    if shown is not None and shown > first + timedelta(days=12):
        first = shown - timedelta(days=shown.weekday())
    elif shown is not None and shown < first:
        first = shown
    days = [first + timedelta(days=k) for k in range(60)]
    return [d for d in days if slots.openings(workshop, d) or d == shown][:DAYS_SHOWN] or [first]


def load_fill(records: Records, workshop: Workshop, day: date, now: int) -> tuple[date, float]:
    """A day and how full it is."""
    spans = slots.openings(workshop, day)
    room = sum(end - start for _, start, end in spans) * len(workshop.bays)
    if not room:
        return day, 0.0
    taken = records.workshops.busy(workshop.id, spans[0][1], spans[-1][2], now)
    return day, min(
        1.0, sum(min(end, spans[-1][2]) - max(start, spans[0][1]) for _, start, end, _ in taken) / room
    )


async def _day_page(at: _Page, loaded: Shown) -> Shown:
    words = at.words
    chosen = loaded.booking.appointment.id if loaded.booking else None
    return Shown(
        shop=loaded.workshop.name,
        day=calendar(loaded.day, words, at.now, chosen),
        days=[
            _strip(day, share, loaded.day.day, loaded.workshop, words, at.now) for day, share in loaded.strip
        ],
        waiting=[_waiting(b, loaded.workshop, words) for b in loaded.requests],
        booking=await booking(at.context, loaded.booking, loaded.workshop, words, at.now)
        if loaded.booking
        else None,
    )


def _strip(day: date, share: float, shown: date, workshop: Workshop, words: Words, now: int) -> Shown:
    ms = moments.instants(day, 12 * 60, workshop.time_zone)[0]
    today = day == moments.local(now, workshop.time_zone).date()
    return Shown(
        href=f"/workshop?day={day.isoformat()}",
        current=day == shown,
        name=words("workshop.today") if today else words.when(ms, "wd"),
        number=words.when(ms, "day"),
        bar=charts.fill_bar(share),
    )


def _waiting(one: Booking, workshop: Workshop, words: Words) -> Shown:
    a = one.appointment
    title = " · ".join(
        p for p in (one.owner.name if one.owner else "", one.device.title if one.device else "") if p
    )
    service, when = views.service_name(a, workshop, words), words.when(a.start, "medium")
    return Shown(
        title=title or service,
        text=f"{service}, {when}, {words.when(a.start, 'time')}",
        by=words("booking.by", moment=visit_parts.moment(a.answer_by, words)) if a.answer_by else "",
        confirm=f"/workshop/bookings/{a.id}/confirm" if a.state is AppointmentState.REQUESTED else None,
        wishes=[(start, visit_parts.moment(start, words)) for start in a.wished],
        decline=f"/workshop/bookings/{a.id}/decline",
        accept=f"/workshop/bookings/{a.id}/accept",
        href=f"/workshop?booking={a.id}",
    )


# --- the calendar ----------------------------------------------------------------------------


def calendar(
    loaded: Day, words: Words, now: int, chosen: str | None, *, hours: tuple[int, int] | None = None
) -> Shown:
    """A day as a grid of quarter hours; `hours` cuts a piece out of it (first and last full hour)."""
    spans = slots.openings(loaded.workshop, loaded.day)
    first, last = _window(loaded, spans, hours)
    grid = _Grid(first, last)
    blocks = {bay: _bay(bay, loaded, spans, grid, words, now, chosen) for bay in loaded.bays}
    moment = moments.instants(loaded.day, 12 * 60, loaded.workshop.time_zone)[0]
    many = sum(1 for b in loaded.bookings if b.appointment.state in BUSY)
    return Shown(
        title=words.when(moment, "long"),
        short=words.when(moment, "medium"),
        count=words("workshop.bookings", count=many),
        summary=_summary(loaded, spans, many, words),
        closed=not spans and not loaded.bookings,
        hours=[Shown(row=grid.row(ms), text=words.when(ms, "time")) for ms in grid.full_hours()],
        bays=[Shown(name=bay, blocks=found) for bay, found in blocks.items()],
        agenda=[
            Shown(bay=bay, block=block)
            for bay, block in sorted(
                ((bay, block) for bay, found in blocks.items() for block in found),
                key=lambda pair: int(pair[1].row),
            )
        ],
    )


@dataclass(frozen=True, slots=True)
class _Grid:
    first: int
    last: int

    def row(self, ms: int) -> int:
        return max(0, min(MOST_ROWS, (ms - self.first) // ROW_MS))

    def span(self, start: int, end: int) -> int:
        return max(1, min(48, -(-(min(end, self.last) - max(start, self.first)) // ROW_MS)))

    def holds(self, start: int, end: int) -> bool:
        return start < self.last and end > self.first

    def full_hours(self) -> list[int]:
        return list(range(self.first, self.last + 1, moments.HOUR_MS))


def _window(
    loaded: Day, spans: Sequence[tuple[int, int, int]], hours: tuple[int, int] | None
) -> tuple[int, int]:
    edges = [(start, end) for _, start, end in spans]
    edges += [(b.appointment.start, b.appointment.end) for b in loaded.bookings]
    if not edges:
        return loaded.start + 8 * moments.HOUR_MS, loaded.start + 18 * moments.HOUR_MS
    first, last = min(a for a, _ in edges), max(b for _, b in edges)
    if hours is not None:
        first, last = hours
    first = loaded.start + (first - loaded.start) // moments.HOUR_MS * moments.HOUR_MS
    last = loaded.start - (loaded.start - last) // moments.HOUR_MS * moments.HOUR_MS
    return first, min(last, first + (MOST_ROWS // 4) * moments.HOUR_MS)


def _bay(
    bay: str,
    loaded: Day,
    spans: Sequence[tuple[int, int, int]],
    grid: _Grid,
    words: Words,
    now: int,
    chosen: str | None,
) -> list[Shown]:
    mine = [b for b in loaded.bookings if b.appointment.bay == bay]
    held = [(h, job_name(loaded.workshop, job, words)) for h, job in loaded.holds if h.bay == bay]
    away = [(t.start, t.end) for t in loaded.elsewhere if t.bay in (None, bay)]
    taken = [(b.appointment.start, b.appointment.end) for b in mine] + [(h.start, h.end) for h, _ in held]
    taken = sorted(taken + away)
    blocks = [
        _block(b, loaded.workshop, grid, words, now, chosen)
        for b in mine
        if grid.holds(b.appointment.start, b.appointment.end)
    ]
    blocks += [_held(h, name, grid, words, now) for h, name in held if grid.holds(h.start, h.end)]
    blocks += [_away(start, end, grid, words) for start, end in away if grid.holds(start, end)]
    for start, end in _gaps(spans, taken):
        if grid.holds(start, end) and end > now:
            blocks.append(_free(start, end, grid, words))
    return sorted(blocks, key=lambda block: int(block.row))


def _free(start: int, end: int, grid: _Grid, words: Words) -> Shown:
    place = {"row": grid.row(start), "span": grid.span(start, end), "tone": "free", "href": None}
    span = f"{words.when(start, 'time')}–{words.when(end, 'time')}"
    return Shown(**place, time=span, title="", who=words("workshop.free"), icon=None, selected=False)


def _away(start: int, end: int, grid: _Grid, words: Words) -> Shown:
    first = max(start, grid.first)
    place = {"row": grid.row(first), "span": grid.span(first, end), "tone": "past", "href": None}
    title = words("workshop.elsewhere")
    return Shown(**place, time=words.when(first, "time"), title=title, who="", icon=None, selected=False)


def _gaps(spans: Sequence[tuple[int, int, int]], taken: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    gaps = []
    for _, opens, closes in spans:
        free = opens
        for start, end in (*taken, (closes, closes)):
            if start >= opens and min(start, closes) - free >= FREE_LEAST_MS:
                gaps.append((free, min(start, closes)))
            free = max(free, end)
    return gaps


def _block(
    one: Booking, workshop: Workshop, grid: _Grid, words: Words, now: int, chosen: str | None
) -> Shown:
    a = one.appointment
    tones = {
        AppointmentState.REQUESTED: "ask",
        AppointmentState.READY: "done",
        AppointmentState.DONE: "done",
        AppointmentState.NO_SHOW: "past",
    }
    tone = "selected" if a.id == chosen else tones.get(a.state, "past" if a.end < now else "")
    if a.end - a.start < moments.HOUR_MS:
        tone = f"{tone} short"
    title, _, rest = views.service_name(a, workshop, words).partition(" · ")
    product = " · ".join(p for p in (one.device.title, one.device.plate) if p) if one.device else rest
    return Shown(
        row=grid.row(a.start),
        span=grid.span(a.start, a.end),
        tone=tone,
        time=words.when(a.start, "time"),
        title=title,
        who=words("workshop.requested") if a.state is AppointmentState.REQUESTED else product,
        icon=None,
        href=f"/workshop?booking={a.id}",
        selected=a.id == chosen,
    )


def job_name(workshop: Workshop, job: str | None, words: Words) -> str:
    """What a workshop calls a job."""
    known = workshop.service(job)
    return words.label(known.names, known.id) if known else (job or "")


def _held(hold: Hold, name: str, grid: _Grid, words: Words, now: int) -> Shown:
    left = max(1, round((hold.until - now) / moments.MINUTE_MS))
    return Shown(
        row=grid.row(hold.start),
        span=grid.span(hold.start, hold.end),
        tone="held",
        time=words.when(hold.start, "time"),
        title=words("workshop.held"),
        who=words("workshop.held_for", minutes=left, name=name),
        icon="clock",
        href=None,
        selected=False,
    )


def _summary(loaded: Day, spans: Sequence[tuple[int, int, int]], many: int, words: Words) -> str:
    if not spans:
        return words("workshop.closed_title")
    room = sum(end - start for _, start, end in spans) * len(loaded.workshop.bays)
    taken = sum(
        b.appointment.end - b.appointment.start for b in loaded.bookings if b.appointment.state in BUSY
    )
    parts = [words("workshop.bookings", count=many)]
    if loaded.holds:
        parts.append(words("workshop.holds", count=len(loaded.holds)))
    hours, minutes = divmod(max(0, room - taken) // moments.MINUTE_MS, 60)
    parts.append(words("workshop.free_time", hours=hours, minutes=f"{minutes:02d}"))
    parts.append(words("workshop.open_until", time=words.when(spans[-1][2], "time")))
    return " · ".join(parts)


# --- one booking -----------------------------------------------------------------------------


async def booking(context: Context, one: Booking, workshop: Workshop, words: Words, now: int) -> Shown:
    """A booking with its finding, chart, codes and promise."""
    a, device = one.appointment, one.device
    service = views.services_name(a, workshop, words)
    told = min(now, a.created)  # the diagnosis stands as it was when the time was taken
    course = await views.matter_series(context, one.matter, told) if one.matter else None
    said = views.matter(one.matter, context, words, now, course) if one.matter else None
    parts = (
        one.owner.name if one.owner else "",
        device.title if device else "",
        device.plate if device else "",
    )
    times = f"{words.when(a.start, 'medium')}, {words.when(a.start, 'time')}–{words.when(a.end, 'time')}"
    finding = " ".join(p for p in (said.measured, _outlook(course, words)) if p) if said else ""
    report = answering.reported(one.report, device, context, words)
    finding = "" if report else finding
    promise = views.promised(a, words)
    return Shown(
        id=a.id,
        url=f"/workshop/bookings/{a.id}",
        title=" · ".join(p for p in parts if p) or service,
        state=views.severity(words, one.matter.touchpoint.severity)
        if one.matter and a.state is AppointmentState.CONFIRMED
        else views.appointment_state(words, a.state),
        when=times,
        bay=a.bay,
        service=service,
        finding=finding,
        report=report,
        chart=views.chart(course, words, told, "booking"),
        rows=_rows(one, words),
        brief=_brief(one, finding, promise, words),
        promise=words("workshop.promise", promise=promise.removesuffix(".")) if promise else "",
        promise_to=words("workshop.promised_to", name=one.owner.name) if one.owner else "",
        can_confirm=a.state is AppointmentState.REQUESTED,
        can_done=a.state in HERE or (a.state is AppointmentState.CONFIRMED and now >= a.start),
        can_miss=a.state is AppointmentState.CONFIRMED and now >= a.start,
        can_move=a.state in COMING and a.touchpoint is not None,
        begun=now >= a.start,
        parts=visit_parts.workshop(a, one.extras, words, now),
    )


def _outlook(course: views.Series | None, words: Words) -> str:
    if course is None or course.forecast is None:
        return ""
    return words("workshop.outlook", date=words.when(course.forecast.at, "date"))


def _rows(one: Booking, words: Words) -> list[Shown]:
    diagnosis, rows = one.appointment.diagnosis, []
    if not diagnosis:
        return []
    also = [
        Shown(text=views.rule_name(str(told["rule"]), words), code=None, note="")
        for told in (diagnosis.get("matters") or ())[1:]
    ]
    if also:
        rows.append(Shown(name=words("booking.also_found"), lines=also))
    found = views.codes(one.appointment, words)
    lines = found or [Shown(text=words("codes.none"), code=None, note="")]
    rows.append(Shown(name=words("workshop.codes"), lines=lines))
    stand = _stand(diagnosis, words)
    if stand:
        rows.append(Shown(name=words("workshop.stand"), lines=[Shown(text=stand, code=None, note="")]))
    earlier = [
        Shown(text=f"{words.when(a.start, 'full')}: {views.service_name(a, None, words)}", code=None, note="")
        for a in reversed(one.earlier)
    ]
    nothing = [Shown(text=words("workshop.no_earlier"), code=None, note="")]
    rows.append(Shown(name=words("workshop.earlier"), lines=earlier or nothing))
    return rows


def _stand(diagnosis: Any, words: Words) -> str:
    odometer, firmware = diagnosis.get("odometer"), diagnosis.get("firmware")
    parts = []
    if isinstance(odometer, int | float):
        parts.append(words.quantity(float(odometer), "km", 0))
    if firmware:
        parts.append(words("workshop.software", version=firmware))
    return " · ".join(parts)


def _brief(one: Booking, finding: str, promise: str, words: Words) -> list[Shown]:
    diagnosis = one.appointment.diagnosis
    many = diagnosis.get("codes") or ()
    rows = (
        ("finding_short", finding),
        ("codes", ", ".join(map(str, many)) if many else words("codes.none") if diagnosis else ""),
        ("stand", _stand(diagnosis, words)),
        ("promised", promise),
    )
    return [Shown(name=words(f"workshop.{name}"), text=text) for name, text in rows if text]


# --- what a workshop says --------------------------------------------------------------------


async def say(
    request: web.Request, work: Callable[[Records, str, _Page], Any], said: str, *, form: Any = None
) -> web.Response:
    """Do something with a booking; what stands against it is told, never an error page."""
    at, wanted = await open_page(request), request.match_info["id"]
    form = form if form is not None else await request.post()

    def checked(records: Records) -> None:
        rights.appointment(records, at.who, wanted)
        work(records, wanted, at)

    back = local_path(str(form.get("next", "")), f"/workshop?booking={wanted}")
    try:
        await at.write(checked)
    except (ConflictError, SlotTakenError):
        return see(back, "conflict")
    except InvalidError:
        return see(back, "invalid")
    return see(back, said)


@routes.post("/workshop/bookings/{id}/confirm")
@workshop_only
async def confirm(request: web.Request) -> web.Response:
    """Yes to a request."""
    return await say(
        request, lambda r, wanted, at: book.confirm(r, wanted, at.now, at.context.policy), "confirmed"
    )


@routes.post("/workshop/bookings/{id}/no-show")
@workshop_only
async def no_show(request: web.Request) -> web.Response:
    """Nobody came."""
    return await say(
        request, lambda r, wanted, at: book.no_show(r, wanted, at.now, at.context.policy), "no_show"
    )


@routes.get("/workshop/bookings/{id}/times")
@workshop_only
async def times(request: web.Request) -> web.Response:
    """Free times that can be offered instead."""
    at, wanted = await open_page(request), request.match_info["id"]

    def work(records: Records) -> tuple[Workshop, Appointment, list[Any]]:
        a, workshop = (
            rights.appointment(records, at.who, wanted),
            rights.workshop(records, at.who, at.workshop_id),
        )
        jobs = [service for service in map(workshop.service, a.jobs) if service is not None]
        end, whole = at.now + 28 * moments.DAY_MS, slots.together(jobs) if jobs else None
        if whole is None:
            return workshop, a, []
        mine, moving = a.touchpoint, a if a.state in BUSY else None
        free = book.free_slots(records, workshop, whole, at.now, end, at.now, mine=mine, moving=moving)
        return workshop, a, free

    workshop, a, free = await at.read(work)
    view = Shown(
        shop=workshop.name,
        title=f"{at.words.when(a.start, 'medium')}, {at.words.when(a.start, 'time')}",
        lead=at.words("workshop.times_lead"),
        back=f"/workshop?booking={wanted}",
        action=f"/workshop/bookings/{wanted}/counter",
        days=views.by_day(free, at.words, workshop.name, at.now)[:10],
    )
    return at.answer("workshop_times.html", "day", view)


@routes.post("/workshop/bookings/{id}/counter")
@workshop_only
async def counter(request: web.Request) -> web.Response:
    """Offer another time, a free one or any other at which a bay is free; the owner is asked again."""
    form = await request.post()

    def offer(records: Records, wanted: str, at: _Page) -> None:
        start = _start(form, rights.workshop(records, at.who, at.workshop_id))
        book.counter(records, wanted, [start], at.now, at.context.policy)

    return await say(request, offer, "countered", form=form)


def _start(form: Any, workshop: Workshop) -> int:
    """The free time that was tapped, or the one that was typed, on the workshop's clock."""
    typed = str(form.get("start", "")).strip()
    if not typed:
        return book.parse_slot(str(form.get("slot", "")))[1]
    try:
        return moments.local_ms(typed, workshop.time_zone)
    except ValueError as error:
        raise InvalidError("start: a day and a time.") from error


# --- lists -----------------------------------------------------------------------------------


@routes.get("/workshop/list")
@workshop_only
async def coming(request: web.Request) -> web.Response:
    """What comes, from the touchpoints' bookings and its own entries."""
    at = await open_page(request)

    def work(records: Records) -> tuple[Workshop, list[Booking]]:
        workshop = rights.workshop(records, at.who, at.workshop_id)
        since = moments.day_start(at.now, workshop.time_zone)
        shown = [_booking(records, a) for a in booked(records, workshop.id, since)]
        tell(at.who, [one.appointment.owner for one in shown])
        return workshop, shown

    workshop, found = await at.read(work)
    rows = [_list_row(b, workshop, at.words) for b in found]
    return at.answer("workshop_list.html", "list", Shown(shop=workshop.name, rows=rows))


def _list_row(one: Booking, workshop: Workshop, words: Words) -> Shown:
    a = one.appointment
    parts = (
        one.owner.name if one.owner else "",
        one.device.title if one.device else "",
        one.device.plate if one.device else "",
    )
    return Shown(
        href=f"/workshop?booking={a.id}",
        when=f"{words.when(a.start, 'medium')}, {words.when(a.start, 'time')}",
        service=views.service_name(a, workshop, words),
        who=" · ".join(p for p in parts if p),
        state=views.appointment_state(words, a.state),
    )


@routes.get("/workshop/services")
@workshop_only
async def services(request: web.Request) -> web.Response:
    """What owners are told of this workshop."""
    at = await open_page(request)
    workshop = await at.read(lambda records: rights.workshop(records, at.who, at.workshop_id))
    words = at.words
    rows = [
        Shown(
            name=words.label(s.names, s.id),
            takes=words.minutes(s.minutes),
            price=words.texts.price(words.language, s.price_from, s.price_to, s.currency) or "–",
            lead=words("time.days", count=s.lead_days),
        )
        for s in workshop.services
    ]
    about = [
        (words(f"about.{key}"), [value])
        for key, value in (("address", workshop.address), ("phone", workshop.phone))
        if value
    ]
    today = moments.local(at.now, workshop.time_zone).date()
    view = Shown(
        shop=workshop.name,
        services=rows,
        hours=_hours(workshop, words),
        about=about,
        itself=workshop_parts.itself(workshop, words, today, at.context.policy),
    )
    return at.answer("workshop_services.html", "services", view)


def _hours(workshop: Workshop, words: Words) -> list[tuple[str, list[str]]]:
    rows = []
    for number, key in enumerate(slots.WEEKDAYS):
        noon = moments.instants(date(2026, 11, 23) + timedelta(days=number), 12 * 60, words.zone)[0]
        spans = [f"{a.lstrip('0')}–{b}" for a, b in workshop.hours.get(key, ())]
        rows.append((words.when(noon, "weekday"), spans or [words("workshop.closed_title")]))
    return rows
