"""erase: an owner is forgotten, in every store, at once where it can be done at once (GDPR Art. 17).

What stands is ended first, as if they had ended it: visits are cancelled, so that no workshop waits for
them; what is open leaves every channel; their products are nobody's, and those of others have one person
less. Then their rows go, table by table (see `Personal.erase`). A control entry carries the rest through
the journal, and every reader honours it: record ends the readings of the time in which a product was
theirs, assess what the rules made of them, and the journal overwrites what it still holds. Who was told of
them is told of this (Art. 19). What stays names nobody.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.domain.appointment import PENDING, Appointment, AppointmentState
from gateway.domain.delivery import Delivery
from gateway.domain.device import Device
from gateway.domain.errors import ConflictError
from gateway.domain.ids import new_id
from gateway.domain.owner import Owner
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import State, Touchpoint
from gateway.domain.webhooks import MANUFACTURER, workshop_audience
from gateway.flow import book, decide, outgoing, people
from gateway.ports import Records

ERASED = "owner.erased"
"""The event that other systems hear, with the bare id."""
SHOWN = (State.OPEN, State.DEFERRED)
COMING = (*PENDING, AppointmentState.CONFIRMED)
"""Visits that somebody waits for; what has begun is the workshop's to finish."""
ALL = 100_000

Span = tuple[int, int]
"""(since, until), ms, half open"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Erased:
    """What was ended for somebody who was erased."""

    devices: Mapping[str, Sequence[Span]]
    """{device: times in which it was theirs}"""
    left: Sequence[str]
    """devices that were theirs until now"""
    rows: Mapping[str, int]
    """{table: rows deleted}"""
    visits: Sequence[str]
    """ids of visits that were cancelled"""


def erase(records: Records, owner_id: str, now: int, policy: Policy) -> Erased:
    """Forget an owner. Everything in the caller's transaction; the journal's entry is queued with it.

    Raises NotFoundError for an owner who is not there.
    """
    owner = records.owners.get(owner_id)
    own, others = _products(records, owner_id), _others(records, owner_id)
    spans = {device: _spans(records, device, owner_id, now) for device in _ever_owned(records, owner_id)}
    visits = records.workshops.appointments(owner=owner_id, limit=ALL)
    queued = records.personal.rows("outbox", owner_id)
    written = [str(row["id"]) for row in queued if row["channel"] == outgoing.LETTER]
    cancelled = [visit.id for visit in visits if _cancelled(records, visit, now, policy)]
    _leave_others(records, owner_id, now)
    shown = _withdrawn(records, owner_id, now)
    _give_up(records, own, now, policy)
    rows = records.personal.erase(owner_id, _names(owner), others)
    for device, times in spans.items():
        for since, until in times:
            records.personal.erase_undecoded(device, since, until)
    done = Erased(devices=spans, left=[device.id for device in own], rows=rows, visits=cancelled)
    _clear_displays(records, shown, now)
    _carry_on(records, done, written, now)
    _tell(records, owner_id, visits, now)
    outgoing.write_line(records, "owner_erased", now)
    return done


def _names(owner: Owner) -> list[str]:
    return [name for name in (owner.id, owner.name, owner.email, owner.phone) if name]


# --- what they have -------------------------------------------------------------------------------


def _products(records: Records, owner_id: str) -> list[Device]:
    found: list[Device] = []
    while page := records.devices.page(owner=owner_id, after=found[-1].id if found else None, limit=1_000):
        found += page
    return found


def _ever_owned(records: Records, owner_id: str) -> list[str]:
    return sorted({str(row["device"]) for row in records.personal.rows("ownerships", owner_id)})


def _spans(records: Records, device: str, owner_id: str, now: int) -> list[Span]:
    """When a device was theirs. What was measured before anybody was registered for it is its first
    owner's, too."""
    ownerships = records.devices.ownerships(device)
    return [
        (0 if own is ownerships[0] else own.since, now if own.until is None else own.until)
        for own in ownerships
        if own.owner == owner_id
    ]


def _others(records: Records, owner_id: str) -> set[str]:
    """Who ever shared a product with them."""
    devices = {*_ever_owned(records, owner_id), *(p.device for p in records.people.parts(owner_id))}
    found: set[str] = set()
    for device in devices:
        found.update(person.owner for person in records.people.history(device))
        found.update(ownership.owner for ownership in records.devices.ownerships(device))
    return found - {owner_id}


# --- ending it ------------------------------------------------------------------------------------


def _cancelled(records: Records, visit: Appointment, now: int, policy: Policy) -> bool:
    """Whether it was to come, and does not any more; its workshop hears of it on its way."""
    standing = records.workshops.appointment(visit.id)
    if standing.state not in COMING:
        return False
    with contextlib.suppress(ConflictError):  # it has begun
        book.cancel(records, visit.id, now, policy)
        return True
    return False


def _withdrawn(records: Records, owner_id: str, now: int) -> list[Touchpoint]:
    """What is open ends; gives what stood on a display."""
    found = records.touchpoints.page(owner=owner_id, states=SHOWN, limit=ALL)
    for touchpoint in found:
        decide.withdraw(records, touchpoint, "new_owner", now)
    return [touchpoint for touchpoint in found if touchpoint.sent_at is not None]


def _leave_others(records: Records, owner_id: str, now: int) -> None:
    """Of the products of others they are no part: what they were asked there goes to who is asked now."""
    for person in records.people.parts(owner_id):
        if person.until is None:
            people.leave(records, person.device, owner_id, now, by=owner_id)


def _give_up(records: Records, own: Sequence[Device], now: int, policy: Policy) -> None:
    """Their products are nobody's, and lose the names that they gave them."""
    for device in own:
        records.devices.update(replace(device, name=None, plate=None, workshop=None))
        # A moment later, so that what happened at this moment still happened in their time.
        records.devices.transfer(device.id, None, now + 1)
        decide.changed_hands(records, device.id, now, policy)
        outgoing.queue_device(records, records.devices.get(device.id), now)


# --- what follows ---------------------------------------------------------------------------------


def _clear_displays(records: Records, shown: Sequence[Touchpoint], now: int) -> None:
    for touchpoint in shown:
        payload = {"touchpoint": touchpoint.id, "show": None}
        _queue(records, outgoing.DISPLAY, touchpoint.device, f"erased:{touchpoint.id}", payload, now)


def _carry_on(records: Records, done: Erased, written: Sequence[str], now: int) -> None:
    """Through the journal to the time series and the rules; and into the files of letters."""
    if done.devices:
        devices = {device: [[*span] for span in spans] for device, spans in done.devices.items()}
        entry = {"type": "erase", "devices": devices, "left": [*done.left]}
        _queue(records, outgoing.JOURNAL, outgoing.JOURNAL, f"erase:{new_id(now)}", entry, now)
    if written:
        key = f"erase:{new_id(now)}"
        _queue(records, outgoing.LETTER, outgoing.LETTER, key, {"erase": [*written]}, now)


def _queue(
    records: Records, channel: str, target: str, key: str, payload: Mapping[str, object], now: int
) -> None:
    records.outbox.add(
        Delivery(
            id=new_id(now), channel=channel, target=target, key=key, payload=payload, due_at=now, created=now
        )
    )


def _tell(records: Records, owner_id: str, visits: Sequence[Appointment], now: int) -> None:
    """The systems that have something of theirs: the manufacturer's, and those of their workshops."""
    outgoing.queue_event(records, MANUFACTURER, ERASED, {"owner": owner_id}, now)
    for workshop in dict.fromkeys(visit.workshop for visit in visits):
        mine = [visit.id for visit in visits if visit.workshop == workshop]
        data = {"owner": owner_id, "appointments": mine}
        outgoing.queue_event(records, workshop_audience(workshop), ERASED, data, now)
