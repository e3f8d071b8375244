"""Workshops: who does the work, and which times they can take."""

from __future__ import annotations

from pydantic import Field

from gateway.domain.access import Role
from gateway.domain.appointment import Service, Workshop
from gateway.domain.ids import new_id
from gateway.domain.touchpoint import Slot
from gateway.flow import book
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import EVERYONE, STAFF
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, Query, open_cursor, page
from gateway.web.api.shapes import MomentIn, SlotOut, Word, WorkshopIn, WorkshopOut, WorkshopPut
from gateway.web.problems import Fault, invalid

DAY_MS = 86_400_000
LOOK_AHEAD_MS = 14 * DAY_MS
LOOK_MOST_MS = 92 * DAY_MS

endpoints = Endpoints("Workshops")


@endpoints.get("/workshops", *EVERYONE)
async def list_workshops(call: Call, query: ListQuery) -> Page[WorkshopOut]:
    """List workshops by id; a workshop sees itself."""
    if call.who.role is Role.WORKSHOP:
        own = await call.read(lambda r: r.workshops.get(call.who.subject or ""))
        return Page(items=[WorkshopOut.of(own)], next=None)
    rows = await call.read(lambda r: r.workshops.page(after=query.after(), limit=query.limit + 1))
    return page(rows, query.limit, WorkshopOut.of, lambda workshop: workshop.id)


@endpoints.post("/workshops", *STAFF)
async def register_workshop(call: Call, body: WorkshopIn) -> WorkshopOut:
    """Register a workshop with its opening hours, bays and services."""
    workshop = of_body(body, body.id or new_id(call.now), call.now)

    def work(records: Records) -> WorkshopOut:
        records.workshops.add(workshop)
        return WorkshopOut.of(workshop)

    return await call.write(work)


@endpoints.get("/workshops/{workshop_id}", *EVERYONE)
async def get_workshop(call: Call, workshop_id: str) -> WorkshopOut:
    """Show a workshop."""
    return WorkshopOut.of(await call.read(lambda r: rights.workshop(r, call.who, workshop_id)))


@endpoints.put("/workshops/{workshop_id}", Role.WORKSHOP, *STAFF)
async def put_workshop(call: Call, workshop_id: str, body: WorkshopPut) -> WorkshopOut:
    """Replace what is known of a workshop; what stands booked stays booked."""

    def work(records: Records) -> WorkshopOut:
        before = rights.workshop(records, call.who, workshop_id)
        workshop = of_body(body, workshop_id, before.created)
        records.workshops.put(workshop)
        return WorkshopOut.of(workshop)

    return await call.write(work)


def of_body(body: WorkshopPut, workshop_id: str, created: int) -> Workshop:
    """The workshop that a body describes."""
    values = body.model_dump(exclude={"id", "services", "hours"})
    services = tuple(Service(**service.model_dump()) for service in body.services)
    hours = {str(day): spans for day, spans in body.hours.items()}
    return Workshop(**values, id=workshop_id, services=services, hours=hours, created=created)


class SlotsQuery(Query):
    """For which service, and when."""

    service: Word
    start: MomentIn | None = Field(None, alias="from", description="From this time on; now when left out.")
    end: MomentIn | None = Field(None, alias="to", description="Before this time; two weeks when left out.")
    limit: int = Field(100, ge=1, le=5_000, description="How many items at most.")
    cursor: str | None = Field(None, max_length=300, description="`next` of the page before.")


@endpoints.get("/workshops/{workshop_id}/slots", *EVERYONE)
async def list_slots(call: Call, workshop_id: str, query: SlotsQuery) -> Page[SlotOut]:
    """List the times at which a workshop can take a job, in order.

    They are proposals: booking checks again, and a slot that is gone answers with the next ones.
    """
    start = query.start if query.start is not None else call.now
    end = query.end if query.end is not None else start + LOOK_AHEAD_MS
    if end - start > LOOK_MOST_MS:
        raise invalid([Fault(detail="to is at most 92 days after from.", parameter="to")])
    after = None if query.cursor is None else open_cursor(query.cursor)

    def work(records: Records) -> list[Slot]:
        workshop = rights.workshop(records, call.who, workshop_id)
        service = workshop.service(query.service)
        if service is None:
            known = ", ".join(service.id for service in workshop.services) or "none"
            detail = f"service: {query.service} is not offered here; offered: {known}."
            raise invalid([Fault(detail=detail, parameter="service")])
        return book.free_slots(records, workshop, service, start, end, call.now)

    slots = [slot for slot in await call.read(work) if after is None or slot.id > after]
    return page(slots, query.limit, SlotOut.of, lambda slot: slot.id)
