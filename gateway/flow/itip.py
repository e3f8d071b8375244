"""Invitations: what stands in the calendars of workshop and owner.

An appointment is one event for good: its UID never changes, its SEQUENCE rises with every change of time
or state (RFC 5545 section 3.8.7.4). Each party's invitation has an organizer address of its own, whose
token proves who answers; From proves nothing. Mails are queued as what they are about and worded when
they are sent (invitations.py), so that nobody gets one that was overtaken.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.domain.appointment import ENDED, PENDING, Appointment, AppointmentState
from gateway.domain.calendars import (
    CalendarEvent,
    CalendarInvitation,
    Party,
    Reach,
    reply_token,
    token_hash,
)
from gateway.domain.delivery import Delivery
from gateway.domain.errors import NotFoundError
from gateway.domain.ical import Itip
from gateway.domain.ids import new_id
from gateway.domain.moments import DAY_MS, HOUR_MS
from gateway.domain.policy import Policy
from gateway.flow import outgoing
from gateway.ports import Records

INVITATION, DECLINE_COUNTER = "invitation", "decline_counter"

CALENDAR_CHANGES = frozenset(
    {
        "requested",
        "confirmed",
        "declined",
        "countered",
        "owner_countered",
        "rescheduled",
        "cancelled",
        "lapsed",
        "released",
    }
)
"""Changes that a calendar shows; the rest happens on the day."""

SAID_BY = {"countered": Party.WORKSHOP, "owner_countered": Party.OWNER}
"""Proposals: who made one need not be told; the other side is, though the time that stands is the same."""


def status_of(appointment: Appointment) -> str:
    """STATUS of its event (RFC 5545 section 3.8.1.11)."""
    if appointment.state is AppointmentState.NO_SHOW:
        return "CONFIRMED"
    if appointment.state in ENDED:
        return "CANCELLED"
    return "TENTATIVE" if appointment.state in PENDING else "CONFIRMED"


def event_of(records: Records, appointment: Appointment, policy: Policy) -> CalendarEvent:
    """The event as it stands, or as it will begin."""
    return records.calendars.event(appointment.id) or CalendarEvent(
        appointment=appointment.id,
        uid=f"{appointment.id}@{policy.calendar_domain}",
        sequence=0,
        start=appointment.start,
        end=appointment.end,
        status=status_of(appointment),
        changed=appointment.created,
    )


# --- what they hear ---------------------------------------------------------------------------


def changed(records: Records, appointment: Appointment, change: str, now: int, policy: Policy) -> None:
    """Bring the event up to date, and tell those who have it in a calendar."""
    if change not in CALENDAR_CHANGES:
        return
    event = _take_up(records, appointment, now, policy)
    if appointment.owner is None:
        return  # the workshop's own entry: nobody has to be told
    for party, address in _addresses(records, appointment, policy):
        if SAID_BY.get(change) is party:
            continue
        if event.status != "CANCELLED" or records.calendars.invitation(appointment.id, party):
            key = f"{event.sequence}:{change}:{now}" if change in SAID_BY else ""
            _invite(records, appointment, event, party, address, now, policy, key=key)


def _take_up(records: Records, appointment: Appointment, now: int, policy: Policy) -> CalendarEvent:
    """The event with the next SEQUENCE where time or state differ from what was said last."""
    known = records.calendars.event(appointment.id)
    event = known or event_of(records, appointment, policy)
    now_stands = replace(
        event, start=appointment.start, end=appointment.end, status=status_of(appointment), changed=now
    )
    if known is not None:
        if replace(now_stands, changed=known.changed) == known:
            return known
        now_stands = replace(now_stands, sequence=known.sequence + 1)
    records.calendars.put_event(now_stands)
    return now_stands


def _addresses(records: Records, appointment: Appointment, policy: Policy) -> list[tuple[Party, str]]:
    found = []
    workshop = workshop_address(records, appointment.workshop)
    if workshop:
        found.append((Party.WORKSHOP, workshop))
    owner = owner_address(records, appointment.owner, policy) if appointment.owner else None
    if owner:
        found.append((Party.OWNER, owner))
    return found


def workshop_address(records: Records, workshop_id: str) -> str | None:
    """Where a workshop gets invitations; None when it chose another way."""
    settings = records.calendars.settings(workshop_id)
    if settings.reach is not Reach.MAIL:
        return None
    return settings.email or records.workshops.get(workshop_id).email


def owner_address(records: Records, owner_id: str, policy: Policy) -> str | None:
    """Where an owner gets invitations: a reply they wait for, so no budget, but their channel."""
    if outgoing.EMAIL not in policy.channels:
        return None
    try:
        owner = records.owners.get(owner_id)
    except NotFoundError:
        return None
    wanted = outgoing.wishes(records, owner_id, policy)
    return owner.email if outgoing.EMAIL in wanted.channels else None


def _invite(
    records: Records,
    appointment: Appointment,
    event: CalendarEvent,
    party: Party,
    address: str,
    now: int,
    policy: Policy,
    *,
    key: str = "",
) -> None:
    """Queue the invitation, or its cancellation, once for each SEQUENCE."""
    token = reply_token(policy.calendar_key, appointment.id, party, address)
    kept = token_hash(token)
    if records.calendars.invitation_by_token(kept) is None:
        records.calendars.put_invitation(
            CalendarInvitation(
                token_hash=kept, appointment=appointment.id, party=party, address=address, created=now
            )
        )
    method = "CANCEL" if event.status == "CANCELLED" else "REQUEST"
    payload = {"about": INVITATION, "method": method, "sequence": event.sequence}
    _queue(records, appointment, party, address, payload, now, key or f"{event.sequence}:{method}")


def _queue(
    records: Records,
    appointment: Appointment,
    party: Party,
    address: str,
    payload: dict[str, object],
    now: int,
    key: str,
) -> None:
    if records.mail_addresses.undeliverable(address):
        return
    records.outbox.add(
        Delivery(
            id=new_id(now),
            channel=outgoing.EMAIL,
            target=address.strip().lower(),
            key=f"itip:{appointment.id}:{party}:{key}",
            payload={**payload, "appointment": appointment.id, "party": str(party), "to": address},
            owner=appointment.owner if party is Party.OWNER else None,
            due_at=now,
            created=now,
            expires_at=max(appointment.start, now + DAY_MS),
        )
    )


def send_again(
    records: Records, invitation: CalendarInvitation, now: int, policy: Policy, why: str = "refresh"
) -> None:
    """The event as it stands, for a calendar that has fallen behind; once an hour, so that two machines do
    not write to each other for ever."""
    appointment = records.workshops.appointment(invitation.appointment)
    event = event_of(records, appointment, policy)
    key = f"{event.sequence}:{why}:{now // HOUR_MS}"
    party, address = invitation.party, invitation.address
    _invite(records, appointment, event, party, address, now, policy, key=key)


def decline_counter(
    records: Records, invitation: CalendarInvitation, itip: Itip, why: str, now: int, policy: Policy
) -> None:
    """The times they propose cannot be had; `why` is a text under calendars.refused."""
    appointment = records.workshops.appointment(invitation.appointment)
    payload: dict[str, object] = {
        "about": DECLINE_COUNTER,
        "sequence": event_of(records, appointment, policy).sequence,
        "why": why,
        "asked": itip.start,
    }
    key = f"decline_counter:{itip.start}:{itip.stamp}"
    _queue(records, appointment, invitation.party, invitation.address, payload, now, key)
