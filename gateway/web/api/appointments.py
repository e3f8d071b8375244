"""Appointments: booked times with their diagnosis, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from gateway.domain.access import Role
from gateway.domain.appointment import Appointment, AppointmentState
from gateway.domain.errors import NotFoundError
from gateway.flow import book, follow_up
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import EVERYONE, STAFF
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, bad_cursor, page
from gateway.web.api.shapes import AppointmentOut, CounterIn, Id, MomentIn, RescheduleIn, WorkIn

endpoints = Endpoints("Appointments")


class AppointmentsQuery(ListQuery):
    """Which appointments."""

    workshop: Id | None = None
    owner: Id | None = None
    device: Id | None = None
    touchpoint: Id | None = None
    state: list[AppointmentState] = Field(default_factory=list, description="Separated by commas.")
    start: MomentIn | None = Field(None, alias="from", description="Not over before this time.")
    end: MomentIn | None = Field(None, alias="to", description="Begun before this time.")


@endpoints.get("/appointments", *EVERYONE)
async def list_appointments(call: Call, query: AppointmentsQuery) -> Page[AppointmentOut]:
    """List appointments in order of their start: a workshop's own, an owner's own, or all."""

    def work(records: Records) -> list[Appointment]:
        after = query.after()
        if after is not None and not known(records, after):
            raise bad_cursor()
        rows = records.workshops.appointments(
            workshop=rights.only(call.who, Role.WORKSHOP, query.workshop),
            owner=rights.only(call.who, Role.OWNER, query.owner),
            touchpoint=query.touchpoint,
            device=query.device,
            start=query.start,
            end=query.end,
            states=query.state,
            after=after,
            limit=query.limit + 1,
        )
        shown = [rights.handed_over(records, call.who, row) for row in rows[: query.limit]]
        return [*shown, *rows[query.limit :]]

    return page(await call.read(work), query.limit, AppointmentOut.of, lambda appointment: appointment.id)


def known(records: Records, appointment_id: str) -> bool:
    """Whether there is such an appointment."""
    try:
        records.workshops.appointment(appointment_id)
    except NotFoundError:
        return False
    return True


@endpoints.get("/appointments/{appointment_id}", *EVERYONE)
async def get_appointment(call: Call, appointment_id: str) -> AppointmentOut:
    """Show an appointment with its diagnosis."""
    return AppointmentOut.of(await call.read(lambda r: rights.appointment(r, call.who, appointment_id)))


async def happen(call: Call, appointment_id: str, work: Callable[[Records], Appointment]) -> AppointmentOut:
    """Let something happen to an appointment that the caller may touch."""

    def checked(records: Records) -> AppointmentOut:
        rights.appointment(records, call.who, appointment_id)
        return AppointmentOut.of(work(records))

    result = await call.write(checked)
    await call.announce()
    return result


@endpoints.post("/appointments/{appointment_id}/confirm", Role.WORKSHOP, *STAFF)
async def confirm_appointment(call: Call, appointment_id: str) -> AppointmentOut:
    """Say yes to a requested appointment."""
    policy = call.context.policy
    return await happen(call, appointment_id, lambda r: book.confirm(r, appointment_id, call.now, policy))


@endpoints.post("/appointments/{appointment_id}/counter", Role.WORKSHOP, *STAFF)
async def counter_appointment(call: Call, appointment_id: str, body: CounterIn) -> AppointmentOut:
    """Propose other times; the matter is open again with those."""
    policy = call.context.policy
    return await happen(
        call, appointment_id, lambda r: book.counter(r, appointment_id, body.starts, call.now, policy)
    )


@endpoints.post("/appointments/{appointment_id}/reschedule", Role.OWNER, *STAFF)
async def reschedule_appointment(call: Call, appointment_id: str, body: RescheduleIn) -> AppointmentOut:
    """Take another slot at the same workshop; the appointment keeps its id."""
    policy = call.context.policy
    return await happen(
        call, appointment_id, lambda r: book.reschedule(r, appointment_id, body.slot, call.now, policy)
    )


@endpoints.post("/appointments/{appointment_id}/cancel", *EVERYONE)
async def cancel_appointment(call: Call, appointment_id: str) -> AppointmentOut:
    """Cancel an appointment; the matter is open again."""
    policy = call.context.policy
    by = "workshop" if call.who.role is Role.WORKSHOP else "owner"
    return await happen(
        call, appointment_id, lambda r: book.cancel(r, appointment_id, call.now, policy, by=by)
    )


@endpoints.post("/appointments/{appointment_id}/done", Role.WORKSHOP, *STAFF)
async def finish_appointment(call: Call, appointment_id: str, body: WorkIn) -> AppointmentOut:
    """Say that the job is done, and what was done.

    Resets the counters that the job resets, fulfils the touchpoint, and asks the owner one question.
    """
    work, policy = body.model_dump(mode="json"), call.context.policy
    return await happen(
        call, appointment_id, lambda r: follow_up.done(r, appointment_id, work, call.now, policy)
    )


@endpoints.post("/appointments/{appointment_id}/no-show", Role.WORKSHOP, *STAFF)
async def miss_appointment(call: Call, appointment_id: str) -> AppointmentOut:
    """Say that nobody came; the matter is open again."""
    policy = call.context.policy
    return await happen(call, appointment_id, lambda r: book.no_show(r, appointment_id, call.now, policy))
