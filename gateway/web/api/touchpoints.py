"""Touchpoints: what is with whom, and what they answered."""

from __future__ import annotations

from pydantic import Field

from gateway.domain import snooze
from gateway.domain.access import Role
from gateway.domain.appointment import Workshop
from gateway.domain.errors import SlotTakenError
from gateway.domain.touchpoint import Answer, State, Touchpoint
from gateway.flow import asking, book, conversation, respond, returning
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import STAFF
from gateway.web.api import speaking
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, page
from gateway.web.api.shapes import (
    AnswerIn,
    Id,
    MatterOut,
    ReturnIn,
    TouchpointDetail,
    TouchpointOut,
    Word,
    WorkshopRef,
)

endpoints = Endpoints("Touchpoints")


class TouchpointsQuery(ListQuery):
    """Which touchpoints."""

    device: Id | None = None
    owner: Id | None = None
    state: list[State] = Field(default_factory=list, description="One or several, separated by commas.")
    rule: Word | None = None


@endpoints.get("/touchpoints", Role.OWNER, *STAFF)
async def list_touchpoints(call: Call, query: TouchpointsQuery) -> Page[TouchpointOut]:
    """List touchpoints, newest first: an owner's own, or all.

    What was suppressed is no touchpoint: it stands in the ledger.
    """

    def work(records: Records) -> list[Touchpoint]:
        return records.touchpoints.page(
            owner=rights.only(call.who, Role.OWNER, query.owner),
            device=query.device,
            states=query.state,
            rule=query.rule,
            after=query.after(),
            limit=query.limit + 1,
        )

    rows = await call.read(work)
    for touchpoint in rows[: query.limit]:
        call.who.saw(touchpoint.owner, "matters", "list")
    return page(rows, query.limit, TouchpointOut.of, lambda touchpoint: touchpoint.id)


@endpoints.get("/touchpoints/{touchpoint_id}", Role.OWNER, *STAFF)
async def get_touchpoint(call: Call, touchpoint_id: str) -> TouchpointDetail:
    """Show a touchpoint with its proposals and its answer."""
    return await call.read(lambda r: _detail(r, rights.touchpoint(r, call.who, touchpoint_id)))


def _detail(records: Records, touchpoint: Touchpoint) -> TouchpointDetail:
    matters = [MatterOut.of(matter) for matter in records.touchpoints.matters(touchpoint.id)]
    return TouchpointDetail.model_construct(**dict(TouchpointOut.of(touchpoint)), matters=matters)


@endpoints.post("/touchpoints/{touchpoint_id}/answer", Role.OWNER, *STAFF)
async def answer_touchpoint(call: Call, touchpoint_id: str, body: AnswerIn) -> TouchpointOut:
    """Answer for the owner.

    The first answer counts, on every channel. The same answer again gives the first one back; another
    one is refused with 409 and `holds`. A slot that is gone is refused with 409 and `next_slots`.

    What is answered for an owner is marked as such; they hear of it, and can take it back for two days.
    Somebody who has signed in answers for a caller who was verified, before or by `verified`, and is refused
    else (403, `unverified`); of what a token hands in without, the owner's ledger says so. Another system may
    say that the owner answered in their app (`through`): then the answer is the owner's own, and their ledger
    says which system told it.
    """
    return await take(call, touchpoint_id, body)


async def take(call: Call, touchpoint_id: str, body: AnswerIn) -> TouchpointOut:
    """Take an answer, whoever hands it in."""
    await speaking.verify_first(call, touchpoint_id, body)
    try:
        answered = await call.write(lambda records: _take(call, records, touchpoint_id, body))
    except SlotTakenError:
        policy = call.context.policy
        await call.context.database.write(lambda r: book.refresh(r, touchpoint_id, call.now, policy))
        raise
    await call.announce()
    return answered


def _take(call: Call, records: Records, touchpoint_id: str, body: AnswerIn) -> TouchpointOut:
    found, policy = rights.answerable(records, call.who, touchpoint_id), call.context.policy
    by = speaking.speaker(call, records, found, body)
    chosen = Answer(
        action=action_of(body),
        slot=body.slot,
        stay=body.stay,
        comment=body.comment,
        workshop=body.workshop,
        place=body.place,
        channel="api",
        at=call.now,
        by=by,
    )
    all_of_it: dict[str, bool] = {"for_product": body.for_product}
    if not call.who.staff:
        after = respond.answer(records, touchpoint_id, chosen, call.now, policy, **all_of_it)
    elif speaking.in_app(call, body):
        name = call.who.name
        after = conversation.answer_in_app(records, found, chosen, name, call.now, policy, **all_of_it)
    else:
        after = conversation.answer_for(records, found, chosen, by, call.now, policy, **all_of_it)
    return TouchpointOut.of(after)


def action_of(body: AnswerIn) -> str:
    """The action with what it needs of a day."""
    given = {"snooze": body.until, "not_now": body.until, "already_done": body.done_on}.get(body.action)
    return f"{body.action}:{given}" if given else body.action


@endpoints.post("/touchpoints/{touchpoint_id}/return", Role.OWNER, *STAFF)
async def change_return(call: Call, touchpoint_id: str, body: ReturnIn) -> TouchpointOut:
    """Choose another day for a matter that was put off (snooze, not now), or take it up at once.

    Taken up at once, a snoozed matter opens again; one that was answered with "not now" keeps its answer
    and is followed by a new touchpoint, which is the answer of this call.
    """

    def work(records: Records) -> TouchpointOut:
        found, policy = rights.answerable(records, call.who, touchpoint_id), call.context.policy
        by = speaking.speaker(call, records, found, body)
        if body.until is None:
            after = returning.show_now(records, touchpoint_id, call.now, policy)
        else:
            zone = records.owners.get(found.owner).time_zone
            until = snooze.instant(body.until, call.now, zone)
            after = returning.put_off_until(records, touchpoint_id, until, call.now, policy)
        if after != found:
            speaking.tell(call, records, after, body, by)
        return TouchpointOut.of(after)

    await speaking.verify_first(call, touchpoint_id, body)
    return await call.write(work)


@endpoints.get("/touchpoints/{touchpoint_id}/workshops", Role.OWNER, *STAFF)
async def list_workshops_for(call: Call, touchpoint_id: str, query: ListQuery) -> Page[WorkshopRef]:
    """List the workshops that do everything a matter needs, by id."""

    def work(records: Records) -> list[Workshop]:
        found = asking.offering(records, rights.touchpoint(records, call.who, touchpoint_id))
        return sorted((p for p in found if p.id > (query.after() or "")), key=lambda place: place.id)

    return page(await call.read(work), query.limit, WorkshopRef.of, lambda place: place.id)


@endpoints.post("/touchpoints/{touchpoint_id}/hold", Role.OWNER, *STAFF)
async def hold_slots(call: Call, touchpoint_id: str) -> TouchpointOut:
    """Keep the proposed slots for a while, because the owner is looking at them."""

    def work(records: Records) -> TouchpointOut:
        rights.answerable(records, call.who, touchpoint_id)
        return TouchpointOut.of(book.hold(records, touchpoint_id, call.now, call.context.policy))

    return await call.write(work)
