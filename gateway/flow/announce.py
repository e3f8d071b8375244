"""What workshop, owner and other systems hear of an appointment: one call for every change.

Called inside the transaction of the change, after the appointment was saved, so that nobody hears of
what did not happen and nothing that happened goes unheard.
"""

from __future__ import annotations

from gateway.domain.appointment import Appointment
from gateway.domain.policy import Policy
from gateway.flow import itip
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


def appointment_changed(
    records: Records, appointment: Appointment, change: str, now: int, policy: Policy
) -> None:
    """Tell everybody who is to hear of it. `appointment` is as it stands after the change.

    Raises ValueError for a change that has no name here."""
    if change not in CHANGES:
        raise ValueError(f"{change!r} is no change of an appointment; one of {', '.join(CHANGES)}")
    itip.changed(records, appointment, change, now, policy)
