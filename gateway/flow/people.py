"""people: who belongs to a device besides its owner, who is asked, and who may answer.

A device has one person who is asked: its owner, or somebody who drives or lives with it. A touchpoint
is addressed to that person, so it goes by their consent, budget and quiet hours; the others who may
answer find it on their pages, and the first answer holds. When another person is asked, or the one who
was asked leaves, what nobody answered yet goes to who is asked now and is decided again for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.domain.appointment import Appointment, AppointmentState
from gateway.domain.device import Device
from gateway.domain.errors import ConflictError, GoneError, InvalidError, NotAllowedError, NotFoundError
from gateway.domain.household import Invitation, Part, Person
from gateway.domain.ids import new_id
from gateway.domain.links import Purpose
from gateway.domain.moments import DAY_MS
from gateway.domain.touchpoint import LedgerLine, State, Touchpoint
from gateway.flow import links, outgoing
from gateway.ports import Records

INVITED_MS = 14 * DAY_MS
"""how long a link to share a product holds"""
NAME_MOST = 80
UNANSWERED = (State.DEFERRED, State.OPEN)
SETTLED = (State.ANSWERED, State.BOOKED)
_S = AppointmentState
COMING = (_S.REQUESTED, _S.WISHED, _S.COUNTERED, _S.CONFIRMED, _S.CHECKED_IN, _S.IN_WORK, _S.READY)


# --- who ------------------------------------------------------------------------------------------


def asked(records: Records, device: str | Device) -> str | None:
    """The owner id of who is asked about a device; None when it is nobody's."""
    device_id = device if isinstance(device, str) else device.id
    return next((p.owner for p in records.devices.people(device_id) if p.asked), None)


def part(records: Records, device: str, owner_id: str | None) -> Person | None:
    """What somebody is to a device now; None for a stranger."""
    return next((p for p in records.devices.people(device) if p.owner == owner_id), None)


def may_answer(records: Records, device: str, owner_id: str) -> bool:
    """Whether somebody may answer for a device: its owner, who is asked, and whom the owner allowed."""
    person = part(records, device, owner_id)
    return person is not None and (person.asked or person.may_answer)


def sees(records: Records, device: str, owner_id: str | None) -> bool:
    """Whether somebody sees a device, its readings and its ledger."""
    person = part(records, device, owner_id)
    return person is not None and person.sees


def ledger(
    records: Records, owner_id: str, *, after: str | None = None, limit: int = 100
) -> Sequence[LedgerLine]:
    """An owner's ledger, newest first, with what was decided for others on products that they share."""
    spans = records.people.spans(owner_id)
    return records.touchpoints.ledger(owner=owner_id, shared=spans, after=after, limit=limit)


# --- what somebody shares -------------------------------------------------------------------------


def shared(records: Records, owner_id: str) -> list[tuple[Device, Person]]:
    """The devices of others that somebody sees now, each with their part in it."""
    running = [p for p in records.people.parts(owner_id) if p.until is None and p.sees]
    return [(records.devices.get(p.device), p) for p in running]


def matters(records: Records, owner_id: str, states: Sequence[State], limit: int = 100) -> list[Touchpoint]:
    """What somebody was asked, and what was asked about products that they see together with others; newest
    first."""
    found = {t.id: t for t in records.touchpoints.page(owner=owner_id, states=states, limit=limit)}
    for device, since, until in records.people.spans(owner_id):
        for one in records.touchpoints.page(device=device, states=states, limit=limit):
            if since <= one.created and (until is None or one.created < until):
                found.setdefault(one.id, one)
    return sorted(found.values(), key=lambda t: t.id, reverse=True)[:limit]


def visits(
    records: Records, owner_id: str, states: Sequence[AppointmentState] = (), start: int | None = None
) -> list[Appointment]:
    """Somebody's visits, and those of products that they see together with others; by their start."""
    look = records.workshops.appointments
    found = {a.id: a for a in look(owner=owner_id, states=states, start=start)}
    for device, since, until in records.people.spans(owner_id):
        for one in look(device=device, states=states, start=start):
            if since <= one.created and (until is None or one.created < until):
                found.setdefault(one.id, one)
    return sorted(found.values(), key=lambda a: (a.start, a.id))


# --- joining and leaving --------------------------------------------------------------------------


def join(records: Records, person: Person, now: int) -> None:
    """Somebody belongs to a device from now on. Raises NotFoundError, ConflictError, InvalidError."""
    device = records.devices.get(person.device)
    records.owners.get(person.owner)
    if person.role is Part.OWNER:
        raise InvalidError("role: driver or member; the owner changes by a transfer.")
    if device.owner is None:
        raise InvalidError(f"device: nobody owns {device.id}, so nobody can share it.")
    if device.owner == person.owner:
        raise ConflictError(f"{person.owner} owns {device.id}.", person)
    if person.asked:
        _ask_nobody_else(records, device.id)
    records.people.join(replace(person, since=now, until=None, may_answer=person.may_answer or person.asked))
    _tell(records, "joined", device, person, now)
    hand_over(records, device.id, now)


def change(records: Records, person: Person, now: int) -> None:
    """Another role or other rights for somebody who belongs. Raises NotFoundError, InvalidError."""
    device, before = records.devices.get(person.device), part(records, person.device, person.owner)
    if before is None:
        raise NotFoundError(f"{person.owner} does not belong to {person.device}.")
    if before.role is Part.OWNER:
        raise InvalidError("owner: is asked when nobody else is; change the person who is asked now.")
    if person.role is Part.OWNER:
        raise InvalidError("role: driver or member; the owner changes by a transfer.")
    person = replace(person, since=before.since, until=None, by=before.by)
    person = replace(person, may_answer=person.may_answer or person.asked)
    if person == before:
        return
    if person.asked:
        _ask_nobody_else(records, device.id)
    records.people.change(person)
    _tell(records, "part_changed", device, person, now)
    hand_over(records, device.id, now)


def leave(records: Records, device_id: str, owner_id: str, now: int, *, by: str) -> None:
    """Somebody belongs to a device no more: sees and answers nothing of it from now on."""
    device, person = records.devices.get(device_id), part(records, device_id, owner_id)
    if person is None:
        raise NotFoundError(f"{owner_id} does not belong to {device_id}.")
    if person.role is Part.OWNER:
        raise NotAllowedError("The owner leaves a product by its transfer to somebody else.")
    records.people.leave(device_id, owner_id, now)
    _tell(records, "left", device, replace(person, by=by), now)
    _take_over(records, device, owner_id)
    hand_over(records, device_id, now)


def _take_over(records: Records, device: Device, from_owner: str) -> None:
    """What somebody who left had answered or booked, and still stands, is its owner's to look after."""
    if device.owner is None:
        return
    for touchpoint in records.touchpoints.page(device=device.id, states=SETTLED, limit=1_000):
        if touchpoint.owner == from_owner:
            records.touchpoints.save(replace(touchpoint, owner=device.owner))
            _pass_talk_on(records, touchpoint, device.owner)
    for visit in records.workshops.appointments(device=device.id, owner=from_owner, states=COMING):
        records.workshops.save_appointment(replace(visit, owner=device.owner))


def _pass_talk_on(records: Records, touchpoint: Touchpoint, to: str) -> None:
    talk = records.conversations.find(touchpoint.id)
    if talk is not None:
        records.conversations.put(talk.passed_on(to))


def _ask_nobody_else(records: Records, device_id: str) -> None:
    for person in records.people.of(device_id):
        if person.asked:
            records.people.change(replace(person, asked=False))


def _tell(records: Records, code: str, device: Device, person: Person, now: int) -> None:
    """One line for the device's owner and whoever sees it, one for the person themselves."""
    name = records.owners.get(person.owner).name
    rights = {"asked": person.asked, "may_answer": person.may_answer, "sees": person.sees}
    params: dict[str, Any] = {
        "person": name,
        "product": device.title,
        "role": str(person.role),
        "by": person.by,
        **rights,
    }
    outgoing.write_line(records, code, now, owner=device.owner, device=device.id, **params)
    outgoing.write_line(records, f"{code}_you", now, owner=person.owner, **params)


# --- invitations ----------------------------------------------------------------------------------


def invite(
    records: Records,
    device_id: str,
    *,
    by: str,
    name: str,
    role: Part,
    asked: bool,
    may_answer: bool,
    now: int,
) -> tuple[Invitation, str]:
    """Ask somebody to share a device; gives the invitation and the secret of its link, which is shown once.

    Raises NotFoundError, InvalidError.
    """
    device = records.devices.get(device_id)
    if device.owner is None:
        raise InvalidError(f"device: nobody owns {device_id}, so nobody can share it.")
    if role is Part.OWNER:
        raise InvalidError("role: driver or member; the owner changes by a transfer.")
    invitation = Invitation(
        id=new_id(now),
        device=device_id,
        by=by,
        role=role,
        asked=asked,
        may_answer=may_answer or asked,
        sees=True,
        created=now,
        expires=now + INVITED_MS,
        name=name.strip()[:NAME_MOST],
    )
    records.people.invite(invitation)
    secret = links.mint(
        records,
        owner=device.owner,
        purpose=Purpose.INVITATION,
        about=invitation.id,
        now=now,
        expires_at=invitation.expires,
    )
    told = {"person": invitation.name, "product": device.title, "until": invitation.expires}
    _line(records, "invited" if by == device.owner else "invited_staff", now, device, told)
    return invitation, secret


def invitation_of(records: Records, secret: str, now: int) -> Invitation:
    """The invitation behind a link; changes nothing. Raises NotFoundError, GoneError."""
    link = links.peek(records, secret, now)
    if link.purpose != Purpose.INVITATION:
        raise NotFoundError("This link is not an invitation.")
    invitation = records.people.invitation(link.about)
    if not invitation.open(now):
        raise GoneError("This invitation was called back or has expired.", invitation)
    return invitation


def take_up(records: Records, secret: str, owner_id: str, now: int) -> Invitation:
    """Somebody takes an invitation up, once. Raises NotFoundError, GoneError, ConflictError."""
    invitation = invitation_of(records, secret, now)
    join(
        records,
        Person(
            device=invitation.device,
            owner=owner_id,
            role=invitation.role,
            asked=invitation.asked,
            may_answer=invitation.may_answer,
            sees=invitation.sees,
            since=now,
            by=invitation.by,
        ),
        now,
    )
    links.use(records, secret, now)
    if not records.people.end_invitation(invitation.id, now, taken_by=owner_id):
        raise GoneError("This invitation has been taken up.", invitation)
    return invitation


def call_back(records: Records, device_id: str, invitation_id: str, now: int) -> None:
    """An invitation does not hold any more. Raises NotFoundError."""
    invitation = records.people.invitation(invitation_id)
    if invitation.device != device_id:
        raise NotFoundError(f"There is no invitation {invitation_id}.")
    if records.people.end_invitation(invitation_id, now):
        device = records.devices.get(device_id)
        _line(records, "invitation_ended", now, device, {"person": invitation.name, "product": device.title})


def _line(records: Records, code: str, now: int, device: Device, params: Mapping[str, Any]) -> None:
    outgoing.write_line(records, code, now, owner=device.owner, device=device.id, **params)


# --- handing over ---------------------------------------------------------------------------------


def hand_over(records: Records, device_id: str, now: int) -> None:
    """What nobody answered goes to who is asked now, and is decided again at once by their wishes."""
    now_asked = asked(records, device_id)
    for touchpoint in records.touchpoints.page(device=device_id, states=UNANSWERED, limit=1_000):
        if now_asked is not None and touchpoint.owner != now_asked:
            _readdress(records, touchpoint, now_asked, now)


def _readdress(records: Records, touchpoint: Touchpoint, to: str, now: int) -> None:
    name, device = records.owners.get(to).name, records.devices.get(touchpoint.device)
    records.workshops.release(touchpoint.id)
    after = replace(
        touchpoint, owner=to, state=State.DEFERRED, wake_at=now, sent_at=None, slots=(), answer=None
    )
    records.touchpoints.save(after)
    _pass_talk_on(records, touchpoint, to)
    outgoing.close_channels(records, replace(touchpoint, state=State.DEFERRED), now)
    product: dict[str, Any] = {"person": name, "product": device.title}
    outgoing.write_line(records, "handed_over", now, owner=touchpoint.owner, **product)
    outgoing.write_line(records, "asked_now", now, touchpoint=after, **product)
