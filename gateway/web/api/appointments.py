"""Appointments: booked times with their diagnosis, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gateway.domain.access import Role
from gateway.domain.appointment import Appointment, AppointmentState, ExtraState
from gateway.domain.errors import NotFoundError
from gateway.domain.visit_words import code_words
from gateway.flow import book, follow_up, visit
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import EVERYONE, STAFF
from gateway.web.api import speaking
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, bad_cursor, page
from gateway.web.api.shapes import (
    AppointmentOut,
    CounterIn,
    ForOwner,
    Id,
    In,
    Moment,
    MomentIn,
    Out,
    Price,
    Prose,
    RescheduleIn,
    Stay,
    WorkIn,
)

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

    return page(
        await call.read(work),
        query.limit,
        lambda found: told(call, found),
        lambda appointment: appointment.id,
    )


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
    return told(call, await call.read(lambda r: rights.appointment(r, call.who, appointment_id)))


def told(call: Call, appointment: Appointment) -> AppointmentOut:
    """An appointment with its trouble codes in the caller's words."""
    texts, language = call.context.texts, call.language
    codes = {
        str(code): code_words(texts, language, str(code)) for code in appointment.diagnosis.get("codes") or ()
    }
    return AppointmentOut.of(appointment).model_copy(update={"code_meanings": codes})


async def happen(call: Call, appointment_id: str, work: Callable[[Records], Appointment]) -> AppointmentOut:
    """Let something happen to an appointment that the caller may touch."""

    def checked(records: Records) -> AppointmentOut:
        rights.changeable(records, call.who, appointment_id)
        return told(call, work(records))

    result = await call.write(checked)
    await call.announce()
    return result


async def happen_for_owner(
    call: Call, appointment_id: str, body: ForOwner, work: Callable[[Records], Appointment]
) -> AppointmentOut:
    """The same where it is the owner's to decide: who else hands it in has verified them. They are told where
    it changed something, not of the same once more."""

    def for_owner(records: Records) -> Appointment:
        before = records.workshops.appointment(appointment_id)
        matter = speaking.matter_of(records, before.touchpoint)
        if matter is None or call.who.role is Role.WORKSHOP:
            return work(records)
        by = speaking.speaker(call, records, matter, body)
        after = work(records)
        if after != before:
            speaking.tell(call, records, records.touchpoints.get(matter.id), body, by)
        return after

    if body.verified is not None:
        touchpoint = await call.read(lambda r: rights.changeable(r, call.who, appointment_id).touchpoint)
        if touchpoint is not None:
            await speaking.verify_first(call, touchpoint, body)
    return await happen(call, appointment_id, for_owner)


@endpoints.post("/appointments/{appointment_id}/confirm", Role.WORKSHOP, *STAFF)
async def confirm_appointment(call: Call, appointment_id: str) -> AppointmentOut:
    """Say yes to a requested appointment."""
    policy = call.context.policy
    return await happen(call, appointment_id, lambda r: book.confirm(r, appointment_id, call.now, policy))


@endpoints.post("/appointments/{appointment_id}/counter", Role.WORKSHOP, *STAFF)
async def counter_appointment(call: Call, appointment_id: str, body: CounterIn) -> AppointmentOut:
    """Propose other times, which are kept for the owner; the matter is open again with those."""
    policy = call.context.policy
    return await happen(
        call,
        appointment_id,
        lambda r: book.counter(r, appointment_id, body.starts, call.now, policy, reason=body.reason),
    )


class DeclineIn(In):
    """Why not."""

    reason: Prose | None = None


@endpoints.post("/appointments/{appointment_id}/decline", Role.WORKSHOP, *STAFF)
async def decline_appointment(call: Call, appointment_id: str, body: DeclineIn) -> AppointmentOut:
    """Say no to a request, or to the times that an owner wishes for instead.

    The owner gets the next times; a time that stood already goes on standing.
    """
    policy = call.context.policy
    return await happen(
        call,
        appointment_id,
        lambda r: book.decline(r, appointment_id, call.now, policy, reason=body.reason),
    )


class StartIn(In):
    """One of the times that were named."""

    start: MomentIn


class TakeIn(ForOwner):
    """One of the times that the workshop offers."""

    start: MomentIn


@endpoints.post("/appointments/{appointment_id}/accept", Role.WORKSHOP, *STAFF)
async def accept_wish(call: Call, appointment_id: str, body: StartIn) -> AppointmentOut:
    """Take one of the times that the owner wishes for, also outside of the opening hours."""
    policy = call.context.policy
    return await happen(
        call, appointment_id, lambda r: book.accept(r, appointment_id, body.start, call.now, policy)
    )


@endpoints.post("/appointments/{appointment_id}/take-offer", Role.OWNER, *STAFF)
async def take_offer(call: Call, appointment_id: str, body: TakeIn) -> AppointmentOut:
    """Take one of the times that the workshop offers instead; it stands at once."""
    policy = call.context.policy
    return await happen_for_owner(
        call, appointment_id, body, lambda r: book.take_offer(r, appointment_id, body.start, call.now, policy)
    )


class WishIn(ForOwner):
    """Times that the owner would rather have."""

    starts: tuple[MomentIn, ...] = Field(min_length=1, max_length=book.MOST_WISHED)
    comment: Prose | None = None


@endpoints.post("/appointments/{appointment_id}/wish", Role.OWNER, *STAFF)
async def wish_for_a_time(call: Call, appointment_id: str, body: WishIn) -> AppointmentOut:
    """Ask the workshop for another time; it takes one, offers others, or says no."""
    policy = call.context.policy
    return await happen_for_owner(
        call,
        appointment_id,
        body,
        lambda r: book.wish(r, appointment_id, body.starts, call.now, policy, comment=body.comment),
    )


class AskForIn(WishIn):
    """Times that nobody has offered."""

    workshop: Id | None = Field(None, description="The one that was chosen for the product when left out.")
    stay: Stay | None = None


@endpoints.post("/touchpoints/{touchpoint_id}/wish", Role.OWNER, *STAFF)
async def ask_for_a_time(call: Call, touchpoint_id: str, body: AskForIn) -> AppointmentOut:
    """Ask a workshop for a time that it has not offered; it takes one, offers others, or says no."""

    def work(records: Records) -> AppointmentOut:
        found = rights.answerable(records, call.who, touchpoint_id)
        by = speaking.speaker(call, records, found, body)
        made = book.wish_for(
            records,
            touchpoint_id,
            body.starts,
            call.now,
            call.context.policy,
            by=by,
            channel="call_centre" if call.who.staff and not speaking.in_app(call, body) else "api",
            workshop=body.workshop,
            comment=body.comment,
            stay=body.stay,
        )
        speaking.tell(call, records, records.touchpoints.get(touchpoint_id), body, by)
        return AppointmentOut.of(made)

    await speaking.verify_first(call, touchpoint_id, body)
    return await call.write(work)


class StayIn(ForOwner):
    """What the owner does meanwhile."""

    stay: Stay


@endpoints.post("/appointments/{appointment_id}/stay", Role.OWNER, *STAFF)
async def say_stay(call: Call, appointment_id: str, body: StayIn) -> AppointmentOut:
    """Say whether the owner waits there, wants a replacement car, or only drops the product off."""
    policy = call.context.policy
    return await happen_for_owner(
        call, appointment_id, body, lambda r: book.set_stay(r, appointment_id, body.stay, call.now, policy)
    )


@endpoints.post("/appointments/{appointment_id}/reschedule", Role.OWNER, *STAFF)
async def reschedule_appointment(call: Call, appointment_id: str, body: RescheduleIn) -> AppointmentOut:
    """Take another slot at the same workshop; the appointment keeps its id."""
    policy = call.context.policy
    return await happen_for_owner(
        call, appointment_id, body, lambda r: book.reschedule(r, appointment_id, body.slot, call.now, policy)
    )


class CancelIn(ForOwner):
    """On what strength somebody cancels for the owner; owners and workshops have nothing to say."""


@endpoints.post("/appointments/{appointment_id}/cancel", *EVERYONE)
async def cancel_appointment(call: Call, appointment_id: str, body: CancelIn) -> AppointmentOut:
    """Cancel an appointment; the matter is open again."""
    policy = call.context.policy
    by = "workshop" if call.who.role is Role.WORKSHOP else "owner"
    return await happen_for_owner(
        call, appointment_id, body, lambda r: book.cancel(r, appointment_id, call.now, policy, by=by)
    )


@endpoints.post("/appointments/{appointment_id}/done", Role.WORKSHOP, *STAFF)
async def finish_appointment(call: Call, appointment_id: str, body: WorkIn) -> AppointmentOut:
    """Say that the job is done, and what was done.

    Resets the counters that the job resets, fulfils the touchpoint, and asks the owner one question.
    """
    work, policy = body.model_dump(mode="json", exclude_none=True), call.context.policy

    def done(records: Records) -> Appointment:
        visit.close_questions(records, appointment_id, call.now, policy)
        return follow_up.done(records, appointment_id, work, call.now, policy)

    return await happen(call, appointment_id, done)


class StepIn(In):
    """How far the job is."""

    step: Literal["checked_in", "in_work", "ready"]


@endpoints.post("/appointments/{appointment_id}/progress", Role.WORKSHOP, *STAFF)
async def say_progress(call: Call, appointment_id: str, body: StepIn) -> AppointmentOut:
    """Say that the product was taken in, is in work, or is ready; the owner sees it at once."""
    policy = call.context.policy
    return await happen(
        call, appointment_id, lambda r: visit.step(r, appointment_id, body.step, call.now, policy)
    )


# --- extra work -------------------------------------------------------------------------------


class ExtraWorkIn(In):
    """What the workshop found beyond the job."""

    reason: Annotated[Prose, Field(min_length=1)]
    price: Price = Field(description="Whole currency units, with VAT.")
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = None
    photo: Id | None = Field(None, description="Id of an attachment.")
    minutes: int = Field(0, ge=0, le=7 * 24 * 60, description="How much longer it takes.")
    answer_by: MomentIn | None = None


class ExtraWorkOut(Out):
    """A question for extra work, and the owner's word."""

    id: str
    appointment: str
    reason: str
    price: int
    currency: str
    photo: str | None
    minutes: int
    state: ExtraState
    asked_at: Moment
    answer_by: Moment
    answered_at: Moment | None
    by: str | None


class ExtraWorks(Out):
    """All questions of a visit; they are few."""

    items: list[ExtraWorkOut]


@endpoints.get("/appointments/{appointment_id}/extra-work", *EVERYONE)
async def list_extra_work(call: Call, appointment_id: str) -> ExtraWorks:
    """List what a workshop asked to do beyond the job, and what the owner said."""

    def work(records: Records) -> ExtraWorks:
        rights.appointment(records, call.who, appointment_id)
        found = records.workshops.extras(appointment=appointment_id)
        return ExtraWorks(items=[ExtraWorkOut.of(extra) for extra in found])

    return await call.read(work)


@endpoints.post("/appointments/{appointment_id}/extra-work", Role.WORKSHOP, *STAFF)
async def ask_extra_work(call: Call, appointment_id: str, body: ExtraWorkIn) -> ExtraWorkOut:
    """Ask the owner for extra work; without their word it is not done."""

    def work(records: Records) -> ExtraWorkOut:
        rights.appointment(records, call.who, appointment_id)
        named = body.model_dump(exclude={"reason", "price"})
        policy = call.context.policy
        extra = visit.ask_extra(records, appointment_id, body.reason, body.price, call.now, policy, **named)
        return ExtraWorkOut.of(extra)

    return await call.write(work)


class ExtraAnswerIn(ForOwner):
    """The owner's word."""

    approve: bool


@endpoints.post("/extra-work/{extra_id}/answer", Role.OWNER, *STAFF)
async def answer_extra_work(call: Call, extra_id: str, body: ExtraAnswerIn) -> ExtraWorkOut:
    """Approve or decline extra work; the first word holds, another one is told so (409)."""

    def work(records: Records) -> ExtraWorkOut:
        before = records.workshops.extra(extra_id)
        of = rights.changeable(records, call.who, before.appointment)
        matter, policy = speaking.matter_of(records, of.touchpoint), call.context.policy
        by = speaking.speaker(call, records, matter, body) if matter else call.who.name
        channel = "call_centre" if call.who.staff and not speaking.in_app(call, body) else "api"
        extra = visit.answer_extra(records, extra_id, body.approve, call.now, policy, by=by, channel=channel)
        if matter is not None and extra != before:
            speaking.tell(call, records, matter, body, by)
        return ExtraWorkOut.of(extra)

    touchpoint = await call.read(
        lambda r: rights.changeable(r, call.who, r.workshops.extra(extra_id).appointment).touchpoint
    )
    if touchpoint is not None:
        await speaking.verify_first(call, touchpoint, body)
    return await call.write(work)


@endpoints.post("/appointments/{appointment_id}/no-show", Role.WORKSHOP, *STAFF)
async def miss_appointment(call: Call, appointment_id: str) -> AppointmentOut:
    """Say that nobody came; the matter is open again."""
    policy = call.context.policy
    return await happen(call, appointment_id, lambda r: book.no_show(r, appointment_id, call.now, policy))
