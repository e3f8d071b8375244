"""What has changed, as server-sent events: (subject, key) filtered by what somebody may see.

A page asks for itself again when something that it may show has changed; the events carry ids only.
In the demo everybody hears everything, and the played clock besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.errors import NotFoundError
from gateway.flow import people
from gateway.ports import ChangeFeed, Records
from gateway.web.access import Identity, guest, public
from gateway.web.context import CONTEXT, Context, Demo

routes = web.RouteTableDef()

BEAT_S = 20.0
"""An empty line so often, so that both ends notice a dead connection."""
GATHER_S = 0.15
"""Changes within so long are told together."""

Change = tuple[str, str]


@routes.get("/events")
@public
async def events(request: web.Request) -> web.StreamResponse:
    """The stream of changes; 401 without a session, unless it is the demo."""
    context, identity = request.app[CONTEXT], guest(request)
    if identity is None and context.demo is None:
        raise web.HTTPUnauthorized
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    feed = context.database.watch()
    try:
        with contextlib.suppress(ConnectionResetError):
            await response.write(b"retry: 1500\n\n")
            await _tell(response, context, feed, identity)
    finally:
        feed.close()
    return response


async def _tell(
    response: web.StreamResponse, context: Context, feed: ChangeFeed, identity: Identity | None
) -> None:
    ticks = asyncio.create_task(_clock(response, context.demo)) if context.demo else None
    try:
        while True:
            woken = await _woken(feed.event())
            if not woken:
                await response.write(b": beat\n\n")
                continue
            await asyncio.sleep(GATHER_S)
            changes = feed.take()
            visible = changes if context.demo else await _visible(context, changes, identity)
            if visible:
                await response.write(_event("change", [list(change) for change in dict.fromkeys(visible)]))
    finally:
        if ticks is not None:
            ticks.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionResetError):
                await ticks


async def _woken(event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(BEAT_S):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _clock(response: web.StreamResponse, demo: Demo) -> None:
    """The played clock; and a change when the story says something that the records do not."""
    before: tuple[object, ...] = ()
    while True:
        state = demo.state()
        await response.write(_event("clock", {"now": state["now"], "speed": state["speed"]}))
        told = (
            state["mode"],
            state.get("pace"),
            state["waiting"],
            len(state["pushes"]),
            state["now"] // 600_000,
        )
        if told != before:
            before = told
            await response.write(_event("change", [["demo", ""]]))
        await demo.wait_changed()


def _event(kind: str, data: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


# --- who may hear what -----------------------------------------------------------------------


async def _visible(context: Context, changes: Sequence[Change], identity: Identity | None) -> list[Change]:
    if identity is None:
        return []
    if identity.staff:
        return list(changes)
    return await context.database.read(lambda records: [c for c in changes if concerns(records, c, identity)])


def concerns(records: Records, change: Change, identity: Identity) -> bool:
    """Whether a change is about something of this owner or workshop; what is not known is not told."""
    subject, key = change
    if subject in HEARD_BY_ALL:
        return identity.role is not Role.WORKSHOP
    look = LOOKS.get((identity.role, subject))
    try:
        if look is None:
            return False
        return look(records, key) == identity.subject or _shares(records, change, identity)
    except NotFoundError:
        return False


def _shares(records: Records, change: Change, identity: Identity) -> bool:
    """Whether it is about a product that somebody shares with its owner."""
    subject, key = change
    device = DEVICES.get(subject)
    return (
        identity.role is Role.OWNER
        and device is not None
        and people.sees(records, device(records, key) or "", identity.subject)
    )


def _holding_workshop(records: Records, key: str) -> str | None:
    slots = records.touchpoints.get(key).slots
    return slots[0].workshop if slots else None


HEARD_BY_ALL = ("present",)
"""Subjects that are about nobody: whether somebody of after-sales is there."""

LOOKS: dict[tuple[Role, str], Callable[[Records, str], str | None]] = {
    (Role.OWNER, "touchpoint"): lambda records, key: records.touchpoints.get(key).owner,
    (Role.OWNER, "conversation"): lambda records, key: records.touchpoints.get(key).owner,
    (Role.OWNER, "appointment"): lambda records, key: records.workshops.appointment(key).owner,
    (Role.OWNER, "feedback"): lambda records, key: records.feedback.get(key).owner,
    (Role.OWNER, "device"): lambda records, key: records.devices.get(key).owner,
    (Role.OWNER, "facts"): lambda records, key: records.devices.get(key).owner,
    (Role.OWNER, "ledger"): lambda records, key: key,
    (Role.OWNER, "owner"): lambda records, key: key,
    (Role.WORKSHOP, "appointment"): lambda records, key: records.workshops.appointment(key).workshop,
    (Role.WORKSHOP, "touchpoint"): _holding_workshop,
    (Role.WORKSHOP, "workshop"): lambda records, key: key,
}
"""(role, subject of the change) → whose it is."""

DEVICES: dict[str, Callable[[Records, str], str | None]] = {
    "touchpoint": lambda records, key: records.touchpoints.get(key).device,
    "conversation": lambda records, key: records.touchpoints.get(key).device,
    "appointment": lambda records, key: records.workshops.appointment(key).device,
    "device": lambda _, key: key,
    "facts": lambda _, key: key,
}
"""subject of the change → which device it is about"""
