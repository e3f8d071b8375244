"""What workshop, owner and other systems hear of an appointment: one call for every change.

Called inside the transaction of the change, after the appointment was saved, so that nobody hears of
what did not happen and nothing that happened goes unheard.
"""

from __future__ import annotations

from gateway.domain.appointment import Appointment
from gateway.domain.policy import Policy
from gateway.flow import access_log, consents, itip
from gateway.ports import Records

CHANGES = (
    "requested",  # asked for; the workshop has not said yes
    "confirmed",  # booked at once, or the workshop said yes
    "declined",  # the workshop said no to a request
    "countered",  # the workshop offers other times
    "owner_countered",  # the owner asks for another time
    "rescheduled",  # it stands at another time
    "cancelled",  # by owner or workshop
    "lapsed",  # nobody answered a request in time
    "released",  # several workshops were asked, and another one was first
    "checked_in",
    "in_work",
    "ready",
    "done",
    "no_show",
    "extra_work_asked",
    "extra_work_answered",
    "reminder",
)
"""Everything that can happen to an appointment, as receivers see it named."""

HANDED_OVER = ("requested", "confirmed")
"""Changes with which the workshop gets the visit with its diagnosis."""


def appointment_changed(
    records: Records, appointment: Appointment, change: str, now: int, policy: Policy
) -> None:
    """Tell everybody who is to hear of it. `appointment` is as it stands after the change.

    Raises ValueError for a change that has no name here."""
    if change not in CHANGES:
        raise ValueError(f"{change!r} is no change of an appointment; one of {', '.join(CHANGES)}")
    if change in HANDED_OVER:
        _received(records, appointment, now)
    itip.changed(records, appointment, change, now, policy)


def _received(records: Records, appointment: Appointment, now: int) -> None:
    """The owner's ledger says what the workshop has of theirs from now on, on whichever way."""
    found = consents.handed(records, appointment).diagnosis.keys() - set(consents.STAYS)
    access_log.received(
        records,
        appointment.owner,
        by=appointment.workshop,
        role="workshop",
        what=f"{'diagnosis' if found else 'visit'}:{appointment.id}",
        why="booked",
        now=now,
        device=appointment.device,
        start=appointment.start,
    )
