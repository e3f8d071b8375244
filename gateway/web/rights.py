"""Which objects somebody may see, decided at one place for pages and API.

Every function takes the records and who is asking, and gives the object or raises NotFoundError:
what is somebody else's is not there, so that ids cannot be probed. After-sales (operator and
integration) see everything; owners their own, products for the time they owned them; workshops
their own appointments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.domain.access import Role
from gateway.domain.appointment import Appointment, Workshop
from gateway.domain.device import Device, Facts
from gateway.domain.errors import NotFoundError
from gateway.domain.feedback import Feedback
from gateway.domain.owner import Owner
from gateway.domain.touchpoint import Touchpoint
from gateway.ports import Records
from gateway.web.access import Identity

Interval = tuple[int | None, int | None]
"""(since, until) in ms, half open; None has no end on that side."""


def owner(records: Records, who: Identity, owner_id: str) -> Owner:
    """An owner: themselves, or after-sales."""
    if not who.staff and not (who.role is Role.OWNER and who.subject == owner_id):
        raise NotFoundError(f"There is no owner {owner_id}.")
    return records.owners.get(owner_id)


def device(records: Records, who: Identity, device_id: str) -> Device:
    """A registered device: its present owner, or after-sales."""
    found = records.devices.get(device_id)
    if not who.staff and not (who.role is Role.OWNER and found.owner == who.subject):
        raise NotFoundError(f"There is no device {device_id}.")
    return found


def facts(records: Records, who: Identity, device_id: str) -> Facts:
    """What is known of a device now; an owner reads nothing from before they owned it."""
    known = records.devices.facts(device_id)
    if who.staff:
        return known
    return cut(known, intervals(records, who, device_id))


def cut(known: Facts, spans: Sequence[Interval]) -> Facts:
    """Facts without the values from outside of these times."""
    latest = {name: (ts, value) for name, (ts, value) in known.latest.items() if within(spans, ts)}
    return replace(known, latest=latest)


def intervals(records: Records, who: Identity, device_id: str) -> list[Interval]:
    """The times whose readings somebody may see, in order; NotFoundError when there is none.

    A former owner keeps the readings of their own time, and only those.
    """
    if who.staff:
        return [(None, None)]
    spans = owned(records, who.subject, device_id) if who.role is Role.OWNER else []
    if not spans:
        raise NotFoundError(f"There is no device {device_id}.")
    return spans


def owned(records: Records, owner_id: str | None, device_id: str) -> list[Interval]:
    """The times in which a device was somebody's, in order."""
    theirs = [o for o in records.devices.ownerships(device_id) if o.owner == owner_id]
    return [(o.since, o.until) for o in sorted(theirs, key=lambda o: o.since)]


def within(spans: Sequence[Interval], ts: int) -> bool:
    """Whether `ts` lies in one of the intervals."""
    return any((since is None or since <= ts) and (until is None or ts < until) for since, until in spans)


def touchpoint(records: Records, who: Identity, touchpoint_id: str) -> Touchpoint:
    """A touchpoint: its owner, or after-sales."""
    found = records.touchpoints.get(touchpoint_id)
    if not who.staff and not (who.role is Role.OWNER and found.owner == who.subject):
        raise NotFoundError(f"There is no touchpoint {touchpoint_id}.")
    return found


def appointment(records: Records, who: Identity, appointment_id: str) -> Appointment:
    """An appointment: its owner, its workshop, or after-sales."""
    found = records.workshops.appointment(appointment_id)
    theirs = {Role.OWNER: found.owner, Role.WORKSHOP: found.workshop}.get(who.role)
    if not who.staff and (theirs is None or theirs != who.subject):
        raise NotFoundError(f"There is no appointment {appointment_id}.")
    return found


def workshop(records: Records, who: Identity, workshop_id: str) -> Workshop:
    """A workshop: owners may look at any (they choose), a workshop at itself."""
    if who.role is Role.WORKSHOP and who.subject != workshop_id:
        raise NotFoundError(f"There is no workshop {workshop_id}.")
    return records.workshops.get(workshop_id)


def feedback(records: Records, who: Identity, feedback_id: str) -> Feedback:
    """A question afterwards: the owner who was asked, or after-sales."""
    found = records.feedback.get(feedback_id)
    if not who.staff and not (who.role is Role.OWNER and found.owner == who.subject):
        raise NotFoundError(f"There is no feedback {feedback_id}.")
    return found


def only(who: Identity, role: Role, wanted: str | None) -> str | None:
    """The subject to filter a list by: their own for `role`, else what was `wanted`.

    Raises NotFoundError when somebody of `role` asks for another's.
    """
    if who.role is not role:
        return wanted
    if wanted is not None and wanted != who.subject:
        raise NotFoundError(f"There is no {role} {wanted}.")
    return who.subject
