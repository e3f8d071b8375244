"""bundles: findings of one device that one visit can answer are one touchpoint.

Two matters share a visit when a workshop has to look at both, the same workshop offers both jobs, and the
same person is asked. A second finding joins the first while that waits, is open (it is brought up to date
everywhere, quietly, at no further cost), or is booked (if the slot can take it; else it comes by itself).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.domain import slots as arithmetic
from gateway.domain.appointment import Appointment, AppointmentState, Workshop
from gateway.domain.delivery import DeliveryState
from gateway.domain.moments import DAY_MS
from gateway.domain.policy import Policy, RuleInfo
from gateway.domain.touchpoint import Finding, Matter, Slot, State, Touchpoint, graver, services
from gateway.flow import book, diagnose, outgoing, parting
from gateway.ports import Records

JOINABLE = (State.DEFERRED, State.OPEN, State.BOOKED)
NOT_BEGUN = (AppointmentState.REQUESTED, AppointmentState.CONFIRMED)
LOOKED_BACK_MS = 60 * DAY_MS
"""A visit that lies so far before a finding was measured cannot have mended it."""
LEFT_ALONE = ("not_sent_old", "not_sent_put_off", "not_sent_pace")
"""What waits for this takes nobody in: the other matter would wait with it."""


def returns(touchpoint: Touchpoint) -> bool:
    """Whether it was put off by its owner to a day of their choice: it comes back at their wish."""
    return touchpoint.answer is not None and touchpoint.answer.action == "snooze"


def visits(records: Records, device: str, service: str, measured: int) -> list[Appointment]:
    """Visits for a job that stand, or were finished about when something was measured, or later."""
    states = (*NOT_BEGUN, AppointmentState.DONE)
    found = records.workshops.appointments(device=device, states=states, start=measured - LOOKED_BACK_MS)
    return [visit for visit in found if service in visit.jobs]


# --- who goes with whom -----------------------------------------------------------------------


def company(
    records: Records, finding: Finding, rule: RuleInfo, owner: str, own: Touchpoint | None, now: int
) -> Touchpoint | None:
    """The touchpoint that a finding joins, None when there is none: open ones first, then booked ones, then
    those that wait. Of two that wait the later one joins the earlier."""
    if rule.touchpoint_kind != "appointment" or rule.service is None:
        return None
    wanted = [rule.service]
    if own is not None:
        wanted = services(records.touchpoints.matters(own.id)) or wanted
    near = records.touchpoints.page(device=finding.device, states=JOINABLE)
    order = {State.OPEN: 0, State.BOOKED: 1, State.DEFERRED: 2}
    for other in sorted(near, key=lambda t: (order[t.state], t.id)):
        later = own is not None and other.state is State.DEFERRED and other.id > own.id
        mine = own is not None and other.id == own.id
        if not mine and not later and other.owner == owner and _takes(records, other, wanted, now):
            return other
    return None


def _takes(records: Records, other: Touchpoint, wanted: Sequence[str], now: int) -> bool:
    if other.kind != "appointment" or other.service is None or other.waits_for in LEFT_ALONE:
        return False
    if returns(other) or (other.expires_at is not None and other.expires_at <= now):
        return False
    if other.state is State.BOOKED:
        return _longer(records, other, wanted, now) is not None
    place = book.chosen_workshop(records, other)
    return place is not None and _one_visit(place, [other.service, *wanted])


def _one_visit(place: Workshop, wanted: Sequence[str]) -> bool:
    """Whether a workshop does all of it in one place and one bay."""
    found = [place.service(service) for service in wanted]
    offered = [service for service in found if service is not None]
    if len(offered) < len(found) or len({service.at_home for service in offered}) > 1:
        return False
    return bool(arithmetic.bays_for(place, arithmetic.together(offered)))


def _longer(
    records: Records, touchpoint: Touchpoint, wanted: Sequence[str], now: int
) -> tuple[Appointment, Workshop, Slot] | None:
    """The booked visit with the slot it needs for these jobs, too; None when that is not free, or the parts
    cannot be there in time."""
    standing = records.workshops.appointments(touchpoint=touchpoint.id, states=NOT_BEGUN)
    if len(standing) != 1 or standing[0].start <= now:
        return None
    visit = standing[0]
    place = records.workshops.get(visit.workshop)
    jobs = list(dict.fromkeys((*visit.jobs, *wanted)))
    if not _one_visit(place, jobs):
        return None
    whole = arithmetic.together([s for s in map(place.service, jobs) if s is not None])
    found = book.free_slots(
        records, place, whole, visit.start, visit.start + 1, now, mine=touchpoint.id, moving=visit
    )
    return (visit, place, found[0]) if found else None


# --- taking in --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Joining:
    """A finding with what its rule asks for."""

    finding: Finding
    service: str | None
    purpose: str


def take_in(records: Records, into: Touchpoint, joining: Joining, now: int, policy: Policy) -> Touchpoint:
    """The finding is part of the touchpoint from now on; gives it as it stands then."""
    before = services(records.touchpoints.matters(into.id))
    records.touchpoints.take_in(into.id, joining.finding, joining.service, joining.purpose, now)
    if joining.service is None or joining.service in before:
        return into
    if into.state is State.BOOKED:
        _prolong(records, into, joining.service, now, policy)
        return into
    severity = max(into.severity, joining.finding.severity, key=graver)
    return bring_up_to_date(records, replace(into, severity=severity), now, policy)


def _prolong(records: Records, into: Touchpoint, service: str, now: int, policy: Policy) -> None:
    """The workshop does this, too: a longer visit at the same start, with the diagnosis of both."""
    found = _longer(records, into, [service], now)
    if found is None:
        return
    visit, place, slot = found
    jobs = tuple(dict.fromkeys((*visit.jobs, service)))
    whole = arithmetic.together([s for s in map(place.service, jobs) if s is not None])
    said = diagnose.terms_of(records, into, place, jobs, now)
    after = replace(
        visit,
        services=jobs,
        bay=slot.bay or visit.bay,
        end=slot.end,
        buffer_ms=slot.buffer_ms,
        diagnosis=diagnose.diagnosis(records, into, whole, place, said),
        terms=said,
        sequence=visit.sequence + 1,
    )
    records.workshops.save_appointment(after)
    book.changed(records, after, "rescheduled", now, policy)


def bring_up_to_date(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> Touchpoint:
    """What it is about has changed: an open one shows times for all of it, on every channel, quietly."""
    if touchpoint.state is State.OPEN:
        touchpoint = replace(touchpoint, slots=book.proposals(records, touchpoint, now, policy))
    records.touchpoints.save(touchpoint)
    if touchpoint.state is State.OPEN and touchpoint.sent_at is not None:
        outgoing.queue_display(records, touchpoint, now)
        _show_quietly(records, touchpoint, now)
    return touchpoint


def _show_quietly(records: Records, touchpoint: Touchpoint, now: int) -> None:
    """Phones that were told show the matter as it is now, without ringing. A push that is still to be sent
    reads as it should by then."""
    rows = [r for r in records.outbox.page(touchpoint=touchpoint.id) if r.channel == outgoing.WEB_PUSH]
    if rows and not any(row.state is DeliveryState.PENDING for row in rows):
        outgoing.queue_push(records, touchpoint, "offer", now, silent=True)


def move_over(records: Records, touchpoint: Touchpoint, into: Touchpoint, now: int, policy: Policy) -> None:
    """Everything that a deferred touchpoint is about becomes part of another one."""
    for matter in records.touchpoints.matters(touchpoint.id):
        finding = records.touchpoints.finding(matter.finding)
        if finding is not None and finding.cleared_at is None:
            joining = Joining(finding=finding, service=matter.service, purpose=matter.purpose)
            into = take_in(records, into, joining, now, policy)


# --- leaving ----------------------------------------------------------------------------------


def rest(records: Records, touchpoint: Touchpoint, gone: str) -> list[Matter]:
    """What a touchpoint is still about without the finding `gone`."""
    matters = records.touchpoints.matters(touchpoint.id)
    return [m for m in matters if m.finding != gone and m.cleared_at is None]


def without(
    records: Records, touchpoint: Touchpoint, gone: str, left: Sequence[Matter], now: int, policy: Policy
) -> Touchpoint:
    """The touchpoint without one of its findings; where that was its own, the next one takes its place."""
    return bring_up_to_date(records, parting.leave(records, touchpoint, gone, left), now, policy)
