"""asking: another time, another workshop. The matter stays open, with other proposals, on every channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.domain.appointment import Workshop
from gateway.domain.errors import InvalidError, NotFoundError
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import Answer, Slot, State, Touchpoint, services
from gateway.flow import book, outgoing
from gateway.ports import Records

WORKSHOPS_MOST = 500
"""So many are looked through for those that do a job."""


def offering(records: Records, touchpoint: Touchpoint) -> list[Workshop]:
    """The workshops that do everything the touchpoint is about, by name."""
    wanted = services(records.touchpoints.matters(touchpoint.id))
    if not wanted:
        return []
    places = records.workshops.page(limit=WORKSHOPS_MOST)
    return sorted((p for p in places if _offers(p, wanted)), key=lambda place: (place.name, place.id))


def _offers(place: Workshop, wanted: Sequence[str]) -> bool:
    return all(place.service(service) is not None for service in wanted)


def other_workshop(
    records: Records,
    touchpoint: Touchpoint,
    chosen: Answer,
    now: int,
    policy: Policy,
    *,
    for_product: bool = False,
) -> Touchpoint:
    """Proposals come from another workshop from now on; `for_product` makes it the product's own, too.

    Raises InvalidError for one that is not there or does not do this job.
    """
    workshop = chosen.workshop or ""
    try:
        place = records.workshops.get(workshop)
    except NotFoundError as error:
        raise InvalidError(f"workshop: there is no workshop {workshop!r}.") from error
    wanted = services(records.touchpoints.matters(touchpoint.id))
    if not _offers(place, wanted):
        raise InvalidError(f"workshop: {place.name} does not offer {', '.join(wanted)}.")
    records.workshops.release(touchpoint.id)
    moved = replace(touchpoint, workshop=place.id, slots=())
    if touchpoint.state is State.OPEN:
        moved = replace(moved, slots=book.proposals(records, moved, now, policy))
    if for_product:
        device = records.devices.get(touchpoint.device)
        records.devices.update(replace(device, workshop=place.id))
    code = "workshop_chosen_product" if for_product else "workshop_chosen"
    _show(records, moved, code, now, chosen, workshop=place.name)
    return moved


def other_time(
    records: Records, touchpoint: Touchpoint, chosen: Answer, now: int, policy: Policy
) -> Touchpoint:
    """The next proposals after those that are shown; after the last ones the first again."""
    last = max((slot.start for slot in touchpoint.slots), default=now)
    slots = _after(records, touchpoint, last, now, policy)
    if not slots or touchpoint.state is not State.OPEN:
        return touchpoint
    records.workshops.release(touchpoint.id)
    moved = replace(touchpoint, slots=slots)
    _show(records, moved, "times_changed", now, chosen)
    return moved


def _after(records: Records, touchpoint: Touchpoint, last: int, now: int, policy: Policy) -> tuple[Slot, ...]:
    later = book.proposals(records, touchpoint, now, policy, after=last)
    return later or book.proposals(records, touchpoint, now, policy)


def _show(
    records: Records, touchpoint: Touchpoint, code: str, now: int, chosen: Answer, **params: str
) -> None:
    """Kept, told in the ledger, and on the display; a phone in the owner's hand needs no new push."""
    records.touchpoints.save(touchpoint)
    outgoing.write_line(
        records, code, now, touchpoint=touchpoint, channel=chosen.channel, by=chosen.by, **params
    )
    if touchpoint.state is State.OPEN and touchpoint.sent_at is not None:
        outgoing.queue_display(records, touchpoint, now)
