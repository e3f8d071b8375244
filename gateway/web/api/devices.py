"""Devices: registering, whose they are, what is known of them, and their readings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from gateway.domain.access import Role
from gateway.domain.device import Device, Facts
from gateway.domain.errors import NotFoundError
from gateway.domain.times import parse_rfc3339, rfc3339
from gateway.flow import claiming, outgoing, recalls
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import STAFF
from gateway.web.api.endpoint import (
    Call,
    Endpoints,
    ListQuery,
    Page,
    Query,
    bad_cursor,
    fault_at,
    make_cursor,
    open_cursor,
    page,
)
from gateway.web.api.shapes import (
    CoverIn,
    CoverOut,
    DeviceIn,
    DeviceOut,
    Every,
    HoldingOut,
    Id,
    Line,
    MomentIn,
    ReadingsOut,
    TransferIn,
)
from gateway.web.problems import Fault, Problem, invalid
from rules.readings import Value

INTERVALS_MOST = 100_000
"""intervals that one request may ask for"""

endpoints = Endpoints("Devices")


class DevicesQuery(ListQuery):
    """Which devices."""

    owner: Id | None = None
    find: Line | None = Field(None, description="Part of an id, name, model, plate or serial number.")
    unclaimed: bool = Field(False, description="Those that reported and that nobody registered.")


@endpoints.get("/devices", Role.OWNER, *STAFF)
async def list_devices(call: Call, query: DevicesQuery) -> Page[DeviceOut]:
    """List devices by id: an owner's own, or all, or those nobody registered."""
    if query.unclaimed:
        return await unclaimed(call, query)

    def work(records: Records) -> list[Device]:
        owner = rights.only(call.who, Role.OWNER, query.owner)
        found = records.devices.page(after=query.after(), limit=query.limit + 1, owner=owner, find=query.find)
        for device in found[: query.limit]:
            call.who.saw(device.owner, "products", "list")
        return found

    rows = await call.read(work)
    return page(rows, query.limit, DeviceOut.of_device, lambda device: device.id)


async def unclaimed(call: Call, query: DevicesQuery) -> Page[DeviceOut]:
    """Devices that reported and that nobody registered; after-sales only, they are nobody's."""
    if not call.who.staff:
        return Page(items=[], next=None)
    rows = await call.read(lambda r: r.devices.unclaimed(after=query.after(), limit=query.limit + 1))
    kind_of = call.context.kind_of
    return page(rows, query.limit, lambda f: DeviceOut.of_unclaimed(f, kind_of(f.device)), lambda f: f.device)


@endpoints.post("/devices", *STAFF)
async def register_device(call: Call, body: DeviceIn) -> DeviceOut:
    """Register a device.

    From the answer on its messages are assessed as its kind. With `owner` it is theirs: since
    `purchased` where that is given, else from now on.
    """
    kinds = call.context.signals.kinds
    if body.kind not in kinds:
        raise fault_at("kind", f"kind: {body.kind} is not known; known are {', '.join(sorted(kinds))}.")
    device = Device(**body.model_dump(), created=min(call.now, began(body.purchased, call.now)))

    def work(records: Records) -> DeviceOut:
        check_names(records, body)
        records.devices.add(device)
        recalls.taken_over(records, device.id, call.now, call.context.policy)
        outgoing.queue_device(records, device, call.now)
        return DeviceOut.of_device(device, records.devices.facts(device.id), counters_of(call, device.kind))

    registered = await call.write(work)
    await call.announce()
    return registered


def began(purchased: str | None, now: int) -> int:
    """From when on (ms) a device is its first owner's."""
    return parse_rfc3339(f"{purchased}T00:00:00Z") if purchased else now


def check_names(records: Records, body: DeviceIn) -> None:
    """Owner and workshop have to be there; both faults at once."""
    faults = []
    if body.owner is not None and not there(records.owners.get, body.owner):
        faults.append(Fault(detail=f"owner: there is no owner {body.owner}.", pointer="#/owner"))
    if body.workshop is not None and not there(records.workshops.get, body.workshop):
        faults.append(Fault(detail=f"workshop: there is no workshop {body.workshop}.", pointer="#/workshop"))
    if faults:
        raise invalid(faults)


def there(look: Callable[[str], object], key: str) -> bool:
    """Whether looking something up finds it."""
    try:
        look(key)
    except NotFoundError:
        return False
    return True


def counters_of(call: Call, kind: str | None) -> tuple[str, ...]:
    """The signals of a kind that count up."""
    found = call.context.signals.kinds.get(kind or "")
    return tuple(s.name for s in found.signals.values() if s.counter) if found else ()


@endpoints.get("/devices/{device_id}", Role.OWNER, *STAFF)
async def get_device(call: Call, device_id: str) -> DeviceOut:
    """Show a device with what is known of it now.

    One that reported and that nobody registered is shown to after-sales, with `registered: false`.
    """

    def work(records: Records) -> DeviceOut:
        if records.devices.find(device_id) is None and call.who.staff:
            return of_stranger(call, records.devices.facts(device_id))
        device = rights.device(records, call.who, device_id)
        facts = rights.facts(records, call.who, device_id)
        return DeviceOut.of_device(device, facts, counters_of(call, device.kind))

    return await call.read(work)


def of_stranger(call: Call, facts: Facts) -> DeviceOut:
    """A device nobody registered; NotFoundError when it never reported either."""
    if not facts.last_seen:
        raise NotFoundError(f"There is no device {facts.device}.")
    return DeviceOut.of_unclaimed(facts, call.context.kind_of(facts.device))


@endpoints.get("/devices/{device_id}/cover", Role.OWNER, *STAFF)
async def get_cover(call: Call, device_id: str) -> CoverOut:
    """Show who pays for what a device needs."""
    return CoverOut.of(await call.read(lambda r: rights.device(r, call.who, device_id)))


@endpoints.put("/devices/{device_id}/cover", *STAFF)
async def cover_device(call: Call, device_id: str, body: CoverIn) -> DeviceOut:
    """Say who pays for what a device needs: the manufacturer's warranty, a service plan, or neither.

    Offers that are open read by it from now on, on every channel; what a visit was booked with stays so.
    """
    values = body.model_dump()

    def work(records: Records) -> DeviceOut:
        covered = replace(records.devices.get(device_id), **values)
        records.devices.update(covered)
        return DeviceOut.of_device(covered)

    return await call.write(work)


@endpoints.get("/devices/{device_id}/owner", Role.OWNER, *STAFF)
async def get_device_owner(call: Call, device_id: str) -> HoldingOut:
    """Show whose a device is now."""
    return HoldingOut.of(await call.read(lambda r: rights.device(r, call.who, device_id)))


@endpoints.put("/devices/{device_id}/owner", *STAFF)
async def transfer_device(call: Call, device_id: str, body: TransferIn) -> DeviceOut:
    """Give a device to its new owner, or to nobody.

    Who owned it before keeps the readings of their own time and sees nothing of what comes. What they
    have not answered is withdrawn; what is booked stays booked.
    """

    def work(records: Records) -> DeviceOut:
        records.devices.get(device_id)
        if body.owner is not None and not there(records.owners.get, body.owner):
            raise fault_at("owner", f"owner: there is no owner {body.owner}.")
        return DeviceOut.of_device(
            claiming.give(records, device_id, body.owner, call.now, call.context.policy)
        )

    transferred = await call.write(work)
    await call.announce()
    return transferred


# --- readings -----------------------------------------------------------------------------------


class ReadingsQuery(Query):
    """Which readings, and how fine."""

    signal: str = Field(min_length=1, max_length=256, description="Name or VSS path.")
    start: MomentIn | None = Field(None, alias="from", description="From this time on.")
    end: MomentIn | None = Field(None, alias="to", description="Before this time.")
    every: Every | None = Field(None, description="Intervals of this length instead of single readings.")
    limit: int = Field(100, ge=1, le=5_000, description="How many items at most.")
    cursor: str | None = Field(None, max_length=300, description="`next` of the page before.")


@endpoints.get("/devices/{device_id}/readings", Role.OWNER, *STAFF)
async def list_readings(call: Call, device_id: str, query: ReadingsQuery) -> ReadingsOut:
    """List the readings of one signal in order of time, or their minimum, mean and maximum by intervals.

    An owner reads the time in which the device was theirs. With `every`, `from` is needed; intervals
    without a number are left out.
    """
    spans, kind = await call.read(lambda r: readable(r, call, device_id, query.start, query.end))
    signal = canonical(call, kind, query.signal)
    windows = clipped(spans, query)
    if query.every is not None:
        return await intervals(call, device_id, signal, windows, query)
    return await readings(call, device_id, signal, windows, query)


def readable(
    records: Records, call: Call, device_id: str, start: int | None, end: int | None
) -> tuple[list[rights.Interval], str | None]:
    """The times that may be read, and what kind the device is."""
    device = records.devices.find(device_id)
    if device is None and not records.devices.facts(device_id).last_seen:
        raise NotFoundError(f"There is no device {device_id}.")
    kind = device.kind if device else call.context.kind_of(device_id)
    return rights.intervals(records, call.who, device_id, start, end), kind


def canonical(call: Call, kind: str | None, name: str) -> str:
    """The signal's own name where a VSS path was given; anything else as it was sent."""
    found = call.context.signals.signal(kind or "", name)
    return found.name if found else name


def clipped(spans: Sequence[rights.Interval], query: ReadingsQuery) -> list[rights.Interval]:
    """What was asked for, cut by what may be read."""
    windows = []
    for since, until in spans:
        start = max((t for t in (since, query.start) if t is not None), default=None)
        end = min((t for t in (until, query.end) if t is not None), default=None)
        if start is None or end is None or start < end:
            windows.append((start, end))
    return windows


def after_ts(query: ReadingsQuery) -> int | None:
    """The time that the page before ended with."""
    if query.cursor is None:
        return None
    text = open_cursor(query.cursor)
    if not text.removeprefix("-").isdecimal() or len(text) > 18:
        raise bad_cursor()
    return int(text)


async def readings(
    call: Call, device_id: str, signal: str, windows: Sequence[rights.Interval], query: ReadingsQuery
) -> ReadingsOut:
    """Single readings, page by page."""
    after = after_ts(query)
    rows: list[tuple[int, Value]] = []
    for start, end in windows:
        wanted = query.limit + 1 - len(rows)
        if wanted > 0:
            rows += await call.context.timeseries.readings(
                device_id, signal, start=start, end=end, after=after, limit=wanted
            )
    return cut(rows, query.limit, intervals=False)


def cut(rows: Sequence[tuple[Any, ...]], limit: int, *, intervals: bool) -> ReadingsOut:
    """One page of rows that begin with their time."""
    following = make_cursor(rows[limit - 1][0]) if len(rows) > limit else None
    return ReadingsOut.of_rows(rows[:limit], following, intervals=intervals)


async def intervals(
    call: Call, device_id: str, signal: str, windows: Sequence[rights.Interval], query: ReadingsQuery
) -> ReadingsOut:
    """Intervals, page by page."""
    every = query.every or 1
    if query.start is None:
        fault = Fault(detail="from is needed together with every.", parameter="from")
        raise invalid([fault])
    end = query.end if query.end is not None else call.now
    if (end - query.start) // every > INTERVALS_MOST:
        raise too_many(query.start, end)
    after = after_ts(query)
    rows: list[tuple[int, float, float, float, int]] = []
    for start, stop in windows:
        first = max(start or query.start, query.start if after is None else after + every)
        if first < (last := end if stop is None else min(stop, end)):
            rows += await call.context.timeseries.aggregates(
                device_id, signal, start=first, end=last, every=every
            )
    return cut(rows, query.limit, intervals=True)


def too_many(start: int, end: int) -> Problem:
    """More intervals than one request may ask for."""
    detail = (
        f"every: from {rfc3339(start)} to {rfc3339(end)} that gives more than {INTERVALS_MOST} intervals; "
        "choose longer ones."
    )
    return invalid([Fault(detail=detail, parameter="every")])
