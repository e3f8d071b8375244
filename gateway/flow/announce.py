"""What workshop, owner and other systems hear of an appointment: one call for every change.

Called inside the transaction of the change, after the appointment was saved, so that nobody hears of
what did not happen and nothing that happened goes unheard.
"""

from __future__ import annotations

from gateway.domain.appointment import Appointment
from gateway.domain.policy import Policy
from gateway.domain.times import rfc3339
from gateway.domain.webhooks import MANUFACTURER, workshop_audience
from gateway.flow import access_log, consents, itip, outgoing
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
    _tell_systems(records, appointment, change, now)


def _tell_systems(records: Records, appointment: Appointment, change: str, now: int) -> None:
    """The workshop's and the manufacturer's own systems, by webhook: ids and times, no names. A workshop's
    own entries, which no owner stands behind, are nobody else's."""
    data = {
        "appointment": appointment.id,
        "workshop": appointment.workshop,
        "service": appointment.service,
        "state": str(appointment.state),
        "start": rfc3339(appointment.start),
        "end": rfc3339(appointment.end),
        "device": appointment.device,
        "touchpoint": appointment.touchpoint,
    }
    audiences = [workshop_audience(appointment.workshop)]
    for audience in [*audiences, MANUFACTURER] if appointment.owner is not None else audiences:
        outgoing.queue_event(
            records,
            audience,
            f"appointment.{change}",
            data,
            now,
            touchpoint=appointment.touchpoint,
            owner=appointment.owner,
        )


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
