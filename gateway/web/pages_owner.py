"""The owner's pages: what needs a decision, the matter itself, products, visits, and their own say.

Everything can be done without a script: forms post, and are answered by going on to a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace as Shown
from typing import Any, TypeVar
from urllib.parse import quote

from aiohttp import web

from gateway.domain import moments
from gateway.domain.access import Role
from gateway.domain.appointment import HERE, STANDING, Appointment, AppointmentState
from gateway.domain.device import Device
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError, SlotTakenError
from gateway.domain.household import Person
from gateway.domain.ids import derived_id
from gateway.domain.owner import Consent, Owner, Preferences, PushSubscription
from gateway.domain.purposes import Basis
from gateway.domain.touchpoint import LIVE, REQUESTS, Answer, LedgerLine, State, Touchpoint
from gateway.flow import agree, book, consents, follow_up, outgoing, people, respond, returning
from gateway.ports import Records
from gateway.web import answering, asked, calendar_file, export, reached, rights, views, visit_parts
from gateway.web.access import allow, local_path, who
from gateway.web.context import CONTEXT, Context
from gateway.web.render import page, see, words_for
from gateway.web.words import Words

T = TypeVar("T")
routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)

COMING = (*STANDING, AppointmentState.WISHED)
LEDGER_LINES = 60
TIMES_AHEAD_DAYS = 28
MOST_DAYS_OF_TIMES = 10
PUSH_SHOWN_MS = 6 * moments.HOUR_MS
"""A loopback push stays on the page for so long of the played time, unless it is put away."""


class _Page:
    """One request of an owner: who asks, in which words, and when."""

    def __init__(self, request: web.Request, words: Words) -> None:
        self.request = request
        self.context: Context = request.app[CONTEXT]
        self.words = words
        self.now = self.context.clock.now()
        self.who = who(request)
        self.owner_id = self.who.subject or ""
        self.pushes: list[Shown] = []

    async def read(self, work: Callable[[Records], T]) -> T:
        return await self.context.database.read(work)

    async def write(self, work: Callable[[Records], T]) -> T:
        result = await self.context.database.write(work)
        if self.context.announce:
            await self.context.announce()
        return result

    def answer(self, template: str, tab: str, view: Shown, **more: Any) -> web.Response:
        return page(
            self.request,
            template,
            self.words,
            tab=tab,
            view=view,
            pushes=self.pushes,
            **{"toast": toast(self), **more},
        )


async def open_page(request: web.Request) -> _Page:
    """The request of an owner."""
    at = _Page(request, await words_for(request))
    if request.method == "GET":
        at.pushes = await pushes(at)
    return at


def toast(at: _Page, undo_url: str | None = None, product: str = "") -> Shown | None:
    """What the last POST did, from `?said=`."""
    said = at.request.query.get("said", "")
    key = f"toast.{said}"
    if not at.words.has(key):
        return None
    return Shown(text=at.words(key, product=product), undo_url=undo_url)


async def pushes(at: _Page) -> list[Shown]:
    """In the demo: the newest push, as the phone shows it, labelled as what it is, until it is answered."""
    demo = at.context.demo
    if demo is None:
        return []
    sent = [
        p for p in demo.state()["pushes"] if p["owner"] == at.owner_id and at.now - p["at"] < PUSH_SHOWN_MS
    ]
    newest = [p for p in sent[-1:] if at.request.path != _push_page(p)]
    stands = await at.read(lambda records: [_stands(records, p) for p in newest])
    return [_push(p, at) for p, open_yet in zip(newest, stands, strict=True) if open_yet]


def _stands(records: Records, push: Mapping[str, Any]) -> bool:
    """Whether the push still asks for something: an offer that is open, a question without an answer."""
    touchpoint = records.touchpoints.get(str(push["touchpoint"]))
    questions = records.feedback.page(touchpoint=touchpoint.id)
    return touchpoint.state is State.OPEN or any(f.answered_at is None for f in questions)


def _push_page(push: Mapping[str, Any]) -> str:
    url = str(push.get("url") or "")
    path = "/" + url.split("://", 1)[-1].partition("/")[2] if url else ""
    return local_path(path, "") or (
        f"/me/touchpoints/{push['touchpoint']}" if push.get("touchpoint") else "/me"
    )


def _push(push: Mapping[str, Any], at: _Page) -> Shown:
    return Shown(
        key=derived_id(push["at"], push.get("touchpoint"), push["title"])[:12],
        source=at.words("push.loopback"),
        time=at.words.when(push["at"], "time"),
        title=push["title"],
        body=push["body"],
        href=_push_page(push),
    )


# --- now -------------------------------------------------------------------------------------


@routes.get("/inbox")
@owner_only
async def inbox_elsewhere(request: web.Request) -> web.Response:
    """The same by another name."""
    return see("/me")


@routes.get("/me")
@owner_only
async def inbox(request: web.Request) -> web.Response:
    """What needs a decision, how the products are, what comes next."""
    at = await open_page(request)
    loaded = await at.read(lambda records: _load_inbox(records, at))
    products = [await views.with_series(at.context, product, at.now) for product in loaded.products]
    matters = []
    for found in loaded.matters:
        one = await views.matter_series(at.context, found, at.now)
        matters.append(views.matter(found, at.context, at.words, at.now, one))
    questions = [asked.card(question, at.context, at.words, at.now) for question in loaded.questions]
    view = Shown(
        greeting=greeting(loaded.owner, at),
        matters=matters,
        matters_label=at.words("inbox.matters", count=len(matters)) if matters else at.words("inbox.nothing"),
        questions=questions,
        products=[views.product(product, at.context, at.words, at.now) for product in products],
        soon=_soon(loaded, at),
        notify=_notify(loaded, at),
    )
    return at.answer("owner_inbox.html", "now", view)


def _load_inbox(records: Records, at: _Page) -> Shown:
    states = (State.OPEN, State.ANSWERED)
    touchpoints = people.matters(records, at.owner_id, states, limit=20)
    visits = people.visits(records, at.owner_id, COMING, at.now)
    return Shown(
        owner=records.owners.get(at.owner_id),
        matters=[views.load_matter(records, t, at.context) for t in touchpoints],
        products=views.load_products(records, at.owner_id),
        questions=asked.waiting(records, at.owner_id, at.context, at.now),
        visits=[(a, views.find_workshop(records, a.workshop), _device_title(records, a)) for a in visits],
        subscribed=bool(records.owners.subscriptions(at.owner_id)),
    )


def _device_title(records: Records, appointment: Appointment) -> str:
    device = records.devices.find(appointment.device) if appointment.device else None
    return device.title if device else ""


def greeting(owner: Owner, at: _Page) -> str:
    """Good morning, by the owner's clock."""
    hour = at.words.local(at.now).hour
    key = "morning" if 4 <= hour < 11 else "evening" if hour >= 18 or hour < 4 else "day"
    salutation = owner.wishes.get("salutation")
    name = (
        f"{salutation} {owner.name.split()[-1]}" if salutation and at.words.language == "de" else owner.name
    )
    return at.words(f"greeting.{key}", name=name)


def _soon(loaded: Shown, at: _Page) -> list[Shown]:
    items = []
    for appointment, workshop, title in loaded.visits:
        when = f"{at.words.when(appointment.start, 'long')}, {at.words.when(appointment.start, 'time')}"
        service = views.service_name(appointment, workshop, at.words)
        text = " · ".join(part for part in (service, title, workshop.name if workshop else "") if part)
        items.append(Shown(icon="calendar", when=when, text=text, href=f"/me/visits/{appointment.id}"))
    return items


def _notify(loaded: Shown, at: _Page) -> str | None:
    return None if loaded.subscribed else at.context.vapid_public_key


# --- one matter ------------------------------------------------------------------------------


@routes.get("/me/touchpoints/{id}")
@owner_only
async def touchpoint(request: web.Request) -> web.Response:
    """The evidence, the times, the ways out, and how it was decided."""
    at = await open_page(request)
    wanted = request.match_info["id"]
    found, lines, muted = await at.read(lambda records: _load_touchpoint(records, at, wanted))
    how_far = await at.read(lambda records: reached.lines(records, found.touchpoint.id, at.words, at.now))
    report = await at.read(lambda records: records.reports.of_touchpoint(wanted))
    one = await views.matter_series(at.context, found, at.now)
    shown = views.matter(found, at.context, at.words, at.now, one)
    view = Shown(
        matter=shown,
        chart=views.chart(one, at.words, at.now, "matter"),
        status=answering.status(found, at.words),
        returns=answering.returns(found, at.words, at.now, f"{shown.href}/return"),
        report=answering.reported(report, found.device, at.context, at.words),
        may_mute=respond.may_mute(found.touchpoint),
        **answering.days(at.now, at.words),
        slots_label=_slots_label(shown, at.words),
        facts=_facts(found, at.words),
        why=shown.why,
        condition=found.rule.condition if found.rule else "",
        ledger=views.ledger(lines, at.context, at.words),
        reached=how_far,
        muted=muted,
        hold_url=f"{shown.href}/hold" if _can_hold(found, at.now) else None,
        update_url=_update_url(found.touchpoint),
    )
    return at.answer("owner_touchpoint.html", "now", view)


def _update_url(found: Touchpoint) -> str | None:
    """Where a time for new software is chosen."""
    update = found.evidence.get("update")
    offered = isinstance(update, Mapping) and update.get("what") == "offered" and found.state in LIVE
    return f"/me/updates#update-{update['action']}" if offered and isinstance(update, Mapping) else None


def _load_touchpoint(records: Records, at: _Page, wanted: str) -> tuple[views.Matter, list[LedgerLine], bool]:
    found = rights.touchpoint(records, at.who, wanted)
    lines = records.touchpoints.ledger(touchpoint=found.id, limit=LEDGER_LINES)
    muted = found.rule in records.owners.preferences(at.owner_id).muted
    return views.load_matter(records, found, at.context), lines, muted


def _can_hold(found: views.Matter, now: int) -> bool:
    slots = [s for s in found.touchpoint.slots if s.start > now]
    running = any(s.held_until and s.held_until > now for s in slots)
    return found.touchpoint.state is State.OPEN and bool(slots) and not running


def _slots_label(shown: Shown, words: Words) -> str:
    return words("slot.offers", workshop=shown.workshop, count=len(shown.slots)) if shown.slots else ""


def _facts(found: views.Matter, words: Words) -> list[tuple[str, str]]:
    service = found.workshop.service(found.touchpoint.service) if found.workshop else None
    if service is None:
        return []
    price = words.texts.price(words.language, service.price_from, service.price_to, service.currency)
    facts = [("clock", words("visit.takes", time=words.minutes(service.minutes)))]
    return [*facts, ("document", words("visit.costs", price=price))] if price else facts


@routes.post("/me/touchpoints/{id}/answer")
@allow(Role.OWNER, Role.OPERATOR)
async def answer(request: web.Request) -> web.Response:
    """The owner's choice, or what the call centre takes down for the owner."""
    at, form = await open_page(request), await request.post()
    wanted = request.match_info["id"]
    channel = "call_centre" if at.who.staff else "web_push" if form.get("channel") == "web_push" else "page"
    chosen = answering.chosen(form, channel=channel, at=at.now, by=at.who.name)
    try:
        outcome = await take_answer(at, wanted, chosen, for_product=bool(form.get("for_product")))
    except InvalidError:
        return see(f"/{'operator' if at.who.staff else 'me'}/touchpoints/{wanted}", "not_possible")
    return see(_after_answer(at, outcome, str(form.get("next", ""))), outcome.said)


async def take_answer(at: Any, wanted: str, chosen: Answer, *, for_product: bool = False) -> Shown:
    """Take an answer; what stands against it is told in calm words, never as an error page. Raises
    InvalidError for what cannot be chosen."""
    asks = chosen.action.partition(":")[0] in REQUESTS
    try:
        after = await at.write(lambda records: _answer(records, at, wanted, chosen, for_product))
    except SlotTakenError:
        after = await at.write(lambda records: book.refresh(records, wanted, at.now, at.context.policy))
        return Shown(touchpoint=after, said="taken", visit=None)
    except ConflictError:
        after = await at.read(lambda records: rights.touchpoint(records, at.who, wanted))
        visit = await at.read(lambda records: _visit_of(records, after))
        return Shown(touchpoint=after, said="conflict", visit=visit)
    visit = await at.read(lambda records: _visit_of(records, after))
    return Shown(touchpoint=after, said=_said(after, visit, asks=asks), visit=visit)


def _answer(records: Records, at: Any, wanted: str, chosen: Answer, for_product: bool) -> Touchpoint:
    rights.answerable(records, at.who, wanted)
    policy = at.context.policy
    return respond.answer(records, wanted, chosen, at.now, policy, for_product=for_product)


def _visit_of(records: Records, touchpoint: Touchpoint) -> Appointment | None:
    standing = records.workshops.appointments(touchpoint=touchpoint.id, states=COMING)
    return standing[-1] if standing else None


def _said(after: Touchpoint, visit: Appointment | None, *, asks: bool = False) -> str:
    if visit is not None:
        return "booked" if visit.state is AppointmentState.CONFIRMED else "requested"
    return answering.said(after, asks=asks)


def _after_answer(at: _Page, outcome: Shown, wanted: str) -> str:
    if at.who.staff:
        stays = outcome.said in ("taken", "conflict", "times", "workshop")
        touchpoint = outcome.touchpoint
        return (
            f"/operator/touchpoints/{touchpoint.id}"
            if stays
            else f"/operator/owners/{quote(touchpoint.owner)}"
        )
    if local_path(wanted, ""):
        return local_path(wanted)
    if outcome.visit is not None:
        return f"/me/visits/{outcome.visit.id}"
    if outcome.said == "done" and outcome.touchpoint.answer.done_at is None:
        return f"/me/touchpoints/{outcome.touchpoint.id}/done"
    if outcome.said in ("taken", "conflict", "times", "workshop", *returning.PUTS_OFF, "snoozed"):
        return f"/me/touchpoints/{outcome.touchpoint.id}"
    return "/me"


@routes.post("/me/touchpoints/{id}/hold")
@owner_only
async def hold(request: web.Request) -> web.Response:
    """The owner looks at the times: keep them for a while."""
    at, wanted = await open_page(request), request.match_info["id"]

    def work(records: Records) -> None:
        rights.answerable(records, at.who, wanted)
        book.hold(records, wanted, at.now, at.context.policy)

    try:
        await at.write(work)
    except ConflictError:
        return see(f"/me/touchpoints/{wanted}", "conflict")
    return see(f"/me/touchpoints/{wanted}")


@routes.get("/me/touchpoints/{id}/times")
@owner_only
async def times(request: web.Request) -> web.Response:
    """Every free time of the next weeks."""
    at, wanted = await open_page(request), request.match_info["id"]

    def work(records: Records) -> tuple[views.Matter, list[Any]]:
        found = views.load_matter(records, rights.touchpoint(records, at.who, wanted), at.context)
        return found, free_times(records, found, at.now)

    found, slots = await at.read(work)
    return at.answer("owner_times.html", "now", _times_view(at, found, slots, f"/me/touchpoints/{wanted}"))


def free_times(records: Records, found: views.Matter, now: int) -> list[Any]:
    """Free slots for a matter at its workshop, soonest first."""
    service = found.workshop.service(found.touchpoint.service) if found.workshop else None
    if found.workshop is None or service is None:
        return []
    end = now + TIMES_AHEAD_DAYS * moments.DAY_MS
    return book.free_slots(records, found.workshop, service, now, end, now, mine=found.touchpoint.id)


def _times_view(
    at: _Page, found: views.Matter, slots: list[Any], back: str, action: str | None = None
) -> Shown:
    shown = views.matter(found, at.context, at.words, at.now)
    days = views.by_day(slots, at.words, shown.workshop, at.now)[:MOST_DAYS_OF_TIMES]
    return Shown(
        matter=shown,
        back=back,
        action=action or shown.answer_url,
        title=at.words("times.title"),
        lead=at.words("times.lead", workshop=shown.workshop),
        days=days,
    )


# --- products --------------------------------------------------------------------------------


@routes.get("/me/products")
@owner_only
async def products(request: web.Request) -> web.Response:
    """All products with their health."""
    at = await open_page(request)
    found = await at.read(lambda records: views.load_products(records, at.owner_id))
    measured = [await views.with_series(at.context, one, at.now) for one in found]
    shown = [views.product(one, at.context, at.words, at.now) for one in measured]
    return at.answer("owner_products.html", "products", Shown(products=shown))


@routes.get("/me/products/{device}")
@owner_only
async def product(request: web.Request) -> web.Response:
    """One product: health, history, everything it sent."""
    at, wanted = await open_page(request), request.match_info["device"]

    def work(records: Records) -> tuple[views.Product, str | None]:
        device = rights.device(records, at.who, wanted)
        workshop = views.find_workshop(records, device.workshop)
        product = views.owners_product(records, at.owner_id, device)
        return product, workshop.name if workshop else None

    found, workshop = await at.read(work)
    view = await product_view(found, at, workshop, "/me/products")
    return at.answer("owner_product.html", "products", view)


async def product_view(found: views.Product, at: Any, workshop: str | None, base: str) -> Shown:
    """A product's page, for owners and for after-sales."""
    one = await views.with_series(at.context, found, at.now)
    words, device = at.words, found.device
    shown = views.product(one, at.context, words, at.now, base=base)
    drawn = [views.chart(course, words, at.now, name) for name, course in one.series.items()]
    due = [row for row in shown.health if row.due]
    headline = (
        words("products.one_due", part=due[0].label)
        if len(due) == 1
        else (words("products.some_due", count=len(due)) if due else words("products.all_well"))
    )
    return Shown(
        product=shown,
        headline=headline if shown.health else words("products.no_health_title"),
        charts=[chart for chart in drawn if chart is not None],
        latest=views.latest_rows(device, found.facts, at.context, words, at.now),
        sent_note=views.last_seen(found.facts, words, at.now),
        about=views.about(device, found.facts, words, at.now, workshop),
    )


# --- visits ----------------------------------------------------------------------------------


@routes.get("/me/visits")
@owner_only
async def visits(request: web.Request) -> web.Response:
    """What is booked, and what was."""
    at = await open_page(request)

    def work(records: Records) -> list[tuple[Appointment, Any, str]]:
        found = people.visits(records, at.owner_id)
        return [(a, views.find_workshop(records, a.workshop), _device_title(records, a)) for a in found]

    rows = [(a, _visit_row(a, workshop, title, at)) for a, workshop, title in await at.read(work)]
    coming = [row for a, row in rows if a.state in COMING]
    past = [row for a, row in reversed(rows) if a.state not in COMING]
    return at.answer("owner_visits.html", "visits", Shown(coming=coming, past=past))


def _visit_row(appointment: Appointment, workshop: Any, title: str, at: _Page) -> Shown:
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
    at, wanted = await open_page(request), request.match_info["id"]
    loaded = await at.read(lambda records: _load_visit(records, at, wanted))
    told = min(at.now, loaded.appointment.created)
    one = await views.matter_series(at.context, loaded.matter, told) if loaded.matter else None
    view = _visit_view(loaded, one, at)
    undo = (
        f"/me/visits/{wanted}/cancel"
        if view.upcoming and request.query.get("said") in ("booked", "requested")
        else None
    )
    note = toast(at, undo, loaded.device.title if loaded.device else "")
    return at.answer("owner_visit.html", "visits", view, toast=note)


def _load_visit(records: Records, at: _Page, wanted: str) -> Shown:
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
    )


def _visit_view(loaded: Shown, one: Any, at: _Page) -> Shown:
    appointment, workshop, device, words = loaded.appointment, loaded.workshop, loaded.device, at.words
    product = " · ".join(p for p in (device.title, device.plate) if p) if device else ""
    line = " · ".join(p for p in (product, views.promised(appointment, words)) if p)
    address = workshop.address if workshop else None
    phone = workshop.phone if workshop else None
    return Shown(
        id=appointment.id,
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
        map_url=f"geo:0,0?q={quote(address)}" if address else None,
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
    return at.answer("owner_times.html", "visits", _times_view(at, found, slots, back, f"{back}/move"))


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


# --- the one question ------------------------------------------------------------------------


@routes.get("/me/feedback/{id}")
@owner_only
async def feedback(request: web.Request) -> web.Response:
    """One question, answered with one tap."""
    at, wanted = await open_page(request), request.match_info["id"]

    def work(records: Records) -> asked.Asked:
        return asked.load(records, rights.feedback(records, at.who, wanted), at.context)

    return at.answer("owner_feedback.html", "now", asked.page_view(await at.read(work), at.words))


@routes.post("/me/feedback/{id}")
@owner_only
async def rate(request: web.Request) -> web.Response:
    """The answer to it."""
    at, wanted, form = await open_page(request), request.match_info["id"], await request.post()
    score, comment = str(form.get("score", "")), str(form.get("comment", "")) or None
    expected, policy = str(form.get("expected", "")), at.context.policy

    def work(records: Records) -> None:
        rights.feedback(records, at.who, wanted)
        if expected:
            follow_up.compare(records, wanted, expected, at.now)
            return
        if not score.isascii() or not score.isdigit():
            raise InvalidError("score: choose one of the numbers.")
        follow_up.rate(records, wanted, int(score), comment, at.now, policy)

    try:
        await at.write(work)
    except (ConflictError, InvalidError):
        return see(f"/me/feedback/{wanted}", "conflict")
    return see(f"/me/feedback/{wanted}")


# --- you -------------------------------------------------------------------------------------


@routes.get("/me/you")
@owner_only
async def you(request: web.Request) -> web.Response:
    """Consents, quiet hours, channels, looks, and what was decided."""
    at = await open_page(request)
    loaded = await at.read(lambda records: _load_you(records, at))
    return at.answer("owner_you.html", "you", _you_view(loaded, at))


@routes.get("/me/export.zip")
@owner_only
async def take_along(request: web.Request) -> web.StreamResponse:
    """Everything that is held on them, as a file."""
    known, context = who(request), request.app[CONTEXT]
    return await export.answer(request, context, known, known.subject or "", context.clock.now())


def _load_you(records: Records, at: _Page) -> Shown:
    return Shown(
        owner=records.owners.get(at.owner_id),
        consents=records.owners.consents(at.owner_id),
        preferences=outgoing.wishes(records, at.owner_id, at.context.policy),
        subscriptions=records.owners.subscriptions(at.owner_id),
        places=reached.addresses(records, records.owners.get(at.owner_id)),
        asked=consents.purposes(records, at.owner_id, at.context.policy),
        shared=[
            (device, person, records.owners.get(device.owner).name if device.owner else "")
            for device, person in people.shared(records, at.owner_id)
        ],
        lines=people.ledger(records, at.owner_id, limit=8),
    )


def _you_view(loaded: Shown, at: _Page) -> Shown:
    words, wishes = at.words, loaded.preferences
    return Shown(
        name=loaded.owner.name,
        zone_name=loaded.owner.time_zone.replace("_", " "),
        consents=[_consent(purpose, loaded.consents, at) for purpose in loaded.asked],
        shared=[_shared(one, at) for one in loaded.shared],
        quiet_from=wishes.quiet_from,
        quiet_to=wishes.quiet_to,
        channels=[_channel(key, wishes, loaded, words) for key in _channels(at)],
        notify=at.context.vapid_public_key,
        push_note=None,
        budget=words("you.budget_text", count=wishes.weekly_budget),
        weekly_budget=wishes.weekly_budget,
        offers=_offers(loaded, at),
        ledger=views.ledger(loaded.lines, at.context, words, newest_first=True),
        muted=[(rule, views.rule_name(rule, words), words("people.mute_ends")) for rule in wishes.muted],
    )


def _offers(loaded: Shown, at: _Page) -> int | None:
    """How many offers a week, where there are any."""
    if "marketing" not in loaded.asked:
        return None
    wanted: int | None = loaded.preferences.marketing_budget
    return at.context.policy.marketing_budget if wanted is None else wanted


def _consent(purpose: str, history: list[Consent], at: _Page) -> Shown:
    """A purpose: what it is for, what ends with it, how it stands, and every choice that was made."""
    words, entries = at.words, [entry for entry in history if entry.purpose == purpose]
    newest, key = (entries[0] if entries else None), f"consent.{purpose}"
    implied = newest is None and agree.basis(purpose) is Basis.OBJECTION
    granted = newest.granted if newest is not None else implied
    since = words("consent.since", date=words.when(newest.at, "full")) if newest and granted else ""
    text = words(f"{key}.text") if words.has(f"{key}.text") else ""
    ends = words("consent.what_ends", text=words(f"{key}.ends")) if words.has(f"{key}.ends") else ""
    return Shown(
        purpose=purpose,
        label=words(f"{key}.label") if words.has(f"{key}.label") else purpose,
        text=" ".join(p for p in (text, since, words("consent.implied") if implied else "") if p),
        ends=ends,
        granted=granted,
        history=[_choice(entry, words) for entry in entries],
    )


def _choice(entry: Consent, words: Words) -> str:
    """One entry of a consent's history."""
    source = f"consent.source.{entry.source}"
    said = words(source if words.has(source) else "consent.source.other", source=entry.source)
    date = f"{words.when(entry.at, 'full')}, {words.when(entry.at, 'time')}"
    choice = words(f"consent.entry_{'yes' if entry.granted else 'no'}", date=date, source=said)
    return f"{choice} ({words('consent.version', version=entry.text)})" if entry.text else choice


def _shared(one: tuple[Device, Person, str], at: _Page) -> Shown:
    """A product of somebody else's that the owner shares."""
    device, person, owner = one
    return Shown(
        href=f"/me/products/{quote(device.id)}",
        title=device.title,
        text=f"{at.words('people.shared', name=owner)} · {at.words(f'people.role.{person.role}')}",
        leave=f"/me/products/{quote(device.id)}/people/{quote(person.owner)}/remove",
    )


def _channels(at: _Page) -> list[str]:
    """Those that can be chosen: of mail, letters and the app those that the operator has."""
    more = [key for key in reached.IN_WRITING if key in at.context.policy.channels]
    return ["web_push", "display", *more]


def _channel(key: str, wishes: Preferences, loaded: Shown, words: Words) -> Shown:
    subscriptions: list[PushSubscription] = loaded.subscriptions
    text = words(f"channel.{key}.text")
    if key == "web_push" and subscriptions:
        text = words("channel.web_push.to", names=", ".join(dict.fromkeys(s.label for s in subscriptions)))
    place = reached.channel_text(key, loaded.places, words) or Shown(text=text, again=None)
    label, on = words(f"channel.{key}.label"), key in wishes.channels
    return Shown(key=key, label=label, text=place.text, on=on, again=place.again)


@routes.get("/me/ledger")
@owner_only
async def ledger(request: web.Request) -> web.Response:
    """Everything that was found, sent and not sent, and why."""
    at = await open_page(request)
    after = request.query.get("after")
    lines = await at.read(lambda r: people.ledger(r, at.owner_id, after=after, limit=LEDGER_LINES + 1))
    older = f"/me/ledger?after={quote(lines[LEDGER_LINES - 1].id)}" if len(lines) > LEDGER_LINES else None
    shown = views.ledger(lines[:LEDGER_LINES], at.context, at.words, newest_first=True)
    return at.answer("owner_ledger.html", "you", Shown(ledger=shown, older=older))


@routes.post("/me/consents/{purpose}")
@owner_only
async def consent(request: web.Request) -> web.Response:
    """Agree, or withdraw: it holds at once."""
    at, form, purpose = await open_page(request), await request.post(), request.match_info["purpose"]
    granted, by = bool(form.get("granted")), agree.By(name=at.owner_id, source="owner")

    def work(records: Records) -> None:
        if purpose not in consents.purposes(records, at.owner_id, at.context.policy):
            raise NotFoundError(f"There is no purpose {purpose}.")
        agree.agree(records, at.owner_id, purpose, granted, by, at.now, at.context.policy)

    await at.write(work)
    return see("/me/you", "saved")


async def _prefer(at: _Page, change: Callable[[Preferences], Preferences]) -> None:
    by, policy = agree.By(name=at.owner_id, source="owner"), at.context.policy

    def work(records: Records) -> None:
        wishes = outgoing.wishes(records, at.owner_id, policy)
        agree.prefer(records, at.owner_id, change(wishes), by, at.now, policy)

    await at.write(work)


@routes.post("/me/preferences")
@owner_only
async def preferences(request: web.Request) -> web.Response:
    """Quiet hours."""
    at, form = await open_page(request), await request.post()
    begin, end = str(form.get("quiet_from", ""))[:5], str(form.get("quiet_to", ""))[:5]
    try:
        moments.minutes_of(begin), moments.minutes_of(end)
    except ValueError:
        return see("/me/you", "conflict")
    await _prefer(at, lambda wishes: replace(wishes, quiet_from=begin, quiet_to=end))
    return see("/me/you", "saved")


@routes.post("/me/budget")
@owner_only
async def weekly(request: web.Request) -> web.Response:
    """How many messages a week: about products, and offers."""
    at, form = await open_page(request), await request.post()
    given = {name: str(form[name]) for name in ("weekly_budget", "marketing_budget") if name in form}
    if not given or not all(re.fullmatch("[0-9]{1,2}", number) for number in given.values()):
        return see("/me/you", "conflict")
    service, offers = given.get("weekly_budget"), given.get("marketing_budget")

    def change(wishes: Preferences) -> Preferences:
        return replace(
            wishes,
            weekly_budget=wishes.weekly_budget if service is None else int(service),
            marketing_budget=wishes.marketing_budget if offers is None else int(offers),
        )

    await _prefer(at, change)
    return see("/me/you", "saved")


@routes.post("/me/channels/{channel}")
@owner_only
async def channel(request: web.Request) -> web.Response:
    """Use a channel, or do not."""
    at, form, name = await open_page(request), await request.post(), request.match_info["channel"]
    if name not in _channels(at):
        raise NotFoundError(f"There is no channel {name}.")
    on = bool(form.get("on"))

    def change(wishes: Preferences) -> Preferences:
        rest = tuple(c for c in wishes.channels if c != name)
        return replace(wishes, channels=(*rest, name) if on else rest)

    await _prefer(at, change)
    return see("/me/you", "saved")


@routes.post("/me/mute")
@owner_only
async def mute(request: web.Request) -> web.Response:
    """Hear no more of a rule, or hear of it again."""
    at, form = await open_page(request), await request.post()
    rule, muted = str(form.get("rule", "")), bool(form.get("muted"))
    policy = at.context.policy
    await at.write(lambda records: agree.mute(records, at.owner_id, rule, muted, at.now, policy))
    return see(local_path(str(form.get("next", "")), "/me/you"), "saved")


@routes.post("/me/subscriptions")
@owner_only
async def subscribe(request: web.Request) -> web.Response:
    """A browser that the owner allowed to show notifications (RFC 8030)."""
    at = await open_page(request)
    try:
        said = await request.json()
        keys = said["keys"]
        endpoint, p256dh, auth = str(said["endpoint"]), str(keys["p256dh"]), str(keys["auth"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidError(
            "subscription: endpoint and keys.p256dh, keys.auth, as the browser gives them."
        ) from error
    subscription = PushSubscription(
        id=derived_id("subscription", at.owner_id, endpoint),
        owner=at.owner_id,
        endpoint=endpoint,
        p256dh=p256dh,
        auth=auth,
        label=str(said.get("label") or "Browser")[:60],
        created=at.now,
    )
    await at.write(lambda records: records.owners.subscribe(subscription))
    return web.json_response({"id": subscription.id}, status=201)
