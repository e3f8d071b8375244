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
    return min(said.stamp if said.stamp is not None else now, now + CLOCKS_APART_MS)


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
    by = "owner" if invitation.party is Party.OWNER else "workshop"

    def work() -> None:
        book.cancel(records, appointment.id, now, policy, by=by)

    return _try(records, invitation, said, now, policy, work, ("cancelled", f"declined_{by}"))


def _counter(records: Records, invitation: CalendarInvitation, said: Itip, now: int, policy: Policy) -> Taken:
    if said.start is None:
        return "kept", "no_time"
    start = said.start
    appointment = records.workshops.appointment(invitation.appointment)
    if start == appointment.start and appointment.state is AppointmentState.REQUESTED:
        return _accepted(records, invitation, said, now, policy)

    def work() -> None:
        if invitation.party is Party.OWNER:
            book.reschedule(records, appointment.id, f"{appointment.workshop}@{start}", now, policy)
        else:
            book.counter(records, appointment.id, [start], now, policy)

    return _try(records, invitation, said, now, policy, work, ("countered", f"counter_{invitation.party}"))


def _refresh(records: Records, invitation: CalendarInvitation, said: Itip, now: int, policy: Policy) -> Taken:
    itip.send_again(records, invitation, now, policy)
    return "answered", "refresh"


def _try(
    records: Records,
    invitation: CalendarInvitation,
    said: Itip,
    now: int,
    policy: Policy,
    work: Callable[[], None],
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
