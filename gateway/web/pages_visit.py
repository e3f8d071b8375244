"""What an owner says about a visit: meanwhile, another time, several workshops, extra work."""

from __future__ import annotations

from types import SimpleNamespace as Shown
from typing import Any

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.errors import ConflictError, InvalidError, SlotTakenError
from gateway.domain.moments import local_ms
from gateway.domain.touchpoint import Answer, Touchpoint
from gateway.flow import asking, book, respond, visit
from gateway.ports import Records
from gateway.web import rights, views, visit_parts
from gateway.web.access import allow
from gateway.web.owner_page import open_page
from gateway.web.render import see

routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)

WORKSHOPS_SHOWN = 12


# --- a visit ----------------------------------------------------------------------------------


async def _say(request: web.Request, work: Any, said: str) -> web.Response:
    """Do something with a visit; what stands against it is told, never an error page."""
    at, wanted, form = await open_page(request), request.match_info["id"], await request.post()
    back = f"/me/visits/{wanted}"

    def checked(records: Records) -> None:
        rights.changeable(records, at.who, wanted)
        work(records, wanted, form, at)

    try:
        await at.write(checked)
    except SlotTakenError:
        return see(back, "taken")
    except ConflictError:
        return see(back, "visit_conflict")
    except InvalidError:
        return see(back, "visit_invalid")
    return see(back, said)


@routes.post("/me/visits/{id}/stay")
@owner_only
async def stay(request: web.Request) -> web.Response:
    """Waiting there, a replacement car, or only dropping it off."""

    def work(records: Records, wanted: str, form: Any, at: Any) -> None:
        book.set_stay(records, wanted, str(form.get("stay", "")), at.now, at.context.policy)

    return await _say(request, work, "saved")


@routes.post("/me/visits/{id}/wish")
@owner_only
async def wish(request: web.Request) -> web.Response:
    """Another time than those that are offered."""

    def work(records: Records, wanted: str, form: Any, at: Any) -> None:
        starts = wished(form.getall("start", []), at.words.zone)
        comment = str(form.get("comment", "")).strip()[:500] or None
        book.wish(records, wanted, starts, at.now, at.context.policy, comment=comment)

    return await _say(request, work, "wished")


@routes.post("/me/visits/{id}/offer")
@owner_only
async def take_offer(request: web.Request) -> web.Response:
    """One of the times that the workshop offers instead."""

    def work(records: Records, wanted: str, form: Any, at: Any) -> None:
        start = str(form.get("start", ""))
        if not (start.isascii() and start.isdigit()):
            raise InvalidError("start: take one of the times that were offered.")
        book.take_offer(records, wanted, int(start), at.now, at.context.policy)

    return await _say(request, work, "booked")


def wished(values: list[Any], zone: str) -> list[int]:
    """What a form's fields for date and time say on the owner's clock; empty ones are none.

    Raises InvalidError for what is no time."""
    try:
        return [local_ms(str(value), zone) for value in values if str(value).strip()]
    except ValueError as error:
        raise InvalidError("start: a day and a time.") from error


# --- a matter ---------------------------------------------------------------------------------


@routes.get("/me/touchpoints/{id}/several")
@owner_only
async def several(request: web.Request) -> web.Response:
    """The next time of each workshop that does this job, to ask up to three; or a time to wish for."""
    at, wanted = await open_page(request), request.match_info["id"]

    def work(records: Records) -> tuple[views.Matter, list[Any]]:
        touchpoint = rights.touchpoint(records, at.who, wanted)
        found = views.load_matter(records, touchpoint, at.context)
        policy, rows = at.context.policy, []
        for place in asking.offering(records, touchpoint)[:WORKSHOPS_SHOWN]:
            slots = book.proposals(records, touchpoint, at.now, policy, workshop=place)
            if slots:
                rows.append((place, slots[0]))
        return found, rows

    found, rows = await at.read(work)
    view = Shown(
        back=f"/me/touchpoints/{wanted}",
        action=f"/me/touchpoints/{wanted}/several",
        wish=f"/me/touchpoints/{wanted}/wish",
        name=views.wording_name(found, at.words),
        rows=[
            Shown(
                id=slot.id,
                name=place.name,
                address=place.address,
                when=visit_parts.moment(slot.start, at.words),
                how=at.words(f"several.{place.books}"),
            )
            for place, slot in rows
        ],
        most=book.MOST_ASKED,
    )
    view.begin = f"/me/touchpoints/{wanted}/begun?step=several"
    return at.answer("owner_several.html", "now", view)


@routes.post("/me/touchpoints/{id}/several")
@owner_only
async def ask_several(request: web.Request) -> web.Response:
    """Ask the workshops that were ticked; the first to say yes has the job."""
    at, wanted, form = await open_page(request), request.match_info["id"], await request.post()
    slots = ",".join(str(value) for value in form.getall("slot", []))
    chosen = Answer(action="book", slot=slots, channel="page", at=at.now, by=at.owner_id)

    def work(records: Records) -> Touchpoint:
        rights.answerable(records, at.who, wanted)
        return respond.answer(records, wanted, chosen, at.now, at.context.policy)

    try:
        await at.write(work)
    except SlotTakenError:
        return see(f"/me/touchpoints/{wanted}/several", "taken")
    except (ConflictError, InvalidError):
        return see(f"/me/touchpoints/{wanted}/several", "visit_invalid")
    return see(f"/me/touchpoints/{wanted}", "requested")


@routes.post("/me/touchpoints/{id}/wish")
@owner_only
async def wish_for(request: web.Request) -> web.Response:
    """A time that nobody has offered; the workshop is asked for it."""
    at, wanted, form = await open_page(request), request.match_info["id"], await request.post()

    def work(records: Records) -> str:
        rights.answerable(records, at.who, wanted)
        starts = wished(list(form.getall("start", [])), at.words.zone)
        comment = str(form.get("comment", "")).strip()[:500] or None
        made = book.wish_for(
            records,
            wanted,
            starts,
            at.now,
            at.context.policy,
            by=at.owner_id,
            channel="page",
            comment=comment,
        )
        return made.id

    try:
        made = await at.write(work)
    except (ConflictError, InvalidError):
        return see(f"/me/touchpoints/{wanted}/several", "visit_invalid")
    return see(f"/me/visits/{made}", "wished")


# --- extra work -------------------------------------------------------------------------------


@routes.get("/me/extra-work/{id}")
@owner_only
async def extra_work(request: web.Request) -> web.Response:
    """One question, two buttons."""
    at, wanted = await open_page(request), request.match_info["id"]

    def work(records: Records) -> tuple[Any, Any]:
        extra = records.workshops.extra(wanted)
        appointment = rights.appointment(records, at.who, extra.appointment)
        return extra, records.workshops.get(appointment.workshop)

    extra, place = await at.read(work)
    view = Shown(
        back=f"/me/visits/{extra.appointment}",
        workshop=place.name,
        extra=visit_parts.extra(extra, at.words, at.now),
    )
    return at.answer("owner_extra.html", "visits", view)


@routes.post("/me/extra-work/{id}/answer")
@owner_only
async def answer_extra(request: web.Request) -> web.Response:
    """Yes or no, from the page or from the notification itself."""
    at, wanted, form = await open_page(request), request.match_info["id"], await request.post()
    action = str(form.get("action", ""))
    channel = "web_push" if form.get("channel") == "web_push" else "page"

    def work(records: Records) -> None:
        extra = records.workshops.extra(wanted)
        rights.changeable(records, at.who, extra.appointment)
        if action not in ("approve", "decline"):
            raise InvalidError("action: approve or decline.")
        policy, yes = at.context.policy, action == "approve"
        visit.answer_extra(records, wanted, yes, at.now, policy, by=at.owner_id, channel=channel)

    try:
        await at.write(work)
    except ConflictError:
        return see(f"/me/extra-work/{wanted}", "conflict")
    except InvalidError:
        return see(f"/me/extra-work/{wanted}", "visit_invalid")
    return see(f"/me/extra-work/{wanted}", "saved")
