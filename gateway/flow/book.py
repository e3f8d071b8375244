"""book: proposals, holds, appointments, and how both sides come to a time.

Slots in a message are proposals and are checked again at the tap; who takes a slot is decided inside
one write transaction, and by the database's own guard behind it. A taken slot is answered with the
next ones (`SlotTakenError`); whoever catches it refreshes the proposals in a write of its own
(`refresh`), because the refused one is rolled back.

An appointment keeps its id through everything that both sides say about it: a time that the workshop
offers instead, one that the owner wishes for, one that both agree on. What happens on the day itself is
in `visit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from gateway.domain import slots as arithmetic
from gateway.domain.appointment import (
    PENDING,
    STANDING,
    Appointment,
    AppointmentState,
    ExtraState,
    Hold,
    Service,
    Workshop,
)
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError, SlotTakenError
from gateway.domain.ids import new_id
from gateway.domain.moments import DAY_MS, HOUR_MS, MINUTE_MS, local
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import LIVE, Answer, Slot, State, Touchpoint, check_move, services
from gateway.flow import announce, diagnose, outgoing, parting, people
from gateway.ports import Records

GLANCE_DAYS = 4
"""A workshop that is not full has what suits everybody within the next days."""

FIRST_LOOK_DAYS = 21
"""Slots are looked for so far ahead first: nearly always enough, and a third of the work."""

REOPENED_FOR_MS = 7 * DAY_MS
"""A matter whose appointment fell through stays open at least so long."""

MOST_ASKED = 3
"""Workshops that one owner asks at once."""

MOST_WISHED = 3
"""Times that an owner wishes for at once."""

FARTHEST_MS = 366 * DAY_MS
"""So far ahead one side can offer or wish for a time."""

STAYS = ("waits", "replacement_car", "drops_off")
"""What the owner does meanwhile."""

_S = AppointmentState

TRANSITIONS: Mapping[AppointmentState, frozenset[AppointmentState]] = {
    _S.REQUESTED: frozenset({_S.CONFIRMED, _S.COUNTERED, _S.CANCELLED, _S.DECLINED, _S.LAPSED, _S.RELEASED}),
    _S.WISHED: frozenset({_S.CONFIRMED, _S.COUNTERED, _S.CANCELLED, _S.DECLINED, _S.LAPSED, _S.RELEASED}),
    _S.COUNTERED: frozenset({_S.CONFIRMED, _S.REQUESTED, _S.WISHED, _S.CANCELLED, _S.LAPSED, _S.RELEASED}),
    _S.CONFIRMED: frozenset(
        {_S.CHECKED_IN, _S.IN_WORK, _S.READY, _S.DONE, _S.COUNTERED, _S.CANCELLED, _S.NO_SHOW}
    ),
    _S.CHECKED_IN: frozenset({_S.IN_WORK, _S.READY, _S.DONE, _S.CANCELLED}),
    _S.IN_WORK: frozenset({_S.READY, _S.DONE, _S.CANCELLED}),
    _S.READY: frozenset({_S.IN_WORK, _S.DONE}),
    _S.DONE: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.DECLINED: frozenset(),
    _S.LAPSED: frozenset(),
    _S.RELEASED: frozenset(),
    _S.NO_SHOW: frozenset({_S.CHECKED_IN}),  # late, after all
}
"""The legal transitions of an appointment; `moved` refuses every other one."""

log = structlog.get_logger()


# --- the job ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What one visit to one workshop does for a touchpoint."""

    services: tuple[str, ...]
    service: Service
    """all of them as one"""


def services_of(records: Records, touchpoint: Touchpoint) -> tuple[str, ...]:
    """The services of everything that the touchpoint is about, its own first."""
    try:
        matters = records.touchpoints.matters(touchpoint.id)
    except NotFoundError:  # it is being decided
        matters = []
    own = (touchpoint.service,) if touchpoint.service else ()
    return tuple(dict.fromkeys((*own, *services([m for m in matters if m.cleared_at is None]))))


def job(records: Records, workshop: Workshop, touchpoint: Touchpoint) -> Job | None:
    """The visit: all of a bundle that this workshop does in one place and one bay; None when it does not
    offer the first of it."""
    own = workshop.service(touchpoint.service)
    if own is None:
        return None
    found = [s for s in map(workshop.service, services_of(records, touchpoint)) if s is not None]
    fitting = [s for s in found if s.at_home == own.at_home]
    whole = arithmetic.together(fitting)
    if not arithmetic.bays_for(workshop, whole):
        fitting, whole = [own], own
    return Job(services=tuple(s.id for s in fitting), service=whole)


def reachable(records: Records, workshop: Workshop, service: Service, owner_id: str | None) -> bool:
    """Whether a job can be done where it is done: at home only at an address that the workshop comes to."""
    if not service.at_home:
        return True
    if owner_id is None or workshop.home is None:
        return False
    owner = records.owners.get(owner_id)
    return arithmetic.reaches(workshop.home, owner.address, _point(owner.wishes.get("coordinates")))


def _point(stated: Any) -> tuple[float, float] | None:
    """(latitude, longitude) as an owner's wishes hold it: {"latitude", "longitude"}."""
    if not isinstance(stated, Mapping):
        return None
    found = (stated.get("latitude"), stated.get("longitude"))
    good = all(isinstance(x, int | float) for x in found)
    return (float(found[0]), float(found[1])) if good else None  # type: ignore[arg-type]  # checked


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
    stay: str | None = None,
) -> list[Slot]:
    """What can be booked in start … end, from the service's lead time on. Holds of the touchpoint `mine`
    do not count against it, nor does the appointment that is being moved. With `stay` "replacement_car" only
    days on which one is left."""
    own = (moving.bay, moving.start, moving.bay_until, None) if moving else None
    found = _free(records, workshop, service, start, end, now, mine=mine, but=own)
    if stay == "replacement_car" and workshop.replacement_cars is not None:
        return _with_a_car(records, workshop, list(found), moving)
    return list(found)


def _free(
    records: Records,
    workshop: Workshop,
    service: Service,
    start: int,
    end: int,
    now: int,
    *,
    mine: str | None,
    but: tuple[str, int, int, str | None] | None = None,
) -> Iterator[Slot]:
    """What is free in start … end, from the lead time on, `but` not counted as taken."""
    start = max(start, arithmetic.earliest_start(workshop, service, now))
    if start >= end:
        return iter(())
    busy = records.workshops.busy(workshop.id, start, end + DAY_MS, now)
    return arithmetic.free_in_order(workshop, service, start, end, [b for b in busy if b != but], mine=mine)


def _with_a_car(
    records: Records, workshop: Workshop, found: Sequence[Slot], moving: Appointment | None
) -> list[Slot]:
    """Slots on days on which the workshop has a replacement car left."""
    if not found:
        return []
    given: dict[Any, int] = {}
    but = moving.id if moving else None
    first, last = found[0].start - DAY_MS, found[-1].start + DAY_MS
    for start in records.workshops.cars_given(workshop.id, first, last, but=but):
        day = local(start, workshop.time_zone).date()
        given[day] = given.get(day, 0) + 1
    most = workshop.replacement_cars or 0
    return [s for s in found if given.get(local(s.start, workshop.time_zone).date(), 0) < most]


def propose(
    records: Records,
    workshop: Workshop,
    service: Service,
    now: int,
    n: int = 2,
    *,
    days: int = 60,
    mine: str | None = None,
    stay: str | None = None,
    after: int | None = None,
) -> list[Slot]:
    """Up to `n` real slots that suit different lives (see `gateway.domain.slots.choose`), later than `after`
    (ms)."""
    wait = arithmetic.wait_days(service)
    begin = now if after is None else max(now, after + 1)
    chosen: list[Slot] = []
    for ahead in (wait + GLANCE_DAYS, min(days, wait + FIRST_LOOK_DAYS), max(days, wait + FIRST_LOOK_DAYS)):
        end = begin + ahead * DAY_MS
        found: Iterable[Slot] = (
            free_slots(records, workshop, service, begin, end, now, mine=mine, stay=stay)
            if stay == "replacement_car"
            else _free(records, workshop, service, begin, end, now, mine=mine)
        )
        chosen, surely = arithmetic.choose_surely(found, workshop.time_zone, n)
        if surely or (len(chosen) == n and ahead > wait + GLANCE_DAYS):
            break
    return chosen


def look_up_holidays(records: Records, now: int) -> int:
    """Know the public holidays of this year and the next before anybody asks for a time: the first look takes
    up to a second. Gives how many countries and regions that were."""
    year = local(now, "UTC").year
    stated = {(w.country, w.region) for w in _workshops(records) if w.country is not None}
    for country, region in stated:
        try:
            for each in (year, year + 1):
                arithmetic.public_holidays(country, region, each)
        except ValueError as error:
            log.warning("holidays_unknown", country=country, region=region, why=str(error))
    return len(stated)


def _workshops(records: Records) -> Iterator[Workshop]:
    after = None
    while page := records.workshops.page(after=after):
        yield from page
        after = page[-1].id


def proposals(
    records: Records,
    touchpoint: Touchpoint,
    now: int,
    policy: Policy,
    *,
    workshop: Workshop | None = None,
    after: int | None = None,
) -> tuple[Slot, ...]:
    """Slots for a touchpoint, at the workshop its owner chose or the one given; none when it does not offer
    the service, or does not come to the owner. `after` (ms): only later ones."""
    if touchpoint.kind != "appointment":
        return ()
    place = workshop or chosen_workshop(records, touchpoint)
    visit = job(records, place, touchpoint) if place else None
    if place is None or visit is None or not reachable(records, place, visit.service, touchpoint.owner):
        return ()
    stay = wished_stay(records, touchpoint.owner)
    try:
        found = propose(
            records,
            place,
            visit.service,
            now,
            policy.proposals,
            days=policy.propose_days,
            mine=touchpoint.id,
            stay=stay,
            after=after,
        )
    except ValueError as error:
        # Opening hours that are no times: the owner is told without slots, and nothing stalls.
        log.warning("workshop_unusable", workshop=place.id, why=str(error))
        return ()
    return tuple(found)


def chosen_workshop(records: Records, touchpoint: Touchpoint) -> Workshop | None:
    """The workshop that the owner chose for this matter, else for the product."""
    device = records.devices.find(touchpoint.device)
    wanted = touchpoint.workshop or (device.workshop if device else None)
    try:
        return records.workshops.get(wanted) if wanted else None
    except NotFoundError:
        return None


def wished_stay(records: Records, owner_id: str) -> str | None:
    """What an owner said once and for all about the time of a visit; None when nothing was said."""
    stated = records.owners.get(owner_id).wishes
    if stated.get("stay") in STAYS:
        return str(stated["stay"])
    return next((stay for stay in STAYS if stated.get(stay) is True), None)


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
    return _keep(records, touchpoint, touchpoint.slots, now + policy.hold_ms)


def _keep(records: Records, touchpoint: Touchpoint, slots: Iterable[Slot], until: int) -> Touchpoint:
    """The touchpoint with these slots, kept for it until then."""
    kept = replace(touchpoint, slots=tuple(replace(slot, held_until=until) for slot in slots))
    records.workshops.hold([_hold(touchpoint, slot, until) for slot in kept.slots])
    records.touchpoints.save(kept)
    return kept


def _hold(touchpoint: Touchpoint, slot: Slot, until: int) -> Hold:
    return Hold(
        touchpoint=touchpoint.id,
        workshop=slot.workshop,
        bay=slot.bay or "",
        start=slot.start,
        end=slot.end,
        until=until,
        buffer_ms=slot.buffer_ms,
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
    stay: str | None = None,
) -> Slot | None:
    """The slot with a bay if it is still free for this touchpoint."""
    place = _place(records, workshop)
    visit = job(records, place, touchpoint)
    if visit is None or not reachable(records, place, visit.service, touchpoint.owner):
        return None
    try:
        found = free_slots(
            records, place, visit.service, start, start + 1, now, mine=touchpoint.id, moving=moving, stay=stay
        )
    except ValueError as error:
        log.warning("workshop_unusable", workshop=place.id, why=str(error))
        return None
    return found[0] if found else _held(records, touchpoint, place, visit.service, start, now)


def _held(
    records: Records, touchpoint: Touchpoint, place: Workshop, service: Service, start: int, now: int
) -> Slot | None:
    """A slot that is held for this touchpoint stands even if its lead time began meanwhile, unless the job
    has grown beyond it."""
    for held in records.workshops.holds(place.id, start, start + 1, now):
        long_enough = held.end - held.start >= service.minutes * MINUTE_MS
        if held.touchpoint == touchpoint.id and held.start == start and long_enough:
            window = arithmetic.window_of(place, service)
            return Slot(
                workshop=place.id,
                start=start,
                end=held.end,
                bay=held.bay,
                buffer_ms=held.buffer_ms,
                arrive_until=start + window if window else None,
            )
    return None


def _place(records: Records, workshop: str) -> Workshop:
    try:
        return records.workshops.get(workshop)
    except NotFoundError as error:
        raise InvalidError(f"slot: there is no workshop {workshop!r}.") from error


# --- booking ----------------------------------------------------------------------------------


def book(
    records: Records,
    touchpoint: Touchpoint,
    slot_id: str,
    now: int,
    policy: Policy,
    *,
    stay: str | None = None,
) -> Appointment:
    """Book a slot for a touchpoint, or ask up to three workshops at once: ids separated by commas. The
    touchpoint itself is moved by who calls (`respond.answer`).

    `stay` is what the owner said about the time of the visit; else the owner's wishes hold. Where several
    are asked and one of them books at once, it is booked there and nobody else is asked.
    Raises InvalidError for what is no slot of a workshop that does this job, SlotTakenError (with the
    next proposals) when it is gone; nothing is written then.
    """
    if stay is not None and stay not in STAYS:
        raise InvalidError(f"stay: {stay!r} is none of {', '.join(STAYS)}.")
    wanted = [parse_slot(part.strip()) for part in slot_id.split(",")]
    if len(wanted) > MOST_ASKED or len({workshop for workshop, _ in wanted}) < len(wanted):
        raise InvalidError(f"slot: at most {MOST_ASKED} slots, each at another workshop.")
    meanwhile = stay or wished_stay(records, touchpoint.owner)
    found = _free_of(records, touchpoint, wanted, now, meanwhile)
    if not found:
        raise taken(records, touchpoint, now, policy)
    at_once = next((pair for pair in found if pair[0].books == "at_once"), None)
    made = [
        _settle_on(records, touchpoint, place, slot, now, policy, stay=meanwhile)
        for place, slot in ([at_once] if at_once else found)
    ]
    records.workshops.release(touchpoint.id)
    _let_others_go(records, touchpoint, [a.id for a in made], now, policy)
    return made[0]


def _free_of(
    records: Records, touchpoint: Touchpoint, wanted: Sequence[tuple[str, int]], now: int, stay: str | None
) -> list[tuple[Workshop, Slot]]:
    """The slots that are still free, with their workshops."""
    found = []
    for workshop, start in wanted:
        place = _place(records, workshop)
        if place.service(touchpoint.service) is None:
            raise InvalidError(f"slot: {place.name} does not offer {touchpoint.service}.")
        slot = _bookable(records, touchpoint, workshop, start, now, stay=stay)
        if slot is not None:
            found.append((place, slot))
    return found


def taken(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> SlotTakenError:
    """The error that carries the next free slots."""
    return SlotTakenError(
        "This time has just been taken. These are the next ones.",
        proposals(records, touchpoint, now, policy),
    )


def _settle_on(
    records: Records,
    touchpoint: Touchpoint,
    place: Workshop,
    slot: Slot,
    now: int,
    policy: Policy,
    *,
    stay: str | None,
) -> Appointment:
    """The appointment at that slot: the one that both sides spoke about there already, or a new one."""
    spoken = records.workshops.appointments(
        touchpoint=touchpoint.id, states=(_S.COUNTERED, _S.WISHED), workshop=place.id
    )
    before = spoken[0] if spoken else None
    agreed = place.books == "at_once" or (before is not None and slot.start in before.offered)
    made = _appointment(records, touchpoint, place, slot, now, stay=stay)
    if agreed:
        made = replace(made, state=_S.CONFIRMED, remind_at=reminder_at(records, made, now, policy))
    else:
        made = replace(made, answer_by=answer_by(place, slot.start, now))
    if before is None:
        records.workshops.book(made)
    else:
        made = replace(made, id=before.id, created=before.created, sequence=before.sequence + 1)
        records.workshops.save_appointment(made)
    changed(records, made, "confirmed" if agreed else "requested", now, policy)
    params = {} if agreed else {"until": made.answer_by}
    line(records, made, "booked" if agreed else "requested", now, start=made.start, **params)
    return made


def answer_by(place: Workshop, start: int, now: int) -> int:
    """By when the workshop has to say yes or no, ms: before the time itself."""
    return max(now, min(now + place.answer_hours * HOUR_MS, start))


def reminder_at(records: Records, appointment: Appointment, now: int, policy: Policy) -> int | None:
    """When the owner is reminded: the day before, not in quiet hours; None when it is too late for that."""
    if appointment.owner is None or appointment.touchpoint is None:
        return None
    zone = records.owners.get(appointment.owner).time_zone
    quiet = outgoing.quiet_hours(outgoing.wishes(records, appointment.owner, policy), zone)
    at = quiet.moved_out(appointment.start - policy.remind_before_ms)
    return at if now < at < appointment.start else None


def _appointment(
    records: Records, touchpoint: Touchpoint, place: Workshop, slot: Slot, now: int, *, stay: str | None
) -> Appointment:
    visit = job(records, place, touchpoint)
    assert visit is not None  # `_bookable` gave the slot for it
    at_home = visit.service.at_home
    said = diagnose.terms_of(records, touchpoint, place, visit.services, now)
    return Appointment(
        id=new_id(now),
        workshop=place.id,
        service=visit.services[0],
        services=visit.services,
        bay=slot.bay or "",
        start=slot.start,
        end=slot.end,
        buffer_ms=slot.buffer_ms,
        arrive_until=slot.arrive_until,
        address=records.owners.get(touchpoint.owner).address if at_home else None,
        stay=None if at_home else stay,
        state=_S.REQUESTED,
        created=now,
        owner=touchpoint.owner,
        device=touchpoint.device,
        touchpoint=touchpoint.id,
        terms=said,
        diagnosis=diagnose.diagnosis(records, touchpoint, visit.service, place, said),
    )


# --- both sides come to a time ----------------------------------------------------------------


def moved(appointment: Appointment, to: AppointmentState, **changes: Any) -> Appointment:
    """The appointment in another state. Raises ConflictError unless `to` may follow."""
    if to not in TRANSITIONS[appointment.state]:
        raise ConflictError(f"This appointment is {appointment.state} and cannot become {to}.", appointment)
    return replace(appointment, state=to, **changes)


def changed(records: Records, appointment: Appointment, change: str, now: int, policy: Policy) -> None:
    """Everybody who is to hear of it hears of it; called once for every change."""
    announce.appointment_changed(records, appointment, change, now, policy)


def confirm(records: Records, appointment_id: str, now: int, policy: Policy) -> Appointment:
    """The workshop says yes to a request, or to the first of the times that the owner wished for; saying it
    again changes nothing. The others that were asked are released in the same transaction."""
    appointment = records.workshops.appointment(appointment_id)
    if appointment.state is _S.CONFIRMED:
        return appointment
    if appointment.state is _S.WISHED:
        return accept(records, appointment_id, appointment.start, now, policy)
    if appointment.state is not _S.REQUESTED:
        raise ConflictError(
            f"This appointment is {appointment.state}; only a request is confirmed.", appointment
        )
    confirmed = moved(appointment, _S.CONFIRMED, answer_by=None, wished=(), offered=())
    confirmed = replace(confirmed, remind_at=reminder_at(records, confirmed, now, policy))
    records.workshops.save_appointment(confirmed)
    line(records, confirmed, "confirmed", now, start=confirmed.start)
    _agreed(records, confirmed, "confirmed", now, policy)
    return confirmed


def _agreed(records: Records, appointment: Appointment, change: str, now: int, policy: Policy) -> None:
    """It stands: the matter is booked, nobody else is waited for, and both sides hear of it."""
    changed(records, appointment, change, now, policy)
    if appointment.touchpoint is None:
        return
    touchpoint = records.touchpoints.get(appointment.touchpoint)
    records.workshops.release(touchpoint.id)
    _let_others_go(records, touchpoint, [appointment.id], now, policy)
    if touchpoint.state in (State.OPEN, State.ANSWERED):
        touchpoint = replace(touchpoint, state=State.BOOKED, wake_at=None)
        records.touchpoints.save(touchpoint)
        outgoing.close_channels(records, touchpoint, now)
    outgoing.queue_news(records, touchpoint, "visit", now, policy, appointment=appointment.id, change=change)


def _let_others_go(
    records: Records, touchpoint: Touchpoint, but: Sequence[str], now: int, policy: Policy
) -> None:
    """Another workshop was first: who was asked or has offered times is told that it is over."""
    others = records.workshops.appointments(touchpoint=touchpoint.id, states=PENDING)
    for other in (a for a in others if a.id not in but):
        released = moved(other, _S.RELEASED, answer_by=None)
        records.workshops.save_appointment(released)
        line(records, released, "released", now, start=other.start)
        changed(records, released, "cancelled", now, policy)


def let_go(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> None:
    """The owner ended the matter otherwise: nothing is held for it, and who still waits is told."""
    records.workshops.release(touchpoint.id)
    _let_others_go(records, touchpoint, (), now, policy)


def decline(
    records: Records, appointment_id: str, now: int, policy: Policy, *, reason: str | None = None
) -> Appointment:
    """The workshop says no: to a request, then the owner gets the next times, or only to the times that the
    owner wished for instead of one that stands, which goes on standing."""
    appointment = records.workshops.appointment(appointment_id)
    if appointment.state is _S.CONFIRMED and appointment.wished:
        stays = replace(appointment, wished=(), answer_by=None)
        records.workshops.save_appointment(stays)
        line(records, stays, "wish_declined", now, start=stays.start)
        changed(records, stays, "declined", now, policy)
        tell_owner(records, stays, "wish_declined", now, policy)
        return stays
    if appointment.state is _S.CONFIRMED:
        raise ConflictError("This appointment stands; cancel it, or offer another time.", appointment)
    declined = moved(appointment, _S.DECLINED, answer_by=None, reason=reason)
    records.workshops.save_appointment(declined)
    line(records, declined, "declined", now, start=declined.start)
    changed(records, declined, "declined", now, policy)
    _reopen(records, declined, now, policy, tell=True)
    return declined


def cancel(
    records: Records,
    appointment_id: str,
    now: int,
    policy: Policy,
    *,
    by: str = "owner",
    reason: str | None = None,
) -> Appointment:
    """It falls through; `by` is "owner" or the owner's id, else the workshop has cancelled. The matter is
    open again, with new times, while it is still true.

    Raises ConflictError when it has ended, or the job has begun and its owner would end it."""
    before = records.workshops.appointment(appointment_id)
    owner = by in ("owner", before.owner)
    if owner and before.state is _S.IN_WORK:
        raise ConflictError("The job has begun; call the workshop to stop it.", before)
    cancelled = moved(before, _S.CANCELLED, answer_by=None, remind_at=None, reason=reason)
    cancelled = replace(cancelled, sequence=cancelled.sequence + 1)
    records.workshops.save_appointment(cancelled)
    _drop_questions(records, cancelled)
    line(records, cancelled, f"cancelled_{'owner' if owner else 'workshop'}", now, start=cancelled.start)
    changed(records, cancelled, "cancelled", now, policy)
    _reopen(records, cancelled, now, policy, tell=not owner)
    return cancelled


def _drop_questions(records: Records, appointment: Appointment) -> None:
    """Extra work that nobody answered is not asked any more: there is no visit to do it on."""
    for extra in records.workshops.extras(appointment=appointment.id):
        if extra.state is ExtraState.ASKED:
            records.workshops.save_extra(replace(extra, state=ExtraState.LAPSED))


def no_show(records: Records, appointment_id: str, now: int, policy: Policy) -> Appointment:
    """Nobody came; the matter is open again while it is still true."""
    missed = moved(records.workshops.appointment(appointment_id), _S.NO_SHOW, remind_at=None)
    if now < missed.start:
        raise ConflictError("This appointment has not begun yet.", missed)
    records.workshops.save_appointment(missed)
    _drop_questions(records, missed)
    line(records, missed, "no_show", now, start=missed.start)
    changed(records, missed, "no_show", now, policy)
    _reopen(records, missed, now, policy, tell=True)
    return missed


def came_late(records: Records, appointment: Appointment, now: int, policy: Policy) -> None:
    """Who had not come is there after all: the matter is this visit's again.

    Raises ConflictError when it was booked anew, or ended, meanwhile."""
    if appointment.touchpoint is None:
        return
    touchpoint = records.touchpoints.get(appointment.touchpoint)
    if touchpoint.state not in (State.OPEN, State.ANSWERED):
        raise ConflictError(
            f"This matter is {touchpoint.state} meanwhile; take it in by its own visit.", touchpoint
        )
    let_go(records, touchpoint, now, policy)
    booked = replace(touchpoint, state=State.BOOKED, wake_at=None, slots=())
    records.touchpoints.save(booked)
    outgoing.close_channels(records, booked, now)


def counter(
    records: Records,
    appointment_id: str,
    starts: Sequence[int] | int,
    now: int,
    policy: Policy,
    *,
    reason: str | None = None,
) -> Appointment:
    """The workshop cannot take the time and offers another or others (ms), which are kept for the owner
    until `answer_by`. They may lie outside of its hours and sooner than it usually plans: only a bay has to
    be free. The matter is open again with those; while another workshop that was asked has not answered, that
    is waited for. A time that the owner wishes for is agreed on at once.

    Raises InvalidError when one of them is not free, ConflictError when there is nothing to counter.
    """
    appointment = records.workshops.appointment(appointment_id)
    if appointment.touchpoint is None:
        raise ConflictError("This is the workshop's own entry; move it instead.", appointment)
    offers = _several(starts)
    if not offers:
        raise InvalidError("start: name at least one time to offer instead.")
    wished = next((start for start in offers if start in appointment.wished), None)
    if wished is not None:
        return accept(records, appointment_id, wished, now, policy)
    until = max(now, min(now + policy.counter_ms, *offers))
    countered = moved(
        appointment, _S.COUNTERED, offered=offers, wished=(), answer_by=until, remind_at=None, reason=reason
    )
    touchpoint = records.touchpoints.get(appointment.touchpoint)
    if not all(_offered(records, touchpoint, appointment, start, now) for start in offers):
        raise InvalidError("start: one of these times is past or not free; choose among the free slots.")
    records.workshops.save_appointment(countered)
    _keep_offers(records, touchpoint, now)
    line(records, countered, "countered", now, start=countered.start, until=until)
    changed(records, countered, "countered", now, policy)
    _reopen(records, countered, now, policy, tell=True)
    return countered


def _several(starts: Sequence[int] | int) -> tuple[int, ...]:
    return (starts,) if isinstance(starts, int) else tuple(dict.fromkeys(starts))


def _offered(
    records: Records, touchpoint: Touchpoint, appointment: Appointment, start: int, now: int
) -> Slot | None:
    """The slot of a time that a workshop offers itself; None when no bay is free."""
    if not now < start <= now + FARTHEST_MS:
        return None
    found = _bookable(records, touchpoint, appointment.workshop, start, now, moving=appointment)
    return found or _any_bay(records, touchpoint, appointment, start, now)


def _keep_offers(records: Records, touchpoint: Touchpoint, now: int) -> list[Slot]:
    """What workshops offer instead of what they were asked for, kept for the owner as long as each says."""
    offering = records.workshops.appointments(touchpoint=touchpoint.id, states=(_S.COUNTERED,))
    found = [
        replace(slot, held_until=appointment.answer_by)
        for appointment in offering
        for slot in (_offered(records, touchpoint, appointment, start, now) for start in appointment.offered)
        if slot is not None
    ]
    if found:
        records.workshops.hold([_hold(touchpoint, slot, slot.held_until or now) for slot in found])
    return found


def take_offer(records: Records, appointment_id: str, start: int, now: int, policy: Policy) -> Appointment:
    """The owner takes one of the times that the workshop offered instead: it stands at once.

    Raises InvalidError for a time that was not offered, SlotTakenError when it is gone."""
    appointment = records.workshops.appointment(appointment_id)
    if appointment.state is not _S.COUNTERED or appointment.touchpoint is None:
        raise ConflictError(f"This appointment is {appointment.state}; nothing is on offer.", appointment)
    if start not in appointment.offered:
        raise InvalidError("start: take one of the times that were offered.")
    touchpoint = records.touchpoints.get(appointment.touchpoint)
    slot = _offered(records, touchpoint, appointment, start, now)
    if slot is None:
        raise taken(records, touchpoint, now, policy)
    return _stands_at(records, appointment, slot, "confirmed", now, policy)


def wish(
    records: Records,
    appointment_id: str,
    starts: Sequence[int],
    now: int,
    policy: Policy,
    *,
    comment: str | None = None,
) -> Appointment:
    """The owner would rather have one of these times (ms); the workshop takes one, offers others, or says
    no. A time that stands or was asked for goes on standing until then; one that the workshop had offered
    is given back.

    Raises InvalidError for times that are past or too many, ConflictError when there is nothing to wish."""
    appointment = records.workshops.appointment(appointment_id)
    wishes = _wishes(starts, now)
    first = min(wishes) if appointment.state is _S.COUNTERED else min(*wishes, appointment.start)
    by = answer_by(records.workshops.get(appointment.workshop), first, now)
    if appointment.touchpoint is None or appointment.state not in (_S.REQUESTED, _S.CONFIRMED, _S.COUNTERED):
        raise ConflictError(
            f"This appointment is {appointment.state}; no time can be asked for.", appointment
        )
    asked = replace(appointment, wished=wishes, answer_by=by, reason=comment)
    if appointment.state is _S.COUNTERED:
        asked = moved(asked, _S.WISHED, offered=(), start=wishes[0], end=wishes[0] + _length(appointment))
        records.workshops.release(appointment.touchpoint)
        _wait_for_it(records, appointment.touchpoint, now)
    records.workshops.save_appointment(asked)
    line(records, asked, "wished", now, start=wishes[0], until=by)
    changed(records, asked, "owner_countered", now, policy)
    return asked


def _length(appointment: Appointment) -> int:
    return appointment.end - appointment.start


def _wait_for_it(records: Records, touchpoint_id: str, now: int) -> None:
    """The matter is with the workshop, not with the owner."""
    touchpoint = records.touchpoints.get(touchpoint_id)
    if touchpoint.state is State.OPEN:
        waiting = replace(touchpoint, state=State.ANSWERED, slots=())
        records.touchpoints.save(waiting)
        outgoing.close_channels(records, waiting, now)


def _wishes(starts: Sequence[int], now: int) -> tuple[int, ...]:
    wishes = tuple(dict.fromkeys(starts))
    if not 1 <= len(wishes) <= MOST_WISHED or min(wishes) <= now or max(wishes) > now + FARTHEST_MS:
        raise InvalidError(f"starts: one to {MOST_WISHED} times that are still to come, within a year.")
    return wishes


def ask_for(
    records: Records,
    touchpoint: Touchpoint,
    starts: Sequence[int],
    now: int,
    policy: Policy,
    *,
    workshop: str | None = None,
    comment: str | None = None,
    stay: str | None = None,
) -> Appointment:
    """None of the proposals suits: the workshop is asked for one of these times (ms). It takes up no bay yet.
    The touchpoint itself is moved to "answered" by who calls.

    Raises InvalidError for times that are past or too many, or a workshop that does not do this job."""
    wishes = _wishes(starts, now)
    place = _place(records, workshop) if workshop else chosen_workshop(records, touchpoint)
    visit = job(records, place, touchpoint) if place else None
    if place is None or visit is None or not reachable(records, place, visit.service, touchpoint.owner):
        raise InvalidError(f"workshop: choose one that offers {touchpoint.service}.")
    slot = Slot(workshop=place.id, start=wishes[0], end=wishes[0] + visit.service.minutes * MINUTE_MS)
    slot = replace(slot, buffer_ms=arithmetic.buffer_of(place, visit.service))
    meanwhile = stay or wished_stay(records, touchpoint.owner)
    asked = _appointment(records, touchpoint, place, slot, now, stay=meanwhile)
    by = answer_by(place, min(wishes), now)
    asked = replace(asked, state=_S.WISHED, wished=wishes, answer_by=by, reason=comment)
    records.workshops.book(asked)
    records.workshops.release(touchpoint.id)
    _let_others_go(records, touchpoint, [asked.id], now, policy)
    line(records, asked, "wished", now, start=wishes[0], until=by)
    changed(records, asked, "requested", now, policy)
    return asked


def wish_for(
    records: Records,
    touchpoint_id: str,
    starts: Sequence[int],
    now: int,
    policy: Policy,
    *,
    by: str,
    channel: str,
    workshop: str | None = None,
    comment: str | None = None,
    stay: str | None = None,
) -> Appointment:
    """`ask_for`, as the owner's answer to an open matter: it is with the workshop from now on.

    Raises ConflictError when the matter is not open."""
    touchpoint = records.touchpoints.get(touchpoint_id)
    if touchpoint.state is not State.OPEN or touchpoint.kind != "appointment":
        raise ConflictError(f"This matter is {touchpoint.state}; no time can be asked for.", touchpoint)
    asked = ask_for(records, touchpoint, starts, now, policy, workshop=workshop, comment=comment, stay=stay)
    chosen = Answer(action="other_time", channel=channel, at=now, by=by, comment=comment)
    waiting = replace(touchpoint, state=State.ANSWERED, answer=chosen, slots=())
    records.touchpoints.save(waiting)
    outgoing.close_channels(records, waiting, now)
    return asked


def accept(records: Records, appointment_id: str, start: int, now: int, policy: Policy) -> Appointment:
    """The workshop takes one of the times that the owner wished for, also outside of its hours; only a bay
    has to be free. Raises InvalidError for another time, SlotTakenError when no bay is free."""
    appointment = records.workshops.appointment(appointment_id)
    if not appointment.wished or appointment.touchpoint is None:
        raise ConflictError("The owner wishes for no other time.", appointment)
    if start not in appointment.wished:
        raise InvalidError("start: take one of the times that the owner asked for.")
    if start <= now:
        raise InvalidError("start: that time has passed; offer another one.")
    touchpoint = records.touchpoints.get(appointment.touchpoint)
    slot = _any_bay(records, touchpoint, appointment, start, now)
    if slot is None:
        raise SlotTakenError("No bay is free at that time.", proposals(records, touchpoint, now, policy))
    before = appointment.state
    change = "confirmed" if before is _S.WISHED else "rescheduled"
    return _stands_at(records, appointment, slot, change, now, policy)


def _any_bay(
    records: Records, touchpoint: Touchpoint, appointment: Appointment, start: int, now: int
) -> Slot | None:
    place = records.workshops.get(appointment.workshop)
    visit = job(records, place, touchpoint)
    if visit is None:
        return None
    end, buffer = start + visit.service.minutes * MINUTE_MS, arithmetic.buffer_of(place, visit.service)
    own = (appointment.bay, appointment.start, appointment.bay_until, None)
    busy = [b for b in records.workshops.busy(place.id, start, end + buffer, now) if b != own]
    bays = arithmetic.bays_for(place, visit.service)
    bay = arithmetic.Calendar(bays, busy, mine=touchpoint.id).bay(start, end + buffer)
    window = arithmetic.window_of(place, visit.service)
    arrive = start + window if window else None
    slot = Slot(workshop=place.id, start=start, end=end, bay=bay, buffer_ms=buffer, arrive_until=arrive)
    return None if bay is None else slot


def _stands_at(
    records: Records, appointment: Appointment, slot: Slot, change: str, now: int, policy: Policy
) -> Appointment:
    """Both sides agree on this slot."""
    place = _at(appointment, slot)
    after = replace(place, state=_S.CONFIRMED, answer_by=None, wished=(), offered=())
    after = replace(after, remind_at=reminder_at(records, after, now, policy))
    records.workshops.save_appointment(after)
    if change == "rescheduled":
        line(records, after, "rescheduled", now, start=appointment.start, new_start=after.start)
    else:
        line(records, after, "confirmed", now, start=after.start)
    _agreed(records, after, change, now, policy)
    return after


def _at(appointment: Appointment, slot: Slot) -> Appointment:
    """The appointment in another time and bay."""
    return replace(
        appointment,
        bay=slot.bay or "",
        start=slot.start,
        end=slot.end,
        buffer_ms=slot.buffer_ms,
        arrive_until=slot.arrive_until,
        sequence=appointment.sequence + 1,
    )


def reschedule(records: Records, appointment_id: str, slot_id: str, now: int, policy: Policy) -> Appointment:
    """The owner takes another time at the same workshop; the appointment keeps its id. Where the workshop
    books on request, one that stands goes on standing until it takes the new time: it is a wish.

    Raises InvalidError, SlotTakenError with the next slots, ConflictError when it no longer stands.
    """
    appointment = records.workshops.appointment(appointment_id)
    if appointment.state not in (_S.REQUESTED, _S.CONFIRMED) or appointment.touchpoint is None:
        raise ConflictError(f"This appointment is {appointment.state} and cannot be moved.", appointment)
    touchpoint = records.touchpoints.get(appointment.touchpoint)
    workshop, start = parse_slot(slot_id)
    if workshop != appointment.workshop:
        raise InvalidError("slot: another workshop is another appointment; cancel this one first.")
    if start == appointment.start:
        return appointment
    slot = _bookable(records, touchpoint, workshop, start, now, moving=appointment, stay=appointment.stay)
    if slot is None or slot.bay is None:
        raise taken(records, touchpoint, now, policy)
    place = _place(records, workshop)
    if place.books != "at_once" and appointment.state is _S.CONFIRMED:
        return wish(records, appointment_id, [start], now, policy)
    after = replace(_at(appointment, slot), wished=(), answer_by=None)
    if place.books == "at_once":
        after = replace(after, state=_S.CONFIRMED, remind_at=reminder_at(records, after, now, policy))
    else:
        by = answer_by(place, slot.start, now)
        after = replace(after, state=_S.REQUESTED, answer_by=by, remind_at=None)
    records.workshops.save_appointment(after)
    line(records, after, "rescheduled", now, start=appointment.start, new_start=after.start)
    changed(records, after, "rescheduled", now, policy)
    return after


def set_stay(records: Records, appointment_id: str, stay: str, now: int, policy: Policy) -> Appointment:
    """The owner says what they do meanwhile. Raises InvalidError when the workshop has no replacement car
    left on that day."""
    appointment = records.workshops.appointment(appointment_id)
    if stay not in STAYS:
        raise InvalidError(f"stay: {stay!r} is none of {', '.join(STAYS)}.")
    if appointment.state not in (*STANDING, *PENDING):
        raise ConflictError(f"This appointment is {appointment.state}.", appointment)
    if stay == "replacement_car" and not _car_left(records, appointment):
        raise InvalidError("stay: no replacement car is left on that day; take another day, or wait there.")
    after = replace(appointment, stay=stay)
    records.workshops.save_appointment(after)
    line(records, after, f"stay_{stay}", now, start=after.start)
    return after


def _car_left(records: Records, appointment: Appointment) -> bool:
    place = records.workshops.get(appointment.workshop)
    if place.replacement_cars is None:
        return True
    slot = Slot(workshop=place.id, start=appointment.start, end=appointment.end)
    return bool(_with_a_car(records, place, [slot], appointment))


def lapse(records: Records, appointment: Appointment, now: int, policy: Policy) -> str:
    """One side did not answer in time. A silent workshop: the owner gets the next times, and hears why. A
    silent owner: the times that were kept are given back. A time that stands goes on standing."""
    if appointment.state is _S.CONFIRMED:
        records.workshops.save_appointment(replace(appointment, wished=(), answer_by=None))
        line(records, appointment, "wish_lapsed", now, start=appointment.start)
        tell_owner(records, appointment, "wish_declined", now, policy)
        return "wish_lapsed"
    silent_owner = appointment.state is _S.COUNTERED
    lapsed = moved(appointment, _S.LAPSED, answer_by=None)
    records.workshops.save_appointment(lapsed)
    line(records, lapsed, "offer_lapsed" if silent_owner else "request_lapsed", now, start=lapsed.start)
    changed(records, lapsed, "cancelled", now, policy)
    if silent_owner and lapsed.touchpoint is not None:
        records.workshops.release(lapsed.touchpoint)
        refresh(records, lapsed.touchpoint, now, policy)
    else:
        _reopen(records, lapsed, now, policy, tell=True)
    return "lapsed"


def _reopen(
    records: Records,
    appointment: Appointment,
    now: int,
    policy: Policy,
    *,
    tell: bool,
) -> None:
    """The matter is the owner's again, with what workshops offer instead, else with the next times; or it
    ends when it has become untrue, is agreed to no more, or the product has changed hands meanwhile. It stays
    where it is while another workshop is asked. `tell` also pushes: a reply that the owner waits for, which
    costs no budget."""
    if appointment.touchpoint is None:
        return
    touchpoint = records.touchpoints.get(appointment.touchpoint)
    if touchpoint.state not in (State.BOOKED, State.ANSWERED) or _asked_elsewhere(records, appointment):
        return
    over = _over(records, touchpoint)
    if over is not None:
        if tell and appointment.state is not _S.NO_SHOW:
            tell_owner(records, appointment, "fell_through", now, policy)
        ended = replace(touchpoint, state=State.CLOSED, closed_at=now)
        records.touchpoints.save(ended)
        let_go(records, ended, now, policy)
        outgoing.write_line(records, f"withdrawn_{over}", now, touchpoint=ended)
        return
    touchpoint = _what_is_left(records, touchpoint, now)
    check_move(touchpoint, State.OPEN)
    reopened = replace(
        touchpoint,
        state=State.OPEN,
        answer=None,
        closed_at=None,
        expires_at=max(touchpoint.expires_at or 0, now + REOPENED_FOR_MS),
        slots=tuple(_keep_offers(records, touchpoint, now)) or proposals(records, touchpoint, now, policy),
    )
    records.touchpoints.save(reopened)
    outgoing.queue_display(records, reopened, now)
    if tell:
        outgoing.queue_push(records, reopened, "offer", now)


def _asked_elsewhere(records: Records, appointment: Appointment) -> bool:
    """Whether another workshop has been asked for the same matter and may still say yes."""
    states = (*STANDING, _S.WISHED)
    found = records.workshops.appointments(touchpoint=appointment.touchpoint, states=states)
    return any(other.id != appointment.id for other in found)


def _over(records: Records, touchpoint: Touchpoint) -> str | None:
    """Why nothing of a matter is its owner's any longer, None when something still is."""
    device = records.devices.find(touchpoint.device)
    if device is None or touchpoint.owner not in (device.owner, people.asked(records, device)):
        return "new_owner"
    gone = parting.gone(records, touchpoint)
    matters = records.touchpoints.matters(touchpoint.id)
    return gone[touchpoint.finding] if len(gone) == len(matters) else None


def _what_is_left(records: Records, touchpoint: Touchpoint, now: int) -> Touchpoint:
    """The matter without what has become untrue, or is agreed to no longer, while a visit was booked for it;
    not stored yet."""
    gone = parting.gone(records, touchpoint)
    known = records.touchpoints.matters(touchpoint.id)
    left = [matter for matter in known if matter.finding not in gone]
    for matter in (m for m in known if m.finding in gone):
        touchpoint = parting.leave(records, touchpoint, matter.finding, left)
        line = {"finding": matter.finding, "other": matter.rule}
        outgoing.write_line(records, f"partly_{gone[matter.finding]}", now, touchpoint=touchpoint, **line)
    return touchpoint


def tell_owner(records: Records, appointment: Appointment, change: str, now: int, policy: Policy) -> None:
    """The reply that the owner waits for."""
    if appointment.touchpoint is not None:
        touchpoint = records.touchpoints.get(appointment.touchpoint)
        if touchpoint.state in LIVE:
            outgoing.queue_news(
                records, touchpoint, "visit", now, policy, appointment=appointment.id, change=change
            )


def line(records: Records, appointment: Appointment, code: str, now: int, **params: Any) -> None:
    """A line of the owner's ledger about an appointment; it names the workshop."""
    touchpoint = records.touchpoints.get(appointment.touchpoint) if appointment.touchpoint else None
    outgoing.write_line(
        records,
        code,
        now,
        owner=appointment.owner,
        device=appointment.device,
        touchpoint=touchpoint,
        appointment=appointment.id,
        workshop=records.workshops.get(appointment.workshop).name,
        **params,
    )
