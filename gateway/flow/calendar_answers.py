"""What the calendars of workshop and owner answer to an invitation, and what becomes of it.

Who writes is proven by the invitation's address alone (see itip.py); what is written is done by the same
functions as on the page, and refused by the same rules, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.domain.appointment import ENDED, AppointmentState
from gateway.domain.calendars import CalendarInvitation, Party
from gateway.domain.errors import ConflictError, InvalidError, SlotTakenError, TouchpointError
from gateway.domain.ical import Itip
from gateway.domain.policy import Policy
from gateway.flow import book, itip
from gateway.ports import Records

CLOCKS_APART_MS = 5 * 60_000
"""Answers may be stamped so far ahead of our clock; further ahead the stamp orders nothing."""

Taken = tuple[str, str]
"""(outcome, reason): texts under calendars.mail.outcome and calendars.mail.reason"""


def answer(records: Records, invitation: CalendarInvitation, said: Itip, now: int, policy: Policy) -> Taken:
    """Do what somebody's calendar says; gives what became of it.

    What has been said before, or before something newer, changes nothing; what was said of an earlier
    state is answered with how it stands."""
    appointment = records.workshops.appointment(invitation.appointment)
    event = itip.event_of(records, appointment, policy)
    if said.uid != event.uid:
        return "kept", "other_event"
    act = METHODS.get(said.method)
    if act is None:
        return "kept", "method"
    if said.method == "REFRESH":
        return act(records, invitation, said, now, policy)
    if said.stamp is None:  # section 3.2 asks for one; without it nobody could tell an answer from its copy
        return "kept", "no_stamp"
    if _said_before(invitation, said, event.sequence, now):
        return "ignored", "said_before"
    if said.sequence < event.sequence:
        itip.send_again(records, invitation, now, policy, "outdated")
        return "ignored", "outdated"
    records.calendars.put_invitation(
        replace(
            invitation,
            reply_sequence=event.sequence,  # some calendars count up themselves, which says nothing
            reply_stamp=_stamp(said, now),
            partstat=said.partstat or said.method,
        )
    )
    return act(records, invitation, said, now, policy)


def _stamp(said: Itip, now: int) -> int:
    return min(said.stamp or 0, now + CLOCKS_APART_MS)


def _said_before(invitation: CalendarInvitation, said: Itip, sequence: int, now: int) -> bool:
    """By SEQUENCE, then DTSTAMP (RFC 5546 section 2.1.5)."""
    if invitation.reply_sequence is None or invitation.reply_stamp is None:
        return False
    before = (invitation.reply_sequence, invitation.reply_stamp)
    return (min(said.sequence, sequence), _stamp(said, now)) <= before


def _reply(records: Records, invitation: CalendarInvitation, said: Itip, now: int, policy: Policy) -> Taken:
    match said.partstat:
        case "ACCEPTED":
            return _accepted(records, invitation, said, now, policy)
        case "DECLINED":
            return _declined(records, invitation, said, now, policy)
        case "TENTATIVE" | "NEEDS-ACTION" | "DELEGATED" | "COMPLETED" | "IN-PROCESS":
            return "noted", "undecided"
        case _:
            return "kept", "no_answer"


def _accepted(
    records: Records, invitation: CalendarInvitation, said: Itip, now: int, policy: Policy
) -> Taken:
    appointment = records.workshops.appointment(invitation.appointment)
    if appointment.state in ENDED:
        itip.send_again(records, invitation, now, policy, "over")
        return "ignored", "over"
    if invitation.party is Party.OWNER:
        return "noted", "accepted"

    def work() -> None:
        book.confirm(records, appointment.id, now, policy)

    if appointment.state in (AppointmentState.REQUESTED, AppointmentState.WISHED):
        return _try(records, invitation, said, now, policy, work, ("confirmed", "accepted"))
    return "noted", "accepted"


def _declined(
    records: Records, invitation: CalendarInvitation, said: Itip, now: int, policy: Policy
) -> Taken:
    appointment = records.workshops.appointment(invitation.appointment)
    if appointment.state in ENDED:
        return "noted", "over"
    owner, reason = invitation.party is Party.OWNER, said.comment or None
    only_a_wish = appointment.state is AppointmentState.CONFIRMED and bool(appointment.wished)

    def work() -> None:
        if owner:
            book.cancel(records, appointment.id, now, policy, by="owner", reason=reason)
        elif only_a_wish or appointment.state in (AppointmentState.REQUESTED, AppointmentState.WISHED):
            book.decline(records, appointment.id, now, policy, reason=reason)
        else:
            book.cancel(records, appointment.id, now, policy, by="workshop", reason=reason)

    if only_a_wish and not owner:  # their calendar has struck out the visit, which goes on standing
        taken = _try(records, invitation, said, now, policy, work, ("noted", "wish_declined"))
        itip.send_again(records, invitation, now, policy, "stands")
        return taken
    done = ("cancelled", "declined_owner" if owner else "declined_workshop")
    return _try(records, invitation, said, now, policy, work, done)


def _counter(records: Records, invitation: CalendarInvitation, said: Itip, now: int, policy: Policy) -> Taken:
    if said.start is None:
        return "kept", "no_time"
    start = said.start
    appointment = records.workshops.appointment(invitation.appointment)
    if invitation.party is Party.OWNER:
        return _owner_counters(records, invitation, said, start, now, policy)
    if start == appointment.start and appointment.state is AppointmentState.REQUESTED:
        return _accepted(records, invitation, said, now, policy)
    if start in appointment.wished:
        return _try(
            records,
            invitation,
            said,
            now,
            policy,
            lambda: book.accept(records, appointment.id, start, now, policy),
            ("confirmed", "accepted"),
        )
    reason = said.comment or None
    return _try(
        records,
        invitation,
        said,
        now,
        policy,
        lambda: book.counter(records, appointment.id, [start], now, policy, reason=reason),
        ("countered", "counter_workshop"),
    )


def _owner_counters(
    records: Records, invitation: CalendarInvitation, said: Itip, start: int, now: int, policy: Policy
) -> Taken:
    """A time that the workshop offers, or a free one, is the owner's at once; any other is a wish that the
    workshop answers."""
    appointment = records.workshops.appointment(invitation.appointment)
    if start in appointment.offered and appointment.state is AppointmentState.COUNTERED:

        def take() -> None:
            book.take_offer(records, appointment.id, start, now, policy)

        return _try(records, invitation, said, now, policy, take, ("confirmed", "accepted"))
    slot = f"{appointment.workshop}@{start}"
    try:
        with records.savepoint():
            moved = book.reschedule(records, appointment.id, slot, now, policy)
        return "countered", "moved_owner" if moved.start == start else "counter_owner"
    except TouchpointError:
        pass

    def work() -> None:
        book.wish(records, appointment.id, [start], now, policy, comment=said.comment or None)

    return _try(records, invitation, said, now, policy, work, ("countered", "counter_owner"))


def _refresh(records: Records, invitation: CalendarInvitation, said: Itip, now: int, policy: Policy) -> Taken:
    itip.send_again(records, invitation, now, policy)
    return "answered", "refresh"


def _try(
    records: Records,
    invitation: CalendarInvitation,
    said: Itip,
    now: int,
    policy: Policy,
    work: Callable[[], object],
    done: Taken,
) -> Taken:
    """Do it; what stands against it is told to who asked, and taken back whole."""
    try:
        with records.savepoint():
            work()
    except TouchpointError as error:
        why = _why(error)
        if said.method == "COUNTER":
            itip.decline_counter(records, invitation, said, why, now, policy)
        else:
            itip.send_again(records, invitation, now, policy, why)
        return "refused", why
    return done


def _why(error: TouchpointError) -> str:
    match error:
        case SlotTakenError():
            return "taken"
        case InvalidError():
            return "not_free"
        case ConflictError():
            return "conflict"
        case _:
            return "other"


METHODS: dict[str, Callable[[Records, CalendarInvitation, Itip, int, Policy], Taken]] = {
    "REPLY": _reply,
    "COUNTER": _counter,
    "CANCEL": _declined,  # not an attendee's to send (section 3.2.5), but calendars do, and it is meant so
    "REFRESH": _refresh,
}
"""What each method of iTIP does."""
