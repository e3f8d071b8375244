"""Answering beside the times: when and where it was done, another workshop, what returns when, what owners
report themselves; the call centre's page; and the pictures that belong to matters.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace as Shown
from typing import Any

from aiohttp import web

from gateway.domain import snooze
from gateway.domain.access import Role
from gateway.domain.errors import ConflictError, InvalidError, UnverifiedError
from gateway.domain.report import Report
from gateway.domain.touchpoint import LedgerLine, Touchpoint
from gateway.flow import asking, begun, conversation, reports, respond, returning
from gateway.ports import Records
from gateway.web import answering, around, rights, views
from gateway.web.access import EVERYONE, allow
from gateway.web.owner_page import open_page
from gateway.web.pages_talk import caller_view
from gateway.web.pages_touchpoint import free_times
from gateway.web.render import see
from gateway.web.words import Words

routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)
operator_only = allow(Role.OPERATOR)

FORM_MOST = reports.PHOTO_MOST + 64 * 1024
"""Bytes of a form with a photo."""
LINES = 40


# --- when and where it was done ---------------------------------------------------------------------


@routes.get("/me/touchpoints/{id}/done")
@owner_only
async def done(request: web.Request) -> web.Response:
    """When and where was it done?"""
    at, wanted = await open_page(request), request.match_info["id"]
    found, places = await at.read(lambda records: _load(records, at, wanted))
    given = found.touchpoint.answer.workshop if found.touchpoint.answer else None
    view = Shown(
        **_head(found, at),
        url=f"/me/touchpoints/{wanted}/answer",
        places=places,
        workshop=given or found.device.workshop or "",
        today=answering.days(at.now, at.words)["today"],
    )
    return at.answer("owner_done.html", "now", view)


def _load(records: Records, at: Any, wanted: str) -> tuple[views.Matter, list[Shown]]:
    touchpoint = rights.touchpoint(records, at.who, wanted)
    return views.load_matter(records, touchpoint, at.context), answering.places(records, touchpoint, at.now)


def _head(found: views.Matter, at: Any) -> dict[str, Any]:
    return {
        "name": views.spoken(found, at.context, at.words, at.now).name,
        "back": f"/me/touchpoints/{found.touchpoint.id}",
    }


# --- another workshop -------------------------------------------------------------------------------


@routes.get("/me/touchpoints/{id}/workshops")
@owner_only
async def workshops(request: web.Request) -> web.Response:
    """Those that do the job."""
    at, wanted = await open_page(request), request.match_info["id"]
    found, places = await at.read(lambda records: _load(records, at, wanted))
    for place in places:
        place.rating = answering.rating(place.rated, at.words)
    view = Shown(**_head(found, at), url=f"/me/touchpoints/{wanted}/answer", places=places)
    view.begin = f"/me/touchpoints/{wanted}/begun?step=workshops"
    return at.answer("owner_workshops.html", "now", view)


# --- what returns -----------------------------------------------------------------------------------


@routes.post("/me/touchpoints/{id}/return")
@owner_only
async def change_return(request: web.Request) -> web.Response:
    """Another day for what was put off, or at once."""
    return await _change_return(request)


@routes.post("/operator/touchpoints/{id}/return")
@operator_only
async def change_return_for_owner(request: web.Request) -> web.Response:
    """The same for an owner who calls and was verified."""
    return await _change_return(request)


async def _change_return(request: web.Request) -> web.Response:
    at, form, wanted = await open_page(request), await request.post(), request.match_info["id"]
    until, policy = str(form.get("until", "")), at.context.policy

    def work(records: Records) -> Touchpoint:
        found = rights.answerable(records, at.who, wanted)
        if at.who.staff:
            conversation.check_verified(records, found, at.now)
        if not until:
            after = returning.show_now(records, wanted, at.now, policy)
        else:
            zone = records.owners.get(found.owner).time_zone
            moment = snooze.instant(until, at.now, zone)
            after = returning.put_off_until(records, wanted, moment, at.now, policy)
        if at.who.staff and after != found:
            conversation.changed_for(records, after, at.who.name, at.now, policy)
        return after

    base = "/operator/touchpoints" if at.who.staff else "/me/touchpoints"
    try:
        after = await at.write(work)
    except UnverifiedError:
        return see(f"{base}/{wanted}", "talk_verify_first")
    except ConflictError:
        return see(f"{base}/{wanted}", "conflict")
    except InvalidError:
        return see(f"{base}/{wanted}", "not_possible")
    return see(f"{base}/{after.id}", "changed" if until else "shown")


# --- something is wrong -----------------------------------------------------------------------------


@routes.get("/me/products/{device}/report")
@owner_only
async def report_page(request: web.Request) -> web.Response:
    """In words, or with a photo."""
    return await _report_page(request)


async def _report_page(request: web.Request, fault: str = "", text: str = "") -> web.Response:
    at, wanted = await open_page(request), request.match_info["device"]
    device = await at.read(lambda records: rights.reportable(records, at.who, wanted))
    back = f"/me/products/{wanted}"
    view = Shown(product=device.title, back=back, url=f"{back}/report", fault=fault, text=text)
    return at.answer("owner_report.html", "products", view)


@routes.post("/me/products/{device}/report")
@owner_only
async def report(request: web.Request) -> web.Response:
    """A matter opens at once, with times."""
    at, wanted = await open_page(request), request.match_info["device"]
    form = await request.clone(client_max_size=FORM_MOST).post()
    text, body = str(form.get("text", "")), await _sent(form.get("photo"))
    try:
        text = reports.said(text)
    except InvalidError:
        return await _report_page(request, at.words("report.empty"), text)
    try:
        picture = await asyncio.to_thread(reports.photo, body) if body else None
    except InvalidError:
        return await _report_page(request, at.words("report.photo_bad"), text)
    facts, spans = await at.read(lambda records: _reporting(records, at, wanted))
    readings = await around.readings(at.context, facts, spans, at.now)

    def work(records: Records) -> tuple[Report, Touchpoint]:
        rights.reportable(records, at.who, wanted)
        return reports.report(
            records,
            device=wanted,
            by=at.owner_id,
            text=text,
            picture=picture,
            readings=readings,
            now=at.now,
            policy=at.context.policy,
        )

    _, touchpoint = await at.write(work)
    return see(f"/me/touchpoints/{touchpoint.id}", "reported")


async def _sent(file: Any) -> bytes:
    """The photo of a form as it was sent; nothing when none was chosen."""
    if not isinstance(file, web.FileField):
        return b""
    with file.file as opened:
        return await asyncio.to_thread(opened.read)


def _reporting(records: Records, at: Any, wanted: str) -> tuple[Any, list[rights.Interval]]:
    rights.reportable(records, at.who, wanted)
    return records.devices.facts(wanted), rights.intervals(records, at.who, wanted)


@routes.get("/attachments/{id}")
@allow(*EVERYONE)
async def attachment(request: web.Request) -> web.Response:
    """A picture that belongs to a matter, for those whom it concerns."""
    at, wanted = await open_page(request), request.match_info["id"]
    return answering.picture(await at.read(lambda records: rights.attachment(records, at.who, wanted)))


# --- the call centre --------------------------------------------------------------------------------


@routes.get("/operator/touchpoints/{id}")
@operator_only
async def for_owner(request: web.Request) -> web.Response:
    """A matter, with everything that can be taken down for its owner once they are verified."""
    at, wanted = await open_page(request), request.match_info["id"]
    loaded = await at.read(lambda records: _load_for_owner(records, at, wanted))
    found, owner = loaded.found, loaded.owner
    words = Words(at.context.texts, at.words.language, owner.time_zone)
    one = await views.matter_series(at.context, found, at.now)
    shown = views.matter(found, at.context, words, at.now, one)
    shown.answer_url = f"/operator/touchpoints/{wanted}/talk/answer?from=matter"
    called = found.touchpoint.answer is not None and found.touchpoint.answer.action == "call_me"
    open_yet = found.touchpoint.state in respond.ANSWERABLE and found.touchpoint.answer is None
    free = views.by_day(loaded.slots, words, shown.workshop, at.now)[:10]
    photo = found.touchpoint.evidence.get("photo")
    view = Shown(
        matter=shown,
        owner=owner.name,
        back=f"/operator/owners/{owner.id}",
        href=f"/operator/touchpoints/{wanted}",
        caller=loaded.caller,
        photo=f"/attachments/{photo}" if isinstance(photo, str) else None,
        ledger=_for_after_sales(loaded.lines, views.ledger(loaded.lines, at.context, words)),
        begun=answering.begun(loaded.begun, words, at.now, ""),
        status=answering.status(found, words),
        returns=answering.returns(found, words, at.now, f"/operator/touchpoints/{wanted}/return"),
        can_answer=open_yet or (called and found.touchpoint.state.value == "answered"),
        later=open_yet,
        days=free,
        actions=[a for a in answering.actions(found, shown, words) if not (called and a.id == "call_me")],
        resets=True,
        places=loaded.places,
        others=[place for place in loaded.places if not place.current] if open_yet else [],
        **answering.days(at.now, words),
    )
    return at.answer("operator_touchpoint.html", "owners", view)


def _for_after_sales(lines: list[LedgerLine], shown: list[Shown]) -> list[Shown]:
    """The owner's ledger for who may not open the owner's pages: a rule leads to its own page, the rest is
    said without a link."""
    rules = {line.code: line.params.get("rule") for line in lines if line.code == "found"}
    for one in shown:
        rule = rules.get(one.code)
        one.why_url = f"/operator/rules/{rule}" if rule else ""
    return shown


def _load_for_owner(records: Records, at: Any, wanted: str) -> Shown:
    touchpoint = rights.touchpoint(records, at.who, wanted)
    found = views.load_matter(records, touchpoint, at.context)
    lines: list[LedgerLine] = records.touchpoints.ledger(touchpoint=wanted, limit=LINES)
    bookable = touchpoint.kind == "appointment" and found.workshop is not None
    return Shown(
        found=found,
        begun=begun.begun(records, touchpoint, at.now),
        caller=caller_view(records, touchpoint, at.words, at.now),
        owner=records.owners.get(touchpoint.owner),
        lines=lines,
        places=answering.places(records, touchpoint) if asking.offering(records, touchpoint) else [],
        slots=free_times(records, found, at.now) if bookable else [],
    )
