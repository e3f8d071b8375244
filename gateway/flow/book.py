"""book: proposals, holds, appointments, from the offer to the day itself.

Slots in a message are proposals and are checked again at the tap; who takes a slot is decided inside
one write transaction, and by the database's own guard behind it. A taken slot is answered with the
next ones (`SlotTakenError`); whoever catches it refreshes the proposals in a write of its own
(`refresh`), because the refused one is rolled back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from gateway.domain import slots as arithmetic
from gateway.domain.appointment import Appointment, AppointmentState, Hold, Service, Workshop
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError, SlotTakenError
from gateway.domain.ids import new_id
from gateway.domain.moments import DAY_MS
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import Slot, State, Touchpoint, check_move
from gateway.flow import outgoing
from gateway.ports import Records

FIRST_LOOK_DAYS = 21
"""Slots are looked for so far ahead first: nearly always enough, and a third of the work."""

REOPENED_FOR_MS = 7 * DAY_MS
"""A matter whose appointment fell through stays open at least so long."""

TRANSITIONS: Mapping[AppointmentState, frozenset[AppointmentState]] = {
    AppointmentState.REQUESTED: frozenset({AppointmentState.CONFIRMED, AppointmentState.CANCELLED}),
    AppointmentState.CONFIRMED: frozenset(
        {AppointmentState.DONE, AppointmentState.CANCELLED, AppointmentState.NO_SHOW}
    ),
    AppointmentState.DONE: frozenset(),
    AppointmentState.CANCELLED: frozenset(),
    AppointmentState.NO_SHOW: frozenset(),
}
"""The legal transitions of an appointment; `moved` refuses every other one."""

log = structlog.get_logger()

STANDING = (AppointmentState.REQUESTED, AppointmentState.CONFIRMED)


# --- slots ------------------------------------------------------------------------------------


def free_slots(
    records: Records,
    workshop: Workshop,
    service: Service,
    start: int,
    end: int,
    now: int,
    *,
    mine: str | None = None,
    moving: Appointment | None = None,
) -> list[Slot]:
    """What can be booked in start … end, from the service's lead time on. Holds of the touchpoint `mine`
    do not count against it, nor does the appointment that is being moved."""
    start = max(start, arithmetic.earliest_start(workshop, service, now))
    if start >= end:
        return []
    own = (moving.bay, moving.start, moving.end, None) if moving else None
    busy = records.workshops.busy(workshop.id, start, end + DAY_MS, now)
    return arithmetic.free(workshop, service, start, end, [b for b in busy if b != own], mine=mine)


def propose(
    records: Records,
    workshop: Workshop,
    service: Service,
    now: int,
    n: int = 2,
    *,
    days: int = 60,
    mine: str | None = None,
) -> list[Slot]:
    """Up to `n` real slots that suit different lives: see `gateway.domain.slots.choose`."""
    for ahead in (min(days, service.lead_days + FIRST_LOOK_DAYS), days):
        found = free_slots(records, workshop, service, now, now + ahead * DAY_MS, now, mine=mine)
        chosen = arithmetic.choose(found, workshop.time_zone, n)
        if len(chosen) == n:
            break
    return chosen


def proposals(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> tuple[Slot, ...]:
    """Slots for a touchpoint, at the workshop its owner chose; none when it does not offer the service."""
    if touchpoint.kind != "appointment":
        return ()
    device = records.devices.find(touchpoint.device)
    workshop = outgoing.workshop_of(records, device, replace(touchpoint, slots=())) if device else None
    service = workshop.service(touchpoint.service) if workshop else None
    if workshop is None or service is None:
        return ()
    n, days = policy.proposals, policy.propose_days
    try:
        return tuple(propose(records, workshop, service, now, n, days=days, mine=touchpoint.id))
    except ValueError as error:
        # Opening hours that are no times: the owner is told without slots, and nothing stalls.
        log.warning("workshop_unusable", workshop=workshop.id, why=str(error))
        return ()


def refresh(records: Records, touchpoint_id: str, now: int, policy: Policy) -> Touchpoint:
    """New proposals where one of the present ones is gone; the display is brought up to date."""
    touchpoint = records.touchpoints.get(touchpoint_id)
    if touchpoint.state is not State.OPEN or _all_free(records, touchpoint, now):
        return touchpoint
    fresh = replace(touchpoint, slots=proposals(records, touchpoint, now, policy))
    if fresh == touchpoint:
        return touchpoint
    records.touchpoints.save(fresh)
    outgoing.queue_display(records, fresh, now)
    return fresh


def _all_free(records: Records, touchpoint: Touchpoint, now: int) -> bool:
    return bool(touchpoint.slots) and all(
        _bookable(records, touchpoint, slot.workshop, slot.start, now) is not None
        for slot in touchpoint.slots
    )


def hold(records: Records, touchpoint_id: str, now: int, policy: Policy) -> Touchpoint:
    """Keep the proposals for the owner who opened the matter; gives the touchpoint with `held_until`.

    One hold a touchpoint: while it runs, asking again does not prolong it. Proposals that are gone are
    replaced first. Raises NotFoundError, ConflictError when the matter is no longer open.
    """
    touchpoint = refresh(records, touchpoint_id, now, policy)
    if touchpoint.state is not State.OPEN:
        raise ConflictError(f"This matter is {touchpoint.state}; only an open one holds times.", touchpoint)
    running = {slot.held_until for slot in touchpoint.slots if slot.held_until and slot.held_until > now}
    if running or not touchpoint.slots:
        return touchpoint
    until = now + policy.hold_ms
    records.workshops.hold([_hold(touchpoint, slot, until) for slot in touchpoint.slots])
    held = replace(touchpoint, slots=tuple(replace(slot, held_until=until) for slot in touchpoint.slots))
    records.touchpoints.save(held)
    return held


def _hold(touchpoint: Touchpoint, slot: Slot, until: int) -> Hold:
    return Hold(
        touchpoint=touchpoint.id,
        workshop=slot.workshop,
        bay=slot.bay or "",
        start=slot.start,
        end=slot.end,
        until=until,
    )


def parse_slot(slot_id: str) -> tuple[str, int]:
    """(workshop, start ms) of a slot id. Raises InvalidError."""
    workshop, at, start = slot_id.rpartition("@")
    if not at or not workshop or not (start.isascii() and start.isdigit() and len(start) <= 15):
        raise InvalidError(f"slot: {slot_id!r} is no slot; take an id from the slots offered.")
    return workshop, int(start)


def _bookable(
    records: Records,
    touchpoint: Touchpoint,
    workshop: str,
    start: int,
    now: int,
    *,
    moving: Appointment | None = None,
) -> Slot | None:
    """The slot with a bay if it is still free for this touchpoint."""
    place = _place(records, workshop)
    service = place.service(touchpoint.service)
    if service is None:
        return None
    found = free_slots(records, place, service, start, start + 1, now, mine=touchpoint.id, moving=moving)
    return found[0] if found else _held(records, touchpoint, place, start, now)


def _held(records: Records, touchpoint: Touchpoint, place: Workshop, start: int, now: int) -> Slot | None:
    """A slot that is held for this touchpoint stands even if its lead time began meanwhile."""
    for held in records.workshops.holds(place.id, start, start + 1, now):
        if held.touchpoint == touchpoint.id and held.start == start:
            return Slot(workshop=place.id, start=start, end=held.end, bay=held.bay)
    return None


def _place(records: Records, workshop: str) -> Workshop:
    try:
        return records.workshops.get(workshop)
    except NotFoundError as error:
        raise InvalidError(f"slot: there is no workshop {workshop!r}.") from error


# --- booking ----------------------------------------------------------------------------------


def book(records: Records, touchpoint: Touchpoint, slot_id: str, now: int, policy: Policy) -> Appointment:
    """Book a slot for a touchpoint. The touchpoint itself is moved by who calls (`respond.answer`).

    Raises InvalidError for what is no slot of a workshop that does this job, SlotTakenError (with the
    next proposals) when it is gone; nothing is written then.
    """
    workshop, start = parse_slot(slot_id)
    place = _place(records, workshop)
    if place.service(touchpoint.service) is None:
        raise InvalidError(f"slot: {place.name} does not offer {touchpoint.service}.")
    slot = _bookable(records, touchpoint, workshop, start, now)
    if slot is None:
        raise taken(records, touchpoint, now, policy)
    appointment = _appointment(records, touchpoint, place, slot, now)
    records.workshops.book(appointment)
    records.workshops.release(touchpoint.id)
    code = "booked" if appointment.state is AppointmentState.CONFIRMED else "requested"
    _line(records, appointment, code, now, start=appointment.start, workshop=place.name)
    return appointment


def taken(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> SlotTakenError:
    """The error that carries the next free slots."""
    return SlotTakenError(
        "This time has just been taken. These are the next ones.",
        proposals(records, touchpoint, now, policy),
    )


def _appointment(
    records: Records, touchpoint: Touchpoint, place: Workshop, slot: Slot, now: int
) -> Appointment:
    service = place.service(touchpoint.service)
    assert service is not None  # `_bookable` gave the slot for it
    assert slot.bay is not None
    at_once = place.books == "at_once"
    return Appointment(
        id=new_id(now),
        workshop=place.id,
        service=service.id,
        bay=slot.bay,
        start=slot.start,
        end=slot.end,
        state=AppointmentState.CONFIRMED if at_once else AppointmentState.REQUESTED,
        created=now,
        owner=touchpoint.owner,
        device=touchpoint.device,
        touchpoint=touchpoint.id,
        diagnosis=diagnosis(records, touchpoint, service),
    )


def diagnosis(records: Records, touchpoint: Touchpoint, service: Service) -> dict[str, Any]:
    """What the workshop is told: what was found, with which readings, and what the owner was promised."""
    device = records.devices.find(touchpoint.device)
    latest = records.devices.facts(touchpoint.device).latest
    codes = latest.get("dtc", (0, None))[1]
    return {
        "finding": touchpoint.finding,
        "rule": touchpoint.rule,
        "rule_version": touchpoint.rule_version,
        "evidence": dict(touchpoint.evidence),
        "codes": list(codes) if isinstance(codes, list | tuple) else [codes] if codes else [],
        "odometer": latest.get("odometer", (0, None))[1],
        "firmware": device.firmware if device else None,
        "promised": {
            "minutes": service.minutes,
            "price_from": service.price_from,
            "price_to": service.price_to,
            "currency": service.currency,
        },
    }


# --- until the day ----------------------------------------------------------------------------


def moved(appointment: Appointment, to: AppointmentState, **changes: Any) -> Appointment:
    """The appointment in another state. Raises ConflictError unless `to` may follow."""
    if to not in TRANSITIONS[appointment.state]:
        raise ConflictError(f"This appointment is {appointment.state} and cannot become {to}.", appointment)
    return replace(appointment, state=to, **changes)


def confirm(records: Records, appointment_id: str, now: int, policy: Policy) -> Appointment:
    """The workshop says yes to a request; saying it again changes nothing."""
    appointment = records.workshops.appointment(appointment_id)
    if appointment.state is AppointmentState.CONFIRMED:
        return appointment
    confirmed = moved(appointment, AppointmentState.CONFIRMED)
    records.workshops.save_appointment(confirmed)
    _line(records, confirmed, "confirmed", now, start=confirmed.start, workshop=_name(records, confirmed))
    _push_answered(records, confirmed, now)
    return confirmed


def cancel(
    records: Records, appointment_id: str, now: int, policy: Policy, *, by: str = "owner"
) -> Appointment:
    """It falls through; `by` is "owner" or the owner's id, else the workshop has cancelled. The matter is
    open again, with new times, while it is still true."""
    cancelled = moved(records.workshops.appointment(appointment_id), AppointmentState.CANCELLED)
    records.workshops.save_appointment(cancelled)
    owner = by in ("owner", cancelled.owner)
    code, place = f"cancelled_{'owner' if owner else 'workshop'}", _name(records, cancelled)
    _line(records, cancelled, code, now, start=cancelled.start, workshop=place)
    _reopen(records, cancelled, now, policy, tell=not owner)
    return cancelled


def no_show(records: Records, appointment_id: str, now: int, policy: Policy) -> Appointment:
    """Nobody came; the matter is open again while it is still true."""
    missed = moved(records.workshops.appointment(appointment_id), AppointmentState.NO_SHOW)
    if now < missed.start:
        raise ConflictError("This appointment has not begun yet.", missed)
    records.workshops.save_appointment(missed)
    _line(records, missed, "no_show", now, start=missed.start, workshop=_name(records, missed))
    _reopen(records, missed, now, policy, tell=True)
    return missed


def counter(
    records: Records, appointment_id: str, starts: Sequence[int] | int, now: int, policy: Policy
) -> Appointment:
    """The workshop cannot take the time and offers another or others (ms): the matter is open again with
    those.

    Raises InvalidError when one of them is not free, ConflictError when there is nothing to counter.
    """
    appointment = records.workshops.appointment(appointment_id)
    cancelled = moved(appointment, AppointmentState.CANCELLED)
    if appointment.touchpoint is None:
        raise ConflictError("This is the workshop's own entry; move it instead.", appointment)
    touchpoint = records.touchpoints.get(appointment.touchpoint)
    offered = [_offered(records, touchpoint, appointment, start, now) for start in _several(starts)]
    if not offered:
        raise InvalidError("start: name at least one time to offer instead.")
    records.workshops.save_appointment(cancelled)
    _line(records, cancelled, "countered", now, start=cancelled.start, workshop=_name(records, cancelled))
    _reopen(records, cancelled, now, policy, tell=True, slots=offered)
    return cancelled


def _several(starts: Sequence[int] | int) -> Sequence[int]:
    return (starts,) if isinstance(starts, int) else starts


def _offered(
    records: Records, touchpoint: Touchpoint, appointment: Appointment, start: int, now: int
) -> Slot:
    slot = _bookable(records, touchpoint, appointment.workshop, start, now, moving=appointment)
    if slot is None:
        raise InvalidError("start: one of these times is not free; choose among the free slots.")
    return slot


def reschedule(records: Records, appointment_id: str, slot_id: str, now: int, policy: Policy) -> Appointment:
    """The owner takes another time at the same workshop; the appointment keeps its id.

    Raises InvalidError, SlotTakenError with the next slots, ConflictError when it no longer stands.
    """
    appointment = records.workshops.appointment(appointment_id)
    if appointment.state not in STANDING or appointment.touchpoint is None:
        raise ConflictError(f"This appointment is {appointment.state} and cannot be moved.", appointment)
    touchpoint = records.touchpoints.get(appointment.touchpoint)
    workshop, start = parse_slot(slot_id)
    if workshop != appointment.workshop:
        raise InvalidError("slot: another workshop is another appointment; cancel this one first.")
    if start == appointment.start:
        return appointment
    slot = _bookable(records, touchpoint, workshop, start, now, moving=appointment)
    if slot is None or slot.bay is None:
        raise taken(records, touchpoint, now, policy)
    at_once = _place(records, workshop).books == "at_once"
    state = AppointmentState.CONFIRMED if at_once else AppointmentState.REQUESTED
    after = replace(appointment, bay=slot.bay, start=slot.start, end=slot.end, state=state)
    records.workshops.save_appointment(after)
    _line(
        records,
        after,
        "rescheduled",
        now,
        start=appointment.start,
        new_start=after.start,
        workshop=_name(records, after),
    )
    return after


def _reopen(
    records: Records,
    appointment: Appointment,
    now: int,
    policy: Policy,
    *,
    tell: bool,
    slots: Iterable[Slot] = (),
) -> None:
    """The matter is the owner's again, or ends when it has become untrue or the product has changed hands
    meanwhile. `tell` also pushes:
    a reply that the owner waits for, which costs no budget."""
    if appointment.touchpoint is None:
        return
    touchpoint = records.touchpoints.get(appointment.touchpoint)
    if touchpoint.state is not State.BOOKED:
        return
    over = _over(records, touchpoint)
    if over is not None:
        ended = replace(touchpoint, state=State.CLOSED, closed_at=now)
        records.touchpoints.save(ended)
        outgoing.write_line(records, f"withdrawn_{over}", now, touchpoint=ended)
        return
    check_move(touchpoint, State.OPEN)
    reopened = replace(
        touchpoint,
        state=State.OPEN,
        answer=None,
        closed_at=None,
        expires_at=max(touchpoint.expires_at or 0, now + REOPENED_FOR_MS),
        slots=tuple(slots) or proposals(records, touchpoint, now, policy),
    )
    records.touchpoints.save(reopened)
    outgoing.queue_display(records, reopened, now)
    if tell:
        outgoing.queue_push(records, reopened, "offer", now)


def _over(records: Records, touchpoint: Touchpoint) -> str | None:
    """Why a matter is its owner's no longer, None when it still is."""
    finding = records.touchpoints.finding(touchpoint.finding)
    if finding is None or finding.cleared_at is not None:
        return "untrue"
    device = records.devices.find(touchpoint.device)
    return "new_owner" if device is None or device.owner != touchpoint.owner else None


def _push_answered(records: Records, appointment: Appointment, now: int) -> None:
    """The reply that the owner waits for."""
    if appointment.touchpoint is not None:
        touchpoint = records.touchpoints.get(appointment.touchpoint)
        outgoing.queue_push(records, touchpoint, "answered", now)


def _line(records: Records, appointment: Appointment, code: str, now: int, **params: Any) -> None:
    touchpoint = records.touchpoints.get(appointment.touchpoint) if appointment.touchpoint else None
    outgoing.write_line(
        records,
        code,
        now,
        owner=appointment.owner,
        device=appointment.device,
        touchpoint=touchpoint,
        appointment=appointment.id,
        **params,
    )


def _name(records: Records, appointment: Appointment) -> str:
    return records.workshops.get(appointment.workshop).name
