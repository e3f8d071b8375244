"""visit: from the booking to the finished job, as the owner follows it.

The reminder the day before, the product taken in, in work, ready; what the workshop finds beyond the job
and may only do when the owner says so; and what it takes in from the street. Every step is in the owner's
ledger and on the page; the replies that an owner waits for cost no budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.domain import slots as arithmetic
from gateway.domain.appointment import (
    HERE,
    Appointment,
    AppointmentState,
    ExtraState,
    ExtraWork,
    Workshop,
)
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError, SlotTakenError
from gateway.domain.ids import new_id
from gateway.domain.moments import DAY_MS, MINUTE_MS
from gateway.domain.policy import Policy
from gateway.flow import book, outgoing
from gateway.ports import Records

STEPS: Mapping[str, AppointmentState] = {
    "checked_in": AppointmentState.CHECKED_IN,
    "in_work": AppointmentState.IN_WORK,
    "ready": AppointmentState.READY,
}
"""What a workshop says on the day, and what it makes of the appointment."""

EARLIEST_MS = DAY_MS
"""A product may be brought so long before its time: the evening before is usual."""

LATEST_MS = DAY_MS
"""Who had not come may still come so long after the visit was to end."""

TEXT_MOST = 1_000
"""Characters of a reason that are taken."""

WALK_IN_DAYS = 14
"""How far ahead the next free time is looked for."""


# --- the day itself ---------------------------------------------------------------------------


def step(records: Records, appointment_id: str, to: str, now: int, policy: Policy) -> Appointment:
    """The workshop says how far it is: "checked_in", "in_work", "ready". Saying it again changes nothing.

    Raises InvalidError for another word, ConflictError when it cannot follow, or long before its time."""
    if to not in STEPS:
        raise InvalidError(f"step: {to!r} is none of {', '.join(STEPS)}.")
    appointment = records.workshops.appointment(appointment_id)
    if appointment.state is STEPS[to]:
        return appointment
    late = appointment.state is AppointmentState.NO_SHOW
    if now < appointment.start - EARLIEST_MS or (late and now >= appointment.end + LATEST_MS):
        raise ConflictError("This appointment is more than a day away.", appointment)
    progress = {**appointment.progress, to: now}
    after = book.moved(appointment, STEPS[to], progress=progress, remind_at=None, wished=(), answer_by=None)
    records.workshops.save_appointment(after)
    if late:
        book.came_late(records, after, now, policy)
    book.line(records, after, to, now)
    book.changed(records, after, to, now, policy)
    book.tell_owner(records, after, to, now, policy)
    return after


def close_questions(records: Records, appointment_id: str, now: int, policy: Policy) -> None:
    """The job is done: extra work that nobody answered was not done. Called with `follow_up.done`."""
    for extra in records.workshops.extras(appointment=appointment_id):
        if extra.state is ExtraState.ASKED:
            _end(records, extra, ExtraState.LAPSED, now, policy)


# --- reminder ---------------------------------------------------------------------------------


def remind(records: Records, appointment: Appointment, now: int, policy: Policy) -> str:
    """The owner is reminded of a visit that stands; in quiet hours when they end. Costs no budget."""
    if appointment.state is not AppointmentState.CONFIRMED or now >= appointment.start:
        records.workshops.save_appointment(replace(appointment, remind_at=None))
        return "reminder_dropped"
    later = _out_of_quiet_hours(records, appointment, now, policy)
    if later > now:
        moved_to = later if later < appointment.start else None
        records.workshops.save_appointment(replace(appointment, remind_at=moved_to))
        return "reminder_moved"
    reminded = replace(appointment, remind_at=None)
    records.workshops.save_appointment(reminded)
    book.line(records, reminded, "reminded", now, start=reminded.start)
    book.changed(records, reminded, "reminder", now, policy)
    if reminded.touchpoint is not None:
        touchpoint = records.touchpoints.get(reminded.touchpoint)
        start = reminded.start
        outgoing.queue_news(
            records, touchpoint, "reminder", now, policy, appointment=reminded.id, start=start
        )
    return "reminded"


def _out_of_quiet_hours(records: Records, appointment: Appointment, now: int, policy: Policy) -> int:
    """Now, or when the quiet hours that the owner has set meanwhile end."""
    if appointment.owner is None:
        return now
    zone = records.owners.get(appointment.owner).time_zone
    return outgoing.quiet_hours(outgoing.wishes(records, appointment.owner, policy), zone).moved_out(now)


def settle_due(records: Records, now: int, policy: Policy) -> list[str]:
    """What is due of appointments: answers that did not come, reminders, extra work without a word."""
    outcomes = []
    for appointment in records.workshops.due_appointments(now):
        if appointment.remind_at is not None and appointment.remind_at <= now:
            outcomes.append(remind(records, appointment, now, policy))
            appointment = records.workshops.appointment(appointment.id)  # as it stands now
        if appointment.answer_by is not None and appointment.answer_by <= now:
            outcomes.append(book.lapse(records, appointment, now, policy))
    for extra in records.workshops.due_extras(now):
        _end(records, extra, ExtraState.LAPSED, now, policy)
        outcomes.append("extra_work_lapsed")
    return outcomes


# --- extra work -------------------------------------------------------------------------------


def ask_extra(
    records: Records,
    appointment_id: str,
    reason: str,
    price: int,
    now: int,
    policy: Policy,
    *,
    currency: str | None = None,
    photo: str | None = None,
    minutes: int = 0,
    answer_by: int | None = None,
) -> ExtraWork:
    """The workshop found more: with reason, price (whole currency units, with VAT) and perhaps a photo (an
    attachment's id) the owner is asked. Nothing of it is done without their word, by `answer_by` (ms).

    Raises InvalidError for what is missing or past, ConflictError when the job is not on or nobody is to be
    asked."""
    appointment = records.workshops.appointment(appointment_id)
    begun = appointment.state in HERE or (
        appointment.state is AppointmentState.CONFIRMED and now >= appointment.start
    )
    if not begun or appointment.owner is None:
        raise ConflictError("Extra work is asked while the product is at the workshop.", appointment)
    said = reason.strip()[:TEXT_MOST]
    until = answer_by if answer_by is not None else now + policy.extra_answer_ms
    if not said or price < 0 or minutes < 0 or until <= now:
        raise InvalidError("reason: say why, name a price, and give the owner time to answer.")
    if photo is not None:
        _check_photo(records, photo, appointment)
    extra = ExtraWork(
        id=new_id(now),
        appointment=appointment.id,
        owner=appointment.owner,
        reason=said,
        price=price,
        currency=currency or _currency(records, appointment),
        photo=photo,
        minutes=minutes,
        asked_at=now,
        answer_by=until,
    )
    records.workshops.ask_extra(extra)
    _extra_line(records, appointment, extra, "extra_asked", now, until=until)
    book.changed(records, appointment, "extra_work_asked", now, policy)
    if appointment.touchpoint is not None:
        touchpoint = records.touchpoints.get(appointment.touchpoint)
        outgoing.queue_news(records, touchpoint, "extra_work", now, policy, extra=extra.id)
    return extra


def _check_photo(records: Records, photo: str, appointment: Appointment) -> None:
    """A photo is shown to the owner, so it is one of their own visit."""
    try:
        found = records.attachments.get(photo)
    except NotFoundError:
        found = None
    if found is None or found.owner != appointment.owner or found.device != appointment.device:
        raise InvalidError(f"photo: there is no attachment {photo!r} of this visit; upload it first.")


def _currency(records: Records, appointment: Appointment) -> str:
    service = records.workshops.get(appointment.workshop).service(appointment.service)
    return service.currency if service else "EUR"


def answer_extra(
    records: Records, extra_id: str, approve: bool, now: int, policy: Policy, *, by: str, channel: str
) -> ExtraWork:
    """The owner's word on extra work: the first one holds. The same one again gives what holds.

    Raises ConflictError (`holds` is the question as it stands) for another one, or too late."""
    extra = records.workshops.extra(extra_id)
    wanted = ExtraState.APPROVED if approve else ExtraState.DECLINED
    if extra.state is wanted:
        return extra
    if extra.state is not ExtraState.ASKED or extra.answer_by <= now:
        late = extra.state in (ExtraState.ASKED, ExtraState.LAPSED)
        said = (
            "It is too late to answer; the work is not done." if late else f"This was {extra.state} already."
        )
        raise ConflictError(said, extra)
    return _end(records, replace(extra, by=by, channel=channel), wanted, now, policy)


def _end(records: Records, extra: ExtraWork, state: ExtraState, now: int, policy: Policy) -> ExtraWork:
    """The question is settled: the workshop sees it, the ledger has it."""
    ended = replace(extra, state=state, answered_at=now if state is not ExtraState.LAPSED else None)
    records.workshops.save_extra(ended)
    appointment = records.workshops.appointment(extra.appointment)
    if state is ExtraState.APPROVED and extra.minutes:
        appointment = _prolong(records, appointment, extra.minutes, now, policy)
    _extra_line(records, appointment, ended, f"extra_{state}", now, channel=extra.channel)
    book.changed(records, appointment, "extra_work_answered", now, policy)
    return ended


def _prolong(
    records: Records, appointment: Appointment, minutes: int, now: int, policy: Policy
) -> Appointment:
    """The job takes longer, in everybody's calendar, if its bay is free so long; who comes next is not moved
    for it."""
    end = appointment.end + minutes * MINUTE_MS
    longer = replace(appointment, end=end, sequence=appointment.sequence + 1)
    try:
        with records.savepoint():
            records.workshops.save_appointment(longer)
    except SlotTakenError:
        return appointment
    book.changed(records, longer, "rescheduled", now, policy)
    return longer


def _extra_line(
    records: Records, appointment: Appointment, extra: ExtraWork, code: str, now: int, **params: Any
) -> None:
    told = {name: value for name, value in params.items() if value is not None}
    money = {"price": extra.price, "currency": extra.currency}
    book.line(records, appointment, code, now, work=extra.reason, extra=extra.id, **money, **told)


# --- from the street --------------------------------------------------------------------------


def next_free(records: Records, workshop: Workshop, service_id: str, now: int) -> tuple[int, int, str] | None:
    """(start, end, bay): now, or the next time at which somebody at the door can be taken; None when there is
    none in two weeks. Raises InvalidError for a service that is not offered."""
    service = workshop.service(service_id)
    if service is None:
        raise InvalidError(f"service: {workshop.name} does not offer {service_id!r}.")
    busy = records.workshops.busy(workshop.id, now, now + (WALK_IN_DAYS + 1) * DAY_MS, now)
    slot = arithmetic.next_free(workshop, replace(service, at_home=False), now, busy, days=WALK_IN_DAYS)
    return None if slot is None or slot.bay is None else (slot.start, slot.end, slot.bay)


def walk_in(
    records: Records,
    workshop_id: str,
    service_id: str,
    now: int,
    policy: Policy,
    *,
    label: str | None = None,
) -> Appointment:
    """Somebody stands at the door: taken now if a bay is free, else at the next free time.

    Raises InvalidError for a service that is not offered, ConflictError when nothing is free for weeks."""
    workshop = records.workshops.get(workshop_id)
    found = next_free(records, workshop, service_id, now)
    if found is None:
        raise ConflictError("Nothing is free in the next two weeks.", workshop)
    start, end, bay = found
    service = workshop.service(service_id)
    assert service is not None  # `next_free` found a time for it
    entry = Appointment(
        id=new_id(now),
        workshop=workshop_id,
        service=service_id,
        services=(service_id,),
        bay=bay,
        start=start,
        end=end,
        buffer_ms=service.buffer_minutes * MINUTE_MS,
        state=AppointmentState.CHECKED_IN if start <= now else AppointmentState.CONFIRMED,
        progress={"checked_in": now} if start <= now else {},
        created=now,
        label=label,
    )
    records.workshops.book(entry)
    return entry


def open_questions(records: Records, owner_id: str, now: int) -> list[ExtraWork]:
    """What an owner is asked for at this moment."""
    return [extra for extra in records.workshops.extras(owner=owner_id) if extra.answer_by > now]
