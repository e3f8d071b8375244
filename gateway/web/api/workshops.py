"""Workshops: who does the work, and which times they can take."""

from __future__ import annotations

from typing import Self

import msgspec
from pydantic import Field, model_validator

from gateway.domain.access import Role
from gateway.domain.appointment import BusyTime, Workshop
from gateway.domain.errors import InvalidError
from gateway.domain.ids import new_id
from gateway.domain.slots import fault, together
from gateway.domain.touchpoint import Slot
from gateway.flow import book, visit
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import EVERYONE, STAFF
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, Query, open_cursor, page
from gateway.web.api.shapes import (
    AppointmentOut,
    In,
    Line,
    MomentIn,
    Out,
    SlotOut,
    Word,
    WorkshopIn,
    WorkshopOut,
    WorkshopPut,
)
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
    """The workshop that a body describes. Raises InvalidError for what cannot be meant."""
    plain = body.model_dump(exclude={"id"}) | {"id": workshop_id, "created": created}
    workshop = msgspec.convert(plain, Workshop)
    wrong = fault(workshop)
    if wrong is not None:
        raise InvalidError(wrong)
    return workshop


class BusyTimeIn(In):
    """A time that the workshop's own calendar has taken."""

    start: MomentIn
    end: MomentIn
    bay: Line | None = Field(None, description="null: nobody there has time.")
    uid: Line | None = None


class BusyIn(In):
    """Everything that one calendar or system has taken, in place of all it said before."""

    source: Word
    times: tuple[BusyTimeIn, ...] = Field((), max_length=10_000)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if any(time.end <= time.start for time in self.times):
            raise ValueError("times: each ends after it begins.")
        return self


class BusyOut(Out):
    """What was taken in."""

    source: str
    count: int


@endpoints.put("/workshops/{workshop_id}/busy", Role.WORKSHOP, *STAFF)
async def put_busy(call: Call, workshop_id: str, body: BusyIn) -> BusyOut:
    """Say what a workshop's own calendar has taken; what that source said before is forgotten.

    Slots respect it from now on; what stands booked stays booked.
    """

    def work(records: Records) -> BusyOut:
        workshop = rights.workshop(records, call.who, workshop_id)
        strange = next((t.bay for t in body.times if t.bay and t.bay not in workshop.bays), None)
        if strange is not None:
            known = ", ".join(workshop.bays)
            raise invalid([Fault(detail=f"bay: {strange} is none of {known}.", pointer="#/times")])
        times = [
            BusyTime(workshop=workshop_id, source=body.source, **time.model_dump()) for time in body.times
        ]
        records.workshops.put_busy(workshop_id, body.source, times)
        return BusyOut(source=body.source, count=len(times))

    return await call.write(work)


class WalkIn(In):
    """Somebody stands at the door."""

    service: Word
    label: Line | None = Field(None, description="What the calendar shows.")


@endpoints.post("/workshops/{workshop_id}/walk-ins", Role.WORKSHOP, *STAFF)
async def add_walk_in(call: Call, workshop_id: str, body: WalkIn) -> AppointmentOut:
    """Take somebody from the street: now if a bay is free, else at the next free time."""

    def work(records: Records) -> AppointmentOut:
        rights.workshop(records, call.who, workshop_id)
        policy = call.context.policy
        made = visit.walk_in(records, workshop_id, body.service, call.now, policy, label=body.label)
        return AppointmentOut.of(made)

    return await call.write(work)


class SlotsQuery(Query):
    """For which service, and when."""

    service: str = Field(
        pattern=r"^[a-z][a-z0-9_-]{0,63}(,[a-z][a-z0-9_-]{0,63}){0,9}$",
        description="Several, separated by commas, are one visit.",
    )
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
    if end <= start:
        raise invalid([Fault(detail="to: has to come after from.", parameter="to")])
    if end - start > LOOK_MOST_MS:
        raise invalid([Fault(detail="to is at most 92 days after from.", parameter="to")])
    after = None if query.cursor is None else open_cursor(query.cursor)

    def work(records: Records) -> list[Slot]:
        workshop = rights.workshop(records, call.who, workshop_id)
        wanted = query.service.split(",")
        found = [workshop.service(service) for service in wanted]
        services = [service for service in found if service is not None]
        if len(services) < len(wanted):
            known = ", ".join(service.id for service in workshop.services) or "none"
            detail = f"service: {query.service} is not offered here; offered: {known}."
            raise invalid([Fault(detail=detail, parameter="service")])
        return book.free_slots(records, workshop, together(services), start, end, call.now)

    slots = [slot for slot in await call.read(work) if after is None or slot.id > after]
    return page(slots, query.limit, SlotOut.of, lambda slot: slot.id)
