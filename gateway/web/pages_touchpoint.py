"""One matter: the evidence, the times, the ways out, how it was decided; and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace as Shown
from typing import Any

from aiohttp import web

from gateway.domain import moments
from gateway.domain.access import Role
from gateway.domain.appointment import Appointment, AppointmentState
from gateway.domain.errors import ConflictError, InvalidError, SlotTakenError
from gateway.domain.touchpoint import LIVE, REQUESTS, Answer, State, Touchpoint
from gateway.flow import begun, book, respond, returning
from gateway.ports import Records
from gateway.web import answering, reached, rights, views
from gateway.web.access import allow, local_path
from gateway.web.owner_page import COMING, OwnerPage, load_page, notify, open_page
from gateway.web.render import see
from gateway.web.words import Words

routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)

LEDGER_LINES = 60
TIMES_AHEAD_DAYS = 28
MOST_DAYS_OF_TIMES = 10


@routes.get("/me/touchpoints/{id}")
@owner_only
async def touchpoint(request: web.Request) -> web.Response:
    """The evidence, the times, the ways out, and how it was decided."""
    wanted = request.match_info["id"]
    at, loaded = await load_page(request, lambda records, at: _load_touchpoint(records, at, wanted))
    found: views.Matter = loaded.found
    one = await views.matter_series(at.context, found, at.now)
    shown = views.matter(found, at.context, at.words, at.now, one)
    view = Shown(
        matter=shown,
        chart=views.chart(one, at.words, at.now, "matter"),
        status=answering.status(found, at.words),
        returns=answering.returns(found, at.words, at.now, f"{shown.href}/return"),
        report=answering.reported(loaded.report, found.device, at.context, at.words),
        may_mute=respond.may_mute(found.touchpoint),
        **answering.days(at.now, at.words),
        slots_label=_slots_label(shown, at.words),
        facts=_facts(found, at.words),
        why=shown.why,
        condition=found.rule.condition if found.rule else "",
        ledger=views.ledger(loaded.lines, at.context, at.words),
        reached=loaded.how_far,
        muted=loaded.muted,
        hold_url=f"{shown.href}/hold" if _can_hold(found, at.now) else None,
        update_url=_update_url(found.touchpoint),
        begun=answering.begun(loaded.stopped, at.words, at.now, shown.href),
        notify=notify(at, "later", subscribed=loaded.subscribed) if found.touchpoint.wake_at else None,
    )
    return at.answer("owner_touchpoint.html", "now", view)


def _update_url(found: Touchpoint) -> str | None:
    """Where a time for new software is chosen."""
    update = found.evidence.get("update")
    offered = isinstance(update, Mapping) and update.get("what") == "offered" and found.state in LIVE
    return f"/me/updates#update-{update['action']}" if offered and isinstance(update, Mapping) else None


def _load_touchpoint(records: Records, at: OwnerPage, wanted: str) -> Shown:
    found = rights.touchpoint(records, at.who, wanted)
    return Shown(
        found=views.load_matter(records, found, at.context),
        lines=records.touchpoints.ledger(touchpoint=found.id, limit=LEDGER_LINES),
        muted=found.rule in records.owners.preferences(at.owner_id).muted,
        how_far=reached.lines(records, found.id, at.words, at.now),
        report=records.reports.of_touchpoint(wanted),
        stopped=begun.begun(records, found, at.now),
        subscribed=bool(records.owners.subscriptions(at.owner_id)),
    )


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
@owner_only
async def answer(request: web.Request) -> web.Response:
    """The owner's choice."""
    at, form = await open_page(request), await request.post()
    wanted = request.match_info["id"]
    channel = "web_push" if form.get("channel") == "web_push" else "page"
    chosen = answering.chosen(form, channel=channel, at=at.now, by=at.who.name)
    try:
        outcome = await take_answer(at, wanted, chosen, for_product=bool(form.get("for_product")))
    except InvalidError:
        return see(f"/me/touchpoints/{wanted}", "not_possible")
    return see(_after_answer(outcome, str(form.get("next", ""))), outcome.said)


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


def _after_answer(outcome: Shown, wanted: str) -> str:
    if local_path(wanted, ""):
        return local_path(wanted)
    if outcome.visit is not None:
        return f"/me/visits/{outcome.visit.id}"
    if outcome.said == "done" and outcome.touchpoint.answer.done_at is None:
        return f"/me/touchpoints/{outcome.touchpoint.id}/done"
    if outcome.said in ("taken", "conflict", "times", "workshop", *returning.PUTS_OFF, "snoozed"):
        return f"/me/touchpoints/{outcome.touchpoint.id}"
    return "/me"


@routes.post("/me/touchpoints/{id}/begun")
@owner_only
async def begin(request: web.Request) -> web.Response:
    """The owner began to choose (`?step=`); any other channel goes on with it."""
    at, wanted, step = await open_page(request), request.match_info["id"], request.query.get("step", "")

    def work(records: Records) -> None:
        found = rights.answerable(records, at.who, wanted)
        begun.begin(records, found, step, "page", at.now, by=at.owner_id)

    await at.write(work)
    return web.Response(status=204)


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
    return at.answer("owner_times.html", "now", times_view(at, found, slots, f"/me/touchpoints/{wanted}"))


def free_times(records: Records, found: views.Matter, now: int) -> list[Any]:
    """Free slots for a matter at its workshop, soonest first."""
    service = found.workshop.service(found.touchpoint.service) if found.workshop else None
    if found.workshop is None or service is None:
        return []
    end = now + TIMES_AHEAD_DAYS * moments.DAY_MS
    return book.free_slots(records, found.workshop, service, now, end, now, mine=found.touchpoint.id)


def times_view(
    at: OwnerPage, found: views.Matter, slots: list[Any], back: str, action: str | None = None
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
        begin=f"{shown.href}/begun?step=times" if action is None else None,
    )
